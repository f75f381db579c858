"""Scratch tables in the target's database that an archive's rows are laid out in, to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from psycopg.sql import SQL, Composed, Identifier, Literal

from pgpull.shapes import TableName
from pgpull.sql.parts import name_of

_LOCKS: Final = 0x7067_7061
"""The first number of our advisory locks; the second is the one in a schema's name."""

PREFIX: Final = "pgpull_archive_"

# Ours alone: what another role has left, it will drop itself.
LEFT_OVER: Final = SQL(
    "SELECT nspname FROM pg_namespace JOIN pg_roles ON pg_roles.oid = nspowner"
    r" WHERE nspname ~ '^pgpull_archive_[0-9a-f]{8}(_[0-9]+)?$' AND rolname = current_user"
)

MAY_MAKE: Final = SQL("SELECT has_database_privilege(current_database(), 'CREATE')")

BUILT_IN: Final = SQL("""
    SELECT typname FROM pg_type
     WHERE typnamespace = 'pg_catalog'::regnamespace AND typname = ANY (%(names)s)
""")


def hold(number: int) -> Composed:
    """Say until the session ends that the schemas of a number are in use; tell if nobody else says so."""
    return SQL("SELECT pg_try_advisory_lock({}, {})").format(Literal(_LOCKS), Literal(_signed(number)))


def release(number: int) -> Composed:
    """Take back what :func:`hold` said."""
    return SQL("SELECT pg_advisory_unlock({}, {})").format(Literal(_LOCKS), Literal(_signed(number)))


def _signed(number: int) -> int:
    return number - 2**32 if number >= 2**31 else number


def create_schema(name: str) -> Composed:
    """Make a schema for scratch tables."""
    return SQL("CREATE SCHEMA {}").format(Identifier(name))


def drop_schema(name: str) -> Composed:
    """Drop a schema with its scratch tables."""
    return SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(Identifier(name))


def create(table: TableName, columns: Sequence[tuple[str, str]]) -> Composed:
    """Make a scratch table: no constraint, and nothing of it in the WAL.

    Args:
        table: its name.
        columns: their names and built-in types. Quoted, a type such as ``bit`` has no length.
    """
    defined = (SQL("{} {}").format(Identifier(name), Identifier("pg_catalog", kind)) for name, kind in columns)
    return SQL("CREATE UNLOGGED TABLE {} ({}) WITH (autovacuum_enabled = off)").format(
        name_of(table), SQL(", ").join(defined)
    )


def copy(table: TableName, columns: Sequence[tuple[str, str]]) -> Composed:
    """Take rows into a scratch table that was made in the same transaction: it need not look at them again."""
    named = SQL(" ({})").format(SQL(", ").join(Identifier(name) for name, _ in columns)) if columns else SQL("")
    return SQL("COPY {}{} FROM STDIN (FORMAT csv, FREEZE)").format(name_of(table), named)


def analyze(table: TableName) -> Composed:
    """Let the planner know what a scratch table holds."""
    return SQL("ANALYZE {}").format(name_of(table))
