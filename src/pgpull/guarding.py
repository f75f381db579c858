"""Whether the target may be written: not the source itself, not another machine, and able to take writes."""

from __future__ import annotations

from collections.abc import Sequence

from pgpull.endpoints import Endpoint
from pgpull.errors import PlanError, UnsafeTarget
from pgpull.resolving import is_local
from pgpull.sessions import Session


def guard(source: Session, target: Session, allowed: Sequence[str] = ()) -> None:
    """Make sure that the target may be written.

    Args:
        source: the server's session.
        target: the local session.
        allowed: hosts that the user allowed by name besides this machine.

    Raises:
        UnsafeTarget: the target is the source itself, or another machine that was not allowed.
        PlanError: the target takes no writes.
    """
    _refuse_source(source, target)
    guard_target(target, allowed)


def guard_target(target: Session, allowed: Sequence[str] = ()) -> None:
    """Make sure that the target may be written, wherever rows come from; see :func:`guard`."""
    refuse_remote(target.endpoint, target.connection.info.host, target.address, allowed)
    if target.identity.in_recovery or target.identity.read_only:
        raise PlanError(
            f"local ({target.endpoint}) takes no writes: "
            + (
                "it is a standby"
                if target.identity.in_recovery
                else "its transactions are read only, whatever is set"
            ),
            "give the URL of a database that can be written",
        )


def _refuse_source(source: Session, target: Session) -> None:
    if source.identity.same_database(target.identity):
        raise UnsafeTarget(
            f"source and target are the same database: {source.endpoint} and {target.endpoint}"
            f" are both {target.identity.database!r} (oid {target.identity.oid}) of one cluster"
            f" (system identifier {target.identity.system or 'unknown'})",
            "check LOCAL_DB_URL; if local is a file copy of the server, createdb a database of its own there",
        )


def refuse_remote(endpoint: Endpoint, host: str, address: str, allowed: Sequence[str]) -> None:
    """Make sure that a target is on this machine, or was allowed by name.

    Args:
        endpoint: the target, for the error message.
        host: what the user calls its host.
        address: what libpq is really connected to: an address, or a socket's folder.
        allowed: hosts or addresses that the user allowed.

    Raises:
        UnsafeTarget: it is neither.
    """
    if not (is_local(address) or host in allowed or address in allowed):
        raise UnsafeTarget(
            f"the target is not on this machine: {endpoint} is {address}",
            f"if this is where the rows belong, allow it by name: --allow-target {host}",
        )
