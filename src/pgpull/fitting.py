"""Whether masks fit what they are for: a column's type, its keys, and the other ends of foreign keys. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from pgpull.drift import Unique
from pgpull.errors import PlanError
from pgpull.masking import EVERY, KEPT, Kind, Mask, MaskRule, Masks, Path, looks_personal
from pgpull.model import Scope
from pgpull.shapes import Column, ForeignKey, Reference, Shape, TableName, quoted
from pgpull.sql.masks import EMAIL_FRAME, length_of

_TEXTS: Final = ("text", "varchar", "bpchar", "citext")
_NUMBERS: Final = ("int2", "int4", "int8", "numeric", "float4", "float8")

_FIT: Final = {
    Kind.HASH: (*_TEXTS, "uuid", "int8"),
    Kind.EMAIL: _TEXTS,
    Kind.PHONE: (*_TEXTS, "int8"),
    Kind.NAME: _TEXTS,
    Kind.LENGTH: _TEXTS,
    Kind.DAYS: ("date", "timestamp", "timestamptz"),
    Kind.MAGNITUDE: _NUMBERS,
    Kind.SCRUB: (*_TEXTS, "json", "jsonb"),
    Kind.PATHS: ("jsonb",),
}
"""The types that a mask is for; one that is not here is for all."""

_SHORTEST: Final = {Kind.HASH: 8, Kind.EMAIL: EMAIL_FRAME + 8, Kind.PHONE: 7}
_SHORTEST_UNIQUE: Final = {Kind.HASH: 32, Kind.EMAIL: EMAIL_FRAME + 16}
"""So many characters a mask needs; and so many, where no two may ever meet."""

_NEVER_TEXT: Final = "BDE"
"""Categories of types that hold truths, times or labels: nobody's name or address, whatever they are called."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A column, and what comes in the place of its values."""

    column: Column
    mask: Mask


def chosen(masks: Masks, shape: Shape) -> tuple[Chosen, ...]:
    """Return the columns of a table that are masked, and how.

    A pattern such as ``*email*`` also means ``email_verified``: what holds truths, times or labels is passed
    over, and so are numbers by masks for texts.

    Raises:
        PlanError: a mask does not fit the type.
    """
    found = []
    for column in shape.columns:
        rule = masks.rule_for(shape.names, column.name)
        if rule and rule.mask.kind is not Kind.KEEP and not _passes_over(rule, column):
            _check_type(shape, column, rule)
            found.append(Chosen(column, rule.mask))
    return tuple(found)


def _passes_over(rule: MaskRule, column: Column) -> bool:
    """Whether a pattern means a column by its name that no mask of its kind was made for."""
    fit = _FIT.get(rule.mask.kind)
    if rule.names_column or fit is None or "text" not in fit:
        return False
    return column.type.category in _NEVER_TEXT or (column.type.category == "N" and column.type.base not in fit)


def _check_type(shape: Shape, column: Column, rule: MaskRule) -> None:
    mask, kind = rule.mask, column.type
    fit = _FIT.get(mask.kind)
    where = f"{shape.table}.{quoted(column.name)}"
    if fit is not None and kind.base not in fit:
        what = f"{where} is {kind.name}, and the mask {mask} is for {', '.join(fit)}"
        if mask.kind is Kind.HASH and kind.base in ("int2", "int4"):
            what = f"{where} is {kind.name}: hashes of so few bits meet, and with them the rows"
        raise PlanError(what, _write(shape, column.name, _others(column)))
    length = length_of(kind) if kind.base in _TEXTS else None
    if length is not None and length < _SHORTEST.get(mask.kind, 0):
        fact = f"{where} is {kind.name}: too short for the mask {mask}, which needs {_SHORTEST[mask.kind]}"
        raise PlanError(fact, _write(shape, column.name, '"length", "null" or { constant = "..." }'))
    if mask.kind is Kind.MAGNITUDE and ",-" in kind.name:
        raise PlanError(
            f"{where} is {kind.name}: numbers are rounded before the point",
            _write(shape, column.name, '{ sql = "..." }'),
        )


def _others(column: Column) -> str:
    fitting = [f'"{kind}"' for kind, fit in _FIT.items() if column.type.base in fit and kind in _ONE_WORD]
    return ", ".join(['"keep"', *fitting, '"null"', "{ constant = ... }"]) + ' or { sql = "..." }'


_ONE_WORD: Final = (Kind.HASH, Kind.EMAIL, Kind.PHONE, Kind.NAME, Kind.LENGTH, Kind.MAGNITUDE, Kind.SCRUB)


def _write(shape: Shape, column: str, mask: object) -> str:
    return f"write in pgpull.toml, under {header(shape.table)}: {quoted_key(column)} = {mask}"


def header(table: TableName) -> str:
    """Return the line of a file that rules for a table's masks stand under."""
    name = str(table).replace("\\", "\\\\").replace('"', '\\"')
    return f'[tables."{name}".mask]'


def quoted_key(column: str) -> str:
    """Return a column's name as a key in a TOML file."""
    return column if column.isascii() and column.replace("_", "").isalnum() else f'"{column}"'


# --- keys, both ends of foreign keys, and the scope ------------------------------------------------------


def check(
    masks: Masks,
    found: Iterable[Chosen],
    source: Shape,
    target: Shape | None,
    uniques: Iterable[Unique],
    scope: Scope,
) -> None:
    """Make sure that masked rows can be told apart, and that they refer to each other as before.

    Args:
        masks: the rules.
        found: which columns of the table are masked.
        source: the server's table.
        target: the local one.
        uniques: what local lets no two rows meet in.
        scope: which rows are asked for.

    Raises:
        PlanError: they cannot; the hint says what to write.
    """
    by_name = {each.column.name: each for each in found}
    for each in by_name.values():
        _check_null(source, target, each)
    for columns in _unique_columns(source, target, uniques):
        for name in columns:
            if name in by_name:
                _check_unique(source, by_name[name], columns)
    for objection in _ends(masks, source, target):
        raise objection
    _check_scope(source, by_name, scope)


def _check_null(source: Shape, target: Shape | None, each: Chosen) -> None:
    ours = target.column(each.column.name) if target else None
    if each.mask.kind is Kind.NULL and (each.column.not_null or (ours and ours.not_null)):
        raise PlanError(
            f"{source.table}.{quoted(each.column.name)} is NOT NULL, and its mask is {each.mask}",
            _write(source, each.column.name, _others(each.column)),
        )


def _unique_columns(
    source: Shape, target: Shape | None, uniques: Iterable[Unique]
) -> Iterator[tuple[str, ...]]:
    for shape in (source, target) if target else (source,):
        for key in shape.keys:
            yield key.columns
    for unique in uniques:
        yield tuple(
            name for column in source.columns if (name := column.name) and quoted(name) in unique.columns
        )


def _check_unique(source: Shape, each: Chosen, columns: Collection[str]) -> None:
    mask, column = each.mask, each.column
    if mask.kind is Kind.NULL:
        return  # no value is equal to none
    where = f"{source.table}.{quoted(column.name)}"
    if not mask.injective:
        raise PlanError(
            f"{where} is unique ({', '.join(columns)}), and the mask {mask} makes one value of several",
            _write(source, column.name, '"hash", "email" or { sql = "..." }, which keep values apart'),
        )
    needed, length = _SHORTEST_UNIQUE.get(mask.kind, 0), length_of(column.type)
    if column.type.base in _TEXTS and length is not None and length < needed:
        raise PlanError(
            f"{where} is unique, and {column.type.name} is too short for the mask {mask}: it takes {needed}"
            " characters that no two values meet",
            _write(source, column.name, '"keep" or { sql = "..." }'),
        )


def _ends(masks: Masks, source: Shape, target: Shape | None) -> Iterator[PlanError]:
    """Yield what is masked at one end of a foreign key otherwise than at the other."""
    own = source.names
    for shape in (source, target) if target else (source,):
        for key in shape.foreign_keys:
            for here, there in zip(key.columns, key.referred, strict=True):
                parent = _other_end(source, key), there
                yield from _differ(masks, (own, here), parent, shape.column(here), key.name)
        for reference in shape.references:
            for there, here in zip(reference.columns, reference.referred, strict=True):
                child = _other_end(source, reference), there
                yield from _differ(masks, child, (own, here), shape.column(here), reference.name)


def _other_end(source: Shape, key: ForeignKey | Reference) -> tuple[TableName, ...]:
    """Return the names of the table at the other end; only of the own one are all known."""
    return source.names if key.table == source.table else (key.table, key.root)


End = tuple[tuple[TableName, ...], str]
"""The names of a table, and one of its columns."""


def _differ(masks: Masks, child: End, parent: End, known: Column | None, name: str) -> Iterator[PlanError]:
    """Yield what is wrong with the masks of two ends.

    Args:
        masks: the rules.
        child: the end that refers.
        parent: the end that is referred to.
        known: the column at one of them; the other is of its kind.
        name: of the foreign key.
    """
    theirs, ours = _mask_of(masks, parent, known), _mask_of(masks, child, known)
    shown = [f"{tables[-1]}.{quoted(column)}" for tables, column in (child, parent)]
    if theirs != ours:
        wanted, (tables, column) = _alike((child, ours), (parent, theirs))
        yield PlanError(
            f"{shown[0]} refers to {shown[1]} ({name}), and is masked as {ours}, the other as {theirs}:"
            " no row would find the row that it refers to",
            f"write in pgpull.toml, under {header(tables[-1])}: {quoted_key(column)} = {wanted}",
        )
    elif not theirs.injective:
        yield PlanError(
            f"{shown[0]} refers to {shown[1]} ({name}), and the mask {theirs} makes one value of several",
            'mask both ends by "hash"',
        )
    elif theirs.kind is Kind.SQL and "{value}" not in str(theirs.value):
        yield PlanError(
            f"{shown[0]} refers to {shown[1]} ({name}), and {theirs} may make something else of each",
            'write {value} for the column\'s value, at both ends: { sql = "md5({value})" }',
        )


def _mask_of(masks: Masks, end: End, known: Column | None) -> Mask:
    rule = masks.rule_for(*end)
    return KEPT if rule is None or (known and _passes_over(rule, known)) else rule.mask


def _alike(child: tuple[End, Mask], parent: tuple[End, Mask]) -> tuple[Mask, End]:
    """Return the mask that both ends may have, and the end that lacks it."""
    for (_, mask), (other, _) in ((child, parent), (parent, child)):
        if mask != KEPT and mask.injective:
            return mask, other
    return KEPT, parent[0] if child[1] == KEPT else child[0]


def _check_scope(source: Shape, by_name: Collection[str], scope: Scope) -> None:
    names = [name for name, _ in scope.equals] + ([scope.window.column] if scope.window else [])
    if scope.stretch:
        names += scope.stretch.columns
    if masked := [name for name in names if name in by_name]:
        raise masked_scope(source, masked[0])


def masked_scope(source: Shape, column: str) -> PlanError:
    """Say that rows cannot be chosen by a value that nobody is to know."""
    return PlanError(
        f"{source.table}.{quoted(column)} is masked: rows cannot be chosen by it",
        "choose them by another column, or let it be seen:"
        f' under {header(source.table)}, {quoted_key(column)} = "keep"',
    )


# --- what looks personal ---------------------------------------------------------------------------------


def unruled(masks: Masks, shape: Shape, columns: Iterable[Column]) -> Iterator[Column]:
    """Yield the columns that look personal by their names and have no rule that is for them."""
    for column in columns:
        rule = masks.rule_for(shape.names, column.name)
        if _is_named_so(column) and (rule is None or _is_left_bare(rule, column)):
            yield column


def _is_named_so(column: Column) -> bool:
    return looks_personal(column.name) and column.type.category not in "BE"


def _is_left_bare(rule: MaskRule, column: Column) -> bool:
    return rule.mask.kind is not Kind.KEEP and _passes_over(rule, column)


def passed_over(masks: Masks, shape: Shape) -> Iterator[str]:
    """Say which columns look personal and are not masked, though a pattern means their names."""
    for column in shape.columns:
        rule = masks.rule_for(shape.names, column.name)
        if rule and _is_named_so(column) and _is_left_bare(rule, column):
            yield (
                f"{quoted_key(column.name)} is {column.type.name} and stays as it is: the mask {rule.mask} of"
                f' "{rule.column}" is for texts; where it is to be masked, give it a rule by its name'
            )


def documents(
    masks: Masks, shape: Shape, columns: Iterable[Column]
) -> Iterator[tuple[Column, tuple[Path, ...]]]:
    """Yield the columns of documents that have no rule for all of their keys, and the paths that have one."""
    for column in columns:
        rule = masks.rule_for(shape.names, column.name)
        if column.type.base in ("json", "jsonb") and (rule is None or rule.mask.kind is Kind.PATHS):
            yield column, tuple(path for path, _ in rule.mask.paths) if rule else ()


def is_led_to(path: Path, ruled: Iterable[Path]) -> bool:
    """Tell whether a rule leads to a place in a document, or to something that it is a part of."""
    return any(
        len(rule) <= len(path) and all(step in (EVERY, own) for step, own in zip(rule, path, strict=False))
        for rule in ruled
    )


def not_ruled_on(shape: Shape, names: Collection[str]) -> PlanError:
    """Say what looks personal and has no rule."""
    first = next(iter(names))
    example = f'{quoted_key(first)} = "keep", or a mask'
    if " (key " in first:
        column, _, key = first.removesuffix(")").partition(" (key ")
        example = f'{quoted_key(column)} = {{ "{key}" = "keep" }}, or a mask; or "scrub" for all of it'
    return PlanError(
        f"{shape.table} has what looks personal and has no mask rule: {', '.join(names)}",
        f"rule on each in pgpull.toml, under {header(shape.table)}: {example}",
    )


# --- names that lead nowhere -----------------------------------------------------------------------------


def check_columns(masks: Masks, shape: Shape) -> None:
    """Make sure that a table has the columns that rules for it name.

    Raises:
        PlanError: it has not, so that somebody who relies on a rule would be mistaken.
    """
    known = [column.name for column in shape.columns]
    lower = {name.lower() for name in known}
    for rule in masks.rules:
        named = rule.table is not None and rule.table.plain in shape.names
        if named and rule.names_column and rule.column.lower() not in lower:
            raise PlanError(
                f"{shape.table} has no column {rule.column}, for which there is a mask",
                _meant(rule.column, known),
            )


def check_tables(masks: Masks, known: Collection[TableName]) -> None:
    """Make sure that the server has the tables that rules name.

    Raises:
        PlanError: it has not.
    """
    for table in masks.tables:
        if table not in known:
            fact = f"there are masks for {table}, and the server has no such table"
            raise PlanError(fact, _meant(str(table), [str(each) for each in known]))


def check_parts(masks: Masks, shape: Shape, roots: Mapping[TableName, TableName | None]) -> None:
    """Make sure that no rule is for a part alone of a partitioned table, whose rows come by the whole.

    Args:
        masks: the rules.
        shape: the partitioned table.
        roots: the tables of the database, and of each the partitioned table that it is a part of.

    Raises:
        PlanError: one is, and the rows of that part would come as they are.
    """
    names = shape.names
    parts = [table for table, root in roots.items() if root in names and table not in names]
    for rule in masks.rules:
        part = next((p for p in parts if rule.table is not None and rule.table.matches(p)), None)
        if part is not None and masks.mask_for(names, rule.column) != rule.mask:
            raise PlanError(
                f"there is a mask for {part}.{rule.column}, and rows of {part} come as {shape.table}'s, of"
                " which it is a partition",
                _write(shape, rule.column, rule.mask),
            )


def _meant(word: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else f"it has: {', '.join(sorted(known)[:20])}"


def words(found: Iterable[Chosen]) -> dict[str, str]:
    """Return the masks of columns, as an archive's manifest has them."""
    return {each.column.name: str(each.mask) for each in found}


def check_archived(masks: Masks, shape: Shape, columns: Iterable[Column], archived: Mapping[str, str]) -> None:
    """Make sure that an archive was masked as the rules say: what is in its files is what comes.

    Args:
        masks: the rules.
        shape: the table, as the server had it.
        columns: those of it that come.
        archived: how the archive's columns were masked.

    Raises:
        PlanError: one was masked otherwise, or, strictly, looks personal and was not masked.
    """
    coming = replace(shape, columns=tuple(columns))
    for name, mask in words(chosen(masks, coming)).items():
        if archived.get(name) != mask:
            was = archived.get(name, '"keep"')
            raise PlanError(
                f"the rules mask {shape.table}.{quoted(name)} as {mask}, and the archive was made with {was}",
                "export it anew, with these rules; or load it with a --config that has others",
            )
    bare = [column.name for column in unruled(masks, coming, coming.columns) if column.name not in archived]
    if masks.strict and bare:
        raise not_ruled_on(shape, bare)


def notes(found: Iterable[Chosen]) -> Iterator[str]:
    """Say what is masked, and how."""
    if words := ", ".join(f"{quoted_key(each.column.name)} = {each.mask}" for each in found):
        yield f"masked by the server, before it is sent: {words}"
