"""Local rows that have to go: those in scope that the source no longer has, or all in scope to make room.

Never a row outside of the scope, and never one that another table's row refers to: what refers to it might
be deleted along with it, or emptied.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import psycopg
from psycopg.sql import Composed

from pgpull import bags
from pgpull.comparing import key_batches, take_keys
from pgpull.diagnosis import TARGET, translated
from pgpull.errors import PlanError, Stopped
from pgpull.merging import triggers_held
from pgpull.plans import Comparison, Plan
from pgpull.sessions import Session
from pgpull.sql import comparing
from pgpull.sql import pruning as sql
from pgpull.sql.parts import count_in_scope

_KEYS_AT_ONCE = 5_000


def confirm(source: Session, target: Session, plan: Plan, found: Comparison) -> Comparison:
    """Ask the source for the rows that only the target seems to have: it may have them outside of the scope.

    Args:
        source: the server.
        target: the side that holds what was found.
        plan: what was compared.
        found: with extra keys.

    Returns:
        The comparison without those that the source has after all.

    Raises:
        PlanError: it cannot be asked.
    """
    if plan.key is None:
        return bags.confirm(source, target, plan, found)
    if not plan.keys_as_text:
        raise PlanError(
            "local rows that the server no longer has cannot be asked for by a key of this type",
            "leave out --mirror, or load the scope anew with --replace",
        )
    still_there = 0
    for batches in key_batches(target, plan, comparing.EXTRA, _KEYS_AT_ONCE):
        for keys in batches:
            _ask_for(source, target, plan, keys)
            still_there += _count(target, comparing.forget_those_there(plan))
    return replace(found, extra=(found.extra or 0) - still_there)


def _ask_for(source: Session, target: Session, plan: Plan, keys: Sequence[str]) -> None:
    try:
        take_keys(source, target, plan, keys)
    except Stopped as error:
        if isinstance(error.__cause__, psycopg.DataError | psycopg.IntegrityError):
            raise PlanError(
                f"a key of a local row is none on the server ({error.message}), so it cannot be asked for",
                "leave out --mirror, or delete such rows by hand",
            ) from error
        raise


def _count(target: Session, statement: Composed) -> int:
    with translated(TARGET, target.connection), target.connection.transaction():
        target.connection.execute(comparing.IN_BULK)
        return target.connection.execute(statement).rowcount


def count_here(target: Session, plan: Plan) -> int:
    """Return how many rows in scope the target has."""
    with translated(TARGET, target.connection):
        row = target.connection.execute(count_in_scope(plan, plan.target)).fetchone()
    return row[0] if row else 0


def put_aside(target: Session, plan: Plan) -> None:
    """Keep the extra keys that a comparison found until they are pruned, whatever is compared meanwhile."""
    if plan.key is None:
        bags.put_aside(target, plan)
        return
    with translated(TARGET, target.connection):
        target.connection.execute(sql.drop_extra(plan))
        target.connection.execute(sql.create_extra(plan))


def prune(target: Session, plans: Sequence[Plan]) -> list[tuple[int, int]]:
    """Delete the extra rows of tables that may refer to each other in a circle, in one transaction.

    Args:
        target: the local side, where the extra keys were put aside.
        plans: of the tables; each has extra rows.

    Returns:
        For each how many were deleted, and how many were kept because a row that stays refers to them.

    Raises:
        PgpullError: the target does not let us.
    """
    with translated(TARGET, target.connection), target.connection.transaction():
        cursor = target.connection.cursor()
        cursor.execute(comparing.IN_BULK)
        with ExitStack() as held:
            for plan in plans:
                held.enter_context(triggers_held(cursor, plan))
            for table in dict.fromkeys(r.table for plan in plans for r in plan.target.references):
                cursor.execute(sql.lock_children(table))
            kept = _spare(cursor, plans, target.identity.encoding)
            deleted = cursor.execute(sql.delete_extra(plans)).fetchone() or ()
    return list(zip(deleted, kept, strict=True))


def _spare(cursor: psycopg.Cursor, plans: Sequence[Plan], encoding: str) -> list[int]:
    for plan in plans:
        if plan.key is None:
            bags.choose_extra(cursor, plan, encoding)
    return _keep_referred(cursor, plans)


def _keep_referred(cursor: psycopg.Cursor, plans: Sequence[Plan]) -> list[int]:
    """Spare extra rows that a row refers to which stays, then those that these refer to, and so on."""
    kept = [0] * len(plans)
    going = {plan.table: plan for plan in plans}
    found = True
    while found:
        found = False
        for number, plan in enumerate(plans):
            for reference in plan.target.references:
                child = going.get(reference.table) or going.get(reference.root)
                rows = cursor.execute(sql.keep_referred(plan, reference, child)).rowcount
                kept[number] += rows
                found = found or rows > 0
    return kept


def count_prunable(target: Session, plans: Sequence[Plan]) -> list[tuple[int, int]]:
    """Return how many rows mirrors would delete, and how many they would keep as other rows refer to them.

    Args:
        target: the local side, where the extra keys were put aside.
        plans: of all tables that are pruned, as rows that go may refer to each other; each was compared.
    """
    with translated(TARGET, target.connection), target.connection.transaction():
        cursor = target.connection.cursor()
        cursor.execute(comparing.IN_BULK)
        kept = _spare(cursor, plans, target.identity.encoding)
    extra = [(plan.comparison.extra or 0) if plan.comparison else 0 for plan in plans]
    return [(rows - stay, stay) for rows, stay in zip(extra, kept, strict=True)]


def check_referred(target: Session, plans: Sequence[Plan]) -> None:
    """Make sure that no row that stays refers to a row in the scopes of some plans.

    Raises:
        PlanError: one does.
    """
    emptied = {plan.table: plan for plan in plans}
    for plan in plans:
        for reference in plan.target.references:
            with translated(TARGET, target.connection):
                question = sql.any_referring(
                    plan, reference, emptied.get(reference.table) or emptied.get(reference.root)
                )
                row = target.connection.execute(question).fetchone()
            if row and row[0]:
                raise PlanError(
                    f"other rows of {reference.table} refer to rows of {plan.table} in scope"
                    f" ({reference.name}): deleting these would take those along, or fail",
                    "bring it up to date instead: --on-conflict update --mirror",
                )


def empty_scopes(target: Session, plans: Sequence[Plan]) -> list[int]:
    """Delete all rows in some plans' scopes, within the transaction that is under way.

    One statement deletes them all, as they may refer to each other.

    Returns:
        How many there were, for each plan.

    Raises:
        PlanError: rows that stay refer to them.
    """
    with translated(TARGET, target.connection), target.connection.cursor() as cursor:
        cursor.execute(comparing.IN_BULK)
        for reference in dict.fromkeys(r.table for plan in plans for r in plan.target.references):
            cursor.execute(sql.lock_children(reference))
        check_referred(target, plans)
        with ExitStack() as held:
            for plan in plans:
                held.enter_context(triggers_held(cursor, plan))
            counts = cursor.execute(sql.delete_scopes(plans)).fetchone() or ()
        cursor.execute(comparing.IN_BATCHES)
        return list(counts)
