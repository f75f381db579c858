"""A check says what a pull would be refused for, and what to know first; it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pgpull import Checkup, Finding, PgpullError, UsageError, check, pull
from pgpull.cli import app
from pgpull.findings import Level
from tests.conftest import MakePair, OwnServer
from tests.support import Pair, Side
from tests.test_cli import PGPULL, call, on

TABLE = "askwealth.message"


def checked(pair: Pair, *tables: str, **words: object) -> Checkup:
    return check(*tables, source=pair.source_url, target=pair.target_url, **words)  # type: ignore[arg-type]


def facts(checkup: Checkup, subject: str = "", level: Level | None = None) -> list[str]:
    return [
        finding.fact
        for finding in checkup.findings
        if subject in ("", finding.subject) and level in (None, finding.level)
    ]


def the(checkup: Checkup, said: str) -> Finding:
    [finding] = [finding for finding in checkup.findings if said in finding.fact]
    return finding


def counters(pair: Pair) -> list[object]:
    """Return all that a check could have changed."""
    # not the end of the WAL: a server writes into it by itself
    asked = "select txid_snapshot_xmax(txid_current_snapshot()), (select count(*) from pg_class)"
    return [pair.run(side, asked) for side in ("source", "target")]


def test_two_sides_that_fit_are_all_well(pair: Pair) -> None:
    pair.add_messages("source", 100)
    before = counters(pair)
    checkup = checked(pair, TABLE)
    assert counters(pair) == before
    assert checkup.exit_code == 0
    assert checkup.problems == ()
    assert facts(checkup, TABLE)[0].startswith("6 columns, binary, compared by message_id; about ")
    assert "local is on this machine, takes writes, and is another database than the server's" in facts(checkup)
    assert "its transaction is REPEATABLE READ, READ ONLY, and cannot be made writable" in facts(checkup)
    assert pull(TABLE, source=pair.source_url, target=pair.target_url).tally.inserted == 100


def test_without_a_table_it_is_the_connections_and_what_may_be_read(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table here (id int); create table gone (id int); create schema s")
    pair.target("drop table gone")
    pair.source(
        "create table s.hidden (id int)", "create role narrow login", "grant select on here, gone to narrow"
    )
    try:
        url = pair.url("source", "narrow")
        checkup = check(source=url, target=pair.target_url)
    finally:
        pair.source("drop owned by narrow", "drop role narrow")
    assert checkup.exit_code == 0
    assert "narrow may read 2 of 3 tables" in facts(checkup)
    assert "narrow may not read s.hidden" in facts(checkup, level=Level.NOTE)
    assert the(checkup, "missing here: public.gone").hint == "pull with --create-missing"
    assert the(checkup, "--create-missing can use pg_dump")


# --- what a pull would be refused for, and nothing else --------------------------------------------------

REFUSED = [
    ("create table t (id int primary key)", "", "has no table public.t"),
    ("", "create table t (id int primary key)", "has no table public.t"),
    ("create table t (id int primary key)", "create table t (id int)", "lacks the server's key"),
    ("create table t (a int primary key)", "create table t (b int primary key)", "share no column"),
    ("create table t (id int primary key, v json)", "create table t (id int primary key, v int)", "v is json"),
    ("create view t as select 1", "create table t (id int primary key)", "is a view, not a table"),
]


@pytest.mark.parametrize(("theirs", "ours", "said"), REFUSED)
def test_what_a_pull_would_be_refused_for_is_the_same_problem_with_the_same_hint(
    make_pair: MakePair, theirs: str, ours: str, said: str
) -> None:
    pair = make_pair(schema=theirs, target_schema=ours)
    checkup = checked(pair, "t")
    [problem] = checkup.problems
    with pytest.raises(PgpullError) as caught:
        pull("t", source=pair.source_url, target=pair.target_url)
    assert (problem.fact, problem.hint) == (caught.value.message, caught.value.hint)
    assert said in problem.fact
    assert checkup.exit_code == 3


def test_problems_of_one_table_do_not_hide_those_of_another(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table a (id int primary key, v int); create table b (id int primary key)")
    checkup = checked(pair, "nope", "a", "b", where="no such thing")
    assert [problem.subject for problem in checkup.problems] == ["public.nope", "public.a", "public.b"]
    assert checked(pair, "a", "b", where="id > 1").exit_code == 0


def test_a_scope_that_names_what_is_not_there_is_a_problem(pair: Pair) -> None:
    for words in ({"equals": {"no": "1"}}, {"since": "2025-01-01", "window": "no"}, {"window": "no"}):
        [problem] = checked(pair, TABLE, **words).problems
        assert "has no column no" in problem.fact
    [problem] = checked(pair, TABLE, window="role").problems
    assert "not a date or time" in problem.fact


def test_privileges_that_lack_on_both_sides_are_said_at_once(pair: Pair) -> None:
    pair.source("drop role if exists narrow", "create role narrow login")
    pair.target("drop role if exists narrow", "create role narrow login")
    try:
        checkup = check(TABLE, source=pair.url("source", "narrow"), target=pair.url("target", "narrow"))
    finally:
        pair.source("drop role narrow")
        pair.target("drop role narrow")
    assert [problem.fact.partition(" on ")[2] for problem in checkup.problems] == [
        f"the server's {TABLE}",
        f"local's {TABLE}",
    ]
    assert all("GRANT" in problem.hint for problem in checkup.problems)


@pytest.mark.parametrize("side", ["source", "target"])
def test_policies_that_would_hide_rows_are_a_problem(pair: Pair, side: Side) -> None:
    pair.run(
        side,
        "drop role if exists narrow",
        "create role narrow login",
        "grant usage on schema askwealth to narrow",
        f"grant all on {TABLE} to narrow",
        f"alter table {TABLE} enable row level security",
        f"create policy users on {TABLE} using (role = 'user')",
    )
    try:
        urls = {"source": pair.source_url, "target": pair.target_url, side: pair.url(side, "narrow")}
        [problem] = check(TABLE, **urls).problems  # type: ignore[arg-type]
        assert "row-level security would hide rows" in problem.fact
    finally:
        pair.run(side, "drop owned by narrow", "drop role narrow")


def test_the_same_database_on_both_sides_is_a_problem(pair: Pair) -> None:
    checkup = check(source=pair.source_url, target=pair.source_url)
    assert "are the same database" in checkup.problems[0].fact


def test_sides_that_cannot_be_reached_are_both_said(tmp_path: Path) -> None:
    url = f"postgresql:///x?host={tmp_path}"
    checkup = check(TABLE, source=url, target=url)
    assert [problem.subject for problem in checkup.problems] == ["the server", "local"]
    assert checkup.exit_code == 3


def test_where_only_the_server_cannot_be_reached_local_is_checked(pair: Pair, tmp_path: Path) -> None:
    checkup = check(source=f"postgresql:///x?host={tmp_path}", target=pair.target_url)
    assert [problem.subject for problem in checkup.problems] == ["the server"]
    assert facts(checkup, "local", Level.OK)


def test_words_that_make_no_sense_are_an_error(pair: Pair) -> None:
    with pytest.raises(UsageError):
        checked(pair, TABLE, since="yesterday")
    with pytest.raises(UsageError):
        checked(pair, "a.b.c")


# --- what to know first ----------------------------------------------------------------------------------


def test_the_notes_of_a_pull_are_notes_with_their_statements_as_hints(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int primary key, v text, more int)",
        target_schema="create table t (id int primary key, v text check (v <> ''))",
    )
    checkup = checked(pair, "t")
    assert checkup.exit_code == 0
    assert the(checkup, "has no column more").hint == (
        'to have it, run on local: ALTER TABLE "public"."t" ADD COLUMN "more" integer;'
    )
    assert 'DROP CONSTRAINT "t_v_check";' in the(checkup, "CHECK").hint


def test_patterns_mean_the_tables_of_the_server(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="""create schema s; create table s.one (id int primary key); create table s.other
                (id int primary key); create table two (id int primary key);
        create table s.root (id int primary key) partition by list (id);
        create table s.part partition of s.root for values in (1)"""
    )
    checkup = checked(pair, "s.o*", "s.one", "s.x*")
    assert list(dict.fromkeys(finding.subject for finding in checkup.findings))[3:] == [
        "s.x*",
        "s.one",
        "s.other",
    ]
    assert "no table of the server is meant by s.x*" in facts(checkup, level=Level.PROBLEM)
    assert "s.part" not in {finding.subject for finding in checked(pair, "s.*").findings}


BIG = """
    create table t (id int primary key, at timestamptz, kind int, more int);
    insert into t select n, timestamptz '2025-01-01' + n * interval '1 minute', n % 1000, n
      from generate_series(1, 120000) n;
    create index on t (at);
    analyze t;
"""


def test_a_scope_that_no_index_serves_is_a_note_for_a_large_table(make_pair: MakePair) -> None:
    pair = make_pair(schema=BIG)
    served = checked(pair, "t", since="2025-01-02", until="2025-01-03", window="at")
    assert not [fact for fact in facts(served) if "index that serves" in fact]
    unserved = checked(pair, "t", equals={"kind": 7})
    assert the(unserved, "no index that serves").hint.endswith("CREATE INDEX CONCURRENTLY ON public.t (kind);")
    assert the(checked(pair, "t", where="more = 3"), "no index that serves").hint == ""
    assert not [fact for fact in facts(checked(pair, "t", where="more > 3")) if "index that serves" in fact]
    assert not [fact for fact in facts(checked(pair, "t", window="at")) if "index that serves" in fact]
    pair.source("drop index t_at_idx")
    assert the(checked(pair, "t", window="at"), "no index that serves").hint.endswith("ON public.t (at);")


def test_parents_that_are_not_here_or_hold_nothing_are_notes(make_pair: MakePair) -> None:
    theirs = """create table parent (id int primary key); create table far (id int primary key);
        create table t (id int primary key, up int references t, parent int references parent,
                        far int references far)"""
    ours = """create table parent (id int primary key);
        create table t (id int primary key, up int references t, parent int references parent, far int)"""
    pair = make_pair(schema=theirs, target_schema=ours)
    notes = facts(checked(pair, "t"), "public.t", Level.NOTE)
    assert notes == [
        "it refers to public.far, which is not here",
        "it refers to public.parent, which holds no row here: rows that do so become rejects",
    ]
    assert len(facts(checked(pair, "t", "parent"), "public.t", Level.NOTE)) == 1
    pair.target("insert into parent values (1)")
    assert len(facts(checked(pair, "t"), "public.t", Level.NOTE)) == 1


def test_limits_and_superusers_are_notes(pair: Pair) -> None:
    pair.source(f"alter database {pair.source_db} set statement_timeout to '30s'")
    checkup = checked(pair)
    assert "statement_timeout is 30s" in facts(checkup, "the server", Level.NOTE)
    assert "role postgres is a superuser there" in facts(checkup, "the server", Level.NOTE)


def test_encodings_that_do_not_hold_all_text_are_a_note(pair: Pair) -> None:
    latin = f"{pair.target_db}_latin"
    pair.target_server.create_database(latin, encoding="LATIN1", locale="C")
    try:
        checkup = check(source=pair.source_url, target=pair.target_server.url(latin))
        assert the(checkup, "the server's encoding is UTF8, local's LATIN1")
    finally:
        pair.target_server.drop_database(latin)


def test_it_says_whether_the_line_is_encrypted(pair: Pair, own_server: OwnServer, oldest: int) -> None:
    plain = check(source=pair.url("source", via="tcp"), target=pair.target_url)
    assert "not encrypted, at 127.0.0.1" in facts(plain, "the server")[0]
    server = own_server(oldest)
    server.enable_tls()
    secure = check(source=server.url(via="tcp") + "?sslmode=require", target=pair.target_url)
    assert "encrypted by TLSv1" in facts(secure, "the server")[0]


def test_a_standby_is_a_note(pair: Pair, own_server: OwnServer, newest: int) -> None:
    server = own_server(newest)
    server.stop()
    (server.data / "standby.signal").touch()
    server.start()
    checkup = check(source=server.url(), target=pair.target_url)
    assert "it is a standby (hot_standby_feedback off" in the(checkup, "is a standby").fact


def test_no_password_is_shown(pair: Pair) -> None:
    checkup = check(source=pair.url("source", via="tcp"), target=pair.url("target", via="tcp"))
    assert "superuser%20of" not in str(checkup)
    assert "superuser of the tests" not in str(checkup)


# --- the command -----------------------------------------------------------------------------------------


@pytest.fixture
def settings(pair: Pair, tmp_path: Path) -> Pair:
    (tmp_path / ".env").write_text(f"SERVER_DB_URL='{pair.source_url}'\nLOCAL_DB_URL='{pair.target_url}'\n")
    return pair


@pytest.mark.usefixtures("settings")
def test_the_command_prints_what_it_found_and_its_exit_code_tells() -> None:
    well = CliRunner().invoke(app, ["check", TABLE, "--since", "2025-01-01"])
    assert well.exit_code == 0, well.output
    assert f"\n{TABLE}\n  ok       6 columns" in well.output
    assert well.output.endswith("a pull can run\n")
    bad = CliRunner().invoke(app, ["check", "askwealth.nope", "askwealth.*"])
    assert bad.exit_code == 3
    assert "\naskwealth.nope\n  problem  the server" in bad.output
    assert "askwealth.thread\n  ok" in bad.output
    assert "1 problem, 1 note: a pull would be refused\n" in bad.output


@pytest.mark.usefixtures("settings")
def test_the_command_speaks_json() -> None:
    done = CliRunner().invoke(app, ["check", "askwealth.nope", "--json"])
    said = json.loads(done.stdout)
    assert done.exit_code == said["exit_code"] == 3
    assert said["problems"] == 1
    assert said["findings"][-1]["subject"] == "askwealth.nope"
    assert said["findings"][-1]["level"] == "problem"
    assert said["findings"][-1]["hint"].startswith("did you mean: askwealth.")


@pytest.mark.parametrize("words", [("--since", "2025-01-01"), ("--equals", "role=user"), ("--where", "true")])
@pytest.mark.parametrize("privacy", [(), ("--privacy",)])
def test_which_rows_are_meant_is_not_said_of_no_table(
    pair: Pair, words: tuple[str, ...], privacy: tuple[str, ...]
) -> None:
    done = call(PGPULL, "check", *privacy, *words, **on(pair))
    assert done.returncode == 2
    assert "which rows are meant is said, and not of which table" in done.stderr


def test_quietly_it_says_what_stands_in_the_way_and_nothing_else(pair: Pair) -> None:
    done = call(PGPULL, "check", "askwealth.none", "--quiet", **on(pair))
    assert (done.returncode, done.stdout) == (3, "")
    assert "askwealth.none" in done.stderr
    assert "hint:" in done.stderr
    done = call(PGPULL, "check", "askwealth.message", "--quiet", **on(pair))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
