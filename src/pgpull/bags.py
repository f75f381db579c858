"""Tables without a key: their rows are told apart by what they hold, and counted.

Both sides count their rows by a hash of all that travels. What the target lacks comes in as often as it lacks
it; of what it has too much, a mirror deletes as many.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import psycopg
from psycopg.sql import Composed

from pgpull.diagnosis import SOURCE, TARGET, translated
from pgpull.plans import Comparison, Method, Plan
from pgpull.sessions import Session, send_bytes_as_they_are
from pgpull.sql import bags as sql
from pgpull.sql.comparing import CLOSE_ALL, IN_BATCHES, IN_BULK, close, fetch
from pgpull.sql.pruning import drop_extra
from pgpull.streams import Outflow, Piece, ReadAhead, pour

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
    with translated(TARGET, target.connection), target.connection.transaction():
        cursor = target.connection.cursor()
        for statement in (CLOSE_ALL, sql.DROP, sql.CREATE, IN_BULK):
            cursor.execute(statement)
        size = _take(cursor, source, sql.copy_out(plan, source.identity.encoding))
        cursor.execute(sql.create_lacking(plan, target.identity.encoding))
        cursor.execute(IN_BATCHES)
    return size


def _take(cursor: psycopg.Cursor, source: Session, statement: Composed) -> int:
    """Have the target take hashes and how many rows have them; return how many bytes the source sent."""
    size = 0

    def counted(pieces: Iterable[Piece]) -> Iterator[Sequence[bytes]]:
        nonlocal size
        for piece in pieces:
            size += piece.size
            yield piece.rows

    outflow = Outflow(source.connection, statement.as_bytes(), source.pace)
    with ReadAhead(outflow.pieces(_MOST_AT_ONCE), source.cancel) as ahead:
        pour(cursor, sql.TAKE, sql.WIRE, counted(ahead))
    return size


def confirm(source: Session, target: Session, plan: Plan, found: Comparison) -> Comparison:
    """Spare rows that the source still has, though no longer in scope.

    A row that holds the same is in the same scope, unless that depends on something else: a condition may ask
    the clock or another table, and a column may be left out of what is compared.

    Args:
        source: the server.
        target: the side that holds what was found.
        plan: what was compared.
        found: with extra rows.
    """
    scope, hashed = plan.request.scope, {image.column for image in plan.full_digest.images}
    names = {name for name, _ in scope.equals} | ({scope.window.column} if scope.window else set())
    if scope.where is None and names <= hashed:
        return found
    with translated(TARGET, target.connection), target.connection.transaction():
        cursor = target.connection.cursor()
        cursor.execute(sql.CLEAR)
        size = _take(cursor, source, sql.copy_outside(plan, source.identity.encoding))
        cursor.execute(sql.SPARE)
        _, extra = cursor.execute(sql.COUNT).fetchone() or (0, 0)
    return replace(found, extra=extra, bytes=found.bytes + size)


def take_turns(target: Session, plans: Iterable[Plan]) -> None:
    """Keep other pulls of tables without a key waiting until the transaction ends.

    Two that bring in what is missing would bring it twice, and nothing would stop the second.
    """
    with translated(TARGET, target.connection):
        for plan in plans:
            if plan.key is None:
                target.connection.execute(sql.TAKE_TURNS, {"table": str(plan.table)})


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


def put_aside(target: Session, plan: Plan) -> None:
    """Keep how much the target has too much of, until rows are chosen that go."""
    with translated(TARGET, target.connection):
        target.connection.execute(sql.drop_surplus(plan))
        target.connection.execute(sql.keep_surplus(plan))


def choose_extra(cursor: psycopg.Cursor, plan: Plan, encoding: str) -> None:
    """Choose the rows that go, in the transaction in which they do: they are known by where they stand."""
    cursor.execute(drop_extra(plan))
    cursor.execute(sql.create_extra(plan, encoding))
