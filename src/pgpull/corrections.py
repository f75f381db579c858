"""A rejects file read back: its lines, corrected by somebody, as rows. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pgpull.errors import UsageError
from pgpull.shapes import Shape, TableName

_HINT = "mend that line, or take it out; nothing was written"


@dataclass(frozen=True, slots=True)
class Correction:
    """A line of a rejects file."""

    number: int
    text: bytes
    """The line itself."""
    table: TableName
    values: Mapping[str, bytes | None]
    """Each column's value as Postgres writes it."""
    run: str = ""
    """Which pull refused it; of no meaning but that lines of one run have the same."""

    def row(self, shape: Shape) -> tuple[object, ...]:
        """Return what tells its row from others: the values of a key, or all where the table has none."""
        key = self._key(shape)
        names = key or tuple(sorted(self.values))
        return (self.table, names, *(self.values[name] for name in names))

    def has_key(self, shape: Shape) -> bool:
        """Tell whether it holds the values of a key."""
        return bool(self._key(shape))

    def _key(self, shape: Shape) -> tuple[str, ...]:
        return next((key.columns for key in shape.keys if self.values.keys() >= set(key.columns)), ())


def corrections(lines: Iterable[bytes]) -> Iterator[Correction]:
    """Read the lines of a rejects file; empty ones are passed over.

    Raises:
        UsageError: one of them is no reject.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _correction(number, line)


def _correction(number: int, line: bytes) -> Correction:
    try:
        # a number keeps its digits; an editor may have put U+FEFF before the first line
        found = json.loads(line.decode("utf-8-sig"), parse_int=str, parse_float=str, parse_constant=str)
    except UnicodeDecodeError as error:
        raise UsageError(f"line {number} is not UTF-8 text", _HINT) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"line {number} is not JSON", _HINT) from error
    if not isinstance(found, dict) or not isinstance(found.get("values"), dict):
        raise UsageError(f"line {number} is no reject: it has no values", _HINT)
    try:
        table = TableName.parse(str(found.get("table", "")))
    except UsageError as error:
        raise UsageError(f"line {number} names no table: {found.get('table')!r:.60}", _HINT) from error
    return Correction(number, line, table, dict(_values(number, found)), str(found.get("run", "")))


def _values(number: int, found: Mapping[str, object]) -> Iterator[tuple[str, bytes | None]]:
    values, raw = found["values"], found.get("bytes")
    assert isinstance(values, dict)
    for name, value in values.items():
        text = _spelled(number, name, value)
        kept = _kept(raw.get(name)) if isinstance(raw, dict) else None
        # bytes that are no text come back as they were, unless somebody wrote a text in their place
        yield (
            name,
            kept if kept is not None and kept.decode("utf-8", "backslashreplace").encode() == text else text,
        )


def _spelled(number: int, name: str, value: object) -> bytes | None:
    if value is None or isinstance(value, str):
        try:
            return None if value is None else value.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"line {number}: {name} holds half a character (a lone surrogate)", _HINT
            ) from error
    if isinstance(value, bool):
        return b"true" if value else b"false"
    raise UsageError(
        f"line {number}: the value of {name} is a JSON {'array' if isinstance(value, list) else 'object'}",
        'a value is null, or text as Postgres writes it, such as "{1,2}" or "{\\"a\\": 1}"',
    )


def _kept(digits: object) -> bytes | None:
    try:
        return bytes.fromhex(str(digits)) if digits is not None else None
    except ValueError:
        return None


def check(found: Iterable[Correction], shapes: Mapping[TableName, Shape]) -> None:
    """Make sure that local has what corrections name.

    Raises:
        UsageError: it has not.
    """
    for each in found:
        shape = shapes.get(each.table)
        if shape is None:
            raise UsageError(f"line {each.number}: local has no table {each.table}", _HINT)
        for name in each.values:
            if shape.column(name) is None:
                names = ", ".join(column.name for column in shape.columns)
                raise UsageError(
                    f"line {each.number}: local's {each.table} has no column {name}", f"its columns: {names}"
                )


def that_count(found: Sequence[Correction], shapes: Mapping[TableName, Shape]) -> list[Correction]:
    """Leave out what later lines stand for: a file has a row once for each pull that refused it.

    Of the lines with one key the last counts. Where there is no key, equal rows may be several: as many as the
    last run refused that refused any.
    """
    last = {each.row(shapes[each.table]): each for each in found}

    def counts(each: Correction) -> bool:
        shape = shapes[each.table]
        newest = last[each.row(shape)]
        return each is newest or (not each.has_key(shape) and each.run == newest.run)

    return [each for each in found if counts(each)]


def in_rounds(found: Iterable[Correction]) -> list[dict[TableName, list[Correction]]]:
    """Put rows together that are loaded together: in one round, all of a table have the same columns."""
    groups: dict[TableName, dict[tuple[str, ...], list[Correction]]] = {}
    for each in found:
        columns = tuple(sorted(each.values))
        groups.setdefault(each.table, {}).setdefault(columns, []).append(each)
    rounds: list[dict[TableName, list[Correction]]] = []
    for table, by_columns in groups.items():
        for place, rows in enumerate(by_columns.values()):
            rounds += [{}] if place == len(rounds) else []
            rounds[place][table] = rows
    return rounds
