"""Run a pipeline and print what it took. Run as a program of its own, which imports next to nothing.

The kernel counts into a process's peak memory what its parent held when it was started, so the parent has to
be small: this one holds 10 MB, the benchmark runner would add 60 to every program that it measures.
"""

import json
import os
import subprocess
import sys
import time

# In kilobytes, but on macOS in bytes.
MEMORY_UNIT = 1 if sys.platform == "darwin" else 1024


def measure(commands: list[list[str]]) -> dict[str, object]:
    """Run commands as a pipeline, and wait for them all.

    Args:
        commands: programs with their arguments.

    Returns:
        ``seconds`` of wall time; ``cpu_seconds`` of all processes; ``peak_bytes`` of the largest one;
        ``codes``, their exit codes; and ``output``, what the last one printed.
    """
    started = time.monotonic()
    processes: list[subprocess.Popen[bytes]] = []
    for command in commands:
        stdin = processes[-1].stdout if processes else subprocess.DEVNULL
        processes.append(subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE))
        if len(processes) > 1:
            # The reader alone holds this end now, so that the writer hears of it when the reader ends.
            stdin.close()  # type: ignore[union-attr]
    output = processes[-1].stdout.read()  # type: ignore[union-attr]
    ends = [os.wait4(process.pid, 0) for process in processes]
    return {
        "seconds": time.monotonic() - started,
        "cpu_seconds": sum(usage.ru_utime + usage.ru_stime for _, _, usage in ends),
        "peak_bytes": max(usage.ru_maxrss for _, _, usage in ends) * MEMORY_UNIT,
        "codes": [os.waitstatus_to_exitcode(status) for _, status, _ in ends],
        "output": output.decode(errors="replace"),
    }


if __name__ == "__main__":
    json.dump(measure(json.load(sys.stdin)), sys.stdout)
