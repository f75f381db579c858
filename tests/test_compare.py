"""The laws of comparing, on real servers: what differs is found, moves, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.sql import SQL

from tenacity import wait_fixed

from pgpull import Listener, Report, Tally, patience, pull
from tests.conftest import MakePair
from tests.support import Pair, Proxy


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


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pauses between tries short."""
    monkeypatch.setattr(patience, "wait_exponential", lambda **_: wait_fixed(0.05))


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


def test_a_row_hash_sees_what_equality_does_not(make_pair: MakePair) -> None:
    columns = ", ".join(f"c{n} {kind}" for n, (kind, *_) in enumerate(ALIKE))
    pair = make_pair(schema=f"create table t (id int primary key, {columns})")
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
def test_a_row_with_one_value_is_told_apart_too(make_pair: MakePair, kind: str) -> None:
    values = {
        "bigint": "0 4294967297 -1 -4294967298",
        "int": "0 1 -1 2147483647",
        "smallint": "0 1 -1 32767",
        "uuid": f"{UUID(int=0)} {UUID(int=1)} {UUID(int=2**64)} {UUID(int=2**127)}",
        "timestamptz": "infinity -infinity 2000-01-01Z 2000-01-01T01:11:34.967297Z",
        "bool": "true false",
    }.get(kind, "a A b B").split()
    pair = make_pair(schema=f"create table t (id int primary key, v {kind})")
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


def test_values_that_change_places_are_seen(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key, a int, b int, c text, d text)")
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
def guarded(make_pair: MakePair) -> Pair:
    """Give a pair of which one row of 4,000 is refused by the target."""
    create = "create table t (id int primary key, v text not null)"
    pair = make_pair(schema=create, target_schema=create.replace("not null", "not null, check (id <> 3999)"))
    pair.source("insert into t select g, repeat('x', 500) from generate_series(1, 4000) g", "analyze t")
    return pair
