"""Statements that a hint tells the user to run; the first also makes a table in a private Postgres."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.sql import SQL, Composed, Identifier

from pgpull.shapes import Column, Key, Shape, TableName
from pgpull.sql.parts import listed, name_of, verbatim


def create_table(shape: Shape) -> Composed:
    """Make a table that takes another table's rows: its columns and its key, nothing else."""
    lines = [
        SQL("{} {}{}").format(
            Identifier(column.name),
            verbatim(column.type.name),
            SQL(" NOT NULL") if column.not_null else SQL(""),
        )
        for column in shape.columns
    ]
    if shape.keys:
        lines.append(SQL("PRIMARY KEY ({})").format(listed(shape.keys[0].columns)))
    return SQL("CREATE SCHEMA IF NOT EXISTS {}; CREATE TABLE {} ({});").format(
        Identifier(shape.table.schema), name_of(shape.table), SQL(", ").join(lines)
    )


def add_column(table: TableName, column: Column) -> Composed:
    """Add a column that one side lacks."""
    return SQL("ALTER TABLE {} ADD COLUMN {} {};").format(
        name_of(table), Identifier(column.name), verbatim(column.type.name)
    )


def change_type(table: TableName, column: Column) -> Composed:
    """Give a column the type it has on the other side."""
    name = Identifier(column.name)
    return SQL("ALTER TABLE {0} ALTER COLUMN {1} TYPE {2} USING {1}::text::{2};").format(
        name_of(table), name, verbatim(column.type.name)
    )


def drop_not_null(table: TableName, column: Column) -> Composed:
    """Let a column be empty that the other side does not have."""
    return SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL;").format(name_of(table), Identifier(column.name))


def add_key(table: TableName, key: Key) -> Composed:
    """Make columns the table's primary key."""
    return SQL("ALTER TABLE {} ADD PRIMARY KEY ({});").format(name_of(table), listed(key.columns))


def grant(privileges: Sequence[str], table: TableName, role: str) -> Composed:
    """Let a role do what it may not."""
    return SQL("GRANT USAGE ON SCHEMA {} TO {}; GRANT {} ON {} TO {};").format(
        Identifier(table.schema),
        Identifier(role),
        verbatim(", ".join(privileges)),
        name_of(table),
        Identifier(role),
    )
