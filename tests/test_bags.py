"""Tables without a key: their rows are told apart by what they hold, and counted."""

from __future__ import annotations

from typing import Any

import pytest

from pgpull import Forecast, PlanError, Report, forecast, pull
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


def test_rows_that_others_may_refer_to_are_not_deleted(make_pair: MakePair) -> None:
    schema = "create table t (id int unique); create table child (t_id int references t (id) on delete cascade)"
    pair = make_pair(schema=schema)
    pair.target("insert into t values (1); insert into child values (1)")
    with pytest.raises(PlanError, match=r"rows of public\.child may refer to rows of public\.t"):
        pulled(pair, mirror=True, max_delete="100%")
    assert pair.target("select count(*) from child") == [(1,)]


def test_a_table_whose_rows_hold_nothing_has_rows_all_the_same(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t ()")
    pair.source("insert into t default values", "insert into t default values")
    assert counts(pulled(pair)) == (2, 0, 0, 0)
    pair.target("insert into t default values")
    assert pulled(pair, mirror=True, max_delete="100%").deleted == 1
    assert pair.target("select count(*) from t") == [(2,)]
