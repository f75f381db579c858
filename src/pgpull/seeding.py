"""Rows for a test's database: what the fixtures for pytest hand out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pgpull.calling import pull_tables
from pgpull.endpoints import Endpoint
from pgpull.masking import NO_MASKS, Masks
from pgpull.results import Summary


class Seed(Protocol):
    """The fixture ``pgpull_seed``, and what ``pgpull_prepare`` is given."""

    def __call__(self, *tables: str, **words: Any) -> Summary:
        """Bring rows of tables into the test's database.

        Args:
            tables: names or patterns: ``"askwealth.message"``, ``"askwealth.*"``.
            words: which rows, and how, as :func:`pgpull.pull_tables` takes them. Tables that are not there are
                made, unless ``create_missing=False``; and no row may be refused, unless ``max_errors`` says so.

        Raises:
            PgpullError: a table could not be seeded; the first such error.
        """
        ...


Prepare = Callable[[Seed], object]


def seed_of(source: str | Endpoint, target: str, folder: Path, masks: Masks = NO_MASKS) -> Seed:
    """Make a seed.

    Args:
        source: where rows come from.
        target: the URL of the database that they come into.
        folder: where refused rows are kept.
        masks: the rules that hold, unless others are given with ``mask``.
    """

    def seed(*tables: str, **words: Any) -> Summary:
        __tracebackhide__ = True
        asked = {"create_missing": True, "max_errors": "0", "mask": masks, **words}
        asked["way"] = {"rejects": folder / "pgpull.rejects.jsonl", **asked.get("way", {})}
        summary = pull_tables(*tables, source=source, target=target, **asked)
        for failure in summary.failures:
            raise failure.error
        return summary

    return seed
