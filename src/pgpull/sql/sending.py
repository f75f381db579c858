"""What sends rows out of the source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pgpull.plans import Part, Plan
from pgpull.shapes import Column
from pgpull.sql.parts import rows_of, scope_of, verbatim


def select(plan: Plan, part: Part | None = None, before: Sequence[Composable] = ()) -> Composed:
    """Ask for the rows in scope, or in a part of it, and before their columns for something else."""
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


def copy_out(plan: Plan, part: Part | None = None) -> Composed:
    """Send the rows in scope, or in a part of it.

    New rows come oldest first, as the next pull begins at the newest that is here.
    """
    window, order = plan.request.scope.window, Composed([])
    if plan.request.new is not None and window is not None:
        order = SQL(" ORDER BY {}").format(Identifier(window.column))
    return SQL("COPY ({}{}) TO STDOUT (FORMAT {})").format(select(plan, part), order, SQL(plan.wire.value))


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
    return SQL("COPY ({}) TO STDOUT (FORMAT {})").format(select(plan, part, [month]), SQL(plan.wire.value))
