"""What an archive is to hold, and how its files are called: an export as a value. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from pgpull.archives import MANIFEST, ArchivedFile, ArchivedTable, Compression, Format
from pgpull.errors import PlanError
from pgpull.fitting import chosen, words
from pgpull.model import Job, Request, Scope
from pgpull.objecting import check_columns_readable, check_scope, no_such_column
from pgpull.places import Place
from pgpull.plans import Plan, Strategy, Wire
from pgpull.shapes import TIMES, Column, Shape, TableName
from pgpull.sql.sending import NO_MONTH

_LONGEST: Final = 100
"""Characters of a name in its folder's: two such take less than the 255 bytes that a file's name may have."""

_ENDINGS: Final = {None: "", "gzip": ".gz", "zstd": ".zst"}


@dataclass(frozen=True, slots=True)
class Export:
    """What an archive is asked for."""

    job: Job
    """The tables, and which rows of each."""
    to: Place
    format: Format = "csv"
    compression: Compression | None = None
    by_month: bool = False
    """Whether each month of the window's column has a folder of its own."""
    overwrite: bool = False
    """Whether an archive that stands there may go."""

    @property
    def packed(self) -> Compression | None:
        """How its files are compressed: Parquet's pages are, whether anybody asks for it or not."""
        return self.compression or ("zstd" if self.format == "parquet" else None)

    @property
    def ending(self) -> str:
        """What its files' names end in."""
        return ".parquet" if self.format == "parquet" else f".csv{_ENDINGS[self.compression]}"


@dataclass(frozen=True, slots=True)
class Packed:
    """One table's part in an export."""

    plan: Plan
    folder: str
    by: Column | None = None
    """The column whose months have folders of their own."""
    masks: Mapping[str, str] = field(default_factory=dict)
    """How columns are masked, in the words of the rules."""

    def path(self, month: str, number: int, ending: str) -> str:
        """Return how a file is called, below the archive.

        Args:
            month: as the server wrote it; empty where there are no folders for months.
            number: of the file, in its folder.
            ending: of the name.
        """
        below = f"month={'other' if month == NO_MONTH else month}/" if month else ""
        return f"{self.folder}/{below}{number:04}{ending}"

    def archived(self, files: Iterable[ArchivedFile], as_text: Iterable[str]) -> ArchivedTable:
        """Return what the manifest says of the table."""
        kept = tuple(sorted(files, key=lambda file: file.path))
        return ArchivedTable(
            # what is in the files is masked already
            shape=replace(self.plan.source, triggers=(), privileges=frozenset(), masks=()),
            columns=self.plan.columns,
            scope=self.plan.request.scope,
            rows=sum(file.rows for file in kept),
            files=kept,
            masks=self.masks,
            timezone=self.plan.request.timezone,
            by=self.by.name if self.by else None,
            as_text=tuple(name for name in self.plan.columns if name in set(as_text)),
        )


def plan_of(request: Request, shape: Shape, role: str, notes: Sequence[str] = ()) -> Plan:
    """Return how a table's rows leave the source.

    Args:
        request: which rows, and which of their columns.
        shape: of the table, with its masks.
        role: that reads it.
        notes: what there is to know of it.

    Raises:
        PlanError: the scope names what is not there, or the role may not read it.
    """
    for name in request.without:
        if shape.column(name) is None:
            raise no_such_column(shape, name)
    request, note = _without_idle_window(replace(request, new=None), shape)
    check_scope(request.scope, shape)
    columns = [column for column in shape.columns if column.name not in request.without]
    check_columns_readable(shape, columns, role)
    if shape.columns and not columns:
        raise PlanError(f"no column of {shape.table} is left", "leave out fewer columns")
    return Plan(
        request=request,
        source=shape,
        target=shape,
        columns=tuple(column.name for column in columns),
        key=None,
        wire=Wire.CSV,
        strategy=Strategy.STRAIGHT,
        updated=(),
        notes=(*notes, *note),
    )


def _without_idle_window(request: Request, shape: Shape) -> tuple[Request, tuple[str, ...]]:
    """Do without months where a table has no such column, if the window has no end that needs it."""
    window = request.scope.window
    column = shape.column(window.column) if window else None
    if window is None or window.since or window.until or (column and column.type.base in TIMES):
        return request, ()
    note = f"{shape.table} has no date column {window.column}: it is not cut into months"
    return replace(request, scope=replace(request.scope, window=None)), (note,)


def packed(plans: Sequence[Plan], *, by_month: bool) -> list[Packed]:
    """Give each table its folder; no two that differ only in how their letters are written share one."""
    found: list[Packed] = []
    taken = {MANIFEST}
    for plan in plans:
        folder = name = folder_of(plan.table)
        number = 2
        while folder.casefold() in taken:
            folder, number = f"{name}~{number}", number + 1
        taken.add(folder.casefold())
        window = plan.request.scope.window
        by = plan.source.column(window.column) if by_month and window else None
        found.append(Packed(plan, folder, by, _masks(plan)))
    return found


def _masks(plan: Plan) -> dict[str, str]:
    found = chosen(plan.request.masks, plan.source)
    return {name: mask for name, mask in words(found).items() if name in plan.columns}


def folder_of(table: TableName) -> str:
    """Return a folder's name that every file system takes, and that says which table is meant."""
    return f"{_plain(table.schema)}.{_plain(table.name)}"


def _plain(name: str) -> str:
    kept = (
        letter if letter.isalnum() or letter in "_-$" else "".join(f"%{byte:02X}" for byte in letter.encode())
        for letter in name
    )
    return "".join(kept)[:_LONGEST]


def narrowed(scope: Scope) -> bool:
    """Tell whether a scope may leave rows out: a window without an end does not."""
    window = scope.window
    return replace(scope, window=window if window and (window.since or window.until) else None).narrows
