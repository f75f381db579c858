"""A table made of a shape: its columns and its key, and nothing else that it had."""

from __future__ import annotations

import psycopg

from pgpull import catalog
from pgpull.diagnosis import translated
from pgpull.errors import PlanError
from pgpull.sessions import Session
from pgpull.shapes import Shape
from pgpull.sql import hints


def make_table(session: Session, model: Shape) -> Shape | None:
    """Make a table that takes another table's rows, with its columns and its key.

    Raises:
        PlanError: it cannot be made, for want of a type or an extension for example.
    """
    with translated(session.side, session.connection):
        try:
            session.connection.execute(hints.create_table(model))
        except psycopg.ProgrammingError as error:
            raise PlanError(
                f"{model.table} cannot be made on {session.side}: {error.diag.message_primary}",
                "make what it lacks with psql, then run the same command again:"
                f" {hints.create_table(model).as_string(None)}",
            ) from error
    return catalog.shapes_of(session, [model.table]).get(model.table)
