"""In which line of a TOML file something stands, which its parser does not tell. Pure."""

from __future__ import annotations

import re
from collections import Counter

Place = tuple[str | int, ...]
"""The way to something: keys, and numbers of elements."""

_PART = r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*"""
_KEY = re.compile(rf"{_PART}(?:\.{_PART})*=")
_HEADER = re.compile(r"\s*(\[\[?)(.+?)\]\]?\s*(?:#.*)?$")
_PARTS = re.compile(_PART)


def line_of(text: str, place: Place) -> int:
    """Return the number of the line where something stands, or where the closest begins that it stands in.

    Args:
        text: the file's.
        place: the way to it.

    Returns:
        A number from 1 on.
    """
    lines = _lines(text)
    for length in range(len(place), 0, -1):
        if place[:length] in lines:
            return lines[place[:length]]
    return 1


def _lines(text: str) -> dict[Place, int]:
    """Return the lines of tables, keys, and elements of lists that begin a line."""
    found: dict[Place, int] = {}
    table: Place = ()
    counts: Counter[Place] = Counter()
    elements: Place | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table, elements = _resolved(_names(header[2]), counts), None
            if header[1] == "[[":
                counts[table] += 1
                table = (*table, counts[table] - 1)
            for length in range(1, len(table) + 1):
                found.setdefault(table[:length], number)
        elif elements is not None and line.lstrip().startswith(("{", '"', "'")):
            found.setdefault((*elements, counts[elements]), number)
            counts[elements] += 1
        elif key := _KEY.match(line):
            place = (*table, *_names(key[0].rstrip("= ")))
            found.setdefault(place, number)
            value = line[key.end() :].strip()
            elements = place if value.startswith("[") and "]" not in value else None
    return found


def _names(text: str) -> Place:
    return tuple(double or single or bare for double, single, bare in _PARTS.findall(text))


def _resolved(names: Place, counts: Counter[Place]) -> Place:
    """Go into the last element of each list of tables on the way."""
    place: Place = ()
    for name in names[:-1]:
        place = (*place, name)
        if counts[place]:
            place = (*place, counts[place] - 1)
    return (*place, *names[-1:])
