"""What comes in the place of a column's values: words -> masks, and which mask a column gets. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from pgpull.errors import UsageError
from pgpull.shapes import TableName, TablePattern


class Kind(StrEnum):
    """What a mask does with a value."""

    KEEP = "keep"
    """Nothing: somebody has looked at the column, and it may be seen."""
    NULL = "null"
    CONSTANT = "constant"
    HASH = "hash"
    EMAIL = "email"
    PHONE = "phone"
    NAME = "name"
    DAYS = "days"
    MAGNITUDE = "magnitude"
    LENGTH = "length"
    SCRUB = "scrub"
    SQL = "sql"
    PATHS = "paths"


_PLAIN: Final = tuple(kind for kind in Kind if kind not in (Kind.CONSTANT, Kind.DAYS, Kind.SQL, Kind.PATHS))
"""Masks that are one word."""

_KEYED: Final = (Kind.HASH, Kind.EMAIL, Kind.PHONE, Kind.NAME, Kind.MAGNITUDE, Kind.SCRUB)
"""Masks that need the key."""

INJECTIVE: Final = (Kind.KEEP, Kind.HASH, Kind.EMAIL, Kind.DAYS, Kind.SQL)
"""Masks that tell values apart which are not the same; of an SQL expression its author has to know it."""

PERSONAL: Final = (
    r"(?:^|[^a-z])(?:name|ip|ssn|dob|pin|city|zip|card|cvv|cvc|pan|bic|token|fax|sex|gender|street|salary|geo|lat|lon"
    r"|lng)(?:[^a-z]|$)|e[_-]?mail|phone|mobile|(?:first|last|full|user|nick|sur|maiden|middle|display|given|family)_?name"
    r"|address|addr|postal|postcode|zip_?code|birth|social_?sec|tax_?id|passport|licen[cs]e|iban|credit|account_?n"
    r"|ip_?addr|secret|passw|pwd|api_?key|access_?key|private_?key|session_?id|cookie|religion|ethnic|latitude|longitude"
)
"""What names look personal, whatever their letter case: the same to Python and to Postgres."""


def looks_personal(name: str) -> bool:
    """Tell whether a column or a key is called as personal data are."""
    return re.search(PERSONAL, name, re.IGNORECASE) is not None


Path = tuple[str, ...]
"""The keys that lead to a value in a JSON document; ``*`` for every element of an array or an object."""

EVERY: Final = "*"


@dataclass(frozen=True, slots=True)
class Mask:
    """What comes in the place of a value."""

    kind: Kind
    value: str | int | float | bool | None = None
    """The constant, the number of days, or the SQL expression."""
    paths: tuple[tuple[Path, Mask], ...] = ()

    @property
    def needs_key(self) -> bool:
        """Whether it depends on the key."""
        return self.kind in _KEYED or any(mask.needs_key for _, mask in self.paths)

    @property
    def injective(self) -> bool:
        """Whether values that are not the same stay so."""
        return self.kind in INJECTIVE

    def __str__(self) -> str:
        if self.kind in _PLAIN:
            return f'"{self.kind}"'
        if self.kind is Kind.PATHS:
            inner = ", ".join(f'"{spelled(path)}" = {mask}' for path, mask in self.paths)
            return f"{{ {inner} }}"
        value = str(self.value).lower() if isinstance(self.value, bool) else self.value
        shown = f'"{value}"' if isinstance(value, str) and not isinstance(self.value, bool) else value
        return f"{{ {self.kind} = {shown} }}"


# --- from words ------------------------------------------------------------------------------------------

_HINT: Final = (
    f'write one of {", ".join(_PLAIN)}, or {{ constant = ... }}, {{ days = 30 }}, {{ sql = "..." }},'
    ' or, for jsonb, { "path.to.key" = ... }'
)


def mask_of(word: Any) -> Mask:
    """Read a mask as it stands in a file: a word, or a table of one.

    Raises:
        UsageError: it is none.
    """
    if isinstance(word, str):
        if word in _PLAIN:
            return Mask(Kind(word))
        raise UsageError(f"{word!r} is no mask", _HINT)
    if not isinstance(word, Mapping) or not word:
        raise UsageError(f"not a mask: {word!r}", _HINT)
    if len(word) == 1 and (made := _single(*next(iter(word.items())))):
        return made
    paths = tuple(_by_path(word, ()))
    for path, mask in paths:
        if mask.kind is Kind.DAYS:
            raise UsageError(f"a value at {spelled(path)} is no date to JSON", 'shift it with { sql = "..." }')
    return Mask(Kind.PATHS, paths=paths)


def _single(name: str, value: Any) -> Mask | None:
    """Read ``{ constant = ... }`` and its kin; None for what is a path."""
    if isinstance(value, Mapping):
        return None
    if name == Kind.CONSTANT:
        if not isinstance(value, str | int | float | bool):
            raise UsageError(f"not a constant: {value!r}", "give a text, a number, true or false")
        return Mask(Kind.CONSTANT, value)
    if name == Kind.DAYS:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < abs(value) <= _MOST_DAYS:
            raise UsageError(f"not a number of days: {value!r}", "write { days = -30 }")
        return Mask(Kind.DAYS, value)
    if name == Kind.SQL:
        if not isinstance(value, str) or not value.strip():
            raise UsageError("the SQL expression is empty", 'write { sql = "md5({value})" }')
        return Mask(Kind.SQL, value)
    return None


_MOST_DAYS: Final = 100_000

_STEP: Final = re.compile(r'"((?:[^"\\]|\\.)+)"|([^".]+)')


def _by_path(word: Mapping[str, Any], before: Path) -> Iterator[tuple[Path, Mask]]:
    for text, value in word.items():
        path = (*before, *_path(text))
        if isinstance(value, Mapping) and not (len(value) == 1 and _single(*next(iter(value.items())))):
            yield from _by_path(value, path)
        else:
            yield path, mask_of(value)


def _path(text: str) -> Path:
    """Read ``contact.email``, ``$.parts.*.text``, or ``a."key.with.dots"``."""
    steps: list[str] = []
    rest = text.removeprefix("$.")
    while match := _STEP.match(rest):
        steps.append(re.sub(r"\\(.)", r"\1", match[1]) if match[1] else match[2])
        rest = rest[match.end() :]
        if not rest.startswith("."):
            break
        rest = rest[1:] or "."
    if rest or not steps:
        raise UsageError(f"not a path: {text!r}", 'write "contact.email", or "*.text" for all elements')
    return tuple(steps)


def spelled(path: Path) -> str:
    """Spell a path as it stands in a file."""
    return ".".join(step if re.fullmatch(r'[^".]+', step) else _quoted(step) for step in path)


def _quoted(step: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", step) + '"'


# --- which mask a column gets ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MaskRule:
    """What stands in a file for some columns of some tables."""

    column: str
    """A name, or a pattern with ``*`` and ``?``; letter case does not count."""
    mask: Mask
    table: TablePattern | None = None
    """None for all tables."""

    @property
    def names_column(self) -> bool:
        """Whether one column is meant."""
        return not re.search(r"[*?]", self.column)

    @property
    def names_table(self) -> bool:
        """Whether one table is meant."""
        return self.table is not None and self.table.plain is not None

    def means(self, tables: Iterable[TableName], column: str) -> bool:
        """Tell whether a column is meant of a table that goes by some names."""
        pattern = re.escape(self.column).replace(r"\*", ".*").replace(r"\?", ".")
        if not re.fullmatch(pattern, column, re.IGNORECASE | re.DOTALL):
            return False
        return self.table is None or any(self.table.matches(table) for table in tables)

    @property
    def _distance(self) -> tuple[int, int]:
        return (2 if self.table is None else 1 - self.names_table), 1 - self.names_column


@dataclass(frozen=True, slots=True)
class Masks:
    """All rules of a run, and how strict it is."""

    rules: tuple[MaskRule, ...] = ()
    strict: bool = False
    """Whether a column that looks personal has to have a rule."""

    @classmethod
    def of_rules(cls, rules: Iterable[MaskRule], *, strict: bool = False) -> Masks:
        """Put the closest rules first: those that name a table and a column before patterns and the rest."""
        return cls(tuple(sorted(rules, key=lambda rule: rule._distance)), strict)

    def __bool__(self) -> bool:
        return bool(self.rules) or self.strict

    def rule_for(self, tables: Iterable[TableName], column: str) -> MaskRule | None:
        """Return the closest rule for a column of a table that goes by some names, as partitions do."""
        names = tuple(tables)
        return next((rule for rule in self.rules if rule.means(names, column)), None)

    def mask_for(self, tables: Iterable[TableName], column: str) -> Mask:
        """Return the mask of a column; one that keeps it, where there is no rule."""
        rule = self.rule_for(tables, column)
        return rule.mask if rule else KEPT

    @property
    def tables(self) -> tuple[TableName, ...]:
        """The tables that rules name."""
        named = (rule.table.plain for rule in self.rules if rule.table is not None)
        return tuple(dict.fromkeys(table for table in named if table is not None))

    def strictly(self) -> Masks:
        """Return the same rules, where what looks personal has to have one."""
        return replace(self, strict=True)


KEPT: Final = Mask(Kind.KEEP)

NO_MASKS: Final = Masks()


def rules_of(words: Mapping[str, Any], table: TablePattern | None = None) -> Iterator[MaskRule]:
    """Read rules: column names or patterns, and what comes in the place of their values.

    Where no table is given, a name with a dot in it names one, and what stands there are rules for it.

    Raises:
        UsageError: one is no mask.
    """
    for name, word in words.items():
        if table is None and "." in name and isinstance(word, Mapping):
            yield from rules_of(word, TablePattern.parse(name))
        else:
            yield MaskRule(name, word if isinstance(word, Mask) else mask_of(word), table)
