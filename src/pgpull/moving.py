"""Rows on their way: out of the source by the statements of a plan, into an applier."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing

from psycopg.sql import Composed

from pgpull.applying import Applier
from pgpull.bags import lacking
from pgpull.comparing import key_batches
from pgpull.diagnosis import TARGET, translated
from pgpull.model import OnConflict
from pgpull.plans import Leaf, Plan, Strategy, Wire
from pgpull.results import Tally
from pgpull.sessions import Session
from pgpull.sql import sending as sql
from pgpull.sql.bags import copy_lacking
from pgpull.sql.comparing import CHANGED, MISSING, copy_keyed
from pgpull.sql.relating import all_wanted, forget_those_not_to_move
from pgpull.streams import Outflow, Piece, ReadAhead, in_batches
from pgpull.unpacking import Unpacked

Progress = Generator[tuple[Tally, int]]
"""What became of some rows; and, once a batch is through, its bytes."""


def move(source: Session, target: Session, plan: Plan, applier: Applier) -> Progress:
    """Move the rows that the plan's strategy says.

    Args:
        source: the server.
        target: the side that holds what the comparison found.
        plan: what moves.
        applier: takes it.

    Raises:
        Stopped: one of the two cannot go on. What was committed stays.
    """
    if plan.strategy is Strategy.KEYED and plan.key is None:
        yield from move_lacking(source, target, plan, applier, Strategy.STRAIGHT)
    elif plan.strategy is Strategy.KEYED:
        # what changed first: it may free a unique value that a missing row needs
        yield from move_keyed(source, target, plan, applier, CHANGED, Strategy.MERGE)
        yield from move_keyed(source, target, plan, applier, MISSING, Strategy.STRAIGHT)
    elif plan.strategy is not Strategy.NOTHING:
        whole = leaves(source, plan) if plan.wire is Wire.CSV else [sql.copy_out(plan)]
        yield from flow(source, whole, plan, applier, plan.strategy)


def leaves(source: Session, plan: Plan) -> tuple[Leaf, ...]:
    """Return the files that a plan's rows are in, where an archive stands in place of the source."""
    assert source.substitute is not None, "only an archive has files"
    return tuple(Leaf(file.path) for file in source.substitute.table(plan.table).files)


def move_related(source: Session, target: Session, plan: Plan, applier: Applier) -> Progress:
    """Move the rows that others are related to, wherever they are; see :func:`move`."""
    if plan.request.on_conflict is OnConflict.SKIP:
        # a cursor that looks into the table itself would keep its triggers from being held meanwhile
        with translated(TARGET, target.connection):
            target.connection.execute(forget_those_not_to_move(plan))
    for batches in key_batches(target, plan, all_wanted(plan), plan.request.batch_rows):
        statements = [copy_keyed(plan, keys, anywhere=True) for keys in batches]
        yield from flow(source, statements, plan, applier, Strategy.MERGE)


def move_lacking(
    source: Session, target: Session, plan: Plan, applier: Applier, strategy: Strategy
) -> Progress:
    """Move as many copies of rows without a key as the target lacks; see :func:`move`."""
    with closing(lacking(target)) as batches:
        for hashes, copies in batches:
            statement = copy_lacking(plan, source.identity.encoding, hashes, copies)
            yield from flow(source, [statement], plan, applier, strategy)


def move_keyed(
    source: Session, target: Session, plan: Plan, applier: Applier, state: str, strategy: Strategy
) -> Progress:
    """Move the rows of a state, asked for by their keys; see :func:`move`."""
    for batches in key_batches(target, plan, state, plan.request.batch_rows):
        yield from flow(source, [copy_keyed(plan, keys) for keys in batches], plan, applier, strategy)


def keyed(target: Session, plan: Plan, state: str) -> Generator[Composed]:
    """Yield statements for the rows of a state, a batch each, and ask the target for their keys on the way.

    Raises:
        ConnectionLost: the target's connection went away.
    """
    with closing(key_batches(target, plan, state, plan.request.batch_rows)) as batches:
        for some in batches:
            yield from (copy_keyed(plan, keys) for keys in some)


def flow(
    source: Session,
    statements: Iterable[Composed | Leaf],
    plan: Plan,
    applier: Applier,
    strategy: Strategy,
) -> Progress:
    """Move the rows that some statements send, or files hold, one after the other; see :func:`move`."""
    announced = 0

    def pieces() -> Iterator[Piece]:
        nonlocal announced
        for statement in statements:
            outflow = _outflow(source, plan, statement)
            yield from outflow.pieces(plan.request.batch_rows)
            announced += outflow.announced or 0

    def interrupt() -> None:
        if plan.wire is not Wire.CSV:  # a file keeps nobody waiting
            source.cancel()

    fetched, waiting = 0, applier.waiting
    with ReadAhead(pieces(), interrupt) as ready:
        for batch in in_batches(ready, plan.wire):
            for tally in applier.apply(batch, strategy):
                fetched += tally.fetched
                yield tally, 0
            yield Tally(), batch.size
    counted = fetched + applier.waiting - waiting
    if counted != announced:
        raise RuntimeError(f"the server sent {announced} rows, and {counted} were counted")


def _outflow(source: Session, plan: Plan, statement: Composed | Leaf) -> Outflow | Unpacked:
    if not isinstance(statement, Leaf):
        return Outflow(source.connection, statement.as_bytes(), source.pace)
    assert source.substitute is not None, "only an archive has files"
    [file] = [file for file in source.substitute.table(plan.table).files if file.path == statement.path]
    return Unpacked(source.substitute.archive, file, source.pace)
