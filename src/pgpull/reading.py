"""Archives read: brought here if they are elsewhere, found whole before anything is written, and unpacked."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final, cast

from pgpull import columnar
from pgpull.archives import MANIFEST, ArchivedFile, Manifest
from pgpull.errors import ArchiveError
from pgpull.places import Place, place_of, said_clearly
from pgpull.substitutes import Archive, Stamp

_CHUNK: Final = 128 * 1024

_ANEW: Final = "bring it here again, or export again; nothing was written"


class Damaged(Exception):
    """A file cannot be unpacked, or is another than it was when the archive was found whole."""


@contextmanager
def whole(text: str | Path, *, unpacks: bool = True) -> Iterator[Archive]:
    """Open an archive for the length of a block, and make sure that it is whole and as it was written.

    Args:
        text: its folder, or its URL; then it is brought into a private temporary folder.
        unpacks: whether its rows are to be read.

    Raises:
        UsageError: it is neither, or what its rows would be read with is not installed.
        ArchiveError: there is none, or it is not whole, or was changed.
    """
    place = place_of(text)
    if place.remote is None:
        yield _found_whole(Path(place.path), place.name, unpacks)
        return
    with tempfile.TemporaryDirectory(prefix="pgpull-load-") as folder:  # nobody else can read it
        _bring(place, Path(folder))
        yield _found_whole(Path(folder), place.name, unpacks)


def _bring(place: Place, folder: Path) -> None:
    """Bring an archive's files here: those that its manifest names, and nothing else."""
    with said_clearly(place):
        _fetch(place, MANIFEST, folder)
        for file in _manifest(folder, place.name).files:
            _fetch(place, file.path, folder)


def _fetch(place: Place, path: str, folder: Path) -> None:
    assert place.remote is not None, "what is here need not be brought"
    to = folder / path
    to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileNotFoundError):  # what is missing is told where all is looked for
        place.remote.get_file(place.below(path), str(to))


# --- found whole -----------------------------------------------------------------------------------------


def _found_whole(folder: Path, name: str, unpacks: bool) -> Archive:
    manifest = _manifest(folder, name)
    if unpacks and manifest.format == "parquet":
        columnar.check_installed()
    for file in manifest.files:
        _check_size(folder / file.path, file, name)
    stamps: dict[str, Stamp] = {}
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        found = pool.map(lambda file: _sum_of(folder / file.path, file, name), manifest.files)
        for file, (digest, stamp) in zip(manifest.files, found, strict=True):
            if digest != file.sha256:
                raise ArchiveError(f"{file.path} of the archive {name} was changed since it was written", _ANEW)
            stamps[file.path] = stamp
    return Archive(folder, manifest, name, stamps)


def _manifest(folder: Path, name: str) -> Manifest:
    try:
        text = (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        lacks = f"has no {MANIFEST}: it is no archive, or one that was not finished"
        raise ArchiveError(
            f"{name} {lacks if folder.is_dir() else 'is not there'}", "name a folder that `pgpull export` wrote"
        ) from None
    except OSError as error:
        raise ArchiveError(f"{name} cannot be read: {error.strerror}", "may you read it?") from None
    return Manifest.from_json(text)


def _check_size(path: Path, file: ArchivedFile, name: str) -> None:
    try:
        found = path.stat()
    except OSError:
        found = None
    if found is None or not stat.S_ISREG(found.st_mode):
        raise ArchiveError(f"the archive {name} lacks {file.path}", _ANEW)
    if (size := found.st_size) != file.size:
        raise ArchiveError(
            f"{file.path} of the archive {name} has {size:,} bytes, and should have {file.size:,}", _ANEW
        )


def _sum_of(path: Path, file: ArchivedFile, name: str) -> tuple[str, Stamp]:
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest(), _stamp(opened)
    except OSError as error:
        raise ArchiveError(
            f"{file.path} of the archive {name} cannot be read: {error.strerror}", _ANEW
        ) from None


def _stamp(file: IO[bytes]) -> Stamp:
    """Return what changes when a file is replaced, or written."""
    found = os.fstat(file.fileno())
    return found.st_ino, found.st_size, found.st_mtime_ns


# --- unpacked --------------------------------------------------------------------------------------------


def chunks(archive: Archive, file: ArchivedFile) -> Iterator[bytes]:
    """Yield a file's rows as CSV, in pieces that may end anywhere.

    Raises:
        Damaged: it cannot be unpacked, or was changed since the archive was found whole.
    """
    path = archive.folder / file.path
    try:
        with path.open("rb") as opened:
            _check_stamp(archive, file, opened)
            if archive.manifest.format == "parquet":
                yield from columnar.to_csv(opened, file.rows)
            else:
                yield from _unpacked(opened, archive.manifest.compression)
            _check_stamp(archive, file, opened)
    except (OSError, EOFError, ValueError, zlib.error) as error:  # Arrow's are ValueErrors, and quote values
        raise Damaged from error


def _check_stamp(archive: Archive, file: ArchivedFile, opened: IO[bytes]) -> None:
    if archive.stamps.get(file.path) != _stamp(opened):
        raise Damaged


def _unpacked(opened: IO[bytes], compression: str | None) -> Iterator[bytes]:
    if compression == "gzip":
        return _pieces(cast(IO[bytes], gzip.open(opened)))
    return _from_zstd(opened) if compression == "zstd" else _pieces(opened)


def _from_zstd(opened: IO[bytes]) -> Iterator[bytes]:
    import zstandard  # read when needed

    unpacked = zstandard.ZstdDecompressor().stream_reader(opened, read_across_frames=True)
    try:
        yield from _pieces(cast(IO[bytes], unpacked))
    except zstandard.ZstdError as error:
        raise Damaged from error


def _pieces(unpacked: IO[bytes]) -> Iterator[bytes]:
    while piece := unpacked.read(_CHUNK):
        yield piece
