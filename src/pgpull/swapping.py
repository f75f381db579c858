"""Rows that want each other's unique values: which no order of updates can give them.

The rows here that are in the way give their values up first, within the same transaction: they are set to NULL
where they may be, else the whole rows step aside, where no foreign key refers to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from pgpull.choosing import unique_beside_key
from pgpull.plans import Plan
from pgpull.shapes import Rules
from pgpull.sql import swapping as sql


@dataclass(frozen=True, slots=True)
class Room:
    """How room can be made for the rows of a plan."""

    parked: tuple[str, ...] = ()
    """Columns that can be NULL for a moment, one at least of each unique rule."""
    lifts: bool = False
    """Whether whole rows can step aside."""
    own: tuple[str, ...] = ()
    """Columns that no update touches, and that rows which stepped aside get back."""


def rooms_for(plan: Plan, rules: Rules) -> Iterator[Room]:
    """Find out in which ways room can be made, the gentlest first. Pure.

    Args:
        plan: whose rows want each other's values.
        rules: what may refuse a row for its values.
    """
    parked = _parked(plan, rules)
    if parked and all(parked):
        yield Room(parked=tuple(dict.fromkeys(name for name in parked if name)))
    own = [
        c
        for c in plan.target.columns
        if c.name not in plan.updated and c.name not in plan.keys and not c.generated
    ]
    fixed = any(column.identity == "a" for column in own)
    if not plan.target.references and not fixed:
        yield Room(lifts=True, own=tuple(column.name for column in own))


def _parked(plan: Plan, rules: Rules) -> list[str | None]:
    """Return for each unique rule a column that may be NULL for a moment; None for one that has none.

    What rows of other tables refer to stays: ON UPDATE would take them along, and not bring them back.
    """
    fixed = {name for reference in plan.target.references for name in reference.referred}
    fixed |= {column.name for column in plan.target.columns if column.not_null}
    return [
        next((name for name in rule.columns if name in plan.updated and name not in fixed), None)
        if rule.plain and not rule.nulls_clash
        else None
        for rule in unique_beside_key(plan, rules)
        if not rule.deferrable
    ]


def make_room(cursor: psycopg.Cursor, plan: Plan, room: Room) -> int:
    """Have the rows that are in the way step aside, within the transaction that is under way.

    Returns:
        How many whole rows did.
    """
    if room.parked:
        cursor.execute(sql.park(plan, room.parked))
        return 0
    cursor.execute(sql.DROP)
    cursor.execute(sql.keep_lifted(plan))
    return cursor.execute(sql.lift(plan)).rowcount


def give_back(cursor: psycopg.Cursor, plan: Plan, room: Room) -> None:
    """Give rows that stepped aside what was theirs alone."""
    if room.lifts and room.own:
        cursor.execute(sql.give_back(plan, room.own))
