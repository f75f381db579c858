"""Ask a live database for the shape of a table, for an estimate, and whether a scope makes sense."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import psycopg
import sqlalchemy
from psycopg.sql import Composed

from pgpull import sql
from pgpull.diagnosis import translated
from pgpull.errors import PlanError
from pgpull.model import Estimate, Plan, Request, Scope
from pgpull.sessions import Session
from pgpull.shapes import (
    Column,
    ColumnType,
    ForeignKey,
    Key,
    OwnedSequence,
    Reference,
    Rules,
    Shape,
    TableName,
    Trigger,
    UniqueRule,
)
from pgpull.sql import catalog as questions
from pgpull.sql import hints, rehearsing
from pgpull.sql.parts import condition

_NO_PRIVILEGE = "42501"

_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "c": "a type"}


def shape_of(session: Session, table: TableName) -> Shape | None:
    """Return what a database says about a table, or None where it has no such table.

    Raises:
        PlanError: the name is not a table's but a view's, a foreign table's, or the like.
        ConnectionLost: the connection went away.
    """
    with translated(session.side, session.connection):
        found = session.connection.execute(
            questions.TABLE, {"schema": table.schema, "name": table.name}
        ).fetchone()
        if found is None:
            return None
        oid, kind, owned, privileges, has_heirs = found
        if kind not in ("r", "p"):
            raise PlanError(
                f"{session.side}'s {table} is {_KINDS.get(kind, 'not a table')}, not a table",
                "name the table that the rows are stored in",
            )
        shape = _shape(session.connection, table, oid, kind)
        return replace(shape, owned=owned, privileges=frozenset(privileges), has_heirs=has_heirs)


def _shape(connection: psycopg.Connection, table: TableName, oid: int, kind: str) -> Shape:
    of_table = {"oid": oid}
    columns = [
        Column(
            name, ColumnType(*kind_of), not_null, has_default and not generated, generated, identity, readable
        )
        for name, not_null, has_default, generated, identity, readable, *kind_of in connection.execute(
            questions.COLUMNS, of_table
        )
    ]
    sequences = connection.execute(questions.SEQUENCES, of_table)
    stands = connection.execute(questions.STANDING, of_table).fetchone()
    assert stands is not None, "an aggregate without GROUP BY always gives a row"
    rows, heap, standing = stands
    return Shape(
        table=table,
        kind=kind,
        columns=tuple(columns),
        keys=tuple(Key(tuple(names), *how) for names, *how in connection.execute(questions.KEYS, of_table)),
        triggers=tuple(_trigger(*row) for row in connection.execute(questions.TRIGGERS, of_table)),
        references=tuple(_reference(*row) for row in connection.execute(questions.REFERENCES, of_table)),
        rows=rows,
        heap=heap,
        standing=standing,
        sequences=tuple(OwnedSequence(TableName(schema, name), of) for schema, name, of in sequences),
    )


def rules_of(session: Session, table: TableName) -> Rules:
    """Return what may refuse a row of a table for its values.

    Raises:
        ConnectionLost: the connection went away.
    """
    named, connection = {"table": str(table)}, session.connection
    with translated(session.side, connection):
        others = connection.execute(rehearsing.OTHER_RULES, named).fetchone()
        return Rules(
            unique=tuple(
                UniqueRule(name, tuple(made), tuple(operators), predicate, nulls, plain, later, tuple(columns))
                for name, made, operators, predicate, nulls, plain, later, columns in connection.execute(
                    rehearsing.UNIQUE_RULES, named
                )
            ),
            foreign_keys=tuple(
                ForeignKey(name, TableName(schema, parent), tuple(columns), tuple(referred))
                for name, schema, parent, columns, referred in connection.execute(
                    rehearsing.FOREIGN_KEYS, named
                )
            ),
            others=bool(others and others[0]),
            partitions=tuple(row[0] for row in connection.execute(rehearsing.PARTITIONS, named)),
        )


def _trigger(name: str, schema: str, table: str, enabled: str, on_write: bool, on_delete: bool) -> Trigger:
    return Trigger(name, TableName(schema, table), enabled, on_write, on_delete)


def _reference(
    name: str, schema: str, table: str, kind: str, columns: list[str], referred: list[str]
) -> Reference:
    return Reference(name, TableName(schema, table), kind, tuple(columns), tuple(referred))


def missing_table(session: Session, table: TableName, model: Shape | None = None) -> PlanError:
    """Say that a table is missing, and what the user may have meant or can run.

    Args:
        session: the side that lacks it.
        table: the name that was asked for.
        model: the other side's shape, where it has the table: then the hint is the CREATE TABLE.
    """
    inspector = sqlalchemy.inspect(session.link)
    database = session.identity.database
    if model is not None:
        return PlanError(
            f"{session.side} ({database}) has no table {table}",
            "run the same command with --create-missing, which makes it as it is on the server;"
            " or, for its columns and its key alone,"
            f" run on {session.side}: {hints.create_table(model).as_string(None)}",
        )
    schemas = inspector.get_schema_names()
    if table.schema not in schemas:
        return PlanError(
            f"{session.side} ({database}) has no schema {table.schema}",
            f"its schemas: {', '.join(name for name in schemas if name != 'information_schema')}",
        )
    tables = inspector.get_table_names(schema=table.schema)
    close = difflib.get_close_matches(table.name, tables) or sorted(tables)[:20]
    names = ", ".join(str(TableName(table.schema, name)) for name in close)
    return PlanError(f"{session.side} ({database}) has no table {table}", f"did you mean: {names or '(none)'}")


def make_table(session: Session, model: Shape) -> Shape | None:
    """Make a table that takes another table's rows, with its columns and its key, in a private Postgres.

    Raises:
        PlanError: it cannot be made, for want of a type or an extension for example.
    """
    with translated(session.side, session.connection):
        try:
            session.connection.execute(hints.create_table(model))
        except psycopg.ProgrammingError as error:
            raise PlanError(
                f"{model.table} cannot be made in the private Postgres: {error.diag.message_primary}",
                "make what it lacks with psql, then run the same command again:"
                f" {hints.create_table(model).as_string(None)}",
            ) from error
    return shape_of(session, model.table)


def check_condition(session: Session, scope: Scope, shape: Shape, timezone: str) -> None:
    """Let a database's parser judge a scope, without reading a row.

    The extended protocol takes one statement only, so no condition can smuggle in a second one.

    Raises:
        PlanError: it refuses the condition.
    """
    with translated(session.side, session.connection):
        try:
            session.connection.execute(sql.probe(scope, shape, timezone), binary=True)
            if scope.where:
                session.connection.execute(sql.probe_alone(scope.where, shape), binary=True)
        except (psycopg.DataError, psycopg.ProgrammingError) as error:
            if error.sqlstate == _NO_PRIVILEGE:
                raise
            raise PlanError(
                f"{session.side} does not take the condition: {error.diag.message_primary} ({error.sqlstate})",
                f"the condition was: {_written(condition(scope, shape, timezone))}",
            ) from error


def _written(condition: Composed) -> str:
    return " ".join(condition.as_string(None).removeprefix(" WHERE ").split())


def understands(session: Session, scope: Scope, shape: Shape, timezone: str) -> bool:
    """Tell whether a database can tell which of its rows are in a scope.

    Raises:
        ConnectionLost: the connection went away.
    """
    try:
        check_condition(session, scope, shape, timezone)
    except PlanError:
        return False
    return True


def newest(session: Session, shape: Shape, request: Request, now: datetime) -> datetime | None:
    """Return the newest value of the window's column in scope up to now, as an instant, or None.

    Raises:
        PlanError: the database does not understand the scope.
        ConnectionLost: the connection went away.
    """
    check_condition(session, request.scope, shape, request.timezone)
    with translated(session.side, session.connection):
        row = session.connection.execute(sql.newest(shape, request.scope, request.timezone, now)).fetchone()
    return datetime.fromisoformat(row[0]) if row and row[0] else None


def holds_rows(session: Session, shape: Shape, scope: Scope, timezone: str) -> bool:
    """Tell whether the table holds a row that a pulled one could meet.

    A free condition is the server's to judge: it may name tables that only the server has, and a filter may
    not suit a local column. Then any row counts.

    Raises:
        ConnectionLost: the connection went away.
    """
    with translated(session.side, session.connection):
        try:
            return _any_row(session.connection, sql.any_row(shape, replace(scope, where=None), timezone))
        except (psycopg.DataError, psycopg.ProgrammingError):
            return _any_row(session.connection, sql.any_row(shape, Scope(), timezone))


def _any_row(connection: psycopg.Connection, question: Composed) -> bool:
    row = connection.execute(question).fetchone()
    return bool(row and row[0])


def with_estimate(session: Session, plan: Plan) -> Plan:
    """Return the plan with the source planner's guess at the rows and bytes in scope.

    Raises:
        PlanError: the server refuses the query (a privilege, a row-level policy).
        ConnectionLost: the connection went away.
    """
    with translated(session.side, session.connection):
        row = session.connection.execute(sql.explain(plan)).fetchone()
    assert row is not None
    top = row[0][0]["Plan"]
    rows = top["Plan Rows"]
    return replace(plan, estimate=Estimate(rows, rows * top["Plan Width"]), access=_access(top))


def _access(node: dict[str, Any]) -> str:
    """Say how the rows are found, after the plan's scans."""
    scans = sorted(set(_scans(node)))
    return ", ".join(scans) or str(node["Node Type"]).lower()


def _scans(node: dict[str, Any]) -> Iterator[str]:
    if "Index Name" in node:
        yield f"index {node['Index Name']}"
    elif node["Node Type"] == "Seq Scan":
        yield "sequential scan"
    for child in node.get("Plans", ()):
        yield from _scans(child)
