"""Expressions that a server computes in the place of a column's value, so that the value never leaves it.

Each is one expression over one row, of functions that every supported version has; nothing is made on the
server. All depend on the value and the key alone, so that the same value has the same mask wherever it stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pgpull.masking import EVERY, Kind, Mask, Path
from pgpull.shapes import DOCUMENTS, Column, ColumnType, Shape
from pgpull.sql.parts import rows_of, verbatim
from pgpull.sql.scrubbing import address_for, hashed, scrub_json, scrub_text

LET_MASK: Final = SQL("SELECT set_config('pgpull.mask_key', %s, true)")
"""Give the key to the session: as a parameter, which no list of running statements shows."""

EMAIL_FRAME: Final = len("user_@example.com")
_HASH_DIGITS: Final = 32
_EMAIL_DIGITS: Final = 16

_FIRST: Final = (
    "Alex Andrea Ariel Billie Cameron Casey Charlie Dana Drew Elliot Emery Finley Francis Jamie Jesse Jordan"
    " Kai Kelly Kim Lee Logan Max Morgan Nico Quinn Riley Robin Rowan Sam Sasha Taylor Toni"
).split()
_LAST: Final = (
    "Adler Banks Becker Brook Carver Cole Cooper Dale Ellis Falk Ferris Fisher Gardner Glover Hale Harper Hill"
    " Hunter Keller Lane Marsh Mason Miller North Parker Porter Reed Sawyer Turner Vance Weaver Wood"
).split()

_FILLER: Final = "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor "

_MOST: Final = {"int2": 2**15 - 1, "int4": 2**31 - 1, "int8": 2**63 - 1}


def masked_value(mask: Mask, column: Column, shape: Shape) -> str:
    """Return the expression that is read in the place of a column, of the column's own type.

    Args:
        mask: which fits the type.
        column: of the source.
        shape: the table that it is a column of.
    """
    value = Identifier(shape.table.name, column.name)
    made = _TO_VALUE[mask.kind](mask, value, column.type)
    return SQL("({})::{}").format(made, verbatim(column.type.name)).as_string(None)


def length_of(kind: ColumnType) -> int | None:
    """Return the most characters that a text may have; None for as many as there are."""
    found = re.search(r"\((\d+)\)$", kind.name)
    return int(found[1]) if found else None


def probe(mask: str, shape: Shape) -> Composed:
    """Ask for no row that has a mask: the parser then says what is wrong with the mask.

    In a condition there can be no function that makes one row of many, or many of one.
    """
    rows = SQL("{} AS {}").format(rows_of(shape), Identifier(shape.table.name))
    return SQL("SELECT FROM {} WHERE ({}\n) IS NULL LIMIT 0").format(rows, verbatim(mask))


FICKLE: Final = SQL("""
    SELECT p.proname FROM pg_proc AS p WHERE p.proname = ANY (%(names)s)
     GROUP BY p.proname HAVING bool_and(p.provolatile = 'v')
""")
"""Which functions of some names give another answer each time."""


# --- one value -------------------------------------------------------------------------------------------


def _text(value: Composable) -> Composed:
    return SQL("{}::text").format(value)


def _with_number(value: Composable, template: str) -> Composed:
    """Make something of a number of 60 bits that depends on a value: ``n`` in the template."""
    return SQL("(SELECT {} FROM (SELECT ('x' || left({}, 15))::bit(60)::bigint AS n OFFSET 0) AS h)").format(
        verbatim(template), hashed(_text(value))
    )


def _null(_mask: Mask, _value: Composable, _kind: ColumnType) -> Composable:
    return SQL("NULL")


def _constant(mask: Mask, value: Composable, kind: ColumnType) -> Composable:
    text = json.dumps(mask.value) if kind.base in DOCUMENTS else _plain(mask.value)
    made = SQL("CASE WHEN {} IS NOT NULL THEN {}::{} END")
    return made.format(value, Literal(text), verbatim(kind.name))


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _hash(_mask: Mask, value: Composable, kind: ColumnType) -> Composable:
    if kind.base == "int8":
        return _with_number(value, "n")
    digits = _HASH_DIGITS if kind.base == "uuid" else min(_HASH_DIGITS, length_of(kind) or _HASH_DIGITS)
    return SQL("left({}, {})").format(hashed(_same_text(value, kind)), digits)


def _same_text(value: Composable, kind: ColumnType) -> Composed:
    """The value as text; values that are equal to the type have one text."""
    return SQL("lower({}::text)").format(value) if kind.base == "citext" else _text(value)


def _email(_mask: Mask, value: Composable, kind: ColumnType) -> Composable:
    digits = min(_EMAIL_DIGITS, (length_of(kind) or EMAIL_FRAME + _EMAIL_DIGITS) - EMAIL_FRAME)
    return address_for(_same_text(value, kind), digits)


def _phone(_mask: Mask, value: Composable, kind: ColumnType) -> Composable:
    """A number of the area code 555, which nobody has."""
    if kind.base == "int8":
        return _with_number(value, "15550000000 + n % 10000000")
    return SQL("right({}, {})").format(
        _with_number(value, "'+1555' || lpad((n % 10000000)::text, 7, '0')"), length_of(kind) or 12
    )


def _name(_mask: Mask, value: Composable, kind: ColumnType) -> Composable:
    first, last = (f"('{{{','.join(names)}}}'::text[])" for names in (_FIRST, _LAST))
    number, more = len(_FIRST), len(_LAST)
    made = _with_number(value, f"{first}[1 + n % {number}] || ' ' || {last}[1 + n / {number} % {more}]")
    length = length_of(kind)
    return SQL("left({}, {})").format(made, length) if length else made


def _days(mask: Mask, value: Composable, kind: ColumnType) -> Composable:
    days = Literal(mask.value)
    return SQL("{} + {}").format(
        value, days if kind.base == "date" else SQL("make_interval(days => {})").format(days)
    )


def _length(_mask: Mask, value: Composable, _kind: ColumnType) -> Composable:
    return SQL("left(repeat({filler}, 1 + length({text}) / {size}), length({text}))").format(
        filler=Literal(_FILLER), text=_text(value), size=len(_FILLER)
    )


def _magnitude(_mask: Mask, value: Composable, kind: ColumnType) -> Composable:
    if kind.base in _MOST:
        return _magnitude_of_integer(value, _MOST[kind.base])
    if kind.base == "numeric":
        return _magnitude_of_numeric(value)
    return _magnitude_of_float(value, kind.base)


def _with_digits(value: Composable, digits: Composable, most: int | None, made: str) -> Composed:
    """Make a number of as many digits: ``v`` is the value, ``d`` its digits, ``m`` a number of the same length.

    Zero stays zero, and so does what is no number.
    """
    return SQL(
        "(SELECT CASE WHEN d !~ '^[1-9][0-9]*$' THEN v ELSE {made} END FROM (SELECT v, d,"
        " CASE WHEN d ~ '^[1-9][0-9]*$' THEN lo + mod(n, hi - lo + 1) END AS m FROM (SELECT v, d, n,"
        " CASE WHEN d <> '' THEN ('1' || repeat('0', length(d) - 1))::numeric END AS lo,"
        " CASE WHEN d <> '' THEN least(repeat('9', length(d))::numeric{most}) END AS hi"
        " FROM (SELECT {value} AS v, {digits} AS d,"
        " ('x' || left({hash}, 15))::bit(60)::bigint::numeric AS n OFFSET 0) AS h) AS h) AS h)"
    ).format(
        made=verbatim(made),
        value=value,
        digits=digits,
        most=SQL(", {}").format(Literal(most)) if most else SQL(""),
        hash=hashed(_text(value)),
    )


def _magnitude_of_integer(value: Composable, most: int) -> Composed:
    digits = SQL("ltrim({}::text, '-')").format(value)
    return _with_digits(value, digits, most, "(sign(v)::numeric * m)")


def _magnitude_of_numeric(value: Composable) -> Composed:
    digits = SQL("ltrim(ltrim(replace({}::text, '.', ''), '-'), '0')").format(value)
    made = "((CASE WHEN v < 0 THEN '-' ELSE '' END) || m::text || 'e-' || scale(v))::numeric"
    return _with_digits(value, digits, None, made)


def _magnitude_of_float(value: Composable, kind: str) -> Composed:
    most, least = (308, "1e-300") if kind == "float8" else (38, "1e-37")
    return SQL(
        "(SELECT CASE WHEN v::text IN ('NaN', 'Infinity', '-Infinity') THEN v WHEN abs(v) < {least} THEN 0"
        " ELSE sign(v) * power(10::float8, floor(log(abs(v))))"
        " * (1 + (CASE WHEN abs(v) >= {most} THEN 0.7 ELSE 8.99 END) * (n / 1152921504606846976.0::float8)) END"
        " FROM (SELECT {value}::float8 AS v, ('x' || left({hash}, 15))::bit(60)::bigint AS n OFFSET 0) AS h)"
    ).format(least=SQL(least), most=SQL(f"1e{most}"), value=value, hash=hashed(_text(value)))


def _scrub(_mask: Mask, value: Composable, kind: ColumnType) -> Composable:
    if kind.base in DOCUMENTS:
        return scrub_json(value, kind.base)
    return scrub_text(_text(value))


def _sql(mask: Mask, value: Composable, _kind: ColumnType) -> Composable:
    return SQL("{}\n").format(verbatim(str(mask.value).replace("{value}", value.as_string(None))))


def _paths(mask: Mask, value: Composable, _kind: ColumnType) -> Composable:
    for path, inner in mask.paths:
        value = _at(value, path, inner, 0)
    return value


_TO_VALUE: Final[Mapping[Kind, Callable[[Mask, Composable, ColumnType], Composable]]] = {
    Kind.NULL: _null,
    Kind.CONSTANT: _constant,
    Kind.HASH: _hash,
    Kind.EMAIL: _email,
    Kind.PHONE: _phone,
    Kind.NAME: _name,
    Kind.DAYS: _days,
    Kind.MAGNITUDE: _magnitude,
    Kind.LENGTH: _length,
    Kind.SCRUB: _scrub,
    Kind.SQL: _sql,
    Kind.PATHS: _paths,
}

# --- values in a document --------------------------------------------------------------------------------

_TEXT: Final = ColumnType("text", "text", 25, "b", "S", True, True)
_NUMERIC: Final = ColumnType("numeric", "numeric", 1700, "b", "N", True, True)


def _at(value: Composable, path: Path, mask: Mask, depth: int) -> Composed:
    """Mask what a path leads to in a document; whatever has no such place stays as it is.

    Each level is a subselect that the planner does not take apart, so that no value is computed twice.
    """
    here = Identifier(f"pgpull_{depth}", "v")
    if not path:
        made = _leaf(mask, here)
    elif path[0] == EVERY:
        made = _each(here, path[1:], mask, depth)
    else:
        # of an object, or, if it is a number, of an array
        key = SQL("ARRAY[{}]").format(Literal(path[0]))
        inner = _at(SQL("({} #> {})").format(here, key), path[1:], mask, depth + 1)
        made = SQL(
            "CASE WHEN {v} #> {key} IS NOT NULL THEN jsonb_set({v}, {key}, {inner}) ELSE {v} END"
        ).format(v=here, key=key, inner=inner)
    return SQL("(SELECT {} FROM (SELECT {} AS v OFFSET 0) AS {})").format(
        made, value, Identifier(f"pgpull_{depth}")
    )


def _each(here: Composable, path: Path, mask: Mask, depth: int) -> Composed:
    element = Identifier(f"pgpull_e{depth}", "v")
    return SQL(
        "CASE jsonb_typeof({v})"
        " WHEN 'array' THEN (SELECT coalesce(jsonb_agg({inner} ORDER BY n), '[]')"
        " FROM jsonb_array_elements({v}) WITH ORDINALITY AS {e} (v, n))"
        " WHEN 'object' THEN (SELECT coalesce(jsonb_object_agg(k, {inner}), '{{}}')"
        " FROM jsonb_each({v}) AS {e} (k, v))"
        " ELSE {v} END"
    ).format(v=here, e=Identifier(f"pgpull_e{depth}"), inner=_at(element, path, mask, depth + 1))


def _leaf(mask: Mask, here: Composable) -> Composable:
    """Mask a value of a document. One of another kind than the mask is for is masked as its text."""
    if mask.kind is Kind.KEEP:
        return here
    if mask.kind is Kind.SCRUB:
        return scrub_json(here, "jsonb")
    if mask.kind is Kind.SQL:
        # NULL in the place of a value would make NULL of the whole document
        return SQL("coalesce(to_jsonb({}), 'null')").format(_sql(mask, here, _TEXT))
    if mask.kind is Kind.CONSTANT:
        made: Composable = SQL("{}::jsonb").format(Literal(json.dumps(mask.value)))
    elif mask.kind is Kind.NULL:
        made = SQL("'null'::jsonb")
    else:
        made = _masked_leaf(mask, here)
    return SQL("CASE WHEN jsonb_typeof({v}) = 'null' THEN {v} ELSE {made} END").format(v=here, made=made)


def _masked_leaf(mask: Mask, here: Composable) -> Composed:
    text = SQL("({} #>> '{{}}')").format(here)
    if mask.kind is not Kind.MAGNITUDE:
        return SQL("to_jsonb({}::text)").format(_TO_VALUE[mask.kind](mask, text, _TEXT))
    number = SQL("(CASE WHEN jsonb_typeof({}) = 'number' THEN {} END)::numeric").format(here, text)
    return SQL("CASE WHEN jsonb_typeof({}) = 'number' THEN to_jsonb({}) ELSE 'null'::jsonb END").format(
        here, _magnitude(mask, number, _NUMERIC)
    )
