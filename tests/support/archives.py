"""Archives made by hand, as `pgpull export` makes them, for tests of who reads them."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from pathlib import Path

import zstandard
from psycopg.sql import SQL

from pgpull import catalog, columnar
from pgpull.archives import MANIFEST, ArchivedFile, ArchivedTable, Compression, Format, Manifest
from pgpull.endpoints import endpoint_of
from pgpull.model import Scope
from pgpull.sessions import Session, open_source
from pgpull.shapes import Shape, TableName
from pgpull.sql.parts import listed, rows_of

_ENDING: dict[Compression | None, str] = {None: "", "gzip": ".gz", "zstd": ".zst"}


def archived(
    url: str,
    folder: Path | str,
    *tables: str,
    form: Format = "csv",
    compression: Compression | None = None,
    rows: int = 1_000_000,
) -> Path:
    """Make an archive of some tables, or of all, with so many rows in a file at most."""
    folder = Path(folder)
    folder.mkdir(mode=0o700)
    with open_source(endpoint_of(url, "source")) as source:
        names = [TableName.parse(table) for table in tables] or list(catalog.names_of(source))
        shapes = catalog.shapes_of(source, names)
        made = tuple(_table(source, shape, folder, form, compression, rows) for shape in shapes.values())
        manifest = Manifest("0", "production", source.identity.now, "UTF8", form, compression, made)
    (folder / MANIFEST).write_text(manifest.to_json())
    return folder


def _table(
    source: Session, shape: Shape, folder: Path, form: Format, compression: Compression | None, most: int
) -> ArchivedTable:
    columns = [column for column in shape.columns if not column.generated]
    statement = SQL("copy (select {} from {}) to stdout (format csv)").format(
        listed(column.name for column in columns), rows_of(shape)
    )
    with source.connection.cursor().copy(statement) as copy:
        rows = [bytes(row) for row in copy]
    below = str(shape.table).replace("/", "_")
    (folder / below).mkdir()
    parts = [rows[at : at + most] for at in range(0, len(rows), most)]
    ending = ".parquet" if form == "parquet" else f".csv{_ENDING[compression]}"
    paths = [folder / below / f"{number:04}{ending}" for number, _ in enumerate(parts, 1)]
    text: frozenset[str] = frozenset()
    for path, part in zip(paths, parts, strict=True):
        data = b"".join(part)
        if form == "parquet":
            (plain := folder / "spool").write_bytes(data)
            text |= columnar.to_parquet(plain, path, columns, (), compression)
            plain.unlink()
        else:
            path.write_bytes(_compressed(data, compression))
    for path in paths if text else ():
        columnar.retype(path, text, compression)
    return ArchivedTable(
        shape=shape,
        columns=tuple(column.name for column in columns),
        scope=Scope(),
        rows=len(rows),
        files=tuple(_file(folder, path, part) for path, part in zip(paths, parts, strict=True)),
        as_text=tuple(sorted(text)),
    )


def _compressed(data: bytes, compression: Compression | None) -> bytes:
    if compression == "gzip":
        return gzip.compress(data, 1)
    return zstandard.compress(data) if compression == "zstd" else data


def _file(folder: Path, path: Path, rows: Sequence[bytes]) -> ArchivedFile:
    data = path.read_bytes()
    return ArchivedFile(str(path.relative_to(folder)), len(rows), len(data), hashlib.sha256(data).hexdigest())
