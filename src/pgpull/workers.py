"""Workers: pairs of sessions that see one instant of the source, each at work in a thread of its own.

Whoever hired them hears what they say in the hirer's own thread, one thing after the other: all counting, all
files and all listeners stay there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final, Generic, Protocol, TypeVar

from pgpull.errors import PgpullError, UnsafeTarget
from pgpull.sessions import Session, open_another, open_source

T = TypeVar("T")


class _AtWork(Protocol):
    """What works in a thread of its own."""

    def cancel(self) -> None:
        """End what servers do for it. For another thread to call."""


W = TypeVar("W", bound=_AtWork)


def default_jobs() -> int:
    """Return how many workers share a table where nobody says: 2 to 4, by the machine's processors."""
    return min(4, max(2, (os.cpu_count() or 1) // 2))


_THINGS_AHEAD: Final = 64
"""Things said that nobody has heard yet: so few that refused rows cannot pile up."""

_SOON: Final = 5.0
"""Seconds in which another worker has to be there, as the first one waits for it."""

_GRACE: Final = 2.0
"""Seconds that a worker is given to leave whose connections were cut."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One who reads the source at the run's instant, and writes the target."""

    source: Session
    target: Session

    def cancel(self) -> None:
        """End what both servers do for it. For another thread to call."""
        self.source.cancel()
        self.target.cancel()


@contextmanager
def hired(
    source: Session, target: Session, jobs: int, *, spared: bool = False
) -> Iterator[tuple[Sequence[Worker], str]]:
    """Have some workers for the length of a block; the first has the run's own sessions, unless one is spared.

    Args:
        source: the server, in its transaction.
        target: the local side.
        jobs: how many are wanted.
        spared: whether several workers are to leave ``target`` alone: it has what they ask for.

    Yields:
        Those that could be had, and why there are no more; no reason where there are as many as wanted.

    Raises:
        UnsafeTarget: another database answers than the target.
    """
    first, others = Worker(source, target), list[Worker]()
    with ExitStack() as leaving:
        try:
            if spared and min(jobs, source.most) > 1:
                first = Worker(source, _one_more_target(target, leaving))
            while 1 + len(others) < min(jobs, source.most):
                others.append(_one_more(source, target, leaving))
        except UnsafeTarget:
            raise
        except PgpullError as error:
            source.most, source.why_no_more = 1 + len(others), error.message
        workers = [first, *others] if others else [Worker(source, target)]
        yield workers, source.why_no_more if len(workers) < jobs else ""


def _one_more_target(target: Session, leaving: ExitStack) -> Session:
    return leaving.enter_context(closing(open_another(target, within=_SOON)))


def _one_more(source: Session, target: Session, leaving: ExitStack) -> Worker:
    ours = _one_more_target(target, leaving)
    theirs = open_source(
        source.endpoint,
        at=source.snapshot,
        pace=source.pace,
        within=_SOON,
        substitute=source.substitute,
        engine=source.link.engine,
    )
    return Worker(leaving.enter_context(theirs), ours)


@contextmanager
def readers(source: Session, jobs: int) -> Iterator[Sequence[Session]]:
    """Have some sessions at one instant of the source for the length of a block; the first is the one given.

    Args:
        source: the server, in its transaction.
        jobs: how many are wanted.

    Yields:
        Those that could be had.
    """
    sessions = [source]
    with ExitStack() as leaving:
        while source.snapshot and len(sessions) < min(jobs, source.most):
            at = source.snapshot
            more = open_source(
                source.endpoint, at=at, pace=source.pace, within=_SOON, engine=source.link.engine
            )
            try:
                sessions.append(leaving.enter_context(more))
            except PgpullError as error:
                source.most, source.why_no_more = len(sessions), error.message
        yield sessions


class Left(BaseException):
    """Nobody waits for what a worker does any more."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """A worker has done its part, or could not."""

    error: BaseException | None


class Team(Generic[T]):
    """Workers at work, and what they say."""

    def __init__(self) -> None:
        # not a Queue, whose lock an interrupt may leave closed in the listener's own thread
        self._said: SimpleQueue[T | _Ended] = SimpleQueue()
        self._room = threading.Semaphore(_THINGS_AHEAD)
        self._late: list[T] = []
        """What was said after the listener had left."""
        self.unheard: tuple[T, ...] = ()
        """What was said when the listener had left in the middle of what it heard."""
        self._leaving = threading.Event()
        """Whether each is to stop after what it is about to say."""
        self.left = threading.Event()
        """Whether nobody listens any more."""

    def say(self, thing: T) -> None:
        """Tell the listener something. For a worker to call.

        Raises:
            Left: there is no listener any more.
        """
        if not self._put(thing):
            self._late.append(thing)
            raise Left

    def _put(self, thing: T | _Ended) -> bool:
        """Wait until there is room, and tell whether there was before the listener left."""
        while not self.left.is_set():
            if self._room.acquire(timeout=0.2):
                self._said.put(thing)
                return True
        return False

    def at_work(self, workers: Sequence[W], work: Callable[[W], Generator[T]]) -> Generator[T]:
        """Let all work at the same time, and yield what they say.

        When one fails, the others stop at what they say next; all that was said is heard before the error is
        raised. A listener who leaves ends all work at once.

        Args:
            workers: who works.
            work: what each does; what it yields is said.

        Raises:
            BaseException: whatever the first one failed with.
        """
        threads = [
            threading.Thread(target=self._work, args=(work(worker),), name=f"pgpull-worker-{n}", daemon=True)
            for n, worker in enumerate(workers)
        ]
        try:
            for thread in threads:
                thread.start()
            yield from self._heard(len(threads))
        except (KeyboardInterrupt, GeneratorExit) as leaving:
            self.left.set()
            for worker in workers:
                worker.cancel()
            for thread in threads:
                if thread.ident is not None:
                    thread.join(_GRACE)
            if isinstance(leaving, KeyboardInterrupt):
                yield from self._rest()
            else:
                self.unheard = tuple(self._rest())
            raise

    def _work(self, things: Generator[T]) -> None:
        error: BaseException | None = None
        try:
            with closing(things):
                for thing in things:
                    self.say(thing)
                    if self._leaving.is_set():
                        break
        except Left:
            return
        except BaseException as failure:
            error = failure
        self._put(_Ended(error))

    def _heard(self, workers: int) -> Iterator[T]:
        first: BaseException | None = None
        while workers:
            thing = self._said.get()
            self._room.release()
            if not isinstance(thing, _Ended):
                yield thing
                continue
            workers -= 1
            if thing.error is not None:
                first = first or thing.error
                self._leaving.set()
        if first is not None:
            raise first

    def _rest(self) -> Iterable[T]:
        while True:
            try:
                thing = self._said.get_nowait()
            except Empty:
                break
            if not isinstance(thing, _Ended):
                yield thing
        yield from self._late
