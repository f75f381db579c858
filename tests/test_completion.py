"""TAB completes commands, options, recipes and tables, in the shells that people have."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import Pair, free_port, programs
from tests.test_docs import ROOT, blocks

Tab = Callable[[str], str]
"""Types words and TAB, and returns what the shell shows then."""

START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config"],
}
SETUP = {
    "bash": "PS1='READY> '; bind 'set show-all-if-ambiguous on'; bind 'set bell-style none'; ",
    "zsh": "PS1='READY> '; autoload -Uz compinit; compinit -u; unsetopt list_beep; ",
}


@pytest.fixture
def home(pair: Pair, own_folder: Path) -> Path:
    """Make a folder as a user has it: settings, recipes, and the program on the PATH."""
    (own_folder / ".env").write_text(f"LOCAL_DB_URL='{pair.target_url}'\n")
    (own_folder / "pgpull.toml").write_text(blocks(ROOT / "docs" / "recipes.md", "toml")[0])
    (own_folder / "bin").mkdir()
    (own_folder / "bin" / "pgpull").write_text(f"#!{sys.executable}\nfrom pgpull.cli import main\n\nmain()\n")
    (own_folder / "bin" / "pgpull").chmod(0o755)
    return own_folder


def environment(home: Path) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("SERVER_DB", "LOCAL_DB", "PG"))}
    path = f"{home / 'bin'}:{os.environ['PATH']}"
    return {**kept, "PATH": path, "HOME": str(home), "TERM": "dumb", "COLUMNS": "120", "LC_ALL": "C.UTF-8"}


def offered(home: Path, words: str, **more: str) -> str:
    """Ask as bash does, without one; prints what is offered, one a line."""
    asked = {
        "_PGPULL_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1 + words.endswith(" ")),
    }
    done = programs.run([sys.executable, str(home / "bin" / "pgpull")], environment(home) | asked | more)
    assert done.stderr == ""
    return done.stdout


class Shell:
    """A shell at a terminal."""

    def __init__(self, name: str, home: Path) -> None:
        self.process, self.terminal = pty.fork()
        if self.process == 0:  # pragma: no cover - the child
            os.chdir(home)
            os.execvpe(START[name][0], START[name], environment(home))
        source = f'eval "$(_PGPULL_COMPLETE=source_{name} pgpull)"'
        self.type(f"{SETUP[name]}{source}; echo SET''UP\n", "SETUP\r\n[^\n]*READY> $")

    def type(self, text: str, until: str) -> str:
        """Type, and read until a pattern is there."""
        os.write(self.terminal, text.encode())
        shown, end = "", time.monotonic() + 30
        while not re.search(until, shown):
            assert time.monotonic() < end, shown
            if select.select([self.terminal], [], [], 0.2)[0]:
                shown += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", os.read(self.terminal, 65_536).decode())
        return shown

    def close(self) -> None:
        """End it."""
        os.close(self.terminal)
        os.waitpid(self.process, 0)


@pytest.mark.parametrize("name", SETUP)
def test_tab_in_a_real_shell_completes_and_lists(name: str, home: Path) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    shell = Shell(name, home)
    try:
        shell.type("pgpull status askwealth.t\t", r"askwealth\.thread ")
        listed = shell.type("--by \t", r"(?s)day.*year")
        assert "month" in listed
    finally:
        shell.close()


def test_fish_completes_with_what_things_are_for(home: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    lines = "_PGPULL_COMPLETE=source_fish pgpull | source; complete -C 'pgpull run '"
    done = subprocess.run(
        [*START["fish"], "-c", lines],
        env=environment(home),
        cwd=home,
        text=True,
        capture_output=True,
        check=True,
    )
    assert "thread\tOne thread, with all that it refers to\n" in done.stdout
    fish = {"_PGPULL_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    options = offered(home, "", **fish, _TYPER_COMPLETE_ARGS="pgpull pull --with-p")
    assert "--with-parents\tBring the rows, too, that pulled rows refer to." in options


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("pgpull st", {"status"}),
        ("pgpull run th", {"thread"}),
        ("pgpull pull askwealth.", {"askwealth.message", "askwealth.thread"}),
        ("pgpull diff askwealth.message askwealth.t", {"askwealth.thread"}),
        ("pgpull pull x.y --exclude askwealth.m", {"askwealth.message"}),
        ("pgpull run m", {"messages"}),
        ("pgpull run messages --set t", {"to=", "thread="}),
        ("pgpull pull --on-conflict ", {"skip", "update"}),
        ("pgpull pull x.y --timezone Europe/Berl", {"Europe/Berlin"}),
        ("pgpull pull x.y --mirr", {"--mirror"}),
    ],
)
def test_what_is_offered(words: str, found: set[str], home: Path) -> None:
    assert set(offered(home, words).split()) == found


def test_tables_that_are_not_to_be_had_are_no_error_and_nobody_waits(home: Path, pair: Pair) -> None:
    for url in (
        f"postgresql://127.0.0.1:{free_port()}/app",
        "postgresql://192.0.2.1/app",
        "nonsense",
        "embedded:no",
    ):
        (home / ".env").write_text(f"LOCAL_DB_URL='{url}'\nSERVER_DB_URL='{pair.source_url}'\n")
        start = time.monotonic()
        assert offered(home, "pgpull pull askw") == "\n"
        assert time.monotonic() - start < 20
    assert not (home / "no").exists()
    (home / "pgpull.toml").write_text("this is [no TOML")
    assert offered(home, "pgpull run m") == "\n"
