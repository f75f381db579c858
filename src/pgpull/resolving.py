"""What libpq would connect with: services, PG* variables, the password file and defaults, looked up by itself.

Nothing is connected to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

# A value that libpq refuses: it says so once all has been looked up, and before it connects anywhere.
_NOWHERE: Final = {"target_session_attrs": "nowhere"}

# With this, and only where nobody says anything of TLS, libpq takes another sslmode than usual (manual: 34.1.2,
# sslrootcert). So it tells whether somebody does: the URL, a service, PGSSLMODE.
_PROBE: Final = {"sslrootcert": "system"}
_PROBE_SAYS: Final = "verify-full"
_PROBE_SINCE: Final = 160_000

USUAL_SSLMODE: Final = "prefer"


@dataclass(frozen=True, slots=True)
class Resolved:
    """What libpq would connect to, and with what."""

    host: str
    """Empty where it is the usual socket of this machine."""
    hostaddr: str
    port: str
    dbname: str
    password: str = field(repr=False)
    """Out of the password file as well; empty where there is none."""
    tls_unsaid: bool
    """Whether nobody says anything of TLS: it would be used if the server happens to have it."""

    @property
    def is_local(self) -> bool:
        """Whether it is this machine: a socket, the loopback, or several of these."""
        hosts = (self.hostaddr or self.host).split(",")
        return all(is_local(host) or host.lower() == "localhost" for host in hosts)

    @property
    def is_several(self) -> bool:
        """Whether it is one of several hosts, of which the first one that answers is taken."""
        return "," in self.host or "," in self.hostaddr


def is_local(address: str) -> bool:
    """Tell whether an address is this machine's alone: a unix socket or the loopback."""
    if not address or address.startswith(("/", "@")):
        return True
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def resolve(parameters: Mapping[str, str]) -> Resolved:
    """Look up what is not said in some connection parameters. What libpq cannot read, connecting will tell.

    Args:
        parameters: as libpq calls them.
    """
    found, password = _looked_up(parameters)
    return Resolved(
        host=found.get("host", ""),
        hostaddr=found.get("hostaddr", ""),
        port=found.get("port", "") or "5432",
        dbname=found.get("dbname", "") or found.get("user", ""),
        password=password,
        tls_unsaid=found.get("sslmode") == USUAL_SSLMODE and _is_unsaid(parameters),
    )


def _is_unsaid(parameters: Mapping[str, str]) -> bool:
    if pq.version() < _PROBE_SINCE:
        return "sslmode" not in parameters
    return _looked_up({**parameters, **_PROBE})[0].get("sslmode") == _PROBE_SAYS


def _looked_up(parameters: Mapping[str, str]) -> tuple[dict[str, str], str]:
    try:
        text = make_conninfo("", **{**parameters, **_NOWHERE})
    except psycopg.Error:
        return {}, ""
    connection = pq.PGconn.connect_start(text.encode())
    try:
        options = {option.keyword.decode(): (option.val or b"").decode() for option in connection.info}
        return options, connection.password.decode()
    finally:
        connection.finish()
