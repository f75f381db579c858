"""``pgpull.toml``, or ``[tool.pgpull]`` of a ``pyproject.toml``: the first one from here upwards."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pgpull.errors import SettingsError
from pgpull.nearby import is_readable, read_text, upwards
from pgpull.recipes import Recipes

_HINT = "name one with --config FILE; docs/recipes.md shows what it may hold"


def recipes(config: Path | None = None) -> Recipes:
    """Read the configuration.

    Args:
        config: the file; else the first one found from the working directory upwards, if any.

    Raises:
        SettingsError: it cannot be read, or holds what makes no sense.
    """
    path = config or found()
    if path is None:
        return Recipes()
    from pgpull.recipe_file import read  # its models take a while to make: only who has a file waits for them

    return read(path, read_text(path, "the file", _HINT))


def found() -> Path | None:
    """Return the first one from the working directory upwards, if any."""
    for folder in upwards():
        if is_readable(folder / "pgpull.toml"):
            return folder / "pgpull.toml"
        if _holds_ours(folder / "pyproject.toml"):
            return folder / "pyproject.toml"
    return None


def _holds_ours(project: Path) -> bool:
    """Tell whether a ``pyproject.toml`` has a word for us; one that is no TOML is somebody else's to mend."""
    try:
        text = read_text(project, "the file", "")
        tool = tomllib.loads(text).get("tool") if "pgpull" in text else None
    except (SettingsError, tomllib.TOMLDecodeError):
        return False
    return isinstance(tool, dict) and "pgpull" in tool
