"""Rows as byte messages: out of COPY, in batches, ahead of their use, into COPY.

A server sends one CopyData message per row, so a message is a row and a list of messages is a batch that can be
cut anywhere. The bytes are never looked into on the way (manual: 55.2.7, COPY Operations; COPY, File Formats).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final

import psycopg
from psycopg.sql import Composed

from pgpull.model import BATCH_BYTES, Batch, Wire

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
_HEADER: Final = _SIGNATURE + bytes(8)  # no flags, no header extension
_TRAILER: Final = b"\xff\xff"

_AHEAD: Final = 2
"""Batches that wait while another is being applied: enough to keep both servers busy, and no more memory."""


class Outflow:
    """The rows of a COPY TO STDOUT, one message each, without a binary header or trailer.

    ``announced`` is the number of rows that the server says it sent, once all have come.
    """

    def __init__(self, connection: psycopg.Connection, statement: bytes) -> None:
        self._connection = connection
        self._statement = statement
        self.announced: int | None = None

    def __iter__(self) -> Iterator[bytes]:
        with self._connection.cursor() as cursor:
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


def in_batches(rows: Iterator[bytes], most: int, wire: Wire) -> Iterator[Batch]:
    """Gather rows into batches of at most ``most`` rows, fewer where they are wide (:data:`BATCH_BYTES`)."""
    gathered: list[bytes] = []
    size = 0
    for row in rows:
        gathered.append(row)
        size += len(row)
        if len(gathered) >= most or size >= BATCH_BYTES:
            yield Batch(gathered, wire)
            gathered, size = [], 0
    if gathered:
        yield Batch(gathered, wire)


def copy_in(cursor: psycopg.Cursor, statement: Composed, batch: Batch) -> int:
    """Send a batch to a COPY FROM STDIN and return the number of rows that the server counted."""
    binary = batch.wire is Wire.BINARY
    with cursor.copy(statement) as copy:
        if binary:
            copy.write(_HEADER)
        copy.write(b"".join(batch.rows))
        if binary:
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


class ReadAhead:
    """Read batches in a thread of its own, so that the source sends while the target applies.

    Args:
        batches: what to read; used in the thread only.
        interrupt: called, from the thread that leaves the block early, to make a pending read end.
    """

    def __init__(self, batches: Iterator[Batch], interrupt: Callable[[], None]) -> None:
        self._batches = batches
        self._interrupt = interrupt
        self._ready: queue.Queue[Batch | BaseException | None] = queue.Queue(_AHEAD)
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._read, name="pgpull-reader", daemon=True)

    def __enter__(self) -> Iterator[Batch]:
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
            for batch in self._batches:
                if not self._put(batch):
                    break
        except BaseException as error:
            last = error
        finally:
            self._put(last)

    def _put(self, item: Batch | BaseException | None) -> bool:
        while not self._leaving.is_set():
            with suppress(queue.Full):
                self._ready.put(item, timeout=0.2)
                return True
        return False

    def _taken(self) -> Iterator[Batch]:
        while (item := self._ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
