"""What came of it: tallies, rejects, reports. Frozen values that know their own laws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pgpull.errors import PgpullError, Unequal
from pgpull.plans import Comparison, Estimate, Plan
from pgpull.shapes import TableName


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the rows. ``fetched = inserted + updated + skipped + failed``, always.

    Raises:
        ValueError: on making one that does not add up.
    """

    fetched: int = 0
    inserted: int = 0
    updated: int = 0
    skipped: int = 0
    failed: int = 0

    def __post_init__(self) -> None:
        parts = (self.inserted, self.updated, self.skipped, self.failed)
        if self.fetched != sum(parts) or min(parts) < 0:
            raise ValueError(f"the tally does not add up: {self}")

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.fetched + other.fetched,
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.skipped + other.skipped,
            self.failed + other.failed,
        )


@dataclass(frozen=True, slots=True)
class Reject:
    """A row the target refused. ``message``, ``key`` and ``values`` hold row values; ``fact`` holds none."""

    table: TableName
    key: Mapping[str, str | None]
    values: Mapping[str, str | None]
    sqlstate: str
    condition: str
    """The name that Postgres gives the SQLSTATE (manual: appendix A), such as ``unique_violation``."""
    fact: str
    message: str
    constraint: str | None = None
    column: str | None = None
    odd: Mapping[str, str] = field(default_factory=dict)
    """The bytes of values that are no UTF-8, in hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How the rows in scope of a table differ on the two sides."""

    plan: Plan
    comparison: Comparison
    keys: tuple[tuple[str, Mapping[str, str]], ...]
    """The first keys that differ, and how: ``missing`` here, ``changed``, or ``extra``, which is here only."""
    snapshot: datetime
    seconds: float

    @property
    def equal(self) -> bool:
        """Whether there is none."""
        return self.comparison.equal

    @property
    def exit_code(self) -> int:
        """0 when the two sides are equal, 5 when they differ."""
        return 0 if self.equal else 5


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reason for which rows would be refused, and how many."""

    reason: str
    rows: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a pull would do."""

    plan: Plan
    tally: Tally
    deleted: int
    kept: int
    differing: tuple[tuple[str, int], ...]
    """The columns in which rows to be updated differ, those that differ most often first."""
    refusals: tuple[Refusal, ...]
    estimate: Estimate
    """Rows to move, and about how many bytes."""
    examples: tuple[Mapping[str, str | None], ...]
    """Some rows to be inserted; long values are cut."""
    bytes: int
    """What the source sent for the forecast."""
    seconds: float
    snapshot: datetime

    @property
    def exit_code(self) -> int:
        """0: a forecast is no failure, whatever it says."""
        return 0


@dataclass(frozen=True, slots=True)
class Report:
    """What a pull did."""

    plan: Plan
    tally: Tally
    bytes: int
    """Bytes of rows that the source sent."""
    seconds: float
    snapshot: datetime
    """The instant of the source that the target now has the rows of (the last pass's, if there were more).

    Where a standby ended reads until smaller windows were read, older rows are of earlier instants."""
    deleted: int = 0
    """Local rows that were deleted, for a mirror or to make room for what replaces them."""
    kept: int = 0
    """Local rows that a mirror should have deleted, and did not as other rows refer to them."""
    verified: bool = False
    """Whether both sides were compared once more at the end, and found equal."""
    passes: int = 1
    """How often the source was read: more than once only if its connection was lost, or it ended a read."""
    rejects: Path | None = None
    """The file that holds the refused rows, if there are any."""

    @property
    def exit_code(self) -> int:
        """0 when every row in scope is as asked for, 4 when some were refused, or could not be deleted."""
        return 4 if self.tally.failed or self.kept else 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A table that could not be pulled, or not to its end, and why."""

    table: TableName
    error: PgpullError
    tally: Tally = Tally()
    """What had become of its rows by then."""
    deleted: int = 0
    """Local rows that had been deleted by then."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a pull of several tables would do."""

    forecasts: tuple[Forecast, ...]
    failures: tuple[Failure, ...]
    seconds: float
    snapshot: datetime

    @property
    def tally(self) -> Tally:
        """What would become of all rows of all tables."""
        return sum((forecast.tally for forecast in self.forecasts), Tally())

    @property
    def exit_code(self) -> int:
        """0 if every table could be pulled, 3 if one could not."""
        return 3 if self.failures else 0


@dataclass(frozen=True, slots=True)
class Summary:
    """What a pull of several tables did."""

    reports: tuple[Report, ...]
    """Of the tables that went through, in the order in which they did."""
    failures: tuple[Failure, ...]
    bytes: int
    """Bytes of rows and keys that the source sent."""
    seconds: float
    snapshot: datetime
    passes: int = 1

    @property
    def tally(self) -> Tally:
        """What became of all rows of all tables."""
        tallies = [report.tally for report in self.reports] + [failure.tally for failure in self.failures]
        return sum(tallies, Tally())

    @property
    def written(self) -> int:
        """Rows that were inserted, updated or deleted."""
        deleted = [report.deleted for report in self.reports] + [failure.deleted for failure in self.failures]
        return self.tally.inserted + self.tally.updated + sum(deleted)

    @property
    def exit_code(self) -> int:
        """0 when every row in scope is as asked for; 5 when a table that was verified differs.

        3 when tables failed and nothing was written; else 4 when a table failed, or rows were refused.
        """
        if any(isinstance(failure.error, Unequal) for failure in self.failures):
            return Unequal.exit_code
        if self.failures:
            return 4 if self.written else 3
        return max((report.exit_code for report in self.reports), default=0)
