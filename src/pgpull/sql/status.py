"""What is counted: the rows of a side, day by day."""

from __future__ import annotations

from psycopg.sql import SQL, Composed, Identifier, Literal

from pgpull.model import Scope
from pgpull.shapes import Column, Shape
from pgpull.sql.parts import condition, rows_of, verbatim


def count_by_day(shape: Shape, scope: Scope, column: Column, timezone: str) -> Composed:
    """Count the rows in scope by the day of a column, with the newest value of each day.

    A day is its distance from 1970-01-01, as not every date of a database is one of the client's; an infinite
    date has none, and neither has a row without a date. A column without a time zone holds wall-clock times,
    whose days are what they are.
    """
    zoned = SQL(" AT TIME ZONE {}").format(Literal(timezone)) if column.type.base == "timestamptz" else SQL("")
    return SQL("""
        SELECT CASE WHEN isfinite(moment) THEN (moment{zoned})::date - date '1970-01-01' END,
               moment IS NULL,
               count(*),
               max(moment)::text
          FROM (SELECT {column}::{kind} AS moment FROM {rows}{scope}) AS r
         GROUP BY 1, 2
    """).format(
        zoned=zoned,
        column=Identifier(column.name),
        kind=verbatim(column.type.base),
        rows=rows_of(shape),
        scope=condition(scope, shape, timezone),
    )
