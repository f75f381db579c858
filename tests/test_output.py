"""stdout that nobody reads, or that takes nothing more: a clear end, and no row lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import Pair

TABLE = "askwealth.message"
FULL = Path("/dev/full")

needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full on this system")


def run(pair: Pair, words: str, into: str) -> subprocess.CompletedProcess[str]:
    """Run pgpull in a shell; ``into`` says where its stdout goes. Its exit code goes to a file."""
    variables = {"SERVER_DB_URL": pair.source_url, "LOCAL_DB_URL": pair.target_url}
    command = f"{{ {sys.executable} -m pgpull {words}; echo $? > code; }} {into}"
    return subprocess.run(
        ["sh", "-c", command], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )


def code() -> int:
    return int(Path("code").read_text())


@pytest.fixture
def full(pair: Pair) -> Pair:
    pair.add_messages("source", 300)
    return pair


@pytest.mark.parametrize("words", [f"pull {TABLE}", f"status {TABLE}", f"pull {TABLE} --json --quiet"])
def test_a_pipe_that_nobody_reads_ends_it_without_a_word(full: Pair, words: str) -> None:
    # the reader is gone before the first word comes
    done = run(full, words, "| (exec <&-; sleep 0.1)")
    assert code() == 141
    assert done.stderr == ""
    [(rows,)] = full.target(f"select count(*) from {TABLE}")
    assert rows in (0, 300)


def test_the_first_lines_are_enough_for_head(full: Pair) -> None:
    done = run(full, f"status {TABLE}", "| head -n 1")
    assert done.stdout.startswith("SERVER postgresql://")
    assert done.stderr == ""
    assert code() in (0, 141)  # it may have said all before head left


@needs_full
@pytest.mark.parametrize("words", ["", " --json", " --verbose"])
def test_a_full_disk_loses_no_row_and_is_told(full: Pair, words: str) -> None:
    done = run(full, f"pull {TABLE}{words}", "> /dev/full")
    assert code() == 6
    told = [line for line in done.stderr.splitlines() if "stdout" in line]
    assert told == ["stdout cannot be written any more: No space left on device; what was asked for goes on"]
    assert "internal error" not in done.stderr
    assert full.same(TABLE)


@needs_full
def test_what_went_wrong_comes_before_what_could_not_be_said(full: Pair) -> None:
    run(full, "pull askwealth.no_such_table --json", "> /dev/full")
    assert code() == 3
    run(full, "diff askwealth.message", "> /dev/full")
    assert code() == 5


@needs_full
def test_a_full_stderr_ends_nothing(full: Pair) -> None:
    run(full, f"pull {TABLE} --json 2> /dev/full", "")
    assert code() == 0
    assert full.same(TABLE)


@needs_full
def test_help_that_cannot_be_written_is_no_traceback(pair: Pair) -> None:
    for words in ("--version", "pull --help"):
        done = run(pair, words, "> /dev/full")
        assert code() != 0
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
