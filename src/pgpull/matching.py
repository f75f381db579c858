"""Whether masked rows can be told apart, chosen, and refer to each other as before. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from pgpull.drift import Unique
from pgpull.errors import PlanError
from pgpull.fitting import TEXTS, Chosen, header, others_for, passes_over, quoted_key, rule_to_write
from pgpull.masking import KEPT, Kind, Mask, Masks
from pgpull.model import Scope
from pgpull.shapes import Column, ForeignKey, Reference, Shape, TableName, quoted
from pgpull.sql.masks import EMAIL_FRAME, length_of

_SHORTEST: Final = {Kind.HASH: 32, Kind.EMAIL: EMAIL_FRAME + 16}
"""So many characters a mask needs, where no two may ever meet."""


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
            rule_to_write(source, each.column.name, others_for(each.column)),
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
            rule_to_write(source, column.name, '"hash", "email" or { sql = "..." }, which keep values apart'),
        )
    needed, length = _SHORTEST.get(mask.kind, 0), length_of(column.type)
    if column.type.base in TEXTS and length is not None and length < needed:
        raise PlanError(
            f"{where} is unique, and {column.type.name} is too short for the mask {mask}: it takes {needed}"
            " characters that no two values meet",
            rule_to_write(source, column.name, '"keep" or { sql = "..." }'),
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
    return KEPT if rule is None or (known and passes_over(rule, known)) else rule.mask


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
