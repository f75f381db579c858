"""A real sshd on the loopback, and what ssh needs to know of it: keys and settings, none of the user's own."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from tests.support.servers import HOST, PATIENCE, Unavailable, free_port

SERVER = """
Port {port}
ListenAddress {host}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
LogLevel VERBOSE
{more}
"""

CLIENT = """
Host bastion inner
    HostName {host}
    Port {port}
    User {user}
Host *
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    IdentityFile {folder}/{key}
    IdentityAgent {agent}
    IdentitiesOnly {only}
"""


class Sshd:
    """An sshd that runs; its folder holds all that it and ssh read and write.

    Args:
        folder: an empty one.
        more: lines for its settings.
    """

    def __init__(self, folder: Path, more: str = "") -> None:
        program = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
        if not (program and shutil.which("ssh") and shutil.which("ssh-keygen")):
            raise Unavailable("there is no sshd and ssh on this machine")
        self._program = program
        self.folder = folder
        self.port = free_port()
        self.log = folder / "sshd.log"
        self._more = more
        self._process: subprocess.Popen[bytes] | None = None
        make_key(folder / "host_key")
        make_key(folder / "key")
        shutil.copy(folder / "key.pub", folder / "authorized_keys")
        self.know_host()
        self.client()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where the system's own would shut itself in
        text = SERVER.format(port=self.port, host=HOST, folder=self.folder, more=self._more)
        (self.folder / "sshd_config").write_text(text)
        with self.log.open("ab") as log:
            command = [self._program, "-D", "-e", "-f", str(self.folder / "sshd_config")]
            self._process = subprocess.Popen(
                command, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        until = time.monotonic() + PATIENCE
        while "Server listening" not in self.said:
            if self._process.poll() is not None or time.monotonic() > until:
                raise Unavailable(f"sshd does not start here: {self.said[-300:]}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End it and every session of it."""
        if self._process is not None:
            self.cut()
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def cut(self) -> None:
        """End the sessions that there are; it goes on listening."""
        assert self._process
        for child in psutil.Process(self._process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()

    def freeze(self) -> None:
        """Let the sessions that there are hang, as when the network is gone; it goes on listening."""
        assert self._process
        for child in psutil.Process(self._process.pid).children(recursive=True):
            child.suspend()

    @property
    def said(self) -> str:
        """What it says of itself and its sessions."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def logins(self) -> int:
        """How often somebody was let in."""
        if "account is locked" in self.said:
            raise Unavailable("this account is locked, and sshd lets nobody in")
        return len(re.findall(r"Accepted publickey", self.said))

    def know_host(self, key: str = "host_key") -> None:
        """Let ssh know a host key."""
        public = (self.folder / f"{key}.pub").read_text()
        (self.folder / "known_hosts").write_text(f"[{HOST}]:{self.port} {public}")

    def client(self, key: str = "key", agent: str = "none") -> None:
        """Let ssh show a key out of a file, or those of an agent."""
        text = CLIENT.format(
            host=HOST,
            port=self.port,
            user=getpass.getuser(),
            folder=self.folder,
            key=key,
            agent=agent,
            only="no" if agent != "none" else "yes",
        )
        (self.folder / "ssh_config").write_text(text)

    @property
    def settings(self) -> Sequence[str]:
        """Lines of a .env that lead through it."""
        return ("SERVER_SSH=bastion", f"SERVER_SSH_OPTIONS='-F {self.folder}/ssh_config'")


def make_key(file: Path, passphrase: str = "") -> None:
    """Make a key, and its public half beside it."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "of the tests", "-f", str(file)]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
