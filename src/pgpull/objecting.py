"""What stands against a request: what it names and is not there, and missing privileges. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg.sql import Composed

from pgpull.drift import NO_STANDARDS, Standards
from pgpull.errors import PlanError
from pgpull.model import OnConflict, Request, Scope, Window
from pgpull.shapes import TIMES, Column, Identity, Shape, Trigger
from pgpull.sql import hints

_NONE: Final = "(none)"


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at both sides found; the planner needs nothing else."""

    source: Shape
    target: Shape
    source_identity: Identity
    target_identity: Identity
    theirs: Standards = NO_STANDARDS
    """What the server asks of the table's rows."""
    ours: Standards = NO_STANDARDS
    masked: tuple[str, ...] = ()
    """What to say of masks."""


def check(request: Request, looked: Looked) -> None:
    """Make sure that the request can be asked of both sides.

    Raises:
        PlanError: the scope names what is not there, or a privilege lacks.
    """
    for objection in objections(request, looked):
        raise objection


def objections(request: Request, looked: Looked) -> Iterator[PlanError]:
    """Yield each reason for which what is asked cannot be asked of both sides."""
    checks: tuple[Callable[[], None], ...] = (
        lambda: check_scope(request.scope, looked.source),
        lambda: _check_readable(looked),
        lambda: _check_writable(request, looked),
        lambda: _check_triggers(request, looked),
    )
    for checked in checks:
        try:
            checked()
        except PlanError as error:
            yield error


def check_scope(scope: Scope, shape: Shape) -> None:
    """Make sure that a side has the columns that a scope names.

    Raises:
        PlanError: it has not, or the window's is no date.
    """
    for name, _ in scope.equals:
        if shape.column(name) is None:
            raise no_such_column(shape, name)
    if scope.window is not None:
        _check_window(scope.window, shape)


def check_window_here(request: Request, target: Shape) -> None:
    """Make sure that the target can say what its newest row is.

    Raises:
        PlanError: it has no such column, or one that holds no times.
    """
    if request.scope.window is not None:
        _check_window(request.scope.window, target)


def _check_window(window: Window, shape: Shape) -> None:
    dated = listed(column.name for column in shape.columns if column.type.base in TIMES)
    none = "" if dated != _NONE else "none of its columns is a date or time: choose rows with --where"
    column = shape.column(window.column)
    if column is None:
        raise PlanError(
            f"{shape.table} has no column {window.column} for the window to stand on",
            none or f"name one of its date columns with --window: {dated}",
        )
    if column.type.base not in TIMES:
        raise PlanError(
            f"the window's column {shape.table}.{column.name} is {column.type.name}, not a date or time",
            none or f"its date columns: {dated}; for others use --where",
        )


def no_such_column(shape: Shape, name: str) -> PlanError:
    """Say that a table lacks a column, and which it has."""
    names = listed(column.name for column in shape.columns)
    return PlanError(f"{shape.table} has no column {name}", f"its columns: {names}")


def listed(names: Iterable[str]) -> str:
    """Return names as a sentence has them, or that there are none."""
    return ", ".join(names) or _NONE


def statement(composed: Composed) -> str:
    """Return a statement as a hint has it."""
    return composed.as_string(None)


# --- privileges ------------------------------------------------------------------------------------------


def _check_readable(looked: Looked) -> None:
    check_readable(looked.source, looked.source_identity.role)


def check_readable(source: Shape, role: str) -> None:
    """Make sure that a role may read a table of the server, or some of its columns.

    Raises:
        PlanError: it may not.
    """
    _check_granted("the server", source, ("SELECT",), role)


def _check_writable(request: Request, looked: Looked) -> None:
    writes = ["SELECT", "INSERT"] + (["UPDATE"] if request.on_conflict is OnConflict.UPDATE else [])
    writes += ["DELETE"] if request.deletes else []
    _check_granted("local", looked.target, writes, looked.target_identity.role)


def _check_triggers(request: Request, looked: Looked) -> None:
    triggers = held_triggers(request, looked.target)
    if triggers and not looked.target.owned:
        names = listed(dict.fromkeys(trigger.name for trigger in triggers))
        raise PlanError(
            f"local {looked.target.table} has triggers that must not fire for pulled rows ({names}), and"
            f" {looked.target_identity.role}, who does not own the table, cannot hold them back",
            f"connect to local as the owner of {looked.target.table}",
        )


def held_triggers(request: Request, shape: Shape) -> tuple[Trigger, ...]:
    """Return the user's triggers that what is asked for would fire."""
    return tuple(t for t in shape.triggers if t.on_write or (t.on_delete and request.deletes))


def _check_granted(side: str, shape: Shape, needed: Sequence[str], role: str) -> None:
    missing = [privilege for privilege in needed if privilege not in shape.privileges]
    if missing:
        raise PlanError(
            f"role {role} may not {' or '.join(missing)} on {side}'s {shape.table}",
            f"have its owner run: {statement(hints.grant(missing, shape.table, role))}",
        )


def check_columns_readable(source: Shape, columns: Iterable[Column], role: str) -> None:
    """Make sure that a role may read some columns of a table of the server.

    Raises:
        PlanError: it may not.
    """
    hidden = [column.name for column in columns if not column.readable]
    if hidden:
        raise PlanError(
            f"column {listed(hidden)} of the server's {source.table} may not be read",
            f"have its owner run: {statement(hints.grant_columns(hidden, source.table, role))}",
        )
