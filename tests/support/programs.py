"""Programs of ours, run as a user does: each is a process, with its own arguments, settings and streams.

To read the libraries takes most of them longer than all that they do. So one process reads them once, and each
program is forked off that one; what it sees of the world is what a program sees that was started anew.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any, Final

Done = subprocess.CompletedProcess[str]

_SECONDS: Final = 100.0
_LIBRARIES: Final = ("pgpull.cli", "pgpull.recipe_file", "sqlalchemy.dialects.postgresql.psycopg")
_NUMBER: Final = struct.Struct("!i")


def run(
    command: Sequence[str], env: Mapping[str, str], *, stdout: int | None = None, stderr: int | None = None
) -> Done:
    """Run a program of Python's in the working directory, with nothing on its stdin.

    Args:
        command: the interpreter, then ``-m MODULE`` or a file, then the program's arguments.
        env: all of its environment.
        stdout: the number of the file that it has as stdout; else what it prints is returned.
        stderr: the same of stderr.
    """
    if any(name.startswith("PYTHON") and value != os.environ.get(name) for name, value in env.items()):
        # the interpreter itself reads these when it starts
        return subprocess.run(
            command, env=env, stdout=stdout or -1, stderr=stderr or -1, text=True, check=False, timeout=_SECONDS
        )
    with ExitStack() as stack:
        printed, said = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        nothing = stack.enter_context(Path(os.devnull).open("rb"))
        streams = [nothing.fileno(), stdout or printed.fileno(), stderr or said.fileno()]
        code = _started({"words": command[1:], "env": dict(env), "folder": str(Path.cwd())}, streams)
        return Done(command, code, _text(printed), _text(said))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n")


# --- on this side ----------------------------------------------------------------------------------------


class _Starter:
    """The process that the others are forked off, and the line to it."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._line.settimeout(_SECONDS)

    def start(self, asked: Mapping[str, Any], streams: Sequence[int]) -> int:
        """Start a program, wait until it ends, and return its exit code."""
        words = json.dumps(asked).encode()
        socket.send_fds(self._line, [_NUMBER.pack(len(words))], streams)
        self._line.sendall(words)
        return int(_NUMBER.unpack(_exactly(self._line, _NUMBER.size))[0])

    def end(self) -> None:
        """End it, and the program that may still run."""
        self._line.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


_starters: list[_Starter] = []


def _started(asked: Mapping[str, Any], streams: Sequence[int]) -> int:
    if not _starters:
        _starters.append(_Starter())
    try:
        return _starters[0].start(asked, streams)
    except BaseException:  # nobody knows any more what is on the line
        _end()
        raise


@atexit.register
def _end() -> None:
    while _starters:
        _starters.pop().end()


# --- on the other side -----------------------------------------------------------------------------------


def _serve(line: socket.socket) -> None:
    for name in _LIBRARIES:
        importlib.import_module(name)
    gc.freeze()
    while True:
        head, streams, *_ = socket.recv_fds(line, _NUMBER.size, 3)
        if not head:
            return
        asked = json.loads(_exactly(line, *_NUMBER.unpack(head)))
        child = os.fork()
        if child == 0:
            line.close()
            _become(asked, streams)
            return
        for stream in streams:
            os.close(stream)
        line.sendall(_NUMBER.pack(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))


def _exactly(line: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        more = line.recv(size - len(got))
        if not more:
            raise EOFError("the process that programs are forked off is gone")
        got += more
    return got


def _become(asked: Mapping[str, Any], streams: Sequence[int]) -> None:
    """Be the program from here on; its end is the end of this process."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["env"])
    first, *words = asked["words"]
    if first == "-m":
        sys.path.insert(0, asked["folder"])
        sys.argv = words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(first).parent))
        sys.argv = [first, *words]
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    del sys.path[0]  # this file's own folder
    _serve(socket.socket(fileno=int(sys.argv[1])))
