"""Rows on their way into files: each file is filled up to some size, and cut between two rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from pgpull.private_files import open_more

FILE_BYTES: Final = 64 * 1024 * 1024
"""So large that there are few files, and so small that one fits into memory, and several workers load them."""

_HELD_BYTES: Final = 1024 * 1024
"""Are held before they are written."""

_ALL_HELD_BYTES: Final = 16 * _HELD_BYTES
"""Of all months together."""

MONTH_BYTES: Final = len("2025-01,")

_END: Final = b"\\.\n"
"""Alone in its row it ends COPY FROM; COPY TO quotes it there, but not beside a month."""

_END_QUOTED: Final = b'"\\."\n'


class Spool:
    """The rows of one file, as they come: some in memory, the others on disk.

    Args:
        path: of a file that is not there yet.
        month: of all of its rows; empty where nobody asks.
    """

    def __init__(self, path: Path, month: str = "") -> None:
        self.path = path
        self.month = month
        self.rows = 0
        self.size = 0
        self._held: list[bytes] = []
        self.held = 0
        """Bytes in memory."""

    def add(self, rows: Sequence[bytes]) -> None:
        """Take some rows."""
        data = b"".join(rows)
        self._held.append(data)
        self.rows += len(rows)
        self.size += len(data)
        self.held += len(data)
        if self.held >= _HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held; nothing is kept open, as there may be hundreds of months.

        Raises:
            OSError: it cannot be written.
        """
        with open_more(self.path) as file:
            for data in self._held:
                file.write(data)
        self._held.clear()
        self.held = 0


class Spools:
    """The rows of a table that one worker reads.

    Args:
        new: returns the path of another file.
        by_month: whether each row comes after its month and a comma.
    """

    def __init__(self, new: Callable[[], Path], *, by_month: bool = False) -> None:
        self._new = new
        self._by_month = by_month
        self._open: dict[str, Spool] = {}

    def add(self, rows: Sequence[bytes]) -> Iterator[Spool]:
        """Take some rows, and yield what is full.

        Raises:
            OSError: they cannot be written.
        """
        for month, its_rows in _by_month(rows) if self._by_month else (("", rows),):
            if month not in self._open:
                self._open[month] = Spool(self._new(), month)
            spool = self._open[month]
            spool.add(its_rows)
            if spool.size >= FILE_BYTES:
                spool.flush()
                yield self._open.pop(month)
        if sum(spool.held for spool in self._open.values()) >= _ALL_HELD_BYTES:
            for spool in self._open.values():
                spool.flush()

    def rest(self) -> Iterator[Spool]:
        """Yield what is begun: no more rows come.

        Raises:
            OSError: it cannot be written.
        """
        while self._open:
            _, spool = self._open.popitem()
            spool.flush()
            yield spool


def _by_month(rows: Sequence[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    months: dict[bytes, list[bytes]] = {}
    for row in rows:
        rest = row[MONTH_BYTES:]
        months.setdefault(row[:MONTH_BYTES], []).append(_END_QUOTED if rest == _END else rest)
    for month, its_rows in months.items():
        yield month[:-1].decode(), its_rows
