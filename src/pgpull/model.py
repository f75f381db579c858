"""What is asked for, and what will be done: requests and plans, frozen values that touch nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from pgpull.errors import UsageError
from pgpull.masking import NO_MASKS, Masks
from pgpull.shapes import ForeignKey, Key, OwnedSequence, Shape, TableName, TablePattern

DEFAULT_BATCH_ROWS = 5_000
BATCH_BYTES = 4 * 1024 * 1024
"""A batch closes at this many bytes however few rows it holds, so that wide rows do not grow the memory."""


class OnConflict(StrEnum):
    """What happens to a row whose key is in the target already."""

    SKIP = "skip"
    UPDATE = "update"

    @classmethod
    def parse(cls, text: str) -> OnConflict:
        """Read ``skip`` or ``update``.

        Raises:
            UsageError: the text is neither.
        """
        if text not in list(cls):
            raise UsageError(f"on_conflict is not skip or update: {text!r}", "skip leaves local rows alone")
        return cls(text)


class Wire(StrEnum):
    """The COPY format that a table's rows travel in."""

    BINARY = "binary"
    TEXT = "text"
    CSV = "csv"
    """Out of an archive's files, as they are."""


class Strategy(StrEnum):
    """Which rows move, and how they get in."""

    NOTHING = "nothing"
    """None: every row in scope is here, and is as it should be."""
    STRAIGHT = "straight"
    """All in scope, straight into the table: none of them can be there."""
    KEYED = "keyed"
    """Those that the comparison found, asked for by their keys; by their hashes, where there is no key."""
    MERGE = "merge"
    """All in scope, by way of the stage."""


class Method(StrEnum):
    """How a comparison tells the rows apart."""

    KEYS = "keys"
    """Only which keys are here: enough where a row that is here is left alone."""
    VERSIONS = "row versions"
    """Which keys are here, and which rows either side wrote since both were last known to be equal."""
    HASHES = "row hashes"
    """The keys, and a hash of each row's values."""
    CONTENTS = "contents"
    """How many rows have one hash: where there is no key."""


@dataclass(frozen=True, slots=True)
class Window:
    """The half-open stretch ``since <= column < until``; both ends are instants, either may be open."""

    column: str
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """The keys ``after < key <= last``, in the order of the source's index; either end may be open."""

    columns: tuple[str, ...]
    after: tuple[str, ...] | None = None
    last: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows of a table are meant: those that pass every filter given; no filter, all rows."""

    window: Window | None = None
    equals: tuple[tuple[str, str], ...] = ()
    where: str | None = None
    stretch: Stretch | None = None

    @property
    def narrows(self) -> bool:
        """Whether a row may be out of it."""
        return bool(self.window or self.equals or self.where or self.stretch)


@dataclass(frozen=True, slots=True)
class Limit:
    """How many rows something may happen to: a number of rows, or a share of them all."""

    rows: int | None = None
    percent: float | None = None

    @classmethod
    def parse(cls, text: str, option: str) -> Limit:
        """Read ``100`` or ``2.5%``.

        Args:
            text: what the user wrote.
            option: where, for the hint.

        Raises:
            UsageError: the text is neither.
        """
        number = text.strip().removesuffix("%")
        if text.strip().endswith("%"):
            if re.fullmatch(r"\d+(\.\d+)?", number) and float(number) <= 100:
                return cls(percent=float(number))
        elif number.isascii() and number.isdigit():
            return cls(rows=int(number))
        raise UsageError(f"not a number or a percentage: {text!r}", f"write {option} 100 or {option} 2%")

    def exceeded_by(self, rows: int, of: int) -> bool:
        """Tell whether so many rows, of so many in all, are more than allowed."""
        if self.rows is not None:
            return rows > self.rows
        return self.percent is not None and rows * 100 > self.percent * of

    def __str__(self) -> str:
        return f"{self.rows}" if self.rows is not None else f"{self.percent:g}%"


DEFAULT_MAX_DELETE = Limit(percent=10)


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asks for: one table, its scope, and how to write it."""

    table: TableName
    scope: Scope = Scope()
    on_conflict: OnConflict = OnConflict.SKIP
    batch_rows: int = DEFAULT_BATCH_ROWS
    max_errors: Limit | None = None
    timezone: str = "UTC"
    mirror: bool = False
    """Whether local rows in scope that the source no longer has are deleted."""
    max_delete: Limit = DEFAULT_MAX_DELETE
    """How many of the local rows in scope a mirror may delete."""
    replace: bool = False
    """Whether the scope is deleted here and loaded anew, in one transaction."""
    new: timedelta | None = None
    """Only rows from the newest local one on, less this overlap."""
    verify: bool = False
    """Whether both sides are compared once more at the end."""
    use_versions: bool = True
    """Whether row versions may be remembered, and trusted, to save time."""
    only_related: bool = False
    """Whether only rows are meant that other rows are related to, whatever the scope."""
    without: tuple[str, ...] = ()
    """Columns that stay on the source."""
    keep: tuple[str, ...] = ()
    """Columns whose local values an update leaves alone."""
    masks: Masks = NO_MASKS
    """What comes in the place of values, whatever the table."""

    @property
    def deletes(self) -> bool:
        """Whether local rows may be deleted."""
        return self.mirror or self.replace

    def __post_init__(self) -> None:
        if self.batch_rows < 1:
            raise UsageError(
                f"a batch of {self.batch_rows} rows moves nothing", "give a batch size of 1 or more"
            )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for of the tables that a pattern means."""

    pattern: TablePattern
    request: Request
    """For each of them; the table that it names stands in for theirs."""
    optional: bool = False
    """Whether there need be none."""

    def of(self, table: TableName) -> Request:
        """Return what is asked for of one table."""
        return replace(self.request, table=table)


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that one run is asked for."""

    wanted: tuple[Wanted, ...]
    """A table is asked for by the first that means it."""
    exclude: tuple[TablePattern, ...] = ()
    """Tables that a pattern does not mean."""
    with_parents: bool = False
    """Whether rows come along that pulled rows refer to, where local lacks them."""
    with_children: tuple[TablePattern, ...] = ()
    """Tables whose rows come along that refer to pulled rows."""
    create_missing: bool = False
    """Whether tables that local lacks are made."""
    rules: tuple[Wanted, ...] = ()
    """What holds for tables whose rows come along."""

    @property
    def single(self) -> Request | None:
        """What is asked for, where it is one table that is named, and nothing comes along."""
        [*others, first] = self.wanted
        if others or first.pattern.plain is None or self.with_parents or self.with_children:
            return None
        return first.of(first.pattern.plain)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The source planner's guess at the rows and bytes in scope. Never more than a guess."""

    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Image:
    """How a column's value is hashed: as the type it is, or as text."""

    column: str
    native: str | None = None
    """The built-in type whose own hash tells every two values apart; None for the text."""
    by_way_of: str | None = None
    """The type that spells both sides' values alike, where the two have different types."""


@dataclass(frozen=True, slots=True)
class Digest:
    """A 64-bit hash over some columns that is the same on both sides exactly if the values are."""

    images: tuple[Image, ...]
    by_record: bool = True
    """Whether both servers can hash a record (PostgreSQL 14); else its text is hashed."""
    convert: bool = False
    """Whether text is hashed as UTF-8, as the two databases store it in different encodings."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison of the rows in scope found."""

    method: Method
    rows: int
    """Rows in scope on the source."""
    missing: int
    """Those that the target does not have."""
    changed: int
    """Those that the target has otherwise; by row versions, those that it *may* have otherwise."""
    extra: int | None = None
    """Rows in scope on the target that the source does not have; None where nobody looked."""
    bytes: int = 0
    """What the source sent for it."""

    @property
    def wanted(self) -> int:
        """Rows that have to come."""
        return self.missing + self.changed

    @property
    def same(self) -> int:
        """Rows that are here as they should be, or that may stay as they are."""
        return max(0, self.rows - self.wanted)

    @property
    def equal(self) -> bool:
        """Whether the two sides were found equal."""
        return not (self.missing or self.changed or self.extra)


@dataclass(frozen=True, slots=True)
class Known:
    """How far both sides' transactions had come when they were known to be equal, as 64-bit numbers."""

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Part:
    """A half-open stretch of the scope that one worker moves at a time: ``first <= column < end``."""

    column: str
    type: str
    """The name of its type, as which both ends are read."""
    first: str | None = None
    end: str | None = None


@dataclass(frozen=True, slots=True)
class Leaf:
    """A file of an archive, whose rows one worker moves at a time."""

    path: str


@dataclass(frozen=True, slots=True)
class Tie:
    """A foreign key of the target's whose parents can be looked for before a row is written."""

    key: ForeignKey
    parents: tuple[int, ...] = ()
    """The places in the run of tables that it refers to and whose rows may come later: of its own table, or
    around a circle. None where all that come have come before."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that will be done with one table, as a value."""

    request: Request
    source: Shape
    target: Shape
    columns: tuple[str, ...]
    """The columns that travel, in the order of the target."""
    key: Key | None
    """None where the two sides share none: then nothing can be compared, nor merged."""
    wire: Wire
    strategy: Strategy
    updated: tuple[str, ...]
    """The columns that an update writes: those that travel less the key and GENERATED ALWAYS identities."""
    key_wire: Wire = Wire.TEXT
    key_digest: Digest = Digest(())
    row_digest: Digest = Digest(())
    """Over the columns that an update writes."""
    full_digest: Digest = Digest(())
    """Over all columns that travel."""
    keys_as_text: bool = False
    """Whether keys can be sent to the source in a statement."""
    drifted: bool = False
    """Whether a column has another type on the other side: its values may look different and be the same."""
    scope_here: bool = True
    """Whether the target can tell which of its rows are in scope."""
    method: Method | None = None
    comparison: Comparison | None = None
    reason: str = ""
    """Why this strategy."""
    sequences: tuple[OwnedSequence, ...] = ()
    estimate: Estimate | None = None
    together: bool = False
    """Whether the table is written in one transaction with others."""
    place: int = 0
    """Its place in the run, which names its temporary tables."""
    ties: tuple[Tie, ...] = ()
    why: tuple[str, ...] = ()
    """For which foreign keys rows come along."""
    parts: tuple[Part | Leaf, ...] = ()
    """What several workers share out; none where one moves all, or where they share keys."""
    jobs: int = 1
    """How many workers move the rows."""
    alone: str = ""
    """Why there are no more, where more would be worth their while."""
    access: str = ""
    """How the source's planner would find the rows in scope."""
    notes: tuple[str, ...] = ()

    @property
    def table(self) -> TableName:
        """The table's name, the same on both sides."""
        return self.request.table

    @property
    def the_key(self) -> Key:
        """The key, where there has to be one."""
        assert self.key is not None, "the planner compares and merges only by a key"
        return self.key

    @property
    def keys(self) -> tuple[str, ...]:
        """The key's columns; none where there is no key."""
        return self.key.columns if self.key else ()

    @property
    def key_masked(self) -> bool:
        """Whether the source knows rows by other keys than the ones that come: no index finds these."""
        return not self.source.masked.isdisjoint(self.keys)

    @property
    def atomic(self) -> bool:
        """Whether everything is written in one transaction: what replaces the scope, or cannot be resumed."""
        return self.together or self.request.replace or self.key is None

    @property
    def updates(self) -> bool:
        """Whether rows that are here already are updated."""
        return self.request.on_conflict is OnConflict.UPDATE and self.key is not None and bool(self.updated)

    def key_type(self, column: str) -> str:
        """The name of the type that a column's keys are sent to the source as; its index can serve it."""
        found = self.source.column(column)
        assert found is not None, "only columns that travel are asked for"
        return found.type.widest
