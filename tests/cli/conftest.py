"""Fixtures: a directory to run the command in, addresses that do not answer, and a simulator process."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .shell import Shell

Simulator = Callable[..., str]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def closed_port() -> Iterator[str]:
    """URL of a bound port without a listener."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """Listener that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        yield listener


@pytest.fixture
def simulator(shell: Shell) -> Iterator[Simulator]:
    """Return a function that starts `steadyvoice sim` with its arguments and returns the URL."""
    processes = []

    def start(*arguments: str) -> str:
        process = shell.start("sim", "--port", "0", *arguments)
        processes.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if b"http://" in line:
                return line.split()[-1].decode()
        raise AssertionError("the simulator ended before it printed its URL")

    yield start
    for process in processes:
        process.terminate()
        process.communicate(timeout=30)
