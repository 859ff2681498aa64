"""Real Redis servers for tests: started on a free port, without persistence, and killed afterwards."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry


class RedisServer:
    """Running server; `arguments` are those of its command line."""

    def __init__(self, folder: Path, *arguments: str, program: str = "redis-server") -> None:
        self.port = free_port()
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._command += ["--save", "", "--appendonly", "no", *arguments]
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        with Redis(port=self.port, retry=Retry(NoBackoff(), 0)) as client:
            while time.monotonic() < deadline:
                try:
                    client.ping()
                except RedisError as error:
                    if "auth" in str(error).lower():
                        return
                    time.sleep(0.01)
                else:
                    return
        raise TimeoutError("redis-server did not start")

    def stop(self) -> None:
        """Freeze it, as SIGSTOP does."""
        self.process.send_signal(signal.SIGSTOP)

    def proceed(self) -> None:
        """Let a frozen server proceed."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it with all its data."""
        self.process.kill()
        self.process.wait()


@contextmanager
def redis_server(folder: Path, *arguments: str) -> Iterator[RedisServer]:
    """Run a server while the block lasts."""
    server = RedisServer(folder, *arguments)
    try:
        yield server
    finally:
        server.kill()


def free_port() -> int:
    """Return a port that is free at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
