"""What pre-commit runs: are these files of ours as they should be? ``python -m pgpull.hooks FILE...``.

A ``pgpull.toml`` (or a ``pyproject.toml`` with a word for us) has to make sense. A file of an archive stands
for the whole archive, which has to be as it was written. Nothing is asked of any database.

With ``--masked``, columns of archives that look personal by their names have to be masked, or to
have a rule in ``pgpull.toml`` (``"keep"`` does).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from pgpull import config_file, reading
from pgpull.archives import MANIFEST, ArchivedTable, is_foreign
from pgpull.errors import PgpullError, PlanError, SettingsError
from pgpull.exposed import unruled
from pgpull.fitting import chosen
from pgpull.masking import NO_MASKS, Masks
from pgpull.reporting import Reporter

_CONFIGS: Final = ("pgpull.toml", "pyproject.toml")
_MASKED: Final = "--masked"


def main(names: Sequence[str]) -> int:
    """Look at files, say what is wrong with them, and return 1 if anything is.

    Args:
        names: paths of files, as pre-commit gives them; those that are no concern of ours are passed over.
    """
    files = [Path(name) for name in names if name != _MASKED]
    found = list(wrong(files, masked=_MASKED in names))
    reporter = Reporter()
    reporter.only_looks()
    for error in found:
        reporter.failed(error)
    return 1 if found else 0


def wrong(files: Iterable[Path], *, masked: bool = False) -> Iterator[PgpullError]:
    """Yield what is wrong with files; an archive is looked at once, however many of its files are named.

    Args:
        files: where they are.
        masked: whether what looks personal in archives has to be masked.
    """
    archives: dict[Path, None] = {}
    for file in files:
        if file.name in _CONFIGS:
            yield from _wrong_config(file)
        elif folder := _archive_of(file):
            archives[folder] = None
    for folder in archives:
        yield from _wrong_archive(folder, masked)


def _wrong_config(file: Path) -> Iterator[PgpullError]:
    try:
        config_file.recipes(file)
    except SettingsError as error:
        yield error


def _archive_of(file: Path) -> Path | None:
    """Return the archive that a file is in: that whose manifest is the next one upwards."""
    return next((folder for folder in file.parents if _is_archive(folder / MANIFEST)), None)


def _is_archive(manifest: Path) -> bool:
    return manifest.is_file() and not is_foreign(manifest.read_bytes())


def _wrong_archive(folder: Path, masked: bool) -> Iterator[PgpullError]:
    try:
        with reading.whole(folder, unpacks=False) as archive:
            tables = archive.manifest.tables if masked else ()
        rules = config_file.recipes().masks if masked else NO_MASKS
        bare = [(table, _bare(table, rules)) for table in tables]
    except PgpullError as error:
        yield error
        return
    for table, names in bare:
        if names:
            yield PlanError(
                f"{folder} holds columns of {table.table} that look personal, or have a mask rule, and are not"
                f" masked: {', '.join(names)}",
                'export it anew with masks for them (docs/masks.md), or rule in pgpull.toml: COLUMN = "keep"',
            )


def _bare(table: ArchivedTable, rules: Masks) -> list[str]:
    """Name the columns that are as they were, and have a rule to mask them, or look personal and have none."""
    found = (table.shape.column(name) for name in table.columns if name not in table.masks)
    plain = tuple(column for column in found if column)
    ruled = (each.column for each in chosen(rules, replace(table.shape, columns=plain)))
    return [column.name for column in (*unruled(rules, table.shape, plain), *ruled)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
