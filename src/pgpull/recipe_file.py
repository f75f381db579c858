"""pgpull.toml, read into rules and recipes; what makes no sense is refused with its line. Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from pgpull import blanks
from pgpull.arguments import duration, instant, zone
from pgpull.errors import SettingsError, UsageError
from pgpull.masking import Mask, MaskRule, Masks, mask_of, rules_of
from pgpull.model import Limit, OnConflict
from pgpull.recipes import Entry, Offer, Parameter, Recipe, Recipes, Rule, choice
from pgpull.shapes import TablePattern
from pgpull.toml_lines import Place, line_of

_T = TypeVar("_T")

# --- values ----------------------------------------------------------------------------------------------


def _nonsense(message: str, hint: str = "") -> PydanticCustomError:
    return PydanticCustomError("nonsense", "{message}", {"message": message, "hint": hint})


def _checked(check: Callable[[str], object]) -> BeforeValidator:
    """Make a validator out of what reads the same word of the command line."""

    def checked(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise _nonsense("not a text" if isinstance(value, list | dict) else f"not a text: {value!r}")
        try:
            check(str(value))
        except UsageError as error:
            raise _nonsense(error.message, error.hint) from None
        return str(value)

    return BeforeValidator(checked)


def _as_text(value: Any) -> Any:
    """Spell a number, a truth or a date as Postgres reads it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    return value.isoformat() if isinstance(value, date | datetime) else value


def _as_date(value: Any) -> Any:
    """Spell a date of TOML's as text, and make sure that a text is one; a parameter is looked at later."""
    text = _as_text(value) if isinstance(value, date | datetime) else value
    if isinstance(text, str) and not blanks.is_whole(text):
        try:
            instant(text, "UTC", "it")
        except UsageError as error:
            raise _nonsense(error.message, error.hint) from None
    return text


def _filled(text: str) -> None:
    if not text.strip():
        raise UsageError("it is empty", "leave it out to have all rows")


def _as_mask(value: Any) -> Mask:
    try:
        return mask_of(value)
    except UsageError as error:
        raise _nonsense(error.message, error.hint) from None


_Name = Annotated[str, _checked(TablePattern.parse)]
_Date = Annotated[str, BeforeValidator(_as_date)]
_Limit = Annotated[str, _checked(lambda text: Limit.parse(text, "it as"))]
_Value = Annotated[str, BeforeValidator(_as_text)]


# --- what may stand in the file --------------------------------------------------------------------------


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Words(_Part):
    """What can be said of a table."""

    since: _Date | None = None
    until: _Date | None = None
    window: Annotated[str, Field(min_length=1)] | None = None
    equals: dict[str, _Value] | None = None
    where: Annotated[str, _checked(_filled)] | None = None
    timezone: Annotated[str, _checked(zone)] | None = None
    on_conflict: Annotated[str, _checked(OnConflict.parse)] | None = None
    batch_size: Annotated[int, Field(ge=1)] | None = None
    max_errors: _Limit | None = None
    mirror: bool | None = None
    max_delete: _Limit | None = None
    replace: bool | None = None
    new: bool | None = None
    overlap: Annotated[str, _checked(lambda text: duration(text, "it"))] | None = None
    verify: bool | None = None
    row_versions: bool | None = None
    without: list[str] | None = None
    keep: list[str] | None = None

    def words(self) -> dict[str, Any]:
        """Return what is said, under the names that a request is made with."""
        return {name: value for name in _Words.model_fields if (value := getattr(self, name)) is not None}


class _Rule(_Words):
    """What holds for a table whenever it is pulled."""

    mask: dict[str, Annotated[Any, BeforeValidator(_as_mask)]] = Field(default_factory=dict)


class _Entry(_Words):
    """A table of a recipe."""

    table: _Name


class _Parameter(_Part):
    """A parameter of a recipe."""

    help: str = ""
    default: _Value | None = None
    optional: bool = False


def _as_entry(value: Any) -> Any:
    """Take a name alone for a table of which nothing more is said."""
    return {"table": value} if isinstance(value, str) else value


def _as_parameter(value: Any) -> Any:
    return {"help": value} if isinstance(value, str) else value


class _Recipe(_Words):
    """A named pull."""

    description: str = ""
    parameters: dict[str, Annotated[_Parameter, BeforeValidator(_as_parameter)]] = Field(default_factory=dict)
    tables: list[Annotated[_Entry, BeforeValidator(_as_entry)]] = Field(min_length=1)
    exclude: list[_Name] = Field(default_factory=list)
    with_parents: bool = False
    with_children: list[_Name] = Field(default_factory=list)
    create_missing: bool = False


class _File(_Part):
    """The whole file."""

    mask_strict: bool = False
    mask: dict[str, Annotated[Any, BeforeValidator(_as_mask)]] = Field(default_factory=dict)
    defaults: _Rule = Field(default_factory=_Rule)
    tables: dict[str, _Rule] = Field(default_factory=dict)
    recipes: dict[str, _Recipe] = Field(default_factory=dict)


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


def holds_ours(text: str) -> bool:
    """Tell whether a ``pyproject.toml`` has a word for us; one that is no TOML is somebody else's to mend."""
    try:
        tool = tomllib.loads(text).get("tool")
    except tomllib.TOMLDecodeError:
        return False
    return isinstance(tool, dict) and "pgpull" in tool


def _validated(part: Any) -> _File:
    try:
        return _File.model_validate(part)
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
            return _File.model_fields
        case ("recipes", _, "tables", *_):
            return _Entry.model_fields
        case ("recipes", _, "parameters", *_):
            return _Parameter.model_fields
        case ("recipes", *_):
            return _Recipe.model_fields
        case ("defaults" | "tables", *_):
            return _Rule.model_fields
        case _:
            return _Words.model_fields


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


def _recipes(path: Path, file: _File) -> Recipes:
    rules = [_rule(name, words) for name, words in file.tables.items()]
    _check_rule(("defaults",), file.defaults)
    return Recipes(
        path=path,
        defaults=file.defaults.words(),
        rules=tuple(sorted(rules, key=lambda rule: rule.pattern.plain is None)),
        recipes={name: _recipe(name, recipe) for name, recipe in file.recipes.items()},
        masks=Masks.of_rules(_mask_rules(file), strict=file.mask_strict),
    )


def _mask_rules(file: _File) -> Iterator[MaskRule]:
    for name, words in file.tables.items():
        yield from rules_of(words.mask, TablePattern.parse(name))
    for everywhere in (file.defaults.mask, file.mask):
        for column, mask in everywhere.items():
            yield MaskRule(column, mask)


def _rule(name: str, words: _Rule) -> Rule:
    place: Place = ("tables", name)
    _check_rule(place, words)
    try:
        return Rule(TablePattern.parse(name), words.words())
    except UsageError as error:
        raise _Wrong(place, error.message, error.hint) from None


def _check_rule(place: Place, words: _Words) -> None:
    """Make sure that no rule waits for a parameter, as only recipes have them."""
    for name in ("since", "until"):
        if (text := getattr(words, name)) and blanks.is_whole(text):
            raise _Wrong((*place, name), f"it is not a date: {text!r}", "only recipes have parameters")


def _recipe(name: str, recipe: _Recipe) -> Recipe:
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


def _check_parameters(place: Place, recipe: _Recipe) -> None:
    """Make sure that each parameter has a place to be put into, and each such place its parameter."""
    used = {name for where, words in _said(place, recipe) for name in _used(where, words, recipe.parameters)}
    for name, what in recipe.parameters.items():
        here = (*place, "parameters", name)
        if not blanks.is_name(name):
            raise _Wrong(here, "the name of a parameter is made of letters, digits and _, no digit first")
        if name not in used:
            raise _Wrong(here, f"it is used nowhere: write {{{name}}} in since, until, equals or where")
        if what.optional and what.default is not None:
            raise _Wrong(here, "it has a default, and is optional as well", "keep one of the two")


def _said(place: Place, recipe: _Recipe) -> Iterator[tuple[Place, _Words]]:
    """Yield the recipe's own words, and those of its tables, with where they stand."""
    yield place, recipe
    for number, entry in enumerate(recipe.tables):
        yield (*place, "tables", number), entry


def _used(place: Place, words: _Words, known: Mapping[str, _Parameter]) -> Iterator[str]:
    equals: Iterator[tuple[Place, str]] = (
        (("equals", column), value) for column, value in (words.equals or {}).items()
    )
    whole = [(("since",), words.since), (("until",), words.until), *equals]
    for where, text in whole:
        if text is not None and (name := _at((*place, *where), blanks.in_value, text, known)):
            yield name
    if words.where is None:
        return
    for name in _at((*place, "where"), blanks.in_condition, words.where, known):
        if known[name].optional:
            raise _Wrong((*place, "where"), f"{{{name}}} is optional, and a condition cannot do without it")
        yield name


def _at(place: Place, find: Callable[[str, Mapping[str, Any]], _T], text: str, known: Mapping[str, Any]) -> _T:
    try:
        return find(text, known)
    except ValueError as error:
        hint = choice(str(error).partition("}")[0].strip("{"), known) if "no parameter" in str(error) else ""
        raise _Wrong(place, str(error), hint if hint.startswith("did you mean") else "") from None
