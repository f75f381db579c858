"""Where the two databases are is found as documented, and said clearly where it is not."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from pgpull.config_file import recipes
from pgpull.errors import SettingsError
from pgpull.settings import load, load_target, seen_target

LOCAL = "LOCAL_DB_URL=postgresql://localhost/app\n"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("SERVER_DB", "LOCAL_DB")):
            monkeypatch.delenv(name)


def env(folder: Path, *lines: str) -> Path:
    file = folder / ".env"
    file.write_text(LOCAL + "\n".join(lines) + "\n")
    return file


def source(file: Path | None = None) -> dict[str, str]:
    return dict(load(file).source.parameters)


def test_the_env_file_is_found_from_the_working_directory_upwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env(tmp_path, "SERVER_DB_URL=postgres://reader:pw@db:5433/app")
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert source() == {"user": "reader", "password": "pw", "host": "db", "port": "5433", "dbname": "app"}


def test_files_that_begin_with_windows_mark_are_read(tmp_path: Path) -> None:
    file = env(tmp_path, "SERVER_DB_HOST=db")
    file.write_text(f"SERVER_DB_HOST=db\n{LOCAL}", encoding="utf-8-sig")
    assert source(file) == {"host": "db"}
    (tmp_path / "pgpull.toml").write_text("[defaults]\nverify = true\n", encoding="utf-8-sig")
    assert recipes().defaults == {"verify": True}


def test_a_named_env_file_comes_in_place_of_the_found_one(tmp_path: Path) -> None:
    env(tmp_path, "SERVER_DB_HOST=found")
    (tmp_path / "other").mkdir()
    assert source(env(tmp_path / "other", "SERVER_DB_HOST=named"))["host"] == "named"


def test_the_env_file_comes_first_and_the_environment_fills_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env(tmp_path, "SERVER_DB_HOST=from-file", "SERVER_DB_USER=")
    monkeypatch.setenv("SERVER_DB_HOST", "from-environment")
    monkeypatch.setenv("SERVER_DB_USER", "reader")
    assert source() == {"host": "from-file", "user": "reader"}


def test_the_environment_alone_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "HOST": "db",
        "PORT": "6000",
        "USER": "u",
        "PASSWORD": "p",
        "NAME": "n",
        "SSLMODE": "require",
    }.items():
        monkeypatch.setenv(f"SERVER_DB_{name}", value)
    monkeypatch.setenv("LOCAL_DB_URL", "postgresql:///app")
    assert source() == {
        "host": "db",
        "port": "6000",
        "user": "u",
        "password": "p",
        "dbname": "n",
        "sslmode": "require",
    }


@pytest.mark.parametrize(
    ("written", "password"),
    [
        ("'as it is: @/#$%:?& \"x\" ${HOME} ü'", 'as it is: @/#$%:?& "x" ${HOME} ü'),
        ("pa$s#word", "pa$s#word"),
        ("${HOME}", "${HOME}"),
        (r"'it\'s'", "it's"),
    ],
)
def test_a_password_of_its_own_may_hold_any_character(tmp_path: Path, written: str, password: str) -> None:
    env(tmp_path, "SERVER_DB_URL=postgresql://u@db/app", f"SERVER_DB_PASSWORD={written}")
    assert source()["password"] == password


def test_parts_fill_in_what_a_url_leaves_out_and_do_not_contradict_it(tmp_path: Path) -> None:
    env(tmp_path, "SERVER_DB_URL=postgresql://db/app", "SERVER_DB_USER=u", "SERVER_DB_NAME=app")
    assert source() == {"host": "db", "dbname": "app", "user": "u"}
    env(tmp_path, "SERVER_DB_URL=postgresql://u:S3cret@db/app", "SERVER_DB_PASSWORD=0ther")
    with pytest.raises(SettingsError, match="SERVER_DB_URL and SERVER_DB_PASSWORD contradict") as caught:
        load()
    assert "S3cret" not in str(caught.value)


def test_a_command_may_print_the_url_of_either_side(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "SERVER_DB_URL_COMMAND=echo postgresql://u:pw@db/app\n"
        "LOCAL_DB_URL_COMMAND=echo postgresql://me:own@localhost/app\n"
    )
    assert source()["password"] == "pw"
    assert load().target.parameters["password"] == "own"
    assert seen_target() is None


@pytest.mark.parametrize("command", ["exit 3", "true", "echo S3cret", "echo 'mysql://S3cret'"])
def test_a_command_that_prints_no_url_is_an_error_without_what_it_printed(tmp_path: Path, command: str) -> None:
    env(tmp_path, f'SERVER_DB_URL_COMMAND="{command}"')
    with pytest.raises(SettingsError, match="SERVER_DB_URL_COMMAND") as caught:
        load()
    assert "S3cret" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), "the server is not set: neither SERVER_DB_URL nor SERVER_DB_HOST"),
        (("SERVER_DB_USER=u",), "the server is not set"),
        (("SERVER_DB_HOST=h", "SERVER_DB_PORT=abc"), "SERVER_DB_PORT is not a port: 'abc'"),
        (("SERVER_DB_HOST=h", "SERVER_DB_PORT=70000"), "SERVER_DB_PORT is not a port: '70000'"),
        (("SERVER_DB_URL=a", "SERVER_DB_URL_COMMAND=b"), "both set"),
        (("SERVER_DB_HOST=h", "LOCAL_DB_URL=a", "LOCAL_DB_URL_COMMAND=b"), "LOCAL_DB_URL_COMMAND are both set"),
        (("SERVER_DB_HOST=h", "SERVER_DB_PASSWORD='open"), "line 3 is not NAME=value"),
    ],
)
def test_settings_that_make_no_sense_are_named(tmp_path: Path, lines: tuple[str, ...], said: str) -> None:
    env(tmp_path, *lines)
    with pytest.raises(SettingsError) as caught:
        load()
    assert said in caught.value.message
    assert caught.value.hint


def test_an_env_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nope/\.env cannot be read: No such file"):
        load(tmp_path / "nope" / ".env")
    (tmp_path / ".env").write_bytes(b"X=\xff")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load()


def test_the_example_can_be_read_as_it_stands(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / ".env.example", tmp_path / ".env")
    settings = load()
    assert str(settings.source) == "postgresql://reader@db.example.com:5432/app"
    assert "password" not in settings.source.parameters
    assert str(settings.target) == "postgresql://localhost/app"


def test_a_home_that_nobody_has_is_named(tmp_path: Path) -> None:
    env(tmp_path, "SERVER_DB_URL=postgresql://h/d", "SERVER_DB_SSLROOTCERT=~nobody-at-all/ca.crt")
    with pytest.raises(SettingsError, match="nobody knows whose home ~nobody-at-all"):
        load()


def test_a_working_directory_that_is_gone_has_no_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        assert recipes().offers == ()
        with pytest.raises(SettingsError, match="the server is not set"):
            load()
    finally:
        os.chdir(tmp_path)


def test_settings_may_come_through_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    env(tmp_path, "SERVER_DB_URL=postgresql://wrong/app")
    os.mkfifo(folder / ".env")
    text = f"{LOCAL}SERVER_DB_URL=postgresql://right/app\n"
    writer = threading.Thread(target=(folder / ".env").write_text, args=(text,))
    writer.start()
    assert source()["host"] == "right"
    writer.join()


def test_a_service_that_nobody_defines_makes_no_two_sides_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSERVICE", "typo")
    env(tmp_path, "SERVER_DB_URL=postgresql://db/app")
    assert load_target().parameters["host"] == "localhost"
