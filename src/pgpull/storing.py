"""Archives written: files under a partial name, fsync, and the name only when all is there.

In a folder, an archive grows under another name, and is renamed when it is whole. Where nothing can be renamed,
its files are stored first and the manifest last: without it there is no archive.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from pgpull.archives import MANIFEST, Manifest
from pgpull.errors import ArchiveError
from pgpull.places import Place, is_archive, said_clearly

if sys.platform != "win32":
    import fcntl

PARTIAL: Final = ".partial"
REPLACED: Final = ".replaced"

MARK: Final = "partial.txt"
"""Stands where files are stored that have no manifest yet."""

_MARK_TEXT: Final = (
    b"pgpull is writing an archive here, or was stopped while it did; the next export replaces it\n"
)


class Writing:
    """An archive that is being written. Its functions may be called in several threads.

    Args:
        place: where it is to stand.
        folder: where its files are made.
    """

    def __init__(self, place: Place, folder: Path) -> None:
        self._place = place
        self._folder = folder
        self.spools = folder / ".spools"
        """A folder for what is on its way into a file."""
        with said_clearly(place):
            self.spools.mkdir(mode=0o700)

    def file(self, path: str) -> Path:
        """Return where a file is to be made, in a folder that is there.

        Args:
            path: below the archive, with slashes.

        Raises:
            ArchiveError: there is no place for it.
        """
        made = self._folder / path
        with said_clearly(self._place):
            for above in reversed(made.relative_to(self._folder).parents):
                (self._folder / above).mkdir(mode=0o700, exist_ok=True)
        return made

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Say clearly what goes wrong with files while a block writes them."""
        with said_clearly(self._place):
            yield

    def keep(self, path: str) -> None:
        """Take a file that was made: it is whole, and survives a loss of power.

        Raises:
            ArchiveError: it cannot be stored.
        """
        made = self._folder / path
        with said_clearly(self._place):
            if self._place.remote is None:
                _sync(made)
                return
            self._place.remote.put_file(str(made), self._place.below(path))
            made.unlink()

    def again(self, path: str) -> Path:
        """Return a file that was kept, to be changed and kept again.

        Raises:
            ArchiveError: it cannot be had.
        """
        made = self._folder / path
        with said_clearly(self._place):
            if self._place.remote is not None:
                open_new(made).close()
                self._place.remote.get_file(self._place.below(path), str(made))
        return made

    def complete(self, manifest: Manifest) -> None:
        """Write the manifest: the archive is whole now.

        Raises:
            ArchiveError: it cannot be written.
        """
        text = manifest.to_json().encode()
        with said_clearly(self._place):
            if self._place.remote is not None:
                self._place.remote.pipe_file(self._place.below(MANIFEST), text)
                self._place.remote.rm_file(self._place.below(MARK))
                return
            shutil.rmtree(self.spools)
            with open_new(self._folder / MANIFEST) as file:
                file.write(text)
            _sync(self._folder / MANIFEST)
            for folder, _, _ in os.walk(self._folder):
                _sync(Path(folder))
            _rename(self._folder, Path(self._place.path))


def open_new(path: Path) -> IO[bytes]:
    """Open a file that nobody else may read, to be written; an old one goes."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def open_more(path: Path) -> IO[bytes]:
    """Open a file that nobody else may read, to be written on at its end."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab", buffering=0)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _rename(whole: Path, to: Path) -> None:
    """Let a whole archive stand where it is to; an older one stands there until then."""
    old = to.with_name(to.name + REPLACED)
    if not (to / MANIFEST).exists():
        whole.rename(to)
    else:
        shutil.rmtree(old, ignore_errors=True)
        to.rename(old)
        try:
            whole.rename(to)
        except OSError:
            old.rename(to)
            raise
        shutil.rmtree(old, ignore_errors=True)
    _sync(to.parent)


@contextmanager
def writing(place: Place, *, overwrite: bool = False) -> Iterator[Writing]:
    """Write an archive within a block; what is not complete at its end is removed.

    Args:
        place: where it is to stand.
        overwrite: whether an archive that stands there may go.

    Raises:
        ArchiveError: something else stands there, or it cannot be written.
    """
    check_free(place, overwrite=overwrite)
    with _on_remote(place) if place.remote is not None else _in_folder(place) as folder:
        yield Writing(place, folder)


def check_free(place: Place, *, overwrite: bool) -> None:
    """Make sure that an archive may be written.

    Raises:
        ArchiveError: something stands there that is not to go.
    """
    if is_archive(place):
        if not overwrite:
            raise ArchiveError(
                f"there is an archive already: {place.name}", "name another, or give --overwrite"
            )
        return
    with said_clearly(place):
        taken = _any_file_there(place)
    if taken:
        raise ArchiveError(
            f"{place.name} is not empty, and is no archive", "name a folder that is empty, or is not there"
        )


def _any_file_there(place: Place) -> bool:
    if place.remote is not None:
        found = set(place.remote.find(place.path))
        return bool(found) and place.below(MARK) not in found
    path = Path(place.path)
    if not path.is_dir():
        return path.exists() or path.is_symlink()
    return any(path.iterdir())


@contextmanager
def _in_folder(place: Place) -> Iterator[Path]:
    whole = Path(place.path)
    partial = whole.with_name(whole.name + PARTIAL)
    with said_clearly(place):
        whole.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir(mode=0o700, exist_ok=True)
    with _held(partial, place):
        with said_clearly(place):
            _empty(partial)
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _held(partial: Path, place: Place) -> Iterator[None]:
    """Keep a folder from other exports; the system lets go of it if we are killed."""
    with said_clearly(place):
        number = os.open(partial, os.O_RDONLY)
    try:
        if sys.platform != "win32":
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ArchiveError(f"another export is writing {place.name}", "wait until it is through") from error
    finally:
        os.close(number)


def _empty(folder: Path) -> None:
    """Remove what a killed export has left."""
    folder.chmod(0o700)
    for found in folder.iterdir():
        if found.is_dir() and not found.is_symlink():
            shutil.rmtree(found)
        else:
            found.unlink()


@contextmanager
def _on_remote(place: Place) -> Iterator[Path]:
    """Make files in a private folder, to be stored elsewhere; what was stored goes if it is not complete."""
    assert place.remote is not None, "a folder needs no other"
    with said_clearly(place):
        with suppress(NotImplementedError):
            place.remote.makedirs(place.path, exist_ok=True)
        place.remote.pipe_file(place.below(MARK), _MARK_TEXT)
        _remove(place, keep=MARK)
    try:
        with tempfile.TemporaryDirectory(prefix="pgpull-export-") as folder:
            yield Path(folder)
    except BaseException:
        with suppress(Exception):  # what went wrong before is what the user is to hear of
            _remove(place, keep=MARK)
            place.remote.rm_file(place.below(MARK))
        raise


def _remove(place: Place, keep: str) -> None:
    """Remove all files of an archive: the manifest first, as without it there is none."""
    assert place.remote is not None, "of a folder, the system removes them"
    found = set(place.remote.find(place.path)) - {place.below(keep)}
    first = place.below(MANIFEST)
    for path in sorted(found, key=lambda path: path != first):
        place.remote.rm_file(path)
