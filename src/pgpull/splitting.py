"""CSV as COPY writes it, cut into records; no value is decoded, or looked at, on the way. Pure.

A record ends with a line break outside of quotes, and a quote in a value is doubled: so a line on which the
quotes are odd in number begins a record that goes on, or ends one (manual: COPY, "CSV Format").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

_CELL: Final = re.compile(rb'(?:"([^"]*(?:""[^"]*)*)"|([^,"]*))(?:,|\Z)')


_LONGEST: Final = 2 * 2**30
"""Bytes, more than any record of COPY's has: a row has less than 1 GB, in which each quote may be doubled."""


class CutShort(Exception):
    """The bytes end in the middle of a record, or what looks like one has no end."""


def records(chunks: Iterable[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut CSV into whole records, without the line breaks that end them, some at a time.

    Args:
        chunks: the bytes, in any pieces.

    Raises:
        CutShort: they end in the middle of a record.
    """
    begun: list[bytes] = []
    """The lines so far of a record that goes on."""
    length = 0
    for lines in _lines(chunks):
        length = length + sum(map(len, lines)) if begun else 0
        if length > _LONGEST:
            raise CutShort
        odd = [place for place, line in enumerate(lines) if line.count(b'"') & 1]
        found = _joined(lines, odd, begun) if odd or begun else lines
        if found:
            yield found
    if begun:
        raise CutShort


def _lines(chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield whole lines; what is left of a chunk stays in pieces, as a line may be longer than many."""
    rest: list[bytes] = []
    length = 0
    for chunk in chunks:
        first, *lines = chunk.split(b"\n")
        rest.append(first)
        length += len(first)
        if length > _LONGEST:
            raise CutShort
        if lines:
            lines.insert(0, b"".join(rest))
            rest = [lines.pop()]
            length = len(rest[0])
            yield lines
    if any(rest):
        raise CutShort


def _joined(lines: Sequence[bytes], odd: Sequence[int], begun: list[bytes]) -> list[bytes]:
    """Put lines together that are one record; ``begun`` keeps those of the last, if it goes on."""
    found: list[bytes] = []
    at = 0
    for place in odd:
        if begun:
            found.append(b"\n".join([*begun, *lines[at : place + 1]]))
            begun.clear()
        else:
            found += lines[at:place]
            begun.append(lines[place])
        at = place + 1
    (begun if begun else found).extend(lines[at:])
    return found


def cells(record: bytes) -> list[bytes | None]:
    """Take a record apart; what is empty and not quoted is NULL."""
    found: list[bytes | None] = []
    at = 0
    while (match := _CELL.match(record, at)) is not None:
        quoted, plain = match.groups()
        found.append(plain or None if quoted is None else quoted.replace(b'""', b'"'))
        at = match.end()
        if match[0][-1:] != b",":
            break
    return found


def record(values: Iterable[bytes | None]) -> bytes:
    """Put values together as a record: each in quotes, so that NULL is apart from empty."""
    return b",".join(b"" if value is None else b'"' + value.replace(b'"', b'""') + b'"' for value in values)
