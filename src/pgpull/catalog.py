"""Ask a live database for the shapes of its tables, and what may refuse their rows."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import psycopg
import sqlalchemy

from pgpull.diagnosis import translated
from pgpull.errors import PlanError
from pgpull.sessions import Session, ask_together
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
from pgpull.sql import constraints, hints
from pgpull.sql.parts import named
from pgpull.substitutes import Substitute

_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "c": "a type"}


def names_of(session: Session) -> dict[TableName, TableName | None]:
    """Return the tables that a database has, and of each the partitioned table that it is a part of, if any.

    Raises:
        ConnectionLost: the connection went away.
    """
    if session.substitute is not None:
        return session.substitute.names
    with translated(session.side, session.connection):
        rows = session.connection.execute(questions.NAMES).fetchall()
    return {
        TableName(schema, name): TableName(root_schema, root) if root else None
        for schema, name, root_schema, root in rows
    }


def shapes_of(session: Session, tables: Iterable[TableName]) -> dict[TableName, Shape]:
    """Return what a database says about some tables; those that it does not have are left out.

    However many there are, each thing is asked once.

    Raises:
        ConnectionLost: the connection went away.
    """
    wanted = list(tables)
    if session.substitute is not None:
        shapes = session.substitute.shapes
        return {table: shapes[table] for table in wanted if table in shapes}
    with translated(session.side, session.connection):
        found = session.connection.execute(questions.TABLES, named(wanted)).fetchall()
        about = _About(session.connection, [oid for oid, *_ in found])
        return {
            TableName(schema, name): replace(
                about.shape(oid, TableName(schema, name), kind),
                owned=owned,
                privileges=frozenset(privileges),
                has_heirs=has_heirs,
                root=TableName(root_schema, root) if root else None,
                ancestors=tuple(TableName(*names) for names in ancestors),
            )
            for oid, schema, name, kind, owned, privileges, has_heirs, root_schema, root, ancestors in found
        }


_OF_TABLES = (
    questions.COLUMNS,
    questions.KEYS,
    questions.TRIGGERS,
    questions.REFERENCES,
    questions.FOREIGN_KEYS,
    questions.STANDING,
    questions.SEQUENCES,
)


def _by_oid(rows: Iterable[Sequence[Any]]) -> defaultdict[int, list[Any]]:
    answers: defaultdict[int, list[Any]] = defaultdict(list)
    for oid, *rest in rows:
        answers[oid].append(rest)
    return answers


class _About:
    """The answers about some tables, by the table's oid."""

    def __init__(self, connection: psycopg.Connection, oids: Sequence[int]) -> None:
        answers = ask_together(connection, _OF_TABLES, {"oids": list(oids)})
        (
            self._columns,
            self._keys,
            self._triggers,
            self._references,
            self._foreign_keys,
            self._standing,
            self._sequences,
        ) = map(_by_oid, answers)

    def shape(self, oid: int, table: TableName, kind: str) -> Shape:
        [(rows, heap, standing)] = self._standing[oid]
        return Shape(
            table=table,
            kind=kind,
            columns=tuple(_column(*row) for row in self._columns[oid]),
            keys=tuple(Key(tuple(names), *how) for names, *how in self._keys[oid]),
            triggers=_triggers(self._triggers[oid]),
            references=tuple(_reference(*row) for row in self._references[oid]),
            foreign_keys=tuple(_foreign_key(*row) for row in self._foreign_keys[oid]),
            rows=rows,
            heap=heap,
            standing=standing,
            sequences=tuple(
                OwnedSequence(TableName(schema, name), of) for schema, name, of in self._sequences[oid]
            ),
        )


def _column(
    name: str,
    not_null: bool,
    has_default: bool,
    generated: bool,
    identity: str,
    readable: bool,
    *kind_of: Any,
) -> Column:
    made = has_default and not generated
    return Column(name, ColumnType(*kind_of), not_null, made, generated, identity, readable)


def _foreign_key(
    name: str,
    schema: str,
    table: str,
    parent_schema: str,
    parent: str,
    root_schema: str,
    root: str,
    kind: str,
    columns: list[str],
    referred: list[str],
    of_periods: bool,
) -> ForeignKey:
    return ForeignKey(
        name=name,
        on=TableName(schema, table),
        table=TableName(parent_schema, parent),
        root=TableName(root_schema, root),
        kind=kind,
        columns=tuple(columns),
        referred=tuple(referred),
        of_periods=of_periods,
    )


def check_kind(session: Session, shape: Shape) -> None:
    """Make sure that a name is a table's.

    Raises:
        PlanError: it is a view's, a foreign table's, or the like.
    """
    if shape.kind not in ("r", "p"):
        raise PlanError(
            f"{session.side}'s {shape.table} is {_KINDS.get(shape.kind, 'not a table')}, not a table",
            "name the table that the rows are stored in",
        )


def rules_of(session: Session, table: TableName) -> Rules:
    """Return what may refuse a row of a table for its values.

    Raises:
        ConnectionLost: the connection went away.
    """
    named, connection = {"table": str(table)}, session.connection
    with translated(session.side, connection):
        others = connection.execute(constraints.OTHER_RULES, named).fetchone()
        return Rules(
            unique=tuple(
                UniqueRule(name, tuple(made), tuple(operators), predicate, nulls, plain, later, tuple(columns))
                for name, made, operators, predicate, nulls, plain, later, columns in connection.execute(
                    constraints.UNIQUE_RULES, named
                )
            ),
            others=bool(others and others[0]),
            partitions=tuple(row[0] for row in connection.execute(constraints.PARTITIONS, named)),
        )


def _triggers(rows: Sequence[Sequence[Any]]) -> tuple[Trigger, ...]:
    """Return those that fire: one for all partitions that have it from their root, where it stands alike."""
    parents = {oid: parent for oid, parent, *_ in rows}
    families: defaultdict[int, dict[int, Trigger]] = defaultdict(dict)
    for oid, _, name, schema, table, *rest in rows:
        first = oid
        while parents[first] in parents:
            first = parents[first]
        families[first][oid] = Trigger(name, TableName(schema, table), *rest)
    standing = [trigger for first, family in families.items() for trigger in _that_stand_for(family, first)]
    return tuple(trigger for trigger in standing if trigger.enabled in "OA")


def _that_stand_for(family: Mapping[int, Trigger], first: int) -> list[Trigger]:
    if len({trigger.enabled for trigger in family.values()}) == 1:
        return [family[first]]
    return [replace(trigger, alone=True) for trigger in family.values()]


def _reference(
    name: str,
    schema: str,
    table: str,
    root_schema: str,
    root: str,
    kind: str,
    columns: list[str],
    referred: list[str],
    of_periods: bool,
) -> Reference:
    return Reference(
        name=name,
        table=TableName(schema, table),
        root=TableName(root_schema, root),
        kind=kind,
        columns=tuple(columns),
        referred=tuple(referred),
        of_periods=of_periods,
    )


def missing_table(session: Session, table: TableName, model: Shape | None = None) -> PlanError:
    """Say that a table is missing, and what the user may have meant or can run.

    Args:
        session: the side that lacks it.
        table: the name that was asked for.
        model: the other side's shape, where it has the table: then the hint is the CREATE TABLE.
    """
    if session.substitute is not None:
        return _not_archived(session.substitute, table)
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
    return PlanError(f"{session.side} ({database}) has no table {table}", _nearest(session, table))


def _nearest(session: Session, table: TableName) -> str:
    """Return a hint of what may have been meant: the same name elsewhere, or another one in the schema."""
    names = sorted({root or name for name, root in names_of(session).items()}, key=str)
    beside = [name.name for name in names if name.schema == table.schema]
    close = [TableName(table.schema, name) for name in difflib.get_close_matches(table.name, beside)]
    meant = [name for name in names if name.name == table.name] + close or names[:20]
    if not meant:
        return "it has no tables at all: is this the right database?"
    return f"did you mean: {', '.join(dict.fromkeys(map(str, meant)))}"


def _not_archived(substitute: Substitute, table: TableName) -> PlanError:
    names = [str(name) for name in substitute.names]
    close = difflib.get_close_matches(str(table), names) or names[:20]
    return PlanError(
        f"the archive {substitute.archive.name} has no table {table}",
        f"it has: {', '.join(close) or 'no tables'}",
    )
