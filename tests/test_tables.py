"""Many tables in one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pgpull import Outlook, PlanError, Summary, forecast_tables, pull_tables
from pgpull.listening import Listener
from pgpull.plans import Plan
from pgpull.results import Failure, Tally
from pgpull.sessions import Session
from tests.conftest import MakePair
from tests.support import Pair
from tests.test_cli import PGPULL, call, on

SCHEMA = """
create schema s;
create table s.author (id int primary key, name text);
create table s.book (id int primary key, author_id int references s.author, at date default '2025-01-01');
create table s.loan (id int primary key, book_id int references s.book, at date default '2025-01-01');
create table s.note (id int primary key);
create table s."odd*" (id int primary key);
create table s.part (id int primary key) partition by range (id);
create table s.part_1 partition of s.part for values from (0) to (10);
create table s.part_2 partition of s.part for values from (10) to (20);
"""

ROWS = """
insert into s.author select n, 'a' || n from generate_series(1, 5) n;
insert into s.book select n, 1 + n % 5 from generate_series(1, 20) n;
insert into s.loan select n, 1 + n % 20 from generate_series(1, 40) n;
insert into s.note values (1); insert into s."odd*" values (1); insert into s.part values (1), (11);
"""


@pytest.fixture
def library(make_pair: MakePair) -> Pair:
    pair = make_pair(schema=SCHEMA)
    pair.source(ROWS)
    return pair


def pulled(pair: Pair, *tables: str, **words: Any) -> Summary:
    return pull_tables(*tables, source=pair.source_url, target=pair.target_url, **words)


def names(summary: Summary) -> list[str]:
    return [report.plan.table.name for report in summary.reports]


def test_parents_come_before_children_whatever_the_order_they_are_named_in(library: Pair) -> None:
    summary = pulled(library, "s.loan", "s.book", "s.author")
    assert names(summary) == ["author", "book", "loan"]
    assert summary.tally == Tally(65, inserted=65)


def test_a_pattern_means_all_tables_that_match_and_partitions_come_with_their_root(library: Pair) -> None:
    summary = pulled(library, "s.*", exclude=["s.n?te"])
    assert sorted(names(summary)) == ["author", "book", "loan", "odd*", "part"]
    assert library.same("s.part")


def test_a_partition_can_be_named_alone(library: Pair) -> None:
    assert names(pulled(library, "s.part_1")) == ["part_1"]
    assert library.target("select id from s.part") == [(1,)]


def test_in_quotes_a_star_is_a_star(library: Pair) -> None:
    assert names(pulled(library, 's."odd*"')) == ["odd*"]


def test_a_pattern_that_means_nothing_says_what_there_is(library: Pair) -> None:
    with pytest.raises(PlanError, match=r"no table of the server is meant by s\.auth_\*") as caught:
        pulled(library, "s.auth_*", "s.book")
    assert "s.author" in caught.value.hint


def test_all_tables_are_read_at_one_instant(library: Pair) -> None:
    class Writer(Listener):
        def planned(self, plan: Plan, source: Session, target: Session) -> None:
            if plan.table.name == "author":
                library.source("insert into s.author values (6, 'f'); insert into s.book values (21, 6)")

    summary = pulled(library, "s.*", way={"listener": Writer()})
    assert summary.tally.failed == 0
    assert library.target("select count(*) from s.book") == [(20,)]


def test_a_table_that_fails_does_not_hide_the_others_and_what_refers_to_it_is_named(
    library: Pair,
) -> None:
    library.target("alter table s.book add must text not null")
    summary = pulled(library, "s.*")
    failures = {failure.table.name: failure for failure in summary.failures}
    assert failures.keys() == {"book", "loan"}
    assert "NOT NULL without a default" in failures["book"].error.message
    assert "s.book" in failures["loan"].error.message
    assert sorted(names(summary)) == ["author", "note", "odd*", "part"]
    assert summary.exit_code == 4


def test_a_table_that_may_not_be_read_fails_alone(library: Pair) -> None:
    server = library.source_server
    server.sql("postgres", "drop role if exists narrow_reader", "create role narrow_reader login")
    library.source(
        "grant usage on schema s to narrow_reader",
        "grant select on all tables in schema s to narrow_reader",
        "revoke all on s.note from narrow_reader",
    )
    summary = pull_tables("s.*", source=library.url("source", user="narrow_reader"), target=library.target_url)
    assert [failure.table.name for failure in summary.failures] == ["note"]
    assert library.same("s.loan")


def test_where_every_table_fails_nothing_was_written_and_the_exit_code_says_so(library: Pair) -> None:
    library.target("drop table s.note")
    summary = pulled(library, "s.note", "s.nowhere")
    assert [failure.table.name for failure in summary.failures] == ["note", "nowhere"]
    assert summary.exit_code == 3


def test_a_table_that_stops_in_the_middle_leaves_the_others_to_come(library: Pair) -> None:
    library.source("insert into s.author select n, repeat('x', 900) from generate_series(10, 20000) n")
    library.target("alter table s.author add check (id < 10)")
    heard: list[Failure] = []

    class Ear(Listener):
        def failed_at(self, failure: Failure) -> None:
            heard.append(failure)

    summary = pulled(library, "s.*", max_errors=3, batch_size=10, way={"listener": Ear()})
    assert [failure.table.name for failure in summary.failures] == ["author", "book", "loan"]
    assert "more than 3 allowed" in heard[0].error.message
    assert sorted(names(summary)) == ["note", "odd*", "part"]
    assert library.same("s.part")


def test_refused_rows_of_all_tables_are_in_one_file(library: Pair, tmp_path: Path) -> None:
    library.target("alter table s.author add check (id <> 3)", "alter table s.note add check (id <> 1)")
    file = tmp_path / "rejects.jsonl"
    summary = pulled(library, "s.*", way={"rejects": file})
    refused = [json.loads(line)["table"] for line in file.read_text().splitlines()]
    assert set(refused) == {"s.author", "s.note", "s.book", "s.loan"}
    assert len(refused) == summary.tally.failed
    assert summary.exit_code == 4


def test_a_mirror_deletes_from_the_children_up(library: Pair) -> None:
    pulled(library, "s.*")
    library.source("delete from s.loan where book_id = 2; delete from s.book where id = 2")
    library.target("insert into s.author values (99, 'x'); insert into s.book values (99, 99)")
    summary = pulled(library, "s.*", mirror=True, max_delete="50%")
    assert {r.plan.table.name: r.deleted for r in summary.reports if r.deleted} == {
        "author": 1,
        "book": 2,
        "loan": 2,
    }
    assert all(library.same(f"s.{table}") for table in ("author", "book", "loan"))


def test_all_tables_are_replaced_together_or_not_at_all(library: Pair) -> None:
    pulled(library, "s.*")
    library.source("insert into s.note values (2)")
    assert pulled(library, "s.*", replace=True).tally.inserted == 70
    library.target("create table s.other (id int references s.note)", "insert into s.other values (1)")
    summary = pulled(library, "s.author", "s.note", replace=True)
    assert [failure.table.name for failure in summary.failures] == ["author", "note"]
    assert library.target("select count(*) from s.author") == [(5,)]


def test_a_window_that_a_table_has_no_column_for_fails_that_table(library: Pair) -> None:
    summary = pulled(library, "s.book", "s.note", "s.author", window="at", since="2024-01-01")
    assert sorted(failure.table.name for failure in summary.failures) == ["author", "book", "note"]
    assert "no column at" in summary.failures[0].error.message


def test_the_command_line_pulls_several_tables_and_says_what_became_of_each(library: Pair) -> None:
    done = call(PGPULL, "pull", "s.*", "--exclude", "s.note", **on(library))
    assert done.returncode == 0, done.stderr
    assert "s.book: fetched 20 = inserted 20" in done.stdout
    assert "5 tables: fetched 68" in done.stdout
    again = call(PGPULL, "pull", "s.book", "s.loan", "--json", **on(library))
    report = json.loads(again.stdout)
    assert [table["table"] for table in report["tables"]] == ["s.book", "s.loan"]
    assert report["tally"] == {"fetched": 60, "inserted": 0, "updated": 0, "skipped": 60, "failed": 0}
    library.target("drop table s.note")
    failed = call(PGPULL, "pull", "s.note", "s.loan", **on(library))
    assert failed.returncode == 3
    assert "failed: s.note: local" in failed.stderr
    assert "hint: " in failed.stderr


# --- dry run -----------------------------------------------------------------------------------------------


def foretold(pair: Pair, *tables: str, **words: Any) -> Outlook:
    return forecast_tables(*tables, source=pair.source_url, target=pair.target_url, **words)


def same_tallies(outlook: Outlook, summary: Summary) -> bool:
    assert outlook.failures == summary.failures == ()
    foreseen = {forecast.plan.table: forecast.tally for forecast in outlook.forecasts}
    assert foreseen == {report.plan.table: report.tally for report in summary.reports}
    return True


@pytest.mark.parametrize("on_conflict", ["skip", "update"])
def test_the_dry_run_of_many_tables_foresees_the_pull(library: Pair, on_conflict: str) -> None:
    library.target(
        "insert into s.author values (1, 'mine'); insert into s.book values (5, 1)",
        "alter table s.author add check (id <> 3)",
        "alter table s.book add check (id <> 7)",
    )
    outlook = foretold(library, "s.*", on_conflict=on_conflict)
    assert library.target("select count(*) from s.loan, s.note") == [(0,)]
    summary = pulled(library, "s.*", on_conflict=on_conflict)
    assert outlook.tally.failed > 2
    assert same_tallies(outlook, summary)


def test_the_dry_run_counts_rows_that_come_along(library: Pair) -> None:
    words = {"where": "id in (3, 4, 23)", "with_parents": True}
    outlook = foretold(library, "s.loan", **words)
    assert outlook.tally.fetched == 3 + 2 + 2
    assert same_tallies(outlook, pulled(library, "s.loan", **words))


def test_the_dry_run_names_tables_that_would_fail_and_those_that_refer_to_them(library: Pair) -> None:
    library.target("alter table s.book add must text not null")
    outlook = foretold(library, "s.*")
    assert [failure.table.name for failure in outlook.failures] == ["book", "loan"]
    assert outlook.exit_code == 3


def test_the_dry_run_of_a_replacement_counts_what_goes(library: Pair) -> None:
    pulled(library, "s.*")
    outlook = foretold(library, "s.*", replace=True)
    assert sum(forecast.deleted for forecast in outlook.forecasts) == 69
    assert same_tallies(outlook, pulled(library, "s.*", replace=True))


def test_the_command_line_shows_what_a_pull_of_many_tables_would_do(library: Pair) -> None:
    done = call(PGPULL, "pull", "s.*", "--dry-run", "--show", "2", **on(library))
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("--show has no effect here")
    assert "nothing was written" in done.stdout
    assert "s.book: fetched 20 = inserted 20" in done.stdout
    assert library.target("select count(*) from s.book") == [(0,)]
