"""Tables without a key: their rows are told apart by what they hold, and counted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pgpull import Forecast, PlanError, Report, forecast, pull, pull_tables
from tests.conftest import MakePair
from tests.support import Pair

SCHEMA = """
create table parent (id int primary key);
create table t (id int, v text, j json, parent_id int references parent);
insert into parent select generate_series(1, 3);
"""

ROWS = """
insert into t values (1, 'a', '{"x" : 1.0}', 1), (1, 'a', '{"x" : 1.0}', 1), (1, 'a', '{"x":1.00}', 1),
                     (null, null, null, null), (null, null, null, null), (2, 'b', 'null', 2), (3, 'c', null, 3)
"""


@pytest.fixture
def bags(make_pair: MakePair) -> Pair:
    pair = make_pair(schema=SCHEMA)
    pair.source(ROWS)
    return pair


def pulled(pair: Pair, **words: Any) -> Report:
    return pull("t", source=pair.source_url, target=pair.target_url, retries=0, **words)


def foretold(pair: Pair, **words: Any) -> Forecast:
    return forecast("t", source=pair.source_url, target=pair.target_url, **words)


def counts(done: Report | Forecast) -> tuple[int, int, int, int]:
    tally = done.tally
    return tally.inserted, tally.updated, tally.skipped, tally.failed


@pytest.mark.parametrize("on_conflict", ["skip", "update"])
def test_pulling_twice_writes_nothing_the_second_time(bags: Pair, on_conflict: str) -> None:
    assert counts(pulled(bags, on_conflict=on_conflict)) == (7, 0, 0, 0)
    assert bags.same("t")
    again = pulled(bags, on_conflict=on_conflict)
    assert counts(again) == (0, 0, 7, 0)
    assert again.plan.strategy == "nothing"


def test_rows_come_in_as_often_as_they_lack(bags: Pair) -> None:
    bags.target("insert into t values (1, 'a', '{\"x\" : 1.0}', 1), (2, 'b', 'null', 2)")
    foreseen = foretold(bags)
    report = pulled(bags)
    assert counts(report) == counts(foreseen) == (5, 0, 2, 0)
    assert report.plan.strategy == "keyed"
    assert bags.same("t")


def test_rows_that_swap_values_are_not_taken_for_the_same(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (a int, b int, c text)")
    for n in range(8):
        pair.source("truncate t", f"insert into t values ({n}, 1, 'x'), ({n + 1}, 2, 'y')")
        pair.target("truncate t", f"insert into t values ({n}, 2, 'x'), ({n + 1}, 1, 'y')")
        assert counts(pulled(pair, mirror=True, max_delete="100%")) == (2, 0, 0, 0)
        assert pair.same("t")


def test_a_changed_row_comes_in_beside_its_old_version_and_a_note_says_so(bags: Pair) -> None:
    pulled(bags)
    bags.source("update t set v = 'changed' where id = 2")
    report = pulled(bags, on_conflict="update")
    assert counts(report) == (1, 0, 6, 0)
    assert "beside its old version" in " ".join(report.plan.notes)
    assert bags.target("select v from t where id = 2 order by v") == [("b",), ("changed",)]


def test_a_mirror_makes_both_sides_equal_down_to_the_number_of_copies(bags: Pair) -> None:
    pulled(bags)
    bags.target("delete from t where id = 3; update t set v = 'x' where id = 2; insert into t select * from t")
    with pytest.raises(PlanError, match="may be deleted"):
        pulled(bags, mirror=True)
    foreseen = foretold(bags, mirror=True, max_delete="100%")
    report = pulled(bags, mirror=True, max_delete="100%")
    assert counts(report) == counts(foreseen) == (2, 0, 5, 0)
    assert report.deleted == foreseen.deleted == 7
    assert bags.same("t")


def test_a_scope_bounds_what_is_compared_and_deleted(bags: Pair) -> None:
    bags.target("insert into t values (9, 'mine', null, null), (1, 'mine', null, null)")
    report = pulled(bags, equals={"id": 1}, mirror=True, max_delete="100%")
    assert (counts(report), report.deleted) == ((3, 0, 0, 0), 1)
    assert bags.target("select count(*) from t where id = 9") == [(1,)]


def test_verify_compares_what_rows_hold(bags: Pair) -> None:
    assert pulled(bags, verify=True).verified


def test_a_row_without_its_parent_is_refused_alone(bags: Pair) -> None:
    bags.target("delete from parent where id = 3")
    assert counts(pulled(bags, batch_size=2)) == (6, 0, 0, 1)
    assert counts(pulled(bags)) == (0, 0, 6, 1)


def test_surplus_rows_of_partitions_are_told_apart(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int, p int) partition by list (p); create table t1 partition of t for values"
        " in (1); create table t2 partition of t for values in (2)"
    )
    pair.source("insert into t select 1, 1 + n % 2 from generate_series(1, 10) n")
    pair.target("insert into t select 1, 1 + n % 2 from generate_series(1, 30) n")
    assert pulled(pair, mirror=True, max_delete="100%").deleted == 20
    assert pair.same("t")


REFERRED = """
    create table t (id int unique, up int references t (id), v text);
    create table child (t_id int references t (id) on delete cascade)
"""


def test_rows_that_others_refer_to_stay_and_are_counted(make_pair: MakePair) -> None:
    pair = make_pair(schema=REFERRED)
    pair.target(
        "insert into t values (1, null), (2, null), (3, 1), (4, 5), (5, 4), (6, null)",
        "insert into child values (3)",
    )
    foreseen = foretold(pair, mirror=True, max_delete="100%")
    report = pulled(pair, mirror=True, max_delete="100%")
    assert (report.deleted, report.kept) == (foreseen.deleted, foreseen.kept) == (4, 2)
    assert report.exit_code == 4
    assert pair.target("select id from t order by 1") == [(1,), (3,)]
    assert pair.target("select * from child") == [(3,)]


def test_rows_of_a_circle_are_mended_together(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table k (id int primary key, t int); create table t (id int unique, k int references k);"
        " alter table k add foreign key (t) references t (id)"
    )
    pair.source("with new as (insert into k values (1, 1)) insert into t values (1, 1)")
    pair.target("with new as (insert into k values (9, 9)) insert into t values (9, 9), (8, null)")
    source, target = pair.source_url, pair.target_url
    for deleted in (3, 0):
        done = pull_tables("*.*", source=source, target=target, mirror=True, max_delete="100%")
        assert not done.failures
        assert sum(report.deleted for report in done.reports) == deleted
        assert (pair.same("t"), pair.same("k")) == (True, True)


def test_a_unique_value_that_a_deleted_row_had_is_free_as_foretold(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int unique, v text)")
    pair.source("insert into t select g, 'old' from generate_series(1, 20) g")
    pulled(pair)
    pair.source("update t set v = 'new' where id = 7")
    assert counts(foretold(pair)) == counts(pulled(pair)) == (0, 0, 19, 1)
    assert counts(foretold(pair, mirror=True)) == counts(pulled(pair, mirror=True)) == (1, 0, 19, 0)
    assert pair.same("t")


def test_rows_that_left_the_scope_on_the_server_stay(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (v int); create table now (hour int)")
    pair.source("insert into t select generate_series(1, 20)", "insert into now values (10)")
    pulled(pair)
    pair.target("insert into now values (20)", "insert into t values (5), (21)")
    words: dict[str, Any] = {
        "where": "v <= (select hour from now)",
        "mirror": True,
        "max_delete": "100%",
        "verify": True,
    }
    assert (foretold(pair, **words).deleted, pulled(pair, **words).deleted) == (1, 1)
    assert pair.target("select count(*), max(v) from t") == [(21, 21)]


@pytest.mark.parametrize("words", [{}, {"replace": True}], ids=["new", "replaced"])
@pytest.mark.parametrize("here", [0, 100])
def test_pulls_at_once_bring_no_row_twice(make_pair: MakePair, words: dict[str, Any], here: int) -> None:
    pair = make_pair(schema="create table t (v int)")
    pair.source("insert into t select g % 7 from generate_series(1, 5000) g")
    pair.target(f"insert into t select g % 7 from generate_series(1, {here}) g")
    with ThreadPoolExecutor(3) as pool:
        reports = [job.result() for job in [pool.submit(pulled, pair, **words) for _ in range(3)]]
    assert pair.same("t")
    written = 5000 - here if not words else 3 * 5000
    assert sum(report.tally.inserted for report in reports) == written


def test_a_table_whose_rows_hold_nothing_has_rows_all_the_same(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t ()")
    pair.source("insert into t default values", "insert into t default values")
    assert counts(pulled(pair)) == (2, 0, 0, 0)
    pair.target("insert into t default values")
    assert pulled(pair, mirror=True, max_delete="100%").deleted == 1
    assert pair.target("select count(*) from t") == [(2,)]
