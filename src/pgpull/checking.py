"""Whether a pull could run, and what to know first: both connections, and each table. Nothing is written.

Only catalogs, settings and EXPLAIN are asked; of tables no more than whether they hold a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Unpack

import psycopg
from sqlalchemy.engine import URL

from pgpull import catalog, objecting, preparing, scoping, selecting
from pgpull.arguments import several
from pgpull.diagnosis import SOURCE, TARGET, translated
from pgpull.discovering import found_personal
from pgpull.drift import Standards
from pgpull.endpoints import Endpoint, endpoint_of
from pgpull.errors import PgpullError, PlanError
from pgpull.findings import Checkup, Finding, good, note, problem
from pgpull.looking import Seen, look, see
from pgpull.model import Job, Request, Window
from pgpull.plans import Plan
from pgpull.programs import find_dumper
from pgpull.requesting import ANY, ScopeWords, check_words, make_job, make_request
from pgpull.sessions import Session, open_source, open_target
from pgpull.shapes import TableName
from pgpull.sql import checking as questions
from pgpull.standing import connection_findings, pair_findings

_LARGE = 100_000
"""Rows that take long enough to read for an index to matter."""
_SMALL_SHARE = 0.2
"""Of a table; for more of it, an index is no help."""
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is to be checked."""

    job: Job | None = None
    """None for the connections, and what their roles may do."""
    window: str | None = None
    """The column that windows will stand on, where none was given."""
    privacy: bool = False
    """Whether to look for what is personal, in place of all else: that reads the rows in scope."""


def make_inspection(tables: Sequence[str], **words: Unpack[ScopeWords]) -> Inspection:
    """Turn what people write into what is checked; see :func:`check` for the arguments.

    Raises:
        UsageError: a word makes no sense.
    """
    check_words(words, ScopeWords)
    has_end = words.get("since") is not None or words.get("until") is not None
    idle = None if has_end else words.pop("window", None)
    request = make_request(ANY, **words)
    return Inspection(make_job(tables, request) if tables else None, idle)


def check(
    *tables: str,
    source: str | URL | Endpoint,
    target: str | URL | Endpoint,
    allow_target: str | Sequence[str] = (),
    **words: Unpack[ScopeWords],
) -> Checkup:
    """Say whether a pull could run, and what to know first. Nothing is written on either side.

    Args:
        tables: names or patterns; none for the connections, and what their roles may do.
        source: URL of the server's database.
        target: URL of the local database.
        allow_target: hosts besides this machine that may be written.
        words: which rows: ``since``, ``until``, ``window``, ``equals``, ``where``, ``timezone``, as
            :func:`pgpull.pull` takes them. A ``window`` without an end asks whether it would find an index.

    Returns:
        What was found; ``checkup.exit_code`` is 0 when a pull could run.

    Raises:
        UsageError: an argument makes no sense.
    """
    inspection = make_inspection(tables, **words)
    sides = endpoint_of(source, "source"), endpoint_of(target, "target")
    return checkup_of(inspection, *sides, several(allow_target))


def checkup_of(
    inspection: Inspection, source: Endpoint, target: Endpoint, allowed: Sequence[str] = ()
) -> Checkup:
    """Check what is asked for; see :func:`check`."""
    found: list[Finding] = []
    try:
        with open_source(source) as server:
            found += connection_findings(server)
            with closing(open_target(target)) as local:
                found += connection_findings(local)
                found += pair_findings(server, local, allowed)
                if inspection.privacy:
                    found += _private(server, inspection)
                    return Checkup(tuple(found))
                found += _tables(server, local, inspection) if inspection.job else _overview(server, local)
    except PgpullError as error:
        side = TARGET if found else SOURCE
        found.append(problem(side, error))
        if side == SOURCE:
            found += _alone(target)
    return Checkup(tuple(found))


def _alone(target: Endpoint) -> Iterator[Finding]:
    """Check local where the server cannot be reached."""
    try:
        with closing(open_target(target)) as local:
            yield from connection_findings(local)
    except PgpullError as error:
        yield problem(TARGET, error)


# --- an overview ----------------------------------------------------------------------------------------


def _privileges(session: Session) -> dict[TableName, frozenset[str]]:
    with translated(session.side, session.connection):
        return {
            TableName(schema, name): frozenset(granted)
            for schema, name, granted in session.connection.execute(questions.TABLES)
        }


def _overview(source: Session, target: Session) -> Iterator[Finding]:
    theirs, ours = _privileges(source), _privileges(target)
    readable = [table for table, granted in theirs.items() if "SELECT" in granted]
    closed = [table for table in theirs if table not in readable]
    role = source.identity.role
    yield good(SOURCE, f"{role} may read {len(readable):,} of {len(theirs):,} tables")
    if closed:
        yield note(
            SOURCE, f"{role} may not read {_some(closed)}", "pgpull check TABLE shows the statement to run"
        )
    here = [table for table in readable if table in ours]
    yield good(TARGET, f"{len(here):,} of the {len(readable):,} tables that can be read are here")
    missing = [table for table in readable if table not in ours]
    if missing:
        yield note(TARGET, f"missing here: {_some(missing)}", "pull with --create-missing")
        yield from _dumper(source)
    locked = [table for table in here if not {"SELECT", "INSERT"} <= ours[table]]
    if locked:
        fact = f"{target.identity.role} may not write {_some(locked)}"
        yield note(TARGET, fact, "pgpull check TABLE shows the statement to run")


def _some(tables: Sequence[TableName]) -> str:
    more = f" and {len(tables) - _NAMED:,} more" if len(tables) > _NAMED else ""
    return ", ".join(map(str, tables[:_NAMED])) + more


def _dumper(source: Session) -> Iterator[Finding]:
    """Say whether missing tables could be made."""
    try:
        dumper = find_dumper(source.identity.major)
        yield good(TARGET, f"--create-missing can use pg_dump {dumper.major}, {dumper.path}")
    except PlanError as error:
        yield note(TARGET, f"--create-missing: {error.message}", error.hint)


# --- what is personal ------------------------------------------------------------------------------------


def _private(source: Session, inspection: Inspection) -> Iterator[Finding]:
    """Look through tables; all that may be read, where none is named."""
    job = inspection.job
    assert job is not None, "whoever looks for what is personal asks for tables"
    readable = {table for table, granted in _privileges(source).items() if "SELECT" in granted}
    requests = preparing.requests(source, job)
    if any(wanted.pattern.plain is None for wanted in job.wanted):
        requests = tuple(request for request in requests if request.table in readable)
    shapes = catalog.shapes_of(source, [request.table for request in requests])
    for request in requests:
        if shape := shapes.get(request.table):
            yield from found_personal(source, request, shape)
        else:
            yield problem(request.table, catalog.missing_table(source, request.table))


# --- the tables ------------------------------------------------------------------------------------------


def _tables(source: Session, target: Session, inspection: Inspection) -> Iterator[Finding]:
    assert inspection.job is not None, "whoever asks for no table gets an overview"
    names = preparing.names(source, [wanted.pattern for wanted in inspection.job.wanted])
    requests: dict[TableName, Request] = {}
    for wanted in inspection.job.wanted:
        try:
            for table in selecting.tables(wanted.pattern, names):
                requests.setdefault(table, wanted.of(table))
        except PlanError as error:
            yield problem(wanted.pattern, error)
    seen = see(source, target, list(requests))
    lacking = False
    for table, request in requests.items():
        with translated(TARGET, target.connection), target.connection.transaction(force_rollback=True):
            found = list(_table(source, target, request, seen, inspection.window))
        lacking = lacking or any("--create-missing" in finding.hint for finding in found)
        yield from found
        if table in seen.theirs and table in seen.ours:
            yield from _parents(target, table, seen.their_standards[table], seen.our_standards[table], requests)
    yield from _dumper(source) if lacking else ()


def _table(
    source: Session, target: Session, request: Request, seen: Seen, window: str | None
) -> Iterator[Finding]:
    table = request.table
    try:
        if table in seen.theirs and table not in seen.ours and target.endpoint.private:
            fact = "it is not here yet: a pull makes it, with its columns and its key"
            yield note(table, fact, "with --create-missing it gets its indexes and constraints, too")
            with target.connection.transaction():  # which goes on if it cannot be made
                seen = see(source, target, [table], may_make=True)
        # what the server refuses does not end the transaction
        with translated(SOURCE, source.connection), source.connection.transaction():
            objections = list(_objections(source, target, request, seen))
            for error in objections:
                yield problem(table, error)
            if not objections:
                plan = look(source, target, request, seen)
                yield from _planned(plan)
                yield from _window_index(source, plan, window)
    except PlanError as error:
        yield problem(table, error)


def _objections(source: Session, target: Session, request: Request, seen: Seen) -> Iterator[PlanError]:
    """Yield all that stands in the way and can be told without the plan."""
    theirs, ours = seen.theirs.get(request.table), seen.ours.get(request.table)
    if theirs is None:
        yield catalog.missing_table(source, request.table)
    elif ours is None:
        yield catalog.missing_table(target, request.table, theirs)
    else:
        catalog.check_kind(source, theirs)
        catalog.check_kind(target, ours)
        looked = objecting.Looked(theirs, ours, source.identity, target.identity)
        found = list(objecting.objections(request, looked))
        yield from found
        for session in () if found else (source, target):
            yield from _hidden_rows(session, request.table)


def _hidden_rows(session: Session, table: TableName) -> Iterator[PlanError]:
    with translated(session.side, session.connection):
        row = session.connection.execute(questions.HIDES_ROWS, {"table": str(table)}).fetchone()
    if row and row[0]:
        yield PlanError(
            f"row-level security would hide rows of {session.side}'s {table} from {session.identity.role}",
            "connect as a role with BYPASSRLS, or as the table's owner",
        )


def _planned(plan: Plan) -> Iterator[Finding]:
    guess = plan.estimate
    assert guess is not None, "a look ends with the estimate"
    by = f"compared by {', '.join(plan.keys)}" if plan.keys else "without a key"
    yield good(
        plan.table,
        f"{len(plan.columns)} columns, {plan.wire}, {by}; about {guess.rows:,} rows, {guess.bytes:,} bytes,"
        f" found by {plan.access}",
    )
    for text in plan.notes:
        fact, _, statement = text.partition(", run on local: ")
        what, _, why = fact.rpartition("; ")
        yield (
            note(plan.table, what, f"{why}, run on local: {statement}") if statement else note(plan.table, text)
        )
    scope = plan.request.scope
    if (
        scope != replace(scope, window=None, equals=(), where=None)
        and guess.rows < _SMALL_SHARE * plan.source.rows
    ):
        yield from _unindexed(
            plan, [*([scope.window.column] if scope.window else ()), *(n for n, _ in scope.equals)]
        )


def _unindexed(plan: Plan, columns: Sequence[str]) -> Iterator[Finding]:
    if plan.source.rows >= _LARGE and plan.access == "sequential scan":
        column = columns[0] if columns else None
        yield note(
            plan.table,
            f"the server has no index that serves the scope: all of its {plan.source.rows:,} rows are read",
            f"ask for one: CREATE INDEX CONCURRENTLY ON {plan.table} ({column});" if column else "",
        )


def _window_index(source: Session, plan: Plan, window: str | None) -> Iterator[Finding]:
    """Ask how a window on a column would be found that ends, for want of another, now."""
    if window is None:
        return
    scope = replace(plan.request.scope, window=Window(window, since=datetime.now(UTC)))
    objecting.check_scope(scope, plan.source)
    probe = scoping.with_estimate(source, replace(plan, request=replace(plan.request, scope=scope)))
    yield from _unindexed(probe, [window])


def _parents(
    target: Session, table: TableName, theirs: Standards, ours: Standards, pulled: Iterable[TableName]
) -> Iterator[Finding]:
    """Say which tables it refers to that hold nothing here, or are not here."""
    pulled = set(pulled)
    with translated(TARGET, target.connection):
        here = {TableName(*row) for row in target.connection.execute(questions.RELATIONS)}
        for key in theirs.foreign_keys:
            if key.parent not in here and table in here:
                fact = f"it refers to {key.parent}, which is not here"
                yield note(table, fact, f"to have it: pull {key.parent} with --create-missing")
        for parent in sorted({key.parent for key in ours.foreign_keys} - pulled, key=str):
            try:
                row = target.connection.execute(questions.holds_rows(parent)).fetchone()
            except psycopg.errors.InsufficientPrivilege:
                fact = f"it refers to {parent}, which {target.identity.role} may not read here"
                yield note(table, fact, "rows without their parent could not be told apart from the others")
                continue
            if row and not row[0]:
                fact = f"it refers to {parent}, which holds no row here: rows that do so become rejects"
                yield note(table, fact, f"pull {parent} first, or use --with-parents")
