"""How a connection reaches its database: encrypted, through a bastion, with a password asked for anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Final

from pgpull import tunnels
from pgpull.asking import Passwords
from pgpull.diagnosis import SOURCE, prefix
from pgpull.endpoints import Endpoint
from pgpull.errors import ConnectFailed, SettingsError
from pgpull.resolving import Resolved, resolve
from pgpull.tunnels import Tunnel

_passwords: Final = Passwords()


@dataclass(frozen=True, slots=True)
class Route:
    """What a connection is opened with."""

    endpoint: Endpoint
    """What is asked for, with the password that a command printed."""
    parameters: Mapping[str, str] = field(repr=False)
    """The same as libpq needs it here."""
    tunnel: Tunnel | None
    mark: int
    """How much ssh had said before."""
    is_new: bool
    """Whether the password was printed just now."""

    def failed(self) -> bool:
        """Hear that no connection came about, and tell whether another try may do better.

        Raises:
            ConnectFailed: it is the bastion that lets nobody through.
        """
        if self.endpoint.password_command:
            _passwords.forget(self.endpoint.password_command, self.endpoint.parameters["password"])
        if self.tunnel is not None:
            self.tunnel.check(self.mark)
        return not self.is_new


@contextmanager
def route_to(side: str, endpoint: Endpoint) -> Iterator[Route]:
    """Have a route to a database for the length of a block.

    Args:
        side: :data:`~pgpull.diagnosis.SOURCE` or :data:`~pgpull.diagnosis.TARGET`.
        endpoint: what is asked for.

    Raises:
        ConnectFailed: it leads through a bastion that does not let us in, or no password is printed.
        SettingsError: it leads to several hosts, which one tunnel does not.
    """
    endpoint, is_new = _with_password(side, endpoint)
    resolved = resolve(endpoint.parameters)
    parameters = {**endpoint.parameters, **_encryption(side, resolved)}
    with _tunnel(endpoint, resolved) as tunnel:
        if tunnel is None:
            yield Route(endpoint, parameters, None, 0, is_new)
        else:
            port, mark = tunnel.port(), tunnel.mark()
            yield Route(endpoint, {**parameters, **_through(resolved, port)}, tunnel, mark, is_new)


@contextmanager
def kept_open(endpoint: Endpoint) -> Iterator[None]:
    """Keep the way through a bastion for the length of a block, once it was taken: logging in takes time."""
    with _tunnel(endpoint, resolve(endpoint.parameters)) if endpoint.bastion else nullcontext():
        yield


def _with_password(side: str, endpoint: Endpoint) -> tuple[Endpoint, bool]:
    command = endpoint.password_command
    if not command:
        return endpoint, True
    try:
        password, is_new = _passwords.ask(command, f"{prefix(side)}_PASSWORD_COMMAND")
    except SettingsError as error:  # it may well print one when a lost connection is opened again
        raise ConnectFailed(f"cannot connect to {side} ({endpoint}): {error.message}", error.hint) from None
    return replace(endpoint, parameters={**endpoint.parameters, "password": password}), is_new


def _encryption(side: str, resolved: Resolved) -> dict[str, str]:
    """Ask for TLS to a server that is not on this machine, unless somebody says what is wanted.

    libpq's own choice is to go without where the server has none, or somebody in between says so.
    """
    if side == SOURCE and resolved.tls_unsaid and not resolved.is_local:
        return {"sslmode": "require"}
    return {}


@contextmanager
def _tunnel(endpoint: Endpoint, resolved: Resolved) -> Iterator[Tunnel | None]:
    if endpoint.bastion is None:
        yield None
        return
    if resolved.is_several:
        raise SettingsError(
            f"SERVER_SSH leads to one host, and {endpoint} names several",
            "name the one to be read in SERVER_DB_URL",
        )
    with tunnels.shared(endpoint.bastion, _address(resolved)) as tunnel:
        yield tunnel


def _address(resolved: Resolved) -> str:
    """Return where the bastion goes on to, as ssh's -L has it."""
    host = resolved.hostaddr or resolved.host or "localhost"
    if host.startswith("/"):
        return f"{host}/.s.PGSQL.{resolved.port}"
    return f"[{host}]:{resolved.port}" if ":" in host else f"{host}:{resolved.port}"


def _through(resolved: Resolved, port: int) -> dict[str, str]:
    """Return what leads libpq into the tunnel. It keeps the host's name, which the certificate has to bear.

    The password file is asked for the port that the user knows.
    """
    here = {"host": resolved.host or "localhost", "hostaddr": tunnels.HOST, "port": str(port)}
    return here | ({"password": resolved.password} if resolved.password else {})
