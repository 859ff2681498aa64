"""Real Redis servers for tests: one, a cluster, with Sentinels, with TLS, behind a slow network; killed afterwards."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import trustme
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.required_tools import require_tool


class RedisServer:
    """Running server; `arguments` are those of its command line. The test is skipped where it is not installed."""

    def __init__(self, folder: Path, *arguments: str, program: str = "redis-server") -> None:
        require_tool(shutil.which(program) is not None, program)
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
def redis_server(folder: Path, *arguments: str, program: str = "redis-server") -> Iterator[RedisServer]:
    """Run a server while the block lasts."""
    server = RedisServer(folder, *arguments, program=program)
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


@contextmanager
def tls_server(folder: Path) -> Iterator[tuple[RedisServer, Path]]:
    """Run a server whose port speaks TLS; yield it and the certificate of its authority."""
    authority, files = trustme.CA(), [folder / name for name in ("ca.pem", "cert.pem", "key.pem")]
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(files[0]))
    certificate.cert_chain_pems[0].write_to_path(str(files[1]))
    certificate.private_key_pem.write_to_path(str(files[2]))
    names = ("--tls-ca-cert-file", "--tls-cert-file", "--tls-key-file")
    settings = [part for name, file in zip(names, files, strict=True) for part in (name, str(file))]
    tls_port = free_port()
    settings += ["--tls-port", str(tls_port), "--tls-auth-clients", "no"]
    with redis_server(folder, *settings) as server:
        server.port = tls_port
        yield server, files[0]


@contextmanager
def redis_cluster(folder: Path) -> Iterator[list[RedisServer]]:
    """Run a cluster of three primaries."""
    require_tool(shutil.which("redis-cli") is not None, "redis-cli")
    with ExitStack() as stack:
        nodes = []
        for number in range(3):
            (home := folder / str(number)).mkdir()
            settings = (
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "2000",
                "--cluster-port",
                str(free_port()),
            )
            nodes.append(stack.enter_context(redis_server(home, *settings)))
        addresses = [f"127.0.0.1:{node.port}" for node in nodes]
        subprocess.run(
            ["redis-cli", "--cluster", "create", *addresses, "--cluster-yes"], check=True, stdout=subprocess.DEVNULL
        )
        yield nodes


class Sentinels:
    """Primary with one replica, and a Sentinel that watches them as the service "voices"."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        homes = [folder / name for name in ("first", "second", "sentinel")]
        for home in homes:
            home.mkdir()
        self.primary = self._stack.enter_context(redis_server(homes[0]))
        follow = ("--replicaof", "127.0.0.1", str(self.primary.port))
        self.replica = self._stack.enter_context(redis_server(homes[1], *follow))
        port, settings = free_port(), homes[2] / "sentinel.conf"
        settings.write_text(
            f"port {port}\nsentinel monitor voices 127.0.0.1 {self.primary.port} 1\n"
            "sentinel down-after-milliseconds voices 1000\nsentinel failover-timeout voices 5000\n",
            "utf-8",
        )
        command = ["redis-server", str(settings), "--sentinel"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=homes[2])
        self.url = f"redis+sentinel://127.0.0.1:{port}/voices"
        with Redis(port=port, decode_responses=True) as client:
            _wait_until(lambda: bool(_slaves(client)))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._stack.close()


def _slaves(client: Redis) -> list[object]:
    with suppress(RedisError):
        return list(client.sentinel_slaves("voices"))
    return []


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not happen in time")
        time.sleep(0.05)


class DelayingProxy:
    """Proxy before a server that delays whatever it forwards by `delay` seconds, or drops its connections."""

    def __init__(self, port: int) -> None:
        self.delay = 0.0
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def drop(self) -> None:
        """Break all connections."""
        for each in self._sockets.copy():
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.drop()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    continue
                for source, sink in ((client, server), (server, client)):
                    self._sockets.add(source)
                    threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with source, suppress(OSError):
            while data := source.recv(65_536):
                time.sleep(self.delay)
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        self._sockets.discard(source)
