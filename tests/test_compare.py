"""The laws of comparing, on real servers: what differs is found, moves, and nothing else does."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Protocol
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL, Identifier, Literal

from pgpull import (
    ConnectionLost,
    Listener,
    PlanError,
    Report,
    Tally,
    TooManyRejects,
    Unequal,
    comparing,
    pull,
)
from pgpull.plans import Method
from tests.conftest import MakePair, OwnServer
from tests.support import Pair, Proxy, Server, Side

SIDES: tuple[Side, Side] = ("source", "target")

EMPTY = """
    set client_min_messages to error;
    drop schema if exists pgpull cascade;
    drop schema public cascade;
    create schema public;
    grant usage on schema public to public"""


def pulled(pair: Pair, table: str = "t", **what: Any) -> Report:
    """Pull from the pair's source to its target, and bring rows that are here up to date unless told not to."""
    given = {"source": pair.source_url, "target": pair.target_url, "retries": 0, "on_conflict": "update"}
    return pull(table, **{**given, **what})


def counts(report: Report) -> tuple[int, int, int, int]:
    """Return inserted, updated, skipped, failed."""
    tally = report.tally
    return tally.inserted, tally.updated, tally.skipped, tally.failed


def found(report: Report) -> tuple[int, int, int | None]:
    """Return how many rows were missing, changed and extra."""
    comparison = report.plan.comparison
    assert comparison
    return comparison.missing, comparison.changed, comparison.extra


class Sides(Protocol):
    """The fixture ``sides``."""

    def __call__(self, schema: str, target_schema: str | None = None) -> Pair:
        """Make both sides anew; ``target_schema`` is SQL for the target alone."""
        ...


@pytest.fixture(scope="module")
def databases(servers: Callable[[int], Server], newest: int, oldest: int) -> Iterator[Pair]:
    """Make one pair for all tests of this module that need no more."""
    pair = Pair(servers(newest), servers(oldest), "compared_source", "compared_target")
    for side in SIDES:
        pair.server(side).create_database(pair.database(side))
    yield pair
    for side in SIDES:
        pair.server(side).restore().drop_database(pair.database(side))


@pytest.fixture
def sides(databases: Pair) -> Sides:
    """Empty the databases of the pair, and run a schema on both sides."""

    def make(schema: str, target_schema: str | None = None) -> Pair:
        for side, statements in zip(SIDES, (schema, target_schema or schema), strict=True):
            databases.server(side).restore()
            databases.run(side, EMPTY, statements)
        return databases

    return make


class Meanwhile(Listener):
    """Does a deed, once, when the plan stands or, with ``after``, when so many rows are done."""

    def __init__(self, deed: Callable[[], object], after: int = 0) -> None:
        self._deeds = [deed]
        self._after = after

    def planned(self, *_: Any) -> None:
        self._when(0)

    def progressed(self, tally: Tally, size: int) -> None:
        self._when(tally.fetched)

    def _when(self, rows: int) -> None:
        if rows >= self._after and self._deeds:
            self._deeds.pop()()


def eventually(condition: Callable[[], object]) -> None:
    """Wait until a server that comes back answers."""
    until = time.monotonic() + 20
    while True:
        with suppress(psycopg.OperationalError):
            if condition():
                return
        assert time.monotonic() < until, "it never came to this"
        time.sleep(0.05)


# --- hashes ----------------------------------------------------------------------------------------------

# What equality, a cast to text or a hash of the type's own takes for the same.
ALIKE = [
    ("jsonb", "'1.0'", "'1.00'"),
    ("jsonb", "'null'", "null"),
    ("json", "'{\"a\":1}'", "'{\"a\": 1}'"),
    ("numeric", "1.0", "1.00"),
    ("float8", "'-0'", "0"),
    ("float4", "'-0'", "0"),
    ("interval", "'24:00'", "'1 day'"),
    ("bpchar", "'a'", "'a  '"),
    ("text", "''", "null"),
    ("text", "'a'", "'a '"),
    ("text[]", "'{a,NULL}'", "'{a,\"NULL\"}'"),
    ("int[]", "'{1,2}'", "'[0:1]={1,2}'"),
    ("int8", "0", "4294967297"),
    ("int8", "-1", "-4294967297"),
    ("timestamptz", "'2000-01-01Z'", "timestamptz '2000-01-01Z' + interval '4294.967297 s'"),
    ("timestamp", "'2000-01-01'", "timestamp '2000-01-01' + interval '4294.967297 s'"),
    ("time", "'00:00'", "time '00:00' + interval '4294.967297 s'"),
    ("time", "'00:00'", "'24:00'"),
    ("timetz", "'00:00+00'", "'01:00+01'"),
    ("date", "'infinity'", "'-infinity'"),
    ("bool", "false", "null"),
    ("bytea", r"'\x00'", r"'\x0000'"),
    ("int4range", "'[1,2)'", "'empty'"),
    ("oid", "0", "4294967295"),
]


def test_a_row_hash_sees_what_equality_does_not(sides: Sides) -> None:
    columns = ", ".join(f"c{n} {kind}" for n, (kind, *_) in enumerate(ALIKE))
    pair = sides(f"create table t (id int primary key, {columns})")
    for n, (_, theirs, ours) in enumerate(ALIKE):
        pair.source(
            f"insert into t (id, c{n}) values ({n}, {theirs}), ({n} + 100, {ours}), ({n} + 200, {ours})"
        )
        pair.target(
            f"insert into t (id, c{n}) values ({n}, {ours}), ({n} + 100, {theirs}), ({n} + 200, {ours})"
        )
    unlike = 2 * len(ALIKE)
    report = pulled(pair, mirror=True)
    assert found(report) == (0, unlike, 0)
    assert counts(report) == (0, unlike, len(ALIKE), 0)
    assert pair.same("t")


@pytest.mark.parametrize(
    "kind", ["bigint", "int", "smallint", "text", "varchar", "uuid", "timestamptz", "bool"]
)
def test_a_row_with_one_value_is_told_apart_too(sides: Sides, kind: str) -> None:
    values = {
        "bigint": "0 4294967297 -1 -4294967298",
        "int": "0 1 -1 2147483647",
        "smallint": "0 1 -1 32767",
        "uuid": f"{UUID(int=0)} {UUID(int=1)} {UUID(int=2**64)} {UUID(int=2**127)}",
        "timestamptz": "infinity -infinity 2000-01-01Z 2000-01-01T01:11:34.967297Z",
        "bool": "true false",
    }.get(kind, "a A b B").split()
    pair = sides(f"create table t (id int primary key, v {kind})")
    for n, one in enumerate([None, *values]):
        for m, other in enumerate([None, *values]):
            number = 10 * n + m
            pair.source(SQL("insert into t values ({}, {})").format(number, one))
            pair.target(SQL("insert into t values ({}, {})").format(number, other))
    assert found(pulled(pair)) == (0, len(values) * (len(values) + 1), None)
    assert pair.same("t")


def test_a_row_hash_sees_letter_case_that_a_collation_does_not(make_pair: MakePair) -> None:
    schema = """
        create collation either_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        create table t (id int primary key, v text collate either_case)"""
    try:
        pair = make_pair(schema=schema, source_version=15, target_version=15)
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this PostgreSQL has no ICU")
    pair.source("insert into t values (1, 'a'), (2, 'b')")
    pair.target("insert into t values (1, 'A'), (2, 'b')")
    assert found(pulled(pair, mirror=True)) == (0, 1, 0)
    assert pair.same("t")


def test_values_that_change_places_are_seen(sides: Sides) -> None:
    pair = sides("create table t (id int primary key, a int, b int, c text, d text)")
    pair.source("insert into t select g, g, -g, g, -g from generate_series(1, 100) g")
    pair.target(
        "insert into t select g, case g % 2 when 0 then g else -g end, case g % 2 when 0 then -g else g end,"
        " case g % 5 when 0 then -g else g end, case g % 5 when 0 then g else -g end"
        " from generate_series(1, 100) g"
    )
    assert found(pulled(pair)) == (0, 60, None)
    assert pair.same("t")


# --- lost connections ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("on_conflict", ["skip", "update"])
@pytest.mark.parametrize(("here", "strategy"), [(100, "merge"), (3_300, "keyed")])
def test_a_source_lost_between_batches_is_compared_anew_and_each_row_counts_once(
    guarded: Pair, make_proxy: Callable[..., Proxy], here: int, strategy: str, on_conflict: str
) -> None:
    outdated = here // 4 if on_conflict == "update" else 0
    guarded.target(
        f"insert into t select g, repeat('x', 500) from generate_series(1, {here}) g",
        f"update t set v = 'old' where id <= {outdated}",
    )
    proxy = make_proxy(guarded.source_server)
    cut = Meanwhile(lambda: proxy.cut_after(200_000))
    report = pulled(
        guarded,
        source=guarded.source_through(proxy),
        on_conflict=on_conflict,
        batch_size=100,
        retries=1,
        listener=cut,
    )
    assert report.passes == 2
    assert report.plan.strategy == strategy
    assert counts(report) == (3_999 - here, outdated, here - outdated, 1)
    assert report.rejects
    assert len(report.rejects.read_text().splitlines()) == 1


@pytest.fixture
def guarded(sides: Sides) -> Pair:
    """Give a pair of which one row of 4,000 is refused by the target."""
    create = "create table t (id int primary key, v text not null)"
    pair = sides(create, target_schema=create.replace("not null", "not null, check (id <> 3999)"))
    pair.source("insert into t select g, repeat('x', 500) from generate_series(1, 4000) g", "analyze t")
    return pair


# --- new rows --------------------------------------------------------------------------------------------


@pytest.fixture
def diary(sides: Sides) -> Pair:
    """Give a pair whose source has a row for each hour from 2025 on, in no order, for two people."""
    pair = sides("create table t (id int primary key, who text, created_at timestamptz, day date)")
    pair.source(
        "insert into t select g, case g % 2 when 0 then 'ann' else 'bob' end, at, (at + interval '12 h')::date"
        " from generate_series(0, 999) g,"
        " lateral (select timestamptz '2025-01-01 00:00Z' + (g * 7919 % 1000) * interval '1 h' as at) x"
    )
    return pair


def old_rows(pair: Pair, until: str) -> None:
    """Let the target have the rows until then, by any other way."""
    rows = pair.source(f"select id, who, created_at, day from t where created_at < '{until}'")
    with psycopg.connect(pair.target_url) as connection:
        connection.cursor().executemany("insert into t values (%s, %s, %s, %s)", rows)


@pytest.mark.parametrize(
    ("what", "asked", "inserted"),
    [
        ({}, 1000 - 240 + 2, 760),
        ({"overlap": "1d"}, 1000 - 240 + 25, 760),
        ({"overlap": "0s"}, 1000 - 240 + 1, 760),
        ({"until": "2025-01-12"}, 26, 24),
        ({"until": "2025-01-10"}, 2, 0),
        ({"since": "2025-01-20"}, 1000 - 19 * 24, 1000 - 19 * 24),
        ({"equals": {"who": "ann"}}, None, 380),
        ({"window": "day", "overlap": "0s"}, 1000 - 240 + 12, 760),
        ({"window": "day", "overlap": "0s", "timezone": "Asia/Kathmandu"}, 1000 - 240 + 12, 760),
        ({"window": "day", "overlap": "1d"}, 1000 - 240 + 36, 760),
    ],
    ids=str,
)
def test_new_asks_for_the_rows_from_the_newest_one_here_on(
    diary: Pair, what: dict[str, Any], asked: int | None, inserted: int
) -> None:
    old_rows(diary, "2025-01-11 00:00Z")
    report = pulled(diary, new=True, on_conflict="skip", **what)
    assert asked is None or report.tally.fetched == asked
    assert report.tally.inserted == inserted
    assert found(pulled(diary, new=True, on_conflict="skip", **what))[0] == 0


def test_new_brings_everything_where_nothing_is_here(diary: Pair) -> None:
    assert pulled(diary, new=True).tally.inserted == 1000
    assert diary.same("t")


@pytest.mark.parametrize("value", ["infinity", "2999-01-01", "9999-12-31", "294276-12-31"])
@pytest.mark.parametrize("window", ["created_at", "day"])
def test_rows_of_the_future_keep_no_new_rows_out(diary: Pair, window: str, value: str) -> None:
    old_rows(diary, "2025-01-11 00:00Z")
    diary.target(f"insert into t (id, {window}) values (-1, '{value}')")
    assert pulled(diary, new=True, window=window).tally.inserted == 760


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("until", ["2000-01-01", "2025-02-08"])
@pytest.mark.parametrize("retries", [0, 1])
def test_new_leaves_no_gap_when_a_run_breaks_off(
    diary: Pair, make_proxy: Callable[..., Proxy], retries: int, until: str
) -> None:
    old_rows(diary, until)
    proxy = make_proxy(diary.source_server)
    cut = Meanwhile(lambda: proxy.cut_after(200_000))
    words: dict[str, Any] = {"new": True, "overlap": "2h", "batch_size": 10, "retries": retries}
    through: dict[str, Any] = {"source": diary.source_through(proxy), "listener": cut}
    diary.source("alter table t add note text", "update t set note = repeat('x', 5000)")
    diary.target("alter table t add note text")
    if retries:
        assert pulled(diary, **words, **through).passes == 2
    else:
        with pytest.raises(ConnectionLost):
            pulled(diary, **words, **through)
        assert 0 < pulled(diary, **words).tally.inserted < 1000
    assert diary.images("source", "t", "id") == diary.images("target", "t", "id")


# --- mirror ----------------------------------------------------------------------------------------------


def test_a_mirror_deletes_what_the_server_has_no_more_and_nothing_out_of_scope(sides: Sides) -> None:
    pair = sides("create table t (id int primary key, who text)")
    pair.source(
        "insert into t select g, case g % 2 when 0 then 'ann' else 'bob' end from generate_series(1, 40) g"
    )
    pulled(pair)
    pair.source("delete from t where id <= 4", "update t set who = 'cid' where id in (10, 11)")
    pair.target("insert into t values (100, 'bob')")
    report = pulled(pair, equals={"who": "ann"}, mirror=True)
    assert found(report) == (0, 0, 2)
    assert (report.deleted, report.kept, report.exit_code) == (2, 0, 0)
    assert pair.target("select id from t where id <= 4 or id in (10, 11, 100) order by 1") == [
        (1,), (3,), (10,), (11,), (100,),
    ]  # fmt: skip


@pytest.mark.parametrize("on_delete", ["cascade", "set null", "set default", "no action", "restrict"])
@pytest.mark.parametrize("deferrable", ["", "deferrable initially deferred"])
def test_a_mirror_keeps_the_rows_that_others_refer_to(sides: Sides, on_delete: str, deferrable: str) -> None:
    pair = sides("create table t (id int primary key)")
    pair.target(f"create table child (id int references t on delete {on_delete} {deferrable})")
    pair.target("insert into t select generate_series(1, 10)", "insert into child values (3), (4), (null)")
    pair.source("insert into t values (1), (2)")
    report = pulled(pair, mirror=True, max_delete="100%")
    assert (report.deleted, report.kept, report.exit_code) == (6, 2, 4)
    assert pair.target("select id from t order by 1") == [(1,), (2,), (3,), (4,)]
    assert pair.target("select id from child order by 1") == [(3,), (4,), (None,)]


@pytest.mark.parametrize("on_delete", ["cascade", "set null", "no action"])
def test_a_mirror_keeps_whatever_a_row_that_stays_hangs_on(sides: Sides, on_delete: str) -> None:
    pair = sides(f"create table t (id int primary key, parent int references t on delete {on_delete})")
    pair.source("insert into t values (1, null)")
    # a chain that ends in a row that is needed, one that does not, and a circle
    pair.target(
        "insert into t values (1, null), (10, null), (11, 10), (12, 11)",
        "insert into t values (20, null), (21, 20), (30, 31), (31, 30)",
        f"create table child (id int references t on delete {on_delete})",
        "insert into child values (12)",
    )
    report = pulled(pair, mirror=True, max_delete="100%")
    assert (report.deleted, report.kept, report.exit_code) == (4, 3, 4)
    assert pair.target("select id from t order by 1") == [(1,), (10,), (11,), (12,)]
    assert pair.target("select count(*) from child where id = 12") == [(1,)]


@pytest.mark.parametrize(("table", "parent"), [("t", "t1"), ("t1", "t"), ("t1", "t1"), ("t", "t")])
def test_a_mirror_sees_who_refers_to_a_partition_or_to_its_root(sides: Sides, table: str, parent: str) -> None:
    pair = sides("""
        create table t (id int primary key) partition by range (id);
        create table t1 partition of t for values from (0) to (100)""")
    pair.target(f"create table child (id int references {parent} on delete cascade) partition by hash (id)")
    pair.target("create table child1 partition of child for values with (modulus 1, remainder 0)")
    pair.target("insert into t values (1), (2), (3)", "insert into child values (2)")
    pair.source("insert into t values (1)")
    report = pulled(pair, table, mirror=True, max_delete="100%")
    assert (report.deleted, report.kept) == (1, 1)
    assert pair.target("select id from child") == [(2,)]


def test_a_mirror_over_its_limit_writes_nothing_at_all(sides: Sides) -> None:
    pair = sides("create table t (id int primary key, v text)")
    pair.source("insert into t select g, 'theirs' from generate_series(1, 90) g")
    pair.target("insert into t select g, 'ours' from generate_series(2, 101) g")
    before = pair.images("target", "t")
    for limit in ("10%", 10, "0%", 0):
        with pytest.raises(PlanError, match="11 of 100 local rows in scope") as caught:
            pulled(pair, mirror=True, max_delete=limit)
        assert caught.value.exit_code == 3
    assert pair.images("target", "t") == before
    assert pulled(pair, mirror=True, max_delete="11%").deleted == 11
    assert pair.same("t")


@pytest.mark.parametrize("where", ["t", "t1"])
@pytest.mark.parametrize("how", ["mirror", "replace"])
def test_triggers_do_not_fire_for_deleted_rows(sides: Sides, how: str, where: str) -> None:
    pair = sides("""
        create table t (id int primary key) partition by range (id);
        create table t1 partition of t for values from (0) to (1000)""")
    pair.target(
        "create table log (said text)",
        "create function log() returns trigger language plpgsql as $$ begin"
        " insert into log values (tg_op); if tg_op = 'DELETE' then return old; end if; return new; end $$",
        f"create trigger row before insert or update or delete on {where} for each row execute function log()",
        f"create trigger statement after delete on {where} for each statement execute function log()",
        f"create trigger always after delete on {where} for each row execute function log()",
        f"alter table {where} enable always trigger always",
    )
    pair.source("insert into t select generate_series(1, 10)")
    words: dict[str, Any] = {"mirror": False, how: True, "max_delete": "100%"}
    pulled(pair, **words)
    pair.target("insert into t values (11)", "truncate log")
    assert pulled(pair, **words).deleted == {"mirror": 1, "replace": 11}[how]
    assert pair.target("select * from log") == []
    pair.target("delete from t where id = 1")
    assert pair.target("select count(*) from log") == [(3 if where == "t" else 2,)]
    assert ("always", "A") in pair.target("select tgname, tgenabled::text from pg_trigger")


@pytest.mark.parametrize("how", ["mirror", "replace"])
def test_rows_are_deleted_only_by_a_condition_that_local_understands(sides: Sides, how: str) -> None:
    pair = sides("create table t (id int primary key); insert into t values (1)")
    pair.source("create table only_there (id int)")
    words: dict[str, Any] = {how: True, "where": "id in (select id from only_there)"}
    with pytest.raises(PlanError, match="cannot tell which of its rows are in scope") as caught:
        pulled(pair, **words)
    assert f"leave out --{how}" in caught.value.hint
    assert pair.target("select * from t") == [(1,)]


@pytest.mark.parametrize("where", ["id = 1) or (id = 2", "id = 1) -- (", "true) or (true", "true limit 1 --"])
@pytest.mark.parametrize("how", ["mirror", "replace"])
def test_a_condition_cannot_reach_out_of_its_parentheses(sides: Sides, how: str, where: str) -> None:
    pair = sides("create table t (id int primary key, created_at timestamptz)")
    pair.source("insert into t select g, now() from generate_series(1, 10) g")
    pair.target("insert into t select g, now() from generate_series(1, 10) g")
    words: dict[str, Any] = {
        "mirror": False,
        how: True,
        "where": where,
        "since": "2000-01-01",
        "max_delete": "100%",
    }
    with pytest.raises(PlanError, match="does not take the condition"):
        pulled(pair, **words)
    assert pair.target("select count(*) from t") == [(10,)]


# --- replace ---------------------------------------------------------------------------------------------


@pytest.fixture
def outdated(sides: Sides) -> Pair:
    """Give a pair whose rows are all out of date here, and some of which the server refuses to have had."""
    create = "create table t (id int generated always as identity primary key, who text, v text)"
    pair = sides(create)
    pair.source(
        "insert into t (who, v) select case g % 2 when 0 then 'ann' else 'bob' end, repeat('new', 500)"
        " from generate_series(1, 1000) g"
    )
    pair.target(
        "insert into t (who, v) select case g % 2 when 0 then 'ann' else 'bob' end, 'old'"
        " from generate_series(1, 1100) g",
        "alter table t alter id restart",
    )
    return pair


def test_replacing_leaves_what_the_server_has_and_nothing_out_of_scope(outdated: Pair) -> None:
    report = pulled(outdated, replace=True, equals={"who": "ann"}, batch_size=100)
    assert (report.deleted, report.tally.inserted, report.exit_code) == (550, 500, 0)
    assert outdated.images("source", "t where who = 'ann'") == outdated.images("target", "t where who = 'ann'")
    assert outdated.target("select count(*) from t where who = 'bob' and v = 'old'") == [(550,)]
    assert outdated.target("insert into t (who) values ('cid') returning id") == [(1100,)]


class Stop(Exception):
    """What a listener raises."""


def stop() -> None:
    raise Stop


def breaks_off(pair: Pair, make_proxy: Callable[..., Proxy], how: str) -> None:
    """Replace everything, and be stopped half way through."""
    words: dict[str, Any] = {"replace": True, "batch_size": 50}
    if how == "an exception":
        with pytest.raises(Stop):
            pulled(pair, listener=Meanwhile(stop, after=300), **words)
    elif how == "too many rejects":
        pair.target("alter table t add check (v <> repeat('new', 500) or id < 300) not valid")
        with pytest.raises(TooManyRejects):
            pulled(pair, max_errors=100, **words)
    else:
        side: Side = "source" if how == "a lost source" else "target"
        proxy = make_proxy(pair.server(side))
        url = pair.source_through(proxy) if side == "source" else pair.target_through(proxy)
        cut = Meanwhile(lambda: proxy.cut_after(500_000, "down" if side == "source" else "up"))
        with pytest.raises(ConnectionLost) as caught:
            pulled(pair, listener=cut, **{side: url}, **words)
        assert caught.value.exit_code == 3


@pytest.mark.parametrize("how", ["an exception", "too many rejects", "a lost source", "a lost target"])
def test_replacing_is_all_or_nothing(outdated: Pair, make_proxy: Callable[..., Proxy], how: str) -> None:
    before = outdated.images("target", "t")
    breaks_off(outdated, make_proxy, how)
    assert outdated.images("target", "t") == before


@pytest.mark.usefixtures("hasty")
def test_replacing_starts_anew_when_the_source_is_lost(
    outdated: Pair, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(outdated.source_server)
    cut = Meanwhile(lambda: proxy.cut_after(500_000))
    report = pulled(
        outdated, source=outdated.source_through(proxy), replace=True, retries=1, batch_size=50, listener=cut
    )
    assert report.passes == 2
    assert (report.deleted, *counts(report)) == (1100, 1000, 0, 0, 0)
    assert outdated.same("t")


def test_rows_without_a_key_can_be_replaced(sides: Sides) -> None:
    pair = sides("create table t (v text, created_at timestamptz)")
    rows = (
        "insert into t select '{}', timestamptz '2025-01-01Z' + g % 10 * interval '1 day'"
        " from generate_series(1, {}) g"
    )
    pair.source(rows.format("new", 50))
    pair.target(rows.format("old", 60))
    report = pulled(pair, replace=True, since="2025-01-05")
    assert (report.deleted, report.tally.inserted) == (36, 30)
    assert pair.target("select v, count(*) from t group by 1 order by 1") == [("new", 30), ("old", 24)]


@pytest.mark.parametrize("on_delete", ["cascade", "set null", "no action"])
def test_rows_that_others_refer_to_are_not_replaced(sides: Sides, on_delete: str) -> None:
    pair = sides(f"create table t (id int primary key, part int, above int references t on delete {on_delete})")
    pair.source("insert into t values (1, 1, null), (2, 1, 1), (3, 2, null)")
    pair.target("insert into t values (1, 1, null), (2, 1, 1), (3, 2, 1)")
    before = pair.rows("target", "t")
    with pytest.raises(
        PlanError, match=r"other rows of public\.t refer to rows of public\.t in scope"
    ) as caught:
        pulled(pair, replace=True, equals={"part": 1})
    assert "--on-conflict update --mirror" in caught.value.hint
    assert pair.rows("target", "t") == before
    pair.target(f"create table child (id int references t on delete {on_delete}); insert into child values (1)")
    with pytest.raises(PlanError, match=r"other rows of public\.child refer to rows of public\.t in scope"):
        pulled(pair, replace=True)
    assert pair.rows("target", "t") == before
    pair.target("delete from child")
    assert pulled(pair, replace=True).deleted == 3
    assert pair.same("t")


# --- keys and names of all kinds -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours", "bad"),
    [
        ("text", "int", "x"),
        ("bigint", "int", "5000000000"),
        ("int", "small", "3"),
        ("text", "mood", "sad"),
        ("text", "varchar(3)", "four"),
    ],
)
@pytest.mark.parametrize("on_conflict", ["skip", "update"])
def test_a_key_that_is_none_here_is_a_reject_and_the_others_arrive(
    sides: Sides, theirs: str, ours: str, bad: str, on_conflict: str
) -> None:
    types = "create domain small as int check (value < 3); create type mood as enum ('1', '2'); create table t"
    pair = sides(f"{types} (id {theirs} primary key, v text)", f"{types} (id {ours} primary key, v text)")
    pair.source(f"insert into t values ('1', 'a'), ('2', 'b'), ('{bad}', 'c')")
    pair.target("insert into t values ('1', 'old')")
    report = pulled(pair, on_conflict=on_conflict)
    assert counts(report) == ((1, 1, 0, 1) if on_conflict == "update" else (1, 0, 1, 1))
    with pytest.raises(PlanError, match="is none here"):
        pulled(pair, mirror=True)


NAMES = ["h", "s", "t", "c", "g", "p", "place", "ctid ", "%s", '100% "it\'s" é', "é" * 31]


@pytest.mark.parametrize(("column", "rows"), [*((name, 10) for name in NAMES), ("h", 20_000), ("%s", 20_000)])
def test_columns_and_tables_may_have_any_name(sides: Sides, column: str, rows: int) -> None:
    name, plain = (
        Identifier(column),
        SQL("create table {0} ({1} int, k bigint, {2} text, primary key (k, {1}))"),
    )
    create = plain.format(Identifier(f"{column}!"), name, Identifier(f"{column[:-1]}x"))
    pair = sides(create.as_string())
    table = Identifier(f"{column}!")
    insert = SQL("insert into {} select g, g, g from generate_series(1, {}) g").format(table, rows)
    pair.source(insert, SQL("analyze {}").format(table))
    pair.target(insert, SQL("analyze {}").format(table))
    pair.target(
        SQL("delete from {} where k = 3").format(table), SQL("insert into {} values (-1, -1)").format(table)
    )
    pair.source(SQL("update {} set {} = 'new' where k = 5").format(table, Identifier(f"{column[:-1]}x")))
    text = '"' + f"{column}!".replace('"', '""') + '"'
    assert pulled(pair, text, mirror=True, on_conflict="skip").deleted == 1
    report = pulled(pair, text, mirror=True, verify=True, where=SQL("{} > 0").format(name).as_string())
    assert found(report) == (0, 1, 0)
    assert pair.same(table.as_string())


def test_a_key_of_many_columns_and_types_is_compared(sides: Sides) -> None:
    kinds = {
        "int": "g", "text": "'k' || g", "uuid": "md5(g::text)::uuid", "numeric": "g / 3.0", "float8": "g / 7.0",
        "timestamptz": "timestamptz '2025-01-01Z' + g * interval '1 s'", "date": "date '2025-01-01' + g",
        "mood": "(array['ok', 'bad']::mood[])[1 + g % 2]", "bytea": "int4send(g)", "bool": "g % 2 = 0",
        "interval": "g * interval '1 h'", "inet": "inet '10.0.0.0' + g", "char(5)": "g::text",
        "jsonb": "to_jsonb(g)", "time": "time '00:00' + g * interval '1 s'",
        '"char"': "(g % 100)::text::\"char\"",
    }  # fmt: skip
    columns = ", ".join(f"k{n} {kind}" for n, kind in enumerate(kinds))
    key = ", ".join(f"k{n}" for n in range(len(kinds)))
    pair = sides(
        f"create type mood as enum ('ok', 'bad'); create table t ({columns}, v text, primary key ({key}))"
    )
    rows = f"insert into t select {', '.join(kinds.values())}, 'v' from generate_series({{}}, {{}}) g"
    pair.source(rows.format(1, 1000), "update t set v = 'new' where k0 % 100 = 0")
    pair.target(rows.format(11, 1005))
    report = pulled(pair, mirror=True, verify=True)
    assert report.plan.strategy == "keyed"
    assert found(report) == (10, 10, 5)
    assert pair.same("t")


def test_rows_of_a_key_alone_are_compared(sides: Sides) -> None:
    pair = sides("create table t (a int, b text, primary key (a, b))")
    pair.source("insert into t select g, g from generate_series(1, 100) g")
    pair.target("insert into t select g, g from generate_series(2, 101) g")
    assert found(pulled(pair, mirror=True, verify=True)) == (1, 0, 1)
    assert pair.same("t")


@pytest.mark.parametrize("rows", [100, 20_000])
def test_rows_cross_between_encodings_and_types_and_are_equal_there(make_pair: MakePair, rows: int) -> None:
    theirs = "create table t (id text primary key, v varchar, n int, j jsonb, c char(3)) "
    ours = "create table t (id varchar(20) primary key, v text, n bigint, j jsonb, c char(3))"
    pair = make_pair(schema="")
    pair.source_server.drop_database(pair.source_db)
    pair.source_server.create_database(pair.source_db, encoding="LATIN1", locale="C")
    fill = f"select 'é' || g, 'ü' || g, g, to_jsonb('ß'::text || g), 'à' from generate_series(1, {rows}) g"
    utf8 = "set client_encoding to utf8"
    pair.source(utf8, theirs, f"insert into t {fill}", "analyze t")
    pair.target(ours, f"insert into t {fill}")
    assert found(pulled(pair, mirror=True, verify=True)) == (0, 0, 0)
    pair.source(utf8, "update t set v = 'ö' where id = 'é3'", "delete from t where id = 'é4'")
    pair.target("delete from t where id = 'é5'")
    report = pulled(pair, mirror=True, verify=True)
    assert found(report) == (1, 1, 1)
    assert counts(report) == (1, 1, rows - 3, 0)
    assert found(pulled(pair, mirror=True, on_conflict="skip")) == (0, 0, 0)


def test_a_server_that_knows_no_encoding_is_asked_for_keys_and_columns_with_accents(
    make_pair: MakePair,
) -> None:
    pair = make_pair(schema="")
    pair.source_server.drop_database(pair.source_db)
    pair.source_server.create_database(pair.source_db, encoding="SQL_ASCII", locale="C")
    for side in SIDES:
        pair.run(side, 'create table t (id text primary key, "ü" text)')
        pair.run(side, "insert into t select 'é' || g, g from generate_series(1, 100) g")
    pair.target("delete from t where id = 'é5'", "insert into t values ('è', 'extra')")
    pair.source("update t set \"ü\" = 'ö' where id = 'é7'")
    report = pulled(pair, where="id <> 'é9'", mirror=True, verify=True)
    assert found(report) == (1, 1, 1)
    assert pair.target("select * from t where id in ('é5', 'é7', 'è') order by 1") == [("é5", "5"), ("é7", "ö")]


@pytest.mark.parametrize(
    ("theirs", "ours", "extra"),
    [
        ("int", "bigint", "5000000000"),
        ("bigint", "int", "12"),
        ("varchar(3)", "text", "1000"),
        ("d", "text", "1000"),
    ],
)
def test_keys_of_kindred_types_are_asked_for(sides: Sides, theirs: str, ours: str, extra: str) -> None:
    create = "create domain d as varchar(3) check (value <> '1000'); create table t (id {} primary key)"
    pair = sides(create.format(theirs), create.format(ours))
    pair.source("insert into t select generate_series(1, 10)")
    pair.target("insert into t select generate_series(2, 10)", f"insert into t values ({extra})")
    report = pulled(pair, mirror=True, verify=True)
    assert (report.plan.strategy, found(report)) == ("keyed", (1, 0, 1))
    assert pair.same("t")


# --- row versions ----------------------------------------------------------------------------------------

MANY = 12_000
"""Rows in scope for which transaction numbers are worth remembering."""

LABELLED = """
    create type mood as enum ('ok', 'bad');
    create table t (id int primary key, who text not null, v text, m mood) partition by range (id);
    create table t1 partition of t for values from (-1000) to (10501);
    create table t2 partition of t for values from (10501) to (100000);
    create table u2 (like t including all);
    insert into u2 values (10502, 'ann', 'of another partition')"""


@pytest.fixture
def known(sides: Sides) -> Pair:
    """Give a pair that was found equal and remembers it."""
    pair = sides(LABELLED)
    pair.source(
        "insert into t select g, case when g <= 11000 then 'ann' else 'bob' end, g,"
        f" case when g % 4000 = 0 then 'bad'::mood end from generate_series(1, {MANY}) g",
        "analyze t",
    )
    pulled(pair)
    pair.target("analyze t")
    return pair


def by_versions(report: Report) -> bool:
    return report.plan.method is Method.VERSIONS


def remembered(pair: Pair) -> int:
    return int(pair.target("select count(*) from pgpull.known_equal")[0][0])


def test_what_was_equal_is_remembered_and_next_to_nothing_is_sent(known: Pair) -> None:
    report = pulled(known, mirror=True)
    assert by_versions(report)
    assert (report.plan.strategy, found(report)) == ("nothing", (0, 0, 0))
    assert counts(report) == (0, 0, MANY, 0)
    assert report.bytes < 12_000


# What happens there, what here, and how many rows then are missing, may be changed, and are extra.
CHANGES = {
    "a change there": ("update t set v = 'new' where id = 77", "", (0, 1, 0)),
    "a change here": ("", "update t set v = 'mine' where id = 77", (0, 1, 0)),
    "changes": ("update t set v = 'a' where id = 1", "update t set v = 'b' where id < 3", (0, 2, 0)),
    "an insert there": ("insert into t values (20001, 'ann')", "", (1, 0, 0)),
    "an insert here": ("", "insert into t values (20001, 'ann')", (0, 1, 1)),
    "a delete there": ("delete from t where id = 5", "", (0, 0, 1)),
    "a delete here": ("", "delete from t where id = 5", (1, 0, 0)),
    "deletes": ("delete from t where id = 5", "delete from t where id = 5", (0, 0, 0)),
    "another key there": ("update t set id = -5 where id = 5", "", (1, 0, 1)),
    "another key here": ("", "update t set id = -5 where id = 5", (1, 1, 1)),
    "another partition": ("update t set id = 20001 where id = 5", "", (1, 0, 1)),
    "no change at all": ("update t set v = v where id <= 50", "update t set v = v where id <= 90", (0, 90, 0)),
    "a change taken back": (
        "update t set v = 'x' where id = 7",
        "update t set v = '7' where id = 7",
        (0, 1, 0),
    ),
    "a change rolled back": ("begin; update t set v = 'x'; rollback", "", (0, 0, 0)),
    "locks": ("select from t where id < 99 for update", "select from t where id < 99 for share", (0, 0, 0)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_every_change_shows_by_row_versions(known: Pair, what: str) -> None:
    there, here, expected = CHANGES[what]
    for side, statement in zip(SIDES, (there, here), strict=True):
        known.run(side, statement or "select")
    report = pulled(known, mirror=True)
    assert by_versions(report)
    assert found(report) == expected
    assert known.same("t")
    again = pulled(known, mirror=True)
    assert by_versions(again)
    assert found(again) == (0, 0, 0)


SWAP = (
    "alter table t detach partition t2; alter table t attach partition {} for values from (10501) to (100000)"
)

STANDING = {
    "a column with a default": ("alter table t add n int default 5", "alter table t add n int default 6"),
    "a column in another's place": ("alter table t drop v, add v text default 'all'", ""),
    "another partition": (SWAP.format("u2"), ""),
    "a partition here": ("", SWAP.format("u2")),
    "a copied partition": ("create table t3 (like t); insert into t3 table t2; " + SWAP.format("t3"), ""),
    "a table loaded anew": ("create temp table o as table t; truncate t; insert into t select * from o", ""),
    "labels that change places": (
        "alter type mood rename value 'ok' to 'was'; alter type mood rename value 'bad' to 'ok';"
        " alter type mood rename value 'was' to 'bad'",
        "",
    ),
    "a column of another type": ("alter table t alter v type varchar(8)", ""),
}


@pytest.mark.parametrize("what", STANDING)
def test_what_changes_many_rows_at_once_shows(known: Pair, what: str) -> None:
    for side, statement in zip(SIDES, STANDING[what], strict=True):
        known.run(side, statement or "select")
    assert pulled(known, mirror=True, max_delete="100%").plan.method is Method.HASHES
    assert known.same("t", "id, who, v, m" + ", n" * ("default" in what))
    again = pulled(known, mirror=True)
    assert found(again) == (0, 0, 0)
    assert by_versions(again) == (what != "a column of another type")


def test_a_label_that_means_another_here_shows(known: Pair) -> None:
    known.target("alter type mood rename value 'bad' to 'good'", "alter type mood add value 'bad'")
    assert found(pulled(known)) == (0, 3, None)
    assert known.same("t")


@pytest.mark.parametrize(
    ("statement", "there", "expected"),
    [
        ("update t set who = 'bob' where id = 8", True, (0, 0, None)),
        ("update t set who = 'ann' where id = 11001", True, (0, 1, None)),
        ("update t set who = 'bob' where id = 8", False, (0, 1, None)),
        ("update t set who = 'ann' where id = 11001", False, (0, 1, None)),
        ("delete from t where id = 8", False, (1, 0, None)),
        ("update t set v = 'mine' where id = 11001", False, (0, 1, None)),
    ],
)
def test_rows_that_move_into_or_out_of_the_scope_show(
    known: Pair, statement: str, there: bool, expected: tuple[int, int, None]
) -> None:
    (known.source if there else known.target)(statement)
    scope: dict[str, Any] = {"equals": {"who": "ann"}}
    report = pulled(known, **scope)
    assert by_versions(report)
    assert found(report) == expected
    theirs = set(known.source("select * from t where who = 'ann'"))
    assert theirs <= set(known.target("select * from t"))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("young", [True, False], ids=["young", "old"])
def test_a_transaction_that_was_under_way_shows_once_it_commits(known: Pair, side: Side, young: bool) -> None:
    with psycopg.connect(known.url(side)) as other:
        number = "select txid_current()"
        other.execute(number if not young else "select 1")
        known.run(side, "create table anything (id int)", number)
        known.source("update t set v = 'first' where id = 4")
        other.execute("update t set v = 'late' where id = 9")
        assert counts(pulled(known))[1] == 1
        other.commit()
    report = pulled(known)
    assert by_versions(report)
    assert report.tally.updated == 1
    assert known.same("t")
    assert found(pulled(known)) == (0, 0, None)


@pytest.mark.parametrize("moment", [0, 5, MANY])
@pytest.mark.parametrize("first", [True, False], ids=["first", "again"])
@pytest.mark.parametrize(
    "deed",
    [
        "update t set v = 'mine' where id = 11999",
        "delete from t where id = 11999",
        "insert into t values (-7, 'me')",
    ],
)
def test_what_somebody_writes_here_meanwhile_shows_the_next_time(
    known: Pair, deed: str, first: bool, moment: int
) -> None:
    if first:
        known.target("truncate t", "drop schema pgpull cascade")
    else:
        known.source("update t set v = 'new' where id <= 20")
    pulled(known, listener=Meanwhile(lambda: known.target(deed), after=moment), batch_size=5_000)
    pulled(known, mirror=True)
    assert known.same("t")


@pytest.mark.parametrize("side", SIDES)
def test_a_change_that_is_undone_by_its_savepoint_or_made_below_one_shows(known: Pair, side: Side) -> None:
    known.run(
        side,
        "begin; savepoint a; update t set v = 'x' where id = 1; rollback to a;"
        " savepoint b; update t set v = 'y' where id = 2; release b; savepoint c; commit",
    )
    assert found(pulled(known)) == (0, 1, None)
    assert known.same("t")


def test_a_narrower_scope_knows_what_a_wider_one_knew_and_not_the_reverse(known: Pair) -> None:
    ann: dict[str, Any] = {"equals": {"who": "ann"}}
    assert by_versions(pulled(known, **ann))
    assert by_versions(pulled(known, equals={"who": "ann", "m": "ok"}, row_versions=True)) is False  # few rows
    known.target("drop schema pgpull cascade")
    assert not by_versions(pulled(known, **ann))
    assert by_versions(pulled(known, **ann))
    assert not by_versions(pulled(known))
    assert remembered(known) == 1  # the wider one stands for both
    assert by_versions(pulled(known, **ann))
    assert not by_versions(pulled(known, where="true"))
    assert not by_versions(pulled(known, on_conflict="skip"))


def test_what_is_remembered_may_be_dropped_at_any_time(known: Pair) -> None:
    for drop in (
        "delete from pgpull.known_equal",
        "drop table pgpull.known_equal",
        "drop schema pgpull cascade",
    ):
        known.target(drop, "update t set v = 'mine' where id = 3")
        report = pulled(known)
        assert (report.plan.method, found(report)) == (Method.HASHES, (0, 1, None))
        assert by_versions(pulled(known))


@pytest.mark.parametrize(
    "tampered",
    [
        "update pgpull.known_equal set source_horizon = 1::bigint << 40",
        "update pgpull.known_equal set target_horizon = 1::bigint << 40",
        "update pgpull.known_equal set source_horizon = source_horizon + 1000",
        "update pgpull.known_equal set source_horizon = source_horizon - (1::bigint << 32)",
        "update pgpull.known_equal set target_horizon = -1",
        "update pgpull.known_equal set binding = md5(binding)",
        "update pgpull.known_equal set scope = 'all of it'",
        "update pgpull.known_equal set scope = '[]'",
        "update pgpull.known_equal set scope = '{}'",
        "alter table pgpull.known_equal rename scope to region",
        "drop table pgpull.known_equal; create view pgpull.known_equal as select 1 as binding",
    ],
)
def test_what_was_tampered_with_is_not_believed(known: Pair, tampered: str) -> None:
    known.source("update t set v = 'new' where id = 3")
    known.target(tampered)
    report = pulled(known)
    assert report.plan.method is Method.HASHES
    assert found(report) == (0, 1, None)
    assert known.same("t")


def test_without_row_versions_nothing_is_read_and_nothing_is_left(known: Pair) -> None:
    before = known.rows("target", "pgpull.known_equal")
    known.source("update t set v = 'new' where id = 3")
    assert not by_versions(pulled(known, row_versions=False))
    assert known.rows("target", "pgpull.known_equal") == before
    known.target("drop schema pgpull cascade")
    pulled(known, row_versions=False)
    assert known.target("select to_regnamespace('pgpull')") == [(None,)]


def test_a_role_that_may_make_no_schema_pulls_all_the_same(known: Pair) -> None:
    known.target("drop schema pgpull cascade", "drop role if exists modest", "create role modest login")
    known.target(f"revoke create on database {known.target_db} from public", "grant all on t to modest")
    for _ in range(2):
        known.source("update t set v = v || '!' where id = 3")
        report = pulled(known, target=known.url("target", "modest"))
        assert (report.plan.method, counts(report)) == (Method.HASHES, (0, 1, MANY - 1, 0))
    pulled(known)  # what another role remembers is none of its business
    known.source("update t set v = v || '!' where id = 3")
    assert counts(pulled(known, target=known.url("target", "modest"))) == (0, 1, MANY - 1, 0)
    known.target("drop owned by modest", "drop role modest")


def test_a_role_that_may_read_some_columns_only_pulls_them_again(known: Pair) -> None:
    known.source("alter table t add secret text", "drop role if exists modest", "create role modest login")
    known.source("grant select (id, who, v, m) on t to modest")
    for _ in range(3):
        known.source("update t set v = v || '!' where id = 3")
        report = pulled(known, source=known.url("source", "modest"))
        assert counts(report) == (0, 1, MANY - 1, 0)
    known.source("drop owned by modest", "drop role modest")


def test_a_server_that_was_started_anew_is_not_believed(known: Pair) -> None:
    known.source_server.restart()
    assert not by_versions(pulled(known))
    known.target_server.restart()  # local's own number of its past, in local's own past
    assert by_versions(pulled(known))
    assert known.same("t")


SEGMENT = 2**20
"""Transactions whose outcomes a file of the server holds: it makes a new one for the first of them."""


def advance(server: Server, to: int) -> None:
    """Bring a server to a transaction number, as years of work would: some way, all rows frozen, some more."""
    databases = [name for (name,) in server.query("postgres", "select datname from pg_database")]
    server.sql("postgres", "alter database template0 allow_connections true")
    now = server.query("postgres", "select txid_current()")[0][0]
    while now < to:
        for name in databases:
            server.sql(name, "vacuum (freeze)")
        server.stop()
        now = (min(to, now + 2**30) // SEGMENT + 1) * SEGMENT
        epoch, number = divmod(now, 2**32)
        server._call("pg_resetwal", "-D", "data", "-e", str(epoch), "-x", str(number or SEGMENT))
        server.start()
    assert server.query("postgres", "select txid_current()")[0][0] >= to


def test_transaction_numbers_that_went_around_are_not_believed(
    make_pair: MakePair, own_server: OwnServer
) -> None:
    pair = make_pair(schema="create table t (id int primary key, v text)", target_server=own_server(16))
    pair.source(f"insert into t select g, g from generate_series(1, {MANY}) g", "analyze t")
    pulled(pair)
    pair.target("analyze t")
    assert by_versions(pulled(pair))
    for laps, believed in ((0.2, True), (0.8, False), (1.8, False)):
        advance(pair.target_server, int(laps * 2**32))
        pair.target(f"update t set v = 'mine {laps}' where id = 3")
        report = pulled(pair)
        assert by_versions(report) is believed
        assert found(report) == (0, 1, None)
        assert pair.same("t")


# --- strategies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_conflict", ["skip", "update"])
@pytest.mark.parametrize("rows", [1_000, 20_000])
@pytest.mark.parametrize(
    ("here", "strategy", "expected"),
    [
        ("true", "nothing", (0, 0)),
        ("g > 1", "keyed", (0.001, 0)),
        ("g <= 600", "keyed", (0.4, 0)),
        ("g <= 599", "merge", (0.401, 0)),
        ("g = 7", "merge", (0.999, 0)),
        ("g < 0", "straight", None),
    ],
)
def test_what_moves_and_how_is_chosen_from_what_is_missing(
    sides: Sides, here: str, strategy: str, expected: tuple[float, float] | None, rows: int, on_conflict: str
) -> None:
    pair = sides("create table t (id int primary key, v text)")
    scaled = here.replace("g", f"g * 1000.0 / {rows}") if "=" in here and "= 7" not in here else here
    fill = f"insert into t select g, g from generate_series(1, {rows}) g"
    pair.source(fill, "analyze t")
    pair.target(f"{fill} where {scaled}")
    missing = rows - pair.target("select count(*) from t")[0][0]
    report = pulled(pair, on_conflict=on_conflict)
    assert report.plan.strategy == strategy
    assert expected is None or found(report) == (missing, 0, None)
    assert counts(report) == (missing, 0, rows - missing, 0)
    assert pair.same("t")


@pytest.mark.parametrize(
    ("there", "here", "strategy", "expected"),
    [
        ("true", "true", "merge", (0, 100, 0)),
        ("g <= 40", "true", "keyed", (0, 40, 0)),
        ("g <= 41", "true", "merge", (0, 41, 0)),
        ("g = 1", "true", "keyed", (0, 1, 0)),
        ("g <= 20", "g > 20", "keyed", (20, 0, 0)),
        ("g <= 20", "g > 10", "keyed", (10, 10, 0)),
        ("false", "true", "nothing", (0, 0, 0)),
    ],
)
def test_what_moves_and_how_is_chosen_from_what_has_changed(
    sides: Sides, there: str, here: str, strategy: str, expected: tuple[int, int, int]
) -> None:
    pair = sides("create table t (id int primary key, v text)")
    pair.source(
        f"insert into t select g, case when {there} then 'new' else 'old' end from generate_series(1, 100) g"
    )
    pair.target(f"insert into t select g, 'old' from generate_series(1, 100) g where {here}")
    report = pulled(pair, mirror=True)
    assert (report.plan.strategy, found(report)) == (strategy, expected)
    assert counts(report) == (*expected[:2], 100 - sum(expected), 0)
    assert pair.same("t")


def test_a_scope_that_is_empty_on_the_server_has_nothing_to_move(sides: Sides) -> None:
    pair = sides("create table t (id int primary key, v text)")
    pair.target("insert into t values (1, 'mine')")
    report = pulled(pair)
    assert (report.plan.strategy, counts(report), report.deleted) == ("nothing", (0, 0, 0, 0), 0)
    assert pulled(pair, mirror=True, max_delete="100%").deleted == 1
    assert pulled(pair, mirror=True).plan.strategy == "straight"


# --- any two tables --------------------------------------------------------------------------------------

ODD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.one_of(
    st.sampled_from(["1", "1.0", "1.00", "0", "-0.0", "1e3", "NaN"]),
    st.decimals(allow_nan=False, allow_infinity=False, places=2, max_value=99, min_value=-99).map(str),
)

KEYS = {
    "int": st.integers(-(2**31), 2**31 - 1),
    "bigint": st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([n * (2**32 + 1) for n in range(9)])),
    "smallint": st.integers(-(2**15), 2**15 - 1),
    "uuid": st.uuids(),
    "text": ODD,
    "numeric": st.integers(-(10**30), 10**30),
    "timestamptz": st.datetimes(),
    "date": st.dates(),
    "mood": st.sampled_from(["a", "b", "'", "ü", '"', "\\", "{}", "NULL"]),
    "bytea": st.binary(max_size=4).map(lambda data: f"\\x{data.hex()}"),
    "bool": st.booleans(),
    "small": st.integers(-9, 9),
}

VALUES = {
    "jsonb": st.sampled_from(['{"a": 1.0}', '{"a": 1.00}', "null", "[]", '"é\\t"']),
    "json": st.sampled_from(['{"a":1}', '{"a": 1}', "null"]),
    "numeric": NUMBERS,
    "float8": st.sampled_from(["0", "-0", "NaN", "Infinity", "0.1", "1e-300"]),
    "text": ODD,
    "varchar": ODD,
    "bpchar": st.sampled_from(["", "a", "a ", "a  "]),
    "char(4)": st.sampled_from(["", "a", "ab"]),
    "bigint": st.sampled_from([n * (2**32 + 1) for n in range(-3, 4)]),
    "int[]": st.sampled_from(["{1,2}", "[0:1]={1,2}", "{}", "{NULL}"]),
    "text[]": st.sampled_from(["{}", "{NULL}", '{"NULL"}', '{""}', '{"a b",c}']),
    "int4range": st.sampled_from(["empty", "[1,5)", "[1,4]", "(,)"]),
    "interval": st.sampled_from(["1 day", "24:00", "1 mon", "30 days"]),
    "time": st.sampled_from(["00:00", "24:00", "01:11:34.967297"]),
    "timestamptz": st.one_of(st.sampled_from(["infinity", "-infinity"]), st.datetimes().map(str)),
    "bool": st.booleans(),
    "inet": st.sampled_from(["10.0.0.1", "10.0.0.1/24", "::1"]),
    "couple": st.sampled_from(["(1,a)", "(1,)", '(,"")', "(,)"]),
    "mood": KEYS["mood"],
    "point": st.sampled_from(["(0,0)", "(-0,0)"]),
}


TYPES = """
    create type mood as enum ('a', 'b', '''', 'ü', '"', '\\', '{}', 'NULL');
    create type couple as (a int, b text);
    create domain small as int check (value between -9 and 9)"""


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, list[Any]]:
    """Draw the columns of a table, and the rows that its two sides have, with keys in common or not."""
    keys = draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=3))
    values = draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=4))
    columns = [f"k{n} {kind}" for n, kind in enumerate(keys)] + [
        f"v{n} {kind}" for n, kind in enumerate(values)
    ]
    create = (
        f"create table t ({', '.join(columns)}, primary key ({', '.join(f'k{n}' for n in range(len(keys)))}))"
    )
    row = st.tuples(*(st.none() | VALUES[kind] for kind in values))
    one = st.tuples(st.tuples(*(KEYS[kind].map(str) for kind in keys)), st.booleans(), row, st.none() | row)
    there: list[Any] = []
    here: list[Any] = []
    for key, only_there, first, second in draw(st.lists(one, max_size=12, unique_by=lambda drawn: drawn[0])):
        there += [] if second is None and not only_there else [(*key, *first)]
        here += [] if second is None and only_there else [(*key, *(first if second is None else second))]
    return create, [there, here]


def fill(pair: Pair, side: Side, rows: list[tuple[Any, ...]]) -> None:
    with psycopg.connect(pair.url(side)) as connection:
        for row in rows:
            literals = SQL(", ").join(Literal(value) for value in row)
            connection.execute(SQL("insert into t values ({})").format(literals))


def exact(pair: Pair, side: Side) -> dict[tuple[Any, ...], str]:
    """Return the rows by their keys, as PostgreSQL writes them."""
    [(key,)] = pair.run(side, "select string_agg(attname || '::text', ',' order by attnum) from pg_attribute"
                              " where attrelid = 't'::regclass and attname like 'k_'")  # fmt: skip
    return {tuple(key): image for image, *key in pair.run(side, f"select t::text, {key} from t")}


def test_keys_that_swap_a_column_are_told_apart(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one bucket, as many keys are here as there, and the hash of each is a sum over its columns."""
    monkeypatch.setattr(comparing, "_WORTH_A_FINGERPRINT", 0)
    pair = sides("create table t (a int, b int, primary key (a, b))")
    alike = pair.source(
        "select array_agg(a) from (select a from generate_series(1, 500) a"
        " order by hashint4extended(a, 0) & 1, a limit 40) nearest"
    )[0][0]
    for first, second in zip(alike[::2], alike[1::2], strict=True):
        pair.source(f"insert into t values ({first}, {first}), ({second}, {second})")
        pair.target(f"insert into t values ({first}, {second}), ({second}, {first})")
        report = pulled(pair, on_conflict="skip", mirror=True, max_delete="100%")
        assert counts(report) == (2, 0, report.tally.skipped, 0)
        assert pair.same("t")


@pytest.mark.parametrize("few", [0, 20_000], ids=["fingerprints", "keys"])
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(drawn=tables(), mode=st.sampled_from(["skip", "update", "mirror"]))
def test_any_two_tables_are_told_apart_and_brought_together(
    sides: Sides, few: int, drawn: tuple[str, list[Any]], mode: str
) -> None:
    create, rows = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "_WORTH_A_FINGERPRINT", few)
        told_apart_and_brought_together(sides, create, rows, mode)


def told_apart_and_brought_together(sides: Sides, create: str, rows: list[Any], mode: str) -> None:
    pair = sides(f"{TYPES}; {create}")
    for side, of_side in zip(SIDES, rows, strict=True):
        fill(pair, side, of_side)
    there, here = (exact(pair, side) for side in SIDES)
    missing, extra = there.keys() - here.keys(), here.keys() - there.keys()
    changed = {key for key in there.keys() & here.keys() if there[key] != here[key]}
    words: dict[str, Any] = {"on_conflict": "skip" if mode == "skip" else "update", "batch_size": 3}
    words |= {"mirror": mode == "mirror", "max_delete": "100%"}

    report = pulled(pair, verify=mode != "skip", **words)
    updated = 0 if mode == "skip" else len(changed)
    assert counts(report) == (len(missing), updated, len(there) - len(missing) - updated, 0)
    if report.plan.comparison:
        assert found(report) == (len(missing), updated, len(extra) if mode == "mirror" else None)
        assert report.plan.comparison.rows == len(there)
    assert report.deleted == (len(extra) if mode == "mirror" else 0)
    wanted = {**there, **here} if mode == "skip" else {**here, **there}
    assert exact(pair, "target") == {
        key: row for key, row in wanted.items() if mode != "mirror" or key in there
    }

    again = pulled(pair, **words)
    assert counts(again) == (0, 0, len(there), 0)
    assert again.plan.strategy in ("nothing", "straight")


# --- verify ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [{}, {"mirror": True}, {"replace": True}, {"on_conflict": "skip"}], ids=str)
def test_a_good_pull_is_verified(sides: Sides, words: dict[str, Any]) -> None:
    pair = sides("create table t (id int primary key, v text)")
    pair.source("insert into t select g, g from generate_series(1, 50) g")
    pair.target("insert into t select g, g from generate_series(20, 30) g")
    report = pulled(pair, verify=True, **words)
    assert report.verified
    assert report.exit_code == 0


def test_verifying_tells_the_keys_that_differ(sides: Sides) -> None:
    pair = sides("create table t (id int, who text, v text, primary key (who, id))")
    pair.source("insert into t select g, 'ann', g from generate_series(1, 50) g")

    def meddle() -> None:
        pair.target(
            "update t set v = 'mine' where id = 3",
            "delete from t where id = 4",
            "insert into t values (0, 'x')",
        )

    with pytest.raises(Unequal) as caught:
        pulled(pair, verify=True, listener=Meanwhile(meddle, after=50))
    assert caught.value.exit_code == 5
    assert caught.value.message == (
        "public.t is not as on the server: 1 missing, 1 changed: changed who=ann, id=3; missing who=ann, id=4"
    )
    with pytest.raises(Unequal, match=r"1 missing, 1 changed, 1 extra: .*extra who=x, id=0"):
        pulled(pair, verify=True, mirror=True, listener=Meanwhile(meddle, after=50))
    pulled(pair, verify=True)


def test_verifying_never_trusts_row_versions(known: Pair) -> None:
    known.target("update t set v = 'mine' where id = 3")
    horizon = known.target("select txid_current()")[0][0]
    known.target("create table anything (id int)")
    known.target(f"update pgpull.known_equal set target_horizon = {horizon}")
    with pytest.raises(Unequal, match="1 changed: changed id=3"):
        pulled(known, verify=True)


def test_verifying_a_pull_that_skips_finds_the_rows_that_are_otherwise_here(sides: Sides) -> None:
    pair = sides("create table t (id int primary key, v text)")
    pair.source("insert into t select g, g from generate_series(1, 50) g")
    pair.target("insert into t values (7, 'mine'), (70, 'mine too')")
    with pytest.raises(Unequal, match=r"1 changed: changed id=7$") as caught:
        pulled(pair, verify=True, on_conflict="skip")
    assert "--on-conflict update" in caught.value.hint
    assert pair.target("select count(*) from t") == [(51,)]


def test_verifying_finds_the_rows_that_were_refused(sides: Sides) -> None:
    create = "create table t (id int primary key, v text"
    pair = sides(f"{create})", f"{create}, check (id <> 5))")
    pair.source("insert into t select g, g from generate_series(1, 50) g")
    with pytest.raises(Unequal, match="1 missing: missing id=5"):
        pulled(pair, verify=True)


# --- what it costs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_conflict", ["skip", "update"])
def test_when_nothing_is_new_next_to_nothing_is_sent_and_nothing_is_written(
    sides: Sides, make_proxy: Callable[..., Proxy], on_conflict: str
) -> None:
    pair = sides("create table t (id uuid primary key, v text)")
    pair.source(
        "insert into t select md5(g::text)::uuid, repeat(md5(g::text), 3) from generate_series(1, 30000) g",
        "analyze t",
    )
    size = pulled(pair).bytes
    pair.target("analyze t", "checkpoint")
    proxy = make_proxy(pair.source_server)
    before = pair.target_server.wal_position()
    report = pulled(pair, source=pair.source_through(proxy), on_conflict=on_conflict)
    assert counts(report) == (0, 0, 30_000, 0)
    assert report.bytes < 0.03 * size
    assert proxy.bytes_down < 0.03 * size
    assert pair.target_server.wal_position() - before < 1_000_000


def test_few_new_rows_cost_few_bytes(sides: Sides) -> None:
    pair = sides("create table t (id bigint primary key, v text)")
    pair.source("insert into t select g, repeat('x', 100) from generate_series(1, 30000) g", "analyze t")
    pulled(pair)
    pair.target("analyze t", "delete from t where id = 77", "insert into t values (-1)")
    report = pulled(pair, mirror=True, on_conflict="skip")
    assert (report.tally.inserted, report.deleted) == (1, 1)
    assert report.bytes < 20_000


# --- connections that break while rows are compared ------------------------------------------------------


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("words", [{"on_conflict": "skip"}, {"mirror": True}, {"row_versions": False}], ids=str)
def test_a_connection_that_breaks_while_rows_are_compared_is_opened_anew(
    known: Pair, make_proxy: Callable[..., Proxy], side: Side, words: dict[str, Any]
) -> None:
    known.source("update t set v = 'new' where id <= 1000")
    known.target("delete from t where id between 901 and 1100")
    proxy = make_proxy(known.server(side))
    url = known.source_through(proxy) if side == "source" else known.target_through(proxy)

    class Cut(Listener):
        """Cuts the line so many bytes after the rows began to be compared."""

        after = 0

        def looked(self, *_: Any) -> None:
            if self.after:
                proxy.cut_after(self.after, "down" if side == "source" else "up")
                self.after = 0

    cut = Cut()
    for after in (100, 3_000):
        cut.after = after
        report = pulled(known, listener=cut, retries=2, batch_size=100, **{side: url, **words})
        assert report.passes == 2
        updated = 0 if "on_conflict" in words else 900
        assert counts(report) == (200, updated, MANY - 200 - updated, 0)
        known.target("delete from t where id between 901 and 1100", "update t set v = 'old' where id <= 900")


def test_a_server_that_crashed_and_gives_numbers_anew_is_not_believed(
    make_pair: MakePair, own_server: OwnServer
) -> None:
    server = own_server(wal_writer_delay=10_000)
    pair = make_pair(schema="create table t (id int primary key, v text)", source_server=server)
    pair.source(f"insert into t select g, g from generate_series(1, {MANY}) g", "analyze t")
    with psycopg.connect(pair.source_url) as other:
        for _ in range(20):
            other.execute("update t set v = 'taken back' where id = 1")
            other.rollback()
        pulled(pair)
        pair.target("analyze t")
        assert by_versions(pulled(pair))
        pid = other.info.backend_pid
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: pair.source("update t set v = 'new' where id = 3 returning xmin::text::int"))
    for _ in range(30):
        pair.source("select txid_current()")
    assert found(pulled(pair)) == (0, 1, None)
    assert pair.same("t")


def test_a_mirror_that_cannot_ask_for_a_key_says_so_and_deletes_nothing(sides: Sides) -> None:
    create = "create type mood as enum ({}); create table t (id mood primary key)"
    pair = sides(create.format("'ok'"), create.format("'ok', 'bad'"))
    pair.source("insert into t values ('ok')")
    pair.target("insert into t values ('ok'), ('bad')")
    with pytest.raises(PlanError, match="a key of a local row is none on the server") as caught:
        pulled(pair, mirror=True, max_delete="100%")
    assert "by hand" in caught.value.hint
    assert pair.target("select count(*) from t") == [(2,)]


def test_a_key_that_local_rounds_is_never_asked_for_as_it_is_here(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (at timestamptz primary key, v text)",
        target_schema="create table t (at timestamptz(3) primary key, v text)",
    )
    moments = "timestamptz '2025-01-01Z' + n * interval '1.000123 s'"
    pair.source(f"insert into t select {moments}, 'x' from generate_series(1, 100) n")
    words: dict[str, Any] = {"source": pair.source_url, "target": pair.target_url}
    assert pull("t", **words).tally.inserted == 100
    pair.source(f"insert into t select {moments}, 'x' from generate_series(101, 110) n")
    assert pull("t", **words).tally == Tally(110, inserted=10, skipped=100)
    assert pair.target("select count(*) from t") == [(110,)]


@pytest.mark.parametrize("kind", ["timestamp", "date"])
def test_a_window_means_the_same_rows_where_its_column_has_another_type_here(
    make_pair: MakePair, kind: str
) -> None:
    pair = make_pair(
        schema="create table t (v text, at timestamptz)", target_schema=f"create table t (v text, at {kind})"
    )
    pair.source(
        "insert into t select 'v' || n, timestamptz '2023-12-31 12:30Z' + n * interval '1 hour'"
        " from generate_series(1, 48) n"
    )
    words: dict[str, Any] = {"source": pair.source_url, "target": pair.target_url, "window": "at"}
    words |= {"since": "2024-01-01", "until": "2024-01-02", "timezone": "Europe/Berlin"}
    assert pull("t", **words).tally == Tally(24, inserted=24)
    if kind == "timestamp":  # a date has lost what a row is known by
        assert pull("t", **words).tally == Tally(24, skipped=24)
    for way in ("mirror", "replace"):
        with pytest.raises(PlanError, match="local cannot tell which of its rows are in scope"):
            pull("t", **{**words, way: True})


def test_a_local_change_of_a_transaction_that_was_under_way_is_seen_by_the_next_update(
    make_pair: MakePair,
) -> None:
    pair = make_pair(schema="create table t (id uuid primary key, v text); create table other (n int)")
    pair.source("insert into t select gen_random_uuid(), 'v' from generate_series(1, 12000)")

    class Interferes(Listener):
        def __init__(self) -> None:
            self.interfered = False

        def progressed(self, tally: Tally, size: int) -> None:
            if tally.fetched and not self.interfered:
                self.interfered = True
                mine.execute("update t set v = 'mine' where id = (select min(id::text)::uuid from t)")
                mine.commit()

    words: dict[str, Any] = {"source": pair.source_url, "target": pair.target_url, "on_conflict": "update"}
    with psycopg.connect(pair.target_url) as mine:
        mine.execute("insert into other values (1)")
        pair.target("insert into other values (2)")
        pull("t", **words, batch_size=1000, jobs=1, listener=Interferes())
    assert pair.target("select count(*) from t where v = 'mine'") == [(1,)]
    assert pull("t", **words).tally.updated == 1
    assert pair.same("t")
