"""Personal data looked for on the server: columns, and keys of documents, with how many rows have them.

Rows are counted there, and nothing but counts and names comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from psycopg.sql import Composed

from pgpull.diagnosis import translated
from pgpull.exposed import is_led_to, is_left_bare, is_named_so, left_bare
from pgpull.findings import Finding, good, note
from pgpull.fitting import header, others_for, quoted_key
from pgpull.masking import Kind, MaskRule, Path, looks_personal, spelled
from pgpull.model import Request
from pgpull.sessions import Session
from pgpull.shapes import DOCUMENTS, Column, Shape
from pgpull.sql import personal as sql

_TEXTS: Final = ("text", "varchar", "bpchar", "citext", *DOCUMENTS)


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
    found = [
        finding
        for number, column in enumerate(looked_at)
        for finding in _findings(
            source, request, shape, column, _facts(column, rows, counts[3 * number : 3 * number + 3])
        )
    ]
    yield from found or [good(shape.table, f"nothing in {rows:,} rows looks personal")]


def _count(source: Session, request: Request, shape: Shape, columns: Sequence[str]) -> Sequence[int]:
    statement = sql.count_values(shape, columns, request.scope, request.timezone)
    with translated(source.side, source.connection):
        row = source.connection.execute(statement).fetchone()
    assert row is not None
    return row


def _facts(column: Column, rows: int, counts: Sequence[int]) -> Iterator[str]:
    filled, addresses, numbers = counts
    if is_named_so(column):
        yield f"is called so, and has a value in {filled:,} of {rows:,} rows"
    if column.type.base in _TEXTS and addresses:
        yield f"e-mail addresses in {addresses:,} of {rows:,} rows"
    if column.type.base in _TEXTS and numbers:
        yield f"numbers as telephones, cards and accounts have them in {numbers:,} of {rows:,} rows"


def _findings(
    source: Session, request: Request, shape: Shape, column: Column, facts: Iterable[str]
) -> Iterator[Finding]:
    """Say what looks personal in a column, and whether it is masked; nothing where nothing does."""
    rule = request.masks.rule_for(shape.names, column.name)
    keys, bare = _keys(source, request, shape, column, rule)
    if bare:
        [first, *_] = bare
        hint = f'rule on each in the mask of {quoted_key(column.name)}: "{spelled(first)}" = ..., or "keep"'
        fact = f"{column.name}: no mask leads to {', '.join(_key_fact(*found) for found in bare.items())}"
        yield note(shape.table, fact, hint)
    of_all, of_keys = list(facts), [_key_fact(*found) for found in keys.items()]
    if of_all and _goes_by_path(rule):
        fact = f"{column.name}: {'; '.join(of_all)}, wherever in them: masks go by path"
        yield note(shape.table, fact, f'a mask for all of the texts in it: {quoted_key(column.name)} = "scrub"')
        of_all = []
    if of_all or of_keys:
        yield _finding(shape, column, rule, f"{column.name}: {'; '.join([*of_all, *of_keys])}")


def _goes_by_path(rule: MaskRule | None) -> bool:
    return rule is not None and rule.mask.kind is Kind.PATHS


def _keys(
    source: Session, request: Request, shape: Shape, column: Column, rule: MaskRule | None
) -> tuple[dict[Path, int], dict[Path, int]]:
    """Count the documents with keys that look personal; apart those that no mask by path leads to."""
    if column.type.base not in DOCUMENTS:
        return {}, {}
    where = shape, column.name, request.scope, request.timezone
    # of json, whose masks cannot go by path, a pull will say so
    if rule is None or not _goes_by_path(rule) or column.type.base == "json":
        return {(key,): rows for key, rows in _ask(source, sql.count_keys(*where))}, {}
    found = {tuple(path): rows for path, rows in _ask(source, sql.count_paths(*where))}
    ruled = [path for path, _ in rule.mask.paths]
    bare = {path: rows for path, rows in found.items() if not is_led_to(path, ruled)}
    return {path: rows for path, rows in found.items() if path not in bare}, bare


def _ask(source: Session, question: Composed) -> list[tuple[Any, ...]]:
    with translated(source.side, source.connection):
        return source.connection.execute(question).fetchall()


def _key_fact(path: Path, rows: int) -> str:
    return f"the key {spelled(path)} in {rows:,} rows"


def _finding(shape: Shape, column: Column, rule: MaskRule | None, fact: str) -> Finding:
    by_name = f"under {header(shape.table)}: {quoted_key(column.name)} = "
    if rule is None:
        return note(shape.table, fact, f"rule on it in pgpull.toml, {by_name}{_fitting(column)}")
    if rule.mask.kind is Kind.KEEP:
        return good(shape.table, f"{fact}; is to be seen as it is")
    if is_left_bare(rule, column):
        hint = f"where it is to be masked, write in pgpull.toml, {by_name}{others_for(column)}"
        return note(shape.table, f"{fact}; {left_bare(rule, column)}", hint)
    return good(shape.table, f"{fact}; is masked: {rule.mask}")


def _fitting(column: Column) -> str:
    if column.type.base in DOCUMENTS:
        return '"scrub", a mask by path, or "keep"'
    return '"keep", or a mask'
