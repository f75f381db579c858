"""What the runs took, and how it is laid out beside the raw pipe."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.cases import BASELINE, Case
from benchmarks.messages import Written
from rich import box
from rich.console import Group
from rich.table import Table

Middle = Callable[[Sequence[float]], float]


@dataclass(frozen=True)
class Said:
    """What pgpull reports about a pull."""

    written: Written
    sent_bytes: int
    """What the source sent: all rows, keys, hashes and sums."""
    method: str
    """How it compared; empty where there was nothing to compare."""


@dataclass(frozen=True)
class Run:
    """What one run of one case took."""

    case: str
    round: int
    seconds: float
    client_cpu_seconds: float
    source_cpu_seconds: float | None
    target_cpu_seconds: float | None
    peak_bytes: int
    wal_bytes: int
    table_bytes: int
    """The size of the source's table."""
    wanted: Written
    """The rows that had to be written."""
    said: Said | None
    """None where the program says nothing."""
    failed: bool
    """Whether a program of it ended with an error; its times then mean nothing."""
    equal: bool
    """Whether the target then has the rows of the source, and no others."""

    @property
    def verdict(self) -> str:
        """Say in a word how it went."""
        if self.failed:
            return "FAILED"
        if not self.equal:
            return "NO"
        return "yes" if self.said is None or self.said.written == self.wanted else "TALLY"


class Rounds:
    """All rounds of one case. Every text is empty where no round went to its end, or nothing is known."""

    def __init__(self, case: str, runs: Iterable[Run]) -> None:
        self._own = [run for run in runs if run.case == case]
        self._well = [run for run in self._own if not run.failed]

    @property
    def seconds(self) -> float | None:
        """The median of the wall times."""
        return statistics.median(run.seconds for run in self._well) if self._well else None

    @property
    def verdict(self) -> str:
        """The first that is not well."""
        return next((run.verdict for run in self._own if run.verdict != "yes"), "yes")

    def text(self, form: str, number: Callable[[Run], float | None], of: Middle = statistics.median) -> str:
        """Return the median of a number, or its least or largest."""
        known = [value for value in map(number, self._well) if value is not None]
        return form.format(of(known)) if known else ""

    def said(self, form: str, number: Callable[[Said, Run], float]) -> str:
        """Return the median of a number that only pgpull reports."""
        return self.text(form, lambda run: number(run.said, run) if run.said else None)

    @property
    def method(self) -> str:
        """How pgpull compared."""
        return next((run.said.method.removeprefix("row ") for run in self._well if run.said), "")


def as_tables(cases: Sequence[Case], runs: Sequence[Run], rows: int) -> Group:
    """Lay out the medians of all rounds, and how they stand to the raw pipe."""
    rounds = {case.name: Rounds(case.name, runs) for case in cases}
    pipe = Rounds(BASELINE, runs).seconds
    return Group(
        _table(
            f"{rows:,} messages: how long, and what was written",
            "median\ns;best\ns;of\npipe;times\nfaster;compared\nby;inserted;updated;exact",
            {name: _outcome(own, pipe) for name, own in rounds.items()},
        ),
        _table(
            f"{rows:,} messages: what it took of whom",
            "source\nCPU s;target\nCPU s;client\nCPU s;client\nMB;sent\nMB;of\ntable;WAL\nMB",
            {name: _costs(own) for name, own in rounds.items()},
        ),
        "\n".join(f"{case.name}: {case.title}" for case in cases),
    )


def _table(title: str, headings: str, lines: Mapping[str, Iterable[str]]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=0)
    table.add_column(no_wrap=True)
    for heading in headings.split(";"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, cells in lines.items():
        table.add_row(name, *cells)
    return table


def _outcome(own: Rounds, pipe: float | None) -> Iterator[str]:
    yield own.text("{:.2f}", lambda run: run.seconds)
    yield own.text("{:.2f}", lambda run: run.seconds, min)
    yield f"{own.seconds / pipe:.2f}" if own.seconds and pipe else ""
    yield f"{pipe / own.seconds:.1f}" if own.seconds and pipe else ""
    yield own.method
    yield own.said("{:,.0f}", lambda said, _: said.written.inserted)
    yield own.said("{:,.0f}", lambda said, _: said.written.updated)
    yield own.verdict


def _costs(own: Rounds) -> Iterator[str]:
    yield own.text("{:.2f}", lambda run: run.source_cpu_seconds)
    yield own.text("{:.2f}", lambda run: run.target_cpu_seconds)
    yield own.text("{:.2f}", lambda run: run.client_cpu_seconds)
    yield own.text("{:,.0f}", lambda run: run.peak_bytes / 1e6, max)
    yield own.said("{:,.2f}", lambda said, _: said.sent_bytes / 1e6)
    yield own.said("{:.2%}", lambda said, run: said.sent_bytes / run.table_bytes)
    yield own.text("{:,.2f}", lambda run: run.wal_bytes / 1e6)
