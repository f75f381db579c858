"""Bring rows of a production Postgres into your own Postgres: exact, fast, safe, re-runnable.

>>> from pgpull import pull
>>> report = pull("askwealth.message", source=SERVER_DB_URL, target=LOCAL_DB_URL)  # doctest: +SKIP
>>> report.tally.inserted  # doctest: +SKIP
"""

from pgpull.archives import Manifest
from pgpull.calling import export, load, pull, pull_tables
from pgpull.checking import check
from pgpull.diffing import diff
from pgpull.endpoints import endpoint
from pgpull.errors import (
    ArchiveError,
    Conflict,
    ConnectFailed,
    ConnectionLost,
    Passing,
    PgpullError,
    PlanError,
    ReadEnded,
    Refused,
    SettingsError,
    Stopped,
    TooManyRejects,
    Unequal,
    UnsafeTarget,
    UsageError,
)
from pgpull.exporting import Exported
from pgpull.findings import Checkup, Finding
from pgpull.listening import Listener
from pgpull.model import Comparison
from pgpull.rehearsing import forecast, forecast_tables
from pgpull.results import Difference, Failure, Forecast, Outlook, Reject, Report, Summary, Tally
from pgpull.retrying import retry
from pgpull.surveying import Survey, status


def __getattr__(name: str) -> str:
    if name == "__version__":  # reading the installed files' records takes as long as a small pull
        from importlib.metadata import version

        return version("pgpull")
    raise AttributeError(name)


__all__ = [
    "ArchiveError",
    "Checkup",
    "Comparison",
    "Conflict",
    "ConnectFailed",
    "ConnectionLost",
    "Difference",
    "Exported",
    "Failure",
    "Finding",
    "Forecast",
    "Listener",
    "Manifest",
    "Outlook",
    "Passing",
    "PgpullError",
    "PlanError",
    "ReadEnded",
    "Refused",
    "Reject",
    "Report",
    "SettingsError",
    "Stopped",
    "Summary",
    "Survey",
    "Tally",
    "TooManyRejects",
    "Unequal",
    "UnsafeTarget",
    "UsageError",
    "__version__",
    "check",
    "diff",
    "endpoint",
    "export",
    "forecast",
    "forecast_tables",
    "load",
    "pull",
    "pull_tables",
    "retry",
    "status",
]
