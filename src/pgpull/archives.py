"""An archive: rows in files, and the manifest that says what they are. Values that touch nothing.

::

    manifest.json                    written last: without it the archive is not whole
    askwealth.message/0001.csv       as COPY writes CSV, no header; or .csv.gz, .csv.zst, .parquet
    askwealth.message/month=2025-01/0001.csv          with --by month
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Literal

from pgpull.errors import ArchiveError
from pgpull.model import Scope
from pgpull.shapes import Shape, TableName

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT_VERSION: Final = 1
"""The newest that we read, and the one that we write."""

MANIFEST: Final = "manifest.json"

Format = Literal["csv", "parquet"]
Compression = Literal["gzip", "zstd"]

_NAME: Final = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'

# As format_type() writes it: its text goes into statements, and a manifest may be from anybody.
_TYPE: Final = re.compile(
    rf"(?:{_NAME}(?:\.{_NAME})?|double precision|bit varying|character varying|interval [a-z]+(?: to [a-z]+)?)"
    r"(?:\((?!.*--)[\w ,.-]*\))?(?: with(?:out)? time zone)?(?:\[\])*"
)

_SUM = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """A file of rows, as it is stored."""

    path: str
    """Below the archive's folder, with slashes."""
    rows: int
    size: int
    """In bytes."""
    sha256: str
    """Of the stored bytes, in hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class ArchivedTable:
    """A table's rows in scope, in files."""

    shape: Shape
    """As the source said it."""
    columns: tuple[str, ...]
    """Those in the files, in their order there."""
    scope: Scope
    """Which of its rows are here."""
    rows: int
    files: tuple[ArchivedFile, ...]
    masks: Mapping[str, str] = field(default_factory=dict)
    """Columns whose values are not the source's own, and how each was masked."""
    timezone: str = "UTC"
    """Of columns without one, where a window stands on them."""
    by: str | None = None
    """The column whose months the folders are named after."""
    as_text: tuple[str, ...] = ()
    """Columns that Parquet holds as Postgres' text, for want of a type that takes their values."""

    @property
    def table(self) -> TableName:
        """The table's name."""
        return self.shape.table


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive holds."""

    version: str
    """Of the pgpull that wrote it."""
    source: str
    """Where the rows are from, without a password."""
    snapshot: datetime
    """The instant that they were seen at."""
    encoding: str
    """Of text in CSV files, under Postgres' name: UTF8; SQL_ASCII where the source does not know it."""
    format: Format
    compression: Compression | None
    """Of whole CSV files, or of the pages in Parquet files."""
    tables: tuple[ArchivedTable, ...]
    format_version: int = FORMAT_VERSION

    @property
    def rows(self) -> int:
        """The rows of all tables."""
        return sum(table.rows for table in self.tables)

    @property
    def files(self) -> tuple[ArchivedFile, ...]:
        """The files of all tables."""
        return tuple(file for table in self.tables for file in table.files)

    def table(self, name: TableName) -> ArchivedTable | None:
        """Return the table of that name, or None."""
        return next((table for table in self.tables if table.table == name), None)

    def to_json(self) -> str:
        """Write it as people and programs can read it."""
        return _adapter().dump_json(self, indent=1).decode() + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read what :meth:`to_json` wrote.

        Raises:
            ArchiveError: it is something else, of a newer pgpull, or contradicts itself.
        """
        _check_version(_object(text))
        try:
            manifest = _adapter().validate_json(text)
        except ValueError as error:  # its message would quote what stands there
            raise ArchiveError(f"{MANIFEST} is not as pgpull writes it", _ANEW) from error
        _check_files(manifest)
        return manifest


_ANEW: Final = "has it been edited? export again"


@cache
def _adapter() -> TypeAdapter[Manifest]:
    from pydantic import TypeAdapter  # read when asked for

    return TypeAdapter(Manifest)


_MARKS: Final = frozenset({"format_version", "tables", "snapshot"})


def is_foreign(text: str | bytes) -> bool:
    """Tell whether a file of the manifest's name is none of ours, such as a web app's; a damaged one is ours.

    Args:
        text: what it holds.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return not isinstance(found, dict) or (bool(found) and not found.keys() & _MARKS)


def _object(text: str | bytes) -> Mapping[str, object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"{MANIFEST} is not JSON, or not all of it", _ANEW) from error
    if not isinstance(found, dict) or not found.keys() >= _MARKS:
        raise ArchiveError(f"{MANIFEST} is not a pgpull archive's", "name a folder that `pgpull export` wrote")
    return found


def _check_version(found: Mapping[str, object]) -> None:
    version = found["format_version"]
    if type(version) is int and version == FORMAT_VERSION:
        return
    if type(version) is int and version > FORMAT_VERSION:
        raise ArchiveError(
            f"the archive has format {version}, written by pgpull {found.get('version')!s:.40};"
            f" this pgpull reads format {FORMAT_VERSION}",
            "install a newer pgpull",
        )
    raise ArchiveError(f"the archive has format {version!r:.40}, which there never was", _ANEW)


def _check_files(manifest: Manifest) -> None:
    paths = [file.path for file in manifest.files]
    if odd := [path for path in paths if not _is_below(path)]:
        raise ArchiveError(f"{MANIFEST} names a file outside of the archive: {odd[0]!r}", "do not trust it")
    if twice := _twice(paths) or _twice(str(table.table) for table in manifest.tables):
        raise ArchiveError(f"{MANIFEST} names {twice} twice", _ANEW)
    for table in manifest.tables:
        _check_table(table)


def _check_table(table: ArchivedTable) -> None:
    if any(file.rows < 0 or file.size < 0 or not _SUM.fullmatch(file.sha256) for file in table.files):
        raise ArchiveError(f"{MANIFEST} says of a file of {table.table} what cannot be", _ANEW)
    if (rows := sum(file.rows for file in table.files)) != table.rows:
        raise ArchiveError(f"{MANIFEST} counts {table.rows} rows of {table.table}, and {rows} in files", _ANEW)
    named = {column.name for column in table.shape.columns}
    if unknown := [name for name in table.columns if name not in named]:
        raise ArchiveError(f"{MANIFEST} does not say what {table.table}.{unknown[0]} is", _ANEW)
    if any(not _TYPE.fullmatch(column.type.name) for column in table.shape.columns):
        raise ArchiveError(
            f"{MANIFEST} gives a column of {table.table} a type that cannot be", "do not trust it"
        )
    if twice := _twice(table.columns):
        raise ArchiveError(f"{MANIFEST} names {table.table}.{twice} twice", _ANEW)


def _is_below(path: str) -> bool:
    """Whether a path leads to a file below the archive's folder, on any system."""
    parts = PurePosixPath(path).parts
    plain = str(PurePosixPath(path)) == path and not set("\\:\0") & set(path)
    return plain and len(parts) > 1 and not path.startswith("/") and ".." not in parts


def _twice(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
