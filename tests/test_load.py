"""Archives are loaded as a server is pulled, and refused before anything is written if they are not whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fsspec
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from pgpull import (
    PlanError,
    Stopped,
    Summary,
    UnsafeTarget,
    UsageError,
    catalog,
    export,
    load,
    pull_tables,
)
from pgpull.archives import MANIFEST, Compression, Format, Manifest
from pgpull.errors import ArchiveError
from pgpull.listening import Listener
from pgpull.plans import Wire
from pgpull.results import Tally
from pgpull.splitting import CutShort, cells, record, records
from tests.conftest import MakePair
from tests.support import Pair, programs
from tests.support.archives import archived

MESSAGE = "askwealth.message"


@pytest.fixture
def full(pair: Pair) -> Pair:
    """Give a pair whose source has messages."""
    pair.add_messages("source", 300)
    return pair


def loaded(pair: Pair, archive: Path | str, *tables: str, **words: Any) -> Summary:
    """Load an archive, and make sure that every table went through and nothing is left behind."""
    summary = load(archive, *tables, target=pair.target_url, **words)
    assert [str(failure.error) for failure in summary.failures] == []
    assert not scratch(pair)
    return summary


def scratch(pair: Pair) -> list[Any]:
    return pair.target("select nspname from pg_namespace where nspname like 'pgpull%'")


def rewritten(archive: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((archive / MANIFEST).read_text())
    change(manifest)
    (archive / MANIFEST).write_text(json.dumps(manifest))


# --- CSV into records ------------------------------------------------------------------------------------

values = st.one_of(st.none(), st.text(st.sampled_from('a,"\n\r\\. '), max_size=6).map(str.encode))


@given(st.lists(st.lists(values, min_size=1, max_size=3), max_size=6), st.integers(1, 9))
def test_records_are_whole_wherever_the_bytes_are_cut(rows: list[list[bytes | None]], size: int) -> None:
    data = b"".join(record(row) + b"\n" for row in rows)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    found = [one for some in records(pieces) for one in some]
    assert [cells(one) for one in found] == rows
    if rows and rows[-1] != [None]:  # which is an empty line, and leaves nothing behind
        with pytest.raises(CutShort):
            list(records([data[:-1]]))


# --- as a pull -------------------------------------------------------------------------------------------

FORMS: list[tuple[Format, Compression | None]] = [
    ("csv", None),
    ("csv", "gzip"),
    ("csv", "zstd"),
    ("parquet", None),
    ("parquet", "zstd"),
]


@pytest.mark.parametrize(("form", "compression"), FORMS)
def test_what_an_archive_holds_is_what_arrives(
    full: Pair, form: Format, compression: Compression | None
) -> None:
    archive = archived(full.source_url, "a", form=form, compression=compression, rows=90)
    summary = loaded(full, archive)
    assert summary.tally == Tally(300, inserted=300)
    assert full.same(MESSAGE)
    assert loaded(full, archive, on_conflict="update", verify=True).written == 0


def test_rows_of_an_empty_table_go_from_the_files_into_copy_and_are_never_laid_out(full: Pair) -> None:
    archive = archived(full.source_url, "a")
    [report, _] = loaded(full, archive).reports
    assert report.plan.wire is Wire.CSV
    assert report.plan.source.stored is None
    assert report.snapshot == Manifest.from_json((archive / MANIFEST).read_bytes()).snapshot


def test_several_workers_take_file_after_file(full: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgpull.parting.WORTH_BYTES", 1)
    archive = archived(full.source_url, "a", MESSAGE, rows=20)
    [report] = loaded(full, archive, MESSAGE, way={"jobs": 3}).reports
    assert (report.plan.jobs, len(report.plan.parts)) == (3, 15)
    assert full.same(MESSAGE)


def test_rows_here_are_left_alone_or_taken_over(full: Pair) -> None:
    archive = archived(full.source_url, "a")
    loaded(full, archive)
    full.target(
        f"delete from {MESSAGE} where role = 'user'", f"update {MESSAGE} set role = 'x' where parts::text ~ 'a'"
    )
    before = full.images("target", MESSAGE, "message_id, role")
    assert loaded(full, archive).tally == Tally(300, inserted=150, skipped=150)
    assert set(before) <= set(full.images("target", MESSAGE, "message_id, role"))
    assert loaded(full, archive, on_conflict="update", verify=True).tally.updated
    assert full.same(MESSAGE)


@pytest.mark.parametrize(
    "words",
    [
        {"since": "2025-01-03", "until": "2025-01-05"},
        {"equals": {"role": "user"}},
        {"where": "message.annotations is not null"},
    ],
)
def test_a_scope_means_the_same_rows_as_on_the_server(full: Pair, words: dict[str, Any]) -> None:
    pulled = pull_tables(MESSAGE, source=full.source_url, target=full.target_url, **words)
    archive = archived(full.source_url, "a")
    assert loaded(full, archive, MESSAGE, **words).tally == Tally(
        pulled.tally.fetched, skipped=pulled.tally.fetched
    )
    before = full.images("target", MESSAGE)
    full.target(f"delete from {MESSAGE}")
    assert loaded(full, archive, MESSAGE, **words).tally == pulled.tally
    assert full.images("target", MESSAGE) == before


def test_mirror_and_replace_leave_what_the_archive_holds(full: Pair) -> None:
    archive = archived(full.source_url, "a")
    full.add_messages("target", 20, seed="mine")
    assert loaded(full, archive, MESSAGE, mirror=True, max_delete="100%").reports[0].deleted == 20
    assert full.same(MESSAGE)
    full.add_messages("target", 20, seed="mine")
    assert loaded(full, archive, MESSAGE, replace=True).reports[0].deleted == 320
    assert full.same(MESSAGE)


@pytest.mark.parametrize("words", [{"mirror": True, "max_delete": "100%"}, {"replace": True}])
@pytest.mark.parametrize(
    ("scope", "gone"),
    [({}, 2), ({"since": "2025-01-03", "until": "2025-02-01"}, 1), ({"where": "role <> 'assistant'"}, 1)],
)
def test_rows_that_an_archive_was_never_to_hold_are_not_deleted(
    full: Pair, words: dict[str, Any], scope: dict[str, Any], gone: int
) -> None:
    export(MESSAGE, source=full.source_url, to="a", since="2025-01-02", until="2025-01-04")
    mine = f"insert into {MESSAGE} values (gen_random_uuid(), '%s', '1', '%s')"
    full.target(
        *(mine % row for row in [("a", "2025-01-01"), ("assistant", "2025-01-02"), ("a", "2025-01-03")])
    )
    loaded(full, "a", MESSAGE, **words, **scope)
    kept = full.target(f"select count(*) from {MESSAGE} where parts = '1'")
    assert kept == [(3 - gone,)]
    if gone == 1:
        with pytest.raises(PlanError, match="rows outside of it are not to be deleted"):
            load("a", MESSAGE, target=full.target_url, timezone="Europe/Berlin", **words, **scope)


@pytest.mark.parametrize("words", [{"mirror": True, "max_delete": "100%"}, {"replace": True}])
@pytest.mark.parametrize("more", [{}, {"since": "2025-01-02"}, {"where": "role = 'assistant'"}])
def test_sql_that_stands_in_an_archive_is_run_here_only_if_we_say_it_ourselves(
    full: Pair, words: dict[str, Any], more: dict[str, Any]
) -> None:
    where = "role <> 'assistant' and length(role) > 0"
    export(MESSAGE, source=full.source_url, to="a", where=where)
    before = full.images("target", MESSAGE)
    with pytest.raises(PlanError, match="where \"role <> 'assistant' and length") as refused:
        load("a", MESSAGE, target=full.target_url, **words, **more)
    assert "give it as --where" in refused.value.hint
    assert full.images("target", MESSAGE) == before
    full.target(f"insert into {MESSAGE} values (gen_random_uuid(), 'user', '1', '2025-01-03')")
    narrower = more if "since" in more else {}
    loaded(full, "a", MESSAGE, where=where, **words, **narrower)
    assert not full.target(f"select 1 from {MESSAGE} where parts = '1'")


def test_tables_come_in_the_order_of_their_foreign_keys_with_rows_that_refer_to_each_other(
    make_pair: MakePair,
) -> None:
    schema = """create table child (id int primary key, parent int);
        create table parent (id int primary key, boss int references parent, child int);
        alter table child add foreign key (parent) references parent;
        alter table parent add foreign key (child) references child deferrable"""
    pair = make_pair(schema=schema)
    pair.source(
        "insert into parent select n, null, null from generate_series(1, 200) n",
        "insert into child select n, n from generate_series(1, 200) n",
        "update parent set boss = 201 - id, child = id",
    )
    loaded(pair, archived(pair.source_url, "a", rows=30))
    assert pair.same("parent")
    assert pair.same("child")


def test_patterns_and_excluded_tables_mean_those_of_the_archive(full: Pair) -> None:
    archive = archived(full.source_url, "a")
    [report] = loaded(full, archive, "askwealth.*", exclude=["*.thread"]).reports
    assert str(report.plan.table) == MESSAGE
    with pytest.raises(PlanError, match=r"has no table askwealth\.massage") as caught:
        load(archive, "askwealth.massage", target=full.target_url)
    assert MESSAGE in caught.value.hint


def test_columns_that_local_lacks_or_that_are_left_out_stay_in_the_archive(full: Pair) -> None:
    archive = archived(full.source_url, "a", MESSAGE)
    full.target(f"alter table {MESSAGE} drop column annotations, add column note text default 'none'")
    [report] = loaded(full, archive, without=["thread_id"]).reports
    assert any("annotations" in note for note in report.plan.notes)
    assert full.same(MESSAGE, "message_id, role, parts, created_at")
    assert full.target(f"select distinct thread_id, note from {MESSAGE}") == [(None, "none")]


def test_parents_come_along(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table p (id int primary key); create table c (id int primary key, p int references p)"
    )
    pair.source("insert into p select generate_series(1, 9)", "insert into c values (1, 3), (2, 5)")
    archive = archived(pair.source_url, "a")
    loaded(pair, archive, "c", equals={"id": 2}, with_parents=True)
    assert pair.target("select (select array_agg(id) from p), (select array_agg(id) from c)") == [([5], [2])]


def test_a_table_that_local_lacks_is_made_with_its_columns_and_its_key(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key, v numeric(5, 2))", target_schema="select")
    pair.source("insert into t values (1, 1.5)")
    archive = archived(pair.source_url, "a")
    loaded(pair, archive, create_missing=True)
    assert pair.same("t")
    with pytest.raises(PlanError, match=r"no table public\.u"):
        load(archive, "u", target=pair.target_url, create_missing=True)


def test_types_that_only_the_server_has_are_compared_as_their_text(make_pair: MakePair) -> None:
    schema = """create type mood as enum ('ok', 'bad'); create type pair as (a int, m mood);
        create domain small as int check (value < 10);
        create table t (id small primary key, r regclass, m mood, l mood[], p pair, c char(5), b bit(3));
        create table k (m mood primary key, v money)"""
    pair = make_pair(schema=schema)
    pair.source(
        "insert into t values (1, 't', 'ok', '{ok,bad}', row(1, 'bad'), 'a', '101')",
        "insert into t values (2)",
        "insert into k values ('ok', 1), ('bad', -2.5)",
    )
    archive = archived(pair.source_url, "a")
    loaded(pair, archive)
    pair.target("update t set m = 'bad', b = '111' where id = 1", "delete from k where m = 'ok'")
    summary = loaded(pair, archive, on_conflict="update", verify=True)
    assert (summary.tally.inserted, summary.tally.updated) == (1, 1)
    assert all(pair.same(table) for table in ("t", "k"))
    assert not [note for report in summary.reports for note in report.plan.notes]


# --- rows that local refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize("filled", [False, True], ids=["straight", "laid out"])
def test_a_row_that_local_refuses_becomes_a_reject_and_the_others_go_in(full: Pair, filled: bool) -> None:
    archive = archived(full.source_url, "a", MESSAGE)
    full.target(f"alter table {MESSAGE} add check (created_at <> '2025-01-02 03:00Z')")
    if filled:
        full.add_messages("target", 1)
    summary = loaded(full, archive)
    assert (summary.tally.failed, summary.tally.inserted) == (1, 299 - filled)
    [line] = Path("pgpull.rejects.jsonl").read_text().splitlines()
    assert json.loads(line)["values"]["created_at"] == "2025-01-02 03:00:00+00"
    assert isinstance(json.loads(json.loads(line)["values"]["parts"]), list)


def test_values_that_local_has_no_place_for_are_refused_one_by_one(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create type mood as enum ('ok', 'bad'); create table t (id int primary key, m mood, n numeric)",
        target_schema="create type mood as enum ('ok'); create table t (id int primary key, m mood, n int2)",
    )
    pair.source("insert into t values (1, 'ok', 1), (2, 'bad', 2), (3, 'ok', 1e9), (4, null, null)")
    archive = archived(pair.source_url, "a")
    for words in ({}, {"on_conflict": "update"}):
        summary = loaded(pair, archive, **words)
        assert (summary.tally.failed, pair.target("select array_agg(id) from t")) == (2, [([1, 4],)])


# --- what is no archive ----------------------------------------------------------------------------------


def _cut(archive: Path) -> None:
    file = next(archive.glob("*message/*.csv"))
    os.truncate(file, file.stat().st_size - 10)


def _altered(archive: Path) -> None:
    file = next(archive.glob("*message/*.csv"))
    file.write_bytes(file.read_bytes().replace(b"user", b"USER", 1))


def _without_a_file(archive: Path) -> None:
    next(archive.glob("*message/*.csv")).unlink()


def _unfinished(archive: Path) -> None:
    (archive / MANIFEST).unlink()


def _newer(archive: Path) -> None:
    rewritten(archive, lambda manifest: manifest.update(format_version=99))


def _foreign(archive: Path) -> None:
    (archive / MANIFEST).write_text('{"files": []}')


def _reaching_out(archive: Path) -> None:
    rewritten(archive, lambda manifest: manifest["tables"][0]["files"][0].update(path="../x/0001.csv"))


def _gone(archive: Path) -> None:
    shutil.rmtree(archive)


@pytest.mark.parametrize(
    ("spoil", "fact"),
    [
        (_cut, "bytes, and should have"),
        (_altered, "was changed since it was written"),
        (_without_a_file, "lacks askwealth.message/0001.csv"),
        (_unfinished, "not finished"),
        (_newer, "format 99"),
        (_foreign, "is not a pgpull archive's"),
        (_reaching_out, "outside of the archive"),
        (_gone, "is not there"),
    ],
)
def test_what_is_not_whole_is_refused_before_anything_is_written(
    full: Pair, spoil: Callable[[Path], None], fact: str
) -> None:
    archive = archived(full.source_url, "a")
    spoil(archive)
    with pytest.raises(ArchiveError, match=fact) as caught:
        load(archive, target=full.target_url)
    assert caught.value.hint
    assert caught.value.exit_code == 3
    assert full.target(f"select count(*) from {MESSAGE}") == [(0,)]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_file_that_cannot_be_unpacked_ends_the_load_clearly(full: Pair, form: Format) -> None:
    archive = archived(full.source_url, "a", MESSAGE, form=form, compression="zstd")
    [file] = archive.glob("askwealth.message/*")
    data = file.read_bytes()
    file.write_bytes(data[:20] + bytes(255 - byte for byte in data[20:]))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    rewritten(archive, lambda manifest: manifest["tables"][0]["files"][0].update(sha256=digest))
    with pytest.raises(Stopped, match="was changed while it was loaded"):
        load(archive, MESSAGE, target=full.target_url)


def test_a_folder_in_the_place_of_a_file_is_a_file_that_lacks(full: Pair) -> None:
    archive = archived(full.source_url, "a", MESSAGE)
    [file] = archive.glob("askwealth.message/*")
    file.unlink()
    file.mkdir()
    size = file.stat().st_size
    rewritten(archive, lambda manifest: manifest["tables"][0]["files"][0].update(size=size))
    with pytest.raises(ArchiveError, match="lacks askwealth"):
        load(archive, MESSAGE, target=full.target_url)


class Meddler(Listener):
    """Does something, once, as soon as rows are to move."""

    def __init__(self, deed: Callable[[], object]) -> None:
        self._deeds = [deed]

    def planned(self, *_: Any) -> None:
        if self._deeds:
            self._deeds.pop()()


@pytest.mark.parametrize("filled", [False, True], ids=["straight", "laid out"])
def test_an_archive_that_is_changed_while_it_is_loaded_is_noticed(
    full: Pair, monkeypatch: pytest.MonkeyPatch, filled: bool
) -> None:
    archive = archived(full.source_url, "a", MESSAGE)
    if filled:
        full.add_messages("target", 1)
    kept = catalog.shapes_of

    def meddled(*args: Any) -> Any:
        _altered(archive) if "USER" not in next(archive.glob("*/*.csv")).read_text() else None
        return kept(*args)

    monkeypatch.setattr("pgpull.catalog.shapes_of", meddled)
    with pytest.raises(Stopped, match="was changed while it was loaded") as caught:
        load(archive, MESSAGE, target=full.target_url)
    assert caught.value.exit_code == 3
    assert not scratch(full)


# --- guards, and what goes wrong on the way --------------------------------------------------------------


def test_what_only_a_server_has_is_refused(full: Pair) -> None:
    archive = archived(full.source_url, "a")
    with pytest.raises(UsageError, match="--no-snapshot is for a server"):
        load(archive, target=full.target_url, way={"snapshot": False})
    with pytest.raises(UsageError, match="--pause-when is for a server"):
        load(archive, target=full.target_url, way={"pause_when": "lag>3s"})


def test_a_target_on_another_machine_is_refused_before_anything_is_made_there(
    full: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = archived(full.source_url, "a")
    full.add_messages("target", 1)
    monkeypatch.setattr("pgpull.guarding.is_local", lambda _: False)
    with pytest.raises(UnsafeTarget, match="not on this machine"):
        load(archive, target=full.target_url)
    assert loaded(
        full, archive, way={"allow_target": str(conninfo_to_dict(full.target_url)["host"])}
    ).tally.inserted


def test_a_load_into_what_is_set_as_the_server_is_refused(full: Pair) -> None:
    archive = archived(full.source_url, "a")
    settings = {**environment(full), "SERVER_DB_URL": full.target_url}
    done = subprocess.run(command(archive), env=settings, text=True, capture_output=True, check=False)
    assert (done.returncode, "the server's own database" in done.stderr) == (3, True)
    assert full.target(f"select count(*) from {MESSAGE}") == [(0,)]


class Patient(Listener):
    """Asks how long the session that stands for the server may wait."""

    def opened(self, plans: Any, source: Any, target: Any) -> None:
        rows = source.connection.execute("show idle_in_transaction_session_timeout").fetchall()
        self.found = (rows, source.identity.read_only)


def test_the_session_in_place_of_the_server_s_waits_while_files_flow(full: Pair) -> None:
    listener = Patient()
    load(archived(full.source_url, "a"), target=full.target_url, way={"listener": listener})
    assert listener.found == ([("0",)], True)


# --- ends in the middle ----------------------------------------------------------------------------------


def command(archive: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "pgpull", "load", str(archive), MESSAGE, "--batch-size", "40", *words]


def environment(pair: Pair) -> dict[str, str]:
    return {**os.environ, "LOCAL_DB_URL": pair.target_url}


def started(pair: Pair, archive: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(archive, *words),
        env=environment(pair),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not come to this"
        time.sleep(0.02)


def some_are_in(pair: Pair) -> bool:
    return bool(pair.target(f"select 1 from {MESSAGE} limit 1"))


@contextmanager
def halted(pair: Pair) -> Iterator[None]:
    """Let no more than the first batches in: the row after them is held by somebody else."""
    with psycopg.connect(pair.target_url) as other:
        [(key,)] = pair.source(f"select message_id from {MESSAGE} order by created_at offset 100 limit 1")
        other.execute(f"insert into {MESSAGE} values (%s, '', '1', now())", [key])
        yield
        other.rollback()


def test_a_load_that_is_killed_is_gone_on_with_by_the_same_command(full: Pair) -> None:
    archive = archived(full.source_url, "a")
    with halted(full):
        process = started(full, archive)
        until(lambda: some_are_in(full))
        process.kill()
        process.communicate()
    assert 0 < full.target(f"select count(*) from {MESSAGE}")[0][0] < 300
    loaded(full, archive, MESSAGE)
    assert full.same(MESSAGE)


def test_an_interrupted_load_leaves_whole_batches_and_nothing_else(full: Pair) -> None:
    archive = archived(full.source_url, "a")
    with halted(full):
        process = started(full, archive)
        until(lambda: some_are_in(full))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "whole batches are in" in errors
    assert full.target(f"select count(*) % 40 from {MESSAGE}") == [(0,)]
    assert not scratch(full)


def test_what_a_killed_load_has_laid_out_is_dropped_by_the_next(full: Pair) -> None:
    archive = archived(full.source_url, "a")
    full.add_messages("target", 1, seed="mine")
    with halted(full):
        process = started(full, archive)
        until(lambda: full.target(f"select count(*) > 1 from {MESSAGE}") == [(True,)])
        assert scratch(full)
        in_use = scratch(full)
        load(archive, "askwealth.thread", target=full.target_url)
        assert scratch(full) == in_use
        process.kill()
        process.communicate()
    until(lambda: not full.target("select 1 from pg_stat_activity where application_name = 'pgpull'"))
    loaded(full, archive, MESSAGE)


def test_what_was_laid_out_goes_though_the_connection_that_kept_it_is_lost(full: Pair) -> None:
    archive = archived(full.source_url, "a")
    full.add_messages("target", 1, seed="mine")
    keeps = f"locktype = 'advisory' and classid = {0x7067_7061} and database = {{}}"
    ours = "(select oid from pg_database where datname = current_database())"
    end = f"select pg_terminate_backend(pid) from pg_locks where {keeps.format(ours)}"
    killed: list[Any] = []
    loaded(full, archive, MESSAGE, way={"listener": Meddler(lambda: killed.extend(full.target(end)))})
    assert killed == [(True,)]


@pytest.mark.usefixtures("hasty")
def test_a_lost_local_database_is_opened_again_and_the_rest_goes_in(
    full: Pair,
) -> None:
    archive = archived(full.source_url, "a")

    def cut() -> None:
        full.target(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'pgpull' and datname = current_database()"
        )

    for words in ({}, {"on_conflict": "update"}):
        full.target(f"delete from {MESSAGE} where role = 'user'")
        loaded(full, archive, MESSAGE, batch_size=20, way={"listener": Meddler(cut)}, **words)
        assert full.same(MESSAGE)


# --- archives elsewhere ----------------------------------------------------------------------------------


def test_an_archive_elsewhere_is_brought_into_a_private_folder_which_goes_again(
    full: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = archived(full.source_url, "a", rows=90)
    store = fsspec.filesystem("memory")
    store.put(str(archive), "/team/nightly", recursive=True)
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    modes: list[int] = []

    def look() -> None:
        modes.extend(stat.S_IMODE(folder.stat().st_mode) for folder in (tmp_path / "temp").iterdir())

    try:
        loaded(full, "memory://team/nightly", way={"listener": Meddler(look)})
        assert full.same(MESSAGE)
        assert set(modes) == {0o700}
        store.rm("/team/nightly/askwealth.message/0002.csv")
        with pytest.raises(ArchiveError, match=r"lacks askwealth\.message/0002\.csv"):
            load("memory://team/nightly", target=full.target_url)
        with pytest.raises(ArchiveError, match=r"has no manifest\.json"):
            load("memory://nowhere", target=full.target_url)
    finally:
        store.rm("/team", recursive=True)
    assert not list((tmp_path / "temp").iterdir())


# --- from the command line -------------------------------------------------------------------------------


def test_the_command_needs_no_server_and_says_where_rows_are_from(full: Pair) -> None:
    archive = archived(full.source_url, "a")
    done = subprocess.run(command(archive), env=environment(full), text=True, capture_output=True, check=True)
    assert f"FROM  the archive {archive}, of production" in done.stdout.replace("  the", "  the")
    assert "the archive is whole, of " in done.stdout
    assert "inserted 300" in done.stdout
    assert full.same(MESSAGE)


def test_a_dry_run_says_what_a_load_would_do_and_writes_nothing(full: Pair) -> None:
    archive = archived(full.source_url, "a")
    full.add_messages("target", 100)
    full.target(f"update {MESSAGE} set role = 'x' where role = 'user'")
    words = ["--on-conflict", "update", "--dry-run", "--json"]
    done = subprocess.run(
        command(archive, *words), env=environment(full), text=True, capture_output=True, check=True
    )
    assert json.loads(done.stdout)["tally"] == asdict(Tally(300, inserted=200, updated=50, skipped=50))
    assert full.target(f"select count(*) from {MESSAGE}") == [(100,)]
    assert not scratch(full)
    assert loaded(full, archive, MESSAGE, on_conflict="update").tally == Tally(300, 200, 50, 50)


def test_a_dry_run_makes_no_table_and_says_what_would_be_in_it(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key)", target_schema="select")
    pair.source("insert into t select generate_series(1, 7)")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pgpull",
            "load",
            archived(pair.source_url, "a"),
            "--create-missing",
            "--dry-run",
            "--json",
        ],
        env=environment(pair),
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tally"]["inserted"] == 7
    assert "a pull will say: made public.t, each with its columns" in done.stderr
    assert not scratch(pair)
    assert pair.target("select to_regclass('t')") == [(None,)]


SCRIPT = Path(__file__).parents[1] / "data_migrations" / "load_messages.py"


def script(pair: Pair, *words: str, target: str = "") -> programs.Done:
    settings = {"SERVER_DB_URL": pair.source_url, "LOCAL_DB_URL": target or pair.target_url}
    return programs.run([sys.executable, str(SCRIPT), "--csv", "files", *words], os.environ | settings)


def test_a_pull_by_way_of_files_is_the_pull_and_leaves_the_files(full: Pair) -> None:
    full.add_messages("target", 5, seed="mine", start="2025-01-02")
    days = ["--from-date", "2025-01-02", "--to-date", "2025-01-04"]
    done = script(
        full, *days, "--mirror", "--max-delete", "100%", "--verify", "--on-conflict", "update", "--json"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["tally"]["inserted"], found["deleted"]) == (48, 5)
    window = f"(select * from {MESSAGE} where created_at >= '2025-01-02Z' and created_at < '2025-01-04Z')"
    assert full.images("source", f"{window} t") == full.images("target", MESSAGE)
    assert Manifest.from_json(Path("files", MANIFEST).read_bytes()).rows == 48
    assert "skipped 48" in script(full, *days).stdout


def test_a_mirror_by_way_of_files_minds_a_standing_condition(full: Pair) -> None:
    Path("pgpull.toml").write_text("""[tables."askwealth.message"]\nwhere = "role <> 'user'"\n""")
    full.add_messages("target", 6, seed="mine")
    done = script(full, "--mirror", "--max-delete", "100%", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert full.images("source", f"(select * from {MESSAGE} where role <> 'user') t") == full.images(
        "target", f"(select * from {MESSAGE} where role <> 'user') t"
    )
    assert full.target(f"select count(*) from {MESSAGE} where role = 'user'") == [(3,)]


def test_short_transactions_make_no_archive_of_one_instant(full: Pair) -> None:
    done = script(full, "--no-snapshot")
    assert (done.returncode, "an archive is of one instant" in done.stderr) == (2, True)


@pytest.mark.parametrize("word", ["--new", "--with-parents"])
def test_what_looks_at_both_sides_together_does_not_go_by_way_of_files(full: Pair, word: str) -> None:
    done = script(full, word)
    assert (done.returncode, f"{word} has to look at both sides" in done.stderr) == (2, True)
    assert not Path("files").exists()


def test_who_asks_to_look_only_gets_no_files(full: Pair) -> None:
    done = script(full, "--status")
    assert (done.returncode, "--status only looks, and --csv moves rows" in done.stderr) == (2, True)
    assert not Path("files").exists()


def test_a_place_for_rejects_is_made_sure_of_before_files_are_written(full: Pair) -> None:
    done = script(full, "--rejects", "nowhere/rejects.jsonl")
    assert (done.returncode, "there is no folder nowhere" in done.stderr) == (2, True)
    assert not Path("files").exists()


def test_no_way_by_files_leads_back_into_the_server(full: Pair) -> None:
    same = full.source_url + ("&" if "?" in full.source_url else "?") + "application_name=other"
    done = script(full, "--mirror", target=same)
    assert (done.returncode, "are the same database" in done.stderr) == (3, True)
    assert not Path("files").exists()


def test_a_load_drops_what_its_role_has_left_whatever_that_is_called(full: Pair) -> None:
    archive = archived(full.source_url, "a")
    full.target(
        'create role "Dev" superuser login', 'create schema pgpull_archive_0000abcd_0 authorization "Dev"'
    )
    try:
        load(archive, target=full.url("target", "Dev"))
        assert not scratch(full)
    finally:
        full.target("drop schema if exists pgpull_archive_0000abcd_0", 'drop owned by "Dev"', 'drop role "Dev"')


def test_bytes_without_an_end_are_refused_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgpull.splitting._LONGEST", 1_000)
    for chunk in (b"a" * 100, b'"\n' + b"a\n" * 50):
        with pytest.raises(CutShort):
            list(records(chunk if n == 0 else chunk.replace(b'"', b"") for n in range(1_000)))


@pytest.mark.parametrize("dry", [False, True])
def test_tables_that_are_not_needed_are_not_made(make_pair: MakePair, dry: bool) -> None:
    pair = make_pair(
        schema="create table p (id int primary key); create table c (id int primary key, p int references p);"
        " create table alone (id int primary key)",
        target_schema="select",
    )
    pair.source("insert into p values (1)", "insert into c values (1, 1)")
    archive = archived(pair.source_url, "a")
    words = ["c", "--with-parents", "--create-missing", *(["--dry-run"] if dry else []), "--json"]
    done = programs.run([sys.executable, "-m", "pgpull", "load", str(archive), *words], environment(pair))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tally"]["inserted"] == 2
    made = pair.target(
        "select relname::text from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
    )
    assert sorted(made) == ([] if dry else [("c",), ("p",)])


def test_the_loopback_by_another_of_its_names_is_the_server_all_the_same(full: Pair) -> None:
    archive = archived(full.source_url, "a")
    here = full.url("target", via="tcp")
    assert "127.0.0.1" in here
    settings = {
        **environment(full),
        "LOCAL_DB_URL": here,
        "SERVER_DB_URL": here.replace("127.0.0.1", "LOCALHOST"),
    }
    done = subprocess.run(command(archive), env=settings, text=True, capture_output=True, check=False)
    assert (done.returncode, "the server's own database" in done.stderr) == (3, True)


def test_a_scope_of_an_archive_by_a_type_of_the_servers_own_can_be_mirrored(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create type mood as enum ('ok', 'not'); create table t (id int primary key, m mood)"
    )
    pair.source("insert into t values (1, 'ok'), (2, 'not')")
    pair.target("insert into t values (3, 'ok'), (4, 'not')")
    export("t", source=pair.source_url, to="a", equals={"m": "ok"})
    [report] = load("a", target=pair.target_url, mirror=True, max_delete="100%").reports
    assert (report.tally.inserted, report.deleted) == (1, 1)
    assert pair.target("select id from t order by 1") == [(1,), (4,)]
