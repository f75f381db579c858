"""A line that takes its time: what goes in at one end comes out at the other so many seconds later.

Run as a program of its own, which prints the port that it listens at, and ends with its stdin. It holds nothing
back but the time: as much may be under way as a long line's window lets.
"""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit, urlunsplit

CHUNK = 1 << 18
UNDER_WAY = 256
"""Chunks under way at most, in either direction: 64 MB."""


def main(server: str, seconds: float) -> None:
    """Listen, and pass on what comes to a server's socket, and what it answers, until stdin ends.

    Args:
        server: the path of its socket.
        seconds: that each byte is under way, in either direction.
    """
    door = socket.create_server(("127.0.0.1", 0))
    print(door.getsockname()[1], flush=True)
    threading.Thread(target=_welcome, args=(door, server, seconds), daemon=True).start()
    sys.stdin.read()


def _welcome(door: socket.socket, server: str, seconds: float) -> None:
    while True:
        client, _ = door.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        there = socket.socket(socket.AF_UNIX)
        there.connect(server)
        for one, other in ((client, there), (there, client)):
            under_way: queue.Queue[tuple[float, bytes]] = queue.Queue(UNDER_WAY)
            threading.Thread(target=_take_in, args=(one, under_way, seconds), daemon=True).start()
            threading.Thread(target=_give_out, args=(other, under_way), daemon=True).start()


def _take_in(end: socket.socket, under_way: queue.Queue[tuple[float, bytes]], seconds: float) -> None:
    data = b"?"
    while data:
        try:
            data = end.recv(CHUNK)
        except OSError:
            data = b""
        under_way.put((time.monotonic() + seconds, data))


def _give_out(end: socket.socket, under_way: queue.Queue[tuple[float, bytes]]) -> None:
    with suppress(OSError):
        while True:
            due, data = under_way.get()
            time.sleep(max(0.0, due - time.monotonic()))
            if not data:
                break
            end.sendall(data)
        end.shutdown(socket.SHUT_WR)


@dataclass(frozen=True)
class Line:
    """A line to a server."""

    url: str
    """The server's, for a client at the near end."""


@contextmanager
def line_to(url: str, seconds: float) -> Iterator[Line]:
    """Lay a line to a server that listens at a socket.

    Args:
        url: the server's, with the folder of its socket.
        seconds: there and back.
    """
    parts = urlsplit(url)
    words = parse_qs(parts.query)
    socket_path = f"{words['host'][0]}/.s.PGSQL.{words.get('port', ['5432'])[0]}"
    command = [sys.executable, __file__, socket_path, str(seconds / 2)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        port = process.stdout.readline().strip()
        user, sign, _ = parts.netloc.partition("@")
        yield Line(
            urlunsplit((parts.scheme, f"{user if sign else 'postgres'}@127.0.0.1:{port}", parts.path, "", ""))
        )
    finally:
        process.stdin.close()
        process.wait()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
