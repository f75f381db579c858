"""Whatever breaks, and whenever: no row is lost, none comes twice, the count is exact, the error is clear."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgpull import (
    ConnectFailed,
    ConnectionLost,
    Listener,
    Reject,
    Report,
    Stopped,
    Tally,
    pull,
    sessions,
)
from tests.conftest import MakePair, OwnServer
from tests.support import MESSAGES, Pair, Proxy, Side

TABLE = "askwealth.message"
ROWS = 2_000
BATCH = 100
SIDES: tuple[Side, Side] = ("source", "target")

SCRIPT = Path(__file__).parents[1] / "data_migrations" / "load_messages.py"
GO_ON = "run the same command again"

# A scope whose rows stop coming at one in the middle, until a test opens the gate there.
MIDDLE = ROWS // 2
KEEPER = 7
AT_THE_GATE = (
    f"created_at < timestamptz '2025-01-01' + {MIDDLE} * interval '1 hour'"
    f" or pg_advisory_xact_lock_shared({KEEPER}) is not null"
)

MakeProxy = Callable[..., Proxy]


@pytest.fixture
def full(pair: Pair) -> Pair:
    """Give a pair whose source has rows."""
    pair.add_messages("source", ROWS)
    return pair


@pytest.fixture
def mortal(make_pair: MakePair, own_server: OwnServer, newest: int, oldest: int) -> Pair:
    """Give such a pair, on two servers: one may die alone."""
    pair = make_pair(source_server=own_server() if newest == oldest else None)
    pair.add_messages("source", ROWS)
    return pair


class Meanwhile(Listener):
    """Does a deed, once, when so many rows are in (none: when the plan stands), and keeps what it hears."""

    def __init__(self, rows: int = 0, deed: Callable[[], object] = lambda: None) -> None:
        self._rows = rows
        self._deeds = [deed]
        self.notices: list[str] = []
        self.rejects: list[Reject] = []

    def planned(self, *_: Any) -> None:
        self._when(0)

    def progressed(self, tally: Tally, size: int) -> None:
        self._when(tally.fetched)

    def noticed(self, text: str) -> None:
        self.notices.append(text)

    def rejected(self, reject: Reject) -> None:
        self.rejects.append(reject)

    def _when(self, rows: int) -> None:
        if rows >= self._rows and self._deeds:
            self._deeds.pop()()


def pulled(pair: Pair, table: str = TABLE, **what: Any) -> Report:
    """Pull in small batches, from the pair's source to its target unless other ways are named."""
    given = {"source": pair.source_url, "target": pair.target_url, "batch_size": BATCH, "retries": 0, **what}
    return pull(table, **given)


def in_background(work: Callable[[], Report]) -> Future[Report]:
    """Pull while the test does something else."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future


def counts(report: Report) -> tuple[int, int, int, int]:
    """Return inserted, updated, skipped, failed."""
    tally = report.tally
    return tally.inserted, tally.updated, tally.skipped, tally.failed


def rows_in(pair: Pair, table: str = TABLE) -> int:
    return int(pair.target(f"select count(*) from {table}")[0][0])


def whole_batches(pair: Pair) -> int:
    """Return how many rows are in, which are those of whole batches."""
    rows = rows_in(pair)
    assert rows % BATCH == 0
    return rows


def goes_on(pair: Pair) -> None:
    """See that running it again brings what an unbroken run would have brought."""
    before = rows_in(pair)
    assert counts(pulled(pair)) == (ROWS - before, 0, before, 0)
    assert pair.same(TABLE)


def eventually(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "it never came to this"
        time.sleep(0.02)


def through(pair: Pair, side: Side, proxy: Proxy) -> str:
    return pair.source_through(proxy) if side == "source" else pair.target_through(proxy)


def ours(pair: Pair, side: Side, which: str = "true", what: str = "count(*)") -> int:
    """Ask something of the sessions that pgpull has on a side."""
    of_pgpull = f"application_name = 'pgpull' and datname = '{pair.database(side)}'"
    return int(pair.run(side, f"select {what} from pg_stat_activity where {of_pgpull} and {which}")[0][0])


def waits(pair: Pair, side: Side, query: str = "") -> bool:
    """Say whether a session of pgpull waits for a lock of somebody else."""
    return ours(pair, side, f"wait_event_type = 'Lock' and query like '{query}%'") > 0


def terminate(pair: Pair, side: Side) -> None:
    """End the sessions of pgpull, and wait until they are gone."""
    ours(pair, side, what="count(pg_terminate_backend(pid))")
    eventually(lambda: ours(pair, side) == 0)


def insert_message(connection: psycopg.Connection, number: int) -> None:
    row = MESSAGES.format(seed="", start="2025-01-01", step="1 hour", first=number, count=1)
    connection.execute(row.encode())


@contextmanager
def gate(pair: Pair) -> Iterator[Callable[[], None]]:
    """Hold the source back at the row in the middle of :data:`AT_THE_GATE` until the gate is opened."""
    with psycopg.connect(pair.source_url, autocommit=True) as keeper:
        keeper.execute(f"select pg_advisory_lock({KEEPER})".encode())
        yield keeper.close


@contextmanager
def locked(pair: Pair, side: Side = "target") -> Iterator[None]:
    """Hold a lock on the table that nobody gets past."""
    with psycopg.connect(pair.url(side)) as other:
        other.execute(f"lock table {TABLE} in access exclusive mode".encode())
        yield


# --- the connection to the source ------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 30, 200])
def test_a_source_cut_while_it_lets_us_in_is_a_refusal(full: Pair, make_proxy: MakeProxy, at: int) -> None:
    proxy = make_proxy(full.source_server)
    proxy.cut_after(at)
    with pytest.raises(ConnectFailed, match="cannot connect to the server") as caught:
        pulled(full, source=full.source_through(proxy), retries=3)
    assert caught.value.exit_code == 3
    assert caught.value.hint
    assert rows_in(full) == 0


def sizes(pair: Pair, proxy: Proxy, side: Side) -> tuple[int, int]:
    """Return how many bytes a side sends until the plan stands, and in all."""
    looked: list[int] = []
    listener = Meanwhile(0, lambda: looked.append(proxy.bytes_down))
    pulled(pair, **{side: through(pair, side, proxy)}, listener=listener)
    pair.target(f"truncate {TABLE}")
    return looked[0], proxy.bytes_down


@pytest.mark.usefixtures("hasty")
def test_a_source_cut_at_any_byte_is_read_anew_and_every_row_comes_once(
    full: Pair, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(full.source_server)
    looked, total = sizes(full, proxy, "source")
    for at in (looked // 2, looked - 9, looked + 1, (looked + total) // 3, total - 100_000, total - 20):
        proxy.cut_after(at)
        report = pulled(full, source=full.source_through(proxy), retries=1)
        assert report.passes == 2
        assert (report.tally.inserted, report.tally.failed) == (ROWS, 0)
        assert full.same(TABLE)
        full.target(f"truncate {TABLE}")


def test_without_retries_a_cut_source_ends_the_run_clearly_and_running_again_goes_on(
    full: Pair, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(full.source_server)
    for size, exit_code in ((1_000, 3), (300_000, 4)):
        cut = Meanwhile(0, partial(proxy.cut_after, size))
        with pytest.raises(ConnectionLost, match="the connection to the server was lost") as caught:
            pulled(full, source=full.source_through(proxy), listener=cut)
        assert caught.value.exit_code == exit_code
        assert GO_ON in caught.value.hint
        assert (whole_batches(full) > 0) == (exit_code == 4)
    goes_on(full)


def fails(proxy: Proxy) -> None:
    """Let a line fail in the middle of the rows, and no other one be had."""
    proxy.refuse()
    proxy.cut_after(200_000)


@pytest.mark.usefixtures("hasty")
def test_a_source_that_refuses_for_a_while_is_asked_until_it_accepts(full: Pair, make_proxy: MakeProxy) -> None:
    class Healer(Meanwhile):
        def noticed(self, text: str) -> None:
            super().noticed(text)
            if len(self.notices) == 3:
                proxy.accept()

    proxy = make_proxy(full.source_server)
    healer = Healer(0, lambda: fails(proxy))
    report = pulled(full, source=full.source_through(proxy), listener=healer, retries=6)
    assert report.passes == 4
    assert report.tally.inserted == ROWS
    assert any("trying again in 0.05 s (1 of 6)" in notice for notice in healer.notices)
    assert full.same(TABLE)


@pytest.mark.usefixtures("hasty")
def test_a_source_that_never_accepts_again_is_a_clear_error_after_the_last_try(
    full: Pair, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(full.source_server)
    listener = Meanwhile(0, lambda: fails(proxy))
    with pytest.raises(ConnectionLost, match=r"the server was lost: cannot connect .*refused") as caught:
        pulled(full, source=full.source_through(proxy), listener=listener, retries=2)
    assert sum("trying again" in notice for notice in listener.notices) == 2
    assert GO_ON in caught.value.hint
    goes_on(full)


@pytest.mark.usefixtures("hasty")
def test_a_source_session_that_somebody_ends_is_opened_anew(full: Pair) -> None:
    def end() -> None:
        terminate(full, "source")
        opened()

    with gate(full) as opened:
        report = pulled(full, where=AT_THE_GATE, listener=Meanwhile(500, end), retries=1)
    assert report.passes == 2
    assert report.tally.inserted == ROWS
    assert full.same(TABLE)


@pytest.mark.parametrize("side", SIDES)
def test_a_connection_that_stalls_and_resumes_just_goes_on(
    full: Pair, make_proxy: MakeProxy, side: Side
) -> None:
    proxy = make_proxy(full.server(side))
    proxy.slow(600_000)
    resuming = threading.Timer(0.5, proxy.resume)

    def stall() -> None:
        proxy.stall()
        resuming.start()

    report = pulled(full, **{side: through(full, side, proxy)}, listener=Meanwhile(300, stall))
    resuming.join()
    assert report.passes == 1
    assert counts(report) == (ROWS, 0, 0, 0)
    assert full.same(TABLE)


# --- the connection to the target ------------------------------------------------------------------------


class Gauge(Listener):
    """Notes how many bytes have passed when the plan stands, and after each batch."""

    def __init__(self, passed: Callable[[], int]) -> None:
        self._passed = passed
        self.marks: list[int] = []

    def planned(self, *_: Any) -> None:
        self.marks.append(self._passed())

    def progressed(self, *_: Any) -> None:
        self.marks.append(self._passed())


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("there", [0, 1], ids=["straight", "merged"])
def test_a_target_cut_at_any_byte_gets_every_row_once_and_the_count_is_exact(
    full: Pair, make_proxy: MakeProxy, there: int, way: Any
) -> None:
    proxy = make_proxy(full.target_server)
    what: dict[str, Any] = {"target": full.target_through(proxy), "until": "2025-01-21", "retries": 3}
    rows = 480

    def prepare() -> None:
        full.target(f"truncate {TABLE}")
        full.add_messages("target", there)

    prepare()
    gauge = Gauge(lambda: proxy.bytes_up if way == "up" else proxy.bytes_down)
    pulled(full, listener=gauge, **what)
    first, *_, last = (mark - gauge.marks[0] for mark in gauge.marks[1:])
    around_a_commit = [first - 13, first - 12, first - 1, first, first + 1]
    for at in (*around_a_commit, *range(1, last, last // 4), last - 1):
        prepare()
        listener = Meanwhile(0, partial(proxy.cut_after, at, way))
        report = pulled(full, listener=listener, **what)
        assert len(listener.notices) == report.passes == 1
        assert counts(report) == (rows - there, 0, there, 0)
        assert rows_in(full) == rows


# A commit waits as long as somebody holds the parent's row.
SLOW_COMMIT = """
    create table p (id int primary key);
    insert into p values (1);
    create table t (id int primary key, p int references p deferrable initially deferred);
"""


@contextmanager
def committing(pair: Pair, proxy: Proxy) -> Iterator[Future[Report]]:
    """Pull through a proxy, up to the commit of the only batch, which waits for the end of the block."""
    pair.source("create table t (id int primary key, p int)")
    pair.source(f"insert into t select g, 1 from generate_series(1, {BATCH}) g")
    with psycopg.connect(pair.target_url) as other:
        other.execute("select from p for update")
        future = in_background(lambda: pulled(pair, "t", target=pair.target_through(proxy), retries=200))
        eventually(lambda: waits(pair, "target", "COMMIT"))
        yield future


@pytest.mark.usefixtures("hasty")
def test_a_commit_that_is_still_under_way_when_the_target_is_back_is_counted_once(
    make_pair: MakePair, make_proxy: MakeProxy
) -> None:
    pair = make_pair(schema="", target_schema=SLOW_COMMIT)
    proxy = make_proxy(pair.target_server)
    with committing(pair, proxy) as future:
        proxy.cut()
        eventually(lambda: waits(pair, "target", "INSERT"))
    assert counts(future.result()) == (BATCH, 0, 0, 0)
    assert rows_in(pair, "t") == BATCH


@pytest.mark.usefixtures("hasty")
def test_a_commit_that_a_crash_undid_is_done_again_whoever_has_its_number_now(
    make_pair: MakePair, make_proxy: MakeProxy, own_server: OwnServer
) -> None:
    server = own_server(wal_writer_delay="10s")
    pair = make_pair(schema="", target_schema=SLOW_COMMIT, target_server=server)
    proxy = make_proxy(server)
    with suppress(psycopg.OperationalError), committing(pair, proxy) as future:
        proxy.refuse()
        server.kill()
    server.start()
    pair.target(*(f"insert into p values ({number})" for number in range(2, 20)))
    proxy.accept()
    assert counts(future.result()) == (BATCH, 0, 0, 0)
    assert rows_in(pair, "t") == BATCH


@pytest.mark.usefixtures("hasty")
def test_the_count_is_exact_when_the_target_is_cut_while_bad_rows_are_isolated(
    make_pair: MakePair, make_proxy: MakeProxy
) -> None:
    pair = make_pair(
        schema="create table t (id int primary key, v text)",
        target_schema="create table t (id int primary key check (id not in (7, 31)), v text)",
    )
    pair.source("insert into t select g, repeat('x', 20) from generate_series(1, 60) g")
    proxy = make_proxy(pair.target_server)
    what: dict[str, Any] = {"target": pair.target_through(proxy), "batch_size": 30, "retries": 3}
    gauge = Gauge(lambda: proxy.bytes_up)
    pulled(pair, "t", listener=gauge, **what)
    total = gauge.marks[-1] - gauge.marks[0]
    for at in range(1, total, total // 6):
        pair.target("truncate t")
        listener = Meanwhile(0, partial(proxy.cut_after, at, "up"))
        assert counts(pulled(pair, "t", listener=listener, **what)) == (58, 0, 0, 2)
        assert [reject.values["id"] for reject in listener.rejects] == ["7", "31"]
        assert rows_in(pair, "t") == 58


@pytest.mark.usefixtures("hasty")
def test_a_target_cut_while_it_is_looked_at_is_opened_anew(full: Pair, make_proxy: MakeProxy) -> None:
    proxy = make_proxy(full.target_server)
    looked, _ = sizes(full, proxy, "target")
    proxy.cut_after(looked - 200)
    report = pulled(full, target=full.target_through(proxy), retries=2)
    assert report.tally.inserted == ROWS
    assert full.same(TABLE)


@pytest.mark.usefixtures("hasty")
def test_a_target_cut_after_its_last_row_still_gets_its_sequences_moved(
    make_pair: MakePair, make_proxy: MakeProxy
) -> None:
    pair = make_pair(schema="create table t (id serial primary key)")
    pair.source("insert into t select from generate_series(1, 10)")
    proxy = make_proxy(pair.target_server)
    cut = Meanwhile(10, proxy.cut)
    assert pulled(pair, "t", target=pair.target_through(proxy), listener=cut, retries=2).tally.inserted == 10
    assert pair.target("select nextval('t_id_seq')") == [(11,)]


@pytest.mark.usefixtures("hasty")
def test_a_target_that_never_accepts_again_is_a_clear_error_after_the_last_try(
    full: Pair, make_proxy: MakeProxy
) -> None:
    def fail() -> None:
        proxy.refuse()
        proxy.cut()

    proxy = make_proxy(full.target_server)
    listener = Meanwhile(500, fail)
    with pytest.raises(ConnectionLost, match=r"local was lost: cannot connect .*refused") as caught:
        pulled(full, target=full.target_through(proxy), listener=listener, retries=2)
    assert caught.value.exit_code == 4
    assert GO_ON in caught.value.hint
    assert len(listener.notices) == 2
    goes_on(full)


@pytest.mark.usefixtures("hasty")
def test_a_target_session_that_somebody_ends_within_a_batch_is_opened_anew(full: Pair) -> None:
    with psycopg.connect(full.target_url) as other:
        insert_message(other, 750)
        future = in_background(lambda: pulled(full, retries=2))
        eventually(lambda: waits(full, "target"))
        terminate(full, "target")
        other.rollback()
    assert counts(future.result()) == (ROWS, 0, 0, 0)
    assert full.same(TABLE)


# --- other people's work ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "exit_code"), [(0, 3), (500, 4)])
def test_a_locked_target_is_waited_for_so_long_and_no_longer(
    full: Pair, monkeypatch: pytest.MonkeyPatch, rows: int, exit_code: int
) -> None:
    monkeypatch.setattr(sessions, "_TARGET", {**sessions._TARGET, "lock_timeout": "200ms"})
    lock = locked(full)
    listener = Meanwhile(rows, lock.__enter__)
    with pytest.raises(Stopped, match=r"local says: .*lock timeout") as caught:
        pulled(full, listener=listener, retries=3)
    lock.__exit__(None, None, None)
    assert "holds a lock on the table" in caught.value.hint
    assert caught.value.exit_code == exit_code
    assert listener.notices == []
    assert whole_batches(full) == rows
    goes_on(full)


def test_a_locked_source_is_waited_for_as_long_as_the_server_allows(full: Pair) -> None:
    full.source(f"alter database {full.source_db} set lock_timeout to '200ms'")
    with locked(full, "source"), pytest.raises(Stopped, match=r"the server says: .*lock timeout") as caught:
        pulled(full, retries=3)
    assert "holds a lock on the table" in caught.value.hint
    assert caught.value.exit_code == 3
    goes_on(full)


def test_a_statement_timeout_of_the_server_is_named_and_not_tried_again(full: Pair) -> None:
    role = f"alter role postgres in database {full.source_db}"
    full.source(f"{role} set statement_timeout to '700ms'")
    listener = Meanwhile()
    with gate(full), pytest.raises(Stopped, match=r"the server says: .*statement timeout") as caught:
        pulled(full, where=AT_THE_GATE, listener=listener, retries=3)
    assert "ALTER ROLE ... SET statement_timeout" in caught.value.hint
    assert caught.value.exit_code == 4
    assert listener.notices == []
    assert whole_batches(full) > 0
    full.source(f"{role} reset statement_timeout")
    goes_on(full)


def test_a_deadlock_with_somebody_else_is_tried_again(full: Pair) -> None:
    full.target(f"alter database {full.target_db} set deadlock_timeout to '100ms'")
    listener = Meanwhile()
    with psycopg.connect(full.target_url) as other:
        other.execute("set deadlock_timeout to '1h'")  # the one who looks first gives way
        insert_message(other, 250)
        future = in_background(lambda: pulled(full, listener=listener, retries=3))
        eventually(lambda: waits(full, "target") or future.done())
        insert_message(other, 220)
    assert counts(future.result()) == (ROWS - 2, 0, 2, 0)
    assert "deadlock detected" in listener.notices[0]
    assert full.same(TABLE)


@pytest.mark.parametrize("on_conflict", ["skip", "update"])
def test_somebody_who_writes_the_same_rows_meanwhile_is_no_trouble(full: Pair, on_conflict: str) -> None:
    done = threading.Event()

    def write() -> int:
        written = 0
        with psycopg.connect(full.target_url, autocommit=True) as other:
            for number in range(ROWS - 1, 0, -3):
                with suppress(psycopg.errors.UniqueViolation):
                    insert_message(other, number)
                    written += 1
                if done.is_set():
                    break
        return written

    with ThreadPoolExecutor(1) as pool:
        theirs = pool.submit(write)
        tally = pulled(full, on_conflict=on_conflict, batch_size=20).tally
        done.set()
    assert (tally.fetched, tally.updated, tally.failed) == (ROWS, 0, 0)
    assert tally.inserted + theirs.result() == ROWS
    assert full.same(TABLE)


# --- the servers -----------------------------------------------------------------------------------------


class User:
    """Somebody at a shell: a pull in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def sends(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def reads(self, text: str) -> None:
        """Wait until a line with the text is printed."""
        assert self._process.stdout
        assert any(text in line for line in self._process.stdout), f"it ended without a word of {text}"

    def ends(self, expected: int) -> str:
        """Wait for the end and return what was printed since."""
        said, _ = self._process.communicate(timeout=20)
        assert self._process.returncode == expected, said
        assert "Traceback" not in said
        return said

    def is_interrupted(self, number: signal.Signals, rows: Callable[[], int]) -> None:
        """Interrupt a pull and see that it ends soon, says what is in, and how to go on."""
        begin = time.monotonic()
        self.sends(number)
        said = self.ends(130)
        assert time.monotonic() - begin < 3
        assert "cancellation" not in said
        assert f"error: interrupted\nhint: whole batches are in; {GO_ON} to go on\n" in said
        assert f"inserted {rows():,} " in said if rows() else "so far" not in said


@contextmanager
def user_pulls(pair: Pair, *options: str, source: str | None = None) -> Iterator[User]:
    urls = {"SERVER_DB_URL": source or pair.source_url, "LOCAL_DB_URL": pair.target_url}
    with subprocess.Popen(
        [sys.executable, "-m", "pgpull", "pull", TABLE, "--batch-size", str(BATCH), *options],
        env={**os.environ, **urls},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # An interrupt from the keyboard is for the test run alone.
        start_new_session=True,
    ) as process:
        try:
            yield User(process)
        finally:
            process.kill()


@contextmanager
def user_at_the_gate(pair: Pair, *options: str, source: str | None = None) -> Iterator[tuple[User, Any]]:
    """Have a user whose pull has come to the gate, and who waits there for more rows."""
    with gate(pair) as opened, user_pulls(pair, "--where", AT_THE_GATE, *options, source=source) as user:
        eventually(lambda: rows_in(pair) >= MIDDLE - 2 * BATCH)
        yield user, opened


def test_a_source_server_that_dies_for_good_is_a_clear_error(mortal: Pair) -> None:
    with user_at_the_gate(mortal, "--retries", "1") as (user, _):
        mortal.source_server.kill()
        said = user.ends(4)
    assert "error: the connection to the server was lost: cannot connect to the server" in said
    assert f"hint: whole batches are in; {GO_ON} to go on" in said
    assert f"inserted {whole_batches(mortal):,} " in said
    mortal.source_server.start()
    goes_on(mortal)


def test_a_target_server_that_dies_for_good_is_a_clear_error_and_its_batches_are_safe(mortal: Pair) -> None:
    with user_at_the_gate(mortal, "--retries", "1") as (user, opened):
        mortal.target_server.kill()
        opened()
        said = user.ends(4)
    mortal.target_server.start()
    assert "error: the connection to local was lost: cannot connect to local" in said
    assert f"hint: whole batches are in; {GO_ON} to go on" in said
    assert f"inserted {whole_batches(mortal):,} " in said
    goes_on(mortal)


def test_a_target_server_that_dies_and_comes_back_is_waited_for(mortal: Pair) -> None:
    server = mortal.target_server
    coming_back = threading.Timer(1, server.start)

    def die() -> None:
        server.kill()
        coming_back.start()

    listener = Meanwhile(500, die)
    report = pulled(mortal, listener=listener, retries=6)
    coming_back.join()
    assert listener.notices
    assert counts(report) == (ROWS, 0, 0, 0)
    assert mortal.same(TABLE)


def test_a_full_disk_is_named_and_what_was_committed_stays(make_pair: MakePair, own_server: OwnServer) -> None:
    pair = make_pair(target_server=own_server(megabytes=72))
    pair.add_messages("source", ROWS)
    rows = "select repeat(md5(n::text), 20) as t from generate_series(1, {}) n"
    pair.target(f"create table spare as {rows.format(500)}", "create table filler (t text)")
    with suppress(psycopg.errors.DiskFull):
        while True:
            pair.target(f"insert into filler {rows.format(9_000)}")
    pair.target("drop table spare")
    with pytest.raises(Stopped, match=r"local says: .*No space left on device") as caught:
        pulled(pair)
    assert "the disk of local is full: make room" in caught.value.hint
    assert caught.value.exit_code == (4 if whole_batches(pair) else 3)
    pair.target("drop table filler")
    goes_on(pair)


# --- the client ------------------------------------------------------------------------------------------

BUMP = """
    create function askwealth.bump() returns trigger language plpgsql as $$ begin raise 'fired'; end $$;
    create trigger a before insert on askwealth.message for each row execute function askwealth.bump();
    create trigger b before insert on askwealth.message for each row execute function askwealth.bump();
    alter table askwealth.message enable always trigger b;
"""


@pytest.mark.parametrize("rows", [0, 1, 500])
def test_a_killed_client_leaves_whole_batches_no_locks_and_triggers_as_they_stood(
    full: Pair, rows: int
) -> None:
    states = "select tgname, tgenabled from pg_trigger order by 1"
    full.target(BUMP)
    with gate(full), user_pulls(full, "--where", AT_THE_GATE) as user:
        user.reads("GUARD")
        eventually(lambda: rows_in(full) >= rows)
        user.sends(signal.SIGKILL)
        user.ends(-signal.SIGKILL)
        eventually(lambda: ours(full, "target") == 0)
    eventually(lambda: ours(full, "source") == 0)
    assert full.target(states) == [("a", "O"), ("b", "A")]
    assert whole_batches(full) >= rows
    goes_on(full)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_in_the_middle_ends_the_run_soon_and_tidily(
    full: Pair, make_proxy: MakeProxy, number: signal.Signals
) -> None:
    proxy = make_proxy(full.source_server)
    proxy.slow(100_000)
    with user_pulls(full, source=full.source_through(proxy)) as user:
        eventually(lambda: rows_in(full) >= 200)
        user.is_interrupted(number, lambda: whole_batches(full))
    goes_on(full)


@pytest.mark.skipif(sys.platform != "linux", reason="nothing tells from outside what a program has read")
@pytest.mark.parametrize("program", [["-m", "pgpull", "pull", TABLE], [str(SCRIPT)]])
def test_an_interrupt_while_the_program_is_still_being_read_ends_it_without_a_traceback(
    program: list[str],
) -> None:
    with subprocess.Popen(
        [sys.executable, *program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        eventually(lambda: "psycopg_binary" in Path(f"/proc/{process.pid}/maps").read_text())
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=20)
    assert (process.returncode, printed, said) == (130, "", "interrupted; nothing was written\n")


def test_an_interrupt_while_the_source_is_silent_ends_the_run_soon(full: Pair, make_proxy: MakeProxy) -> None:
    proxy = make_proxy(full.source_server)
    with user_at_the_gate(full, source=full.source_through(proxy)) as (user, _):
        proxy.stall()
        user.is_interrupted(signal.SIGINT, lambda: whole_batches(full))


def test_an_interrupt_while_the_source_is_silent_before_its_first_row_ends_the_run_soon(
    full: Pair, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(full.source_server)
    with locked(full, "source"), user_pulls(full, source=full.source_through(proxy)) as user:
        eventually(lambda: waits(full, "source"))
        proxy.stall()
        user.is_interrupted(signal.SIGTERM, lambda: 0)


def test_an_interrupt_while_the_target_is_locked_ends_the_run_soon(full: Pair) -> None:
    with user_at_the_gate(full) as (user, opened):
        before = whole_batches(full)
        with locked(full):
            opened()
            eventually(lambda: waits(full, "target"))
            user.is_interrupted(signal.SIGINT, lambda: before)
    goes_on(full)


def test_an_interrupt_between_two_tries_ends_the_run_soon(full: Pair, make_proxy: MakeProxy) -> None:
    proxy = make_proxy(full.source_server)
    with user_at_the_gate(full, source=full.source_through(proxy)) as (user, _):
        proxy.refuse()
        proxy.cut()
        user.reads("trying again in 2 s (3 of 6)")
        user.is_interrupted(signal.SIGINT, lambda: whole_batches(full))


def test_a_source_lost_twice_while_rows_are_merged_is_read_to_its_end(
    pair: Pair, make_proxy: MakeProxy
) -> None:
    pair.add_messages("source", 3_000)
    pair.add_messages("target", 10)
    proxy = make_proxy(pair.source_server)

    class Saw(Listener):
        cuts = 2

        def progressed(self, tally: Tally, size: int) -> None:
            if self.cuts and tally.inserted:
                self.cuts -= 1
                proxy.cut()

    report = pull(
        TABLE, source=pair.source_through(proxy), target=pair.target_url, batch_size=100, listener=Saw()
    )
    assert report.tally.inserted == 2_990
    assert pair.same(TABLE)


def test_a_row_of_100_mb_comes_whole_among_small_ones(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key, v text)")
    pair.source(
        "insert into t select n, repeat('abcdefghij', case n when 50 then 1e7::int else 1 end)"
        " from generate_series(1, 100) n"
    )
    assert pulled(pair, "t", jobs=2).tally == Tally(100, inserted=100)
    sums = "select id, length(v), md5(v) from t order by 1"
    assert pair.target(sums) == pair.source(sums)


def test_a_flood_of_rejects_ends_at_the_limit_and_all_of_them_are_kept(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key)")
    pair.source("insert into t select generate_series(1, 100000)")
    pair.target("alter table t add check (id < 0)")
    with pytest.raises(Stopped, match="more than 2000 allowed") as caught:
        pulled(pair, "t", max_errors=2000, jobs=2, rejects="flood")
    assert caught.value.written == 0
    assert len(Path("flood").read_text().splitlines()) >= 2001
