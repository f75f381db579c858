"""The processes of private servers: found by the folder they work in, not by what their files say."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pgpull.embedded.programs import installed


def is_running(folder: Path) -> bool:
    """Say whether the server of a folder is running.

    Args:
        folder: where the server lives, or might live one day.

    Returns:
        Whether its process exists; it may still be replaying its WAL.
    """
    data = folder.expanduser().absolute() / "data"
    lines = pid_file(data)
    return bool(lines) and _works_in(int(lines[0]), data)


def pid_file(data: Path) -> list[str]:
    """Read postmaster.pid, whose first line is the process id and whose fifth is the socket's folder."""
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []


def forget_reused_pid(data: Path, socket_lock: Path) -> None:
    """Remove what a killed server left behind, where its process id is by now that of somebody else.

    PostgreSQL recovers by itself where that id is of no process at all, but takes any process of the same
    account for a running server; ids start anew with each boot and each container, so this does happen.
    """
    import psutil

    lines = pid_file(data)
    if lines and psutil.pid_exists(int(lines[0])):
        (data / "postmaster.pid").unlink()
        socket_lock.unlink(missing_ok=True)


def end_orphans(data: Path) -> None:
    """End the servers whose data folder was deleted under them, before another is made in its place.

    Such a server notices within a minute, and on its way out it deletes the socket, by name: its successor's.
    """
    import psutil

    for process in psutil.process_iter(["name", "cwd"]):
        if process.info["name"] == "postgres" and process.info["cwd"] == str(data.resolve()):
            with suppress(psutil.Error):
                process.kill()
                process.wait(10)


def _works_in(pid: int, folder: Path) -> bool:
    """Say whether a process has this working folder, as a postmaster has its data folder."""
    installed()  # psutil comes with the wheel
    import psutil

    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).samefile(folder)
    except (psutil.Error, OSError):
        return False
