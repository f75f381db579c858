"""What statements are made of: names, lists, and the conditions of a scope."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pgpull.model import Scope, Stretch, Window
from pgpull.plans import Plan
from pgpull.shapes import Column, Key, Shape, TableName

# --- names and lists -------------------------------------------------------------------------------------


def name_of(table: TableName) -> Identifier:
    """The table's qualified name."""
    return Identifier(table.schema, table.name)


def rows_of(shape: Shape) -> Composed:
    """The table in a FROM or UPDATE: its own rows, not those of tables that inherit from it.

    Where columns are masked, it is a subselect that has the masks in their place, so that nothing else can be
    read. The planner takes such a one apart (prepjointree.c, is_simple_subquery): what is not asked for is not
    computed, and indexes and ranges of pages serve conditions on the other columns.
    """
    rows = (SQL("") if shape.kind == "p" else SQL("ONLY ")) + name_of(shape.stored or shape.table)
    if not shape.masks:
        return rows
    masks, alias = dict(shape.masks), Identifier(shape.table.name)
    columns = [
        SQL("{} AS {}").format(verbatim(masks[column.name]), Identifier(column.name))
        if column.name in masks
        else Identifier(column.name)
        for column in shape.columns
        if column.readable or column.name in masks
    ]
    # who may read some columns alone may read none of the system's
    inner = SQL(", ").join([*([SQL("ctid, xmin")] if shape.heap else []), *columns])
    return SQL("(SELECT {} FROM {} AS {}) AS {}").format(inner, rows, alias, alias)


def named(tables: Iterable[TableName]) -> dict[str, list[str]]:
    """Tables as the parameters of a question about several: ``schemas`` and ``names``."""
    each = [*tables]
    return {"schemas": [table.schema for table in each], "names": [table.name for table in each]}


def listed(names: Iterable[str], prefix: str = "") -> Composed:
    """Column names with commas between, those of one row of a join if ``prefix`` names it."""
    return SQL(", ").join(Identifier(prefix, name) if prefix else Identifier(name) for name in names)


def same_key(key: Key) -> Composed:
    """The condition that the target's row ``t`` and the other's row ``s`` have one key."""
    return SQL(" AND ").join(
        SQL("{} = {}").format(Identifier("t", name), Identifier("s", name)) for name in key.columns
    )


def is_here(plan: Plan) -> Composed:
    """The condition that the target has a row with the key of the other's row ``s``."""
    return SQL("EXISTS (SELECT FROM {} AS t WHERE {})").format(rows_of(plan.target), same_key(plan.the_key))


def verbatim(text: str) -> SQL:
    """Take a user's own SQL, or a type's name as the catalog writes it."""
    return SQL(text)


def quoted_text(value: str) -> str:
    """Spell a text so that it is one value, whatever stands beside it: quoted, and in parentheses.

    Without them a quote would join what is quoted before it, and a word such as ``E`` would change its meaning.
    """
    return f"({Literal(value).as_string(None).strip()})"


# --- the scope -------------------------------------------------------------------------------------------


def instant_of(instant: datetime, column: Column | None, timezone: str) -> Composed:
    """An end of a window, typed so that the column's own index can serve it.

    A column without a time zone holds wall-clock times: those of the timezone the user named. Left untyped,
    a literal compared with a date would lose its time of day.
    """
    if column is None or column.type.base == "timestamptz":
        return SQL("{}::timestamptz").format(Literal(instant.isoformat()))
    wall_clock = instant.astimezone(ZoneInfo(timezone)).replace(tzinfo=None)
    return SQL("{}::timestamp").format(Literal(wall_clock.isoformat()))


def _within(window: Window, shape: Shape, timezone: str) -> Iterable[Composed]:
    column = shape.column(window.column)
    name = Identifier(window.column)
    if window.since is not None:
        yield SQL("{} >= {}").format(name, instant_of(window.since, column, timezone))
    if window.until is not None:
        yield SQL("{} < {}").format(name, instant_of(window.until, column, timezone))


def _between(stretch: Stretch, shape: Shape) -> Iterable[Composed]:
    columns = [column for name in stretch.columns if (column := shape.column(name))]
    for sign, key in ((SQL(">"), stretch.after), (SQL("<="), stretch.last)):
        if key is not None:
            values = (
                SQL("{}::{}").format(Literal(value), verbatim(column.type.widest))
                for value, column in zip(key, columns, strict=True)
            )
            yield SQL("({}) {} ({})").format(listed(stretch.columns), sign, SQL(", ").join(values))


def _filters(scope: Scope, shape: Shape, timezone: str) -> Iterable[Composable]:
    if scope.window:
        yield from _within(scope.window, shape, timezone)
    for name, value in scope.equals:
        # an untyped literal takes the column's type, whatever that is
        yield SQL("{} = {}").format(Identifier(name), Literal(value))
    if scope.stretch:
        yield from _between(scope.stretch, shape)
    if scope.where:
        # the line break ends a comment that the user's text may end with
        yield SQL("(") + verbatim(scope.where) + SQL("\n)")


def condition(scope: Scope, shape: Shape, timezone: str, more: Iterable[Composable] = ()) -> Composed:
    """Return the scope, and whatever more is asked of a row, as `` WHERE ...``, or nothing for all rows."""
    filters = [*_filters(scope, shape, timezone), *more]
    return SQL(" WHERE ") + SQL(" AND ").join(filters) if filters else Composed([])


def scope_of(plan: Plan, shape: Shape, *more: Composable) -> Composed:
    """Return the WHERE clause of a plan's scope on either side; nothing where there is nothing to narrow.

    Args:
        plan: has the scope.
        shape: of the side that is asked.
        more: further conditions.
    """
    return condition(plan.request.scope, shape, plan.request.timezone, more)


def count_in_scope(plan: Plan, shape: Shape) -> Composed:
    """Count a side's rows in scope."""
    return SQL("SELECT count(*) FROM {}{}").format(rows_of(shape), scope_of(plan, shape))


def outside(scope: Scope, shape: Shape, timezone: str) -> Composed:
    """Return the condition that a row is not in scope, as `` WHERE ...``."""
    filters = [*_filters(scope, shape, timezone)] or [SQL("true")]
    return SQL(" WHERE (") + SQL(" AND ").join(filters) + SQL(") IS NOT TRUE")


def young(horizon: int) -> Composed:
    """The rows that a transaction wrote which was not over when the one of that number was the oldest.

    Ages are counted on a circle of 2^32 transactions (manual: 24.1.5, Preventing Transaction ID Wraparound
    Failures): a row that is older than half of it looks young, which costs time and nothing else.
    """
    return SQL("age(xmin) <= age({}::xid)").format(Literal(str(horizon % 2**32)))
