"""How long many small tables take: pgpull beside ``pg_dump --data-only | psql``; see the README beside this.

Run it from the root of the repository: ``python -m benchmarks.tables --tables 500``.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Annotated

import typer
from benchmarks.servers import Pair, databases
from rich.console import Console
from rich.table import Table

from pgpull import Summary, embedded, pull_tables

ROWS = 20
CHAIN = 10
"""Each table refers to the one before it, but for the first of so many."""

console = Console()


def main(
    tables: Annotated[int, typer.Option(min=1, help="How many tables.")] = 500,
    rounds: Annotated[int, typer.Option(min=1, help="How many times all cases take turns.")] = 3,
) -> None:
    """Pull many small tables that refer to each other."""
    cases: dict[str, Callable[[Pair], object]] = {
        "pg_dump --data-only | psql": dump,
        "pgpull, into empty tables": lambda pair: pulled(pair, inserted=tables * ROWS),
        "pgpull, nothing new, skip": lambda pair: pulled(pair),
        "pgpull, nothing new, update": lambda pair: pulled(pair, on_conflict="update"),
    }
    with databases(None, keep=False) as pair:
        make(pair, tables)
        seconds: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, case in cases.items():
                if "empty" in name or "pg_dump" in name:
                    empty(pair, tables)
                started = time.monotonic()
                case(pair)
                seconds[name].append(time.monotonic() - started)
    console.print(as_table(seconds, tables))


def make(pair: Pair, tables: int) -> None:
    """Make the tables on both sides, and rows on the source."""
    for server in (pair.source, pair.target):
        server.tell("drop schema public cascade")
        server.tell("create schema public")
        for number in range(tables):
            refers = f", up int references t{number - 1}" if number % CHAIN else ", up int"
            server.tell(f"create table t{number} (id int primary key, v text, at timestamptz{refers})")
    for number in range(tables):
        up = "n" if number % CHAIN else "null"
        rows = f"select n, 'row ' || n, now(), {up} from generate_series(1, {ROWS}) n"
        pair.source.tell(f"insert into t{number} {rows}")
    pair.source.tell("analyze")


def empty(pair: Pair, tables: int) -> None:
    """Take the rows out of the target."""
    pair.target.tell(f"truncate {', '.join(f't{number}' for number in range(tables))}")


def dump(pair: Pair) -> None:
    """Take the way of PostgreSQL's own programs."""
    dumped = [str(embedded.binary("pg_dump")), "--data-only", pair.source.url]
    with subprocess.Popen(dumped, stdout=subprocess.PIPE) as dumping:
        loaded = [str(embedded.binary("psql")), "-X", "-q", "-o", "/dev/null", pair.target.url]
        subprocess.run(loaded, stdin=dumping.stdout, check=True)


def pulled(pair: Pair, *, inserted: int = 0, on_conflict: str = "skip") -> Summary:
    """Pull all tables in one run."""
    summary = pull_tables("*.*", source=pair.source.url, target=pair.target.url, on_conflict=on_conflict)
    assert (summary.tally.inserted, summary.failures) == (inserted, ()), summary.tally
    return summary


def as_table(seconds: dict[str, list[float]], tables: int) -> Table:
    """Return the medians."""
    table = Table("case", "seconds", "ms a table", title=f"{tables} tables of {ROWS} rows")
    for name, times in seconds.items():
        median = statistics.median(times)
        table.add_row(name, f"{median:.2f}", f"{median * 1000 / tables:.1f}")
    return table


if __name__ == "__main__":
    typer.run(main)
