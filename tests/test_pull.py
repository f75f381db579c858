"""The laws of a pull, on real servers."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
import sqlalchemy

from pgpull import PlanError, Report, TooManyRejects, UsageError, pull
from pgpull.listening import Listener
from tests.conftest import MakePair
from tests.support import Pair, available_versions

TABLE = "askwealth.message"

VERSIONS = sorted(available_versions())


def pulled(pair: Pair, table: str = TABLE, **what: Any) -> Report:
    """Pull from the pair's source to its target."""
    what.setdefault("retries", 0)
    return pull(table, source=pair.source_url, target=pair.target_url, **what)


def counts(report: Report) -> tuple[int, int, int, int]:
    """Return inserted, updated, skipped, failed."""
    tally = report.tally
    return tally.inserted, tally.updated, tally.skipped, tally.failed


def test_a_pull_into_an_empty_table_brings_every_row(pair: Pair) -> None:
    pair.add_messages("source", 2_500)
    report = pulled(pair, batch_size=1000)
    assert counts(report) == (2_500, 0, 0, 0)
    assert report.plan.strategy == "straight"
    assert report.plan.wire == "binary"
    assert pair.same(TABLE)


def test_an_empty_source_is_no_error(pair: Pair) -> None:
    assert counts(pulled(pair)) == (0, 0, 0, 0)


@pytest.mark.parametrize("on_conflict", ["skip", "update"])
def test_pulling_twice_writes_nothing_the_second_time(pair: Pair, on_conflict: str) -> None:
    pair.add_messages("source", 3_000)
    pulled(pair, on_conflict=on_conflict)
    versions = pair.target(f"select xmin, ctid, message_id from {TABLE} order by 3")
    report = pulled(pair, on_conflict=on_conflict, batch_size=700)
    assert counts(report) == (0, 0, 3_000, 0)
    assert pair.target(f"select xmin, ctid, message_id from {TABLE} order by 3") == versions


def test_a_rerun_grows_the_targets_wal_by_next_to_nothing(pair: Pair) -> None:
    pair.add_messages("source", 20_000, step="1 minute")
    pulled(pair)
    pair.target("checkpoint")
    before = pair.target_server.wal_position()
    pulled(pair)
    pulled(pair, on_conflict="update")
    assert pair.target_server.wal_position() - before < 200_000


def test_skip_leaves_a_row_that_is_there_as_it_is(pair: Pair) -> None:
    pair.add_messages("source", 10)
    pulled(pair)
    pair.target(
        f"update {TABLE} set role = 'mine'",
        f"delete from {TABLE} where message_id = (select min(message_id::text)::uuid from {TABLE})",
    )
    assert counts(pulled(pair)) == (1, 0, 9, 0)
    assert pair.target(f"select count(*) from {TABLE} where role = 'mine'") == [(9,)]


def test_update_writes_only_the_rows_that_differ(pair: Pair) -> None:
    pair.add_messages("source", 1_000)
    pulled(pair)
    pair.target(
        f"update {TABLE} set parts = '[]' where created_at < '2025-01-03'",
        f"delete from {TABLE} where created_at >= '2025-02-01'",
    )
    changed = pair.target(f"select count(*) from {TABLE} where parts = '[]'")[0][0]
    missing = 1_000 - pair.target(f"select count(*) from {TABLE}")[0][0]
    report = pulled(pair, on_conflict="update")
    assert counts(report) == (missing, changed, 1_000 - missing - changed, 0)
    assert pair.same(TABLE)


@pytest.mark.parametrize(
    ("column", "kind", "theirs", "ours"),
    [
        ("v", "jsonb", "'{\"a\": 1.00}'", "'{\"a\": 1.0}'"),
        ("v", "numeric", "1.00", "1.0"),
        ("v", "float8", "'-0'", "0"),
        ("v", "interval", "'1 day'", "'24 hours'"),
        ("v", "json", "'{\"a\":1}'", "'{\"a\": 1}'"),
        ("v", "point", "'(1,2)'", "'(1,3)'"),
        ("v", "text", "null", "''"),
        ("v", "jsonb", "'null'", "null"),
        ("v", "timestamptz", "'infinity'", "'9999-12-31'"),
    ],
)
def test_update_sees_differences_that_equality_does_not(
    make_pair: MakePair, column: str, kind: str, theirs: str, ours: str
) -> None:
    pair = make_pair(schema=f"create table t (id int primary key, {column} {kind})")
    pair.source(f"insert into t values (1, {theirs})")
    pair.target(f"insert into t values (1, {ours})")
    assert counts(pulled(pair, "public.t", on_conflict="update")) == (0, 1, 0, 0)
    assert pair.same("t")
    assert counts(pulled(pair, "public.t", on_conflict="update")) == (0, 0, 1, 0)


def test_a_window_includes_its_start_and_excludes_its_end(pair: Pair) -> None:
    pair.add_messages("source", 72, start="2025-01-01", step="1 hour")
    pulled(pair, since="2025-01-02", until="2025-01-03")
    assert pair.target(f"select min(created_at)::text, max(created_at)::text, count(*) from {TABLE}") == [
        ("2025-01-02 00:00:00+00", "2025-01-02 23:00:00+00", 24)
    ]


@pytest.mark.parametrize(
    ("since", "timezone", "expected"),
    [
        ("2025-01-02", "Asia/Tokyo", "2025-01-01 15:00:00+00"),
        (date(2025, 1, 2), "UTC", "2025-01-02 00:00:00+00"),
        (datetime(2025, 1, 2, 5, 30, tzinfo=UTC), "Asia/Tokyo", "2025-01-02 06:00:00+00"),
    ],
)
def test_a_window_means_the_same_instant_whatever_the_servers_zone(
    pair: Pair, since: Any, timezone: str, expected: str
) -> None:
    pair.source(f"alter database {pair.source_db} set timezone to 'America/New_York'")
    pair.add_messages("source", 72)
    pair.source("delete from askwealth.message where created_at < timestamptz '2024-12-31 12:00+00'")
    pulled(pair, since=since, timezone=timezone)
    assert pair.target("set timezone to 'UTC'", f"select min(created_at)::text from {TABLE}") == [(expected,)]


@pytest.mark.parametrize(("kind", "first"), [("timestamp", "2025-01-02 09:00:00"), ("date", "2025-01-03")])
def test_a_window_on_wall_clock_times_reads_them_in_the_named_zone(
    make_pair: MakePair, kind: str, first: str
) -> None:
    pair = make_pair(schema=f"create table t (id int primary key, d {kind})")
    pair.source(
        "insert into t select g, timestamp '2025-01-01' + g * interval '1 hour' from generate_series(0, 99) g"
    )
    pulled(pair, "t", window="d", since="2025-01-02T00:00:00Z", timezone="Asia/Tokyo")
    assert pair.target("select min(d)::text from t") == [(first,)]


def test_filters_of_all_kinds_narrow_the_scope_together(pair: Pair) -> None:
    pair.add_messages("source", 100)
    thread, expected = pair.source(
        f"select thread_id::text, count(*) from {TABLE} where role = 'user'"
        " and created_at >= '2025-01-01 12:00+00' group by 1 order by 2 desc, 1 limit 1"
    )[0]
    report = pulled(pair, since="2025-01-01T12:00", equals={"thread_id": thread}, where="role = 'user' -- them")
    assert counts(report) == (expected, 0, 0, 0)


def test_rows_go_straight_in_when_none_in_scope_is_there(pair: Pair) -> None:
    pair.add_messages("source", 100)
    pulled(pair, until="2025-01-03")
    assert pulled(pair, since="2025-01-03").plan.strategy == "straight"
    assert pair.same(TABLE)


def test_a_row_that_is_there_outside_the_scope_is_skipped_all_the_same(pair: Pair) -> None:
    pair.add_messages("source", 100)
    pair.add_messages("target", 100, start="2020-01-01")
    report = pulled(pair, since="2025-01-01", batch_size=30)
    assert report.plan.strategy == "straight"
    assert counts(report) == (0, 0, 100, 0)


def test_filters_that_local_cannot_answer_are_the_servers_to_judge(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int primary key, at timestamptz default now(), kind text)",
        target_schema="create table t (id int primary key, kind varchar)",
    )
    pair.source("create table other (id int)", "insert into other values (2)", "insert into t values (1), (2)")
    pair.target("insert into t values (9)")
    what = {"since": "2020-01-01", "window": "at", "where": "id in (select id from other)"}
    assert counts(pulled(pair, "t", **what)) == (1, 0, 0, 0)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"equals": {"thread": "x"}}, "has no column thread"),
        ({"since": "2025-01-01", "window": "role"}, "not a date or time"),
        ({"since": "2025-01-01", "window": "nope"}, "has no column nope"),
        ({"where": "nope = 1"}, "does not take the condition"),
        ({"where": "true; delete from askwealth.message"}, "does not take the condition"),
        (
            {"where": "true) to stdout; delete from askwealth.message; copy (select 1 where (true"},
            "does not take",
        ),
        ({"equals": {"thread_id": "abc"}}, "does not take the condition"),
    ],
)
def test_a_scope_that_makes_no_sense_is_refused_before_anything_is_written(
    pair: Pair, what: dict[str, Any], said: str
) -> None:
    pair.add_messages("source", 10)
    with pytest.raises(PlanError) as caught:
        pulled(pair, **what)
    assert said in caught.value.message
    assert caught.value.hint
    assert pair.target(f"select count(*) from {TABLE}") == [(0,)]
    assert pair.source(f"select count(*) from {TABLE}") == [(10,)]


def test_words_that_make_no_sense_are_usage_errors(pair: Pair) -> None:
    for what in ({"batch_size": 0}, {"max_errors": "many"}, {"timezone": "Mars"}, {"since": "soon"}):
        with pytest.raises(UsageError):
            pulled(pair, **what)
    for odd in ({"where": " "}, {"window": "created_at"}, {"equals": {"role": None}}):
        with pytest.raises(UsageError):
            pulled(pair, **odd)
    with pytest.raises(UsageError, match="skip or update"):
        pulled(pair, on_conflict="replace")


def test_sqlalchemy_urls_are_taken(pair: Pair) -> None:
    pair.add_messages("source", 3)
    urls = [sqlalchemy.make_url(url) for url in (pair.source_url, pair.target_url)]
    assert pull(TABLE, source=urls[0], target=urls[1]).tally.inserted == 3


@pytest.mark.parametrize("source_version", VERSIONS)
@pytest.mark.parametrize("target_version", VERSIONS)
def test_older_and_newer_servers_pull_from_each_other(
    make_pair: MakePair, source_version: int, target_version: int
) -> None:
    pair = make_pair(source_version, target_version)
    pair.add_messages("source", 500)
    assert counts(pulled(pair)) == (500, 0, 0, 0)
    pair.target(f"update {TABLE} set role = '' where created_at < '2025-01-10'")
    pulled(pair, on_conflict="update")
    assert pair.same(TABLE)


def test_no_transaction_of_the_source_ever_writes(pair: Pair) -> None:
    pair.add_messages("source", 100)
    xid = pair.source("select pg_snapshot_xmax(pg_current_snapshot())")
    pulled(pair, on_conflict="update")
    assert pair.source("select pg_snapshot_xmax(pg_current_snapshot())") == xid


def test_a_pull_is_of_one_instant_of_the_source(pair: Pair) -> None:
    pair.add_messages("source", 1_000)

    class Writer(Listener):
        def planned(self, *_: Any) -> None:
            pair.source(f"delete from {TABLE}")
            pair.add_messages("source", 5, seed="late")

    assert counts(pulled(pair, listener=Writer(), batch_size=100)) == (1_000, 0, 0, 0)


# --- shapes ----------------------------------------------------------------------------------------------


def test_columns_go_by_name_whatever_their_order(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int primary key, a text, b int)",
        target_schema="create table t (b int, gone text, a text, id int primary key); alter table t drop gone",
    )
    pair.source("insert into t values (1, 'one', 11)")
    assert pulled(pair, "t").plan.wire == "binary"
    assert pair.target("select id, a, b from t") == [(1, "one", 11)]


def test_what_differs_harmlessly_is_noted(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int primary key, v varchar(20), w int, theirs inet)",
        target_schema="create table t (id bigint primary key, v text, w int not null, ours int default 7,"
        " c int generated always as (w * 2) stored)",
    )
    pair.source("insert into t values (1, 'x', 2, '::1')")
    report = pulled(pair, "t")
    notes = "\n".join(report.plan.notes)
    for piece in ('"theirs" inet;', "ours", "id is integer", "v is character varying(20)", "w may be NULL"):
        assert piece in notes
    assert report.plan.wire == "text"
    assert pair.target("select * from t") == [(1, "x", 2, 7, 4)]


@pytest.mark.parametrize(
    ("theirs", "ours", "said", "statement"),
    [
        ("id int primary key", None, "no table public.t", 'CREATE TABLE "public"."t" ("id" integer NOT NULL'),
        ("id int primary key, v jsonb", "id int primary key, v int", "public.t.v is jsonb", "TYPE jsonb USING"),
        (
            "id int primary key",
            "id int primary key, w int not null",
            "NOT NULL",
            'ALTER COLUMN "w" DROP NOT NULL',
        ),
        ("id int primary key", "id int", "lacks the server's key", 'ADD PRIMARY KEY ("id")'),
        ("a int primary key", "b int primary key", "share no column", 'ADD COLUMN "a" integer'),
    ],
)
def test_what_differs_fatally_is_refused_with_the_statement_that_helps(
    make_pair: MakePair, theirs: str, ours: str | None, said: str, statement: str
) -> None:
    target = f"create table t ({ours})" if ours else "select"
    pair = make_pair(schema=f"create table t ({theirs})", target_schema=target)
    with pytest.raises(PlanError) as caught:
        pulled(pair, "t")
    assert said in caught.value.message
    assert statement in caught.value.hint


def test_the_statement_in_a_hint_really_helps(make_pair: MakePair) -> None:
    schema = (
        'create schema s; create table s."T" (id uuid, "a b" numeric(5,2), e text[], primary key (id, "a b"))'
    )
    pair = make_pair(schema=schema, target_schema="select")
    pair.source("insert into s.\"T\" values (gen_random_uuid(), 1.5, '{a,NULL}')")
    with pytest.raises(PlanError) as caught:
        pulled(pair, "s.T")
    statement = caught.value.hint.partition("run on local: ")[2]
    pair.target(*filter(str.strip, statement.split(";")))
    assert counts(pulled(pair, "s.T")) == (1, 0, 0, 0)
    assert pair.same('s."T"')


def test_a_missing_table_or_schema_says_what_there_is(pair: Pair) -> None:
    with pytest.raises(PlanError) as caught:
        pulled(pair, "askwealth.mesage")
    assert caught.value.hint == "did you mean: askwealth.message"
    with pytest.raises(PlanError) as caught:
        pulled(pair, "askwelth.message")
    assert "askwealth" in caught.value.hint
    pair.source("create view askwealth.recent as select * from askwealth.message")
    with pytest.raises(PlanError, match="is a view"):
        pulled(pair, "askwealth.recent")


def test_composite_keys_and_odd_names_are_no_trouble(make_pair: MakePair) -> None:
    schema = """create schema "Odd ""%s"; create table "Odd ""%s"."select" (
        "a ""b" int, "%" text, "order" text, "é\n" int, primary key ("%", "a ""b"))"""
    pair = make_pair(schema=schema)
    name = '"Odd ""%s"."select"'
    pair.source(f"insert into {name} values (1, 'x', 'o', 1), (2, 'x', null, 2), (1, 'y', '', 3)")
    assert counts(pulled(pair, name)) == (3, 0, 0, 0)
    pair.target(
        f'delete from {name} where "é\n" = 2', f'update {name} set "order" = \'changed\' where "é\n" = 3'
    )
    assert counts(pulled(pair, name, on_conflict="update")) == (1, 1, 1, 0)
    assert pair.same(name)


def test_identity_and_serial_columns_keep_their_values_and_their_sequences_move_up(make_pair: MakePair) -> None:
    schema = """create table t (id int generated always as identity primary key, s serial, d bigint
        generated by default as identity, down int)"""
    pair = make_pair(schema=schema)
    pair.source("insert into t (id, s, d) overriding system value values (7, 8, 9), (70, 80, 90)")
    pair.target("insert into t (id, s, d) overriding system value values (500, 1, 1)")
    pulled(pair, "t")
    pair.target("insert into t default values")
    assert pair.target("select id, s, d from t order by s desc limit 1") == [(501, 81, 91)]
    pulled(pair, "t")
    assert pair.target("select max(s) from t") == [(81,)]


def test_sequences_are_never_moved_down(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id serial primary key)")
    pair.source("insert into t select from generate_series(1, 3)")
    pair.target("select setval('t_id_seq', 100)")
    pulled(pair, "t")
    assert pair.target("select nextval('t_id_seq')") == [(101,)]


def test_generated_columns_are_computed_locally(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int primary key, twice int generated always as (id * 2) stored)"
    )
    pair.source("insert into t values (1), (2)")
    pulled(pair, "t")
    assert pair.same("t")


def test_partitioned_tables_are_pulled_by_their_root(make_pair: MakePair) -> None:
    schema = """create table t (id int, at date, v text, primary key (id, at)) partition by range (at);
        create table t1 partition of t for values from ('2025-01-01') to ('2025-02-01');
        create table t2 partition of t for values from ('2025-02-01') to ('2025-03-01');"""
    pair = make_pair(schema=schema)
    pair.source("insert into t select g, date '2025-01-01' + g, g from generate_series(0, 50) g")
    assert counts(pulled(pair, "t")) == (51, 0, 0, 0)
    pair.target("delete from t where id < 10", "update t set v = 'x' where id > 45")
    assert counts(pulled(pair, "t", on_conflict="update")) == (10, 5, 36, 0)
    assert pair.same("t")


TRIGGERS = """
    create function bump() returns trigger language plpgsql as
        $$ begin new.v := 'fired'; return new; end $$;
    create trigger origin before insert or update on t for each row execute function bump();
    create trigger always before insert or update on t for each row execute function bump();
    create trigger off before insert or update on t for each row execute function bump();
    create trigger replica before insert or update on t for each row execute function bump();
    alter table t enable always trigger always;
    alter table t disable trigger off;
    alter table t enable replica trigger replica;
"""


def test_user_triggers_do_not_fire_and_stand_afterwards_as_they_stood(make_pair: MakePair) -> None:
    table = "create table t (id int primary key, v text);"
    pair = make_pair(schema=table, target_schema=f"{table} insert into t values (1, 'old'); {TRIGGERS}")
    pair.source("insert into t select g, 'v' || g from generate_series(1, 5) g")
    states = "select tgname, tgenabled from pg_trigger where tgrelid = 't'::regclass order by 1"
    before = pair.target(states)
    report = pulled(pair, "t", on_conflict="update")
    assert counts(report) == (4, 1, 0, 0)
    assert pair.same("t")
    assert any("do not fire" in note for note in report.plan.notes)
    assert pair.target(states) == before


PARTED = """
    create table t (id int primary key, v text) partition by range (id);
    create table t1 partition of t for values from (0) to (100) partition by range (id);
    create table t11 partition of t1 for values from (0) to (100);
    create table t2 partition of t for values from (100) to (200);
"""


@pytest.mark.parametrize(
    "states",
    [
        "select",
        "alter table t2 disable trigger a",
        "alter table t11 enable always trigger a",
        "alter table only t disable trigger a; alter table t11 disable trigger b",
        "alter table t disable trigger a; alter table t11 enable replica trigger b",
    ],
)
def test_triggers_of_partitions_do_not_fire_and_stand_afterwards_as_they_stood(
    make_pair: MakePair, states: str
) -> None:
    triggers = """
        create function fired() returns trigger language plpgsql as $$ begin raise 'fired'; end $$;
        create trigger a before insert or update on t for each row execute function fired();
        create trigger b after insert on t1 for each row execute function fired();
    """
    pair = make_pair(schema=PARTED, target_schema=PARTED + triggers + states)
    pair.source("insert into t values (1, 'a'), (101, 'b')")
    asked = """select tgname::text, tgrelid::regclass::text, tgenabled::text from pg_trigger
        where not tgisinternal order by 1, 2"""
    before = pair.target(asked)
    assert counts(pulled(pair, "t")) == (2, 0, 0, 0)
    assert pair.target(asked) == before


def test_triggers_and_deferred_foreign_keys_go_together(make_pair: MakePair) -> None:
    schema = """create table p (id int primary key);
        create table t (id int primary key, p int references p deferrable initially deferred);
        create function bump() returns trigger language plpgsql as $$ begin raise 'fired'; end $$;
        create trigger a before insert on t for each row execute function bump();"""
    pair = make_pair(schema="create table t (id int primary key, p int)", target_schema=schema)
    pair.target("insert into p values (1)")
    pair.source("insert into t values (1, 1), (2, 1), (3, 2)")
    assert counts(pulled(pair, "t")) == (2, 0, 0, 1)


def test_rows_of_tables_that_inherit_are_not_the_tables_own(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key); create table c (x int) inherits (t)")
    pair.source("insert into t values (1)", "insert into c values (2)")
    report = pulled(pair, "t")
    assert counts(report) == (1, 0, 0, 0)
    assert any("inherit" in note for note in report.plan.notes)


def test_the_run_stops_once_more_rows_fail_than_allowed(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int primary key)",
        target_schema="create table t (id int primary key check (id % 10 > 0))",
    )
    pair.source("insert into t select generate_series(1, 1000)")
    with pytest.raises(TooManyRejects) as caught:
        pulled(pair, "t", batch_size=100, max_errors=15)
    assert "16 of 160 rows were refused" in caught.value.message
    assert caught.value.exit_code == 4
    assert pair.target("select count(*) from t") == [(144,)]
    assert counts(pulled(pair, "t", batch_size=100, max_errors="10%")) == (756, 0, 144, 100)
