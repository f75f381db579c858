"""Which tables are written together, and which may be pulled at the same time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from pgpull import siding
from pgpull.ordering import parents_among, roots_of
from pgpull.pulling import TablePull
from pgpull.shapes import TableName

Group = Sequence[TablePull]
"""Tables that refer to each other in a circle, or one alone."""

Unit = Sequence[Group]
"""What is written together, or not at all."""


def units_of(groups: Sequence[Group]) -> list[Unit]:
    """Return what is written together: all tables, if several are emptied first; else each group."""
    if sum(pull.request.replace for group in groups for pull in group) > 1:
        return [groups]
    return [[group] for group in groups]


def is_small(unit: Unit) -> bool:
    """Tell whether a unit is one table that a worker can move while others move others."""
    [group, *more] = unit
    return not more and len(group) == 1 and siding.is_small(group[0].plan)


def waves(units: Sequence[Unit]) -> list[list[Unit]]:
    """Return units that may be pulled at the same time, in order: all that they refer to has been before."""
    found: dict[int, list[Unit]] = defaultdict(list)
    level: dict[TableName, int] = {}
    roots: dict[TableName, TableName | None] = {}
    for unit in units:
        shapes = [pull.plan.target for group in unit for pull in group]
        parents = {parent for shape in shapes for parent in parents_among(shape, roots)}
        wave = 1 + max((level[parent] for parent in parents), default=-1)
        found[wave].append(unit)
        level |= {shape.table: wave for shape in shapes}
        roots |= roots_of(shapes)
    return [found[number] for number in sorted(found)]
