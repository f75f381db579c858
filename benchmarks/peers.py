"""Put pgpull beside its peers, in one run: first load, again with nothing new, with 1 % new and 1 % changed.

Run it from the root of the repository: ``python -m benchmarks.peers --rows 200000``. A peer that is not
installed is left out; see the README beside this.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from benchmarks import messages
from benchmarks.cases import BASELINE, commands
from benchmarks.chart import Bar, drawn
from benchmarks.run import fill, measure
from benchmarks.servers import Pair, databases
from rich import box
from rich.console import Console
from rich.table import Table

CASES = ("first load", "nothing new", "1 % new, 1 % changed")

COLUMNS = ("message_id", "role", "parts", "created_at", "thread_id", "annotations")

DLT_COPY = Path(__file__).with_name("dlt_copy.py")

console = Console()


@dataclass(frozen=True)
class Contestant:
    """One tool, and what it runs in each case; one command for the first load alone, or for all."""

    name: str
    runs: tuple[list[list[str]], ...]
    schema: str = "askwealth"
    """Where its table is on the target. Those that make their own table get a schema of their own."""


@dataclass(frozen=True)
class Result:
    """What one tool took for one case."""

    tool: str
    case: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    exact: bool
    failed: bool


def main(
    rows: Annotated[int, typer.Option(min=100, help="How many messages.")] = 1_000_000,
    dlt: Annotated[Path | None, typer.Option(help="The Python of an environment that has dlt.")] = None,
    sling: Annotated[Path | None, typer.Option(help="The sling program.")] = None,
    ingestr: Annotated[Path | None, typer.Option(help="The ingestr program.")] = None,
    pgcopydb: Annotated[Path | None, typer.Option(help="The pgcopydb program.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where the servers live (default: temporary).")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the databases for another run.")] = False,
    chart: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the table as SVG.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every figure to this file.")] = None,
) -> None:
    """Compare pgpull with other tools that copy tables."""
    programs = {
        "pgcopydb": pgcopydb or shutil.which("pgcopydb"),
        "sling": sling or shutil.which("sling"),
        "ingestr": ingestr or shutil.which("ingestr"),
        "dlt": dlt,
    }
    with databases(folder, keep) as pair, tempfile.TemporaryDirectory() as state:
        fill(pair, rows)
        os.environ["BENCHMARK_STATE"] = state
        contestants = list(_contestants(pair, programs, Path(state)))
        results = [result for contestant in contestants for result in _compete(contestant, pair, rows)]
    console.print(as_table(results, rows))
    if chart:
        chart.write_text(drawn(list(_bars(results)), f"{rows:,} messages: seconds, and times pgpull's"))
    if json_file:
        json_file.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")


def _contestants(pair: Pair, programs: Mapping[str, Path | str | None], state: Path) -> Iterator[Contestant]:
    yield Contestant("raw pipe", (commands(BASELINE, pair),))
    yield Contestant("pgpull", (commands("pgpull", pair), *[commands("update", pair)] * 2))
    known = {
        "pgcopydb": _pgcopydb,
        "sling": _sling,
        "ingestr": _ingestr,
        "dlt": _dlt,
    }
    for name, program in programs.items():
        if program is None:
            console.print(f"{name} is left out, as it is not installed (benchmarks/README.md says how)")
        else:
            yield known[name](str(program), pair, state)


def _pgcopydb(program: str, pair: Pair, state: Path) -> Contestant:
    """It fills empty tables alone: again, it stops at the first key that is there."""
    copy = [program, "copy", "table-data", "--source", pair.source.url, "--target", pair.target.url]
    return Contestant("pgcopydb", ([[*copy, "--table-jobs", "2", "--dir", str(state / "pgcopydb")]],))


def _sling(program: str, pair: Pair, _: Path) -> Contestant:
    copy = [program, "run", "--src-conn", pair.source.url, "--src-stream", "askwealth.message"]
    copy += ["--tgt-conn", pair.target.url, "--tgt-object", "peer_sling.message"]
    again = [[*copy, "--mode", "incremental", "--primary-key", "message_id"]]
    return Contestant("sling", ([[*copy, "--mode", "full-refresh"]], again, again), "peer_sling")


def _ingestr(program: str, pair: Pair, state: Path) -> Contestant:
    """Its uuids have to become text: it cannot write its own."""
    copy = [program, "ingest", "--yes", "--progress", "log", "--pipelines-dir", str(state / "ingestr")]
    copy += ["--source-uri", pair.source.url, "--source-table", "askwealth.message"]
    copy += ["--dest-uri", pair.target.url, "--dest-table", "peer_ingestr.message"]
    copy += ["--columns", "message_id:string,thread_id:string"]
    again = [[*copy, "--incremental-strategy", "merge", "--primary-key", "message_id"]]
    return Contestant("ingestr", ([[*copy, "--incremental-strategy", "replace"]], again, again), "peer_ingestr")


def _dlt(program: str, _: Pair, __: Path) -> Contestant:
    first, again = ([[program, str(DLT_COPY), how]] for how in ("replace", "merge"))
    return Contestant("dlt", (first, again, again), "peer_dlt")


def _compete(contestant: Contestant, pair: Pair, rows: int) -> Iterator[Result]:
    """Let one tool do all cases, one after the other, from an empty target on."""
    pair.target.tell(f"truncate {messages.TABLE}")
    pair.target.tell(f"drop schema if exists {contestant.schema} cascade" if _has_own(contestant) else "select")
    for case, run in zip(CASES, contestant.runs, strict=False):
        changed = case == CASES[-1]
        if changed:
            messages.change_some(pair.source, rows)
        try:
            yield _measured(contestant, case, run, pair)
        finally:
            if changed:
                messages.change_back(pair.source, rows)


def _has_own(contestant: Contestant) -> bool:
    return contestant.schema != "askwealth"


def _measured(contestant: Contestant, case: str, run: list[list[str]], pair: Pair) -> Result:
    for server in (pair.source, pair.target):
        server.tell("checkpoint")
    taken = measure(run, pair)
    failed = any(taken["codes"])
    result = Result(
        tool=contestant.name,
        case=case,
        seconds=taken["seconds"],
        cpu_seconds=taken["cpu_seconds"],
        peak_bytes=taken["peak_bytes"],
        exact=not failed and _is_exact(contestant, pair),
        failed=failed,
    )
    console.print(f"{contestant.name:<10}{case:<22}{result.seconds:9.2f} s  exact: {_verdict(result)}")
    return result


def _is_exact(contestant: Contestant, pair: Pair) -> bool:
    """Compare texts: columns that a tool adds, and types that it chooses, are not held against it."""
    texts = ", ".join(f"{name}::text" for name in COLUMNS)
    images = "select count(*), coalesce(sum(hashtextextended(row({})::text, 0)), 0) from {}.message"
    theirs = pair.source.ask_row(images.format(texts, "askwealth"))
    return pair.target.ask_row(images.format(texts, contestant.schema)) == theirs


def _verdict(result: Result) -> str:
    return "failed" if result.failed else "yes" if result.exact else "no"


def as_table(results: Sequence[Result], rows: int) -> Table:
    """Lay out the results: seconds, times pgpull's, memory, and whether the rows came exactly."""
    table = Table(title=f"{rows:,} messages", box=box.SIMPLE_HEAD)
    for heading in ("case", "tool", "seconds", "times pgpull's", "client CPU s", "client MB", "exact"):
        table.add_column(heading, justify="left" if heading in ("case", "tool") else "right")
    for case in CASES:
        for result in (each for each in results if each.case == case):
            table.add_row(
                case,
                result.tool,
                "" if result.failed else f"{result.seconds:.2f}",
                f"{times:.1f}" if (times := _times(result, results)) else "",
                f"{result.cpu_seconds:.1f}",
                f"{result.peak_bytes / 1e6:,.0f}",
                _verdict(result),
            )
    return table


def _times(result: Result, results: Sequence[Result]) -> float:
    ours = next((each.seconds for each in results if (each.tool, each.case) == ("pgpull", result.case)), 0.0)
    return result.seconds / ours if ours and not result.failed else 0.0


def _bars(results: Sequence[Result]) -> Iterator[Bar]:
    for result in results:
        if not result.failed:
            exact = "" if result.exact else ", not exact"
            label = f"{result.seconds:.1f} s, {_times(result, results):.1f} ×{exact}"
            yield Bar(result.case, result.tool, result.seconds, label)


if __name__ == "__main__":
    typer.run(main)
