"""What arrives is what was there: source and target rows have the same text images and the same bytes."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql

from pgpull import export, load, pull
from pgpull.archives import Format
from tests.conftest import MakePair
from tests.support import Pair, Side

MESSAGE = "askwealth.message"

# --- values, as the text that Postgres reads -------------------------------------------------------------

# everything Postgres can hold: no NUL, no lone surrogates
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
numbers = st.one_of(
    st.integers(-(10**40), 10**40).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=12).map(str),
    st.sampled_from(["0", "-0", "1.0", "1.00", "1e-30", "123456789012345678901234567890.1234567890"]),
)
jsons = st.recursive(
    st.one_of(numbers, texts.map(json.dumps), st.sampled_from(["null", "true", "false"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(st.tuples(texts.map(json.dumps), inner), max_size=3).map(
            lambda items: "{" + ", ".join(f"{key} : {value}" for key, value in items) + "}"
        ),
    ),
    max_leaves=5,
)
instants = st.one_of(
    st.datetimes().map(str),
    st.sampled_from(
        [
            "infinity",
            "-infinity",
            "4713-01-01 00:00:00 BC",
            "294276-12-31 23:59:59.999999",
            "1970-01-01",
            "0044-03-15 BC",
        ]
    ),
)
floats = st.floats(width=64).map(repr)
arrays = st.lists(st.one_of(st.none(), texts), max_size=4).map(
    lambda items: (
        "{" + ",".join("NULL" if i is None else json.dumps(i, ensure_ascii=False) for i in items) + "}"
    )
)

COLUMNS: dict[str, tuple[str, st.SearchStrategy[str]]] = {
    "a": ("text", texts),
    "b": ("jsonb", jsons),
    "c": ("json", jsons),
    "d": ("timestamptz", instants),
    "e": ("timestamp", instants),
    "f": ("numeric", st.one_of(numbers, st.sampled_from(["NaN", "Infinity", "-Infinity"]))),
    "g": ("float8", floats),
    "h": ("float4", st.floats(width=32).map(repr)),
    "i": ("bytea", st.binary(max_size=40).map(lambda data: f"\\x{data.hex()}")),
    "j": ("text[]", arrays),
    "k": ("uuid", st.uuids().map(str)),
    "l": (
        "interval",
        st.sampled_from(["1 day", "24 hours", "-1 mon 3 days 00:00:00.000001", "178000000 years"]),
    ),
    "m": (
        "date",
        st.one_of(st.dates().map(str), st.sampled_from(["infinity", "4713-01-01 BC", "5874897-12-31"])),
    ),
    "n": ("int8", st.integers(-(2**63), 2**63 - 1).map(str)),
    "o": ("boolean", st.booleans().map(str)),
    "p": ("inet", st.ip_addresses().map(str)),
    "q": ("int4range", st.sampled_from(["empty", "[1,5)", "(,)", "[,3)"])),
    "r": ("varbit", st.text("01", max_size=20)),
    "s": ("char(5)", st.text("ab ", max_size=5)),
    "t": ("timetz", st.sampled_from(["00:00:00+15:59", "24:00:00-15:59", "12:34:56.789012+02"])),
    "u": ("int4[]", st.sampled_from(["{}", "{1,NULL}", "[0:1]={5,6}", "{{1,2},{3,4}}"])),
    "v": ("tsvector", st.sampled_from(["", "'a':1A 'b'", "'it''s':3"])),
}

rows = st.lists(
    st.fixed_dictionaries({name: st.one_of(st.none(), values) for name, (_, values) in COLUMNS.items()}),
    min_size=1,
    max_size=8,
)

SCHEMA = "create table t (id int primary key, {})".format(
    ", ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items())
)


# A column of another type sends the whole table over as text.
AS_TEXT = SCHEMA.replace("a text", "a varchar")


def fill(pair: Pair, examples: list[dict[str, str | None]]) -> None:
    """Make the source hold these rows, and the target none."""
    values = sql.SQL(", ").join(sql.SQL(f"%s::{kind}") for kind, _ in COLUMNS.values())
    with psycopg.connect(pair.source_url, autocommit=True) as connection:
        connection.execute("truncate t")
        connection.cursor().executemany(
            sql.SQL("insert into t values (%s, {})").format(values),
            [(number, *map(row.get, COLUMNS)) for number, row in enumerate(examples)],
        )
    pair.target("truncate t")


def images(pair: Pair, side: Side, table: str = "t") -> tuple[list[Any], list[Any]]:
    """Return a table's rows as text and as the bytes that the server sends."""
    columns = ", ".join("a::text" if name == "a" else name for name in COLUMNS)
    return (
        pair.run(side, f"select t::text from {table} as t order by id"),
        pair.run(side, f"select encode(record_send(row(id, {columns})), 'hex') from {table} order by id"),
    )


@pytest.mark.parametrize("wire", ["binary", "text"])
@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_row_of_the_common_types_arrives_byte_for_byte(
    pairs: dict[str, Pair], wire: str, data: st.DataObject
) -> None:
    pair = pairs[wire]
    fill(pair, data.draw(rows))
    report = pull("t", source=pair.source_url, target=pair.target_url)
    assert report.plan.wire == wire
    assert report.tally.inserted == report.tally.fetched
    assert images(pair, "source") == images(pair, "target")
    again = pull("t", source=pair.source_url, target=pair.target_url, on_conflict="update")
    assert again.tally.skipped == again.tally.fetched


@pytest.mark.parametrize("form", ["csv", "parquet"])
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_row_of_the_common_types_survives_an_archive_byte_for_byte(
    pairs: dict[str, Pair], form: Format, data: st.DataObject
) -> None:
    pair = pairs["binary"]
    fill(pair, data.draw(rows))
    export("t", source=pair.source_url, to="archive", format=form, overwrite=True)
    ways: tuple[dict[str, Any], ...] = ({}, {"on_conflict": "update", "verify": True})
    for words in ways:
        tally = load("archive", "t", target=pair.target_url, **words).tally
        assert tally.failed == tally.updated == 0
        assert images(pair, "source") == images(pair, "target")


@pytest.fixture
def pairs(make_pair: MakePair) -> dict[str, Pair]:
    """Make one pair for each wire; all the examples of a test share them."""
    return {
        "binary": make_pair(schema=SCHEMA),
        "text": make_pair(schema=SCHEMA, target_schema=AS_TEXT),
    }


NASTY = r"""
    ('null jsonb', 'null'::jsonb, null),
    ('sql null', '[]', null),
    ('both', '[]', 'null'::jsonb),
    ('numbers', '[1.0, 1.00, 1e400, 1234567890123456789012345678901234567890]', '-0'),
    ('more', '0.1234567890123456789012345678901234567890', '1E-7'),
    ('empty', '""', '{}'),
    ('', '[{"": ""}]', '[]'),
    (e'\x01\x02\x1f\x7f\t\r\n\\', '"\u0001\u001f\t\r\n\\"', '"\\N"'),
    ('\N', '"\\."', null),
    ('\.', '[]', null),
    ('🦊 👨‍👩‍👧‍👦 é é', '"🦊 \ud83e\udd8a"', '{"🔑": 1}')
"""

TIMES = [
    "infinity",
    "-infinity",
    "4713-01-01 00:00:00+00 BC",
    "294276-12-31 23:59:59.999999+00",
    "2025-01-01 00:00:00.000001+00",
    "1582-10-15",
]


@pytest.mark.parametrize("on_conflict", ["skip", "update"])
@pytest.mark.parametrize("wire", ["binary", "text"])
def test_the_values_that_naive_scripts_change_arrive_unchanged(
    make_pair: MakePair, wire: str, on_conflict: str
) -> None:
    pair = make_pair()
    pair.source(
        f"insert into {MESSAGE} select gen_random_uuid(), v.role, v.parts::jsonb, w::timestamptz,"
        " gen_random_uuid(), v.annotations::jsonb"
        f" from (values {NASTY}) as v (role, parts, annotations), unnest(array{TIMES}) as w"
    )
    if wire == "text":
        pair.target(f"alter table {MESSAGE} alter role type varchar")
    # whatever the two databases' own defaults are
    pair.source(
        f"alter database {pair.source_db} set datestyle to 'SQL, DMY'",
        f"alter database {pair.source_db} set timezone to 'Asia/Kathmandu'",
    )
    pair.target(
        f"alter database {pair.target_db} set datestyle to 'German, MDY'",
        f"alter database {pair.target_db} set extra_float_digits to -5",
    )
    report = pull(
        MESSAGE, source=pair.source_url, target=pair.target_url, on_conflict=on_conflict, batch_size=7
    )
    assert report.plan.wire == wire
    assert report.tally.inserted == 66
    digest = (
        "set timezone to 'UTC'",
        "set datestyle to 'ISO'",
        f"select sum(hashtextextended(t::text, 0)) from {MESSAGE} as t",
    )
    assert pair.source(*digest) == pair.target(*digest)
    again = pull(MESSAGE, source=pair.source_url, target=pair.target_url, on_conflict="update")
    assert again.tally.skipped == 66


def test_wide_rows_and_tall_batches_arrive(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key, v text)")
    pair.source(
        "insert into t select g, repeat(md5(g::text), 200000) from generate_series(1, 3) g",
        "insert into t select g, 'x' from generate_series(10, 20000) g",
    )
    assert (
        pull("t", source=pair.source_url, target=pair.target_url, batch_size=100_000).tally.inserted == 19_994
    )
    assert pair.images("source", "t", "id, md5(v)") == pair.images("target", "t", "id, md5(v)")


def test_types_whose_bytes_hold_oids_go_as_text(make_pair: MakePair) -> None:
    schema = """create type mood as enum ('ok', 'bad'); create type pair as (a int, m mood);
        create domain small as int check (value < 10); create domain xml_or_text as text;
        create table t (id int primary key, r regclass, m mood[], p pair, s small, x xml_or_text);"""
    pair = make_pair(schema=schema)
    pair.target("create table pushes_oids_apart (id int)")
    pair.source("insert into t values (1, 't', '{ok,bad}', row(1, 'bad'), 3, '<a/>')")
    report = pull("t", source=pair.source_url, target=pair.target_url)
    assert report.plan.wire == "text"
    assert pair.same("t")


def test_enums_and_domains_go_as_bytes(make_pair: MakePair) -> None:
    schema = """create type mood as enum ('ok', 'bad'); create domain small as int check (value < 10);
        create table t (id small primary key, m mood)"""
    pair = make_pair(schema=schema)
    pair.source("insert into t values (1, 'ok'), (2, 'bad')")
    report = pull("t", source=pair.source_url, target=pair.target_url)
    assert report.plan.wire == "binary"
    assert pair.same("t")


def test_vectors_of_pgvector_arrive_as_bytes(make_pair: MakePair) -> None:
    schema = "create extension vector; create table t (id int primary key, v vector(3), h halfvec(2))"
    try:
        pair = make_pair(source_version=18, target_version=16, schema=schema)
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this PostgreSQL has no pgvector")
    pair.source("insert into t values (1, '[1,2.5,-0.125]', '[1,2]'), (2, null, null)")
    assert pull("t", source=pair.source_url, target=pair.target_url).plan.wire == "binary"
    assert pair.same("t")
