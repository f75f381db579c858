"""A pull in smaller windows, for a standby that ends every read of the whole. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pgpull.model import Job, Request, Window
from pgpull.plans import Comparison
from pgpull.results import Report, Summary, Tally

MOST_CUTS = 6
"""How often a window is cut in two: if one of 64 pieces still cannot be read, it is not for its length."""

_SHORTEST = timedelta(minutes=1)


def halves(job: Job, now: datetime) -> tuple[Job, Job] | None:
    """Cut a job in two by its window, if it is one that may be done at two instants.

    Args:
        job: what is asked for.
        now: where a window without an end has its newest rows.

    Returns:
        Both halves, the older one first; or None, where the whole has to be of one instant, or is too short.
    """
    request = job.single
    window = request.scope.window if request else None
    if request is None or window is None or window.since is None or not _in_pieces(request):
        return None
    length = (window.until or now) - window.since
    if length < 2 * _SHORTEST:
        return None
    middle = window.since + length / 2
    older, younger = replace(window, until=middle), replace(window, since=middle)
    return _within(job, older), _within(job, younger)


def _in_pieces(request: Request) -> bool:
    """Whether nothing that is asked for is judged, deleted or put in order over all rows in scope."""
    return not (request.deletes or request.new is not None or request.max_errors)


def _within(job: Job, window: Window) -> Job:
    [wanted] = job.wanted
    request = replace(wanted.request, scope=replace(wanted.request.scope, window=window))
    return replace(job, wanted=(replace(wanted, request=request),))


@dataclass(frozen=True, slots=True)
class Earlier:
    """What the tries to read the whole came to."""

    tally: Tally
    bytes: int
    seconds: float
    passes: int


def joined(job: Job, earlier: Earlier, pieces: Sequence[Summary]) -> Summary:
    """Say what was done in pieces as if it had been done at once.

    Args:
        job: the whole.
        earlier: what had been done before it was cut.
        pieces: what was done of each, in order.
    """
    report = _report(job, earlier, [report for piece in pieces for report in piece.reports])
    return Summary(
        reports=(report,),
        failures=(),
        bytes=report.bytes,
        seconds=report.seconds,
        snapshot=report.snapshot,
        passes=report.passes,
    )


def _report(job: Job, earlier: Earlier, reports: Sequence[Report]) -> Report:
    last = reports[-1]
    whole = job.single
    assert whole is not None, "no other job is cut"
    plan = replace(last.plan, request=replace(last.plan.request, scope=whole.scope))
    return replace(
        last,
        plan=replace(plan, comparison=_all([report.plan.comparison for report in reports])),
        tally=counted_once(sum((report.tally for report in reports), Tally()), earlier.tally),
        bytes=earlier.bytes + sum(report.bytes for report in reports),
        seconds=earlier.seconds + sum(report.seconds for report in reports),
        passes=earlier.passes + sum(report.passes for report in reports),
        rejects=next((report.rejects for report in reports if report.rejects), None),
    )


def _all(found: Sequence[Comparison | None]) -> Comparison | None:
    compared = [each for each in found if each]
    if not compared:
        return None
    return replace(
        compared[-1],
        rows=sum(each.rows for each in compared),
        missing=sum(each.missing for each in compared),
        changed=sum(each.changed for each in compared),
        bytes=sum(each.bytes for each in compared),
    )


def counted_once(tally: Tally, earlier: Tally) -> Tally:
    """Count rows as written, not as skipped, that were written before the job was cut.

    Args:
        tally: what became of rows, of which some were found as they should be.
        earlier: what had been written of them before.
    """
    inserted = min(earlier.inserted, tally.skipped)
    updated = min(earlier.updated, tally.skipped - inserted)
    return Tally(
        tally.fetched,
        tally.inserted + inserted,
        tally.updated + updated,
        tally.skipped - inserted - updated,
        tally.failed,
    )
