"""Circuits across a restart: what was open stays open for as long as it would have been."""

from __future__ import annotations

from pathlib import Path

import pytest

from steadyvoice import AsyncTTSService, CircuitBreakerConfig, CircuitState, Tone
from steadyvoice.gateway.run import Gateway
from steadyvoice.gateway.statefile import StateFile
from steadyvoice.service.settings import Server

CIRCUIT = CircuitBreakerConfig(cooldown_period=60, window_size=4, minimum_calls=2)


def service() -> AsyncTTSService:
    return AsyncTTSService([Tone()], circuit=CIRCUIT)


def opened(a_service: AsyncTTSService) -> None:
    while a_service.circuits["tone"].state is CircuitState.CLOSED:
        a_service.circuits["tone"].acquire().failure()


def test_a_cooldown_goes_on_while_nobody_runs(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    before = service()
    StateFile(file, before, wall=lambda: 1000.0).open()
    opened(before)  # and the process is killed
    for passed, state, left in (
        (20.0, CircuitState.OPEN, 40.0),
        (70.0, CircuitState.OPEN, 0.0),
        (-5.0, CircuitState.OPEN, 60.0),
    ):
        after = service()
        StateFile(file, after, wall=lambda passed=passed: 1000.0 + passed).open()  # type: ignore[misc]
        snapshot = after.circuits["tone"].snapshot()
        assert snapshot.state is state
        assert snapshot.retry_after == pytest.approx(left, abs=0.5)


async def test_a_gateway_takes_it_up_and_leaves_it_behind(tmp_path: Path) -> None:
    server = Server(port=0, state_file=str(tmp_path / "state.json"))
    async with service() as first, Gateway(first, server):
        first.circuits["tone"].force_open("for maintenance")
    async with service() as second, Gateway(second, server) as gateway:
        assert second.circuits["tone"].state is CircuitState.FORCED_OPEN
        second.circuits["tone"].close("done")
        assert gateway.house.leaving
    async with service() as third, Gateway(third, server):
        assert third.circuits["tone"].state is CircuitState.CLOSED


@pytest.mark.parametrize(
    "content",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '{"saved_at": null, "circuits": {}}',
        '{"saved_at": 1, "circuits": {"tone": {"version": 99}}}',
    ],
)
def test_a_file_that_makes_no_sense_is_told_and_passed_over(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "state.json"
    file.write_text(content)
    after = service()
    StateFile(file, after).open()
    assert after.circuits["tone"].state is CircuitState.CLOSED
    assert str(file) in caplog.text


def test_a_folder_that_is_not_there_is_told_and_the_voice_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = service()
    file = StateFile(tmp_path / "nowhere" / "state.json", before)
    file.open()
    assert caplog.text == "", "it is the first time"
    opened(before)
    assert "not written" in caplog.text
    assert before.circuits["tone"].state is CircuitState.OPEN
