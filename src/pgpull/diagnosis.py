"""From what the driver and the servers say to pgpull's errors: a fact without row values, and a hint.

The servers' messages are matched in English; a server that speaks another language costs the hint, not the
fact.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg.errors import lookup

from pgpull.endpoints import Endpoint
from pgpull.errors import Conflict, ConnectFailed, ConnectionLost, PgpullError, PlanError, ReadEnded, Stopped

_LEVEL: Final = re.compile(r"^(FATAL|ERROR):\s+")

SOURCE: Final = "the server"
TARGET: Final = "local"

# --- a server that does not let us in --------------------------------------------------------------------

_CONNECT_HINTS: Final = (
    (
        "password authentication failed|no password supplied|SCRAM",
        "check {prefix}_USER and {prefix}_PASSWORD{command}",
    ),
    ('role ".*" does not exist', "check {prefix}_USER, or have the role created: createuser"),
    ('database ".*" does not exist', "check {prefix}_NAME; to make the database: createdb"),
    ("no encryption|SSL off", "the server insists on TLS: add ?sslmode=require to {prefix}_URL"),
    (
        "no pg_hba.conf entry",
        "the server does not let this user in from here: ask for an entry in pg_hba.conf",
    ),
    (
        "does not support SSL|SSL was required",
        "without TLS whoever is on the way can read the rows and take the server's place, so have it turned on;"
        " to go without where the network is trusted: {prefix}_SSLMODE=prefer, or ?sslmode=prefer in the URL",
    ),
    (
        "private key file|private key",
        "the key of {prefix}_SSLKEY has to be the certificate's, and yours alone to read: chmod 600 FILE",
    ),
    (
        "requires a valid client certificate|certificate authentication failed|tlsv1. alert|sslv3 alert",
        "the server wants a certificate of yours that it trusts: {prefix}_SSLCERT=FILE, {prefix}_SSLKEY=FILE",
    ),
    (
        "does not match host name",
        "the certificate is another host's: write the host as the certificate has it; verify-ca asks for less",
    ),
    (
        "certificate|root.crt",
        "give the authority's certificate: {prefix}_SSLROOTCERT=FILE, or ?sslrootcert=FILE in the URL",
    ),
    (
        "translate host name|resolve host|name or service not known",
        "check the host in {prefix}_URL or {prefix}_HOST; does it need a VPN?",
    ),
    (
        "connection refused|no such file or directory",
        "is Postgres running there, and is {prefix}_PORT right? {without}",
    ),
    ("timeout expired|timed out|unreachable", "is a firewall or a VPN in between? check {prefix}_HOST"),
    ("pooling mode", "give the URL of the server itself, or of a pool in session mode"),
    (
        "unsupported startup parameter",
        "a pooler stands in between: leave that option out of {prefix}_URL, or have it ignored there"
        " (PgBouncer: ignore_startup_parameters)",
    ),
    (
        "query_wait_timeout|no more connections",
        "the pooler in between has no connection free: try again later, or ask for a larger pool",
    ),
    ("too many|remaining connection slots", "the server has no connection free: try again later"),
    ("starting up|shutting down|in recovery mode|not yet accepting", "try again in a moment"),
    ("service", "services are defined in ~/.pg_service.conf (manual: 34.17, The Connection Service File)"),
    ("invalid|missing", "check the options in {prefix}_URL (manual: 34.1.2, Parameter Key Words)"),
)


def prefix(side: str) -> str:
    """Return how the settings of a side begin."""
    return "SERVER_DB" if side == SOURCE else "LOCAL_DB"


def connect_failed(side: str, endpoint: Endpoint, error: BaseException | None) -> ConnectFailed:
    """Say why a connection could not be opened.

    Args:
        side: :data:`SOURCE` or :data:`TARGET`.
        endpoint: what was tried; shown without its password.
        error: the driver's error.
    """
    said = _clean(str(error), endpoint)
    command = "_COMMAND: it was run just now" if endpoint.password_command else ""
    without = "no local Postgres? LOCAL_DB_URL=embedded brings one" if side == TARGET else ""
    for pattern, hint in _CONNECT_HINTS:
        if re.search(pattern, said, re.IGNORECASE):
            text = hint.format(prefix=prefix(side), without=without, command=command).strip()
            return ConnectFailed(f"cannot connect to {side} ({endpoint}): {said}", text)
    return ConnectFailed(
        f"cannot connect to {side} ({endpoint}): {said}", f"check the {prefix(side)}_... settings"
    )


def _clean(said: str, endpoint: Endpoint) -> str:
    """Take the last thing that was tried, in one line, less any secret."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    tried = (
        [line for line in lines if "failed:" in line or "error" in line.lower()] or lines or ["no reason given"]
    )
    fact = re.sub(r"^.*?\bfailed: (connection to server .*? failed: )?", "", tried[-1])
    fact = _LEVEL.sub("", fact)
    for secret in endpoint.secrets:
        fact = fact.replace(secret, "***")
    return fact


# --- a server that says no -------------------------------------------------------------------------------

_LIMITS: Final = ("25P04", "57014")

_LOST: Final = ("08", "57P01", "57P02", "57P03", "57P05", "25P03")


def is_lost(error: psycopg.Error, connection: psycopg.Connection | None) -> bool:
    """Tell whether the connection is gone, or the server is about to take it away."""
    if error.sqlstate in _LIMITS:  # it ends the connection too, and would do so again
        return False
    if (error.sqlstate or "").startswith(_LOST):
        return True
    return connection is not None and (connection.closed or connection.broken)


# By their names in the manual: appendix A, PostgreSQL Error Codes.
FOREIGN_KEY_VIOLATION: Final = "23503"
UNIQUE_VIOLATION: Final = "23505"
CHECK_VIOLATION: Final = "23514"
EXCLUSION_VIOLATION: Final = "23P01"
INSUFFICIENT_PRIVILEGE: Final = "42501"

VALUE_TAKEN: Final = (UNIQUE_VIOLATION, EXCLUSION_VIOLATION)
"""Another row has what only one may have."""


def condition(sqlstate: str) -> str:
    """Return the name that Postgres gives a SQLSTATE, in its own spelling."""
    try:
        name = lookup(sqlstate).__name__
    except KeyError:
        return "error"
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


# Quoted words that name a thing of the schema; whatever else stands in quotes may be a row's value.
_NAMED: Final = re.compile(
    r"\b(column|constraint|relation|table|schema|type|encoding|index|function|role|database|enum|domain"
    r"|partition of relation|policy for table|extension|operator class|default expression of column) $"
)


def fact(error: psycopg.Error) -> str:
    """Return what the server said, with nothing in it that may come from a row.

    The primary messages of class 23 name constraints only. Others quote the offending value, in double
    quotes or as ``0x..`` bytes; those of functions that users wrote say anything at all, and are left out.
    """
    said = error.diag.message_primary or ""
    sqlstate = error.sqlstate or ""
    if sqlstate.startswith("P0") or error.diag.source_function == "exec_stmt_raise" or not said:
        return condition(sqlstate).replace("_", " ")
    if sqlstate.startswith("23"):
        return said
    if names_nothing(error):
        return re.sub('".*"', '"…"', hide_quoted(said), flags=re.DOTALL)
    return re.sub(r"0x[0-9a-f]{2}( 0x[0-9a-f]{2})*", "0x…", hide_quoted(said))


# As each language has it: "COPY t, line 7, column v: ...". What stands in quotes may be a whole row.
_IN_COPY: Final = re.compile(r"""^COPY [^"'«»„“”‚‘’「]*?, \S+ \d+, \S+ (.+?)(?:: |, null|$)""", re.MULTILINE)


def column_in_copy(error: psycopg.Error) -> str | None:
    """Return the column whose value COPY could not read, if an error says so."""
    found = _IN_COPY.search(error.diag.context or "")
    return found[1] if found else None


def names_nothing(error: psycopg.Error) -> bool:
    """Tell whether a row's value names what the database has not, as one of type regrole or regclass may."""
    sqlstate = error.sqlstate or ""
    named = sqlstate[:2] in ("42", "3F") and sqlstate != INSUFFICIENT_PRIVILEGE
    # a function that a domain calls would stand above COPY
    return named and _IN_COPY.match(error.diag.context or "") is not None


# As Postgres quotes in other languages: »German«, „Polish”, « French », 「Chinese」.
_QUOTED: Final = re.compile("[»«„“”‚‘’「].*[»«„“”‘’」]", re.DOTALL)


def hide_quoted(said: str) -> str:
    """Keep quoted names from the left; from the first other quote to the last, all may be a value.

    A server that speaks another language than English quotes otherwise: all that stands in such quotes goes.
    """
    shown, rest = "", said
    while (name := re.match(r'([^"]*)"[^"]*"', rest)) and _NAMED.search(name[1]):
        shown, rest = shown + name[0], rest[name.end() :]
    before, quote, after = rest.partition('"')
    return _QUOTED.sub('"…"', shown + before + ('"…"' + after.rpartition('"')[2] if quote else ""))


def failed(side: str, error: psycopg.Error) -> PgpullError:
    """Turn any error of a live session into ours."""
    sqlstate = error.sqlstate or ""
    said = f"{side} says: {fact(error) or type(error).__name__}" + (f" ({sqlstate})" if sqlstate else "")
    if sqlstate == INSUFFICIENT_PRIVILEGE and "row-level security" in said:
        hint = "row-level security would hide rows: connect as a role with BYPASSRLS, or as the table's owner"
        return PlanError(said, hint)
    if sqlstate == INSUFFICIENT_PRIVILEGE:
        return PlanError(said, "ask the owner for the privilege")
    if sqlstate in _LIMITS and "timeout" not in said:
        return Stopped(said, "somebody cancelled the statement: run the same command again to go on")
    if sqlstate in _HINTS:
        return Stopped(said, _HINTS[sqlstate].format(side=side))
    return Stopped(said, "see the server's log for the whole message; running the same command again goes on")


_HINTS: Final = {
    "53100": "the disk of {side} is full: make room, then run the same command again; whole batches are in",
    "53200": "{side} is out of memory: try again with a smaller --batch-size",
    "55P03": "somebody holds a lock on the table: pg_blocking_pids() tells who; then run it again",
    "57014": "a statement_timeout of {side} ended the work: pull a smaller window, or ask for a longer one"
    " for this role (ALTER ROLE ... SET statement_timeout)",
    "25P04": "the transaction_timeout of {side} ended the work: pull a smaller window, or ask for a longer one",
    "25006": "{side} takes no writes: is it a standby, or is there a proxy that only reads?",
}

# Who only reads is in nobody's way but a standby's; that one may take the connection away, too.
_CONFLICTS: Final = ("40001", "40P01")


def _conflict(side: str, error: psycopg.Error) -> Conflict:
    said = f"{side} says: {fact(error)}"
    if side == TARGET:
        return Conflict(said, "somebody else writes the same rows: run it again when they are done")
    hint = (
        "it is a standby that keeps up with its primary: read in short transactions (--no-snapshot), pull by"
        " smaller windows, or ask for hot_standby_feedback = on or a longer max_standby_streaming_delay there"
    )
    return ReadEnded(said, hint)


def lost(side: str, error: BaseException) -> ConnectionLost:
    """Say that a server went away in the middle."""
    said = str(error).strip().splitlines() or [type(error).__name__]
    return ConnectionLost(
        f"the connection to {side} was lost: {_LEVEL.sub('', said[0])}",
        "whole batches are in; run the same command again to go on",
    )


@contextmanager
def translated(side: str, connection: psycopg.Connection | None = None) -> Iterator[None]:
    """Translate the driver's errors inside a block.

    Raises:
        Passing: the connection went away, or the server gave way to somebody else; it may be tried again.
        PgpullError: anything else that the server said.
    """
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate in _CONFLICTS:
            raise _conflict(side, error) from error
        if is_lost(error, connection):
            raise lost(side, error) from error
        raise failed(side, error) from error
