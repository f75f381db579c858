"""Tables that fail without the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import NoReturn

from pgpull.errors import (
    ConnectFailed,
    ParentFailed,
    Passing,
    PgpullError,
    Unequal,
    UnsafeTarget,
)
from pgpull.listening import Listener
from pgpull.ordering import Roots, failed_parent
from pgpull.pulling import TablePull
from pgpull.results import Failure
from pgpull.sessions import Session, subtransaction
from pgpull.shapes import TableName


class SourceGone(Exception):
    """A table failed, and took the source's connection along: the others need a new one."""


class Failures:
    """The tables of a run that have failed.

    Args:
        listener: hears of each.
        alone: whether there is one table only, whose errors are the run's.
    """

    def __init__(self, listener: Listener, *, alone: bool) -> None:
        self._listener = listener
        self._alone = alone
        self.all: dict[TableName, Failure] = {}
        self.roots: Roots = {}
        """Of local's tables, whether one fails or not."""
        self.under_way: TablePull | None = None
        """Which of several tables is to blame."""

    def __contains__(self, pull: TablePull) -> bool:
        return pull.request.table in self.all

    @contextmanager
    def attempt(self, source: Session, group: Sequence[TablePull], *, asks: bool = True) -> Iterator[None]:
        """Let tables fail without the others: only what concerns them all goes further up.

        Args:
            source: the server.
            group: what fails.
            asks: whether the source is asked anything meanwhile; a far one takes its time for each word.
        """
        try:
            with nullcontext() if self._alone or not asks else subtransaction(source):
                yield
        except (Passing, UnsafeTarget, ConnectFailed):
            raise
        except PgpullError as error:
            if self._alone:
                raise
            culprit = next((pull for pull in group if pull is self.under_way), group[0])
            for pull in group:
                self.fail(pull, error if pull is culprit else _not_alone(culprit.request.table))
            if source.broken_off:
                self.read_anew()

    def read_anew(self) -> NoReturn:
        """Say that the others are read once more.

        Raises:
            SourceGone: always.
        """
        self._listener.noticed(
            "a table ended in the middle of its rows: the others are read at a new instant of the server"
        )
        raise SourceGone

    def fail(self, pull: TablePull, error: PgpullError) -> None:
        """Note that a table has failed; what it fails of first counts."""
        table = pull.request.table
        if table not in self.all:
            failure = self.all[table] = Failure(table, error, pull.tally, pull.deleted)
            self._listener.failed_at(failure)

    def may_begin(self, group: Sequence[TablePull]) -> bool:
        """Fail tables whose parents were not loaded, as their rows would be refused one by one."""
        members = {pull.request.table for pull in group}
        missing = {
            table: self.roots.get(table)
            for table, failure in self.all.items()
            if not isinstance(failure.error, Unequal) and table not in members
        }
        for pull in group:
            if orphaned := failed_parent(pull.plan.target, missing):
                for each in group:
                    self.fail(each, orphaned)
        return not any(pull.request.table in self.all for pull in group)


def _not_alone(table: TableName) -> ParentFailed:
    return ParentFailed(
        f"it is loaded together with {table}, or not at all", "see there, then run the same command again"
    )
