"""What a pull would do, found out without writing: both sides are compared, and the rows to move are tried."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from typing import Final, Unpack

from sqlalchemy.engine import URL

from pgpull import preparing, pruning
from pgpull.arguments import several
from pgpull.deciding import decide
from pgpull.diagnosis import TARGET, translated
from pgpull.endpoints import Endpoint, endpoint_of
from pgpull.errors import Passing, PgpullError, UnsafeTarget
from pgpull.listening import Listener
from pgpull.looking import look, see
from pgpull.manners import Manners
from pgpull.model import Job, Request, Wanted
from pgpull.ordering import Roots, failed_parent, roots_of
from pgpull.origins import Origin, opened, paced
from pgpull.plans import Plan
from pgpull.requesting import Words, said_job, said_request
from pgpull.results import Failure, Forecast, Outlook
from pgpull.sessions import Session, open_target
from pgpull.shapes import TableName, TablePattern
from pgpull.trying import Rehearsal

DEFAULT_EXAMPLES: Final = 5


def forecast(
    table: str,
    *,
    source: str | URL | Endpoint,
    target: str | URL | Endpoint,
    create_missing: bool = False,
    allow_target: str | Sequence[str] = (),
    examples: int = DEFAULT_EXAMPLES,
    listener: Listener | None = None,
    **words: Unpack[Words],
) -> Forecast:
    """Find out what a pull would do, and write nothing.

    Args:
        table: ``schema.table``, the same on both sides.
        source: URL of the server's database, only ever read.
        target: URL of the local database; only temporary tables are made there.
        create_missing: whether a pull would make the table if local lacks it: it is made, and rolled back.
        allow_target: hosts besides this machine that may be written.
        examples: how many of the rows to be inserted are shown, their long values cut.
        listener: hears how it goes on.
        words: what would be pulled, as :func:`pgpull.pull` takes it.

    Returns:
        What a pull with the same words would do now: its tally, and more.

    Raises:
        UsageError: an argument makes no sense.
        Refused: a connection, a guard or the plan would stand in the way.
        Stopped: a connection was lost.
    """
    return rehearse(
        Job(
            (Wanted(TablePattern.parse_plain(table), said_request(table, **words)),),
            create_missing=create_missing,
        ),
        endpoint_of(source, "source"),
        endpoint_of(target, "target"),
        allowed=several(allow_target),
        examples=examples,
        listener=listener,
    )


def forecast_tables(
    *tables: str,
    source: str | URL | Endpoint,
    target: str | URL | Endpoint,
    exclude: Sequence[str] = (),
    with_parents: bool = False,
    with_children: Sequence[str] = (),
    create_missing: bool = False,
    allow_target: str | Sequence[str] = (),
    listener: Listener | None = None,
    **words: Unpack[Words],
) -> Outlook:
    """Find out what a pull of several tables would do, and write nothing.

    See :func:`pgpull.pull_tables` for the arguments.

    Returns:
        A forecast for each table, in the order of the pull, and a failure for each that could not be pulled.

    Raises:
        UsageError: an argument makes no sense.
        Refused: a connection or a guard would stand in the way.
        Stopped: a connection was lost.
    """
    return rehearse_job(
        said_job(
            tables,
            words,
            exclude=exclude,
            with_parents=with_parents,
            with_children=with_children,
            create_missing=create_missing,
        ),
        endpoint_of(source, "source"),
        endpoint_of(target, "target"),
        allowed=several(allow_target),
        listener=listener,
    )


def rehearse_job(
    job: Job,
    source: Origin,
    target: Endpoint,
    *,
    allowed: Sequence[str] = (),
    manners: Manners = Manners(),  # noqa: B008 - a frozen value
    listener: Listener | None = None,
) -> Outlook:
    """Find out what a job would do; see :func:`forecast_tables`."""
    hears = listener or Listener()
    with _sides(job, source, target, allowed, manners, hears) as (server, local):
        return _Rehearsals(server, local, job, hears).run()


@contextmanager
def _sides(
    job: Job,
    source: Origin,
    target: Endpoint,
    allowed: Sequence[str],
    manners: Manners,
    listener: Listener,
) -> Iterator[tuple[Session, Session]]:
    """Have both sides as a pull would find them once it moves rows: the source, and the target."""
    with (
        closing(open_target(target)) as local,
        paced(source, manners, listener.told) as pace,
        opened(source, local, job, allowed, writes=False, pace=pace) as server,
        _as_made(server, local, job, listener),
    ):
        yield server, local


@contextmanager
def _as_made(source: Session, target: Session, job: Job, listener: Listener) -> Iterator[None]:
    """Have the tables that a pull would make until a block ends: nobody else sees them, and they go again."""
    if not _makes(target, job):
        yield
        return
    with translated(TARGET, target.connection), target.connection.transaction(force_rollback=True):
        asked = preparing.requests(source, job)
        preparing.make_missing(
            source, target, job, asked, lambda note: listener.noticed(f"a pull will say: {note}")
        )
        yield


def _makes(target: Session, job: Job) -> bool:
    """Tell whether a pull would make tables that local lacks; a private one gets them by itself."""
    return job.create_missing or target.endpoint.private


class _Rehearsals:
    """Rehearsals of several tables, one after the other."""

    def __init__(self, source: Session, target: Session, job: Job, listener: Listener) -> None:
        self._source = source
        self._target = target
        self._job = job
        self._listener = listener
        self._started = time.monotonic()
        self._failures: dict[TableName, Failure] = {}
        self._roots: Roots = {}
        self._prunable: dict[TableName, tuple[int, int]] = {}
        """Of tables that are mirrored, how many rows would be deleted, and how many kept."""
        self._coming: dict[TableName, frozenset[str]] = {}
        """Of the tables that are through, the columns by which it is known which rows would be there."""

    def run(self) -> Outlook:
        groups = self._plans()
        plans = [plan for group in groups for plan in group]
        if plans:
            self._listener.opened(plans, self._source, self._target)
        self._check_replaced([plan for plan in plans if plan.request.replace])
        self._find_prunable([plan for plan in plans if plan.request.mirror])
        return Outlook(
            forecasts=tuple(f for plan in plans for f in self._forecast(plan, plans)),
            failures=tuple(self._failures.values()),
            seconds=time.monotonic() - self._started,
            snapshot=self._source.identity.now,
        )

    def _plans(self) -> list[list[Plan]]:
        asked = preparing.requests(self._source, self._job)
        reach = preparing.reached(self._source, self._target, self._job, asked, may_make=True)
        self._roots = roots_of(reach.seen.ours.values())

        def planned(request: Request) -> Plan | None:
            with self._attempt(request.table):
                return look(self._source, self._target, request, reach.seen)
            return None

        return preparing.arranged(self._source, self._target, reach, planned)

    @contextmanager
    def _attempt(self, table: TableName) -> Iterator[None]:
        # what fails must not take the tables along that were made for now
        within = self._target.connection.transaction() if _makes(self._target, self._job) else nullcontext()
        try:
            with self._source.connection.transaction(), within:
                yield
        except (Passing, UnsafeTarget):
            raise
        except PgpullError as error:
            failure = self._failures[table] = Failure(table, error)
            self._listener.failed_at(failure)

    def _check_replaced(self, plans: Sequence[Plan]) -> None:
        if plans:
            pruning.check_referred(self._target, plans)

    def _find_prunable(self, plans: Sequence[Plan]) -> None:
        """Find what mirrors would delete, of all tables together: rows that go keep none that they refer to."""
        found: list[Plan] = []
        for plan in plans:
            with self._attempt(plan.table):
                decided, _ = decide(self._source, self._target, plan)
                if decided.comparison and decided.comparison.extra:
                    pruning.put_aside(self._target, decided)
                    found.append(decided)
        counted = pruning.count_prunable(self._target, found)
        self._prunable = dict(zip((plan.table for plan in found), counted, strict=True))

    def _forecast(self, plan: Plan, plans: Sequence[Plan]) -> Iterator[Forecast]:
        if plan.table in self._failures:
            return
        failed = {table: self._roots.get(table) for table in self._failures}
        if orphaned := failed_parent(plan.target, failed):
            failure = self._failures[plan.table] = Failure(plan.table, orphaned)
            self._listener.failed_at(failure)
            return
        started = time.monotonic()
        with self._attempt(plan.table):
            self._listener.looked(plan, self._source, self._target)
            decided = plan
            if not plan.request.only_related:
                decided, _ = decide(self._source, self._target, plan)
            self._listener.planned(decided, self._source, self._target)
            referred = _referred(plan, plans)
            rehearsal = Rehearsal(
                self._source, self._target, decided, self._coming, referred, self._prunable.get(plan.table)
            )
            found = rehearsal.run(started)
            self._coming[plan.table] = rehearsal.keep_coming()
            yield found


def _referred(plan: Plan, plans: Sequence[Plan]) -> frozenset[str]:
    """Return the columns by which other tables of a run refer to a table."""
    return frozenset(
        name
        for other in plans
        if other.table != plan.table
        for key in other.target.foreign_keys
        if plan.table in (key.table, key.root)
        for name in key.referred
    )


def rehearse(
    job: Job,
    source: Origin,
    target: Endpoint,
    *,
    allowed: Sequence[str] = (),
    examples: int = DEFAULT_EXAMPLES,
    manners: Manners = Manners(),  # noqa: B008 - a frozen value
    listener: Listener | None = None,
) -> Forecast:
    """Find out what a job of a single table would do; see :func:`forecast`."""
    started = time.monotonic()
    hears = listener or Listener()
    request = job.single
    assert request is not None, "several tables are rehearsed as a job"
    with _sides(job, source, target, allowed, manners, hears) as (server, local):
        plan = look(server, local, request, see(server, local, [request.table], may_make=True))
        hears.looked(plan, server, local)
        plan, _ = decide(server, local, plan)
        hears.planned(plan, server, local)
        return Rehearsal(server, local, plan).run(started, examples)
