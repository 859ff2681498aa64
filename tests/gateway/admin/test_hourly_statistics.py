"""Hourly statistics and the overview of the dashboard."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice import CircuitBreaker, CircuitBreakerConfig, CircuitState, Tone
from steadyvoice.audio.word_tones import words_in
from steadyvoice.gateway.admin.overview import MAX_DOTS, window_dots
from steadyvoice.gateway.observability.hourly_statistics import STEP_SECONDS, STEPS_KEPT, HourlyStatistics
from steadyvoice.gateway.observability.recent_calls import CallError, RecentCall
from steadyvoice.service.result import Attempt
from steadyvoice.simulator import Fault
from steadyvoice.simulator.fault_injection import actions

from ..event_reader import reading_events
from ..running_gateway import ELEVENLABS, elevenlabs_body, running_gateway

NOON = 1_800_000_000.0


class Wall:
    """A time of day, set by hand."""

    now = NOON

    def __call__(self) -> float:
        return self.now


def call(outcome: Any = "spoken", *attempts: tuple[str, str | None], first_audio: float | None = 0.1) -> RecentCall:
    """Finished call; of each attempt, provider and kind of failure."""
    now = datetime.now(UTC)
    asked = [
        (Attempt(name, 0, 5, now, first_audio=None if wrong else 0.1, refused=wrong == "circuit_open"), wrong)
        for name, wrong in attempts
    ]
    return RecentCall(
        number=1, at=datetime.now(UTC), request_id="r", api="openai", outcome=outcome, provider=None, voice=None,
        model=None, format="mp3", characters=5, bytes_sent=9, seconds=0.2, first_audio=first_audio, audio_seconds=1.0,
        attempts=[(attempt, CallError(wrong, "told") if wrong else None) for attempt, wrong in asked],
        spans=[], left_out=0, error=None, text=None,
    )  # fmt: skip


def test_outcomes_are_counted_by_step_and_returned_from_a_given_step() -> None:
    hour = HourlyStatistics(wall_clock := Wall())
    first = int(NOON // STEP_SECONDS)
    hour.add_call(call("spoken"))
    wall_clock.now += STEP_SECONDS
    hour.add_call(call("muted"))
    hour.add_call(call("spoken"))
    assert hour.outcomes() == [[first, {"spoken": 1}], [first + 1, {"muted": 1, "spoken": 1}]]
    assert hour.outcomes(first + 1) == [[first + 1, {"muted": 1, "spoken": 1}]]


def test_attempts_are_counted_as_success_failure_neutral_or_refused() -> None:
    hour = HourlyStatistics(Wall())
    hour.add_call(call("substituted", ("a", "server_error"), ("b", "invalid_key"), ("c", "circuit_open"), ("d", None)))
    step = int(NOON // STEP_SECONDS)
    assert [hour.attempts(name) for name in "abcd"] == [
        [[step, 0, 1, 0, 0]],
        [[step, 0, 0, 1, 0]],
        [[step, 0, 0, 0, 1]],
        [[step, 1, 0, 0, 0]],
    ]
    assert hour.provider_rates("c")["rate"] == 0, "who was refused was not asked"
    assert hour.provider_rates("a")["rate"] == pytest.approx(1 / STEP_SECONDS)


def test_steps_older_than_an_hour_or_in_the_future_are_removed() -> None:
    hour = HourlyStatistics(wall_clock := Wall())
    hour.add_call(call("failed", ("a", None)))
    hour.add_transition("a", CircuitState.CLOSED, CircuitState.OPEN)
    wall_clock.now += STEPS_KEPT * STEP_SECONDS
    hour.add_call(call())
    assert [outcomes for _, outcomes in hour.outcomes()] == [{"spoken": 1}]
    assert hour.states("a") == []
    assert hour.provider_rates("a")["first_audio"] is None
    wall_clock.now = NOON
    hour.add_call(call("muted"))
    assert [outcomes for _, outcomes in hour.outcomes()] == [{"muted": 1}]


def test_step_has_its_most_severe_and_its_last_state() -> None:
    hour = HourlyStatistics(Wall())
    hour.add_transition("a", CircuitState.CLOSED, CircuitState.OPEN)
    hour.add_transition("a", CircuitState.OPEN, CircuitState.HALF_OPEN)
    hour.add_transition("a", CircuitState.HALF_OPEN, CircuitState.CLOSED)
    assert hour.states("a") == [[int(NOON // STEP_SECONDS), "open", "closed"]]


def test_failed_probe_does_not_begin_another_outage() -> None:
    hour = HourlyStatistics(wall_clock := Wall())
    hour.add_transition("a", CircuitState.CLOSED, CircuitState.OPEN, "ten failed")
    wall_clock.now += 60
    hour.add_transition("a", CircuitState.OPEN, CircuitState.HALF_OPEN, "the cooldown is over")
    hour.add_transition("a", CircuitState.HALF_OPEN, CircuitState.OPEN, "a probe failed")
    outage = hour.outage("a")
    assert outage is not None
    assert (outage.since, outage.reason) == (NOON, "ten failed")
    hour.add_transition("a", CircuitState.OPEN, CircuitState.CLOSED, "reset")
    assert hour.outage("a") is None


def test_current_statistics_cover_this_step_and_the_one_before() -> None:
    hour = HourlyStatistics(wall_clock := Wall())
    hour.add_call(call("failed", first_audio=None))
    wall_clock.now += 2 * STEP_SECONDS + 5
    for soon in (0.1, 0.2, 0.9):
        hour.add_call(call("spoken", first_audio=soon))
    lately = hour.current()
    assert (lately["calls"], lately["outcomes"], lately["seconds"]) == (3, {"spoken": 3}, STEP_SECONDS + 5)
    assert lately["first_audio"] == {"p50": 0.2, "p95": 0.9, "p99": 0.9}


@given(results=st.lists(st.booleans(), max_size=80))
def test_window_of_calls_has_a_dot_for_each_call_in_order(results: list[bool]) -> None:
    config = CircuitBreakerConfig(window_size=MAX_DOTS, minimum_calls=MAX_DOTS, consecutive_failures=1000)
    circuit = CircuitBreaker("any", config)
    circuit.monitor("only watched")
    for well in results:
        permit = circuit.acquire()
        permit.success() if well else permit.failure(OSError("no"))
    shown = window_dots(circuit.export()["window"], None)
    assert [not failures for _, failures in shown] == results[-MAX_DOTS:]


def test_window_of_seconds_has_dots_for_its_parts_newest_last() -> None:
    shown = window_dots([[4, 1, 0.5, 0, 29.9], [2, 0, 0.0, 0, 0.0]], 30.0)
    assert len(shown) == 30
    assert (shown[0], shown[-1], shown[1]) == ((4, 0.5), (2, 0.0), (0, 0.0))


async def test_overview_has_the_outage_with_reason_and_remaining_time() -> None:
    async with running_gateway() as gateway:
        gateway.sim.faults.set(Fault(actions.Refuse(status=503), endpoint="text-to-speech*"))
        for _ in range(4):
            await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        overview = await (await gateway.fetch("GET", "/admin/overview")).json()
        provider = overview["providers"]["elevenlabs"]
        assert provider["state"]["circuit_state"] == "open"
        assert provider["circuit"]["changes_in"] == pytest.approx(30, abs=5)
        assert "failed" in provider["outage"]["reason"]
        assert provider["circuit"]["dots"] == [[1, 1.0]] * 2
        assert overview["current"]["outcomes"] == {"substituted": 4}
        assert overview["current"]["providers"] == {"openai": 4}
        assert overview["edition"] == gateway.context.event_log.edition
        later = await (await gateway.fetch("GET", f"/admin/overview?since={overview['outcomes'][-1][0] + 1}")).json()
        assert later["outcomes"] == []
        assert later["providers"]["elevenlabs"]["states"] == []


async def test_overview_is_cached_until_a_circuit_changes() -> None:
    async with running_gateway(Tone()) as gateway:

        async def look() -> bytes:
            return await (await gateway.fetch("GET", "/admin/overview")).read()

        gateway.context.clock = lambda: 100.0
        first = await look()
        await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        assert await look() == first
        gateway.service.circuits["tone"].force_open("now")
        moved = await look()
        assert b"forced_open" in moved
        await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        gateway.context.clock = lambda: 101.0
        assert await look() != moved


async def test_dry_run_returns_changes_without_applying_them() -> None:
    path = "/admin/circuits/tone"
    async with running_gateway(Tone()) as gateway, reading_events(gateway) as reader:
        before = gateway.service.circuits["tone"].config
        change = await (await gateway.fetch("PATCH", f"{path}?dry_run=yes", json={"failure_threshold": 0.9})).json()
        assert (change["changed"], change["before"]["failure_threshold"]) == (["failure_threshold"], 0.5)
        assert change["after"]["failure_threshold"] == 0.9
        assert gateway.service.circuits["tone"].config == before
        assert (await gateway.fetch("PATCH", f"{path}?dry_run=yes", json={"failure_threshold": 9})).status == 422
        assert (await gateway.fetch("PATCH", f"{path}?dry_run=perhaps", json={})).status == 422
        gateway.service.circuits["tone"].force_open("the end")
        assert (await reader.next()).kind == "transition", "nothing was written down before"


async def test_test_synthesis_is_a_call_like_any_other() -> None:
    async with running_gateway(server={"api_keys": ["k"], "admin_token": "t"}) as gateway:
        order = {"text": "Is anybody there?", "format": "pcm_16000"}
        bearer = {"authorization": "Bearer t"}
        assert (
            await gateway.fetch("POST", "/admin/say", json=order, headers={"authorization": "Bearer k"})
        ).status == 401
        answer = await gateway.fetch("POST", "/admin/say", json=order, headers=bearer)
        assert words_in(await answer.read(), "pcm_16000") == ["Is", "anybody", "there?"]
        assert answer.headers["x-steadyvoice-outcome"] == "spoken"
        calls = await (await gateway.fetch("GET", "/admin/calls", headers=bearer)).json()
        assert [(each["api"], each["outcome"]) for each in calls["calls"]] == [("say", "spoken")]


@pytest.mark.parametrize(
    ("order", "status", "field"),
    [
        ({"text": "  "}, 422, "text"),
        ({"voice": "default"}, 422, "text"),
        ({"text": "x", "loud": True}, 422, "loud"),
        ({"text": "x", "format": "mp4"}, 400, None),
    ],
)
async def test_invalid_test_synthesis_is_refused_in_the_gateways_format(
    order: Any, status: int, field: str | None
) -> None:
    async with running_gateway(Tone()) as gateway:
        answer = await gateway.fetch("POST", "/admin/say", json=order)
        error = (await answer.json())["error"]
        assert (answer.status, error["field"]) == (status, field), error
