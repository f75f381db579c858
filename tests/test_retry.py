"""Refused rows are corrected and tried again: what goes in leaves the file, all else stays."""

from __future__ import annotations

import fcntl
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pgpull import PlanError, Stopped, Summary, UsageError, pull, pull_tables, retry
from pgpull.results import Tally
from tests.conftest import MakePair
from tests.support import Pair

REJECTS = Path("public.t.rejects.jsonl")

SCHEMA = "create table t (id int primary key, v text, j jsonb, n numeric)"
STRICT = SCHEMA.replace("v text", "v text check (v <> 'bad')")


@pytest.fixture
def refused(make_pair: MakePair) -> Pair:
    """Give a pair that was pulled; local has refused rows 2 and 4, which are in the file of rejects."""
    pair = make_pair(schema=SCHEMA, target_schema=STRICT)
    pair.source(
        """insert into t select n, case when n % 2 = 0 then 'bad' else 'a,"b"' || chr(10) end,
        '{"n": 1.50}', 'NaN' from generate_series(1, 5) n"""
    )
    assert pull("t", source=pair.source_url, target=pair.target_url).tally.failed == 2
    return pair


def corrected(change: Callable[[dict[str, Any]], object], path: Path = REJECTS) -> None:
    """Let somebody correct each line of a file of rejects."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for each in found:
        change(each["values"])
    path.write_text("".join(json.dumps(each) + "\n" for each in found))


def retried(pair: Pair, path: Path | str = REJECTS, **words: Any) -> Summary:
    summary = retry(path, target=pair.target_url, **words)
    assert [str(failure.error) for failure in summary.failures] == []
    return summary


def test_corrected_rows_go_in_and_the_file_goes(refused: Pair) -> None:
    corrected(lambda values: values.update(v=f'"good",\n\\N {values["id"]}'))
    assert retried(refused).tally == Tally(2, inserted=2)
    assert not REJECTS.exists()
    assert refused.target("select v, j::text, n::text from t where id = 2") == [
        ('"good",\n\\N 2', '{"n": 1.50}', "NaN")
    ]


def test_rows_go_in_as_they_are_once_their_reason_is_gone(refused: Pair) -> None:
    refused.target("alter table t drop constraint t_v_check")
    retried(refused)
    assert refused.same("t")


def test_rows_that_are_refused_again_stay_with_the_new_message(refused: Pair) -> None:
    corrected(lambda values: values.update(v="good") if values["id"] == "2" else values.update(n="much"))
    summary = retried(refused)
    assert (summary.tally, summary.exit_code) == (Tally(2, inserted=1, failed=1), 4)
    assert summary.reports[0].rejects == REJECTS
    [line] = map(json.loads, REJECTS.read_text().splitlines())
    assert (line["values"]["id"], line["values"]["v"], line["sqlstate"]) == ("4", "bad", "22P02")
    assert stat.S_IMODE(REJECTS.stat().st_mode) == 0o600
    corrected(lambda values: values.update(v="good", n="1"))
    assert retried(refused).tally == Tally(1, inserted=1)


def test_a_row_whose_key_is_here_is_taken_over_unless_told_otherwise(refused: Pair) -> None:
    refused.target("insert into t values (2, 'mine', null, null)")
    corrected(lambda values: values.update(v="good"))
    kept = REJECTS.read_bytes()
    assert retried(refused, on_conflict="skip").tally == Tally(2, inserted=1, skipped=1)
    REJECTS.write_bytes(kept)
    assert retried(refused).tally == Tally(2, updated=1, skipped=1)
    assert refused.target("select v from t where id = 2") == [("good",)]


def test_numbers_keep_their_digits_and_null_is_apart_from_empty(refused: Pair) -> None:
    path = Path("mine.jsonl")
    digits = "12345678901234567890.12345678901234567890"
    path.write_text(
        f'{{"table": "t", "values": {{"id": 7, "v": "", "n": {digits}}}}}\n\n'
        '{"table": "public.t", "values": {"id": 8, "v": null, "n": "1e3"}}'
    )
    assert retried(refused, path).tally == Tally(2, inserted=2)
    assert refused.target("select v, n::text from t where id > 6 order by id") == [("", digits), (None, "1000")]


def test_what_an_editor_puts_before_the_first_line_is_passed_over(refused: Pair) -> None:
    REJECTS.write_bytes(b"\xef\xbb\xbf" + REJECTS.read_bytes())
    corrected_once = retried(refused)
    assert corrected_once.tally == Tally(2, failed=2)
    refused.target("alter table t drop constraint t_v_check")
    assert retried(refused).tally == Tally(2, inserted=2)


def test_rows_may_have_other_columns_from_line_to_line(refused: Pair) -> None:
    path = Path("mine.jsonl")
    path.write_text(
        '{"table": "t", "values": {"id": "7", "v": "x"}}\n{"table": "t", "values": {"id": "8", "n": "1"}}\n'
    )
    assert retried(refused, path).tally == Tally(2, inserted=2)
    assert refused.target("select v, n from t where id > 6 order by id") == [("x", None), (None, 1)]


def test_of_a_row_that_several_pulls_refused_the_last_line_counts(refused: Pair) -> None:
    refused.source("update t set j = '{\"n\": 2}' where id = 2")
    pull("t", source=refused.source_url, target=refused.target_url)
    assert len(REJECTS.read_text().splitlines()) == 4
    assert retried(refused).tally == Tally(2, failed=2)  # and all lines of rows that are refused again stay
    assert len(REJECTS.read_text().splitlines()) == 4
    refused.target("alter table t drop constraint t_v_check")
    assert retried(refused).tally == Tally(2, inserted=2)
    assert refused.same("t")
    assert not REJECTS.exists()


def test_rows_without_a_key_come_as_often_as_the_last_pull_refused_them(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (v text)", target_schema="create table t (v text check (v <> 'bad'))"
    )
    pair.source("insert into t values ('bad'), ('good'), ('bad')")
    for _ in range(2):
        pull("t", source=pair.source_url, target=pair.target_url)
    pair.source("insert into t values ('bad')")
    pull("t", source=pair.source_url, target=pair.target_url, where="v <> 'good'")
    pair.target("alter table t drop constraint t_v_check")
    assert retried(pair).tally == Tally(3, inserted=3)
    assert pair.same("t")


def test_several_tables_come_in_the_order_of_their_foreign_keys(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="""create table p (id int primary key, v int);
            create table c (id int primary key, p int references p)"""
    )
    pair.target("alter table p add check (v > 0)")
    pair.source("insert into p values (1, 1), (2, -2)", "insert into c values (1, 1), (2, 2)")
    assert pull_tables("*.*", source=pair.source_url, target=pair.target_url).tally.failed == 2
    path = Path("pgpull.rejects.jsonl")
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    corrected(lambda values: values.update(v="2") if "v" in values else None, path)
    assert retried(pair, path).tally == Tally(2, inserted=2)
    assert pair.same("c")


def test_bytes_that_are_no_text_come_back_as_they_were(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key, v text)")
    pair.source_server.sql(
        "postgres", f"create database odd_{pair.source_db} encoding 'SQL_ASCII' template template0"
    )
    url = pair.source_url.replace(pair.source_db, f"odd_{pair.source_db}")
    try:
        pair.source_server.query(
            f"odd_{pair.source_db}",
            "create table t (id int primary key, v text)",
            r"insert into t values (1, convert_from('\x61ff5c786666', 'SQL_ASCII'))",
        )
        assert pull("t", source=url, target=pair.target_url).tally.failed == 1
        before = json.loads(REJECTS.read_text())
        assert before["bytes"] == {"v": "61ff5c786666"}
        assert retried(pair).tally.failed == 1
        assert json.loads(REJECTS.read_text())["bytes"] == before["bytes"]
        corrected(lambda values: values.update(v="aÿ"))
        assert retried(pair).tally.inserted == 1
        assert pair.target("select v from t") == [("aÿ",)]
    finally:
        pair.source_server.drop_database(f"odd_{pair.source_db}")


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("not json", "line 2 is not JSON"),
        ('{"table": "t"}', "line 2 is no reject"),
        ('["t"]', "line 2 is no reject"),
        ('{"table": "a.b.c", "values": {}}', "line 2 names no table"),
        ('{"table": "nowhere", "values": {"id": "1"}}', r"line 2: local has no table public\.nowhere"),
        ('{"table": "t", "values": {"idd": "1"}}', r"line 2: local's public\.t has no column idd"),
        ('{"table": "t", "values": {"id": [1]}}', "line 2: the value of id is a JSON array"),
        ('{"table": "t", "values": {"id": "\\ud800"}}', "line 2: id holds half a character"),
    ],
)
def test_a_line_that_makes_no_sense_is_told_with_its_number(refused: Pair, line: str, fact: str) -> None:
    first, *rest = REJECTS.read_text().splitlines(keepends=True)
    REJECTS.write_text(first + line + "\n" + "".join(rest))
    before = REJECTS.read_bytes()
    with pytest.raises(UsageError, match=fact) as caught:
        retry(REJECTS, target=refused.target_url)
    assert caught.value.hint
    assert REJECTS.read_bytes() == before
    assert refused.target("select count(*) from t") == [(3,)]


@pytest.mark.parametrize(
    ("name", "fact"), [("nowhere.jsonl", "cannot be read"), ("/dev/null", "is not a file")]
)
def test_what_is_no_file_of_rejects_is_refused(refused: Pair, name: str, fact: str) -> None:
    with pytest.raises(UsageError, match=fact):
        retry(name, target=refused.target_url)


def test_two_do_not_try_the_same_file_at_once_and_a_pull_does_not_write_there_meanwhile(refused: Pair) -> None:
    with REJECTS.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="at work on the rejects file"):
            retry(REJECTS, target=refused.target_url)
        with pytest.raises(Stopped, match="a retry is at work on it"):
            pull("t", source=refused.source_url, target=refused.target_url)


def test_the_file_stays_as_it_is_when_a_guard_or_the_plan_stands_in_the_way(refused: Pair) -> None:
    before = REJECTS.read_bytes()
    refused.target("delete from t", "alter table t add column w int not null")
    with pytest.raises(PlanError, match="NOT NULL without a default"):
        retry(REJECTS, target=refused.target_url)
    assert REJECTS.read_bytes() == before


def test_a_row_that_is_refused_in_one_round_is_not_forgotten_in_the_next(refused: Pair) -> None:
    lines = [{"table": "t", "values": {"id": "7", "v": "bad"}}, {"table": "t", "values": {"id": "8", "n": "1"}}]
    REJECTS.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert retried(refused).tally == Tally(2, inserted=1, failed=1)
    [left] = map(json.loads, REJECTS.read_text().splitlines())
    assert left["values"] == {"id": "7", "v": "bad"}


def test_lines_of_a_table_that_ends_midway_stay_as_they_were_and_none_comes_twice(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table p (id int primary key, v text check (v <> 'bad')); create table c (id int)"
    )
    pair.target(
        "create function ends(v text) returns boolean language plpgsql as"
        " $$ begin if v = 'ends' then raise query_canceled; end if; return true; end $$",
        "alter table p add check (ends(v))",
    )
    values = [(1, "bad"), *((n, "good") for n in range(2, 40)), (40, "ends")]
    lines = [{"table": "p", "values": {"id": str(n), "v": v}} for n, v in values]
    text = "".join(json.dumps(line) + "\n" for line in [*lines, {"table": "c", "values": {"id": "1"}}])
    Path("some.jsonl").write_text(text)
    summary = retry("some.jsonl", target=pair.target_url, retries=0)
    assert [failure.table.name for failure in summary.failures] == ["p"]
    assert [json.loads(line)["values"]["id"] for line in Path("some.jsonl").read_text().splitlines()] == [
        str(n) for n, _ in values
    ]
