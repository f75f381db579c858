"""Parameters in texts: ``{id}`` as a whole value, or bare in a condition. Pure.

In a condition, a value becomes a quoted text in parentheses. So it cannot end the text, nor run into a word, a
prefix or another text beside it, whatever is in it; and it is put nowhere but where a value can stand. What is
checked and what is filled in are found by the same reading of the condition.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from pgpull.sql.parts import quoted_text

_PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")

# A condition as Postgres reads it (manual: 4.1, Lexical Structure), as far as it takes to know what stands in a
# text, in a quoted name or in a comment. Backslashes do not come in here: see _check_signs.
_TOKEN: Final = re.compile(
    r"""(?P<closed>'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\r\n]*)"""
    r"""|(?P<placeholder>\{[A-Za-z_][A-Za-z0-9_]*\})"""
    r"""|(?P<quote>['"])|(?P<comment>/\*)|(?P<dollar>\$)|(?P<other>.)""",
    re.DOTALL,
)

_NAMES: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def is_name(text: str) -> bool:
    """Tell whether a parameter may be called so."""
    return _NAMES.fullmatch(text) is not None


def is_whole(text: str) -> bool:
    """Tell whether a value is a parameter, known or not."""
    return _PLACEHOLDER.fullmatch(text) is not None


def in_value(text: str, known: Collection[str]) -> str | None:
    """Return the parameter that a whole value stands for, or None.

    Args:
        text: the value.
        known: the parameters that there are.

    Raises:
        ValueError: it stands for one that is unknown, or a known one is only a part of it.
    """
    if found := _PLACEHOLDER.fullmatch(text):
        _check_known(found[1], known)
        return found[1]
    if parts := [name for name in _PLACEHOLDER.findall(text) if name in known]:
        raise ValueError(f"{{{parts[0]}}} is only a part of the value: a parameter stands for all of it")
    return None


def in_condition(text: str, known: Collection[str]) -> frozenset[str]:
    """Return the parameters that a condition holds.

    Braces in a text are a part of it, as in ``'{a,b}'``, unless they hold a known parameter.

    Raises:
        ValueError: it holds one that is unknown, or one where no value can be put.
    """
    found = frozenset(token[0][1:-1] for token in _tokens(text) if token.lastgroup == "placeholder")
    for name in sorted(found):
        _check_known(name, known)
    for token in _tokens(text):
        shut = _PLACEHOLDER.findall(token[0]) if token.lastgroup == "closed" else ()
        if inside := [name for name in shut if name in known]:
            raise ValueError(f"{{{inside[0]}}} stands in quotes or in a comment: write it bare")
    if found:
        _check_signs(text)
    return found


def _tokens(text: str) -> Iterator[re.Match[str]]:
    return _TOKEN.finditer(text)


def _check_known(name: str, known: Collection[str]) -> None:
    if name not in known:
        raise ValueError(f"{{{name}}} is no parameter of the recipe: add it to parameters")


_ENDS: Final = {"quote": "an open quote", "comment": "/*", "dollar": "$ outside of quotes"}


def _check_signs(text: str) -> None:
    """Refuse what would make it depend on more than quotes where a text begins and ends."""
    odd = next((_ENDS[kind] for token in _tokens(text) if (kind := token.lastgroup or "") in _ENDS), None)
    odd = "a backslash" if "\\" in text else odd
    if odd:
        raise ValueError(f"a condition with a parameter may not hold {odd}: where would a text end?")


def fill_condition(text: str, values: Mapping[str, str]) -> str:
    """Put values into a condition that :func:`in_condition` let pass."""

    def filled(token: re.Match[str]) -> str:
        name = token[0][1:-1] if token.lastgroup == "placeholder" else ""
        return quoted_text(values[name]) if name in values else token[0]

    return "".join(map(filled, _tokens(text)))
