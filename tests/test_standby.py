"""A standby as the source: what it shows is pulled, and what it ends is gone on with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from tenacity import wait_fixed

from pgpull import Conflict, Report, Tally, check, diff, pacing, parting, patience, pull, status, stretching
from pgpull.listening import Listener
from tests.conftest import MakePair
from tests.support import Pair, Proxy, Server

TABLE = "askwealth.message"
ROWS = 3_000

MakeProxy = Callable[..., Proxy]


@pytest.fixture(scope="module")
def primary(newest: int) -> Iterator[Server]:
    server = Server.create(newest)
    yield server
    server.remove()


@pytest.fixture(scope="module")
def standby(primary: Server) -> Iterator[Server]:
    server = primary.standby()
    # a read that is in the way of what comes is ended at once
    server.configure(max_standby_streaming_delay=0, hot_standby_feedback="off")
    yield server
    server.remove()


@pytest.fixture
def full(primary: Server, make_pair: MakePair) -> Pair:
    """Give a pair whose source is the primary, with rows."""
    pair = make_pair(source_server=primary)
    pair.add_messages("source", ROWS)
    # so wide that no buffer on the way holds them all
    wide = "select string_agg(md5(message_id::text || i), '') from generate_series(1, 60) i"
    pair.source(f"update {TABLE} set parts = to_jsonb(({wide}))", f"vacuum analyze {TABLE}")
    return pair


@pytest.fixture
def behind(full: Pair, standby: Server) -> Pair:
    """Give the same pair with the standby as its source."""
    caught_up(full, standby)
    return replace(full, source_server=standby)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pauses between tries short."""
    monkeypatch.setattr(patience, "wait_exponential", lambda **_: wait_fixed(0.05))


def caught_up(pair: Pair, standby: Server) -> None:
    """Wait until the standby shows all that the primary has."""
    [(end,)] = pair.source("select pg_current_wal_insert_lsn()::text")
    while not standby.query("postgres", f"select pg_last_wal_replay_lsn() >= '{end}'")[0][0]:
        threading.Event().wait(0.05)


class Hears(Listener):
    """Keeps what it is told, and does a deed once so many rows are in."""

    def __init__(self, rows: int = 0, deed: Callable[[], object] = lambda: None) -> None:
        self._rows, self._deeds = rows, [deed]
        self.notices: list[str] = []

    def progressed(self, tally: Tally, size: int) -> None:
        if tally.fetched >= self._rows and self._deeds:
            self._deeds.pop()()

    def noticed(self, text: str) -> None:
        self.notices.append(text)


def pulled(pair: Pair, **words: Any) -> Report:
    given = {"source": pair.source_url, "target": pair.target_url, "batch_size": 100, "retries": 4, **words}
    return pull(TABLE, **given)


def shake(full: Pair) -> None:
    """Change rows on the primary, and clean up what a read on the standby still has to see."""
    full.source(f"update {TABLE} set role = role || 'x'", f"vacuum {TABLE}")


@contextmanager
def shaken(full: Pair, pause: float) -> Iterator[None]:
    """Keep doing so, with so many seconds between."""
    over = threading.Event()

    def shakes() -> None:
        while not over.wait(pause):
            full.source(f"update {TABLE} set annotations = null", f"vacuum {TABLE}")

    thread = threading.Thread(target=shakes)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_standby_is_pulled_from_as_its_primary_is(
    behind: Pair, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    monkeypatch.setattr(parting, "WORTH_BYTES", 0)
    report = pulled(behind, jobs=jobs, verify=True)
    assert report.tally == Tally(ROWS, inserted=ROWS)
    assert (report.plan.jobs, report.plan.alone) == (jobs, "")
    assert behind.same(TABLE)
    assert pulled(behind, on_conflict="update").tally == Tally(ROWS, skipped=ROWS)


def test_all_that_only_looks_works_on_a_standby(behind: Pair) -> None:
    sides: dict[str, Any] = {"source": behind.source_url, "target": behind.target_url}
    assert diff(TABLE, **sides)[0].comparison.missing == ROWS
    assert status(TABLE, **sides).total.missing == ROWS
    assert any("it is a standby" in finding.fact for finding in check(TABLE, **sides).findings)


def test_a_standby_as_the_target_is_refused(behind: Pair, full: Pair) -> None:
    with pytest.raises(Exception, match="it is a standby"):
        pull(TABLE, source=full.target_url, target=behind.source_url)


def test_a_read_that_a_standby_ends_goes_on_at_a_new_instant(
    behind: Pair, full: Pair, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(behind.source_server)
    proxy.slow(3_000_000)
    heard = Hears(500, lambda: shake(full))
    report = pulled(behind, source=behind.source_through(proxy), listener=heard, on_conflict="update", jobs=1)
    assert any("conflict with recovery" in notice for notice in heard.notices)
    assert report.passes == 2
    assert report.tally.inserted == ROWS
    caught_up(full, behind.source_server)
    assert behind.same(TABLE)


def test_a_standby_that_ends_every_read_is_given_up_with_the_way_out(
    behind: Pair, full: Pair, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(behind.source_server)
    proxy.slow(3_000_000)
    with shaken(full, 0.02), pytest.raises(Conflict, match="conflict with recovery") as caught:
        pulled(behind, source=behind.source_through(proxy), batch_size=ROWS, retries=2, jobs=1)
    assert "--no-snapshot" in caught.value.hint


def test_short_transactions_get_through_where_long_ones_do_not(
    behind: Pair, full: Pair, make_proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretching, "ROWS", 1000)
    proxy = make_proxy(behind.source_server)
    proxy.slow(6_000_000)
    heard = Hears()
    with shaken(full, 0.4):
        report = pulled(
            behind, source=behind.source_through(proxy), listener=heard, snapshot=False, retries=6, jobs=1
        )
    assert report.tally == Tally(ROWS, inserted=ROWS)


def test_the_reading_pauses_while_the_standby_lags(
    behind: Pair, full: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "LOOK_EVERY", 0.1)
    standby, heard = behind.source_server, Hears()
    standby.sql("postgres", "select pg_wal_replay_pause()")
    full.source("create table askwealth.later as select 1")
    threading.Event().wait(1.2)
    threading.Timer(1.0, lambda: standby.sql("postgres", "select pg_wal_replay_resume()")).start()
    assert pulled(behind, listener=heard, pause_when="lag>1s").tally.inserted == ROWS
    assert heard.notices[0].startswith("paused: a replica lags by")
    assert heard.notices[-1] == "going on: the server has less to do"
