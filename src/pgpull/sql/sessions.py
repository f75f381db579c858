"""What is said when a session is opened: settings, timeouts, a shared snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from psycopg.sql import SQL, Composed, Literal


def pin(settings: Mapping[str, str], *, in_transaction: bool) -> Composed:
    """Set each setting, for this transaction alone or for the session."""
    calls = (
        SQL("set_config({}, {}, {})").format(Literal(name), Literal(value), Literal(in_transaction))
        for name, value in settings.items()
    )
    return SQL("SELECT ") + SQL(", ").join(calls)


def name_session(name: str) -> Composed:
    """Say who asks, for this transaction."""
    return pin({"application_name": name}, in_transaction=True)


def pin_where_unlimited(settings: Mapping[str, str]) -> Composed:
    """Set each timeout for this transaction, unless the server has its own, which stays, or knows of none."""
    calls = (
        SQL("CASE WHEN current_setting({0}, true) = '0' THEN set_config({0}, {1}, true) END").format(
            Literal(name), Literal(value)
        )
        for name, value in settings.items()
    )
    return SQL("SELECT ") + SQL(", ").join(calls)


# So that a query, and an idle transaction, end soon after we do. Only a system that can tell that a client is
# gone takes another value than 0; of Linux it is known (WaitEventSetCanReportClosed). Its own wait is long.
CHECK_ON_US: Final = SQL("""
    SELECT CASE WHEN current_setting('client_connection_check_interval', true) = '0'
                THEN set_config('client_connection_check_interval', '10s', true) END,
           CASE WHEN current_setting('tcp_keepalives_idle')::int > 60
                THEN set_config('tcp_keepalives_idle', '60', true) END,
           CASE WHEN current_setting('tcp_keepalives_interval')::int > 10
                THEN set_config('tcp_keepalives_interval', '10', true) END
     WHERE version() LIKE '%linux%'
""")


# It compresses several times as fast as pglz (manual: 19.11.1, default_toast_compression). Columns that name a
# method of their own keep it, and so does a database or a role that was given one.
PREFER_LZ4: Final = SQL("""
    SELECT set_config(name, 'lz4', false) FROM pg_settings
     WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals) AND source = 'default'
""")


SHARE: Final = SQL("SELECT pg_export_snapshot()")


# libpq takes as much off the line at once as its buffer has room for: 16 kB, until a wider message has come
# (PostgreSQL's source: fe-misc.c, pqReadData).
WIDE_MESSAGE: Final = SQL("SELECT repeat(' ', 100000)")


def see(snapshot: str) -> Composed:
    """See what the transaction sees that shared its snapshot; to be said before anything is asked."""
    return SQL("SET TRANSACTION SNAPSHOT {}").format(Literal(snapshot))
