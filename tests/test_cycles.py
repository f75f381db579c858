"""Rows that refer to later rows: of their own table, or around a circle of tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgpull import Summary, pull_tables
from pgpull.results import Tally
from tests.conftest import MakePair
from tests.support import Pair

TREE = "create table t (id int primary key, up int references t, v text unique check (v <> 'bad'))"

CIRCLE = """
create table a (id int primary key, b int not null);
create table b (id int primary key, c int not null);
create table c (id int primary key, a int references a {how});
alter table a add constraint a_b foreign key (b) references b {how};
alter table b add constraint b_c foreign key (c) references c {how};
"""

DEFERRABLE = ["", "deferrable", "deferrable initially deferred"]


def pulled(pair: Pair, *tables: str, **words: Any) -> Summary:
    return pull_tables(*(tables or ("*",)), source=pair.source_url, target=pair.target_url, **words)


def add(pair: Pair, statement: str) -> None:
    """Add rows to the server as they come, in whatever order."""
    pair.source("set session_replication_role = replica", statement)


def law(pair: Pair, *tables: str, **words: Any) -> None:
    """Pulled, all is here; pulled again, nothing is written; damaged, it is mended."""
    first = pulled(pair, **words)
    assert first.failures == ()
    assert first.tally.failed == 0
    assert all(pair.same(table) for table in tables)
    assert pulled(pair, **words).written == 0
    for table in tables:
        pair.target("set session_replication_role = replica", f"delete from {table} where id % 3 = 1")
    assert pulled(pair, **words).tally.failed == 0
    assert all(pair.same(table) for table in tables)


@pytest.mark.parametrize("batch_size", [1, 2, 5000])
def test_children_that_are_stored_before_their_parents_come_in(make_pair: MakePair, batch_size: int) -> None:
    pair = make_pair(schema=TREE)
    add(pair, "insert into t select n, nullif((n + 1) % 41, 0), 'v' || n from generate_series(1, 40) n")
    law(pair, "t", batch_size=batch_size)


def test_a_chain_in_the_worst_order_comes_in(make_pair: MakePair) -> None:
    pair = make_pair(schema=TREE)
    add(pair, "insert into t select n, nullif(n + 1, 20001), 'v' || n from generate_series(1, 20000) n")
    assert pulled(pair, batch_size=1000).tally == Tally(20_000, inserted=20_000)
    assert pair.same("t")


def test_rows_that_refer_to_themselves_and_to_each_other_come_in(make_pair: MakePair) -> None:
    pair = make_pair(schema=TREE)
    add(pair, "insert into t values (1, 1, 'a'), (2, 3, 'b'), (3, 2, 'c'), (4, 3, 'd')")
    law(pair, "t", batch_size=1)


@pytest.mark.parametrize("how", DEFERRABLE)
def test_circles_of_tables_come_in_whether_or_not_keys_are_deferrable(make_pair: MakePair, how: str) -> None:
    pair = make_pair(schema=CIRCLE.format(how=how))
    add(pair, "insert into a select n, 10 + n from generate_series(1, 9) n")
    add(pair, "insert into b select 10 + n, 20 + n from generate_series(1, 9) n")
    add(pair, "insert into c select 20 + n, 1 + n % 9 from generate_series(1, 9) n")
    law(pair, "a", "b", "c", batch_size=2)


def test_neither_superuser_nor_owner_is_needed(make_pair: MakePair) -> None:
    pair = make_pair(schema=CIRCLE.format(how=""))
    add(pair, "insert into a values (1, 2); insert into b values (2, 3); insert into c values (3, 1)")
    pair.target_server.sql("postgres", "drop role if exists writer", "create role writer login")
    pair.target("grant select, insert, update on all tables in schema public to writer")
    summary = pull_tables("*", source=pair.source_url, target=pair.url("target", user="writer"))
    assert summary.tally == Tally(3, inserted=3)
    assert all(pair.same(table) for table in "abc")


def test_what_hangs_on_a_missing_parent_is_refused_with_the_missing_key(
    make_pair: MakePair, tmp_path: Path
) -> None:
    pair = make_pair(schema=TREE)
    add(
        pair,
        "insert into t values (1, 99, 'a'), (2, 1, 'b'), (3, 2, 'c'), (4, null, 'd'), (5, 6, 'e'), (6, 4, 'f')",
    )
    file = tmp_path / "rejects.jsonl"
    summary = pulled(pair, way={"rejects": file})
    assert summary.tally == Tally(6, inserted=3, failed=3)
    assert pair.target("select id from t order by 1") == [(4,), (5,), (6,)]
    rejects = {line["key"]["id"]: line for line in map(json.loads, file.read_text().splitlines())}
    assert rejects["1"]["constraint"] == "t_up_fkey"
    assert "Key (up)=(99) is not present in table t" in rejects["1"]["message"].replace('"', "")
    assert rejects.keys() == {"1", "2", "3"}
    assert summary.exit_code == 4


def test_a_waiting_row_that_breaks_another_rule_is_refused_with_what_hangs_on_it(make_pair: MakePair) -> None:
    pair = make_pair(schema=TREE.replace(" check (v <> 'bad')", ""), target_schema=TREE)
    add(pair, "insert into t values (1, 2, 'a'), (2, 3, 'bad'), (3, 4, 'c'), (4, 3, 'd'), (5, 2, 'e')")
    summary = pulled(pair)
    assert summary.tally == Tally(5, inserted=2, failed=3)
    assert pair.target("select id from t order by 1") == [(3,), (4,)]


def test_rows_that_are_here_already_are_skipped_whatever_they_refer_to(make_pair: MakePair) -> None:
    pair = make_pair(schema=TREE)
    add(pair, "insert into t values (1, 3, 'a'), (2, 1, 'b'), (3, null, 'c')")
    pair.target("insert into t values (1, null, 'mine')")
    assert pulled(pair).tally == Tally(3, inserted=2, skipped=1)
    assert pair.target("select up, v from t where id = 1") == [(None, "mine")]


def test_an_update_may_refer_to_a_row_that_is_new(make_pair: MakePair) -> None:
    pair = make_pair(schema=TREE)
    add(pair, "insert into t values (1, 3, 'a'), (2, 1, 'b'), (3, null, 'c')")
    pair.target("insert into t values (1, null, 'old'), (2, null, 'b')")
    assert pulled(pair, on_conflict="update").tally == Tally(3, inserted=1, updated=2)
    assert pair.same("t")


def test_a_reference_with_a_part_missing_needs_no_parent(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int primary key, x int, y int, px int, py int, unique (x, y),"
        " foreign key (px, py) references t (x, y))"
    )
    add(pair, "insert into t values (1, 1, 1, 2, 2), (2, 2, 2, null, 9), (3, 3, null, 1, 1)")
    law(pair, "t", batch_size=1)


def test_a_mirror_deletes_rows_that_refer_to_each_other(make_pair: MakePair) -> None:
    pair = make_pair(schema=CIRCLE.format(how=""))
    add(pair, "insert into a values (1, 2); insert into b values (2, 3); insert into c values (3, 1)")
    pulled(pair)
    for table in "abc":
        pair.source("set session_replication_role = replica", f"delete from {table}")
    summary = pulled(pair, mirror=True, max_delete="100%")
    assert sum(report.deleted for report in summary.reports) == 3
    assert all(pair.same(table) for table in "abc")


def test_circles_can_be_replaced(make_pair: MakePair) -> None:
    pair = make_pair(schema=CIRCLE.format(how=""))
    add(pair, "insert into a values (1, 2); insert into b values (2, 3); insert into c values (3, 1)")
    pulled(pair)
    add(pair, "update c set id = 4; update b set c = 4")
    summary = pulled(pair, replace=True)
    assert (summary.tally, sum(report.deleted for report in summary.reports)) == (Tally(3, inserted=3), 3)
    assert all(pair.same(table) for table in "abc")


def test_any_graph_of_rows_comes_in_but_for_what_hangs_on_nothing(make_pair: MakePair) -> None:
    pair = make_pair(schema=TREE)

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        ups=st.lists(st.one_of(st.none(), st.integers(1, 12)), min_size=1, max_size=10),
        batch_size=st.integers(1, 4),
    )
    def holds(ups: list[int | None], batch_size: int) -> None:
        pair.source("truncate t")
        pair.target("truncate t")
        rows = dict(enumerate(ups, 1))
        for number, up in rows.items():
            add(pair, f"insert into t values ({number}, {up or 'null'}, 'v{number}')")
        fit = set(rows)
        while orphans := {n for n in fit if rows[n] is not None and rows[n] not in fit}:
            fit -= orphans
        tally = pulled(pair, batch_size=batch_size).tally
        assert tally == Tally(len(rows), inserted=len(fit), failed=len(rows) - len(fit))
        assert {n for (n,) in pair.target("select id from t")} == fit

    holds()
