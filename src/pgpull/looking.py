"""Look at both sides, and plan: everything up to the comparison."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from pgpull import catalog, planning
from pgpull.drifting import standards_of
from pgpull.model import Plan, Request, Scope, Window
from pgpull.sessions import Session


def look(
    source: Session,
    target: Session,
    request: Request,
    settled: Scope | None = None,
    *,
    may_make: bool = True,
) -> Plan:
    """Return the plan for what is asked, as far as it can be made before any row is read.

    Args:
        source: the server.
        target: the local side.
        request: what is asked for.
        settled: the scope that an earlier look of the same pull came to; the newest row here is another now.
        may_make: whether a table that a private target lacks may be made.

    Raises:
        PlanError: the two sides cannot be brought together.
        ConnectionLost: a connection went away.
    """
    theirs = catalog.shape_of(source, request.table)
    if theirs is None:
        raise catalog.missing_table(source, request.table)
    ours = catalog.shape_of(target, request.table)
    if ours is None and target.endpoint.private and may_make:
        ours = catalog.make_table(target, theirs)
    if ours is None:
        raise catalog.missing_table(target, request.table, theirs)
    looked = planning.Looked(
        theirs,
        ours,
        source.identity,
        target.identity,
        standards_of(source, [request.table])[request.table],
        standards_of(target, [request.table])[request.table],
    )
    planning.check(request, looked)
    catalog.check_condition(source, request.scope, theirs, request.timezone)
    if settled is not None:
        request = replace(request, scope=settled)
    elif request.new is not None:
        planning.check_window_here(request, ours)
        request = _from_newest(request, catalog.newest(target, ours, request, source.identity.now))
    plan = planning.make_plan(
        request,
        looked,
        target_has_rows=catalog.holds_rows(target, ours, request.scope, request.timezone),
        scope_here=catalog.understands(target, request.scope, ours, request.timezone),
    )
    return catalog.with_estimate(source, plan)


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
