"""Questions about a scope: is it understood, what is in it, where can it be cut."""

from __future__ import annotations

from datetime import datetime

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pgpull.model import Scope, Window
from pgpull.plans import Plan
from pgpull.shapes import Column, Shape
from pgpull.sql.parts import condition, instant_of, rows_of, scope_of, verbatim
from pgpull.sql.sending import select


def end_of_stretch(plan: Plan, rows: int) -> Composed:
    """Ask for the last key of so many rows in scope; for none where there are no more than that."""
    keys = plan.keys
    order = SQL(", ").join(map(Identifier, keys))
    scope = scope_of(plan, plan.source)
    return SQL("SELECT {} FROM (SELECT {} FROM {}{} ORDER BY {} LIMIT 2 OFFSET {}) AS s ORDER BY {}").format(
        SQL(", ").join(SQL("{}::text").format(Identifier(name)) for name in keys),
        order,
        rows_of(plan.source),
        scope,
        order,
        rows - 1,
        order,
    )


def cuts(plan: Plan, window: Window, column: Column) -> Composed:
    """Ask for values between which a window holds as many rows each, as far as the statistics know.

    Those of a table with heirs or partitions are kept twice (manual: 53.27, pg_stats).
    """
    scope = condition(Scope(window), plan.source, plan.request.timezone)
    return SQL(
        "SELECT array_agg({column}::text ORDER BY {column})"
        " FROM (SELECT unnest(histogram_bounds::text::{type}[]) FROM pg_stats"
        " WHERE schemaname = {schema} AND tablename = {table} AND attname = {name}"
        " AND inherited = {inherited}) AS bounds ({column}){scope}"
    ).format(
        column=Identifier(window.column),
        type=verbatim(column.type.base),
        schema=Literal((plan.source.stored or plan.table).schema),
        table=Literal((plan.source.stored or plan.table).name),
        name=Literal(window.column),
        inherited=Literal(plan.source.kind == "p"),
        scope=scope,
    )


def probe(scope: Scope, shape: Shape, timezone: str) -> Composed:
    """Ask for no row at all: the parser then says what is wrong with a scope."""
    return SQL("SELECT FROM {}{} LIMIT 0").format(rows_of(shape), condition(scope, shape, timezone))


def probe_alone(where: str, shape: Shape) -> Composed:
    """Ask for no row with a user's condition outside of any parentheses: it may not close ours."""
    return SQL("SELECT FROM {} WHERE {}\n LIMIT 0").format(rows_of(shape), verbatim(where))


def explain(plan: Plan) -> Composed:
    """Ask the planner for its estimate; never ANALYZE, which would run the query."""
    return SQL("EXPLAIN (FORMAT JSON) ") + select(plan)


def any_row(shape: Shape, scope: Scope, timezone: str) -> Composed:
    """Ask whether the table holds a row in scope."""
    scoped = condition(scope, shape, timezone)
    return SQL("SELECT EXISTS (SELECT FROM {}{})").format(rows_of(shape), scoped)


def any_row_at_all(plan: Plan) -> Composed:
    """Ask whether the target has any row, in scope or not."""
    return SQL("SELECT EXISTS (SELECT FROM {})::integer").format(rows_of(plan.target))


def scope_condition(plan: Plan) -> Composable:
    """Return the scope on the source as a condition."""
    scope = scope_of(plan, plan.source)
    return SQL("true AND ") + SQL(scope.as_string(None).removeprefix(" WHERE ") or "true")


def newest(shape: Shape, scope: Scope, timezone: str, now: datetime) -> Composed:
    """Ask for the newest value of the window's column in scope up to now, spelled as an instant in UTC.

    A row of the future would keep all rows of today out.
    """
    assert scope.window is not None, "who asks for the newest row has a window"
    column = Identifier(scope.window.column)
    instant = SQL("max({})").format(column)
    found = shape.column(scope.window.column)
    if found and found.type.base != "timestamptz":
        instant = SQL("max({})::timestamp AT TIME ZONE {}").format(column, Literal(timezone))
    # a calendar begins where Python's does
    real = SQL("{} BETWEEN '0001-01-03' AND {}").format(column, instant_of(now, found, timezone))
    return SQL(
        """SELECT to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US+00:00') FROM {}{}"""
    ).format(instant, rows_of(shape), condition(scope, shape, timezone, [real]))
