"""Rows that want each other's unique values."""

from __future__ import annotations

from typing import Any

import pytest

from pgpull import Report, forecast, pull
from pgpull.results import Tally
from tests.conftest import MakePair
from tests.support import Pair

NULLABLE = "create table t (id int primary key, u text unique, v text)"
NOT_NULL = "create table t (id int primary key, u text not null unique, v text)"
EXCLUSIVE = "create table t (id int primary key, u int4range not null, exclude using gist (u with &&))"


def pulled(pair: Pair, **words: Any) -> Report:
    words.setdefault("on_conflict", "update")
    return pull("t", source=pair.source_url, target=pair.target_url, retries=0, **words)


@pytest.mark.parametrize("schema", [NULLABLE, NOT_NULL])
@pytest.mark.parametrize("batch_size", [1, 2, 5000])
def test_swaps_rings_and_chains_come_out_as_on_the_server(
    make_pair: MakePair, schema: str, batch_size: int
) -> None:
    pair = make_pair(schema=schema)
    pair.source("insert into t values (1, 'b'), (2, 'a'), (3, 'd'), (4, 'e'), (5, 'c'), (6, 'f'), (7, 'new')")
    pair.target("insert into t values (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e'), (7, 'f')")
    foreseen = forecast("t", source=pair.source_url, target=pair.target_url, on_conflict="update")
    tally = pulled(pair, batch_size=batch_size).tally
    assert tally == foreseen.tally == Tally(7, inserted=1, updated=6)
    assert pair.same("t")
    assert pulled(pair).tally.updated == 0


def test_a_row_that_really_clashes_is_refused_alone(make_pair: MakePair) -> None:
    pair = make_pair(schema=NULLABLE)
    pair.source("insert into t values (1, 'b'), (2, 'a'), (3, 'mine')")
    pair.target("insert into t values (1, 'a'), (2, 'b'), (3, 'x'), (9, 'mine')")
    assert pulled(pair).tally == Tally(3, updated=2, failed=1)
    assert pair.target("select id, u from t order by 1") == [(1, "b"), (2, "a"), (3, "x"), (9, "mine")]


def test_rows_that_step_aside_keep_what_is_theirs_alone(make_pair: MakePair) -> None:
    ours = NOT_NULL.replace("v text", "v text, mine text default 'new'")
    pair = make_pair(schema=NOT_NULL, target_schema=ours)
    pair.source("insert into t values (1, 'b'), (2, 'a')")
    pair.target("insert into t values (1, 'a', null, 'one'), (2, 'b', null, 'two')")
    assert pulled(pair).tally == Tally(2, updated=2)
    assert pair.target("select id, u, mine from t order by 1") == [(1, "b", "one"), (2, "a", "two")]


def test_triggers_do_not_fire_while_rows_step_aside(make_pair: MakePair) -> None:
    pair = make_pair(schema=NOT_NULL)
    pair.target(
        "create function no() returns trigger language plpgsql as $$ begin raise 'fired'; end $$",
        "insert into t values (1, 'a'), (2, 'b')",
        "create trigger no before insert or update or delete on t for each row execute function no()",
    )
    pair.source("insert into t values (1, 'b'), (2, 'a')")
    assert pulled(pair).tally == Tally(2, updated=2)


def test_rows_that_others_refer_to_never_step_aside(make_pair: MakePair) -> None:
    child = "; create table child (t_id int references t on delete cascade)"
    pair = make_pair(schema=NOT_NULL + child)
    pair.source("insert into t values (1, 'b'), (2, 'a')")
    pair.target("insert into t values (1, 'a'), (2, 'b')", "insert into child values (1)")
    assert pulled(pair).tally == Tally(2, failed=2)
    assert pair.target("select count(*) from child") == [(1,)]
    assert pair.target("select u from t order by id") == [("a",), ("b",)]


@pytest.mark.parametrize("action", ["cascade", "set null", "set default", "restrict"])
def test_a_value_that_others_refer_to_is_not_given_up_for_a_moment(make_pair: MakePair, action: str) -> None:
    child = f"; create table child (u text references t (u) on update {action})"
    pair = make_pair(schema=NULLABLE + child)
    pair.source("insert into t values (1, 'b'), (2, 'a'), (3, 'z')")
    pair.target("insert into t values (1, 'a'), (2, 'b'), (3, 'c')", "insert into child values ('a')")
    assert pulled(pair).tally == Tally(3, updated=1, failed=2)
    assert pair.target("select u from child") == [("a",)]


@pytest.mark.parametrize(
    "schema",
    [
        "create table t (id int primary key, u text unique, w text, check (num_nonnulls(u, w) = 1))",
        "create domain given text not null; create table t (id int primary key, u given unique, w text)",
        "create table t (id int primary key, u text unique, w text,"
        " g text not null generated always as (u || 'x') stored)",
    ],
)
@pytest.mark.parametrize("referred", [False, True])
def test_rows_that_may_not_be_null_for_a_moment_step_aside_or_are_refused(
    make_pair: MakePair, schema: str, referred: bool
) -> None:
    child = "; create table child (id int references t)" if referred else ""
    pair = make_pair(schema=schema + child)
    pair.source("insert into t values (1, 'b'), (2, 'a'), (3, 'z')")
    pair.target("insert into t values (1, 'a'), (2, 'b'), (3, 'c')")
    assert pulled(pair).tally == (Tally(3, updated=1, failed=2) if referred else Tally(3, updated=3))
    assert pair.same("t", "id, u, w") is not referred


def test_nulls_that_meet_are_not_put_in_the_place_of_values(make_pair: MakePair, newest: int) -> None:
    pair = make_pair(
        newest, newest, schema="create table t (id int primary key, u text unique nulls not distinct)"
    )
    pair.source("insert into t values (1, 'b'), (2, 'a')")
    pair.target("insert into t values (1, 'a'), (2, 'b')")
    assert pulled(pair).tally == Tally(2, updated=2)


def test_triggers_do_not_fire_when_rows_get_back_what_is_theirs_alone(make_pair: MakePair) -> None:
    ours = NOT_NULL.replace("v text", "v text, mine text default 'new'")
    pair = make_pair(schema=NOT_NULL, target_schema=ours)
    pair.source("insert into t values (1, 'b'), (2, 'a')")
    pair.target(
        "create function no() returns trigger language plpgsql as $$ begin raise 'fired'; end $$",
        "insert into t values (1, 'a', null, 'one'), (2, 'b', null, 'two')",
        "create trigger no before insert or update or delete on t for each row execute function no()",
    )
    assert pulled(pair).tally == Tally(2, updated=2)
    assert pair.target("select id, u, mine from t order by 1") == [(1, "b", "one"), (2, "a", "two")]
    assert pair.target("select tgenabled from pg_trigger where tgname = 'no'") == [("O",)]


def test_ranges_that_exclude_each_other_can_be_swapped(make_pair: MakePair) -> None:
    pair = make_pair(schema=EXCLUSIVE)
    pair.source("insert into t values (1, '[5,9)'), (2, '[1,5)')")
    pair.target("insert into t values (1, '[1,5)'), (2, '[5,9)')")
    assert pulled(pair).tally == Tally(2, updated=2)
    assert pair.same("t")


def test_what_is_here_and_may_stay_is_left_alone_when_skipping(make_pair: MakePair) -> None:
    pair = make_pair(schema=NULLABLE)
    pair.source("insert into t values (1, 'b'), (2, 'a'), (3, 'c')")
    pair.target("insert into t values (1, 'a'), (9, 'c')")
    assert pulled(pair, on_conflict="skip").tally == Tally(3, skipped=1, failed=2)


def test_chains_that_are_written_one_by_one_end_a_large_pull_well(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key, u text unique)")
    for side in (pair.source, pair.target):
        side("insert into t select n, 'u' || n from generate_series(1, 12000) n")
    for chain in ((1, 2, 3), (13, 12, 11)):
        first, second, third = chain
        pair.source(
            f"update t set u = 'free' || id where id in {chain}",
            f"update t set u = 'u{second}' where id = {first}",
            f"update t set u = 'u{third}' where id = {second}",
        )
    assert pulled(pair, verify=True).tally.updated == 6
    assert pair.same("t")
    assert pulled(pair).tally.updated == 0


def test_one_that_a_deferred_constraint_refuses_takes_no_other_along(make_pair: MakePair) -> None:
    schema = (
        "create table t (id int primary key, u text unique, w text unique deferrable initially deferred);"
        " create function no() returns trigger language plpgsql as $$ begin raise 'fired'; end $$;"
        " create trigger no before update on t for each row execute function no()"
    )
    pair = make_pair(schema=schema)
    pair.source("insert into t values (1, 'b', '1'), (2, 'a', '2'), (3, 'd', 'taken'), (4, 'c', '4')")
    pair.target(
        "insert into t values (1, 'a', '1'), (2, 'b', '2'), (3, 'c', '3'), (4, 'd', '4'), (9, 'x', 'taken')"
    )
    assert pulled(pair).tally == Tally(4, updated=2, failed=2)
    assert pair.target("select u from t where id < 3 order by id") == [("b",), ("a",)]
