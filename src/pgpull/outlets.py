"""stdout and stderr as they may be: a pipe that nobody reads any more, a disk that is full."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TextIO

CLOSED: Final = 141
"""Exit code of who writes to a pipe that nobody reads: 128 and the number of SIGPIPE, as a shell has it."""

UNWRITTEN: Final = 6
"""Exit code of who has done what was asked for, and could not say so."""


class OutputClosed(KeyboardInterrupt):
    """Nobody reads stdout any more. It ends a run as Ctrl-C does."""


class Outlet:
    """A standard stream that fails in one of two ways, once, and takes what comes after it in silence.

    Args:
        stream: returns the stream; it is asked each time, as programs put another in its place.
        number: the number of its file.
        closed: hears that nobody reads it any more.
        full: hears why it cannot be written.
    """

    def __init__(
        self,
        stream: Callable[[], TextIO],
        number: int,
        closed: Callable[[], None],
        full: Callable[[str], None],
    ) -> None:
        self._stream = stream
        self._number = number
        self._closed = closed
        self._full = full
        self.failed = False

    def write(self, text: str) -> int:
        """Write, if that is possible; letters that its encoding lacks are spelled out."""
        return self._try(lambda: self._stream().write(text if self.has(text) else self._spelled(text))) or 0

    def has(self, text: str) -> bool:
        """Tell whether its encoding has every letter of a text."""
        try:
            text.encode(self._encoding)
        except UnicodeEncodeError:
            return False
        return True

    @property
    def _encoding(self) -> str:
        return self._stream().encoding or "utf-8"

    def _spelled(self, text: str) -> str:
        return text.encode(self._encoding, "backslashreplace").decode(self._encoding)

    def flush(self) -> None:
        """Let what was written go out, if that is possible."""
        self._try(self._stream().flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream(), name)

    def _try(self, work: Callable[[], Any]) -> Any:
        if self.failed:
            return None
        try:
            return work()
        except BrokenPipeError:
            self._give_up()
            self._closed()
        except OSError as error:
            self._give_up()
            self._full(error.strerror or type(error).__name__)
        return None

    def _give_up(self) -> None:
        """Lead the file nowhere: what is still on its way would fail once more when Python ends."""
        self.failed = True
        with suppress(OSError, ValueError):
            if self._stream().fileno() == self._number:
                lead_nowhere(self._number)


def lead_nowhere(number: int) -> None:
    """Let what is written to a standard stream go nowhere from now on.

    Args:
        number: the number of its file.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def open_closed() -> None:
    """Lead nowhere what of stdin, stdout and stderr is closed (``>&-``).

    Else a connection could be opened under its number, and a program that we start would write into that.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


def stdout(full: Callable[[str], None]) -> Outlet:
    """Return stdout, for what is asked for.

    Args:
        full: hears why it cannot be written.

    Raises:
        OutputClosed: on writing, nobody reads it any more.
    """
    return Outlet(lambda: sys.stdout, 1, _end, full)


def stderr() -> Outlet:
    """Return stderr, for what is said beside; where it cannot be written there is nobody to tell."""
    return Outlet(lambda: sys.stderr, 2, lambda: None, lambda _: None)


def _end() -> None:
    raise OutputClosed
