"""What may stand in pgpull.toml, as models that check it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from pgpull import placeholders
from pgpull.arguments import duration, instant, zone
from pgpull.errors import UsageError
from pgpull.masking import Mask, mask_of
from pgpull.model import Limit, OnConflict
from pgpull.shapes import TablePattern

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
    if isinstance(text, str) and not placeholders.is_whole(text):
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


class Words(_Part):
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
        return {name: value for name in Words.model_fields if (value := getattr(self, name)) is not None}


class Rule(Words):
    """What holds for a table whenever it is pulled."""

    mask: dict[str, Annotated[Any, BeforeValidator(_as_mask)]] = Field(default_factory=dict)


class Entry(Words):
    """A table of a recipe."""

    table: _Name


class Parameter(_Part):
    """A parameter of a recipe."""

    help: str = ""
    default: _Value | None = None
    optional: bool = False


def _as_entry(value: Any) -> Any:
    """Take a name alone for a table of which nothing more is said."""
    return {"table": value} if isinstance(value, str) else value


def _as_parameter(value: Any) -> Any:
    return {"help": value} if isinstance(value, str) else value


class Recipe(Words):
    """A named pull."""

    description: str = ""
    parameters: dict[str, Annotated[Parameter, BeforeValidator(_as_parameter)]] = Field(default_factory=dict)
    tables: list[Annotated[Entry, BeforeValidator(_as_entry)]] = Field(min_length=1)
    exclude: list[_Name] = Field(default_factory=list)
    with_parents: bool = False
    with_children: list[_Name] = Field(default_factory=list)
    create_missing: bool = False


class File(_Part):
    """The whole file."""

    mask_strict: bool = False
    mask: dict[str, Annotated[Any, BeforeValidator(_as_mask)]] = Field(default_factory=dict)
    defaults: Rule = Field(default_factory=Rule)
    tables: dict[str, Rule] = Field(default_factory=dict)
    recipes: dict[str, Recipe] = Field(default_factory=dict)
