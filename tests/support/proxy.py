"""A network between a client and a server that does as it is told: cuts, stalls, crawls, refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.support import relay
from tests.support.relay import Direction
from tests.support.servers import HOST, free_port

Address = tuple[str, int] | Path


class Proxy:
    """A listening port that leads to a server. Down is from the server to the client, up the other way."""

    def __init__(self, server: Address, latency: float = 0.0) -> None:
        self.port = free_port()
        order = json.dumps([self.port, str(server) if isinstance(server, Path) else server])
        self._relay = subprocess.Popen(
            [sys.executable, "-I", relay.__file__, order],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # An interrupt from the keyboard is for the test run alone.
            start_new_session=True,
        )
        self._answer()
        self.delay(latency)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Break and refuse everything, for good."""
        self._relay.kill()
        self._relay.communicate()

    def cut(self) -> None:
        """Break all connections there are; new ones are welcome."""
        self._tell("cut")

    def cut_after(self, count: int, direction: Direction = "down") -> None:
        """Break all connections, once, when so many more bytes have passed."""
        self._tell("cut_after", count, direction)

    def refuse(self) -> None:
        """Let no new connection in, as when nobody listens; those there are go on."""
        self._tell("refuse")

    def accept(self) -> None:
        """Let new connections in again, at the same port."""
        self._tell("accept")

    def stall(self) -> None:
        """Pass nothing on, and keep the connections open."""
        self._tell("stall")

    def resume(self) -> None:
        """Pass on what has waited."""
        self._tell("resume")

    def slow(self, bytes_per_second: float | None) -> None:
        """Let each direction of each connection pass only so much; None is full speed."""
        self._tell("slow", bytes_per_second)

    def delay(self, seconds: float) -> None:
        """Let bytes that follow a silence arrive so much later, each way: the latency of the line."""
        self._tell("delay", seconds)

    @property
    def bytes_down(self) -> int:
        """How many bytes went from the server to clients."""
        return self._count("down")

    @property
    def bytes_up(self) -> int:
        """How many bytes went from clients to the server."""
        return self._count("up")

    @property
    def connections(self) -> int:
        """How many connections there ever were."""
        return self._count("connections")

    @property
    def open_connections(self) -> int:
        """How many connections there are now."""
        return self._count("open")

    def _count(self, what: str) -> int:
        return int(self._tell("counts")[what])

    def _tell(self, *order: object) -> Any:
        assert self._relay.stdin
        self._relay.stdin.write(json.dumps(order) + "\n")
        self._relay.stdin.flush()
        return json.loads(self._answer())

    def _answer(self) -> str:
        assert self._relay.stdout
        if line := self._relay.stdout.readline():
            return line
        raise RuntimeError("the proxy has ended")


def through(url: str, proxy: Proxy) -> str:
    """Lead a database URL through a proxy to its server."""
    parts = urlsplit(url)
    login = f"{parts.netloc.rpartition('@')[0]}@".removeprefix("@")
    options = [pair for pair in parse_qsl(parts.query) if pair[0] not in ("host", "port")]
    return parts._replace(netloc=f"{login}{HOST}:{proxy.port}", query=urlencode(options)).geturl()
