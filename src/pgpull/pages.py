"""Pages of help: what a command does, its options by purpose, examples, exit codes. Pure, but for the console.

A command's docstring is its page. After what it does come two sections, if it has them: ``Examples:``, each a
command with what it is for below it, further in; and ``Exit codes:``, each a number and what it means.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

# What options are for, in the order in which a page has them.
ROWS: Final = "Which rows"
WRITING: Final = "How they are written here"
ARCHIVE: Final = "The archive"
ALONG: Final = "What comes along"
SAFETY: Final = "To be on the safe side"
SERVER: Final = "Load on the server"
SETTINGS: Final = "Settings"
OUTPUT: Final = "Output"
_OTHER: Final = "Options"
HELP: Final = "Help"
_ORDER: Final = (ROWS, WRITING, ARCHIVE, ALONG, SAFETY, SERVER, _OTHER, SETTINGS, OUTPUT, HELP)

CODES: Final = (
    ("0", "every row in scope is in"),
    ("1", "a bug in pgpull"),
    ("2", "an option or a setting makes no sense"),
    ("3", "nothing was written: no connection, an unsafe target, two sides that do not fit"),
    ("4", "not every row is in: some were refused, or the run ended early; whole batches are in"),
    ("5", "the two sides differ"),
    ("6", "all is done, and stdout could not be written"),
    ("130", "you pressed Ctrl-C; whole batches are in"),
)
"""What exit codes mean, where a command says nothing closer."""

Pairs = Sequence[tuple[str, str]]

_WIDEST: Final = 100
"""Columns that a page has at most: longer lines are hard to read."""
_NARROW: Final = 70
"""On a screen with fewer columns, what an option means stands below it."""
_WIDEST_NAME: Final = 28


@dataclass(frozen=True, slots=True)
class Entry:
    """An option, an argument or a command, and what it means."""

    name: str
    meaning: str
    panel: str = _OTHER
    default: str = ""

    @property
    def whole_meaning(self) -> str:
        """What it means, and what holds without it."""
        return f"{self.meaning.rstrip('.')} (default: {self.default})." if self.default else self.meaning


@dataclass(frozen=True, slots=True)
class Prose:
    """What a docstring says."""

    summary: str = ""
    more: tuple[str, ...] = ()
    examples: Pairs = ()
    codes: Pairs = CODES


@dataclass(frozen=True, slots=True)
class Page:
    """A page of help."""

    usage: str
    prose: Prose
    commands: tuple[Entry, ...]
    arguments: tuple[Entry, ...]
    options: tuple[Entry, ...]


def prose_of(docstring: str) -> Prose:
    """Read what a docstring says: its paragraphs, and the sections that it may end with."""
    text, _, codes = inspect.cleandoc(docstring).partition("\nExit codes:\n")
    text, _, examples = text.partition("\nExamples:\n")
    summary, *more = (" ".join(part.split()) for part in text.strip().split("\n\n"))
    return Prose(summary, tuple(more), tuple(_examples(examples)), tuple(_codes(codes)) or CODES)


def _examples(section: str) -> Iterator[tuple[str, str]]:
    """Yield each command, and what it is for, which stands below it and further in."""
    lines = inspect.cleandoc("\n" + section).splitlines()
    starts = [at for at, line in enumerate(lines) if line and not line.startswith(" ")]
    for start, end in pairwise([*starts, len(lines)]):
        yield lines[start], " ".join(" ".join(lines[start + 1 : end]).split())


def _codes(section: str) -> Iterator[tuple[str, str]]:
    for line in section.split("\n"):
        code, _, meaning = line.strip().partition(" ")
        if code:
            yield code, meaning.strip()


# --- on the screen ---------------------------------------------------------------------------------------


def show(page: Page, console: Console) -> None:
    """Print a page: in panels on a terminal, as plain lines into a pipe."""
    with console.capture() as capture:
        _lay_out(page, console)
    lines = capture.get().rstrip().splitlines()
    console.file.write("".join(f"{line.rstrip()}\n" for line in lines))  # cells are filled up with spaces


def _lay_out(page: Page, console: Console) -> None:
    width = min(console.width, _WIDEST)
    console.print(Text.assemble(("Usage: ", "yellow"), (page.usage, "bold")), width=width)
    for text in (page.prose.summary, *page.prose.more):
        console.print()
        console.print(Text(text, "" if text is page.prose.summary else "dim"), width=width)
    console.print()
    for title, body in _sections(page, stacked=console.width < _NARROW):
        _section(console, title, body, width)


def _sections(page: Page, *, stacked: bool) -> Iterator[tuple[str, Table]]:
    panels = [("Commands", page.commands), ("Arguments", page.arguments)]
    panels += [(title, _of(page.options, title)) for title in _titles(page.options)]
    longest = _longest((*page.arguments, *page.options))
    for title, entries in panels:
        if entries:
            pairs = [(entry.name, entry.whole_meaning) for entry in entries]
            width = _longest(entries) if entries is page.commands else longest
            yield title, _stacked(pairs, "cyan") if stacked else _aligned(pairs, width, "cyan")
    if page.prose.examples:
        yield "Examples", _stacked(page.prose.examples, "green")
    yield "Exit codes", _aligned(page.prose.codes, 3, "yellow")


def _longest(entries: Iterable[Entry]) -> int:
    return min(max((len(entry.name) for entry in entries), default=0), _WIDEST_NAME)


def _titles(options: Iterable[Entry]) -> list[str]:
    """Return the purposes there are, in order; one that we do not know goes before the settings."""
    found = dict.fromkeys(entry.panel for entry in options)
    known = {title: place for place, title in enumerate(_ORDER)}
    return sorted(found, key=lambda title: known.get(title, known[_OTHER]))


def _of(options: Iterable[Entry], title: str) -> tuple[Entry, ...]:
    return tuple(entry for entry in options if entry.panel == title)


def _aligned(pairs: Pairs, longest: int, style: str) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    grid.add_column(style=style, width=longest, overflow="fold")
    grid.add_column(ratio=1)
    for name, meaning in pairs:
        grid.add_row(Text(name), Text(meaning))
    return grid


def _stacked(pairs: Pairs, style: str) -> Table:
    grid = Table.grid(expand=True)
    for name, meaning in pairs:
        grid.add_row(Text(name, style))
        grid.add_row(Padding(Text(meaning), (0, 0, 0, 4)))
    return grid


def _section(console: Console, title: str, body: Table, width: int) -> None:
    if console.is_terminal:
        panel = Panel(body, title=f"[bold]{title}[/]", title_align="left", border_style="dim")
        console.print(panel, width=width)
        return
    console.print(f"{title}:")
    console.print(Padding(body, (0, 0, 1, 2)), width=width)
