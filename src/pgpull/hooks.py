"""What pre-commit runs: are these files of ours as they should be? ``python -m pgpull.hooks FILE...``.

A ``pgpull.toml`` (or a ``pyproject.toml`` with a word for us) has to make sense. A file of an archive stands
for the whole archive, which has to be as it was written. Nothing is asked of any database.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from pgpull import reading, settings
from pgpull.archives import MANIFEST
from pgpull.errors import PgpullError, SettingsError
from pgpull.reporting import Reporter

_CONFIGS: Final = ("pgpull.toml", "pyproject.toml")


def main(names: Iterable[str]) -> int:
    """Look at files, say what is wrong with them, and return 1 if anything is.

    Args:
        names: paths of files, as pre-commit gives them; those that are no concern of ours are passed over.
    """
    found = list(wrong(map(Path, names)))
    reporter = Reporter()
    reporter.only_looks()
    for error in found:
        reporter.failed(error)
    return 1 if found else 0


def wrong(files: Iterable[Path]) -> Iterator[PgpullError]:
    """Yield what is wrong with files; an archive is looked at once, however many of its files are named."""
    archives: dict[Path, None] = {}
    for file in files:
        if file.name in _CONFIGS:
            yield from _wrong_config(file)
        elif folder := _archive_of(file):
            archives[folder] = None
    for folder in archives:
        yield from _wrong_archive(folder)


def _wrong_config(file: Path) -> Iterator[PgpullError]:
    try:
        settings.recipes(file)
    except SettingsError as error:
        yield error


def _archive_of(file: Path) -> Path | None:
    """Return the archive that a file is in: that whose manifest is the next one upwards."""
    return next((folder for folder in file.parents if (folder / MANIFEST).is_file()), None)


def _wrong_archive(folder: Path) -> Iterator[PgpullError]:
    try:
        with reading.whole(folder):
            pass
    except PgpullError as error:
        yield error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
