"""What people write becomes values, or an error that says how to write it."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpull import check, diff, export, forecast, forecast_tables, pull, pull_tables
from pgpull.arguments import instant, ordered, uuid_text, zone
from pgpull.errors import UsageError
from pgpull.model import Limit
from pgpull.plans import Wire
from pgpull.results import Tally
from pgpull.shapes import TableName
from pgpull.streams import Batch


@pytest.mark.parametrize(
    ("text", "timezone", "expected"),
    [
        ("2025-01-01", "UTC", "2025-01-01T00:00:00+00:00"),
        ("2025-01-01", "Europe/Berlin", "2024-12-31T23:00:00+00:00"),
        ("2025-07-01 12:30", "Europe/Berlin", "2025-07-01T10:30:00+00:00"),
        ("2025-01-01T00:00:00Z", "Asia/Tokyo", "2025-01-01T00:00:00+00:00"),
        ("2025-01-01T00:00:00.000001+02:00", "UTC", "2024-12-31T22:00:00.000001+00:00"),
        (date(2025, 1, 1), "UTC", "2025-01-01T00:00:00+00:00"),
        (datetime(2025, 1, 1, 9, tzinfo=UTC), "Asia/Tokyo", "2025-01-01T09:00:00+00:00"),
    ],
)
def test_a_date_is_resolved_to_one_instant(text: str | date, timezone: str, expected: str) -> None:
    assert instant(text, timezone).isoformat() == expected


@pytest.mark.parametrize(
    "text", ["", "2025-13-01", "yesterday", "01/02/2025", "2025-02-30", "0001-01-01T00:00+14:00"]
)
def test_what_is_no_date_is_named_with_the_way_to_write_one(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        instant(text, "UTC", "--from-date")
    assert "--from-date is not a date" in caught.value.message
    assert "2025-01-31" in caught.value.hint


def test_a_window_that_ends_before_or_when_it_starts_is_refused() -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    with pytest.raises(UsageError, match="is not before"):
        ordered(start, start)
    ordered(start, None)


@pytest.mark.parametrize("name", ["Mars", "", "../etc/passwd"])
def test_a_time_zone_has_to_exist(name: str) -> None:
    with pytest.raises(UsageError, match="no time zone"):
        zone(name)


def test_a_uuid_is_written_in_its_usual_spelling() -> None:
    assert uuid_text("{6F9619FF8B86D011B42D00C04FC964FF}", "x") == "6f9619ff-8b86-d011-b42d-00c04fc964ff"
    with pytest.raises(UsageError, match="'abc'"):
        uuid_text("abc", "--thread-id")


@pytest.mark.parametrize(
    ("text", "schema", "name"),
    [
        ("askwealth.message", "askwealth", "message"),
        ("message", "public", "message"),
        ('public."Message_v2"', "public", "Message_v2"),
        ('"Sp1eCial .Char"."a""b"', "Sp1eCial .Char", 'a"b'),
    ],
)
def test_a_table_name_reads_as_sql_reads_it(text: str, schema: str, name: str) -> None:
    assert TableName.parse(text) == TableName(schema, name)


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_a_table_name_written_out_reads_back(schema: str, name: str) -> None:
    assert TableName.parse(str(TableName(schema, name))) == TableName(schema, name)


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a.b.c", "a b", '"a', 'a."b'])
def test_what_is_no_table_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a table's name"):
        TableName.parse(text)


def test_a_limit_of_errors_is_a_number_or_a_share() -> None:
    tally = Tally(fetched=100, inserted=97, failed=3)
    assert Limit.parse("2", "--max-errors").exceeded_by(tally.failed, tally.fetched)
    assert not Limit.parse("3", "--max-errors").exceeded_by(tally.failed, tally.fetched)
    assert Limit.parse("2.5%", "--max-errors").exceeded_by(tally.failed, tally.fetched)
    assert not Limit.parse("3%", "--max-errors").exceeded_by(tally.failed, tally.fetched)
    for text in ("", "x", "-1", "101%", "%", "1e3", "²"):
        with pytest.raises(UsageError, match="not a number or a percentage"):
            Limit.parse(text, "--max-errors")


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        ({"overlap": "2h"}, "overlap has no effect without new"),
        ({"max_delete": "50%"}, "max_delete has no effect without mirror"),
    ],
)
def test_a_word_about_another_one_that_was_forgotten_is_refused(words: dict[str, Any], fact: str) -> None:
    for ask in (pull, forecast, pull_tables, forecast_tables):
        with pytest.raises(UsageError, match=fact):
            ask("askwealth.message", source="postgresql:///a", target="postgresql:///b", **words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"sinse": "2025-01-01"}, "there is no argument sinse\nhint: did you mean since?"),
        ({"dry_run": True}, "pgpull.forecast says what a pull would do"),
        (
            {"months": True, "colour": "red"},
            "there is no argument colour\nhint: there are: since, until, window",
        ),
    ],
)
def test_a_word_that_nobody_would_read_is_refused(words: dict[str, Any], said: str) -> None:
    sides: dict[str, Any] = {"source": "postgresql:///a", "target": "postgresql:///b"}
    asked: list[Callable[..., Any]] = [pull, forecast, pull_tables, forecast_tables, diff, check]
    for ask in asked:
        with pytest.raises(UsageError) as refused:
            ask("askwealth.message", **sides, **words)
        assert said in f"{refused.value}\nhint: {refused.value.hint}"


def test_words_of_other_functions_and_other_places_are_refused_with_where_they_belong() -> None:
    sides: dict[str, Any] = {"source": "postgresql:///a", "target": "postgresql:///b"}
    with pytest.raises(UsageError) as refused:
        pull("t", exclude=["u"], **sides)  # type: ignore[call-arg]
    assert refused.value.hint == "pgpull.pull_tables takes it"
    with pytest.raises(UsageError) as refused:
        pull_tables("t", jobs=3, **sides)  # type: ignore[call-arg]
    assert refused.value.hint == 'it is a part of way: way={"jobs": ...}'
    with pytest.raises(UsageError, match="there is no argument job"):
        pull_tables("t", way={"job": 3}, **sides)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="there is no argument on_conflict"):
        export("t", source="postgresql:///a", to="x", on_conflict="skip")  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="there is no argument verify"):
        diff("t", verify=True, **sides)  # type: ignore[call-arg]


def test_a_tally_that_does_not_add_up_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="does not add up"):
        Tally(fetched=2, inserted=1)
    with pytest.raises(ValueError, match="does not add up"):
        Tally(fetched=0, inserted=1, skipped=-1)


@given(st.lists(st.binary(max_size=5), min_size=2, max_size=50))
def test_the_halves_of_a_batch_are_the_batch(rows: list[bytes]) -> None:
    first, second = Batch(Wire.TEXT, rows).halves()
    assert [*first.rows, *second.rows] == rows
    assert len(first) > 0
    assert len(second) > 0


@pytest.mark.parametrize(
    ("text", "zone_of"),
    [("9999-12-31T23:59:59Z", "Europe/Berlin"), ("0001-01-01T00:00:00Z", "America/Lima")],
)
def test_an_instant_that_the_zone_has_no_name_for_is_no_date(text: str, zone_of: str) -> None:
    with pytest.raises(UsageError, match="is not a date"):
        instant(text, zone_of)
