"""Tables that local lacks are made as they are on the server, all or none; what is here stays as it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgpull import Listener, dumping, forecast, forecast_tables, programs, pull, pull_tables
from pgpull.creating import Made, create_missing
from pgpull.endpoints import parse_url
from pgpull.errors import PlanError
from pgpull.sessions import open_source, open_target
from pgpull.shapes import TableName
from tests.conftest import MakePair
from tests.support import Pair, Server, available_versions
from tests.support.servers import PASSWORD

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
create table away.event (id bigint, at date not null, kind "Sp aC".mood, primary key (id, at))
    partition by range (at);
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
    words = [
        str(newest),
        *"--schema-only --no-owner --no-comments --encoding=UTF8".split(),
        server.url(database),
    ]
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


# --- what is here stays as it is -------------------------------------------------------------------------


def test_what_is_here_is_used_and_stays_as_it_is(make_pair: MakePair) -> None:
    theirs = """
        create type mood as enum ('ok', 'new');
        create function f() returns integer language sql as 'select 1';
        create sequence numbers;
        create table parent (id integer primary key, mood mood, more text);
        create table child (id integer default nextval('numbers') primary key, mood mood,
                            f integer default f(), parent integer references parent);
    """
    ours = """
        create type mood as enum ('ok');
        create function f() returns integer language sql as 'select 2';
        create sequence numbers start 7;
        create table parent (id integer primary key);
    """
    pair = make_pair(schema=theirs, target_schema=ours)
    before = described(pair.target_server, pair.target_db)
    made = create(pair)
    after = described(pair.target_server, pair.target_db)
    assert made == Made((TableName("public", "child"),))
    assert set(before) < set(after)
    assert {thing.partition(";")[0] for thing in set(after) - set(before)} == {
        "child",
        "child child_pkey",
        "child child_parent_fkey",
    }
    assert pair.target("insert into child (parent) values (null) returning id, f") == [(7, 2)]


def test_a_foreign_key_whose_table_is_not_here_is_left_out_with_the_statement_that_adds_it(
    make_pair: MakePair,
) -> None:
    theirs = (
        "create table parent (id integer primary key);"
        "create table child (id integer primary key, parent integer references parent)"
    )
    pair = make_pair(schema=theirs, target_schema="")
    [note] = create(pair, "child").notes
    assert "foreign key child_parent_fkey of public.child, as local has no table public.parent" in note
    assert create(pair, "parent").notes == ()
    pair.target(note.partition("run on local: ")[2])
    assert described(pair.target_server, pair.target_db) == described(pair.source_server, pair.source_db)


def test_a_foreign_key_that_the_table_here_does_not_allow_is_left_out(make_pair: MakePair) -> None:
    theirs = (
        "create table parent (id integer primary key);"
        "create table child (id integer primary key, parent integer references parent)"
    )
    pair = make_pair(schema=theirs, target_schema="create table parent (id integer)")
    made = create(pair)
    assert made.tables == (TableName("public", "child"),)
    assert "no unique constraint matching given keys" in made.notes[0]


def test_a_partition_of_a_table_that_is_here_stands_alone(make_pair: MakePair) -> None:
    root = "create table root (id integer primary key) partition by list (id); create index named on root (id);"
    theirs = root + "create table part partition of root for values in (1)"
    pair = make_pair(schema=theirs, target_schema=root)
    [note] = create(pair, "part").notes
    assert "public.part stands alone, as its partitioned table was there before" in note
    assert pair.target("select relispartition from pg_class where relname = 'part'") == [(False,)]
    pair.target(note.partition("run on local: ")[2])
    assert described(pair.target_server, pair.target_db) == described(pair.source_server, pair.source_db)


def test_a_partition_brings_the_table_that_it_is_a_part_of(make_pair: MakePair) -> None:
    theirs = """
        create table root (id integer primary key) partition by list (id);
        create table one partition of root for values in (1);
        create table two partition of root for values in (2);
    """
    pair = make_pair(schema=theirs, target_schema="")
    assert set(create(pair, "one").tables) == {TableName("public", "root"), TableName("public", "one")}
    pair.target("insert into root values (1)")


def test_triggers_rules_policies_and_statistics_are_left_out_by_name(make_pair: MakePair) -> None:
    theirs = """
        create table t (id integer primary key, n integer);
        create function raised() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
        create trigger "at once" before insert on t for each row execute function raised();
        create trigger later after insert on t for each row execute function raised();
        create rule nothing as on delete to t do instead nothing;
        create policy mine on t using (n = 1);
        alter table t enable row level security;
        create statistics stats on id, n from t;
    """
    pair = make_pair(schema=theirs, target_schema="")
    assert create(pair).notes == (
        "left out: row-level policies of public.t: mine",
        "left out: rules of public.t: nothing",
        "left out: statistics objects of public.t: stats",
        "left out: triggers of public.t: at once, later",
    )
    assert pair.target("insert into t values (1) returning id") == [(1,)]


def test_a_partition_that_lives_on_another_server_is_left_out(make_pair: MakePair) -> None:
    theirs = """
        create foreign data wrapper nothing;
        create server elsewhere foreign data wrapper nothing;
        create table root (id integer) partition by list (id);
        create foreign table far partition of root for values in (1) server elsewhere;
        create table near partition of root for values in (2);
    """
    pair = make_pair(schema=theirs, target_schema="")
    made = create(pair, "root")
    assert set(made.tables) == {TableName("public", "root"), TableName("public", "near")}
    assert made.notes == ("left out: foreign tables that are partitions of public.root: far",)


# --- what cannot be made ---------------------------------------------------------------------------------


def test_a_table_that_the_local_version_cannot_have_is_named_and_nothing_is_made(make_pair: MakePair) -> None:
    theirs = (
        "create schema s; create table s.plain (id integer);"
        "create table s.late (n integer, m integer generated always as (n + 1) virtual)"
    )
    pair = make_pair(18, 16, schema=theirs, target_schema="")
    with pytest.raises(PlanError, match=r"table late in s cannot be made on local \(PostgreSQL 16") as caught:
        create(pair)
    assert "CREATE TABLE s.late" in caught.value.hint
    assert pair.target("select 1 from pg_namespace where nspname = 's'") == []


def has_vector(server: Server) -> bool:
    return bool(server.query("postgres", "select 1 from pg_available_extensions where name = 'vector'"))


def test_an_extension_that_a_column_needs_is_made_where_the_server_has_it(make_pair: MakePair) -> None:
    pair = make_pair(18, 18, schema="", target_schema="")
    if not has_vector(pair.source_server):
        pytest.skip("this PostgreSQL has no pgvector")
    pair.source(
        "create schema extensions; create extension vector schema extensions;"
        "create table t (id integer primary key, v extensions.vector(3));"
        "create index on t using hnsw (v extensions.vector_l2_ops)"
    )
    create(pair)
    assert described(pair.target_server, pair.target_db) == described(pair.source_server, pair.source_db)


def test_an_extension_that_is_not_installed_here_is_refused_with_the_statement(make_pair: MakePair) -> None:
    pair = make_pair(18, 15, schema="", target_schema="")
    if not has_vector(pair.source_server) or has_vector(pair.target_server):
        pytest.skip("pgvector has to be there on the one side alone")
    pair.source("create extension vector; create table t (id integer primary key, v vector(3))")
    with pytest.raises(PlanError, match="the extension vector, which is not installed") as caught:
        create(pair)
    assert "CREATE EXTENSION" in caught.value.hint
    assert "vector" in caught.value.hint


def test_an_extension_in_another_schema_here_is_refused_with_the_statement(make_pair: MakePair) -> None:
    pair = make_pair(18, 18, schema="", target_schema="")
    if not has_vector(pair.source_server):
        pytest.skip("this PostgreSQL has no pgvector")
    pair.source(
        "create schema extensions; create extension vector schema extensions",
        "create table t (id integer primary key, v extensions.vector(3))",
    )
    pair.target("create extension vector")
    with pytest.raises(PlanError, match="vector is in the schema public here, and in extensions") as caught:
        create(pair)
    pair.target("create schema extensions", caught.value.hint.partition("run on local: ")[2].partition(";")[0])
    assert create(pair).tables


def test_there_has_to_be_a_pg_dump_as_new_as_the_server() -> None:
    with pytest.raises(PlanError, match="takes pg_dump 99 or newer, as the server is PostgreSQL 99") as caught:
        programs.find_dumper(99)
    assert "install the client programs of PostgreSQL 99" in caught.value.hint


@pytest.mark.parametrize("version", list(available_versions()))
def test_the_closest_pg_dump_is_taken(version: int) -> None:
    assert programs.find_dumper(version).major == version


# --- what it does on the server --------------------------------------------------------------------------


def test_a_role_that_may_read_the_table_alone_suffices(make_pair: MakePair) -> None:
    pair = make_pair(schema=HARD + "create table secret (id integer)", target_schema="")
    pair.source(
        "drop role if exists narrow",
        "create role narrow login",
        'grant usage on schema "Sp aC", away to narrow',
        """grant select on away.base, "Sp aC"."T|(b).*?$^+ "" 'x' é" to narrow""",
    )
    try:
        made = create(
            pair,
            TableName("Sp aC", "T|(b).*?$^+ \" 'x' é"),
            source_url=pair.url("source", "narrow"),
        )
    finally:
        pair.source("drop owned by narrow", "drop role narrow")
    assert len(made.tables) == 2


def test_a_table_that_may_not_be_read_is_refused(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table secret (id integer)", target_schema="")
    pair.source("drop role if exists narrow", "create role narrow login")
    try:
        with pytest.raises(PlanError, match="permission denied for table secret"):
            create(pair, "secret", source_url=pair.url("source", "narrow"))
    finally:
        pair.source("drop role narrow")


def test_it_does_not_wait_long_behind_a_migration(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = make_pair(schema="create table t (id integer); create table other (id integer)", target_schema="")
    with psycopg.connect(pair.source_url) as migration:
        migration.execute("alter table other add n integer")
        assert create(pair, "t").tables
        migration.rollback()
        migration.execute("alter table t add n integer")
        pair.target("drop table t")
        short = [word.replace("=10s", "=100ms") for word in dumping._ALWAYS]
        monkeypatch.setattr(dumping, "_ALWAYS", short)
        with pytest.raises(PlanError, match="timeout") as caught:
            create(pair, "t")
    assert "somebody alters the table" in caught.value.hint


SPY = """#!{python}
import os, sys
if "--version" not in sys.argv:
    with open({log!r}, "a") as log:
        print(sys.argv, os.environ.get("PGPASSWORD"), file=log)
os.execv({real!r}, sys.argv)
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newest: int) -> Path:
    """Put a pg_dump first that writes down how it is called, and give the file."""
    log, spy = tmp_path / "calls", tmp_path / "bin" / "pg_dump"
    real = str(available_versions()[newest] / "pg_dump")
    spy.parent.mkdir()
    spy.write_text(SPY.format(python=sys.executable, log=str(log), real=real))
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{spy.parent}:{os.environ['PATH']}")
    return log


def test_the_password_is_not_in_any_listing_of_processes(make_pair: MakePair, calls: Path) -> None:
    pair = make_pair(schema="create table t (id integer)", target_schema="")
    create(pair, "t", source_url=pair.url("source", via="tcp"))
    arguments, _, environment = calls.read_text().strip().rpartition("] ")
    assert environment != PASSWORD  # it comes by a file that only we may read
    assert PASSWORD not in arguments
    assert "default_transaction_read_only=on" in arguments


def test_a_service_and_its_options_hold_for_pg_dump_too(
    make_pair: MakePair, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = make_pair(schema="create table t (id integer)", target_schema="")
    host, port = pair.source_server.tcp_address
    service = tmp_path / "services"
    service.write_text(
        f"[theirs]\nhost={host}\nport={port}\nuser=postgres\npassword={PASSWORD}\n"
        f"dbname={pair.source_db}\nsslmode=disable\noptions=-c work_mem=1MB\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    create(pair, "t", source_url="postgresql:///?service=theirs&sslpassword=hidden")
    said = calls.read_text()
    assert "sslmode=disable" in said
    assert "work_mem=1MB -c default_transaction_read_only=on" in said
    assert PASSWORD not in said.rpartition("] ")[0]
    assert "hidden" not in said


def test_names_are_found_in_a_database_of_another_encoding(
    make_pair: MakePair,
) -> None:
    pair = make_pair(schema="", target_schema="")
    latin = f"{pair.source_db}_latin"
    pair.source_server.create_database(latin, encoding="LATIN1", locale="C")
    try:
        made = "create table \"Größe\" (id integer default 1, ä text default 'ö')"
        pair.source_server.sql(latin, "set client_encoding = 'UTF8'", made)
        create(pair, "Größe", source_url=pair.source_server.url(latin))
        assert described(pair.target_server, pair.target_db) == described(pair.source_server, latin)
    finally:
        pair.source_server.drop_database(latin)


class Noticing(Listener):
    """Keeps what is noticed."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def noticed(self, text: str) -> None:
        self.notices.append(text)


@pytest.mark.parametrize("tables", [["here.child"], ["here.child", "here.parent"]])
def test_a_dry_run_tries_rows_on_the_tables_that_a_pull_would_make_and_leaves_none(
    make_pair: MakePair, tables: list[str]
) -> None:
    schema = """create schema here; create type here.mood as enum ('ok');
        create table here.parent (id int primary key);
        create table here.child (id int primary key, parent_id int references here.parent, mood here.mood)"""
    pair = make_pair(schema=schema, target_schema="select")
    pair.source(
        "insert into here.parent values (1), (2)",
        "insert into here.child select n, 1 + n % 2, 'ok' from generate_series(1, 300) n",
        "create table here.told (id int primary key)",
    )
    sides: dict[str, Any] = {
        "source": pair.source_url,
        "target": pair.target_url,
        "create_missing": True,
        "batch_size": 50,
        # local cannot tell what this means
        "where": "exists (select from pg_class where relname = 'told') and child.id > 0"
        if len(tables) == 1
        else None,
        "equals": {"mood": "ok"} if tables == ["here.child"] else None,
    }
    hears = Noticing()
    told = (
        forecast(tables[0], listener=hears, **sides)
        if len(tables) == 1
        else forecast_tables(*tables, listener=hears, **sides)
    )
    [made] = [notice for notice in hears.notices if notice.startswith("a pull will say: made ")]
    assert all(table in made for table in tables)
    assert pair.target("select to_regnamespace('here'), to_regtype('here.mood')") == [(None, None)]
    done = pull(tables[0], **sides) if len(tables) == 1 else pull_tables(*tables, **sides)
    assert told.tally == done.tally
    assert done.tally.inserted >= 300
    assert (
        forecast_tables("here.*", **{**sides, "where": None, "equals": None}).tally.inserted
        == 302 - done.tally.inserted
    )


def test_a_pull_makes_what_it_lacks_and_parents_too(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table parent (id int primary key);"
        " create table child (id int primary key, parent_id int references parent, v text)",
        target_schema="select",
    )
    pair.source("insert into parent values (1), (2); insert into child values (1, 1, 'a'), (2, 2, 'b')")
    words: dict[str, Any] = {"source": pair.source_url, "target": pair.target_url, "create_missing": True}
    summary = pull_tables("child", equals={"id": 1}, with_parents=True, **words)
    assert (summary.tally.inserted, summary.failures) == (2, ())
    assert pair.target("select * from child join parent on parent.id = parent_id") == [(1, 1, "a", 1)]
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        pair.target("delete from parent")
    again = pull_tables("*", **words)
    assert again.tally.inserted == 2
