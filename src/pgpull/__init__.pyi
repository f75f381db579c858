"""What the package offers, each read when it is first used; see ``__init__.py``."""

from .archives import Manifest
from .calling import export, load, pull, pull_tables
from .checking import check
from .diffing import diff
from .endpoints import endpoint
from .errors import (
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
from .exporting import Exported
from .findings import Checkup, Finding
from .listening import Listener
from .plans import Comparison
from .rehearsing import forecast, forecast_tables
from .results import Difference, Failure, Forecast, Outlook, Reject, Report, Summary, Tally
from .retrying import retry
from .surveying import Survey, status

__version__: str

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
