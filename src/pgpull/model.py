"""What is asked for: scopes, requests and jobs. Frozen values."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from pgpull.errors import UsageError
from pgpull.masking import NO_MASKS, Masks
from pgpull.shapes import TableName, TablePattern

DEFAULT_BATCH_ROWS = 5_000


class OnConflict(StrEnum):
    """What happens to a row whose key is in the target already."""

    SKIP = "skip"
    UPDATE = "update"

    @classmethod
    def parse(cls, text: str) -> OnConflict:
        """Read ``skip`` or ``update``.

        Raises:
            UsageError: the text is neither.
        """
        if text not in list(cls):
            raise UsageError(f"on_conflict is not skip or update: {text!r}", "skip leaves local rows alone")
        return cls(text)


@dataclass(frozen=True, slots=True)
class Window:
    """The half-open stretch ``since <= column < until``; both ends are instants, either may be open."""

    column: str
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """The keys ``after < key <= last``, in the order of the source's index; either end may be open."""

    columns: tuple[str, ...]
    after: tuple[str, ...] | None = None
    last: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows of a table are meant: those that pass every filter given; no filter, all rows."""

    window: Window | None = None
    equals: tuple[tuple[str, str], ...] = ()
    where: str | None = None
    stretch: Stretch | None = None

    @property
    def narrows(self) -> bool:
        """Whether a row may be out of it."""
        return bool(self.window or self.equals or self.where or self.stretch)


@dataclass(frozen=True, slots=True)
class Limit:
    """How many rows something may happen to: a number of rows, or a share of them all."""

    rows: int | None = None
    percent: float | None = None

    @classmethod
    def parse(cls, text: str, option: str) -> Limit:
        """Read ``100`` or ``2.5%``.

        Args:
            text: what the user wrote.
            option: where, for the hint.

        Raises:
            UsageError: the text is neither.
        """
        number = text.strip().removesuffix("%")
        if text.strip().endswith("%"):
            if re.fullmatch(r"\d+(\.\d+)?", number) and float(number) <= 100:
                return cls(percent=float(number))
        elif number.isascii() and number.isdigit():
            return cls(rows=int(number))
        raise UsageError(f"not a number or a percentage: {text!r}", f"write {option} 100 or {option} 2%")

    def exceeded_by(self, rows: int, of: int) -> bool:
        """Tell whether so many rows, of so many in all, are more than allowed."""
        if self.rows is not None:
            return rows > self.rows
        return self.percent is not None and rows * 100 > self.percent * of

    def __str__(self) -> str:
        return f"{self.rows}" if self.rows is not None else f"{self.percent:g}%"


DEFAULT_MAX_DELETE = Limit(percent=10)


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asks for: one table, its scope, and how to write it."""

    table: TableName
    scope: Scope = Scope()
    on_conflict: OnConflict = OnConflict.SKIP
    batch_rows: int = DEFAULT_BATCH_ROWS
    max_errors: Limit | None = None
    timezone: str = "UTC"
    mirror: bool = False
    """Whether local rows in scope that the source no longer has are deleted."""
    max_delete: Limit = DEFAULT_MAX_DELETE
    """How many of the local rows in scope a mirror may delete."""
    replace: bool = False
    """Whether the scope is deleted here and loaded anew, in one transaction."""
    new: timedelta | None = None
    """Only rows from the newest local one on, less this overlap."""
    verify: bool = False
    """Whether both sides are compared once more at the end."""
    use_versions: bool = True
    """Whether row versions may be remembered, and trusted, to save time."""
    only_related: bool = False
    """Whether only rows are meant that other rows are related to, whatever the scope."""
    without: tuple[str, ...] = ()
    """Columns that stay on the source."""
    keep: tuple[str, ...] = ()
    """Columns whose local values an update leaves alone."""
    masks: Masks = NO_MASKS
    """What comes in the place of values, whatever the table."""

    @property
    def deletes(self) -> bool:
        """Whether local rows may be deleted."""
        return self.mirror or self.replace

    def __post_init__(self) -> None:
        if self.batch_rows < 1:
            raise UsageError(
                f"a batch of {self.batch_rows} rows moves nothing", "give a batch size of 1 or more"
            )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for of the tables that a pattern means."""

    pattern: TablePattern
    request: Request
    """For each of them; the table that it names stands in for theirs."""
    optional: bool = False
    """Whether there need be none."""

    def of(self, table: TableName) -> Request:
        """Return what is asked for of one table."""
        return replace(self.request, table=table)


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that one run is asked for."""

    wanted: tuple[Wanted, ...]
    """A table is asked for by the first that means it."""
    exclude: tuple[TablePattern, ...] = ()
    """Tables that a pattern does not mean."""
    with_parents: bool = False
    """Whether rows come along that pulled rows refer to, where local lacks them."""
    with_children: tuple[TablePattern, ...] = ()
    """Tables whose rows come along that refer to pulled rows."""
    create_missing: bool = False
    """Whether tables that local lacks are made."""
    rules: tuple[Wanted, ...] = ()
    """What holds for tables whose rows come along."""

    @property
    def single(self) -> Request | None:
        """What is asked for, where it is one table that is named, and nothing comes along."""
        [*others, first] = self.wanted
        if others or first.pattern.plain is None or self.with_parents or self.with_children:
            return None
        return first.of(first.pattern.plain)
