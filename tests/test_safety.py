"""Production is only read; nothing is written that was not meant; no secret is seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pgpull import PlanError, Stopped, UnsafeTarget, check, parting, pull, pull_tables
from pgpull.endpoints import Endpoint
from pgpull.guarding import refuse_remote
from pgpull.listening import Listener
from pgpull.plans import Plan
from pgpull.sessions import Session
from tests.conftest import MakePair
from tests.support import Pair, Proxy, Side

TABLE = "askwealth.message"

SIDES: tuple[Side, Side] = ("source", "target")


class Look(Listener):
    """Ask both sides something while a pull is under way."""

    def __init__(self, *questions: str) -> None:
        self._questions = questions
        self.source: dict[str, Any] = {}
        self.target: dict[str, Any] = {}

    def planned(self, plan: Plan, source: Session, target: Session) -> None:
        for question in self._questions:
            for answers, session in ((self.source, source), (self.target, target)):
                row = session.connection.execute(question).fetchone()
                answers[question] = row[0] if row else None


def test_the_source_session_is_read_only_pinned_and_named(pair: Pair) -> None:
    look = Look(
        "show transaction_read_only",
        "show transaction_isolation",
        "show row_security",
        "show timezone",
        "show datestyle",
        "show application_name",
        "show lock_timeout",
        "show idle_in_transaction_session_timeout",
    )
    pull(TABLE, source=pair.source_url, target=pair.target_url, listener=look)
    assert list(look.source.values()) == [
        "on",
        "repeatable read",
        "off",
        "UTC",
        "ISO, YMD",
        "pgpull",
        "10s",
        "1h",
    ]
    assert look.target["show application_name"] == "pgpull"


def test_a_source_session_cannot_write_even_if_told_to(pair: Pair) -> None:
    class Attempt(Listener):
        def planned(self, plan: Plan, source: Session, target: Session) -> None:
            source.connection.execute("set transaction read write")

    with pytest.raises(psycopg.errors.ActiveSqlTransaction):
        pull(TABLE, source=pair.source_url, target=pair.target_url, listener=Attempt())


def test_the_servers_own_limits_stay_in_force(pair: Pair) -> None:
    for name, value in (
        ("lock_timeout", "3s"),
        ("statement_timeout", "7min"),
        ("idle_in_transaction_session_timeout", "4min"),
    ):
        pair.source(f"alter database {pair.source_db} set {name} to '{value}'")
    look = Look("show lock_timeout", "show statement_timeout", "show idle_in_transaction_session_timeout")
    pull(TABLE, source=pair.source_url, target=pair.target_url, listener=look)
    assert list(look.source.values()) == ["3s", "7min", "4min"]


def test_a_target_that_is_the_source_is_refused_by_whatever_name(
    pair: Pair, make_proxy: Callable[..., Proxy]
) -> None:
    tunnel = make_proxy(pair.source_server)
    for target in (pair.source_url, pair.url("source", via="tcp"), pair.source_through(tunnel)):
        with pytest.raises(UnsafeTarget, match="same database"):
            pull(TABLE, source=pair.source_url, target=target)


def test_another_database_of_the_sources_cluster_is_no_danger(make_pair: MakePair, newest: int) -> None:
    pair = make_pair(newest, newest)
    pair.add_messages("source", 5)
    assert pull(TABLE, source=pair.source_url, target=pair.target_url).tally.inserted == 5


def test_the_same_database_is_known_without_the_control_file_too(pair: Pair) -> None:
    pair.source(
        "create role plain login",
        "revoke execute on function pg_control_system() from public",
        "grant all on schema askwealth to plain",
        "grant all on all tables in schema askwealth to plain",
    )
    try:
        url = pair.url("source", user="plain")
        with pytest.raises(UnsafeTarget, match="same database"):
            pull(TABLE, source=url, target=url)
    finally:
        pair.source(
            "grant execute on function pg_control_system() to public", "drop owned by plain", "drop role plain"
        )


@pytest.mark.parametrize("address", ["", "/run/postgresql", "@abstract", "127.0.0.1", "127.9.9.9", "::1"])
def test_a_socket_and_the_loopback_are_local(address: str) -> None:
    refuse_remote(Endpoint({}), "anything", address, ())


@pytest.mark.parametrize("address", ["192.0.2.7", "10.0.0.1", "fe80::1%eth0", "2001:db8::1", "nonsense"])
def test_a_target_on_another_machine_is_refused_unless_it_is_named(address: str) -> None:
    with pytest.raises(UnsafeTarget, match="not on this machine") as caught:
        refuse_remote(Endpoint({"host": "db"}), "db", address, ("localhost", "other"))
    assert caught.value.hint.endswith("--allow-target db")
    refuse_remote(Endpoint({"host": "db"}), "db", address, ("db",))
    refuse_remote(Endpoint({"host": "db"}), "db", address, (address,))


def test_a_target_is_written_though_its_sessions_read_only_by_default(pair: Pair) -> None:
    pair.add_messages("source", 3)
    pair.target(f"alter database {pair.target_db} set default_transaction_read_only to on")
    assert pull(TABLE, source=pair.source_url, target=pair.target_url).tally.inserted == 3


def test_privileges_that_lack_are_named_with_the_statement_that_grants_them(pair: Pair) -> None:
    pair.add_messages("source", 3)
    for side in SIDES:
        pair.run(side, "create role plain login")
    try:
        urls: dict[str, str] = {
            "source": pair.url("source", user="plain"),
            "target": pair.url("target", user="plain"),
        }
        for side in SIDES:
            theirs = urls["source"] if side == "source" else pair.source_url
            ours = urls["target"] if side == "target" else pair.target_url
            with pytest.raises(PlanError, match="role plain may not") as caught:
                pull(TABLE, source=theirs, target=ours, on_conflict="update")
            statements = caught.value.hint.partition("run: ")[2]
            pair.run(side, *filter(str.strip, statements.split(";")))
        assert (
            pull(TABLE, source=urls["source"], target=urls["target"], on_conflict="update").tally.inserted == 3
        )
    finally:
        for side in SIDES:
            pair.run(side, "drop owned by plain", "drop role plain")


def test_triggers_that_cannot_be_held_back_are_a_reason_to_refuse(make_pair: MakePair) -> None:
    schema = """create table t (id int primary key);
        create function f() returns trigger language plpgsql as $$ begin return new; end $$;
        create trigger mail before insert on t for each row execute function f();"""
    pair = make_pair(schema=schema)
    pair.target("create role plain login", "grant all on t to plain")
    try:
        with pytest.raises(PlanError, match=r"triggers that must not fire .*mail"):
            pull("t", source=pair.source_url, target=pair.url("target", user="plain"))
    finally:
        pair.target("drop owned by plain", "drop role plain")


def test_row_level_security_on_the_source_is_an_error_and_hides_nothing(pair: Pair) -> None:
    pair.add_messages("source", 10)
    pair.source(
        f"alter table {TABLE} enable row level security",
        f"create policy users on {TABLE} using (role = 'user')",
        "create role reader login",
        "grant usage on schema askwealth to reader",
        f"grant select on {TABLE} to reader",
    )
    try:
        with pytest.raises((PlanError, Stopped)) as caught:
            pull(TABLE, source=pair.url("source", user="reader"), target=pair.target_url)
        assert "row-level security" in caught.value.message
        assert "BYPASSRLS" in caught.value.hint
        assert caught.value.exit_code == 3
        assert pair.target(f"select count(*) from {TABLE}") == [(0,)]
    finally:
        pair.source("drop owned by reader", "drop role reader")


def test_who_may_read_some_columns_alone_pulls_them_by_several_workers_with_masks_and_parents(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parting, "WORTH_BYTES", 0)
    monkeypatch.setattr(parting, "LEAST_BYTES", 1)
    both = "create table p (id int primary key); create table t (id int primary key, p int references p, v text"
    pair = make_pair(schema=f"{both}, secret text)", target_schema=f"{both})")
    pair.source(
        "insert into p select generate_series(1, 50)",
        "insert into t select n, 1 + n % 50, 'v', 's' from generate_series(1, 3000) n",
        "analyze",
        "create role narrow login",
        "grant select on p to narrow",
        "grant select (id, p, v) on t to narrow",
    )
    words: dict[str, Any] = {"source": pair.url("source", "narrow"), "target": pair.target_url}
    words["mask"] = {"t": {"v": "length"}}
    try:
        summary = pull_tables("t", with_parents=True, way={"jobs": 3}, **words)
        assert (summary.failures, summary.tally.inserted) == ((), 3_050)
        pair.target("truncate t")
        assert pull("t", jobs=3, source=words["source"], target=words["target"]).tally.inserted == 3_000
    finally:
        pair.source("drop owned by narrow", "drop role narrow")


def test_a_parent_that_we_may_not_read_here_is_a_note_and_no_end(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table p (id int primary key); create table c (id int primary key, p int references p);"
        " create table other (id int)"
    )
    pair.target("create role half login", "grant select, insert, update on c, other to half")
    try:
        found = check("c", "other", source=pair.source_url, target=pair.url("target", "half"))
    finally:
        pair.target("drop owned by half", "drop role half")
    assert found.exit_code == 0
    assert any("which half may not read here" in finding.fact for finding in found.notes)
    assert any(finding.subject == "public.other" for finding in found.findings)
