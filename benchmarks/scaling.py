"""How a first load grows with the table, with workers, and with the way to the server; see README.md.

Run it from the root of the repository: ``python -m benchmarks.scaling --rows 1000000 --rows 5000000``.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from benchmarks import messages
from benchmarks.cases import BASELINE, commands
from benchmarks.line import line_to
from benchmarks.messages import Extent
from benchmarks.run import measure, since
from benchmarks.servers import Pair, databases
from rich import box
from rich.console import Console
from rich.table import Table

DELAY = 0.02

console = Console()


@dataclass(frozen=True)
class Load:
    """One first load."""

    rows: int
    delay: float
    """Seconds there and back to the source."""
    jobs: int
    """Workers; 0 for the raw pipe."""
    seconds: float
    peak_bytes: int
    source_cpu_seconds: float | None
    exact: bool


def main(
    rows: Annotated[list[int] | None, typer.Option(help="How many messages. Repeatable, upwards.")] = None,
    jobs: Annotated[list[int] | None, typer.Option(help="How many workers. Repeatable.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How many times all take turns.")] = 1,
    near: Annotated[bool, typer.Option(help="Whether to load from a server close by.")] = True,
    far: Annotated[bool, typer.Option(help="Whether to load over a line of 20 ms as well.")] = True,
    folder: Annotated[Path | None, typer.Option(help="Where the servers live (default: temporary).")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the databases for another run.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every load to this file.")] = None,
) -> None:
    """Load tables of several sizes, by several workers, near and far."""
    delays = [delay for delay, wanted in ((0.0, near), (DELAY, far)) if wanted]
    loads: list[Load] = []
    with databases(folder, keep) as pair:
        messages.make_table(pair.target)
        for count in sorted(rows or [1_000_000]):
            with console.status(f"making {count:,} messages"):
                messages.make_up_to(pair.source, count)
            whole = messages.extent(pair.source)
            # unmeasured: who comes first finds a cold source, no files for the WAL, no room on the disk yet
            _load(pair, whole, delay=0, jobs=0)
            for delay in delays:
                loads += _loads(pair, whole, delay, [0, *(jobs or [1, 2, 3, 4])] * rounds)
    console.print(_as_table(loads))
    if json_file:
        json_file.write_text(json.dumps([asdict(load) for load in loads], indent=2) + "\n")


def _loads(pair: Pair, whole: Extent, delay: float, jobs: Sequence[int]) -> Iterator[Load]:
    with line_to(pair.source.url, delay) if delay else nullcontext() as line:
        there = replace(pair, source=replace(pair.source, url=line.url)) if line else pair
        for number in jobs:
            load = _load(there, whole, delay, number)
            console.print(_named(load), f"{load.seconds:.2f} s  exact: {load.exact}")
            yield load
    pair.target.tell(f"truncate {messages.TABLE}")


def _load(pair: Pair, whole: Extent, delay: float, jobs: int) -> Load:
    rows, _ = whole
    pair.target.tell(f"truncate {messages.TABLE}")
    for server in (pair.source, pair.target):
        server.tell("checkpoint")
    pipeline = commands(BASELINE if not jobs else "pgpull", pair)
    if jobs:
        pipeline[-1] += ["--jobs", str(jobs)]
    before = pair.source.cpu_seconds()
    taken = measure(pipeline, pair)
    if any(taken["codes"]):
        sys.exit(f"{_named_so(rows, delay, jobs)} failed: {taken['output']}")
    return Load(
        rows=rows,
        delay=delay,
        jobs=jobs,
        seconds=taken["seconds"],
        peak_bytes=taken["peak_bytes"],
        source_cpu_seconds=since(before, pair.source.cpu_seconds()),
        exact=messages.extent(pair.target) == whole,
    )


def _named(load: Load) -> str:
    return _named_so(load.rows, load.delay, load.jobs)


def _named_so(rows: int, delay: float, jobs: int) -> str:
    far = f" over {delay * 1000:.0f} ms" if delay else ""
    return f"{rows:,} messages{far}, " + (f"jobs {jobs}" if jobs else "raw pipe")


def _as_table(loads: Sequence[Load]) -> Table:
    table = Table(title="first loads, medians", box=box.SIMPLE_HEAD, padding=0)
    for heading in (
        "messages",
        "there and\nback ms",
        "jobs",
        "s",
        "of\npipe",
        "source\nCPU s",
        "client\nMB",
        "exact",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    alike = defaultdict[tuple[int, float, int], list[Load]](list)
    for load in loads:
        alike[load.rows, load.delay, load.jobs].append(load)
    seconds = {case: median(load.seconds for load in some) for case, some in alike.items()}
    for (rows, delay, jobs), some in alike.items():
        cpu = [load.source_cpu_seconds for load in some if load.source_cpu_seconds is not None]
        table.add_row(
            f"{rows:,}",
            f"{delay * 1000:.0f}",
            str(jobs or "pipe"),
            f"{seconds[rows, delay, jobs]:.2f}",
            f"{seconds[rows, delay, jobs] / seconds[rows, delay, 0]:.2f}",
            f"{median(cpu):.1f}" if cpu else "",
            f"{max(load.peak_bytes for load in some) / 1e6:.0f}",
            "yes" if all(load.exact for load in some) else "NO",
        )
    return table


if __name__ == "__main__":
    typer.run(main)
