"""Row versions: what is remembered of a pull that left both sides equal, so that the next one looks at less.

Every row carries the number of the transaction that wrote it (``xmin``; manual: 5.5, System Columns). Once all
rows in a scope are known to be equal, it is enough to remember how far the transactions of either side had
come: a row that has an older number has not been written since, on either side.

What is remembered is one line in the local database, bound to everything that it depends on. Where that line
is missing, or belongs to something else, rows are told apart by their hashes: that takes longer, and finds
the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import psycopg

from pgpull.diagnosis import TARGET, translated
from pgpull.model import Scope
from pgpull.plans import Known, Plan
from pgpull.sessions import Session
from pgpull.shapes import Identity
from pgpull.sql import versions as sql

_HALF_CIRCLE: Final = 2**31
"""A row's transaction number has 32 bits: after half of their circle, the future looks like the past."""

_WORTH_IT: Final = 10_000
"""Rows in scope: hashing fewer takes no time to speak of."""

_MOST_OF_THE_TABLE: Final = 10
"""Versions are read row by row from the whole local table: not where the scope is less than a tenth of it."""


def _current(known: Known, source: Identity, target: Identity) -> bool:
    """Whether neither side has gone half around the circle of transaction numbers since, nor back."""
    return all(
        0 <= now - then < _HALF_CIRCLE
        for now, then in ((source.horizon, known.source), (target.horizon, known.target))
    )


def usable(plan: Plan) -> bool:
    """Tell whether row versions can say anything about what a plan moves, and are worth the asking."""
    rows = plan.estimate.rows if plan.estimate else 0
    return (
        plan.request.use_versions
        and plan.key is not None
        and plan.request.scope.where is None
        and plan.scope_here
        and plan.source.heap
        and plan.target.heap
        and not plan.drifted
        and all(_stands_alone(plan, name) for name in plan.columns)
        and rows >= _WORTH_IT
        and plan.target.rows <= rows * _MOST_OF_THE_TABLE
    )


def _stands_alone(plan: Plan, name: str) -> bool:
    """Whether a column's value changes only when its row is written: not computed, not catalog-bound."""
    for shape in (plan.source, plan.target):
        column = shape.column(name)
        assert column is not None, "only shared columns travel"
        kind = column.type
        own = kind.kind == "e" or (kind.kind == "b" and (kind.element is None or kind.element_builtin))
        if column.generated or not own or kind.base.startswith("reg"):
            return False
    return True


def recall(target: Session, source: Session, plan: Plan) -> Known | None:
    """Return what is known of rows that include all in scope, or None.

    Raises:
        ConnectionLost: the connection went away.
    """
    with translated(TARGET, target.connection):
        try:
            with target.connection.transaction():
                if not _one(target.connection, sql.EXISTS):
                    return None
                binding = {"binding": _binding(plan, source, target)}
                rows = target.connection.execute(sql.KNOWN, binding).fetchall()
        except (psycopg.ProgrammingError, psycopg.NotSupportedError):
            return None  # somebody else's table of that name, or none of our business
    wanted = plan.request.scope
    for scope, theirs, ours in rows:
        known, wide = Known(theirs, ours), _read(scope)
        if wide and _covers(wide, _as_json(wanted)) and _current(known, source.identity, target.identity):
            return known
    return None


def remember(target: Session, source: Session, plan: Plan, known: Known) -> None:
    """Remember that all rows in scope are equal; where that cannot be, do without.

    Raises:
        ConnectionLost: the connection went away.
    """
    binding = _binding(plan, source, target)
    scope = _as_json(plan.request.scope)
    with translated(TARGET, target.connection):
        try:
            with target.connection.transaction():
                for statement in sql.CREATE:
                    target.connection.execute(statement)
                rows = target.connection.execute(sql.KNOWN, {"binding": binding}).fetchall()
                covered = [text for text, *_ in rows if not (noted := _read(text)) or _covers(scope, noted)]
                target.connection.execute(sql.FORGET, {"binding": binding, "scopes": covered})
                target.connection.execute(
                    sql.REMEMBER,
                    {
                        "binding": binding,
                        "scope": json.dumps(scope),
                        "source_horizon": known.source,
                        "target_horizon": known.target,
                    },
                )
        except (psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.IntegrityError):
            return


def horizons(target: Session) -> tuple[int, int]:
    """Return the oldest transaction that is still running on the target, and the one that comes next."""
    with translated(TARGET, target.connection):
        row = target.connection.execute(sql.HORIZONS).fetchone()
    assert row is not None
    return row[0], row[1]


def reached(target: Session, plan: Plan, before: tuple[int, int], own: Sequence[int]) -> int:
    """Return up to which transaction the target's rows are known to be as the pull left them.

    Somebody else may have written the same rows meanwhile. Then what the pull itself wrote has to count as
    written since, too.

    Args:
        target: the local side.
        plan: what was pulled.
        before: its horizons before the pull began.
        own: the numbers of the pull's own transactions.
    """
    oldest, following = horizons(target)
    # nobody else wrote anything at all: none was under way, and no number was given out but ours
    if before[0] == before[1] and following - before[1] == len(own):
        return oldest
    with translated(TARGET, target.connection):
        row = target.connection.execute(sql.written_by_others(plan.target, before[0], own)).fetchone()
    assert row is not None
    return before[0] if row[1] else int(row[0])


def _one(connection: psycopg.Connection, question: Any) -> Any:
    row = connection.execute(question).fetchone()
    return row and row[0]


def _binding(plan: Plan, source: Session, target: Session) -> str:
    """Return a checksum of all that must be as it was.

    The start of the source's server is part of it: a server that crashed, was restored to an earlier time, or
    was copied with its data counts the same transactions once more, but not without starting anew.
    """
    theirs, ours = source.identity, target.identity
    facts: tuple[object, ...] = (
        (theirs.system, theirs.oid, theirs.unbroken, plan.source.standing),
        (ours.system, ours.oid, plan.target.standing),
        str(plan.table),
        plan.columns,
        plan.updated,
        plan.keys,
        plan.request.timezone,
    )
    if plan.source.masks:
        facts = (*facts, plan.source.masks, source.endpoint.mask_key)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _as_json(scope: Scope) -> dict[str, Any]:
    window = scope.window
    return {
        "column": window.column if window else None,
        "since": window.since.isoformat() if window and window.since else None,
        "until": window.until.isoformat() if window and window.until else None,
        "equals": dict(sorted(scope.equals)),
    }


def _read(text: str) -> dict[str, Any] | None:
    """Return a scope as we wrote it, or None if somebody else did."""
    with suppress(ValueError):
        scope = json.loads(text)
        if isinstance(scope, dict) and scope.keys() == _as_json(Scope()).keys():
            return scope
    return None


def _covers(wide: dict[str, Any], narrow: dict[str, Any]) -> bool:
    """Tell whether every row of the one scope is in the other too. Instants are all UTC: they sort as text."""
    if not wide["equals"].items() <= narrow["equals"].items():
        return False
    if wide["column"] is None:
        return True
    if wide["column"] != narrow["column"]:
        return False
    starts = wide["since"] is None or (narrow["since"] is not None and wide["since"] <= narrow["since"])
    ends = wide["until"] is None or (narrow["until"] is not None and wide["until"] >= narrow["until"])
    return bool(starts and ends)
