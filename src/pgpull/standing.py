"""How a connection stands, and both together: what stands in the way of a pull, and what to know first."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pgpull.diagnosis import SOURCE, TARGET, translated
from pgpull.errors import PlanError, Refused
from pgpull.findings import Finding, good, note, problem
from pgpull.guarding import guard
from pgpull.resolving import is_local
from pgpull.sessions import Session
from pgpull.sql import checking as questions

BOTH: Final = "both sides"

_CLOCKS_APART = 5.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """How a connection stands, as the server says."""

    ahead: float
    """By how many seconds its clock is ahead of ours."""
    pid: int
    tls: str | None
    superuser: bool
    may_make_temporary: bool
    may_create: bool
    feedback: str
    delay: str
    statement_timeout: str
    transaction_timeout: str


def _standing(session: Session) -> _Standing:
    before = time.time()
    with translated(session.side, session.connection):
        row = session.connection.execute(questions.STANDING).fetchone()
    assert row is not None, "what asks for no rows of a table gets one"
    *said, clock = row
    return _Standing(clock - (before + time.time()) / 2, *said)


def connection_findings(session: Session) -> Iterator[Finding]:
    """Yield what there is to say of a side's connection, and of its role.

    Raises:
        ConnectionLost: the connection went away.
    """
    standing, identity, side = _standing(session), session.identity, session.side
    encrypted = _encryption(session, standing)
    yield good(side, f"{session.endpoint}: PostgreSQL {identity.version}, as {identity.role}, {encrypted}")
    if not session.connection.pgconn.ssl_in_use and not is_local(session.address):
        yield note(side, "rows travel unencrypted", "add ?sslmode=require to the URL, or verify-full")
    elif side == SOURCE and _is_not_checked(session):
        hint = "to have that checked: sslmode=verify-full, with the authority's certificate in sslrootcert"
        yield note(side, "nobody checks that the server is who it says", hint)
    if standing.pid != session.connection.info.backend_pid:
        yield _pooled(side)
    yield from _source_notes(session, standing) if side == SOURCE else _target_notes(standing)
    for name in ("statement_timeout", "transaction_timeout"):
        limit = getattr(standing, name)
        if limit != "0":
            yield note(side, f"{name} is {limit}", "what takes longer is ended: pull by smaller windows")
    if abs(standing.ahead) > _CLOCKS_APART:
        apart = f"{abs(standing.ahead):,.0f} s {'ahead of' if standing.ahead > 0 else 'behind'}"
        yield note(
            side, f"its clock is {apart} this machine's", "windows that end now may miss the newest rows"
        )


def _encryption(session: Session, standing: _Standing) -> str:
    if session.endpoint.bastion:
        beyond = f", encrypted by {standing.tls or 'TLS'}" if session.connection.pgconn.ssl_in_use else ""
        return f"through an ssh tunnel{beyond}"
    if session.address.startswith(("/", "@")):
        return "through a socket of this machine"
    if session.connection.pgconn.ssl_in_use:
        return f"encrypted by {standing.tls or 'TLS'}"
    return f"not encrypted, at {session.address}"


def _is_not_checked(session: Session) -> bool:
    """Whether the server's certificate is taken as it comes."""
    modes = [option.val for option in session.connection.pgconn.info if option.keyword == b"sslmode"]
    return not is_local(session.address) and not {b"verify-ca", b"verify-full"} & set(modes)


def _pooled(side: str) -> Finding:
    fact = "a pooler stands in between: another process answers than was connected to"
    if side == SOURCE:
        return note(
            side, fact, "nothing to do: a pull is one transaction; --create-missing may need the server itself"
        )
    return note(
        side, fact, "nothing to do: it keeps one session for us, which local needs for its temporary tables"
    )


def _source_notes(session: Session, standing: _Standing) -> Iterator[Finding]:
    yield good(SOURCE, "its transaction is REPEATABLE READ, READ ONLY, and cannot be made writable")
    if session.identity.in_recovery:
        yield note(
            SOURCE,
            f"it is a standby (hot_standby_feedback {standing.feedback}, max_standby_streaming_delay"
            f" {standing.delay}): a long read may be ended so that it can keep up",
            "a read that is ended goes on by itself; pull by smaller windows if that happens often",
        )
    if standing.superuser:
        yield note(
            SOURCE,
            f"role {session.identity.role} is a superuser there",
            "pgpull only reads, but a role that may do no more is safer: docs/production.md has the statements",
        )


def _target_notes(standing: _Standing) -> Iterator[Finding]:
    if not standing.may_make_temporary:
        refusal = PlanError(
            "the role may not make temporary tables, by way of which rows are merged",
            "have the database's owner run: GRANT TEMPORARY ON DATABASE ... TO ...;",
        )
        yield problem(TARGET, refusal)
    if not standing.may_create:
        yield note(
            TARGET,
            "the role may not make schemas, so updates cannot remember what was equal before",
            "nothing to do: rows are compared by hashes, which takes a little longer",
        )


# --- both together ---------------------------------------------------------------------------------------


def pair_findings(source: Session, target: Session, allowed: Sequence[str]) -> Iterator[Finding]:
    """Yield what there is to say of the two sides: whether the one may be written, and their encodings.

    Args:
        source: the server.
        target: the local side.
        allowed: hosts besides this machine that may be written.
    """
    try:
        guard(source, target, allowed)
        place = "on this machine" if is_local(target.address) else f"on {target.address}, which is allowed"
        yield good(BOTH, f"local is {place}, takes writes, and is another database than the server's")
    except Refused as error:
        yield problem(BOTH, error)
    theirs, ours = source.identity.encoding, target.identity.encoding
    if theirs == ours:
        yield good(BOTH, f"the encoding of both is {ours}")
    elif ours == "UTF8" and theirs != "SQL_ASCII":
        yield good(BOTH, f"the server's encoding is {theirs}, local's UTF8: text is converted")
    else:
        yield note(
            BOTH,
            f"the server's encoding is {theirs}, local's {ours}: text that has no place there becomes rejects",
            "make the local database anew: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0;",
        )
