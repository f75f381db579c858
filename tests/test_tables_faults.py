"""Whatever breaks between many tables: what is in stays counted, what fails stays alone, nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pgpull import Summary, pull, pull_tables
from pgpull.calling import run
from pgpull.endpoints import endpoint_of
from pgpull.listening import Listener
from pgpull.model import Job, Wanted
from pgpull.plans import Plan
from pgpull.rejects_file import RejectsFile
from pgpull.requesting import make_request
from pgpull.results import Tally
from pgpull.shapes import TablePattern
from tests.conftest import MakePair
from tests.support import Pair, Proxy

MakeProxy = Callable[..., Proxy]

FIVE = """
create table a (id int primary key, v text);
create table b (id int primary key, a int references a, v text);
create table c (id int primary key, b int references b, v text);
create table d (id int primary key, c int references c, v text);
create table e (id int primary key, d int references d, v text);
"""

TREE = "create table t (id int primary key, up int references t, v text)"


pytestmark = pytest.mark.usefixtures("hasty")


def pulled(pair: Pair, *tables: str, **words: Any) -> Summary:
    given = {"source": pair.source_url, "target": pair.target_url, **words}
    return pull_tables(*(tables or ("*",)), **given)


def add(pair: Pair, statement: str) -> None:
    pair.source("set session_replication_role = replica", statement)


class On(Listener):
    """Does a deed once, when a table has so many rows through."""

    def __init__(self, table: str, rows: int, deed: Callable[[], object]) -> None:
        self._table, self._rows, self._deed = table, rows, [deed]
        self._at = ""

    def planned(self, plan: Plan, *_: Any) -> None:
        self._at = plan.table.name
        self.progressed(Tally(), 0)

    def progressed(self, tally: Tally, size: int) -> None:
        if self._at == self._table and tally.fetched >= self._rows and self._deed:
            self._deed.pop()()


def five(make_pair: MakePair, rows: int = 400) -> Pair:
    pair = make_pair(schema=FIVE)
    for table in "abcde":
        columns = "n, 'v' || n" if table == "a" else "n, n, 'v' || n"
        pair.source(f"insert into {table} select {columns} from generate_series(1, {rows}) n")
    return pair


def test_a_replacement_of_several_tables_that_fails_in_one_leaves_all_as_they_were(make_pair: MakePair) -> None:
    pair = five(make_pair)
    pulled(pair)
    pair.target("alter table c add check (id < 50) not valid")
    before = [pair.images("target", t) for t in "abcde"]
    summary = pulled(pair, replace=True, max_errors=3, batch_size=10)
    assert {f.table.name for f in summary.failures} == set("abcde"), summary
    assert [pair.images("target", t) for t in "abcde"] == before
    assert summary.exit_code == 3
    assert summary.written == 0


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("size", [20, 10_000, 18_000])
def test_a_target_cut_while_rows_wait_loses_none_of_them(
    make_pair: MakePair, make_proxy: MakeProxy, size: int, direction: Any
) -> None:
    pair = make_pair(schema=TREE)
    add(pair, "insert into t select n, nullif(n + 1, 1001), 'v' || n from generate_series(1, 1000) n")
    proxy = make_proxy(pair.target_server)

    class Cut(Listener):
        has_cut = False

        def progressed(self, tally: Tally, so_far: int) -> None:
            if so_far >= size and not self.has_cut:  # no row is counted while it waits
                self.has_cut = True
                proxy.cut_after(200, direction)

    summary = pulled(
        pair,
        target=pair.target_through(proxy),
        batch_size=100,
        way={"listener": Cut(), "retries": 2},
    )
    assert summary.tally.failed == 0, summary
    assert summary.tally == Tally(1000, inserted=1000)
    assert pair.same("t")


def test_a_replaced_table_that_was_through_counts_once_when_the_source_is_lost_in_another(
    make_pair: MakePair, make_proxy: MakeProxy
) -> None:
    pair = make_pair(schema="create table a (id int primary key); create table b (id int primary key)")
    for table in "ab":
        pair.source(f"insert into {table} select generate_series(1, 400)")
    pair.target("insert into a values (1), (9999)")
    proxy = make_proxy(pair.source_server)
    wanted = [
        Wanted(TablePattern.parse(name), make_request(name, replace=name == "public.a"))
        for name in ("public.a", "public.b")
    ]
    summary = run(
        Job(tuple(wanted)),
        endpoint_of(pair.source_through(proxy), "source"),
        endpoint_of(pair.target_url, "target"),
        rejects=RejectsFile(Path("rejects.jsonl")),
        listener=On("b", 100, proxy.cut),
    )
    assert summary.passes == 2
    [replaced, _] = summary.reports
    assert (replaced.tally, replaced.deleted) == (Tally(400, inserted=400), 2)


def test_rows_that_came_along_count_once_when_the_source_is_lost_in_another_table(
    make_pair: MakePair, make_proxy: MakeProxy
) -> None:
    pair = five(make_pair)
    pair.target("insert into a select n, 'v' from generate_series(1, 50) n")
    pair.target("insert into b select n, n, 'old' from generate_series(1, 50) n")
    proxy = make_proxy(pair.source_server)
    words: Any = {"on_conflict": "update", "with_children": ["b"], "batch_size": 50}
    summary = pulled(
        pair, "a", "c", source=pair.source_through(proxy), way={"listener": On("c", 100, proxy.cut)}, **words
    )
    assert summary.passes == 2
    tallies = {report.plan.table.name: report.tally for report in summary.reports}
    assert tallies["b"] == Tally(400, inserted=350, updated=50)


def test_a_row_that_must_go_goes_once_its_last_child_refers_elsewhere(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table p (id int primary key); create table c (id int primary key, p int references p)"
    )
    pair.source("insert into p values (1); insert into c values (1, 1)")
    pair.target("insert into p values (9); insert into c values (1, 9)")
    summary = pulled(pair, mirror=True, max_delete="100%", on_conflict="update", verify=True)
    assert pair.same("p")
    assert pair.same("c")
    assert summary.exit_code == 0, summary
    assert {r.plan.table.name: (r.deleted, r.kept) for r in summary.reports} == {"p": (1, 0), "c": (0, 0)}


def test_a_parent_that_differs_when_verified_does_not_keep_its_children_out(make_pair: MakePair) -> None:
    pair = five(make_pair, 5)
    pair.target("insert into a values (1, 'mine')")
    summary = pulled(pair, verify=True)
    assert [f.table.name for f in summary.failures] == ["a"]
    assert summary.exit_code == 5
    assert all(pair.same(t) for t in "bcde")


def test_the_rejects_of_a_failed_table_stay_in_the_file(make_pair: MakePair, tmp_path: Path) -> None:
    pair = make_pair(schema="create table a (id int primary key, v text); create table b (id int primary key)")
    pair.source(
        "insert into a select n, repeat('x', 900) from generate_series(1, 20000) n", "insert into b values (1)"
    )
    pair.target("alter table a add check (id > 20)", "alter table b add check (id > 1)")
    file = tmp_path / "rejects"
    summary = pulled(pair, max_errors=3, batch_size=10, way={"rejects": file})
    lines = [json.loads(line)["table"] for line in file.read_text().splitlines()]
    assert sorted(lines) == ["public.a"] * summary.failures[0].tally.failed + ["public.b"]


def test_excluded_parents_do_not_come(make_pair: MakePair) -> None:
    pair = five(make_pair, 5)
    pair.target("alter table d drop constraint d_c_fkey")
    summary = pulled(pair, "e", with_parents=True, exclude=["c"])
    assert [r.plan.table.name for r in summary.reports] == ["d", "e"]
    assert pair.target("select count(*) from c") == [(0,)]


@pytest.mark.parametrize("limit", [3, "5%"])
def test_rows_without_a_parent_count_towards_the_limit(make_pair: MakePair, limit: int | str) -> None:
    pair = make_pair(schema=TREE)
    add(pair, "insert into t select n, 2000 + n, 'v' || n from generate_series(1, 100) n")
    summary = pulled(pair, max_errors=limit, batch_size=10)
    assert [f.table.name for f in summary.failures] == ["t"]


def test_a_replacement_refuses_what_a_deferred_constraint_would_refuse_at_its_end(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="""
create table p (id int primary key);
create table c (
    id int primary key,
    p int references p deferrable initially deferred,
    c int references c deferrable initially deferred
);
"""
    )
    pair.source("insert into p values (1)")
    add(pair, "insert into c values (1, 1, 2), (2, 1, null), (3, 7, null), (4, 1, 9), (5, null, 4)")
    pair.target("insert into c values (11, null)")
    report = pull("c", source=pair.source_url, target=pair.target_url, replace=True)
    assert report.tally == Tally(5, inserted=0, failed=5)
    assert pulled(pair, replace=True).tally == Tally(6, inserted=3, failed=3)


def test_rows_of_partitions_pulled_alone_wait_for_each_other(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="""
create table r (id int primary key, up int references r) partition by range (id);
create table r1 partition of r for values from (0) to (100);
create table r2 partition of r for values from (100) to (200);
create table child (id int primary key, r int references r);
"""
    )
    add(pair, "insert into r select n, nullif(n + 1, 30) from generate_series(1, 29) n")
    add(pair, "insert into r values (101, 1), (30, 101), (102, 103), (103, null)")
    add(pair, "insert into child values (1, 1), (2, 101)")
    summary = pulled(pair, "child", "r2", "r1", batch_size=3)
    assert summary.tally.failed == 0, summary
    assert pair.same("r")
    assert pair.same("child")


PARTS = """
create table r (id int primary key, v text) partition by range (id);
create table r1 partition of r for values from (0) to (100000);
create table child (id int primary key, r int references r);
create table a (id int primary key); create table b (id int primary key); create table c (id int primary key);
"""


def test_small_tables_wait_for_a_partition_that_holds_their_parents(make_pair: MakePair) -> None:
    pair = make_pair(schema=PARTS)
    pair.source("insert into r select n from generate_series(1, 60000) n", "analyze")
    pair.source("insert into child select n, n from generate_series(1, 100) n")
    summary = pulled(pair, "child", "a", "b", "c", "r1", way={"jobs": 2})
    assert summary.tally == Tally(60_100, inserted=60_100), summary


def test_a_table_does_not_begin_where_the_partition_failed_that_holds_its_parents(make_pair: MakePair) -> None:
    pair = make_pair(schema=PARTS, target_schema=PARTS.replace("v text)", "v text, w text not null)"))
    pair.source("insert into r values (1)", "insert into child values (1, 1)")
    summary = pulled(pair, "child", "r1")
    assert {failure.table.name: failure.error.message for failure in summary.failures}["child"] == (
        "it refers to public.r1 (child_r_fkey), which could not be loaded"
    )


def test_a_source_lost_in_the_third_table_tallies_as_if_it_had_not_been(
    make_pair: MakePair, make_proxy: MakeProxy
) -> None:
    pair = five(make_pair)
    proxy = make_proxy(pair.source_server)
    way = {"listener": On("c", 100, proxy.cut), "retries": 2}
    summary = pulled(pair, source=pair.source_through(proxy), batch_size=50, way=way)
    assert summary.passes == 2
    assert summary.exit_code == 0
    assert {r.plan.table.name: r.tally for r in summary.reports} == dict.fromkeys(
        "abcde", Tally(400, inserted=400)
    )
    assert all(pair.same(table) for table in "abcde")
