"""Archives written: files under a partial name, fsync, and the name only when all is there.

In a folder, an archive grows under another name, and is renamed when it is whole. Where nothing can be renamed,
its files are stored first and the manifest last: without it there is no archive.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pgpull.archives import MANIFEST, Manifest
from pgpull.errors import ArchiveError
from pgpull.overwriting import MARK, MARK_TEXT, PARTIAL, REPLACED, SPOOLS, check_free
from pgpull.places import Place, said_clearly
from pgpull.private_files import open_new

if sys.platform != "win32":
    import fcntl

_OURS: Final = (SPOOLS, MANIFEST)
"""One of them is in a folder for as long as anything of an archive is there; the others go before."""


class Writing:
    """An archive that is being written. Its functions may be called in several threads.

    Args:
        place: where it is to stand.
        folder: where its files are made.
        mark: what stands there meanwhile, and tells that nobody else has begun to write there.
        overwrite: whether an archive that stands there may go.
    """

    def __init__(self, place: Place, folder: Path, mark: bytes = b"", *, overwrite: bool = False) -> None:
        self._place = place
        self._folder = folder
        self._mark = mark
        self._overwrite = overwrite
        self.spools = folder / SPOOLS
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
            self._check_mark()
            self._place.remote.put_file(str(made), self._place.below(path))
            made.unlink()

    def _check_mark(self) -> None:
        if not _is_marked(self._place, self._mark):
            raise ArchiveError(
                f"another export has begun to write {self._place.name}",
                "wait until it is through, or name another",
            )

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
                self._check_mark()
                self._place.remote.pipe_file(self._place.below(MANIFEST), text)
                self._place.remote.rm_file(self._place.below(MARK))
                return
            with open_new(self._folder / MANIFEST) as file:
                file.write(text)
            _sync(self._folder / MANIFEST)
            # not before: without either, nobody could tell what a killed export left
            shutil.rmtree(self.spools)
            for folder, _, _ in os.walk(self._folder):
                _sync(Path(folder))
            self._take_its_place()

    def _take_its_place(self) -> None:
        try:
            with said_clearly(self._place):
                # nothing must have come there meanwhile that would go with what stood there
                check_free(self._place, overwrite=self._overwrite, beside=False)
                _rename(self._folder, Path(self._place.path))
        except ArchiveError as error:
            hint = f"the new archive is whole, in {self._folder}: move it where it is to be"
            raise ArchiveError(error.message, hint) from error


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
        if old.exists():
            _remove_folder(old)
        to.rename(old)
        try:
            whole.rename(to)
        except OSError:
            old.rename(to)
            raise
        with suppress(OSError):
            _remove_folder(old)
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
    mark = MARK_TEXT + secrets.token_hex(8).encode() + b"\n"
    with _on_remote(place, mark) if place.remote is not None else _in_folder(place, overwrite) as folder:
        yield Writing(place, folder, mark, overwrite=overwrite)


def _is_marked(place: Place, mark: bytes) -> bool:
    """Whether a mark is still there, and nobody else's."""
    assert place.remote is not None, "a folder is held by its lock"
    with suppress(FileNotFoundError):
        return bool(place.remote.cat_file(place.below(MARK)) == mark)
    return False


@contextmanager
def _in_folder(place: Place, overwrite: bool) -> Iterator[Path]:
    whole = Path(place.path)
    partial = whole.with_name(whole.name + PARTIAL)
    with said_clearly(place):
        whole.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir(mode=0o700, exist_ok=True)
    with _held(partial, place) as number:
        with said_clearly(place):
            partial.chmod(0o700)
            _put_back(whole)
        try:
            check_free(place, overwrite=overwrite, beside=False)  # what was put back may not go, either
            with said_clearly(place):
                _empty(partial)
            yield partial
        finally:
            with suppress(OSError):
                # once ours is whole and has its name, another export may have begun one of its own
                kept = (partial / MANIFEST).exists() and not (partial / SPOOLS).exists()
                if os.path.samestat(partial.stat(), os.fstat(number)) and not kept:
                    _remove_folder(partial)


def _put_back(whole: Path) -> None:
    """Let an archive stand where it did, if an export was killed just as its own was to come there."""
    old = whole.with_name(whole.name + REPLACED)
    if old.is_dir() and not whole.exists():
        old.rename(whole)


@contextmanager
def _held(partial: Path, place: Place) -> Iterator[int]:
    """Keep a folder from other exports, and yield its number; the system lets go of it if we are killed."""
    with said_clearly(place):
        number = os.open(partial, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    try:
        if sys.platform != "win32":
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield number
    except BlockingIOError as error:
        raise ArchiveError(f"another export is writing {place.name}", "wait until it is through") from error
    finally:
        os.close(number)


def _remove_folder(folder: Path) -> None:
    """Remove an archive, or what there is of one."""
    _empty(folder)
    folder.rmdir()


def _empty(folder: Path) -> None:
    """Remove what is in an archive's folder, what tells that it is one at last."""
    for found in sorted(folder.iterdir(), key=lambda found: found.name in _OURS):
        if found.is_dir() and not found.is_symlink():
            shutil.rmtree(found)
        else:
            found.unlink()


@contextmanager
def _on_remote(place: Place, mark: bytes) -> Iterator[Path]:
    """Make files in a private folder, to be stored elsewhere; what was stored goes if it is not complete."""
    assert place.remote is not None, "a folder needs no other"
    with said_clearly(place):
        with suppress(NotImplementedError):
            place.remote.makedirs(place.path, exist_ok=True)
        place.remote.pipe_file(place.below(MARK), mark)
        _remove(place, keep=MARK)
    try:
        with tempfile.TemporaryDirectory(prefix="pgpull-export-") as folder:
            yield Path(folder)
    except BaseException:
        with suppress(Exception):  # what went wrong before is what the user is to hear of
            if _is_marked(place, mark):  # else what is there is another export's
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
