"""Rows come out of a COPY as they are, in batches that hold no more than they may."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpull import PgpullError
from pgpull.plans import BATCH_BYTES, Wire
from pgpull.streams import Outflow, ReadAhead, in_batches
from tests.support import Server


@pytest.fixture(scope="module")
def connection(servers: Callable[[int], Server], newest: int) -> Iterator[psycopg.Connection]:
    with psycopg.connect(servers(newest).url("postgres")) as connection:
        yield connection
        connection.rollback()


def statement(query: str, wire: Wire = Wire.BINARY) -> bytes:
    return f"copy ({query}) to stdout (format {wire})".encode()


def rows_of(connection: psycopg.Connection, query: str, most: int = 100, wire: Wire = Wire.TEXT) -> list[bytes]:
    pieces = Outflow(connection, statement(query, wire)).pieces(most)
    return [row for piece in pieces for row in piece.rows]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1500), st.integers(1, 700), st.sampled_from(Wire), st.integers())
def test_batches_hold_every_row_in_order_however_far_each_was_read(
    connection: psycopg.Connection, count: int, most: int, wire: Wire, seed: int
) -> None:
    dice = random.Random(seed)
    outflow = Outflow(connection, statement(f"select g from generate_series(1, {count}) g", wire))
    seen: list[bytes] = []
    for batch in in_batches(outflow.pieces(most), wire):
        for _ in zip(batch.pieces(), range(dice.randint(0, 3)), strict=False):
            pass  # a first try that breaks off somewhere
        again = [row for piece in batch.pieces() for row in piece]
        assert again == list(batch.rows)
        assert 0 < len(batch) <= most
        seen += again
    assert outflow.announced == count == len(seen)
    if wire is Wire.TEXT:
        assert seen == [b"%d\n" % number for number in range(1, count + 1)]


def test_a_batch_of_wide_rows_closes_early(connection: psycopg.Connection) -> None:
    outflow = Outflow(connection, statement("select repeat('x', 1000000) from generate_series(1, 7)"))
    batches = [len(batch) for batch in in_batches(outflow.pieces(1000), Wire.BINARY)]
    assert batches == [BATCH_BYTES // 1_000_000 + 1, 2]


def test_one_copy_follows_another_in_the_same_transaction(connection: psycopg.Connection) -> None:
    for number in range(3):
        assert rows_of(connection, f"select {number}") == [b"%d\n" % number]
    assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("broken", ["select 1 / (5 - g) from generate_series(1, 9) g", "select nothing"])
def test_what_the_server_says_against_a_copy_is_an_error_of_ours(
    connection: psycopg.Connection, broken: str
) -> None:
    with pytest.raises(PgpullError) as caught:
        rows_of(connection, broken)
    assert isinstance(caught.value.__cause__, psycopg.Error)
    assert caught.value.__cause__.sqlstate in ("22012", "42703")
    connection.rollback()


def test_a_reader_waits_while_nobody_takes_what_it_read(connection: psycopg.Connection) -> None:
    read: list[int] = []

    def watched() -> Iterator[Any]:
        query = "select repeat('x', 100000) from generate_series(1, 200)"
        for piece in Outflow(connection, statement(query)).pieces(1000):
            read.append(len(piece.rows))
            yield piece

    with ReadAhead(watched(), lambda: None) as ahead:
        next(iter(ahead))
        for _ in range(100):
            assert sum(read) < 50
        assert sum(len(piece.rows) for piece in ahead) == 200 - read[0]
