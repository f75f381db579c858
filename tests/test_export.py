"""An export holds exactly the rows of one instant, and stands under its name only when it is whole."""

from __future__ import annotations

import gzip
import hashlib
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import psycopg
import pytest
import zstandard
from psycopg.sql import SQL, Composed, Identifier
from pyarrow import parquet

from pgpull import (
    ArchiveError,
    Listener,
    Manifest,
    PgpullError,
    PlanError,
    Stopped,
    export,
    load,
    parting,
    spooling,
)
from pgpull.archives import MANIFEST, ArchivedFile, ArchivedTable, Compression, Format
from pgpull.calling import Way
from pgpull.columnar import to_csv
from pgpull.overwriting import MARK, MARK_TEXT, check_free
from pgpull.places import Place, place_of
from pgpull.shapes import TableName
from pgpull.spooling import Spool
from pgpull.storing import writing
from tests.conftest import MakePair, Say
from tests.support import Pair, Proxy
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


@pytest.mark.parametrize("compress", ["gzip", "zstd"])
def test_compressed_files_hold_the_same_rows(full: Pair, tmp_path: Path, compress: Compression) -> None:
    exported = export("askwealth.message", source=full.source_url, to=tmp_path / "a", compress=compress)
    assert all_rows(tmp_path / "a") == expected(full)
    assert exported.bytes < len(expected(full))
    assert exported.manifest == manifest_of(tmp_path / "a")


def test_several_workers_and_files_hold_each_row_once(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parting, "WORTH_BYTES", 1)
    monkeypatch.setattr(spooling, "FILE_BYTES", 100_000)
    pair.add_messages("source", 3_000)
    exported = export("askwealth.*", source=pair.source_url, to=tmp_path / "a", way={"jobs": 3})
    assert exported.manifest.rows == 3_000
    assert len(exported.manifest.files) > 4
    assert alike(all_rows(tmp_path / "a"), expected(pair))


def test_a_column_is_text_in_all_files_of_a_table_where_one_value_has_no_type(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooling, "FILE_BYTES", 20_000)
    pair.add_messages("source", 500)
    pair.source("update askwealth.message set created_at = 'infinity' where created_at = '2025-01-20'")
    export("askwealth.message", source=pair.source_url, to=tmp_path / "a", format="parquet", way={"jobs": 1})
    [table] = manifest_of(tmp_path / "a").tables
    assert table.as_text == ("created_at",)
    assert len(table.files) > 1
    kinds = {parquet.read_schema(tmp_path / "a" / file.path).field("created_at").type for file in table.files}
    assert [str(kind) for kind in kinds] == ["string"]
    assert all_rows(tmp_path / "a", table).replace(b'"', b"").count(b"infinity") == 1


# --- which rows, and which of their columns --------------------------------------------------------------


def test_only_rows_in_scope_and_columns_asked_for_are_there(full: Pair, tmp_path: Path) -> None:
    words: dict[str, Any] = {"since": "2025-01-10", "until": "2025-02-01", "equals": {"role": "user"}}
    export(
        "askwealth.*",
        source=full.source_url,
        to=tmp_path / "a",
        without=["parts"],
        exclude=["*.thread"],
        **words,
    )
    [table] = manifest_of(tmp_path / "a").tables
    assert "parts" not in table.columns
    assert table.scope.window is not None
    assert table.rows == 44
    where = "created_at >= '2025-01-10' and created_at < '2025-02-01' and role = 'user'"
    assert all_rows(tmp_path / "a").count(b"\n") == expected(full, where).count(b"\n")


def test_masked_values_are_not_in_an_archive_and_its_manifest_says_so(full: Pair, tmp_path: Path) -> None:
    full.source('update askwealth.message set annotations = \'{"planted": "anna@example.com"}\'')
    mask = {"annotations": "null", "role": {"constant": "x"}}
    export("askwealth.message", source=full.source_url, to=tmp_path / "a", mask=mask)
    [table] = manifest_of(tmp_path / "a").tables
    assert set(table.masks) == {"annotations", "role"}
    assert table.shape.masks == ()
    assert b"anna@example.com" not in all_rows(tmp_path / "a")
    assert not any(b"anna@" in path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file())


def test_rules_of_the_file_hold_for_an_export(full: Pair, say: Say) -> None:
    Path(".env").write_text(f"SERVER_DB_URL='{full.source_url}'\n")
    Path("pgpull.toml").write_text(
        '[tables."askwealth.message"]\nwithout = ["parts"]\nwhere = "role = \'user\'"\n'
    )
    code, shown, _ = say("export", "askwealth.message", "--to", "a")
    assert (code, "archived 150 rows in a" in shown) == (0, True)
    assert "parts" not in manifest_of(Path("a")).tables[0].columns


def told(query: str) -> list[Any]:
    """Return what DuckDB answers."""
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


# --- by month --------------------------------------------------------------------------------------------


def test_rows_without_a_time_come_too_where_several_workers_share_the_times(
    make_pair: MakePair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parting, "WORTH_BYTES", 0)
    monkeypatch.setattr(parting, "LEAST_BYTES", 1)
    pair = make_pair(schema="create table ev (id int primary key, tenant int, at timestamptz)")
    pair.source(
        "insert into ev select n, n % 2, case when n % 5 > 0 then timestamptz '2025-01-01Z' + n * interval '1h'"
        " end from generate_series(1, 4000) n",
        "create index on ev (tenant)",
        "analyze ev",
        f"alter database {pair.source_db} set enable_seqscan = off",
    )
    words: dict[str, Any] = {"window": "at", "equals": {"tenant": 1}, "way": {"jobs": 3}}
    exported = export("ev", source=pair.source_url, to=tmp_path / "a", by="month", **words)
    assert exported.manifest.rows == 2_000
    others = [file for file in exported.manifest.tables[0].files if "month=other" in file.path]
    assert sum(file.rows for file in others) == 400


def test_each_month_has_a_folder_and_duckdb_reads_them_as_one_table(full: Pair, tmp_path: Path) -> None:
    full.source(
        "insert into askwealth.message select gen_random_uuid(), 'odd', '1', at from unnest("
        "array['infinity', '0044-03-15 BC', '12025-01-01', '2025-01-31 23:59:59.999999+00']::timestamptz[]) at"
    )
    export("askwealth.message", source=full.source_url, to=tmp_path / "a", format="parquet", by="month")
    files = f"{tmp_path}/a/askwealth.message/*/*.parquet"
    rows = f"read_parquet('{files}', hive_partitioning = true, hive_types = {{'month': varchar}})"
    months = told(f"select month, count(*) from {rows} group by 1 order by 1")
    assert months == [("2025-01", 125), ("2025-02", 112), ("2025-03", 64), ("other", 3)]
    assert manifest_of(tmp_path / "a").tables[0].by == "created_at"


def test_types_are_kept_for_duckdb(full: Pair, tmp_path: Path) -> None:
    export("askwealth.message", source=full.source_url, to=tmp_path / "a", format="parquet", by="month")
    rows = f"read_parquet('{tmp_path}/a/askwealth.message/*/*.parquet')"
    newest = full.source("select extract(epoch from max(created_at))::bigint from askwealth.message")
    assert told(f"select epoch(max(created_at))::bigint from {rows}") == newest
    texts = full.source("select parts #>> '{0,text}' from askwealth.message order by message_id")
    query = f"select json_extract_string(parts, '$[0].text') from {rows} order by message_id"
    assert told(query) == texts


def test_a_table_without_a_date_is_not_cut_and_one_without_rows_has_a_file(pair: Pair, tmp_path: Path) -> None:
    pair.source("create table askwealth.plain (id int)", "insert into askwealth.plain values (1), (null)")
    export("askwealth.*", source=pair.source_url, to=tmp_path / "a", format="parquet", by="month")
    paths = [file.path for file in manifest_of(tmp_path / "a").files]
    empty = [f"askwealth.{name}/month=other/0001.parquet" for name in ("message", "thread")]
    assert sorted(paths) == sorted([*empty, "askwealth.plain/0001.parquet"])


def test_names_of_tables_make_folders_of_their_own_wherever_they_are(
    make_pair: MakePair, tmp_path: Path
) -> None:
    names = ['"Order"', '"order"', '"a/b"', '"../.."', '"a.b"', '"tö"']
    pair = make_pair(schema=";".join(f"create table {name} (id int)" for name in names))
    export("*", source=pair.source_url, to=tmp_path / "a")
    folders = {path.name for path in (tmp_path / "a").iterdir() if path.is_dir()}
    assert folders == {
        *(
            "public.Order",
            "public.order~2",
            "public.a%2Fb",
            "public.%2E%2E%2F%2E%2E",
            "public.a%2Eb",
            "public.tö",
        )
    }


def test_a_folder_is_no_longer_than_a_file_s_name_may_be_and_never_the_manifest(
    make_pair: MakePair, tmp_path: Path
) -> None:
    long = ["%" * 63, "%" * 62 + "!"]
    pair = make_pair(
        schema=f'create schema manifest; create table manifest.json (id int); create schema "{long[0]}";'
        + "".join(f'create table "{long[0]}"."{name}" (id int);' for name in long)
    )
    export("*.*", source=pair.source_url, to=tmp_path / "a")
    assert load(tmp_path / "a", target=pair.target_url).exit_code == 0


def test_what_would_end_a_file_for_copy_does_not_end_it(make_pair: MakePair, tmp_path: Path) -> None:
    pair = make_pair(schema="create table t (created_at date, v text)")
    pair.source(r"insert into t values ('2025-01-01', '\.'), ('2025-01-02', null), ('2025-01-03', '')")
    export("t", source=pair.source_url, to=tmp_path / "a", by="month", without=["created_at"])
    load(tmp_path / "a", target=pair.target_url)
    assert pair.images("target", "t", "v") == pair.images("source", "t", "v")


# --- whole, or not there ---------------------------------------------------------------------------------


def test_files_are_for_their_owner_only(full: Pair, tmp_path: Path) -> None:
    for format_ in ("csv", "parquet"):
        export("askwealth.message", source=full.source_url, to=tmp_path / format_, format=format_)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / format_).rglob("*")}
        assert modes == {0o600, 0o700}
        assert stat.S_IMODE((tmp_path / format_).stat().st_mode) == 0o700


def test_an_archive_is_replaced_only_if_that_is_said_and_by_a_whole_one(full: Pair, tmp_path: Path) -> None:
    export("askwealth.message", source=full.source_url, to=tmp_path / "a")
    with pytest.raises(ArchiveError, match="there is an archive already"):
        export("askwealth.message", source=full.source_url, to=tmp_path / "a")
    with pytest.raises(PlanError):
        export("askwealth.nowhere", source=full.source_url, to=tmp_path / "a", overwrite=True)
    assert all_rows(tmp_path / "a") == expected(full)
    export(
        "askwealth.message", source=full.source_url, to=tmp_path / "a", overwrite=True, where="role = 'user'"
    )
    assert manifest_of(tmp_path / "a").rows == ROWS // 2
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_archive_is_never_replaced(full: Pair, tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("a", "file"):
        with pytest.raises(ArchiveError, match="is no archive"):
            export("askwealth.message", source=full.source_url, to=tmp_path / name, overwrite=overwrite)
    assert (tmp_path / "a" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["a.partial", "a.replaced"])
@pytest.mark.parametrize("kind", ["folder", "link"])
def test_what_no_export_has_left_beside_an_archive_is_never_removed(
    full: Pair, tmp_path: Path, name: str, kind: str
) -> None:
    export("askwealth.message", source=full.source_url, to=tmp_path / "a")
    mine = tmp_path / ("mine" if kind == "link" else name)
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    if kind == "link":
        (tmp_path / name).symlink_to(mine)
    with pytest.raises(ArchiveError, match="holds what no export has left"):
        export("askwealth.message", source=full.source_url, to=tmp_path / "a", overwrite=True)
    assert (mine / "thesis.txt").read_text() == "mine"
    assert all_rows(tmp_path / "a") == expected(full)


def test_a_place_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    for name, said in (("~nobody-at-all/a", "~nobody-at-all"), (f"{tmp_path}/file/a", "Not a directory")):
        with pytest.raises(PgpullError, match=said):
            check_free(place_of(name), overwrite=True)
    with pytest.raises(PgpullError, match="loop"):
        check_free(place_of(tmp_path / "loop"), overwrite=True)


NOTHING = Manifest("0", "production", datetime.now(UTC), "UTF8", "csv", None, ())


@pytest.mark.parametrize("root", ["", "memory:/"])
@pytest.mark.parametrize(
    "name", ["thesis.txt", "askwealth.message/0001.txt", "other/askwealth.message/0001.csv"]
)
def test_what_somebody_has_put_into_an_archive_is_not_lost_with_it(
    full: Pair, tmp_path: Path, root: str, name: str
) -> None:
    files = fsspec.filesystem("memory" if root else "file")
    mine = f"{tmp_path}/a/{name}"
    export("askwealth.message", source=full.source_url, to=f"{root}{tmp_path}/a")
    files.makedirs(mine.rpartition("/")[0], exist_ok=True)
    files.pipe_file(mine, b"mine")
    with pytest.raises(ArchiveError, match=f"holds {name}"):
        export("askwealth.message", source=full.source_url, to=f"{root}{tmp_path}/a", overwrite=True)
    assert files.cat_file(mine) == b"mine"
    files.rm_file(mine)
    export("askwealth.message", source=full.source_url, to=f"{root}{tmp_path}/a", overwrite=True)


@pytest.mark.parametrize("text", [b"mine", MARK_TEXT])
def test_a_file_of_the_same_name_makes_no_unfinished_archive(full: Pair, tmp_path: Path, text: bytes) -> None:
    files, place = fsspec.filesystem("memory"), f"memory:/{tmp_path}/a"
    files.pipe({f"{tmp_path}/a/{MARK}": text, f"{tmp_path}/a/thesis.txt": b"mine"})
    with pytest.raises(ArchiveError, match=r"is no archive|holds thesis\.txt"):
        export("askwealth.message", source=full.source_url, to=place)
    assert files.cat_file(f"{tmp_path}/a/thesis.txt") == b"mine"


def test_an_export_that_ends_leaves_alone_what_another_has_begun_in_the_same_place(tmp_path: Path) -> None:
    place = place_of(tmp_path / "a")
    with ExitStack() as ends:
        first = ends.enter_context(writing(place))
        first.complete(NOTHING)
        with writing(place, overwrite=True) as second:
            ends.close()
            assert second.spools.is_dir()
            second.complete(NOTHING)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_archive_that_made_way_for_one_that_never_came_is_put_back(tmp_path: Path) -> None:
    with writing(place_of(tmp_path / "a")) as archive:
        archive.complete(NOTHING)
    (tmp_path / "a").rename(tmp_path / "a.replaced")  # a kill in this very moment
    with pytest.raises(ArchiveError, match="there is an archive already"), writing(place_of(tmp_path / "a")):
        pass
    (tmp_path / "a").rename(tmp_path / "a.replaced")
    with pytest.raises(KeyboardInterrupt), writing(place_of(tmp_path / "a"), overwrite=True):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_table_that_cannot_be_read_leaves_no_archive(full: Pair, tmp_path: Path) -> None:
    full.source(
        "create view askwealth.seen as select 1", "create role reader login", "create table secret (id int)"
    )
    try:
        with pytest.raises(PlanError, match="may not SELECT"):
            export("askwealth.message", "secret", source=full.url("source", "reader"), to=tmp_path / "a")
    finally:
        full.source("drop role reader")
    assert list(tmp_path.iterdir()) == []


class Cutting(Listener):
    """Cuts the connection once, when the first rows are there, and so slow that the last ones are not."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        proxy.slow(4_000_000)
        self.notices: list[str] = []
        self.cut = False

    def packed(self, rows: int, size: int) -> None:
        if not self.cut:
            self.cut = True
            self.proxy.cut()
            self.proxy.slow(None)

    def noticed(self, text: str) -> None:
        self.notices.append(text)


def test_a_lost_server_is_read_from_the_beginning_at_a_new_instant(
    pair: Pair, tmp_path: Path, make_proxy: Callable[..., Proxy]
) -> None:
    pair.add_messages("source", 30_000)
    proxy = make_proxy(pair.source_server)
    listener = Cutting(proxy)
    way: Way = {"listener": listener, "jobs": 1}
    exported = export("askwealth.message", source=pair.source_through(proxy), to=tmp_path / "a", way=way)
    assert (exported.passes, len(listener.notices)) == (2, 1)
    assert exported.manifest.rows == 30_000
    assert all_rows(tmp_path / "a") == expected(pair)


def test_a_server_that_does_not_come_back_leaves_no_archive(
    pair: Pair, tmp_path: Path, make_proxy: Callable[..., Proxy]
) -> None:
    pair.add_messages("source", 30_000)
    proxy = make_proxy(pair.source_server)
    way: Way = {"listener": Cutting(proxy), "retries": 0}
    with pytest.raises(Stopped) as caught:
        export("askwealth.message", source=pair.source_through(proxy), to=tmp_path / "a", way=way)
    assert "no archive was written" in caught.value.hint
    assert caught.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_a_killed_export_leaves_nothing_that_looks_whole_and_the_next_replaces_it(
    full: Pair, tmp_path: Path
) -> None:
    Path(".env").write_text(f"SERVER_DB_URL='{full.source_url}'\n")
    slowly = ["--max-rate", "100rows/s", "--jobs", "1"]
    command = [sys.executable, "-m", "pgpull", "export", "askwealth.message", "--to", "a", *slowly]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while not Path("a.partial").exists():
            time.sleep(0.02)
        with pytest.raises(ArchiveError, match="another export is writing"):
            export("askwealth.message", source=full.source_url, to=tmp_path / "a")
        process.send_signal(signal.SIGKILL)
    assert not Path("a").exists()
    assert not Path("a.partial/manifest.json").exists()
    export("askwealth.message", source=full.source_url, to=tmp_path / "a")
    assert not Path("a.partial").exists()
    assert all_rows(tmp_path / "a") == expected(full)


def test_an_interrupted_export_cleans_up(full: Pair) -> None:
    Path(".env").write_text(f"SERVER_DB_URL='{full.source_url}'\n")
    slowly = ["--max-rate", "100rows/s", "--jobs", "2"]
    command = [sys.executable, "-m", "pgpull", "export", "askwealth.message", "--to", "a", *slowly]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while not Path("a.partial").exists():
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "nothing was written" in said
    assert sorted(path.name for path in Path.cwd().iterdir()) == [".env"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a folder on a disk of a megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False)
        if _IS_ROOT
        else None
    )
    if done is None or done.returncode:
        pytest.skip("only root can make a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


_IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("mount") is not None


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_full_disk_is_a_clear_end_that_leaves_nothing(pair: Pair, small_disk: Path, format: Format) -> None:
    pair.add_messages("source", 10_000)
    with pytest.raises(ArchiveError, match="No space left on device") as caught:
        export("askwealth.message", source=pair.source_url, to=small_disk / "a", format=format)
    assert "make room" in caught.value.hint
    assert list(small_disk.iterdir()) == []


def writes(place: Place, meanwhile: Callable[[], object] = lambda: None, *, overwrite: bool = False) -> None:
    """Write an archive, and have something done before it is complete."""
    with writing(place, overwrite=overwrite) as archive:
        meanwhile()
        archive.complete(NOTHING)


def fails(place: Place, meanwhile: Callable[[], object], error: type[BaseException], **words: bool) -> str:
    """Write an archive, and return what ends it."""
    with pytest.raises(error) as ended:
        writes(place, meanwhile, **words)
    return f"{ended.value}\n{getattr(ended.value, 'hint', '')}"


def interrupt() -> None:
    raise KeyboardInterrupt


def test_an_export_that_is_interrupted_leaves_alone_what_another_has_stored_meanwhile() -> None:
    place = place_of("memory://taken/over")

    def meanwhile() -> None:
        writes(place)
        interrupt()

    fails(place, meanwhile, KeyboardInterrupt)
    assert Manifest.from_json(fsspec.filesystem("memory").cat_file("/taken/over/manifest.json")).rows == 0


def test_an_export_does_not_complete_what_another_has_begun_meanwhile() -> None:
    place = place_of("memory://begun/anew")
    error = fails(place, lambda: fails(place, interrupt, KeyboardInterrupt), ArchiveError)
    assert "another export has begun" in error
    assert not fsspec.filesystem("memory").find("/begun/anew")


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_comes_to_the_place_during_an_export_stays_and_the_new_archive_too(
    tmp_path: Path, overwrite: bool
) -> None:
    place, theirs = place_of(tmp_path / "a"), tmp_path / "a" / ("notes.md" if overwrite else MANIFEST)
    if overwrite:
        writes(place)

    def meanwhile() -> None:
        theirs.parent.mkdir(exist_ok=True)
        theirs.write_text("{}")

    error = fails(place, meanwhile, ArchiveError, overwrite=overwrite)
    assert f"the new archive is whole, in {tmp_path / 'a.partial'}" in error
    assert theirs.read_text() == "{}"
    assert Manifest.from_json((tmp_path / "a.partial" / MANIFEST).read_bytes()).rows == 0


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file become longer than 100,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
def test_a_file_that_takes_a_part_of_its_rows_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "1")
    spool.add([b"x" * 150_000])
    with pytest.raises(OSError, match="too large"):
        spool.flush()


def test_the_place_of_a_file_system_is_refused_before_anything_is_read(
    full: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "volume").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "volume")
    with pytest.raises(ArchiveError, match="is where a file system is mounted"):
        export(str(MESSAGE), source=full.source_url, to=tmp_path / "volume")
    assert not (tmp_path / "volume.partial").exists()
