"""`steadyvoice sim`, each time in a process of its own."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import urllib.request
from pathlib import Path

import pytest

from .conftest import Simulator
from .shell import Shell, one_provider, stopped


def test_client_is_served(shell: Shell, simulator: Simulator) -> None:
    url = simulator("--profile", "hang")
    with urllib.request.urlopen(f"{url}/sim/ledger") as answer:
        json.load(answer)
    shell.write("c.toml", one_provider(base_url=url, extra={"timeouts": "first_audio_timeout = 0.2"}))
    ended = shell.run("say", "Hello", "--config", "c.toml", "-o", "a.wav")
    assert ended.status == 3, f"requests hang, as the profile says: {ended.err}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_the_simulator(shell: Shell, number: signal.Signals) -> None:
    process = shell.start("sim", "--port", "0")
    assert process.stdout is not None
    assert process.stdout.readline()
    ended = stopped(process, number)
    assert (ended.status, ended.err) == (0, "")


def test_unknown_profile(shell: Shell) -> None:
    ended = shell.run("sim", "--port", "0", "--profile", "sunshine")
    assert ended.status == 2
    assert "'sunshine'" in ended.err
    assert "outage" in ended.err


def test_invalid_script_is_reported_with_its_line(shell: Shell) -> None:
    shell.write("s.toml", '[[faults]]\nfault = "sulk"\n')
    ended = shell.run("sim", "--port", "0", "--script", "s.toml")
    assert ended.status == 2
    assert "line 2" in ended.err
    assert "Traceback" not in ended.err


def test_missing_script(shell: Shell) -> None:
    ended = shell.run("sim", "--port", "0", "--script", "none.toml")
    assert ended.status == 2
    assert "none.toml" in ended.err


def test_script_and_profile_are_exclusive(shell: Shell) -> None:
    shell.write("s.toml", "")
    ended = shell.run("sim", "--port", "0", "--script", "s.toml", "--profile", "hang")
    assert ended.status == 2
    assert "not both" in ended.err


def test_port_in_use(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = shell.run("sim", "--port", str(port))
    assert ended.status == 2
    assert f"cannot listen on port {port}" in ended.err
    assert "--port" in ended.err


def test_client_can_trust_the_ca_file(shell: Shell) -> None:
    process = shell.start("sim", "--port", "0", "--tls")
    assert process.stdout is not None
    printed: dict[str, str] = {}
    for line in process.stdout:
        if found := re.match(r"  (\w[\w ]*?)  +(\S+)", line.decode()):
            printed[found[1]] = found[2]
        if "CA file" in printed:
            break
    trusted = ssl.create_default_context(cafile=printed["CA file"])
    with urllib.request.urlopen(printed["ledger"], context=trusted) as answer:
        assert json.load(answer)["requests"] == []
    assert printed["ledger"].startswith("https://")
    assert stopped(process, signal.SIGINT).status == 0
    assert not Path(printed["CA file"]).exists()
