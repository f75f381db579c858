"""Whether rules name what is there, and what is there was masked by them. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from pgpull.errors import PlanError
from pgpull.exposed import not_ruled_on, unruled
from pgpull.fitting import chosen, rule_to_write, words
from pgpull.masking import Masks
from pgpull.shapes import Column, Shape, TableName, quoted


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
                rule_to_write(shape, rule.column, rule.mask),
            )


def _meant(word: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else f"it has: {', '.join(sorted(known)[:20])}"


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
