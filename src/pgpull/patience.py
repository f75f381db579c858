"""Trying again, with longer and longer pauses, and saying so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    stop_after_attempt,
    stop_when_event_set,
    wait_exponential,
)
from tenacity.nap import sleep_using_event

from pgpull.errors import Passing, Stopped

DEFAULT_RETRIES = 6
"""With the pauses below, some 24 seconds in all: a Postgres recovers from a crash in less."""

T = TypeVar("T")


@dataclass(slots=True)
class _Again:
    """Whether to try again; what got further first is not counted with what failed before."""

    came: Callable[[], int]
    before: int

    def __call__(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, Passing) or error.exhausted:
            return False
        if (now := self.came()) > self.before:
            self.before, state.attempt_number = now, 1
        return True


@dataclass(frozen=True, slots=True)
class Patience:
    """How often to try again what failed in :class:`~pgpull.errors.Passing`, and whom to tell.

    Args:
        retries: tries after the first one; between them 0.5, 1, 2, 4, 8, 8, ... seconds pass.
        notice: called with a sentence before each pause.
        left: once it is set, nothing is tried again.
    """

    retries: int
    notice: Callable[[str], None]
    left: Event = field(default_factory=Event)

    def call(self, work: Callable[[], T], came: Callable[[], int] = lambda: 0) -> T:
        """Do the work, again and again if need be.

        Args:
            work: what to do.
            came: how far it has come; a try that came further is the first of as many as ever.

        Raises:
            Passing: the last try failed as well.
        """
        tries = Retrying(
            retry=_Again(came, came()),
            wait=wait_exponential(multiplier=0.5, max=8),
            stop=stop_after_attempt(1 + self.retries) | stop_when_event_set(self.left),
            sleep=sleep_using_event(self.left),
            before_sleep=self._say,
            reraise=True,
        )
        try:
            return tries(lambda: self._once(work))
        except Passing as error:
            # what has no tries of its own leaves it to whatever is further up
            error.exhausted = error.exhausted or self.retries > 0
            raise

    def _once(self, work: Callable[[], T]) -> T:
        if self.left.is_set():
            raise Stopped("the run was ended", "run the same command again: it goes on from there")
        return work()

    def _say(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0
        self.notice(f"{error}; trying again in {pause:g} s ({state.attempt_number} of {self.retries})")
