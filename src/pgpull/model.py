"""The frozen values that travel between the modules. They know their own laws, and touch nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from pgpull.errors import UsageError

DEFAULT_BATCH_ROWS = 5_000
BATCH_BYTES = 4 * 1024 * 1024
"""A batch closes at this many bytes however few rows it holds, so that wide rows do not grow the memory."""

_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_$]*")
_NAME_PART = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^".\s]+))\s*')


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


class Strategy(StrEnum):
    """Which rows move, and how they get in."""

    NOTHING = "nothing"
    """None: every row in scope is here, and is as it should be."""
    STRAIGHT = "straight"
    """All in scope, straight into the table: none of them can be there."""
    KEYED = "keyed"
    """Those that the comparison found, asked for by their keys."""
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


def quoted(name: str) -> str:
    """Return an identifier as one writes it in SQL: quoted only where it must be."""
    return name if _PLAIN_NAME.fullmatch(name) else '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class TableName:
    """A schema-qualified name, as the catalog spells it."""

    schema: str
    name: str

    @classmethod
    def parse(cls, text: str) -> TableName:
        """Read ``schema.table``, ``table`` (in public), or either with parts in double quotes.

        Unquoted parts are taken as they stand: pgpull does not fold case, as the shell has no way to
        show which quotes SQL would have seen.

        Raises:
            UsageError: the text is not a table's name.
        """
        parts: list[str] = []
        end = 0
        while match := _NAME_PART.match(text, end):
            parts.append(match[1].replace('""', '"') if match[1] else match[2])
            end = match.end()
            if end == len(text) or text[end] != ".":
                break
            end += 1
        if end != len(text) or not 1 <= len(parts) <= 2 or text.endswith("."):
            raise UsageError(f"not a table's name: {text!r}", 'write SCHEMA.TABLE, such as public."Order"')
        return cls(parts[0] if len(parts) == 2 else "public", parts[-1])

    def __str__(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"


@dataclass(frozen=True, slots=True)
class ColumnType:
    """What the catalog says about a column's type; ``base`` and the rest look below any domain."""

    name: str
    """As Postgres writes it, with its modifier: ``character varying(10)``."""
    base: str
    oid: int
    kind: str
    """``pg_type.typtype``: b base, c composite, e enum, r range, m multirange."""
    category: str
    """``pg_type.typcategory``: N numeric, S string, D date and time, A array, U user-defined, ..."""
    builtin: bool
    has_binary: bool
    element: str | None = None
    element_builtin: bool = False
    extension: str | None = None

    @property
    def widest(self) -> str:
        """The type that its values can be sent as, and those of its kin; an index on it serves either."""
        return _WIDEST.get(self.base, self.name)


_WIDEST = {"int2": "bigint", "int4": "bigint", "int8": "bigint", "text": "text", "varchar": "text"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table in one database."""

    name: str
    type: ColumnType
    not_null: bool = False
    has_default: bool = False
    generated: bool = False
    """Computed by the database itself (``GENERATED ALWAYS AS (...)``): nobody can write it."""
    identity: str = ""
    """``a`` GENERATED ALWAYS AS IDENTITY, ``d`` BY DEFAULT, empty for none."""
    readable: bool = True


@dataclass(frozen=True, slots=True)
class Key:
    """Columns that identify a row: a primary key, or a unique index whose columns are all NOT NULL."""

    columns: tuple[str, ...]
    primary: bool = True
    deferrable: bool = False
    """A deferrable constraint cannot arbitrate an ON CONFLICT (manual: INSERT, "conflict_target")."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """A user's trigger that writing a row would fire, and how it stands enabled (O origin, A always)."""

    name: str
    table: TableName
    """The table itself, or one of its partitions."""
    enabled: str
    on_write: bool = True
    """Whether an INSERT or UPDATE fires it."""
    on_delete: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key that refers to the table, and the table that has it."""

    name: str
    table: TableName
    kind: str
    """``pg_class.relkind`` of the table that has it."""
    columns: tuple[str, ...]
    referred: tuple[str, ...]
    """The columns that are referred to, in the order of ``columns``."""


@dataclass(frozen=True, slots=True)
class OwnedSequence:
    """A sequence that belongs to a column (serial or identity)."""

    name: TableName
    column: str


@dataclass(frozen=True, slots=True)
class Shape:
    """What one database says about a table."""

    table: TableName
    kind: str
    """``pg_class.relkind``: r plain, p partitioned."""
    columns: tuple[Column, ...]
    keys: tuple[Key, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    sequences: tuple[OwnedSequence, ...] = ()
    references: tuple[Reference, ...] = ()
    rows: int = 0
    """How many the database guesses there are."""
    heap: bool = True
    """Whether its rows are stored as Postgres itself stores them, with their versions."""
    standing: str = ""
    """A checksum of all that a row's values hang on beside the row itself: columns, partitions, labels."""
    owned: bool = True
    has_heirs: bool = False
    """Whether other tables inherit from it; their rows are not its own."""
    privileges: frozenset[str] = frozenset()

    def column(self, name: str) -> Column | None:
        """Return the column of that name, or None."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True)
class Window:
    """The half-open stretch ``since <= column < until``; both ends are instants, either may be open."""

    column: str
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows of a table are meant: those that pass every filter given; no filter, all rows."""

    window: Window | None = None
    equals: tuple[tuple[str, str], ...] = ()
    where: str | None = None


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
class Estimate:
    """The source planner's guess at the rows and bytes in scope. Never more than a guess."""

    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Identity:
    """Which database of which cluster a session is in, and in what state, as the server itself says."""

    database: str
    role: str
    oid: int
    started: str
    unbroken: str
    """Since when its transactions have been counted without a break. After a crash, which empties the
    statistics but need not end the first process, numbers are given anew that nobody had time to write down."""
    version: str
    major: int
    encoding: str
    in_recovery: bool
    read_only: bool
    isolation: str
    now: datetime
    horizon: int
    """The oldest transaction that was still running when the session's began: the result of every older one
    is to be seen."""
    system: str | None
    """The cluster's own number, given on initdb; None where we may not know it."""

    def same_database(self, other: Identity) -> bool:
        """Compare what no tunnel and no host name can disguise."""
        if self.system is not None and other.system is not None:
            return (self.system, self.oid) == (other.system, other.oid)
        return (self.started, self.oid) == (other.started, other.oid)


@dataclass(frozen=True, slots=True)
class Image:
    """How a column's value is hashed: as the type it is, or as text."""

    column: str
    native: str | None = None
    """The built-in type whose own hash tells every two values apart; None for the text."""


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
    def same(self) -> int:
        """Rows that are here as they should be, or that may stay as they are."""
        return self.rows - self.missing - self.changed

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
class Plan:
    """Everything that will be done, as a value."""

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
    def atomic(self) -> bool:
        """Whether everything is written in one transaction: what replaces the scope, or cannot be resumed."""
        return self.request.replace or self.key is None

    def key_type(self, column: str) -> str:
        """The name of the type that a column's keys are sent to the source as; its index can serve it."""
        found = self.source.column(column)
        assert found is not None, "only columns that travel are asked for"
        return found.type.widest


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the rows. ``fetched = inserted + updated + skipped + failed``, always.

    Raises:
        ValueError: on making one that does not add up.
    """

    fetched: int = 0
    inserted: int = 0
    updated: int = 0
    skipped: int = 0
    failed: int = 0

    def __post_init__(self) -> None:
        parts = (self.inserted, self.updated, self.skipped, self.failed)
        if self.fetched != sum(parts) or min(parts) < 0:
            raise ValueError(f"the tally does not add up: {self}")

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.fetched + other.fetched,
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.skipped + other.skipped,
            self.failed + other.failed,
        )


@dataclass(frozen=True, slots=True)
class Reject:
    """A row the target refused. ``message``, ``key`` and ``values`` hold row values; ``fact`` holds none."""

    table: TableName
    key: Mapping[str, str | None]
    values: Mapping[str, str | None]
    sqlstate: str
    condition: str
    """The name that Postgres gives the SQLSTATE (manual: appendix A), such as ``unique_violation``."""
    fact: str
    message: str
    constraint: str | None = None
    column: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a pull did."""

    plan: Plan
    tally: Tally
    bytes: int
    """Bytes of rows that the source sent."""
    seconds: float
    snapshot: datetime
    """The instant of the source that the target now has the rows of (the last pass's, if there were more)."""
    deleted: int = 0
    """Local rows that were deleted, for a mirror or to make room for what replaces them."""
    kept: int = 0
    """Local rows that a mirror should have deleted, and did not as other rows refer to them."""
    verified: bool = False
    """Whether both sides were compared once more at the end, and found equal."""
    passes: int = 1
    """How often the source was read: more than once only if its connection was lost."""
    rejects: Path | None = None
    """The file that holds the refused rows, if there are any."""

    @property
    def exit_code(self) -> int:
        """0 when every row in scope is as asked for, 4 when some were refused, or could not be deleted."""
        return 4 if self.tally.failed or self.kept else 0
