"""`steadyvoice serve`: start, shutdown, and errors at start."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Simulator
from .shell import Shell, stopped

TONE = '[[providers]]\nkind = "tone"\n'
VENDOR = '[[providers]]\nkind = "elevenlabs"\napi_key = "sk"\nbase_url = "{url}"\n[timeouts]\nread_timeout = 60\n'
Started = tuple["subprocess.Popen[bytes]", str]
Gateway = Callable[..., Started]


@pytest.fixture
def gateway(shell: Shell) -> Iterator[Gateway]:
    """Return a function that starts `steadyvoice serve` and returns the process and its URL."""
    processes = []

    def start(config: str, *arguments: str) -> Started:
        shell.write("c.toml", config)
        process = shell.start("serve", "--config", "c.toml", "--port", "0", *arguments)
        processes.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if b"ElevenLabs" in line:
                url = line.split()[-1].decode()
            if b"Ctrl-C" in line:
                return process, url
        raise AssertionError(process.communicate()[1].decode())

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def is_open(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/healthz").close()
    except OSError:
        return False
    return True


def post(url: str, path: str = "/v1/text-to-speech/x/stream?output_format=pcm_16000") -> urllib.request.Request:
    return urllib.request.Request(url + path, b'{"text": "Hello there"}', {"content-type": "application/json"})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_gateway_serves_logs_and_stops_on_a_signal(gateway: Gateway, number: signal.Signals) -> None:
    process, url = gateway(TONE)
    with urllib.request.urlopen(post(url)) as answer:
        assert answer.status == 200
        length = len(answer.read())
    ended = stopped(process, number)
    assert ended.status == 0
    assert b"No responses were cut short" in ended.out
    line = json.loads(ended.err)
    assert (line["status"], line["outcome"], line["bytes"]) == (200, "spoken", length)


def test_shutdown_waits_for_streams_until_a_second_signal(gateway: Gateway, simulator: Simulator) -> None:
    process, url = gateway(VENDOR.format(url=simulator("--profile", "hang")))
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as line:
        body = b'{"text": "Hello"}'
        path = "/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb"
        head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n"
        line.sendall(head.encode() + body)
        with urllib.request.urlopen(f"{url}/readyz") as answer:  # so the first request is in
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert b"Press Ctrl-C again to cut them short" in process.stdout.readline()
        while is_open(url):  # the port closes a moment after readiness fails
            pass
        ended = stopped(process, signal.SIGTERM)
        assert (ended.status, ended.out) == (0, b"Stopped. 1 response was cut short.\n")
        assert line.recv(100).startswith(b"HTTP/1.1 503 ")


def test_readyz_fails_before_the_port_closes(gateway: Gateway) -> None:
    process, url = gateway(f"[server]\nshutdown_delay = 60\n{TONE}")
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{url}/readyz")
    assert refused.value.code == 503
    assert json.load(refused.value)["reasons"] == ["gateway is shutting down"]
    with urllib.request.urlopen(post(url)) as answer:
        assert answer.status == 200, "who has not heard of it is served"
    assert stopped(process, signal.SIGTERM).status == 0


def test_systemd_is_notified(shell: Shell, gateway: Gateway, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        shell.environ["NOTIFY_SOCKET"] = "notify"
        process, _ = gateway(TONE)
        stopped(process, signal.SIGTERM)
        systemd.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.recv(100)  # a path that is none of systemd's
        shell.environ["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        process, _ = gateway(TONE)
        assert systemd.recv(100) == b"READY=1"
        stopped(process, signal.SIGTERM)
        assert systemd.recv(100) == b"STOPPING=1"


def test_port_in_use(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = shell.run("serve", "--port", str(port))
    assert ended.status == 2
    assert f"port {port}: Address already in use; choose another with --port" in ended.err


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        (TONE, ["--host", "0.0.0.0"], "server.api_keys: required to listen on 0.0.0.0"),
        (f'[server]\nhost = "::"\n{TONE}', [], "server.api_keys: required to listen on ::"),
        (
            f'[server]\napi_keys = ["same"]\nadmin_token = "same"\n{TONE}',
            [],
            "server.admin_token: must differ",
        ),
        (
            f'[server]\napi_keys = ["env:UNSET"]\n{TONE}',
            [],
            "server.api_keys.0: the environment variable UNSET is not set",
        ),
        (f'[server]\napi_keys = ["a b"]\n{TONE}', [], "server.api_keys.0: "),
        (f"[server]\nheader_timeout = 0\n{TONE}", [], "server.header_timeout: "),
        (f'[server]\nbase_url = "x"\n{TONE}', [], "server.base_url: unknown key"),
        ("[server]\nport = 1\n", [], "providers: at least one"),
        ("[server", [], "not valid TOML"),
    ],
)
def test_invalid_configuration_is_reported_by_its_key(
    shell: Shell, config: str, arguments: list[str], message: str
) -> None:
    shell.write("c.toml", config)
    ended = shell.run("serve", "--config", "c.toml", *arguments)
    assert (ended.status, ended.out) == (2, b"")
    assert message in ended.err
    assert "same" not in ended.err
    assert ended.err.count("\n") == 1
