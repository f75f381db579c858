"""The order of loading: what is referred to first, what refers to each other in a circle together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from pgpull.errors import ParentFailed
from pgpull.plans import Plan, Tie
from pgpull.relations import parent_of
from pgpull.shapes import ForeignKey, Shape, TableName

Group = tuple[TableName, ...]
"""Tables that refer to each other in a circle, or one table alone."""


def parents(shapes: Mapping[TableName, Shape]) -> dict[TableName, tuple[TableName, ...]]:
    """Return, of each table, those of the others that it refers to; itself, if it does."""
    roots = roots_of(shapes.values())
    return {table: tuple(parents_among(shape, roots)) for table, shape in shapes.items()}


Roots = Mapping[TableName, TableName | None]
"""Some tables, and of each the partitioned table that it is a part of."""


def roots_of(shapes: Iterable[Shape]) -> dict[TableName, TableName | None]:
    """Return tables with their roots."""
    return {shape.table: shape.root for shape in shapes}


def parents_among(shape: Shape, tables: Roots) -> dict[TableName, ForeignKey]:
    """Return those of some tables that a table refers to, and by which foreign key."""
    found: dict[TableName, ForeignKey] = {}
    for key in shape.foreign_keys:
        for parent in _parents(key, tables):
            found.setdefault(parent, key)
    return found


def _parents(key: ForeignKey, tables: Roots) -> list[TableName]:
    """Return those of some tables that hold rows which a foreign key may refer to."""
    named = parent_of(key, tables)
    parts = [table for table, root in tables.items() if key.kind == "p" and root == key.root != table]
    return list(dict.fromkeys([named, *parts] if named else parts))


def failed_parent(shape: Shape, failed: Roots) -> ParentFailed | None:
    """Return why a table cannot be loaded if one that it refers to was not: its rows would be refused."""
    parents = parents_among(shape, failed)
    if not parents:
        return None
    parent, key = next(iter(parents.items()))
    return ParentFailed(
        f"it refers to {parent} ({key.name}), which could not be loaded",
        f"mend {parent} first, then run the same command again",
    )


def groups(shapes: Mapping[TableName, Shape]) -> tuple[Group, ...]:
    """Put tables in order.

    Args:
        shapes: the target's tables, whose foreign keys are enforced.

    Returns:
        Groups, each after all that its tables refer to; apart from that, as they were given.
    """
    return _Ordering(parents(shapes)).groups


def in_order(plans: Sequence[Plan]) -> list[tuple[Plan, ...]]:
    """Put plans in order; see :func:`groups`. Each gets its place, and the ties within its group."""
    by_table = {plan.table: plan for plan in plans}
    ordered = groups({plan.table: plan.target for plan in plans})
    tables = [table for group in ordered for table in group]
    placed = {table: replace(by_table[table], place=place) for place, table in enumerate(tables)}
    circles = [[placed[table] for table in group] for group in ordered]
    return [tuple(_tied(plan, circle) for plan in circle) for circle in circles]


def _tied(plan: Plan, group: Sequence[Plan]) -> Plan:
    return replace(plan, ties=tuple(_ties(plan, {member.table: member for member in group})))


def _ties(plan: Plan, group: Mapping[TableName, Plan]) -> Iterator[Tie]:
    """Yield the foreign keys by which rows may have to wait; and those without which they are refused."""
    roots = roots_of(member.target for member in group.values())
    for key in plan.target.foreign_keys:
        later = [group[table] for table in _parents(key, roots)]
        travels = set(key.columns) <= set(plan.columns)
        if not travels or not all(set(key.referred) <= set(parent.columns) for parent in later):
            continue
        if later or key.on == plan.table:  # what a single partition needs, the target alone can tell
            yield Tie(key, tuple(parent.place for parent in later))


class _Ordering:
    """Tarjan's algorithm ("Depth-first search and linear graph algorithms", 1972), without recursion.

    It finds the circles of a graph, each after all that can be reached from it: parents first.
    """

    def __init__(self, parents: Mapping[TableName, Sequence[TableName]]) -> None:
        self._parents = parents
        self._number: dict[TableName, int] = {}
        self._lowest: dict[TableName, int] = {}
        self._open: dict[TableName, None] = {}
        self._found: list[Group] = []
        for table in parents:
            if table not in self._number:
                self._visit(table)

    @property
    def groups(self) -> tuple[Group, ...]:
        place = {table: number for number, table in enumerate(self._parents)}
        return tuple(tuple(sorted(group, key=place.__getitem__)) for group in self._found)

    def _visit(self, first: TableName) -> None:
        path = [(first, iter(self._parents[first]))]
        self._enter(first)
        while path:
            table, rest = path[-1]
            parent = next(rest, None)
            if parent is None:
                path.pop()
                self._leave(table)
                if path:
                    self._lower(path[-1][0], self._lowest[table])
            elif parent not in self._number:
                self._enter(parent)
                path.append((parent, iter(self._parents[parent])))
            elif parent in self._open:
                self._lower(table, self._number[parent])

    def _enter(self, table: TableName) -> None:
        self._number[table] = self._lowest[table] = len(self._number)
        self._open[table] = None

    def _lower(self, table: TableName, number: int) -> None:
        self._lowest[table] = min(self._lowest[table], number)

    def _leave(self, table: TableName) -> None:
        if self._lowest[table] == self._number[table]:
            members = list(self._open)[list(self._open).index(table) :]
            for member in members:
                del self._open[member]
            self._found.append(tuple(members))
