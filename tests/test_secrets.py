"""Planted secrets are found nowhere: no message, log, report, file name, argument or environment holds them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from pgpull import PgpullError, check, pull
from pgpull.endpoints import parse_url
from pgpull.inheriting import environment
from pgpull.reporting import Reporter
from pgpull.settings import load
from tests.conftest import MakePair
from tests.support import Pair, Unavailable, free_port, programs
from tests.support.sshd import Sshd

TABLE = "askwealth.message"

# One for each place; they hold what URLs, shells and files take for something else.
IN_URL = "pLanted@1/in:url"
ALONE = "pLanted$2 al'one"
LOCAL = "pLanted%3local"
PRINTED = "pLanted#4printed"
KEY = "pLanted5maskkey"
MARK = "pLanted"
"""What all of them hold."""


def found_in(text: str) -> bool:
    return MARK.lower() in text.lower()


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("SERVER_", "LOCAL_DB"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PGPULL_MASK_KEY", KEY)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "printed").write_text(f"{PRINTED}\n")


def url(user: str = "reader", password: str = IN_URL, host: str = "127.0.0.1", port: int | str = 1) -> str:
    return f"postgresql://{user}:{quote(password, safe='')}@{host}:{port}/app"


def settings(folder: Path, **lines: str) -> None:
    """Write a .env, out of the folder that is searched; single quotes are spelled out."""
    text = "".join(f"{name}='{value.replace(chr(39), chr(92) + chr(39))}'\n" for name, value in lines.items())
    (folder / "kept" / "env").write_text(text)


def run(folder: Path, *words: str, warned: bool = False) -> programs.Done:
    """Pull as loudly as can be, and return what was said once it has been searched, and all that is left.

    Args:
        folder: where the settings are, and all that is left.
        words: what follows the program's name.
        warned: whether Python says all that it has against a program, which takes longer.
    """
    loud = ("--verbose", "--log-file", "log.txt", "--env-file", str(folder / "kept" / "env"))
    command = ["-m", "pgpull", *words, *loud]
    if warned:
        started = [sys.executable, "-X", "dev", *command]
        done = subprocess.run(started, capture_output=True, text=True, check=False)
    else:
        done = programs.run([sys.executable, *command], os.environ)
    assert not found_in(done.stdout + done.stderr), done.stdout + done.stderr
    for path in folder.rglob("*"):
        assert not found_in(str(path))
        if path.is_file() and "kept" not in path.parts:
            assert not found_in(path.read_text(errors="replace")), path
    return done


def failures(pair: Pair) -> dict[str, dict[str, str]]:
    """Name many ways to fail, each with what is set."""
    port = pair.source_server.port
    local = {"LOCAL_DB_URL": pair.target_url}
    return {
        "a wrong password": {"SERVER_DB_URL": url(port=port), **local},
        "a wrong password alone": {
            "SERVER_DB_URL": f"postgresql://reader@127.0.0.1:{port}/app",
            "SERVER_DB_PASSWORD": ALONE,
            **local,
        },
        "a wrong printed password": {
            "SERVER_DB_URL": f"postgresql://reader@127.0.0.1:{port}/app",
            "SERVER_DB_PASSWORD_COMMAND": "cat kept/printed",
            **local,
        },
        "a command that fails": {
            "SERVER_DB_HOST": "db",
            "SERVER_DB_PASSWORD_COMMAND": "cat kept/printed; exit 1",
            **local,
        },
        "a command that prints no url": {"SERVER_DB_URL_COMMAND": "cat kept/printed", **local},
        "nobody there": {"SERVER_DB_URL": url(), **local},
        "an unknown host": {"SERVER_DB_URL": url(host="no-such-host.invalid"), **local},
        "no tls": {"SERVER_DB_URL": url(host="127.1", port=port), **local},
        "a raw @ and /": {"SERVER_DB_URL": f"postgresql://u:{IN_URL}@db/app", **local},
        "a raw %": {"SERVER_DB_URL": f"postgresql://u:{LOCAL}@db/app", **local},
        "a port that is none": {"SERVER_DB_URL": url(port="5x"), **local},
        "an option that is none": {"SERVER_DB_URL": url() + f"?{MARK}=1", **local},
        "another scheme": {"SERVER_DB_URL": f"mysql://u:{MARK}@db/app", **local},
        "no url": {"SERVER_DB_URL": IN_URL, **local},
        "libpq's own form": {"SERVER_DB_URL": f"host=db password={MARK} nonsense", **local},
        "two passwords": {"SERVER_DB_URL": url(), "SERVER_DB_PASSWORD": ALONE, **local},
        "an unknown service": {"SERVER_DB_URL": f"postgresql:///app?service=nope&password={MARK}", **local},
        "a bastion that is not there": {
            "SERVER_DB_URL": url(),
            "SERVER_SSH": f"127.0.0.1:{free_port()}",
            "SERVER_SSH_OPTIONS": "-F /dev/null",
            **local,
        },
        "a wrong local password": {
            "SERVER_DB_URL": pair.source_url,
            "LOCAL_DB_URL": url(password=LOCAL, port=pair.target_server.port),
        },
        "a local host elsewhere": {"SERVER_DB_URL": pair.source_url, "LOCAL_DB_URL": url(password=LOCAL)},
    }


def test_no_failure_to_connect_shows_a_secret(pair: Pair, tmp_path: Path) -> None:
    for name, lines in failures(pair).items():
        settings(tmp_path, **lines)
        words = ["pull", TABLE, *(["--json"] if len(name) % 2 else [])]
        done = run(tmp_path, *words, warned=name == "a wrong printed password")
        assert done.returncode in (2, 3), f"{name}: {done.stderr}"
        assert "error: " in done.stderr, name
        assert "internal" not in done.stderr, name


def test_what_the_servers_say_shows_no_secret(pair: Pair, tmp_path: Path) -> None:
    pair.add_messages("source", 20)
    pair.target(f"alter table {TABLE} add check (role <> 'user')")
    for each, password in ((pair.source, IN_URL), (pair.target, LOCAL)):
        each("drop role if exists guarded", f"create role guarded superuser login password '{password}'")
    theirs = pair.url("source", user="guarded", password=IN_URL, via="tcp")
    ours = pair.url("target", user="guarded", password=LOCAL, via="tcp")
    try:
        settings(tmp_path, SERVER_DB_URL=theirs, LOCAL_DB_URL=ours)
        assert run(tmp_path, "pull", TABLE, warned=True).returncode == 4
        assert (tmp_path / f"{TABLE}.rejects.jsonl").exists()
        assert run(tmp_path, "pull", TABLE, "--json", "--where", "1 / 0 = 1").returncode == 3
        assert run(tmp_path, "pull", TABLE, "--where", "nonsense(").returncode == 3
        assert run(tmp_path, "check").returncode == 0
        assert run(tmp_path, "export", TABLE, "--to", "archive").returncode == 0
        assert (tmp_path / "archive" / "manifest.json").exists()
        settings(tmp_path, SERVER_DB_URL=theirs, LOCAL_DB_URL=theirs)
        assert "same database" in run(tmp_path, "pull", TABLE).stderr
    finally:
        pair.source("drop role guarded")
        pair.target("drop role guarded")


def test_tracebacks_and_the_loggers_of_libraries_show_no_secret(
    pair: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for lines in failures(pair).values():
        settings(tmp_path, **lines)
        try:
            both = load(tmp_path / "kept" / "env")
            assert not found_in(f"{both} {both.source!r} {both.target}")
            pull(TABLE, source=both.source, target=both.target)
        except PgpullError as error:
            chain = traceback.TracebackException.from_exception(error)
            assert not any(found_in(line) for line in plain(chain))
    assert not found_in(caplog.text)


def plain(chain: traceback.TracebackException | None) -> Iterator[str]:
    """Yield the words of an error and of all that it came from."""
    while chain is not None:
        yield from chain.format_exception_only()
        yield from (str(note) for note in getattr(chain, "__notes__", None) or ())
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)


def test_a_bug_shows_where_it_is_and_not_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    secret = IN_URL
    for machine in (False, True):
        try:
            raise ValueError(f"cannot do this with {secret}")
        except ValueError as error:
            Reporter(machine=machine, verbose=True).broke(error)
    said = capsys.readouterr()
    assert "internal error: ValueError" in said.err
    assert not found_in(said.out + said.err)


def test_a_checkup_and_its_repr_show_no_secret(pair: Pair) -> None:
    source = parse_url(url(port=pair.source_server.port), "X")
    assert not found_in(repr(check(source=source, target=pair.target_url)))


# --- programs that are started ---------------------------------------------------------------------------


def seen_of_children(command: list[str], **variables: str) -> tuple[set[str], dict[str, str]]:
    """Run a command, look at all that it starts, and return their names, and what each showed with a secret."""
    process = psutil.Popen(command, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True)
    names, shown = set[str](), dict[str, str]()
    while process.poll() is None:
        with suppress(psutil.Error):  # it ends while it is looked at
            if found_in(str(process.cmdline())):
                shown["pgpull"] = "its own arguments"
        for child in children(process):
            with suppress(psutil.Error):
                if child.name().startswith("python"):  # it is about to be another program
                    continue
                words = f"{child.cmdline()} {child.environ()}"
                names.add(child.name())
                if found_in(words):
                    shown[child.name()] = words
        time.sleep(0.002)
    process.communicate()
    assert process.returncode == 0
    return names, shown


def children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


@pytest.fixture
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    try:
        with Sshd(tmp_path_factory.mktemp("sshd")) as started:
            yield started
    except Unavailable as error:
        pytest.skip(str(error))


def test_ssh_and_pg_dump_are_given_no_secret_to_show(make_pair: MakePair, sshd: Sshd) -> None:
    pair = make_pair(schema="create table t (id int primary key)", target_schema="")
    pair.source("drop role if exists guarded", f"create role guarded superuser login password '{IN_URL}'")
    try:
        variables = {
            "SERVER_DB_URL": pair.url("source", user="guarded", via="tcp"),
            "SERVER_DB_PASSWORD": IN_URL,
            "LOCAL_DB_URL": pair.target_url,
            "PGPASSWORD": IN_URL,
            "SERVER_SSH": "bastion",
            "SERVER_SSH_OPTIONS": f"-F {sshd.folder}/ssh_config",
        }
        command = [sys.executable, "-m", "pgpull", "pull", "t", "--create-missing"]
        names, shown = seen_of_children(command, **variables)
        assert {"ssh", "pg_dump"} <= names
        assert not shown
    finally:
        pair.source("drop role guarded")


def test_what_is_handed_on_is_the_environment_less_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVER_DB_URL", "SERVER_DB_PASSWORD", "LOCAL_DB_URL", "PGPASSWORD", "PGPULL_MASK_KEY"):
        monkeypatch.setenv(name, MARK)
    monkeypatch.setenv("SSH_AUTH_SOCK", "/a/socket")
    handed = environment()
    assert not found_in(str(handed))
    assert handed["SSH_AUTH_SOCK"] == "/a/socket"
    assert handed["PATH"] == os.environ["PATH"]
