"""Put pgpull beside the other ways to copy a table, in one run, taking turns; see the README beside this.

Run it from the root of the repository: ``python -m benchmarks.run --rows 200000``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from benchmarks import messages
from benchmarks.cases import BASELINE, PRIMER, Case, Start, chosen, commands
from benchmarks.messages import Extent, Text, Written
from benchmarks.results import Run, Said, as_tables
from benchmarks.servers import TUNING, Pair, databases
from rich.console import Console

MEASURE = Path(__file__).with_name("measure.py")

console = Console()


def main(
    rows: Annotated[int, typer.Option(min=1, help="How many messages.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="How many times all cases take turns.")] = 3,
    only: Annotated[list[str] | None, typer.Option(help="A case to run. Repeatable.")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="A case to leave out. Repeatable.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="How many workers (default: pgpull's own).")] = None,
    text: Annotated[Text, typer.Option(help="What the messages say; only prose compresses.")] = Text.LETTERS,
    folder: Annotated[Path | None, typer.Option(help="Where the servers live (default: temporary).")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the databases for another run.")] = False,
    programs: Annotated[
        Path | None, typer.Option(help="Where another PostgreSQL's programs are (default: the embedded one).")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every run to this file.")] = None,
) -> None:
    """Compare pgpull with the other ways to copy a table."""
    cases = chosen(only or [], skip or [])
    with databases(folder, keep, programs) as pair:
        fill(pair, rows, text)
        runs = list(Turns(pair, rows, text, jobs).take(cases, rounds))
    console.print(as_tables(cases, runs, rows))
    if json_file:
        report = {"rows": rows, "text": text, "tuning": TUNING, "runs": [asdict(run) for run in runs]}
        json_file.write_text(json.dumps(report, indent=2) + "\n")


def fill(pair: Pair, rows: int, text: Text = Text.LETTERS) -> None:
    """Make the rows on the source, unless they are there, and the empty table on the target."""
    messages.make_table(pair.target)
    if messages.is_as_made(pair.source, rows, text):
        return
    with console.status(f"making {rows:,} messages"):
        messages.make_table(pair.source)
        messages.make_rows(pair.source, rows, text)


class Turns:
    """All cases taking turns; each finds both sides as if it were the only one."""

    def __init__(self, pair: Pair, rows: int, text: Text, jobs: int | None) -> None:
        self._pair = pair
        self._rows = rows
        self._text = text
        self._jobs = jobs
        self._same = messages.extent(pair.source)

    def take(self, cases: Sequence[Case], rounds: int) -> Iterator[Run]:
        """Run each case once, then each again."""
        # Unmeasured: the first load after a start makes new files for the WAL, all others use them again.
        self._refill()
        if any(case.start is Start.MIXED for case in cases):
            self._rehearse()
        for number in range(1, rounds + 1):
            for case in cases:
                if number > 1 and case.once:
                    continue
                run = self._one(case, number)
                console.print(f"round {number}  {case.name:<13}{run.seconds:8.2f} s  exact: {run.verdict}")
                yield run

    def _rehearse(self) -> None:
        """Change the source and change it back, unmeasured: the first changes find a table without gaps."""
        messages.change_some(self._pair.source, self._rows, self._text)
        messages.change_back(self._pair.source, self._rows)

    def _one(self, case: Case, number: int) -> Run:
        missing = self._bring_together(case)
        if case.start is not Start.MIXED:
            return self._measured(case, number, Written(inserted=missing), self._same)
        try:
            wanted = messages.change_some(self._pair.source, self._rows, self._text)
            return self._measured(case, number, wanted, messages.extent(self._pair.source))
        finally:
            messages.change_back(self._pair.source, self._rows)

    def _bring_together(self, case: Case) -> int:
        """Have the target as a case finds it, and return how many rows it lacks.

        Where it has what the source has, this is known if it may be.
        """
        target = self._pair.target
        if case.start is Start.EMPTY:
            target.tell(f"truncate {messages.TABLE}")
            return self._rows
        if messages.extent(target) != self._same:
            self._refill()
        missing = messages.make_gaps(target) if case.start is Start.GAPS else 0
        messages.vacuum(target)
        if case.versions:
            measure(commands(PRIMER, self._pair), self._pair)
        return missing

    def _refill(self) -> None:
        """Give the target every row, in the quickest way."""
        self._pair.target.tell(f"truncate {messages.TABLE}")
        measure(commands(BASELINE, self._pair), self._pair)

    def _measured(self, case: Case, number: int, wanted: Written, end: Extent) -> Run:
        """Run a case, and look at what it did to the servers."""
        source, target = self._pair.source, self._pair.target
        for server in (source, target):
            server.tell("checkpoint")  # writes out what it still holds back
        wal = target.wal_position()
        before = self._cpu_seconds()
        taken = measure(self._commands(case), self._pair)
        source_cpu, target_cpu = map(since, before, self._cpu_seconds())
        failed = any(taken["codes"])
        return Run(
            case=case.name,
            round=number,
            seconds=taken["seconds"],
            client_cpu_seconds=taken["cpu_seconds"],
            source_cpu_seconds=source_cpu,
            target_cpu_seconds=target_cpu,
            peak_bytes=taken["peak_bytes"],
            wal_bytes=target.wal_position() - wal,
            table_bytes=messages.size(source),
            wanted=wanted,
            said=None if failed else said(taken["output"]),
            failed=failed,
            equal=messages.extent(target) == end,
        )

    def _commands(self, case: Case) -> list[list[str]]:
        pipeline = commands(case.name, self._pair)
        if self._jobs and "pgpull" in pipeline[-1]:
            pipeline[-1] += ["--jobs", str(self._jobs)]
        return pipeline

    def _cpu_seconds(self) -> tuple[float | None, float | None]:
        return self._pair.source.cpu_seconds(), self._pair.target.cpu_seconds()


def measure(pipeline: list[list[str]], pair: Pair) -> dict[str, Any]:
    """Run a pipeline through the small program that measures it."""
    done = subprocess.run(
        [sys.executable, "-S", "-E", str(MEASURE)],
        input=json.dumps(pipeline),
        env={**os.environ, "SERVER_DB_URL": pair.source.url, "LOCAL_DB_URL": pair.target.url},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    taken: dict[str, Any] = json.loads(done.stdout)
    return taken


def said(output: str) -> Said | None:
    """Read pgpull's report; None where another program was run."""
    if not output.startswith("{"):
        return None
    report = json.loads(output)
    tally, comparison = report["tally"], report["comparison"]
    return Said(
        written=Written(tally["inserted"], tally["updated"]),
        sent_bytes=report["bytes"],
        method=comparison["method"] if comparison else "",
    )


def since(before: float | None, after: float | None) -> float | None:
    """Return how much was added, where that is known."""
    return None if before is None or after is None else after - before


if __name__ == "__main__":
    typer.run(main)
