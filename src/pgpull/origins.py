"""Where rows come from: a server, or an archive in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pgpull.endpoints import Endpoint
from pgpull.errors import UsageError
from pgpull.guarding import guard, guard_target
from pgpull.laying import in_place_of_source
from pgpull.manners import Manners
from pgpull.model import Job
from pgpull.pacing import NO_PACE, Pace
from pgpull.reaching import kept_open
from pgpull.sessions import Session, open_source
from pgpull.substitutes import Archive
from pgpull.watching import watched

Origin = Endpoint | Archive


@contextmanager
def paced(origin: Origin, manners: Manners, noticed: Callable[[str], None]) -> Iterator[Pace]:
    """Have what holds back those who read the source; its way stays open meanwhile.

    Args:
        origin: the server, or an archive in its place.
        manners: how it is to be treated.
        noticed: called when a pause begins, and when it ends.

    Raises:
        UsageError: something is asked for that only a server has.
        ConnectFailed: the server cannot be reached, to be watched.
        PlanError: the role may not know what it is watched for.
    """
    if isinstance(origin, Archive):
        if manners.pause_when or not manners.snapshot:
            option = "--no-snapshot" if not manners.snapshot else "--pause-when"
            raise UsageError(f"{option} is for a server, and rows come from an archive", f"leave out {option}")
        with Pace(manners.rate) as pace:
            yield pace
        return
    with (
        kept_open(origin),
        watched(origin, manners.pause_when) as watch,
        Pace(manners.rate, watch, noticed) as pace,
    ):
        yield pace


@contextmanager
def opened(
    origin: Origin,
    target: Session,
    job: Job,
    allowed: Sequence[str] = (),
    *,
    writes: bool = True,
    share: bool = False,
    pace: Pace = NO_PACE,
    noticed: Callable[[str], None] = lambda _: None,
) -> Iterator[Session]:
    """Open the source, and make sure that the target may be written.

    Args:
        origin: the server, or an archive that was found whole.
        target: the local side.
        job: what is asked for.
        allowed: hosts besides this machine that may be written.
        writes: whether rows are to move; else both sides are only looked at.
        share: whether other sessions are to see the same instant.
        pace: holds those back who read it.
        noticed: called with what a user wants to know of.

    Raises:
        Refused: a connection or a guard stands in the way.
        Stopped: a connection was lost.
    """
    if isinstance(origin, Endpoint):
        with open_source(origin, share=share, pace=pace) as source:
            guard(source, target, allowed)
            yield source
        return
    guard_target(target, allowed)
    laid = in_place_of_source(origin, target, job, streams=writes, share=share, pace=pace, noticed=noticed)
    with laid as source:
        yield source
