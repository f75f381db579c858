"""Who hears how a pull goes on."""

from __future__ import annotations

from collections.abc import Sequence

from pgpull.plans import Plan
from pgpull.results import Failure, Reject, Report, Tally
from pgpull.sessions import Session


class Listener:
    """Hears how a pull goes on; override what you care for. The pull waits until a call returns."""

    def opened(self, plans: Sequence[Plan], source: Session, target: Session) -> None:
        """Both sides were looked at; several tables are about to be pulled, in this order.

        Again if the source was lost.
        """

    def looked(self, plan: Plan, source: Session, target: Session) -> None:
        """A table fits together; its rows are about to be compared. Again if the source was lost."""

    def planned(self, plan: Plan, source: Session, target: Session) -> None:
        """The plan stands; rows are about to move. Again if the source had to be read anew."""

    def progressed(self, tally: Tally, size: int) -> None:
        """One more batch is committed: the table's tally and bytes so far."""

    def rejected(self, reject: Reject) -> None:
        """The target refused a row."""

    def noticed(self, text: str) -> None:
        """Something a user has to know of happened: a lost connection, a table that was made."""

    def told(self, text: str) -> None:
        """All goes as it was asked: the reading pauses, or goes on. It is said by the thread that pauses."""

    def done(self, report: Report) -> None:
        """A table is through, one of several."""

    def packing(self, plans: Sequence[Plan], source: Session, archive: str) -> None:
        """The server was looked at; its tables are about to be exported. Again if it was lost."""

    def packed(self, rows: int, size: int) -> None:
        """Some more rows were read for an archive: rows and bytes of all tables so far."""

    def failed_at(self, failure: Failure) -> None:
        """A table could not be pulled, one of several; the others go on."""
