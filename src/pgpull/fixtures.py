"""Fixtures for pytest: a database of its own for each test, seeded with rows of the server.

Who wants them says so in the ``conftest.py`` at the root of their tests; nobody else has them loaded::

    pytest_plugins = ["pgpull.fixtures"]

A session has one Postgres and one template; each test gets a copy of that, which takes a moment, and may do
with it what it likes. What the template holds, a fixture ``pgpull_prepare`` of yours says; ``pgpull_server``
and ``pgpull_source`` may be put in place of these, too.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg.sql import Composed

from pgpull import embedded
from pgpull.config_file import recipes
from pgpull.endpoints import Endpoint, endpoint_of
from pgpull.errors import PgpullError
from pgpull.seeding import Prepare, Seed, seed_of
from pgpull.settings import load_source, mask_key
from pgpull.sql import databases

_FOR_TESTS: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""What is lost when the machine fails is made anew."""


# --- to be put in the place of, where need be ------------------------------------------------------------


@pytest.fixture(scope="session")
def pgpull_source() -> str | Endpoint:
    """Name the database that rows come from: the server of the settings, ``SERVER_DB_URL`` and its kin."""
    try:
        return load_source()
    except PgpullError as error:
        pytest.fail(_told(error), pytrace=False)


@pytest.fixture(scope="session")
def pgpull_prepare() -> Prepare | None:
    """Say what every test's database holds: a function that is given a seed, once in a session."""
    return None


@pytest.fixture(scope="session")
def pgpull_server() -> Iterator[str]:
    """Give the URL of a Postgres where databases may be made: a private one, gone after the session."""
    # not pytest's own folder: each of its sessions closes that to other accounts, and root's servers have one
    folder = Path(tempfile.mkdtemp(prefix="pgpull-"))
    try:
        yield embedded.start(folder, settings=_FOR_TESTS)
    except PgpullError as error:
        pytest.fail(_told(error), pytrace=False)
    finally:
        embedded.remove(folder)
        shutil.rmtree(folder, ignore_errors=True)  # where it did not come to a server


# --- to be used ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def pgpull_template(
    pgpull_server: str, pgpull_prepare: Prepare | None, request: pytest.FixtureRequest
) -> Iterator[str]:
    """Make the database that tests get copies of, and return its name."""
    name = f"pgpull_{uuid4().hex[:8]}"
    _do(pgpull_server, databases.create(name))
    try:
        if pgpull_prepare:
            folder: Path = request.getfixturevalue("tmp_path_factory").mktemp("pgpull_rejects")
            source: str | Endpoint = request.getfixturevalue("pgpull_source")
            pgpull_prepare(_seed(source, _url(pgpull_server, name), folder))
        yield name
    finally:
        _do(pgpull_server, databases.end_sessions(name), databases.drop(name))


_numbers = count(1)


@pytest.fixture
def pgpull_database(pgpull_server: str, pgpull_template: str) -> Iterator[str]:
    """Give the URL of a database of the test's own, a copy of the template."""
    name = f"{pgpull_template}_{next(_numbers)}"
    _do(pgpull_server, databases.clone(name, pgpull_template))
    try:
        yield _url(pgpull_server, name)
    finally:
        _do(pgpull_server, databases.end_sessions(name), databases.drop(name))


@pytest.fixture
def pgpull_seed(pgpull_database: str, pgpull_source: str | Endpoint, tmp_path: Path) -> Seed:
    """Bring rows of the server into the test's own database: ``pgpull_seed("askwealth.message", ...)``."""
    return _seed(pgpull_source, pgpull_database, tmp_path)


def _seed(source: str | Endpoint, target: str, folder: Path) -> Seed:
    """Make a seed under the masks of the ``pgpull.toml`` that holds here, as for every other pull."""
    try:
        server = endpoint_of(source, "source")
        if not server.mask_key:
            server = replace(server, mask_key=mask_key())
        return seed_of(server, target, folder, recipes().masks)
    except PgpullError as error:
        pytest.fail(_told(error), pytrace=False)


def _do(server: str, *statements: Composed) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def _url(server: str, database: str) -> str:
    return urlsplit(server)._replace(path=f"/{quote(database)}").geturl()


def _told(error: PgpullError) -> str:
    return f"{error.message}\nhint: {error.hint}" if error.hint else error.message
