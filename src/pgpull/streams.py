"""Rows as byte messages: out of COPY, ahead of their use, in batches, into COPY.

A server sends one CopyData message per row, so a message is a row and a list of messages is a batch that can be
cut anywhere. The bytes are never looked into on the way (manual: 55.2.7, COPY Operations; COPY, File Formats).

A reading thread hands rows over in small pieces, and each goes on into the target's COPY when it arrives: both
servers work at the same time, and all that is ever held is one batch, to be tried again, and a few pieces.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import error_from_result
from psycopg.generators import execute
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult
from psycopg.sql import Composed
from psycopg.waiting import Wait

from pgpull.diagnosis import SOURCE, translated
from pgpull.errors import PgpullError
from pgpull.pacing import NO_PACE, Pace
from pgpull.plans import BATCH_BYTES, Wire
from pgpull.splitting import cells

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
_HEADER: Final = _SIGNATURE + bytes(8)  # no flags, no header extension
_TRAILER: Final = b"\xff\xff"

_PIECE_ROWS: Final = 256
_PIECE_BYTES: Final = 128 * 1024
_PIECES_AHEAD: Final = 8
"""Together a megabyte: what the source sends while the target commits. A wide row takes the room of several."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows on their way, how many bytes they are, and whether a batch ends with them."""

    rows: Sequence[bytes]
    size: int
    closes: bool


class Outflow:
    """The rows of a COPY TO STDOUT, one message each, without a binary header or trailer.

    The driver's own reading takes ten times as long for a row as libpq does; so the messages are taken from
    libpq, by the driver's documented wrapper (psycopg: ``pq``), and handed over some at a time.

    ``announced`` is the number of rows that the server says it sent, once all have come.

    Args:
        connection: the source's, in its transaction, with nothing else under way.
        statement: the COPY.
        pace: holds the reading back.
    """

    def __init__(self, connection: psycopg.Connection, statement: bytes, pace: Pace = NO_PACE) -> None:
        self._connection = connection
        self._statement = statement
        self._pace = pace
        self.announced: int | None = None

    def pieces(self, most: int) -> Iterator[Piece]:
        """Yield the rows in pieces, and mark where a batch ends.

        Args:
            most: rows in a batch; a batch of wide rows ends earlier, at :data:`~pgpull.plans.BATCH_BYTES`.

        Raises:
            ConnectionLost: the connection went away.
            PgpullError: anything else that the server said.
        """
        with translated(SOURCE, self._connection):
            self._begin()
            count = size = 0
            while rows := self._some(min(_PIECE_ROWS, most - count)):
                length = sum(map(len, rows))
                count += len(rows)
                size += length
                self._pace.keep(len(rows), length)
                closes = count >= most or size >= BATCH_BYTES or self.announced is not None
                yield Piece(rows, length, closes)
                if closes:
                    count = size = 0
            if count:  # the trailer came alone
                yield Piece((), 0, closes=True)

    def _begin(self) -> None:
        self._connection.pgconn.send_query(self._statement)
        self._check(ExecStatus.COPY_OUT)
        self._first = True

    def _check(self, wanted: ExecStatus) -> PGresult:
        result: PGresult = self._connection.wait(execute(self._connection.pgconn))[-1]
        if result.status != wanted:
            raise error_from_result(result, encoding=self._connection.info.encoding)
        return result

    def _some(self, most: int) -> list[bytes]:
        """Take up to so many rows, fewer if they are wide; none once all have come."""
        rows: list[bytes] = []
        if self.announced is not None:
            return rows
        take, size = self._connection.pgconn.get_copy_data, 0
        while len(rows) < most and size < _PIECE_BYTES:
            length, message = take(1)
            if length > len(_TRAILER):
                size += length
                rows.append(bytes(message))
            elif length > 0:
                rows += _unless_trailer(bytes(message))
            elif length == 0:
                self._connection.wait(_readable())
                self._connection.pgconn.consume_input()
            else:
                self.announced = self._check(ExecStatus.COMMAND_OK).command_tuples
                break
        if self._first and rows:
            self._first, rows[:1] = False, _without_header(rows[0])
            return rows or self._some(most)
        return rows


def _readable() -> PQGen[None]:
    while not (yield Wait.R):
        pass


def _without_header(message: bytes) -> list[bytes]:
    """Return the first row, which shares its message with the binary header, or no row if there is none."""
    if message.startswith(_SIGNATURE):
        extension = int.from_bytes(message[15:19])
        message = message[19 + extension :]
    return _unless_trailer(message)


def _unless_trailer(message: bytes) -> list[bytes]:
    return [message] if message and message != _TRAILER else []


class Batch:
    """Rows that are applied and committed together. They may still be arriving while they are sent on.

    Args:
        wire: the format of the rows.
        rows: those that are here.
        arriving: those that are not, in pieces.
    """

    def __init__(self, wire: Wire, rows: Iterable[bytes] = (), arriving: Iterable[Piece] = ()) -> None:
        self.wire = wire
        self._here = list(rows)
        self._size = sum(map(len, self._here))
        self._arriving = self._kept(arriving)

    def _kept(self, arriving: Iterable[Piece]) -> Iterator[Sequence[bytes]]:
        for piece in arriving:
            self._here += piece.rows
            self._size += piece.size
            yield piece.rows

    def pieces(self) -> Iterator[Sequence[bytes]]:
        """Yield all rows, some at a time: first those that are here, then the others as they arrive."""
        for at in range(0, len(self._here), _PIECE_ROWS):
            yield self._here[at : at + _PIECE_ROWS]
        for rows in self._arriving:  # noqa: UP028 - who takes no more must not end what is to arrive
            yield rows

    @property
    def rows(self) -> Sequence[bytes]:
        """All rows, once they have arrived."""
        for _ in self._arriving:
            pass
        return self._here

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def size(self) -> int:
        """The rows' length in bytes, once they have arrived."""
        return self._size if self.rows else 0

    def halves(self) -> tuple[Batch, Batch]:
        """Cut the batch in two; a message is one row, so any place will do."""
        middle = len(self) // 2
        return Batch(self.wire, self.rows[:middle]), Batch(self.wire, self.rows[middle:])


def in_batches(pieces: Iterable[Piece], wire: Wire) -> Iterator[Batch]:
    """Yield a batch as soon as its first piece is here."""
    waiting = iter(pieces)
    for first in waiting:
        batch = Batch(wire, arriving=_until_closed(first, waiting))
        yield batch
        batch.rows  # noqa: B018 - the next batch begins where this one ends


def _until_closed(piece: Piece, more: Iterator[Piece]) -> Iterator[Piece]:
    yield piece
    while not piece.closes:
        piece = next(more)
        yield piece


def copy_in(cursor: psycopg.Cursor, statement: Composed, batch: Batch) -> int:
    """Send a batch to a COPY FROM STDIN and return the number of rows that the server counted."""
    return pour(cursor, statement, batch.wire, batch.pieces())


def pour(cursor: psycopg.Cursor, statement: Composed, wire: Wire, pieces: Iterable[Sequence[bytes]]) -> int:
    """Send rows to a COPY FROM STDIN as they come, keep none, and return the number that the server counted."""
    with cursor.copy(statement) as copy:
        if wire is Wire.BINARY:
            copy.write(_HEADER)
        for piece in pieces:
            if piece:
                copy.write(b"\n".join((*piece, b"")) if wire is Wire.CSV else b"".join(piece))
        if wire is Wire.BINARY:
            copy.write(_TRAILER)
    return cursor.rowcount


def fields(row: bytes, wire: Wire) -> list[bytes | None]:
    """Take a row apart, for people to look at. Off the main path: only a reject is ever opened."""
    match wire:
        case Wire.BINARY:
            return _binary_fields(row)
        case Wire.CSV:
            return cells(row)
        case Wire.TEXT:
            return _text_fields(row)


def _binary_fields(row: bytes) -> list[bytes | None]:
    found: list[bytes | None] = []
    at = 2
    for _ in range(int.from_bytes(row[:2])):
        length = int.from_bytes(row[at : at + 4], signed=True)
        at += 4
        found.append(None if length < 0 else row[at : at + length])
        at += max(length, 0)
    return found


_ESCAPES: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def _text_fields(row: bytes) -> list[bytes | None]:
    # COPY TO writes a backslash only before one of these letters, or doubled
    cells = row.removesuffix(b"\n").split(b"\t")
    return [None if cell == rb"\N" else _unescaped(cell) for cell in cells]


def _unescaped(cell: bytes) -> bytes:
    first, *rest = cell.split(b"\\")
    pieces = [first]
    parts = iter(rest)
    for part in parts:
        if part:
            pieces.append(_ESCAPES.get(part[:1], part[:1]) + part[1:])
        else:
            pieces.append(b"\\" + next(parts, b""))
    return b"".join(pieces)


class _ReadFailed(Exception):
    """The reading thread ended early; ``reason`` says why.

    Inside the block it is none of the errors that a user sees, so that whoever applies a batch does not take it
    for the target's.
    """

    def __init__(self, reason: PgpullError) -> None:
        super().__init__()
        self.reason = reason


class ReadAhead:
    """Read pieces in a thread of its own, so that the source sends while the target applies.

    Args:
        pieces: what to read; used in the thread only.
        interrupt: called when the block is left early, to make a pending read end.

    Raises:
        PgpullError: when the block ends, where reading has; it is no such error before.
    """

    def __init__(self, pieces: Iterator[Piece], interrupt: Callable[[], None]) -> None:
        self._pieces = pieces
        self._interrupt = interrupt
        self._ready: queue.SimpleQueue[Piece | BaseException | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(_PIECES_AHEAD)
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._read, name="pgpull-reader", daemon=True)

    def __enter__(self) -> Iterator[Piece]:
        self._thread.start()
        return self._taken()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        if error is not None and self._thread.is_alive():
            self._interrupt()
        self._thread.join(timeout=2.0)
        if isinstance(error, _ReadFailed):
            raise error.reason from error.reason.__cause__

    def _read(self) -> None:
        last: BaseException | None = None
        try:
            for piece in self._pieces:
                if not self._has_room(_units(piece)):
                    break
                self._ready.put(piece)
        except BaseException as error:
            last = error
        finally:
            self._ready.put(last)

    def _has_room(self, units: int) -> bool:
        """Wait until there is room, or nobody takes anything any more."""
        for _ in range(units):
            while not self._room.acquire(timeout=0.2):
                if self._leaving.is_set():
                    return False
        return not self._leaving.is_set()

    def _taken(self) -> Iterator[Piece]:
        while (item := self._ready.get()) is not None:
            if isinstance(item, PgpullError):
                raise _ReadFailed(item)
            if isinstance(item, BaseException):
                raise item
            self._room.release(_units(item))
            yield item


def _units(piece: Piece) -> int:
    return min(_PIECES_AHEAD, 1 + piece.size // (2 * _PIECE_BYTES))
