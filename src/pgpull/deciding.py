"""Compare, and decide by what was found: how the rows move, and whether as many may be deleted."""

from __future__ import annotations

from dataclasses import replace

from pgpull import bags, choosing, pruning, scoping, versions
from pgpull.comparing import Incomparable, compare
from pgpull.errors import Conflict
from pgpull.model import OnConflict
from pgpull.plans import Comparison, Known, Method, Plan, Strategy, Wire
from pgpull.sessions import Session

_TOO_MANY_YOUNG = 0.3
"""Where so many rows have been written since, hashing all takes less than asking for each of them."""


def decide(source: Session, target: Session, plan: Plan, *, again: bool = False) -> tuple[Plan, Known | None]:
    """Find out which rows differ, unless none can be there, and choose how they move.

    Args:
        source: the server.
        target: the local side; the keys that differ stay there.
        plan: as it was made before.
        again: whether an earlier read was ended.

    Returns:
        The plan with its comparison and strategy, and what was known from row versions.

    Raises:
        PlanError: a mirror would delete more than it may.
        Stopped: a connection was lost, or a server gave up.
    """
    if plan.strategy is Strategy.STRAIGHT:
        if not _filled_meanwhile(target, plan):
            return plan, None
        if plan.wire is Wire.CSV:
            raise Conflict(f"another pull has filled {plan.table} meanwhile", "run the same command again")
    try:
        found, known = find(source, target, plan)
    except Incomparable as error:
        if plan.request.mirror:
            raise
        return replace(plan, reason=error.message), None
    if plan.request.mirror and found.extra:
        choosing.check_deletions(replace(plan, comparison=found), pruning.count_here(target, plan))
    return choosing.choose(plan, found, brief=again and source.identity.in_recovery), known


def _filled_meanwhile(target: Session, plan: Plan) -> bool:
    """Whether another pull has brought rows since the look: where there is no key, they would come twice."""
    request = plan.request
    if plan.key or request.replace:
        return False
    return scoping.holds_rows(target, plan.target, request.scope, request.timezone)


def find(source: Session, target: Session, plan: Plan) -> tuple[Comparison, Known | None]:
    """Compare in the quickest way that is at hand; see :func:`decide`."""
    if plan.key is None:
        found = bags.compare(source, target, plan, extras=plan.request.mirror)
        return pruning.confirm(source, target, plan, found) if found.extra else found, None
    by_versions = plan.request.on_conflict is OnConflict.UPDATE and versions.usable(plan)
    known = versions.recall(target, source, plan) if by_versions else None
    found = compare(source, target, plan, _method(plan, known), known)
    if known and found.changed > _TOO_MANY_YOUNG * found.rows:
        known, found = None, compare(source, target, plan, Method.HASHES)
    if found.extra:
        found = pruning.confirm(source, target, plan, found)
    return found, known


def _method(plan: Plan, known: Known | None) -> Method:
    if plan.request.on_conflict is OnConflict.SKIP:
        return Method.KEYS
    return Method.VERSIONS if known else Method.HASHES
