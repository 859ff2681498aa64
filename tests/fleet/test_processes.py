"""Fleets of real processes at real servers: stopped, killed, and failed over."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .redis_server import RedisServer, redis_server

pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]


class Processes:
    """Four processes of one fleet, and the lines that they wrote."""

    def __init__(self, address: str, folder: Path) -> None:
        self.folder = folder
        self._log = folder / "log"
        with self._log.open("wb") as log:
            command = [sys.executable, "-m", "tests.fleet.worker", address]
            self.running = {
                name: subprocess.Popen([*command, name, str(folder)], stdout=log, cwd=ROOT) for name in "abcd"
            }

    def lines(self, ending: str = "") -> list[str]:
        return [line for line in self._log.read_text("utf-8").splitlines() if line.endswith(ending)]

    def changes(self) -> list[str]:
        return [line for line in self.lines() if line.split()[1] in ("open", "half_open", "closed")]

    def end(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


@pytest.fixture
def processes(server: RedisServer, tmp_path: Path) -> Iterator[Processes]:
    started = Processes(server.url, tmp_path)
    try:
        wait_until(lambda: len(started.lines("together 3")) == 4)
        time.sleep(3)  # some calls succeed
        yield started
    finally:
        started.end()


def wait_until(condition: Callable[[], bool], seconds: float = 40.0) -> float:
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() < begin + seconds, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - begin


def test_stopped_process_and_stopped_server_change_nothing(processes: Processes, server: RedisServer) -> None:
    processes.running["a"].send_signal(signal.SIGSTOP)
    wait_until(lambda: len(processes.lines("together 2")) == 3)
    time.sleep(6)
    processes.running["a"].send_signal(signal.SIGCONT)
    wait_until(lambda: len(processes.lines("together 3")) >= 7)
    server.stop()
    wait_until(lambda: len(processes.lines("alone 0")) >= 4 + len(processes.running))  # at first, and again
    server.proceed()
    wait_until(lambda: len(processes.lines("together 3")) >= 11)
    assert processes.changes() == []


def test_killed_owner_of_the_probe_is_followed_by_another(processes: Processes) -> None:
    (processes.folder / "hang").touch()
    (processes.folder / "down").touch()
    wait_until(lambda: len(processes.lines("open adopted") + processes.lines("open unlikely_failures")) == 4)
    assert len(processes.lines("failure")) <= 16  # one process alone needs seven
    wait_until(lambda: bool(processes.lines("probe")))
    time.sleep(3)
    (probe,) = processes.lines("probe")  # one at a time
    owner = processes.running[probe[0]]
    owner.kill()
    owner.wait()
    (processes.folder / "down").unlink()
    (processes.folder / "hang").unlink()
    wait_until(lambda: len(processes.lines("closed probes_succeeded") + processes.lines("closed adopted")) == 3)
