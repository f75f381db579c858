"""How the server is treated: no faster than allowed, and not at all while it has enough to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from pgpull import PlanError, Report, Tally, UsageError, pacing, parting, pull
from pgpull.listening import Listener
from pgpull.manners import Load, Manners, Rate, Threshold
from tests.support import Pair

TABLE = "askwealth.message"
ROWS = 2_000


@pytest.fixture
def full(pair: Pair) -> Pair:
    """Give a pair whose source has rows."""
    pair.add_messages("source", ROWS)
    return pair


class Hears(Listener):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def noticed(self, text: str) -> None:
        self.notices.append(text)

    told = noticed


def pulled(pair: Pair, **words: Any) -> Report:
    return pull(TABLE, **{"source": pair.source_url, "target": pair.target_url, **words})


# --- words -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "rate"),
    [
        ("20MB/s", Rate(bytes=20e6)),
        ("1.5 kB/s", Rate(bytes=1500)),
        ("700b", Rate(bytes=700)),
        (["5000rows/s"], Rate(rows=5000)),
        (["1 row/s", "1GB/s", "2GB/s"], Rate(bytes=1e9, rows=1)),
        ([], Rate()),
    ],
)
def test_a_rate_is_of_bytes_or_of_rows_or_of_both(texts: Any, rate: Rate) -> None:
    assert Rate.parse(texts) == rate


@pytest.mark.parametrize("text", ["", "20", "0MB/s", "-1MB/s", "20MB/m", "fast", "1e3b"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a rate") as caught:
        Rate.parse(text)
    assert "--max-rate 20MB/s" in caught.value.hint


def test_a_pause_is_for_lag_or_for_sessions_at_work() -> None:
    assert Threshold.parse("lag>30s") == Threshold(Load.LAG, 30)
    assert Threshold.parse("lag > 2min") == Threshold(Load.LAG, 120)
    assert Threshold.parse("active>40") == Threshold(Load.ACTIVE, 40)


@pytest.mark.parametrize("text", ["", "lag", "lag>", "active>many", "active<3", "load>1", "active>-1"])
def test_what_is_no_reason_to_pause_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Threshold.parse(text)


def test_no_workers_are_refused() -> None:
    with pytest.raises(UsageError, match="0 workers"):
        Manners.of(jobs=0)


# --- rates -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("unit", ["rows", "bytes"])
def test_the_server_is_read_no_faster_than_allowed_by_all_workers_together(
    full: Pair, monkeypatch: pytest.MonkeyPatch, jobs: int, unit: str
) -> None:
    monkeypatch.setattr(parting, "WORTH_BYTES", 0)
    size = pulled(full).bytes
    full.target(f"truncate {TABLE}")
    begin = time.monotonic()
    report = pulled(full, jobs=jobs, max_rate=f"{ROWS}rows/s" if unit == "rows" else f"{size}b/s")
    assert time.monotonic() - begin > 0.9
    assert report.plan.jobs == jobs
    assert report.tally == Tally(ROWS, inserted=ROWS)


def test_what_is_read_to_compare_is_held_back_as_well(full: Pair) -> None:
    pulled(full)
    full.source(f"update {TABLE} set role = 'x'")
    before = time.monotonic()
    pulled(full, on_conflict="update", max_rate=f"{2 * ROWS}rows/s", row_versions=False)
    assert time.monotonic() - before > 0.9  # the keys and hashes of all, and then all rows


# --- pauses ----------------------------------------------------------------------------------------------


@contextmanager
def at_work(pair: Pair, sessions: int, seconds: float) -> Iterator[None]:
    """Have some sessions of others at work on the source for so long."""

    def works() -> None:
        with psycopg.connect(pair.source_url) as other:
            up.wait(10)
            other.execute("select pg_sleep(%s)", (seconds,))

    up = threading.Barrier(sessions + 1)
    threads = [threading.Thread(target=works) for _ in range(sessions)]
    for thread in threads:
        thread.start()
    up.wait(10)
    yield
    for thread in threads:
        thread.join()


def test_the_reading_pauses_while_the_server_has_enough_to_do(
    full: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "LOOK_EVERY", 0.1)
    heard = Hears()
    with at_work(full, 3, seconds=3):
        report = pulled(full, pause_when="active>2", listener=heard)
    assert heard.notices == [
        "paused: 3 sessions are at work on the server, more than 2",
        "going on: the server has less to do",
    ]
    assert report.tally.inserted == ROWS


def test_who_watches_the_server_goes_on_by_another_connection_where_his_own_is_gone(
    full: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "LOOK_EVERY", 0.01)

    class EndsTheWatch(Hears):
        ended = 0

        def progressed(self, tally: Tally, size: int) -> None:
            while not self.ended:
                self.ended = len(full.source(END_IDLE))

    report = pulled(full, pause_when="active>50", batch_size=100, jobs=1, listener=EndsTheWatch())
    assert (report.passes, report.tally.inserted) == (1, ROWS)


END_IDLE = """select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = 'pgpull' and state = 'idle'"""


def test_a_server_that_has_little_to_do_is_read_without_a_pause(full: Pair) -> None:
    heard = Hears()
    assert pulled(full, pause_when=["active>50", "lag>1s"], listener=heard).tally.inserted == ROWS
    assert heard.notices == []


def test_who_may_not_see_what_others_do_is_told_what_to_ask_for(full: Pair) -> None:
    full.source(
        "create role plain login",
        "grant usage on schema askwealth to plain",
        f"grant select on {TABLE} to plain",
    )
    theirs = full.url("source", "plain")
    try:
        with pytest.raises(PlanError, match="plain may not see") as caught:
            pulled(full, source=theirs, pause_when="active>5")
        assert 'GRANT pg_monitor TO "plain"' in caught.value.hint
        full.source("grant pg_monitor to plain")
        assert pulled(full, source=theirs, pause_when="active>5").tally.inserted == ROWS
    finally:
        full.source("drop owned by plain", "drop role plain")
