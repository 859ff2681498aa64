"""What Linux tells of a process, and which processor it may use."""

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
"""Whether what is measured goes before all else on its processor."""

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def begin(
    command: Sequence[str], core: int, log: Path, *, env: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process on one processor."""
    with log.open("wb") as said:
        return subprocess.Popen(
            command, stdout=said, stderr=said, env={**os.environ, **(env or {})}, preexec_fn=lambda: _settle(core)
        )


def measured(pids: Sequence[int]) -> None:
    """These are what is measured from now on."""
    for pid in pids if ahead else ():
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(10))


def run(command: Sequence[str], core: int, *, env: dict[str, str] | None = None) -> str:
    """Run a process on one processor to its end, and give what it said."""
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **(env or {})}, preexec_fn=lambda: _settle(core)
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-500:]}")
    return done.stdout


def cpu(pids: Sequence[int]) -> float:
    """Seconds of processor time that these have used."""
    return sum(_cpu(pid) for pid in pids)


def memory(pids: Sequence[int]) -> int:
    """Bytes that these hold."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * PAGE


def family(pid: int) -> list[int]:
    """A process and all that come of it, whichever thread started them."""
    children = [child for task in Path(f"/proc/{pid}/task").iterdir() for child in _children(task)]
    return [pid, *(each for child in children for each in family(int(child)))]


def end(process: subprocess.Popen[bytes], within: float = 10.0) -> None:
    """Stop a process of ours."""
    process.terminate()
    try:
        process.wait(within)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def busy() -> float:
    """The share of the processors' time that somebody uses now, of half a second."""
    before = _busy()
    time.sleep(0.5)
    after = _busy()
    return (after - before) / 0.5 / (os.cpu_count() or 1)


def _busy() -> float:
    user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + sum(rest)) / TICK


def _children(task: Path) -> list[str]:
    try:
        return (task / "children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
        return []


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def _settle(core: int) -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # however the benchmark ends, nothing of it stays
    os.sched_setaffinity(0, {core})
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
