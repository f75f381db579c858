"""Spools become an archive's files, in threads of their own: compressed or in Parquet, summed, and stored."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import IO, Final

from pgpull import columnar
from pgpull.archives import ArchivedFile, ArchivedTable, Compression
from pgpull.packing import Export, Packed
from pgpull.private_files import open_new
from pgpull.shapes import Column
from pgpull.spooling import Spool
from pgpull.sql.sending import NO_MONTH
from pgpull.storing import Writing

_COPY_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Finished:
    """A file that is stored, and the columns that it has as text for want of a type."""

    file: ArchivedFile
    as_text: frozenset[str] = frozenset()


class Finisher:
    """Makes files of spools while more are filled. Its functions may be called in several threads.

    Args:
        export: how files are made.
        writing: where they go.
        threads: how many are made at a time.
    """

    def __init__(self, export: Export, writing: Writing, threads: int) -> None:
        self._export = export
        self._writing = writing
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="pgpull-finisher")
        # who fills spools waits where files take longer than rows: else the disk would fill up with spools
        self._room = threading.Semaphore(2 * threads)
        self._under_way: dict[str, list[Future[_Finished]]] = defaultdict(list)
        self._numbers: dict[tuple[str, str], Iterator[int]] = defaultdict(lambda: count(1))
        self._as_text: dict[str, frozenset[str]] = defaultdict(frozenset)
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._spools = count(1)

    def spool(self) -> Path:
        """Return where another spool may go."""
        return self._writing.spools / f"{next(self._spools)}.csv"

    def take(self, packed: Packed, spool: Spool) -> None:
        """Make a file of a spool, in a while; wait if there are many already.

        Raises:
            PgpullError: one before could not be made.
        """
        while not self._room.acquire(timeout=0.2):
            self.check()
        self.check()
        with self._lock:
            number = next(self._numbers[packed.folder, spool.month])
            path = packed.path(spool.month, number, self._export.ending)
            made = self._pool.submit(self._finish, packed, spool, path)
            self._under_way[packed.folder].append(made)
        made.add_done_callback(self._done)

    def check(self) -> None:
        """Let an error be heard.

        Raises:
            PgpullError: a file could not be made.
        """
        if self._failure is not None:
            raise self._failure

    def table(self, packed: Packed) -> ArchivedTable:
        """Wait until all files of a table are stored, and return what the manifest says of it.

        Raises:
            PgpullError: one could not be made.
        """
        if not self._under_way[packed.folder]:
            self.take(packed, self._without_rows(packed))
        found = [made.result() for made in self._under_way[packed.folder]]
        as_text = frozenset[str]().union(*(each.as_text for each in found))
        files = [self._alike(each, as_text) for each in found]
        return packed.archived(files, as_text)

    def _without_rows(self, packed: Packed) -> Spool:
        """Return an empty spool: who reads a table's files finds one."""
        spool = Spool(self.spool(), NO_MONTH if packed.by else "")
        with self.filling():
            spool.flush()
        return spool

    def filling(self) -> AbstractContextManager[None]:
        """Say clearly what goes wrong with files while a block writes them."""
        return self._writing.filling()

    def close(self) -> None:
        """Begin nothing more, and wait for what is under way."""
        self._pool.shutdown(cancel_futures=True)

    def _done(self, made: Future[_Finished]) -> None:
        self._room.release()
        if not made.cancelled():
            self._failure = self._failure or made.exception()

    # --- in a thread of the pool -------------------------------------------------------------------------

    def _finish(self, packed: Packed, spool: Spool, path: str) -> _Finished:
        with self._writing.filling():
            file = self._writing.file(path)
            as_text = self._make(packed, spool, file)
            finished = ArchivedFile(path, spool.rows, file.stat().st_size, _sum(file))
            self._writing.keep(path)
            return _Finished(finished, as_text)

    def _make(self, packed: Packed, spool: Spool, file: Path) -> frozenset[str]:
        if self._export.format == "parquet":
            return self._make_parquet(packed, spool, file)
        if self._export.compression is None:
            spool.path.rename(file)
        else:
            with spool.path.open("rb") as rows, open_new(file) as made:
                _compress(rows, made, self._export.compression, spool.size)
            spool.path.unlink()
        return frozenset()

    def _make_parquet(self, packed: Packed, spool: Spool, file: Path) -> frozenset[str]:
        known = self._as_text[packed.folder]
        open_new(file).close()  # with nobody's eyes but ours on it
        found = columnar.to_parquet(spool.path, file, _columns(packed), known, self._export.packed)
        spool.path.unlink()
        with self._lock:
            self._as_text[packed.folder] |= found
        return found

    def _alike(self, finished: _Finished, as_text: frozenset[str]) -> ArchivedFile:
        """Write a file anew that was made before it was known that some columns have to be text."""
        if finished.as_text == as_text:
            return finished.file
        path = finished.file.path
        with self._writing.filling():
            file = self._writing.again(path)
            columnar.retype(file, as_text, self._export.packed)
            changed = replace(finished.file, size=file.stat().st_size, sha256=_sum(file))
            self._writing.keep(path)
            return changed


def _columns(packed: Packed) -> Sequence[Column]:
    named = {column.name: column for column in packed.plan.source.columns}
    return [named[name] for name in packed.plan.columns]


def _compress(rows: IO[bytes], made: IO[bytes], compression: Compression, size: int) -> None:
    if compression == "zstd":
        import zstandard  # who does not compress does not wait for it

        zstandard.ZstdCompressor(write_checksum=True).copy_stream(rows, made, size=size)
        return
    from isal import igzip  # ten times as quick as the gzip of Python itself; read when needed

    with igzip.IGzipFile("", "wb", fileobj=made, mtime=0) as packed:
        shutil.copyfileobj(rows, packed, _COPY_BYTES)


def _sum(file: Path) -> str:
    with file.open("rb") as stored:
        return hashlib.file_digest(stored, "sha256").hexdigest()


@contextmanager
def finishing(export: Export, writing: Writing, threads: int) -> Iterator[Finisher]:
    """Make files of spools for the length of a block."""
    finisher = Finisher(export, writing, threads)
    try:
        yield finisher
    finally:
        finisher.close()
