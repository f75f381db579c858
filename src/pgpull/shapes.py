"""What a database says about itself and its tables: frozen values that touch nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from pgpull.errors import UsageError

_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_$]*")

_NAME_PART = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^".\s]+))\s*')

_WILD = re.compile(r"[*?]")


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
        names = [name for name, _ in _name_parts(text)]
        return cls(names[0] if len(names) == 2 else "public", names[-1])

    def __str__(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"


@dataclass(frozen=True, slots=True)
class TablePattern:
    """A table's name in which ``*`` stands for any text and ``?`` for any one character."""

    text: str
    """As the user wrote it."""
    schema: re.Pattern[str]
    name: re.Pattern[str]
    plain: TableName | None
    """The one table that is meant, where nothing stands for anything else."""

    @classmethod
    def parse(cls, text: str) -> TablePattern:
        """Read what :meth:`TableName.parse` reads; ``*`` and ``?`` in double quotes stand for themselves.

        Raises:
            UsageError: the text is not a table's name.
        """
        parts = _name_parts(text)
        schema, name = parts if len(parts) == 2 else [("public", False), *parts]
        wild = any(part[1] for part in parts)
        return cls(text, _glob(*schema), _glob(*name), None if wild else TableName(schema[0], name[0]))

    @classmethod
    def parse_plain(cls, text: str) -> TablePattern:
        """Read the name of one table, as :meth:`TableName.parse` does."""
        return cls.of(TableName.parse(text))

    @classmethod
    def of(cls, table: TableName) -> TablePattern:
        """Return the pattern that means one table alone."""
        return cls(str(table), _glob(table.schema, False), _glob(table.name, False), table)

    also: TablePattern | None = None
    """Another pattern that has to mean it as well."""

    def matches(self, table: TableName) -> bool:
        """Tell whether a table is meant."""
        if self.also is not None and not self.also.matches(table):
            return False
        return bool(self.schema.fullmatch(table.schema) and self.name.fullmatch(table.name))

    def within(self, other: TablePattern) -> TablePattern:
        """Return the pattern that means what both mean."""
        return replace(self, also=other)

    def __str__(self) -> str:
        return self.text


def _name_parts(text: str) -> list[tuple[str, bool]]:
    """Take a name apart, and tell of each part whether it has a character that stands for others."""
    parts: list[tuple[str, bool]] = []
    end = 0
    while match := _NAME_PART.match(text, end):
        parts.append(
            (match[1].replace('""', '"'), False) if match[1] else (match[2], bool(_WILD.search(match[2])))
        )
        end = match.end()
        if end == len(text) or text[end] != ".":
            break
        end += 1
    if end != len(text) or not 1 <= len(parts) <= 2 or text.endswith("."):
        raise UsageError(f"not a table's name: {text!r}", 'write SCHEMA.TABLE, such as public."Order"')
    return parts


def _glob(text: str, wild: bool) -> re.Pattern[str]:
    escaped = re.escape(text)
    return re.compile(escaped.replace(r"\*", ".*").replace(r"\?", ".") if wild else escaped, re.DOTALL)


TIMES: Final = ("timestamptz", "timestamp", "date")
"""Types of instants, and of days."""

DOCUMENTS: Final = ("json", "jsonb")


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

    @property
    def simple(self) -> bool:
        """Whether an array of such values can be written, and read, without a thought for their inner form."""
        return self.kind in ("b", "e") and self.element is None and self.category != "A"


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
    alone: bool = False
    """Whether it stands otherwise in the table's partitions, which are not touched with it."""


class Referring(Protocol):
    """By what rows refer to others: a foreign key, seen from either end."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that refer."""

    @property
    def referred(self) -> tuple[str, ...]:
        """Those that are referred to, in the order of ``columns``."""

    @property
    def of_periods(self) -> bool:
        """Whether the last of either are periods: the child's lies in those of its parents together."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key that refers to the table, and the table that has it."""

    name: str
    table: TableName
    root: TableName
    """The same, or the partitioned table that it belongs to."""
    kind: str
    """``pg_class.relkind`` of the table that has it."""
    columns: tuple[str, ...]
    referred: tuple[str, ...]
    """The columns that are referred to, in the order of ``columns``."""
    of_periods: bool = False


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key of the table, or of one of its partitions."""

    name: str
    on: TableName
    """The table or the partition that has it."""
    table: TableName
    """The table that it refers to."""
    root: TableName
    """The same, or the partitioned table that it belongs to: what its rows are asked for under."""
    kind: str
    """``pg_class.relkind`` of the table that it refers to."""
    columns: tuple[str, ...]
    referred: tuple[str, ...]
    of_periods: bool = False


@dataclass(frozen=True, slots=True)
class UniqueRule:
    """A unique index or an exclusion constraint: no two rows may meet in it."""

    name: str
    expressions: tuple[str, ...]
    """Its columns or expressions, as SQL."""
    operators: tuple[str, ...]
    """For each, the operator by which rows meet; none for plain equality."""
    predicate: str | None
    """The condition of a partial index."""
    nulls_clash: bool
    plain: bool
    """Whether it stands on columns alone, for all rows."""
    deferrable: bool
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """What may refuse a row for its values."""

    unique: tuple[UniqueRule, ...]
    others: bool
    """Whether there are checks, domains, computed columns or partitions."""
    partitions: tuple[str | None, ...] = ()
    """The condition of each partition, as SQL; None for one that takes everything."""


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
    foreign_keys: tuple[ForeignKey, ...] = ()
    rows: int = 0
    """How many the database guesses there are."""
    heap: bool = True
    """Whether its rows are stored as Postgres itself stores them, with their versions."""
    standing: str = ""
    """A checksum of all that a row's values depend on besides the row itself: columns, partitions, labels."""
    owned: bool = True
    root: TableName | None = None
    """The partitioned table that it is a part of."""
    ancestors: tuple[TableName, ...] = ()
    """The tables that it is a part of or inherits from, the nearest ones first."""
    has_heirs: bool = False
    """Whether other tables inherit from it; their rows are not its own."""
    privileges: frozenset[str] = frozenset()
    stored: TableName | None = None
    """Where its rows are, if not in the table of its name: an archive's are laid out."""
    masks: tuple[tuple[str, str], ...] = ()
    """Columns, and the SQL expressions that are read in place of their values."""

    @property
    def names(self) -> tuple[TableName, ...]:
        """What rules may call it: its own name, and those of all that it is a part of or inherits from."""
        return (self.table, *self.ancestors)

    @property
    def masked(self) -> frozenset[str]:
        """The columns whose values are not read."""
        return frozenset(name for name, _ in self.masks)

    def column(self, name: str) -> Column | None:
        """Return the column of that name, or None."""
        return next((column for column in self.columns if column.name == name), None)


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
