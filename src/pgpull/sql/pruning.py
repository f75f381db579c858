"""Statements about rows that go: those that only the target has, or all in scope that make room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pgpull.plans import Plan
from pgpull.shapes import Reference, TableName
from pgpull.sql.comparing import DIFFERING, EXTRA, STATE
from pgpull.sql.parts import listed, name_of, outside, rows_of, scope_of
from pgpull.sql.referring import refers, with_parts

PLACE: Final = "pgpull place"
PART: Final = "pgpull part"
"""Where a row stands that has no key: a place may be taken in several partitions."""


def extra(plan: Plan) -> Identifier:
    """The table of the keys that only the target has: it outlives the next comparison."""
    return Identifier("pg_temp", f"pgpull_extra_{plan.place}")


def drop_extra(plan: Plan) -> Composed:
    """Forget which keys are extra."""
    return SQL("DROP TABLE IF EXISTS {}").format(extra(plan))


def create_extra(plan: Plan) -> Composed:
    """Put the extra keys aside."""
    return SQL("CREATE TABLE {} AS SELECT {} FROM {} AS s WHERE s.{} = {}").format(
        extra(plan), listed(plan.keys), DIFFERING, STATE, Literal(EXTRA)
    )


def _same_as_extra(plan: Plan, row: str, other: str) -> Composed:
    pairs = [(name, name) for name in plan.keys] or [("ctid", PLACE), ("tableoid", PART)]
    return SQL(" AND ").join(
        SQL("{} = {}").format(Identifier(other, name), Identifier(row, column)) for column, name in pairs
    )


def is_not_extra(plan: Plan, row: str) -> Composed:
    """The condition that a row is none of the extra ones."""
    return SQL("NOT EXISTS (SELECT FROM {} AS g WHERE {})").format(extra(plan), _same_as_extra(plan, row, "g"))


def keep_referred(plan: Plan, reference: Reference, goes: Plan | None) -> Composed:
    """Take out of the extra keys those that another row refers to which is not to be deleted as well.

    Args:
        plan: whose rows are to be deleted.
        reference: the foreign key by which rows refer to them.
        goes: the plan of the table that has the foreign key, where extra rows of it are deleted, too.
    """
    stays = SQL(" AND ") + is_not_extra(goes, "c") if goes is not None else SQL("")
    return SQL(
        "DELETE FROM {extra} AS s USING {rows} AS t"
        " WHERE {same} AND EXISTS (SELECT FROM {child} AS c WHERE {refers}{stays})"
    ).format(
        extra=extra(plan),
        rows=rows_of(plan.target),
        same=_same_as_extra(plan, "t", "s"),
        child=with_parts(reference.table, reference.kind),
        refers=refers(reference, "c", "t"),
        stays=stays,
    )


def _is_extra(plan: Plan) -> Composed:
    columns, names = (plan.keys, plan.keys) if plan.key else (("ctid", "tableoid"), (PLACE, PART))
    return SQL("({}) IN (SELECT {} FROM {})").format(listed(columns), listed(names), extra(plan))


def delete_extra(plans: Sequence[Plan]) -> Composed:
    """Delete the rows of the extra keys, if they still are in scope; tell of each plan how many there were.

    One statement does it for all, as rows may refer to each other in a circle.
    """
    return _delete((plan, scope_of(plan, plan.target, _is_extra(plan))) for plan in plans)


# --- rows in scope that make room ------------------------------------------------------------------------


def delete_scopes(plans: Sequence[Plan]) -> Composed:
    """Delete the target's rows in the scopes of some plans at once, and tell of each how many there were.

    Foreign keys are checked when the statement ends, so rows may refer to each other in any circle.
    """
    return _delete((plan, scope_of(plan, plan.target)) for plan in plans)


def _delete(doomed: Iterable[tuple[Plan, Composed]]) -> Composed:
    names, deletes = list[Identifier](), list[Composed]()
    for number, (plan, where) in enumerate(doomed):
        names.append(Identifier(f"deleted_{number}"))
        deletes.append(
            SQL("{} AS (DELETE FROM {}{} RETURNING 1)").format(names[-1], rows_of(plan.target), where)
        )
    counts = (SQL("(SELECT count(*) FROM {})").format(name) for name in names)
    return SQL("WITH {} SELECT {}").format(SQL(", ").join(deletes), SQL(", ").join(counts))


def lock_children(table: TableName) -> Composed:
    """Keep others from adding rows to a table that refers to others, until the transaction ends."""
    return SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(name_of(table))


def any_referring(plan: Plan, reference: Reference, emptied: Plan | None) -> Composed:
    """Ask whether a row that stays refers to one of the target's rows in scope.

    Args:
        plan: whose rows in scope go.
        reference: the foreign key by which rows refer to them.
        emptied: the plan of the table that has the foreign key, where its rows in scope go, too.
    """
    stays: Composable = SQL("")
    if emptied is not None:
        stays = outside(emptied.request.scope, emptied.target, emptied.request.timezone)
    return SQL(
        "SELECT EXISTS (SELECT FROM (SELECT * FROM {parents}{scope}) AS p"
        " JOIN (SELECT * FROM {child}{stays}) AS c ON {refers})"
    ).format(
        parents=rows_of(plan.target),
        scope=scope_of(plan, plan.target),
        child=with_parts(reference.table, reference.kind),
        stays=stays,
        refers=refers(reference, "c", "p"),
    )
