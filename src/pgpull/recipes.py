"""pgpull.toml: standing rules for tables, and recipes, which are named pulls with parameters. Pure.

A rule or a recipe says in the file's words what the command line says in options. What is said more closely
wins: first the defaults, then the rules for a table, a recipe, a table in it, the command line.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from psycopg.sql import Literal
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pgpull.errors import SettingsError, UsageError
from pgpull.model import Job, OnConflict, Request, Wanted
from pgpull.requesting import make_request
from pgpull.shapes import TableName, TablePattern
from pgpull.toml_lines import Place, line_of

# --- what may stand in the file --------------------------------------------------------------------------


class _Words(BaseModel):
    """What can be said of a table."""

    model_config = ConfigDict(extra="forbid", strict=True)

    since: str | None = None
    until: str | None = None
    window: str | None = None
    equals: dict[str, str | int | float | bool] | None = None
    where: str | None = None
    timezone: str | None = None
    on_conflict: OnConflict | None = Field(default=None, strict=False)
    batch_size: int | None = Field(default=None, ge=1)
    max_errors: str | int | None = None
    mirror: bool | None = None
    max_delete: str | int | None = None
    replace: bool | None = None
    new: bool | None = None
    overlap: str | None = None
    verify: bool | None = None
    row_versions: bool | None = None
    without: list[str] | None = None
    keep: list[str] | None = None

    def given(self) -> dict[str, Any]:
        """Return what is said, under the names that a request is made with."""
        return {name: value for name in _Words.model_fields if (value := getattr(self, name)) is not None}


class _Entry(_Words):
    """A table of a recipe."""

    table: str

    @field_validator("table")
    @classmethod
    def _is_a_name(cls, text: str) -> str:
        return _checked_name(text)


class _Parameter(BaseModel):
    """A parameter of a recipe."""

    model_config = ConfigDict(extra="forbid", strict=True)

    help: str = ""
    default: str | None = None


class _Recipe(_Words):
    """A named pull."""

    description: str = ""
    parameters: dict[str, _Parameter | str] = Field(default_factory=dict)
    tables: list[_Entry | str] = Field(min_length=1)
    exclude: list[str] = Field(default_factory=list)
    with_parents: bool = False
    with_children: list[str] = Field(default_factory=list)
    create_missing: bool = False

    @field_validator("tables")
    @classmethod
    def _are_names(cls, entries: list[_Entry | str]) -> list[_Entry | str]:
        for entry in entries:
            if isinstance(entry, str):
                _checked_name(entry)
        return entries

    @field_validator("exclude", "with_children")
    @classmethod
    def _are_patterns(cls, texts: list[str]) -> list[str]:
        return [_checked_name(text) for text in texts]

    @model_validator(mode="after")
    def _uses_its_parameters(self) -> Self:
        used = {name for words in self.all_words() for name in _parameters_in(words)}
        if unknown := sorted(used - self.parameters.keys()):
            raise ValueError(f"{{{unknown[0]}}} is no parameter of the recipe: add it to parameters")
        if idle := sorted(self.parameters.keys() - used):
            raise ValueError(f"the parameter {idle[0]} is used nowhere: write {{{idle[0]}}} where it belongs")
        return self

    def all_words(self) -> Iterator[_Words]:
        """Yield the recipe's own words, and those of its tables."""
        yield self
        yield from (entry for entry in self.tables if isinstance(entry, _Entry))


class _File(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    defaults: _Words = _Words()
    tables: dict[str, _Words] = Field(default_factory=dict)
    recipes: dict[str, _Recipe] = Field(default_factory=dict)

    @field_validator("tables")
    @classmethod
    def _are_named(cls, rules: dict[str, _Words]) -> dict[str, _Words]:
        for name in rules:
            _checked_name(name)
        return rules


def _checked_name(text: str) -> str:
    try:
        TablePattern.parse(text)
    except UsageError as error:
        raise ValueError(f"{error.message}: {error.hint}") from None
    return text


# --- reading ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a recipe."""

    name: str
    help: str
    default: str | None


@dataclass(frozen=True, slots=True)
class Offer:
    """A recipe as it is offered to people."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True, slots=True)
class Recipes:
    """What a file holds; nothing, where there is none."""

    path: Path | None = None
    _file: _File = field(default_factory=_File)

    @property
    def offers(self) -> tuple[Offer, ...]:
        """The recipes, by name."""
        return tuple(
            Offer(name, recipe.description, tuple(_parameters_of(recipe)))
            for name, recipe in self._file.recipes.items()
        )

    def rules_for(self, pattern: TablePattern) -> dict[str, Any]:
        """Return what is said of the one table that a pattern means, or else of all tables."""
        words = self._file.defaults.given()
        if pattern.plain is not None:
            for name, rule in self._file.tables.items():
                if TablePattern.parse(name).matches(pattern.plain):
                    return {**words, **rule.given()}
        return words

    def job(self, tables: Iterable[tuple[str, Mapping[str, Any]]], **what: Any) -> Job:
        """Make a job of tables and the words for each, under the rules of the file.

        Args:
            tables: names or patterns, and what is said of each.
            what: ``exclude``, ``with_parents``, ``with_children``, ``create_missing``.

        Raises:
            UsageError: a word makes no sense.
        """
        listed = list(tables)
        return Job(
            wanted=tuple(wanted for name, words in listed for wanted in self._wanted(name, words)),
            exclude=tuple(map(TablePattern.parse, what.get("exclude", ()))),
            with_parents=what.get("with_parents", False),
            with_children=tuple(map(TablePattern.parse, what.get("with_children", ()))),
            create_missing=what.get("create_missing", False),
            rules=tuple(self._rules()),
        )

    def _wanted(self, name: str, words: Mapping[str, Any]) -> Iterator[Wanted]:
        pattern = TablePattern.parse(name)
        if pattern.plain is None:
            for text, rule in self._file.tables.items():
                closer = pattern.within(TablePattern.parse(text))
                yield Wanted(closer, _request({**self._file.defaults.given(), **rule.given(), **words}), True)
        yield Wanted(pattern, _request({**self.rules_for(pattern), **words}))

    def _rules(self) -> Iterator[Wanted]:
        """Yield what is said of tables whose rows come along: which columns, not which rows."""
        for text, rule in self._file.tables.items():
            words = {**self._file.defaults.given(), **rule.given()}
            yield Wanted(
                TablePattern.parse(text), _request({n: w for n, w in words.items() if n in _OF_ANY_ROW}), True
            )

    def recipe(self, name: str, values: Mapping[str, str], said: Mapping[str, Any]) -> Job:
        """Make a job of a recipe.

        Args:
            name: which.
            values: of its parameters.
            said: what the command line says, which wins.

        Raises:
            UsageError: there is no such recipe or parameter, or a word makes no sense.
        """
        recipe = self._file.recipes.get(name)
        if recipe is None:
            raise UsageError(f"there is no recipe {name!r}{_in(self.path)}", _choice(name, self._file.recipes))
        filled = _values(name, recipe, values)
        own = recipe.given()
        entries = [
            (entry, own) if isinstance(entry, str) else (entry.table, {**own, **entry.given()})
            for entry in recipe.tables
        ]
        said = dict(said)
        return self.job(
            ((table, {**_filled(words, filled), **_single(said)}) for table, words in entries),
            exclude=recipe.exclude,
            with_parents=said.get("with_parents", recipe.with_parents),
            with_children=said.get("with_children", recipe.with_children),
            create_missing=said.get("create_missing", recipe.create_missing),
        )


_OF_ANY_ROW: Final = frozenset({"without", "keep", "on_conflict", "batch_size", "max_errors", "row_versions"})


def _single(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: word for name, word in said.items() if name in _Words.model_fields}


def _request(words: Mapping[str, Any]) -> Request:
    return make_request(TableName("", ""), **words)


def _parameters_of(recipe: _Recipe) -> Iterator[Parameter]:
    for name, what in recipe.parameters.items():
        if isinstance(what, str):
            yield Parameter(name, what, None)
        else:
            yield Parameter(name, what.help, what.default)


def read(path: Path, text: str) -> Recipes:
    """Read a file's text.

    Args:
        path: where it is; of a ``pyproject.toml``, only ``[tool.pgpull]`` is read.
        text: what it holds.

    Raises:
        SettingsError: it is no TOML, or holds what makes no sense; the line is named, and what is allowed.
    """
    try:
        whole = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            f"{path} is not TOML: {error}", "see https://toml.io for how it is written"
        ) from None
    within: Place = ("tool", "pgpull") if path.name == "pyproject.toml" else ()
    for part in within:
        whole = whole.get(str(part), {})
    try:
        return Recipes(path, _File.model_validate(whole))
    except ValidationError as error:
        raise _refusal(path, text, within, error) from None


def _refusal(path: Path, text: str, within: Place, error: ValidationError) -> SettingsError:
    """Say what is wrong with the first thing that is, where, and what is allowed there."""
    # of a value that may be of several kinds, each says what it has against it: the one that got furthest knows
    errors = error.errors(include_url=False)
    first = max(errors, key=lambda each: (len(each["loc"]), each["type"] == "extra_forbidden"))
    place: Place = tuple(part for part in first["loc"] if isinstance(part, int) or _is_key(part))
    line = line_of(text, (*within, *place))
    where = ".".join(str(part) for part in place) or "the file"
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        allowed = _allowed(place)
        said = f"{place[-1]!r} is not known here"
        return SettingsError(f"{path}, line {line}: {said} ({where})", _choice(str(place[-1]), allowed))
    return SettingsError(f"{path}, line {line}: {where}: {said}", "docs/recipes.md shows what is allowed")


_KINDS: Final = re.compile(r"_Entry|_Parameter|str|int|float|bool|function-.*|.*\[.*")


def _is_key(part: int | str) -> bool:
    """Whether a part of a place is a key of the file, not the name of a kind of value."""
    return not (isinstance(part, str) and _KINDS.fullmatch(part))


def _allowed(place: Place) -> Iterable[str]:
    names = [part for part in place if isinstance(part, str)]
    if len(names) == 1:
        return _File.model_fields
    if names[0] == "recipes" and "tables" in names[2:3]:
        return _Entry.model_fields
    if names[0] == "recipes" and "parameters" in names[2:3]:
        return _Parameter.model_fields
    return _Recipe.model_fields if names[0] == "recipes" else _Words.model_fields


def _choice(word: str, allowed: Iterable[str]) -> str:
    names = list(allowed)
    if close := difflib.get_close_matches(word, names, n=1):
        return f"did you mean {close[0]}?"
    return f"allowed: {', '.join(names)}" if names else "there is none"


def _in(path: Path | None) -> str:
    return f" in {path}" if path else ": no pgpull.toml was found"


# --- parameters ------------------------------------------------------------------------------------------

_HOLE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")

# What a parameter may not stand in: a text, a quoted name, a comment.
_CLOSED: Final = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*""")


def _parameters_in(words: _Words) -> Iterator[str]:
    """Yield the parameters that some words name.

    Raises:
        ValueError: one stands where no value can.
    """
    for value in (words.since, words.until, *(words.equals or {}).values()):
        if isinstance(value, str) and (hole := _HOLE.fullmatch(value)):
            yield hole[1]
    if words.where:
        yield from _checked_holes(words.where)


def _checked_holes(where: str) -> Iterator[str]:
    names = _HOLE.findall(where)
    odd = next((sign for sign in ("\\", "$", "/*") if sign in where), None)
    if names and odd:
        raise ValueError(f"a condition with a parameter may hold no {odd}: where does a text end?")
    if inside := [name for closed in _CLOSED.findall(where) for name in _HOLE.findall(closed)]:
        raise ValueError(f"{{{inside[0]}}} stands in quotes or in a comment: write it bare")
    yield from names


def _values(name: str, recipe: _Recipe, given: Mapping[str, str]) -> dict[str, str]:
    parameters = {parameter.name: parameter for parameter in _parameters_of(recipe)}
    for unknown in given.keys() - parameters.keys():
        raise UsageError(f"the recipe {name} has no parameter {unknown!r}", _choice(unknown, parameters))
    values = {key: p.default for key, p in parameters.items() if p.default is not None} | dict(given)
    for missing in [key for key in parameters if key not in values]:
        about = parameters[missing].help
        raise UsageError(
            f"the recipe {name} needs {missing}" + (f": {about}" if about else ""), f"add --set {missing}=VALUE"
        )
    return values


def _filled(words: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """Put values in the place of parameters: whole ones as they are, in a condition as quoted texts."""
    filled = dict(words)
    for name in ("since", "until"):
        if name in filled:
            filled[name] = _whole(filled[name], values)
    if "equals" in filled:
        filled["equals"] = {column: _whole(value, values) for column, value in filled["equals"].items()}
    if "where" in filled:
        filled["where"] = _HOLE.sub(
            lambda hole: Literal(values[hole[1]]).as_string(None) if hole[1] in values else hole[0],
            filled["where"],
        )
    return filled


def _whole(value: Any, values: Mapping[str, str]) -> Any:
    hole = _HOLE.fullmatch(value) if isinstance(value, str) else None
    return values[hole[1]] if hole else value
