"""The demo: it pulls, goes on when run again, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from dotenv import dotenv_values

from pgpull import demo, embedded
from pgpull.errors import SettingsError

COMMAND = [sys.executable, "-m", "pgpull", "demo"]


@contextmanager
def room_for_a_demo() -> Iterator[Path]:
    """Name a folder that does not exist yet, and stop the servers that are left in it."""
    # Not pytest's own: each of its sessions closes them all to other accounts, and root's servers have another.
    with tempfile.TemporaryDirectory(prefix="pgpull-") as name:
        folder = Path(name) / demo.DEFAULT_FOLDER
        yield folder
        stop_servers(folder)


def test_the_rules_of_a_project_around_it_are_not_the_demos(folder: Path) -> None:
    (folder.parent / "pgpull.toml").write_text('[mask]\n"*role*" = "hash"\n[tables.nothing.mask]\nx = "null"\n')
    runs(folder)


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """Name a folder whose servers several tests share; none of them changes a row."""
    with room_for_a_demo() as folder:
        yield folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """Name a folder of a test's own."""
    with room_for_a_demo() as folder:
        yield folder


def stop_servers(folder: Path) -> None:
    for side in ("production", "local"):
        embedded.stop(folder / side)


def runs(folder: Path, expected: int = 0, rows: int = 400, **environment: str) -> str:
    """Run the demo from the folder above its own, and return all that was printed, by the pull as well."""
    done = subprocess.run(
        [*COMMAND, "--rows", str(rows)],
        cwd=folder.parent,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == expected, done.stdout
    return done.stdout


def ask(folder: Path, side: str, question: bytes) -> object:
    url = dotenv_values(folder / ".env")[f"{side}_DB_URL"]
    with psycopg.connect(str(url)) as connection:
        cursor = connection.execute(question)
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


def test_the_demo_pulls_and_goes_on_when_run_again(shared: Path) -> None:
    said = runs(shared)
    assert "Filling production with 400 messages" in said
    assert " -m pgpull pull askwealth.message --env-file pgpull-demo/.env" in said
    assert "Local has every message in scope" in said
    pulled = ask(shared, "LOCAL", b"select count(*) from askwealth.message")
    assert f"inserted {pulled}" in said

    again = runs(shared)
    assert "400 messages from the demo before" in again
    assert f"skipped {pulled}" in again


def test_the_scope_is_most_of_production_but_not_all(shared: Path) -> None:
    said = runs(shared)
    in_scope = next(line for line in said.splitlines() if line.startswith("  production, in scope"))
    assert 200 < int(in_scope.split()[3]) < 360


def test_the_rows_are_the_same_on_every_machine(shared: Path) -> None:
    all_rows = next(line for line in runs(shared).splitlines() if line.startswith("  production   "))
    assert all_rows.split() == ["production", "400", "68d2ca9ea72d916d"]


def test_the_urls_are_closed_to_other_accounts(shared: Path) -> None:
    runs(shared)
    assert stat.S_IMODE((shared / ".env").stat().st_mode) == 0o600
    assert (shared / ".gitignore").read_text().endswith("\n*\n")
    assert sorted(p.name for p in shared.iterdir()) == [".env", ".gitignore", "local", "production"]


def test_real_databases_in_the_environment_stay_out(shared: Path) -> None:
    said = runs(
        shared,
        SERVER_DB_URL_COMMAND="echo postgresql://real.example/production",
        SERVER_DB_USER="somebody",
        LOCAL_DB_PASSWORD="secret",
        PGOPTIONS="-c default_transaction_read_only=on",
    )
    assert "Local has every message in scope" in said


def test_other_rows_make_both_sides_anew_and_a_changed_row_is_told(folder: Path) -> None:
    runs(folder, rows=100)
    assert "Filling production with 200 messages" in runs(folder, rows=200)
    assert ask(folder, "SERVER", b"select count(*) from askwealth.message") == 200
    ask(folder, "LOCAL", b"update askwealth.message set role = 'someone'")
    assert "The two sides differ" in runs(folder, expected=demo.DIFFERENT, rows=200)


def test_stopping_removes_what_it_has_made_and_nothing_else(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs(folder, rows=10)
    (folder / "notes.txt").write_text("precious")
    assert demo.stop(folder, print) == 0
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert f"kept {folder}, which holds files of others: notes.txt" in capsys.readouterr().out

    (folder / "notes.txt").unlink()
    runs(folder, rows=10)
    demo.stop(folder, print)
    assert not folder.exists()
    demo.stop(folder, print)
    assert capsys.readouterr().out == f"removed {folder}\nthere is no demo in {folder}\n"


def test_an_env_file_of_others_is_kept(folder: Path) -> None:
    folder.mkdir()
    (folder / ".env").write_text("SERVER_DB_URL=postgresql://precious\n")
    with pytest.raises(SettingsError, match="has not written") as caught:
        demo.run(folder, 10, print)
    assert "--dir" in caught.value.hint
    demo.stop(folder, print)
    assert (folder / ".env").read_text() == "SERVER_DB_URL=postgresql://precious\n"


def test_a_folder_with_rooms_of_the_same_name_is_left_alone(folder: Path) -> None:
    (folder / "production").mkdir(parents=True)
    (folder / "production" / "thesis.txt").write_text("precious")
    with pytest.raises(SettingsError, match="holds other files"):
        demo.run(folder, 10, print)
    demo.stop(folder, print)
    assert (folder / "production" / "thesis.txt").exists()


@pytest.mark.parametrize("moment", ["Filling", "$ "])
def test_an_interrupted_demo_ends_cleanly_and_goes_on(folder: Path, moment: str) -> None:
    with subprocess.Popen(
        [*COMMAND, "--rows", "4000"],
        cwd=folder.parent,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        said = next(line for line in process.stdout if line.startswith(moment))
        os.killpg(process.pid, signal.SIGINT)
        said += process.stdout.read()
    assert process.returncode == demo.INTERRUPTED, said
    assert "Traceback" not in said
    assert "interrupted; the demo goes on when run again" in said
    assert "Local has every message in scope" in runs(folder, rows=4000)
