"""How fast the source is read: below a rate, and with pauses while it has enough to do. Over all workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol, Self

from pgpull.manners import Rate

LOOK_EVERY: Final = 2.0
"""Seconds between two looks at how the server stands."""


class Watch(Protocol):
    """Tells how the server stands."""

    def why_pause(self) -> str:
        """Say what passes a line; empty while nothing does."""


class Pace:
    """Holds those back who read the source. Any number of threads share one.

    Args:
        rate: how much may be read in a second.
        watch: tells when to pause; None for never.
        notice: called when a pause begins and when it ends, in the thread that pauses.
    """

    def __init__(
        self,
        rate: Rate = Rate(),  # noqa: B008 - a frozen value
        watch: Watch | None = None,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._rate = rate
        self._watch = watch
        self._notice = notice
        self._turn = threading.Lock()
        self._free_at = 0.0
        """When all that was read so far has had its time."""
        self._looked_at = -LOOK_EVERY
        self._over = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()  # nobody is held back any more

    def keep(self, rows: int, size: int) -> None:
        """Wait for as long as some rows and bytes take at the rate, and while there is reason to pause.

        Raises:
            PgpullError: the server cannot be asked how it stands.
        """
        if self._watch is not None:
            with self._turn:
                self._pause(self._watch)
        if seconds := self._rate.seconds(rows, size):
            with self._turn:
                now = time.monotonic()
                self._free_at = max(now, self._free_at) + seconds
            self._over.wait(self._free_at - now)

    def _pause(self, watch: Watch) -> None:
        if time.monotonic() - self._looked_at < LOOK_EVERY:
            return
        paused = False
        while (why := watch.why_pause()) and not self._over.is_set():
            if not paused:
                self._notice(f"paused: {why}")
            paused = True
            self._over.wait(LOOK_EVERY)
        self._looked_at = time.monotonic()
        if paused:
            self._notice("going on: the server has less to do")


NO_PACE: Final = Pace()
"""As fast as both sides can."""
