"""The ways to copy the table: what each starts with, and the programs that it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import typer
from benchmarks.messages import TABLE
from benchmarks.servers import Pair

from pgpull import embedded

COLUMNS = "message_id, role, parts, created_at, thread_id, annotations"
BASELINE = "pipe"
PRIMER = "update"
"""The case that pgpull's row versions are remembered by."""

NAIVE = Path(__file__).with_name("naive.py")


class Start(Enum):
    """What a case finds when it starts."""

    EMPTY = "the target is empty"
    SAME = "both sides are the same"
    GAPS = "the target lacks three rows in ten"
    MIXED = "since both sides were the same, 1 % of the source's rows have changed, and 1 % more are new"


@dataclass(frozen=True)
class Case:
    """One way to copy the table."""

    name: str
    title: str
    start: Start = Start.EMPTY
    versions: bool = False
    """Whether pgpull remembers the row versions of an earlier pull."""
    once: bool = False
    """Whether one round is enough, because it is slow."""


CASES = (
    Case("pipe", "psql COPY | psql COPY, binary: the full copy that all else is measured by"),
    Case("pgpull", "pgpull into the empty table"),
    Case("dump", "pg_dump -Fc | pg_restore"),
    Case("naive", "fetchall, INSERT ON CONFLICT", once=True),
    Case("gaps", "pgpull, where three rows in ten are missing", Start.GAPS),
    Case("skip", "pgpull again, nothing new, skip", Start.SAME),
    Case("update", "pgpull again, nothing new, update by row versions", Start.SAME, versions=True),
    Case("update-hashes", "pgpull again, nothing new, update by hashes alone", Start.SAME),
    Case("mixed", "pgpull again, 1 % new and 1 % changed, update by row versions", Start.MIXED, versions=True),
    Case("mixed-hashes", "pgpull again, 1 % new and 1 % changed, update by hashes alone", Start.MIXED),
)


def chosen(only: Sequence[str], skip: Sequence[str]) -> list[Case]:
    """Return the cases to run, in their order."""
    unknown = {*only, *skip} - {case.name for case in CASES}
    if unknown:
        names = ", ".join(case.name for case in CASES)
        raise typer.BadParameter(f"there is no case {', '.join(sorted(unknown))}; there are: {names}")
    return [case for case in CASES if (not only or case.name in only) and case.name not in skip]


def commands(name: str, pair: Pair) -> list[list[str]]:
    """Return the pipeline of a case."""
    by_versions = [*_pgpull(), "--on-conflict", "update"]
    by_hashes = [*by_versions, "--no-row-versions"]
    pipelines = {
        "pipe": _pipe(pair),
        "pgpull": [_pgpull()],
        "dump": _dump(pair),
        "naive": [[sys.executable, str(NAIVE)]],
        "gaps": [_pgpull()],
        "skip": [[*_pgpull(), "--on-conflict", "skip"]],
        "update": [by_versions],
        "update-hashes": [by_hashes],
        "mixed": [by_versions],
        "mixed-hashes": [by_hashes],
    }
    return pipelines[name]


def _pipe(pair: Pair) -> list[list[str]]:
    psql = [str(embedded.binary("psql")), "-X", "-q", "-v", "ON_ERROR_STOP=1"]
    read = f"copy (select {COLUMNS} from {TABLE}) to stdout (format binary)"
    write = f"copy {TABLE} ({COLUMNS}) from stdin (format binary)"
    return [[*psql, pair.source.url, "-c", read], [*psql, pair.target.url, "-c", write]]


def _dump(pair: Pair) -> list[list[str]]:
    return [
        [str(embedded.binary("pg_dump")), "--data-only", "-Fc", "-t", TABLE, pair.source.url],
        [str(embedded.binary("pg_restore")), "--data-only", "-d", pair.target.url],
    ]


def _pgpull() -> list[str]:
    return [sys.executable, "-m", "pgpull", "pull", TABLE, "--env-file", os.devnull, "--quiet", "--json"]
