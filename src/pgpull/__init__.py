"""Bring rows of a production Postgres into your own Postgres: exact, fast, safe, re-runnable.

>>> from pgpull import pull
>>> report = pull("askwealth.message", source=SERVER_DB_URL, target=LOCAL_DB_URL)  # doctest: +SKIP
>>> report.tally.inserted  # doctest: +SKIP
"""

from importlib.metadata import version

from pgpull.errors import (
    Conflict,
    ConnectFailed,
    ConnectionLost,
    Passing,
    PgpullError,
    PlanError,
    Refused,
    SettingsError,
    Stopped,
    TooManyRejects,
    Unequal,
    UnsafeTarget,
    UsageError,
)
from pgpull.model import Reject, Report, Tally
from pgpull.running import Listener, pull

__version__ = version("pgpull")

__all__ = [
    "Conflict",
    "ConnectFailed",
    "ConnectionLost",
    "Listener",
    "Passing",
    "PgpullError",
    "PlanError",
    "Refused",
    "Reject",
    "Report",
    "SettingsError",
    "Stopped",
    "Tally",
    "TooManyRejects",
    "Unequal",
    "UnsafeTarget",
    "UsageError",
    "__version__",
    "pull",
]
