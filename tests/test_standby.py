"""A standby as the source: it is pulled from as its primary is, also while it ends reads to keep up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from pgpull import (
    Listener,
    PlanError,
    ReadEnded,
    Report,
    Tally,
    UnsafeTarget,
    check,
    diff,
    narrowing,
    pacing,
    pull,
    pull_tables,
    stretching,
)
from pgpull.plans import Method, Plan
from pgpull.requesting import make_request
from pgpull.shapes import TableName
from tests.conftest import MakePair
from tests.support import Pair, Proxy, Server
from tests.support.servers import Statement

TABLE = "askwealth.message"
ROWS = 3_000
READER = "standby_reader"
# So wide that a read of all is under way when the first batches are in: no buffer in between holds as much.
WIDE = """
create table t (id int primary key, at timestamptz not null, v text not null);
create index on t (at);
create table churn (n int);
"""
WIDE_ROWS = 2_000
FILL = """
insert into t
select n, timestamptz '2025-01-01' + n * interval '1 hour',
       (select string_agg(md5((n * m)::text), '') from generate_series(1, 320) m)
from generate_series({}, {}) n
"""


@dataclass(frozen=True)
class Twins:
    """A pair whose source is a standby, and that one's primary."""

    pair: Pair
    primary: Server

    def write(self, *statements: Statement, until: str = "replay") -> None:
        """Execute statements on the primary, and wait until the standby has replayed them."""
        # VACUUM leaves its end of the WAL unwritten, and the commit after it does not
        self.primary.sql(self.pair.source_db, *statements, "select txid_current()")
        [(position,)] = self.primary.query("postgres", "select pg_current_wal_flush_lsn()")
        asked = f"select pg_last_wal_{until}_lsn() >= '{position}'"
        end = time.monotonic() + 20
        while self.pair.source_server.query("postgres", asked) != [(True,)]:
            assert time.monotonic() < end, "the standby does not follow"
            time.sleep(0.01)

    def write_under_reads(self, *statements: Statement) -> None:
        """Execute statements that end open reads of the standby.

        A read whose client takes no rows may hear of it only when it goes on, and the standby waits for that.
        """
        self.write(*statements, until="receive")
        time.sleep(0.1)

    def end_reads(self) -> None:
        """Remove rows for good that every open read of the standby might still want to see."""
        self.write_under_reads("insert into churn values (1)", "delete from churn", "vacuum churn")


@pytest.fixture(scope="module")
def mates(newest: int) -> Iterator[tuple[Server, Server]]:
    """Give a primary and its standby, which never waits for a read."""
    primary = Server.create(newest)
    try:
        standby = primary.standby()
        try:
            primary.sql("postgres", f"create role {READER} login", f"grant pg_read_all_data to {READER}")
            standby.configure(hot_standby_feedback="off", max_standby_streaming_delay="0")
            yield primary, standby
        finally:
            standby.remove()
    finally:
        primary.remove()


@pytest.fixture
def make_twins(mates: tuple[Server, Server], make_pair: MakePair) -> Callable[..., Twins]:
    """Make pairs whose source is the standby."""

    def make(schema: str | None = None, *fill: str) -> Twins:
        primary, standby = mates
        made = make_pair(schema=schema, source_server=primary)
        twins = Twins(replace(made, source_server=standby), primary)
        if schema is None:
            made.add_messages("source", ROWS)
        twins.write(*fill)
        return twins

    return make


@pytest.fixture
def wide(make_twins: Callable[..., Twins]) -> Twins:
    """Give twins with a table that takes a while to read."""
    return make_twins(WIDE, FILL.format(1, WIDE_ROWS), "analyze t")


pytestmark = pytest.mark.usefixtures("eager", "hasty")


class Meanwhile(Listener):
    """Does a deed in some passes, when so many rows have come in each (none: when its plan stands)."""

    def __init__(self, deed: Callable[[], object], rows: int = 0, passes: int = 1) -> None:
        self._deed, self._rows, self._left = deed, rows, passes
        self._armed = False
        self._from = 0
        self._last = 0
        self.notices: list[str] = []

    def planned(self, *_: Any) -> None:
        self._armed, self._from = self._left > 0, self._last
        self._when(self._last)

    def progressed(self, tally: Tally, size: int) -> None:
        self._last = tally.inserted + tally.updated
        self._when(self._last)

    def noticed(self, text: str) -> None:
        self.notices.append(text)

    told = noticed

    def _when(self, rows: int) -> None:
        if self._armed and rows - self._from >= self._rows:
            self._armed = False
            self._left -= 1
            # a server that waits until we read on hears of nothing, and so does not keep up
            deed = threading.Thread(target=self._deed)
            deed.start()
            deed.join(2)


def pulled(twins: Twins, table: str = "t", **words: Any) -> Report:
    pair = twins.pair
    given = {
        "source": pair.url("source", READER),
        "target": pair.target_url,
        "batch_size": 100,
        "retries": 2,
        **words,
    }
    return pull(table, **given)


# --- at rest ---------------------------------------------------------------------------------------------


def test_a_standby_is_pulled_from_as_its_primary_is(make_twins: Callable[..., Twins]) -> None:
    twins = make_twins()
    assert twins.pair.source("select pg_is_in_recovery()") == [(True,)]
    report = pulled(twins, TABLE, verify=True)
    assert (report.tally, report.passes) == (Tally(ROWS, inserted=ROWS), 1)
    assert twins.pair.same(TABLE)
    twins.write(f"update {TABLE} set role = 'later' where extract(hour from created_at) = 7")
    twins.write(f"delete from {TABLE} where extract(hour from created_at) = 8")
    again = pulled(twins, TABLE, mirror=True, on_conflict="update")
    assert (again.tally.updated, again.deleted) == (ROWS // 24, ROWS // 24)
    assert twins.pair.same(TABLE)


def test_the_primary_of_a_standby_is_no_target_for_its_rows(make_twins: Callable[..., Twins]) -> None:
    twins = make_twins()
    with pytest.raises(UnsafeTarget):
        pulled(twins, TABLE, target=twins.primary.url(twins.pair.source_db))
    with pytest.raises(PlanError, match="takes no writes: it is a standby"):
        pulled(twins, TABLE, source=twins.pair.target_url, target=twins.pair.source_url)


def test_what_is_remembered_of_a_pull_from_a_standby_holds_for_the_next(
    make_twins: Callable[..., Twins], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgpull.versions._WORTH_IT", 0)
    twins = make_twins()
    pulled(twins, TABLE)
    twins.write(f"update {TABLE} set role = 'later' where extract(hour from created_at) = 7")
    report = pulled(twins, TABLE, on_conflict="update")
    assert report.tally == Tally(ROWS, updated=ROWS // 24, skipped=ROWS - ROWS // 24)
    assert report.plan.comparison
    assert report.plan.comparison.method is Method.VERSIONS
    assert twins.pair.same(TABLE)


def test_several_workers_share_a_standbys_snapshot(wide: Twins) -> None:
    before = wide.pair.images("source", "t")
    # the standby waits for these reads before it replays what the primary does meanwhile
    wide.pair.source_server.configure(max_standby_streaming_delay=-1)
    try:
        change = Meanwhile(lambda: wide.write("delete from t where id % 2 = 0"), 100)
        report = pulled(wide, jobs=3, listener=change)
    finally:
        wide.pair.source_server.configure(max_standby_streaming_delay=0)
    assert (report.plan.jobs, report.plan.alone, report.passes) == (3, "", 1)
    assert wide.pair.images("target", "t") == before


# --- reads that it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("rows", [0, 100])
def test_a_read_that_a_standby_ends_goes_on_at_a_new_instant_and_loses_nothing(
    wide: Twins, rows: int, jobs: int
) -> None:
    def change() -> None:
        changes = "delete from t where id % 5 = 0", "update t set v = 'later' where id % 5 = 1"
        wide.write_under_reads(*changes, FILL.format(WIDE_ROWS + 1, WIDE_ROWS + 50))
        wide.end_reads()

    meanwhile = Meanwhile(change, rows)
    report = pulled(wide, jobs=jobs, listener=meanwhile, mirror=True, max_delete="100%", on_conflict="update")
    assert report.passes == 2
    assert wide.pair.same("t")
    assert report.tally.failed == 0
    assert "trying again" in meanwhile.notices[0]


def test_a_standby_that_ends_read_after_read_is_asked_on_as_long_as_each_brings_rows(wide: Twins) -> None:
    meanwhile = Meanwhile(wide.end_reads, 100, passes=3)
    report = pulled(wide, jobs=1, retries=1, listener=meanwhile)  # several would be through too soon
    assert report.passes == 4
    assert report.tally == Tally(WIDE_ROWS, inserted=WIDE_ROWS)
    assert all("(1 of 1)" in notice for notice in meanwhile.notices)
    assert wide.pair.same("t")


@contextmanager
def churning(twins: Twins) -> Iterator[None]:
    """Write and clean on the primary again and again, for the length of a block."""
    over = threading.Event()

    def churn() -> None:
        while not over.wait(0.2):
            twins.primary.sql(
                twins.pair.source_db,
                "update t set v = v || 'x' where id = 1",
                "delete from t where id = 2",
                "insert into t values (2, '2025-01-01', 'again')",
                "vacuum t",
            )

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_standby_that_replays_conflicting_changes_all_the_time_is_pulled_from_nevertheless(
    wide: Twins, make_proxy: Callable[..., Proxy], jobs: int
) -> None:
    standby = wide.pair.source_server
    proxy = make_proxy(standby)
    proxy.slow(15_000_000 / jobs)
    standby.configure(max_standby_streaming_delay="500ms")
    try:
        with churning(wide):
            report = pulled(wide, source=wide.pair.source_through(proxy), jobs=jobs, retries=6)
    finally:
        standby.configure(max_standby_streaming_delay=0)
    assert report.passes > 1
    assert (report.tally.fetched, report.tally.inserted) == (WIDE_ROWS, WIDE_ROWS)
    pulled(wide, on_conflict="update")
    assert wide.pair.same("t")


@pytest.mark.parametrize("words", [{}, {"replace": True}])
def test_a_standby_that_ends_every_read_is_given_up_with_a_clear_error(
    wide: Twins, words: dict[str, Any]
) -> None:
    meanwhile = Meanwhile(wide.end_reads, 0, passes=99)
    with pytest.raises(ReadEnded, match="due to conflict with recovery") as caught:
        pulled(wide, retries=2, listener=meanwhile, **words)
    assert len(meanwhile.notices) == 2
    assert "hot_standby_feedback" in caught.value.hint
    assert (caught.value.exit_code, caught.value.written) == (3, 0)
    assert wide.pair.target("select count(*) from t") == [(0,)]


class LongReadsEnd(Listener):
    """Ends each read of a window that is longer than a stretch of time, and keeps what it hears."""

    def __init__(self, end: Callable[[], object], longest: timedelta) -> None:
        self._end, self._longest = end, longest
        self.windows: list[timedelta] = []
        self.notices: list[str] = []

    def planned(self, plan: Plan, *_: Any) -> None:
        window = plan.request.scope.window
        assert window
        assert window.since
        assert window.until
        self.windows.append(window.until - window.since)
        if self.windows[-1] > self._longest:
            self._end()

    def noticed(self, text: str) -> None:
        self.notices.append(text)

    told = noticed


SPRING: Any = {"window": "at", "since": "2025-01-01", "until": "2025-03-26"}


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_window_that_a_standby_lets_nobody_read_is_read_in_smaller_ones(wide: Twins, jobs: int) -> None:
    wide.pair.target("alter table t add constraint c check (id % 100 <> 0)")
    pulled(wide, window="at", since="2025-01-05", until="2025-01-07")
    hears = LongReadsEnd(wide.end_reads, timedelta(days=42))
    report = pulled(wide, jobs=jobs, listener=hears, **SPRING)
    assert sorted(set(hears.windows), reverse=True) == [timedelta(days=84), timedelta(days=42)]
    assert any("smaller windows, each at an instant of its own" in notice for notice in hears.notices)
    refused = WIDE_ROWS // 100
    assert report.tally == Tally(WIDE_ROWS, WIDE_ROWS - refused - 47, 0, 47, refused)
    assert report.plan.request.scope.window == make_request(TableName("public", "t"), **SPRING).scope.window
    assert wide.pair.target("select count(*) from t") == [(WIDE_ROWS - refused,)]
    assert report.rejects
    assert len(report.rejects.read_text().splitlines()) == refused + 1  # one of the first pull's


def test_rows_that_came_before_a_window_was_cut_are_counted_once(wide: Twins) -> None:
    class AfterSome(LongReadsEnd):
        def planned(self, plan: Plan, *_: Any) -> None:
            if self.windows:
                super().planned(plan)
            self.windows.append(timedelta())

        def progressed(self, tally: Tally, size: int) -> None:
            if tally.inserted >= 100 and len(self.windows) == 1:
                self.windows.append(timedelta())
                self._end()

    report = pulled(wide, listener=AfterSome(wide.end_reads, timedelta(days=42)), **SPRING)
    assert report.tally == Tally(WIDE_ROWS, inserted=WIDE_ROWS)
    assert wide.pair.same("t")


def test_a_standby_that_ends_reads_of_the_smallest_windows_too_is_given_up_and_tells_what_is_in(
    wide: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(narrowing, "_SHORTEST", timedelta(days=21))

    class LaterReadsEnd(LongReadsEnd):
        def planned(self, plan: Plan, *_: Any) -> None:
            super().planned(plan)
            if self.windows[-1] < timedelta(days=42) and wide.pair.target("select count(*) from t") > [(600,)]:
                self._end()

    with pytest.raises(ReadEnded) as caught:
        pulled(wide, listener=LaterReadsEnd(wide.end_reads, timedelta(days=21)), **SPRING)
    [(rows,)] = wide.pair.target("select count(*) from t")
    assert caught.value.written == rows > 600
    assert caught.value.exit_code == 4


def test_a_read_that_a_standby_ends_among_several_tables_is_none_of_the_others_loss(
    make_twins: Callable[..., Twins],
) -> None:
    twins = make_twins(f"{WIDE} create table u (id int primary key);", FILL.format(1, WIDE_ROWS))
    twins.write("insert into u select generate_series(1, 1000)")
    meanwhile = Meanwhile(twins.end_reads, 100, passes=2)
    way: Any = {"retries": 2, "listener": meanwhile}
    urls: Any = {"source": twins.pair.source_url, "target": twins.pair.target_url}
    summary = pull_tables("*", **urls, batch_size=100, way=way)
    assert summary.passes == 3
    assert not summary.failures
    assert summary.tally == Tally(WIDE_ROWS + 1000, inserted=WIDE_ROWS + 1000)
    assert twins.pair.same("t")


def test_a_table_that_is_rewritten_on_the_primary_is_read_anew(wide: Twins) -> None:
    meanwhile = Meanwhile(lambda: wide.write_under_reads("truncate t", FILL.format(1, 500)))
    report = pulled(wide, listener=meanwhile, verify=True)
    assert (report.tally, report.passes) == (Tally(500, inserted=500), 2)


def test_check_and_diff_read_a_standby_and_check_says_what_it_may_do_to_a_read(wide: Twins) -> None:
    found = check("t", source=wide.pair.source_url, target=wide.pair.target_url)
    assert found.exit_code == 0
    assert any("max_standby_streaming_delay 0" in finding.fact for finding in found.findings)
    [difference] = diff("t", source=wide.pair.source_url, target=wide.pair.target_url)
    assert difference.comparison.missing == WIDE_ROWS


# --- short transactions, and pauses ----------------------------------------------------------------------


@pytest.mark.parametrize("rows", [100, 900])
def test_short_transactions_go_on_where_a_read_was_ended(
    wide: Twins, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(stretching, "ROWS", 300)
    heard = Meanwhile(wide.end_reads, rows)
    pair = wide.pair
    words: dict[str, Any] = {"batch_size": 50, "snapshot": False, "listener": heard}
    report = pull("t", source=pair.source_url, target=pair.target_url, **words)
    assert report.tally == Tally(WIDE_ROWS, inserted=WIDE_ROWS)
    assert pair.same("t")


def test_the_reading_pauses_while_the_standby_lags(
    make_twins: Callable[..., Twins], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "LOOK_EVERY", 0.1)
    twins = make_twins()
    pair, heard = twins.pair, Meanwhile(lambda: None)
    pair.source_server.sql("postgres", "select pg_wal_replay_pause()")
    twins.primary.sql(pair.source_db, "create table later as select 1")
    time.sleep(1.2)
    resume = threading.Timer(1, pair.source_server.sql, ("postgres", "select pg_wal_replay_resume()"))
    resume.start()
    report = pull(TABLE, source=pair.source_url, target=pair.target_url, pause_when="lag>1s", listener=heard)
    resume.join()
    assert report.tally == Tally(ROWS, inserted=ROWS)
    assert heard.notices[0].startswith("paused: a replica lags by")
    assert heard.notices[-1] == "going on: the server has less to do"
