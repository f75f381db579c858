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
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final

import psycopg
from psycopg.sql import Composed

from pgpull.diagnosis import SOURCE, translated
from pgpull.errors import PgpullError
from pgpull.model import BATCH_BYTES, Wire

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
_HEADER: Final = _SIGNATURE + bytes(8)  # no flags, no header extension
_TRAILER: Final = b"\xff\xff"

_PIECE_ROWS: Final = 256
_PIECE_BYTES: Final = 128 * 1024
_PIECES_AHEAD: Final = 8
"""Together a megabyte: what the source sends while the target commits."""


class Outflow:
    """The rows of a COPY TO STDOUT, one message each, without a binary header or trailer.

    ``announced`` is the number of rows that the server says it sent, once all have come.

    Raises:
        ConnectionLost: on reading, if the connection went away.
        PgpullError: on reading, for anything else that the server said.
    """

    def __init__(self, connection: psycopg.Connection, statement: bytes) -> None:
        self._connection = connection
        self._statement = statement
        self.announced: int | None = None

    def __iter__(self) -> Iterator[bytes]:
        with translated(SOURCE, self._connection), self._connection.cursor() as cursor:
            with cursor.copy(self._statement) as copy:
                messages = iter(copy)
                for first in messages:
                    yield from _without_header(bytes(first))
                    break
                for message in messages:
                    if message != _TRAILER:
                        yield bytes(message)
            self.announced = cursor.rowcount


def _without_header(message: bytes) -> Iterator[bytes]:
    """Yield the first row, which shares its message with the binary header; nothing if there is no row."""
    if message.startswith(_SIGNATURE):
        extension = int.from_bytes(message[15:19])
        message = message[19 + extension :]
    if message and message != _TRAILER:
        yield message


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows on their way, and whether a batch ends with them."""

    rows: Sequence[bytes]
    closes: bool


def in_pieces(rows: Iterable[bytes], most: int) -> Iterator[Piece]:
    """Cut a stream of rows into pieces, and mark where a batch ends.

    Args:
        rows: the stream.
        most: rows in a batch; a batch of wide rows ends earlier, at :data:`~pgpull.model.BATCH_BYTES`.
    """
    piece: list[bytes] = []
    count = size = start = 0
    for row in rows:
        piece.append(row)
        count += 1
        size += len(row)
        closes = count >= most or size >= BATCH_BYTES
        if closes or len(piece) >= _PIECE_ROWS or size - start >= _PIECE_BYTES:
            yield Piece(piece, closes)
            piece = []
            count, size = (0, 0) if closes else (count, size)
            start = size
    if count:
        yield Piece(piece, closes=True)


class Batch:
    """Rows that are applied and committed together. They may still be arriving while they are sent on.

    Args:
        wire: the format of the rows.
        rows: those that are here.
        arriving: those that are not, in pieces.
    """

    def __init__(
        self, wire: Wire, rows: Iterable[bytes] = (), arriving: Iterable[Sequence[bytes]] = ()
    ) -> None:
        self.wire = wire
        self._here = list(rows)
        self._arriving = iter(arriving)

    def pieces(self) -> Iterator[Sequence[bytes]]:
        """Yield all rows, some at a time: first those that are here, then the others as they arrive."""
        for at in range(0, len(self._here), _PIECE_ROWS):
            yield self._here[at : at + _PIECE_ROWS]
        for piece in self._arriving:
            self._here += piece
            yield piece

    @property
    def rows(self) -> Sequence[bytes]:
        """All rows, once they have arrived."""
        for piece in self._arriving:
            self._here += piece
        return self._here

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def size(self) -> int:
        """The rows' length in bytes."""
        return sum(map(len, self.rows))

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


def _until_closed(piece: Piece, more: Iterator[Piece]) -> Iterator[Sequence[bytes]]:
    yield piece.rows
    while not piece.closes:
        piece = next(more)
        yield piece.rows


def copy_in(cursor: psycopg.Cursor, statement: Composed, batch: Batch) -> int:
    """Send a batch to a COPY FROM STDIN and return the number of rows that the server counted."""
    return pour(cursor, statement, batch.wire, batch.pieces())


def pour(cursor: psycopg.Cursor, statement: Composed, wire: Wire, pieces: Iterable[Sequence[bytes]]) -> int:
    """Send rows to a COPY FROM STDIN as they come, keep none, and return the number that the server counted."""
    with cursor.copy(statement) as copy:
        if wire is Wire.BINARY:
            copy.write(_HEADER)
        for piece in pieces:
            copy.write(b"".join(piece))
        if wire is Wire.BINARY:
            copy.write(_TRAILER)
    return cursor.rowcount


def fields(row: bytes, wire: Wire) -> list[bytes | None]:
    """Take a row apart, for people to look at. Off the main path: only a reject is ever opened."""
    return _binary_fields(row) if wire is Wire.BINARY else _text_fields(row)


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


class ReadFailed(Exception):
    """The reading thread ended early; ``reason`` says why.

    Not one of the errors that a user sees, so that whoever applies a batch does not take it for the target's.
    """

    def __init__(self, reason: PgpullError) -> None:
        super().__init__()
        self.reason = reason


class ReadAhead:
    """Read pieces in a thread of its own, so that the source sends while the target applies.

    Args:
        pieces: what to read; used in the thread only.
        interrupt: called when the block is left early, to make a pending read end.
    """

    def __init__(self, pieces: Iterator[Piece], interrupt: Callable[[], None]) -> None:
        self._pieces = pieces
        self._interrupt = interrupt
        self._ready: queue.Queue[Piece | BaseException | None] = queue.Queue(_PIECES_AHEAD)
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

    def _read(self) -> None:
        last: BaseException | None = None
        try:
            for piece in self._pieces:
                if not self._put(piece):
                    break
        except BaseException as error:
            last = error
        finally:
            self._put(last)

    def _put(self, item: Piece | BaseException | None) -> bool:
        while not self._leaving.is_set():
            with suppress(queue.Full):
                self._ready.put(item, timeout=0.2)
                return True
        return False

    def _taken(self) -> Iterator[Piece]:
        while (item := self._ready.get()) is not None:
            if isinstance(item, PgpullError):
                raise ReadFailed(item)
            if isinstance(item, BaseException):
                raise item
            yield item
