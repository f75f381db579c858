"""A pooler in between: as the source, in either mode; and what one cannot do, said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pgpull import Report, Tally, check, diff, parting, pull, pull_tables, status
from tests.support import Pair
from tests.support.pooler import Mode, Pooler

TABLE = "askwealth.message"
ROWS = 2_000


@pytest.fixture(params=["transaction", "session"])
def mode(request: pytest.FixtureRequest) -> Mode:
    found: Mode = request.param
    return found


@pytest.fixture
def pooler(pair: Pair, mode: Mode) -> Iterator[Pooler]:
    """Give a pooler before the source, which has rows."""
    pair.add_messages("source", ROWS)
    with Pooler(pair.source_server, mode) as running:
        yield running


def sides(pair: Pair, pooler: Pooler) -> dict[str, Any]:
    return {"source": pooler.url(pair.source_db), "target": pair.target_url}


def pulled(pair: Pair, pooler: Pooler, **words: Any) -> Report:
    return pull(TABLE, **{**sides(pair, pooler), "batch_size": 100, **words})


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_pooler_is_pulled_through_by_one_worker_and_by_several(
    pair: Pair, pooler: Pooler, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    monkeypatch.setattr(parting, "WORTH_BYTES", 0)
    report = pulled(pair, pooler, jobs=jobs, verify=True)
    assert report.tally == Tally(ROWS, inserted=ROWS)
    assert report.plan.jobs == jobs
    assert pair.same(TABLE)
    pair.source(f"update {TABLE} set role = 'x' where role = 'user'")
    pulled(pair, pooler, on_conflict="update", jobs=jobs)
    assert pair.same(TABLE)


def test_no_setting_is_left_behind_in_a_session_that_others_get(pair: Pair, pooler: Pooler) -> None:
    pulled(pair, pooler, jobs=3)
    asked = "select name, setting from pg_settings where source = 'session'"
    assert pair.source(asked) == []
    with psycopg.connect(pooler.url(pair.source_db), prepare_threshold=None) as other:
        [(read_only, isolation)] = other.execute(
            "select current_setting('transaction_read_only'), current_setting('transaction_isolation')"
        ).fetchall()
    assert (read_only, isolation) == ("off", "read committed")


def test_all_that_only_looks_works_through_a_pooler(pair: Pair, pooler: Pooler) -> None:
    both = sides(pair, pooler)
    assert diff(TABLE, **both)[0].comparison.missing == ROWS
    assert status(TABLE, **both).total.missing == ROWS
    assert any("a pooler stands in between" in finding.fact for finding in check(TABLE, **both).findings)


def test_several_tables_short_transactions_and_pauses_work_through_a_pooler(pair: Pair, pooler: Pooler) -> None:
    way: Any = {"jobs": 2, "pause_when": "active>40", "max_rate": "1GB/s"}
    summary = pull_tables("askwealth.*", **sides(pair, pooler), way=way)
    assert summary.tally.inserted == ROWS
    pair.target(f"truncate {TABLE} cascade")
    assert pulled(pair, pooler, snapshot=False).tally.inserted == ROWS


def test_local_behind_a_pooler_of_sessions_is_written(pair: Pair) -> None:
    pair.add_messages("source", ROWS)
    with Pooler(pair.target_server, "session") as pooler:
        report = pull(TABLE, source=pair.source_url, target=pooler.url(pair.target_db), batch_size=100)
    assert report.tally.inserted == ROWS
    assert pair.same(TABLE)
