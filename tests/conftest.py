"""The servers of the run, made when first asked for, and what single tests borrow from them."""

from __future__ import annotations

import compileall
import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Protocol

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from tenacity import wait_fixed

import pgpull
from pgpull import parting, patience
from pgpull.cli import app
from tests.support import STANDARD_SCHEMA, Pair, Proxy, Server, Unavailable, available_versions
from tests.support.proxy import Address

TEMPLATE = "standard"
numbers = count(1)

# A law holds however long a busy machine takes to try it.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


class MakePair(Protocol):
    """The fixture ``make_pair``."""

    def __call__(
        self,
        source_version: int | None = None,
        target_version: int | None = None,
        schema: str | None = None,
        target_schema: str | None = None,
        *,
        source_server: Server | None = None,
        target_server: Server | None = None,
    ) -> Pair:
        """Make a pair; what is left out is the standard."""
        ...


class OwnServer(Protocol):
    """The fixture ``own_server``."""

    def __call__(self, version: int | None = None, megabytes: int | None = None, **settings: object) -> Server:
        """Make a server for one test; with ``megabytes``, one whose disk is small."""
        ...


class Say(Protocol):
    """The fixture ``say``."""

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Run the command with these words, and return its exit code, its stdout and its stderr."""
        ...


def pytest_configure(config: pytest.Config) -> None:
    """Compile the package once, not in each program that a test starts where Python may write no bytecode."""
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(Path(pgpull.__file__).parent, quiet=1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    return (yield from _skipping())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    return (yield from _skipping())


@pytest.fixture(scope="session", autouse=True)
def plain_environment() -> Iterator[None]:
    """Hide the developer's own PostgreSQL settings, which every client would follow."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PG")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def newest() -> int:
    """Name the newest version on this machine."""
    return _versions()[-1]


@pytest.fixture(scope="session")
def oldest() -> int:
    """Name the oldest version on this machine."""
    return _versions()[0]


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[int], Server]]:
    """Give the run's server of a version, alive and with its first settings; other versions are a skip."""
    with ExitStack() as stack:

        @cache
        def create(version: int) -> Server:
            server = Server.create(version)
            stack.callback(server.remove)
            return server

        yield lambda version: create(version).restore()


@pytest.fixture
def own_server(newest: int) -> Iterator[OwnServer]:
    """Make servers that one test may fill, kill and reconfigure."""
    with ExitStack() as stack:

        def make(version: int | None = None, megabytes: int | None = None, **settings: object) -> Server:
            version = version or newest
            server = Server.on_small_disk(version, megabytes) if megabytes else Server.create(version)
            stack.callback(server.remove)
            if settings:
                server.configure(**settings)
            return server

        yield make


@pytest.fixture
def make_pair(servers: Callable[[int], Server], newest: int, oldest: int) -> Iterator[MakePair]:
    """Make pairs of fresh databases: the source is of the newest version, the target of the oldest.

    ``schema`` is SQL for both sides in place of the standard one, ``target_schema`` for the target alone.
    """
    with ExitStack() as stack:

        def make(
            source_version: int | None = None,
            target_version: int | None = None,
            schema: str | None = None,
            target_schema: str | None = None,
            *,
            source_server: Server | None = None,
            target_server: Server | None = None,
        ) -> Pair:
            source = source_server or servers(source_version or newest)
            target = target_server or servers(target_version or oldest)
            number = next(numbers)
            pair = Pair(source, target, f"source_{number}", f"target_{number}")
            stack.callback(_drop, source, pair.source_db)
            stack.callback(_drop, target, pair.target_db)
            _fill(source, pair.source_db, schema)
            _fill(target, pair.target_db, schema if target_schema is None else target_schema)
            return pair

        yield make


@pytest.fixture
def pair(make_pair: MakePair, request: pytest.FixtureRequest) -> Pair:
    """Give a pair; an indirect parameter holds arguments for :func:`make_pair`."""
    return make_pair(**getattr(request, "param", {}))


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Iterator[Say]:
    """Run the command in this process, which is quicker than starting another."""
    handler = signal.getsignal(signal.SIGTERM)

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            app(list(words), prog_name="pgpull")
        return (int(ended.value.code or 0), *capsys.readouterr())

    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def make_proxy() -> Iterator[Callable[..., Proxy]]:
    """Put proxies before servers: ``make_proxy(server)``, or an address in its place."""
    with ExitStack() as stack:

        def make(to: Server | Address, latency: float = 0.0) -> Proxy:
            address = to.tcp_address if isinstance(to, Server) else to
            return stack.enter_context(Proxy(address, latency))

        yield make


def _skipping() -> Generator[None]:
    try:
        yield
    except Unavailable as error:
        pytest.skip(str(error))


def _versions() -> list[int]:
    if not available_versions():
        raise Unavailable("there is no PostgreSQL on this machine: pip install 'pgpull[embedded]'")
    return list(available_versions())


def _fill(server: Server, database: str, schema: str | None) -> None:
    if schema is None:
        server.create_database(database, template=_template(server))
        return
    server.create_database(database)
    if schema:
        server.sql(database, schema)


@cache
def _template(server: Server) -> str:
    """Make the database that others are cloned from, which is faster than running its schema."""
    server.create_database(TEMPLATE)
    server.sql(TEMPLATE, STANDARD_SCHEMA)
    return TEMPLATE


def _drop(server: Server, database: str) -> None:
    # A test may have killed the server; the next one starts it again.
    with suppress(psycopg.Error):
        server.drop_database(database)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in a folder of its own, where it may leave its files."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pauses between tries short."""
    monkeypatch.setattr(patience, "wait_exponential", lambda **_: wait_fixed(0.05))


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share out small tables, too."""
    monkeypatch.setattr(parting, "WORTH_BYTES", 0)
    monkeypatch.setattr(parting, "LEAST_BYTES", 1)
