"""How tables refer to each other, and along which of these links rows come along. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pgpull.shapes import ForeignKey, Shape, TableName, quoted


@dataclass(frozen=True, slots=True)
class Link:
    """A foreign key that one of two databases has, between tables that both have."""

    name: str
    child: TableName
    parent: TableName
    columns: tuple[str, ...]
    referred: tuple[str, ...]
    of_periods: bool = False

    def __str__(self) -> str:
        columns = ", ".join(map(quoted, self.columns))
        own = f"{quoted(self.child.name)}.{columns}"
        return f"{own if len(self.columns) == 1 else f'{quoted(self.child.name)} ({columns})'} -> " + (
            quoted(self.parent.name) if self.parent.schema == self.child.schema else str(self.parent)
        )


def links(sides: Sequence[Mapping[TableName, Shape]], tables: Iterable[TableName]) -> tuple[Link, ...]:
    """Return the links between some tables.

    Args:
        sides: what either database says about the tables. Rows are related as their own database says; what
            the other enforces counts, too.
        tables: which.
    """
    named = tuple(tables)
    found: dict[Link, Link] = {}
    for shapes in sides:
        for table in named:
            for key in shapes[table].foreign_keys if table in shapes else ():
                for link in _link(table, key, named, sides):
                    found.setdefault(replace(link, name=""), link)
    return tuple(found.values())


def _link(
    child: TableName, key: ForeignKey, tables: Sequence[TableName], sides: Sequence[Mapping[TableName, Shape]]
) -> Iterator[Link]:
    parent = parent_of(key, tables)
    if parent is None or not _all_have(sides, child, key.columns) or not _all_have(sides, parent, key.referred):
        return
    yield Link(key.name, child, parent, key.columns, key.referred, key.of_periods)


def _all_have(sides: Sequence[Mapping[TableName, Shape]], table: TableName, columns: Sequence[str]) -> bool:
    shapes = [shapes[table] for shapes in sides if table in shapes]
    return len(shapes) == len(sides) and all(shape.column(name) for shape in shapes for name in columns)


def parent_of(key: ForeignKey, tables: Iterable[TableName]) -> TableName | None:
    """Return the one of some tables under which the rows are asked for that a foreign key refers to."""
    named = tuple(tables)
    return next((table for table in (key.table, key.root) if table in named), None)


def parents_of(sides: Sequence[Mapping[TableName, Shape]], tables: Iterable[TableName]) -> list[TableName]:
    """Return the tables that some tables refer to on either side, and that are not among them."""
    named = tuple(tables)
    keys = [key for shapes in sides for table in named if table in shapes for key in shapes[table].foreign_keys]
    return list(dict.fromkeys(key.root for key in keys if not {key.table, key.root} & set(named)))
