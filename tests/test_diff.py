"""A diff compares both sides in full, says which keys differ, and its exit code tells."""

from __future__ import annotations

import json
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pgpull import Difference, diff, pull
from tests.conftest import MakePair
from tests.support import Pair
from tests.test_cli import PGPULL, call, on


def differences(pair: Pair, *tables: str, **scope: Any) -> list[Difference]:
    return diff(*tables, source=pair.source_url, target=pair.target_url, **scope)


def pulled(pair: Pair, table: str, **words: Any) -> None:
    pull(table, source=pair.source_url, target=pair.target_url, **words)


TABLE = "askwealth.message"


@pytest.fixture
def differing(pair: Pair) -> Pair:
    """Give a pair of which 3 rows are missing here, 2 changed, 4 are here only, and 95 are the same."""
    pair.add_messages("source", 100)
    pulled(pair, TABLE)
    first = "(select message_id from askwealth.message order by created_at {} limit {})"
    pair.target(
        f"delete from {TABLE} where message_id in {first.format('', 3)}",
        f"update {TABLE} set role = 'changed' where message_id in {first.format('desc', 2)}",
    )
    pair.add_messages("target", 4, seed="mine")
    return pair


def test_equal_tables_end_with_0(pair: Pair) -> None:
    pair.add_messages("source", 10)
    pulled(pair, TABLE)
    done = call(PGPULL, "diff", TABLE, "askwealth.thread", **on(pair))
    assert done.returncode == 0, done.stderr
    assert "askwealth.message: equal: 10 the same" in done.stdout
    assert "askwealth.thread: equal: 0 the same" in done.stdout


def test_different_tables_end_with_5_and_their_keys(differing: Pair) -> None:
    done = call(PGPULL, "diff", TABLE, "--keys", "keys.jsonl", **on(differing))
    assert done.returncode == 5
    assert "DIFFERENT: 95 the same, 3 missing here, 2 changed, 4 here only" in done.stdout
    lines = [json.loads(line) for line in Path("keys.jsonl").read_text().splitlines()]
    assert Counter(line["difference"] for line in lines) == {"missing": 3, "changed": 2, "extra": 4}
    assert stat.S_IMODE(Path("keys.jsonl").stat().st_mode) == 0o600
    changed = {line["key"]["message_id"] for line in lines if line["difference"] == "changed"}
    rows = differing.target(f"select message_id::text from {TABLE} where role = 'changed'")
    assert changed == {key for (key,) in rows}


def test_a_diff_in_json(differing: Pair) -> None:
    done = call(PGPULL, "diff", TABLE, "--json", **on(differing))
    told = json.loads(done.stdout)
    [table] = told["tables"]
    assert (told["exit_code"], table["equal"], table["comparison"]["missing"]) == (5, False, 3)
    assert len(table["keys"]) == 9


def test_a_diff_is_of_the_scope(differing: Pair) -> None:
    assert not differences(differing, TABLE, since="2025-01-02")[0].equal
    [middle] = differences(differing, TABLE, since="2025-01-02", until="2025-01-03")
    assert middle.equal
    assert middle.comparison.rows == 24


def test_a_diff_writes_nothing_and_believes_no_row_versions(pair: Pair) -> None:
    pair.source("create table t as select g as id, 1 as n from generate_series(1, 12000) g", "analyze t")
    pair.source("alter table t add primary key (id)")
    pair.target("create table t (id int primary key, n int)")
    pulled(pair, "t", on_conflict="update")
    pair.target("update pgpull.known_equal set target_horizon = target_horizon + 1000")
    pair.target("update t set n = 2 where id = 7")
    [found] = differences(pair, "t")
    assert (found.comparison.changed, found.comparison.same) == (1, 11_999)
    assert pair.target("select n from t where id = 7") == [(2,)]


def test_numbers_and_times_of_other_types_are_told_apart_by_their_values(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int primary key, n int, d date, j json)",
        target_schema="create table t (id bigint primary key, n numeric(10, 2), d timestamptz, j jsonb)",
    )
    pair.source("insert into t values (1, 5, '2025-01-01', '{\"a\":1}'), (2, 6, null, '[1.0]')")
    pulled(pair, "t")
    assert differences(pair, "t")[0].equal
    pair.target("update t set n = 5.01 where id = 1", "update t set j = '[1.00]' where id = 2")
    assert differences(pair, "t")[0].comparison.changed == 2


def test_a_table_without_a_key_is_compared_by_what_its_rows_hold(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int)")
    pair.source("insert into t values (1), (1), (2)")
    pair.target("insert into t values (1), (3)")
    [found] = differences(pair, "t")
    assert (found.comparison.missing, found.comparison.changed, found.comparison.extra) == (2, 0, 1)
    pair.target("truncate t; insert into t values (2), (1), (1)")
    [found] = differences(pair, "t")
    assert found.equal


def test_a_file_that_cannot_be_written_is_named(pair: Pair) -> None:
    done = call(PGPULL, "diff", TABLE, "--keys", "no/such/folder", **on(pair))
    assert done.returncode == 2
    assert "no/such/folder" in done.stderr
    if Path("/dev/full").exists():
        done = call(PGPULL, "diff", TABLE, "--keys", "/dev/null", **on(pair))
        assert done.returncode == 0
        pair.add_messages("source", 1)
        done = call(PGPULL, "diff", TABLE, "--keys", "/dev/full", **on(pair))
        assert done.returncode == 2
        assert "/dev/full cannot be written: No space left on device" in done.stderr
