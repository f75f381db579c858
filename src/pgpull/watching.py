"""How the source stands while it is read: how far its replicas lag, how many sessions are at work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from pgpull.diagnosis import SOURCE, lost, translated
from pgpull.endpoints import Endpoint
from pgpull.errors import ConnectFailed, ConnectionLost, PlanError
from pgpull.manners import Load, Threshold
from pgpull.sessions import open_watch
from pgpull.sql import watching as sql
from pgpull.sql.hints import let_monitor


class SourceWatch:
    """Asks the source on a connection of its own.

    Args:
        endpoint: the source.
        thresholds: what is not to be passed.
        having: closes the connection in the end.
    """

    def __init__(self, endpoint: Endpoint, thresholds: Sequence[Threshold], having: ExitStack) -> None:
        self._endpoint = endpoint
        self._thresholds = thresholds
        self._having = having
        self._session = having.enter_context(open_watch(endpoint))

    def check(self) -> None:
        """Make sure that the server tells us what we ask.

        Raises:
            PlanError: the role may not know.
        """
        role = self._session.identity.role
        for threshold in self._thresholds:
            if threshold.load is Load.LAG and self._session.identity.in_recovery:
                continue
            if not self._ask(sql.MAY_KNOW):
                raise PlanError(
                    f"role {role} may not see on the server what --pause-when {threshold.load} asks for",
                    f"have a superuser run there: {let_monitor(role).as_string(None)}",
                )

    def why_pause(self) -> str:
        """Say what passes a threshold; empty while nothing does."""
        for threshold in self._thresholds:
            value = self._value(threshold.load)
            if value > threshold.most:
                return threshold.passed(value)
        return ""

    def _value(self, load: Load) -> float:
        if load is Load.ACTIVE:
            return self._ask(sql.ACTIVE)
        return self._ask(sql.LAG_HERE if self._session.identity.in_recovery else sql.LAG_OF_OTHERS)

    def _ask(self, question: sql.Question) -> float:
        """Ask, on another connection if this one is gone: the one that rows come by may be well."""
        try:
            return self._answer(question)
        except ConnectionLost:
            self._having.close()
            try:
                self._session = self._having.enter_context(open_watch(self._endpoint))
            except ConnectFailed as error:
                raise lost(SOURCE, error) from error
            return self._answer(question)

    def _answer(self, question: sql.Question) -> float:
        connection = self._session.connection
        with translated(SOURCE, connection):
            row = connection.execute(question).fetchone()
            connection.rollback()  # within one transaction the statistics stand still
        return float(row[0]) if row else 0.0


@contextmanager
def watched(endpoint: Endpoint, thresholds: Sequence[Threshold]) -> Iterator[SourceWatch | None]:
    """Watch the source for the length of a block, if there is anything to watch for.

    Raises:
        ConnectFailed: it cannot be reached.
        PlanError: the role may not know what is asked.
    """
    if not thresholds:
        yield None
        return
    with ExitStack() as having:
        watch = SourceWatch(endpoint, thresholds, having)
        watch.check()
        yield watch
