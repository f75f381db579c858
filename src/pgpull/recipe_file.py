"""pgpull.toml, read into rules and recipes; what makes no sense is refused with its line. Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pgpull import placeholders
from pgpull import recipe_models as models
from pgpull.errors import SettingsError, UsageError
from pgpull.masking import MaskRule, Masks, rules_of
from pgpull.recipes import Entry, Offer, Parameter, Recipe, Recipes, Rule, choice
from pgpull.shapes import TablePattern
from pgpull.toml_lines import Place, line_of

_T = TypeVar("_T")

# --- reading ---------------------------------------------------------------------------------------------


class _Wrong(Exception):
    """Something in the file makes no sense: where, why, and what to do."""

    def __init__(self, place: Place, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.place, self.why, self.hint = place, why, hint


def read(path: Path, text: str) -> Recipes:
    """Read a file's text.

    Args:
        path: where it is; of a ``pyproject.toml``, only ``[tool.pgpull]`` is read.
        text: what it holds.

    Raises:
        SettingsError: it is no TOML, or holds what makes no sense; the line is named, and what is allowed.
    """
    within: Place = ("tool", "pgpull") if path.name == "pyproject.toml" else ()
    try:
        part: Any = tomllib.loads(text)
        for name in within:
            part = part.get(name, {}) if isinstance(part, dict) else part
        return _recipes(path, _validated(part))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            f"{path} is not TOML: {error}", "see https://toml.io for how it is written"
        ) from None
    except _Wrong as wrong:
        line = line_of(text, (*within, *wrong.place))
        raise SettingsError(
            f"{path}, line {line}: {_spelled(wrong.place)}: {wrong.why}",
            wrong.hint or "docs/recipes.md shows what is allowed",
        ) from None


def _validated(part: Any) -> models.File:
    try:
        return models.File.model_validate(part)
    except ValidationError as error:
        # a word that is not known explains why another one is missing
        first = min(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
        raise _wrong(first) from None


_SAID: Final = {
    "bool_type": "not true or false",
    "dict_type": "not a table",
    "int_type": "not a whole number",
    "list_type": "not a list",
    "model_type": "not a table",
    "string_type": "not a text",
}


def _wrong(error: ErrorDetails) -> _Wrong:
    place, kind, value = error["loc"], error["type"], error["input"]
    if kind == "extra_forbidden":
        return _unknown(place)
    if kind == "missing":
        return _Wrong(place[:-1], f"{place[-1]} is missing")
    if kind in ("too_short", "string_too_short"):
        return _Wrong(place, "it is empty")
    if kind in _SAID:
        seen = f": {value!r}" if isinstance(value, str | int | float) else ""
        return _Wrong(place, _SAID[kind] + seen)
    why = error["msg"].removeprefix("Input ")
    return _Wrong(place, why, error.get("ctx", {}).get("hint", ""))


def _unknown(place: Place) -> _Wrong:
    word = str(place[-1])
    if word == "mask" and place[0] == "recipes":
        return _Wrong(
            place, "masks hold whatever pulls a table", 'write [mask], or [tables."SCHEMA.TABLE".mask]'
        )
    return _Wrong(place, f"{word!r} is not known here", choice(word, _allowed(place)))


def _allowed(place: Place) -> Iterable[str]:
    """Return what may stand beside a word."""
    match place:
        case (_,):
            return models.File.model_fields
        case ("recipes", _, "tables", *_):
            return models.Entry.model_fields
        case ("recipes", _, "parameters", *_):
            return models.Parameter.model_fields
        case ("recipes", *_):
            return models.Recipe.model_fields
        case ("defaults" | "tables", *_):
            return models.Rule.model_fields
        case _:
            return models.Words.model_fields


def _spelled(place: Place) -> str:
    """Write a place as one writes a key: ``recipes.thread.tables[1].since``."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            text += f".{part}" if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'."{part}"'
    return text.removeprefix(".") or "the file"


# --- from what stands there to what it means -------------------------------------------------------------


def _recipes(path: Path, file: models.File) -> Recipes:
    rules = [_rule(name, words) for name, words in file.tables.items()]
    _check_rule(("defaults",), file.defaults)
    return Recipes(
        path=path,
        defaults=file.defaults.words(),
        rules=tuple(sorted(rules, key=lambda rule: rule.pattern.plain is None)),
        recipes={name: _recipe(name, recipe) for name, recipe in file.recipes.items()},
        masks=Masks.of_rules(_mask_rules(file), strict=file.mask_strict),
    )


def _mask_rules(file: models.File) -> Iterator[MaskRule]:
    for name, words in file.tables.items():
        yield from rules_of(words.mask, TablePattern.parse(name))
    for everywhere in (file.defaults.mask, file.mask):
        for column, mask in everywhere.items():
            yield MaskRule(column, mask)


def _rule(name: str, words: models.Rule) -> Rule:
    place: Place = ("tables", name)
    _check_rule(place, words)
    try:
        return Rule(TablePattern.parse(name), words.words())
    except UsageError as error:
        raise _Wrong(place, error.message, error.hint) from None


def _check_rule(place: Place, words: models.Words) -> None:
    """Make sure that no rule waits for a parameter, as only recipes have them."""
    for name in ("since", "until"):
        if (text := getattr(words, name)) and placeholders.is_whole(text):
            raise _Wrong((*place, name), f"it is not a date: {text!r}", "only recipes have parameters")


def _recipe(name: str, recipe: models.Recipe) -> Recipe:
    place: Place = ("recipes", name)
    _check_parameters(place, recipe)
    parameters = (
        Parameter(name, what.help, what.default, what.optional) for name, what in recipe.parameters.items()
    )
    return Recipe(
        offer=Offer(name, recipe.description, tuple(parameters)),
        entries=tuple(Entry(entry.table, entry.words()) for entry in recipe.tables),
        words=recipe.words(),
        along={
            "exclude": recipe.exclude,
            "with_parents": recipe.with_parents,
            "with_children": recipe.with_children,
            "create_missing": recipe.create_missing,
        },
    )


def _check_parameters(place: Place, recipe: models.Recipe) -> None:
    """Make sure that each parameter has a place to be put into, and each such place its parameter."""
    used = {name for where, words in _said(place, recipe) for name in _used(where, words, recipe.parameters)}
    for name, what in recipe.parameters.items():
        here = (*place, "parameters", name)
        if not placeholders.is_name(name):
            raise _Wrong(here, "the name of a parameter is made of letters, digits and _, no digit first")
        if name not in used:
            raise _Wrong(here, f"it is used nowhere: write {{{name}}} in since, until, equals or where")
        if what.optional and what.default is not None:
            raise _Wrong(here, "it has a default, and is optional as well", "keep one of the two")


def _said(place: Place, recipe: models.Recipe) -> Iterator[tuple[Place, models.Words]]:
    """Yield the recipe's own words, and those of its tables, with where they stand."""
    yield place, recipe
    for number, entry in enumerate(recipe.tables):
        yield (*place, "tables", number), entry


def _used(place: Place, words: models.Words, known: Mapping[str, models.Parameter]) -> Iterator[str]:
    equals: Iterator[tuple[Place, str]] = (
        (("equals", column), value) for column, value in (words.equals or {}).items()
    )
    whole = [(("since",), words.since), (("until",), words.until), *equals]
    for where, text in whole:
        if text is not None and (name := _at((*place, *where), placeholders.in_value, text, known)):
            yield name
    if words.where is None:
        return
    for name in _at((*place, "where"), placeholders.in_condition, words.where, known):
        if known[name].optional:
            raise _Wrong((*place, "where"), f"{{{name}}} is optional, and a condition cannot do without it")
        yield name


def _at(place: Place, find: Callable[[str, Mapping[str, Any]], _T], text: str, known: Mapping[str, Any]) -> _T:
    try:
        return find(text, known)
    except ValueError as error:
        hint = choice(str(error).partition("}")[0].strip("{"), known) if "no parameter" in str(error) else ""
        raise _Wrong(place, str(error), hint if hint.startswith("did you mean") else "") from None
