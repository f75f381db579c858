"""Archives beside psql: an export, and a load, beside its own ways to and from a file; see README.md.

Run it from the root of the repository: ``python -m benchmarks.archives --rows 1000000``.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from benchmarks import messages
from benchmarks.run import measure
from benchmarks.servers import Pair, databases
from rich import box
from rich.console import Console
from rich.table import Table

from pgpull import embedded

console = Console()

PSQL_OUT = "psql \\copy to"
PSQL_IN = "psql \\copy from"


@dataclass(frozen=True)
class Timed:
    """One program's turn."""

    case: str
    seconds: float
    bytes: int
    """Of what it wrote to files, or read from them."""


def main(
    rows: Annotated[int, typer.Option(help="How many messages.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(help="How often each has its turn.")] = 3,
    folder: Annotated[Path | None, typer.Option(help="Where the servers live (default: temporary).")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the databases for another run.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every turn to this file.")] = None,
) -> None:
    """Export messages, and load them, beside psql."""
    found: list[Timed] = []
    with databases(folder, keep) as pair:
        with console.status(f"making {rows:,} messages"):
            messages.make_up_to(pair.source, rows)
            messages.make_table(pair.target)
        files = pair.source.folder.parent / "files"
        for _ in range(rounds):
            found += _round(pair, files)
    console.print(_as_table(found))
    if json_file:
        json_file.write_text(json.dumps([asdict(each) for each in found], indent=2) + "\n")


def _round(pair: Pair, files: Path) -> list[Timed]:
    """Let each have a turn, so that whatever else the machine does hits them alike."""
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir()
    exports = {
        PSQL_OUT: _psql(pair.source.url, f"\\copy (select * from {messages.TABLE}) to '{files}/psql.csv' csv"),
        "export": _pgpull("export", messages.TABLE, "--to", f"{files}/csv"),
        "export, 1 worker": _pgpull("export", messages.TABLE, "--to", f"{files}/one", "--jobs", "1"),
        "export --compress zstd": _pgpull(
            "export", messages.TABLE, "--to", f"{files}/zstd", "--compress", "zstd"
        ),
        "export --compress gzip": _pgpull(
            "export", messages.TABLE, "--to", f"{files}/gzip", "--compress", "gzip"
        ),
        "export --format parquet": _pgpull(
            "export", messages.TABLE, "--to", f"{files}/pq", "--format", "parquet"
        ),
        "export --format parquet --by month": _pgpull(
            "export", messages.TABLE, "--to", f"{files}/months", "--format", "parquet", "--by", "month"
        ),
    }
    loads = {
        PSQL_IN: _psql(pair.target.url, f"\\copy {messages.TABLE} from '{files}/psql.csv' csv"),
        "load": _pgpull("load", f"{files}/csv"),
        "load, 1 worker": _pgpull("load", f"{files}/csv", "--jobs", "1"),
        "load of zstd": _pgpull("load", f"{files}/zstd"),
        "load of parquet": _pgpull("load", f"{files}/pq"),
    }
    done = [_timed(pair, case, command, files) for case, command in exports.items()]
    for case, command in loads.items():
        pair.target.tell(f"truncate {messages.TABLE}")
        pair.target.tell("checkpoint")
        done.append(_timed(pair, case, command, files))
    return done


def _timed(pair: Pair, case: str, command: list[str], files: Path) -> Timed:
    before = _size(files)
    taken = measure([command], pair)
    if any(taken["codes"]):
        sys.exit(f"{case} failed: {taken['output']}")
    console.print(f"{case}: {taken['seconds']:.2f} s")
    return Timed(case, taken["seconds"], _size(files) - before)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _psql(url: str, command: str) -> list[str]:
    return [str(embedded.binary("psql")), "-X", "-q", "-v", "ON_ERROR_STOP=1", url, "-c", command]


def _pgpull(*words: str) -> list[str]:
    return [sys.executable, "-m", "pgpull", *words, "--quiet"]


def _as_table(found: Sequence[Timed]) -> Table:
    table = Table(title="archives: the median of all rounds", box=box.SIMPLE_HEAD, padding=0)
    for heading in ("case", "s", "of psql", "MB"):
        table.add_column(heading, justify="left" if heading == "case" else "right", no_wrap=True)
    medians = {
        case: statistics.median(each.seconds for each in found if each.case == case)
        for case in dict.fromkeys(each.case for each in found)
    }
    sizes = {each.case: each.bytes for each in found}
    for case, seconds in medians.items():
        beside = medians[PSQL_IN if case.startswith("load") or case == PSQL_IN else PSQL_OUT]
        size = f"{sizes[case] / 1e6:,.0f}" if sizes[case] else ""
        table.add_row(case, f"{seconds:.2f}", f"{seconds / beside:.2f}", size)
    return table


if __name__ == "__main__":
    typer.run(main)
