"""What will be done: plans, and what they are made of. Frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pgpull.model import OnConflict, Request
from pgpull.shapes import ForeignKey, Key, OwnedSequence, Shape, TableName

BATCH_BYTES = 4 * 1024 * 1024
"""A batch closes at this many bytes however few rows it holds, so that wide rows do not grow the memory."""


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
