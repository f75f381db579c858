"""Tables that local lacks are made as they are on the server, all or none, and nothing that is here is touched."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import psutil
import psycopg
import pytest

from pgpull import programs
from pgpull.creating import Made, create_missing
from pgpull.endpoints import parse_url
from pgpull.errors import PlanError
from pgpull.sessions import open_source, open_target
from pgpull.shapes import TableName
from tests.conftest import MakePair
from tests.support import Pair, Server, available_versions

# What databases have, in the oddest spelling that they may have it in.
HARD = r"""
create schema "Sp aC";
create schema away;
create type "Sp aC".mood as enum ('so "so"', 'it''s ok');
create type away.span as range (subtype = integer);
create type away.pair as (x integer, m "Sp aC".mood);
create domain away.short as text check (length(value) < 10) not null;
create domain away.shorter as away.short default 'x';
create collation away.plain (locale = 'C');
create function away.twice(n integer) returns integer language sql immutable as 'select n * 2';
create function away.next() returns text language plpgsql as $$ begin return 'new' || away.twice(1); end $$;
create sequence away.numbers increment 5;

create table away.base (made_at timestamptz not null default now());
create table "Sp aC"."T|(b).*?$^+ "" 'x' é" (
    id bigint generated always as identity (start 7 increment 3),
    number integer default nextval('away.numbers'),
    serial serial,
    mood "Sp aC".mood default 'it''s ok',
    moods "Sp aC".mood[],
    span away.span,
    spans away.span[],
    pair away.pair,
    short away.shorter,
    note text collate away.plain default away.next(),
    doubled integer generated always as (away.twice(number)) stored,
    primary key (id),
    constraint "odd check" check (away.twice(number) <> 3),
    unique (number, serial) deferrable initially deferred,
    exclude using gist (span with &&)
) inherits (away.base);
create index on "Sp aC"."T|(b).*?$^+ "" 'x' é" (away.twice(number)) where mood is not null;
create table "Sp aC"."line
break" (id integer primary key, parent integer references "Sp aC"."line
break", other bigint references "Sp aC"."T|(b).*?$^+ "" 'x' é" on delete cascade);
create table away.nothing ();
create unlogged table away.fleeting (id integer);
create table away.event (id bigint, at date not null, kind "Sp aC".mood, primary key (id, at)) partition by range (at);
create table away.event_1 partition of away.event for values from ('2025-01-01') to ('2025-02-01');
create table away.event_2 partition of away.event for values from ('2025-02-01') to ('2025-03-01')
    partition by hash (id);
create table away.event_2_0 partition of away.event_2 for values with (modulus 1, remainder 0);
create table away.event_rest partition of away.event default;
create index on away.event (kind);
create table away.seen (id bigint, at date, foreign key (id, at) references away.event);
"""


def described(server: Server, database: str) -> list[str]:
    """Describe a database by the newest pg_dump, thing by thing; their order is no part of it."""
    newest = list(available_versions().values())[-1] / "pg_dump"
    words = [newest, "--schema-only", "--no-owner", "--no-comments", server.url(database)]
    said = subprocess.run(words, text=True, capture_output=True, check=True).stdout
    # only PostgreSQL 18 keeps the names of these; settings hold for what follows
    said = re.sub(r"CONSTRAINT \w+ NOT NULL", "NOT NULL", re.sub(r"^SET .*\n+", "", said, flags=re.MULTILINE))
    things = re.split(r"^--\n-- Name: ", said, flags=re.MULTILINE)[1:]
    return sorted(thing.partition("--\n-- PostgreSQL database dump complete")[0].strip() for thing in things)


def tables_of(pair: Pair) -> list[TableName]:
    rows = pair.source(
        "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema')"
        " and not c.relispartition"
    )
    return [TableName(*row) for row in rows]


def create(pair: Pair, *tables: str | TableName, source_url: str = "", target_url: str = "") -> Made:
    names = [TableName.parse(table) if isinstance(table, str) else table for table in tables]
    target = parse_url(target_url or pair.target_url, "target")
    with (
        open_source(parse_url(source_url or pair.source_url, "source")) as source,
        closing(open_target(target)) as local,
    ):
        return create_missing(source, local, names or tables_of(pair))


def versions() -> list[tuple[int, int]]:
    known = list(available_versions())
    return [(source, target) for source in known for target in known]


@pytest.mark.parametrize(("source", "target"), versions())
def test_an_empty_database_gets_all_tables_as_they_are_on_the_server(
    make_pair: MakePair, source: int, target: int
) -> None:
    pair = make_pair(source, target, HARD, "")
    made = create(pair)
    assert described(pair.target_server, pair.target_db) == described(pair.source_server, pair.source_db)
    assert not made.notes
    assert TableName("away", "event_2_0") in made.tables


def test_once_made_there_is_nothing_left_to_make(make_pair: MakePair) -> None:
    pair = make_pair(schema=HARD, target_schema="")
    assert create(pair).tables
    assert create(pair) == Made()
