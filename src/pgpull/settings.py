"""The .env file and the environment, read into the two endpoints. Nothing else reads the environment.

What stands in the .env file comes first; the environment fills in what is missing there.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dotenv import find_dotenv
from dotenv.parser import parse_stream
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pgpull import embedded
from pgpull.endpoints import Endpoint, parse_url
from pgpull.errors import SettingsError

COMMAND_SECONDS: Final = 60

_EMBEDDED: Final = "embedded"

# Our names for the parts, and libpq's.
_PARTS: Final = {
    "host": "host",
    "port": "port",
    "user": "user",
    "password": "password",
    "name": "dbname",
    "sslmode": "sslmode",
}


class _Side(BaseSettings):
    """One side's settings: ``SERVER_DB_...`` or ``LOCAL_DB_...``, by the prefix given on making it."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", hide_input_in_errors=True, frozen=True
    )

    url: SecretStr | None = None
    url_command: str | None = None
    host: str | None = None
    port: int | None = Field(None, ge=1, le=65_535)
    user: str | None = None
    password: SecretStr | None = None
    name: str | None = None
    sslmode: str | None = None

    def parts(self) -> dict[str, str]:
        """Return the parts that are set, under libpq's names."""
        given = {theirs: getattr(self, ours) for ours, theirs in _PARTS.items()}
        return {
            name: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for name, value in given.items()
            if value is not None
        }


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
    file = env_file or _found()
    values = _read(file) if file else {}
    where = f"{file} and the environment" if file else "no .env file, and the environment"
    return Settings(
        source=_source(_side("SERVER_DB_", values), where),
        target=_target(_side("LOCAL_DB_", values), where, (file or Path.cwd() / ".env").parent),
    )


def _found() -> Path | None:
    found = find_dotenv(usecwd=True)
    return Path(found) if found else None


def _read(file: Path) -> dict[str, str]:
    """Read a .env file as it stands: a password may hold ``${``, so nothing is expanded."""
    try:
        with file.open(encoding="utf-8") as stream:
            bindings = list(parse_stream(stream))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"the settings file {file} cannot be read: {why}", "check --env-file") from None
    for binding in bindings:
        if binding.error:
            raise SettingsError(
                f"{file}, line {binding.original.line} is not NAME=value",
                "put a value with spaces, quotes or # into single quotes: NAME='...'",
            )
    return {b.key: b.value for b in bindings if b.key and b.value}


def _side(prefix: str, values: Mapping[str, str]) -> _Side:
    names = {field: f"{prefix}{field.upper()}" for field in _Side.model_fields}
    given: dict[str, Any] = {field: values[name] for field, name in names.items() if name in values}
    try:
        return _Side(_env_prefix=prefix, **given)
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0]).removeprefix(prefix.lower())
        raise SettingsError(
            f"{names[field]} is not a port: {values.get(names[field]) or os.environ.get(names[field])!r}",
            "a port is a number from 1 to 65535; Postgres listens on 5432 unless told otherwise",
        ) from None


def _source(side: _Side, where: str) -> Endpoint:
    if side.url_command and side.url:
        raise SettingsError("SERVER_DB_URL and SERVER_DB_URL_COMMAND are both set", "keep one of the two")
    if side.url_command:
        return _filled_in("SERVER_DB", _run(side.url_command), "SERVER_DB_URL_COMMAND", side)
    return _endpoint("SERVER_DB", side, "the server", where)


def _target(side: _Side, where: str, folder: Path) -> Endpoint:
    url = side.url.get_secret_value() if side.url else ""
    kind, _, data = url.partition(":")
    if kind == _EMBEDDED and not data.startswith("//"):
        data_folder = folder / Path(data).expanduser() if data else embedded.default_folder()
        return parse_url(embedded.start(data_folder), "LOCAL_DB_URL")
    return _endpoint("LOCAL_DB", side, "local", where)


def _endpoint(prefix: str, side: _Side, what: str, where: str) -> Endpoint:
    if side.url:
        return _filled_in(prefix, side.url.get_secret_value(), f"{prefix}_URL", side)
    parts = side.parts()
    if "host" not in parts and not (parts and ("PGHOST" in os.environ or "PGSERVICE" in os.environ)):
        raise SettingsError(
            f"{what} is not set: neither {prefix}_URL nor {prefix}_HOST is there (looked in {where})",
            "copy .env.example to .env and fill it in; no databases at hand? try: pgpull demo",
        )
    return Endpoint(parts)


def _filled_in(prefix: str, url: str, what: str, side: _Side) -> Endpoint:
    """Add to a URL the parts that it leaves out, such as the password."""
    in_url = dict(parse_url(url, what).parameters)
    for name, value in side.parts().items():
        if in_url.setdefault(name, value) != value:
            part = next(ours for ours, theirs in _PARTS.items() if theirs == name).upper()
            raise SettingsError(f"{what} and {prefix}_{part} contradict each other", "keep one of the two")
    return Endpoint(in_url)


def _run(command: str) -> str:
    """Run the command that prints the URL. What it says on stderr, a login prompt perhaps, is the user's to see."""
    try:
        done = subprocess.run(
            command, shell=True, check=False, text=True, stdout=subprocess.PIPE, timeout=COMMAND_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise SettingsError(
            f"SERVER_DB_URL_COMMAND printed nothing within {COMMAND_SECONDS} s", "run it by hand: does it wait?"
        ) from None
    if done.returncode != 0 or not done.stdout.strip():
        raise SettingsError(
            f"SERVER_DB_URL_COMMAND failed: exit status {done.returncode}, {len(done.stdout)} characters printed",
            "run it by hand; it has to print the URL and nothing else",
        )
    return done.stdout.strip()
