"""Without a snapshot: every row comes, in short transactions, and an early end is gone on from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pgpull import PlanError, Report, Stopped, Tally, pull, pull_tables, stretching
from pgpull.listening import Listener
from tests.conftest import MakePair
from tests.support import Pair, Proxy

TABLE = "askwealth.message"
ROWS = 2_000

MakeProxy = Callable[..., Proxy]


pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make stretches short."""
    monkeypatch.setattr(stretching, "ROWS", 300)


@pytest.fixture
def full(pair: Pair) -> Pair:
    """Give a pair whose source has rows."""
    pair.add_messages("source", ROWS)
    return pair


class Meanwhile(Listener):
    """Does a deed once so many rows are in; keeps the tallies that it hears."""

    def __init__(self, rows: int = 0, deed: Callable[[], object] = lambda: None) -> None:
        self._rows, self._deeds = rows, [deed]
        self.tallies: list[Tally] = []
        self.planned_times = 0

    def planned(self, *_: object) -> None:
        self.planned_times += 1

    def progressed(self, tally: Tally, size: int) -> None:
        self.tallies.append(tally)
        if tally.fetched >= self._rows and self._deeds:
            self._deeds.pop()()


def pulled(pair: Pair, table: str = TABLE, **words: Any) -> Report:
    given = {
        "source": pair.source_url,
        "target": pair.target_url,
        "batch_size": 100,
        "snapshot": False,
        **words,
    }
    return pull(table, **given)


@pytest.mark.parametrize("on_conflict", ["skip", "update"])
def test_every_row_comes_once_and_pulling_again_writes_nothing(full: Pair, on_conflict: str) -> None:
    full.add_messages("target", 700)
    report = pulled(full, on_conflict=on_conflict, verify=True)
    assert report.tally == Tally(ROWS, inserted=ROWS - 700, skipped=700)
    assert full.same(TABLE)
    assert pulled(full).tally == Tally(ROWS, skipped=ROWS)


def test_a_window_is_pulled_in_stretches_as_well(full: Pair) -> None:
    report = pulled(full, since="2025-01-10", until="2025-02-20", equals={"role": "user"})
    where = "created_at >= '2025-01-10Z' and created_at < '2025-02-20Z' and role = 'user'"
    [(rows,)] = full.source(f"select count(*) from {TABLE} where {where}")
    assert report.tally == Tally(rows, inserted=rows)


def test_what_is_heard_is_one_pulls(full: Pair) -> None:
    heard = Meanwhile()
    pulled(full, listener=heard)
    assert heard.planned_times == 1
    assert heard.tallies[-1] == Tally(ROWS, inserted=ROWS)
    assert [t.fetched for t in heard.tallies] == sorted(t.fetched for t in heard.tallies)


def test_no_transaction_of_the_source_outlives_a_stretch(full: Pair) -> None:
    [(before,)] = full.source("select txid_current()")
    seen: list[int] = []

    def look() -> None:
        full.source(
            "update askwealth.message set role = role where message_id = (select max(message_id::text)::uuid"
            " from askwealth.message)"
        )

    class Watches(Listener):
        def progressed(self, *_: object) -> None:
            look()
            [(oldest,)] = full.source(
                "select min(backend_xmin::text::bigint) from pg_stat_activity where application_name = 'pgpull'"
            )
            seen.append(oldest or before)

    pulled(full, listener=Watches())
    assert len(set(seen)) > 3, "the source's oldest snapshot moves on"


@pytest.mark.parametrize(
    "key",
    [
        'id text collate "C" primary key',
        "id text primary key",
        "id numeric primary key",
        "id date primary key",
        "id char(9) primary key",
    ],
)
def test_stretches_follow_any_key_that_can_be_spelled(make_pair: MakePair, key: str) -> None:
    pair = make_pair(schema=f"create table t ({key}, v int)")
    kind = key.split()[1]
    made = "date '2020-01-01' + n" if kind == "date" else "n" if kind == "numeric" else "chr(97 + n % 26) || n"
    pair.source(f"insert into t select {made}, n from generate_series(1, 1000) n")
    assert pulled(pair, "t").tally == Tally(1000, inserted=1000)
    assert pair.same("t")


def test_keys_may_stand_in_another_order_here(make_pair: MakePair) -> None:
    table = "create table t (m mood, n int, v int, primary key (m, n))"
    pair = make_pair(
        schema=f"create type mood as enum ('a', 'b', 'c'); {table}",
        target_schema=f"create type mood as enum ('c', 'b', 'a'); {table}",
    )
    pair.source("insert into t select chr(97 + n % 3)::mood, n, n from generate_series(1, 1000) n")
    assert pulled(pair, "t", verify=True).tally == Tally(1000, inserted=1000)
    pair.target("update t set v = 0 where n % 10 = 0", "delete from t where n % 10 = 1")
    tally = pulled(pair, "t", on_conflict="update", verify=True).tally
    assert (tally.inserted, tally.updated) == (100, 100)
    assert pulled(pair, "t", on_conflict="update", verify=True).tally == Tally(1000, skipped=1000)
    assert pair.same("t")


def test_a_key_of_several_columns_is_cut_within_the_first(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (a int, b text, c uuid default gen_random_uuid(), primary key (b, a))"
    )
    pair.source("insert into t select n, 'b' || n % 3 from generate_series(1, 1000) n")
    assert pulled(pair, "t").tally == Tally(1000, inserted=1000)
    assert pair.same("t")


def test_several_tables_come_parents_first_and_one_that_fails_does_not_hide_the_others(
    make_pair: MakePair,
) -> None:
    pair = make_pair(
        schema="create table b (id int primary key); create table a (id int primary key, b int references b);"
        " create table c (id int primary key)"
    )
    for table in "bac":
        values = "n, n" if table == "a" else "n"
        pair.source(f"insert into {table} select {values} from generate_series(1, 500) n")
    way: Any = {"snapshot": False}
    summary = pull_tables("*", source=pair.source_url, target=pair.target_url, way=way)
    assert summary.tally == Tally(1500, inserted=1500)
    pair.target("truncate a, b, c", "alter table b add check (id < 0)")
    summary = pull_tables("*", source=pair.source_url, target=pair.target_url, max_errors=10, way=way)
    assert {failure.table.name for failure in summary.failures} == {"a", "b"}
    assert pair.same("c")


def test_refused_rows_of_all_stretches_are_kept_and_counted_against_the_limit(full: Pair) -> None:
    full.target(f"alter table {TABLE} add check (extract(hour from created_at at time zone 'UTC') > 0)")
    report = pulled(full)
    assert report.tally.failed == -(-ROWS // 24)
    assert report.rejects
    assert len(report.rejects.read_text().splitlines()) == report.tally.failed
    full.target(f"truncate {TABLE}")
    with pytest.raises(Stopped, match="more than 30 allowed") as caught:
        pulled(full, max_errors=30)
    assert caught.value.written == full.target(f"select count(*) from {TABLE}")[0][0] > 0


def test_what_a_table_that_passed_the_limit_has_done_is_kept_and_counted(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table a (id int primary key); create table b (id int primary key)")
    for table in "ab":
        pair.source(f"insert into {table} select generate_series(1, 700)")
    pair.target("alter table a add check (id < 550)")
    summary = pull_tables(
        *"ab",
        source=pair.source_url,
        target=pair.target_url,
        max_errors=20,
        batch_size=10,
        way={"snapshot": False, "rejects": "refused.jsonl"},
    )
    [failure] = summary.failures
    assert failure.tally.failed == len(Path("refused.jsonl").read_text().splitlines()) > 20
    assert failure.tally.inserted == pair.target("select count(*) from a")[0][0] == 549
    assert (summary.exit_code, pair.same("b")) == (4, True)
    pair.target("truncate a", "alter table a drop constraint a_id_check, add check (id < 250)")
    with pytest.raises(Stopped) as ended:
        pulled(pair, "a", max_errors=20, batch_size=10)
    assert ended.value.written == pair.target("select count(*) from a")[0][0] == 249


@pytest.mark.parametrize("rows", [1, 900, 1700])
def test_a_source_cut_in_a_stretch_costs_that_stretch_alone(
    full: Pair, make_proxy: MakeProxy, rows: int
) -> None:
    proxy = make_proxy(full.source_server)
    report = pulled(full, source=full.source_through(proxy), listener=Meanwhile(rows, proxy.cut), retries=3)
    assert report.tally == Tally(ROWS, inserted=ROWS)
    assert full.same(TABLE)


def test_an_early_end_is_gone_on_from(full: Pair, make_proxy: MakeProxy) -> None:
    def fail() -> None:
        proxy.refuse()
        proxy.cut()

    proxy = make_proxy(full.source_server)
    with pytest.raises(Stopped) as caught:
        pulled(full, source=full.source_through(proxy), listener=Meanwhile(1000, fail), retries=1)
    [(rows,)] = full.target(f"select count(*) from {TABLE}")
    assert caught.value.written == rows >= 1000
    assert pulled(full).tally == Tally(ROWS, inserted=ROWS - rows, skipped=rows)
    assert full.same(TABLE)


@pytest.mark.parametrize(
    ("schema", "words", "why"),
    [
        ("create table t (id int primary key, v int)", {"mirror": True}, "--mirror needs one instant"),
        ("create table t (id int primary key, v int)", {"replace": True}, "--replace needs one instant"),
        ("create table t (id int, v int)", {}, "t has no key"),
        ("create table t (id int primary key, v int references t)", {}, "may come in a later stretch"),
    ],
)
def test_what_needs_one_instant_is_refused(
    make_pair: MakePair, schema: str, words: dict[str, Any], why: str
) -> None:
    pair = make_pair(schema=schema)
    with pytest.raises(PlanError, match=why) as caught:
        pulled(pair, "t", **words)
    assert "--no-snapshot" in caught.value.hint
