"""Several small tables at the same time, side by side: each is moved by one of several workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from pgpull import parting
from pgpull.errors import ConnectFailed, Passing, PgpullError, UnsafeTarget
from pgpull.listening import Listener
from pgpull.plans import Plan
from pgpull.pulling import Bench, TablePull
from pgpull.results import Reject
from pgpull.sessions import Session
from pgpull.workers import Team, Worker, hired

_SMALL_ROWS = 50_000

_ENOUGH = 4
"""So few small tables are through before a second worker is there."""

_Deed = Callable[[], object]
"""Something that a worker has the listening thread do."""


def is_small(plan: Plan) -> bool:
    """Tell whether one worker can move a table while others move others: it has few rows, which need no others.

    Args:
        plan: as it was made before rows were compared.
    """
    guess, request = plan.estimate, plan.request
    few = guess is not None and guess.rows < _SMALL_ROWS and guess.bytes < parting.WORTH_BYTES
    waits = any(tie.parents for tie in plan.ties)
    return few and not (plan.atomic or request.deletes or request.only_related or plan.why or waits)


def pull_beside(
    source: Session,
    bench: Bench,
    pulls: Sequence[TablePull],
    failed: Callable[[TablePull, PgpullError], None],
) -> list[TablePull]:
    """Pull small tables that do not refer to each other at the same time.

    Args:
        source: the server.
        bench: what all tables share.
        pulls: the tables.
        failed: called with each table that could not be pulled, and why.

    Returns:
        The tables that were pulled. None, where they are better pulled one after the other; not all, where
        workers lost their connections with a table that failed.

    Raises:
        Stopped: a connection was lost for good.
    """
    jobs = min(bench.jobs, len(pulls))
    if jobs < 2 or len(pulls) < _ENOUGH or source.snapshot is None:
        return []
    with hired(source, bench.target, jobs) as (workers, _):
        return _Side(bench, pulls, failed).pull(workers)


class _Aside(Listener):
    """Hears of a table beside others, and tells only what a user must know."""

    def __init__(self, noticed: Callable[[str], None]) -> None:
        self._noticed = noticed

    def noticed(self, text: str) -> None:
        self._noticed(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _WorkersBench(Bench):
    """A bench whose rejects are kept by the listening thread."""

    rejected: Callable[[Reject], None]

    def reject(self, reject: Reject) -> None:
        self.rejected(reject)


class _Side:
    """Small tables on their way."""

    def __init__(
        self, bench: Bench, pulls: Sequence[TablePull], failed: Callable[[TablePull, PgpullError], None]
    ) -> None:
        self._bench = bench
        self._failed = failed
        self._left = deque(pulls)
        self._team: Team[_Deed] = Team()
        self._through: list[TablePull] = []

    def pull(self, workers: Sequence[Worker]) -> list[TablePull]:
        """Let the workers take one table after the other, and return those that are through."""
        with closing(self._team.at_work(workers, self._work)) as deeds:
            for deed in deeds:
                deed()
        return self._through

    def _work(self, worker: Worker) -> Generator[_Deed]:
        bench = self._bench_of(worker)
        while self._left:
            try:
                pull = self._left.popleft()
            except IndexError:  # another worker was quicker
                return
            try:
                pull.beside(bench, worker)
            except (Passing, UnsafeTarget, ConnectFailed):
                raise
            except PgpullError as error:
                yield partial(self._failed, pull, error)
                if worker.source.broken_off:
                    return
            else:
                yield partial(self._through.append, pull)

    def _bench_of(self, worker: Worker) -> Bench:
        say, bench = self._team.say, self._bench

        def noticed(text: str) -> None:
            say(partial(bench.listener.noticed, text))

        return _WorkersBench(
            target=worker.target,
            rejects=bench.rejects,
            listener=_Aside(noticed),
            patience=replace(bench.patience, notice=noticed, left=self._team.left),
            pace=bench.pace,
            rejected=lambda reject: say(partial(bench.reject, reject)),
        )
