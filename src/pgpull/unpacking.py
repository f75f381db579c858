"""The rows of an archive's files as CSV records, for COPY: what an Outflow is for a server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pgpull.archives import ArchivedFile
from pgpull.errors import Stopped
from pgpull.pacing import NO_PACE, Pace
from pgpull.plans import BATCH_BYTES
from pgpull.reading import Damaged, chunks
from pgpull.splitting import CutShort, records
from pgpull.streams import Piece
from pgpull.substitutes import Archive

_PIECE_ROWS: Final = 256


class Unpacked:
    """The rows of one file.

    ``announced`` is the number of rows that the manifest says there are, once as many have come.

    Args:
        archive: which was found whole.
        file: one of its files.
        pace: holds the reading back.
    """

    def __init__(self, archive: Archive, file: ArchivedFile, pace: Pace = NO_PACE) -> None:
        self._archive = archive
        self._file = file
        self._pace = pace
        self.announced: int | None = None

    def pieces(self, most: int) -> Iterator[Piece]:
        """Yield the rows in pieces, and mark where a batch ends; see :meth:`pgpull.streams.Outflow.pieces`.

        Raises:
            Stopped: the file is another than it was when the archive was found whole.
        """
        count = size = rows = 0
        for found in self._records():
            at = 0
            while at < len(found):
                piece = found[at : at + min(_PIECE_ROWS, most - count)]
                length = sum(map(len, piece))
                at, count, size, rows = at + len(piece), count + len(piece), size + length, rows + len(piece)
                self._pace.keep(len(piece), length)
                closes = count >= most or size >= BATCH_BYTES
                yield Piece(piece, length, closes)
                if closes:
                    count = size = 0
        if count:
            yield Piece((), 0, closes=True)
        if rows != self._file.rows:
            raise changed(self._archive, self._file)
        self.announced = rows

    def _records(self) -> Iterator[list[bytes]]:
        try:
            for found in records(chunks(self._archive, self._file)):
                yield list(found)
        except (CutShort, Damaged) as error:
            raise changed(self._archive, self._file) from error


def changed(archive: Archive, file: ArchivedFile) -> Stopped:
    """Say that a file is not what it was."""
    return Stopped(
        f"{file.path} of the archive {archive.name} was changed while it was loaded",
        "let nobody write there, export again if need be, then run the same command again",
    )
