"""Whole databases: pulled, pulled again, damaged and mended, between servers of different versions."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from pgpull import Summary, export, load, pull_tables
from pgpull.archives import Compression, Format
from tests.conftest import MakePair
from tests.support import Pair, Side, available_versions

VERSIONS = sorted(available_versions())
DIRECTIONS = [(VERSIONS[-1], VERSIONS[0]), (VERSIONS[0], VERSIONS[-1])]

ODD = Path(__file__).parent / "databases" / "odd.sql"
CORPUS = Path(__file__).parents[2] / "shared" / "corpus"
REAL = ["chat_dev", "chinook", "northwind", "pagila", "pgcopydb_unit"]

ALIKE = """
    set timezone = 'UTC'; set datestyle = 'ISO'; set extra_float_digits = 3; set intervalstyle = 'postgres';
    set bytea_output = 'hex'; set client_encoding = 'UTF8'; set search_path = pg_catalog;
    set quote_all_identifiers = off
"""

TABLES = """
    select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and n.nspname !~ '^(pg_|information_schema$|pgpull$)'
"""

# Columns that can be given another value without breaking a rule: in no index, no constraint.
FREE = """
    select attname from pg_attribute a
    where attrelid = %s::regclass and attnum > 0 and not attisdropped and attgenerated = '' and attidentity = ''
      and format_type(atttypid, atttypmod) in ('text', 'jsonb', 'timestamp with time zone', 'date', 'bytea')
      and not exists (select from pg_index i where i.indrelid = a.attrelid and a.attnum = any (i.indkey))
      and not exists (select from pg_constraint k where k.conrelid = a.attrelid and a.attnum = any (k.conkey))
"""

FOREIGN_KEYS = """
    select conrelid::regclass::text, confrelid::regclass::text,
           array(select quote_ident(attname) from unnest(conkey) with ordinality k (n, place)
                 join pg_attribute on attrelid = conrelid and attnum = n order by place),
           array(select quote_ident(attname) from unnest(confkey) with ordinality k (n, place)
                 join pg_attribute on attrelid = confrelid and attnum = n order by place)
    from pg_constraint where contype = 'f'
"""


@dataclass
class Database:
    """A database on the server, and one of the same schema and no rows here."""

    pair: Pair
    refused: int = 0
    """Rows that the target does not take, and rightly."""

    def pull(self, **words: Any) -> Summary:
        pair = self.pair
        summary = pull_tables("*.*", source=pair.source_url, target=pair.target_url, **words)
        assert [(str(failure.table), failure.error.message) for failure in summary.failures] == []
        assert summary.tally.failed == self.refused
        return summary

    def images(self, side: Side) -> dict[tuple[str, str], tuple[str, int]]:
        """Return a checksum of the rows of each table as PostgreSQL writes them, and how many there are."""
        image = SQL(
            """select md5(coalesce(string_agg(t::text, E'\\n' order by t::text collate "C"), '')), count(*)
            from only {} t"""
        )
        found = {}
        with psycopg.connect(self.pair.url(side)) as connection:
            connection.execute(ALIKE)
            for schema, name in connection.execute(TABLES).fetchall():
                row = connection.execute(image.format(Identifier(schema, name))).fetchone()
                assert row is not None
                found[schema, name] = row
        return found

    def unlike(self) -> list[tuple[str, str]]:
        """Return the tables whose rows are not the same on both sides."""
        theirs, ours = self.images("source"), self.images("target")
        assert theirs.keys() == ours.keys()
        return sorted(table for table in theirs if theirs[table] != ours[table])

    def damage(self) -> None:
        """Take some rows away on either side, and change some here; foreign keys hold on the server."""
        self._each("target", self._change)
        self._each("target", lambda connection, table: self._delete(connection, table, 0))
        self._each("source", lambda connection, table: self._delete(connection, table, 1))
        with self._unchecked("source") as connection:
            while sum(connection.execute(statement).rowcount for statement in _orphans(connection)):
                pass

    def _each(self, side: Side, deed: Any) -> None:
        with self._unchecked(side) as connection:
            for schema, name in connection.execute(TABLES).fetchall():
                deed(connection, Identifier(schema, name))

    def _unchecked(self, side: Side) -> psycopg.Connection:
        options = "-c session_replication_role=replica"
        return psycopg.connect(self.pair.url(side), autocommit=True, options=options)

    def _delete(self, connection: psycopg.Connection, table: Identifier, some: int) -> None:
        chosen = "select ctid from only {0} t where abs(hashtext(t::text)) % 5 = {1}"
        connection.execute(SQL("delete from only {0} where ctid in (" + chosen + ")").format(table, some))

    def _change(self, connection: psycopg.Connection, table: Identifier) -> None:
        for (column,) in connection.execute(FREE, [table.as_string(None)]).fetchall():
            other = "update only {0} t set {1} = (select {1} from only {0} limit 1)"
            some = " where abs(hashtext(t::text)) % 4 = 1"
            connection.execute(SQL(other + some).format(table, Identifier(column)))


def _orphans(connection: psycopg.Connection) -> Iterator[str]:
    for child, parent, columns, referred in connection.execute(FOREIGN_KEYS).fetchall():
        same = " and ".join(f"p.{theirs} = c.{own}" for own, theirs in zip(columns, referred, strict=True))
        given = " and ".join(f"c.{own} is not null" for own in columns)
        yield f"delete from {child} c where {given} and not exists (select from {parent} p where {same})"


def _psql(pair: Pair, side: Side, script: str) -> None:
    command: list[str | Path] = [pair.server(side).psql_bin, "-X", "-q", "-d", pair.url(side)]
    done = subprocess.run(command, input=script, text=True, capture_output=True, check=True)
    # what an older server does not know of, it need not be told
    wrong = [line for line in done.stderr.splitlines() if "ERROR" in line and "transaction_timeout" not in line]
    assert not wrong


def _database(make_pair: MakePair, versions: tuple[int, int], script: str) -> Pair:
    pair = make_pair(*versions, schema="select")
    _psql(pair, "source", script)
    dump: list[str | Path] = [
        pair.source_server.bin("pg_dump"),
        "--schema-only",
        "--no-owner",
        "-d",
        pair.source_url,
    ]
    _psql(pair, "target", subprocess.run(dump, text=True, capture_output=True, check=True).stdout)
    return pair


def _is_pulled_and_mended(database: Database, but: list[tuple[str, str]]) -> None:
    database.pull()
    assert database.unlike() == but
    assert database.pull().written == 0
    assert database.pull(on_conflict="update", row_versions=False).written == 0
    database.damage()
    words = {"on_conflict": "update", "mirror": True, "max_delete": "100%"}
    assert database.pull(**words).written
    assert database.unlike() == but
    database.pull(replace=True)
    assert database.unlike() == but


def _named(directions: tuple[int, int]) -> str:
    return "-to-".join(map(str, directions))


@pytest.mark.parametrize("versions", DIRECTIONS, ids=_named)
def test_every_odd_table_is_pulled_and_mended(make_pair: MakePair, versions: tuple[int, int]) -> None:
    database = Database(_database(make_pair, versions, ODD.read_text()), refused=1)
    # a check that is not valid holds for new rows, whatever the old ones are like
    _is_pulled_and_mended(database, but=[("public", "notvalid")])


THEIR_HABITS = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "client_encoding": "LATIN1",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "standard_conforming_strings": "off",
    "search_path": "nowhere",
    "quote_all_identifiers": "on",
}
OUR_HABITS = {
    "DateStyle": "German",
    "IntervalStyle": "iso_8601",
    "TimeZone": "America/St_Johns",
    "bytea_output": "hex",
    "extra_float_digits": "0",
    "client_encoding": "SQL_ASCII",
    "default_transaction_isolation": "repeatable read",
    "default_transaction_deferrable": "on",
    "default_transaction_read_only": "on",
    "xmloption": "document",
    "search_path": "pg_catalog",
    "synchronous_commit": "off",
}


def test_whatever_the_habits_of_the_two_databases_are_rows_arrive_as_they_are(make_pair: MakePair) -> None:
    database = Database(_database(make_pair, DIRECTIONS[0], ODD.read_text()), refused=1)
    habits: list[tuple[Side, dict[str, str]]] = [("source", THEIR_HABITS), ("target", OUR_HABITS)]
    for side, settings in habits:
        for name, value in settings.items():
            changed = f"alter database {database.pair.database(side)} set {name} = '{value}'"
            database.pair.server(side).sql("postgres", changed)
    database.pull()
    assert database.unlike() == [("public", "notvalid")]
    assert database.pull(on_conflict="update", row_versions=False).written == 0


@pytest.mark.parametrize("versions", DIRECTIONS, ids=_named)
@pytest.mark.parametrize("name", REAL)
def test_every_table_of_a_real_database_is_pulled_and_mended(
    make_pair: MakePair, name: str, versions: tuple[int, int]
) -> None:
    _is_pulled_and_mended(Database(_database(make_pair, versions, _dump(name))), but=[])


def _is_loaded_and_mended(
    database: Database, but: list[tuple[str, str]], form: Format, compression: Compression
) -> None:
    pair = database.pair
    export("*.*", source=pair.source_url, to="archive", format=form, compress=compression)

    def loads(**words: Any) -> Summary:
        summary = load("archive", target=pair.target_url, **words)
        assert [(str(failure.table), failure.error.message) for failure in summary.failures] == []
        assert summary.tally.failed == database.refused
        return summary

    loads()
    assert database.unlike() == but
    database._each("target", database._change)
    database._each("target", lambda connection, table: database._delete(connection, table, 0))
    assert loads(on_conflict="update", mirror=True, max_delete="100%").written
    assert database.unlike() == but
    assert loads(on_conflict="update").written == 0


FORMS: list[tuple[Format, Compression]] = [("csv", "zstd"), ("parquet", "zstd")]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form[0])
def test_every_odd_table_is_exported_and_loaded(make_pair: MakePair, form: tuple[Format, Compression]) -> None:
    database = Database(_database(make_pair, DIRECTIONS[0], ODD.read_text()), refused=1)
    _is_loaded_and_mended(database, [("public", "notvalid")], *form)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form[0])
@pytest.mark.parametrize("name", REAL)
def test_every_table_of_a_real_database_is_exported_and_loaded(
    make_pair: MakePair, name: str, form: tuple[Format, Compression]
) -> None:
    _is_loaded_and_mended(Database(_database(make_pair, DIRECTIONS[0], _dump(name))), [], *form)


def _dump(name: str) -> str:
    dump = CORPUS / f"{name}.sql.gz"
    if not dump.exists():
        pytest.skip(f"there is no {dump}")
    return gzip.decompress(dump.read_bytes()).decode()
