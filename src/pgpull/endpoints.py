"""Where a database is: the many ways of writing it, read into one frozen value that hides the password."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import URL

from pgpull.bastions import Bastion
from pgpull.errors import SettingsError

_SCHEME = re.compile(r"(postgres(?:ql)?)(?:\+[a-z0-9_]+)?://", re.IGNORECASE)
_SECRETS = frozenset({"password", "sslpassword", "oauth_client_secret", "passfile"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The connection parameters of one database, under libpq's own names.

    What is not given here libpq looks up itself: PG* variables, ``service=``, the password file
    (manual: 34.1.2, Parameter Key Words; 34.15, Environment Variables).
    """

    parameters: Mapping[str, str] = field(repr=False)
    private: bool = field(default=False, repr=False)
    """A Postgres that pgpull itself keeps for the user: a missing table may be made there."""
    bastion: Bastion | None = field(default=None, repr=False)
    """A machine that ssh goes through; host and port are as that one sees them."""
    password_command: str = field(default="", repr=False)
    """Prints the password, anew for each connection."""
    mask_key: str = field(default="", repr=False)
    """What keyed masks depend on; a secret. The server gets it as a parameter, and no statement holds it."""

    def __str__(self) -> str:
        """Return a URL that can be shown, and given to psql: without password, without options."""
        return f"{self._url} via {self.bastion}" if self.bastion else self._url

    @property
    def _url(self) -> str:
        shown = self.parameters
        host = shown.get("host", "")
        if "service" in shown and not host:
            return f"postgresql:///?service={shown['service']}"
        user = f"{quote(shown['user'])}@" if "user" in shown else ""
        database = quote(shown.get("dbname", ""))
        port = shown.get("port", "").strip(",")  # of several hosts, each may be without one
        if host.startswith("/"):
            return f"postgresql://{user}/{database}?host={host}" + (f"&port={port}" if port else "")
        return f"postgresql://{user}{host}{':' if port else ''}{port}/{database}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that must not be seen anywhere."""
        hidden = [value for name, value in self.parameters.items() if name in _SECRETS and value]
        return (*hidden, self.mask_key) if self.mask_key else tuple(hidden)


def endpoint(url: str | URL, *, ssh: str = "", ssh_options: str = "", password_command: str = "") -> Endpoint:
    """Say where a database is, and how it is reached, for the functions that take a URL.

    Args:
        url: where it is; behind a bastion, as that one sees it.
        ssh: the bastion of a source, as ``SERVER_SSH`` has it: ``user@bastion``, or whatever else ssh takes.
        ssh_options: further words for ssh, as ``SERVER_SSH_OPTIONS`` has them.
        password_command: prints the password, and is run again for connections that are opened later.

    Raises:
        SettingsError: one of them cannot be read, or there are two passwords.
    """
    read = endpoint_of(url, "url")
    if password_command and "password" in read.parameters:
        raise SettingsError("the URL and password_command contradict each other", "keep one of the two")
    bastion = Bastion.parse(ssh, ssh_options) if ssh else None
    return replace(read, bastion=bastion, password_command=password_command)


def endpoint_of(url: str | URL | Endpoint, what: str) -> Endpoint:
    """Take an endpoint as it is, and read a URL.

    Args:
        url: either, or SQLAlchemy's own kind of URL.
        what: what it is called, for the error message.

    Raises:
        SettingsError: it cannot be read.
    """
    if isinstance(url, Endpoint):
        return url
    return parse_url(url.render_as_string(hide_password=False) if isinstance(url, URL) else url, what)


def parse_url(text: str, what: str) -> Endpoint:
    """Read a connection URL as teams have them, or libpq's own ``host=... dbname=...``.

    Args:
        text: ``postgres://``, ``postgresql://``, or either with a driver such as ``+psycopg`` or ``+psycopg2``.
        what: the setting's name, for the error message; the text itself is never shown, as it may hold a
            password.

    Raises:
        SettingsError: it cannot be read.
    """
    text = text.strip()
    if "://" in text:
        match = _SCHEME.match(text)
        if match is None:
            raise SettingsError(
                f"{what} does not start with postgresql:// (it starts with {text.split('://')[0]!r}://)",
                f"write {what}=postgresql://user:password@host:5432/database",
            )
        text = f"postgresql://{text[match.end() :]}"
        _check_authority(text, what)
    elif "=" not in text:
        raise _malformed(what)
    try:
        parameters = conninfo_to_dict(text)
    except ProgrammingError:  # its message may quote a password
        raise _malformed(what) from None
    return Endpoint({name: str(value) for name, value in parameters.items() if value is not None})


def _check_authority(url: str, what: str) -> None:
    """Refuse a raw @, / or % in a password: libpq would take the rest of it for the host, and show it."""
    authority, _, rest = url.partition("://")[2].partition("/")
    password_goes_on = "@" in rest.partition("?")[0] and "@" not in authority
    port = re.search(r":([^:\]@]*)$", authority.rpartition("@")[2].partition("?")[0])
    odd_port = port is not None and not re.fullmatch(r"[0-9,]*", port[1])
    if authority.count("@") > 1 or password_goes_on or odd_port:
        raise SettingsError(
            f"{what} cannot be read: the part before the host holds a character that must be escaped",
            f"write @ as %40, / as %2F, : as %3A, % as %25, or put the password into"
            f" {what.removesuffix('_COMMAND').removesuffix('_URL')}_PASSWORD as it is",
        )


def _malformed(what: str) -> SettingsError:
    return SettingsError(
        f"{what} is not a connection URL", f"write {what}=postgresql://user:password@host:5432/database"
    )
