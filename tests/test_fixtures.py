"""The fixtures for pytest: each test has a database of its own, seeded with rows of the server."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psycopg
import pytest

from tests.conftest import MakePair
from tests.support import Pair, programs
from tests.test_docs import ROOT, blocks

EXAMPLE = ROOT / "examples" / "pytest_thread"

CONFTEST = """
import pytest

pytest_plugins = ["pgpull.fixtures"]


@pytest.fixture(scope="session")
def pgpull_server():
    return SERVER


@pytest.fixture(scope="session")
def pgpull_prepare():
    def prepare(seed):
        seed("askwealth.message", since="2025-01-01", until="2025-01-02")

    return prepare
"""

COUNTS = """
import psycopg
import pytest


def rows(url):
    with psycopg.connect(url) as connection:
        connection.execute("delete from askwealth.message where role = 'user'")
        return connection.execute("select count(*) from askwealth.message").fetchone()[0]


@pytest.mark.parametrize("n", range(3))
def test_alone(n, pgpull_database):
    assert rows(pgpull_database) == 12


def test_more(pgpull_database, pgpull_seed):
    assert pgpull_seed("askwealth.message").tally.inserted == 76
    assert rows(pgpull_database) == 50
"""


def run(folder: Path, *words: str, **environment: str) -> programs.Done:
    """Run pytest as a user does."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("SERVER_DB", "LOCAL_DB", "PG", "PYTEST"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, str(folder)]
    return programs.run(command, {**kept, **environment})


@pytest.fixture
def production(make_pair: MakePair) -> Pair:
    pair = make_pair(target_schema="")
    pair.add_messages("source", 100)
    return pair


@pytest.fixture
def tests(own_folder: Path, production: Pair) -> Path:
    """Make a folder of tests whose databases are made beside the pair's."""
    server = f"SERVER = {production.target_url!r}\n"
    (own_folder / "conftest.py").write_text(server + CONFTEST)
    (own_folder / "test_counts.py").write_text(COUNTS)
    return own_folder


def databases(pair: Pair) -> set[str]:
    with psycopg.connect(pair.target_url) as connection:
        return {name for (name,) in connection.execute("select datname from pg_database")}


def test_the_example_works_with_a_private_postgres_and_one_url(production: Pair) -> None:
    done = run(EXAMPLE, SERVER_DB_URL=production.source_url)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_the_page_shows_the_example_as_it_is() -> None:
    shown = blocks(ROOT / "docs" / "testing.md", "python")
    assert shown[:2] == [(EXAMPLE / name).read_text() for name in ("conftest.py", "test_thread.py")]


def test_the_rules_for_masks_hold_in_tests_as_well(production: Pair, tests: Path) -> None:
    (tests / "pgpull.toml").write_text(
        '[tables."askwealth.message".mask]\nparts = { constant = "x" }\nrole = "hash"\n'
    )
    url = f"\n\n@pytest.fixture(scope='session')\ndef pgpull_source():\n    return {production.source_url!r}\n"
    (tests / "conftest.py").write_text((tests / "conftest.py").read_text() + url)
    (tests / "test_counts.py").write_text(
        "import psycopg\n\ndef test_it(pgpull_database, pgpull_seed):\n"
        "    pgpull_seed('askwealth.message')\n"
        "    with psycopg.connect(pgpull_database) as connection:\n"
        "        found = connection.execute('select parts, count(*) from askwealth.message group by 1')\n"
        "        assert found.fetchall() == [('x', 100)]\n"
    )
    done = run(tests, PGPULL_MASK_KEY="a key that nobody guesses")
    assert "1 passed" in done.stdout, done.stdout


def test_no_test_sees_what_another_did_and_nothing_is_left_behind(production: Pair, tests: Path) -> None:
    before = databases(production)
    done = run(tests, "-n", "2", SERVER_DB_URL=production.source_url)
    assert "4 passed" in done.stdout, done.stdout
    assert databases(production) == before


def test_without_settings_a_test_fails_with_the_hint_and_no_traceback(tests: Path) -> None:
    done = run(tests, "-k", "more")
    assert done.returncode == 1
    assert "neither SERVER_DB_URL nor SERVER_DB_HOST" in done.stdout
    assert "hint: copy .env.example to .env" in done.stdout
    assert "Traceback" not in done.stdout
    assert "settings.py" not in done.stdout


def test_a_seed_that_fails_or_lets_a_row_be_refused_fails_the_test(tests: Path, production: Pair) -> None:
    (tests / "test_counts.py").write_text(
        "import psycopg\n\n\ndef test_it(pgpull_seed):\n"
        "    pgpull_seed('askwealth.message', 'askwealth.nowhere')\n\n\n"
        "def test_another(pgpull_database, pgpull_seed):\n"
        "    with psycopg.connect(pgpull_database) as connection:\n"
        "        connection.execute('alter table askwealth.message add check (role is null)  not valid')\n"
        "    pgpull_seed('askwealth.message')\n"
    )
    done = run(tests, SERVER_DB_URL=production.source_url)
    assert "2 failed" in done.stdout
    assert "no table askwealth.nowhere" in done.stdout
    assert "were refused, more than 0 allowed" in done.stdout


def test_nobody_has_the_fixtures_who_has_not_asked_for_them(own_folder: Path) -> None:
    (own_folder / "test_it.py").write_text("def test_it(pgpull_database):\n    pass\n")
    done = run(own_folder)
    assert "fixture 'pgpull_database' not found" in done.stdout
