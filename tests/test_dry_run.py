"""A dry run tells what a pull would do, and does none of it."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from pgpull import Forecast, PlanError, Report, Tally, forecast, forecast_tables, pull, pull_tables
from tests.conftest import MakePair
from tests.support import Pair
from tests.test_cli import PGPULL, SCRIPT, call, on

TABLE = "askwealth.message"


def foretold(pair: Pair, table: str = TABLE, **words: Any) -> Forecast:
    return forecast(table, source=pair.source_url, target=pair.target_url, **words)


def pulled(pair: Pair, table: str = TABLE, **words: Any) -> Report:
    return pull(table, source=pair.source_url, target=pair.target_url, retries=0, **words)


def comes_true(pair: Pair, table: str = TABLE, **words: Any) -> tuple[int, int, int, int]:
    """Foretell, pull, and return the tally that both must have: inserted, updated, skipped, failed."""
    before = pair.images("target", table)
    told = foretold(pair, table, **words)
    assert pair.images("target", table) == before
    report = pulled(pair, table, **words)
    assert told.tally == report.tally
    assert (told.deleted, told.kept) == (report.deleted, report.kept)
    tally = report.tally
    return tally.inserted, tally.updated, tally.skipped, tally.failed


def test_a_first_load_is_foretold(pair: Pair) -> None:
    pair.add_messages("source", 100)
    assert comes_true(pair) == (100, 0, 0, 0)
    assert comes_true(pair) == (0, 0, 100, 0)


@pytest.mark.parametrize("on_conflict", ["skip", "update"])
def test_a_mixed_pull_is_foretold(pair: Pair, on_conflict: str) -> None:
    pair.add_messages("source", 300)
    pair.add_messages("target", 200, seed="")
    pair.add_messages("target", 20, seed="mine")
    pair.target(f"update {TABLE} set role = 'x', parts = '[]' where created_at < '2025-01-02'")
    pair.target(f"update {TABLE} set annotations = '{{}}' where created_at < '2025-01-01 06:00'")
    expected = (100, 24, 176, 0) if on_conflict == "update" else (100, 0, 200, 0)
    told = foretold(pair, on_conflict=on_conflict, mirror=True)
    assert told.deleted == 20
    if on_conflict == "update":
        assert told.differing == (("parts", 24), ("role", 24), ("annotations", 6))
    assert told.estimate.rows == expected[0] + expected[1]
    assert comes_true(pair, on_conflict=on_conflict, mirror=True) == expected


RULES = """
    create table parent (id int primary key);
    insert into parent select generate_series(1, 50);
    create domain small as int check (value < 100);
    create table t (
        id int primary key,
        email text unique,
        lower_me text,
        parent int references parent,
        up int references t deferrable,
        n int check (n <> 13),
        s small,
        must text not null,
        part text,
        twice int generated always as (100 / nullif(n, 0)) stored
    );
    create unique index on t (lower(lower_me));
    create unique index t_part on t (part) where n > 50;
"""
PLAIN = """
    create table t (id int primary key, email text, lower_me text, parent int, up int, n int, s int, must text,
                    part text)
"""


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("on_conflict", ["skip", "update"])
def test_whatever_can_refuse_a_row_is_foretold(make_pair: MakePair, seed: int, on_conflict: str) -> None:
    pair = make_pair(schema=PLAIN, target_schema=RULES)
    dice = random.Random(seed)
    columns = "(id, email, lower_me, parent, up, n, s, must, part)"

    def row(number: int) -> str:
        email = f"'{number}@x'" if dice.random() > 0.1 else "'same@x'"
        lower = f"'N{number}'" if dice.random() > 0.05 else "'Dup'"
        parent = dice.choice(["null", str(dice.randint(1, 55))])
        n = dice.choice([1, 2, 60, 70, 13 if dice.random() < 0.3 else 3])
        s = 500 if dice.random() < 0.05 else 5
        must = "null" if dice.random() < 0.05 else "'m'"
        part = f"'p{dice.randint(1, 400)}'"
        return f"({number}, {email}, {lower}, {parent}, null, {n}, {s}, {must}, {part})"

    pair.source(f"insert into t {columns} values " + ", ".join(map(row, range(1, 200))))
    pair.target(
        f"insert into t {columns} select number, number || '@old', 'old' || number, null, null, 1, 1, 'm', null"
        " from generate_series(5, 60) number"
    )
    inserted, updated, skipped, failed = comes_true(pair, "t", on_conflict=on_conflict, batch_size=1000)
    assert failed > 0
    assert inserted > 0
    assert inserted + updated + skipped + failed == 199


def test_refusals_are_named(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table p (id int primary key); create table t (id int primary key, e text, p int)",
        target_schema="create table p (id int primary key);"
        " create table t (id int primary key, e text unique, p int references p)",
    )
    pair.target("insert into t values (1, 'a', null)")
    pair.source("insert into t values (2, 'a', null), (3, 'b', 7), (4, 'c', null)")
    told = foretold(pair, "t")
    reasons = {refusal.reason: refusal.rows for refusal in told.refusals}
    assert reasons == {"23505 unique_violation on t_e_key": 1, "23503 foreign_key_violation on t_p_fkey": 1}
    assert comes_true(pair, "t") == (1, 0, 0, 2)


def test_only_what_could_be_refused_for_travels(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int primary key, e int, big text); create table p (id int primary key)",
        target_schema="create table p (id int primary key);"
        " create table t (id int primary key, e int references p, big text)",
    )
    pair.source("insert into t select g, null, repeat('x', 10000) from generate_series(1, 100) g")
    assert foretold(pair, "t").bytes < 10_000
    assert comes_true(pair, "t") == (100, 0, 0, 0)


def test_rows_that_belong_into_no_partition_are_foretold(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int, at date, primary key (id, at))",
        target_schema="""create table t (id int, at date, primary key (id, at)) partition by range (at);
            create table t1 partition of t for values from ('2025-01-01') to ('2025-02-01');
            create table t2 partition of t for values from ('2025-02-01') to ('2025-03-01')""",
    )
    pair.source("insert into t select g, date '2025-01-01' + g from generate_series(0, 99) g")
    assert comes_true(pair, "t") == (59, 0, 0, 41)


def test_a_replacement_is_foretold(pair: Pair) -> None:
    pair.add_messages("source", 100)
    pair.add_messages("target", 30, seed="mine")
    pair.add_messages("target", 10, seed="old", start="2020-01-01")
    told = foretold(pair, replace=True, since="2025-01-01")
    assert (told.deleted, told.tally.inserted) == (30, 100)
    assert comes_true(pair, replace=True, since="2025-01-01") == (100, 0, 0, 0)


def test_rows_that_are_here_outside_of_the_scope_are_foretold(pair: Pair) -> None:
    pair.add_messages("source", 50)
    pair.add_messages("target", 20, start="2020-01-01")
    assert comes_true(pair, since="2025-01-01") == (30, 0, 20, 0)


def test_a_mirror_that_would_delete_too_much_is_refused_in_the_dry_run_too(pair: Pair) -> None:
    pair.add_messages("source", 10)
    pair.add_messages("target", 10, seed="mine")
    with pytest.raises(PlanError, match="10 of 10 local rows"):
        foretold(pair, mirror=True)


def test_nothing_at_all_is_written(pair: Pair) -> None:
    pair.add_messages("source", 2_000, step="1 minute")
    pair.add_messages("target", 500, step="1 minute")
    pair.target("checkpoint")
    statistics = f"select pg_relation_size('{TABLE}'), (select max(xmin::text) from {TABLE})"
    before = pair.target(statistics), pair.target("select count(*) from pg_namespace where nspname = 'pgpull'")
    foretold(pair, on_conflict="update")
    assert (
        pair.target(statistics),
        pair.target("select count(*) from pg_namespace where nspname = 'pgpull'"),
    ) == before


def test_the_page_shows_what_would_be_done_and_some_rows(pair: Pair) -> None:
    pair.add_messages("source", 100)
    done = call(
        SCRIPT, "--dry-run", "--show", "2", "--log-file", "log", "--from-date", "2025-01-02", **on(pair)
    )
    assert done.returncode == 0, done.stderr
    assert "nothing was written" in done.stdout
    assert "its tally: fetched 76 = inserted 76" in done.stdout
    assert done.stdout.count("message_id=") == 2
    assert "message_id=" not in Path("log").read_text()
    assert pair.target(f"select count(*) from {TABLE}") == [(0,)]
    done = call(PGPULL, "pull", TABLE, "--dry-run", "--json", "--show", "0", **on(pair))
    told = json.loads(done.stdout)
    assert told["tally"]["inserted"] == 100
    assert told["examples"] == []


def test_the_server_is_asked_how_it_would_find_the_scope(pair: Pair) -> None:
    pair.add_messages("source", 5_000, step="1 minute")
    pair.source("analyze askwealth.message")
    assert (
        foretold(pair, since="2025-01-01", until="2025-01-01T01:00").plan.access
        == "index message_created_at_idx"
    )
    assert foretold(pair).plan.access == "sequential scan"


def test_keys_that_are_none_here_are_foretold(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id text primary key, v int)",
        target_schema="create table t (id int primary key, v int); insert into t values (1, 1)",
    )
    pair.source("insert into t values ('1', 2), ('2', 2), ('three', 3)")
    assert comes_true(pair, "t", on_conflict="update") == (1, 1, 0, 1)
    assert comes_true(pair, "t") == (0, 0, 2, 1)


def test_local_may_have_a_primary_key_of_its_own(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (code text primary key, email text unique)",
        target_schema="create table t (id serial primary key, code text not null unique, email text unique)",
    )
    pair.source("insert into t select 'c' || n, 'e' || n from generate_series(1, 20) n")
    assert foretold(pair, "t").tally == pulled(pair, "t").tally == Tally(20, inserted=20)


def test_a_mirror_of_several_tables_is_foretold(make_pair: MakePair) -> None:
    schema = """create table p (id int primary key); create table c (id int primary key, p int references p);
        create table elsewhere (p int references p)"""
    pair = make_pair(schema=schema)
    pair.source("insert into p values (1)", "insert into c values (1, 1)")
    pair.target(
        "insert into p select generate_series(1, 9)", "insert into c select n, n from generate_series(1, 7) n"
    )
    pair.target("insert into elsewhere values (9)")
    words: dict[str, Any] = {"source": pair.source_url, "target": pair.target_url, "mirror": True}
    words |= {"max_delete": "100%"}
    told = {f.plan.table: (f.deleted, f.kept) for f in forecast_tables("p", "c", **words).forecasts}
    done = {r.plan.table: (r.deleted, r.kept) for r in pull_tables("p", "c", **words).reports}
    assert told == done
    assert sorted(done.values()) == [(6, 0), (7, 1)]


@pytest.mark.parametrize("words", [["--max-rate", "nonsense"], ["--pause-when", "often"], ["--no-snapshot"]])
def test_how_the_server_is_treated_holds_for_a_dry_run_too(pair: Pair, words: list[str]) -> None:
    done = call(PGPULL, "pull", TABLE, "--dry-run", *words, **on(pair))
    assert (done.returncode, "hint:" in done.stderr) == (2, True)


def test_a_dry_run_reads_no_faster_than_allowed(pair: Pair) -> None:
    pair.add_messages("source", 300)
    pair.add_messages("target", 300)
    pair.target(f"update {TABLE} set role = 'x'")
    started = time.monotonic()
    done = call(
        PGPULL, "pull", TABLE, "--dry-run", "--on-conflict", "update", "--max-rate", "300rows/s", **on(pair)
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started > 0.9
