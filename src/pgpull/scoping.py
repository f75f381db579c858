"""What a database makes of a scope: whether it understands it, how many rows are in it, and where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import psycopg
from psycopg.sql import Composed

from pgpull.diagnosis import INSUFFICIENT_PRIVILEGE, translated
from pgpull.errors import PlanError
from pgpull.model import Request, Scope, Window
from pgpull.plans import Estimate, Plan
from pgpull.sessions import Session
from pgpull.shapes import Shape
from pgpull.sql import catalog as questions
from pgpull.sql import scoping as sql
from pgpull.sql.parts import condition


def check_condition(session: Session, scope: Scope, shape: Shape, timezone: str) -> None:
    """Let a database's parser judge a scope, without reading a row.

    The extended protocol takes one statement only, so no condition can smuggle in a second one.

    Raises:
        PlanError: it refuses the condition.
    """
    with translated(session.side, session.connection):
        try:
            session.connection.execute(sql.probe(scope, shape, timezone), binary=True)
            if scope.where:
                session.connection.execute(sql.probe_alone(scope.where, shape), binary=True)
        except (psycopg.DataError, psycopg.ProgrammingError) as error:
            if error.sqlstate == INSUFFICIENT_PRIVILEGE:
                raise
            raise PlanError(
                f"{session.side} does not take the condition: {error.diag.message_primary} ({error.sqlstate})",
                f"the condition was: {_written(condition(scope, shape, timezone))}",
            ) from error


def _written(condition: Composed) -> str:
    return " ".join(condition.as_string(None).removeprefix(" WHERE ").split())


def understands(session: Session, scope: Scope, shape: Shape, timezone: str) -> bool:
    """Tell whether a database can tell which of its rows are in a scope.

    Raises:
        ConnectionLost: the connection went away.
    """
    try:
        with translated(session.side, session.connection), session.connection.transaction():
            check_condition(session, scope, shape, timezone)
    except PlanError:
        return False
    return True


def newest(session: Session, shape: Shape, request: Request, now: datetime) -> datetime | None:
    """Return the newest value of the window's column in scope up to now, as an instant, or None.

    Raises:
        PlanError: the database does not understand the scope.
        ConnectionLost: the connection went away.
    """
    check_condition(session, request.scope, shape, request.timezone)
    with translated(session.side, session.connection):
        row = session.connection.execute(sql.newest(shape, request.scope, request.timezone, now)).fetchone()
    return datetime.fromisoformat(row[0]) if row and row[0] else None


def holds_rows(session: Session, shape: Shape, scope: Scope, timezone: str) -> bool:
    """Tell whether the table holds a row that a pulled one could meet.

    A free condition is the server's to judge: it may name tables that only the server has, and a filter may
    not suit a local column. Then any row counts.

    Raises:
        ConnectionLost: the connection went away.
    """
    with translated(session.side, session.connection):
        try:
            with session.connection.transaction():
                return _any_row(session.connection, sql.any_row(shape, replace(scope, where=None), timezone))
        except (psycopg.DataError, psycopg.ProgrammingError):
            return _any_row(session.connection, sql.any_row(shape, Scope(), timezone))


def _any_row(connection: psycopg.Connection, question: Composed) -> bool:
    row = connection.execute(question).fetchone()
    return bool(row and row[0])


def with_estimate(session: Session, plan: Plan) -> Plan:
    """Return the plan with the source planner's guess at the rows and bytes in scope.

    Raises:
        PlanError: the server refuses the query (a privilege, a row-level policy).
        ConnectionLost: the connection went away.
    """
    if _flows(session, plan):
        return _as_archived(session, plan)
    with translated(session.side, session.connection):
        return _with_estimate(plan, session.connection.execute(sql.explain(plan)).fetchone())


def with_estimates(session: Session, plans: Sequence[Plan]) -> list[Plan]:
    """Return some plans with the source planner's guesses, which are waited for together.

    Raises:
        PlanError: the server refuses one of the queries.
        ConnectionLost: the connection went away.
    """
    connection = session.connection
    with translated(session.side, connection), connection.pipeline():
        asked = [None if _flows(session, plan) else connection.execute(sql.explain(plan)) for plan in plans]
        return [
            _with_estimate(plan, cursor.fetchone()) if cursor else _as_archived(session, plan)
            for plan, cursor in zip(plans, asked, strict=True)
        ]


def _flows(session: Session, plan: Plan) -> bool:
    return session.substitute is not None and session.substitute.flows(plan.table)


def _as_archived(session: Session, plan: Plan) -> Plan:
    """Return the plan with what the archive says there is, which is more than a guess."""
    assert session.substitute is not None
    archived = session.substitute.table(plan.table)
    size = sum(file.size for file in archived.files)
    return replace(plan, estimate=Estimate(archived.rows, size), access="the archive's files")


def _with_estimate(plan: Plan, explained: tuple[Any, ...] | None) -> Plan:
    assert explained is not None
    top = explained[0][0]["Plan"]
    rows = top["Plan Rows"]
    return replace(plan, estimate=Estimate(rows, rows * top["Plan Width"]), access=_access(top))


def extent_of(session: Session, shape: Shape) -> tuple[int, int]:
    """Return how many pages a table has at most in one file, and how many bytes in all.

    Raises:
        ConnectionLost: the connection went away.
    """
    table = str(shape.stored or shape.table)
    with translated(session.side, session.connection):
        row = session.connection.execute(questions.EXTENT, {"table": table}).fetchone()
    assert row is not None
    return row[0] or 0, row[1] or 0


def cuts_of(source: Session, plan: Plan, window: Window) -> Sequence[str]:
    """Return values, in order, between which a window holds about as many rows each; none if nobody knows.

    Raises:
        ConnectionLost: the connection went away.
    """
    column = plan.source.column(window.column)
    assert column is not None, "the planner has seen it"
    with translated(source.side, source.connection):
        row = source.connection.execute(sql.cuts(plan, window, column)).fetchone()
    cuts = row[0] or () if row else ()
    # of a SQL_ASCII database, the driver takes text for bytes
    return [cut.decode("ascii") if isinstance(cut, bytes) else cut for cut in cuts]


def _access(node: dict[str, Any]) -> str:
    """Say how the rows are found, after the plan's scans."""
    scans = sorted(set(_scans(node)))
    return ", ".join(scans) or str(node["Node Type"]).lower()


def _scans(node: dict[str, Any]) -> Iterator[str]:
    if "Index Name" in node:
        yield f"index {node['Index Name']}"
    elif node["Node Type"] == "Seq Scan":
        yield "sequential scan"
    for child in node.get("Plans", ()):
        yield from _scans(child)
