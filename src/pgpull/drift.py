"""Where local lets in less than the server does: notes, each with the statement that helps. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from psycopg.sql import Composed

from pgpull.shapes import TableName, quoted
from pgpull.sql import hints


@dataclass(frozen=True, slots=True)
class Check:
    """A check, or an exclusion constraint."""

    name: str
    definition: str


@dataclass(frozen=True, slots=True)
class Unique:
    """A unique index, or a constraint that has one."""

    name: str
    is_constraint: bool
    columns: tuple[str, ...]
    """Or expressions, as SQL."""
    predicate: str = ""

    def __str__(self) -> str:
        return f"UNIQUE ({', '.join(self.columns)})" + (f" WHERE {self.predicate}" if self.predicate else "")

    def follows_from(self, other: Unique) -> bool:
        """Tell whether rows that another index lets in cannot meet in this one."""
        return set(other.columns) <= set(self.columns) and other.predicate in ("", self.predicate)


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key of the table."""

    name: str
    columns: tuple[str, ...]
    parent: TableName
    referred: tuple[str, ...]
    of_all: bool = True
    """Whether it holds for old rows, too (unless it is NOT VALID)."""
    of_periods: bool = False
    """Whether its last columns are periods."""

    def __str__(self) -> str:
        *others, last = map(quoted, self.columns)
        columns = ", ".join([*others, f"PERIOD {last}" if self.of_periods else last])
        return f"FOREIGN KEY ({columns}) REFERENCES {self.parent}"

    @property
    def meaning(self) -> tuple[frozenset[tuple[str, str]], bool, TableName]:
        """What it says, whatever it is called and in whatever order it says it."""
        return frozenset(zip(self.columns, self.referred, strict=True)), self.of_periods, self.parent


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a column's enum type."""

    column: str
    type: TableName
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Standards:
    """What one database asks of a table's rows, beside the types of their columns."""

    checks: tuple[Check, ...] = ()
    uniques: tuple[Unique, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    labels: tuple[Labels, ...] = ()
    enums: frozenset[TableName] = frozenset()
    """All enum types of the database."""

    def labels_of(self, column: str) -> Labels | None:
        """Return those of a column; None where its type is no enum."""
        return next((labels for labels in self.labels if labels.column == column), None)


NO_STANDARDS = Standards()


def stricter_notes(
    table: TableName, theirs: Standards, ours: Standards, columns: Collection[str]
) -> Iterator[str]:
    """Say what the server lets in and local does not.

    Args:
        table: the table, of the same name on both sides.
        theirs: what the server asks of its rows.
        ours: what local does.
        columns: those that travel.
    """
    yield from _label_notes(theirs, ours, columns)
    known = {check.definition for check in theirs.checks}
    for check in ours.checks:
        plain = check.definition.removesuffix(_NOT_VALID)
        if not plain.endswith(_NOT_ENFORCED) and plain not in known:
            lacks = _OF_NEW if plain + _NOT_VALID in known else _HAS_NOT
            yield _note(check.definition, "rows that break it", hints.drop_constraint(table, check.name), lacks)
    for unique in ours.uniques:
        if not any(unique.follows_from(other) for other in theirs.uniques):
            lifted = hints.drop_constraint if unique.is_constraint else hints.drop_index
            yield _note(str(unique), "rows that meet in it", lifted(table, unique.name))
    meanings = {key.meaning: key.of_all for key in theirs.foreign_keys}
    for key in ours.foreign_keys:
        if not meanings.get(key.meaning):
            missing = f"rows whose row of {key.parent} is not here"
            lacks = _OF_NEW if key.meaning in meanings else _HAS_NOT
            yield _note(str(key), missing, hints.drop_constraint(table, key.name), lacks)


_NOT_VALID: Final = " NOT VALID"
_NOT_ENFORCED: Final = " NOT ENFORCED"
_HAS_NOT: Final = "has not"
_OF_NEW: Final = "asks of new rows alone"


def _note(rule: str, rows: str, lifted_by: Composed, lacks: str = _HAS_NOT) -> str:
    return (
        f"local has {rule}, which the server {lacks}: {rows} become rejects;"
        f" to lift it, run on local: {lifted_by.as_string(None)}"
    )


def _label_notes(theirs: Standards, ours: Standards, columns: Collection[str]) -> Iterator[str]:
    said: set[TableName] = set()
    for here in ours.labels:
        there = theirs.labels_of(here.column)
        lacking = [label for label in there.labels if label not in here.labels] if there else []
        if there and lacking and here.column in columns and here.type not in said:
            said.add(here.type)
            statement = hints.add_labels(here.type, there.labels, here.labels).as_string(None)
            yield (
                f"local's type {here.type} lacks {', '.join(map(repr, lacking))}: rows that use it in"
                f" {here.column} become rejects; to have it, run on local: {statement}"
            )
