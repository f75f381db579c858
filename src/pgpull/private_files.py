"""Files that only their owner may read: they hold rows, or keys of rows."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO


def open_private(path: Path | str) -> int:
    """Open a file to add to, made if need be, that only its owner may read, whoever could before.

    Raises:
        OSError: it cannot be opened.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        os.fchmod(handle, 0o600)
    return handle


def open_new(path: Path) -> IO[bytes]:
    """Open a file that nobody else may read, to be written; an old one goes."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def open_more(path: Path) -> IO[bytes]:
    """Open a file that nobody else may read, to be written on at its end."""
    # buffered: a bare one may take a part of what it is given, and only return how much
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
