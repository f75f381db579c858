"""The walk of one pull: look, plan, compare, move, count. And its Python face, :func:`pull`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from sqlalchemy.engine import URL

from pgpull import pruning, sql, versions
from pgpull.applying import Applier
from pgpull.comparing import compare_in_full, unequal
from pgpull.deciding import decide
from pgpull.diagnosis import SOURCE, TARGET, lost, translated
from pgpull.endpoints import Endpoint, endpoint_of
from pgpull.errors import ConnectFailed, Refused, Stopped, TooManyRejects
from pgpull.guarding import guard
from pgpull.looking import look
from pgpull.model import Known, Limit, OnConflict, Plan, Request, Scope
from pgpull.moving import move
from pgpull.patience import DEFAULT_RETRIES, Patience
from pgpull.rejecting import RejectsFile
from pgpull.requesting import Words, default_rejects, make_request
from pgpull.results import Reject, Report, Tally
from pgpull.sessions import Session, open_source, open_target, reopen, send_bytes_as_they_are


class Listener:
    """Hears how a pull goes on; override what you care for. The pull waits until a call returns."""

    def looked(self, plan: Plan, source: Session, target: Session) -> None:
        """Both sides are open and fit together; rows are about to be compared. Again if the source was lost."""

    def planned(self, plan: Plan, source: Session, target: Session) -> None:
        """The plan stands; rows are about to move. Again if the source had to be read anew."""

    def progressed(self, tally: Tally, size: int) -> None:
        """One more batch is committed: the tally and the bytes so far."""

    def rejected(self, reject: Reject) -> None:
        """The target refused a row."""

    def noticed(self, text: str) -> None:
        """Something a user wants to know of happened: a lost connection, a pause."""


def pull(
    table: str,
    *,
    source: str | URL | Endpoint,
    target: str | URL | Endpoint,
    rejects: str | Path | None = None,
    allow_target: str | Sequence[str] = (),
    retries: int = DEFAULT_RETRIES,
    listener: Listener | None = None,
    **words: Unpack[Words],
) -> Report:
    """Bring the rows of a table, or those in scope, from the source to the target.

    Args:
        table: ``schema.table``, the same on both sides.
        source: URL of the server's database, only ever read.
        target: URL of the local database.
        rejects: file for refused rows, JSON lines, mode 0600, made if there is one;
            ``SCHEMA.TABLE.rejects.jsonl`` in the working directory unless named.
        allow_target: hosts beside this machine that may be written.
        retries: how often a lost connection is opened again, with longer and longer pauses.
        listener: hears how it goes on.
        words: which rows, and how they are written:

            - ``since``: first instant of the window, included; a date, a datetime, or ISO 8601 text.
            - ``until``: end of the window, excluded.
            - ``window``: the column that the window stands on; ``created_at`` unless named.
            - ``equals``: columns and the values that rows in scope have there.
            - ``where``: an SQL condition on the source's rows.
            - ``timezone``: the IANA zone that dates without an offset are read in; UTC unless named.
            - ``new``: only from the newest local row on, less the ``overlap`` (``"1h"``).
            - ``on_conflict``: ``skip`` or ``update`` a row whose key is in the target already.
            - ``mirror``: also delete local rows in scope that the source no longer has, but not more than
              ``max_delete`` (``"10%"``).
            - ``replace``: delete the scope and load it anew, in one transaction.
            - ``verify``: compare both sides once more at the end.
            - ``row_versions``: whether transaction numbers may be remembered to save time; they are.
            - ``batch_size``: rows that are committed together, at most.
            - ``max_errors``: stop when more rows than this fail: a number, or a percentage such as ``"2%"``.

    Returns:
        What was done. ``report.tally`` adds up: fetched = inserted + updated + skipped + failed.

    Raises:
        UsageError: an argument makes no sense.
        Refused: a connection, a guard or the plan stood in the way; nothing was written.
        Stopped: the run ended before its end; whole batches are in.
        Unequal: it was to be verified, and the two sides differ.
    """
    request = make_request(table, **words)
    return run(
        request,
        endpoint_of(source, "source"),
        endpoint_of(target, "target"),
        rejects=Path(rejects) if rejects else default_rejects(request),
        allowed=(allow_target,) if isinstance(allow_target, str) else allow_target,
        retries=retries,
        listener=listener,
    )


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
        self._scope: Scope | None = None
        """What the first look came to."""
        self._started = time.monotonic()
        self._tally = Tally()
        self._written_before = 0
        """Rows that earlier passes wrote, which the comparison now finds as they should be."""
        self._deleted = 0
        self._kept = 0
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
        return self._tally.inserted + self._tally.updated + self._deleted

    def _pass(self) -> Report:
        """Go the whole way once, at one instant of the source.

        A lost source means a new transaction, and so a new instant: both sides are compared anew.
        """
        self._begin()
        try:
            with open_source(self._source) as source:
                guard(source, self._target, self._allowed)
                before = versions.horizons(self._target)
                plan = look(source, self._target, self._request, self._scope)
                self._scope = plan.request.scope
                self._listener.looked(plan, source, self._target)
                plan, known = decide(source, self._target, plan)
                self._bytes += plan.comparison.bytes if plan.comparison else 0
                self._listener.planned(plan, source, self._target)
                written = self._write(source, plan)
                self._advance_sequences(plan)
                self._remember(source, plan, known, before, written)
                self._verify(source, plan)
                return self._report(plan, source)
        except ConnectFailed as error:
            if self._passes == 1:
                raise
            raise lost(SOURCE, error) from error

    def _begin(self) -> None:
        """Count anew what the comparison will find again; what is written stays written."""
        self._passes += 1
        if self._target.lost:
            reopen(self._target)
        self._written_before = self._tally.inserted + self._tally.updated
        self._tally = Tally(self._written_before, self._tally.inserted, self._tally.updated)
        self._rejects.begin_anew()

    # --- move --------------------------------------------------------------------------------------------

    def _write(self, source: Session, plan: Plan) -> list[int]:
        """Write what the plan says, and return the numbers of our transactions."""
        if not plan.atomic:
            return self._delete_and_move(source, plan)
        before = self._tally
        try:
            with translated(TARGET, self._target.connection), self._target.connection.transaction():
                return self._delete_and_move(source, plan)
        except BaseException:  # all of it was rolled back
            self._tally, self._deleted = before, 0
            raise

    def _delete_and_move(self, source: Session, plan: Plan) -> list[int]:
        if plan.request.replace:
            self._deleted += pruning.empty_scope(self._target, plan)
        elif plan.request.mirror and plan.comparison and plan.comparison.extra:
            deleted, self._kept = pruning.prune(self._target, plan)
            self._deleted += deleted
        return self._move(source, plan)

    def _move(self, source: Session, plan: Plan) -> list[int]:
        patience = Patience(0, self._listener.noticed) if plan.atomic else self._patience
        applier = Applier(self._target, plan, patience, self._reject)
        send_bytes_as_they_are(source)
        before = self._tally.fetched
        with closing(move(source, self._target, plan, applier)) as progress:
            for tally, size in progress:
                self._count(tally)
                if size:
                    self._bytes += size
                    self._listener.progressed(self._tally, self._bytes)
                    self._check_limit(self._request.max_errors)
        moved = self._tally.fetched - before
        self._pass_over((plan.comparison.rows if plan.comparison else moved) - moved)
        return applier.transactions

    def _pass_over(self, rows: int) -> None:
        """Count the rows that did not have to move, less those that an earlier pass of this run has written."""
        now = self._tally
        skipped = max(0, now.skipped + rows - self._written_before)
        self._tally = replace(now, fetched=now.fetched - now.skipped + skipped, skipped=skipped)
        if self._tally != now:
            self._listener.progressed(self._tally, self._bytes)

    def _count(self, tally: Tally) -> None:
        self._tally += tally
        limit = self._request.max_errors
        if limit is not None and limit.rows is not None:  # a share is judged by whole batches
            self._check_limit(limit)

    def _check_limit(self, limit: Limit | None) -> None:
        if limit is not None and limit.exceeded_by(self._tally.failed, self._tally.fetched):
            self._listener.progressed(self._tally, self._bytes)
            raise TooManyRejects(
                f"{self._tally.failed} of {self._tally.fetched} rows were refused, more than {limit} allowed",
                f"see why in {self._rejects.path}; what was committed stays",
            )

    def _reject(self, reject: Reject) -> None:
        self._rejects.add(reject)
        self._listener.rejected(reject)

    # --- afterwards --------------------------------------------------------------------------------------

    def _advance_sequences(self, plan: Plan) -> None:
        self._patience.call(lambda: self._try_to_advance(plan))

    def _try_to_advance(self, plan: Plan) -> None:
        if self._target.lost:
            reopen(self._target)
        with translated(TARGET, self._target.connection):
            for sequence in plan.sequences:
                self._target.connection.execute(sql.advance(sequence, plan.target))

    def _remember(
        self,
        source: Session,
        plan: Plan,
        known: Known | None,
        before: tuple[int, int],
        written: Sequence[int],
    ) -> None:
        """Remember how far both sides' transactions have come, if all rows in scope are equal now."""
        everything = plan.request.on_conflict is OnConflict.UPDATE or not (
            plan.comparison or self._tally.skipped
        )
        nothing_new = known and plan.comparison and plan.comparison.equal
        if everything and not self._tally.failed and not nothing_new and versions.usable(plan):
            reached = versions.reached(self._target, plan, before, written)
            versions.remember(self._target, source, plan, Known(source.identity.horizon, reached))

    def _verify(self, source: Session, plan: Plan) -> None:
        if not plan.request.verify:
            return
        # nobody asked for rows to go that only the target has, unless it was to be a mirror
        found = compare_in_full(source, self._target, plan, extras=plan.request.deletes)
        self._bytes += found.bytes
        if found.extra:
            found = pruning.confirm(source, self._target, plan, found)
        if not found.equal:
            raise unequal(self._target, plan, found)

    def _report(self, plan: Plan, source: Session) -> Report:
        return Report(
            plan=plan,
            tally=self._tally,
            deleted=self._deleted,
            kept=self._kept,
            bytes=self._bytes,
            seconds=time.monotonic() - self._started,
            snapshot=source.identity.now,
            passes=self._passes,
            verified=plan.request.verify,
            rejects=self._rejects.path if self._rejects.count else None,
        )
