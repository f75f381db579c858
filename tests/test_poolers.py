"""PgBouncer in between: a source behind it is read as it is, a target where it keeps a session for us."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from typing import Any

import psycopg
import pytest

from pgpull import ConnectFailed, Report, Tally, check, diff, parting, pull, status, workers
from tests.support import Pair, Side
from tests.support.pooler import Pooler

TABLE = "askwealth.message"
ROWS = 3_000
# Nobody's who could do more than read.
READER, WORD = "pooled_reader", "reads"
OWNER = "pooled_owner"
SIDES: tuple[Side, Side] = ("source", "target")
ALL_MODES = ("session", "transaction")

MakePooler = Callable[..., str]


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share out small tables, too."""
    monkeypatch.setattr(parting, "WORTH_BYTES", 0)


@pytest.fixture
def full(pair: Pair) -> Iterator[Pair]:
    """Give a pair whose source has rows, and a role that may read them."""
    pair.add_messages("source", ROWS)
    for side in SIDES:
        for role in (READER, OWNER):
            pair.run(side, f"create role {role} login password '{WORD}'")
    pair.source(
        f"analyze {TABLE}",
        f"grant usage on schema askwealth to {READER}",
        f"grant select on all tables in schema askwealth to {READER}",
    )
    pair.target(
        f"grant create, temporary on database {pair.target_db} to {OWNER}",
        f"alter schema askwealth owner to {OWNER}",
        f"alter table {TABLE} owner to {OWNER}",
    )
    yield pair
    for side in SIDES:
        for role in (READER, OWNER):
            pair.run(side, f"drop owned by {role} cascade", f"drop role {role}")


@pytest.fixture
def pooled(full: Pair) -> Iterator[MakePooler]:
    """Put a pooler before a side, and name that side by it."""
    with ExitStack() as stack:

        def make(side: Side, mode: str, size: int = 10) -> str:
            users = {READER: WORD, OWNER: WORD}
            pooler = stack.enter_context(Pooler(full.server(side), mode, size, users))
            return pooler.url(full.database(side), READER if side == "source" else OWNER, WORD)

        yield make


def pulled(pair: Pair, **words: Any) -> Report:
    given = {"source": pair.source_url, "target": pair.target_url, "jobs": 3, "batch_size": 100, **words}
    return pull(TABLE, **given)


# --- before the source -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ALL_MODES)
def test_a_source_behind_a_pooler_is_read_by_several_workers_without_any_privilege(
    full: Pair, pooled: MakePooler, mode: str
) -> None:
    source = pooled("source", mode)
    report = pulled(full, source=source, verify=True)
    assert report.tally == Tally(ROWS, inserted=ROWS)
    assert (report.plan.jobs, report.plan.alone) == (3, "")
    assert full.same(TABLE)
    full.source(f"update {TABLE} set role = 'later' where extract(hour from created_at) = 7")
    again = pulled(full, source=source, on_conflict="update", mirror=True, verify=True)
    assert again.tally == Tally(ROWS, updated=ROWS // 24, skipped=ROWS - ROWS // 24)
    assert full.same(TABLE)


@pytest.mark.parametrize("mode", ALL_MODES)
def test_what_pgpull_asks_of_a_pooled_connection_is_not_left_to_whom_it_is_given_next(
    full: Pair, pooled: MakePooler, mode: str
) -> None:
    source = pooled("source", mode, 1)
    asked = "select current_setting('timezone'), current_setting('transaction_read_only')"
    with psycopg.connect(source, autocommit=True) as before:
        expected = before.execute(asked).fetchone()
    pulled(full, source=source, jobs=1)
    with psycopg.connect(source, autocommit=True) as after:
        assert after.execute(asked).fetchone() == expected


@pytest.mark.parametrize("mode", ALL_MODES)
def test_a_pooler_with_few_connections_lets_fewer_workers_in_soon(
    full: Pair, pooled: MakePooler, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_SOON", 0.5)
    begin = time.monotonic()
    report = pulled(full, source=pooled("source", mode, 2))
    assert time.monotonic() - begin < 30  # a pooler lets them wait for 120 seconds
    assert report.plan.jobs == 2
    assert report.plan.alone == "the server let no other session in within 0.5 s"
    assert full.same(TABLE)


@pytest.mark.parametrize("mode", ALL_MODES)
def test_check_diff_and_status_read_through_a_pooler(full: Pair, pooled: MakePooler, mode: str) -> None:
    urls: Any = {"source": pooled("source", mode), "target": full.target_url}
    found = check(TABLE, **urls)
    assert found.exit_code == 0
    assert any("a pooler stands in between" in finding.fact for finding in found.findings)
    [difference] = diff(TABLE, **urls)
    assert difference.comparison.missing == ROWS
    assert status(TABLE, window="created_at", **urls).first_missing == date(2025, 1, 1)


def test_a_pooler_that_knows_no_transactions_is_a_clear_refusal(full: Pair, pooled: MakePooler) -> None:
    for side in SIDES:
        with pytest.raises(ConnectFailed, match="not allowed in statement pooling mode") as caught:
            pulled(full, **{side: pooled(side, "statement")})
        assert "a pool in session mode" in caught.value.hint


# --- before the target -----------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [{}, {"replace": True}, {"on_conflict": "update", "mirror": True}])
def test_a_target_behind_a_pooler_in_session_mode_is_written(
    full: Pair, pooled: MakePooler, words: dict[str, Any]
) -> None:
    target = pooled("target", "session")
    pulled(full, until="2025-02-01")
    full.target(f"update {TABLE} set role = 'mine'")
    pulled(full, target=target, **words)
    assert full.same(TABLE) == bool(words)
    assert full.target(f"select count(*) from {TABLE}") == [(ROWS,)]


def test_a_target_that_has_a_single_pooled_session_is_written_by_one_worker(
    full: Pair, pooled: MakePooler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_SOON", 0.5)
    monkeypatch.setattr("pgpull.sessions._SOON", 0.5)
    report = pulled(full, target=pooled("target", "session", 1))
    assert (report.plan.jobs, report.tally.inserted) == (1, ROWS)


@pytest.mark.parametrize("size", [1, 10])
def test_a_target_behind_a_pooler_in_transaction_mode_is_refused_clearly(
    full: Pair, pooled: MakePooler, size: int
) -> None:
    target = pooled("target", "transaction", size)
    with pytest.raises(ConnectFailed, match="a pooler that gives local's connection to others") as caught:
        pulled(full, target=target)
    assert (caught.value.exit_code, full.target(f"select count(*) from {TABLE}")) == (3, [(0,)])
    assert "a pool in session mode" in caught.value.hint
    assert WORD not in str(caught.value)
    assert check(source=full.source_url, target=target).exit_code == 3
