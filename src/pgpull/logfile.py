"""The log file: the same facts as on the screen, with their times in UTC, for its owner alone."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from pgpull.errors import SettingsError
from pgpull.private_files import open_private


class _LogFile(logging.FileHandler):
    """A log file that only its owner may read, as it holds keys of rejects; a full disk does not end a run."""

    def __init__(self, path: Path, broken: Callable[[str], None]) -> None:
        super().__init__(path, encoding="utf-8")
        self._broken = broken
        form = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%S")
        form.converter = time.gmtime
        self.setFormatter(form)

    def _open(self) -> IO[str]:  # type: ignore[override]
        return os.fdopen(open_private(self.baseFilename), "a", encoding="utf-8", errors="backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802
        self.setLevel(logging.CRITICAL + 1)
        self._broken(f"the log file {self.baseFilename} cannot be written any more")

    def close(self) -> None:
        with suppress(OSError):  # what could not be written before
            super().close()


def open_log(path: Path, broken: Callable[[str], None]) -> logging.Logger:
    """Open a log file to add to, made if need be.

    Args:
        path: where it is.
        broken: called with what there is to say when it cannot be written any more.

    Raises:
        SettingsError: it cannot be opened.
    """
    log = logging.Logger("pgpull", logging.DEBUG)
    try:
        log.addHandler(_LogFile(path, broken))
    except OSError as error:
        raise SettingsError(
            f"the log file {path} cannot be opened: {error.strerror}", "name another with --log-file"
        ) from None
    return log
