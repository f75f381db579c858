"""One table's part in a pull: what has been counted so far, over all passes, and each step of the walk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

import psycopg

from pgpull import pruning, versions
from pgpull.applying import Applier
from pgpull.comparing import compare_in_full, unequal
from pgpull.deciding import decide, find
from pgpull.diagnosis import TARGET, lost, translated
from pgpull.errors import TooManyRejects
from pgpull.listening import Listener
from pgpull.looking import Seen, look
from pgpull.model import OnConflict, Request, Scope
from pgpull.moving import Progress, move, move_related
from pgpull.pacing import NO_PACE, Pace
from pgpull.patience import Patience
from pgpull.plans import Comparison, Known, Method, Plan, Strategy
from pgpull.rejects_file import RejectsFile
from pgpull.results import Reject, Report, Tally
from pgpull.sessions import Session, reopen, send_bytes_as_they_are, subtransaction
from pgpull.sharing import SharedMove, shared_out
from pgpull.sql import staging as sql
from pgpull.waiting import settle
from pgpull.workers import Worker, hired


@dataclass(frozen=True, slots=True)
class Bench:
    """What the tables of a run have in common."""

    target: Session
    rejects: RejectsFile
    listener: Listener
    patience: Patience
    jobs: int = 1
    """How many workers may move the rows of one table."""
    pace: Pace = NO_PACE

    def reject(self, reject: Reject) -> None:
        """Keep a refused row, and say so."""
        self.rejects.add(reject)
        self.listener.rejected(reject)


class TablePull:
    """One table on its way. The steps are called in the order in which they stand here, again in each pass.

    Args:
        request: what is asked for.
        bench: what it shares with other tables.
    """

    def __init__(self, request: Request, bench: Bench) -> None:
        self.request = request
        self._bench = bench
        self._target = bench.target
        self._scope: Scope | None = None
        """What the first look came to."""
        self.tally = Tally()
        self._written_before = 0
        """Rows that earlier passes wrote, which the comparison now finds as they should be."""
        self._again = False
        """Whether there was an earlier pass."""
        self._deleted = 0
        self._kept = 0
        self._bytes = 0
        self._looked_on: psycopg.Connection | None = None
        """The connection that has the keys of rows which come along."""
        self.plan: Plan
        self._known: Known | None = None
        self._horizons = (0, 0)
        self.applier: Applier

    @property
    def written(self) -> int:
        """Rows that were committed, or deleted."""
        return self.tally.inserted + self.tally.updated + self._deleted

    @property
    def deleted(self) -> int:
        """Local rows that were deleted."""
        return self._deleted

    @property
    def kept(self) -> int:
        """Local rows that should be deleted, and are not as other rows refer to them."""
        return self._kept

    @property
    def bytes(self) -> int:
        """Bytes of rows and keys that the source sent."""
        return self._bytes

    def begin(self) -> None:
        """Count anew what the comparison will find again; what is written stays written."""
        self._again = True
        self._written_before = self.tally.inserted + self.tally.updated
        self.tally = Tally(self._written_before, self.tally.inserted, self.tally.updated)

    # --- look, and decide --------------------------------------------------------------------------------

    def look(self, source: Session, seen: Seen, *, guess: bool) -> Plan:
        """Make the plan as far as it can be made before rows are compared."""
        self._looked_on = self._target.connection
        self.plan = look(source, self._target, self.request, seen, self._scope, guess=guess)
        self._scope = self.plan.request.scope
        return self.plan

    def decide(self, source: Session) -> None:
        """Compare, and choose how rows move."""
        self._kept = 0
        if self.request.only_related:
            nothing = Comparison(Method.KEYS, rows=0, missing=0, changed=0)
            reason = "only rows come that others are related to"
            self.plan = replace(self.plan, strategy=Strategy.NOTHING, comparison=nothing, reason=reason)
            return
        self._horizons = versions.horizons(self._target)
        self.plan, self._known = decide(source, self._target, self.plan, again=self._again)
        self.plan = shared_out(source, self._target, self.plan, self._bench.jobs)
        self._bytes += self.plan.comparison.bytes if self.plan.comparison else 0
        if self.extra:
            pruning.put_aside(self._target, self.plan)

    @property
    def extra(self) -> int:
        """Local rows that a mirror is to delete."""
        found = self.plan.comparison
        return (found.extra or 0) if self.request.mirror and found else 0

    def find_kept(self, source: Session) -> None:
        """Find the local rows once more that should be deleted, and were not."""
        self._kept = 0
        found, _ = find(source, self._target, self.plan)
        self._bytes += found.bytes
        pruning.put_aside(self._target, self.plan)

    # --- move --------------------------------------------------------------------------------------------

    def pruned(self, deleted: int, kept: int) -> None:
        """Count local rows that were deleted as the source no longer has them, and those that were to be."""
        self._deleted += deleted
        self._kept = kept

    def emptied(self, rows: int) -> None:
        """Count local rows that were deleted to make room; those of an earlier pass will come once more."""
        self._deleted += rows - min(rows, self._written_before)
        self.tally, self._written_before = Tally(), 0

    @contextmanager
    def hire(self, source: Session) -> Iterator[Sequence[Worker]]:
        """Have as many workers for the length of a block as the plan asks for, or as can be had."""
        spared = self.plan.strategy is Strategy.KEYED
        with hired(source, self._target, self.plan.jobs, spared=spared) as (workers, why):
            if why:
                parts = self.plan.parts if len(workers) > 1 else ()
                self.plan = replace(self.plan, jobs=len(workers), parts=parts, alone=why)
            yield workers

    def move(self, workers: Sequence[Worker]) -> None:
        """Move the rows that the plan says."""
        bench, plan, source = self._bench, self.plan, workers[0].source
        patience = Patience(0, bench.listener.noticed) if plan.atomic else bench.patience
        self.applier = Applier(self._target, plan, patience, bench.reject)
        before = self.tally.fetched
        if len(workers) > 1:
            shared = SharedMove(plan, self._target, workers, patience, bench.reject, bench.listener.noticed)
            try:
                self._follow(shared.progress())
            except BaseException:
                for tally in shared.unheard():
                    self.tally += tally
                raise
            self.applier.transactions += shared.transactions
        else:
            send_bytes_as_they_are(source)
            self._follow(move(source, self._target, plan, self.applier))
        moved = self.tally.fetched - before + self.applier.waiting
        if plan.why:
            if self._target.connection is not self._looked_on:
                raise lost(TARGET, RuntimeError("the keys of related rows went with it"))
            self._follow(move_related(source, self._target, plan, self.applier))
        self._pass_over((plan.comparison.rows if plan.comparison else moved) - moved)

    def beside(self, bench: Bench, worker: Worker) -> None:
        """Decide and move on another bench, by a worker's two sessions, and come back to the own one.

        Raises:
            PgpullError: something went wrong with this table.
        """
        own = self._bench
        self._take(bench)
        try:
            with subtransaction(worker.source):
                self.decide(worker.source)
                self.move([worker])
                self.settle_alone()
        finally:
            self._take(own)

    def _take(self, bench: Bench) -> None:
        self._bench, self._target = bench, bench.target

    def settle_alone(self) -> None:
        """Write the rows that wait for nothing but values of the same table."""
        with closing(settle(self._target, [self.applier], self._bench.reject)) as settled:
            for _, tally in settled:
                self.count(tally)
        self.check_limit()

    def _follow(self, moving: Progress) -> None:
        with closing(moving) as progress:
            for tally, size in progress:
                self.count(tally)
                if size:
                    self._bytes += size
                    self._tell()
                    self.check_limit()

    def _pass_over(self, rows: int) -> None:
        """Count the rows that did not have to move, less those that an earlier pass of this run has written."""
        now = self.tally
        skipped = max(0, now.skipped + rows - self._written_before)
        self.tally = replace(now, fetched=now.fetched - now.skipped + skipped, skipped=skipped)
        if self.tally != now:
            self._tell()

    def _tell(self) -> None:
        self._bench.listener.progressed(self.tally, self._bytes)

    def count(self, tally: Tally) -> None:
        """Add what became of some rows.

        Raises:
            TooManyRejects: more have failed than may.
        """
        self.tally += tally
        limit = self.request.max_errors
        if limit is not None and limit.rows is not None:  # a share is judged by whole batches
            self.check_limit()

    def check_limit(self) -> None:
        """Make sure that no more rows have failed than may.

        Raises:
            TooManyRejects: they have.
        """
        limit = self.request.max_errors
        if limit is not None and limit.exceeded_by(self.tally.failed, self.tally.fetched):
            self._tell()
            raise TooManyRejects(
                f"{self.tally.failed} of {self.tally.fetched} rows were refused, more than {limit} allowed",
                f"see why in {self._bench.rejects.shown}; what was committed stays",
            )

    def rolled_back(self, tally: Tally, deleted: int) -> None:
        """Hear that everything is undone since so much had been counted."""
        self.tally, self._deleted = tally, deleted

    # --- afterwards --------------------------------------------------------------------------------------

    def finish(self, source: Session) -> None:
        """Move sequences up, remember what is known now, and compare once more if asked.

        Raises:
            Unequal: it was to be verified, and the two sides differ.
        """
        self._bench.patience.call(self._advance_sequences)
        self._remember(source, self.applier.transactions)
        self._verify(source)

    def _advance_sequences(self) -> None:
        if self._target.lost:
            reopen(self._target)
        with translated(TARGET, self._target.connection):
            for sequence in self.plan.sequences:
                self._target.connection.execute(sql.advance(sequence, self.plan.target))

    def _remember(self, source: Session, written: Sequence[int]) -> None:
        """Remember how far both sides' transactions have come, if all rows in scope are equal now."""
        plan = self.plan
        everything = plan.request.on_conflict is OnConflict.UPDATE or not (
            plan.comparison or self.tally.skipped
        )
        everything = everything and not plan.request.only_related
        nothing_new = self._known and plan.comparison and plan.comparison.equal
        if everything and not self.tally.failed and not nothing_new and versions.usable(plan):
            reached = versions.reached(self._target, plan, self._horizons, written)
            versions.remember(self._target, source, plan, Known(source.identity.horizon, reached))

    def _verify(self, source: Session) -> None:
        plan = self.plan
        if not plan.request.verify:
            return
        # nobody asked for rows to go that only the target has, unless it was to be a mirror
        found = compare_in_full(source, self._target, plan, extras=plan.request.deletes)
        self._bytes += found.bytes
        if found.extra:
            found = pruning.confirm(source, self._target, plan, found)
        if not found.equal:
            raise unequal(self._target, plan, found)

    def report(self, source: Session, *, seconds: float, passes: int) -> Report:
        """Say what was done.

        Args:
            source: the server.
            seconds: how long it took.
            passes: how often the source was read.
        """
        return Report(
            plan=self.plan,
            tally=self.tally,
            deleted=self._deleted,
            kept=self._kept,
            bytes=self._bytes,
            seconds=seconds,
            snapshot=source.identity.now,
            passes=passes,
            verified=self.plan.request.verify,
            rejects=self._bench.rejects.shown if self.tally.failed else None,
        )
