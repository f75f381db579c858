"""An archive in place of the source: what its tables are to a planner, and which are laid out. Pure.

A table whose rows go straight from its files into COPY is never laid out. Any other is put into a scratch table
of the target's database, where it can be asked whatever a server can be asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pgpull.archives import ArchivedTable, Manifest
from pgpull.compatibility import CATALOG_BOUND
from pgpull.errors import PlanError
from pgpull.model import Job, Request, Scope, Window
from pgpull.plans import Plan, Strategy, Wire
from pgpull.shapes import Column, ColumnType, Shape, TableName

Stamp = tuple[int, int, int]
"""A file's number, length and time of its last change."""

TEXT: Final = "text"
_TEXT_OID: Final = 25

# What these hold means something in their own database alone, or is spelled as it was by a setting.
_AS_TEXT: Final = CATALOG_BOUND | {"money"}


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that was found whole."""

    folder: Path
    """Where its files are."""
    manifest: Manifest
    name: str
    """As the user calls it; without a password."""
    stamps: Mapping[str, Stamp] = field(default_factory=dict)
    """Of each file, what changes when it is changed."""


@dataclass(frozen=True, slots=True)
class Substitute:
    """What a session says its tables are, in place of the database's catalog."""

    archive: Archive
    shapes: Mapping[TableName, Shape]

    @property
    def names(self) -> dict[TableName, TableName | None]:
        """Its tables, and of each the partitioned table that it is a part of, if any."""
        return {table: shape.root for table, shape in self.shapes.items()}

    def flows(self, table: TableName) -> bool:
        """Tell whether a table's rows go from its files into COPY."""
        return self.shapes[table].stored is None

    def table(self, name: TableName) -> ArchivedTable:
        """Return what the manifest says of a table."""
        found = self.archive.manifest.table(name)
        assert found is not None, "only what it has is asked for"
        return found


def layout(archived: ArchivedTable, known: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Return the columns of a scratch table: their names, and the built-in types that take their values.

    Args:
        archived: the table.
        known: the built-in types that the database has.
    """
    return tuple((column.name, _laid_as(column.type, known)) for column in _columns(archived))


def _laid_as(kind: ColumnType, known: Collection[str]) -> str:
    builtin = kind.element_builtin if kind.element is not None else kind.builtin
    its_own = kind.element or kind.base
    fits = builtin and kind.kind in "brm" and its_own not in _AS_TEXT and kind.base in known
    return kind.base if fits else TEXT


def _columns(archived: ArchivedTable) -> tuple[Column, ...]:
    found = [archived.shape.column(name) for name in archived.columns]
    return tuple(column for column in found if column is not None)


def shape_of(archived: ArchivedTable, stored: TableName | None, laid: Mapping[str, str] | None) -> Shape:
    """Return the shape of an archive's table, as the planner sees a server's.

    Args:
        archived: what the manifest says.
        stored: the scratch table, if there is one.
        laid: the types of its columns.
    """
    columns = tuple(
        _column(column, laid[column.name] if laid else column.type.base) for column in _columns(archived)
    )
    names = {column.name for column in columns}
    shape = archived.shape
    return replace(
        shape,
        kind="r",
        columns=columns,
        keys=tuple(key for key in shape.keys if names.issuperset(key.columns)),
        triggers=(),
        sequences=(),
        foreign_keys=tuple(key for key in shape.foreign_keys if names.issuperset(key.columns)),
        rows=archived.rows,
        heap=False,  # its rows' versions are those of the scratch table
        has_heirs=False,
        privileges=frozenset({"SELECT"}),
        stored=stored,
        masks=(),  # its rows are masked already
    )


def _column(column: Column, laid: str) -> Column:
    """Return a column as it is laid out: one that is text keeps its type's name, as a user knows it."""
    kind = column.type
    if laid != kind.base:
        kind = ColumnType(kind.name, TEXT, _TEXT_OID, "b", "S", builtin=True, has_binary=True)
    return replace(column, type=kind, has_default=False, generated=False, identity="", readable=True)


def may_flow(request: Request, archived: ArchivedTable, target: Shape | None, *, filled: bool) -> bool:
    """Tell whether rows can go from an archive's files into COPY, with nothing asked of them before.

    Args:
        request: what is asked for.
        archived: the table in the archive.
        target: the local table.
        filled: whether it holds rows.
    """
    if request.scope.narrows or request.verify or request.mirror or request.new is not None:
        return False
    if target is None or (filled and not request.replace):
        return False
    here = {column.name for column in target.columns if not column.generated}
    return set(archived.columns) <= here - set(request.without)


def within(request: Request, archived: ArchivedTable) -> Request:
    """Return what is asked for so that no row here goes which the archive was never to hold.

    Raises:
        PlanError: nobody can tell which rows those are, or only by a condition that stands in the archive:
            whose SQL that is, nobody knows.
    """
    if not (request.deletes and archived.scope.narrows):
        return request
    _check_condition(request, archived)
    if not request.scope.narrows:
        return replace(request, scope=archived.scope, timezone=archived.timezone)
    ours, theirs = request.scope.window, archived.scope.window
    apart = ours is not None and theirs is not None and ours.column != theirs.column
    if apart or request.timezone != archived.timezone:
        raise PlanError(
            f"the archive holds a part of {archived.table}, and local rows outside of it are not to be deleted",
            "leave out the window, to mean all that the archive holds",
        )
    return replace(request, scope=_both(request.scope, archived.scope))


def _check_condition(request: Request, archived: ArchivedTable) -> None:
    where = archived.scope.where
    if where and request.scope.where != where:
        raise PlanError(
            f"the archive holds the rows of {archived.table} where {where!r}, and local rows outside of it are"
            " not to be deleted",
            "read the condition, as it is SQL that somebody else may have written; then give it as --where",
        )


def _both(ours: Scope, theirs: Scope) -> Scope:
    """Return the rows that are in two scopes, whose windows stand on one column."""
    windows = [window for window in (ours.window, theirs.window) if window is not None]
    since = [window.since for window in windows if window.since is not None]
    until = [window.until for window in windows if window.until is not None]
    column = windows[0].column if windows else ""
    return Scope(
        window=Window(column, max(since, default=None), min(until, default=None)) if windows else None,
        equals=tuple(dict.fromkeys((*ours.equals, *theirs.equals))),
        where=ours.where,  # theirs is the same, or none
    )


def brings_others(job: Job) -> bool:
    """Tell whether rows come along, which have to be looked for."""
    return bool(job.with_parents or job.with_children)


def flowing(plan: Plan, archived: ArchivedTable) -> Plan:
    """Return the plan of a table whose rows go from its files into COPY: all of them, as they are there."""
    return replace(plan, columns=archived.columns, wire=Wire.CSV, strategy=Strategy.STRAIGHT)
