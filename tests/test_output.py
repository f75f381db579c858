"""stdout that nobody reads, or that takes nothing more: a clear end, and no row lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import Pair, programs

TABLE = "askwealth.message"
FULL = Path("/dev/full")

needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full on this system")


def run(pair: Pair, words: str, out: str | int = "", err: str = "") -> programs.Done:
    """Run pgpull.

    Args:
        pair: the two databases.
        words: what follows the program's name.
        out: where its stdout goes: the path of a file, or the number of an open one.
        err: where its stderr goes: the path of a file.
    """
    command = [sys.executable, "-m", "pgpull", *words.split()]
    env = {**os.environ, "SERVER_DB_URL": pair.source_url, "LOCAL_DB_URL": pair.target_url}
    with ExitStack() as stack:

        def number(file: str | int) -> int | None:
            return (
                stack.enter_context(Path(file).open("w")).fileno() if isinstance(file, str) and file else None
            )

        stdout = out if isinstance(out, int) else number(out)
        return programs.run(command, env, stdout=stdout, stderr=number(err))


@pytest.fixture
def full(pair: Pair) -> Pair:
    pair.add_messages("source", 300)
    return pair


@pytest.mark.parametrize("words", [f"pull {TABLE}", f"status {TABLE}", f"pull {TABLE} --json --quiet"])
def test_a_pipe_that_nobody_reads_ends_it_without_a_word(full: Pair, words: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # before the first word comes
    done = run(full, words, writer)
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == ""
    [(rows,)] = full.target(f"select count(*) from {TABLE}")
    assert rows in (0, 300)


@pytest.mark.parametrize("words", ["--help", "pull --help", "--version"])
def test_a_page_that_nobody_reads_ends_as_any_program_does(words: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = programs.run([sys.executable, "-m", "pgpull", *words.split()], os.environ, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_the_first_lines_are_enough_for_head(full: Pair) -> None:
    with subprocess.Popen(["head", "-n", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as head:
        assert head.stdin
        done = run(full, f"status {TABLE}", head.stdin.fileno())
        shown, _ = head.communicate()
    assert shown.startswith(b"SERVER postgresql://")
    assert done.stderr == ""
    assert done.returncode in (0, 141)  # it may have said all before head left


@needs_full
@pytest.mark.parametrize("words", ["", " --json", " --verbose"])
def test_a_full_disk_loses_no_row_and_is_told(full: Pair, words: str) -> None:
    done = run(full, f"pull {TABLE}{words}", "/dev/full")
    assert done.returncode == 6
    told = [line for line in done.stderr.splitlines() if "stdout" in line]
    assert told == ["stdout cannot be written any more: No space left on device; what was asked for goes on"]
    assert "internal error" not in done.stderr
    assert full.same(TABLE)


@needs_full
def test_what_went_wrong_comes_before_what_could_not_be_said(full: Pair) -> None:
    assert run(full, "pull askwealth.no_such_table --json", "/dev/full").returncode == 3
    assert run(full, "diff askwealth.message", "/dev/full").returncode == 5


@needs_full
def test_a_full_stderr_ends_nothing(full: Pair) -> None:
    assert run(full, f"pull {TABLE} --json", err="/dev/full").returncode == 0
    assert full.same(TABLE)


def test_a_closed_stdout_is_no_error_and_nothing_else_is_taken_for_it(full: Pair) -> None:
    env = {**os.environ, "SERVER_DB_URL": full.source_url, "LOCAL_DB_URL": full.target_url}
    command = ["sh", "-c", f'exec "$0" -m pgpull pull {TABLE} --verbose >&-', sys.executable]
    done = subprocess.run(command, env=env, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert full.same(TABLE)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_name_that_the_screen_has_no_letters_for_is_spelled_out(pair: Pair, encoding: str) -> None:
    for each in (pair.source, pair.target):
        each('create table "t\N{GRINNING FACE}" (id int primary key)')
    pair.source('insert into "t\N{GRINNING FACE}" values (1)')
    env = {"SERVER_DB_URL": pair.source_url, "LOCAL_DB_URL": pair.target_url, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "pgpull", "pull", "t\N{GRINNING FACE}"]
    done = subprocess.run([*command, "--json"], env=os.environ | env, capture_output=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout.decode(encoding))["table"] == 'public."t\N{GRINNING FACE}"'
    if encoding != "utf-8":
        assert rb"\U0001f600" in done.stderr


@needs_full
def test_help_that_cannot_be_written_is_no_traceback(pair: Pair) -> None:
    for words in ("--version", "pull --help"):
        done = run(pair, words, "/dev/full")
        assert done.returncode != 0
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
