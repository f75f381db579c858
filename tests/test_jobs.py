"""Several workers share a table: rows, tally and end are those of one, of one instant of the source."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpull import Report, Stopped, Summary, Tally, TooManyRejects, parting, pull, pull_tables
from pgpull.calling import run
from pgpull.endpoints import parse_url
from pgpull.listening import Listener
from pgpull.manners import Manners
from pgpull.model import Job, Wanted
from pgpull.plans import Part, Plan, Strategy
from pgpull.requesting import make_request
from pgpull.results import Reject
from pgpull.sessions import Session
from pgpull.shapes import TablePattern
from pgpull.streams import Outflow
from tests.conftest import MakePair, OwnServer
from tests.support import Pair, Proxy, Side
from tests.support.proxy import through
from tests.support.servers import HOST

TABLE = "askwealth.message"
ROWS = 3_000
SIDES: tuple[Side, Side] = ("source", "target")

MakeProxy = Callable[..., Proxy]


pytestmark = pytest.mark.usefixtures("eager", "hasty")


@pytest.fixture
def full(pair: Pair) -> Pair:
    """Give a pair whose source has rows."""
    pair.add_messages("source", ROWS)
    pair.source(f"analyze {TABLE}")
    return pair


HOUR = "extract(hour from created_at at time zone 'UTC')"


@pytest.fixture
def gappy(full: Pair) -> Pair:
    """Give a pair whose target lacks a sixth of the rows, and has another twelfth otherwise."""
    pulled(full)
    full.target(
        f"delete from {TABLE} where {HOUR} in (3, 9, 15, 21)",
        f"update {TABLE} set role = 'mine' where {HOUR} in (4, 16)",
    )
    return full


class Hears(Listener):
    """Keeps what it hears, and does a deed once so many rows are in."""

    def __init__(self, rows: int = 0, deed: Callable[[], object] = lambda: None) -> None:
        self._rows, self._deeds = rows, [deed]
        self.plans: list[Plan] = []
        self.notices: list[str] = []
        self.rejects: list[Reject] = []
        self.last = Tally()

    def planned(self, plan: Plan, source: Session, target: Session) -> None:
        self.plans.append(plan)

    def progressed(self, tally: Tally, size: int) -> None:
        self.last = tally
        if tally.fetched >= self._rows and self._deeds:
            self._deeds.pop()()

    def noticed(self, text: str) -> None:
        self.notices.append(text)

    def rejected(self, reject: Reject) -> None:
        self.rejects.append(reject)


def pulled(pair: Pair, table: str = TABLE, **words: Any) -> Report:
    given = {"source": pair.source_url, "target": pair.target_url, "jobs": 3, "batch_size": 50, **words}
    return pull(table, **given)


def alone(pair: Pair, table: str, **words: Any) -> str:
    """Pull what is not shared out, see that it comes nevertheless, and return why it is not."""
    report = pulled(pair, table, **words)
    assert (report.plan.jobs, report.plan.parts) == (1, ())
    assert pair.same(table)
    return report.plan.alone


# --- as one would ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_many_bring_what_one_brings_and_pulling_again_writes_nothing(full: Pair, jobs: int) -> None:
    report = pulled(full, jobs=jobs, verify=True)
    assert report.tally == Tally(ROWS, inserted=ROWS)
    assert report.plan.jobs == jobs
    assert full.same(TABLE)
    assert pulled(full, jobs=jobs, on_conflict="update").tally == Tally(ROWS, skipped=ROWS)


@pytest.mark.parametrize("on_conflict", ["skip", "update"])
def test_many_merge_as_one_does(full: Pair, on_conflict: str) -> None:
    pulled(full, until="2025-02-01")
    full.target(f"update {TABLE} set role = 'mine' where mod(extract(hour from created_at), 2) = 0")
    here = full.target(f"select count(*), count(*) filter (where role = 'mine') from {TABLE}")[0]
    report = pulled(full, on_conflict=on_conflict)
    updated = here[1] if on_conflict == "update" else 0
    assert report.tally == Tally(ROWS, ROWS - here[0], updated, here[0] - updated)
    assert report.plan.jobs == 3
    assert full.same(TABLE) == (on_conflict == "update")


@pytest.mark.parametrize("on_conflict", ["skip", "update"])
def test_many_share_the_keys_of_rows_that_are_asked_for_by_them(gappy: Pair, on_conflict: str) -> None:
    report = pulled(gappy, on_conflict=on_conflict)
    assert (report.plan.strategy, report.plan.jobs, report.plan.parts) == (Strategy.KEYED, 3, ())
    updated = ROWS // 12 if on_conflict == "update" else 0
    assert report.tally == Tally(ROWS, ROWS // 6, updated, ROWS - ROWS // 6 - updated)
    assert gappy.same(TABLE) == (on_conflict == "update")
    assert pulled(gappy, on_conflict=on_conflict).tally == Tally(ROWS, skipped=ROWS)


def test_rows_refused_by_many_who_share_keys_are_each_counted_once(gappy: Pair) -> None:
    gappy.target(f"alter table {TABLE} add constraint early check ({HOUR} not in (9, 16)) not valid")
    heard = Hears()
    report = pulled(gappy, on_conflict="update", listener=heard)
    assert report.plan.jobs == 3
    assert report.tally == Tally(
        ROWS, ROWS // 6 - ROWS // 24, ROWS // 24, ROWS - ROWS // 6 - ROWS // 12, failed=ROWS // 12
    )
    assert len({reject.key["message_id"] for reject in heard.rejects}) == ROWS // 12


def test_the_source_is_read_at_one_instant_by_all(full: Pair) -> None:
    before = full.images("source", TABLE)

    def change() -> None:
        full.source(
            f"delete from {TABLE} where mod(extract(hour from created_at), 3) = 0",
            f"update {TABLE} set role = 'later'",
        )
        full.add_messages("source", 500, seed="later")

    report = pulled(full, listener=Hears(1, change))
    assert report.plan.jobs == 3
    assert full.images("target", TABLE) == before


def test_a_partitioned_table_is_cut_in_all_its_partitions(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="""
create table p (id int, day int, v text, primary key (id, day)) partition by list (day);
create table p1 partition of p for values in (1) partition by range (id);
create table p1a partition of p1 for values from (0) to (1000);
create table p1b partition of p1 default;
create table p2 partition of p default;
"""
    )
    pair.source("insert into p select n, n % 3, repeat('x', 500) from generate_series(1, 5000) n")
    report = pulled(pair, "p")
    assert report.plan.jobs == 3
    assert report.tally == Tally(5000, inserted=5000)
    assert pair.same("p")


def test_a_window_that_an_index_finds_is_cut_where_its_values_lie(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int primary key, at timestamptz, v text); create index on t (at)"
    )
    pair.source(
        "insert into t select n, timestamptz '2025-01-01' + n * n * interval '1 second', repeat('x', 300)"
        " from generate_series(1, 20000) n",
        "insert into t values (0, null, 'x'), (-1, 'infinity', 'x')",
        "analyze t",
    )
    report = pulled(pair, "t", window="at", since="2025-01-10", until="2025-03-01")
    assert {part.column for part in report.plan.parts if isinstance(part, Part)} == {"at"}
    where = "at >= '2025-01-10Z' and at < '2025-03-01Z'"
    assert report.tally.inserted == pair.source(f"select count(*) from t where {where}")[0][0] > 500
    assert pair.target("select count(*) from t") == pair.source(f"select count(*) from t where {where}")


def test_refused_rows_are_as_many_and_as_legible_as_with_one(full: Pair) -> None:
    full.target(
        f"alter table {TABLE} add constraint whole check (extract(hour from created_at at time zone 'UTC') > 0)"
    )
    heard = Hears()
    report = pulled(full, listener=heard)
    assert report.tally == Tally(ROWS, inserted=ROWS - ROWS // 24, failed=ROWS // 24)
    assert {reject.constraint for reject in heard.rejects} == {"whole"}
    assert len({reject.key["message_id"] for reject in heard.rejects}) == ROWS // 24
    assert report.rejects
    assert len(report.rejects.read_text().splitlines()) == ROWS // 24


def test_the_run_stops_once_more_rows_fail_than_allowed(full: Pair) -> None:
    full.target(f"alter table {TABLE} add check (false) not valid")
    with pytest.raises(Stopped, match="rows were refused, more than 10 allowed"):
        pulled(full, max_errors=10)
    assert full.target(f"select count(*) from {TABLE}") == [(0,)]


def test_several_tables_share_their_workers_one_after_the_other(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table a (id int primary key, v text);"
        " create table b (id int primary key, a int references a)"
    )
    pair.source(
        "insert into a select n, repeat('x', 200) from generate_series(1, 2000) n",
        "insert into b select n, n from generate_series(1, 2000) n",
    )
    summary = pull_tables("*", source=pair.source_url, target=pair.target_url, way={"jobs": 2}, verify=True)
    assert {report.plan.jobs for report in summary.reports} == {2}
    assert summary.tally == Tally(4000, inserted=4000)


def test_long_values_are_compressed_quickly_where_local_can_unless_it_says_how(make_pair: MakePair) -> None:
    pair = make_pair(target_version=15, schema="create table t (id int primary key, v text)")
    if not pair.target(
        "select 1 from pg_settings where name = 'default_toast_compression' and 'lz4' = any(enumvals)"
    ):
        pytest.skip("this PostgreSQL was built without lz4")
    pair.source("insert into t select n, repeat(md5(n::text), 200) from generate_series(1, 9) n")
    for setting, used in (("default", "lz4"), ("pglz", "pglz")):
        pair.target("truncate t")
        if setting != "default":
            pair.target(f"alter database {pair.target_db} set default_toast_compression = {setting}")
        pulled(pair, "t")
        assert pair.target("select distinct pg_column_compression(v) from t") == [(used,)]
        assert pair.same("t")


# --- small tables, side by side --------------------------------------------------------------------------

DOZEN = "".join(f"create table t{n} (id int primary key, v text);" for n in range(12)) + "".join(
    f"create table c{n} (id int primary key, t int references t{n});" for n in range(12)
)


@pytest.fixture
def dozen(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """Give a pair whose source has twelve small tables, and twelve more that refer to them."""
    monkeypatch.undo()
    pair = make_pair(schema=DOZEN)
    for n in range(12):
        pair.source(
            f"insert into t{n} select i, 'v' || i from generate_series(1, 50) i",
            f"insert into c{n} select i, i from generate_series(1, 50) i",
        )
    return pair


def pulled_all(pair: Pair, **words: Any) -> Summary:
    given = {"source": pair.source_url, "target": pair.target_url, "way": {"jobs": 3, "retries": 3}, **words}
    return pull_tables("*", **given)


ALL = [f"{letter}{n}" for letter in "tc" for n in range(12)]


def test_small_tables_come_side_by_side_parents_first(dozen: Pair, make_proxy: MakeProxy) -> None:
    proxy = make_proxy(dozen.source_server)
    summary = pulled_all(dozen, source=dozen.source_through(proxy), verify=True)
    assert proxy.connections >= 3
    assert {report.plan.table.name for report in summary.reports} == set(ALL)
    assert summary.tally == Tally(1200, inserted=1200)
    assert all(dozen.same(table) for table in ALL)
    again = pulled_all(dozen, on_conflict="update")
    assert again.tally == Tally(1200, skipped=1200)


def test_a_table_that_fails_beside_others_fails_alone_and_with_its_children(dozen: Pair) -> None:
    dozen.target(
        "alter table t3 add check (id < 10) not valid",
        "alter table t5 rename column v to w",
        "alter table t5 alter w set not null",
    )
    summary = pulled_all(dozen, max_errors=5, batch_size=10)
    assert {failure.table.name for failure in summary.failures} == {"t3", "c3", "t5", "c5"}
    assert all(dozen.same(table) for table in ALL if table[1:] not in ("3", "5"))


@pytest.mark.parametrize("cut_after", [2_000, 6_000, 12_000, 20_000])
@pytest.mark.parametrize("side", SIDES)
def test_a_cut_beside_others_loses_and_doubles_nothing(
    dozen: Pair, make_proxy: MakeProxy, side: Side, cut_after: int
) -> None:
    proxy = make_proxy(dozen.server(side))
    through = dozen.source_through(proxy) if side == "source" else dozen.target_through(proxy)

    class Cut(Listener):
        times = 0

        def opened(self, *_: object) -> None:
            self.times += 1
            if self.times == 1:
                proxy.cut_after(cut_after, "down")

    words: dict[str, Any] = {side: through}
    summary = pulled_all(dozen, way={"jobs": 3, "retries": 3, "listener": Cut()}, **words)
    assert summary.tally == Tally(1200, inserted=1200)
    assert all(dozen.same(table) for table in ALL)


@given(
    pages=st.integers(1, 10**7),
    size=st.integers(0, 2**45),
    jobs=st.integers(2, 16),
    least=st.integers(1, 2**23),
)
def test_parts_cover_a_table_once_and_do_not_grow_to_its_end(
    pages: int, size: int, jobs: int, least: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parting, "LEAST_BYTES", least)
        parts = parting.page_parts(pages, size, jobs)
    assert parts[0].first is None
    assert parts[-1].end is None
    assert all(part.end == following.first for part, following in pairwise(parts))
    places = [0, *(int((part.first or "").strip("()").split(",")[0]) for part in parts[1:]), pages]
    sizes = [end - start for start, end in pairwise(places)]
    assert min(sizes) > 0
    assert all(following <= part for part, following in pairwise(sizes))


# --- where one has to do it alone ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "words", "why"),
    [
        ("create table t (id int primary key, v text)", {"replace": True}, "one transaction"),
        ("create table t (id int, v text)", {}, "one transaction"),
        ("create table t (id int primary key, up int references t, v text)", {}, "may come later"),
        (
            "create table t (id int primary key, v text);"
            " create function f() returns trigger language plpgsql as 'begin return new; end';"
            " create trigger f before insert on t for each row execute function f()",
            {},
            "triggers are held back",
        ),
    ],
)
def test_one_worker_does_alone_what_several_cannot_and_says_why(
    make_pair: MakePair, schema: str, words: dict[str, Any], why: str
) -> None:
    pair = make_pair(schema=schema)
    pair.source("insert into t (id, v) select n, repeat('x', 200) from generate_series(1, 500) n")
    assert why in alone(pair, "t", **words)


def test_unique_values_that_may_be_swapped_are_one_workers(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key, u int unique)")
    pair.source("insert into t select n, n from generate_series(1, 500) n")
    pair.target("insert into t select n, 501 - n from generate_series(1, 500) n")
    assert "swapped" in alone(pair, "t", on_conflict="update")


def test_unique_values_that_rows_asked_for_may_swap_are_one_workers(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key, u int unique)")
    pair.source("insert into t select n, n from generate_series(1, 5000) n")
    pulled(pair, "t")
    pair.target("delete from t where id > 4500", "update t set u = -u where id <= 400")
    pair.target("update t set u = 401 + u where id <= 400")
    assert "swapped" in alone(pair, "t", on_conflict="update")


def test_new_rows_come_oldest_first_and_so_by_one_worker(full: Pair) -> None:
    assert "oldest first" in alone(full, TABLE, new=True)


def test_a_server_that_shares_no_snapshot_is_read_by_one_worker(full: Pair) -> None:
    full.source(
        "create role lone_reader login",
        "grant usage on schema askwealth to lone_reader",
        f"grant select on {TABLE} to lone_reader",
        "revoke execute on function pg_export_snapshot() from public",
    )
    try:
        assert "see the same instant" in alone(full, TABLE, source=full.url("source", "lone_reader"))
    finally:
        full.source("drop owned by lone_reader", "drop role lone_reader")


def test_a_reader_behind_which_several_servers_answer_is_read_by_one_worker(
    full: Pair, make_proxy: MakeProxy, own_server: OwnServer
) -> None:
    other = own_server(full.source_server.version)
    other.query("postgres", f"create database {full.source_db}")
    proxy = make_proxy(full.source_server)

    class Turn(Listener):
        def looked(self, *_: object) -> None:
            proxy.refuse()  # from now on the other one answers

    first, second = f"{HOST}:{proxy.port}", "{}:{}".format(*other.tcp_address)
    source = full.source_through(proxy).replace(first, f"{first},{second}")
    assert "snapshot" in alone(full, TABLE, source=source, listener=Turn())


def test_where_the_server_has_few_connections_there_are_fewer_workers(full: Pair) -> None:
    full.source(
        "create role plain login connection limit 2",
        "grant usage on schema askwealth to plain",
        f"grant select on {TABLE} to plain",
    )
    try:
        report = pulled(full, jobs=4, source=full.url("source", "plain"))
    finally:
        full.source("drop owned by plain", "drop role plain")
    assert report.plan.jobs == 2
    assert "too many connections" in report.plan.alone
    assert full.same(TABLE)


def test_who_was_refused_another_connection_does_not_ask_again_for_each_table(
    make_pair: MakePair, make_proxy: MakeProxy
) -> None:
    pair = make_pair(schema="".join(f"create table t{n} (id int primary key);" for n in range(3)))
    for n in range(3):
        pair.source(f"insert into t{n} select generate_series(1, 2000)")
    pair.source(
        "create role one_only login password 'one' connection limit 1", "grant pg_read_all_data to one_only"
    )
    proxy = make_proxy(pair.source_server)
    theirs = through(pair.url("source", "one_only", "one", via="tcp"), proxy)
    try:
        summary = pull_tables("*", source=theirs, target=pair.target_url, way={"jobs": 3})
    finally:
        pair.source("drop role one_only")
    assert summary.tally == Tally(6000, inserted=6000)
    assert {report.plan.jobs for report in summary.reports} == {1}
    assert proxy.connections == 2


# --- what may break --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 700])
def test_a_source_cut_under_many_is_read_anew_and_counted_once(
    full: Pair, make_proxy: MakeProxy, rows: int
) -> None:
    proxy = make_proxy(full.source_server)
    heard = Hears(rows, proxy.cut)
    report = pulled(full, source=full.source_through(proxy), listener=heard, retries=3)
    assert heard.notices
    assert report.tally == Tally(ROWS, inserted=ROWS)
    assert report.passes == 2
    assert full.same(TABLE)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("cut_after", [2_000, 40_000])
def test_a_cut_under_many_who_share_keys_loses_and_doubles_nothing(
    gappy: Pair, make_proxy: MakeProxy, side: Side, cut_after: int
) -> None:
    proxy = make_proxy(gappy.server(side))
    through = gappy.source_through(proxy) if side == "source" else gappy.target_through(proxy)
    words: dict[str, Any] = {side: through}

    class Cut(Hears):
        def planned(self, plan: Plan, source: Session, target: Session) -> None:
            super().planned(plan, source, target)
            if len(self.plans) == 1:  # rows come down from the source, and go up to the target
                proxy.cut_after(cut_after, "down" if side == "source" else "up")

    heard = Cut()
    report = pulled(gappy, on_conflict="update", batch_size=20, retries=3, listener=heard, **words)
    assert heard.notices
    assert report.tally.fetched == ROWS
    assert report.tally.inserted == ROWS // 6
    assert report.tally.updated == ROWS // 12
    assert gappy.same(TABLE)


def test_where_local_has_few_connections_one_worker_moves_what_it_asks_for(gappy: Pair) -> None:
    gappy.target(
        "create role plain login connection limit 1",
        "grant usage on schema askwealth to plain",
        f"grant all on {TABLE} to plain",
    )
    try:
        report = pulled(gappy, target=gappy.url("target", "plain"), on_conflict="update")
    finally:
        gappy.target("drop owned by plain", "drop role plain")
    assert (report.plan.strategy, report.plan.jobs) == (Strategy.KEYED, 1)
    assert "too many connections" in report.plan.alone
    assert gappy.same(TABLE)


@pytest.mark.parametrize("rows", [1, 700])
def test_a_target_cut_under_many_gets_every_row_once(full: Pair, make_proxy: MakeProxy, rows: int) -> None:
    proxy = make_proxy(full.target_server)
    heard = Hears(rows, proxy.cut)
    report = pulled(full, target=full.target_through(proxy), listener=heard, retries=3)
    assert report.tally == Tally(ROWS, inserted=ROWS)
    assert report.passes == 1
    assert full.same(TABLE)


def test_a_worker_that_fails_ends_the_run_with_what_all_have_written_counted(full: Pair) -> None:
    heard = Hears(600, lambda: full.target(f"alter table {TABLE} rename to gone"))
    with pytest.raises(Stopped) as caught:
        pulled(full, listener=heard)
    [(rows,)] = full.target("select count(*) from askwealth.gone")
    assert caught.value.written == heard.last.inserted == rows > 0


@contextmanager
def user_pulls(pair: Pair) -> Iterator[subprocess.Popen[str]]:
    # one that hangs says where
    watch = "import faulthandler; faulthandler.dump_traceback_later(15, exit=True)"
    program = f"{watch}; from pgpull import cli, parting; parting.WORTH_BYTES = 0; cli.main()"
    words = ["pull", TABLE, "--batch-size", "20", "--jobs", "3", "--verbose"]
    urls = {"SERVER_DB_URL": pair.source_url, "LOCAL_DB_URL": pair.target_url}
    with subprocess.Popen(
        [sys.executable, "-c", program, *words],
        env={**os.environ, **urls},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def sessions(pair: Pair, side: Side) -> int:
    asked = "select count(*) from pg_stat_activity where application_name = 'pgpull' and datname = {}"
    return cast(int, pair.run(side, asked.format("current_database()"))[0][0])


def test_an_interrupt_ends_all_workers_soon_and_tells_what_is_in(full: Pair) -> None:
    with psycopg.connect(full.target_url) as other, user_pulls(full) as user:
        other.execute(f"lock table {TABLE} in share row exclusive mode")  # all workers wait for it
        end = time.monotonic() + 10
        while sessions(full, "target") < 3 and time.monotonic() < end:
            time.sleep(0.05)
        user.send_signal(signal.SIGINT)
        begin = time.monotonic()
        said, _ = user.communicate(timeout=20)
        assert time.monotonic() - begin < 10
    assert user.returncode == 130, said
    assert "Traceback" not in said
    assert [sessions(full, side) for side in SIDES] == [0, 0]
    assert pulled(full).tally.fetched == ROWS
    assert full.same(TABLE)


def test_a_killed_client_leaves_what_a_next_run_goes_on_from(full: Pair) -> None:
    with user_pulls(full) as user:
        assert user.stdout
        assert any("inserted" in line for line in user.stdout)
        user.kill()
        user.wait(10)
    assert pulled(full).tally.fetched == ROWS
    assert full.same(TABLE)


# --- what is written together, and what comes along ------------------------------------------------------

TOGETHER = """
    create table a (id int primary key, v text);
    create table b (id int primary key, v text);
    create table c (id int primary key, a_id int {refers}, v text)
"""


def replaced_together(pair: Pair, listener: Listener, jobs: int) -> Summary:
    """Replace two tables, and update a third one, in one transaction."""
    asked = [("a", {"replace": True}), ("b", {"replace": True}), ("c", {"on_conflict": "update"})]
    wanted = tuple(
        Wanted(TablePattern.parse(table), make_request(table, batch_size=100, **words))  # type: ignore[arg-type]
        for table, words in asked
    )
    return run(
        Job(wanted),
        parse_url(pair.source_url, "source"),
        parse_url(pair.target_url, "target"),
        rejects=Path("rejects.jsonl"),
        retries=3,
        manners=Manners.of(jobs=jobs),
        listener=listener,
    )


@pytest.fixture(params=["", "references a"])
def together(make_pair: MakePair, request: pytest.FixtureRequest) -> Pair:
    """Give a pair with three tables whose rows on the target are stale."""
    pair = make_pair(schema=TOGETHER.format(refers=request.param))
    for side, word in ((pair.source, "new"), (pair.target, "old")):
        side(
            f"insert into a select n, '{word}' from generate_series(1, 3000) n",
            f"insert into b select n, '{word}' from generate_series(1, 3000) n",
        )
    pair.source("insert into c select n, n, 'new' from generate_series(1, 3000) n", "analyze")
    return pair


@pytest.mark.parametrize("jobs", [1, 3])
def test_what_is_written_together_with_others_is_one_workers_and_does_not_block_itself(
    together: Pair, jobs: int
) -> None:
    summary = replaced_together(together, Listener(), jobs)
    assert (summary.failures, summary.tally.inserted) == ((), 9_000)
    assert {report.plan.jobs for report in summary.reports} == {1}
    assert all(together.same(table) for table in "abc")


@pytest.mark.parametrize("fetched", [500, 1_500, 2_500])
@pytest.mark.parametrize("table", ["a", "b", "c"])
def test_a_target_cut_under_what_is_written_together_brings_all_of_it_anew(
    together: Pair, table: str, fetched: int
) -> None:
    class Cut(Hears):
        def planned(self, plan: Plan, source: Session, target: Session) -> None:
            super().planned(plan, source, target)
            if len(self.plans) <= 3 and plan.request.table.name == table:
                self._rows, self._deeds = fetched, [partial(together.target, END_OTHERS)]

    heard = Cut(1_000_000)
    summary = replaced_together(together, heard, 1)
    assert any("trying again" in notice for notice in heard.notices)
    assert (summary.failures, summary.tally.inserted) == ((), 9_000)
    assert all(together.same(table) for table in "abc")


END_OTHERS = """select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = 'pgpull' and pid <> pg_backend_pid()"""


def test_keys_of_related_rows_that_went_with_a_connection_are_asked_for_anew(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int primary key); create table u (id int primary key, t_id int references t)"
    )
    pair.source(
        "insert into t select generate_series(1, 3000)",
        "insert into u select n, n from generate_series(1, 3000) n",
    )
    heard = Hears(1_000, lambda: pair.target(END_OTHERS))
    summary = pull_tables(
        "t",
        source=pair.source_url,
        target=pair.target_url,
        with_children=["u"],
        batch_size=100,
        way={"jobs": 1, "listener": heard},
    )
    assert any("trying again" in notice for notice in heard.notices)
    assert (summary.failures, summary.tally.inserted) == ((), 6_000)
    assert pair.same("t")
    assert pair.same("u")


def test_unique_values_that_rows_outside_of_the_window_may_have_are_one_workers(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table item (id int primary key, list int, pos int, at timestamptz, unique (list, pos))"
    )
    for side, pos, at in ((pair.source, "501 - n", "2025-02-02"), (pair.target, "n", "2025-01-01")):
        side(f"insert into item select n, 1, {pos}, '{at}' from generate_series(1, 500) n")
    pair.source("analyze item")
    words = {"window": "at", "since": "2025-02-01", "on_conflict": "update"}
    assert alone(pair, "item", **words) == "unique values may be swapped between rows"


def test_no_more_statements_are_held_than_there_are_workers(gappy: Pair) -> None:
    def held() -> int:
        return sum(isinstance(thing, Outflow) for thing in gc.get_objects())

    class Counts(Hears):
        most = 0

        def progressed(self, tally: Tally, size: int) -> None:
            self.most = max(self.most, held() - before)

    gc.collect()
    before, counts = held(), Counts()
    report = pulled(gappy, on_conflict="update", batch_size=5, listener=counts)
    assert (report.plan.strategy, report.plan.jobs) == (Strategy.KEYED, 3)
    assert 0 < counts.most <= 2 * 3


def test_what_others_had_written_when_the_limit_was_passed_is_counted(full: Pair) -> None:
    full.target(f"alter table {TABLE} add check (created_at < '2025-01-05' or message_id::text > '8')")
    heard = Hears()
    with pytest.raises(TooManyRejects) as ended:
        pulled(full, max_errors=20, listener=heard)
    [(rows,)] = full.target(f"select count(*) from {TABLE}")
    assert ended.value.written == rows


def test_a_window_of_a_database_without_an_encoding_is_cut_as_any_other(make_pair: MakePair) -> None:
    pair = make_pair(schema="")
    sides = [(pair.source_server, "x", 2_000), (pair.target_server, "y", 1_000)]
    name = f"ascii_of_{pair.source_db}"
    rows = "insert into t select n, date '2025-01-01' + n * interval '1h', '{}' from generate_series(1, {}) n"
    try:
        for server, word, number in sides:
            server.sql("postgres", f"create database {name} encoding 'SQL_ASCII' locale 'C' template template0")
            server.sql(
                name,
                "create table t (id int primary key, at timestamptz, v text)",
                "create index on t (at)",
                rows.format(word, number),
                "analyze t",
                f"alter database {name} set enable_seqscan = off",
            )
        urls = {"source": pair.source_server.url(name), "target": pair.target_server.url(name)}
        words = {"window": "at", "since": "2025-01-01", "on_conflict": "update", "row_versions": False}
        report = pulled(pair, "t", **urls, **words)
        assert report.tally == Tally(2_000, inserted=1_000, updated=1_000)
    finally:
        for server, *_ in sides:
            server.drop_database(name)


def test_workers_that_stop_at_too_many_rejects_leave_the_other_tables_their_connection(
    make_pair: MakePair,
) -> None:
    table = "create table a (id int primary key, v int); create table b (id int primary key)"
    pair = make_pair(schema=table, target_schema=table.replace("v int", "v int check (v < 0)"))
    pair.source("insert into a select n, n from generate_series(1, 4000) n", "insert into b values (1), (2)")

    class Slow(Listener):
        def rejected(self, reject: Reject) -> None:
            time.sleep(0.002)  # until the workers have nowhere to put the next ones

    summary = pull_tables(
        "a",
        "b",
        source=pair.source_url,
        target=pair.target_url,
        batch_size=20,
        max_errors=600,
        way={"jobs": 2, "retries": 0, "listener": Slow()},
    )
    assert {failure.table.name for failure in summary.failures} == {"a"}
    assert pair.same("b")
