"""Which columns of a table are masked, and whether a mask fits the column's type. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from pgpull.errors import PlanError
from pgpull.masking import Kind, Mask, MaskRule, Masks
from pgpull.shapes import DOCUMENTS, TIMES, Column, Shape, TableName, quoted
from pgpull.sql.masks import EMAIL_FRAME, length_of

TEXTS: Final = ("text", "varchar", "bpchar", "citext")
_NUMBERS: Final = ("int2", "int4", "int8", "numeric", "float4", "float8")

_FIT: Final = {
    Kind.HASH: (*TEXTS, "uuid", "int8"),
    Kind.EMAIL: TEXTS,
    Kind.PHONE: (*TEXTS, "int8"),
    Kind.NAME: TEXTS,
    Kind.LENGTH: TEXTS,
    Kind.DAYS: TIMES,
    Kind.MAGNITUDE: _NUMBERS,
    Kind.SCRUB: (*TEXTS, *DOCUMENTS),
    Kind.PATHS: ("jsonb",),
}
"""The types that a mask is for; one that is not here is for all."""

_SHORTEST: Final = {Kind.HASH: 8, Kind.EMAIL: EMAIL_FRAME + 8, Kind.PHONE: 7}
"""So many characters a mask needs."""

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
        if rule and rule.mask.kind is not Kind.KEEP and not passes_over(rule, column):
            _check_type(shape, column, rule)
            found.append(Chosen(column, rule.mask))
    return tuple(found)


def passes_over(rule: MaskRule, column: Column) -> bool:
    """Tell whether a pattern means a column by its name that no mask of its kind was made for."""
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
        raise PlanError(what, rule_to_write(shape, column.name, others_for(column)))
    length = length_of(kind) if kind.base in TEXTS else None
    if length is not None and length < _SHORTEST.get(mask.kind, 0):
        fact = f"{where} is {kind.name}: too short for the mask {mask}, which needs {_SHORTEST[mask.kind]}"
        raise PlanError(fact, rule_to_write(shape, column.name, '"length", "null" or { constant = "..." }'))
    if mask.kind is Kind.MAGNITUDE and ",-" in kind.name:
        raise PlanError(
            f"{where} is {kind.name}: numbers are rounded before the point",
            rule_to_write(shape, column.name, '{ sql = "..." }'),
        )


def others_for(column: Column) -> str:
    """Return the masks that a column may have instead, as they are written."""
    fitting = [f'"{kind}"' for kind, fit in _FIT.items() if column.type.base in fit and kind in _ONE_WORD]
    return ", ".join(['"keep"', *fitting, '"null"', "{ constant = ... }"]) + ' or { sql = "..." }'


_ONE_WORD: Final = (Kind.HASH, Kind.EMAIL, Kind.PHONE, Kind.NAME, Kind.LENGTH, Kind.MAGNITUDE, Kind.SCRUB)


def rule_to_write(shape: Shape, column: str, mask: object) -> str:
    """Return the hint that says which rule a column wants."""
    return f"write in pgpull.toml, under {header(shape.table)}: {quoted_key(column)} = {mask}"


def header(table: TableName) -> str:
    """Return the line of a file that rules for a table's masks stand under."""
    name = str(table).replace("\\", "\\\\").replace('"', '\\"')
    return f'[tables."{name}".mask]'


def quoted_key(column: str) -> str:
    """Return a column's name as a key in a TOML file."""
    return column if column.isascii() and column.replace("_", "").isalnum() else f'"{column}"'


def words(found: Iterable[Chosen]) -> dict[str, str]:
    """Return the masks of columns, as an archive's manifest has them."""
    return {each.column.name: str(each.mask) for each in found}


def notes(found: Iterable[Chosen]) -> Iterator[str]:
    """Say what is masked, and how."""
    if words := ", ".join(f"{quoted_key(each.column.name)} = {each.mask}" for each in found):
        yield f"masked by the server, before it is sent: {words}"
