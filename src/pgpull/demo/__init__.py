"""The demo: two private servers, a "production" full of messages and an empty "local", and the main job.

What it does is what a user would do by hand: it writes a .env file, runs the command, and looks at both
sides. Everything is in one folder::

    pgpull-demo/
      production/  local/   one private server each, see :mod:`pgpull.embedded`
      .env                  the URLs of both
      .gitignore            keeps the folder out of any repository
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from pgpull import config_file, embedded
from pgpull.errors import SettingsError
from pgpull.settings import environment_without_databases

Say = Callable[[str], None]

TABLE = "askwealth.message"
SINCE, UNTIL = "2025-01-01", "2025-09-15"
DEFAULT_ROWS = 20_000
DEFAULT_FOLDER = Path("pgpull-demo")

# Between versions, so that the demo shows that this works.
PRODUCTION_VERSION, LOCAL_VERSION = 16, 18

ENV_HEADER = "# Written by `pgpull demo`, and written anew by each demo."
GITIGNORE = "# Written by `pgpull demo`.\n*\n"

INTERRUPTED = 130
DIFFERENT = 5

_SQL = Path(__file__).parent


def run(folder: Path, rows: int, say: Say) -> int:
    """Start both servers, fill production, pull from it as a user would, and show the outcome.

    Running it again goes on with what is there; other ``rows`` make both databases anew.

    Args:
        folder: where to keep everything.
        rows: how many messages production has.
        say: prints one line or several.

    Returns:
        The exit code: that of the pull, or 5 if the two sides differ after it, or 130 if interrupted.

    Raises:
        SettingsError: the wheel with PostgreSQL is missing, or the folder cannot be used.
        ConnectFailed: a server does not start.
    """
    try:
        return _run(_Demo(folder, rows), say)
    except KeyboardInterrupt:
        say(f"\ninterrupted; the demo goes on when run again, and ends with: {_command_to_stop(folder)}")
        return INTERRUPTED


def stop(folder: Path, say: Say) -> int:
    """Stop both servers and remove what the demo made, and nothing else.

    Args:
        folder: where everything was kept.
        say: prints one line or several.

    Returns:
        The exit code, 0.

    Raises:
        ConnectFailed: a server does not stop.
    """
    removed = [path for path in _servers(folder) if embedded.remove(path)]
    removed += [path for path in _notes(folder) if _is_ours(path) and _removed(path)]
    if removed and not any(folder.iterdir()):
        folder.rmdir()
        removed = [folder]
    say("\n".join(f"removed {path}" for path in removed) or f"there is no demo in {folder}")
    if removed and folder.exists():
        say(f"kept {folder}, which holds files of others: {', '.join(p.name for p in folder.iterdir())}")
    return 0


@dataclass(frozen=True)
class _Demo:
    """What was asked for, and the names that follow from it."""

    folder: Path
    rows: int

    @property
    def env_file(self) -> Path:
        return self.folder / ".env"

    @property
    def label(self) -> str:
        """Tell these rows from those of other demos; raise the first number when the SQL makes others."""
        return f"pgpull-demo:1:{self.rows}"


@dataclass(frozen=True)
class _Extent:
    """How many rows there are, and a hash of them all that ignores their order."""

    rows: int
    hash: int

    def line(self, name: str) -> str:
        return f"  {name:<24}{self.rows:>12,}   {self.hash % 2**64:016x}"


def _run(demo: _Demo, say: Say) -> int:
    _check_folder(demo)
    production, local = _start(demo, say)
    _fill(production, demo, say)
    _lay_out(local, demo)
    _write_notes(demo, production, local)
    code = _pull(_main_job(demo.env_file), say)
    same = _show_outcome(production, local, say)
    _show_next(demo, production, local, say)
    return code or (0 if same else DIFFERENT)


def _servers(folder: Path) -> tuple[Path, Path]:
    return folder / "production", folder / "local"


def _notes(folder: Path) -> tuple[Path, Path]:
    return folder / ".env", folder / ".gitignore"


def _is_ours(path: Path) -> bool:
    return path.is_file() and path.read_text(errors="replace").startswith((ENV_HEADER, GITIGNORE))


def _removed(path: Path) -> bool:
    path.unlink()
    return True


def _check_folder(demo: _Demo) -> None:
    if demo.rows < 1:
        raise SettingsError(f"a demo with {demo.rows} rows shows nothing", "ask for 1 row or more")
    if demo.env_file.exists() and not _is_ours(demo.env_file):
        fact = f"the demo would overwrite {demo.env_file}, which it has not written"
        raise SettingsError(fact, "name another folder with --dir")


def _start(demo: _Demo, say: Say) -> tuple[str, str]:
    say(f"Starting two private PostgreSQL servers in {demo.folder} ...")
    urls = tuple(
        embedded.create_database(embedded.start(path, version), "askwealth")
        for path, version in zip(_servers(demo.folder), (PRODUCTION_VERSION, LOCAL_VERSION), strict=True)
    )
    say(f"  production  PostgreSQL {PRODUCTION_VERSION}\n  local       PostgreSQL {LOCAL_VERSION}")
    return urls[0], urls[1]


def _fill(url: str, demo: _Demo, say: Say) -> None:
    if _label(url) == demo.label:
        say(f"Production has its {demo.rows:,} messages from the demo before.")
        return
    say(f"Filling production with {demo.rows:,} messages ...")
    _make_tables(url, demo, "schema.sql", "rows.sql")


def _lay_out(url: str, demo: _Demo) -> None:
    if _label(url) != demo.label:
        _make_tables(url, demo, "schema.sql")


def _label(url: str) -> object:
    return _answer(url, "label.sql")[0]


def _make_tables(url: str, demo: _Demo, *files: str) -> None:
    """Run SQL files in one transaction: an interrupted demo leaves the tables as they were."""
    options = f"-c demo.rows={demo.rows} -c demo.label={demo.label}"
    with psycopg.connect(url, options=options) as connection:
        for file in files:
            connection.execute((_SQL / file).read_bytes())


def _answer(url: str, file: str) -> tuple[Any, ...]:
    options = f"-c timezone=UTC -c demo.since={SINCE} -c demo.until={UNTIL}"
    with psycopg.connect(url, options=options) as connection:
        return connection.execute((_SQL / file).read_bytes()).fetchone() or ()


def _write_notes(demo: _Demo, production: str, local: str) -> None:
    _write(demo.env_file, f"{ENV_HEADER}\nSERVER_DB_URL={production}\nLOCAL_DB_URL={local}\n")
    if not (demo.folder / ".gitignore").exists():
        _write(demo.folder / ".gitignore", GITIGNORE)


def _write(path: Path, text: str) -> None:
    """Write a file that appears complete, and closed to other accounts, or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    Path(name).replace(path)


def _without_rules() -> list[str]:
    """Pass over the rules of a project that somebody tries the demo in: they are for its own tables."""
    return ["--config", os.devnull] if config_file.found() else []


def _main_job(env_file: Path) -> list[str]:
    script = Path("data_migrations/load_messages.py")
    given = ["--env-file", str(env_file), *_without_rules()]
    if _is_script_of_pgpull(script):
        return [sys.executable, str(script), *given, "--from-date", SINCE, "--to-date", UNTIL]
    window = ["--window", "created_at", "--since", SINCE, "--until", UNTIL]
    return [sys.executable, "-m", "pgpull", "pull", TABLE, *given, *window]


def _other_tables(env_file: Path) -> list[str]:
    script = Path("data_migrations/load_tables.py")
    given = ["askwealth.document", "--env-file", str(env_file), *_without_rules()]
    if _is_script_of_pgpull(script):
        return [sys.executable, str(script), *given]
    return [sys.executable, "-m", "pgpull", "pull", *given]


def _is_script_of_pgpull(path: Path) -> bool:
    return path.is_file() and "pgpull" in path.read_text(errors="replace")


def _pull(command: list[str], say: Say) -> int:
    say(f"\n$ {_shown(command)}")
    sys.stdout.flush()  # what was said so far stands above what the command says
    with subprocess.Popen(command, env=environment_without_databases()) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The same Ctrl-C reached the command, which ends by itself and says what is in.
            process.wait()
            raise


def _shown(command: list[str]) -> str:
    """Return a command as a user would type it here."""
    program, *arguments = command
    if program == shutil.which("python"):
        program = "python"
    return shlex.join([os.path.relpath(program) if _is_below_here(program) else program, *arguments])


def _is_below_here(program: str) -> bool:
    path = Path(program)
    return path.is_absolute() and path.is_relative_to(Path.cwd())


def _command_to_stop(folder: Path) -> str:
    where = [] if folder == DEFAULT_FOLDER else ["--dir", str(folder)]
    return _shown([sys.executable, "-m", "pgpull", "demo", "--stop", *where])


def _show_outcome(production: str, local: str, say: Say) -> bool:
    """Print how much is on each side, and return whether local has exactly what is in scope."""
    everything, wanted = _extents(production)
    there, _ = _extents(local)
    say(f"\n  {'':<24}{'messages':>12}   hash of all rows")
    say(everything.line("production"))
    say(wanted.line("production, in scope"))
    say(there.line("local"))
    if there == wanted:
        say("\nLocal has every message in scope, exactly as it is on production.")
    else:
        say("\nThe two sides differ. If you changed some rows, add: --on-conflict update")
    return there == wanted


def _extents(url: str) -> tuple[_Extent, _Extent]:
    rows, total, rows_in_scope, total_in_scope = map(int, _answer(url, "outcome.sql"))
    return _Extent(rows, total), _Extent(rows_in_scope, total_in_scope)


def _show_next(demo: _Demo, production: str, local: str, say: Say) -> None:
    psql = str(embedded.binary("psql", LOCAL_VERSION))
    job = _main_job(demo.env_file)
    change = f"update {TABLE} set annotations = to_jsonb(now()) where created_at::date = $$2025-06-01$$"
    hints = {
        "Look around:": _shown([psql, local]),
        "Pull again; nothing is left to do:": _shown(job),
        "Change a day of messages on production:": _shown([psql, production, "-c", change]),
        "and bring the change over:": _shown([*job, "--on-conflict", "update"]),
        "Another table:": _shown(_other_tables(demo.env_file)),
        "Stop both servers and remove the demo:": _command_to_stop(demo.folder),
    }
    for what, command in hints.items():
        say(f"\n{what}\n  {command}")
