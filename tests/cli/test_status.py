"""`steadyvoice status`: output, JSON and exit status."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from steadyvoice.cli.status import format_duration, needs_attention, render
from tests.conformance.background_simulator import BackgroundSimulator, background_simulator, gateway_with_all_providers


@pytest.fixture(scope="module")
def gateway() -> Iterator[BackgroundSimulator]:
    with background_simulator(gateway_with_all_providers) as background:
        yield background


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "steadyvoice", "status", *arguments]
    env = {"PATH": "/usr/bin:/bin", "COLUMNS": "160", **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, env=env)


def act(gateway: BackgroundSimulator, *steps: str) -> None:
    for step in steps:
        gateway.post(f"/admin/circuits/elevenlabs/{step}")


def test_all_circuits_closed(gateway: BackgroundSimulator) -> None:
    act(gateway, "reset")
    output = run("--url", gateway.url, "--json")
    assert (output.returncode, output.stderr) == (0, "")
    assert json.loads(output.stdout)["providers"]["elevenlabs"]["circuit_state"] == "closed"
    shown = run("--url", gateway.url)
    assert shown.returncode == 0
    assert "● closed" in shown.stdout


def test_open_circuit_is_shown_with_its_reason(gateway: BackgroundSimulator) -> None:
    act(gateway, "open")
    try:
        output = run("--url", gateway.url, "--json")
        assert output.returncode == 1
        assert json.loads(output.stdout)["circuit_state"] == "forced_open"
        shown = run("--url", gateway.url)
        assert shown.returncode == 1
        assert "■ forced open" in shown.stdout
        assert "elevenlabs: " in shown.stdout
    finally:
        act(gateway, "reset")


@pytest.mark.parametrize(
    ("url", "status", "output"),
    [
        ("http://127.0.0.1:9", 4, "cannot reach a gateway at http://127.0.0.1:9"),
        ("nonsense", 2, "--url: must be like"),
        ("http://[", 2, "--url: must be like"),
    ],
)
def test_unreachable_gateway_is_reported(url: str, status: int, output: str) -> None:
    done = run("--url", url, "--json")
    assert (done.returncode, done.stdout) == (status, "")
    assert output in done.stderr


def test_other_server_is_not_taken_for_a_gateway(gateway: BackgroundSimulator) -> None:
    done = run("--url", gateway.simulator.url)
    assert done.returncode == 4
    assert "is not a steadyvoice gateway" in done.stderr


def provider(state: str = "closed", **fields: Any) -> dict[str, Any]:
    about: dict[str, Any] = {
        "circuit_state": state,
        "circuit_opened_at": None if state == "closed" else "2026-11-03T10:20:30.000Z",
        "failure_rate": 0.25,
        "window": {"size": None, "calls": 8, "failures": 2.0},
        "retry_after": None if state == "closed" else 42.0,
        "is_muted": state != "closed",
        "holds": [],
        "concurrency": {"in_use": 3, "limit": 10, "waiting": 2},
        "credit": {"remaining": 12_345.0, "ends_in": 7200.0},
        **fields,
    }
    circuit = {
        "threshold": 0.5,
        "minimum": 5,
        "dots": [(4, 0.0), (0, 0.0), (4, 4.0)],
        "reason": "5 failures in a row",
        "next": "a probe",
    }
    return {"state": about, "circuit": circuit, "rate": 2.5, "first_audio": {"p50": 0.2, "p95": 0.9}}


def shown(*providers: dict[str, Any], is_muted: bool = False, width: int = 160, height: int | None = None) -> str:
    overview = {"is_muted": is_muted, "providers": {f"p{number}": each for number, each in enumerate(providers)}}
    console = Console(file=io.StringIO(), width=width)
    console.print(render(overview, width, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_down_provider_is_shown_with_reason_time_and_next_probe() -> None:
    output = shown(provider("open"), provider())
    assert "Down: p0. Other providers are available." in output
    assert "✖ open, tried in 42 s" in output
    assert "p0: 5 failures in a row, since 10:20:30 UTC; a probe" in output
    assert "p1: " not in output, "where all is well there is nothing to tell"


def test_numbers_are_shown_with_their_limits() -> None:
    output = shown(provider())
    for each in (
        "25%, opens at 50%",
        "3/10 +2",
        "12,345, 2 h left",
        "200 / 900 ms",
        "2.5",
        "All providers are available.",
    ):
        assert each in output
    assert "· █" in output, "the window: a part that went well, one without calls, one that failed"


def test_failure_rate_of_too_few_calls_is_shown_without_the_threshold() -> None:
    output = shown(provider(failure_rate=1.0, window={"size": None, "calls": 1, "failures": 1.0}))
    assert "100% of 1 call " in output
    assert "opens at" not in output


@pytest.mark.parametrize("width", [60, 80, 100, 120, 140])
def test_narrow_terminal_shows_fewer_columns_and_all_providers(width: int) -> None:
    too_few = {"size": None, "calls": 1, "failures": 0.25}
    output = shown(provider("half_open"), provider(), provider("open", window=too_few), width=width)
    assert "…" not in output
    assert all(line == line[:width] for line in output.splitlines())
    for each in ("p0", "p1", "◐ half-open, tried in 42 s", "● closed", "25%, opens at 50%"):
        assert each in output


@pytest.mark.parametrize("height", [8, 12, 24])
def test_low_terminal_shows_reasons_first_and_counts_hidden_providers(height: int) -> None:
    output = shown(provider("open"), *(provider() for _ in range(49)), height=height, width=80).splitlines()
    assert len(output) <= height
    assert output[0].startswith("Down: p0.")
    assert output[1].startswith("p0: 5 failures in a row, since 10:20:30 UTC")
    rows = [line for line in output if "closed" in line or "✖ open" in line]
    assert output[-1] == f"and {50 - len(rows)} more; enlarge the terminal to see them"


def test_muted_is_shown_first() -> None:
    assert shown(provider("open"), is_muted=True).startswith("Muted: no provider is available")


def test_hold_is_shown_with_its_end() -> None:
    hold = {"key": "p0/credential", "kind": "invalid_key", "until": "2026-11-03T10:30:00.000Z", "reason": "HTTP 401"}
    output = shown(provider(holds=[hold], is_muted=True))
    assert "on hold until 10:30:00 UTC: p0/credential: HTTP 401" in output


@pytest.mark.parametrize(
    ("state", "muted", "open_"),
    [
        ("closed", False, False),
        ("open", True, True),
        ("half_open", False, True),
        ("forced_open", True, True),
        ("disabled", False, False),
        ("monitoring", False, False),
        ("closed", True, True),
    ],
)
def test_exit_status_reports_open_circuits(state: str, muted: bool, open_: bool) -> None:
    assert needs_attention({"providers": {"a": {"circuit_state": state, "is_muted": muted}}}) is open_


@pytest.mark.parametrize(
    ("seconds", "output"), [(0.2, "0 s"), (99, "99 s"), (600, "10 min"), (36_000, "10 h"), (864_000, "10 d")]
)
def test_duration_has_a_suitable_unit(seconds: float, output: str) -> None:
    assert format_duration(seconds) == output
