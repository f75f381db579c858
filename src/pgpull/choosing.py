"""From what a comparison found to what moves, and from what may refuse a row to what has to be tried. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from pgpull.errors import PlanError
from pgpull.plans import Comparison, Plan, Strategy
from pgpull.shapes import Rules, Shape, UniqueRule

_KEYED_SHARE = 0.4
"""Up to this share of the rows, asking for each by its key takes less than reading all in order: measured."""


def choose(plan: Plan, comparison: Comparison, *, brief: bool = False) -> Plan:
    """Decide which rows move, now that it is known how they differ.

    Args:
        plan: what was planned before.
        comparison: what was found.
        brief: whether a long read would be ended before it comes to what is wanted.

    Returns:
        The plan with its strategy, and the reason for it.
    """
    strategy, reason = _strategy(plan, comparison, brief)
    return replace(plan, method=comparison.method, comparison=comparison, strategy=strategy, reason=reason)


def _strategy(plan: Plan, found: Comparison, brief: bool) -> tuple[Strategy, str]:
    wanted = found.wanted
    if wanted == 0:
        return Strategy.NOTHING, "every row in scope is here"
    few = f"{wanted:,} of {found.rows:,} rows"
    if plan.key is None:
        return Strategy.KEYED, f"only {few} are wanted, told apart by what they hold"
    if not plan.keys_as_text:
        return Strategy.MERGE, f"{few} are wanted, but a key of this type cannot be asked for"
    if plan.key_masked:
        return Strategy.MERGE, f"{few} are wanted, but the key is masked: no index of the server's finds them"
    if plan.request.new is not None:
        return Strategy.MERGE, f"{few} are wanted, oldest first: the next pull of new rows goes on from there"
    if plan.source.stored is not None and wanted > plan.request.batch_rows:
        return Strategy.MERGE, f"{few} are wanted: an archive has no index to ask for so many by"
    if brief:
        return Strategy.KEYED, f"{few} are wanted: a standby that ends reads sends these alone"
    if wanted > _KEYED_SHARE * found.rows:
        return Strategy.MERGE, f"{few} are wanted: reading all in order takes less than asking for so many"
    return Strategy.KEYED, f"only {few} are wanted"


def check_deletions(plan: Plan, here: int) -> None:
    """Make sure that a mirror does not delete more than it may.

    Args:
        plan: with its comparison.
        here: rows in scope on the target.

    Raises:
        PlanError: it would.
    """
    extra, limit = (plan.comparison and plan.comparison.extra) or 0, plan.request.max_delete
    if plan.request.mirror and limit.exceeded_by(extra, here):
        share = f" ({extra * 100 / here:.0f} %)" if here else ""
        raise PlanError(
            f"{extra:,} of {here:,} local rows in scope{share} are not on the server,"
            f" and no more than {limit} may be deleted",
            "look at them with --dry-run; if they may go, allow it: --max-delete 100%",
        )


def judged(plan: Plan, rules: Rules) -> tuple[str, ...]:
    """Return the columns without which nobody can tell whether the target would take a row.

    Args:
        plan: what would be pulled.
        rules: what may refuse a row for its values.

    Returns:
        None, where nothing can refuse a row; all columns, where it is hard to tell what can.
    """
    unique = unique_beside_key(plan, rules)
    if rules.others or plan.drifted or not all(rule.plain for rule in unique):
        return plan.columns
    wanted = set(chain.from_iterable(rule.columns for rule in unique))
    wanted |= set(chain.from_iterable(key.columns for key in plan.target.foreign_keys))
    wanted |= set(_columns_not_null(plan.target, plan)) - set(_columns_not_null(plan.source, plan))
    return tuple(name for name in plan.columns if name in wanted | set(plan.keys)) if wanted else ()


def _columns_not_null(shape: Shape, plan: Plan) -> Iterator[str]:
    return (column.name for column in shape.columns if column.not_null and column.name in plan.columns)


def unique_beside_key(plan: Plan, rules: Rules) -> tuple[UniqueRule, ...]:
    """Return the unique rules that a row can break though its key is its own."""
    return tuple(
        rule
        for rule in rules.unique
        if set(rule.columns) <= set(plan.columns)
        and not (rule.plain and not rule.operators and set(rule.columns) == set(plan.keys))
    )
