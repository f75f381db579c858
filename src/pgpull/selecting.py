"""Which tables a job means: from patterns, and the names that the source has, to a request for each. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping

from pgpull.errors import PlanError
from pgpull.model import Job, Request
from pgpull.shapes import TableName, TablePattern

Names = Mapping[TableName, TableName | None]
"""The tables of a database, and of each the partitioned table that it is a part of, if any."""


def has_patterns(patterns: Iterable[TablePattern]) -> bool:
    """Tell whether the names that a database has are needed to know what is meant."""
    return any(pattern.plain is None for pattern in patterns)


def requests(job: Job, names: Names) -> tuple[Request, ...]:
    """Return a request for each table that is asked for, in the order in which they were.

    Args:
        job: what is asked for.
        names: the source's tables; may be empty if no pattern has to be looked up.

    Raises:
        PlanError: a pattern means no table, or nothing is left.
    """
    found: dict[TableName, Request] = {}
    for wanted in job.wanted:
        for table in tables(wanted.pattern, names, job.exclude, optional=wanted.optional):
            found.setdefault(table, wanted.of(table))
    if not found:
        raise PlanError("every table that is asked for is excluded as well", "exclude fewer tables")
    return tuple(found.values())


def tables(
    pattern: TablePattern, names: Names, exclude: Iterable[TablePattern] = (), *, optional: bool = False
) -> Iterator[TableName]:
    """Yield the tables that a pattern means. A partition comes with its root, where that is meant as well.

    Raises:
        PlanError: it means none.
    """
    excluded = tuple(exclude)
    if pattern.plain is not None:
        if not any(other.matches(pattern.plain) for other in excluded):
            yield pattern.plain
        return
    matching = {table: root for table, root in names.items() if pattern.matches(table)}
    if not matching and not optional:
        raise _means_nothing(pattern, names)
    for table, root in matching.items():
        if root not in matching and not any(other.matches(table) for other in excluded):
            yield table


def _means_nothing(pattern: TablePattern, names: Names) -> PlanError:
    texts = [str(table) for table in names]
    close = difflib.get_close_matches(pattern.text, texts) or texts[:20]
    return PlanError(
        f"no table of the server is meant by {pattern}", f"it has: {', '.join(close) or 'no tables'}"
    )
