"""What moves on a terminal while rows do: a spinner, or a bar. Elsewhere nothing is drawn."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.status import Status


def _columns(width: int) -> list[ProgressColumn]:
    """Choose what fits beside a bar: on a narrow screen the pace gives way."""
    if width < 100:
        counts = TextColumn("{task.completed:,} of ~{task.total:,}")
        return [BarColumn(bar_width=12), counts, TimeRemainingColumn(compact=True)]
    return [
        SpinnerColumn(),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:,} of about {task.total:,} rows"),
        TextColumn("{task.fields[pace]}", style="dim"),
        TimeRemainingColumn(),
    ]


class Motion:
    """One thing at a time that moves.

    Args:
        console: where it is drawn, if that is a terminal and not told to be quiet.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn = console.is_terminal and not console.quiet
        self._spinner: Status | None = None
        self._bar: Progress | None = None
        self._task = TaskID(0)

    @property
    def shows_rows(self) -> bool:
        """Whether there is a bar."""
        return self._bar is not None

    def spin(self, text: str) -> None:
        """Begin to spin beside some words."""
        if self._drawn:
            self._spinner = self._console.status(text)
            self._spinner.start()

    def fill(self, rows: int) -> None:
        """Begin to fill a bar, which is full at so many rows."""
        if self._drawn:
            self._bar = Progress(*_columns(self._console.width), console=self._console, transient=True)
            self._task = self._bar.add_task("", total=max(rows, 1), pace="")
            self._bar.start()

    def came(self, rows: int, of: int, pace: str) -> None:
        """Move the bar.

        Args:
            rows: how many are through.
            of: how many there are to be.
            pace: how fast that goes, in words.
        """
        if self._bar is not None:
            self._bar.update(self._task, completed=rows, total=max(of, rows), pace=pace)

    def stop(self) -> None:
        """Take away what was drawn."""
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
