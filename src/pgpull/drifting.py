"""Ask a live database what it asks of the rows of its tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pgpull.diagnosis import translated
from pgpull.drift import Check, ForeignKey, Labels, Standards, Unique
from pgpull.sessions import Session
from pgpull.shapes import TableName
from pgpull.sql import drifting as questions
from pgpull.sql.parts import named


def standards_of(session: Session, tables: Sequence[TableName]) -> dict[TableName, Standards]:
    """Return what a database asks of the rows of tables; nothing of those that it has not.

    Raises:
        ConnectionLost: the connection went away.
    """
    connection, asked_for = session.connection, named(tables)
    asked = (questions.CHECKS, questions.UNIQUES, questions.FOREIGN_KEYS, questions.ENUMS)
    # the search path is as before when the block ends
    with translated(session.side, connection), connection.pipeline():
        with connection.transaction(force_rollback=True):
            connection.execute(questions.QUALIFIED)
            answers = [connection.execute(question, asked_for) for question in asked]
            types = connection.execute(questions.ENUM_TYPES)
        checks, uniques, foreign_keys, labels = map(_by_table, answers)
        enums = frozenset(TableName(*row) for row in types)
    return {
        table: Standards(
            checks=tuple(Check(*row) for row in checks.get(table, ())),
            uniques=tuple(
                Unique(name, how, tuple(of), where) for name, how, of, where in uniques.get(table, ())
            ),
            foreign_keys=tuple(map(_foreign_key, foreign_keys.get(table, ()))),
            labels=tuple(
                Labels(column, TableName(schema, name), tuple(known))
                for column, schema, name, known in labels.get(table, ())
            ),
            enums=enums,
        )
        for table in tables
    }


def _foreign_key(row: Sequence[Any]) -> ForeignKey:
    name, schema, parent, columns, referred, of_all, of_periods = row
    return ForeignKey(name, tuple(columns), TableName(schema, parent), tuple(referred), of_all, of_periods)


def _by_table(rows: Iterable[Sequence[Any]]) -> dict[TableName, list[Sequence[Any]]]:
    found: dict[TableName, list[Sequence[Any]]] = {}
    for schema, name, *row in rows:
        found.setdefault(TableName(schema, name), []).append(row)
    return found
