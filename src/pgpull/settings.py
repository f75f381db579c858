"""The .env file and the environment, read into the two endpoints. Nothing else reads the environment.

What stands in the .env file comes first; the environment fills in what is missing there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from dotenv.parser import parse_stream
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pgpull import embedded
from pgpull.asking import printed
from pgpull.bastions import Bastion
from pgpull.endpoints import Endpoint, parse_url
from pgpull.errors import SettingsError, UnsafeTarget
from pgpull.nearby import is_readable, read_text, upwards
from pgpull.resolving import resolve

MASK_KEY: Final = "PGPULL_MASK_KEY"

_EMBEDDED: Final = "embedded"

# Our names for the parts, and libpq's.
_PARTS: Final = {
    "host": "host",
    "port": "port",
    "user": "user",
    "password": "password",
    "name": "dbname",
    "sslmode": "sslmode",
    "sslrootcert": "sslrootcert",
    "sslcert": "sslcert",
    "sslkey": "sslkey",
}

_FILES: Final = ("sslrootcert", "sslcert", "sslkey")


class _Group(BaseSettings):
    """Settings that begin alike. Those of the .env file are given on making it, and so come first."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", hide_input_in_errors=True)
    prefix: ClassVar[str]


class _Ssh(_Group):
    """How the server is reached, if not directly."""

    prefix: ClassVar[str] = "SERVER"
    model_config = SettingsConfigDict(env_prefix="SERVER_")

    ssh: str | None = None
    ssh_options: str = ""


class _Side(_Group):
    """One side's settings."""

    url: SecretStr | None = None
    url_command: str | None = None
    host: str | None = None
    port: int | None = Field(None, ge=1, le=65_535)
    user: str | None = None
    password: SecretStr | None = None
    password_command: str | None = None
    name: str | None = None
    sslmode: str | None = None
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None

    def parts(self) -> dict[str, str]:
        """Return the parts that are set, under libpq's names."""
        given = {theirs: getattr(self, ours) for ours, theirs in _PARTS.items()}
        texts = {
            name: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for name, value in given.items()
            if value is not None
        }
        return {name: _at_home(text) if name in _FILES else text for name, text in texts.items()}


def _at_home(path: str) -> str:
    try:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError:
        raise SettingsError(f"nobody knows whose home {path} is in", "name the path in full") from None


class _Server(_Side):
    prefix: ClassVar[str] = "SERVER_DB"
    model_config = SettingsConfigDict(env_prefix="SERVER_DB_")


class _Local(_Side):
    prefix: ClassVar[str] = "LOCAL_DB"
    model_config = SettingsConfigDict(env_prefix="LOCAL_DB_")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the two sides are."""

    source: Endpoint
    target: Endpoint


def load(env_file: Path | None = None) -> Settings:
    """Read the settings, and start the embedded Postgres if local is to be one.

    Args:
        env_file: the .env file; else the first one found from the working directory upwards, if any.

    Raises:
        SettingsError: the settings are incomplete, contradict each other, or cannot be read.
    """
    env = _EnvFile.read(env_file)
    return Settings(source=_source(env), target=_target(env))


def load_source(env_file: Path | None = None) -> Endpoint:
    """Read where the server is, for a caller that has no use for local's settings; see :func:`load`."""
    return _source(_EnvFile.read(env_file))


def load_target(env_file: Path | None = None) -> Endpoint:
    """Read the settings of local alone, for a caller that has no use for the server's; see :func:`load`.

    Raises:
        UnsafeTarget: they are the server's, which nobody asks whether it is another database.
    """
    env = _EnvFile.read(env_file)
    target = _target(env)
    if _is_servers(target, env):
        raise UnsafeTarget(
            f"local is set to the server's own database: {target}", "check LOCAL_DB_URL and SERVER_DB_URL"
        )
    return target


def _is_servers(target: Endpoint, env: _EnvFile) -> bool:
    """Whether the server's settings name the same place, as far as they can be told from here."""
    try:
        side = _group(_Server, env)
        if side.url_command or _group(_Ssh, env).ssh:  # a bastion's localhost is another
            return False
        server = _endpoint(side, "the server", env)
    except SettingsError:
        return False
    place = _place(target)
    return bool(place[-1]) and _place(server) == place  # what cannot be looked up, connecting will tell


def _place(endpoint: Endpoint) -> tuple[str, ...]:
    """Return where an endpoint leads, with what libpq looks up; the loopback is one place by all its names."""
    found = resolve(endpoint.parameters)
    host = (found.hostaddr or found.host).lower().rstrip(".")
    by_loopback = found.is_local and host and not host.startswith(("/", "@"))
    return "localhost" if by_loopback else host, found.port, found.dbname


def seen_target(env_file: Path | None = None) -> Endpoint | None:
    """Read where local is, for a caller that only glances at it: no server is started, no command is run.

    Returns:
        None where local is an embedded Postgres that does not run, or a command prints its URL or password.
    """
    env = _EnvFile.read(env_file)
    side = _group(_Local, env)
    folder = _embedded_folder(side, env.folder)
    if side.url_command or side.password_command or (folder and not embedded.is_running(folder)):
        return None
    return _target(env)


def embedded_folder(env_file: Path | None = None) -> Path:
    """Read where the embedded Postgres lives that local is; it is not started.

    Raises:
        SettingsError: local is another.
    """
    env = _EnvFile.read(env_file)
    folder = _embedded_folder(_group(_Local, env), env.folder)
    if folder is None:
        raise SettingsError(
            f"local is no embedded Postgres: LOCAL_DB_URL does not say so (looked in {env.looked_in})",
            "LOCAL_DB_URL=embedded in .env brings one; pgpull check says what local is",
        )
    return folder.expanduser().absolute()


def mask_key(env_file: Path | None = None) -> str:
    """Read the key that masks depend on, for a caller that has a source of its own; empty if there is none."""
    return _mask_key(_EnvFile.read(env_file))


def environment_without_databases() -> dict[str, str]:
    """Return the environment less what names databases, for a program that is to know only its .env file."""
    ours = ("SERVER_DB_", "SERVER_SSH", "LOCAL_DB_", "PG")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@dataclass(frozen=True, slots=True)
class _EnvFile:
    """What the .env file says; nothing where there is none."""

    values: Mapping[str, str] = field(repr=False)
    looked_in: str
    """Where all settings are looked for, for a message."""
    folder: Path
    """What paths in it start from."""

    @classmethod
    def read(cls, path: Path | None) -> _EnvFile:
        file = path or next((folder / ".env" for folder in upwards() if is_readable(folder / ".env")), None)
        if file is None:
            return cls({}, "no .env file, and the environment", Path())
        return cls(_values(file), f"{file} and the environment", file.parent)


def _values(file: Path) -> dict[str, str]:
    """Read a .env file as it stands: a password may hold ``${``, so nothing is expanded."""
    hint = "name one with --env-file: lines of NAME=value, as in .env.example"
    bindings = list(parse_stream(StringIO(read_text(file, "the settings file", hint))))
    for binding in bindings:
        if binding.error:
            raise SettingsError(
                f"{file}, line {binding.original.line} is not NAME=value",
                "put a value with spaces, quotes or # into single quotes: NAME='...'",
            )
    return {b.key: b.value for b in bindings if b.key and b.value}


_Kind = TypeVar("_Kind", bound=_Group)


def _group(kind: type[_Kind], env: _EnvFile) -> _Kind:
    names = {field: f"{kind.prefix}_{field.upper()}" for field in kind.model_fields}
    given: dict[str, Any] = {field: env.values[name] for field, name in names.items() if name in env.values}
    try:
        return kind(**given)
    except ValidationError as error:
        # the port is the only one that not every text will do for; its place may be spelled either way
        name = names["port"]
        raise SettingsError(
            f"{name} is not a port: {given.get('port', os.environ.get(name))!r}",
            "a port is a number from 1 to 65535; Postgres listens on 5432 unless told otherwise",
        ) from error


def _source(env: _EnvFile) -> Endpoint:
    reached = _through(_group(_Ssh, env), _endpoint(_group(_Server, env), "the server", env))
    return replace(reached, mask_key=_mask_key(env))


def _mask_key(env: _EnvFile) -> str:
    return env.values.get(MASK_KEY) or os.environ.get(MASK_KEY, "")


def _target(env: _EnvFile) -> Endpoint:
    side = _group(_Local, env)
    if home := _embedded_folder(side, env.folder):
        return replace(parse_url(embedded.start(home), "LOCAL_DB_URL"), private=True)
    return _endpoint(side, "local", env)


def _embedded_folder(side: _Side, folder: Path) -> Path | None:
    """Return where the embedded Postgres lives, if local is one."""
    url = side.url.get_secret_value() if side.url else ""
    kind, _, data = url.partition(":")
    if kind != _EMBEDDED or data.startswith("//"):
        return None
    if data:
        return folder / _at_home(data)
    try:
        return embedded.default_folder(os.environ.get("XDG_DATA_HOME", ""))
    except RuntimeError:
        raise SettingsError(
            "the account has no home folder, where the private Postgres would live",
            "name a folder: LOCAL_DB_URL=embedded:/path/to/folder",
        ) from None


def _endpoint(side: _Side, what: str, env: _EnvFile) -> Endpoint:
    command = f"{side.prefix}_URL_COMMAND"
    if side.url_command and side.url:
        raise SettingsError(f"{side.prefix}_URL and {command} are both set", "keep one of the two")
    if side.url_command:
        return _filled_in(side, printed(side.url_command, command, "URL").strip(), command)
    if side.url:
        return _filled_in(side, side.url.get_secret_value(), f"{side.prefix}_URL")
    parts = side.parts()
    if "host" not in parts and not (parts and ("PGHOST" in os.environ or "PGSERVICE" in os.environ)):
        raise SettingsError(
            f"{what} is not set: neither {side.prefix}_URL nor {side.prefix}_HOST is there"
            f" (looked in {env.looked_in})",
            "copy .env.example to .env and fill it in; no databases at hand? try: pgpull demo",
        )
    return _asking(side, Endpoint(parts), f"{side.prefix}_PASSWORD")


def _asking(side: _Side, endpoint: Endpoint, what: str) -> Endpoint:
    """Let an endpoint have the password that a command prints, if there is one."""
    if side.password_command and "password" in endpoint.parameters:
        raise SettingsError(
            f"{what} and {side.prefix}_PASSWORD_COMMAND contradict each other: both give a password",
            "keep one of the two",
        )
    return replace(endpoint, password_command=side.password_command or "")


def _through(ssh: _Ssh, endpoint: Endpoint) -> Endpoint:
    """Let the way to an endpoint lead through a bastion, if there is one."""
    return replace(endpoint, bastion=Bastion.parse(ssh.ssh, ssh.ssh_options)) if ssh.ssh else endpoint


def _filled_in(side: _Side, url: str, what: str) -> Endpoint:
    """Add to a URL the parts that it leaves out, such as the password."""
    in_url = dict(parse_url(url, what).parameters)
    for name, value in side.parts().items():
        if in_url.setdefault(name, value) != value:
            part = next(ours for ours, theirs in _PARTS.items() if theirs == name).upper()
            raise SettingsError(f"{what} and {side.prefix}_{part} contradict each other", "keep one of the two")
    return _asking(side, Endpoint(in_url), what)
