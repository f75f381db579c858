"""What tells rows apart, and what only looks as if it did."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgpull import catalog, pull
from pgpull.endpoints import endpoint_of
from pgpull.results import Tally
from pgpull.sessions import open_source
from pgpull.shapes import Key, TableName
from tests.conftest import MakePair
from tests.support import Pair


def keys(pair: Pair) -> object:
    table = TableName("public", "t")
    with open_source(endpoint_of(pair.source_url, "source")) as source:
        return catalog.shapes_of(source, [table])[table].keys


def test_an_index_that_tells_more_apart_than_its_column_does_is_no_key(
    make_pair: MakePair, oldest: int
) -> None:
    pair = make_pair(oldest, oldest, schema="")
    try:
        pair.source("create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    except psycopg.errors.FeatureNotSupported as error:
        pytest.skip(str(error))
    pair.source("create table t (name text collate ci not null)", 'create unique index on t (name collate "C")')
    assert keys(pair) == ()
    pair.source("create unique index on t (name)")
    assert keys(pair) == (Key(("name",), primary=False),)


def test_a_column_that_may_hold_old_rows_without_a_value_is_no_key(make_pair: MakePair, newest: int) -> None:
    if newest < 18:
        pytest.skip("PostgreSQL 18 is not on this machine")
    pair = make_pair(newest, newest, schema="create table t (u text unique, constraint nn not null u)")
    assert keys(pair) == (Key(("u",), primary=False),)
    pair.source("alter table t drop constraint nn", "insert into t values (null)")
    pair.source("alter table t add constraint nn not null u not valid")
    assert keys(pair) == ()


def test_a_key_without_overlaps_is_merged_by(make_pair: MakePair, newest: int) -> None:
    if newest < 18:
        pytest.skip("PostgreSQL 18 is not on this machine")
    schema = """create table t (id int4range, valid daterange, v text,
        primary key (id, valid without overlaps))"""
    pair = make_pair(newest, newest, schema=schema)
    pair.source(
        "insert into t select int4range(n, n + 1), '[2025-01-01, 2025-02-01)', 'v' from generate_series(1, 9) n"
    )
    pair.target("insert into t values ('[1,2)', '[2025-01-01, 2025-02-01)', 'old')")
    words: dict[str, Any] = {"source": pair.source_url, "target": pair.target_url}
    assert pull("t", on_conflict="update", **words).tally == Tally(9, inserted=8, updated=1)
    assert pair.same("t")
