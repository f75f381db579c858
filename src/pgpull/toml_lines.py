"""In which line of a TOML file something stands, which its parser does not tell. Pure.

The text is one that ``tomllib`` has read, so that whatever it holds is well formed: here it is only walked
through, and values are stepped over.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from typing import Final

Place = tuple[str | int, ...]
"""The way to something: keys, and numbers of elements."""

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY_PART: Final = re.compile(r"""[ \t]*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)[ \t]*""")
_TEXT: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")'
    r"|'''.*?'{3,5}(?!')"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_PLAIN: Final = re.compile(r"[^,\]}#\n]*")


def line_of(text: str, place: Place) -> int:
    """Return the number of the line where something stands, or where the closest begins that it stands in.

    Args:
        text: the file's.
        place: the way to it.

    Returns:
        A number from 1 on.
    """
    found = lines(text)
    return next((found[place[:n]] for n in range(len(place), 0, -1) if place[:n] in found), 1)


def lines(text: str) -> dict[Place, int]:
    """Return the line of everything that a file holds: of its tables, their keys, and elements of lists."""
    return _Walk(text).run()


class _Walk:
    """A walk through a file under way."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._found: dict[Place, int] = {}
        self._tables: Counter[Place] = Counter()
        """How many elements a list has whose elements are headed ``[[...]]``."""

    def run(self) -> dict[Place, int]:
        """Go from the first to the last character."""
        table: Place = ()
        while self._skip_blank():
            if self._next("["):
                table = self._header()
            else:
                self._pair(table)
        return self._found

    def _next(self, sign: str) -> bool:
        return self._text.startswith(sign, self._at)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        assert match is not None, "the parser took it"
        self._at = match.end()
        return match[0]

    def _skip_blank(self) -> bool:
        """Step over blanks and comments, and tell whether anything follows."""
        self._take(_BLANK)
        return self._at < len(self._text)

    def _note(self, place: Place) -> None:
        self._found.setdefault(place, self._text.count("\n", 0, self._at) + 1)

    def _header(self) -> Place:
        """Step over ``[table]`` or ``[[list of tables]]``, and return the place that it heads."""
        many = self._next("[[")
        self._at += 2 if many else 1
        table: Place = ()
        names = self._names()
        for number, name in enumerate(names, 1):
            table = (*table, name)
            self._note(table)
            if many and number == len(names):
                self._tables[table] += 1
            if self._tables[table]:  # what follows belongs to the last element
                table = (*table, self._tables[table] - 1)
                self._note(table)
        self._at += 2 if many else 1
        return table

    def _names(self) -> list[str]:
        """Step over a key, and return its parts."""
        parts = [self._take(_KEY_PART)]
        while self._next("."):
            self._at += 1
            parts.append(self._take(_KEY_PART))
        return [_spelled_out(part.strip()) for part in parts]

    def _pair(self, table: Place) -> None:
        """Step over ``key = value``."""
        start, names = self._at, self._names()
        after, self._at = self._at, start
        for length in range(1, len(names) + 1):
            self._note((*table, *names[:length]))
        self._at = after + 1
        self._value((*table, *names))

    def _value(self, place: Place) -> None:
        self._skip_blank()
        if self._next("["):
            self._elements(place)
        elif self._next("{"):
            self._inner_table(place)
        else:
            self._take(_TEXT if self._next('"') or self._next("'") else _PLAIN)

    def _elements(self, place: Place) -> None:
        self._at += 1
        number = 0
        while self._skip_blank() and not self._next("]"):
            self._note((*place, number))
            self._value((*place, number))
            self._step_over_comma()
            number += 1
        self._at += 1

    def _inner_table(self, place: Place) -> None:
        self._at += 1
        while self._skip_blank() and not self._next("}"):
            self._pair(place)
            self._step_over_comma()
        self._at += 1

    def _step_over_comma(self) -> None:
        self._skip_blank()
        self._at += self._next(",")


def _spelled_out(name: str) -> str:
    """Return a part of a key as it is meant: without quotes, and with what a backslash stands for."""
    return name if name[0] not in "\"'" else str(tomllib.loads(f"name = {name}")["name"])
