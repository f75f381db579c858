"""The walk of an export: look, plan, read at one instant, and keep; an archive is whole, or it is not there."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from pgpull import catalog, columnar, parting, preparing, privacy, scoping
from pgpull.archives import ArchivedTable, Manifest
from pgpull.diagnosis import SOURCE, lost
from pgpull.endpoints import Endpoint
from pgpull.errors import ConnectFailed, ReadEnded, Stopped
from pgpull.finishing import Finisher, finishing
from pgpull.listening import Listener
from pgpull.model import Request
from pgpull.objecting import check_readable
from pgpull.overwriting import check_free
from pgpull.pacing import Pace
from pgpull.packing import Export, Packed, narrowed, packed, plan_of
from pgpull.patience import Patience
from pgpull.plans import Part, Plan
from pgpull.sessions import Session, expect_much, open_source, send_bytes_as_they_are
from pgpull.shapes import Shape
from pgpull.sharing import parts_of
from pgpull.spooling import Spool, Spools
from pgpull.sql.sending import copy_by_month, copy_out
from pgpull.storing import writing
from pgpull.streams import Outflow
from pgpull.workers import Team, readers

_Said = tuple[int, int]
"""Rows that were read, and their bytes."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was done."""

    archive: str
    """Where it stands, as it is shown."""
    manifest: Manifest
    seconds: float
    passes: int

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.size for file in self.manifest.files)


def export_to(
    export: Export, source: Endpoint, jobs: int, pace: Pace, patience: Patience, listener: Listener
) -> Exported:
    """Write an archive; where the source is lost, from the beginning, at another instant.

    Args:
        export: what is asked for.
        source: the server.
        jobs: how many workers read it, if it lets them see one instant.
        pace: holds them back.
        patience: how often to begin again.
        listener: hears how it goes on.

    Raises:
        UsageError: a library is not installed.
        Refused: there is no connection, or nothing can be read or written as it is asked for.
        Stopped: the source went away, or gave up. No archive was written.
    """
    if export.format == "parquet":
        columnar.check_installed()
    check_free(export.to, overwrite=export.overwrite)
    run = _Run(export, source, jobs, pace, listener)
    try:
        return patience.call(run.once)
    except Stopped as error:
        error.hint = _hint(error)
        raise


def _hint(error: Stopped) -> str:
    if isinstance(error, ReadEnded):
        return (
            "no archive was written: the server is a standby that keeps up with its primary; export smaller"
            " windows, or ask for hot_standby_feedback = on or a longer max_standby_streaming_delay there"
        )
    return error.hint.replace("whole batches are in", "no archive was written").removesuffix(" to go on")


class _Run:
    """An export under way."""

    def __init__(self, export: Export, source: Endpoint, jobs: int, pace: Pace, listener: Listener) -> None:
        self._export = export
        self._source = source
        self._jobs = jobs
        self._pace = pace
        self._listener = listener
        self._started = time.monotonic()
        self._passes = 0

    def once(self) -> Exported:
        """Go the whole way once, at one instant."""
        self._passes += 1
        try:
            with open_source(self._source, share=self._jobs > 1, pace=self._pace) as source:
                manifest = self._pass(source)
        except ConnectFailed as error:
            if self._passes == 1:
                raise
            raise lost(SOURCE, error) from error
        except ReadEnded as error:
            error.exhausted = self._passes > 1
            raise
        seconds = time.monotonic() - self._started
        return Exported(self._export.to.name, manifest, seconds, self._passes)

    def _pass(self, source: Session) -> Manifest:
        tables = packed(self._look(source), by_month=self._export.by_month)
        self._listener.packing([table.plan for table in tables], source, self._export.to.name)
        tasks = [task for table in tables for task in _tasks(source, table, self._jobs)]
        with writing(self._export.to, overwrite=self._export.overwrite) as archive:
            with finishing(self._export, archive, self._jobs) as finisher:
                self._read(source, tasks, finisher)
                archived = tuple(finisher.table(table) for table in tables)
            manifest = self._manifest(source, archived)
            archive.complete(manifest)
        return manifest

    def _look(self, source: Session) -> list[Plan]:
        asked = preparing.requests(source, self._export.job)
        shapes = catalog.shapes_of(source, [request.table for request in asked])
        plans = [_plan(source, request, shapes.get(request.table)) for request in asked]
        return scoping.with_estimates(source, plans)

    def _read(self, source: Session, tasks: Iterable[_Task], finisher: Finisher) -> None:
        """Read all tables, several parts at the same time."""
        waiting = deque(tasks)
        team: Team[_Said] = Team()
        rows = size = 0

        def work(session: Session) -> Generator[_Said]:
            return _work(session, waiting, finisher)

        jobs = min(self._jobs, len(waiting))
        with readers(source, jobs) as sessions, closing(team.at_work(sessions, work)) as said:
            for more_rows, more_size in said:
                rows, size = rows + more_rows, size + more_size
                self._listener.packed(rows, size)

    def _manifest(self, source: Session, tables: tuple[ArchivedTable, ...]) -> Manifest:
        from pgpull import __version__  # read when asked for

        unknown = source.identity.encoding == "SQL_ASCII"
        return Manifest(
            version=__version__,
            source=str(source.endpoint),
            snapshot=source.identity.now,
            encoding="SQL_ASCII" if unknown else "UTF8",
            format=self._export.format,
            compression=self._export.packed,
            tables=tables,
        )


def _plan(source: Session, request: Request, shape: Shape | None) -> Plan:
    if shape is None:
        raise catalog.missing_table(source, request.table)
    catalog.check_kind(source, shape)
    check_readable(shape, source.identity.role)
    shape, notes = privacy.masked(source, request, shape)
    plan = plan_of(request, shape, source.identity.role, notes)
    if narrowed(plan.request.scope):
        scoping.check_condition(source, plan.request.scope, shape, request.timezone)
    return plan


# --- what is read at a time ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Task:
    """Rows that one worker reads with one statement."""

    packed: Packed
    part: Part | None

    def statement(self) -> bytes:
        """Return the COPY."""
        plan, by = self.packed.plan, self.packed.by
        return (copy_by_month(plan, by, self.part) if by else copy_out(plan, self.part)).as_bytes()


def _tasks(source: Session, table: Packed, jobs: int) -> Iterator[_Task]:
    """Cut a table, if several workers may read it and it is worth their while."""
    parts: tuple[Part, ...] = ()
    if jobs > 1 and source.snapshot is not None:
        pages, size = scoping.extent_of(source, table.plan.source)
        read = size * parting.share(table.plan)
        if read >= parting.WORTH_BYTES:
            parts = parts_of(source, table.plan, pages, read, jobs)
    yield from (_Task(table, part) for part in (parts if len(parts) > 1 else (None,)))


def _work(source: Session, tasks: deque[_Task], finisher: Finisher) -> Generator[_Said]:
    """Take one task after the other, until there are none; rows of one table go on in the same spools."""
    send_bytes_as_they_are(source)
    expect_much(source)
    table: Packed | None = None
    spools = Spools(finisher.spool)
    while task := _next(tasks):
        if task.packed is not table:
            _take(finisher, table, spools.rest())
            table, spools = task.packed, Spools(finisher.spool, by_month=task.packed.by is not None)
        yield from _spooled(source, task, spools, finisher)
    _take(finisher, table, spools.rest())


def _next(tasks: deque[_Task]) -> _Task | None:
    try:
        return tasks.popleft()
    except IndexError:
        return None


def _take(finisher: Finisher, table: Packed | None, full: Iterable[Spool]) -> None:
    with finisher.filling():
        for spool in full:
            assert table is not None, "what is full came from somewhere"
            finisher.take(table, spool)


def _spooled(source: Session, task: _Task, spools: Spools, finisher: Finisher) -> Generator[_Said]:
    """Read the rows of a task, and make sure that they are as many as the server says."""
    outflow = Outflow(source.connection, task.statement(), source.pace)
    counted = rows = size = 0
    for piece in outflow.pieces(sys.maxsize):
        _take(finisher, task.packed, spools.add(piece.rows))
        rows, size = rows + len(piece.rows), size + piece.size
        if piece.closes:
            yield rows, size
            counted, rows, size = counted + rows, 0, 0
    if counted + rows != outflow.announced:
        raise RuntimeError(f"the server sent {outflow.announced} rows, and {counted + rows} were counted")
    finisher.check()
