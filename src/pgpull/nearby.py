"""Files that are looked for from the working directory upwards."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

from pgpull.errors import SettingsError


def upwards() -> Sequence[Path]:
    """Return the working directory and those above it; none where it is gone, or nobody may look at it."""
    try:
        here = Path.cwd()
    except OSError:
        return ()
    return (here, *here.parents)


def is_readable(path: Path) -> bool:
    """Whether something can be read there: a file, or a pipe, as a password manager's .env is."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISFIFO(mode)


def read_text(path: Path, what: str, hint: str) -> str:
    """Read a file's text, less the mark that Windows' editors begin with.

    Args:
        path: the file's.
        what: it is, for a message.
        hint: what to do where it cannot be read.

    Raises:
        SettingsError: it cannot, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"{what} {path} cannot be read: {why}", hint) from None
