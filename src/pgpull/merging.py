"""Rows out of the stage and into their table, in one transaction; and whose fault it is if they do not go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg.sql import Composed

from pgpull.diagnosis import TARGET, lost, names_nothing
from pgpull.errors import ConnectionLost
from pgpull.objecting import held_triggers
from pgpull.plans import Plan
from pgpull.results import Tally
from pgpull.sql import staging as sql

# What is not a row's own fault: connections, transactions, privileges, missing objects, resources, locks, the
# server itself (manual: appendix A). All else is: values, constraints, limits, and whatever SQLSTATE a function
# behind a check or a domain raises.
_NOT_THE_ROWS: Final = tuple("08 0A 25 28 2D 3B 3D 3F 40 42 53 55 57 58 F0 XX".split())


class RowsRefused(Exception):
    """The target refused at least one of some rows; the transaction was rolled back."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__()
        self.error = error


def given(number: tuple[int | None] | None) -> list[int]:
    """Return the number of a transaction that has one: who has written nothing is given none."""
    return [each for each in number or () if each is not None]


def waiting_rows_lost() -> ConnectionLost:
    """Say that the rows have to be read again that waited on a connection which is gone."""
    return lost(TARGET, RuntimeError("rows that waited for others went with it"))


def make_stage(connection: psycopg.Connection, plan: Plan) -> None:
    """Make the stage for a plan's rows, in place of that of another."""
    connection.execute(sql.DROP_STAGE)
    connection.execute(sql.create_stage(plan))


def merged(cursor: psycopg.Cursor, plan: Plan, rows: int, insertion: Composed | None = None) -> Tally:
    """Take the rows out of the stage, and tell what became of them.

    Args:
        cursor: the target's, in a transaction.
        plan: what to do.
        rows: how many there are.
        insertion: the statement that inserts them, in place of the usual one.
    """
    updated = cursor.execute(sql.update_changed(plan)).rowcount if plan.updates else 0
    inserted = cursor.execute(insertion or sql.insert_missing(plan)).rowcount
    return Tally(rows, inserted, updated, skipped=rows - inserted - updated)


@contextmanager
def refusals() -> Iterator[None]:
    """Tell an error that is a row's own fault from all others.

    Raises:
        RowsRefused: in place of such an error.
    """
    try:
        yield
    except Exception as error:
        cause = error.__cause__
        if not isinstance(cause, psycopg.Error) or not _is_the_rows(cause):
            raise
        raise RowsRefused(cause) from error


def _is_the_rows(error: psycopg.Error) -> bool:
    return names_nothing(error) or not (error.sqlstate or "08").startswith(_NOT_THE_ROWS)


@contextmanager
def triggers_held(cursor: psycopg.Cursor, plan: Plan, *, deletes: bool = False) -> Iterator[None]:
    """Keep the user's triggers from firing inside a block, within the transaction that is under way.

    Args:
        cursor: the target's.
        plan: which tells the triggers.
        deletes: whether rows are deleted as well, though the plan does not say so.
    """
    triggers = plan.target.triggers if deletes else held_triggers(plan.request, plan.target)
    for trigger in triggers:
        cursor.execute(sql.disable_trigger(trigger))
    yield
    if triggers:  # ALTER TABLE refuses a table whose deferred checks are still to come
        cursor.execute(sql.CHECK_CONSTRAINTS_NOW)
    for trigger in triggers:
        cursor.execute(sql.enable_trigger(trigger))
