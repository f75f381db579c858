"""Put batches into the target; halve a refused one until the bad rows stand alone.

Each write is one transaction. An empty target takes a batch straight; else it lands in the stage and is merged.
User triggers are held back inside the same transaction, so that nobody else ever sees them off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
from psycopg.sql import Composed

from pgpull.diagnosis import (
    FOREIGN_KEY_VIOLATION,
    TARGET,
    UNIQUE_VIOLATION,
    VALUE_TAKEN,
    translated,
)
from pgpull.merging import RowsRefused, given, make_stage, merged, refusals, triggers_held, waiting_rows_lost
from pgpull.patience import Patience
from pgpull.plans import Plan, Strategy
from pgpull.rejecting import orphan, reject_of
from pgpull.results import Reject, Tally
from pgpull.sessions import Session, reopen
from pgpull.sql import staging as sql
from pgpull.sql import waiting
from pgpull.streams import Batch, copy_in

Orphan = tuple[int, list[str | None]]
"""The number of the tie by which a row has no parent, and the row, spelled out."""


class Applier:
    """Applies the batches of one plan.

    Args:
        target: the local session; it is opened anew when it is lost.
        plan: what to do.
        patience: how often to try again.
        rejected: called with each row that is refused.
        insertion: the statement that takes rows out of the stage, in place of the usual one.
    """

    def __init__(
        self,
        target: Session,
        plan: Plan,
        patience: Patience,
        rejected: Callable[[Reject], None],
        insertion: Composed | None = None,
    ) -> None:
        self._target = target
        self.plan = plan
        self._patience = patience
        self._rejected = rejected
        self._insertion = insertion
        self._met = False
        """Whether a row was there that should not have been: from then on, batches are merged."""
        self._staged = False
        self._sets_aside = False
        """Whether a row was refused for want of its parent: from then on, such rows wait, or are taken out."""
        self.waiting = 0
        """Rows that wait."""
        self.waiting_on: psycopg.Connection | None = None
        """The connection that has them."""
        self._forgot = False
        """Whether rows waited on an earlier connection, and went with it."""
        self.transactions: list[int] = []
        """The numbers of those that were committed."""
        self._in_doubt: Tally | None = None
        """What the transaction at whose commit the connection went has done, if it was committed."""

    def apply(self, batch: Batch, strategy: Strategy) -> Iterator[Tally]:
        """Apply a batch and commit it, as a whole or, where rows of it are refused, in parts.

        Args:
            batch: the rows.
            strategy: straight into the table, or merged.

        Yields:
            What became of each part, as soon as it is committed; together they add up to the batch.

        Raises:
            ConnectionLost: the connection is another now, and rows that waited went with the earlier one.
            Stopped: the target cannot go on. What was committed stays.
        """
        yield from self._apply(batch, Strategy.MERGE if self._met or self._sets_aside else strategy)
        if self._forgot:
            raise waiting_rows_lost()

    def _apply(self, batch: Batch, strategy: Strategy) -> Iterator[Tally]:
        try:
            tally = self._patience.call(lambda: self._write(batch, strategy))
        except RowsRefused as refused:
            yield from self._apart(batch, strategy, refused.error)
        else:
            yield tally

    def _apart(self, batch: Batch, strategy: Strategy, error: psycopg.Error) -> Iterator[Tally]:
        """Go on with a refused batch: without rows that can wait, by merging it, by halves, without the row."""
        if self.plan.ties and not self._sets_aside and error.sqlstate == FOREIGN_KEY_VIOLATION:
            self._sets_aside = True
            yield from self._apply(batch, Strategy.MERGE)
        elif strategy is Strategy.STRAIGHT and self.plan.key:
            # some keys are there after all: more may be
            self._met = self._met or error.sqlstate == UNIQUE_VIOLATION
            yield from self._apply(batch, Strategy.MERGE)
        elif len(batch) > 1:
            for half in batch.halves():
                yield from self._apply(half, strategy)
        elif error.sqlstate in VALUE_TAKEN and self.plan.updates:
            self._patience.call(lambda: self._let_wait(batch))  # the value may be free once all are in
        else:
            self._rejected(self._patience.call(lambda: self._made_legible(batch, error)))
            yield Tally(fetched=1, failed=1)

    def _let_wait(self, batch: Batch) -> None:
        self._reopen_if_lost()
        with translated(TARGET, self._target.connection):
            self._make_stage()
            self._make_waiting()
            with self._target.connection.transaction(), self._target.connection.cursor() as cursor:
                if self.plan.atomic:  # no commit has emptied it
                    cursor.execute(sql.EMPTY_STAGE)
                copy_in(cursor, sql.copy_to_stage(self.plan), batch)
                cursor.execute(waiting.set_all_aside(self.plan))
        self.waiting += len(batch)

    def _made_legible(self, batch: Batch, error: psycopg.Error) -> Reject:
        self._reopen_if_lost()
        with translated(TARGET, self._target.connection):
            return reject_of(self.plan, batch, error, self._target.connection)

    def _reopen_if_lost(self) -> None:
        if self._target.lost:
            reopen(self._target)
            self._staged = False

    # --- one transaction ---------------------------------------------------------------------------------

    def _write(self, batch: Batch, strategy: Strategy) -> Tally:
        self._reopen_if_lost()
        orphans: list[Orphan] = []
        if self._in_doubt:  # its rows may be in, or come in any moment: merging waits for them
            strategy = Strategy.MERGE
        try:
            with refusals(), translated(TARGET, self._target.connection):
                if strategy is Strategy.MERGE:
                    self._make_stage()
                with self._target.connection.transaction(), self._target.connection.cursor() as cursor:
                    with triggers_held(cursor, self.plan):
                        tally = self._put(cursor, batch, strategy, orphans)
                    self._in_doubt = self._really(tally)
                    number = cursor.execute(sql.CURRENT_TRANSACTION).fetchone()
        except RowsRefused:
            self._in_doubt = None  # a deferred constraint speaks at the commit
            raise
        tally, self._in_doubt = self._in_doubt, None
        self.waiting += len(batch) - tally.fetched
        self.transactions += given(number)
        for tie, row in orphans:
            self._rejected(orphan(self.plan, row, self.plan.ties[tie].key))
        return tally

    def _really(self, tally: Tally) -> Tally:
        """Return what became of a batch, which was written before if it was committed when the connection went.

        All of it was, or nothing: if what it wrote is there already, it was. The number of the transaction
        would not tell, as a server that crashes forgets it, and gives it to somebody else.
        """
        before = self._in_doubt or Tally()
        written = before.inserted + before.updated
        if tally.skipped < before.skipped + written:
            return tally
        return replace(
            tally,
            inserted=tally.inserted + before.inserted,
            updated=tally.updated + before.updated,
            skipped=tally.skipped - written,
        )

    def _put(self, cursor: psycopg.Cursor, batch: Batch, strategy: Strategy, orphans: list[Orphan]) -> Tally:
        if strategy is Strategy.STRAIGHT:
            inserted = copy_in(cursor, sql.copy_straight(self.plan), batch)
            return Tally(fetched=len(batch), inserted=inserted)
        if self.plan.atomic:  # no commit has emptied it
            cursor.execute(sql.EMPTY_STAGE)
        copy_in(cursor, sql.copy_to_stage(self.plan), batch)
        aside = self._set_aside(cursor, orphans) if self._sets_aside else 0
        tally = merged(cursor, self.plan, len(batch) - aside - len(orphans), self._insertion)
        return tally + Tally(len(orphans), failed=len(orphans))

    def _set_aside(self, cursor: psycopg.Cursor, orphans: list[Orphan]) -> int:
        """Take staged rows out whose parent is not there, and return how many of them wait for it."""
        if not all(tie.parents for tie in self.plan.ties):
            orphans += [(tie, row) for tie, *row in cursor.execute(waiting.take_staged_orphans(self.plan))]
        if any(tie.parents for tie in self.plan.ties):
            return cursor.execute(waiting.set_aside(self.plan)).rowcount
        return 0

    def _make_stage(self) -> None:
        connection = self._target.connection
        if not self._staged:
            make_stage(connection, self.plan)
            self._staged = True
        if self._sets_aside:
            self._make_waiting()

    def _make_waiting(self) -> None:
        connection = self._target.connection
        if self.waiting_on is not connection:
            self._forgot = self.waiting > 0
            connection.execute(waiting.drop(self.plan))
            connection.execute(waiting.create(self.plan))
            self.waiting_on = connection
