"""Rejects tried again: a corrected file becomes an archive, and what goes in leaves the file."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from sqlalchemy.engine import URL

from pgpull import catalog
from pgpull.archives import MANIFEST, ArchivedFile, ArchivedTable, Manifest
from pgpull.arguments import several
from pgpull.calling import run
from pgpull.corrections import Correction, check, corrections, in_rounds, that_count
from pgpull.endpoints import Endpoint, endpoint_of
from pgpull.errors import UsageError
from pgpull.listening import Listener
from pgpull.model import Job, OnConflict, Scope, Wanted
from pgpull.patience import DEFAULT_RETRIES
from pgpull.reading import whole
from pgpull.rejects_file import RejectsFile, hold_alone, is_still
from pgpull.requesting import make_request
from pgpull.results import Summary
from pgpull.sessions import open_target
from pgpull.shapes import Shape, TableName, TablePattern
from pgpull.splitting import record


def retry(
    rejects: str | Path,
    *,
    target: str | URL | Endpoint,
    on_conflict: str = OnConflict.UPDATE,
    allow_target: str | Sequence[str] = (),
    retries: int = DEFAULT_RETRIES,
    listener: Listener | None = None,
) -> Summary:
    """Load the rows of a rejects file that somebody corrected, or whose reason is gone.

    Rows that are in, or were in already, leave the file; those that are refused again stay, with the new
    message. A file that is empty then is removed. Where several pulls have refused a row, its last line counts.

    Args:
        rejects: the file, as a pull has written it. No pull and no other retry may be at work on it.
        target: URL of the local database.
        on_conflict: ``update`` or ``skip`` a row whose key is there.
        allow_target: hosts besides this machine that may be written.
        retries: how often a lost connection is opened again.
        listener: hears how it goes on.

    Returns:
        What was done.

    Raises:
        UsageError: the file cannot be read, or a line is no reject of a table that local has.
        Refused: a guard or the plan stood in the way; the file is as it was.
        Stopped: the run ended before its end; the file is as it was, and rows that are in stay.
    """
    path, endpoint = Path(rejects), endpoint_of(target, "target")
    how = _How(
        OnConflict.parse(on_conflict),
        endpoint,
        several(allow_target),
        retries,
        listener or Listener(),
    )
    with _held(path) as file, tempfile.TemporaryDirectory(prefix="pgpull-retry-") as folder:
        found = _read(path, file)
        with closing(open_target(endpoint)) as local:
            shapes = catalog.shapes_of(local, dict.fromkeys(each.table for each in found))
        _check(path, found, shapes)
        tried = that_count(found, shapes)
        if older := len(found) - len(tried):
            how.listener.noticed(f"{older:,} lines are passed over: the same rows come again later in the file")
        again = Path(folder) / "rejects.jsonl"
        with RejectsFile(again, shown=path) as refused:
            summary = _together(list(how.load_all(path, Path(folder), in_rounds(tried), shapes, refused)))
        _rewrite(path, _stay(found, tried, summary, again, shapes))
        return summary


def _stay(
    found: Sequence[Correction],
    tried: Sequence[Correction],
    summary: Summary,
    again: Path,
    shapes: Mapping[TableName, Shape],
) -> bytes:
    """Return the lines that stay.

    All of a table that failed do, as they are; of others the rows that were refused again, with the new
    message, and before them older lines of such rows: it may be one of these that somebody corrected.
    """
    failed = {failure.table for failure in summary.failures}
    lines = again.read_bytes().splitlines(keepends=True) if again.exists() else []
    refused = [each for each in corrections(lines) if each.table not in failed]
    rows = {each.row(shapes[each.table]) for each in refused}
    numbers = {each.number for each in tried}
    kept = [
        each
        for each in found
        if each.table in failed or (each.number not in numbers and each.row(shapes[each.table]) in rows)
    ]
    return b"".join(each.text.rstrip(b"\n") + b"\n" for each in (*kept, *refused))


@dataclass(frozen=True, slots=True)
class _How:
    """How rows are loaded."""

    on_conflict: OnConflict
    target: Endpoint
    allowed: Sequence[str]
    retries: int
    listener: Listener

    def load_all(
        self,
        path: Path,
        folder: Path,
        rounds: Sequence[Mapping[TableName, Sequence[Correction]]],
        shapes: Mapping[TableName, Shape],
        refused: RejectsFile,
    ) -> Iterator[Summary]:
        """Load some rows after the other."""
        for number, rows in enumerate(rounds):
            yield self._load(path, folder / f"{number}", rows, shapes, refused)
            refused.settle()  # the next round finds none of them again

    def _load(
        self,
        path: Path,
        folder: Path,
        rows: Mapping[TableName, Sequence[Correction]],
        shapes: Mapping[TableName, Shape],
        refused: RejectsFile,
    ) -> Summary:
        """Make an archive of some rows, and load it."""
        _make_archive(path, folder, rows, shapes)
        wanted = (
            Wanted(TablePattern.of(table), make_request(table, on_conflict=self.on_conflict)) for table in rows
        )
        with whole(folder) as archive:
            return run(
                Job(tuple(wanted)),
                replace(archive, name=f"{path}"),
                self.target,
                rejects=refused,
                allowed=self.allowed,
                retries=self.retries,
                listener=self.listener,
            )


# --- the file --------------------------------------------------------------------------------------------


@contextmanager
def _held(path: Path) -> Iterator[IO[bytes]]:
    """Open a rejects file, and keep everybody else from it for the length of a block."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise UsageError(
            f"the rejects file {path} cannot be read: {error.strerror}", "check its name"
        ) from None
    with file:
        if not path.is_file():
            raise UsageError(f"{path} is not a file", "name the file that a pull has kept refused rows in")
        if not hold_alone(file) or not is_still(path, file):
            raise UsageError(
                f"a pull or another retry is at work on the rejects file {path}", "wait until it is through"
            )
        yield file


def _read(path: Path, file: IO[bytes]) -> list[Correction]:
    try:
        found = list(corrections(file))
    except UsageError as error:
        raise _in_file(path, error) from error
    if not found:
        raise UsageError(f"there is no row in {path}", "nothing is left to be tried again")
    return found


def _check(path: Path, found: Sequence[Correction], shapes: Mapping[TableName, Shape]) -> None:
    try:
        check(found, shapes)
    except UsageError as error:
        raise _in_file(path, error) from error


def _in_file(path: Path, error: UsageError) -> UsageError:
    return UsageError(f"{path}, {error.message}", error.hint)


def _rewrite(path: Path, data: bytes) -> None:
    """Put what stays in the place of the file, at once, for its owner alone."""
    if not data:
        path.unlink()
        return
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


# --- the archive -----------------------------------------------------------------------------------------


def _make_archive(
    path: Path, folder: Path, rows: Mapping[TableName, Sequence[Correction]], shapes: Mapping[TableName, Shape]
) -> None:
    folder.mkdir(mode=0o700)
    tables = tuple(
        _make_table(folder, f"{number}", shapes[table], some)
        for number, (table, some) in enumerate(rows.items())
    )
    manifest = Manifest("", f"{path}", datetime.now(UTC), "UTF8", "csv", None, tables)
    (folder / MANIFEST).write_bytes(manifest.to_json().encode())


def _make_table(folder: Path, name: str, shape: Shape, rows: Sequence[Correction]) -> ArchivedTable:
    (folder / name).mkdir(mode=0o700)
    columns = tuple(column.name for column in shape.columns if column.name in rows[0].values)
    data = b"".join(record([row.values[column] for column in columns]) + b"\n" for row in rows)
    (folder / name / "0001.csv").write_bytes(data)
    file = ArchivedFile(f"{name}/0001.csv", len(rows), len(data), hashlib.sha256(data).hexdigest())
    return ArchivedTable(shape, columns, Scope(), len(rows), (file,))


def _together(summaries: Sequence[Summary]) -> Summary:
    [first, *others] = summaries
    for other in others:
        first = replace(
            first,
            reports=(*first.reports, *other.reports),
            failures=(*first.failures, *other.failures),
            bytes=first.bytes + other.bytes,
            seconds=first.seconds + other.seconds,
        )
    return first
