"""How the rows in scope are cut into parts that several workers share out, and when they cannot be. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from pgpull.model import OnConflict
from pgpull.objecting import held_triggers
from pgpull.plans import BATCH_BYTES, Part, Plan, Strategy, Wire
from pgpull.shapes import Column

WORTH_BYTES = 16 * 1024 * 1024
"""From here on, a second worker saves more than the 30 ms that it takes to have it, or a little more."""

_FINEST = 32
"""The last parts are such a share of what a worker reads, so that all end together."""

LEAST_BYTES = BATCH_BYTES
"""A part that is smaller than a batch costs a commit and a word there and back, which is more than it saves."""

_PAGES_FROM = 14
"""The first major version that finds rows by a range of pages (release notes: TID Range Scan)."""


def can_be_shared(plan: Plan) -> bool:
    """Tell whether rows move in a way that several workers may share."""
    if plan.strategy is Strategy.KEYED:
        return plan.key is not None and plan.wire is not Wire.CSV
    return plan.strategy in (Strategy.STRAIGHT, Strategy.MERGE)


def share(plan: Plan) -> float:
    """Return about how much of the table is read, from 0 to 1."""
    found, guess, all_rows = plan.comparison, plan.estimate, plan.source.rows
    if plan.strategy is Strategy.KEYED and found:
        return min(1.0, found.wanted / max(found.rows, all_rows, 1))
    if not plan.request.scope.narrows or guess is None or all_rows <= 0:
        return 1.0
    return min(1.0, guess.rows / all_rows)


def batches(plan: Plan) -> int:
    """Return how many batches a plan's rows are asked for in, by their keys."""
    return -(-plan.comparison.wanted // plan.request.batch_rows) if plan.comparison else 0


def one_alone(plan: Plan, *, shared: bool, unique: bool) -> str:
    """Say why a single worker has to move the rows; empty if several can.

    Args:
        plan: with its strategy.
        shared: whether several sessions can see the source's instant.
        unique: whether the target has unique rules beside the key.
    """
    if plan.atomic:
        return "all is written in one transaction"
    if plan.request.new is not None:
        return "rows come oldest first"
    if any(tie.parents for tie in plan.ties):
        return "rows refer to others that may come later"
    if held_triggers(plan.request, plan.target):
        return "the table is locked while its triggers are held back"
    updates = plan.strategy is not Strategy.STRAIGHT or plan.request.scope.narrows  # rows may be here outside
    if unique and updates and plan.request.on_conflict is OnConflict.UPDATE:
        return "unique values may be swapped between rows"
    return "" if shared else "the server lets no other session see the same instant"


def page_parts(pages: int, size: float, jobs: int) -> tuple[Part, ...]:
    """Cut a table by its pages; rows of a partitioned table by theirs, in all partitions at once.

    Args:
        pages: how many it has. What was added since lies in the last part, which has no end.
        size: the bytes of what is read.
        jobs: how many workers share the parts out.
    """
    return _parts("ctid", "tid", [f"({page},0)" for page in _places(pages, size, jobs)])


def window_parts(column: Column, cuts: Sequence[str], size: float, jobs: int) -> tuple[Part, ...]:
    """Cut a window between values that lie about evenly in it.

    Args:
        column: that the window stands on.
        cuts: the values, in order.
        size: the bytes of what is read.
        jobs: how many workers share the parts out.
    """
    return _parts(column.name, column.type.base, [cuts[at - 1] for at in _places(len(cuts) + 1, size, jobs)])


def _places(whole: int, size: float, jobs: int) -> Iterator[int]:
    """Yield where to cut: each part is a share of what is left, so that there are few, and small ones last."""
    least = -(-whole // max(jobs, min(jobs * _FINEST, int(size // LEAST_BYTES))))
    at = max(least, whole // (2 * jobs))
    while at < whole:
        yield at
        at += max(least, (whole - at) // (2 * jobs))


def _parts(column: str, kind: str, cuts: Sequence[str]) -> tuple[Part, ...]:
    ends = [None, *dict.fromkeys(cuts), None]
    return tuple(Part(column, kind, first, end) for first, end in pairwise(ends))


def by_pages(plan: Plan, major: int) -> bool:
    """Tell whether the source finds rows by their pages as fast as by its own plan, and lets us ask for them.

    Args:
        plan: which says how the source would find the rows in scope.
        major: the source's version.
    """
    # who may read some columns alone may not know where a row stands; what is laid out of an archive is ours
    known = plan.source.heap or plan.source.stored is not None
    return major >= _PAGES_FROM and plan.access == "sequential scan" and known
