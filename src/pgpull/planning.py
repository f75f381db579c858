"""From two shapes and a request to a plan, or to an error with the statement that would help. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from psycopg.sql import Composed

from pgpull.compatibility import drifted, spelled_alike, text_carries, travels
from pgpull.digesting import digest_of
from pgpull.drift import Standards, stricter_notes
from pgpull.errors import PlanError
from pgpull.model import OnConflict, Request
from pgpull.objecting import (
    Looked,
    check_columns_readable,
    held_triggers,
    listed,
    no_such_column,
    statement,
)
from pgpull.plans import Digest, Plan, Strategy, Wire
from pgpull.shapes import Column, Key, Shape, quoted
from pgpull.sql import hints


def make_plan(request: Request, looked: Looked, *, target_has_rows: bool, scope_here: bool) -> Plan:
    """Decide everything that can be decided before the rows are compared.

    Args:
        request: what the user asks for, and :func:`~pgpull.objecting.check` let pass.
        looked: what both sides hold.
        target_has_rows: whether the target holds a row in scope, so that keys may meet.
        scope_here: whether the target can tell which of its rows are in scope.

    Returns:
        The plan; its notes say what differs harmlessly between the two sides.

    Raises:
        PlanError: the two sides cannot be brought together; nothing has been written.
    """
    source, target = looked.source, looked.target
    _check_named_columns(request, source, target)
    columns = _shared_columns(request, source, target, looked.source_identity.role)
    _check_keys_travel(request, source)
    _check_target_only(source, target, columns, looked.ours)
    _check_types(source, target, columns)
    key = _key(source, target, columns)
    if request.deletes and not scope_here:
        raise PlanError(
            "local cannot tell which of its rows are in scope, as it does not understand the condition, or has"
            " other types",
            f"leave out {'--mirror' if request.mirror else '--replace'},"
            " or give a condition on the table's own columns",
        )
    keys = key.columns if key else ()
    updated = _updated(request, target, columns, keys)
    pairs = {ours.name: (theirs, ours) for theirs, ours in _pairs(source, target, columns)}

    def digest(names: Iterable[str]) -> Digest:
        sides = looked.source_identity, looked.target_identity
        return digest_of((pairs[name] for name in names), *sides)

    return Plan(
        request=request,
        source=source,
        target=target,
        columns=columns,
        key=key,
        wire=_wire(source, target, columns),
        strategy=Strategy.STRAIGHT if request.replace or not target_has_rows else Strategy.MERGE,
        reason="the scope is emptied first" if request.replace else "no row in scope is here yet",
        updated=updated,
        key_wire=_wire(source, target, keys),
        key_digest=digest(keys),
        row_digest=digest(updated),
        full_digest=digest(name for name in columns if name not in request.keep),
        keys_as_text=all(spelled_alike(*pairs[name]) for name in keys),
        drifted=any(drifted(*pair) for pair in pairs.values()),
        scope_here=scope_here,
        # a sequence would follow masks to anywhere
        sequences=tuple(s for s in target.sequences if s.column in columns and s.column not in source.masked),
        notes=tuple(_notes(request, looked, columns, key)),
    )


# --- columns ---------------------------------------------------------------------------------------------


def _check_named_columns(request: Request, source: Shape, target: Shape) -> None:
    """A name that is wrong would bring what was to be left out."""
    for name in request.without:
        if source.column(name) is None and target.column(name) is None:
            raise no_such_column(source, name)
    for name in request.keep:
        if target.column(name) is None:
            raise no_such_column(target, name)
    if request.keep and request.replace:
        raise PlanError(
            f"--replace would lose the local {listed(request.keep)} of {target.table} that is to be kept",
            "take over what changed with --on-conflict update, and what is gone with --mirror",
        )


def _shared_columns(request: Request, source: Shape, target: Shape, role: str) -> tuple[str, ...]:
    both = [c for c in target.columns if not c.generated and source.column(c.name)]
    shared = [c for c in both if c.name not in request.without]
    bare = all(c.generated for c in target.columns) and all(target.column(c.name) for c in source.columns)
    if not shared and not bare:  # a table may have no column at all, and rows
        theirs = [column for column in source.columns if target.column(column.name) is None]
        raise PlanError(
            f"the two sides of {target.table} share no column: the server has"
            f" {listed(c.name for c in source.columns)}; local has {listed(c.name for c in target.columns)}",
            f"run on local: {statement(hints.add_columns(target.table, theirs))}" if theirs else "",
        )
    check_columns_readable(source, [_theirs(source, c) for c in shared], role)
    return tuple(c.name for c in shared)


def _theirs(source: Shape, column: Column) -> Column:
    found = source.column(column.name)
    assert found is not None, "only shared columns are asked for"
    return found


def _pairs(source: Shape, target: Shape, columns: Sequence[str]) -> Iterator[tuple[Column, Column]]:
    for column in target.columns:
        if column.name in columns:
            yield _theirs(source, column), column


def _check_target_only(source: Shape, target: Shape, columns: Sequence[str], ours: Standards) -> None:
    for column in target.columns:
        supplied = column.has_default or column.generated or column.identity
        if column.name not in columns and column.not_null and not supplied:
            unfilled = "the server has no such column to fill it from"
            if source.column(column.name):
                unfilled = "it is left out"
            raise PlanError(
                f"local {target.table}.{column.name} is NOT NULL without a default, and {unfilled}",
                f"run on local: {statement(_let_be_empty(target, column, ours))}",
            )


def _let_be_empty(target: Shape, column: Column, ours: Standards) -> Composed:
    """Return the statement that lets a column be empty; a primary key that it is in goes, too."""
    primary = {quoted(name) for key in target.keys if key.primary for name in key.columns}
    held = [unique.name for unique in ours.uniques if unique.is_constraint and set(unique.columns) == primary]
    return hints.drop_not_null(target.table, column, held if quoted(column.name) in primary else ())


def _check_types(source: Shape, target: Shape, columns: Sequence[str]) -> None:
    for theirs, ours in _pairs(source, target, columns):
        if not text_carries(theirs.type, ours.type):
            raise PlanError(
                f"{target.table}.{ours.name} is {theirs.type.name} on the server and {ours.type.name} here,"
                " and values of the one are not values of the other",
                f"run on local: {statement(hints.change_type(target.table, theirs))}",
            )


def _updated(request: Request, target: Shape, columns: Sequence[str], keys: Sequence[str]) -> tuple[str, ...]:
    """GENERATED ALWAYS AS IDENTITY cannot be updated (manual: UPDATE, "SET column")."""
    return tuple(
        c.name
        for c in target.columns
        if c.name in columns and c.name not in keys and c.identity != "a" and c.name not in request.keep
    )


# --- the key ---------------------------------------------------------------------------------------------


def _check_keys_travel(request: Request, source: Shape) -> None:
    for key in source.keys[:1]:
        if hidden := [name for name in key.columns if name in request.without]:
            raise PlanError(
                f"{listed(hidden)} cannot be left out: rows of {source.table} are told apart by it",
                "leave out other columns only",
            )


def _key(source: Shape, target: Shape, columns: Sequence[str]) -> Key | None:
    """Choose the key that both sides enforce and that travels, the target's primary key first.

    Without one, rows are told apart by what they hold.
    """
    theirs = {frozenset(key.columns) for key in source.keys}
    for key in target.keys:
        if frozenset(key.columns) in theirs and set(key.columns) <= set(columns):
            return key
    computed = {column.name for column in target.columns if column.generated}
    for key in source.keys:
        if not computed.intersection(key.columns):
            raise _no_common_key(key, source, target)
    return None


def _no_common_key(wanted: Key, source: Shape, target: Shape) -> PlanError:
    have = "; ".join(listed(key.columns) for key in target.keys) or "none"
    return PlanError(
        f"local {target.table} lacks the server's key ({listed(wanted.columns)}); its own keys: {have}",
        f"run on local: {statement(hints.add_key(target, wanted, source))}",
    )


# --- the wire --------------------------------------------------------------------------------------------


def _wire(source: Shape, target: Shape, columns: Sequence[str]) -> Wire:
    """Binary where every column is of one type on both sides whose binary form is safe; else text."""
    pairs = _pairs(source, target, columns)
    if all(theirs.type.base == ours.type.base and travels(theirs.type) for theirs, ours in pairs):
        return Wire.BINARY
    return Wire.TEXT


# --- notes -----------------------------------------------------------------------------------------------


def _notes(request: Request, looked: Looked, columns: Sequence[str], key: Key | None) -> Iterator[str]:
    source, target = looked.source, looked.target
    yield from looked.masked
    if key is None and not request.replace:
        changed = "" if request.mirror else "; a row that changed on the server comes in beside its old version"
        yield f"the table has no key: rows are told apart by what they hold{changed}"
    if request.without:
        yield f"left out as asked: {listed(request.without)}"
    if request.keep:
        yield f"an update keeps the local {listed(request.keep)}, and comparisons pass over it"
    for column in source.columns:
        ours = target.column(column.name)
        if column.name in request.without:
            continue
        if ours is None:
            adding = _adding(looked, column)
            yield f"left out: local has no column {column.name}; to have it, run on local: {adding}"
        elif ours.generated and not column.generated:
            yield f"left out: {column.name} is computed locally (GENERATED ALWAYS AS)"
    for column in target.columns:
        if source.column(column.name) is None and not column.generated:
            filled = "its default" if column.has_default or column.identity else "NULL"
            yield f"local column {column.name} is not on the server: new rows get {filled} there"
    yield from _type_notes(looked, columns)
    yield from stricter_notes(target.table, looked.theirs, looked.ours, columns)
    if source.has_heirs:
        yield "rows of tables that inherit from this one are not its own: pull those tables by name"
    if held := held_triggers(request, target):
        names = listed(dict.fromkeys(trigger.name for trigger in held))
        yield f"local triggers do not fire for pulled rows: {names}"
    frozen = [c.name for c in target.columns if c.identity == "a" and c.name in columns]
    if request.on_conflict is OnConflict.UPDATE and frozen:
        yield f"an update leaves {listed(frozen)} alone: GENERATED ALWAYS AS IDENTITY"


def _type_notes(looked: Looked, columns: Sequence[str]) -> Iterator[str]:
    source, target = looked.source, looked.target
    for theirs, ours in _pairs(source, target, columns):
        if drifted(theirs, ours):
            yield (
                f"{ours.name} is {theirs.type.name} on the server and {ours.type.name} here:"
                " values that do not fit become rejects, finer ones are rounded as Postgres rounds them;"
                f" to have it as there, run on local: {statement(hints.change_type(target.table, theirs))}"
            )
        if ours.not_null and not theirs.not_null:
            lifted = statement(_let_be_empty(target, ours, looked.ours))
            helps = "" if ours.identity else f"; to let them in, run on local: {lifted}"
            yield f"{ours.name} may be NULL on the server but not here: such rows become rejects{helps}"


def _adding(looked: Looked, column: Column) -> str:
    """Return the statements that add a column, and its type where that is a set of labels unknown here."""
    labels = looked.theirs.labels_of(column.name)
    added = statement(hints.add_columns(looked.target.table, [column]))
    if labels is None or labels.type in looked.ours.enums:
        return added
    return f"{statement(hints.create_enum(labels.type, labels.labels))} {added}"
