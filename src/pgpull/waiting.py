"""Rows that wait: for a row which they refer to and which comes later, or for a unique value to become free.

Batches commit one by one, so such rows are set aside, and written together once all others are in: a single
statement may insert rows that refer to each other in any circle, without superuser, whether or not constraints
are deferrable. Rows that want each other's unique values are written after those here have given them up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final

import psycopg
from psycopg.sql import Composed

from pgpull.applying import Applier, RowsRefused, make_stage, merged, refusals, triggers_held
from pgpull.catalog import rules_of
from pgpull.diagnosis import TARGET, lost, translated
from pgpull.model import Plan, Tie
from pgpull.rejecting import orphan, reject_with
from pgpull.results import Reject, Tally
from pgpull.sessions import Session
from pgpull.sql import CURRENT_TRANSACTION, EMPTY_STAGE
from pgpull.sql import waiting as sql
from pgpull.sql.comparing import IN_BATCHES, IN_BULK
from pgpull.swapping import Room, give_back, make_room, room_for

_ORPHANS_AT_ONCE: Final = 1_000

_PLACES_AT_ONCE: Final = 10_000

_MAY_PASS: Final = ("23503", "23505", "23P01")
"""A parent may come yet, a unique value may become free."""

Settled = tuple[Plan, Tally]


def settle(target: Session, appliers: Sequence[Applier], rejected: Callable[[Reject], None]) -> list[Settled]:
    """Write the rows that wait, now that all others are in.

    Args:
        target: the local side.
        appliers: those of tables that refer to each other in a circle, done with all that came.
        rejected: called with each row that is refused: its parent is nowhere, or something else is amiss.

    Returns:
        For each plan whose rows waited, what became of them; it may come several times.

    Raises:
        ConnectionLost: the rows went with an earlier connection.
        Stopped: the target cannot go on.
    """
    waiting = [applier for applier in appliers if applier.waiting]
    if not waiting:
        return []
    connection = target.connection
    if any(applier.waiting_on is not connection for applier in waiting):
        raise lost(TARGET, RuntimeError("rows that waited for others went with an earlier connection"))
    settling = _Settling(target, [applier.plan for applier in waiting], rejected)
    with translated(TARGET, connection):
        settling.run()
        for applier in waiting:
            applier.transactions += settling.transactions
            connection.execute(sql.drop(applier.plan))
    return settling.settled


@dataclass(slots=True)
class _Row:
    """One row that waits."""

    plan: Plan
    ctid: str


class _Settling:
    """Rows on their way out of where they wait."""

    def __init__(self, target: Session, plans: Sequence[Plan], rejected: Callable[[Reject], None]) -> None:
        self._target = target
        self._connection = target.connection
        self._plans = plans
        self._places = {plan.place for plan in plans}
        self._rejected = rejected
        self._staged: Plan | None = None
        self.settled: list[Settled] = []
        self.transactions: list[int] = []

    def run(self) -> None:
        for plan in self._plans:
            for tie in plan.ties:
                if tie.parent in self._places:
                    self._connection.execute(sql.index(tie))
            self._connection.execute(sql.analyze(plan))
        self._take_all_orphans()
        try:
            self._write_together()
        except RowsRefused:
            self._write_apart()

    # --- rows whose parent is nowhere --------------------------------------------------------------------

    def _take_all_orphans(self) -> None:
        while sum(self._take_orphans(plan, tie) for plan in self._plans for tie in plan.ties):
            pass  # rows that waited for one of these are orphans now

    def _take_orphans(self, plan: Plan, tie: Tie) -> int:
        if tie.key.on != plan.table:
            return 0  # only the rows of one partition need it: the target will tell
        taken = 0
        statement = sql.take_orphans(plan, tie, tie.parent in self._places, _ORPHANS_AT_ONCE)
        while rows := self._in_bulk(statement):
            taken += len(rows)
            for row in rows:
                self._rejected(orphan(plan, dict(zip(plan.columns, row, strict=True)), tie.key))
            self.settled.append((plan, Tally(len(rows), failed=len(rows))))
        return taken

    def _in_bulk(self, statement: Composed) -> list[tuple[str | None, ...]]:
        with self._connection.transaction():
            self._connection.execute(IN_BULK)
            rows = self._connection.execute(statement).fetchall()
            self._connection.execute(IN_BATCHES)  # an outer transaction goes on
            return rows

    # --- all others --------------------------------------------------------------------------------------

    def _write_together(self) -> None:
        """Write all in one statement.

        Raises:
            RowsRefused: one of them cannot be.
        """
        with refusals(), translated(TARGET, self._connection), self._connection.transaction():
            cursor = self._connection.cursor()
            cursor.execute(IN_BULK)
            waiting = [self._count(cursor, sql.count(plan)) for plan in self._plans]
            with ExitStack() as held:
                for plan in self._plans:
                    held.enter_context(triggers_held(cursor, plan))
                counts = iter(cursor.execute(sql.together(self._plans)).fetchone() or ())
            self.transactions += cursor.execute(CURRENT_TRANSACTION).fetchone() or ()
            cursor.execute(IN_BATCHES)
        for plan, rows in zip(self._plans, waiting, strict=True):
            inserted = next(counts)
            updated = next(counts) if sql.updates(plan) else 0
            self.settled.append((plan, Tally(rows, inserted, updated, rows - inserted - updated)))

    @staticmethod
    def _count(cursor: psycopg.Cursor, statement: Composed) -> int:
        row = cursor.execute(statement).fetchone()
        assert row is not None
        return int(row[0])

    def _write_apart(self) -> None:
        """Write row by row what can be, again and again while that lets others in; then the rest at once."""
        while sum(self._gone(row) for row in self._rows()):
            pass
        self._take_all_orphans()
        try:
            self._write_together()
        except RowsRefused as refused:
            self._write_with_room(refused.error)

    # --- rows that want each other's values ------------------------------------------------------------------

    def _write_with_room(self, error: psycopg.Error) -> None:
        """Write rows after those here have stepped aside; again, without what is refused even so."""
        rooms = [room_for(plan, rules_of(self._target, plan.table)) for plan in self._plans]
        if not any(room.possible for room in rooms):
            for row in self._rows():
                self._reject(row, error)
            return
        while refused := self._try_with_room(rooms):
            for row, why in refused:
                self._reject(row, why)

    def _try_with_room(self, rooms: Sequence[Room]) -> list[tuple[_Row, psycopg.Error]]:
        """Write all rows, and return none; or none of them, and return those that are in the way."""
        settled, transactions = list(self.settled), list(self.transactions)
        refused: list[tuple[_Row, psycopg.Error]] = []
        with refusals(), translated(TARGET, self._connection), self._connection.transaction() as whole:
            cursor = self._connection.cursor()
            pairs = [pair for pair in zip(self._plans, rooms, strict=True) if pair[1].possible]
            with ExitStack() as held:
                for plan, _ in pairs:
                    held.enter_context(triggers_held(cursor, plan, deletes=True))
                lifted = [make_room(cursor, plan, room) for plan, room in pairs]
                refused = self._write_each()
                for plan, room in () if refused else pairs:
                    give_back(cursor, plan, room)
            if refused:
                raise psycopg.Rollback(whole)
        self._staged = None  # the stage may have been made in what was rolled back
        if refused:
            self.settled, self.transactions = settled, transactions
            return refused
        for (plan, _), rows in zip(pairs, lifted, strict=True):
            self._count_as_updated(plan, rows)
        return []

    def _count_as_updated(self, plan: Plan, rows: int) -> None:
        """Count rows that stepped aside and came back."""
        for number, (of, tally) in enumerate(self.settled):
            moved = min(rows, tally.inserted) if of is plan else 0
            rows -= moved
            changed = replace(tally, inserted=tally.inserted - moved, updated=tally.updated + moved)
            self.settled[number] = (of, changed)

    def _write_each(self) -> list[tuple[_Row, psycopg.Error]]:
        """Write row by row what can be, as long as that lets others in; return what cannot."""
        rows, before = list(self._rows()), -1
        refused: list[tuple[_Row, psycopg.Error]] = []
        while rows and len(rows) != before:
            before, refused = len(rows), []
            for row in rows:
                try:
                    self.settled.append((row.plan, self._write_one(row)))
                except RowsRefused as error:
                    refused.append((row, error.error))
            rows = [row for row, _ in refused]
        return refused

    # --- one by one --------------------------------------------------------------------------------------

    def _rows(self) -> Iterator[_Row]:
        for plan in self._plans:
            last = "(0,0)"
            while places := self._connection.execute(sql.places(plan, last, _PLACES_AT_ONCE)).fetchall():
                for [last] in places:
                    yield _Row(plan, last)

    def _gone(self, row: _Row) -> bool:
        """Try to write one row; one that is refused, but not for what may pass, is gone, too."""
        try:
            tally = self._write_one(row)
        except RowsRefused as refused:
            if refused.error.sqlstate in _MAY_PASS:
                return False
            self._reject(row, refused.error)
        else:
            self.settled.append((row.plan, tally))
        return True

    def _write_one(self, row: _Row) -> Tally:
        if self._staged is not row.plan:
            make_stage(self._connection, row.plan)
            self._staged = row.plan
        with refusals(), translated(TARGET, self._connection), self._connection.transaction():
            cursor = self._connection.cursor()
            cursor.execute(EMPTY_STAGE)
            cursor.execute(sql.stage_one(row.plan, row.ctid))
            with triggers_held(cursor, row.plan):
                tally = merged(cursor, row.plan, 1)
            cursor.execute(sql.take_one(row.plan, row.ctid))
            self.transactions += cursor.execute(CURRENT_TRANSACTION).fetchone() or ()
        return tally

    def _reject(self, row: _Row, error: psycopg.Error) -> None:
        taken = self._connection.execute(sql.take_one(row.plan, row.ctid)).fetchone() or ()
        self._rejected(reject_with(row.plan, dict(zip(row.plan.columns, taken, strict=True)), error))
        self.settled.append((row.plan, Tally(1, failed=1)))
