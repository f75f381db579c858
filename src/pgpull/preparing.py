"""From a job to plans in order: which tables are meant, what both sides say of them, what comes along."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from pgpull import catalog, privacy, selecting
from pgpull.creating import create_missing
from pgpull.laying import make_archived
from pgpull.looking import see
from pgpull.model import Job, Request
from pgpull.ordering import in_order
from pgpull.plans import Plan
from pgpull.relating import Reach, collect, involved, reach
from pgpull.sessions import Session
from pgpull.shapes import TablePattern
from pgpull.substitutes import Substitute, within


def names(source: Session, patterns: Iterable[TablePattern]) -> selecting.Names:
    """Return the source's tables, if they are needed to know what some patterns mean."""
    return catalog.names_of(source) if selecting.has_patterns(patterns) else {}


def requests(source: Session, job: Job) -> tuple[Request, ...]:
    """Return a request for each table that is asked for.

    Raises:
        PlanError: a pattern means no table.
        ConnectionLost: a connection went away.
    """
    found = selecting.requests(job, names(source, [wanted.pattern for wanted in job.wanted]))
    if source.substitute is not None:  # rules may well be of tables that an archive was not to hold
        return tuple(_within(source.substitute, request) for request in found)
    for masks in {request.masks for request in found}:
        privacy.check_tables(source, masks)
    return found


def _within(substitute: Substitute, request: Request) -> Request:
    archived = substitute.archive.manifest.table(request.table)
    return within(request, archived) if archived else request


def make_missing(
    source: Session,
    target: Session,
    job: Job,
    asked: Sequence[Request],
    noticed: Callable[[str], None],
) -> None:
    """Make the tables that the target lacks, if the job says so, and tell which.

    Args:
        source: the server.
        target: the local side.
        job: what is asked for.
        asked: a request for each table that is asked for.
        noticed: called with what was made, and what was left out.

    Raises:
        PlanError: a table cannot be made; none is.
        ConnectionLost: a connection went away.
    """
    if not job.create_missing:
        return
    tables = involved(source, job, [request.table for request in asked])
    if source.substitute is not None:
        make_archived(target, source.substitute, tables, noticed)
        return
    made = create_missing(source, target, tables)
    if made.tables:
        noticed(f"made {', '.join(map(str, made.tables))}")
    for note in made.notes:
        noticed(note)


def reached(
    source: Session, target: Session, job: Job, asked: Sequence[Request], *, may_make: bool = False
) -> Reach:
    """See all tables that a job may need: those asked for, and those whose rows may come along.

    Args:
        source: the server.
        target: the local side.
        job: what comes along.
        asked: a request for each table that is asked for.
        may_make: whether a table that a private target lacks may be made.

    Raises:
        PlanError: no row of a table that was named refers to what is pulled.
        ConnectionLost: a connection went away.
    """
    seen = see(source, target, [request.table for request in asked], may_make=may_make)
    if job.with_parents or job.with_children:
        return reach(source, target, job, asked, seen)
    return Reach(tuple(asked), seen)


def arranged(
    source: Session, target: Session, reach: Reach, plan: Callable[[Request], Plan | None]
) -> list[list[Plan]]:
    """Plan all tables, put them in order, and find the keys of the rows that come along.

    Args:
        source: the server.
        target: the local side, where these keys stay.
        reach: what :func:`reached` found.
        plan: makes the plan of one table, or None where it has to be left out.

    Returns:
        Plans, in groups; each has its place, and says along which foreign keys rows come.

    Raises:
        PlanError: rows cannot be asked for by their keys.
        Stopped: a connection was lost, or a server gave up.
    """
    plans = [made for request in reach.requests if (made := plan(request)) is not None]
    groups = in_order(plans)
    reasons = collect(source, target, reach, {each.table: each for group in groups for each in group})
    return [
        [replace(each, why=tuple(map(str, reasons.get(each.table, ())))) for each in group] for group in groups
    ]
