"""Make tables that local lacks, with all that they are made of, as pg_dump describes them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import psycopg
from psycopg.sql import Composed

from pgpull.diagnosis import TARGET, is_lost, translated
from pgpull.dumping import Entry, dump_others, dump_tables
from pgpull.errors import PlanError
from pgpull.programs import find_dumper
from pgpull.sessions import Session
from pgpull.shapes import TableName
from pgpull.sql import creating as sql
from pgpull.sql.parts import named, verbatim

_TABLE: Final = ("r", "p")
_RELATION: Final = (*_TABLE, "S", "v", "m")

_NEVER: Final = frozenset(
    {"TRIGGER", "RULE", "POLICY", "ROW SECURITY", "COMMENT", "ACL", "TABLE DATA", "SEQUENCE SET"}
)
"""Kinds of entries that are left out, beside what pg_dump itself leaves out."""

_ATTACHED: Final = ("TABLE ATTACH", "INDEX ATTACH")
_REFERENCE: Final = "FK CONSTRAINT"


@dataclass(frozen=True, slots=True)
class Made:
    """What was made, and what was left out."""

    tables: tuple[TableName, ...] = ()
    """Those asked for, their partitions, and the tables that those are made of (``INHERITS``)."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Thing:
    """Something that tables are made of: a relation, a type, a function, an extension, ..."""

    address: tuple[int, int]
    kind: str
    """``pg_class.relkind``, or the catalog that it is in."""
    schema: str
    name: str
    shown: str
    asked: tuple[str, list[str], list[str]]
    """How the other side is asked for the same (manual: 9.27, pg_get_object_address)."""
    internal: bool
    """Whether it is a part of another, as the sequence of an identity column is."""

    @property
    def relation(self) -> TableName:
        return TableName(self.schema, self.name)


@dataclass(frozen=True, slots=True)
class _ForeignKey:
    """A foreign key of a table that is made."""

    name: str
    table: TableName
    parent: TableName


def create_missing(source: Session, target: Session, tables: Sequence[TableName]) -> Made:
    """Make the tables that local lacks, all or none; what exists is neither altered nor replaced.

    Partitions of a partitioned table come along, and so do the schemas, types, functions, sequences and
    extensions that they are made of. Triggers, rules, row-level policies, owners, privileges and comments do
    not. A foreign key is made where the table that it refers to is there, or is made too.

    Args:
        source: the server.
        target: the local side, in no transaction.
        tables: those to make; the source has them. Those that local has are passed over.

    Returns:
        What was made, and notes of what was left out.

    Raises:
        PlanError: it cannot be done, for want of pg_dump, a privilege or an extension, or because local is
            of a version that lacks what a table is made with; nothing was made.
        ConnectionLost: a connection went away.
    """
    with translated(TARGET, target.connection), target.connection.transaction():
        wanted = [table for table in tables if table not in _present(target, tables)]
        missing, present = _sorted_out(source, target, wanted)
        made = tuple(thing.relation for thing in missing if thing.kind in _TABLE)
        before = target.connection.execute(sql.AS_PREPARED).fetchone() or ()
        target.connection.execute(sql.PREPARE)
        _make_extensions(source, target, [*missing, *present])
        _make_schemas(target, {thing.schema for thing in missing})
        kept, notes = _without(source, target, made, _entries(source, missing, present))
        notes += _make(target, kept)
        target.connection.execute(sql.AFTERWARDS, before)  # a dry run goes on in this transaction
    return Made(made, tuple(notes))


# --- what is needed, and what is there -------------------------------------------------------------------


def _sorted_out(
    source: Session, target: Session, wanted: Sequence[TableName]
) -> tuple[list[_Thing], list[_Thing]]:
    """Return what has to be made, and what is here already, of all that tables are made of."""
    with translated(source.side, source.connection):
        needed = [
            _Thing((catalog, oid), kind, schema, name, shown, (asked, names, arguments), internal)
            for catalog, oid, kind, schema, name, shown, asked, names, arguments, internal in (
                source.connection.execute(sql.NEEDED, named(wanted))
            )
        ]
    relations = _present(target, [thing.relation for thing in needed if thing.kind in _RELATION])
    missing: list[_Thing] = []
    present: list[_Thing] = []
    for thing in needed:
        here = thing.relation in relations if thing.kind in _RELATION else _is_here(target, thing)
        (present if here else missing).append(thing)
    return missing, present


def _present(target: Session, relations: Iterable[TableName]) -> set[TableName]:
    return {TableName(*row) for row in target.connection.execute(sql.RELATIONS, named(relations))}


def _is_here(target: Session, thing: _Thing) -> bool:
    try:
        with target.connection.transaction():
            target.connection.execute(sql.ADDRESS, thing.asked)
    except psycopg.ProgrammingError:
        return False
    return True


# --- schemas and extensions ------------------------------------------------------------------------------


def _make_schemas(target: Session, names: Collection[str]) -> None:
    here = {name for (name,) in target.connection.execute(sql.SCHEMAS, {"names": list(names)})}
    for name in sorted(set(names) - here - {""}):
        _run(target, sql.create_schema(name), f"schema {name}")


def _make_extensions(source: Session, target: Session, needed: Sequence[_Thing]) -> None:
    """Make the extensions that are not here; types are named with their schema, so it has to be the same."""
    names = [thing.name for thing in needed if thing.kind == "pg_extension"]
    with translated(source.side, source.connection):
        wanted = _schemas_of(source, names)
    here = _schemas_of(target, names)
    available = {name for (name,) in target.connection.execute(sql.AVAILABLE, {"names": names})}
    for name, schema in wanted.items():
        statement = sql.create_extension(name, schema)
        if here.get(name, schema) != schema:
            raise PlanError(
                f"the extension {name} is in the schema {here[name]} here, and in {schema} on the server",
                f"run on local: {sql.move_extension(name, schema).as_string(None)}",
            )
        if name not in {*here, *available}:
            raise PlanError(
                f"the tables need the extension {name}, which is not installed on local's machine",
                f"install it there, then run on local: {statement.as_string(None)}",
            )
        if name not in here:
            _make_schemas(target, {schema})
            _run(target, statement, f"extension {name}")


def _schemas_of(session: Session, extensions: Sequence[str]) -> dict[str, str]:
    return dict(session.connection.execute(sql.EXTENSIONS, {"names": extensions}).fetchall())


def _run(target: Session, statement: Composed, what: str) -> None:
    try:
        with target.connection.transaction():
            target.connection.execute(statement)
    except psycopg.ProgrammingError as error:
        raise PlanError(
            f"the {what} cannot be made on local: {error.diag.message_primary}",
            f"have somebody run who may: {statement.as_string(None)}",
        ) from error


# --- what pg_dump says of it, and what of that is left out -----------------------------------------------


def _entries(source: Session, missing: Sequence[_Thing], present: Sequence[_Thing]) -> list[Entry]:
    """Return what has to be made, in pg_dump's order: first what is no table, then tables."""
    relations = [thing for thing in missing if thing.kind in _RELATION]
    others = {
        thing.address: thing
        for thing in missing
        if thing.kind not in (*_RELATION, "pg_extension", "pg_namespace")
    }
    if not relations:
        return []
    dumper = find_dumper(source.identity.major)
    found = dump_tables(dumper, source, [thing.relation for thing in relations])
    # a part of a table that is here by its name, such as the sequence of a serial column
    here = {thing.address for thing in present if not thing.internal}
    entries = [entry for entry in found if entry.address not in here]
    if not others:
        return entries
    schemas = {thing.schema for thing in others.values()}
    all_others = dump_others(dumper, source, None if "" in schemas else sorted(schemas))
    return [*(entry for entry in all_others if entry.address in others), *entries]


def _without(
    source: Session, target: Session, made: Sequence[TableName], entries: Sequence[Entry]
) -> tuple[list[Entry], list[str]]:
    """Leave out what would touch tables that are here, or needs some that are not; say so."""
    with translated(source.side, source.connection):
        references = {
            oid: _ForeignKey(name, TableName(schema, table), TableName(parent_schema, parent))
            for oid, name, schema, table, parent_schema, parent in source.connection.execute(
                sql.FOREIGN_KEYS, named(made)
            )
        }
        attached = {tuple(row) for row in source.connection.execute(sql.ATTACHED_ELSEWHERE, named(made))}
        never = source.connection.execute(sql.NEVER_MADE, named(made)).fetchall()
    here = {*made, *_present(target, [reference.parent for reference in references.values()])}
    kept, notes = [], list(_never_notes(never))
    for entry in entries:
        reference = references.get(entry.address[1]) if entry.kind == _REFERENCE else None
        if reference and reference.parent not in here:
            notes.append(
                f"left out: foreign key {reference.name} of {reference.table}, as local has no table"
                f" {reference.parent}; once it has, run on local: {entry.one_line}"
            )
        elif entry.kind in _ATTACHED and (entry.schema, entry.name) in attached:
            if entry.kind == _ATTACHED[0]:
                notes.append(
                    f"left out: {TableName(entry.schema, entry.name)} stands alone, as its partitioned table"
                    f" was there before; to attach it, run on local: {entry.one_line}"
                )
        elif entry.kind not in _NEVER:
            kept.append(entry)
    return kept, notes


def _never_notes(rows: Sequence[tuple[str, str, str, str]]) -> Iterator[str]:
    for (what, schema, table), group in groupby(rows, lambda row: row[:3]):
        names = ", ".join(row[3] for row in group)
        yield f"left out: {what} of {TableName(schema, table)}: {names}"


# --- making it -------------------------------------------------------------------------------------------


def _make(target: Session, entries: Sequence[Entry]) -> list[str]:
    """Make things, and return notes of the foreign keys that the tables which are here do not allow.

    pg_dump puts things in their order, but each of its two scripts only its own: a function may need a table.
    So what fails is tried again when the rest is there.
    """
    tried = len(entries) + 1
    failed: list[tuple[Entry, psycopg.Error]] = []
    while entries and len(entries) < tried:
        tried = len(entries)
        failed = [(entry, error) for entry in entries if (error := _try(target, entry))]
        entries = [entry for entry, _ in failed]
    for entry, error in failed:
        if entry.kind != _REFERENCE:
            raise _cannot_make(target, entry, error) from error
    return [
        f"left out: {entry}, as local says: {error.diag.message_primary}; the statement was: {entry.one_line}"
        for entry, error in failed
    ]


def _try(target: Session, entry: Entry) -> psycopg.Error | None:
    try:
        with target.connection.transaction():
            target.connection.execute(verbatim(entry.statements))
    except psycopg.Error as error:
        if is_lost(error, target.connection):
            raise
        return error
    return None


def _cannot_make(target: Session, entry: Entry, error: psycopg.Error) -> PlanError:
    return PlanError(
        f"{entry} cannot be made on local (PostgreSQL {target.identity.version}):"
        f" {error.diag.message_primary} ({error.sqlstate})",
        f"nothing was made; make it by hand in a form that local takes, then run the same command again:"
        f" {entry.one_line}",
    )
