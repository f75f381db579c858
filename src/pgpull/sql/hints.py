"""Statements that a hint tells the user to run; the first also makes a table in a private Postgres."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

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


def add_columns(table: TableName, columns: Sequence[Column]) -> Composed:
    """Add columns that one side lacks."""
    return SQL("ALTER TABLE {} {};").format(name_of(table), SQL(", ").join(map(_added, columns)))


def _added(column: Column) -> Composed:
    return SQL("ADD COLUMN {} {}").format(Identifier(column.name), verbatim(column.type.name))


def change_type(table: TableName, column: Column) -> Composed:
    """Give a column the type it has on the other side."""
    name = Identifier(column.name)
    return SQL("ALTER TABLE {0} ALTER COLUMN {1} TYPE {2} USING {1}::text::{2};").format(
        name_of(table), name, verbatim(column.type.name)
    )


def drop_not_null(table: TableName, column: Column, held_by: Sequence[str] = ()) -> Composed:
    """Let a column be empty, for which the constraints have to go that hold it."""
    actions = [SQL("DROP CONSTRAINT {}").format(Identifier(name)) for name in held_by]
    actions.append(SQL("ALTER COLUMN {} DROP NOT NULL").format(Identifier(column.name)))
    return SQL("ALTER TABLE {} {};").format(name_of(table), SQL(", ").join(actions))


def add_key(shape: Shape, key: Key, model: Shape) -> Composed:
    """Give a table its model's key, and the columns for it; the primary key of one that has another stays."""
    lacking = [
        column for column in model.columns if column.name in key.columns and not shape.column(column.name)
    ]
    actions = [*map(_added, lacking)]
    if any(own.primary for own in shape.keys):
        actions += [SQL("ALTER COLUMN {} SET NOT NULL").format(Identifier(name)) for name in key.columns]
        actions.append(SQL("ADD UNIQUE ({})").format(listed(key.columns)))
    else:
        actions.append(SQL("ADD PRIMARY KEY ({})").format(listed(key.columns)))
    return SQL("ALTER TABLE {} {};").format(name_of(shape.table), SQL(", ").join(actions))


def drop_constraint(table: TableName, name: str) -> Composed:
    """Lift a constraint."""
    return SQL("ALTER TABLE {} DROP CONSTRAINT {};").format(name_of(table), Identifier(name))


def drop_index(table: TableName, name: str) -> Composed:
    """Lift a unique index, which lives in its table's schema."""
    return SQL("DROP INDEX {};").format(Identifier(table.schema, name))


def create_enum(name: TableName, labels: Sequence[str]) -> Composed:
    """Make an enum type."""
    return SQL("CREATE TYPE {} AS ENUM ({});").format(name_of(name), SQL(", ").join(map(Literal, labels)))


def add_labels(name: TableName, theirs: Sequence[str], ours: Sequence[str]) -> Composed:
    """Add the labels that an enum type lacks, each where the other side has it."""
    statements = []
    for place, label in enumerate(theirs):
        if label in ours:
            continue
        where: Composable = SQL("")
        if place:
            where = SQL(" AFTER {}").format(Literal(theirs[place - 1]))
        elif ours:
            where = SQL(" BEFORE {}").format(Literal(ours[0]))
        statements.append(SQL("ALTER TYPE {} ADD VALUE {}{};").format(name_of(name), Literal(label), where))
    return SQL(" ").join(statements)


def grant(privileges: Sequence[str], table: TableName, role: str) -> Composed:
    """Let a role do what it may not."""
    return SQL("GRANT USAGE ON SCHEMA {} TO {}; GRANT {} ON {} TO {};").format(
        Identifier(table.schema),
        Identifier(role),
        verbatim(", ".join(privileges)),
        name_of(table),
        Identifier(role),
    )


def let_monitor(role: str) -> Composed:
    """Let a role see what other sessions do (manual: 21.5, Predefined Roles)."""
    return SQL("GRANT pg_monitor TO {};").format(Identifier(role))


def grant_columns(columns: Sequence[str], table: TableName, role: str) -> Composed:
    """Let a role read columns that it may not."""
    return SQL("GRANT SELECT ({}) ON {} TO {};").format(listed(columns), name_of(table), Identifier(role))
