"""Look at both sides, and plan: everything up to the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pgpull import catalog, compatibility, objecting, planning, privacy, scoping
from pgpull.drift import Standards
from pgpull.drifting import standards_of
from pgpull.making import make_table
from pgpull.model import Request, Scope, Window
from pgpull.plans import Plan
from pgpull.sessions import Session
from pgpull.shapes import Shape, TableName
from pgpull.substitutes import flowing


@dataclass(frozen=True, slots=True)
class Seen:
    """What both sides say about some tables; a table that one lacks is not there."""

    theirs: Mapping[TableName, Shape]
    ours: Mapping[TableName, Shape]
    their_standards: Mapping[TableName, Standards]
    our_standards: Mapping[TableName, Standards]

    def together(self, more: Seen) -> Seen:
        """Return both as one."""
        return Seen(
            {**self.theirs, **more.theirs},
            {**self.ours, **more.ours},
            {**self.their_standards, **more.their_standards},
            {**self.our_standards, **more.our_standards},
        )


def see(
    source: Session,
    target: Session,
    tables: Sequence[TableName],
    *,
    may_make: bool = False,
) -> Seen:
    """Ask both sides for the shapes of some tables, all at once.

    Args:
        source: the server.
        target: the local side.
        tables: which.
        may_make: whether a table that a private target lacks may be made.

    Raises:
        PlanError: a table cannot be made.
        ConnectionLost: a connection went away.
    """
    theirs = catalog.shapes_of(source, tables)
    ours = catalog.shapes_of(target, tables)
    lacking = [theirs[table] for table in tables if table in theirs and table not in ours]
    for shape in lacking if may_make and target.endpoint.private else ():
        if made := make_table(target, shape):
            ours[shape.table] = made
    return Seen(
        theirs=theirs,
        ours=ours,
        their_standards=standards_of(source, list(theirs)),
        our_standards=standards_of(target, list(ours)),
    )


def look(
    source: Session,
    target: Session,
    request: Request,
    seen: Seen,
    settled: Scope | None = None,
    *,
    guess: bool = True,
) -> Plan:
    """Return the plan for what is asked, as far as it can be made before any row is read.

    Args:
        source: the server.
        target: the local side.
        request: what is asked for.
        seen: what both sides say about its table.
        settled: the scope that an earlier look of the same pull came to; the newest row here is another now.
        guess: whether the source is asked about how many rows there are. Without that, and without a scope, it
            is asked nothing.

    Raises:
        PlanError: the two sides cannot be brought together.
        ConnectionLost: a connection went away.
    """
    looked = _looked(source, target, request, seen)
    theirs, ours = looked.source, looked.target
    if request.scope.narrows:
        scoping.check_condition(source, request.scope, theirs, request.timezone)
    if settled is not None:
        request = replace(request, scope=settled)
    elif request.new is not None:
        objecting.check_window_here(request, ours)
        request = _from_newest(request, scoping.newest(target, ours, request, source.identity.now))
    plan = planning.make_plan(
        request,
        looked,
        # a stretch may begin and end elsewhere in the order of this side
        target_has_rows=not _stands_alike(request.scope, ours)
        or scoping.holds_rows(target, ours, request.scope, request.timezone),
        scope_here=_means_the_same(request.scope, theirs, ours)
        and scoping.understands(target, request.scope, ours, request.timezone),
    )
    if source.substitute is not None and source.substitute.flows(plan.table):
        plan = flowing(plan, source.substitute.table(plan.table))
    return scoping.with_estimate(source, plan) if guess else plan


def _looked(source: Session, target: Session, request: Request, seen: Seen) -> objecting.Looked:
    """Return what both sides hold of a table, the server's under its masks.

    Raises:
        PlanError: one lacks it, or what is asked for cannot be had.
    """
    table = request.table
    theirs, ours = seen.theirs.get(table), seen.ours.get(table)
    if theirs is None:
        raise catalog.missing_table(source, table)
    catalog.check_kind(source, theirs)
    if ours is None:
        raise catalog.missing_table(target, table, theirs)
    catalog.check_kind(target, ours)
    standards = seen.their_standards[table], seen.our_standards[table]
    looked = objecting.Looked(theirs, ours, source.identity, target.identity, *standards)
    objecting.check(request, looked)
    masked, notes = privacy.masked(source, request, theirs, ours, looked.ours)
    return replace(looked, source=masked, masked=notes)


def _means_the_same(scope: Scope, theirs: Shape, ours: Shape) -> bool:
    """Whether the columns that a scope names have types on both sides by which it has the same rows in it."""
    names = [name for name, _ in scope.equals] + ([scope.window.column] if scope.window else [])
    sides = [(theirs.column(name), ours.column(name)) for name in names]
    alike = all(a is None or b is None or compatibility.tells_alike(a.type, b.type) for a, b in sides)
    return alike and _stands_alike(scope, ours)


def _stands_alike(scope: Scope, ours: Shape) -> bool:
    """Whether a stretch of keys is one on either side."""
    columns = [ours.column(name) for name in scope.stretch.columns] if scope.stretch else []
    return all(column is None or compatibility.has_one_order(column.type) for column in columns)


def _from_newest(request: Request, newest: datetime | None) -> Request:
    """Begin the window at the newest local row, less the overlap; a later start that was asked for stands."""
    window, overlap = request.scope.window, request.new
    if newest is None or window is None or overlap is None:
        return request
    try:
        start = newest - overlap
    except OverflowError:
        return request
    since = max(start, window.since) if window.since else start
    return replace(request, scope=replace(request.scope, window=Window(window.column, since, window.until)))
