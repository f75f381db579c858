"""The file that keeps refused rows, for its owner alone."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from pgpull.errors import SettingsError, Stopped
from pgpull.private_files import open_private
from pgpull.results import Reject
from pgpull.shapes import TableName

if sys.platform != "win32":
    import fcntl


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - Path's own raises where it may not look


def is_still(path: Path, file: IO[bytes] | FileIO) -> bool:
    """Tell whether a name still means a file that was opened by it."""
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    return False


def hold_alone(file: IO[bytes]) -> bool:
    """Keep others from a rejects file until it is closed; tell if nobody is at work on it."""
    return _locked(file.fileno(), alone=True)


def _locked(number: int, *, alone: bool) -> bool:
    if sys.platform == "win32":  # whose own locks would keep people from reading it, too
        return True
    try:
        fcntl.flock(number, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a network's file system has none, or none for a file that is opened so
        if error.errno not in _NO_LOCKS:
            raise
    return True


_NO_LOCKS: Final = (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


class RejectsFile:
    """A JSON-lines file of rejects, made with the first one, added to if it is there already.

    It holds rows, so only its owner may read it (mode 0600).

    Args:
        path: where it is to be.
        shown: what it is called, if not by its path.
    """

    def __init__(self, path: Path, shown: Path | None = None) -> None:
        self.path = path
        self.shown = shown or path
        self.count = 0
        self._file: FileIO | None = None
        self._start = 0
        """The length of the file before this run."""
        self._written = 0
        """How much longer this run has made it."""
        self._run = datetime.now(UTC).isoformat()

    def __enter__(self) -> Self:
        """Make sure that there is a place for it, as far as can be told before there is a row to write.

        Raises:
            SettingsError: there is none.
        """
        is_folder = _is_folder(self.path)
        why = "it is a folder" if is_folder else f"there is no folder {self.path.parent}"
        if is_folder or not _is_folder(self.path.parent):
            hint = "name another with --rejects FILE; nothing was written"
            raise SettingsError(f"the rejects file {self.path} cannot be written: {why}", hint)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def begin_anew(self, keep: Collection[TableName] = ()) -> None:
        """Forget the rejects of this run so far: they will be found again, but for those of some tables.

        Where another pull has added to the file meanwhile, all of them stay, as the others' would go with them.
        """
        if self._file is None or not self.count or not self._all_is_ours(self._file):
            self.count = 0
            return
        self.count, end = 0, self._start
        with suppress(FileNotFoundError), self.path.open("r+b") as file:
            file.seek(end)
            while line := file.readline():
                after = file.tell()
                if TableName.parse(json.loads(line)["table"]) in keep:
                    file.seek(end)
                    end += file.write(line)
                    self.count += 1
                file.seek(after)
            file.truncate(end)
        self._written = end - self._start

    def _all_is_ours(self, file: FileIO) -> bool:
        now = os.fstat(file.fileno())
        return stat.S_ISREG(now.st_mode) and now.st_size == self._start + self._written

    def settle(self) -> None:
        """Keep the rejects of this run so far, whatever is read anew."""
        if self._file is not None and stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            self.count, self._start, self._written = 0, os.fstat(self._file.fileno()).st_size, 0

    def add(self, reject: Reject) -> None:
        """Write one reject, and see it through to the file.

        Raises:
            Stopped: the file cannot be written; the run must not go on and lose the row.
        """
        try:
            self._file = self._file or self._open()
            self._write(json.dumps({**_record(reject), "run": self._run}, ensure_ascii=False) + "\n")
        except OSError as error:
            raise Stopped(
                f"the rejects file {self.path} cannot be written: {error.strerror}",
                "name another with --rejects FILE, then run the same command again; whole batches are in",
            ) from error
        self.count += 1

    def _write(self, line: str) -> None:
        assert self._file is not None
        data = line.encode("utf-8", "backslashreplace")
        self._written += len(data)
        while data:
            data = data[self._file.write(data) :]

    def _open(self) -> FileIO:
        # nothing is buffered: a full disk shows at the row, not at the end
        file = FileIO(open_private(self.path), "a")
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode) and not _locked(file.fileno(), alone=False):
            file.close()
            raise BlockingIOError(errno.EWOULDBLOCK, "a retry is at work on it")
        if not is_still(self.path, file):  # a retry has put another one in its place
            file.close()
            return self._open()
        self._start = os.fstat(file.fileno()).st_size
        return file


def _record(reject: Reject) -> dict[str, object]:
    return {
        "table": str(reject.table),
        "key": reject.key,
        "sqlstate": reject.sqlstate,
        "condition": reject.condition,
        "constraint": reject.constraint,
        "column": reject.column,
        "message": reject.message,
        "values": reject.values,
        **({"bytes": reject.odd} if reject.odd else {}),
    }
