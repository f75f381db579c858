"""Every SQL statement that pgpull sends, as functions from values to psycopg compositions.

Nothing here runs anything, and no other package holds SQL words. What every pull says to its two sides stands
here; questions about tables, comparing, rehearsing and the rest have rooms of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pgpull.model import Scope, Window
from pgpull.plans import Part, Plan, Wire
from pgpull.shapes import Column, OwnedSequence, Shape, Trigger
from pgpull.sql.parts import condition, instant_of, listed, name_of, rows_of, same_key, scope_of, verbatim

# --- a session's settings --------------------------------------------------------------------------------


def pin(settings: Mapping[str, str], *, in_transaction: bool) -> Composed:
    """Set each setting, for this transaction alone or for the session."""
    calls = (
        SQL("set_config({}, {}, {})").format(Literal(name), Literal(value), Literal(in_transaction))
        for name, value in settings.items()
    )
    return SQL("SELECT ") + SQL(", ").join(calls)


def name_session(name: str) -> Composed:
    """Say who asks, for this transaction."""
    return pin({"application_name": name}, in_transaction=True)


def pin_where_unlimited(settings: Mapping[str, str]) -> Composed:
    """Set each timeout for this transaction, unless the server has its own, which stays, or knows of none."""
    calls = (
        SQL("CASE WHEN current_setting({0}, true) = '0' THEN set_config({0}, {1}, true) END").format(
            Literal(name), Literal(value)
        )
        for name, value in settings.items()
    )
    return SQL("SELECT ") + SQL(", ").join(calls)


# So that a query, and an idle transaction, end soon after we do. Only a system that can tell that a client is
# gone takes another value than 0; of Linux it is known (WaitEventSetCanReportClosed). Its own wait is long.
CHECK_ON_US: Final = SQL("""
    SELECT CASE WHEN current_setting('client_connection_check_interval', true) = '0'
                THEN set_config('client_connection_check_interval', '10s', true) END,
           CASE WHEN current_setting('tcp_keepalives_idle')::int > 60
                THEN set_config('tcp_keepalives_idle', '60', true) END,
           CASE WHEN current_setting('tcp_keepalives_interval')::int > 10
                THEN set_config('tcp_keepalives_interval', '10', true) END
     WHERE version() LIKE '%linux%'
""")


# It compresses several times as fast as pglz (manual: 19.11.1, default_toast_compression). Columns that name a
# method of their own keep it, and so does a database or a role that was given one.
PREFER_LZ4: Final = SQL("""
    SELECT set_config(name, 'lz4', false) FROM pg_settings
     WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals) AND source = 'default'
""")


# --- to the source ---------------------------------------------------------------------------------------

SHARE: Final = SQL("SELECT pg_export_snapshot()")


# libpq takes as much off the line at once as its buffer has room for: 16 kB, until a wider message has come
# (PostgreSQL's source: fe-misc.c, pqReadData).
WIDE_MESSAGE: Final = SQL("SELECT repeat(' ', 100000)")


def see(snapshot: str) -> Composed:
    """See what the transaction sees that shared its snapshot; to be said before anything is asked."""
    return SQL("SET TRANSACTION SNAPSHOT {}").format(Literal(snapshot))


def _select(plan: Plan, part: Part | None = None, before: Sequence[Composable] = ()) -> Composed:
    more = [_in_part(part)] if part else []
    scope = scope_of(plan, plan.source, *more)
    chosen = SQL(", ").join([*before, *map(Identifier, plan.columns)])
    return SQL("SELECT {} FROM {}").format(chosen, rows_of(plan.source)) + scope


def _in_part(part: Part) -> Composed:
    ends = [(SQL(">="), part.first), (SQL("<"), part.end)]
    return SQL(" AND ").join(
        SQL("{} {} {}::{}").format(Identifier(part.column), sign, Literal(value), verbatim(part.type))
        for sign, value in ends
        if value is not None
    )


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
    return SQL("EXPLAIN (FORMAT JSON) ") + _select(plan)


def copy_out(plan: Plan, part: Part | None = None) -> Composed:
    """Send the rows in scope, or in a part of it.

    New rows come oldest first, as the next pull begins at the newest that is here.
    """
    window, order = plan.request.scope.window, Composed([])
    if plan.request.new is not None and window is not None:
        order = SQL(" ORDER BY {}").format(Identifier(window.column))
    return SQL("COPY ({}{}) TO STDOUT (FORMAT {})").format(_select(plan, part), order, SQL(plan.wire.value))


NO_MONTH: Final = "0000-00"
"""In place of the month, where a time is not known, infinite, or in a year before 1 or after 9999."""


def copy_by_month(plan: Plan, column: Column, part: Part | None = None) -> Composed:
    """Send the rows in scope, or in a part of it, each after its month and a comma, which together are 8 bytes.

    Args:
        plan: whose wire is CSV.
        column: which holds times; those with a zone have their month in UTC.
        part: of the scope.
    """
    name = Identifier(column.name)
    month = SQL(
        "CASE WHEN isfinite({name}) AND {name} >= {first} AND {name} < {end}"
        " THEN to_char({time}, 'YYYY-MM') ELSE {none} END"
    ).format(
        name=name,
        first=SQL("'0001-01-01'::{}").format(verbatim(column.type.base)),
        end=SQL("'10000-01-01'::{}").format(verbatim(column.type.base)),
        time=SQL("{} AT TIME ZONE 'UTC'" if column.type.base == "timestamptz" else "{}::timestamp").format(
            name
        ),
        none=Literal(NO_MONTH),
    )
    return SQL("COPY ({}) TO STDOUT (FORMAT {})").format(_select(plan, part, [month]), SQL(plan.wire.value))


# --- to the target ---------------------------------------------------------------------------------------

STAGE: Final = Identifier("pg_temp", "pgpull_stage")

SPELL: Final = b"SELECT $1::text"

CHECK_CONSTRAINTS_NOW: Final = SQL("SET CONSTRAINTS ALL IMMEDIATE")


# A stage of an earlier pass, whose columns may have been others.
DROP_STAGE: Final = SQL("DROP TABLE IF EXISTS {}").format(STAGE)


EMPTY_STAGE: Final = SQL("TRUNCATE {}").format(STAGE)

CURRENT_TRANSACTION: Final = SQL("SELECT txid_current_if_assigned()")


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


def create_stage(plan: Plan) -> Composed:
    """Make the stage: the target's columns and types, none of its constraints, emptied by each commit."""
    return SQL("CREATE TEMP TABLE {} ON COMMIT DELETE ROWS AS SELECT {} FROM {} WITH NO DATA").format(
        Identifier("pgpull_stage"), listed(plan.columns), rows_of(plan.target)
    )


def _copy_in(target: Composable, columns: Sequence[str], wire: Wire) -> Composed:
    named = SQL("({}) ").format(listed(columns)) if columns else SQL("")  # an empty list is no list
    return SQL("COPY {} {}FROM STDIN (FORMAT {})").format(target, named, SQL(wire.value))


def copy_straight(plan: Plan) -> Composed:
    """Take rows straight into the table."""
    return _copy_in(name_of(plan.table), plan.columns, plan.wire)


def copy_to_stage(plan: Plan) -> Composed:
    """Take rows into the stage."""
    return _copy_in(STAGE, plan.columns, plan.wire)


def insert_missing(plan: Plan, stage: Composable = STAGE) -> Composed:
    """Insert the staged rows whose key the target does not have; all of them, where there is no key.

    Asking first leaves defaults and sequences of existing rows alone; ON CONFLICT passes over a row that
    somebody else inserted in between.
    """
    if plan.key is None:
        return SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} AS s").format(
            name_of(plan.table), listed(plan.columns), listed(plan.columns, "s"), stage
        )
    key = plan.key
    arbiter = SQL(" ON CONFLICT ({}) DO NOTHING").format(listed(key.columns))
    return SQL(
        "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {staged} FROM {stage} AS s"
        " WHERE NOT EXISTS (SELECT FROM {rows} AS t WHERE {same_key}){arbiter}"
    ).format(
        table=name_of(plan.table),
        columns=listed(plan.columns),
        staged=listed(plan.columns, "s"),
        stage=stage,
        rows=rows_of(plan.target),
        same_key=same_key(key),
        arbiter=Composed([]) if key.deferrable else arbiter,
    )


def update_changed(plan: Plan, stage: Composable = STAGE) -> Composed:
    """Update the rows that the stage has another value for.

    ``*<>`` compares the stored bytes of two records (manual: 9.25.6, Composite Type Comparison). It needs no
    equality of the types, so json and point can be compared, and it sees what equality does not: jsonb 1.0
    and 1.00, a numeric's scale, minus zero, letter case in citext.
    """
    return SQL(
        "UPDATE {rows} AS t SET {values} FROM {stage} AS s"
        " WHERE {same_key} AND ROW({ours})::record *<> ROW({theirs})::record"
    ).format(
        rows=rows_of(plan.target),
        values=SQL(", ").join(
            SQL("{} = {}").format(Identifier(name), Identifier("s", name)) for name in plan.updated
        ),
        stage=stage,
        same_key=same_key(plan.the_key),
        ours=listed(plan.updated, "t"),
        theirs=listed(plan.updated, "s"),
    )


def disable_trigger(trigger: Trigger) -> Composed:
    """Keep a trigger from firing; undone in the same transaction."""
    return SQL("ALTER TABLE {} DISABLE TRIGGER {}").format(_that_has(trigger), Identifier(trigger.name))


def enable_trigger(trigger: Trigger) -> Composed:
    """Put a trigger back as it stood."""
    how = SQL("ENABLE ALWAYS") if trigger.enabled == "A" else SQL("ENABLE")
    return SQL("ALTER TABLE {} {} TRIGGER {}").format(_that_has(trigger), how, Identifier(trigger.name))


def _that_has(trigger: Trigger) -> Composable:
    return SQL("ONLY {}").format(name_of(trigger.table)) if trigger.alone else name_of(trigger.table)


def advance(sequence: OwnedSequence, shape: Shape) -> Composed:
    """Move a sequence up to its column's largest value (down, if it counts down); never back."""
    return SQL("""
        SELECT setval(s.seqrelid::regclass, top.value)
          FROM pg_sequence AS s
         CROSS JOIN {sequence} AS now
         CROSS JOIN LATERAL (      -- two plain aggregates: an index on the column answers either
                SELECT (CASE WHEN s.seqincrement > 0 THEN (SELECT max({column}) FROM {rows})
                             ELSE (SELECT min({column}) FROM {rows}) END)::bigint AS value) AS top
         WHERE s.seqrelid = {literal}::regclass
           AND top.value BETWEEN s.seqmin AND s.seqmax
           AND (   sign(s.seqincrement) * (top.value - now.last_value) > 0
                OR (top.value = now.last_value AND NOT now.is_called))
    """).format(
        literal=Literal(str(sequence.name)),
        column=Identifier(sequence.column),
        rows=rows_of(shape),
        sequence=name_of(sequence.name),
    )
