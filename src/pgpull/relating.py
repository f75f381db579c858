"""Rows that come along: parents that pulled rows refer to, and children that refer to pulled rows.

The source is asked for keys, in bounded batches of keys, round after round until no new ones are found, so
that circles end; nothing is made on it. The keys stay on the target until their rows are moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from psycopg.sql import Composed

from pgpull import catalog
from pgpull.comparing import key_batches, take
from pgpull.diagnosis import TARGET, translated
from pgpull.errors import PlanError
from pgpull.looking import Seen, see
from pgpull.model import Job, Request, Scope
from pgpull.plans import Plan
from pgpull.relations import Link, links, parents_of
from pgpull.selecting import has_patterns, tables
from pgpull.sessions import Session
from pgpull.shapes import TableName
from pgpull.sql import relating as sql

_KEYS_AT_ONCE: Final = 5_000

Reasons = Mapping[TableName, tuple[Link, ...]]
"""Along which links rows of a table come."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The tables whose rows may come along, and how."""

    requests: tuple[Request, ...]
    """What is asked for, and after that, for each table that was not asked for, its related rows."""
    seen: Seen
    up: tuple[Link, ...] = ()
    down: tuple[Link, ...] = ()


def reach(source: Session, target: Session, job: Job, requests: Sequence[Request], seen: Seen) -> Reach:
    """Find the tables that can be reached from those that are asked for.

    Args:
        source: the server.
        target: the local side.
        job: whether parents come along, and which children.
        requests: what is asked for.
        seen: what both sides say about its tables.

    Raises:
        PlanError: a table was named whose rows refer to nothing that is pulled.
        ConnectionLost: a connection went away.
    """
    asked = [request.table for request in requests]
    seen, children = _with_children(source, target, job, asked, seen)
    if job.with_parents:
        seen = _with_parents(source, target, job, seen)
    both = [table for table in seen.theirs if table in seen.ours]
    found = links((seen.theirs, seen.ours), both)
    model = replace(
        requests[0], scope=Scope(), mirror=False, replace=False, new=None, verify=False, only_related=True
    )
    return Reach(
        requests=(*requests, *(_related(job, model, table) for table in both if table not in asked)),
        seen=seen,
        up=found if job.with_parents else (),
        down=tuple(link for link in found if link.child in children),
    )


def _related(job: Job, model: Request, table: TableName) -> Request:
    """Return what is asked for of a table whose rows come along, under the rules that hold for it."""
    for rule in job.rules:
        if rule.pattern.matches(table):
            return replace(rule.of(table), only_related=True)
    return replace(model, table=table, without=(), keep=())


def involved(source: Session, job: Job, asked: Sequence[TableName]) -> list[TableName]:
    """Return the source's tables that a job may need here: those asked for, children and parents.

    Raises:
        ConnectionLost: a connection went away.
    """
    names = catalog.names_of(source)
    named = [t for pattern in job.with_children for t in tables(pattern, names, job.exclude)]
    shapes = catalog.shapes_of(source, dict.fromkeys([*asked, *named]))
    while job.with_parents and (new := parents_of([shapes], shapes)):
        shapes |= catalog.shapes_of(source, new)
    return list(shapes)


def _with_parents(source: Session, target: Session, job: Job, seen: Seen) -> Seen:
    """See all tables that are referred to, and those that these refer to; none that is excluded."""
    known = set(seen.theirs)
    while referred := set(parents_of((seen.theirs, seen.ours), seen.theirs)) - known:
        known |= referred
        new = [table for table in sorted(referred, key=str) if not any(p.matches(table) for p in job.exclude)]
        seen = seen.together(see(source, target, new))
    return seen


def _with_children(
    source: Session, target: Session, job: Job, asked: Sequence[TableName], seen: Seen
) -> tuple[Seen, set[TableName]]:
    """See the named tables that refer to what is pulled, or to each other."""
    if not job.with_children:
        return seen, set()
    names = catalog.names_of(source) if has_patterns(job.with_children) else {}
    named = [t for pattern in job.with_children for t in tables(pattern, names, job.exclude)]
    others = [table for table in named if table not in seen.theirs]
    seen = seen.together(see(source, target, others))
    for table in named:
        if table not in seen.theirs:
            raise catalog.missing_table(source, table)
        if table not in seen.ours:
            raise catalog.missing_table(target, table, seen.theirs[table])
    all_links = links((seen.theirs, seen.ours), seen.theirs)
    reached = set(asked)
    while more := {li.child for li in all_links if li.parent in reached and li.child in named} - reached:
        reached |= more
    children = reached.intersection(named)
    if stray := [table for table in named if table not in reached]:
        raise PlanError(
            f"no row of {stray[0]} refers to what is pulled: no foreign key leads from it to one of the tables",
            f"pull it by its own name: {stray[0]}",
        )
    return seen, children


def collect(source: Session, target: Session, reached: Reach, plans: Mapping[TableName, Plan]) -> Reasons:
    """Find the keys of all rows that come along; they stay on the target.

    Args:
        source: the server.
        target: the local side.
        reached: what :func:`reach` found.
        plans: of the tables, by name, each with its place.

    Returns:
        Along which links rows come, for each table.

    Raises:
        PlanError: rows cannot be asked for by their keys.
        Stopped: a connection was lost, or a server gave up.
    """
    return _Collecting(source, target, reached, plans).run()


class _Collecting:
    """A walk along the links, all tables abreast."""

    def __init__(
        self, source: Session, target: Session, reached: Reach, plans: Mapping[TableName, Plan]
    ) -> None:
        self._source = source
        self._target = target
        self._plans = plans
        self._up = [link for link in reached.up if link.child in plans and link.parent in plans]
        self._down = [link for link in reached.down if link.child in plans and link.parent in plans]
        self._reasons: dict[TableName, tuple[Link, ...]] = {}

    def run(self) -> Reasons:
        for table in dict.fromkeys([link.parent for link in self._up] + [link.child for link in self._down]):
            self._make_wanted(self._plans[table])
        found, number = self._from_scopes(), 1
        while found:
            found, number = self._from_keys(number), number + 1
        return self._reasons

    def _make_wanted(self, plan: Plan) -> None:
        _check_keys(plan)
        with translated(TARGET, self._target.connection):
            for statement in (sql.drop(plan), sql.create(plan), sql.index(plan)):
                self._target.connection.execute(statement)

    def _from_scopes(self) -> int:
        """Go one step from the rows in scope."""
        return sum(
            self._step(link, sql.in_scope(self._plans[begin]), 1, up=up)
            for link, begin, up in self._steps()
            if not self._plans[begin].request.only_related
        )

    def _steps(self) -> Iterator[tuple[Link, TableName, bool]]:
        for link in self._up:
            yield link, link.child, True
        for link in self._down:
            yield link, link.parent, False

    def _from_keys(self, number: int) -> int:
        """Go one step from the rows that a round has found."""
        found = 0
        for link, begin, up in self._steps():
            plan = self._plans[begin]
            if self._has_wanted(begin):
                rows = sql.found_in(plan, number, down=not up)
                for batches in key_batches(self._target, plan, rows, _KEYS_AT_ONCE):
                    for keys in batches:
                        found += self._step(link, sql.with_keys(plan, keys), number + 1, up=up)
        return found

    def _has_wanted(self, table: TableName) -> bool:
        return any(link.parent == table for link in self._up) or any(li.child == table for li in self._down)

    def _step(self, link: Link, rows: Composed, number: int, *, up: bool) -> int:
        """Go along a link from some rows, and return how many new keys there are at the other end."""
        end = link.parent if up else link.child
        to = self._plans[end]
        if not to.request.only_related and not to.request.scope.narrows:
            return 0  # all of its rows come anyway
        take(self._source, self._target, to, sql.copy_related(link, rows, to, up=up))
        with translated(TARGET, self._target.connection):
            found = self._target.connection.execute(sql.want(to, number, up=up)).rowcount
        if found and link not in self._reasons.get(end, ()):
            self._reasons[end] = (*self._reasons.get(end, ()), link)
        return found


def _check_keys(plan: Plan) -> None:
    if plan.key is None or not plan.keys_as_text:
        key = f"its key ({', '.join(plan.keys)}) is of no simple type" if plan.key else "it has no key"
        raise PlanError(
            f"rows of {plan.table} cannot be asked for one by one: {key}",
            f"leave it out (--exclude {plan.table}), or pull the whole table by name",
        )
