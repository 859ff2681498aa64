"""Processes on one processor each, and their CPU time and memory from /proc."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

ahead = False
"""Whether measured processes have priority over all others on their processor."""

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def begin(
    command: Sequence[str], core: int | None, log: Path, *, env: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process on one processor; None: on whichever the system chooses."""
    with log.open("wb") as log_file:
        return subprocess.Popen(
            command,
            stdout=log_file,
            stderr=log_file,
            env={**os.environ, **(env or {})},
            preexec_fn=lambda: _settle(core),
        )


def prioritize(pids: Sequence[int]) -> None:
    """Give priority to these processes if `ahead` is set."""
    for pid in pids if ahead else ():
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(10))


def run(command: Sequence[str], core: int | None, *, env: dict[str, str] | None = None) -> str:
    """Run a process on one processor to its end, and return its output."""
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **(env or {})}, preexec_fn=lambda: _settle(core)
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-500:]}")
    return done.stdout


def cpu(pids: Sequence[int]) -> float:
    """Return the seconds of CPU time that processes have used."""
    return sum(_cpu(pid) for pid in pids)


def memory(pids: Sequence[int]) -> int:
    """Return the resident memory of processes, in bytes."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * PAGE


def family(pid: int) -> list[int]:
    """Return a process and all its descendants, whichever thread started them."""
    # Each thread has a list of the children that it started; a process has none of its own.
    children = [child for task in Path(f"/proc/{pid}/task").iterdir() for child in _children(task)]
    return [pid, *(each for child in children for each in family(int(child)))]


def end(process: subprocess.Popen[bytes], within: float = 10.0) -> None:
    """Terminate a process, and kill it if it does not end."""
    process.terminate()
    try:
        process.wait(within)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def busy() -> float:
    """Return the share of CPU time that all processes use now, measured for half a second."""
    before = _busy()
    time.sleep(0.5)
    after = _busy()
    return (after - before) / 0.5 / (os.cpu_count() or 1)


def _busy() -> float:
    # Idle time and the wait for disks are left out.
    user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + sum(rest)) / TICK


def _children(task: Path) -> list[str]:
    try:
        return (task / "children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
        return []


def _cpu(pid: int) -> float:
    # The name, in parentheses, may contain spaces and parentheses. User and system time are fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def _settle(core: int | None) -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # the process ends with the benchmark, however that ends
    if core is not None:
        os.sched_setaffinity(0, {core})
    # Two thousand streams need twice as many descriptors in a proxy; the usual soft limit is 1,024.
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
