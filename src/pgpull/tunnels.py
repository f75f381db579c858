"""Ways through a bastion: one ssh of the system's own for all connections to a database behind it.

Its end here is a port of the loopback. It ends when the last one who uses it leaves, and with this process,
however that ends: a shell stands beside it, and ends it once nobody holds the other end of a pipe any more.
(Linux could be asked to do so by itself, but would do it when the thread ends that started it.)
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from pgpull.bastions import Bastion, forwarding_failed, hint_for, port_is_taken, reason
from pgpull.errors import ConnectFailed
from pgpull.inheriting import environment

HOST: Final = "127.0.0.1"

_BESIDE: Final = """
trap '' HUP INT QUIT
exec 3<&0
"$@" 3<&- </dev/null &
ssh=$!
{ read -r end; kill "$ssh"; } <&3 >/dev/null 2>&1 &
beside=$!
exec 3<&-
wait "$ssh"
how=$?
kill "$beside" 2>/dev/null
rm -f "$0/open" && rmdir "$0" 2>/dev/null
exit "$how"
"""

_SECONDS: Final = 60.0
"""For the way to stand, where there is nobody to type a passphrase."""

_GRACE: Final = 2.0
"""Seconds that ssh is given to end."""

_TRIES: Final = 4
"""As somebody else may take the port before ssh does."""


@dataclass(slots=True)
class _Ssh:
    """One ssh that runs, or has ended."""

    process: subprocess.Popen[bytes]
    folder: Path
    words: IO[bytes]
    port: int
    asks: bool
    """Whether somebody may be typing a passphrase."""

    @property
    def stands(self) -> bool:
        """Whether the way is there: ssh listens here, and is known and let in there."""
        return (self.folder / "open").exists()

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def said(self, since: int = 0) -> str:
        """Return what it said, from a byte on."""
        number = self.words.fileno()  # ssh goes on writing where we would seek to
        return os.pread(number, os.fstat(number).st_size, since).decode(errors="replace")

    def end(self) -> None:
        assert self.process.stdin
        with suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.words.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Tunnel:
    """The way to one database, for any number of connections; opened when first needed, and anew when lost.

    Args:
        bastion: the machine that it leads through.
        there: the database's address as the bastion sees it, as ssh's ``-L`` has it.
    """

    def __init__(self, bastion: Bastion, there: str) -> None:
        self.bastion = bastion
        self._there = there
        self._ssh: _Ssh | None = None
        self._lock = threading.Lock()
        self.users = 0

    def port(self) -> int:
        """Return the port here that leads there.

        Raises:
            ConnectFailed: ssh cannot be had, or is not let in.
        """
        with self._lock:
            if self._ssh is None or self._ssh.ended:
                self._end()
                self._ssh = self._opened()
            return self._ssh.port

    def mark(self) -> int:
        """Return how much ssh has said by now."""
        with self._lock:
            return os.fstat(self._ssh.words.fileno()).st_size if self._ssh else 0

    def check(self, mark: int) -> None:
        """Look why a connection through it failed.

        Args:
            mark: how much ssh had said before.

        Raises:
            ConnectFailed: it is ssh that failed.
        """
        time.sleep(0.05)  # what ssh says comes after what it does
        with self._lock:
            if self._ssh is None:
                return
            said = self._ssh.said(mark)
            why = forwarding_failed(said) or (self._ssh.ended and reason(said))
        if why:
            raise ConnectFailed(
                f"cannot reach {self._there} from the bastion {self.bastion}: {why}",
                hint_for(said, self.bastion),
            )

    def close(self) -> None:
        """End ssh."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._ssh is not None:
            self._ssh.end()
            self._ssh = None

    def _opened(self) -> _Ssh:
        program = shutil.which("ssh")
        if program is None or sys.platform == "win32":
            raise ConnectFailed(
                f"cannot go through the bastion {self.bastion}: there is no ssh on this machine",
                "install OpenSSH's client (openssh-client), or open the way yourself and drop SERVER_SSH",
            )
        for _ in range(_TRIES):
            ssh = _start(self.bastion, program, self._there)
            try:
                _await(ssh)
            except BaseException:
                ssh.end()
                raise
            if ssh.stands and not ssh.ended:
                return ssh
            said = ssh.said()
            ssh.end()
            if not port_is_taken(said):
                break
        raise ConnectFailed(
            f"ssh does not open the way through the bastion {self.bastion}: {reason(said)}",
            hint_for(said, self.bastion),
        )


def _start(bastion: Bastion, program: str, there: str) -> _Ssh:
    folder = _own_folder()
    port = _free_port()
    # ssh listens on one after the other: once the second is there, the first is ours and nobody else's
    forwards = (f"{HOST}:{port}:{there}", f"{folder / 'open'}:{there}")
    asks = sys.stdin is not None and sys.stdin.isatty()
    words = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
    process = subprocess.Popen(
        ["/bin/sh", "-c", _BESIDE, str(folder), *bastion.command(program, forwards, asks=asks)],
        stdin=subprocess.PIPE,
        stdout=words,
        stderr=words,
        env=environment(),
    )
    return _Ssh(process, folder, words, port, asks)


def _await(ssh: _Ssh) -> None:
    until = time.monotonic() + _SECONDS
    while not (ssh.stands or ssh.ended) and (ssh.asks or time.monotonic() < until):
        time.sleep(0.01)


def _own_folder() -> Path:
    """Make a folder that is closed to other accounts, with a name short enough for a socket's."""
    place = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="pgpull-ssh-", dir=place if len(place) < 60 else "/tmp"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


# --- who shares one ----------------------------------------------------------------------------------------

_open: dict[tuple[Bastion, str], Tunnel] = {}
_turn = threading.Lock()


@contextmanager
def shared(bastion: Bastion, there: str) -> Iterator[Tunnel]:
    """Use the way to a database for the length of a block, together with all others who use it.

    Args:
        bastion: the machine that it leads through.
        there: the database's address as the bastion sees it, as ssh's ``-L`` has it.
    """
    with _turn:
        tunnel = _open.setdefault((bastion, there), Tunnel(bastion, there))
        tunnel.users += 1
    try:
        yield tunnel
    finally:
        with _turn:
            tunnel.users -= 1
            if not tunnel.users:
                del _open[bastion, there]
                tunnel.close()
