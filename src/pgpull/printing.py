"""The ways out: lines to a terminal or a pipe, to a log file, or one JSON object."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pgpull import outlets
from pgpull.logfile import open_log


class Printer:
    """What is said, and where it goes.

    Args:
        machine: one JSON object goes to stdout, and what is for people to stderr.
        quiet: for people, only what went wrong.
        log_file: where the same facts go, with their times in UTC.

    Raises:
        SettingsError: the log file cannot be opened.
    """

    def __init__(self, *, machine: bool = False, quiet: bool = False, log_file: Path | None = None) -> None:
        self.machine, self.quiet = machine, quiet
        self._stdout, stderr = outlets.stdout(self._cannot_say), outlets.stderr()
        words = stderr if machine else self._stdout
        self.out = Console(file=cast(IO[str], words), highlight=False, quiet=quiet)
        self._errors = Console(file=cast(IO[str], stderr), highlight=False)
        self._log = open_log(log_file, self.warn) if log_file else None

    def close(self) -> None:
        """Let go of the log file."""
        for handler in self._log.handlers if self._log else ():
            handler.close()

    @property
    def failed(self) -> bool:
        """Whether stdout could not be written."""
        return self._stdout.failed

    def _cannot_say(self, why: str) -> None:
        self.warn(f"stdout cannot be written any more: {why}; what was asked for goes on")

    # --- for people --------------------------------------------------------------------------------------

    def say(self, text: str, style: str = "") -> None:
        """Print a line."""
        self.out.print(Text(text, style), soft_wrap=True)

    def tell(self, text: str, style: str = "") -> None:
        """Print a line, and log it."""
        self.say(text, style)
        self.record(logging.INFO, text)

    def warn(self, text: str) -> None:
        """Print a warning, and log it."""
        self.record(logging.WARNING, text)
        self.warn_aloud(text)

    def warn_aloud(self, text: str) -> None:
        """Print a warning alone."""
        self._errors.print(Text(text, "yellow"), soft_wrap=True)

    def error(self, message: str, hint: str, label: str = "error") -> None:
        """Print what went wrong and what to do, and log it.

        Args:
            message: the fact.
            hint: the next step; empty if there is none.
            label: what the line begins with.
        """
        self.record(logging.ERROR, f"{message}; hint: {hint}" if hint else message)
        self._errors.print(Text.assemble((f"{label}: ", "bold red"), message), soft_wrap=True)
        if hint:
            self._errors.print(Text.assemble(("hint: ", "bold yellow"), hint), soft_wrap=True)

    def complain(self, text: str) -> None:
        """Print a line beside an error."""
        self._errors.print(Text(text), soft_wrap=True)

    def labelled(self, lines: Sequence[tuple[str, str]]) -> None:
        """Print lines, each after its label, and log them."""
        for label, text in lines:
            self.record(logging.INFO, f"{label} {text}")
        if not self.out.is_terminal:
            widest = max(len(label) for label, _ in lines)
            for label, text in lines:
                self.say(f"{label:<{widest}} {text}")
            return
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold cyan", no_wrap=True, min_width=5)
        grid.add_column(overflow="fold")
        for label, text in lines:
            grid.add_row(label, Text(text, "yellow" if label == "NOTE" else ""))
        self.out.print(grid)

    # --- for a machine, and for later --------------------------------------------------------------------

    def json(self, facts: dict[str, object]) -> None:
        """Print the one object that a machine gets; to people, nothing."""
        if self.machine:
            text = json.dumps(facts, ensure_ascii=False)
            self._stdout.write(f"{text if self._stdout.has(text) else json.dumps(facts)}\n")
            self._stdout.flush()

    def record(self, level: int, text: str) -> None:
        """Write a line to the log file, if there is one."""
        if self._log is not None:
            self._log.log(level, "%s", text)
