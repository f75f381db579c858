"""What of a table nobody is to see: its masks, looked for among the rules and tried on the server."""

from __future__ import annotations

import re
from dataclasses import replace

import psycopg

from pgpull import catalog, exposed, fitting, matching, ruling, scoping
from pgpull.archives import ArchivedTable
from pgpull.diagnosis import translated
from pgpull.drift import Standards
from pgpull.errors import PlanError, SettingsError
from pgpull.fitting import Chosen
from pgpull.masking import Kind, Masks
from pgpull.model import Request
from pgpull.sessions import Session
from pgpull.shapes import Column, Shape
from pgpull.sql import masks as sql
from pgpull.sql import personal

_LEAST_KEY = 16

_NOTHING = (("", ""),)
"""The mask of no column: a table that has it shows the columns that it names, and no others."""


def masked(
    source: Session,
    request: Request,
    theirs: Shape,
    ours: Shape | None = None,
    standards: Standards | None = None,
) -> tuple[Shape, tuple[str, ...]]:
    """Return the server's table as it may be read, and notes of what is masked.

    Args:
        source: the server.
        request: what is asked for, with the rules.
        theirs: the server's table.
        ours: the local one, if there is one.
        standards: what local asks of its rows.

    Raises:
        PlanError: a mask does not fit; nothing has been read.
        SettingsError: there is no key to mask with.
    """
    masks = request.masks
    if not masks:
        return theirs, ()
    if source.substitute is not None:
        _check_archived(request, source.substitute.table(theirs.table), ours)
        return theirs, ()
    ruling.check_columns(masks, theirs)
    found = fitting.chosen(masks, theirs)
    if theirs.kind == "p" and any(rule.table for rule in masks.rules):
        ruling.check_parts(masks, theirs, catalog.names_of(source))
    if masks.strict:
        if request.scope.narrows:  # which goes into a question now
            scoping.check_condition(source, request.scope, theirs, request.timezone)
        _check_strictly(source, request, theirs, ours)
    matching.check(masks, found, theirs, ours, standards.uniques if standards else (), request.scope)
    if any(each.mask.needs_key for each in found):
        _check_key(source)
    expressions = [(each.column.name, sql.masked_value(each.mask, each.column, theirs)) for each in found]
    _try(source, theirs, found, dict(expressions))
    shape = replace(theirs, masks=tuple(expressions))
    _check_condition(source, request, theirs, shape)
    return shape, (*fitting.notes(found), *exposed.passed_over(masks, theirs))


def _check_archived(request: Request, archived: ArchivedTable, ours: Shape | None) -> None:
    """Hold an archive's masks against the rules, with the types that its columns had on the server."""
    ruling.check_columns(request.masks, archived.shape)
    columns = [c for c in _travelling(request, archived.shape, ours) if c.name in archived.columns]
    ruling.check_archived(request.masks, archived.shape, columns, archived.masks)


def _travelling(request: Request, theirs: Shape, ours: Shape | None) -> list[Column]:
    return [
        column
        for column in theirs.columns
        if column.readable and column.name not in request.without and (ours is None or ours.column(column.name))
    ]


def _check_strictly(source: Session, request: Request, theirs: Shape, ours: Shape | None) -> None:
    """Stop at what looks personal and has no rule.

    Keys of documents are looked for in the first rows of the scope.
    """
    travels = _travelling(request, theirs, ours)
    open_ones = [column.name for column in exposed.unruled(request.masks, theirs, travels)]
    for column, ruled in exposed.documents(request.masks, theirs, travels):
        ask = personal.paths_in_some if ruled else personal.keys_in_some
        question = ask(theirs, column.name, request.scope, request.timezone, _SOME)
        with translated(source.side, source.connection):
            found = [place for (place,) in source.connection.execute(question)]
        keys = (
            found if not ruled else [place[-1] for place in found if not exposed.is_led_to(tuple(place), ruled)]
        )
        open_ones += [f"{column.name} (key {key})" for key in dict.fromkeys(keys)]
    if open_ones:
        raise exposed.not_ruled_on(theirs, open_ones)


_SOME = 1_000
"""Documents whose keys are looked at before a strict pull."""


def check_tables(source: Session, masks: Masks) -> None:
    """Make sure that the server has the tables that rules name.

    Raises:
        PlanError: it has not.
        ConnectionLost: the connection went away.
    """
    if masks.tables and source.substitute is None:  # an archive need not have all
        ruling.check_tables(masks, catalog.names_of(source))


def _check_key(source: Session) -> None:
    key = source.endpoint.mask_key
    if len(key) >= _LEAST_KEY:
        return
    fact = "the server's settings have no PGPULL_MASK_KEY, and there are masks that depend on it"
    if key:
        fact = f"PGPULL_MASK_KEY has {len(key)} characters: one so short can be guessed"
    raise SettingsError(
        fact,
        "put one into .env, the whole team's: PGPULL_MASK_KEY=..., as openssl rand -hex 32 prints it; in Python"
        " it is a part of the source, which pgpull.settings.load().source is, and a URL is not",
    )


# --- on the server ---------------------------------------------------------------------------------------


def _try(source: Session, shape: Shape, found: tuple[Chosen, ...], expressions: dict[str, str]) -> None:
    """Let the server's parser judge what users wrote, without reading a row."""
    written = [each for each in found if each.mask.kind in (Kind.SQL, Kind.CONSTANT, Kind.PATHS)]
    for each in written:
        with translated(source.side, source.connection):
            try:
                with source.connection.transaction():
                    source.connection.execute(sql.probe(expressions[each.column.name], shape), binary=True)
            except (psycopg.DataError, psycopg.ProgrammingError, psycopg.NotSupportedError) as error:
                raise PlanError(
                    f"the server does not take the mask of {shape.table}.{each.column.name}:"
                    f" {error.diag.message_primary} ({error.sqlstate})",
                    f"the mask was: {each.mask}",
                ) from error
        _check_steady(source, shape, each)


_NOW = re.compile(
    r"\b(now|current_timestamp|current_date|current_time|localtime|localtimestamp)\b", re.IGNORECASE
)


def _check_steady(source: Session, shape: Shape, each: Chosen) -> None:
    """Refuse what gives another value each time: both sides would never be equal."""
    texts = [str(mask.value) for mask in (each.mask, *(m for _, m in each.mask.paths)) if mask.kind is Kind.SQL]
    names = {name.lower() for text in texts for name in re.findall(r"[A-Za-z_][A-Za-z0-9_$]*", text)}
    if not names:
        return
    with translated(source.side, source.connection):
        rows = source.connection.execute(sql.FICKLE, {"names": sorted(names)}).fetchall()
    fickle = [name for (name,) in rows] + [found for text in texts for found in _NOW.findall(text)]
    if fickle:
        raise PlanError(
            f"the mask of {shape.table}.{each.column.name} calls {fickle[0]}, which is another each time",
            "the same value has to have the same mask; functions that see to it are IMMUTABLE or STABLE",
        )


def _check_condition(source: Session, request: Request, bare: Shape, shape: Shape) -> None:
    """Make sure that the user's condition does not ask for what is masked, which would be asked of the mask."""
    if not (request.scope.where and shape.masks):
        return
    scoping.check_condition(source, request.scope, bare, request.timezone)
    without = replace(
        bare,
        columns=tuple(column for column in bare.columns if column.name not in shape.masked),
        masks=_NOTHING,
    )
    try:
        with source.connection.transaction():
            scoping.check_condition(source, request.scope, without, request.timezone)
    except PlanError as error:
        named = next(
            (name for name in shape.masked if name in (request.scope.where or "")), sorted(shape.masked)[0]
        )
        raise matching.masked_scope(bare, named) from error
