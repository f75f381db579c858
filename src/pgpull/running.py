"""The walk of one pull: look, plan, move, count. And its Python face, :func:`pull`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import date, datetime
from pathlib import Path

from sqlalchemy.engine import URL

from pgpull import catalog, planning, sql
from pgpull.applying import Applier
from pgpull.arguments import instant, ordered, zone
from pgpull.diagnosis import SOURCE, TARGET, lost, translated
from pgpull.endpoints import Endpoint, endpoint_of
from pgpull.errors import ConnectFailed, Refused, Stopped, TooManyRejects, UsageError
from pgpull.guarding import guard
from pgpull.model import (
    DEFAULT_BATCH_ROWS,
    MaxErrors,
    OnConflict,
    Plan,
    Reject,
    Report,
    Request,
    Scope,
    TableName,
    Tally,
    Window,
)
from pgpull.patience import DEFAULT_RETRIES, Patience
from pgpull.rejecting import RejectsFile
from pgpull.sessions import Session, open_source, open_target, reopen, send_bytes_as_they_are
from pgpull.streams import Outflow, ReadAhead, ReadFailed, in_batches, in_pieces

DEFAULT_WINDOW = "created_at"


class Listener:
    """Hears how a pull goes on; override what you care for. The pull waits until a call returns."""

    def planned(self, plan: Plan, source: Session, target: Session) -> None:
        """The plan stands; rows are about to move. Again if the source had to be read anew."""

    def progressed(self, tally: Tally, size: int) -> None:
        """One more batch is committed: the tally and the bytes so far."""

    def rejected(self, reject: Reject) -> None:
        """The target refused a row."""

    def noticed(self, text: str) -> None:
        """Something a user wants to know of happened: a lost connection, a pause."""


def make_request(
    table: str | TableName,
    *,
    since: str | date | datetime | None = None,
    until: str | date | datetime | None = None,
    window: str | None = None,
    equals: Mapping[str, object] | None = None,
    where: str | None = None,
    on_conflict: str = "skip",
    batch_size: int = DEFAULT_BATCH_ROWS,
    max_errors: str | int | None = None,
    timezone: str = "UTC",
    window_names: tuple[str, str] = ("since", "until"),
) -> Request:
    """Turn what people write into the value that is planned from; see :func:`pull` for the arguments.

    Raises:
        UsageError: an argument makes no sense.
    """
    zone(timezone)
    first = None if since is None else instant(since, timezone, window_names[0])
    end = None if until is None else instant(until, timezone, window_names[1])
    ordered(first, end, window_names)
    _check_filters(window if first is None and end is None else None, equals or {}, where)
    return Request(
        table=table if isinstance(table, TableName) else TableName.parse(table),
        scope=Scope(
            window=Window(window or DEFAULT_WINDOW, first, end) if first or end else None,
            equals=tuple((name, str(value)) for name, value in (equals or {}).items()),
            where=where,
        ),
        on_conflict=OnConflict.parse(on_conflict),
        batch_rows=batch_size,
        max_errors=None if max_errors is None else MaxErrors.parse(str(max_errors)),
        timezone=timezone,
    )


def _check_filters(idle_window: str | None, equals: Mapping[str, object], where: str | None) -> None:
    """Refuse a filter that says nothing: left out without a word, it would bring the whole table."""
    if idle_window is not None:
        raise UsageError(f"the window on {idle_window} has no end", "give its start, its end, or both")
    if where is not None and not where.strip():
        raise UsageError("the condition is empty", "leave it out to have all rows")
    for name, value in equals.items():
        if value is None:
            raise UsageError(f"{name} cannot equal None", f'for rows without a value: where="{name} IS NULL"')


def pull(
    table: str,
    *,
    source: str | URL | Endpoint,
    target: str | URL | Endpoint,
    since: str | date | datetime | None = None,
    until: str | date | datetime | None = None,
    window: str | None = None,
    equals: Mapping[str, object] | None = None,
    where: str | None = None,
    on_conflict: str = "skip",
    batch_size: int = DEFAULT_BATCH_ROWS,
    max_errors: str | int | None = None,
    rejects: str | Path | None = None,
    allow_target: str | Sequence[str] = (),
    timezone: str = "UTC",
    retries: int = DEFAULT_RETRIES,
    listener: Listener | None = None,
) -> Report:
    """Bring the rows of a table, or those in scope, from the source to the target.

    Args:
        table: ``schema.table``, the same on both sides.
        source: URL of the server's database, only ever read.
        target: URL of the local database.
        since: first instant of the window, included; a date, a datetime, or ISO 8601 text.
        until: end of the window, excluded.
        window: the column that the window stands on; ``created_at`` unless named.
        equals: columns and the values that rows in scope have there.
        where: an SQL condition on the source's rows.
        on_conflict: ``skip`` or ``update`` a row whose key is in the target already.
        batch_size: rows that are committed together, at most.
        max_errors: stop when more rows than this fail: a number, or a percentage such as ``"2%"``.
        rejects: file for refused rows, JSON lines, mode 0600, made if there is one;
            ``SCHEMA.TABLE.rejects.jsonl`` in the working directory unless named.
        allow_target: hosts beside this machine that may be written.
        timezone: the IANA zone that dates without an offset are read in.
        retries: how often a lost connection is opened again, with longer and longer pauses.
        listener: hears how it goes on.

    Returns:
        What was done. ``report.tally`` adds up: fetched = inserted + updated + skipped + failed.

    Raises:
        UsageError: an argument makes no sense.
        Refused: a connection, a guard or the plan stood in the way; nothing was written.
        Stopped: the run ended before its end; whole batches are in.
    """
    request = make_request(
        table,
        since=since,
        until=until,
        window=window,
        equals=equals,
        where=where,
        on_conflict=on_conflict,
        batch_size=batch_size,
        max_errors=max_errors,
        timezone=timezone,
    )
    return run(
        request,
        endpoint_of(source, "source"),
        endpoint_of(target, "target"),
        rejects=Path(rejects) if rejects else default_rejects(request),
        allowed=(allow_target,) if isinstance(allow_target, str) else allow_target,
        retries=retries,
        listener=listener,
    )


def default_rejects(request: Request) -> Path:
    """Return where rejects go unless the user names a file."""
    return Path(f"{request.table.schema}.{request.table.name}.rejects.jsonl".replace("/", "_"))


def run(
    request: Request,
    source: Endpoint,
    target: Endpoint,
    *,
    rejects: Path,
    allowed: Sequence[str] = (),
    retries: int = DEFAULT_RETRIES,
    listener: Listener | None = None,
) -> Report:
    """Do what a request says; see :func:`pull` for the arguments, what is returned and what is raised."""
    with closing(open_target(target)) as local, RejectsFile(rejects) as file:
        return _Pull(request, source, local, file, allowed, retries, listener or Listener()).run()


class _Pull:
    """One pull under way: what has been counted so far, over all passes."""

    def __init__(
        self,
        request: Request,
        source: Endpoint,
        target: Session,
        rejects: RejectsFile,
        allowed: Sequence[str],
        retries: int,
        listener: Listener,
    ) -> None:
        self._request = request
        self._source = source
        self._target = target
        self._rejects = rejects
        self._allowed = allowed
        self._listener = listener
        self._patience = Patience(retries, listener.noticed)
        self._started = time.monotonic()
        self._tally = Tally()
        self._bytes = 0
        self._passes = 0

    def run(self) -> Report:
        try:
            return self._patience.call(self._pass)
        except Stopped as error:
            error.written = self._written
            self._listener.progressed(self._tally, self._bytes)
            raise
        except Refused as error:
            if not self._written:
                raise
            stopped = Stopped(error.message, error.hint)
            stopped.written = self._written
            raise stopped from error

    @property
    def _written(self) -> int:
        return self._tally.inserted + self._tally.updated

    def _pass(self) -> Report:
        """Read the source once, from its first row in scope to its last.

        A lost source is read anew, in a new transaction and so at a new instant: the rows that are in by then
        are fetched once more and skipped, and the tally says so.
        """
        self._passes += 1
        if self._target.lost:
            reopen(self._target)
        try:
            with open_source(self._source) as source:
                guard(source, self._target, self._allowed)
                plan = _look_and_plan(source, self._target, self._request)
                self._listener.planned(plan, source, self._target)
                self._move(source, plan)
                self._advance_sequences(plan)
                return self._report(plan, source)
        except ConnectFailed as error:
            if self._passes == 1:
                raise
            raise lost(SOURCE, error) from error

    def _move(self, source: Session, plan: Plan) -> None:
        before = self._tally.fetched
        applier = Applier(self._target, plan, self._patience, self._reject)
        outflow = Outflow(source.connection, sql.copy_out(plan).as_bytes(source.connection))
        send_bytes_as_they_are(source)
        pieces = in_pieces(outflow, plan.request.batch_rows)
        try:
            with ReadAhead(pieces, source.cancel) as ready:
                for batch in in_batches(ready, plan.wire):
                    for tally in applier.apply(batch):
                        self._count(tally)
                    self._bytes += batch.size
                    self._listener.progressed(self._tally, self._bytes)
                    self._check_limit(self._request.max_errors)
        except ReadFailed as failure:
            raise failure.reason from failure.reason.__cause__
        fetched = self._tally.fetched - before
        if fetched != outflow.announced:
            raise RuntimeError(f"the server sent {outflow.announced} rows, and {fetched} were counted")

    def _count(self, tally: Tally) -> None:
        self._tally += tally
        limit = self._request.max_errors
        if limit is not None and limit.rows is not None:  # a share is judged by whole batches
            self._check_limit(limit)

    def _check_limit(self, limit: MaxErrors | None) -> None:
        if limit is not None and limit.exceeded_by(self._tally):
            self._listener.progressed(self._tally, self._bytes)
            raise TooManyRejects(
                f"{self._tally.failed} of {self._tally.fetched} rows were refused, more than {limit} allowed",
                f"see why in {self._rejects.path}; what was committed stays",
            )

    def _reject(self, reject: Reject) -> None:
        self._rejects.add(reject)
        self._listener.rejected(reject)

    def _advance_sequences(self, plan: Plan) -> None:
        self._patience.call(lambda: self._try_to_advance(plan))

    def _try_to_advance(self, plan: Plan) -> None:
        if self._target.lost:
            reopen(self._target)
        with translated(TARGET, self._target.connection):
            for sequence in plan.sequences:
                self._target.connection.execute(sql.advance(sequence, plan.target))

    def _report(self, plan: Plan, source: Session) -> Report:
        return Report(
            plan=plan,
            tally=self._tally,
            bytes=self._bytes,
            seconds=time.monotonic() - self._started,
            snapshot=source.identity.now,
            passes=self._passes,
            rejects=self._rejects.path if self._rejects.count else None,
        )


def _look_and_plan(source: Session, target: Session, request: Request) -> Plan:
    theirs = catalog.shape_of(source, request.table)
    if theirs is None:
        raise catalog.missing_table(source, request.table)
    ours = catalog.shape_of(target, request.table)
    if ours is None and target.endpoint.private:
        ours = catalog.make_table(target, theirs)
    if ours is None:
        raise catalog.missing_table(target, request.table, theirs)
    looked = planning.Looked(theirs, ours, source.identity.role, target.identity.role)
    planning.check(request, looked)
    catalog.check_condition(source, request.scope, theirs, request.timezone)
    has_rows = catalog.holds_rows(target, ours, request.scope, request.timezone)
    return catalog.with_estimate(source, planning.make_plan(request, looked, target_has_rows=has_rows))
