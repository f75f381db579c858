"""The two servers: started and stopped, asked and told, and the processor time that they have used."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from pgpull import embedded

# Without these a checkpoint or an autovacuum falls into some cases and not into others.
TUNING = {"shared_buffers": "512MB", "max_wal_size": "4GB", "autovacuum": "off"}


@dataclass(frozen=True)
class Server:
    """A database on a private server of its own."""

    url: str
    folder: Path

    def ask(self, question: str) -> Any:
        """Return the first column of the first row of an answer."""
        return self.ask_row(question)[0]

    def ask_row(self, question: str) -> tuple[Any, ...]:
        """Return the first row of an answer."""
        with psycopg.connect(self.url, options="-c timezone=UTC") as connection:
            return connection.execute(question.encode()).fetchone() or ()

    def tell(self, statement: str) -> int:
        """Execute a statement outside of any transaction, and return how many rows it was about."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(statement.encode()).rowcount

    def wal_position(self) -> int:
        """Return how many bytes of WAL the server has written in its life."""
        return int(self.ask("select pg_current_wal_insert_lsn() - '0/0'"))

    def cpu_seconds(self) -> float | None:
        """Return the processor time of all processes of the server, those that have ended included.

        None where the system does not tell: macOS forgets a process when it ends.
        """
        if sys.platform != "linux":
            return None
        pid = (self.folder / "data" / "postmaster.pid").read_text().split()[0]
        while (seconds := _family_seconds(psutil.Process(int(pid)))) is None:
            pass
        return seconds


def _family_seconds(postmaster: psutil.Process) -> float | None:
    """Add up a process, its children, and those that it has waited for; None if one ended meanwhile.

    That one may have been counted twice, as a child and as waited for, or not at all.
    """
    children = postmaster.children()
    try:
        # user and system, of itself and of those that it has waited for
        seconds = sum(sum(process.cpu_times()[:4]) for process in (postmaster, *children))
    except psutil.NoSuchProcess:
        return None
    return seconds if postmaster.children() == children else None


@dataclass(frozen=True)
class Pair:
    """The two databases."""

    source: Server
    target: Server


@contextmanager
def databases(folder: Path | None, keep: bool) -> Iterator[Pair]:
    """Start both servers, and stop them at the end; delete them unless they are to be kept."""
    home = folder or Path(tempfile.mkdtemp(prefix="pgpull-benchmark-"))
    folders = home / "source", home / "target"
    try:
        yield Pair(*map(_started, folders))
    finally:
        for made in folders:
            embedded.stop(made) if keep else embedded.remove(made)
        if keep:
            print(f"kept {home}; use it again with: --folder {home} --keep")
        elif not folder:
            shutil.rmtree(home)


def _started(folder: Path) -> Server:
    return Server(embedded.create_database(embedded.start(folder, settings=TUNING), "bench"), folder)
