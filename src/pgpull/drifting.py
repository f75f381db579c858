"""Ask a live database what it asks of the rows of its tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from psycopg.sql import SQL, Composed

from pgpull.diagnosis import translated
from pgpull.drift import Check, Labels, Reference, Standards, Unique
from pgpull.sessions import Session
from pgpull.shapes import TableName
from pgpull.sql import drifting as questions


def standards_of(session: Session, tables: Sequence[TableName]) -> dict[TableName, Standards]:
    """Return what a database asks of the rows of tables; nothing of those that it has not.

    Raises:
        ConnectionLost: the connection went away.
    """
    connection = session.connection
    # the search path is as before when the block ends
    with translated(session.side, connection), connection.transaction(force_rollback=True):
        connection.execute(questions.QUALIFIED)
        checks, uniques, references, labels = (
            _by_table(session, question, tables)
            for question in (questions.CHECKS, questions.UNIQUES, questions.FOREIGN_KEYS, questions.ENUMS)
        )
        enums = frozenset(TableName(*row) for row in connection.execute(questions.ENUM_TYPES))
    return {
        table: Standards(
            checks=tuple(Check(*row) for row in checks.get(table, ())),
            uniques=tuple(
                Unique(name, how, tuple(of), where) for name, how, of, where in uniques.get(table, ())
            ),
            references=tuple(map(_reference, references.get(table, ()))),
            labels=tuple(
                Labels(column, TableName(schema, name), tuple(known))
                for column, schema, name, known in labels.get(table, ())
            ),
            enums=enums,
        )
        for table in tables
    }


def _reference(row: Sequence[Any]) -> Reference:
    name, schema, parent, columns, referred = row
    return Reference(name, tuple(columns), TableName(schema, parent), tuple(referred))


def _by_table(
    session: Session, question: SQL | Composed, tables: Iterable[TableName]
) -> dict[TableName, list[Sequence[Any]]]:
    names = {"schemas": [table.schema for table in tables], "names": [table.name for table in tables]}
    found: dict[TableName, list[Sequence[Any]]] = {}
    for schema, name, *row in session.connection.execute(question, names):
        found.setdefault(TableName(schema, name), []).append(row)
    return found
