"""The picture of what is here: counts that both sides agree on, drawn for any screen, and nothing written."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import product
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from data_migrations.load_messages import main as script
from typer import Typer
from typer.testing import CliRunner

from pgpull import ConnectionLost, PgpullError, PlanError, Survey, UsageError, pull, status
from pgpull.cli import app
from pgpull.periods import Counts, Gap, Period, Unit, finest_that_fits, fold, with_gaps
from pgpull.picture import picture
from tests.support import STANDARD_SCHEMA, Pair, Server, Side
from tests.test_cli import PGPULL, SCRIPT, Done, call, on, refused

SIDES: tuple[Side, Side] = ("source", "target")
MESSAGES = "askwealth.message"
EVENTS = """
drop schema if exists s cascade;
create schema s;
create table s.t (id serial primary key, at timestamptz, kind text default 'k');
"""


@pytest.fixture(scope="module")
def databases(servers: Callable[[int], Server], newest: int, oldest: int) -> Iterator[Pair]:
    """Give a pair to the whole file: a look leaves nothing behind, and databases take longest to make."""
    pair = Pair(servers(newest), servers(oldest), "source_of_looks", "target_of_looks")
    for side in SIDES:
        pair.server(side).create_database(pair.database(side))
    yield pair
    for side in SIDES:
        pair.server(side).drop_database(pair.database(side))


@pytest.fixture
def events(databases: Pair) -> Pair:
    """Give a pair whose table ``s.t`` is new, and has a date column ``at``."""
    for side in SIDES:
        databases.run(side, f"alter database {databases.database(side)} reset all", EVENTS)
    return databases


def add(pair: Pair, side: Side, *dates: str | None) -> None:
    """Add a row for each date to ``s.t``."""
    values = ", ".join("(NULL)" if at is None else f"('{at}')" for at in dates)
    pair.run(side, f"insert into s.t (at) values {values}")


def look(pair: Pair, table: str = "s.t", window: str = "at", **more: object) -> Survey:
    return status(table, source=pair.source_url, target=pair.target_url, window=window, **more)  # type: ignore[arg-type]


def counted(survey: Survey) -> dict[str, tuple[int, int]]:
    """Return what each side has of each period."""
    return {str(period.start): (period.counts.source, period.counts.target) for period in survey.periods}


def run(program: Typer, *words: str, **environment: str) -> Done:
    """Run a program as :func:`call` does, in this very process."""
    done = CliRunner().invoke(program, words, env={"COLUMNS": "80", **environment})
    return Done(words, done.exit_code, done.stdout, done.stderr)


def shown(pair: Pair, *words: str, program: Typer = app, **environment: str) -> str:
    """Return what a program prints of what is here, which is ``pgpull status`` unless named."""
    command = ("status", *words) if program is app else words
    done = run(program, *command, **(on(pair) | environment))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# --- what is counted -------------------------------------------------------------------------------------


def test_rows_are_counted_by_day_week_month_and_year(events: Pair) -> None:
    add(events, "source", "2024-12-30 12:00Z", "2025-01-05 23:59:59.9Z", "2025-01-06Z", "2025-01-06 12:00Z")
    add(events, "target", "2025-01-05Z", "2025-01-06 23:00Z")
    for unit, expected in {
        "day": {"2024-12-30": (1, 0), "2025-01-05": (1, 1), "2025-01-06": (2, 1)},
        "week": {"2024-12-30": (2, 1), "2025-01-06": (2, 1)},
        "month": {"2024-12-01": (1, 0), "2025-01-01": (3, 2)},
        "year": {"2024-01-01": (1, 0), "2025-01-01": (3, 2)},
    }.items():
        survey = look(events, by=unit)
        assert counted(survey) == expected
        assert survey.total == Counts(source=4, target=2, missing=2, surplus=0)
        assert survey.newest_source == datetime(2025, 1, 6, 12, tzinfo=UTC)
        assert survey.newest_target == datetime(2025, 1, 6, 23, tzinfo=UTC)


def test_days_begin_at_the_same_instant_whatever_zone_a_database_lives_in(events: Pair) -> None:
    events.source(f"alter database {events.source_db} set timezone to 'Asia/Tokyo'")
    events.target(f"alter database {events.target_db} set timezone to 'America/Lima'")
    # the day on which clocks go forward has 23 hours
    borders = ("2025-03-29 22:59Z", "2025-03-29 23:00Z", "2025-03-30 21:59Z", "2025-03-30 22:00Z")
    for side in SIDES:
        add(events, side, *borders)
    assert counted(look(events, timezone="Europe/Berlin")) == {
        "2025-03-29": (1, 1),
        "2025-03-30": (2, 2),
        "2025-03-31": (1, 1),
    }
    assert counted(look(events)) == {"2025-03-29": (2, 2), "2025-03-30": (2, 2)}
    newest = look(events, timezone="Europe/Berlin").newest_source
    assert newest == datetime(2025, 3, 31, tzinfo=ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("kind", "latest"), [("date", date(2025, 3, 30)), ("timestamp", datetime(2025, 3, 30, 23, 59))]
)
def test_dates_and_wall_clock_times_are_counted_as_they_stand(events: Pair, kind: str, latest: date) -> None:
    for side in SIDES:
        events.run(side, f"alter table s.t alter at type {kind}")
    add(events, "source", "2025-03-30 00:00", "2025-03-30 23:59")
    survey = look(events, timezone="Pacific/Kiritimati")
    assert counted(survey) == {"2025-03-30": (2, 0)}
    assert survey.newest_source == latest
    assert type(survey.newest_source) is type(latest)
    assert survey.timezone is None


def test_a_column_that_is_an_instant_there_and_a_wall_clock_here_is_counted_as_each_has_it(
    events: Pair,
) -> None:
    events.source("create domain s.moment as timestamptz", "alter table s.t alter at type s.moment")
    events.target("alter table s.t alter at type timestamp")
    add(events, "source", "2025-03-30 01:00Z")
    add(events, "target", "2025-03-30 03:00")
    assert counted(look(events, timezone="Europe/Berlin")) == {"2025-03-30": (1, 1)}


def test_rows_without_a_date_and_beyond_the_calendar_are_kept_apart(events: Pair) -> None:
    add(events, "source", None, None, "infinity", "-infinity", "20000-01-01Z", "0044-03-15 BC", "2025-01-01Z")
    add(events, "target", None, "infinity", "2025-01-01Z")
    survey = look(events)
    assert counted(survey) == {"2025-01-01": (1, 1)}
    assert survey.undated == Counts(2, 1, missing=1)
    assert survey.infinite == Counts(4, 1, missing=3)
    assert survey.total == Counts(7, 3, missing=4)
    assert survey.newest_source == datetime(2025, 1, 1, tzinfo=UTC)


def test_the_first_and_the_last_day_of_the_calendar_lose_no_row(events: Pair) -> None:
    add(events, "source", "0001-01-01Z", "9999-12-31 23:59:59Z", "9999-12-31 04:00Z", "2025-06-01 12:00Z")
    for zone in ("UTC", "Asia/Tokyo", "America/Lima"):
        for unit in Unit:
            assert look(events, by=unit, timezone=zone).total.source == 4


def test_one_days_surplus_does_not_hide_what_is_missing_on_another(events: Pair) -> None:
    add(events, "source", "2025-01-02Z", "2025-01-02Z")
    add(events, "target", "2025-01-01Z", "2025-01-03Z")
    [period] = look(events, by="month").periods
    assert period.counts == Counts(source=2, target=2, missing=2, surplus=2)
    assert look(events, by="month").first_missing == date(2025, 1, 2)


SCOPES: list[dict[str, object]] = [
    {},
    {"since": "2025-01-02", "until": "2025-01-04T12:30"},
    {"since": "2025-01-02", "timezone": "Asia/Tokyo"},
    {"equals": {"role": "user"}},
    {"where": "annotations is null -- not all", "until": "2025-01-03"},
]


def test_what_is_missing_is_what_a_pull_of_the_same_scope_brings(pair: Pair) -> None:
    pair.add_messages("source", 100)
    for scope in SCOPES:
        pair.target("truncate askwealth.message")
        before = look(pair, MESSAGES, "created_at", **scope)
        tally = pull(MESSAGES, source=pair.source_url, target=pair.target_url, **scope).tally  # type: ignore[arg-type]
        assert (before.total.source, before.total.missing) == (tally.fetched, tally.inserted)
        after = look(pair, MESSAGES, "created_at", **scope)
        assert after.total == Counts(tally.fetched, tally.fetched)
        assert after.first_missing is None
        assert after.newest_target == after.newest_source


def test_partitions_are_counted_and_tables_that_inherit_are_not(events: Pair) -> None:
    for side in SIDES:
        events.run(
            side,
            "create table s.heir () inherits (s.t)",
            "insert into s.heir (at) values ('2025-01-01')",
            "create table s.p (at date) partition by range (at)",
            "create table s.p1 partition of s.p default",
            "insert into s.p values ('2025-01-01')",
        )
    assert counted(look(events, "s.t")) == {}
    assert counted(look(events, "s.p")) == {"2025-01-01": (1, 1)}


# --- how it is asked -------------------------------------------------------------------------------------


def statements(pair: Pair, side: Side, since: int) -> list[str]:
    """Return what pgpull said to a side since its server's log had that length."""
    log = pair.server(side).log.read_bytes()[since:].decode()
    said = rf"^pgpull {pair.database(side)} LOG:  (?:statement|execute [^:]*): (.*?)(?=^\S)"
    return [" ".join(text.split()) for text in re.findall(said, log + ".", re.MULTILINE | re.DOTALL)]


ASKING = {"SELECT", "WITH", "SHOW", "BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK"}


def test_each_side_is_asked_for_one_count_and_told_to_change_nothing(events: Pair) -> None:
    for side in SIDES:
        add(events, side, "2025-01-01Z", "2025-05-01Z", None)
    with ExitStack() as stack:
        for server in {events.source_server, events.target_server}:
            stack.enter_context(server.configured(log_statement="all", log_line_prefix="%a %d "))
        since = {side: events.server(side).log.stat().st_size for side in SIDES}
        look(events)
        for side in SIDES:
            said = statements(events, side, since[side])
            assert len([text for text in said if "count(" in text]) == 1
            assert {text.split()[0].upper() for text in said} <= ASKING


def test_a_role_that_may_only_read_may_look_and_one_that_may_not_is_told(events: Pair) -> None:
    sides = {side: f"reader_of_{events.database(side)}" for side in SIDES}
    for side, name in sides.items():
        only_reads = f"alter role {name} set default_transaction_read_only to on"
        events.run(side, f"create role {name} login", only_reads, f"grant usage on schema s to {name}")
    add(events, "source", "2025-01-01Z")
    urls = {side: events.url(side, user=name) for side, name in sides.items()}
    with pytest.raises(PlanError, match="the server says: permission denied"):
        status("s.t", window="at", **urls)  # type: ignore[arg-type]
    for side, name in sides.items():
        events.run(side, f"grant select on s.t to {name}")
    assert status("s.t", window="at", **urls).total == Counts(1, 0, missing=1)  # type: ignore[arg-type]


def test_what_ends_one_side_ends_the_other(events: Pair) -> None:
    for side in SIDES:
        add(events, side, "2025-01-01Z")
    fails = "case when current_database() like 'source%' then 1 / (id - id) = 1 else pg_sleep(1000) is null end"
    with pytest.raises(PgpullError, match="division by zero"):
        look(events, where=fails)
    with pytest.raises(PgpullError, match="division by zero"):
        look(events, where=fails.replace("source", "target").replace("1000", "1"))


def test_a_lost_connection_says_that_nothing_was_written(events: Pair) -> None:
    add(events, "source", "2025-01-01Z")
    with pytest.raises(ConnectionLost) as caught:
        look(events, where="pg_terminate_backend(pg_backend_pid())")
    assert caught.value.exit_code == 3
    assert caught.value.hint == "nothing was written; run the same command again"


def test_ctrl_c_ends_the_look_on_both_sides_and_says_that_nothing_was_written(events: Pair) -> None:
    for side in SIDES:
        add(events, side, "2025-01-01Z")
    (Path.cwd() / ".env").write_text("".join(f"{name}='{url}'\n" for name, url in on(events).items()))
    words = [*PGPULL, "status", "s.t", "--window", "at", "--where", "pg_sleep(1000) is null", "--json"]
    with subprocess.Popen(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while any(asleep(events, side) == 0 for side in SIDES):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said == "error: interrupted\nhint: nothing was written; run the same command again to go on\n"
    hint = "nothing was written; run the same command again to go on"
    assert json.loads(out) == {"kind": "error", "error": "interrupted", "hint": hint, "exit_code": 130}
    assert [asleep(events, side) for side in SIDES] == [0, 0]


def asleep(pair: Pair, side: Side) -> int:
    [(sessions,)] = pair.run(
        side,
        "select count(*) from pg_stat_activity"
        f" where datname = '{pair.database(side)}' and wait_event = 'PgSleep' and application_name = 'pgpull'",
    )
    return int(sessions)


# --- what goes wrong -------------------------------------------------------------------------------------


def fails(pair: Pair, said: str, hint: str, table: str = "s.t", **what: object) -> None:
    """Check that a look ends with a fact and a hint."""
    with pytest.raises(PlanError, match=said) as caught:
        look(pair, table, **what)  # type: ignore[arg-type]
    assert hint in caught.value.hint


def test_what_a_side_does_not_have_is_named_with_the_side(events: Pair) -> None:
    fails(events, "the server .* has no table s.nope", "did you mean: s.t", table="s.nope")
    fails(events, "the server: s.t has no column created_at", "--window: at", window="created_at")
    fails(events, "the window's column s.t.kind is text", "date columns: at", window="kind")
    for each in (events.source, events.target):
        each("create table s.undated (id int primary key)")
    fails(events, "s.undated has no column at", "choose rows with --where", table="s.undated")
    fails(events, "the server does not take the condition", "colour", where="colour = 1")
    events.source("alter table s.t add colour int")
    fails(events, "local does not take the condition", "colour", where="colour = 1")
    fails(events, "local: s.t has no column colour", "kind", equals={"colour": 1})
    events.target("alter table s.t rename at to moment")
    fails(events, "local: s.t has no column at", "--window: moment")
    events.target("drop table s.t")
    fails(events, "local .* has no table s.t", 'CREATE TABLE "s"."t"')
    done = call([*PGPULL, "status"], "s.t", "--window", "at", **on(events))
    refused(done, "has no table s.t", 'CREATE TABLE "s"."t"')


def test_a_zone_that_a_server_does_not_know_is_named(events: Pair, tmp_path: Path) -> None:
    add(events, "source", "2025-01-01Z")
    # one kind of time, UTC's, in the form of RFC 9636
    (tmp_path / "Mars").write_bytes(b"TZif" + bytes(32) + b"\0\0\0\1\0\0\0\4" + bytes(6) + b"UTC\0")
    words = ["s.t", "--window", "at", "--timezone", "Mars"]
    done = call([*PGPULL, "status"], *words, **on(events, PYTHONTZPATH=str(tmp_path)))
    refused(done, "the server knows no time zone Mars", "another name")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--by", "hour"], "'hour'"),
        (["--since", "never"], "--since is not a date: 'never'"),
        (["--timezone", "Mars"], "no time zone is called 'Mars'"),
        (["--equals", "kind"], "--equals is not COLUMN=VALUE"),
        (["--where", " "], "the condition is empty"),
        (["--on-conflict", "skip"], "--on-conflict"),
    ],
)
def test_words_that_make_no_sense_end_with_2(words: list[str], said: str) -> None:
    done = run(app, "status", "s.t", *words)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())


def test_python_is_told_of_a_unit_that_is_none() -> None:
    with pytest.raises(UsageError, match="'hour'"):
        status("s.t", source="postgresql:///", target="postgresql:///", by="hour")


def test_a_password_is_not_shown(events: Pair) -> None:
    sides = {"SERVER_DB_URL": events.url("source", via="tcp"), "LOCAL_DB_URL": events.url("target", via="tcp")}
    assert "superuser" in sides["SERVER_DB_URL"]
    for words in ([], ["--json"], ["--where", "nope"]):
        done = run(app, "status", "s.t", "--window", "at", *words, **sides)
        assert "superuser" not in done.stdout + done.stderr
        assert done.returncode == (3 if "nope" in words else 0)


# --- which periods are shown -----------------------------------------------------------------------------


def days(*stretches: tuple[str, int]) -> dict[date, Counts]:
    """Return one row on the source for each day of some stretches."""
    first_days = [(date.fromisoformat(start), length) for start, length in stretches]
    return {start + timedelta(n): Counts.of(1, 0) for start, length in first_days for n in range(length)}


@pytest.mark.parametrize(
    ("found", "unit"),
    [
        (days(("2025-01-01", 31)), Unit.DAY),
        (days(("2025-01-01", 32)), Unit.WEEK),
        (days(("2025-01-06", 26 * 7)), Unit.WEEK),
        (days(("2025-01-06", 26 * 7 + 1)), Unit.MONTH),
        (days(("2021-01-01", 365 * 4)), Unit.MONTH),
        (days(("2021-01-01", 365 * 4 + 2)), Unit.YEAR),
        (days(("1970-01-01", 1), ("2025-01-01", 20)), Unit.DAY),  # what is empty takes one line
        ({}, Unit.DAY),
    ],
)
def test_the_shortest_unit_that_fits_on_a_screen_is_chosen(found: dict[date, Counts], unit: Unit) -> None:
    assert finest_that_fits(found) is unit


@pytest.mark.parametrize("unit", Unit)
def test_no_period_is_lost_between_two_others(unit: Unit) -> None:
    first, last = date(1, 1, 1), date(9999, 12, 31)
    for number in (unit.number(first), unit.number(last), unit.number(date(2024, 2, 29))):
        assert unit.number(unit.start(number)) == number
    [start, gap, end] = with_gaps(fold({first: Counts.of(1, 1), last: Counts.of(1, 1)}, unit), unit)
    assert isinstance(gap, Gap)
    assert gap.periods == unit.number(last) - unit.number(first) - 1
    assert isinstance(start, Period)
    assert isinstance(end, Period)


def test_a_long_gap_is_one_line_and_a_short_one_shows_its_periods(events: Pair) -> None:
    add(events, "source", "2025-01-01Z", "2025-01-04Z", "2025-03-20Z")
    lines = shown(events, "s.t", "--window", "at", "--by", "day").splitlines()
    table = [line.split("  ")[0] for line in lines[lines.index("") + 2 :]][:6]
    assert table[:4] == ["2025-01-01", "2025-01-02", "2025-01-03", "2025-01-04"]
    assert table[4:] == ["… 74 days without rows", "2025-03-20"]


# --- how it looks ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def messages(databases: Pair) -> Pair:
    """Give a pair whose server has three months; local has one whole, one with a gap, one with more."""
    for side in SIDES:
        databases.run(side, STANDARD_SCHEMA)
        databases.add_messages(side, 31 * 24)
    databases.add_messages("source", 28 * 24, first=31 * 24)
    databases.add_messages("target", 24, first=31 * 24)
    databases.add_messages("source", 24, start="2025-03-01", seed="march")
    databases.add_messages("target", 48, start="2025-03-01", seed="march")
    return databases


PICTURE = """
month    server  local
2025-01     744    744  ██████████████████████████████████████
2025-02     672     24  █░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░      648 missing here
2025-03      24     48  █+                                      24 more here
total     1,440    816  648 missing here, 24 more here
█ on both  ░ missing here  + more here
newest on the server  2025-03-01T23:00:00+00:00
newest here           2025-03-02T23:00:00+00:00
to bring what is missing:  pgpull pull askwealth.message --since 2025-02-02
"""


def test_the_picture_shows_what_is_on_both_what_is_missing_and_what_is_more(messages: Pair) -> None:
    heading, _, drawn = shown(messages, MESSAGES, "--by", "month").partition("\n\n")
    assert drawn == PICTURE.lstrip()
    assert [line.split()[0] for line in heading.splitlines()] == ["SERVER", "LOCAL", "WHAT"]
    assert heading.endswith("askwealth.message: all rows; rows per month of created_at, in UTC")
    assert shown(messages, MESSAGES, "--by", "month", NO_COLOR="1").endswith(PICTURE)


def test_the_table_fits_the_screen_whatever_the_counts(events: Pair) -> None:
    empty = look(events, by="month")
    for width, rows in product((60, 80, 160), (1, 1_000, 1_000_000)):
        counts = [Counts(7, 7), Counts(3, 0, 3), Counts(2 * rows, 3 * rows, rows, 2 * rows)]
        counts += [Counts(10 * rows, 9 * rows, missing=rows)]
        months = tuple(Period(date(2025, month, 1), each) for month, each in enumerate(counts, 1))
        lines = [line.plain for line in picture(replace(empty, periods=months), width)]
        assert max(map(len, lines)) <= width
        bars = [re.sub(r"[^█░+]", "", line) for line in lines[1:5]]
        assert max(map(len, bars)) >= 8
        for bar, each in zip(bars, counts, strict=True):
            parts = (each.both, each.missing, each.surplus)
            assert [mark in bar for mark in "█░+"] == [part > 0 for part in parts]


def test_a_screen_without_unicode_gets_other_marks(messages: Pair) -> None:
    words = [MESSAGES, "--by", "month"]
    done = call([*PGPULL, "status"], *words, **on(messages, PYTHONIOENCODING="ascii"))
    assert done.returncode == 0, done.stderr
    assert re.search(r"2025-02 +672 +24  ##?\.+ +648 missing here", done.stdout)


def test_sides_that_agree_are_calm_and_empty_ones_say_so(events: Pair) -> None:
    words = ["s.t", "--window", "at"]
    assert "no row in scope on either side" in shown(events, *words)
    for side in SIDES:
        add(events, side, "2025-01-01Z")
    said = shown(events, *words)
    assert "Nothing is missing here, as far as counts can tell" in said
    assert not re.search("on both|more here|pgpull pull", said)
    events.target("delete from s.t")
    assert "newest here           none" in shown(events, *words)
    events.source("delete from s.t")
    add(events, "target", "2025-01-01Z")
    said = shown(events, *words)
    assert "newest on the server  none" in said
    assert "1 more here" in said
    assert "pgpull pull" not in said


def test_rows_without_a_date_have_a_line_of_their_own(events: Pair) -> None:
    add(events, "source", None, "infinity", "2025-01-01Z")
    said = shown(events, "s.t", "--window", "at")
    assert re.search(r"^no date +1 +0  ░+ +1 missing here$", said, re.MULTILINE)
    assert re.search(r"^infinite +1 +0  ░+ +1 missing here$", said, re.MULTILINE)
    assert said.endswith("pgpull pull s.t\n")  # no window would bring the row without a date


NARROWED = [
    [],
    ["--since", "2025-01-01T12:00", "--until", "2025-02-10"],
    ["--timezone", "America/Lima", "--since", "2025-01-01"],
    ["--equals", "kind=it's"],
    ["--where", "kind <> 'it''s' -- \"so\"", "--env-file", "my settings"],
]


def test_the_command_it_names_brings_what_is_missing(events: Pair, tmp_path: Path) -> None:
    for day in ("2025-01-01 18:00Z", "2025-01-03 02:00Z", "2025-02-03 12:00Z", "2025-02-20Z"):
        add(events, "source", day, day)
    events.source("update s.t set kind = 'it''s' where id % 2 = 0")
    (tmp_path / "my settings").write_text("".join(f"{name}='{url}'\n" for name, url in on(events).items()))
    for words in NARROWED:
        events.target("delete from s.t", "insert into s.t (id, at) values (-1, '2025-01-01')")
        said = shown(events, "s.t", "--window", "at", *words)
        named = shlex.split(said.splitlines()[-1].partition("missing: ")[2])
        assert named[0] == "pgpull"
        done = run(app, *named[1:], **on(events))
        assert done.returncode == 0, done.stderr
        assert "inserted 0" not in done.stdout
        assert "Nothing is missing" in shown(events, "s.t", "--window", "at", *words)


def test_the_command_it_names_follows_the_rules_that_were_followed(events: Pair, tmp_path: Path) -> None:
    add(events, "source", "2025-01-01 18:00Z")
    rules = tmp_path / "rules.toml"
    rules.write_text("[defaults]\ntimezone = 'America/Lima'\n")
    said = shown(events, "s.t", "--window", "at", "--timezone", "UTC", "--config", str(rules))
    named = shlex.split(said.splitlines()[-1].partition("missing: ")[2])
    assert named[-2:] == ["--config", str(rules)]
    assert named[named.index("--timezone") + 1] == "UTC"


def test_json_is_one_object_with_stable_keys(events: Pair) -> None:
    add(events, "source", "2025-01-01 12:00Z", "2025-02-01Z", None)
    add(events, "target", "2025-01-01 12:00Z")
    words = ["s.t", "--window", "at", "--by", "month", "--since", "2025-01-01", "--json"]
    report = json.loads(shown(events, *words))
    assert report.pop("snapshot").endswith("+00:00")
    nothing = {"source": 0, "target": 0, "missing": 0, "surplus": 0}
    assert report == {
        "kind": "survey",
        "table": "s.t",
        "column": "at",
        "timezone": "UTC",
        "since": "2025-01-01T00:00:00+00:00",
        "until": None,
        "unit": "month",
        "periods": [
            {"start": "2025-01-01", "source": 1, "target": 1, "missing": 0, "surplus": 0},
            {"start": "2025-02-01", "source": 1, "target": 0, "missing": 1, "surplus": 0},
        ],
        "undated": nothing,
        "infinite": nothing,
        "total": {"source": 2, "target": 1, "missing": 1, "surplus": 0},
        "first_missing": "2025-02-01",
        "newest": {"source": "2025-02-01T00:00:00+00:00", "target": "2025-01-01T12:00:00+00:00"},
        "exit_code": 0,
    }


def test_quiet_says_nothing_and_a_log_file_has_the_picture(messages: Pair, tmp_path: Path) -> None:
    assert shown(messages, MESSAGES, "--by", "month", "--quiet", "--log-file", "log") == ""
    assert "INFO    total     1,440    816  648 missing here" in (tmp_path / "log").read_text()


def test_the_script_shows_the_same_picture_in_its_own_words(messages: Pair) -> None:
    dates = ("2025-01-02", "2025-02-05")
    here = shown(messages, "--status", "--from-date", dates[0], "--to-date", dates[1], program=script)
    assert here == shown(messages, MESSAGES, "--since", dates[0], "--until", dates[1])
    thread = str(messages.source("select thread_id from askwealth.message limit 1")[0][0])
    here = shown(messages, "--status", "--thread-id", thread, program=script)
    assert here == shown(messages, MESSAGES, "--equals", f"thread_id={thread}")
    done = call(SCRIPT, "--status", **on(messages))
    assert (done.returncode, done.stdout) == (0, shown(messages, MESSAGES, COLUMNS="100"))
    assert messages.target("select count(*) from askwealth.message") == [(816,)]
