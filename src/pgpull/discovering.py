"""Personal data looked for on the server: columns, and keys of documents, with how many rows have them.

Rows are counted there, and nothing but counts and names comes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from pgpull.diagnosis import translated
from pgpull.findings import Finding, good, note
from pgpull.fitting import header, quoted_key
from pgpull.masking import Kind, MaskRule, looks_personal
from pgpull.model import Request
from pgpull.sessions import Session
from pgpull.shapes import Column, Shape
from pgpull.sql import personal as sql

_TEXTS: Final = ("text", "varchar", "bpchar", "citext", "json", "jsonb")
_DOCUMENTS: Final = ("json", "jsonb")


def found_personal(source: Session, request: Request, shape: Shape) -> Iterator[Finding]:
    """Say which columns of a table look personal, and how many rows of the scope do.

    Args:
        source: the server, which reads all rows in scope.
        request: which rows, and the rules for masks.
        shape: the table.

    Raises:
        Stopped: the connection was lost, or the server gave up.
    """
    looked_at = [c for c in shape.columns if c.readable and (c.type.base in _TEXTS or looks_personal(c.name))]
    if not looked_at:
        yield good(shape.table, "no column looks personal")
        return
    rows, *counts = _count(source, request, shape, [column.name for column in looked_at])
    silent = True
    for number, column in enumerate(looked_at):
        facts = list(_facts(column, rows, counts[3 * number : 3 * number + 3]))
        if column.type.base in _DOCUMENTS:
            facts += _keys(source, request, shape, column)
        if facts:
            silent = False
            yield _finding(request, shape, column, facts)
    if silent:
        yield good(shape.table, f"nothing in {rows:,} rows looks personal")


def _count(source: Session, request: Request, shape: Shape, columns: Sequence[str]) -> Sequence[int]:
    statement = sql.count_values(shape, columns, request.scope, request.timezone)
    with translated(source.side, source.connection):
        row = source.connection.execute(statement).fetchone()
    assert row is not None
    return row


def _facts(column: Column, rows: int, counts: Sequence[int]) -> Iterator[str]:
    filled, addresses, numbers = counts
    if looks_personal(column.name) and column.type.category not in "BE":
        yield f"is called so, and has a value in {filled:,} of {rows:,} rows"
    if column.type.base in _TEXTS and addresses:
        yield f"e-mail addresses in {addresses:,} of {rows:,} rows"
    if column.type.base in _TEXTS and numbers:
        yield f"numbers as telephones, cards and accounts have them in {numbers:,} of {rows:,} rows"


def _keys(source: Session, request: Request, shape: Shape, column: Column) -> Iterator[str]:
    statement = sql.count_keys(shape, column.name, request.scope, request.timezone)
    with translated(source.side, source.connection):
        found = source.connection.execute(statement).fetchall()
    for key, rows in found:
        yield f"the key {key} in {rows:,} rows"


def _finding(request: Request, shape: Shape, column: Column, facts: Sequence[str]) -> Finding:
    rule: MaskRule | None = request.masks.rule_for(shape.names, column.name)
    fact = f"{column.name}: {'; '.join(facts)}"
    if rule is None:
        rule_for_it = f"{quoted_key(column.name)} = {_fitting(column)}"
        hint = f"rule on it in pgpull.toml, under {header(shape.table)}: {rule_for_it}"
        return note(shape.table, fact, hint)
    how = "is to be seen as it is" if rule.mask.kind is Kind.KEEP else f"is masked: {rule.mask}"
    return good(shape.table, f"{fact}; {how}")


def _fitting(column: Column) -> str:
    if column.type.base in _DOCUMENTS:
        return '"scrub", a mask by path, or "keep"'
    return '"keep", or a mask'
