"""Where archives stand: a folder here, or whatever fsspec has a URL for (``s3://``, ``gs://``, ``sftp://``)."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pgpull.archives import MANIFEST, Manifest
from pgpull.errors import ArchiveError, PgpullError, UsageError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)

_EXTRAS: Final = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "azure"),
    **dict.fromkeys(("sftp", "ssh"), "sftp"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where an archive stands, or is to stand."""

    name: str
    """As it is shown: without a password."""
    path: str
    """A folder; or how its file system calls it, without a slash at the end."""
    remote: AbstractFileSystem | None = None
    """None for a folder of this machine."""
    secret: str = ""

    def below(self, path: str) -> str:
        """Return how the file system calls a file of the archive."""
        return f"{self.path}/{path}"


def place_of(text: str | Path) -> Place:
    """Read a folder's path or a URL.

    Raises:
        UsageError: it is neither, or needs a library that is not here.
        ArchiveError: its file system cannot be opened.
    """
    match = _SCHEME.match(str(text))
    scheme = match[1].lower() if match else ""
    if scheme in ("", "file"):
        path = str(text)[len(match[0]) if match else 0 :]
        if not path:
            raise UsageError(
                "no folder is named for the archive", "name one, or a URL such as s3://bucket/folder"
            )
        try:
            return Place(path, str(Path(path).expanduser().resolve()))
        except RuntimeError as error:  # ~somebody
            raise UsageError(
                f"{path}: nobody of that name has a home here", "name the folder in full"
            ) from error
    return _remote(str(text), scheme)


def _remote(url: str, scheme: str) -> Place:
    password = re.match(r"[^/]+//[^/@:]*:([^/@]*)@", url)
    secret = password[1] if password else ""
    name = url.replace(f":{secret}@", "@", 1).rstrip("/") if password else url.rstrip("/")
    extra = _EXTRAS.get(scheme)
    hint = f"pip install 'pgpull[{extra}]'" if extra else "name a folder, or a URL such as s3://bucket/folder"
    try:
        from fsspec.core import url_to_fs  # an extra: who keeps archives in folders does not have it

        remote, path = url_to_fs(url)
    except ImportError as error:
        lacks = error.name or f"for {scheme}://"
        raise UsageError(f"{name} needs a library that is not installed: {lacks}", hint) from error
    except ValueError as error:  # fsspec: "Protocol not known"
        raise UsageError(f"nobody knows what {scheme}:// is", hint) from error
    except Exception as error:  # each library has errors of its own
        raise _refused(name, secret, error) from error
    return Place(name, path.rstrip("/"), remote, secret)


_HINTS: Final = {
    errno.ENOSPC: "make room, or name another place; nothing was kept",
    errno.EDQUOT: "make room, or name another place; nothing was kept",
    errno.EACCES: "name a place that you may write",
    errno.EPERM: "name a place that you may write",
    errno.EROFS: "name a place that can be written",
    errno.ENAMETOOLONG: "name a folder with a shorter path",
}


@contextmanager
def said_clearly(place: Place) -> Iterator[None]:
    """Say what a file system refuses; the libraries of remote ones have errors of their own.

    Raises:
        ArchiveError: it refuses something.
    """
    try:
        yield
    except PgpullError:
        raise
    except OSError as error:
        raise _refused(place.name, place.secret, error) from error
    except Exception as error:
        if place.remote is None:
            raise
        raise _refused(place.name, place.secret, error) from error


def _refused(name: str, secret: str, error: Exception) -> ArchiveError:
    if isinstance(error, OSError) and error.errno in _HINTS:
        return ArchiveError(f"{name}: {error.strerror}", _HINTS[error.errno])
    said = (str(error).strip().splitlines() or [""])[0][:300]
    said = said.replace(secret, "***") if secret else said
    return ArchiveError(
        f"{name} cannot be read or written: {said or type(error).__name__}",
        "check its name, the way there, and the credentials that its library looks up",
    )


def is_archive(place: Place) -> bool:
    """Tell whether there is an archive, of whatever version, without looking at its files.

    Raises:
        ArchiveError: nobody can look.
    """
    with said_clearly(place):
        try:
            if place.remote is not None:
                text = place.remote.cat_file(place.below(MANIFEST))
            else:
                text = Path(place.path, MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return False
    try:
        Manifest.from_json(text)
    except ArchiveError:
        return b'"format_version"' in text and b'"snapshot"' in text
    return True
