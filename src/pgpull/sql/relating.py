"""Statements by which rows come along that other rows refer to, or that refer to them.

The target keeps their keys in a temporary table for each table, *wanted*: with the round in which a key was
found, so that the next goes on from the new ones, and whether it was found on the way down.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pgpull.model import OnConflict
from pgpull.plans import Plan
from pgpull.relations import Link
from pgpull.shapes import Shape
from pgpull.sql.comparing import THEIRS, keyed
from pgpull.sql.parts import is_here, listed, outside, rows_of, scope_of, verbatim
from pgpull.sql.referring import filled, refers

_ROUND = Identifier("pgpull round")
_DOWN = Identifier("pgpull down")


def wanted(plan: Plan) -> Identifier:
    """The table of the keys that are wanted of a table."""
    return Identifier("pg_temp", f"pgpull_wanted_{plan.place}")


def drop(plan: Plan) -> Composed:
    """Forget which keys are wanted."""
    return SQL("DROP TABLE IF EXISTS {}").format(wanted(plan))


def create(plan: Plan) -> Composed:
    """Make *wanted*, empty."""
    return SQL("CREATE TEMP TABLE {} AS SELECT {}, 0 AS {}, false AS {} FROM {} WITH NO DATA").format(
        Identifier(f"pgpull_wanted_{plan.place}"), listed(plan.keys), _ROUND, _DOWN, rows_of(plan.target)
    )


def index(plan: Plan) -> Composed:
    """Let no key be wanted twice."""
    return SQL("CREATE UNIQUE INDEX ON {} ({})").format(wanted(plan), listed(plan.keys))


# --- to the source ---------------------------------------------------------------------------------------


def _readable(shape: Shape) -> Composed:
    masked = {name for name, _ in shape.masks}
    return listed(column.name for column in shape.columns if column.readable or column.name in masked)


def in_scope(plan: Plan) -> Composed:
    """The rows in a plan's scope."""
    scope = scope_of(plan, plan.source)
    return SQL("SELECT {} FROM {}{}").format(_readable(plan.source), rows_of(plan.source), scope)


def with_keys(plan: Plan, keys: Sequence[str]) -> Composed:
    """The rows that have one of some keys."""
    return SQL("SELECT {} FROM {} WHERE {}").format(
        _readable(plan.source), rows_of(plan.source), keyed(plan, keys)
    )


def copy_related(link: Link, rows: Composed, to: Plan, *, up: bool) -> Composed:
    """Send the keys of rows to which some rows are linked; not those in their own scope, which come anyway.

    Args:
        link: along which.
        rows: the rows to begin from.
        to: the plan of the table at the other end.
        up: whether that is the parent's.
    """
    everywhere = to.request.only_related
    if up and everywhere and not link.of_periods and set(link.referred) == set(to.keys):
        return _copy(to, _as_keys(link, to), SQL("({}) AS f WHERE {}").format(rows, filled(link, "f")))
    there = SQL("SELECT {} FROM {}").format(_readable(to.source), rows_of(to.source))
    if not everywhere:
        there += outside(to.request.scope, to.source, to.request.timezone)
    joined = refers(link, "f", "t") if up else refers(link, "t", "f")
    return _copy(to, listed(to.keys, "t"), SQL("({}) AS f JOIN ({}) AS t ON {}").format(rows, there, joined))


def _copy(to: Plan, columns: Composable, rows: Composed) -> Composed:
    return SQL("COPY (SELECT DISTINCT {} FROM {}) TO STDOUT (FORMAT {})").format(
        columns, rows, SQL(to.key_wire.value)
    )


def _as_keys(link: Link, to: Plan) -> Composed:
    """The child's columns, in the order and of the types of the parent's key."""
    refers = dict(zip(link.referred, link.columns, strict=True))
    types = {column.name: column.type.name for column in to.source.columns}
    return SQL(", ").join(
        SQL("f.{}::{}").format(Identifier(refers[name]), verbatim(types[name])) for name in to.keys
    )


# --- to the target ---------------------------------------------------------------------------------------


def want(plan: Plan, number: int, *, up: bool) -> Composed:
    """Note the keys that the source sent.

    On the way up what is here needs nothing more, as its own parents are here, too. On the way down it leads
    to others, which may not be.
    """
    lacking = SQL(" WHERE NOT {}").format(is_here(plan)) if up else SQL("")
    clash: Composable = SQL("DO NOTHING")
    if not up:  # what was only a parent leads down now, too
        clash = SQL("({keys}) DO UPDATE SET {down} = true, {round} = {number} WHERE NOT w.{down}").format(
            keys=listed(plan.keys), down=_DOWN, round=_ROUND, number=Literal(number)
        )
    return SQL(
        "INSERT INTO {wanted} AS w SELECT DISTINCT {keys}, {number}, {down} FROM {theirs} AS s{lacking}"
        " ON CONFLICT {clash}"
    ).format(
        wanted=wanted(plan),
        keys=listed(plan.keys, "s"),
        number=Literal(number),
        down=Literal(not up),
        theirs=THEIRS,
        lacking=lacking,
        clash=clash,
    )


def found_in(plan: Plan, number: int, *, down: bool) -> Composed:
    """The keys that a round found, or those of them that lead down; a table and a condition."""
    leads = SQL(" AND s.{}").format(_DOWN) if down else SQL("")
    return SQL("{} AS s WHERE s.{} = {}{}").format(wanted(plan), _ROUND, Literal(number), leads)


def count_to_move(plan: Plan) -> Composed:
    """Count the rows that have to move."""
    return SQL("SELECT count(*) FROM ") + to_move(plan)


def to_move(plan: Plan) -> Composed:
    """The wanted keys whose rows have to move; a table and a condition."""
    rows = all_wanted(plan)
    if plan.request.on_conflict is OnConflict.UPDATE:
        return rows
    return rows + SQL(" WHERE NOT {}").format(is_here(plan))


def all_wanted(plan: Plan) -> Composed:
    """The wanted keys; a table."""
    return SQL("{} AS s").format(wanted(plan))


def forget_those_not_to_move(plan: Plan) -> Composed:
    """Keep no other keys than those whose rows have to move."""
    return SQL("DELETE FROM {} AS s WHERE {}").format(wanted(plan), is_here(plan))
