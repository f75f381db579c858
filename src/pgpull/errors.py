"""Everything that can go wrong and that a user can do something about.

::

    PgpullError                    exit code
    ├── UsageError                 2   a word on the command line, or an argument, makes no sense
    │   └── SettingsError          2   the .env file or the environment is incomplete or malformed
    ├── Refused                    3   nothing was written
    │   ├── ConnectFailed          3   a database cannot be reached or does not let us in
    │   ├── UnsafeTarget           3   the target is the source, or is not local
    │   ├── ArchiveError           3   an archive is not whole, not ours, or not as it was written
    │   └── PlanError              3   the two sides cannot be brought together as they are
    │       └── ParentFailed       3   a table that this one refers to was not loaded
    ├── Stopped                    4   the run ended before its end; whole batches stay in (3 where none did)
    │   ├── Passing                4   tried again and again, to no avail:
    │   │   ├── ConnectionLost     4   a server went away in the middle, and did not come back
    │   │   └── Conflict           4   a deadlock with somebody else's transaction
    │   │       └── ReadEnded      4   a standby that keeps up with its primary
    │   └── TooManyRejects         4   more rows were refused than --max-errors allows
    └── Unequal                    5   the two sides were to be equal, and are not

Each error is one sentence that says the fact with the values seen, and a *hint* that says what to do next.
No error ever carries a password, or more of a row than the keys that a verification found to differ.
Errors of the driver are translated at one seam
(:mod:`pgpull.diagnosis`), and kept as ``__cause__``.
"""

from __future__ import annotations


class PgpullError(Exception):
    """The root: catch this one to catch all of pgpull's errors.

    Args:
        message: the fact, with the values seen, without a trailing full stop.
        hint: what the user can do next; empty where there is nothing better to say than the fact.
    """

    exit_code: int = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(PgpullError):
    """An argument makes no sense: a bad date, a bad uuid, a window that ends before it starts."""

    exit_code = 2


class SettingsError(UsageError):
    """The settings are incomplete, contradict each other, or cannot be read."""


class Refused(PgpullError):
    """The run did not start; nothing was written."""

    exit_code = 3


class ConnectFailed(Refused):
    """A database cannot be reached, or does not let us in."""


class UnsafeTarget(Refused):
    """The target is the source itself, or is not on this machine and was not allowed by name."""


class ArchiveError(Refused):
    """An archive cannot be read as one, or cannot be written where it is to stand."""


class PlanError(Refused):
    """The two sides cannot be brought together as they are; the hint holds the statement that would help."""


class ParentFailed(PlanError):
    """A table that this one refers to was not loaded, so its rows would be refused."""


class Stopped(PgpullError):
    """The run ended before its end. Batches that were committed stay; running it again goes on from there.

    ``written`` is the number of rows that were committed; while it is nought the exit code is 3.
    """

    written = 0

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """4 once something was written, else 3."""
        return 4 if self.written else 3


class Passing(Stopped):
    """What may well go right when it is tried again; a user sees it after the last try.

    ``exhausted`` is set once it was tried as often as allowed, so that nobody further up tries it all again.
    """

    exhausted = False


class ConnectionLost(Passing):
    """A server went away in the middle of the run."""


class Conflict(Passing):
    """The server gave way to somebody else's transaction."""


class ReadEnded(Conflict):
    """A standby ended a read, to keep up with its primary."""


class TooManyRejects(Stopped):
    """More rows were refused than the run allows."""

    exit_code = 4


class Unequal(PgpullError):
    """The two sides were to be equal, and are not. The message names some of the keys."""

    exit_code = 5
