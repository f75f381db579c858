"""PgBouncer before a server, where this machine has it: connections that many clients share."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.support.servers import HOST, PATIENCE, Server, Unavailable, free_port, owned_folder, run_as

# Where Debian and others put it is in no user's path.
PLACES = "/usr/sbin:/usr/local/sbin:/sbin"


class Pooler:
    """A PgBouncer that leads to a server.

    Args:
        server: where it leads, over the network.
        mode: when a connection goes back to the others: after a session, a transaction or a statement.
        size: how many connections each user has of a database.
        users: their passwords.
    """

    def __init__(self, server: Server, mode: str, size: int, users: Mapping[str, str]) -> None:
        program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path=PLACES)
        if program is None:
            raise Unavailable("PgBouncer is not on this machine")
        self.port = free_port()
        folder = owned_folder("pooler")
        self._log = folder / "log"
        self._process = run_as([program, self._settings(folder, server, mode, size, users)], folder, self._log)
        self._wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def url(self, database: str, user: str, password: str) -> str:
        """Name a database for a client."""
        return f"postgresql://{user}:{password}@{HOST}:{self.port}/{database}"

    def _settings(self, folder: Path, server: Server, mode: str, size: int, users: Mapping[str, str]) -> str:
        (folder / "users").write_text("".join(f'"{user}" "{word}"\n' for user, word in users.items()))
        (folder / "ini").write_text(
            f"[databases]\n* = host={HOST} port={server.port}\n[pgbouncer]\nlisten_addr = {HOST}\n"
            f"listen_port = {self.port}\nunix_socket_dir =\nauth_type = scram-sha-256\n"
            f"auth_file = {folder / 'users'}\npool_mode = {mode}\ndefault_pool_size = {size}\n"
        )
        return str(folder / "ini")

    def _wait(self) -> None:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self._process.poll() is None:
            with suppress(OSError), socket.create_connection((HOST, self.port)):
                return
            time.sleep(0.02)
        raise RuntimeError(f"PgBouncer does not start: {self._log.read_text()}")
