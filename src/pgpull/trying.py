"""One table's rehearsal: what differs, and which of these rows the target would refuse.

The rows that would move are tried on a temporary table that has the target's own constraints. Of rows that
are missing, only those columns travel that something on the target could object to; often that is none. Of rows
that changed all travel, as only the target can say in which columns they differ.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final

from psycopg.sql import Composed

from pgpull import catalog, choosing, pruning
from pgpull.applying import Applier
from pgpull.comparing import Incomparable, key_batches
from pgpull.deciding import find
from pgpull.diagnosis import (
    CHECK_VIOLATION,
    EXCLUSION_VIOLATION,
    FOREIGN_KEY_VIOLATION,
    SOURCE,
    TARGET,
    UNIQUE_VIOLATION,
    condition,
    translated,
)
from pgpull.model import OnConflict
from pgpull.moving import Progress, flow, move_keyed, move_lacking
from pgpull.patience import Patience
from pgpull.plans import Comparison, Estimate, Method, Plan, Strategy
from pgpull.relations import parent_of
from pgpull.results import Forecast, Refusal, Reject, Tally
from pgpull.sessions import Session, send_bytes_as_they_are
from pgpull.shapes import ForeignKey, TableName
from pgpull.sql import rehearsing as sql
from pgpull.sql.comparing import CHANGED, IN_BULK, MISSING, keyed
from pgpull.sql.parts import count_in_scope
from pgpull.sql.relating import count_to_move
from pgpull.sql.scoping import any_row_at_all, scope_condition
from pgpull.sql.sending import copy_out

_WIDTH: Final = 60
"""Characters of a value that an example shows."""


@dataclass(frozen=True, slots=True)
class _Load:
    """Rows to be tried: which of their columns, and which rows; all in scope if ``state`` is None."""

    columns: tuple[str, ...]
    state: str | None


class Rehearsal:
    """One rehearsal under way.

    Args:
        source: the server.
        target: the local side, which gets temporary tables only.
        plan: as it was decided.
        coming: of the tables that were rehearsed before, the columns by which it is known which rows would be
            there; None where no other table is pulled.
        referred: the columns by which other tables refer to this one.
        prunable: how many rows a mirror would delete, and keep, where that was found for all tables together.
    """

    def __init__(
        self,
        source: Session,
        target: Session,
        plan: Plan,
        coming: Mapping[TableName, frozenset[str]] | None = None,
        referred: frozenset[str] = frozenset(),
        prunable: tuple[int, int] | None = None,
    ) -> None:
        self._source = source
        self._target = target
        self._plan = plan
        self._coming = coming
        self._prunable = prunable
        self._referred = referred
        self._rules = catalog.rules_of(target, plan.table)
        self._judged = choosing.judged(plan, self._rules)
        if referred:
            needed = {*self._judged, *referred, *plan.keys}
            self._judged = tuple(name for name in plan.columns if name in needed)
        self._tried = False
        """Whether the trial holds the rows that would come."""
        self._refused: Counter[str] = Counter()
        self._bytes = 0
        self._compared = False
        self._found = self._find()

    def run(self, started: float, examples: int = 0) -> Forecast:
        """Try the rows, and tell what would become of them.

        Args:
            started: when the work on the table began, by the monotonic clock.
            examples: how many of the rows to be inserted are shown.

        Raises:
            Stopped: a connection was lost, or a server gave up.
        """
        shown = tuple(self._examples(examples))
        deleted, kept = self._deletions()
        tally, differing = self._tally_of(self._loads())
        return Forecast(
            plan=self._plan,
            tally=tally,
            deleted=deleted,
            kept=kept,
            differing=differing,
            refusals=tuple(Refusal(reason, rows) for reason, rows in self._refused.most_common()),
            estimate=self._to_move(),
            examples=shown,
            bytes=self._bytes,
            seconds=time.monotonic() - started,
            snapshot=self._source.identity.now,
        )

    # --- what differs ------------------------------------------------------------------------------------

    def _find(self) -> Comparison:
        """Compare, even where the pull would not: rows that are here outside of the scope count, too."""
        plan = self._plan
        found = plan.comparison
        if plan.request.only_related:
            rows = self._ask(count_to_move(plan)) if plan.why else 0
            return Comparison(Method.KEYS, rows=rows, missing=rows, changed=0)
        if found is None and not plan.request.replace and self._ask(any_row_at_all(plan)):
            with suppress(Incomparable):  # then its rows are tried as they come, as the pull would
                found, _ = find(self._source, self._target, plan)
        if found is None:
            send_bytes_as_they_are(self._source)
            rows = self._ask(count_in_scope(plan, plan.source), self._source)
            return Comparison(Method.KEYS, rows=rows, missing=rows, changed=0)
        self._compared, self._bytes = True, found.bytes
        return found

    def _ask(self, question: Composed, side: Session | None = None) -> int:
        side = side or self._target
        with translated(side.side, side.connection):
            row = side.connection.execute(question).fetchone()
        return int(row[0]) if row else 0

    def _deletions(self) -> tuple[int, int]:
        if self._plan.request.replace:
            if self._coming is None:
                pruning.check_referred(self._target, [self._plan])
            return pruning.count_here(self._target, self._plan), 0
        if self._plan.request.mirror and self._found.extra:
            if self._prunable is not None:
                return self._prunable
            pruning.put_aside(self._target, self._plan)
            [counted] = pruning.count_prunable(self._target, [replace(self._plan, comparison=self._found)])
            return counted
        return 0, 0

    def _to_move(self) -> Estimate:
        guess, rows = self._plan.estimate, self._found.wanted
        return Estimate(rows, rows * (guess.bytes // guess.rows) if guess and guess.rows else 0)

    def _examples(self, most: int) -> Iterator[Mapping[str, str | None]]:
        plan, where = self._plan, scope_condition(self._plan)
        if not most or not self._found.missing:
            return
        if self._compared:
            if not plan.keys_as_text or plan.key is None:
                return
            with closing(key_batches(self._target, plan, MISSING, most)) as batches:
                where = keyed(plan, next(batches)[0])
        question = sql.some_rows(plan, where, most, _WIDTH)
        with translated(SOURCE, self._source.connection):
            rows = self._source.connection.execute(question).fetchall()
        for row in rows:
            yield dict(zip(plan.columns, row, strict=True))

    # --- the trial ---------------------------------------------------------------------------------------

    def _loads(self) -> list[_Load]:
        """Choose what has to be tried."""
        plan, found, judged = self._plan, self._found, self._judged
        if plan.request.only_related:
            return []
        tried = plan.columns if found.changed or plan.request.replace else judged
        if self._compared and plan.strategy is Strategy.KEYED:
            changed = [_Load(plan.columns, CHANGED)] if found.changed else []
            return changed + ([_Load(judged, MISSING)] if judged and found.missing else [])
        if not tried or plan.strategy is Strategy.NOTHING:
            return []
        return [_Load(tried, None)]

    def _tally_of(self, loads: Sequence[_Load]) -> tuple[Tally, tuple[tuple[str, int], ...]]:
        """Try the rows, and count what would become of all in scope."""
        rows, untried = self._found.rows, self._found.missing
        if any(load.state != CHANGED for load in loads):
            untried = 0
        if not loads:
            return Tally(rows, inserted=untried, skipped=rows - untried), ()
        self._make_trial(loads)
        self._tried = True
        for load in loads:
            self._load(load)
        with self._in_bulk():
            differing = self._differing()
            self._drop_what_would_be_refused(loads)
            updated = self._ask(sql.count_there(self._plan)) if self._plan.key else 0
            inserted = self._ask(sql.COUNT) - updated + untried
        failed = self._refused.total()
        return Tally(rows, inserted, updated, rows - inserted - updated - failed, failed), differing

    @contextmanager
    def _in_bulk(self) -> Iterator[None]:
        """Judge all rows at once: the session is set up for small batches otherwise."""
        with translated(TARGET, self._target.connection), self._target.connection.transaction():
            self._target.connection.execute(sql.ANALYZE)
            self._target.connection.execute(IN_BULK)
            yield

    def _make_trial(self, loads: Sequence[_Load]) -> None:
        with translated(TARGET, self._target.connection):
            self._target.connection.execute(sql.DROP)
            self._target.connection.execute(sql.create_trial(self._plan))
            self._let_be_null(sql.TRIAL, loads)

    def _let_be_null(self, table: TableName, loads: Sequence[_Load]) -> None:
        filled = set(self._plan.columns).intersection(*(load.columns for load in loads))
        empty = [c.name for c in self._plan.target.columns if c.not_null and c.name not in filled]
        primary = {name for key in self._plan.target.keys if key.primary for name in key.columns}
        if table == sql.TOGETHER and primary.intersection(empty):  # a key of local's own
            self._target.connection.execute(sql.LET_KEY_GO)
        if empty:
            self._target.connection.execute(sql.let_be_null(table, empty))

    def _load(self, load: _Load) -> None:
        """Bring rows into the trial, and count those that it does not take."""
        updated = tuple(name for name in self._plan.updated if name in load.columns)
        tried = replace(self._plan, columns=load.columns, updated=updated)
        bare = replace(self._plan.target, triggers=())
        # together: it may be tried in a transaction, at whose end alone the stage would be emptied
        trial = replace(
            tried, request=replace(tried.request, on_conflict=OnConflict.SKIP), target=bare, together=True
        )
        patience, insertion = Patience(0, lambda _: None), sql.insert_tried(tried)
        applier = Applier(self._target, trial, patience, self._refuse, insertion)
        send_bytes_as_they_are(self._source)
        with closing(self._rows(load.state, tried, applier)) as progress:
            for _, size in progress:
                self._bytes += size

    def _rows(self, state: str | None, tried: Plan, applier: Applier) -> Progress:
        if state is None:
            return flow(self._source, [copy_out(tried)], tried, applier, Strategy.MERGE)
        if tried.key is None:
            return move_lacking(self._source, self._target, tried, applier, Strategy.MERGE)
        return move_keyed(self._source, self._target, tried, applier, state, Strategy.MERGE)

    def _refuse(self, reject: Reject) -> None:
        place = f" on {reject.constraint}" if reject.constraint else ""
        place = place or (f" in {reject.column}" if reject.column else "")
        self._refused[f"{reject.sqlstate} {reject.condition}{place}"] += 1

    def _differing(self) -> tuple[tuple[str, int], ...]:
        """Say in which columns the rows differ that would be updated, and how many in each."""
        plan = self._plan
        if not plan.key or plan.request.on_conflict is OnConflict.SKIP or not plan.updated:
            return ()
        with translated(TARGET, self._target.connection):
            counts = self._target.connection.execute(sql.count_updates(plan)).fetchone() or ()
        named = zip(plan.updated, counts, strict=True)
        return tuple(sorted(((n, rows) for n, rows in named if rows), key=lambda pair: (-pair[1], pair[0])))

    def _drop_what_would_be_refused(self, loads: Sequence[_Load]) -> None:
        plan, rules = self._plan, self._rules
        if rules.partitions and None not in rules.partitions:
            homes = [text for text in rules.partitions if text is not None]
            self._drop(CHECK_VIOLATION, ": no partition for the row", sql.drop_homeless(homes))
        unique = choosing.unique_beside_key(plan, rules)
        for rule in unique:
            kind = EXCLUSION_VIOLATION if rule.operators else UNIQUE_VIOLATION
            self._drop(kind, f" on {rule.name}", sql.drop_clashing(plan, rule))
        self._drop_orphans()
        if plan.key and unique and not any(rule.deferrable for rule in rules.unique):
            self._bring_together(loads)
            self._drop_orphans()

    def _drop_orphans(self) -> None:
        """Drop rows without a parent, then rows whose parent was one of these, and so on."""
        plan = self._plan
        own = [key for key in plan.target.foreign_keys if key.on == plan.table and self._is_known(key)]
        keys = [key for key in own if set(key.columns) <= set(plan.columns)]
        while sum(self._drop_orphans_of(key) for key in keys):
            pass

    def _is_known(self, key: ForeignKey) -> bool:
        """Whether it can be told which rows would be there that a foreign key refers to."""
        tied = any(tie.parents and tie.key == key for tie in self._plan.ties)
        parent = parent_of(key, self._coming or ())
        if parent is None:
            return key.table == self._plan.table or not tied
        return self._coming is not None and set(key.referred) <= self._coming[parent]

    def _drop_orphans_of(self, key: ForeignKey) -> int:
        parent = parent_of(key, self._coming or ())
        statement = sql.drop_orphans(self._plan, key, parent)
        return self._drop(FOREIGN_KEY_VIOLATION, f" on {key.name}", statement)

    def keep_coming(self) -> frozenset[str]:
        """Keep which rows would be there, for tables that refer to them; return by which columns."""
        plan, referred = self._plan, self._referred
        if not referred:
            return frozenset()
        if plan.request.only_related:
            referred = referred.intersection(plan.keys)
        with translated(TARGET, self._target.connection):
            for statement in sql.keep_coming(plan, sorted(referred), tried=self._tried):
                self._target.connection.execute(statement)
        return referred

    def _bring_together(self, loads: Sequence[_Load]) -> None:
        """Let the new rows meet each other, as the first of two that clash gets in."""
        with translated(TARGET, self._target.connection):
            self._target.connection.execute(sql.create_together(self._plan))
            self._let_be_null(sql.TOGETHER, loads)
            self._target.connection.execute(sql.bring_together(self._plan))
        self._drop(UNIQUE_VIOLATION, " among the new rows", sql.drop_left_out(self._plan))

    def _drop(self, sqlstate: str, where: str, statement: Composed) -> int:
        with translated(TARGET, self._target.connection):
            rows = self._target.connection.execute(statement).rowcount
        if rows:
            self._refused[f"{sqlstate} {condition(sqlstate)}{where}"] += rows
        return rows
