"""Whether what stands where an archive is to go may be replaced by it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pgpull.archives import MANIFEST
from pgpull.errors import ArchiveError
from pgpull.places import Place, is_archive, said_clearly

PARTIAL: Final = ".partial"
REPLACED: Final = ".replaced"

SPOOLS: Final = ".spools"
"""A folder for what is on its way into a file; it is there until the manifest is."""

MARK: Final = "partial.txt"
"""Stands where files are stored that have no manifest yet."""

_WRITTEN: Final = re.compile(
    rf"{re.escape(MANIFEST)}|{re.escape(MARK)}|[^/]+/(?:month=[^/]+/)?\d{{4,}}\.(?:csv|csv\.gz|csv\.zst|parquet)"
)
"""How the files are called that an export writes."""

MARK_TEXT: Final = (
    b"pgpull is writing an archive here, or was stopped while it did; the next export replaces it\n"
)


def check_free(place: Place, *, overwrite: bool, beside: bool = True) -> None:
    """Make sure that an archive may be written.

    Args:
        place: where it is to stand.
        overwrite: whether an archive that stands there may go.
        beside: whether what is needed beside it is looked at as well.

    Raises:
        ArchiveError: something stands there that is not to go.
    """
    if is_archive(place):
        if not overwrite:
            raise ArchiveError(
                f"there is an archive already: {place.name}", "name another, or give --overwrite"
            )
        _check_all_is_ours(place)
    else:
        with said_clearly(place):
            taken = _any_file_there(place)
        if taken:
            raise ArchiveError(
                f"{place.name} is not empty, and is no archive", "name a folder that is empty, or is not there"
            )
    if place.remote is None and beside:
        _check_no_mount(place)
        _check_beside(place)


def _check_all_is_ours(place: Place) -> None:
    """Make sure that nothing goes with an archive that somebody else has put into its folder."""
    with said_clearly(place):
        strange = next((path for path in _files(place) if not _WRITTEN.fullmatch(path)), None)
    if strange is not None:
        raise ArchiveError(
            f"{place.name} holds {strange}, which no export has written and which would be lost",
            "move it away, or name another place for the archive",
        )


def _files(place: Place) -> Iterator[str]:
    """Yield the paths of all files below a place, with slashes."""
    if place.remote is not None:
        found = (path[len(place.path) + 1 :] for path in place.remote.find(place.path))
        yield from (path for path in found if path and not path.endswith("/"))  # what stands for a folder
        return
    for folder, _, names in os.walk(place.path):
        yield from ((Path(folder) / name).relative_to(place.path).as_posix() for name in names)


def _check_no_mount(place: Place) -> None:
    if Path(place.path).is_mount():
        raise ArchiveError(
            f"{place.name} is where a file system is mounted, and an archive comes to its place by a new name",
            f"name a folder in it: {Path(place.path) / 'archive'}",
        )


def _check_beside(place: Place) -> None:
    """Make sure that what has to go beside an archive was left there by an export."""
    whole = Path(place.path)
    for beside in (whole.with_name(whole.name + ending) for ending in (PARTIAL, REPLACED)):
        with said_clearly(place):
            ours = _is_left_over(beside)
        if not ours:
            raise ArchiveError(
                f"{beside} is needed to write {place.name}, and holds what no export has left there",
                "move it away, or name another place for the archive",
            )


def _is_left_over(path: Path) -> bool:
    """Whether something may go: there is nothing, or an archive that was begun, or that was to be removed."""
    if path.is_symlink() or path.is_file():
        return False
    # twice: between the two questions, another export may put an old archive there, or take it away
    return any(_holds_archive(path) or _is_empty(path) for _ in range(2))


def _holds_archive(folder: Path) -> bool:
    return (folder / SPOOLS).is_dir() or is_archive(Place(folder.name, str(folder)))


def _is_empty(folder: Path) -> bool:
    try:
        return not any(folder.iterdir())
    except FileNotFoundError:
        return True


def _any_file_there(place: Place) -> bool:
    if place.remote is not None:
        found = set(_files(place))
        if MARK in found and _is_mark(place.remote.cat_file(place.below(MARK))):
            _check_all_is_ours(place)
            return False
        return bool(found)
    path = Path(place.path)
    if not path.is_dir():
        return path.exists() or path.is_symlink()
    return any(path.iterdir())


def _is_mark(text: bytes) -> bool:
    """Whether an export has left this; a kill may have cut it short."""
    return text.startswith(MARK_TEXT) or MARK_TEXT.startswith(text)
