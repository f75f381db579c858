"""Tables without a key: their rows are told apart by what they hold, and counted.

Both sides count their rows by a hash of all that travels. What the target lacks comes in as often as it lacks
it; of what it has too much, a mirror deletes as many.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final

import psycopg

from pgpull.diagnosis import SOURCE, TARGET, translated
from pgpull.errors import PlanError
from pgpull.model import Comparison, Method, Plan
from pgpull.sessions import Session, send_bytes_as_they_are
from pgpull.sql import bags as sql
from pgpull.sql.comparing import CLOSE_ALL, IN_BATCHES, IN_BULK, close, fetch
from pgpull.streams import Outflow, Piece, ReadAhead, ReadFailed, pour

_MOST_AT_ONCE: Final = 1 << 30

_HASHES_AT_ONCE: Final = 50_000
"""For each batch the source reads the whole scope: few large ones."""

_CURSOR: Final = "pgpull_hashes"


def compare(source: Session, target: Session, plan: Plan, *, extras: bool) -> Comparison:
    """Compare the rows in scope by what they hold.

    Args:
        source: the server, whose one snapshot is read.
        target: the local side; what it lacks is noted there.
        plan: what is compared.
        extras: whether to say how many rows only the target has.

    Raises:
        Stopped: a connection was lost, or a server gave up.
    """
    send_bytes_as_they_are(source)
    rows, theirs = _total(source, plan)
    totals = _total(target, plan)
    missing = extra = size = 0
    if (rows, theirs) != totals:
        size = _note_what_lacks(source, target, plan)
        with translated(TARGET, target.connection):
            missing, extra = target.connection.execute(sql.COUNT).fetchone() or (0, 0)
    else:
        with translated(TARGET, target.connection):
            target.connection.execute(sql.DROP)
    return Comparison(
        method=Method.CONTENTS,
        rows=rows,
        missing=missing,
        changed=0,
        extra=extra if extras and plan.scope_here else None,
        bytes=size + len(theirs),
    )


def _total(session: Session, plan: Plan) -> tuple[int, str]:
    shape = plan.source if session.side == SOURCE else plan.target
    statement = sql.total(plan, shape, session.identity.encoding)
    with translated(session.side, session.connection):
        row = session.connection.execute(statement.as_bytes()).fetchone()
    assert row is not None
    return row[0], row[1]


def _note_what_lacks(source: Session, target: Session, plan: Plan) -> int:
    """Have the target note what it lacks, and return how many bytes the source sent."""
    size = 0

    def counted(pieces: Iterable[Piece]) -> Iterator[Sequence[bytes]]:
        nonlocal size
        for piece in pieces:
            size += sum(map(len, piece.rows))
            yield piece.rows

    outflow = Outflow(source.connection, sql.copy_out(plan, source.identity.encoding).as_bytes())
    with translated(TARGET, target.connection), target.connection.transaction():
        cursor = target.connection.cursor()
        for statement in (CLOSE_ALL, sql.DROP, sql.CREATE, IN_BULK):
            cursor.execute(statement)
        try:
            with ReadAhead(outflow.pieces(_MOST_AT_ONCE), source.cancel) as ahead:
                pour(cursor, sql.TAKE, sql.WIRE, counted(ahead))
        except ReadFailed as failure:
            raise failure.reason from failure.reason.__cause__
        cursor.execute(sql.create_lacking(plan, target.identity.encoding))
        cursor.execute(IN_BATCHES)
    return size


def lacking(target: Session) -> Generator[tuple[str, str]]:
    """Yield what the target lacks: an array of hashes, and one of how many copies, as texts.

    Raises:
        ConnectionLost: the connection went away.
    """
    connection = target.connection
    with translated(TARGET, connection):
        connection.execute(sql.batches(_HASHES_AT_ONCE, _CURSOR))
    try:
        while True:
            with translated(TARGET, connection):
                row = connection.execute(fetch(_CURSOR)).fetchone()
            if row is None:
                return
            yield row
    finally:
        with suppress(psycopg.Error):  # of a connection that is gone, or a transaction that has failed
            connection.execute(close(_CURSOR))


def check_prunable(plan: Plan) -> None:
    """Make sure that no foreign key refers to the table: nobody could tell which of some equal rows is meant.

    Raises:
        PlanError: one does.
    """
    if plan.target.references:
        reference = plan.target.references[0]
        raise PlanError(
            f"rows of {reference.table} may refer to rows of {plan.table} ({reference.name}), which has no key",
            "leave out --mirror, or load the scope anew with --replace",
        )


def prune(cursor: psycopg.Cursor, plan: Plan, encoding: str) -> int:
    """Delete what the target has too much of, and return how many rows that was."""
    return cursor.execute(sql.delete_surplus(plan, encoding)).rowcount
