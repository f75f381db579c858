"""Put pgpull beside the other ways to copy a table, in one run, taking turns; see the README beside this.

Run it from the root of the repository: ``python -m benchmarks.run --rows 200000``.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from benchmarks import messages
from rich.console import Console
from rich.table import Table

from pgpull import embedded

HERE = Path(__file__).parent

# Without these a checkpoint or an autovacuum falls into some cases and not into others.
TUNING = {"shared_buffers": "512MB", "max_wal_size": "4GB", "autovacuum": "off"}

COLUMNS = "message_id, role, parts, created_at, thread_id, annotations"
BASELINE = "pipe"

console = Console()


@dataclass(frozen=True)
class Pair:
    """The two databases."""

    source: str
    target: str


@dataclass(frozen=True)
class Case:
    """One way to copy the table."""

    name: str
    title: str
    loads: bool = True
    """Whether it starts with an empty table; else with one that has every row."""
    once: bool = False
    """Whether one round is enough, because it is slow."""


@dataclass(frozen=True)
class Run:
    """What one run of one case took."""

    case: str
    round: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    wal_bytes: int
    failed: bool
    """Whether a program of it ended with an error; its times then mean nothing."""
    exact: bool
    """Whether the target then has the rows of the source, and no others."""

    @property
    def verdict(self) -> str:
        """Say in a word how it went."""
        return "FAILED" if self.failed else "yes" if self.exact else "NO"


CASES = (
    Case("pipe", "psql COPY | psql COPY, binary"),
    Case("pgpull", "pgpull"),
    Case("dump", "pg_dump -Fc | pg_restore"),
    Case("naive", "fetchall, INSERT ON CONFLICT", once=True),
    Case("skip", "pgpull again, skip", loads=False),
    Case("update", "pgpull again, update", loads=False),
)


def main(
    rows: Annotated[int, typer.Option(min=1, help="How many messages.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="How many times all cases take turns.")] = 3,
    only: Annotated[list[str] | None, typer.Option(help="A case to run. Repeatable.")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="A case to leave out. Repeatable.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where the servers live (default: temporary).")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the databases for another run.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every run to this file.")] = None,
) -> None:
    """Compare pgpull with the other ways to copy a table."""
    cases = chosen(only or [], skip or [])
    with databases(folder, keep) as pair:
        fill(pair, rows)
        runs = list(take_turns(cases, rounds, pair))
    console.print(as_table(cases, runs, rows))
    if json_file:
        report = {"rows": rows, "tuning": TUNING, "runs": [asdict(run) for run in runs]}
        json_file.write_text(json.dumps(report, indent=2) + "\n")


def chosen(only: Sequence[str], skip: Sequence[str]) -> list[Case]:
    """Return the cases to run, in their order."""
    unknown = {*only, *skip} - {case.name for case in CASES}
    if unknown:
        names = ", ".join(case.name for case in CASES)
        raise typer.BadParameter(f"there is no case {', '.join(sorted(unknown))}; there are: {names}")
    return [case for case in CASES if (not only or case.name in only) and case.name not in skip]


@contextmanager
def databases(folder: Path | None, keep: bool) -> Iterator[Pair]:
    """Start both servers, and stop them at the end; delete them unless they are to be kept."""
    home = folder or Path(tempfile.mkdtemp(prefix="pgpull-benchmark-"))
    servers = home / "source", home / "target"
    try:
        yield Pair(*(embedded.create_database(embedded.start(s, settings=TUNING), "bench") for s in servers))
    finally:
        for server in servers:
            embedded.stop(server) if keep else embedded.remove(server)
        if keep:
            console.print(f"kept {home}; use it again with: --folder {home} --keep")
        elif not folder:
            shutil.rmtree(home)


def fill(pair: Pair, rows: int) -> None:
    """Make the rows on the source, unless they are there, and the empty table on the target."""
    messages.make_table(pair.target)
    if ask(pair.source, "select to_regclass('askwealth.message') is not null") and count(pair.source) == rows:
        return
    with console.status(f"making {rows:,} messages"):
        messages.make_table(pair.source)
        messages.make_rows(pair.source, rows)


def take_turns(cases: Sequence[Case], rounds: int, pair: Pair) -> Iterator[Run]:
    """Run each case once, then each again."""
    wanted = extent(pair.source)
    # Unmeasured: the first load after a start makes new files for the journal, all others use them again.
    refill(pair)
    for number in range(1, rounds + 1):
        for case in cases:
            if number > 1 and case.once:
                continue
            prepare(case, pair, wanted)
            run = measured(case, number, pair, wanted)
            console.print(f"round {number}  {case.name:<7}{run.seconds:8.2f} s  exact: {run.verdict}")
            yield run


def prepare(case: Case, pair: Pair, wanted: tuple[int, int]) -> None:
    """Bring the target to where the case starts, and write out what both servers still hold back."""
    if case.loads:
        tell(pair.target, "truncate askwealth.message")
    elif extent(pair.target) != wanted:
        refill(pair)
    if not case.loads:
        # As autovacuum does within a minute: the first reader of new rows marks them, page by page.
        tell(pair.target, "vacuum (analyze) askwealth.message")
    for url in (pair.source, pair.target):
        tell(url, "checkpoint")


def refill(pair: Pair) -> None:
    """Give the target every row, in the quickest way."""
    tell(pair.target, "truncate askwealth.message")
    measure(commands(BASELINE, pair), pair)


def measured(case: Case, number: int, pair: Pair, wanted: tuple[int, int]) -> Run:
    """Run a case, and look at what it did to the target."""
    before = wal_position(pair.target)
    taken = measure(commands(case.name, pair), pair)
    return Run(
        case=case.name,
        round=number,
        seconds=taken["seconds"],
        cpu_seconds=taken["cpu_seconds"],
        peak_bytes=taken["peak_bytes"],
        wal_bytes=wal_position(pair.target) - before,
        failed=any(taken["codes"]),
        exact=extent(pair.target) == wanted,
    )


def measure(pipeline: list[list[str]], pair: Pair) -> dict[str, Any]:
    """Run a pipeline through the small program that measures it."""
    done = subprocess.run(
        [sys.executable, "-S", "-E", str(HERE / "measure.py")],
        input=json.dumps(pipeline),
        env={**os.environ, "SERVER_DB_URL": pair.source, "LOCAL_DB_URL": pair.target},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    taken: dict[str, Any] = json.loads(done.stdout)
    return taken


def commands(name: str, pair: Pair) -> list[list[str]]:
    """Return the pipeline of a case."""
    psql = [str(embedded.binary("psql")), "-X", "-q", "-v", "ON_ERROR_STOP=1"]
    read = f"copy (select {COLUMNS} from {messages.TABLE}) to stdout (format binary)"
    write = f"copy {messages.TABLE} ({COLUMNS}) from stdin (format binary)"
    dump = [str(embedded.binary("pg_dump")), "--data-only", "-Fc", "-t", messages.TABLE, pair.source]
    pgpull = [
        sys.executable,
        "-m",
        "pgpull",
        "pull",
        messages.TABLE,
        "--env-file",
        os.devnull,
        "--quiet",
        "--json",
    ]
    pipelines = {
        "pipe": [[*psql, pair.source, "-c", read], [*psql, pair.target, "-c", write]],
        "pgpull": [pgpull],
        "dump": [dump, [str(embedded.binary("pg_restore")), "--data-only", "-d", pair.target]],
        "naive": [[sys.executable, str(HERE / "naive.py")]],
        "skip": [[*pgpull, "--on-conflict", "skip"]],
        "update": [[*pgpull, "--on-conflict", "update"]],
    }
    return pipelines[name]


def extent(url: str) -> tuple[int, int]:
    """Return how many rows there are, and a hash of them all that ignores their order."""
    question = f"select count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) from {messages.TABLE} t"
    rows, total = ask_row(url, question)
    return int(rows), int(total)


def count(url: str) -> int:
    """Return how many rows there are."""
    return int(ask(url, f"select count(*) from {messages.TABLE}"))


def wal_position(url: str) -> int:
    """Return how many bytes of WAL the server has written in its life."""
    return int(ask(url, "select pg_current_wal_insert_lsn() - '0/0'"))


def ask(url: str, question: str) -> Any:
    """Return the first column of the first row of an answer."""
    return ask_row(url, question)[0]


def ask_row(url: str, question: str) -> tuple[Any, ...]:
    """Return the first row of an answer."""
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        return connection.execute(question.encode()).fetchone() or ()


def tell(url: str, statement: str) -> None:
    """Execute a statement outside of any transaction."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def as_table(cases: Iterable[Case], runs: Sequence[Run], rows: int) -> Table:
    """Lay out the medians of all rounds and their ratio to the raw pipe; CPU and memory are the client's."""
    legend = "\n".join(f"{case.name}: {case.title}" for case in cases)
    table = Table(title=f"{rows:,} messages", caption=legend, caption_justify="left", min_width=76)
    table.add_column()
    for heading in ("median s", "best s", "of pipe", "CPU s", "MB", "WAL MB", "exact"):
        table.add_column(heading, justify="right", no_wrap=True)
    baseline = [run for run in runs if run.case == BASELINE and not run.failed]
    for case in cases:
        own = [run for run in runs if run.case == case.name]
        table.add_row(case.name, *cells(own, baseline))
    return table


def cells(own: Sequence[Run], baseline: Sequence[Run]) -> list[str]:
    """Return a row of the table, but for its title."""
    well = [run for run in own if not run.failed]
    if not well:
        return ["FAILED"]
    seconds = median_seconds(well)
    ratio = seconds / median_seconds(baseline) if baseline else None
    return [
        f"{seconds:.1f}",
        f"{min(run.seconds for run in well):.1f}",
        f"{ratio:.2f}" if ratio else "",
        f"{statistics.median(run.cpu_seconds for run in well):.1f}",
        f"{max(run.peak_bytes for run in well) / 1e6:,.0f}",
        f"{statistics.median(run.wal_bytes for run in well) / 1e6:,.1f}",
        next((run.verdict for run in own if run.verdict != "yes"), "yes"),
    ]


def median_seconds(runs: Sequence[Run]) -> float:
    """Return the median of the wall times."""
    return statistics.median(run.seconds for run in runs)


if __name__ == "__main__":
    typer.run(main)
