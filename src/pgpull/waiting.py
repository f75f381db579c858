"""Rows that wait: for a row which they refer to and which comes later, or for a unique value to become free.

Batches commit one by one, so such rows are set aside, and written together once all others are in: a single
statement may insert rows that refer to each other in any circle, without superuser, whether or not constraints
are deferrable. Rows that want each other's unique values are written after those here have given them up.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Final

import psycopg
from psycopg.sql import Composed

from pgpull.applying import Applier
from pgpull.catalog import rules_of
from pgpull.diagnosis import FOREIGN_KEY_VIOLATION, TARGET, VALUE_TAKEN, translated
from pgpull.merging import RowsRefused, given, make_stage, merged, refusals, triggers_held, waiting_rows_lost
from pgpull.plans import Plan
from pgpull.rejecting import orphan, reject_with
from pgpull.results import Reject, Tally
from pgpull.sessions import Session
from pgpull.sql import waiting as sql
from pgpull.sql.comparing import IN_BATCHES, IN_BULK
from pgpull.sql.staging import CHECK_CONSTRAINTS_NOW, CURRENT_TRANSACTION, EMPTY_STAGE
from pgpull.swapping import Room, give_back, make_room, rooms_for

_ORPHANS_AT_ONCE: Final = 1_000

_PLACES_AT_ONCE: Final = 8_192

_MAY_PASS: Final = (FOREIGN_KEY_VIOLATION, *VALUE_TAKEN)
"""A parent may come yet, a unique value may become free."""

Settled = tuple[Plan, Tally]


def settle(
    target: Session, appliers: Sequence[Applier], rejected: Callable[[Reject], None]
) -> Generator[Settled]:
    """Write the rows that wait, now that all others are in.

    Args:
        target: the local side.
        appliers: those of tables that refer to each other in a circle, done with all that came.
        rejected: called with each row that is refused: its parent is nowhere, or something else is amiss.

    Yields:
        For each plan whose rows waited, what became of them; it may come several times.

    Raises:
        ConnectionLost: the rows went with an earlier connection.
        Stopped: the target cannot go on.
    """
    waiting = [applier for applier in appliers if applier.waiting]
    if not waiting:
        return
    connection = target.connection
    if any(applier.waiting_on is not connection for applier in waiting):
        raise waiting_rows_lost()
    settling = _Settling(target, [applier.plan for applier in waiting], rejected)
    with translated(TARGET, connection):
        yield from settling.run()
        for applier in waiting:
            applier.transactions += settling.transactions
            connection.execute(sql.drop(applier.plan))


@dataclass(slots=True)
class _Row:
    """One row that waits."""

    plan: Plan
    ctid: str


class _NoRoom(Exception):
    """A table forbids how its rows would have to be for a moment."""

    def __init__(self, plan: Plan) -> None:
        self.place = plan.place
        super().__init__()


class _Settling:
    """Rows on their way out of where they wait."""

    def __init__(self, target: Session, plans: Sequence[Plan], rejected: Callable[[Reject], None]) -> None:
        self._target = target
        self._connection = target.connection
        self._plans = plans
        self._rejected = rejected
        self._staged: Plan | None = None
        self._children_indexed = False
        self._held: set[int] = set()
        """The places of the tables whose triggers are held as long as room is made."""
        self._settled: list[Settled] = []
        """What became of rows, until somebody is told."""
        self.transactions: list[int] = []

    def run(self) -> Iterator[Settled]:
        """Write all rows that can be, and yield what became of them; see :func:`settle`."""
        self._index_parents()
        yield from self._take_orphans()
        if self._write_together():
            for plan in self._plans:
                self._refuse_bad_rows(plan)
            yield from self._told()
            yield from self._take_orphans()
            if self._write_together():
                yield from self._write_apart()
        yield from self._told()

    def _told(self) -> Iterator[Settled]:
        settled, self._settled = self._settled, []
        yield from settled

    # --- rows whose parent is nowhere --------------------------------------------------------------------

    def _index_parents(self) -> None:
        for plan in self._plans:
            referred = {t.key.referred for p in self._plans for t in p.ties if plan.place in t.parents}
            for columns in referred:
                self._connection.execute(sql.index(plan, columns))
            self._connection.execute(sql.analyze(plan))

    def _index_children(self) -> None:
        for plan in () if self._children_indexed else self._plans:
            for columns in {tie.key.columns for tie in plan.ties if tie.parents}:
                self._connection.execute(sql.index(plan, columns))
        self._children_indexed = True

    def _take_orphans(self) -> Iterator[Settled]:
        """Refuse rows whose parent is neither there nor waiting as well, and those that wait for them."""
        ties = [
            (plan, number)
            for plan in self._plans
            for number, tie in enumerate(plan.ties)
            if tie.key.on == plan.table  # what a single partition needs, the target will tell
        ]
        if not self._find_lost(ties):
            return
        self._index_children()
        if follow := sql.follow_lost(self._plans):
            self._connection.execute(follow)
        for plan, number in ties:
            statement = sql.take_lost(plan, number, _ORPHANS_AT_ONCE)
            while rows := self._connection.execute(statement).fetchall():
                for row in rows:
                    self._rejected(orphan(plan, row, plan.ties[number].key))
                yield plan, Tally(len(rows), failed=len(rows))

    def _find_lost(self, ties: Sequence[tuple[Plan, int]]) -> int:
        waits = {plan.place for plan in self._plans}
        with self._in_bulk():
            self._connection.execute(sql.DROP_LOST)
            self._connection.execute(sql.CREATE_LOST)
            return sum(self._connection.execute(sql.find_lost(*tie, waits)).rowcount for tie in ties)

    @contextmanager
    def _in_bulk(self) -> Iterator[None]:
        with self._connection.transaction():
            self._connection.execute(IN_BULK)
            yield
            self._connection.execute(IN_BATCHES)  # an outer transaction goes on

    # --- all others --------------------------------------------------------------------------------------

    def _write_together(self) -> psycopg.Error | None:
        """Write all in one statement; or none, and return what the target says of one of them."""
        try:
            with refusals(), translated(TARGET, self._connection), self._in_bulk():
                cursor = self._connection.cursor()
                waiting = [self._count(cursor, sql.count(plan)) for plan in self._plans]
                with ExitStack() as held:
                    for plan in self._plans:
                        held.enter_context(self._triggers_held(cursor, plan))
                    counts = iter(cursor.execute(sql.together(self._plans)).fetchone() or ())
                number = cursor.execute(CURRENT_TRANSACTION).fetchone()
        except RowsRefused as refused:
            return refused.error
        self.transactions += given(number)
        for plan, rows in zip(self._plans, waiting, strict=True):
            inserted = next(counts)
            updated = next(counts) if plan.updates else 0
            self._settled.append((plan, Tally(rows, inserted, updated, rows - inserted - updated)))
        return None

    @staticmethod
    def _count(cursor: psycopg.Cursor, statement: Composed) -> int:
        row = cursor.execute(statement).fetchone()
        assert row is not None
        return int(row[0])

    # --- rows that are bad whatever they refer to --------------------------------------------------------

    def _refuse_bad_rows(self, plan: Plan) -> None:
        """Refuse rows that the target would take in no company.

        Foreign keys are checked last, when the statement ends: what is refused for want of a parent has nothing
        else amiss. So a few tries find a bad row among thousands, and no order of the rows has to be found.
        """
        last = sql.FIRST_PLACE
        while places := self._connection.execute(sql.places(plan, last, _PLACES_AT_ONCE)).fetchall():
            self._refuse_bad_rows_among(plan, [place for [place] in places])
            [last] = places[-1]

    def _refuse_bad_rows_among(self, plan: Plan, places: Sequence[str]) -> None:
        error = self._try(plan, places)
        if error is None or error.sqlstate == FOREIGN_KEY_VIOLATION:
            return
        if len(places) > 1:
            middle = len(places) // 2
            self._refuse_bad_rows_among(plan, places[:middle])
            self._refuse_bad_rows_among(plan, places[middle:])
        elif not (plan.updates and error.sqlstate in VALUE_TAKEN):  # an update may free the value yet
            self._reject(_Row(plan, places[0]), error)

    def _try(self, plan: Plan, places: Sequence[str]) -> psycopg.Error | None:
        """Write some rows for a moment, and return what the target says of them."""
        self._make_stage(plan)
        try:
            with refusals(), translated(TARGET, self._connection), self._connection.transaction() as trial:
                cursor = self._connection.cursor()
                cursor.execute(EMPTY_STAGE)
                cursor.execute(sql.stage_some(plan, places[0], places[-1]))
                with triggers_held(cursor, plan):
                    merged(cursor, plan, len(places))
                raise psycopg.Rollback(trial)
        except RowsRefused as refused:
            return refused.error
        return None

    # --- one by one --------------------------------------------------------------------------------------

    def _write_apart(self) -> Iterator[Settled]:
        """Write row by row what can be, again and again while that lets others in; then the rest at once."""
        backwards = False
        while sum(self._gone(row) for row in self._rows(backwards=backwards)):
            backwards = not backwards  # whatever stands in the worst order stands in the best one, too
        yield from self._told()
        yield from self._take_orphans()
        if error := self._write_together():
            self._write_with_room(error)

    def _rows(self, *, backwards: bool = False) -> Iterator[_Row]:
        for plan in self._plans:
            last = sql.LAST_PLACE if backwards else sql.FIRST_PLACE
            while places := self._connection.execute(
                sql.places(plan, last, _PLACES_AT_ONCE, backwards=backwards)
            ).fetchall():
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
            self._settled.append((row.plan, tally))
        return True

    def _make_stage(self, plan: Plan) -> None:
        if self._staged is not plan:
            make_stage(self._connection, plan)
            self._staged = plan

    def _write_one(self, row: _Row) -> Tally:
        self._make_stage(row.plan)
        with refusals(), translated(TARGET, self._connection), self._connection.transaction():
            cursor = self._connection.cursor()
            cursor.execute(EMPTY_STAGE)
            cursor.execute(sql.stage_some(row.plan, row.ctid, row.ctid))
            with self._triggers_held(cursor, row.plan):
                tally = merged(cursor, row.plan, 1)
            cursor.execute(sql.take_one(row.plan, row.ctid))
            number = cursor.execute(CURRENT_TRANSACTION).fetchone()
        self.transactions += given(number)
        return tally

    def _reject(self, row: _Row, error: psycopg.Error) -> None:
        taken = self._connection.execute(sql.take_one(row.plan, row.ctid)).fetchone() or ()
        self._rejected(reject_with(row.plan, dict(zip(row.plan.columns, taken, strict=True)), error))
        self._settled.append((row.plan, Tally(1, failed=1)))

    # --- rows that want each other's values --------------------------------------------------------------

    def _write_with_room(self, error: psycopg.Error) -> None:
        """Write rows after those here have stepped aside; again, without what is refused even so."""
        ways = {plan.place: list(rooms_for(plan, rules_of(self._target, plan.table))) for plan in self._plans}
        while any(ways.values()):
            rooms = [(plan, ways[plan.place][0]) for plan in self._plans if ways[plan.place]]
            try:
                refused = self._try_with_room(rooms)
            except _NoRoom as none:  # rows would have to be as the table forbids: a check may want a value
                del ways[none.place][0]
                continue
            except RowsRefused as late:  # when all was over: a deferred constraint
                error = late.error
                break
            if not refused:
                return
            for row, why in refused:
                self._reject(row, why)
        for row in self._rows():
            self._reject(row, error)

    def _try_with_room(self, rooms: Sequence[tuple[Plan, Room]]) -> list[tuple[_Row, psycopg.Error]]:
        """Write all rows, and return none; or none of them, and return those that are in the way."""
        settled, transactions = list(self._settled), list(self.transactions)
        refused: list[tuple[_Row, psycopg.Error]] = []
        try:
            with refusals(), translated(TARGET, self._connection), self._connection.transaction() as whole:
                cursor = self._connection.cursor()
                cursor.execute(CHECK_CONSTRAINTS_NOW)  # else one that is deferred would take all rows along
                with self._all_triggers_held(cursor, [plan for plan, _ in rooms]):
                    lifted = [self._make_room(cursor, plan, room) for plan, room in rooms]
                    refused = self._write_each()
                    for plan, room in () if refused else rooms:
                        with self._making_room(plan):
                            give_back(cursor, plan, room)
                if refused:
                    raise psycopg.Rollback(whole)
        except (_NoRoom, RowsRefused):
            self._settled, self.transactions = settled, transactions
            raise
        finally:
            self._staged = None  # the stage may have been made in what was rolled back
        if refused:
            self._settled, self.transactions = settled, transactions
            return refused
        for (plan, _), rows in zip(rooms, lifted, strict=True):
            self._count_as_updated(plan, rows)
        return []

    def _make_room(self, cursor: psycopg.Cursor, plan: Plan, room: Room) -> int:
        with self._making_room(plan):
            return make_room(cursor, plan, room)

    @contextmanager
    def _making_room(self, plan: Plan) -> Iterator[None]:
        """Tell that a table forbids how its rows would have to be for a moment.

        Raises:
            _NoRoom: it does.
        """
        try:
            with refusals(), translated(TARGET, self._connection):
                yield
        except RowsRefused as refused:
            raise _NoRoom(plan) from refused

    @contextmanager
    def _all_triggers_held(self, cursor: psycopg.Cursor, plans: Sequence[Plan]) -> Iterator[None]:
        """Keep triggers from firing, whatever else holds them within the block and lets them go."""
        with ExitStack() as held:
            for plan in plans:
                held.enter_context(triggers_held(cursor, plan, deletes=True))
            self._held = {plan.place for plan in plans}
            try:
                yield
            finally:
                self._held = set()

    def _triggers_held(self, cursor: psycopg.Cursor, plan: Plan) -> AbstractContextManager[None]:
        return nullcontext() if plan.place in self._held else triggers_held(cursor, plan)

    def _count_as_updated(self, plan: Plan, rows: int) -> None:
        """Count rows that stepped aside and came back."""
        for number, (of, tally) in enumerate(self._settled):
            moved = min(rows, tally.inserted) if of is plan else 0
            rows -= moved
            changed = replace(tally, inserted=tally.inserted - moved, updated=tally.updated + moved)
            self._settled[number] = (of, changed)

    def _write_each(self) -> list[tuple[_Row, psycopg.Error]]:
        """Write all at once, or row by row as long as that lets others in; return what cannot be."""
        if not self._write_together():
            return []
        rows, before = list(self._rows()), -1
        refused: list[tuple[_Row, psycopg.Error]] = []
        while rows and len(rows) != before:
            before, refused = len(rows), []
            for row in rows:
                try:
                    self._settled.append((row.plan, self._write_one(row)))
                except RowsRefused as error:
                    refused.append((row, error.error))
            rows = [row for row, _ in refused]
        if not refused or not self._write_together():  # a circle of rows is left
            return []
        # what wants a parent may only want that of a row which is to blame
        return [pair for pair in refused if pair[1].sqlstate != FOREIGN_KEY_VIOLATION] or refused
