"""Where rows come from: a server, or an archive in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pgpull.endpoints import Endpoint
from pgpull.guarding import guard, guard_target
from pgpull.laying import in_place_of_source
from pgpull.model import Job
from pgpull.pacing import NO_PACE, Pace
from pgpull.sessions import Session, open_source
from pgpull.substitutes import Archive

Origin = Endpoint | Archive


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
        allowed: hosts beside this machine that may be written.
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
