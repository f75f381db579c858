"""Foreign keys of periods (PostgreSQL 18): a child's period lies in those of its parents together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pgpull import Outlook, PlanError, Summary, forecast_tables, pull_tables
from pgpull.results import Tally
from tests.conftest import MakePair
from tests.support import Pair

SCHEMA = """
create table flat (n int primary key, id int4range not null, let daterange not null,
                   unique (id, let without overlaps));
create table stay (n int primary key, flat int4range, at daterange,
                   foreign key (flat, period at) references flat (id, period let));
create table staff (n int primary key, id int4range not null, at daterange not null, boss int4range,
                    unique (id, at without overlaps),
                    foreign key (boss, period at) references staff (id, period at));
"""

# Stay 1 lies in two lets of a flat, 2 in one of them, 3 is nowhere; 4 and 5 lie in none, or not wholly.
FLATS = """
insert into flat values (1, '[1,2)', '[2025-01-01,2025-07-01)'), (2, '[1,2)', '[2025-07-01,2026-01-01)'),
                        (3, '[2,3)', '[2025-01-01,2026-01-01)');
insert into stay values (1, '[1,2)', '[2025-06-01,2025-08-01)'), (2, '[1,2)', '[2025-02-01,2025-03-01)'),
                        (3, null, '[2025-02-01,2025-03-01)')
"""
HOMELESS = """
insert into stay values (4, '[9,10)', '[2025-02-01,2025-03-01)'), (5, '[1,2)', '[2025-12-01,2026-02-01)')
"""

# Everybody's boss comes later, or is the row itself. 16 is led by 15, whose own boss is gone before 15 is.
STAFF = """
insert into staff values (11, '[1,2)', '[2025-01-01,2026-01-01)', '[2,3)'),
                         (12, '[2,3)', '[2025-01-01,2025-07-01)', '[3,4)'),
                         (13, '[2,3)', '[2025-07-01,2026-01-01)', '[2,3)'),
                         (14, '[3,4)', '[2025-01-01,2026-01-01)', null)
"""
ASTRAY = """
insert into staff values (16, '[6,7)', '[2025-03-01,2025-04-01)', '[5,6)'),
                         (15, '[5,6)', '[2025-01-01,2026-02-01)', '[3,4)')
"""

TABLES = ["flat", "stay", "staff"]


@pytest.fixture
def pair(make_pair: MakePair, newest: int) -> Pair:
    if newest < 18:
        pytest.skip("PostgreSQL 18 is not on this machine")
    return make_pair(newest, newest, schema=SCHEMA)


def pulled(pair: Pair, tables: Sequence[str], **words: Any) -> Summary:
    return pull_tables(*tables, source=pair.source_url, target=pair.target_url, **words)


def foretold(pair: Pair, tables: Sequence[str], **words: Any) -> Outlook:
    return forecast_tables(*tables, source=pair.source_url, target=pair.target_url, **words)


def astray(pair: Pair, *statements: str) -> None:
    """Add rows to the server that its own foreign keys would refuse."""
    pair.source("set session_replication_role = replica", *statements)


def numbers(pair: Pair, table: str) -> list[int]:
    return [n for (n,) in pair.target(f"select n from {table} order by n")]


def refused(file: Path) -> dict[str, str]:
    return {line["key"]["n"]: line["constraint"] for line in map(json.loads, file.read_text().splitlines())}


@pytest.mark.parametrize("batch_size", [1, 5000])
def test_only_rows_whose_period_no_parents_cover_are_refused(
    pair: Pair, tmp_path: Path, batch_size: int
) -> None:
    astray(pair, FLATS, HOMELESS, STAFF, ASTRAY)
    file = tmp_path / "rejects.jsonl"
    foreseen = foretold(pair, TABLES)
    assert {f.plan.table.name: f.tally.failed for f in foreseen.forecasts} == {"flat": 0, "stay": 2, "staff": 2}
    summary = pulled(pair, TABLES, batch_size=batch_size, way={"rejects": file})
    assert summary.tally == Tally(14, inserted=10, failed=4)
    assert [numbers(pair, table) for table in TABLES] == [[1, 2, 3], [1, 2, 3], [11, 12, 13, 14]]
    assert refused(file) == dict.fromkeys("45", "stay_flat_at_fkey") | dict.fromkeys(
        ["15", "16"], "staff_boss_at_fkey"
    )


def test_the_parents_of_a_period_come_along_and_no_others(pair: Pair) -> None:
    pair.source(FLATS, STAFF)
    pulled(pair, ["stay"], where="n = 2", with_parents=True)
    assert numbers(pair, "flat") == [1]
    pulled(pair, ["stay"], where="n = 1", with_parents=True)
    assert numbers(pair, "flat") == [1, 2]
    pulled(pair, ["staff"], where="n = 11", with_parents=True)
    assert numbers(pair, "staff") == [11, 12, 13, 14]


def test_the_children_of_a_period_come_along_and_no_others(pair: Pair) -> None:
    pair.source(FLATS)
    pulled(pair, ["flat"], where="n = 2", with_children=["stay"], with_parents=True)
    assert (numbers(pair, "flat"), numbers(pair, "stay")) == ([1, 2], [1])


def test_a_parent_that_a_period_needs_is_not_pruned(pair: Pair) -> None:
    pair.source(FLATS)
    pulled(pair, TABLES)
    pair.source("truncate stay, flat")
    pair.source("insert into flat values (4, '[4,5)', '[2025-01-01,2026-01-01)')")
    words = {"on_conflict": "update", "mirror": True, "max_delete": "100%"}
    summary = pulled(pair, ["flat"], **words)
    assert [(report.deleted, report.kept) for report in summary.reports] == [(1, 2)]
    assert numbers(pair, "flat") == [1, 2, 4]
    with pytest.raises(PlanError, match=r"other rows of public\.stay refer to rows of public\.flat"):
        pulled(pair, ["flat"], replace=True)
    summary = pulled(pair, ["flat", "stay"], **words)
    assert (numbers(pair, "flat"), numbers(pair, "stay")) == ([4], [])


def test_a_foreign_key_of_periods_that_the_server_lacks_is_a_note(pair: Pair) -> None:
    pair.source("alter table stay drop constraint stay_flat_at_fkey")
    notes = {report.plan.table.name: " ".join(report.plan.notes) for report in pulled(pair, TABLES).reports}
    assert (
        "local has FOREIGN KEY (flat, PERIOD at) REFERENCES public.flat, which the server has not"
        in notes["stay"]
    )
    assert "PERIOD" not in notes["staff"]
