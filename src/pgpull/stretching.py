"""A pull that holds no snapshot: one stretch of keys after the other, each in a short transaction of its own.

Nothing is remembered between them: each stretch is compared first, so a run that ended early goes on where it
ended. Each row is as it was at some instant of the run, and not all at the same one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from pgpull import preparing
from pgpull.diagnosis import SOURCE, lost, translated
from pgpull.endpoints import Endpoint
from pgpull.errors import (
    Conflict,
    ConnectFailed,
    PgpullError,
    PlanError,
    TooManyRejects,
)
from pgpull.guarding import guard
from pgpull.listening import Listener
from pgpull.looking import look
from pgpull.model import Job, Request, Stretch, Wanted
from pgpull.narrowing import counted_once
from pgpull.ordering import failed_parent, roots_of
from pgpull.plans import Plan, Strategy
from pgpull.pulling import Bench
from pgpull.results import Failure, Reject, Report, Summary, Tally
from pgpull.running import tell_written
from pgpull.sessions import Session, open_source
from pgpull.shapes import TablePattern
from pgpull.sql.scoping import end_of_stretch
from pgpull.walking import walk_at_once

ROWS: Final = 50_000
"""Rows of a stretch: a second of reading or two."""

LEAST_ROWS: Final = 50
"""Rows of the shortest stretch that is tried."""


def walk_in_stretches(job: Job, source: Endpoint, bench: Bench, allowed: Sequence[str] = ()) -> Summary:
    """Do a job without a snapshot; see :func:`pgpull.running.walk`.

    Raises:
        PlanError: what is asked for needs one instant of the source, or a key.
    """
    _check(job)
    started = time.monotonic()
    plans = bench.patience.call(lambda: _look(job, source, bench, allowed))
    roots = roots_of(plan.target for plan in plans)
    reports: list[Report] = []
    failures: list[Failure] = []
    for plan in plans:
        pull = _StretchedPull(plan, source, bench, allowed)
        try:
            if orphaned := failed_parent(plan.target, {f.table: roots[f.table] for f in failures}):
                raise orphaned
            reports.append(pull.run())
        except PgpullError as error:
            if job.single is not None:
                raise
            bench.rejects.settle()  # of this table, whatever becomes of the next one
            failures.append(Failure(plan.table, error, pull.tally))
            bench.listener.failed_at(failures[-1])
        else:
            if job.single is None:
                bench.listener.done(reports[-1])
    return Summary(
        reports=tuple(reports),
        failures=tuple(failures),
        bytes=sum(report.bytes for report in reports),
        seconds=time.monotonic() - started,
        snapshot=max(report.snapshot for report in reports) if reports else bench.target.identity.now,
    )


def _check(job: Job) -> None:
    """Make sure that nothing is asked for that only one instant can answer."""
    asked = [wanted.request for wanted in job.wanted]
    for needs, option in (
        (any(request.mirror for request in asked), "--mirror"),
        (any(request.replace for request in asked), "--replace"),
        (any(request.new is not None for request in asked), "--new"),
        (job.with_parents, "--with-parents"),
        (bool(job.with_children), "--with-children"),
    ):
        if needs:
            raise PlanError(f"{option} needs one instant of the server", "leave out --no-snapshot")


def _look(job: Job, source: Endpoint, bench: Bench, allowed: Sequence[str]) -> list[Plan]:
    """Look at all tables once, and put them in order."""
    with open_source(source, pace=bench.pace) as session:
        guard(session, bench.target, allowed)
        asked = preparing.requests(session, job)
        preparing.make_missing(session, bench.target, job, asked, bench.listener.noticed)
        reach = preparing.reached(session, bench.target, job, asked, may_make=True)

        def planned(request: Request) -> Plan:
            return look(session, bench.target, request, reach.seen)

        groups = preparing.arranged(session, bench.target, reach, planned)
        plans = [plan for group in groups for plan in group]
        for plan in plans:
            _check_stretchable(plan)
        _introduce(job, plans, session, bench)
        return plans


def _check_stretchable(plan: Plan) -> None:
    waits = next((tie.key.name for tie in plan.ties if tie.parents), None)
    why = ""
    if plan.key_masked:
        why = "has a masked key, which the server has no index for"
    elif plan.key is None or not plan.keys_as_text:
        why = "has no key that could be sent to the server in a statement"
    elif waits:
        why = f"refers to rows that may come in a later stretch ({waits})"
    if why:
        raise PlanError(f"{plan.table} {why}", "leave out --no-snapshot for it")


def _introduce(job: Job, plans: Sequence[Plan], source: Session, bench: Bench) -> None:
    if job.single is None and plans:
        bench.listener.opened(plans, source, bench.target)
    for plan in plans if job.single else ():
        how = "each stretch of keys is read in a short transaction"
        bench.listener.looked(plan, source, bench.target)
        bench.listener.planned(replace(plan, strategy=Strategy.MERGE, reason=how), source, bench.target)


@contextmanager
def _let_in_before() -> Iterator[None]:
    """Take a connection that is refused for one that was lost: the first look was let in."""
    try:
        yield
    except ConnectFailed as error:
        raise lost(SOURCE, error) from error


class _Ear(Listener):
    """Hears of one stretch, and tells of the whole table."""

    def __init__(self, listener: Listener, tally: Tally, size: int) -> None:
        self._listener, self._tally, self._size = listener, tally, size
        self.heard = Tally()
        """What has become of the stretch's rows so far."""

    def progressed(self, tally: Tally, size: int) -> None:
        self.heard = tally
        self._listener.progressed(self._tally + tally, self._size + size)

    def rejected(self, reject: Reject) -> None:
        self._listener.rejected(reject)

    def noticed(self, text: str) -> None:
        self._listener.noticed(text)


class _StretchedPull:
    """One table on its way.

    Args:
        plan: what the first look came to.
        source: the server.
        bench: what all tables share.
        allowed: hosts besides this machine that may be written.
    """

    def __init__(self, plan: Plan, source: Endpoint, bench: Bench, allowed: Sequence[str]) -> None:
        self._plan = plan
        self._source = source
        self._bench = bench
        self._allowed = allowed
        self._size = 0
        self._rows = ROWS
        self._unfinished = Tally()
        """What became of rows of a stretch that did not go through."""
        self._written = Tally()
        """What such a try has written, and a shorter stretch has not met yet."""
        self.tally = Tally()

    def run(self) -> Report:
        """Pull stretch after stretch.

        Raises:
            PgpullError: one did not go through; those before it stay.
        """
        try:
            return self._run()
        except PgpullError as error:
            before = self.tally.inserted + self.tally.updated + self._written.fetched
            self._count(self._unfinished)
            self.tally += self._written
            tell_written(error, before)
            raise

    def _run(self) -> Report:
        started, passes, after = time.monotonic(), 0, None
        while True:
            request, last = self._next(after)
            try:
                report = self._pull(request)
            except Conflict as error:
                self._shorten(error)
                continue
            passes, after = max(passes, report.passes), last
            if after is None:
                break
        return replace(
            report,
            plan=self._plan,
            tally=self.tally,
            bytes=self._size,
            seconds=time.monotonic() - started,
            passes=passes,
            rejects=self._bench.rejects.path if self.tally.failed else None,
        )

    def _shorten(self, error: Conflict) -> None:
        """Go on by smaller stretches: a standby that ends a read may let a shorter one through."""
        if self._rows <= LEAST_ROWS:
            raise error
        inserted, updated = self._unfinished.inserted, self._unfinished.updated
        self._written += Tally(inserted + updated, inserted, updated)
        self._unfinished = Tally()
        self._rows = max(LEAST_ROWS, self._rows // 10)
        self._bench.listener.noticed(f"{error}; going on by stretches of {self._rows:,} keys")

    def _next(self, after: tuple[str, ...] | None) -> tuple[Request, tuple[str, ...] | None]:
        """Return what to ask for in the next stretch, and where it ends; the last one has no end."""
        rest = self._request(Stretch(self._plan.keys, after))
        last = self._bench.patience.call(lambda: self._end(replace(self._plan, request=rest)))
        return self._request(Stretch(self._plan.keys, after, last)), last

    def _request(self, stretch: Stretch) -> Request:
        request = self._plan.request
        scope = replace(request.scope, stretch=stretch)
        return replace(request, scope=scope, use_versions=False)

    def _walk(self, job: Job, bench: Bench) -> Summary:
        with _let_in_before():
            return walk_at_once(job, self._source, bench, self._allowed)

    def _end(self, plan: Plan) -> tuple[str, ...] | None:
        with (
            _let_in_before(),
            open_source(self._source) as session,
            translated(SOURCE, session.connection),
        ):
            rows = session.connection.execute(end_of_stretch(plan, self._rows)).fetchall()
        return rows[0] if len(rows) > 1 else None

    def _pull(self, request: Request) -> Report:
        table = request.table
        job = Job((Wanted(TablePattern.of(table), request),))
        ear = _Ear(self._bench.listener, self.tally, self._size)
        bench = replace(self._bench, listener=ear, jobs=1)
        try:
            [report] = bench.patience.call(lambda: self._walk(job, bench)).reports
        except PgpullError:
            self._unfinished = ear.heard
            raise
        self._count(report.tally)
        self._size += report.bytes
        self._bench.rejects.settle()
        self._check_limit(request)
        return report

    def _count(self, tally: Tally) -> None:
        """Count rows of a stretch, those once that a longer one has written before it was given up."""
        once = counted_once(tally, self._written)
        inserted, updated = once.inserted - tally.inserted, once.updated - tally.updated
        self._written = Tally(
            self._written.fetched - inserted - updated,
            self._written.inserted - inserted,
            self._written.updated - updated,
        )
        self.tally += once

    def _check_limit(self, request: Request) -> None:
        limit = request.max_errors
        if limit is not None and limit.exceeded_by(self.tally.failed, self.tally.fetched):
            raise TooManyRejects(
                f"{self.tally.failed} of {self.tally.fetched} rows were refused, more than {limit} allowed",
                f"see why in {self._bench.rejects.path}; what was committed stays",
            )
