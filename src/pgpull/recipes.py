"""Standing rules for tables, and recipes, which are named pulls with parameters: what they ask for. Pure.

A rule or a recipe says in a file's words what the command line says in options. What is said more closely
wins: first the defaults, then the rules for a table, a recipe, a table in it, the command line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pgpull.errors import UsageError
from pgpull.masking import NO_MASKS, Masks
from pgpull.model import Job, Request, Wanted
from pgpull.placeholders import fill_condition, in_value
from pgpull.requesting import ANY, job_of, make_request
from pgpull.shapes import TableName, TablePattern

Words = Mapping[str, Any]
"""What is said of a table, as :func:`pgpull.requesting.make_request` takes it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds for a table whenever it is pulled."""

    pattern: TablePattern
    words: Words


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a recipe."""

    name: str
    help: str = ""
    default: str | None = None
    optional: bool = False
    """Whether it may be left out, and with it what it would be put into."""

    @property
    def required(self) -> bool:
        """Whether it has to be given a value."""
        return self.default is None and not self.optional


@dataclass(frozen=True, slots=True)
class Entry:
    """A table of a recipe, or a pattern, and what is said of it there."""

    table: str
    words: Words = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Offer:
    """A recipe as it is offered to people."""

    name: str
    description: str = ""
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named pull."""

    offer: Offer
    entries: tuple[Entry, ...]
    words: Words = field(default_factory=dict)
    """What is said of all of its tables."""
    along: Words = field(default_factory=dict)
    """``exclude``, ``with_parents``, ``with_children``, ``create_missing``."""


@dataclass(frozen=True, slots=True)
class Recipes:
    """What a file holds; nothing, where there is none."""

    path: Path | None = None
    defaults: Words = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    """A table follows the first that means it: those that name one table come before patterns."""
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    masks: Masks = NO_MASKS
    """What comes in the place of values, whatever pulls a table."""

    @property
    def offers(self) -> tuple[Offer, ...]:
        """The recipes, as people are told of them."""
        return tuple(recipe.offer for recipe in self.recipes.values())

    def request(self, table: TableName, words: Words) -> Request:
        """Make the request for a table, under the rules of the file.

        Args:
            table: which.
            words: what the command line says, which wins.

        Raises:
            UsageError: a word makes no sense.
        """
        return self._request(table, self.rules_for(table), words)

    def rules_for(self, table: TableName) -> dict[str, Any]:
        """Return what is said of a table, or else of all."""
        rule = next((rule for rule in self.rules if rule.pattern.matches(table)), None)
        return {**self.defaults, **(rule.words if rule else {})}

    def job(self, entries: Iterable[Entry], said: Words, common: Words | None = None, **what: Any) -> Job:
        """Make a job of some tables, under the rules of the file.

        Args:
            entries: names or patterns, and what a recipe says of each.
            said: what the command line says of all, which wins.
            common: what the recipe says of all; of the entries it is said there.
            what: ``exclude``, ``with_parents``, ``with_children``, ``create_missing``.

        Raises:
            UsageError: a word makes no sense.
        """
        wanted = (wanted for entry in entries for wanted in self._wanted(entry, said))
        return replace(job_of(wanted, **what), rules=tuple(self._rules_along({**(common or {}), **said})))

    def _wanted(self, entry: Entry, said: Words) -> Iterator[Wanted]:
        pattern, own = TablePattern.parse(entry.table), entry.words
        if pattern.plain is not None:
            standing = {**self.rules_for(pattern.plain), **own}
            yield Wanted(pattern, self._request(pattern.plain, standing, said))
            return
        for rule in self.rules:
            if rule.pattern.plain is None or pattern.matches(rule.pattern.plain):
                request = self._request(ANY, {**self.defaults, **rule.words, **own}, said)
                yield Wanted(pattern.within(rule.pattern), request, optional=True)
        yield Wanted(pattern, self._request(ANY, {**self.defaults, **own}, said))

    def _request(self, table: TableName, standing: Words, said: Words) -> Request:
        return _request(table, {"mask": self.masks, **standing}, said)

    def _rules_along(self, said: Words) -> Iterator[Wanted]:
        """Yield what is said of tables whose rows come along: how they are written, not which rows.

        Of columns only a rule for the table speaks: what is said of all is said of those that were named, and
        need not be there.
        """
        closer = {n: w for n, w in said.items() if n in _OF_ANY_TABLE}
        for rule in self.rules:
            standing = {n: w for n, w in {**self.defaults, **rule.words}.items() if n in _OF_ANY_ROW}
            yield Wanted(rule.pattern, self._request(ANY, standing, closer), optional=True)
        standing = {n: w for n, w in self.defaults.items() if n in _OF_ANY_TABLE}
        yield Wanted(_EVERY, self._request(ANY, standing, closer), optional=True)

    def recipe(self, name: str, values: Mapping[str, str], said: Words) -> Job:
        """Make a job of a recipe.

        Args:
            name: which.
            values: of its parameters.
            said: what the command line says, which wins.

        Raises:
            UsageError: there is no such recipe or parameter, or a word makes no sense.
        """
        recipe = self.recipes.get(name)
        if recipe is None:
            where = f" in {self.path}" if self.path else ": no pgpull.toml was found"
            raise UsageError(f"there is no recipe {name!r}{where}", choice(name, self.recipes))
        filled = _values(recipe.offer, values)
        along = {**recipe.along, **{n: w for n, w in said.items() if n in _ALONG}}
        entries = (Entry(e.table, _filled({**recipe.words, **e.words}, filled)) for e in recipe.entries)
        return self.job(entries, {n: w for n, w in said.items() if n not in _ALONG}, recipe.words, **along)


_ALONG: Final = frozenset({"exclude", "with_parents", "with_children", "create_missing"})

_OF_ANY_TABLE: Final = frozenset({"on_conflict", "batch_size", "max_errors", "row_versions", "mask_strict"})

_OF_ANY_ROW: Final = _OF_ANY_TABLE | {"without", "keep"}

_EVERY: Final = TablePattern.parse("*.*")


def _request(table: TableName, standing: Words, said: Words) -> Request:
    """Make a request of standing words, and of others that win.

    A standing window only says which column windows stand on: it waits for one with an end.
    """
    words = {**standing, **said}
    if "window" not in said and not any(words.get(name) for name in ("since", "until", "new", "months")):
        words.pop("window", None)
    return make_request(table, **words)


def choice(word: str, allowed: Iterable[str]) -> str:
    """Return a hint: what was meant by a word, or else what is allowed."""
    names = list(allowed)
    if close := difflib.get_close_matches(word, names, n=1):
        return f"did you mean {close[0]}?"
    return f"allowed: {', '.join(names)}" if names else "there is none; docs/recipes.md shows how to write one"


# --- parameters ------------------------------------------------------------------------------------------


def _values(offer: Offer, given: Mapping[str, str]) -> dict[str, str | None]:
    """Return a value for each parameter; None for one that is left out."""
    parameters = {parameter.name: parameter for parameter in offer.parameters}
    for unknown in given.keys() - parameters.keys():
        allowed = choice(unknown, parameters) if parameters else "it has none"
        raise UsageError(f"the recipe {offer.name} has no parameter {unknown!r}", allowed)
    if missing := [p for p in offer.parameters if p.required and p.name not in given]:
        named = ", ".join(f"{p.name} ({p.help})" if p.help else p.name for p in missing)
        words = " ".join(f"--set {p.name}=VALUE" for p in missing)
        raise UsageError(f"the recipe {offer.name} needs {named}", f"add {words}")
    return {name: given.get(name, parameter.default) for name, parameter in parameters.items()}


def _filled(words: Words, values: Mapping[str, str | None]) -> dict[str, Any]:
    """Put values in the place of parameters; what one would be put into that is left out goes, too."""
    filled = dict(words)
    for name in ("since", "until"):
        if name in words:
            filled[name] = _whole(words[name], values)
    if "equals" in words:
        whole = {column: _whole(value, values) for column, value in words["equals"].items()}
        filled["equals"] = {column: value for column, value in whole.items() if value is not None}
    if "where" in words:
        filled["where"] = fill_condition(words["where"], {n: v for n, v in values.items() if v is not None})
    return {name: word for name, word in filled.items() if word is not None}


def _whole(value: Any, values: Mapping[str, str | None]) -> Any:
    name = in_value(value, values) if isinstance(value, str) else None
    return values[name] if name else value
