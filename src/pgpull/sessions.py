"""Open and pin the two sides.

SQLAlchemy's engine opens the connections; psycopg, below it, composes and moves. The source is one
REPEATABLE READ, READ ONLY transaction from its first statement to its last: such a transaction cannot be made
writable once it has asked anything (manual: SET TRANSACTION), which a read-only *default* could.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import psycopg
import sqlalchemy
from psycopg.abc import Params
from psycopg.pq import TransactionStatus
from psycopg.sql import SQL, Composed

from pgpull.connecting import (
    ALWAYS,
    APPLICATION,
    Line,
    answered,
    connect,
    disconnect,
    driver_of,
    open_line,
)
from pgpull.diagnosis import SOURCE, TARGET, is_lost, lost, translated
from pgpull.endpoints import Endpoint
from pgpull.errors import ConnectFailed, PgpullError, UnsafeTarget
from pgpull.pacing import NO_PACE, Pace
from pgpull.shapes import Identity
from pgpull.sql import catalog as questions
from pgpull.sql import sessions as sql
from pgpull.sql.masks import LET_MASK
from pgpull.substitutes import Substitute

# What text forms depend on: both sides must read and write them alike (manual: 19.11.2, Locale and Formatting).
_FORMS: Final[Mapping[str, str]] = {
    **ALWAYS,
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    # how the name of a table or a function is spelled that a regclass or regprocedure holds
    "quote_all_identifiers": "off",
    "application_name": APPLICATION,
    # rows that a policy hides become an error (manual: 5.9, Row Security Policies)
    "row_security": "off",
}

# Ours where the server sets none of its own: do not wait behind a migration, do not linger if we hang or die.
_SOURCE_TIMEOUTS: Final[Mapping[str, str]] = {
    "lock_timeout": "10s",
    # local may be at work alone for long: a large scope is deleted there, or compared
    "idle_in_transaction_session_timeout": "1h",
}

# An archive's files may flow for hours, and nothing is asked meanwhile.
_ARCHIVE_TIMEOUTS: Final[Mapping[str, str]] = {
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "0",
}

OLDEST: Final = 12
"""The oldest major version whose catalog has what we ask for (pg_attribute.attgenerated)."""

_SOON: Final = 5.0
"""Seconds for a connection beside others that we have."""

_TARGET: Final[Mapping[str, str]] = {
    **_FORMS,
    # a default is no ban: who names this database as the target wants it written
    "default_transaction_read_only": "off",
    "lock_timeout": "30s",
    # a batch is small and the table may be large: find keys by the index, never by reading the whole table
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}


@dataclass(slots=True)
class Session:
    """A live connection to one side."""

    side: str
    endpoint: Endpoint
    link: sqlalchemy.Connection
    connection: Line
    """The driver's connection under SQLAlchemy's."""
    identity: Identity
    snapshot: str | None = None
    """The name under which other sessions may see the same instant; None where the server gave none."""
    pace: Pace = NO_PACE
    """Holds those back who read it."""
    most: int = sys.maxsize
    """So many sessions at its instant could be had, itself included: nobody waits for another one again."""
    why_no_more: str = ""
    substitute: Substitute | None = None
    """The archive that stands in place of the source: then the session is in the target's database."""

    @property
    def lost(self) -> bool:
        """Whether the connection is gone."""
        return self.connection.closed or self.connection.broken or self.connection.cut

    @property
    def broken_off(self) -> bool:
        """Whether it can do nothing more, as what was under way was not seen to its end."""
        return self.lost or self.connection.info.transaction_status is TransactionStatus.ACTIVE

    @property
    def described(self) -> str:
        """Where it leads, and who is there."""
        return f"{self.endpoint}  PostgreSQL {self.identity.version}, as {self.identity.role}"

    @property
    def address(self) -> str:
        """The host that libpq is really connected to: an address, or a socket's folder."""
        return self.connection.info.hostaddr or self.connection.info.host

    def cancel(self) -> None:
        """Stop what the server does for us, whatever state the network is in. For another thread to call."""
        with suppress(psycopg.Error, OSError):
            self.connection.cancel_safe()
        # the reading thread may be waiting on a line that carries nothing any more
        self.connection.hang_up()

    def close(self) -> None:
        """Close the connection; the server rolls back what was not committed."""
        disconnect(self.link, self.connection)


def _session(side: str, endpoint: Endpoint, link: sqlalchemy.Connection) -> Session:
    connection = driver_of(link)
    if connection.info.server_version < OLDEST * 10_000:
        raise ConnectFailed(
            f"{side} is PostgreSQL {connection.info.server_version // 10_000}",
            f"pgpull needs {OLDEST} or newer on both sides",
        )
    [[known], [(may_know,)]] = ask_together(connection, [questions.IDENTITY, questions.MAY_KNOW_SYSTEM])
    row = connection.execute(questions.SYSTEM).fetchone() if may_know else None
    return Session(side, endpoint, link, connection, Identity(*(*known, row[0] if row else None)))


@contextmanager
def open_source(
    endpoint: Endpoint,
    *,
    share: bool = False,
    at: str | None = None,
    pace: Pace = NO_PACE,
    within: float | None = None,
    substitute: Substitute | None = None,
    engine: sqlalchemy.Engine | None = None,
) -> Iterator[Session]:
    """Open the server's database, only to read: one transaction, one instant, until the block ends.

    Args:
        endpoint: where it is.
        share: whether other sessions are to see the same instant, if the server lets them.
        at: the name of the instant to see (manual: 9.28.5, Snapshot Synchronization Functions).
        pace: holds those back who read it.
        within: seconds in which it has to be open; None for as long as it takes.
        substitute: the archive that stands in its place: then it is the target's database that is opened.
        engine: that of another session there.

    Raises:
        ConnectFailed: it cannot be reached, does not let us in, or would let us write.
        PgpullError: it does not know that instant: another server answers, or a pooler is in between.
    """
    side = SOURCE if substitute is None else TARGET
    with answered(side, within) as watch:
        link = connect(
            side, endpoint, watch, engine, isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        session = _begun(side, endpoint, link, share, at)
    session.pace = pace
    if substitute is not None:
        session.substitute = substitute
        session.identity = replace(session.identity, now=substitute.archive.manifest.snapshot)
    try:
        yield session
    finally:
        session.close()


def _begun(side: str, endpoint: Endpoint, link: sqlalchemy.Connection, share: bool, at: str | None) -> Session:
    connection = driver_of(link)
    try:
        with translated(side, connection):
            snapshot = _begin(connection, side, share, at)
            if endpoint.mask_key:
                connection.execute(LET_MASK, (endpoint.mask_key,))
            session = _session(SOURCE, endpoint, link)
            session.snapshot = snapshot
        _check_read_only(session.identity)
        return session
    except BaseException:
        disconnect(link, connection)
        raise


def _begin(connection: psycopg.Connection, side: str, share: bool, at: str | None) -> str | None:
    """Set what holds in the source's transaction; return the name of its instant, if it is to be shared."""
    timeouts = sql.pin_where_unlimited(_SOURCE_TIMEOUTS)
    if side == TARGET:
        timeouts = sql.pin(_ARCHIVE_TIMEOUTS, in_transaction=True)
    try:
        with connection.pipeline():  # one word there and back
            if at is not None:
                connection.execute(sql.see(at))
            connection.execute(sql.pin(_FORMS, in_transaction=True))
            connection.execute(timeouts)
            connection.execute(sql.CHECK_ON_US)
            shared = connection.execute(sql.SHARE) if share else None
        row = shared.fetchone() if shared else None
    except psycopg.Error as error:
        if is_lost(error, connection) or not share:
            raise
        connection.rollback()  # it cannot be tried behind a savepoint: subtransactions share nothing
        return _begin(connection, side, share=False, at=at)
    return row[0] if row else None


@contextmanager
def open_watch(endpoint: Endpoint) -> Iterator[Session]:
    """Open the server's database to ask now and then how it stands; each question is a transaction.

    Raises:
        ConnectFailed: it cannot be reached or does not let us in.
    """
    with answered(SOURCE, None) as watch:
        link = connect(SOURCE, endpoint, watch, isolation_level="READ COMMITTED", postgresql_readonly=True)
    connection = driver_of(link)
    try:
        with translated(SOURCE, connection):
            connection.execute(sql.name_session(APPLICATION))
            session = _session(SOURCE, endpoint, link)
            connection.rollback()
        yield session
    finally:
        disconnect(link, connection)


@contextmanager
def subtransaction(source: Session) -> Iterator[None]:
    """Let the source's transaction outlive what fails inside a block."""
    with translated(SOURCE, source.connection), source.connection.transaction():
        yield


def ask_together(
    connection: psycopg.Connection, questions: Iterable[SQL | Composed], values: Params | None = None
) -> list[list[Any]]:
    """Ask several things in one go, as a far server takes its time for each word there and back.

    Args:
        connection: either side's.
        questions: in order.
        values: for the parameters of each.

    Returns:
        The rows that answer each.
    """
    with connection.pipeline():
        cursors = [connection.execute(question, values) for question in questions]
        return [cursor.fetchall() for cursor in cursors]


def send_bytes_as_they_are(source: Session) -> None:
    """Let a SQL_ASCII database send what it holds, in whatever encoding that is, for the target to judge.

    Asked for UTF8, it would fail the whole COPY at the first byte that is none (manual: 23.3.4, Automatic
    Character Set Conversion). The driver takes such a session's text for bytes, and statements for ASCII:
    what follows is COPY and numbers, asked for in bytes.

    Raises:
        ConnectionLost: the connection went away.
    """
    if source.connection.info.parameter_status("server_encoding") == "SQL_ASCII":
        with translated(SOURCE, source.connection):
            source.connection.execute(sql.pin({"client_encoding": "SQL_ASCII"}, in_transaction=True))


def expect_much(source: Session) -> None:
    """Have the driver take what comes off the line in larger pieces, before many rows are read.

    It asks the system a third less often then.

    Raises:
        ConnectionLost: the connection went away.
    """
    with translated(SOURCE, source.connection):
        source.connection.execute(sql.WIDE_MESSAGE)


def _check_read_only(identity: Identity) -> None:
    if not identity.read_only or identity.isolation != "repeatable read":
        raise ConnectFailed(
            f"the server gave a transaction that is {identity.isolation}, read-only {identity.read_only}",
            "pgpull reads only inside REPEATABLE READ, READ ONLY; is there a proxy that rewrites statements?",
        )


def open_target(endpoint: Endpoint, *, within: float | None = None) -> Session:
    """Open the local database, to write: each batch is a transaction of its own.

    Args:
        endpoint: where it is.
        within: seconds in which it has to be open; None for as long as it takes.

    Raises:
        ConnectFailed: it cannot be reached, does not let us in, or gives us no session of our own.
    """
    with answered(TARGET, within) as watch:
        link = connect(TARGET, endpoint, watch, isolation_level="AUTOCOMMIT")
        connection = driver_of(link)
        try:
            with translated(TARGET, connection):
                connection.execute(sql.pin(_TARGET, in_transaction=False))
                connection.execute(sql.PREFER_LZ4)
                session = _session(TARGET, endpoint, link)
                _check_it_is_ours(session)
            return session
        except BaseException:
            disconnect(link, connection)
            raise


def _check_it_is_ours(session: Session) -> None:
    """Make sure that no pooler gives our server process to others while we ask nothing: stages would mix.

    It tells no process's real number. Another connection that is given ours gives it away.
    """
    ours = _process(session.connection)
    if ours == session.connection.info.backend_pid:
        return
    try:
        with answered(TARGET, _SOON) as watch, closing(watch(open_line(TARGET, session.endpoint))) as other:
            theirs = _process(other)
    except (psycopg.Error, PgpullError):
        return  # there is no place for another one: that is because ours is kept
    if theirs == ours:
        raise ConnectFailed(
            f"{session.endpoint} is a pooler that gives {TARGET}'s connection to others between transactions",
            "give the URL of the server itself, or of a pool in session mode",
        )


def _process(connection: psycopg.Connection) -> int:
    row = connection.execute(questions.PROCESS).fetchone()
    return int(row[0]) if row else 0


def open_another(target: Session, *, within: float | None = None) -> Session:
    """Open the target once more, and make sure that it is the database which was found fit to be written.

    Args:
        target: the session that there is, or was.
        within: seconds in which it has to be open; None for as long as it takes.

    Raises:
        ConnectFailed: it cannot be reached, does not let us in, or gives us no session of our own.
        UnsafeTarget: another database answers now.
    """
    another = open_target(target.endpoint, within=within)
    if not another.identity.same_database(target.identity):
        another.close()
        raise UnsafeTarget(f"another database answers at {target.endpoint} than before", "check LOCAL_DB_URL")
    return another


def reopen(target: Session) -> None:
    """Open a lost target anew, in place.

    Raises:
        ConnectionLost: it cannot be reached.
        UnsafeTarget: another database answers now.
    """
    target.close()
    try:
        anew = open_another(target)
    except ConnectFailed as error:
        raise lost(TARGET, error) from error
    target.link, target.connection, target.identity = anew.link, anew.connection, anew.identity
