"""The working half of a proxy, in a process of its own: the threads and sockets between client and server.

Of its own, because calls of libpq may hold Python's lock until the server answers, and would wait for ever
for threads that need the same lock. It is told what to do in lines of JSON, ``["method", argument...]``, and
answers each with a line; it ends when nobody is left to tell it. It imports nothing that is slow to import.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import threading
from contextlib import suppress
from typing import Literal

Direction = Literal["down", "up"]
# A host and a port, or the path of a socket.
Address = tuple[str, int] | str

HOST = "127.0.0.1"

# How long a thread may look away from what it is told, in seconds; bytes are noticed at once.
TICK = 0.01
CHUNK = 1 << 16
# Close at once and throw away what is under way: the other side sees a reset.
RESET = struct.pack("ii", 1, 0)


class Relay:
    """A listening port that leads to a server. Down is from the server to the client, up the other way."""

    def __init__(self, port: int, server: Address) -> None:
        self.port = port
        self._server = server
        self._latency = 0.0
        self._speed: float | None = None
        self._fuses: dict[Direction, int] = {}
        self._passed: dict[str, int] = {"down": 0, "up": 0}
        self._connections = 0
        self._flowing = threading.Event()
        self._flowing.set()
        self._lock = threading.Lock()
        self._links: list[_Link] = []
        self._door: _Door | None = _Door(self)

    def cut(self) -> None:
        """Break all connections there are; new ones are welcome."""
        for link in self._break():
            link.join()

    def cut_after(self, count: int, direction: Direction = "down") -> None:
        """Break all connections, once, when so many more bytes have passed."""
        with self._lock:
            self._fuses[direction] = count
        if count == 0:
            self.cut()

    def refuse(self) -> None:
        """Let no new connection in, as when nobody listens; those there are go on."""
        if self._door:
            self._door.close()
            self._door = None

    def accept(self) -> None:
        """Let new connections in again, at the same port."""
        if not self._door:
            self._door = _Door(self)

    def stall(self) -> None:
        """Pass nothing on, and keep the connections open."""
        self._flowing.clear()

    def resume(self) -> None:
        """Pass on what has waited."""
        self._flowing.set()

    def slow(self, bytes_per_second: float | None) -> None:
        """Let each direction of each connection pass only so much; None is full speed."""
        self._speed = bytes_per_second

    def delay(self, seconds: float) -> None:
        """Let bytes that follow a silence arrive so much later, each way."""
        self._latency = seconds

    def counts(self) -> dict[str, int]:
        """Say what has passed, how many connections there were, and how many there are."""
        with self._lock:
            return {**self._passed, "connections": self._connections, "open": len(self._links)}

    def _enter(self, client: socket.socket) -> None:
        link = _Link(self, client)
        with self._lock:
            self._connections += 1
            self._links.append(link)
        link.start()

    def _leave(self, link: _Link) -> None:
        with self._lock:
            self._links.remove(link)

    def _dial(self) -> socket.socket:
        if not isinstance(self._server, str):
            return socket.create_connection(self._server)
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self._server)
        except OSError:
            server.close()
            raise
        return server

    def _break(self) -> list[_Link]:
        with self._lock:
            self._fuses.clear()
            links = list(self._links)
        for link in links:
            link.broken.set()
        return links

    def _allowance(self, direction: Direction) -> int:
        """Say how many bytes may pass at once: so few that a slow line is even, and a cut comes in time."""
        speed = self._speed
        even = max(1, int(speed * TICK * 2)) if speed else CHUNK
        with self._lock:
            return min(CHUNK, even, max(1, self._fuses.get(direction, CHUNK)))

    def _pause(self, count: int) -> float:
        speed = self._speed
        return count / speed if speed else 0.0

    def _count(self, direction: Direction, count: int) -> bool:
        """Count bytes before anybody can have seen them arrive, and say whether they are the last to pass."""
        with self._lock:
            self._passed[direction] += count
            if direction in self._fuses:
                self._fuses[direction] -= count
            return self._fuses.get(direction, 1) <= 0


class _Door:
    """The listening socket and the thread that opens to whoever knocks."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._closing = threading.Event()
        self._listener = socket.create_server((HOST, relay.port))
        self._listener.setblocking(False)
        self._thread = threading.Thread(target=self._open, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._listener.close()

    def _open(self) -> None:
        while not self._closing.is_set():
            if _waiting(self._listener):
                # Whoever knocked may have gone.
                with suppress(OSError):
                    self._relay._enter(self._listener.accept()[0])


class _Link(threading.Thread):
    """One connection: this thread takes bytes down, another one up; both sockets are closed here."""

    def __init__(self, relay: Relay, client: socket.socket) -> None:
        super().__init__(daemon=True)
        self.broken = threading.Event()
        self._relay = relay
        self._client = client

    def run(self) -> None:
        with self._client as client:
            try:
                with self._relay._dial() as server:
                    self._join_up(client, server)
            except OSError:
                self._reset(client)
        self._relay._leave(self)

    def _join_up(self, client: socket.socket, server: socket.socket) -> None:
        for side in (client, server):
            side.setblocking(False)
        up = threading.Thread(target=self._pump, args=(client, server, "up"), daemon=True)
        up.start()
        self._pump(server, client, "down")
        up.join()
        if self.broken.is_set():
            self._reset(client, server)

    def _pump(self, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        try:
            while not self.broken.is_set():
                if self._ready(source) and not self._pass(source, sink, direction):
                    sink.shutdown(socket.SHUT_WR)
                    return
        except OSError:
            # One side is gone without a word, so the other side hears none either.
            self.broken.set()

    def _ready(self, source: socket.socket) -> bool:
        """Wait for bytes; those that arrive after a silence have been on the way for the latency."""
        if not self._relay._flowing.wait(TICK):
            return False
        if not _waiting(source, 0):
            if not _waiting(source):
                return False
            self.broken.wait(self._relay._latency)
        return self._relay._flowing.is_set() and not self.broken.is_set()

    def _pass(self, source: socket.socket, sink: socket.socket, direction: Direction) -> int:
        chunk = source.recv(self._relay._allowance(direction))
        last = self._relay._count(direction, len(chunk))
        left = memoryview(chunk)
        while left and not self.broken.is_set():
            if select.select([], [sink], [], TICK)[1]:
                left = left[sink.send(left) :]
        if last:
            self._relay._break()
        self.broken.wait(self._relay._pause(len(chunk)))
        return len(chunk)

    def _reset(self, *sides: socket.socket) -> None:
        for side in sides:
            with suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def _waiting(source: socket.socket, seconds: float = TICK) -> bool:
    return bool(select.select([source], [], [], seconds)[0])


def main() -> None:
    """Obey until the end of the input."""
    port, server = json.loads(sys.argv[1])
    relay = Relay(port, tuple(server) if isinstance(server, list) else server)
    print("ready", flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(relay, name)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
