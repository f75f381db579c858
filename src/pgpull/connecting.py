"""A connection to either side: by the way that leads there, and never waited for longer than it is worth."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final

import psycopg
import sqlalchemy
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from pgpull.diagnosis import connect_failed, translated
from pgpull.endpoints import Endpoint
from pgpull.errors import ConnectFailed, PgpullError
from pgpull.reaching import route_to

APPLICATION: Final = "pgpull"

_CONNECT: Final[Mapping[str, Any]] = {
    "connect_timeout": 10,
    # a peer that is gone is noticed within a minute
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    "fallback_application_name": APPLICATION,
    # a transaction-mode pooler hands each transaction another server session, without our statements
    "prepare_threshold": None,
}

# From the first word on: in a SQL_ASCII database the driver would take all text for bytes.
ALWAYS: Final[Mapping[str, str]] = {"client_encoding": "UTF8"}

_ON_ITS_WAY: Final = 256 * 1024
"""Bytes; Linux lets nobody ask for more than 208 kB unless told otherwise, and gives twice of what is asked."""


class Line(psycopg.Connection):
    """A connection that can be left soon, whatever state the network is in.

    On Ctrl-C the driver gives the server five seconds to take a request to cancel, and five more to answer
    (psycopg: Connection.wait). Where the first takes more than one, nobody is there to answer.
    """

    def cancel_safe(self, *, timeout: float = 1.0) -> None:
        """Ask the server to stop what it does for us; hang up if it does not listen."""
        try:
            super().cancel_safe(timeout=min(timeout, 1.0))
        except psycopg.Error:
            self.hang_up()
            raise

    cut: bool = False
    """Whether somebody hung up; the driver does not know."""
    route: ExitStack | None = None
    """What it has for as long as it lives: its share of a tunnel."""

    def close(self) -> None:
        """Close it, and leave the way that it took."""
        super().close()
        if self.route is not None:
            self.route.close()

    def hang_up(self) -> None:
        """Let whoever waits on the line know that nothing will come any more."""
        self.cut = True
        with suppress(psycopg.Error, OSError), self._socket() as line:
            line.shutdown(socket.SHUT_RDWR)

    def make_room(self) -> None:
        """Let more be on its way to a server on this machine than a Unix socket holds by itself.

        That is 208 kB on Linux, and its writer is woken when three quarters are gone: until it is there, a
        server that takes rows has run dry. What TCP holds grows as it is needed, until somebody says a size.
        """
        with suppress(psycopg.Error, OSError, AttributeError), self._socket() as line:
            if line.family == socket.AF_UNIX:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ON_ITS_WAY)

    def _socket(self) -> socket.socket:
        """Return another hold on the socket that the driver has."""
        return socket.socket(fileno=os.dup(self.fileno()))


def driver_of(link: sqlalchemy.Connection) -> Line:
    """Return the driver's connection under SQLAlchemy's."""
    driver = link.connection.driver_connection
    assert isinstance(driver, Line), "the engine's creator makes no other"
    return driver


def disconnect(link: sqlalchemy.Connection, connection: psycopg.Connection) -> None:
    """Close a connection, whatever state the server is in."""
    # the driver's first: SQLAlchemy would ask a server, dead maybe, to roll back
    with suppress(psycopg.Error):
        connection.close()
    with suppress(SQLAlchemyError):
        link.invalidate()
        link.close()


Watch = Callable[[Line], Line]
"""What a connection is handed to as soon as there is one."""


@contextmanager
def answered(side: str, within: float | None) -> Iterator[Watch]:
    """Hang up on who does not answer in time while a session is opened.

    A pooler takes everybody's connection, and lets those wait for minutes for whom it has no place.

    Args:
        side: which one it is, for errors.
        within: seconds; None for as long as it takes.

    Yields:
        What each connection has to be handed to.

    Raises:
        ConnectFailed: there was no answer in time.
    """
    lines: list[Line] = []
    late = threading.Event()

    def hang_up() -> None:
        late.set()
        for line in lines:
            line.hang_up()

    def watch(line: Line) -> Line:
        lines.append(line)
        if late.is_set():  # it took all of the time to be made
            line.hang_up()
        return line

    timer = threading.Timer(within or 0, hang_up)
    if within:
        timer.start()
    try:
        yield watch
    except PgpullError as error:
        if not late.is_set():
            raise
        hint = "is there a pooler that has no connection free? a larger pool lets more workers in"
        raise ConnectFailed(f"{side} let no other session in within {within:g} s", hint) from error
    finally:
        timer.cancel()


_watching: ContextVar[Watch] = ContextVar("watching")
"""Who watches the connection that is being opened, as an engine knows only how it once was made."""


def connect(
    side: str, endpoint: Endpoint, watch: Watch, engine: sqlalchemy.Engine | None = None, **mode: Any
) -> sqlalchemy.Connection:
    """Have SQLAlchemy's engine open a connection.

    Args:
        side: which one it is, for errors.
        endpoint: where it is.
        watch: gets the driver's connection as soon as there is one.
        engine: one that has been there before; a new one asks the server six things first.
        mode: SQLAlchemy's execution options.

    Raises:
        ConnectFailed: it cannot be reached or does not let us in.
        ReadEnded: a standby lets us in, and has to keep up.
    """
    before = _watching.set(watch)
    try:
        return (engine or _engine(side, endpoint)).connect().execution_options(**mode)
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.errors.SerializationFailure):
            with translated(side):
                raise error.orig from None
        raise connect_failed(side, endpoint, error.orig) from error.orig
    except (psycopg.Error, OSError) as error:
        raise connect_failed(side, endpoint, error) from error
    finally:
        _watching.reset(before)


def _engine(side: str, endpoint: Endpoint) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda: _watching.get()(open_line(side, endpoint)),
        poolclass=NullPool,
        use_native_hstore=False,
    )


def open_line(side: str, endpoint: Endpoint) -> Line:
    """Have the driver open a connection, by another route if the first one failed.

    Raises:
        ConnectFailed: it cannot be reached or does not let us in.
    """
    with ExitStack() as leaving:
        route = leaving.enter_context(route_to(side, endpoint))
        try:
            line = Line.connect(**{**_CONNECT, **route.parameters, **ALWAYS})
        except (psycopg.Error, OSError, UnicodeError) as error:
            if not route.failed():
                raise connect_failed(side, route.endpoint, error) from error
            leaving.close()
            return open_line(side, endpoint)
        line.route = leaving.pop_all()
        line.make_room()
        return line
