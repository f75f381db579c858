"""An export holds exactly the rows of one instant, and stands under its name only when it is whole."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import psycopg
import pytest
import zstandard
from psycopg.sql import SQL, Composed, Identifier

from pgpull import Manifest, export
from pgpull.archives import ArchivedFile, ArchivedTable
from pgpull.columnar import to_csv
from pgpull.shapes import TableName
from tests.conftest import MakePair
from tests.support import Pair
from tests.test_databases import ALIKE, ODD, _psql

MESSAGE = TableName("askwealth", "message")
ROWS = 300


@pytest.fixture
def full(pair: Pair) -> Pair:
    """Give a pair whose source has rows, of several months."""
    pair.add_messages("source", ROWS, step="6 hours")
    return pair


def manifest_of(archive: Path) -> Manifest:
    return Manifest.from_json((archive / "manifest.json").read_text())


def rows_in(archive: Path, file: ArchivedFile) -> bytes:
    """Return a file's rows as CSV, once it is as the manifest says."""
    stored = (archive / file.path).read_bytes()
    assert (len(stored), hashlib.sha256(stored).hexdigest()) == (file.size, file.sha256)
    match Path(file.path).suffix:
        case ".gz":
            return gzip.decompress(stored)
        case ".zst":
            return zstandard.ZstdDecompressor().decompressobj().decompress(stored)
        case ".parquet":
            return b"".join(to_csv(archive / file.path, file.rows))
        case _:
            return stored


def all_rows(archive: Path, table: ArchivedTable | None = None) -> bytes:
    found = table or manifest_of(archive).table(MESSAGE)
    assert found is not None
    return b"".join(rows_in(archive, file) for file in found.files)


def copied(connection: psycopg.Connection, query: Composed | SQL) -> bytes:
    """Return what COPY itself writes."""
    with connection.cursor().copy(SQL("copy ({}) to stdout (format csv)").format(query)) as copy:
        return b"".join(map(bytes, copy))


def expected(pair: Pair, where: str = "true") -> bytes:
    with psycopg.connect(pair.source_url) as connection:
        connection.execute(ALIKE)
        return copied(connection, SQL("select * from only askwealth.message where " + where))


def alike(one: bytes, other: bytes) -> bool:
    """Say whether two files of messages hold the same rows; none of them has a line break."""
    return sorted(one.splitlines()) == sorted(other.splitlines())


def query_of(table: ArchivedTable) -> Composed:
    only = SQL("") if table.shape.kind == "p" else SQL("only ")
    columns = SQL(", ").join(map(Identifier, table.columns))
    return SQL("select {} from {}{}").format(columns, only, Identifier(table.table.schema, table.table.name))


# --- exactness -------------------------------------------------------------------------------------------


@pytest.fixture
def odd(make_pair: MakePair) -> Pair:
    """Give a pair whose source has every odd table."""
    pair = make_pair(schema="select")
    _psql(pair, "source", ODD.read_text())
    return pair


def test_every_odd_table_is_in_a_csv_archive_as_copy_writes_it(odd: Pair, tmp_path: Path) -> None:
    export("*.*", source=odd.source_url, to=tmp_path / "a")
    with psycopg.connect(odd.source_url) as connection:
        connection.execute(ALIKE)
        for table in manifest_of(tmp_path / "a").tables:
            assert all_rows(tmp_path / "a", table) == copied(connection, query_of(table)), table.table


def test_every_odd_table_comes_back_from_a_parquet_archive(odd: Pair, tmp_path: Path) -> None:
    export("*.*", source=odd.source_url, to=tmp_path / "a", format="parquet")
    image = SQL('select t::text from ({}) t order by t::text collate "C"')
    with psycopg.connect(odd.source_url) as connection:
        connection.execute(ALIKE)
        for table in manifest_of(tmp_path / "a").tables:
            query = query_of(table)
            theirs = connection.execute(image.format(query)).fetchall()
            connection.execute(SQL("create temp table back on commit drop as {} with no data").format(query))
            columns = SQL("({})").format(SQL(", ").join(map(Identifier, table.columns)))
            to = SQL("copy back {} from stdin (format csv)").format(columns if table.columns else SQL(""))
            with connection.cursor().copy(to) as copy:
                copy.write(all_rows(tmp_path / "a", table))
            assert connection.execute(image.format(SQL("select * from back"))).fetchall() == theirs, table.table
            connection.execute("drop table back")
