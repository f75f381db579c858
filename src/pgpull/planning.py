"""From two shapes and a request to a plan, or to an error with the statement that would help. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg.sql import Composed

from pgpull.digesting import digest_of
from pgpull.drift import NO_STANDARDS, Standards, stricter_notes
from pgpull.errors import PlanError
from pgpull.model import Digest, OnConflict, Plan, Request, Scope, Strategy, Window, Wire
from pgpull.shapes import Column, ColumnType, Identity, Key, Shape, Trigger, quoted
from pgpull.sql import hints

_WINDOW_TYPES = ("timestamptz", "timestamp", "date")

# Binary forms that hold oids, which mean something else on another server, or that are sent but not taken.
_CATALOG_BOUND = frozenset(
    "regclass regcollation regconfig regdictionary regnamespace regoper regoperator regproc regprocedure"
    " regrole regtype aclitem xml pg_node_tree pg_ndistinct pg_dependencies pg_mcv_list".split()
)

# Extension types whose send and receive functions are known to give back what they took.
_KNOWN_EXTENSION_TYPES = frozenset({"citext", "halfvec", "hstore", "sparsevec", "vector"})


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


def make_plan(request: Request, looked: Looked, *, target_has_rows: bool, scope_here: bool) -> Plan:
    """Decide everything that can be decided before the rows are compared.

    Args:
        request: what the user asks for, and :func:`check` let pass.
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
            "local cannot tell which of its rows are in scope, as it does not understand the condition",
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
        keys_as_text=all(_spelled_alike(*pairs[name]) for name in keys),
        drifted=any(_drifted(*pair) for pair in pairs.values()),
        scope_here=scope_here,
        # a sequence would follow masks to anywhere
        sequences=tuple(s for s in target.sequences if s.column in columns and s.column not in source.masked),
        notes=tuple(_notes(request, looked, columns, key)),
    )


# --- from a comparison to a strategy ---------------------------------------------------------------------


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
    dated = _listed(column.name for column in shape.columns if column.type.base in _WINDOW_TYPES)
    none = "" if dated != _NONE else "none of its columns is a date or time: choose rows with --where"
    column = shape.column(window.column)
    if column is None:
        raise PlanError(
            f"{shape.table} has no column {window.column} for the window to stand on",
            none or f"name one of its date columns with --window: {dated}",
        )
    if column.type.base not in _WINDOW_TYPES:
        raise PlanError(
            f"the window's column {shape.table}.{column.name} is {column.type.name}, not a date or time",
            none or f"its date columns: {dated}; for others use --where",
        )


def no_such_column(shape: Shape, name: str) -> PlanError:
    """Say that a table lacks a column, and which it has."""
    names = _listed(column.name for column in shape.columns)
    return PlanError(f"{shape.table} has no column {name}", f"its columns: {names}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or _NONE


_NONE: Final = "(none)"


def _statement(composed: Composed) -> str:
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
        raise PlanError(
            f"local {looked.target.table} has triggers that must not fire for pulled rows"
            f" ({_listed(t.name for t in triggers)}), and {looked.target_identity.role}, who does not own"
            " the table, cannot hold them back",
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
            f"have its owner run: {_statement(hints.grant(missing, shape.table, role))}",
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
            f"--replace would lose the local {_listed(request.keep)} of {target.table} that is to be kept",
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
            f" {_listed(c.name for c in source.columns)}; local has {_listed(c.name for c in target.columns)}",
            f"run on local: {_statement(hints.add_columns(target.table, theirs))}" if theirs else "",
        )
    check_columns_readable(source, [_theirs(source, c) for c in shared], role)
    return tuple(c.name for c in shared)


def check_columns_readable(source: Shape, columns: Iterable[Column], role: str) -> None:
    """Make sure that a role may read some columns of a table of the server.

    Raises:
        PlanError: it may not.
    """
    hidden = [column.name for column in columns if not column.readable]
    if hidden:
        raise PlanError(
            f"column {_listed(hidden)} of the server's {source.table} may not be read",
            f"have its owner run: {_statement(hints.grant_columns(hidden, source.table, role))}",
        )


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
                f"run on local: {_statement(_let_be_empty(target, column, ours))}",
            )


def _let_be_empty(target: Shape, column: Column, ours: Standards) -> Composed:
    """Return the statement that lets a column be empty; a primary key that it is in goes, too."""
    primary = {quoted(name) for key in target.keys if key.primary for name in key.columns}
    held = [unique.name for unique in ours.uniques if unique.is_constraint and set(unique.columns) == primary]
    return hints.drop_not_null(target.table, column, held if quoted(column.name) in primary else ())


def _check_types(source: Shape, target: Shape, columns: Sequence[str]) -> None:
    for theirs, ours in _pairs(source, target, columns):
        if not _text_carries(theirs.type, ours.type):
            raise PlanError(
                f"{target.table}.{ours.name} is {theirs.type.name} on the server and {ours.type.name} here,"
                " and values of the one are not values of the other",
                f"run on local: {_statement(hints.change_type(target.table, theirs))}",
            )


def _text_carries(theirs: ColumnType, ours: ColumnType) -> bool:
    """Tell whether text can carry values from one type to the other, row by row at least.

    Text of any type can be stored as text, and text may spell a value of any type; numbers go to numbers
    and times to times. What does not fit in a row is a reject, not a reason to refuse the table.
    """
    if theirs.base == ours.base or "S" in (theirs.category, ours.category):
        return True
    if {theirs.base, ours.base} == {"json", "jsonb"} or {theirs.kind, ours.kind} == {"e"}:
        return True
    return theirs.category == ours.category and theirs.category in "ND"


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
                f"{_listed(hidden)} cannot be left out: rows of {source.table} are told apart by it",
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
    have = "; ".join(_listed(key.columns) for key in target.keys) or "none"
    return PlanError(
        f"local {target.table} lacks the server's key ({_listed(wanted.columns)}); its own keys: {have}",
        f"run on local: {_statement(hints.add_key(target, wanted, source))}",
    )


# --- the wire --------------------------------------------------------------------------------------------


def _wire(source: Shape, target: Shape, columns: Sequence[str]) -> Wire:
    """Binary where every column is of one type on both sides whose binary form is safe; else text."""
    pairs = _pairs(source, target, columns)
    if all(theirs.type.base == ours.type.base and _travels(theirs.type) for theirs, ours in pairs):
        return Wire.BINARY
    return Wire.TEXT


def _drifted(theirs: Column, ours: Column) -> bool:
    return _unqualified(theirs.type.name) != _unqualified(ours.type.name)


def _spelled_alike(theirs: Column, ours: Column) -> bool:
    """Whether a key's text means the same on both sides."""
    return theirs.type.base == ours.type.base or theirs.type.widest == ours.type.widest


def _travels(kind: ColumnType) -> bool:
    if not kind.has_binary or kind.base in _CATALOG_BOUND:
        return False
    if kind.kind == "e":
        return True  # an enum is sent as its label
    if kind.element is not None:
        return kind.element_builtin and kind.element not in _CATALOG_BOUND
    return kind.builtin or (kind.extension is not None and kind.base in _KNOWN_EXTENSION_TYPES)


# --- notes -----------------------------------------------------------------------------------------------


def _notes(request: Request, looked: Looked, columns: Sequence[str], key: Key | None) -> Iterator[str]:
    source, target = looked.source, looked.target
    yield from looked.masked
    if key is None and not request.replace:
        changed = "" if request.mirror else "; a row that changed on the server comes in beside its old version"
        yield f"the table has no key: rows are told apart by what they hold{changed}"
    if request.without:
        yield f"left out as asked: {_listed(request.without)}"
    if request.keep:
        yield f"an update keeps the local {_listed(request.keep)}, and comparisons pass over it"
    for column in source.columns:
        ours = target.column(column.name)
        if column.name in request.without:
            continue
        if ours is None:
            statement = _adding(looked, column)
            yield f"left out: local has no column {column.name}; to have it, run on local: {statement}"
        elif ours.generated and not column.generated:
            yield f"left out: {column.name} is computed locally (GENERATED ALWAYS AS)"
    for column in target.columns:
        if source.column(column.name) is None and not column.generated:
            filled = "its default" if column.has_default or column.identity else "NULL"
            yield f"local column {column.name} is not on the server: new rows get {filled} there"
    yield from _type_notes(source, target, columns)
    yield from stricter_notes(target.table, looked.theirs, looked.ours, columns)
    if source.has_heirs:
        yield "rows of tables that inherit from this one are not its own: pull those tables by name"
    if held := held_triggers(request, target):
        names = _listed(trigger.name for trigger in held)
        yield f"local triggers do not fire for pulled rows: {names}"
    frozen = [c.name for c in target.columns if c.identity == "a" and c.name in columns]
    if request.on_conflict is OnConflict.UPDATE and frozen:
        yield f"an update leaves {_listed(frozen)} alone: GENERATED ALWAYS AS IDENTITY"


def _type_notes(source: Shape, target: Shape, columns: Sequence[str]) -> Iterator[str]:
    for theirs, ours in _pairs(source, target, columns):
        if _drifted(theirs, ours):
            yield (
                f"{ours.name} is {theirs.type.name} on the server and {ours.type.name} here:"
                " values that do not fit become rejects, finer ones are rounded as Postgres rounds them;"
                f" to have it as there, run on local: {_statement(hints.change_type(target.table, theirs))}"
            )
        if ours.not_null and not theirs.not_null:
            lifted = _statement(hints.drop_not_null(target.table, ours))
            yield (
                f"{ours.name} may be NULL on the server but not here: such rows become rejects;"
                f" to let them in, run on local: {lifted}"
            )


def _adding(looked: Looked, column: Column) -> str:
    """Return the statements that add a column, and its type where that is a set of labels unknown here."""
    labels = looked.theirs.labels_of(column.name)
    added = _statement(hints.add_columns(looked.target.table, [column]))
    if labels is None or labels.type in looked.ours.enums:
        return added
    return f"{_statement(hints.create_enum(labels.type, labels.labels))} {added}"


def _unqualified(type_name: str) -> str:
    """An extension's type may live in different schemas on the two sides."""
    return type_name.rpartition(".")[2]
