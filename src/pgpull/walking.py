"""A job done at one instant of the source; in smaller windows, where a standby ends all reads of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pgpull import narrowing
from pgpull.errors import PgpullError, ReadEnded
from pgpull.model import Job
from pgpull.origins import Origin
from pgpull.pulling import Bench
from pgpull.results import Summary
from pgpull.running import Run, tell_written


def walk(job: Job, source: Origin, bench: Bench, allowed: Sequence[str] = ()) -> Summary:
    """Do a job at one instant of the source, again at another one where the source is lost.

    Args:
        job: what is asked for. One that is a single table raises what goes wrong with it.
        source: the server, or an archive in its place.
        bench: what all tables share.
        allowed: hosts besides this machine that may be written.

    Raises:
        Refused: nothing was written.
        Stopped: the run ended before its end; whole batches are in.
        Unequal: a single table was to be verified, and the two sides differ.
    """
    return _in_pieces(job, source, bench, allowed)


def walk_at_once(job: Job, source: Origin, bench: Bench, allowed: Sequence[str] = ()) -> Summary:
    """Do a job, and do not cut it; see :func:`walk`."""
    return Run(job, source, bench, allowed).run()


def _in_pieces(
    job: Job, source: Origin, bench: Bench, allowed: Sequence[str], cuts: int = narrowing.MOST_CUTS
) -> Summary:
    """Do a job; where a standby ends every read, in halves of its window, each at an instant of its own."""
    halves = narrowing.halves(job, datetime.now(UTC)) if cuts and bench.patience.retries else None
    whole = Run(job, source, bench, allowed, gives_up_soon=halves is not None)
    try:
        return whole.run()
    except ReadEnded as error:
        if halves is None:
            raise
        bench.listener.noticed(f"{error}; reading smaller windows, each at an instant of its own")
    earlier, pieces = whole.so_far, list[Summary]()
    for half in halves:
        try:
            pieces.append(_in_pieces(half, source, bench, allowed, cuts - 1))
        except PgpullError as error:
            tell_written(error, whole.written + sum(piece.written for piece in pieces))
            raise
        bench.rejects.settle()
    return narrowing.joined(job, earlier, pieces)
