"""Statements that make room for rows which want each other's unique values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from psycopg.sql import SQL, Composed, Identifier

from pgpull.plans import Plan
from pgpull.sql.parts import listed, rows_of, same_key
from pgpull.sql.waiting import waiting

_LIFTED: Final = Identifier("pg_temp", "pgpull_lifted")

DROP: Final = SQL("DROP TABLE IF EXISTS {}").format(_LIFTED)


def park(plan: Plan, columns: Sequence[str]) -> Composed:
    """Let the rows here that others wait to replace give up the values of some columns."""
    return SQL("UPDATE {} AS t SET {} FROM {} AS s WHERE {}").format(
        rows_of(plan.target),
        SQL(", ").join(SQL("{} = NULL").format(Identifier(name)) for name in columns),
        waiting(plan.place),
        same_key(plan.the_key),
    )


def keep_lifted(plan: Plan) -> Composed:
    """Keep the rows here that others wait to replace."""
    return SQL("CREATE TEMP TABLE pgpull_lifted AS SELECT t.* FROM {} AS t WHERE {}").format(
        rows_of(plan.target), _is_waited_for(plan)
    )


def lift(plan: Plan) -> Composed:
    """Take them out of the table, until those are in."""
    return SQL("DELETE FROM {} AS t WHERE {}").format(rows_of(plan.target), _is_waited_for(plan))


def _is_waited_for(plan: Plan) -> Composed:
    return SQL("EXISTS (SELECT FROM {} AS s WHERE {})").format(waiting(plan.place), same_key(plan.the_key))


def give_back(plan: Plan, columns: Sequence[str]) -> Composed:
    """Give the rows what they had in columns that no update touches."""
    return SQL("UPDATE {} AS t SET ({}) = ROW({}) FROM {} AS s WHERE {}").format(
        rows_of(plan.target), listed(columns), listed(columns, "s"), _LIFTED, same_key(plan.the_key)
    )
