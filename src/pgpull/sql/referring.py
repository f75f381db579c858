"""Conditions of foreign keys: whether a row refers to another, and whether it lacks what it refers to."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg.sql import SQL, Composable, Composed, Identifier

from pgpull.shapes import Referring, TableName
from pgpull.sql.parts import listed, name_of


def refers(key: Referring, child: str, parent: str) -> Composed:
    """The condition that one row refers to another; by periods, that it is one of those it refers to.

    Args:
        key: by which.
        child: the alias of the row that refers.
        parent: the alias of the other.
    """
    operators = ["="] * (len(key.columns) - 1) + ["&&" if key.of_periods else "="]
    return SQL(" AND ").join(
        SQL("{} {} {}").format(Identifier(child, own), SQL(operator), Identifier(parent, other))
        for own, operator, other in zip(key.columns, operators, key.referred, strict=True)
    )


def filled(key: Referring, child: str) -> Composed:
    """The condition that a row refers to any other: one with a NULL does not (MATCH SIMPLE)."""
    return SQL(" AND ").join(SQL("{} IS NOT NULL").format(Identifier(child, name)) for name in key.columns)


def lacks(key: Referring, child: str, parents: Iterable[Composable]) -> Composed:
    """The condition that what a row refers to is in none of some tables.

    A period may lie in those of several parents together, in whatever table they are, and is asked for as the
    foreign key's own trigger does (ri_triggers.c, RI_FKey_check).

    Args:
        key: by which it refers.
        child: the alias of the row.
        parents: the tables, as they stand in a FROM.
    """
    if not key.of_periods:
        return SQL(" AND ").join(
            SQL("NOT EXISTS (SELECT FROM {} AS p WHERE {})").format(table, refers(key, child, "p"))
            for table in parents
        )
    all_of_them = SQL(" UNION ALL ").join(
        SQL("SELECT {} FROM {} AS p").format(listed(key.referred, "p"), table) for table in parents
    )
    return SQL("(SELECT {} <@ range_agg({}) FROM ({}) AS p WHERE {}) IS NOT TRUE").format(
        Identifier(child, key.columns[-1]),
        Identifier("p", key.referred[-1]),
        all_of_them,
        refers(key, child, "p"),
    )


def with_parts(table: TableName, kind: str) -> Composable:
    """A table at one end, with its partitions; those that inherit have keys of their own.

    Args:
        table: which.
        kind: its ``pg_class.relkind``.
    """
    return (SQL("") if kind == "p" else SQL("ONLY ")) + name_of(table)
