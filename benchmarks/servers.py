"""The two servers: started and stopped, asked and told, and the processor time that they have used."""

from __future__ import annotations

import compileall
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
from pgpull.embedded.programs import hand_over, let_through, run

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
def databases(folder: Path | None, keep: bool, programs: Path | None = None) -> Iterator[Pair]:
    """Start both servers, and stop them at the end; delete them unless they are to be kept.

    Args:
        folder: where they live; a temporary folder unless named.
        keep: whether their data is to be there for another run.
        programs: the folder of the programs of a PostgreSQL of the system; else it is the embedded one.
    """
    _compile_pgpull()
    home = folder or Path(tempfile.mkdtemp(prefix="pgpull-benchmark-"))
    folders = home / "source", home / "target"
    try:
        yield Pair(*(_started(made, programs) for made in folders))
    finally:
        for made in folders:
            if programs:
                _end_by(programs, made, keep)
            else:
                embedded.stop(made) if keep else embedded.remove(made)
        if keep:
            print(f"kept {home}; use it again with: --folder {home} --keep")
        elif not folder:
            shutil.rmtree(home)


def _compile_pgpull() -> None:
    """Have Python read pgpull as it reads whatever is installed.

    Where Python is told to write no bytecode, it would compile all modules of a checkout at each start.
    """
    compileall.compile_dir(Path(embedded.__file__).parents[1], quiet=1)


def _started(folder: Path, programs: Path | None) -> Server:
    url = _start_by(programs, folder) if programs else embedded.start(folder, settings=TUNING)
    return Server(embedded.create_database(url, "bench"), folder)


def _start_by(programs: Path, folder: Path) -> str:
    """Start a server of the system's PostgreSQL, made as the embedded one is, behind a socket in its folder."""
    if not (folder / "data").exists():
        folder.mkdir(mode=0o700, parents=True)
        hand_over(folder)
        let_through(folder)
        _call(
            programs, folder, "initdb", "--auth=trust", "--encoding=UTF8", "--locale=C", "-k", "-U", "postgres"
        )
        own = {**TUNING, "listen_addresses": "", "unix_socket_directories": str(folder), "timezone": "UTC"}
        with (folder / "data" / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in own.items())
    _call(programs, folder, "pg_ctl", "start", "-w", "-s", "-l", "log")
    return f"postgresql://postgres@/postgres?host={folder}"


def _end_by(programs: Path, folder: Path, keep: bool) -> None:
    _call(programs, folder, "pg_ctl", "stop", "-w", "-s", "-m", "fast")
    if not keep:
        shutil.rmtree(folder)


def _call(programs: Path, folder: Path, name: str, *arguments: str) -> None:
    done = run([str(programs / name), *arguments, "-D", "data"], folder)
    if done.returncode:
        sys.exit(f"{name} failed: {done.stderr}")
