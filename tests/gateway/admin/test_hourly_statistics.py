"""What the dashboard is told: how everything stands, the last hour in steps, and the window of a circuit as dots."""

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
    """A call that is over; of each attempt, who was asked and what went wrong."""
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


def test_what_callers_heard_is_counted_step_by_step_and_told_from_where_one_asks() -> None:
    hour = HourlyStatistics(wall_clock := Wall())
    first = int(NOON // STEP_SECONDS)
    hour.add_call(call("spoken"))
    wall_clock.now += STEP_SECONDS
    hour.add_call(call("muted"))
    hour.add_call(call("spoken"))
    assert hour.outcomes() == [[first, {"spoken": 1}], [first + 1, {"muted": 1, "spoken": 1}]]
    assert hour.outcomes(first + 1) == [[first + 1, {"muted": 1, "spoken": 1}]]


def test_an_attempt_spoke_failed_was_nobodys_fault_or_was_never_made() -> None:
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


def test_after_an_hour_everything_is_forgotten_and_a_clock_set_back_forgets_the_future() -> None:
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


def test_a_step_shows_the_worst_of_its_states_and_how_it_ended() -> None:
    hour = HourlyStatistics(Wall())
    hour.add_transition("a", CircuitState.CLOSED, CircuitState.OPEN)
    hour.add_transition("a", CircuitState.OPEN, CircuitState.HALF_OPEN)
    hour.add_transition("a", CircuitState.HALF_OPEN, CircuitState.CLOSED)
    assert hour.states("a") == [[int(NOON // STEP_SECONDS), "open", "closed"]]


def test_a_probe_that_fails_does_not_begin_another_outage() -> None:
    hour = HourlyStatistics(wall_clock := Wall())
    hour.add_transition("a", CircuitState.CLOSED, CircuitState.OPEN, "ten failed")
    wall_clock.now += 60
    hour.add_transition("a", CircuitState.OPEN, CircuitState.HALF_OPEN, "the cooldown is over")
    hour.add_transition("a", CircuitState.HALF_OPEN, CircuitState.OPEN, "a probe failed")
    outage = hour.outage("a")
    assert outage is not None
    assert (outage.since, outage.because) == (NOON, "ten failed")
    hour.add_transition("a", CircuitState.OPEN, CircuitState.CLOSED, "reset")
    assert hour.outage("a") is None


def test_what_callers_hear_now_is_of_this_step_and_the_one_before() -> None:
    hour = HourlyStatistics(wall_clock := Wall())
    hour.add_call(call("failed", first_audio=None))
    wall_clock.now += 2 * STEP_SECONDS + 5
    for soon in (0.1, 0.2, 0.9):
        hour.add_call(call("spoken", first_audio=soon))
    lately = hour.current()
    assert (lately["calls"], lately["outcomes"], lately["seconds"]) == (3, {"spoken": 3}, STEP_SECONDS + 5)
    assert lately["first_audio"] == {"p50": 0.2, "p95": 0.9, "p99": 0.9}


@given(results=st.lists(st.booleans(), max_size=80))
def test_a_window_of_calls_has_a_dot_for_each_in_their_order(results: list[bool]) -> None:
    config = CircuitBreakerConfig(window_size=MAX_DOTS, minimum_calls=MAX_DOTS, consecutive_failures=1000)
    circuit = CircuitBreaker("any", config)
    circuit.monitor("only watched")
    for well in results:
        permit = circuit.acquire()
        permit.success() if well else permit.failure(OSError("no"))
    shown = window_dots(circuit.export()["window"], None)
    assert [not failures for _, failures in shown] == results[-MAX_DOTS:]


def test_a_window_of_seconds_has_dots_for_its_parts_the_newest_last() -> None:
    shown = window_dots([[4, 1, 0.5, 0, 29.9], [2, 0, 0.0, 0, 0.0]], 30.0)
    assert len(shown) == 30
    assert (shown[0], shown[-1], shown[1]) == ((4, 0.5), (2, 0.0), (0, 0.0))


async def test_the_board_tells_who_is_down_why_and_until_when() -> None:
    async with running_gateway() as at:
        at.sim.faults.set(Fault(actions.Refuse(status=503), endpoint="text-to-speech*"))
        for _ in range(4):
            await at.whole("POST", ELEVENLABS, json=elevenlabs_body())
        told = await (await at.whole("GET", "/admin/overview")).json()
        provider = told["providers"]["elevenlabs"]
        assert provider["state"]["circuit_state"] == "open"
        assert provider["circuit"]["changes_in"] == pytest.approx(30, abs=5)
        assert "failed" in provider["outage"]["because"]
        assert provider["circuit"]["dots"] == [[1, 1.0]] * 2
        assert told["current"]["outcomes"] == {"substituted": 4}
        assert told["current"]["providers"] == {"openai": 4}
        assert told["edition"] == at.gateway.context.event_log.edition
        later = await (await at.whole("GET", f"/admin/overview?since={told['outcomes'][-1][0] + 1}")).json()
        assert later["outcomes"] == []
        assert later["providers"]["elevenlabs"]["states"] == []


async def test_the_board_is_written_down_once_for_all_who_look_until_a_circuit_moves() -> None:
    async with running_gateway(Tone()) as at:

        async def look() -> bytes:
            return await (await at.whole("GET", "/admin/overview")).read()

        at.gateway.context.clock = lambda: 100.0
        first = await look()
        await at.whole("POST", ELEVENLABS, json=elevenlabs_body())
        assert await look() == first
        at.service.circuits["tone"].force_open("now")
        moved = await look()
        assert b"forced_open" in moved
        await at.whole("POST", ELEVENLABS, json=elevenlabs_body())
        at.gateway.context.clock = lambda: 101.0
        assert await look() != moved


async def test_a_change_of_settings_can_be_looked_at_before_it_is_made() -> None:
    path = "/admin/circuits/tone"
    async with running_gateway(Tone()) as at, reading_events(at) as reader:
        before = at.service.circuits["tone"].config
        told = await (await at.whole("PATCH", f"{path}?dry_run=yes", json={"failure_threshold": 0.9})).json()
        assert (told["changed"], told["before"]["failure_threshold"]) == (["failure_threshold"], 0.5)
        assert told["after"]["failure_threshold"] == 0.9
        assert at.service.circuits["tone"].config == before
        assert (await at.whole("PATCH", f"{path}?dry_run=yes", json={"failure_threshold": 9})).status == 422
        assert (await at.whole("PATCH", f"{path}?dry_run=perhaps", json={})).status == 422
        at.service.circuits["tone"].force_open("the end")
        assert (await reader.next()).kind == "transition", "nothing was written down before"


async def test_whoever_is_on_call_hears_what_callers_hear_and_it_is_a_call_like_any_other() -> None:
    async with running_gateway(server={"api_keys": ["k"], "admin_token": "t"}) as at:
        order = {"text": "Is anybody there?", "format": "pcm_16000"}
        bearer = {"authorization": "Bearer t"}
        assert (await at.whole("POST", "/admin/say", json=order, headers={"authorization": "Bearer k"})).status == 401
        answer = await at.whole("POST", "/admin/say", json=order, headers=bearer)
        assert words_in(await answer.read(), "pcm_16000") == ["Is", "anybody", "there?"]
        assert answer.headers["x-steadyvoice-outcome"] == "spoken"
        calls = await (await at.whole("GET", "/admin/calls", headers=bearer)).json()
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
async def test_an_order_that_makes_no_sense_is_told_in_our_own_words(
    order: Any, status: int, field: str | None
) -> None:
    async with running_gateway(Tone()) as at:
        answer = await at.whole("POST", "/admin/say", json=order)
        error = (await answer.json())["error"]
        assert (answer.status, error["field"]) == (status, field), error
