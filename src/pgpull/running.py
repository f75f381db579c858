"""The walk of a pull over all its tables and passes: look, plan, compare, move, count."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace

import psycopg
from psycopg.pq import TransactionStatus

from pgpull import bags, narrowing, preparing, pruning, scoping
from pgpull.diagnosis import SOURCE, TARGET, lost, translated
from pgpull.errors import ConnectFailed, Passing, PgpullError, ReadEnded, Refused, Stopped
from pgpull.failing import Failures, SourceGone
from pgpull.model import Job, Request
from pgpull.ordering import roots_of
from pgpull.origins import Origin, opened
from pgpull.plans import Plan
from pgpull.pulling import Bench, TablePull
from pgpull.results import Report, Summary, Tally
from pgpull.sessions import Session, reopen, subtransaction
from pgpull.shapes import TableName
from pgpull.siding import pull_beside
from pgpull.sql.staging import CHECK_CONSTRAINTS_NOW
from pgpull.waiting import settle
from pgpull.waves import Group, Unit, is_small, units_of, waves


def tell_written(error: PgpullError, rows: int) -> None:
    """Let an error say that so many rows more are in.

    Raises:
        Stopped: in place of one that says there are none.
    """
    if isinstance(error, Stopped):
        error.written += rows
    elif isinstance(error, Refused) and rows:
        stopped = Stopped(error.message, error.hint)
        stopped.written = rows
        raise stopped from error


class Run:
    """One run under way, over all its tables and passes.

    Args:
        job: what is asked for.
        source: the server, or an archive in its place.
        bench: what all tables share.
        allowed: hosts besides this machine that may be written.
        gives_up_soon: whether it is not tried a third time what a standby has ended twice, to no avail.
    """

    def __init__(
        self,
        job: Job,
        source: Origin,
        bench: Bench,
        allowed: Sequence[str],
        *,
        gives_up_soon: bool = False,
    ) -> None:
        self._job = job
        self._gives_up_soon = gives_up_soon
        self._ended_at = -1
        """How many rows were in when a standby last ended a read."""
        self._source = source
        self._bench = bench
        self._target = bench.target
        self._listener = bench.listener
        self._allowed = allowed
        self._alone = job.single is not None
        self._pulls: dict[TableName, TablePull] = {}
        self._failures = Failures(bench.listener, alone=self._alone)
        self._started = time.monotonic()
        self._passes = 0

    def run(self) -> Summary:
        """Go the whole way, again at another instant where the source is lost.

        Raises:
            Refused: nothing was written.
            Stopped: the run ended before its end; whole batches are in.
            Unequal: a single table was to be verified, and the two sides differ.
        """
        try:
            return self._bench.patience.call(self._passes_until_through, lambda: self.written)
        except PgpullError as error:
            tell_written(error, self.written)
            if self._alone and isinstance(error, Stopped):
                self._tell()
            raise

    @property
    def written(self) -> int:
        """Rows that were committed, or deleted."""
        return sum(pull.written for pull in self._pulls.values())

    @property
    def so_far(self) -> narrowing.Earlier:
        """What was done until now."""
        tally = sum((pull.tally for pull in self._pulls.values()), Tally())
        size = sum(pull.bytes for pull in self._pulls.values())
        return narrowing.Earlier(tally, size, self._seconds, self._passes)

    def _tell(self) -> None:
        for pull in self._pulls.values():
            self._listener.progressed(pull.tally, pull.bytes)

    def _passes_until_through(self) -> Summary:
        while True:
            try:
                return self._pass()
            except SourceGone:
                continue
            except ReadEnded as error:
                error.exhausted = self._gives_up_soon and self.written == self._ended_at
                self._ended_at = self.written
                raise

    def _pass(self) -> Summary:
        """Go the whole way once, at one instant of the source.

        A lost source means a new transaction, and so a new instant: both sides are compared anew.
        """
        self._begin()
        try:
            with self._opened() as source:
                groups = self._look(source)
                self._prune_first(source, groups)
                reports: list[Report] = []
                for units in waves(units_of(groups)):
                    through = self._pull_wave(source, units)
                    reports += self._finish(source, [pull for pull in through if not pull.kept])
                reports += self._finish(source, self._prune_kept(source, groups))
                return self._summary(source, reports)
        except ConnectFailed as error:
            if self._passes == 1:
                raise
            raise lost(SOURCE, error) from error

    def _opened(self) -> AbstractContextManager[Session]:
        bench = self._bench
        return opened(
            self._source,
            self._target,
            self._job,
            self._allowed,
            share=bench.jobs > 1,
            pace=bench.pace,
            noticed=bench.listener.noticed,
        )

    def _begin(self) -> None:
        self._passes += 1
        if self._target.lost:
            reopen(self._target)
        for pull in self._pulls.values():
            pull.begin()
        self._bench.rejects.begin_anew(keep=self._failures.all)

    # --- look --------------------------------------------------------------------------------------------

    def _look(self, source: Session) -> list[Group]:
        """Look at all tables on both sides, and put them in order; what cannot be brought together is out."""
        asked = preparing.requests(source, self._job)
        preparing.make_missing(source, self._target, self._job, asked, self._listener.noticed)
        reach = preparing.reached(source, self._target, self._job, asked, may_make=True)
        self._failures.roots = roots_of(reach.seen.ours.values())
        left = [request for request in reach.requests if request.table not in self._failures.all]
        reach = replace(reach, requests=tuple(left))

        def planned(request: Request) -> Plan | None:
            pull = self._pulls.setdefault(request.table, TablePull(request, self._bench))
            with self._failures.attempt(source, [pull], asks=request.scope.narrows or bool(request.masks)):
                return pull.look(source, reach.seen, guess=self._alone)
            return None

        groups = preparing.arranged(source, self._target, reach, planned)
        ordered = [plan for group in groups for plan in group]
        if not self._alone:
            ordered = self._estimated(source, ordered)
        for plan in ordered:
            self._pulls[plan.table].plan = plan
        if not self._alone and ordered:
            self._listener.opened(ordered, source, self._target)
        pulls = [[self._pulls[plan.table] for plan in group] for group in groups]
        well = [[pull for pull in group if pull not in self._failures] for group in pulls]
        return [group for group in well if group]

    def _estimated(self, source: Session, plans: Sequence[Plan]) -> list[Plan]:
        """Have the source guess how many rows there are: all at once, or one by one if it refuses one."""
        try:
            with subtransaction(source):
                return scoping.with_estimates(source, plans)
        except Passing:
            raise
        except PgpullError:
            estimated: list[Plan] = []
            for plan in plans:
                with self._failures.attempt(source, [self._pulls[plan.table]]):
                    estimated.append(scoping.with_estimate(source, plan))
            return estimated

    # --- write -------------------------------------------------------------------------------------------

    def _prune_first(self, source: Session, groups: Sequence[Group]) -> None:
        """Delete extra rows of several tables from the children up: nothing refers to a row any more then."""
        if self._alone:
            return
        for group in reversed(groups):
            if mirrored := [pull for pull in group if pull.request.mirror]:
                self._prune(source, mirrored)

    def _prune(self, source: Session, group: Group) -> None:
        """Compare tables, and delete their extra rows together."""
        decided: list[TablePull] = []
        for pull in group:
            with self._failures.attempt(source, [pull]):
                pull.decide(source)
                decided.append(pull)
        with self._failures.attempt(source, decided):
            self._delete_extra(decided)

    def _delete_extra(self, group: Group) -> None:
        having = [pull for pull in group if pull.extra]
        if having:
            counts = pruning.prune(self._target, [pull.plan for pull in having])
            for pull, (deleted, kept) in zip(having, counts, strict=True):
                pull.pruned(deleted, kept)

    def _prune_kept(self, source: Session, groups: Sequence[Group]) -> list[TablePull]:
        """Try once more to delete extra rows that others referred to, which are as they should be now.

        Returns:
            The tables that have had such rows, and are through now.
        """
        through: list[TablePull] = []
        for group in reversed(groups):
            again = [pull for pull in group if pull.kept and pull not in self._failures]
            with self._failures.attempt(source, again, asks=bool(again)):
                if not self._alone:
                    for pull in again:
                        pull.find_kept(source)
                    self._delete_extra(again)
                through += again
        return through

    def _pull_wave(self, source: Session, units: Sequence[Unit]) -> Iterator[TablePull]:
        """Pull tables that do not refer to each other: the small ones at the same time, then the others."""
        small = [unit for unit in units if is_small(unit) and self._failures.may_begin(unit[0])]
        through = pull_beside(source, self._bench, [unit[0][0] for unit in small], self._failures.fail)
        yield from through
        if source.broken_off:
            self._failures.read_anew()
        for unit in units:
            if unit[0][0] not in through:
                yield from self._pull_unit(source, unit)

    def _pull_unit(self, source: Session, unit: Unit) -> list[TablePull]:
        """Pull tables that are written together, or not at all; return them, or none if one failed."""
        groups = [group for group in unit if self._failures.may_begin(group)]
        pulls = [pull for group in groups for pull in group]
        with self._failures.attempt(source, pulls):
            with self._all_or_nothing(pulls):
                bags.take_turns(self._target, [pull.plan for pull in pulls])
                self._empty_scopes(pulls)
                for group in groups:
                    self._pull_group(source, group)
            return pulls
        return []

    @contextmanager
    def _all_or_nothing(self, pulls: Sequence[TablePull]) -> Iterator[None]:
        if not any(pull.plan.atomic for pull in pulls):
            yield
            return
        before = [(pull, pull.tally, pull.deleted) for pull in pulls]
        for pull in pulls:
            pull.plan = replace(pull.plan, together=True)
        connection = self._target.connection
        try:
            with translated(TARGET, connection), connection.transaction():
                # a row that a deferred constraint refuses would take all others along at the end
                connection.execute(CHECK_CONSTRAINTS_NOW)
                yield
                # the driver would end the block as if it had committed
                if connection.closed:
                    raise lost(TARGET, RuntimeError("everything since it began went with it"))
                if connection.info.transaction_status is TransactionStatus.INERROR:
                    raise psycopg.errors.InFailedSqlTransaction("nothing since it began can be committed")
        except BaseException:
            for pull, tally, deleted in before:
                pull.rolled_back(tally, deleted)
            raise

    def _empty_scopes(self, pulls: Iterable[TablePull]) -> None:
        emptied = [pull for pull in pulls if pull.request.replace]
        if emptied:
            counts = pruning.empty_scopes(self._target, [pull.plan for pull in emptied])
            for pull, rows in zip(emptied, counts, strict=True):
                pull.emptied(rows)

    def _pull_group(self, source: Session, group: Group) -> None:
        """Pull a table, or tables that refer to each other in a circle."""
        for pull in group:
            self._failures.under_way = pull
            self._listener.looked(pull.plan, source, self._target)
            pull.decide(source)
            with pull.hire(source) as workers:
                self._listener.planned(pull.plan, source, self._target)
                self._delete_extra([pull])
                pull.move(workers)
        self._settle(group)

    def _settle(self, group: Group) -> None:
        """Write the rows that wait for each other."""
        by_table = {pull.request.table: pull for pull in group}
        with closing(settle(self._target, [pull.applier for pull in group], self._bench.reject)) as settled:
            for plan, tally in settled:
                self._failures.under_way = by_table[plan.table]
                self._failures.under_way.count(tally)
        for pull in group:
            self._failures.under_way = pull
            pull.check_limit()

    def _finish(self, source: Session, pulls: Iterable[TablePull]) -> Iterator[Report]:
        for pull in pulls:
            with self._failures.attempt(source, [pull], asks=pull.request.verify):
                pull.finish(source)
                report = pull.report(source, seconds=self._seconds, passes=self._passes)
                if not self._alone:
                    self._listener.done(report)
                yield report

    # --- count -------------------------------------------------------------------------------------------

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _summary(self, source: Session, reports: Sequence[Report]) -> Summary:
        return Summary(
            reports=tuple(reports),
            failures=tuple(self._failures.all.values()),
            bytes=sum(pull.bytes for pull in self._pulls.values()),
            seconds=self._seconds,
            snapshot=source.identity.now,
            passes=self._passes,
        )
