"""Masks: values that nobody is to see are replaced by the server, and all else stays as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL, Literal

from pgpull import (
    PlanError,
    Report,
    SettingsError,
    UsageError,
    check,
    diff,
    export,
    forecast,
    load,
    pull,
    pull_tables,
)
from pgpull.diagnosis import hide_quoted
from pgpull.endpoints import Endpoint, parse_url
from pgpull.masking import Masks, looks_personal, mask_of, rules_of
from pgpull.plans import Strategy
from pgpull.shapes import Column, ColumnType, Shape, TableName
from pgpull.sql.masks import masked_value
from tests.conftest import MakePair
from tests.support import Pair, Server
from tests.test_cli import PGPULL, ROOT, SCRIPT, call, on

KEY = "a key that nobody guesses"

PEOPLE = """
create table person (
    id bigint primary key,
    email text unique,
    phone varchar(20),
    name text not null,
    born date,
    salary numeric(10, 2),
    notes text,
    profile jsonb
);
create table letter (id uuid primary key, person_id bigint not null references person, sent timestamptz);
"""

SOME = """
insert into person select n, 'person' || n || '@secret.example', '+49 30 778899' || n, 'Erika Mustermann ' || n,
    '1980-01-01'::date + n::int, 1000.50 + n,
    'call +49 171 778899' || n || ' or erika' || n || '@secret.example',
    jsonb_build_object('contact', jsonb_build_object('email', 'p' || n || '@secret.example'), 'n', 1.50,
        'tags', jsonb_build_array(jsonb_build_object('text', 'Mustermann'), 7))
from generate_series(1, 40) n;
insert into letter select md5(n::text)::uuid, 1 + n % 40, '2025-01-01'::timestamptz + n * interval '1 hour'
from generate_series(1, 90) n;
"""

PERSON = {
    "id": "hash",
    "*email*": "email",
    "phone": "phone",
    "name": "name",
    "born": {"days": 100},
    "salary": "magnitude",
    "notes": "scrub",
    "profile": {"contact.email": "email", "tags.*.text": "length"},
}
RULES: Mapping[str, Any] = {"public.person": PERSON, "public.letter": {"person_id": "hash"}}

SECRET = re.compile(r"secret|Muster|778899|Erika", re.IGNORECASE)


def source(pair: Pair, key: str = KEY) -> Endpoint:
    return replace(parse_url(pair.source_url, "source"), mask_key=key)


def masked(pair: Pair, table: str, mask: Mapping[str, Any] = RULES, **words: Any) -> Report:
    return pull(table, source=source(pair), target=pair.target_url, mask=mask, **words)


@pytest.fixture
def people(make_pair: MakePair) -> Pair:
    pair = make_pair(schema=PEOPLE)
    pair.source(SOME)
    return pair


# --- the whole way -----------------------------------------------------------------------------------------


def test_masked_rows_verify_and_come_once(people: Pair) -> None:
    report = masked(people, "person", verify=True)
    assert (report.tally.inserted, report.verified) == (40, True)
    assert 'phone = "phone"' in report.plan.notes[0]
    again = masked(people, "person", verify=True, on_conflict="update", mirror=True)
    assert (again.plan.strategy, again.tally.skipped, again.deleted) == (Strategy.NOTHING, 40, 0)


def test_no_value_that_is_masked_arrives(people: Pair) -> None:
    masked(people, "person")
    masked(people, "letter")
    images = people.images("target", "person") + people.images("target", "letter")
    assert not [image for image in images if SECRET.search(image)]


def test_joins_hold_by_hashed_keys(people: Pair) -> None:
    job = pull_tables("person", "letter", source=source(people), target=people.target_url, mask=RULES)
    assert job.tally.inserted == 130
    sizes = "select count(*) as n from letter group by person_id"
    counted = f"select n, count(*) from ({sizes}) as c group by 1 order by 1"
    assert people.target(counted) == people.source(counted)
    assert people.target("select count(*) from letter join person p on p.id = person_id") == [(90,)]


def test_related_rows_come_masked(people: Pair) -> None:
    words: Any = {"mask": RULES, "since": "2025-01-01T05:00Z", "until": "2025-01-01T08:00Z", "window": "sent"}
    pull_tables("letter", source=source(people), target=people.target_url, with_parents=True, **words)
    assert people.target("select count(*) from letter join person p on p.id = person_id") == [(3,)]
    pull_tables("person", source=source(people), target=people.target_url, mask=RULES, with_children=["letter"])
    assert people.target("select count(*) from letter join person p on p.id = person_id") == [(90,)]
    assert not [image for image in people.images("target", "person") if SECRET.search(image)]


def test_what_changed_and_what_is_gone_on_the_server_is_found(people: Pair) -> None:
    masked(people, "person")
    people.source(
        "delete from letter", "delete from person where id > 38", "update person set salary = 2 where id = 1"
    )
    report = masked(people, "person", on_conflict="update", mirror=True, verify=True)
    assert (report.tally.updated, report.deleted) == (1, 2)


def test_a_diff_a_dry_run_and_a_status_see_masks_only(people: Pair) -> None:
    foretold = forecast("person", source=source(people), target=people.target_url, mask=RULES)
    assert foretold.tally.inserted == 40
    assert not SECRET.search(str(foretold.examples))
    masked(people, "person")
    [difference] = diff("person", source=source(people), target=people.target_url, mask=RULES)
    assert difference.equal
    people.target("delete from person where born > '1980-05-10'")
    [difference] = diff("person", source=source(people), target=people.target_url, mask=RULES)
    assert not difference.equal
    assert not SECRET.search(str(difference.keys))
    toml({"born": {"days": 1}})
    done = call(PGPULL, "status", "person", "--window", "born", **on(people))
    assert (done.returncode, "born is masked" in done.stderr) == (3, True)


def test_sequences_do_not_follow_hashed_keys(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id bigserial primary key, a int)")
    pair.source("insert into t (a) select generate_series(1, 5)")
    masked(pair, "t", {"id": "hash"})
    assert pair.target("select last_value from t_id_seq") == [(1,)]


def test_workers_that_share_a_table_see_masks_only(make_pair: MakePair, newest: int) -> None:
    pair = make_pair(newest, newest, schema="create table t (id bigint primary key, a text)")
    pair.source("insert into t select n, 'secret' || repeat(md5(n::text), 30) from generate_series(1, 20000) n")
    report = masked(pair, "t", {"id": "hash", "a": "length"}, jobs=2, verify=True)
    assert (report.plan.jobs, report.tally.inserted) == (2, 20_000)
    assert pair.target("select count(*) from t where a ~ 'secret'") == [(0,)]


def test_indexes_serve_conditions_on_what_is_not_masked(pair: Pair) -> None:
    pair.add_messages("source", 3000)
    pair.source("analyze askwealth.message")
    report = masked(pair, "askwealth.message", {"parts": "scrub"}, since="2025-01-01", until="2025-01-02")
    assert "message_created_at_idx" in report.plan.access
    assert report.tally.inserted == 24


def test_rows_by_their_keys_and_without_a_key_come_masked(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table k (id int primary key, a text); create table b (a text, n int)")
    pair.source(
        "insert into k select n, 'secret' || n from generate_series(1, 9) n", "insert into b select a, 1 from k"
    )
    for table in ("k", "b"):
        masked(pair, table, {"a": "hash"})
    pair.source("insert into k values (10, 'secret10')", "insert into b values ('secret10', 1)")
    for table in ("k", "b"):
        report = masked(pair, table, {"a": "hash"}, verify=True)
        assert (report.plan.strategy, report.tally.inserted) == (Strategy.KEYED, 1)
    assert pair.target("select count(*), count(distinct b.a) from k join b using (a)") == [(10, 10)]


def test_row_versions_are_bound_to_the_masks_and_the_key(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key, a text)")
    pair.source("insert into t select n, 'secret' || n from generate_series(1, 12000) n", "analyze t")
    for mask, key, updated in (
        ({"a": "hash"}, KEY, 0),
        ({"a": "hash"}, KEY, 0),
        ({"a": "hash"}, KEY + "!", 12_000),
        ({"a": "email"}, KEY, 12_000),
    ):
        words: Any = {"on_conflict": "update", "mask": mask}
        report = pull("t", source=source(pair, key), target=pair.target_url, **words)
        assert report.tally.updated == updated


def test_a_stretch_of_keys_is_masked_and_a_masked_key_has_no_stretches(people: Pair) -> None:
    mask = {"public.person": {**PERSON, "id": "keep"}}
    report = masked(people, "person", mask, snapshot=False, verify=True)
    assert report.tally.inserted == 40
    assert not [image for image in people.images("target", "person") if SECRET.search(image)]
    with pytest.raises(PlanError, match="has a masked key"):
        masked(people, "person", snapshot=False)


# --- each mask on each type --------------------------------------------------------------------------------

TYPES = {
    "text": "text",
    "varchar(40)": "varchar",
    "char(40)": "bpchar",
    "uuid": "uuid",
    "bigint": "int8",
    "integer": "int4",
    "smallint": "int2",
    "numeric": "numeric",
    "numeric(8,3)": "numeric",
    "real": "float4",
    "double precision": "float8",
    "date": "date",
    "timestamp": "timestamp",
    "timestamptz": "timestamptz",
    "jsonb": "jsonb",
    "json": "json",
    "boolean": "bool",
}
FITTING: tuple[tuple[str, Any, str, str], ...] = (
    *((kind, "hash", "value", "^[0-9a-f]{32} *$") for kind in ("text", "varchar(40)", "char(40)")),
    ("varchar(10)", "hash", "value", "^[0-9a-f]{10}$"),
    ("uuid", "hash", "0d7a9e04-6c2d-9b1a-f3a4-6f0f0c5b9c1e", "^[0-9a-f-]{36}$"),
    ("bigint", "hash", "-5", "^[0-9]{15,19}$"),
    *(
        (kind, "email", "a@b.de", "^user_[a-p]{16}@example.com *$")
        for kind in ("text", "varchar(40)", "char(40)")
    ),
    ("varchar(27)", "email", "a@b.de", "^user_[a-p]{10}@example.com$"),
    ("text", "phone", "0171", r"^\+1555[0-9]{7}$"),
    ("varchar(8)", "phone", "0171", "^5[0-9]{7}$"),
    ("bigint", "phone", "49171", "^1555[0-9]{7}$"),
    ("text", "name", "Erika", "^[A-Z][a-z]+ [A-Z][a-z]+$"),
    ("varchar(6)", "name", "Erika", "^[A-Z][a-z ]+.{0,4}$"),
    ("text", "length", "Erika", "^lorem$"),
    ("date", {"days": -31}, "2024-03-01", "^2024-01-30$"),
    ("date", {"days": 1}, "infinity", "^infinity$"),
    ("timestamp", {"days": 1}, "2024-02-28 23:59:59.5", r"^2024-02-29 23:59:59\.5$"),
    ("timestamptz", {"days": 1}, "2024-02-28 12:00+00", "^2024-02-29 12:00:00"),
    ("integer", "magnitude", "1234", "^[1-9][0-9]{3}$"),
    ("integer", "magnitude", "0", "^0$"),
    ("integer", "magnitude", "-2147483648", "^-[12][0-9]{9}$"),
    ("smallint", "magnitude", "32767", "^[1-3][0-9]{4}$"),
    ("bigint", "magnitude", "-9223372036854775808", "^-[1-9][0-9]{18}$"),
    ("numeric", "magnitude", "-0.0500", r"^-0\.0[1-9][0-9]{2}$"),
    ("numeric", "magnitude", "NaN", "^NaN$"),
    ("numeric(8,3)", "magnitude", "99999.999", r"^[1-9][0-9]{4}\.[0-9]{3}$"),
    ("real", "magnitude", "3e38", r"^[1-3](\.[0-9]+)?e\+38$"),
    ("double precision", "magnitude", "-Infinity", "^-Infinity$"),
    ("double precision", "magnitude", "1e308", r"^1(\.[0-9]+)?e\+308$"),
    ("text", {"constant": "it's"}, "x", "^it's$"),
    ("jsonb", {"constant": 'a "b"'}, "{}", r'^"a \\"b\\""$'),
    ("boolean", {"constant": True}, "f", "^true$"),
    ("integer", {"constant": 7}, "1", "^7$"),
    ("uuid", "null", "0d7a9e04-6c2d-9b1a-f3a4-6f0f0c5b9c1e", "^<null>$"),
    ("text", {"sql": "upper(left({value}, 1))"}, "erika", "^E$"),
    (
        "jsonb",
        {"a.b": "magnitude", "$.a.c": "null"},
        '{"a": {"b": 12.50, "c": 1}}',
        r'^{"a": {"b": \d\d\.\d\d, "c": null}}$',
    ),
    ("jsonb", {"*.x": {"constant": 1}}, '{"p": {"x": [2]}, "q": [3]}', r'^{"p": {"x": 1}, "q": \[3\]}$'),
    ("jsonb", {"a": {"b": {"constant": 1}}}, '[{"a": 1}]', r'^\[{"a": 1}\]$'),
    (
        "jsonb",
        {'"a.b"': "hash", "t": "scrub"},
        '{"a.b": 5, "t": ["a@b.de"]}',
        r'^{"t": \["user_.*"\], "a.b": "[0-9a-f]{32}"}$',
    ),
    (
        "jsonb",
        {"a": {"sql": "nullif({value} #>> '{}', 'x')"}},
        '{"a": "x", "b": 1}',
        r'^{"a": null, "b": 1}$',
    ),
    (
        "jsonb",
        {"1.a": {"constant": 1}},
        '[{"a": 2}, {"a": 3}, {"1": {"a": 4}}]',
        r'^\[{"a": 2}, {"a": 1}, {"1": {"a": 4}}\]$',
    ),
    ("jsonb", {"1.a": {"constant": 1}}, '{"1": {"a": 3}}', r'^{"1": {"a": 1}}$'),
    ("jsonb", {r'"a\"b"': {"constant": 1}}, r'{"a\"b": 2}', r'^{"a\\"b": 1}$'),
    ("json", "scrub", '{"a" :  "\\u0041",  "b":1.00}', r'^{"a" :  "\\u0041",  "b":1\.00}$'),
)


def expression(kind: str, mask: Any) -> str:
    base = TYPES.get(kind, "varchar")
    column = Column("v", ColumnType(kind, base, 0, "b", "X", True, True))
    return masked_value(mask_of(mask), column, Shape(TableName("public", "x"), "r", (column,)))


@pytest.fixture(scope="module")
def connection(servers: Any, newest: int) -> Any:
    server: Server = servers(newest)
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute("select set_config('pgpull.mask_key', %s, false)", (KEY,))
        yield connection


@pytest.mark.parametrize(("kind", "mask", "value", "expected"), FITTING)
def test_a_mask_fits_its_type_and_null_stays_null(
    connection: psycopg.Connection, kind: str, mask: Any, value: str, expected: str
) -> None:
    statement = SQL(
        "select coalesce(({e})::text, '<null>'), ({e})::text = ({e})::text from (select {v}::{k} as v) as x"
    )
    words = {"e": SQL(expression(kind, mask)), "k": SQL(kind)}
    [(found, _)] = connection.execute(statement.format(v=Literal(value), **words)).fetchall()
    assert re.search(expected, found), found
    [(nothing, _)] = connection.execute(statement.format(v=SQL("null"), **words)).fetchall()
    assert nothing == "<null>"


def test_every_server_version_computes_the_same(make_pair: MakePair, oldest: int, newest: int) -> None:
    found = []
    for version in (oldest, newest):
        pair = make_pair(version, newest, schema=PEOPLE)
        pair.source(SOME)
        masked(pair, "person")
        found.append(pair.images("target", "person"))
    assert found[0] == found[1]


# --- scrub ---------------------------------------------------------------------------------------------------

CARDS = (
    "4111111111111111",
    "4111 1111 1111 1111",
    "5500-0000-0000-0004",
    "378282246310005",
    "3782 822463 10005",
)
IBANS = ("DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819", "NO9386011117947")
PHONES = (
    "+49 171 5551234",
    "+1 (555) 010-9999",
    "(555) 123-4567",
    "030 / 1234567",
    "0171 - 1234567",
    "(030) - 1234567",
    "0049 (0)151 2345678",
    "0033 6 12 34 56 78",
    "0041 (0) 44 123 45 67",
    "0044 7 911 123 456",
    "1-555-123-4567",
    "1.555.123.4567",
)
ACCOUNTS = ("1234567890",)

address = st.from_regex(r"[a-z0-9][a-z0-9._%+-]{0,20}@[a-z0-9][a-z0-9-]{0,10}\.[a-z]{2,6}", fullmatch=True)
# a text of Postgres has no NUL, and no half of a pair of surrogates
anything = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
planted = st.one_of(address, st.sampled_from(CARDS + IBANS))
alone = st.sampled_from(PHONES + ACCOUNTS)


def scrubbed(connection: psycopg.Connection, kind: str, value: str) -> str:
    statement = SQL("select ({})::text from (select {}::{} as v) as x")
    made = statement.format(SQL(expression(kind, "scrub")), Literal(value), SQL(kind))
    [(found,)] = connection.execute(made).fetchall()
    return cast(str, found)


def digits(text: str) -> str:
    return re.sub("[^0-9]", "", text)


def passes_luhn(number: str) -> bool:
    places = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits(number)))]
    return sum(value // 10 + value % 10 for value in places) % 10 == 0


fast = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fast
@given(before=anything, secret=planted, after=anything)
@example(before="12:30 ", secret="a@b.de", after="5")
@example(before="\\n", secret="alice@x.com", after="\\n")
@example(before="(0171) 1234567", secret="bob@x.com", after="_eve@y.de")
@example(before="4111 1111 1111 1111", secret="bob@x.com", after="")
@example(before="ZZ", secret=IBANS[1], after="0")
@example(before="x9", secret=CARDS[0], after="9x")
def test_nothing_planted_is_left_in_a_text(
    connection: psycopg.Connection, before: str, secret: str, after: str
) -> None:
    assert secret not in scrubbed(connection, "text", before + secret + after)


@fast
@given(before=anything, secret=alone, after=anything)
def test_numbers_that_stand_alone_are_found(
    connection: psycopg.Connection, before: str, secret: str, after: str
) -> None:
    assert secret not in scrubbed(connection, "text", f"{before} :: {secret} :: {after}")


def filled(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        inner,
        lambda more: st.lists(more, max_size=3) | st.dictionaries(anything, more, max_size=3),
        max_leaves=6,
    )


leaves = st.one_of(st.none(), st.booleans(), st.integers(), anything, st.tuples(anything, planted).map("".join))


def shape_of(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shape_of(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape_of(inner) for inner in value]
    return "text" if isinstance(value, str) else value


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in strings(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in strings(inner)]
    return [value] if isinstance(value, str) else []


@fast
@given(document=filled(leaves), secret=planted, ascii=st.booleans())
@example(document={"a@b.de": ["\n", 4111111111111111, 1.0]}, secret="\u00e9l\u00e8ve@\u00e9cole.fr", ascii=True)
def test_documents_keep_their_form_and_lose_what_is_planted(
    connection: psycopg.Connection, document: Any, secret: str, ascii: bool
) -> None:
    whole = {"inner": document, "planted": f"\n{secret}\\n"}
    for kind in ("jsonb", "json"):
        found = json.loads(scrubbed(connection, kind, json.dumps(whole, ensure_ascii=ascii)))
        assert shape_of(found) == shape_of(whole)
        assert not [text for text in strings(found) if secret in text]


@fast
@given(text=st.text(st.characters(exclude_characters="\0@0123456789", exclude_categories=["Cs"]), max_size=80))
def test_a_text_without_such_things_stays_as_it_is(connection: psycopg.Connection, text: str) -> None:
    assert scrubbed(connection, "text", text) == text


@pytest.mark.parametrize(
    "text",
    [
        "on 2024-01-15T10:30:00.123 and 15.01.2024, 12/31/2024",
        "0d7a9e04-6c2d-9b1a-f3a4-6f0f0c5b9c1e 12345678-1234-1234-1234-123456789012",
        "version 1.23.456, 192.168.1.1, 3.14159, room 1234567, call_12345678x",
        "someone@localhost, @mention, a@b, 100 200 300",
    ],
)
def test_dates_ids_and_small_numbers_stay(connection: psycopg.Connection, text: str) -> None:
    assert scrubbed(connection, "text", text) == text


def test_what_is_replaced_keeps_its_kind(connection: psycopg.Connection) -> None:
    assert re.fullmatch(r"<user_[a-p]{16}@example\.com>\.", scrubbed(connection, "text", "<erika@x.de>."))
    for card in CARDS:
        found = scrubbed(connection, "text", card)
        assert re.sub("[0-9]", "0", found) == re.sub("[0-9]", "0", card)
        assert (found[0], passes_luhn(found)) == ("9", False)
        assert digits(found) == scrubbed(connection, "text", digits(card)), "written otherwise, it is the same"
    assert re.fullmatch(
        r"DE00 [0-9]{4} [0-9]{4} [0-9]{4} [0-9]{4} [0-9]{2}", scrubbed(connection, "text", IBANS[1])
    )
    assert scrubbed(connection, "text", PHONES[0]).startswith("+99 9")


def test_an_address_has_the_same_mask_in_a_text_as_in_a_column(connection: psycopg.Connection) -> None:
    statement = SQL("select ({})::text from (select 'erika@x.de'::text as v) as x")
    [(column,)] = connection.execute(statement.format(SQL(expression("text", "email")))).fetchall()
    assert scrubbed(connection, "jsonb", '["to erika@x.de!"]') == f'["to {column}!"]'


def test_an_address_is_found_in_a_link_and_at_full_width(connection: psycopg.Connection) -> None:
    found = scrubbed(connection, "text", "x.de/?to=erika%40secret.de&b=1 erika\uff20secret.de erika@secret.de")
    masks = re.findall("user_[a-p]{16}@example.com", found)
    assert (len(masks), len(set(masks)), "erika" in found) == (3, 1, False)
    assert "x.de/?to=user_" in found


@pytest.mark.parametrize(
    ("kind", "value", "secret"),
    [
        ("jsonb", r'"call\n0171 12 34 56"', "12 34"),
        ("json", r'"call\n0171 12 34 56"', "12 34"),
        ("json", r'"call 0171\/1234567"', "123456"),
        ("text", r'{"t": "\n0171 1234567"}', "1234567"),
        ("text", r'"\t12345678"', "12345678"),
    ],
)
def test_escapes_hide_no_number(connection: psycopg.Connection, kind: str, value: str, secret: str) -> None:
    assert secret not in scrubbed(connection, kind, value)


def test_characters_that_json_alone_can_hold_do_not_stop_it(connection: psycopg.Connection) -> None:
    value = r'{"a": "\u0000\ud800x\u0040y.de \\u0000 \ud83d\ude00 \udead"}'
    found = json.loads(scrubbed(connection, "json", value))["a"]
    assert re.fullmatch(r"user_[a-p]{16}@example\.com \\u0000 😀 ", found)


@pytest.mark.parametrize(
    "text",
    ["a@" * 150_000, "a" * 300_000 + "@b@c.de", "0" * 300_000, "%" * 300_000, "1 " * 150_000, "(0" * 150_000],
)
def test_hostile_text_takes_no_longer_than_its_length(connection: psycopg.Connection, text: str) -> None:
    with connection.transaction():
        connection.execute("set local statement_timeout = '30s'")
        scrubbed(connection, "text", text)


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "fact", "hint"),
    [
        ({"email": "null", "id": "null"}, 'id is NOT NULL, and its mask is "null"', "hash"),
        ({"email": "phone"}, "email is unique", '"hash"'),
        ({"id": "magnitude"}, "id is unique", '"hash"'),
        ({"name": "null"}, "name is NOT NULL", "{ constant"),
        ({"born": "email"}, "born is date", '"keep"'),
        ({"id": "hash"}, "letter.person_id refers to public.person.id", 'person_id = "hash"'),
        ({"profile": "email"}, "profile is jsonb", '"scrub"'),
        ({"nmae": "hash"}, "has no column nmae", "did you mean name?"),
        ({"notes": {"sql": "no_such({value})"}}, "does not take the mask of public.person.notes", "no_such"),
        ({"notes": {"sql": "count({value})::text"}}, "does not take the mask", "count"),
        ({"notes": {"sql": "{value} || random()"}}, "calls random", "IMMUTABLE"),
        ({"notes": {"sql": "{value} || now()"}}, "calls now", "IMMUTABLE"),
        ({"born": {"constant": "soon"}}, "does not take the mask", "soon"),
    ],
)
def test_what_cannot_be_masked_so_is_refused_with_what_to_write(
    people: Pair, mask: Mapping[str, Any], fact: str, hint: str
) -> None:
    with pytest.raises(PlanError) as caught:
        masked(people, "person", {"public.person": mask})
    assert fact in caught.value.message
    assert hint in caught.value.hint
    assert people.target("select count(*) from person") == [(0,)]


def test_four_bytes_are_too_few_for_a_hash(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key, code varchar(4), slug varchar(20) unique)")
    for mask, fact in (
        ({"id": "hash"}, "so few bits"),
        ({"code": "hash"}, "too short"),
        ({"slug": "hash"}, "too short"),
    ):
        with pytest.raises(PlanError, match=fact):
            masked(pair, "t", mask)


def test_rows_cannot_be_chosen_by_what_is_masked(people: Pair) -> None:
    for words in (
        {"equals": {"phone": "+49 30 7788991"}},
        {"where": "notes like '%erika%'"},
        {"since": "1980-01-01", "window": "born"},
    ):
        with pytest.raises(PlanError, match="is masked: rows cannot be chosen by it"):
            masked(people, "person", **words)
    masked(people, "person", {"phone": "phone"}, where="person.notes like '%erika%'", equals={"id": 7})
    assert people.target("select id from person") == [(7,)]


def test_both_ends_of_a_key_are_masked_alike_whichever_is_pulled(people: Pair) -> None:
    for table in ("person", "letter"):
        for mask in ({"public.letter": {"person_id": "hash"}}, {"public.person": {"id": "hash"}}):
            with pytest.raises(PlanError, match="no row would find the row that it refers to"):
                masked(people, table, mask)
    with pytest.raises(PlanError, match="may make something else of each"):
        masked(people, "person", {"*id": {"sql": "id + 1"}})


def test_a_rule_for_a_table_that_is_not_there_is_told(people: Pair) -> None:
    with pytest.raises(PlanError) as caught:
        masked(people, "letter", {"public.persom": {"email": "email"}})
    assert "public.persom" in caught.value.message
    assert caught.value.hint == "did you mean public.person?"


def test_without_a_key_nothing_is_masked_by_it(people: Pair) -> None:
    for key, fact in (("", "have no PGPULL_MASK_KEY"), ("short", "5 characters")):
        with pytest.raises(SettingsError, match=fact):
            pull("person", source=source(people, key), target=people.target_url, mask=RULES)


def test_a_value_in_a_server_s_error_is_not_shown(people: Pair) -> None:
    people.source("update person set notes = 'secret thing'")
    toml({"notes": {"sql": "({value}::int)::text"}})
    done = call(PGPULL, "pull", "person", "--verbose", **on(people, PGPULL_MASK_KEY=KEY))
    assert done.returncode == 3
    assert "invalid input syntax" in done.stderr
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "said",
    [
        "ungültige Eingabesyntax für Typ integer: »secret«",
        'ungültige Eingabesyntax für Typ integer: »a"secret"b secret«',
        "nieprawidłowa składnia wejścia dla typu integer: „secret”",
        "syntaxe en entrée invalide pour le type integer : « secret »",
        "syntaxe en entrée invalide pour le type integer : «\u00a0a » secret\u00a0»",
    ],
)
def test_a_server_that_speaks_another_language_shows_no_value_either(said: str) -> None:
    assert "secret" not in hide_quoted(said)
    assert "integer" in hide_quoted(said)


def toml(rules: Mapping[str, Any], head: str = "") -> Path:
    """Write a pgpull.toml with rules for person."""
    lines = [f'"{name}" = {mask_of(word)}' for name, word in rules.items()]
    path = Path("pgpull.toml")
    path.write_text("\n".join([head, '[tables."public.person".mask]', *lines, ""]))
    return path


# --- by name, and strictly ---------------------------------------------------------------------------------


def test_the_closest_rule_wins() -> None:
    masks = Masks.of_rules(
        rules_of({"*mail*": "email", "s.t": {"*": "hash", "email": "keep"}, "s.*": {"*": "null"}})
    )
    for table, column, mask in (
        ("s.t", "email", "keep"),
        ("s.t", "Other", "hash"),
        ("s.u", "email", "null"),
        ("u", "E_Mail", "email"),
        ("u", "x", "keep"),
    ):
        assert masks.mask_for([TableName.parse(table)], column).kind == mask


def test_a_pattern_passes_over_what_cannot_be_meant(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int primary key, email text, email_ok bool, email_at date, emails text[])"
    )
    with pytest.raises(PlanError, match="emails is text"):
        masked(pair, "t", {"*email*": "email"})
    report = masked(pair, "t", {"*email*": "email", "emails": "null"})
    assert report.plan.source.masked == {"email", "emails"}


@pytest.mark.parametrize(
    "name", ["email", "E-Mail", "first_name", "lastName", "ip", "client_ip", "name", "iban", "pin"]
)
def test_names_that_look_personal(name: str) -> None:
    assert looks_personal(name)


@pytest.mark.parametrize(
    "name", ["description", "role", "parts", "created_at", "shipment", "spin", "tokens", "filename"]
)
def test_names_that_do_not(name: str) -> None:
    assert not looks_personal(name)


def test_a_strict_pull_stops_until_all_that_looks_personal_is_ruled_on(people: Pair) -> None:
    with pytest.raises(PlanError) as caught:
        masked(people, "person", {"*email*": "email"}, mask_strict=True)
    assert caught.value.message.endswith("no mask rule: phone, name, salary, profile (key email)")
    assert '[tables."public.person".mask]: phone = "keep"' in caught.value.hint
    rules = {"phone": "phone", "name": "name", "salary": "keep", "profile": {"contact.email": "email"}}
    report = masked(people, "person", {**rules, "email": "email"}, mask_strict=True)
    assert report.tally.inserted == 40


def test_a_pattern_that_passes_over_a_column_is_no_rule_for_it(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key, phone numeric, email_ok bool, born_name text)")
    mask: Mapping[str, Any] = {"*phone*": "phone", "*email*": "email", "*name*": "name"}
    assert "phone is numeric and stays as it is" in " ".join(masked(pair, "t", mask).plan.notes)
    with pytest.raises(PlanError, match=r"no mask rule: phone$"):
        masked(pair, "t", mask, mask_strict=True)
    masked(pair, "t", {**mask, "phone": "magnitude"}, mask_strict=True)


def test_a_key_of_a_document_is_ruled_on_where_it_stands(people: Pair) -> None:
    people.source(
        """update person set profile = '[{"contact": {"email": "x"}, "First name": 1}]' where id = 1"""
    )
    rules = {"phone": "keep", "name": "keep", "salary": "keep", "email": "keep"}
    profile = {"contact.email": "email"}
    with pytest.raises(PlanError, match=r"no mask rule: profile \(key First name\), profile \(key email\)$"):
        masked(people, "person", {**rules, "profile": profile}, mask_strict=True)
    masked(
        people,
        "person",
        {**rules, "profile": {**profile, "*.contact": "null", "*.First name": "null"}},
        mask_strict=True,
    )
    assert not [image for image in people.images("target", "person") if '"x"' in image]


def test_a_condition_is_no_statement_of_its_own_in_a_strict_pull_either(people: Pair) -> None:
    rules = {"phone": "keep", "name": "keep", "salary": "keep", "email": "keep"}
    with pytest.raises(PlanError, match="does not take the condition"):
        masked(people, "person", rules, mask_strict=True, where="true); commit; delete from letter; --")
    assert people.source("select count(*) from letter") == [(90,)]


def test_rows_that_come_along_are_looked_at_as_strictly(make_pair: MakePair) -> None:
    pair = make_pair()
    for side in (pair.source, pair.target):
        side(
            "alter table askwealth.thread add column email text",
            "alter table askwealth.message add foreign key (thread_id) references askwealth.thread (thread_id)",
        )
    Path("pgpull.toml").write_text('[tables."askwealth.thread"]\non_conflict = "update"\n')
    done = call(SCRIPT, "--mask-strict", "--with-parents", "--dry-run", **on(pair))
    assert (done.returncode, "askwealth.thread has what looks personal" in done.stderr) == (3, True), (
        done.stderr
    )


def test_a_rule_for_a_partition_alone_is_not_passed_over(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int, note text) partition by list (id);"
        " create table t_1 partition of t for values in (1)"
    )
    pair.source("insert into t values (1, 'secret')")
    with pytest.raises(PlanError) as caught:
        masked(pair, "t", {"public.t_1": {"note": "length"}})
    assert "rows of public.t_1 come as public.t's" in caught.value.message
    assert '[tables."public.t".mask]: note = "length"' in caught.value.hint
    masked(pair, "t", {"public.t*": {"note": "length"}})
    assert pair.target("select note from t") == [("lorem ",)]


def test_a_part_comes_under_the_rules_for_all_that_it_is_a_part_of(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int, note text) partition by list (id);"
        " create table m partition of t for values in (1, 2) partition by list (id);"
        " create table leaf partition of m for values in (1);"
        " create table parent (id int, note text); create table child () inherits (parent)"
    )
    pair.source("insert into leaf values (1, 'secret')", "insert into child values (1, 'secret')")
    masked(pair, "leaf", {"public.m": {"note": "length"}})
    masked(pair, "child", {"public.parent": {"note": "length"}})
    assert pair.target("select note from leaf union all select note from child") == [("lorem ",)] * 2


def test_a_pattern_does_not_stop_at_numbers_that_refer(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table phone (id int primary key); create table t (phone_id int references phone);"
        "create table b (id bigint primary key); create table c (phone_id bigint references b)"
    )
    masked(pair, "t", {"*phone*": "phone"})
    with pytest.raises(PlanError) as caught:
        masked(pair, "c", {"*phone*": "phone"})
    assert caught.value.hint == 'write in pgpull.toml, under [tables."public.c".mask]: phone_id = "keep"'


def test_a_check_counts_what_looks_personal_and_shows_no_value(people: Pair) -> None:
    people.source("""update person set profile = profile || '{"Erika@secret.example": 1}'""")
    toml({"phone": "phone", "name": "keep"})
    done = call(PGPULL, "check", "--privacy", "person", **on(people, PGPULL_MASK_KEY=KEY))
    shown = " ".join(done.stdout.split())
    assert done.returncode == 0, done.stderr
    assert "phone: is called so, and has a value in 40 of 40 rows" in shown
    assert 'is masked: "phone"' in shown
    assert "is to be seen as it is" in shown
    assert (
        "notes: e-mail addresses in 40 of 40 rows; numbers as telephones, cards and accounts have them in 40"
        in shown
    )
    assert "the key email in 40 rows" in shown
    assert not SECRET.search(done.stdout + done.stderr)
    assert call(PGPULL, "check", "--privacy", **on(people)).returncode == 0


def test_a_check_says_of_nothing_that_it_is_masked_which_a_pull_would_send(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table person (id int primary key, birth_date date, profile jsonb)")
    pair.source(
        """insert into person values (1, '1970-01-01', '{"contact": {"email": "a@b.example"}, "phone": "1"}'),
        (2, '1971-01-01', '{"contact": [{"email": 1}]}')"""
    )
    toml({"*birth*": "hash", "profile": {"contact.email": "email"}})
    pair.source("""update person set profile = profile || '{"said": "to b@c.example"}' where id = 1""")
    done = call(PGPULL, "check", "--privacy", "person", **on(pair, PGPULL_MASK_KEY=KEY))
    shown = " ".join(done.stdout.split())
    assert "birth_date: is called so, and has a value in 2 of 2 rows; is date and stays as it is" in shown
    assert "profile: no mask leads to the key contact.*.email in 1 rows, the key phone in 1 rows" in shown
    assert "profile: the key contact.email in 1 rows; is masked" in shown
    assert "profile: e-mail addresses in 1 of 2 rows, wherever in them: masks go by path" in shown


def test_columns_may_be_called_as_what_documents_are_taken_apart_into(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table person (id int primary key, path jsonb, k jsonb, v jsonb)")
    document = """'{"email": "a@b.example"}'"""
    pair.source(f"insert into person values (1, {document}, {document}, {document})")
    rule = {"email": "email"}
    toml({"path": rule, "k": "keep", "v": rule})
    for words in (["check", "--privacy", "person"], ["pull", "person", "--mask-strict"]):
        done = call(PGPULL, *words, **on(pair, PGPULL_MASK_KEY=KEY))
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "words", [("pull", "person"), ("pull", "person", "--dry-run"), ("export", "person", "--to", "a")]
)
def test_who_has_a_key_and_no_masks_is_told_that_nothing_is_masked(
    people: Pair, words: tuple[str, ...]
) -> None:
    done = call(PGPULL, *words, **on(people, PGPULL_MASK_KEY=KEY))
    assert done.returncode == 0
    assert "PGPULL_MASK_KEY is set, and no mask is: values come as they are" in done.stderr
    toml({"phone": "phone"})
    words = (*words, "--overwrite") if words[0] == "export" else words
    assert "no mask is" not in call(PGPULL, *words, **on(people, PGPULL_MASK_KEY=KEY)).stderr


def test_the_file_s_rules_hold_for_the_command_and_the_key_stays_secret(people: Pair) -> None:
    toml(
        {"*email*": "email", "phone": "phone", "name": "name", "notes": "scrub", "profile": "scrub"},
        "mask_strict = true",
    )
    words = on(people, PGPULL_MASK_KEY=KEY)
    stopped = call(PGPULL, "pull", "person", **words)
    assert stopped.returncode == 3
    assert "salary" in stopped.stderr
    toml(
        {
            "*email*": "email",
            "phone": "phone",
            "name": "name",
            "notes": "scrub",
            "profile": {"*.email": "email", "tags.*.text": "length"},
            "salary": "magnitude",
            "born": "keep",
        }
    )
    for more in (["--dry-run"], ["--json", "--verbose"], ["--verify", "--on-conflict", "update"]):
        done = call(PGPULL, "pull", "person", *more, **words)
        assert done.returncode == 0, done.stderr
        assert "masked by the server" in done.stdout + done.stderr
        assert not SECRET.search(done.stdout + done.stderr)
        assert KEY not in done.stdout + done.stderr
    assert not [image for image in people.images("target", "person") if SECRET.search(image)]


def test_words_that_are_no_masks_are_refused() -> None:
    for word in ("emial", 3, {}, {"days": 0}, {"constant": None}, {"a": {"days": 1}}):
        with pytest.raises(UsageError):
            mask_of(word)


def test_a_mask_is_spelled_as_it_is_written() -> None:
    for word in ("hash", {"constant": True}, {"days": -3}, {"sql": "md5({value})"}):
        shown = str(mask_of(word))
        assert shown == (f'"{word}"' if isinstance(word, str) else f"{{ {' '.join(shown.split()[1:-1])} }}")
    assert str(mask_of({"a": {"b": "hash"}, '"c.d".*': "null"})) == '{ "a.b" = "hash", ""c.d".*" = "null" }'


def test_a_check_of_tables_tells_what_is_masked_wrongly(people: Pair) -> None:
    toml({"id": "hash"})
    done = call(PGPULL, "check", "person", **on(people, PGPULL_MASK_KEY=KEY))
    assert done.returncode == 3
    assert "person_id refers to" in " ".join(done.stdout.split())
    assert check("person", source=people.source_url, target=people.target_url).exit_code == 0


def test_the_recipe_for_messages_works_as_it_stands(make_pair: MakePair) -> None:
    page = (ROOT / "docs" / "masks.md").read_text()
    Path("pgpull.toml").write_text(re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0])
    pair = make_pair()
    pair.add_messages("source", 30)
    pair.source("insert into askwealth.thread select distinct thread_id, 'Mustermann' from askwealth.message")
    pair.source(
        """update askwealth.message set parts = '[{"type": "text", "text": "I am erika@secret.example, card"""
        """ 4111 1111 1111 1111, IBAN DE89 3704 0044 0532 0130 00"}]'"""
    )
    for table in ("askwealth.message", "askwealth.thread"):
        done = call(PGPULL, "pull", table, "--verify", **on(pair, PGPULL_MASK_KEY=KEY))
        assert done.returncode == 0, done.stderr
    assert pair.target("select count(*) from askwealth.message join askwealth.thread using (thread_id)") == [
        (30,)
    ]
    images = pair.images("target", "askwealth.message") + pair.images("target", "askwealth.thread")
    assert not [image for image in images if re.search("secret|Muster|4111|DE89", image)]
    assert pair.target("select distinct parts #>> '{0,type}' from askwealth.message") == [("text",)]
    again = call(
        PGPULL, "pull", "askwealth.message", "--on-conflict", "update", **on(pair, PGPULL_MASK_KEY=KEY)
    )
    assert "skipped 30" in again.stdout


def test_the_script_s_function_masks_as_the_script_does(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.add_messages("source", 3)
    Path(".env").write_text("".join(f"{name}='{value}'\n" for name, value in on(pair).items()))
    Path("pgpull.toml").write_text('[tables."askwealth.message".mask]\nparts = { constant = "x" }\n')
    monkeypatch.syspath_prepend(ROOT)
    from data_migrations.load_messages import load_messages

    load_messages()
    assert pair.target("select distinct parts from askwealth.message") == [("x",)]


def test_an_archive_is_held_against_rules_by_what_its_columns_were(make_pair: MakePair) -> None:
    kinds = "create type kind as enum ('a'); "
    pair = make_pair(
        schema=kinds + "create table t (id int primary key, email_kind kind, email text, name text)"
    )
    pair.source("insert into t values (1, 'a', 'x@secret.example', 'n')")
    mask: Mapping[str, Any] = {"*email*": "email", "public.t": {"name": "name"}}
    export("t", source=source(pair), to="part", mask=mask, without=["name"])
    loaded = load("part", "t", target=pair.target_url, mask=mask)
    assert (loaded.tally.inserted, pair.target("select email_kind from t")) == (1, [("a",)])
    export("t", source=source(pair), to="whole", mask={"*email*": "email"})
    with pytest.raises(PlanError, match="no mask rule: name"):
        load("whole", "t", target=pair.target_url, mask={"*email*": "email"}, mask_strict=True)


def test_an_archive_that_was_masked_so_is_loaded_and_another_is_refused(people: Pair) -> None:
    export("person", source=source(people), to="masked", mask=RULES)
    export("person", source=people.source_url, to="bare")
    assert not SECRET.search("".join(path.read_text() for path in Path("masked").rglob("*") if path.is_file()))
    with pytest.raises(PlanError, match='as "hash", and the archive was made with "keep"'):
        load("bare", "person", target=people.target_url, mask=RULES)
    assert load("masked", "person", target=people.target_url, mask=RULES).tally.inserted == 40
    again = masked(people, "person", on_conflict="update", mirror=True, verify=True)
    assert (again.tally.skipped, again.deleted) == (40, 0)
