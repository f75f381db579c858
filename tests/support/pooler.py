"""A PgBouncer before a server, where it is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self

from tests.support.servers import HOST, Server, Unavailable, _account, _folder, free_port

Mode = Literal["session", "transaction"]

CONFIGURATION = """
[databases]
* = host={host} port={port} user=postgres

[pgbouncer]
listen_addr = {listen}
listen_port = {own}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = 8
max_client_conn = 50
logfile = {folder}/pooler.log
"""


class Pooler:
    """A running PgBouncer: a context manager.

    Args:
        server: what it leads to, as the superuser.
        mode: how long a client keeps a connection of the server.
    """

    def __init__(self, server: Server, mode: Mode) -> None:
        program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise Unavailable("there is no PgBouncer on this machine")
        self.port = free_port()
        folder = _folder(server.version)
        file = folder / "pooler.ini"
        file.write_text(
            CONFIGURATION.format(
                host=server.folder, port=server.port, listen=HOST, own=self.port, mode=mode, folder=folder
            )
        )
        file.chmod(0o644)
        self._process = self._started(program, file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def url(self, database: str) -> str:
        """Name a database of the server for a client."""
        return f"postgresql://postgres@{HOST}:{self.port}/{database}"

    def _started(self, program: str, file: Path) -> subprocess.Popen[bytes]:
        account = _account()
        process = subprocess.Popen(
            [program, "--quiet", str(file)],
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(200):
            with suppress(OSError), socket.create_connection((HOST, self.port), 1):
                return process
            time.sleep(0.05)
        process.kill()
        raise Unavailable("PgBouncer does not start here")
