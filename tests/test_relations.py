"""Rows that come along: what pulled rows refer to, and what refers to them."""

from __future__ import annotations

import pytest

from pgpull import PlanError, pull_tables
from pgpull.results import Summary
from tests.conftest import MakePair
from tests.support import Pair

SCHEMA = """
create table team (id int primary key, lead int);
create table person (id int primary key, team_id int not null references team, boss int references person,
                     email text unique not null);
alter table team add foreign key (lead) references person deferrable initially immediate;
create table thread (id int primary key, tenant int not null, owner text references person (email),
                     unique (tenant, id));
create table message (id int primary key, tenant int, thread_id int, author int references person,
                      reply_to int references message, said text,
                      foreign key (tenant, thread_id) references thread (tenant, id));
create table vote (message_id int references message, person_id int references person, up bool,
                   primary key (message_id, person_id));
create table badge (id int generated always as identity primary key, message_id int, person_id int,
                    foreign key (message_id, person_id) references vote);
"""

ROWS = """
begin;
set constraints all deferred;
insert into team values (1, 11), (2, 21), (3, null);
insert into person values (11, 1, null, 'a'), (12, 1, 11, 'b'), (13, 1, 12, 'c'), (21, 2, null, 'd'),
                          (31, 3, null, 'e');
insert into thread values (100, 7, 'c'), (200, 7, 'd'), (300, 8, null);
insert into message values (1, 7, 100, 13, null, 'one'), (2, 7, 100, 12, 1, 'two'), (3, 7, 200, 21, 2, 'three'),
                           (4, 8, 300, null, null, 'four'), (5, null, null, 31, 4, 'five'),
                           (6, 7, 100, 13, 5, 'six');
insert into vote values (1, 12, true), (1, 21, false), (4, 31, true);
insert into badge (message_id, person_id) values (1, 21), (4, 31), (1, 12);
commit;
"""


@pytest.fixture
def threads(make_pair: MakePair) -> Pair:
    pair = make_pair(schema=SCHEMA)
    pair.source(ROWS)
    return pair


def pulled(pair: Pair, *tables: str, **words: object) -> Summary:
    return pull_tables(*tables, source=pair.source_url, target=pair.target_url, **words)  # type: ignore[arg-type]


def ids(pair: Pair, table: str, column: str = "id") -> list[int]:
    return [row[0] for row in pair.target(f"select {column} from {table} order by 1")]


def test_parents_come_along_through_every_foreign_key(threads: Pair) -> None:
    summary = pulled(threads, "message", equals={"thread_id": 100}, with_parents=True)
    assert not summary.failures
    assert summary.tally.failed == 0
    assert ids(threads, "message") == [1, 2, 4, 5, 6]
    assert ids(threads, "thread") == [100, 300]
    assert ids(threads, "person") == [11, 12, 13, 31]
    assert ids(threads, "team") == [1, 3]


def test_only_parents_that_local_lacks_are_fetched(threads: Pair) -> None:
    pulled(threads, "message", equals={"thread_id": 100}, with_parents=True)
    again = pulled(threads, "message", equals={"thread_id": 100}, with_parents=True)
    assert not again.written
    assert again.tally.fetched == 3


def test_the_report_says_along_which_key_rows_came(threads: Pair) -> None:
    summary = pulled(threads, "message", equals={"thread_id": 100}, with_parents=True)
    why = {report.plan.table.name: report.plan.why for report in summary.reports}
    assert "message (tenant, thread_id) -> thread" in why["thread"]
    assert "message.reply_to -> message" in why["message"]
    assert "thread.owner -> person" in why["person"] or "message.author -> person" in why["person"]


def test_children_come_along_where_they_are_named(threads: Pair) -> None:
    summary = pulled(threads, "message", equals={"id": 1}, with_parents=True, with_children=["vote", "badge"])
    assert not summary.failures
    assert threads.target("select message_id, person_id from vote order by 1, 2") == [(1, 12), (1, 21)]
    assert threads.target("select message_id, person_id from badge order by 1, 2") == [(1, 12), (1, 21)]
    assert ids(threads, "person") == [11, 12, 13, 21]


def test_a_table_that_refers_to_itself_can_be_followed_downwards(threads: Pair) -> None:
    pulled(threads, "message", equals={"id": 4}, with_parents=True, with_children=["message"])
    assert ids(threads, "message") == [4, 5, 6]


def test_children_of_parents_do_not_come(threads: Pair) -> None:
    pulled(threads, "vote", equals={"message_id": 1}, with_parents=True, with_children=["badge"])
    assert ids(threads, "message") == [1]
    assert threads.target("select message_id from badge order by 1") == [(1,), (1,)]


def test_an_update_brings_children_up_to_date(threads: Pair) -> None:
    words = {"equals": {"id": 1}, "with_parents": True, "with_children": ["vote"]}
    pulled(threads, "message", **words)
    threads.source("update vote set up = not up")
    summary = pulled(threads, "message", on_conflict="update", **words)
    assert summary.tally.updated == 2
    assert threads.target("select up from vote order by person_id") == [(False,), (True,)]


def test_a_table_that_refers_to_nothing_pulled_is_no_child(threads: Pair) -> None:
    with pytest.raises(PlanError, match=r"no row of public\.team refers to what is pulled"):
        pulled(threads, "vote", with_children=["team"])
    assert ids(threads, "vote", "message_id") == []


def test_the_source_is_only_read(threads: Pair) -> None:
    before = threads.source_server.wal_position()
    pulled(threads, "message", equals={"thread_id": 100}, with_parents=True, with_children=["vote"])
    assert threads.source_server.wal_position() == before


def test_parents_come_along_into_a_table_with_triggers_while_others_are_replaced(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="""create table customer (id int primary key, name text);
        create table orders (id int primary key, customer int references customer);
        create table invoice (id int primary key, customer int references customer)"""
    )
    pair.source("insert into customer select n, 'c' from generate_series(1, 30) n")
    pair.source("insert into orders select n, n from generate_series(1, 20) n")
    pair.source("insert into invoice select n, n from generate_series(11, 30) n")
    pair.target(
        "create function now_and_then() returns trigger language plpgsql as $$ begin raise 'fired'; end $$",
        "insert into customer values (1, 'mine')",
        "create trigger t before insert or update on customer for each row execute function now_and_then()",
    )
    summary = pulled(pair, "orders", "invoice", replace=True, with_parents=True, batch_size=5)
    assert summary.failures == ()
    assert pair.same("orders")
    assert pair.same("invoice")
    assert pair.target("select count(*), count(*) filter (where name = 'mine') from customer") == [(30, 1)]
