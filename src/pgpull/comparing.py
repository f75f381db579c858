"""Which rows differ: the source sends keys, the target tells in SQL which are missing, changed or extra.

The client passes bytes on and holds nothing but a few buckets of sums. What a comparison found stays on the
target, in a temporary table, for as long as its connection lasts.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

import psycopg
from psycopg.sql import Composed

from pgpull import bags
from pgpull.diagnosis import TARGET, fact, lost, translated
from pgpull.errors import PlanError, Unequal
from pgpull.plans import Comparison, Digest, Known, Method, Plan
from pgpull.sessions import Session, send_bytes_as_they_are
from pgpull.sql import comparing as sql
from pgpull.sql.comparing import CHANGED, EXTRA, MISSING
from pgpull.streams import Outflow, Piece, ReadAhead, pour

_BUCKET_ROWS: Final = 256
_MOST_BUCKETS: Final = 4096
_WORTH_A_FINGERPRINT: Final = 20_000
"""Rows in scope: below this, sending all keys at once takes less time than asking twice."""

_MOST_AT_ONCE: Final = 1 << 30
"""What the target takes of keys is no batch: nothing of it is committed, nor tried again."""

_ROUND: Final = 4
"""Batches whose keys are taken off the target at a time."""

_CURSOR: Final = "pgpull_keys"

_NAMED: Final = 10
"""Keys that an error names."""

Sums = dict[int, tuple[int, int]]
"""Of each bucket: how many keys, and the sum of their hashes."""


def compare(
    source: Session, target: Session, plan: Plan, method: Method, known: Known | None = None
) -> Comparison:
    """Compare the rows in scope.

    Args:
        source: the server, whose one snapshot is read.
        target: the local side; the keys that differ stay there.
        plan: what is compared.
        method: how to tell a changed row.
        known: for row versions, how far either side had come when both were last known to be equal.

    Raises:
        Stopped: a connection was lost, or a server gave up.
    """
    send_bytes_as_they_are(source)
    with translated(TARGET, target.connection), target.connection.cursor() as cursor:
        comparing = _Comparing(source, target, plan, cursor, extras=plan.request.mirror)
        return comparing.run(method, known, plan.row_digest)


def compare_in_full(source: Session, target: Session, plan: Plan, *, extras: bool = True) -> Comparison:
    """Compare the rows in scope, by a hash of all columns that travel; see :func:`compare`.

    Args:
        source: the server.
        target: the local side.
        plan: what is compared.
        extras: whether to look for rows that only the target has.
    """
    if plan.key is None:
        return bags.compare(source, target, plan, extras=extras)
    send_bytes_as_they_are(source)
    with translated(TARGET, target.connection), target.connection.cursor() as cursor:
        comparing = _Comparing(source, target, plan, cursor, extras=extras)
        return comparing.run(Method.HASHES, None, plan.full_digest)


class Incomparable(PlanError):
    """A key of the source's is no value of the target's key: rows can only be told apart as they arrive."""


class _Comparing:
    """One comparison under way, in one transaction of the target."""

    def __init__(
        self, source: Session, target: Session, plan: Plan, cursor: psycopg.Cursor, *, extras: bool = False
    ) -> None:
        self._source = source
        self._target = target
        self._plan = plan
        self._cursor = cursor
        self._extras = extras and plan.scope_here
        self._bytes = 0

    def run(self, method: Method, known: Known | None, of: Digest) -> Comparison:
        """Compare from the start."""
        self._cursor.execute(sql.CLOSE_ALL)
        self._cursor.execute(sql.DROP)
        self._cursor.execute(sql.create_theirs(self._plan))
        with self._target.connection.transaction():
            self._cursor.execute(sql.IN_BULK)
            if method is Method.HASHES:
                rows = self._by_hashes(of)
            elif known or self._worth_a_fingerprint:
                rows = self._by_fingerprints(known)
            else:
                rows = self._by_keys()
            counts: dict[str, int] = dict(self._cursor.execute(sql.COUNT_STATES).fetchall())
        return Comparison(
            method=method,
            rows=rows,
            missing=counts.get(sql.MISSING, 0),
            changed=counts.get(sql.CHANGED, 0),
            extra=counts.get(sql.EXTRA, 0) if self._extras else None,
            bytes=self._bytes,
        )

    @property
    def _worth_a_fingerprint(self) -> bool:
        estimate = self._plan.estimate
        return self._plan.scope_here and (estimate is None or estimate.rows >= _WORTH_A_FINGERPRINT)

    # --- all rows in scope -------------------------------------------------------------------------------

    def _by_keys(self) -> int:
        self._cursor.execute(sql.create_differing(self._plan))
        rows = self.take(sql.copy_keys(self._plan, self._source.identity.encoding, 1, None))
        self._cursor.execute(sql.find_missing(self._plan))
        self._find_extra(1, None)
        return rows

    def _by_hashes(self, of: Digest) -> int:
        rows = self.take(sql.copy_digests(self._plan, of, self._source.identity.encoding), digests=True)
        self._cursor.execute(sql.create_differing_by_hashes(self._plan, of, self._here))
        self._find_extra(1, None)
        return rows

    def _find_extra(self, buckets: int, wanted: Sequence[int] | None) -> None:
        if self._extras:
            encoding = self._target.identity.encoding
            self._cursor.execute(sql.find_extra(self._plan, encoding, buckets, wanted))

    # --- where only some buckets of keys differ ----------------------------------------------------------

    def _by_fingerprints(self, known: Known | None) -> int:
        """Sum the keys up on both sides at the same time, and ask for those of the buckets that differ.

        With row versions, the source also sends the keys that were written since; what of these is not here
        is missing, and has to be added to the sums of this side before the two can be told apart.
        """
        self._cursor.execute(sql.create_differing(self._plan))
        buckets, theirs = self._buckets(), Sums()
        with ReadAhead(self._sums_then_young(theirs, buckets, known), self._source.cancel) as ahead:
            ours = self._sums(sql.fingerprint(self._plan, self._plan.target, self._here, buckets))
            if known:
                self._cursor.execute(sql.find_touched_here(self._plan, known.target))
            self._pass_on(ahead, digests=False)
        if known:
            ours = _added(ours, self._sums(sql.absent_fingerprint(self._plan, self._here, buckets)))
            self._cursor.execute(sql.find_touched(self._plan))
            self._cursor.execute(sql.find_missing(self._plan))
        self._settle(buckets, sorted(_unlike(theirs, ours)))
        return sum(count for count, _ in theirs.values())

    @property
    def _here(self) -> str:
        return self._target.identity.encoding

    def _buckets(self) -> int:
        rows = self._plan.estimate.rows if self._plan.estimate else _MOST_BUCKETS * _BUCKET_ROWS
        return min(_MOST_BUCKETS, 1 << max(0, rows // _BUCKET_ROWS).bit_length())

    def _sums_then_young(self, sums: Sums, buckets: int, known: Known | None) -> Iterator[Piece]:
        """Fill the sums of the source's keys, then yield its young rows. For the reading thread."""
        statement = sql.fingerprint(self._plan, self._plan.source, self._source.identity.encoding, buckets)
        with translated(self._source.side, self._source.connection):
            rows = self._source.connection.execute(statement.as_bytes()).fetchall()
        sums.update(_as_sums(rows))
        self._bytes += sum(20 + len(row[2]) for row in rows)
        if known:
            yield from self._pieces(sql.copy_young(self._plan, known.source))

    def _sums(self, statement: Composed) -> Sums:
        return _as_sums(self._cursor.execute(statement).fetchall())

    def _settle(self, buckets: int, unlike: Sequence[int]) -> None:
        """Find what is missing and extra in the buckets that differ; in all, if they are many."""
        if not unlike:
            return
        wanted = unlike if len(unlike) * 4 <= buckets else None
        self._cursor.execute(sql.clear_theirs())
        self.take(sql.copy_keys(self._plan, self._source.identity.encoding, buckets, wanted))
        self._cursor.execute(sql.find_missing(self._plan))
        self._find_extra(buckets, wanted)

    # --- from the source into *theirs* -------------------------------------------------------------------

    def take(self, statement: Composed, *, digests: bool = False) -> int:
        """Have *theirs* take what the source answers, and return the number of rows."""
        with ReadAhead(self._pieces(statement), self._source.cancel) as ahead:
            return self._pass_on(ahead, digests=digests)

    def _pieces(self, statement: Composed) -> Iterator[Piece]:
        outflow = Outflow(self._source.connection, statement.as_bytes(), self._source.pace)
        return outflow.pieces(_MOST_AT_ONCE)

    def _pass_on(self, ahead: Iterable[Piece], *, digests: bool) -> int:
        try:
            statement = sql.copy_theirs(self._plan, digests=digests)
            return pour(self._cursor, statement, self._plan.key_wire, self._counted(ahead))
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise Incomparable(
                f"a key of {self._plan.table} on the server is none here: {fact(error)}",
                "give the key's columns the types that they have on the server",
            ) from error

    def _counted(self, ahead: Iterable[Piece]) -> Iterator[Sequence[bytes]]:
        for piece in ahead:
            self._bytes += piece.size
            yield piece.rows


# --- what was found ------------------------------------------------------------------------------------------


def key_batches(
    target: Session, plan: Plan, which: str | Composed, rows: int
) -> Generator[list[Sequence[str]]]:
    """Take keys off the target, as texts that the source can be asked with.

    Args:
        target: the side that holds them.
        plan: what was compared.
        which: :data:`~pgpull.sql.comparing.MISSING` and its kin, or another table of keys, with a condition.
        rows: keys in a batch.

    Yields:
        Some batches at a time; a batch is an array's text for each column of the key.

    Raises:
        ConnectionLost: the target's connection is not the one that holds what was found.
    """
    connection = target.connection
    with translated(TARGET, connection):
        keys = sql.in_state(which) if isinstance(which, str) else which
        connection.execute(sql.key_batches(plan, keys, rows, _CURSOR))
    try:
        while batches := list(islice(_fetched(target, connection), _ROUND)):
            yield batches
    finally:
        with suppress(psycopg.Error):  # of a connection that is gone, or a transaction that has failed
            connection.execute(sql.close(_CURSOR))


def _fetched(target: Session, connection: psycopg.Connection) -> Iterator[Sequence[str]]:
    while True:
        if target.connection is not connection:
            raise lost(TARGET, RuntimeError("what the comparison found went with an earlier connection"))
        with translated(TARGET, connection):
            row = connection.execute(sql.fetch(_CURSOR)).fetchone()
        if row is None:
            return
        yield row


def take(source: Session, target: Session, plan: Plan, statement: Composed) -> None:
    """Have *theirs* hold the keys that the source answers a statement with.

    Raises:
        Incomparable: one of them is no key here.
        Stopped: a connection was lost, or a server gave up.
    """
    send_bytes_as_they_are(source)
    with translated(TARGET, target.connection), target.connection.cursor() as cursor:
        cursor.execute(sql.DROP)
        cursor.execute(sql.create_theirs(plan))
        _Comparing(source, target, plan, cursor).take(statement)


def take_keys(source: Session, target: Session, plan: Plan, keys: Sequence[str]) -> None:
    """Have *theirs* hold those of some keys that the source has, in scope or not."""
    with translated(TARGET, target.connection), target.connection.cursor() as cursor:
        cursor.execute(sql.clear_theirs())
        _Comparing(source, target, plan, cursor).take(sql.copy_keyed_keys(plan, keys))


def some_keys(target: Session, plan: Plan, most: int | None = None) -> list[tuple[str, dict[str, str]]]:
    """Return keys that differ, spelled out, and how each differs; the first ones in order.

    Raises:
        ConnectionLost: the connection went away.
    """
    if plan.key is None:
        return []
    with translated(TARGET, target.connection):
        rows = target.connection.execute(sql.differing_keys(plan, most)).fetchall()
    return [(state, dict(zip(plan.keys, values, strict=True))) for state, *values in rows]


def all_keys(target: Session, plan: Plan) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield all keys that differ, as :func:`some_keys` returns some, without holding them."""
    if plan.key is None:
        return
    with translated(TARGET, target.connection), target.connection.cursor() as cursor:
        for state, *values in cursor.stream(sql.differing_keys(plan)):
            yield state, dict(zip(plan.keys, values, strict=True))


def unequal(target: Session, plan: Plan, found: Comparison) -> Unequal:
    """Say that both sides differ after a pull, and in which rows."""
    counts = {MISSING: found.missing, CHANGED: found.changed, EXTRA: found.extra or 0}
    how = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
    keys = "; ".join(
        f"{state} " + ", ".join(f"{name}={value}" for name, value in key.items())
        for state, key in some_keys(target, plan, _NAMED)
        if counts.get(state)
    )
    hint = (
        "run it again if rows were refused; rows that were here already are taken over by --on-conflict update"
    )
    if plan.drifted:
        hint += "; columns that have another type here may spell the same value differently"
    return Unequal(f"{plan.table} is not as on the server: {how}" + (f": {keys}" if keys else ""), hint)


def _as_sums(rows: Iterable[tuple[int, int, str]]) -> Sums:
    return {bucket: (count, int(total)) for bucket, count, total in rows}


def _added(one: Mapping[int, tuple[int, int]], other: Mapping[int, tuple[int, int]]) -> Sums:
    nothing = (0, 0)
    return {
        bucket: (
            one.get(bucket, nothing)[0] + other.get(bucket, nothing)[0],
            one.get(bucket, nothing)[1] + other.get(bucket, nothing)[1],
        )
        for bucket in one.keys() | other.keys()
    }


def _unlike(one: Sums, other: Sums) -> set[int]:
    return {bucket for bucket in one.keys() | other.keys() if one.get(bucket) != other.get(bucket)}
