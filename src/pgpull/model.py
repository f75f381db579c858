"""The frozen values that travel between the modules. They know their own laws, and touch nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
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
    """How a batch gets into the target: straight into the table, or by way of the stage."""

    STRAIGHT = "straight"
    MERGE = "merge"


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
    """A user's trigger that an INSERT or UPDATE would fire, and how it stands enabled (O origin, A always)."""

    name: str
    enabled: str


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
class MaxErrors:
    """How many rows may fail before the run stops: a number of rows, or a share of the fetched ones."""

    rows: int | None = None
    percent: float | None = None

    @classmethod
    def parse(cls, text: str) -> MaxErrors:
        """Read ``100`` or ``2.5%``.

        Raises:
            UsageError: the text is neither.
        """
        number = text.strip().removesuffix("%")
        if text.strip().endswith("%"):
            if re.fullmatch(r"\d+(\.\d+)?", number) and float(number) <= 100:
                return cls(percent=float(number))
        elif number.isascii() and number.isdigit():
            return cls(rows=int(number))
        raise UsageError(f"not a number or a percentage: {text!r}", "write --max-errors 100 or --max-errors 2%")

    def exceeded_by(self, tally: Tally) -> bool:
        """Tell whether the tally holds more failures than allowed."""
        if self.rows is not None:
            return tally.failed > self.rows
        return self.percent is not None and tally.failed * 100 > self.percent * tally.fetched

    def __str__(self) -> str:
        return f"{self.rows}" if self.rows is not None else f"{self.percent:g}%"


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asks for: one table, its scope, and how to write it."""

    table: TableName
    scope: Scope = Scope()
    on_conflict: OnConflict = OnConflict.SKIP
    batch_rows: int = DEFAULT_BATCH_ROWS
    max_errors: MaxErrors | None = None
    timezone: str = "UTC"

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
class Plan:
    """Everything that will be done, as a value."""

    request: Request
    source: Shape
    target: Shape
    columns: tuple[str, ...]
    """The columns that travel, in the order of the target."""
    key: Key
    wire: Wire
    strategy: Strategy
    updated: tuple[str, ...]
    """The columns that an update writes: those that travel less the key and GENERATED ALWAYS identities."""
    sequences: tuple[OwnedSequence, ...] = ()
    estimate: Estimate | None = None
    notes: tuple[str, ...] = ()

    @property
    def table(self) -> TableName:
        """The table's name, the same on both sides."""
        return self.request.table


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
    passes: int = 1
    """How often the source was read: more than once only if its connection was lost."""
    rejects: Path | None = None
    """The file that holds the refused rows, if there are any."""

    @property
    def exit_code(self) -> int:
        """0 when every row in scope is in, 4 when some were refused."""
        return 4 if self.tally.failed else 0
