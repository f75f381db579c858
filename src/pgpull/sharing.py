"""One table's rows shared out among several workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from typing import Final

from psycopg.sql import Composed

from pgpull import catalog, parting, scoping
from pgpull.applying import Applier
from pgpull.choosing import unique_beside_key
from pgpull.errors import PgpullError
from pgpull.moving import Progress, flow, keyed, leaves
from pgpull.patience import Patience
from pgpull.plans import Leaf, Part, Plan, Strategy, Wire
from pgpull.results import Reject, Tally
from pgpull.sessions import Session, expect_much, send_bytes_as_they_are
from pgpull.sql.comparing import CHANGED, MISSING
from pgpull.sql.sending import copy_out
from pgpull.waiting import settle
from pgpull.workers import Team, Worker

_Said = tuple[Tally, int] | Reject | str
"""What became of some rows, with their bytes once a batch is through; a row refused; a notice."""

_GRACE: Final = 2.0
"""Seconds in which a thread that is asking for keys is through with it."""


def shared_out(source: Session, target: Session, plan: Plan, jobs: int) -> Plan:
    """Cut the rows that will move into parts, if several workers may move them and it is worth their while.

    Args:
        source: the server.
        target: the local side.
        plan: with its strategy.
        jobs: how many workers there may be.

    Returns:
        The plan with its parts; or with the reason why one worker has to do it alone.

    Raises:
        ConnectionLost: a connection went away.
    """
    plan = replace(plan, jobs=1, parts=(), alone="")  # it may have been shared out before, under another plan
    if jobs == 1 or not parting.can_be_shared(plan):
        return plan
    if plan.wire is Wire.CSV:
        pages, size = 0, plan.estimate.bytes if plan.estimate else 0
    else:
        pages, size = scoping.extent_of(source, plan.source)
    moved = size * parting.share(plan)
    if moved < parting.WORTH_BYTES:
        return plan
    unique = bool(unique_beside_key(plan, catalog.rules_of(target, plan.table)))
    alone = parting.one_alone(plan, shared=source.snapshot is not None, unique=unique)
    if plan.strategy is Strategy.KEYED:
        return replace(plan, alone=alone, jobs=1 if alone else min(jobs, parting.batches(plan)))
    parts: tuple[Part | Leaf, ...] = ()
    if not alone:
        parts = leaves(source, plan) if plan.wire is Wire.CSV else parts_of(source, plan, pages, moved, jobs)
    if len(parts) < 2:
        return replace(plan, alone=alone or f"nobody knows where to cut what {plan.access} finds")
    return replace(plan, parts=parts, jobs=min(jobs, len(parts)))


def parts_of(source: Session, plan: Plan, pages: int, size: float, jobs: int) -> tuple[Part, ...]:
    """Cut the rows in scope where the source finds them fastest: by pages, or by the window's column.

    Args:
        source: the server.
        plan: what is read of the table.
        pages: how many the table has.
        size: the bytes of what is read of it.
        jobs: how many workers share the parts out.

    Returns:
        The parts; none where nobody knows where to cut.

    Raises:
        ConnectionLost: the connection went away.
    """
    if parting.by_pages(plan, source.identity.major):
        return parting.page_parts(pages, size, jobs)
    window = plan.request.scope.window
    column = plan.source.column(window.column) if window else None
    if window is None or column is None or (window.since is None and window.until is None):
        return ()  # without an end, rows without a value are meant, too, and lie in no part
    return parting.window_parts(column, scoping.cuts_of(source, plan, window), size, jobs)


class _Dealt:
    """Statements that several threads take, one after the other."""

    def __init__(self, statements: Generator[Composed | Leaf]) -> None:
        self._statements = statements
        self._one_at_a_time = threading.Lock()

    def __iter__(self) -> Iterator[Composed | Leaf]:
        return self

    def __next__(self) -> Composed | Leaf:
        with self._one_at_a_time:
            return next(self._statements)

    def close(self) -> None:
        """Have nobody take any more, unless somebody takes for ever."""
        if self._one_at_a_time.acquire(timeout=_GRACE):
            self._statements.close()
            self._one_at_a_time.release()


class SharedMove:
    """The rows of a plan on their way, moved by several workers, each by batches of its own.

    Args:
        plan: with its parts, unless rows are asked for by their keys.
        target: has the keys; no worker's session then.
        workers: who moves them.
        patience: how often to try again.
        rejected: called with each row that is refused.
        noticed: called with what a user wants to know of.

    The functions are called in the thread that follows the move.
    """

    def __init__(
        self,
        plan: Plan,
        target: Session,
        workers: Sequence[Worker],
        patience: Patience,
        rejected: Callable[[Reject], None],
        noticed: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._workers = workers
        self._patience = patience
        self._rejected = rejected
        self._noticed = noticed
        self._errands = [(strategy, _Dealt(statements)) for strategy, statements in _errands(plan, target)]
        self._team: Team[_Said] = Team()
        self.transactions: list[int] = []
        """The numbers of those that were committed."""

    def progress(self) -> Progress:
        """Move all rows, and yield what became of them.

        Raises:
            Stopped: one of the two cannot go on. What was committed stays.
        """
        try:
            with closing(self._team.at_work(self._workers, self._work)) as said:
                for thing in said:
                    if isinstance(thing, Reject):
                        self._rejected(thing)
                    elif isinstance(thing, str):
                        self._noticed(thing)
                    else:
                        yield thing
        finally:
            for _, dealt in self._errands:
                dealt.close()

    def unheard(self) -> Iterator[Tally]:
        """Yield what became of rows that workers had through when whoever followed left; keep those refused."""
        for thing in self._team.unheard:
            if isinstance(thing, Reject):
                with suppress(PgpullError):  # it may be what it left for
                    self._rejected(thing)
            elif not isinstance(thing, str):
                yield thing[0]

    def _work(self, worker: Worker) -> Generator[_Said]:
        """Take one part, or batch of keys, after the other, until there are none."""
        plan, say = self._plan, self._team.say
        patience = replace(self._patience, notice=say, left=self._team.left)
        applier = Applier(worker.target, plan, patience, say)
        send_bytes_as_they_are(worker.source)
        expect_much(worker.source)
        for strategy, dealt in self._errands:
            yield from flow(worker.source, dealt, plan, applier, strategy)
        for _, tally in settle(worker.target, [applier], say):
            yield tally, 0
        self.transactions += applier.transactions


def _errands(plan: Plan, target: Session) -> list[tuple[Strategy, Generator[Composed | Leaf]]]:
    """Return what has to be read, and how it is applied."""
    if plan.strategy is Strategy.KEYED:
        # no order has to be kept between them: one worker does it alone where values could be swapped
        return [
            (Strategy.MERGE, keyed(target, plan, CHANGED)),
            (Strategy.STRAIGHT, keyed(target, plan, MISSING)),
        ]
    parts = (part if isinstance(part, Leaf) else copy_out(plan, part) for part in plan.parts)
    return [(plan.strategy, parts)]
