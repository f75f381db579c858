"""A page of help says all there is, in a shape that suits what it is shown on."""

from __future__ import annotations

import json
import os
import pty
import re
import select
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from typer.main import get_command

from pgpull.cli import app
from pgpull.pages import CODES, prose_of
from tests.conftest import Say
from tests.support import programs
from tests.test_cli import PGPULL, SCRIPT, TABLES, call, squeezed

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]


def on_terminal(*words: str, columns: int, **environment: str) -> str:
    """Return what a program prints on a terminal."""
    leader, follower = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "CI", "COLUMNS")}
    env = {**kept, "TERM": "xterm", "COLUMNS": str(columns), **environment}
    shown = b""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(programs.run, [*PGPULL, *words], env, stdout=follower, stderr=follower)
        while select.select([leader], [], [], 0.02)[0] or not running.done():
            shown += os.read(leader, 65_536) if select.select([leader], [], [], 0)[0] else b""
    os.close(leader)
    os.close(follower)
    assert running.result().returncode == 0
    return shown.decode().replace("\r\n", "\n")


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_says_what_it_does_with_examples_and_exit_codes(name: str, say: Say) -> None:
    _, shown, _ = say(name, "--help")
    prose = prose_of(COMMANDS[name].help)
    assert prose.summary.endswith(".")
    assert prose.more
    assert prose.examples
    assert all(line.startswith(f"pgpull {name}") and meaning for line, meaning in prose.examples)
    for piece in (prose.summary, *prose.more, *(part for pair in prose.examples for part in pair)):
        assert squeezed(piece) in squeezed(shown)
    for code, meaning in prose.codes:
        assert f"{code} {meaning}" in squeezed(shown)
    assert "0" in {code for code, _ in prose.codes}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_stands_in_a_panel_by_its_purpose_and_says_what_it_takes(name: str) -> None:
    for option in (each for each in COMMANDS[name].params if each.param_type_name == "option"):
        assert option.rich_help_panel, option.opts
        assert option.help, option.opts
        assert option.is_flag or option.metavar, option.opts


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_a_page_fits_its_screen_and_is_never_too_wide_to_read(columns: int) -> None:
    shown = plain(on_terminal("pull", "--help", columns=columns))
    assert max(map(len, shown.splitlines())) == min(columns, 100)
    assert "╭─ Which rows ─" in shown
    assert "--no-row-versions" in shown
    assert "…" not in shown


def test_a_pipe_gets_plain_lines_without_boxes_colours_and_spaces_at_the_end(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, shown, _ = say("pull", "--help")
    assert shown.isascii()
    assert "\x1b" not in shown
    assert not re.search(r" +$", shown, re.MULTILINE)
    assert max(map(len, shown.splitlines())) <= 80
    assert re.search(r"^  --since DATE +Start of the window, included\.$", shown, re.MULTILINE)


def test_no_color_is_heeded_on_a_terminal() -> None:
    coloured = r"\x1b\[[0-9;]*3[0-7]m"
    assert re.search(coloured, on_terminal("check", "--help", columns=80))
    assert not re.search(coloured, on_terminal("check", "--help", columns=80, NO_COLOR="1"))


def test_the_scripts_have_pages_of_the_same_kind() -> None:
    for script in (SCRIPT, TABLES):
        shown = call(script, "--help").stdout
        assert "Which rows:" in shown
        assert f"4    {CODES[4][1]}" in shown


@pytest.mark.parametrize(
    ("words", "fact", "hint"),
    [
        (["exprot", "s.t"], "No such command 'exprot'", "did you mean pgpull export?"),
        (["everything"], "No such command 'everything'", "see: pgpull --help"),
        (["pull"], "Missing argument 'SCHEMA.TABLE...'", "see: pgpull pull --help"),
        (["pull", "s.t", "--sinc", "2025-01-01"], "No such option: --sinc", "see: pgpull pull --help"),
        (["pull", "s.t", "--jobs", "0"], "Invalid value for '--jobs': ", "see: pgpull pull --help"),
        (["pull", "s.t", "--jobs", "x"], "Invalid value for '--jobs': 'x' is not ", "see: pgpull pull --help"),
        (
            ["status", "s.t", "--by", "hour"],
            "Invalid value for '--by': 'hour' is not one of ",
            "see: pgpull status --help",
        ),
    ],
)
def test_words_that_are_not_known_are_told_as_every_error_is(
    words: list[str], fact: str, hint: str, say: Say
) -> None:
    code, out, err = say(*words)
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"error: {re.escape(fact)}.*\nhint: {re.escape(hint)}\n", err)
    assert "Input should" not in err
    code, out, _ = say(*words, "--json")
    told = json.loads(out)
    assert told["error"].startswith(fact)
    assert (code, told["hint"], told["exit_code"]) == (2, hint, 2)


def test_without_a_word_the_page_is_shown(say: Say) -> None:
    code, out, err = say()
    assert (code, err) == (2, "")
    assert "Commands:" in out


def test_a_docstring_is_read_as_its_page() -> None:
    prose = prose_of(
        "Do it.\n\n    More\n    of it.\n\n    Examples:\n        a b\n            For c\n            and d.\n"
    )
    assert prose.more == ("More of it.",)
    assert prose.examples == (("a b", "For c and d."),)
    assert prose.codes == CODES
    closer = prose_of("Do it.\n\n    Exit codes:\n        0    well\n        130  ended\n")
    assert closer.codes == (("0", "well"), ("130", "ended"))
    assert prose_of("") == prose_of("\n")
