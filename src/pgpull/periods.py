"""Days, and the weeks, months and years that they fold into; what is missing and what is more. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from itertools import pairwise
from typing import Final

from pgpull.errors import UsageError


class Unit(StrEnum):
    """How long a period is."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"

    @classmethod
    def parse(cls, text: str) -> Unit:
        """Read a unit's name.

        Raises:
            UsageError: the text is none.
        """
        if text not in list(cls):
            raise UsageError(f"by is not a period: {text!r}", f"write one of: {', '.join(cls)}")
        return cls(text)

    def number(self, day: date) -> int:
        """Number the period that a day lies in; neighbours have neighbouring numbers."""
        if self is Unit.DAY:
            return day.toordinal()
        if self is Unit.WEEK:
            return (day.toordinal() - 1) // 7  # 0001-01-01 was a Monday
        return day.year if self is Unit.YEAR else day.year * 12 + day.month - 1

    def start(self, number: int) -> date:
        """Return the first day of the period of that number; a week's is a Monday."""
        if self is Unit.DAY:
            return date.fromordinal(number)
        if self is Unit.WEEK:
            return date.fromordinal(number * 7 + 1)
        return date(number, 1, 1) if self is Unit.YEAR else date(number // 12, number % 12 + 1, 1)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows each side has. Days are compared before they are added up: no day's surplus hides a gap."""

    source: int = 0
    target: int = 0
    missing: int = 0
    """Rows that the target has fewer than the source, day by day."""
    surplus: int = 0
    """Rows that the target has more than the source, day by day."""

    @classmethod
    def of(cls, source: int, target: int) -> Counts:
        """Compare the two counts of one day."""
        return cls(source, target, max(source - target, 0), max(target - source, 0))

    @property
    def rows(self) -> int:
        """How many rows there are on the two sides together."""
        return self.source + self.target

    @property
    def both(self) -> int:
        """How many rows of the one side the other has a row for, as far as counts can tell."""
        return self.source - self.missing

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.source + other.source,
            self.target + other.target,
            self.missing + other.missing,
            self.surplus + other.surplus,
        )


@dataclass(frozen=True, slots=True)
class Period:
    """A day, a week, a month or a year by its first day, and the rows that lie in it."""

    start: date
    counts: Counts


@dataclass(frozen=True, slots=True)
class Gap:
    """Several periods on end without a row on either side."""

    periods: int


_FITTING: Final = ((Unit.DAY, 31), (Unit.WEEK, 26), (Unit.MONTH, 48))
_SHORT_GAP: Final = 2
"""Up to so many empty periods on end have a line each."""


def fold(days: Mapping[date, Counts], unit: Unit) -> tuple[Period, ...]:
    """Add days up to periods; those without a row are left out."""
    sums: dict[int, Counts] = {}
    for day, counts in days.items():
        number = unit.number(day)
        sums[number] = sums.get(number, Counts()) + counts
    return tuple(Period(unit.start(number), sums[number]) for number in sorted(sums))


def with_gaps(periods: Sequence[Period], unit: Unit) -> list[Period | Gap]:
    """Put what is empty between the periods; a long stretch of it is one gap."""
    lines: list[Period | Gap] = list(periods[:1])
    for earlier, later in pairwise(periods):
        lines += [*_between(unit.number(earlier.start), unit.number(later.start), unit), later]
    return lines


def _between(earlier: int, later: int, unit: Unit) -> Iterator[Period | Gap]:
    empty = range(earlier + 1, later)
    if len(empty) > _SHORT_GAP:
        yield Gap(len(empty))
    else:
        yield from (Period(unit.start(number), Counts()) for number in empty)


def finest_that_fits(days: Mapping[date, Counts]) -> Unit:
    """Choose the shortest unit whose lines fit on a screen."""
    for unit, most in _FITTING:
        if len(with_gaps(fold(days, unit), unit)) <= most:
            return unit
    return Unit.YEAR
