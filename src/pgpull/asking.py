"""Commands of the user's that print what is secret: run, and never shown."""

from __future__ import annotations

import subprocess
import threading
import time
from typing import Final

from pgpull.errors import SettingsError

COMMAND_SECONDS: Final = 60

FRESH_SECONDS: Final = 10.0
"""How long a printed password is given to further connections, before the command is run again."""


def printed(command: str, name: str, what: str) -> str:
    """Run a command, and return the one line that it prints, without the line's end.

    What it says on stderr, a login prompt perhaps, is the user's to see.

    Args:
        command: words for the shell.
        name: the setting that holds it, for the error message.
        what: what it is to print, likewise.

    Raises:
        SettingsError: it prints nothing, or more than a line, or fails, or takes longer than a minute.
    """
    try:
        done = subprocess.run(command, shell=True, check=False, stdout=subprocess.PIPE, timeout=COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        raise SettingsError(
            f"{name} printed nothing within {COMMAND_SECONDS} s", "run it by hand: does it wait?"
        ) from None
    text = done.stdout.removesuffix(b"\n").removesuffix(b"\r")
    hint = f"run it by hand; it has to print the {what} and nothing else"
    if done.returncode != 0 or not text.strip():
        raise SettingsError(
            f"{name} gave no {what}: exit status {done.returncode}, {len(done.stdout)} characters printed", hint
        )
    if b"\n" in text or b"\0" in text:
        raise SettingsError(f"{name} printed {text.count(bytes([10])) + 1} lines, not one", hint)
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise SettingsError(f"{name} printed what is not UTF-8 text", hint) from None


class Passwords:
    """Passwords that commands print; each is good for the connections of the next few seconds."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, str]] = {}
        self._turn = threading.Lock()

    def ask(self, command: str, name: str) -> tuple[str, bool]:
        """Return the password that a command prints, and whether it is new, or one of some seconds ago.

        Args:
            command: words for the shell.
            name: the setting that holds it, for the error message.

        Raises:
            SettingsError: it prints none.
        """
        with self._turn:
            at, password = self._known.get(command, (0.0, ""))
            if password and time.monotonic() - at < FRESH_SECONDS:
                return password, False
            self._known.pop(command, None)
            password = printed(command, name, "password")
            self._known[command] = time.monotonic(), password
            return password, True

    def forget(self, command: str, password: str) -> None:
        """Let the command be run again next time, as a server did not take its password.

        Args:
            command: the command.
            password: what was not taken; a newer one stays.
        """
        with self._turn:
            if self._known.get(command, (0.0, ""))[1] == password:
                del self._known[command]
