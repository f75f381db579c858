"""How a run behaves towards the server: how many workers, how fast they read, when they pause. Values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from pgpull.arguments import duration, several
from pgpull.errors import UsageError

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*(b|kb|mb|gb|rows?)(?:/s)?", re.IGNORECASE)

_UNITS = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9}


@dataclass(frozen=True, slots=True)
class Rate:
    """How much may be read in a second, by all workers together."""

    bytes: float = inf
    rows: float = inf

    @classmethod
    def parse(cls, texts: str | Iterable[str]) -> Rate:
        """Read ``20MB/s`` or ``5000rows/s``; of several, all hold.

        Raises:
            UsageError: a text is neither, or is nothing at all.
        """
        rate = cls()
        for text in several(texts):
            match = _RATE.fullmatch(text.strip())
            number = float(match[1]) if match else 0.0
            if match is None or not number:
                raise UsageError(f"not a rate: {text!r}", "write --max-rate 20MB/s or --max-rate 5000rows/s")
            unit = match[2].lower()
            if unit in _UNITS:
                rate = cls(min(rate.bytes, number * _UNITS[unit]), rate.rows)
            else:
                rate = cls(rate.bytes, min(rate.rows, number))
        return rate

    def seconds(self, rows: int, size: int) -> float:
        """Return how long so many rows of so many bytes in all may take."""
        return max(rows / self.rows, size / self.bytes)


class Load(StrEnum):
    """What a server may have too much of."""

    LAG = "lag"
    """Seconds by which its replicas are behind; of a standby, by which it is itself."""
    ACTIVE = "active"
    """Sessions of others that are at work."""


_THRESHOLD = re.compile(r"(lag|active)\s*>\s*(.+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Threshold:
    """What is not to be passed while rows are read."""

    load: Load
    most: float

    @classmethod
    def parse(cls, text: str) -> Threshold:
        """Read ``lag>30s`` or ``active>40``.

        Raises:
            UsageError: the text is neither.
        """
        match = _THRESHOLD.fullmatch(text.strip())
        if match and match[1].lower() == Load.LAG:
            return cls(Load.LAG, duration(match[2], "--pause-when lag").total_seconds())
        if match and match[2].strip().isdigit():
            return cls(Load.ACTIVE, float(match[2]))
        hint = "write --pause-when 'lag>30s' or --pause-when 'active>40'"
        raise UsageError(f"not a reason to pause: {text!r}", hint)

    def passed(self, value: float) -> str:
        """Say that a value passes the threshold."""
        if self.load is Load.LAG:
            return f"a replica lags by {value:.1f} s, more than {self.most:g} s"
        return f"{value:g} sessions are at work on the server, more than {self.most:g}"


@dataclass(frozen=True, slots=True)
class Manners:
    """How a run behaves."""

    jobs: int | None = None
    """Workers that share a large table; None for what fits the machine."""
    rate: Rate = Rate()
    pause_when: tuple[Threshold, ...] = ()
    snapshot: bool = True
    """Whether all is read at one instant; else in short transactions, one stretch of keys after the other."""

    @classmethod
    def of(
        cls,
        *,
        jobs: int | None = None,
        max_rate: str | Sequence[str] = (),
        pause_when: str | Sequence[str] = (),
        snapshot: bool = True,
    ) -> Manners:
        """Read what people write.

        Raises:
            UsageError: a word makes no sense.
        """
        if jobs is not None and jobs < 1:
            raise UsageError(f"{jobs} workers move nothing", "give 1 or more")
        return cls(jobs, Rate.parse(max_rate), tuple(map(Threshold.parse, several(pause_when))), snapshot)
