"""Admission control: utterances at once, the queue, and refusals before anything is spent."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice import (
    AsyncTTSService,
    CacheConfig,
    TimeoutConfig,
    TTSConfigurationError,
    TTSOverloadedError,
    TTSService,
)
from steadyvoice.service.resilience.admission_control import MAX_LAG, AdmissionControl, AdmissionLimits
from steadyvoice.service.resilience.event_loop_lag import LoopLag
from steadyvoice.speech.failure_kinds import Billed, Blame

from ..conftest import MakeService, loop_clock
from ..scripted_provider import Hang, Say, ScriptedProvider, read_chunks
from ..skipping_clock import SkippingClock

pytestmark = pytest.mark.looptime

SLOW = Say(first_after=1.0)


async def outcome_of(tts: AsyncTTSService, text: str = "Good morning", **options: Any) -> str:
    """Speak, and tell how that ended."""
    try:
        return (await tts.synthesize(text, format="pcm_8000", **options)).outcome
    except TTSOverloadedError as error:
        return str(error.code)


def overload(tts: AsyncTTSService) -> dict[str, Any]:
    state: dict[str, Any] = tts.get_error_state()["overload"]
    return state


# ---------------------------------------------------------------- limits and the queue


async def test_active_utterances_do_not_exceed_the_limit(make_service: MakeService) -> None:
    vendor = ScriptedProvider([SLOW])
    tts = make_service(vendor, max_active=3)
    callers = [asyncio.create_task(outcome_of(tts, f"Number {number}")) for number in range(9)]
    await asyncio.sleep(0.5)
    assert (overload(tts)["active"], overload(tts)["queued"]) == (3, 6)
    assert overload(tts)["overloaded"]
    assert set(await asyncio.gather(*callers)) == {"spoken"}
    assert [request.text for request in vendor.requests] == [f"Number {number}" for number in range(9)], "in order"
    assert (overload(tts)["active"], overload(tts)["queued"]) == (0, 0)


async def test_full_queue_refuses_at_once_without_a_request(make_service: MakeService) -> None:
    vendor = ScriptedProvider([SLOW])
    tts = make_service(vendor, max_active=1, max_queued=1)
    callers = [asyncio.create_task(outcome_of(tts)) for _ in range(2)]
    await asyncio.sleep(0.5)
    before = loop_clock()
    with pytest.raises(TTSOverloadedError) as refused:
        await tts.synthesize("Good morning", format="pcm_8000")
    assert loop_clock() == before
    error = refused.value
    assert error.retry_after is not None
    assert 1 <= error.retry_after <= 60
    assert (error.meaning.blame, error.meaning.circuit_weight, error.meaning.billed) == (Blame.US, 0.0, Billed.NO)
    assert not error.meaning.fail_over
    assert "1 utterances in progress, 1 queued" in str(error)
    await asyncio.gather(*callers)
    assert len(vendor.requests) == 2
    assert overload(tts)["refused"]["queue_full"] == 1


async def test_queue_ends_after_its_timeout(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Say(first_after=20.0)]), max_active=1, queue_timeout=2.0)
    first = asyncio.create_task(outcome_of(tts))
    await asyncio.sleep(0.1)
    before = loop_clock()
    assert await outcome_of(tts) == "queue_timeout"
    assert loop_clock() - before == pytest.approx(2.0)
    assert await first == "spoken"


async def test_callers_deadline_ends_the_wait_in_the_queue(make_service: MakeService) -> None:
    vendor = ScriptedProvider([Say(first_after=20.0)])
    tts = make_service(vendor, max_active=1, queue_timeout=60.0)
    first = asyncio.create_task(outcome_of(tts))
    await asyncio.sleep(0.1)
    before = loop_clock()
    assert await outcome_of(tts, deadline=3.0) == "deadline"
    assert loop_clock() - before <= 3.0
    assert await first == "spoken"
    assert len(vendor.requests) == 1


async def test_time_in_the_queue_is_the_callers_and_not_the_providers(make_service: MakeService) -> None:
    slower = replace(SLOW, first_after=SLOW.first_after + 0.5)
    timeouts = TimeoutConfig(first_audio_timeout=2.0, total_timeout=60)
    tts = make_service(ScriptedProvider([SLOW, SLOW, SLOW, slower]), max_active=1, timeouts=timeouts, muted=False)
    first = asyncio.create_task(tts.synthesize("Good morning", format="pcm_8000"))
    await asyncio.sleep(0)
    second = await tts.synthesize("Good morning", format="pcm_8000")
    assert second.attempts[0].waited == pytest.approx(1.0)
    await first
    third = asyncio.create_task(tts.synthesize("Good morning", format="pcm_8000"))
    await asyncio.sleep(0)
    with pytest.raises(Exception, match="within"):  # 1 s in the queue, and what is left does not suffice
        await tts.synthesize("Good morning", format="pcm_8000", deadline=2.1)
    await third
    assert tts.get_error_state()["totals"]["failures"] == 0


async def test_hangup_in_the_queue_leaves_at_once(make_service: MakeService) -> None:
    vendor = ScriptedProvider([SLOW])
    tts = make_service(vendor, max_active=1)
    callers = [asyncio.create_task(outcome_of(tts, f"Number {number}")) for number in range(4)]
    await asyncio.sleep(0.5)
    callers[1].cancel()
    await asyncio.sleep(0)
    assert overload(tts)["queued"] == 2
    with suppress(asyncio.CancelledError):
        await callers[1]
    assert [await task for task in (callers[0], *callers[2:])] == ["spoken"] * 3
    assert [request.text for request in vendor.requests] == ["Number 0", "Number 2", "Number 3"]
    assert overload(tts)["active"] == 0


async def test_hangup_in_the_loop_turn_of_admission_gives_the_place_back(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([SLOW]), max_active=1)
    first, second, third = (asyncio.create_task(outcome_of(tts)) for _ in range(3))
    await asyncio.sleep(0.5)
    first.add_done_callback(lambda _: second.cancel())
    await asyncio.wait([first, second, third])
    assert second.cancelled()
    assert third.result() == "spoken"
    assert overload(tts)["active"] == 0


@pytest.mark.parametrize("mode", ["resume", "restart", "error"])
async def test_place_is_given_back_however_a_stream_ends(make_service: MakeService, mode: str) -> None:
    tts = make_service(ScriptedProvider([Say(pieces=4, every=0.2)]), max_active=1, queue_timeout=0.0)
    for _ in range(3):
        await read_chunks(tts.stream("Good morning", format="pcm_8000", on_midstream=mode), 1)  # type: ignore[arg-type]
    stream = tts.stream("Good morning", format="pcm_8000", on_midstream=mode)  # type: ignore[arg-type]
    await anext(stream)
    del stream  # and is never closed
    await asyncio.sleep(0.1)
    stuck = asyncio.create_task(outcome_of(make := tts))
    await asyncio.sleep(0.05)
    stuck.cancel()
    await asyncio.wait([stuck])
    assert overload(make)["active"] == 0
    assert await outcome_of(tts) == "spoken"


async def test_failure_gives_the_place_back(make_service: MakeService) -> None:
    tts = make_service(
        ScriptedProvider([Hang()]), max_active=1, queue_timeout=0.0, timeouts=TimeoutConfig(total_timeout=2.0)
    )
    assert await outcome_of(tts) == "muted"
    assert await outcome_of(tts) == "muted"
    assert overload(tts)["active"] == 0


async def test_unread_stream_takes_no_place(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([SLOW]), max_active=1, queue_timeout=0.0)
    streams = [tts.stream("Good morning", format="pcm_8000") for _ in range(10)]
    assert await outcome_of(tts) == "spoken"
    del streams


async def test_kept_audio_is_never_refused(make_service: MakeService, tmp_path: Any) -> None:
    tts = make_service(ScriptedProvider([SLOW]), max_active=1, max_queued=0, cache=CacheConfig(tmp_path))
    assert await outcome_of(tts, "Kept") == "spoken"
    busy = asyncio.create_task(outcome_of(tts, "Another"))
    await asyncio.sleep(0.5)
    assert await outcome_of(tts, "Kept") == "cached"
    assert await outcome_of(tts, "Not kept") == "queue_full"
    assert await busy == "spoken"
    await tts.aclose()


async def test_stale_recording_is_played_instead_of_a_refusal(make_service: MakeService, tmp_path: Any) -> None:
    tts = make_service(
        ScriptedProvider([SLOW]), max_active=1, max_queued=0, cache=CacheConfig(tmp_path, max_age_days=1 / 8640)
    )
    assert await outcome_of(tts, "Kept") == "spoken"
    await asyncio.sleep(60)
    busy = asyncio.create_task(outcome_of(tts, "Another"))
    await asyncio.sleep(0.5)
    assert await outcome_of(tts, "Kept") == "cached"
    assert await busy == "spoken"
    await tts.aclose()


async def test_coalesced_requests_take_one_place(make_service: MakeService, tmp_path: Any) -> None:
    tts = make_service(ScriptedProvider([SLOW]), max_active=1, max_queued=0, cache=CacheConfig(tmp_path))
    both = [asyncio.create_task(outcome_of(tts, "The same")) for _ in range(2)]
    assert sorted(await asyncio.gather(*both)) == ["cached", "spoken"]
    await tts.aclose()


async def test_empty_text_needs_no_place(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([SLOW]), max_active=1, max_queued=0)
    busy = asyncio.create_task(outcome_of(tts))
    await asyncio.sleep(0.5)
    assert await outcome_of(tts, "") == "spoken"
    await busy


async def test_refusal_is_no_silence_and_touches_no_circuit(make_service: MakeService) -> None:
    vendor, local = ScriptedProvider([SLOW], name="vendor"), ScriptedProvider([SLOW], name="local", local=True)
    tts = make_service(vendor, local, max_active=2, max_queued=2, queue_timeout=0.5)
    outcomes = await asyncio.gather(*(outcome_of(tts, f"Number {number}") for number in range(40)))
    assert set(outcomes) == {"spoken", "queue_full", "queue_timeout"}
    assert not local.requests, "no fail over"
    assert not tts.is_muted
    states = tts.get_error_state()["providers"].values()
    assert {state["circuit_state"] for state in states} == {"closed"}
    assert sum(state["totals"]["failures"] + state["totals"]["ignored"] for state in states) == 0
    assert await outcome_of(tts) == "spoken", "it recovers"


# ---------------------------------------------------------------- lag


async def lagging(clock: SkippingClock, seconds: float, late: float) -> None:
    """Keep the loop from running for `late` seconds, four times a second."""
    for _ in range(round(seconds * 4)):
        clock.skip(late)
        await asyncio.sleep(0.25)


def lagged_service(clock: SkippingClock, *providers: ScriptedProvider, **settings: Any) -> AsyncTTSService:
    return AsyncTTSService(list(providers), clock=clock, rng=Random(1), **settings)


async def test_newcomers_queue_while_the_loop_is_late_and_work_in_progress_goes_on() -> None:
    clock = SkippingClock()
    vendor = ScriptedProvider([Say(first_after=3.0)])
    tts = lagged_service(clock, vendor, queue_timeout=60.0, timeouts=TimeoutConfig(total_timeout=600.0))
    before = [asyncio.create_task(outcome_of(tts, f"Number {number}")) for number in range(6)]
    await asyncio.sleep(0)
    await lagging(clock, 2.0, 0.5)
    assert overload(tts)["loop_lag"] > MAX_LAG
    newcomer = asyncio.create_task(outcome_of(tts, "Newcomer"))
    await asyncio.sleep(0)
    assert overload(tts)["queued"] == 1
    assert len(vendor.requests) == 6
    assert set(await asyncio.gather(*before)) == {"spoken"}
    assert await newcomer == "spoken"
    assert overload(tts)["overloaded"] is False


async def test_utterance_is_refused_in_time_while_the_loop_is_late() -> None:
    clock = SkippingClock()
    tts = lagged_service(clock, ScriptedProvider([Say(first_after=20.0)]), timeouts=TimeoutConfig(total_timeout=600.0))
    before = [asyncio.create_task(outcome_of(tts, f"Number {number}")) for number in range(6)]
    await asyncio.sleep(0)
    await lagging(clock, 2.0, 0.5)
    newcomer = asyncio.create_task(outcome_of(tts, "Newcomer"))
    await lagging(clock, 6.0, 0.5)
    assert await newcomer == "queue_timeout"
    assert set(await asyncio.gather(*before)) == {"spoken"}


async def test_wait_for_an_audio_worker_holds_newcomers_back_too(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Say(first_after=3.0)]))
    wait = 0.5
    tts.admission.waits["workers"] = lambda: wait
    callers = [asyncio.create_task(outcome_of(tts, f"Number {number}")) for number in range(5)]
    await asyncio.sleep(0.2)
    newcomer = asyncio.create_task(outcome_of(tts))
    await asyncio.sleep(0.2)
    assert overload(tts)["queued"] == 1
    wait = 0.0
    await asyncio.sleep(0.2)
    assert overload(tts)["queued"] == 0
    await asyncio.gather(*callers, newcomer)


async def test_requests_that_arrived_during_a_stall_do_not_start_all_at_once() -> None:
    clock = SkippingClock()
    vendor = ScriptedProvider([Say(first_after=1.0)])
    tts = lagged_service(clock, vendor, timeouts=TimeoutConfig(total_timeout=600.0))
    callers = [asyncio.create_task(outcome_of(tts, f"Number {number}")) for number in range(4)]
    await asyncio.sleep(0.5)
    clock.skip(20.0)
    callers += [asyncio.create_task(outcome_of(tts, f"Number {number}")) for number in range(4, 44)]
    await asyncio.sleep(0)
    assert overload(tts)["queued"] == 40
    assert set(await asyncio.gather(*callers)) == {"spoken"}, "one stall that is over refuses nobody"


async def test_late_process_refuses_in_time_instead_of_trying_a_local_voice_too_late() -> None:
    clock = SkippingClock()
    local = ScriptedProvider([Say(first_after=1.0)], name="local", local=True)
    tts = lagged_service(clock, ScriptedProvider([Hang()]), local)
    busy = [asyncio.create_task(outcome_of(tts, f"Number {number}")) for number in range(5)]
    await asyncio.sleep(0.1)
    hurried = asyncio.create_task(outcome_of(tts, "Hurried", deadline=4.0))
    await asyncio.sleep(0.1)
    await lagging(clock, 6.0, 1.0)
    assert await hurried == "starved"
    assert "Hurried" not in [request.text for request in local.requests]
    for task in busy:
        task.cancel()
    await asyncio.wait(busy)


@pytest.mark.parametrize(("deadline", "outcome"), [(17.0, "starved"), (30.0, "spoken")])
async def test_late_process_begins_no_stream_that_would_break_off_at_once(deadline: float, outcome: str) -> None:
    clock = SkippingClock()
    tts = lagged_service(clock, ScriptedProvider([Say(first_after=3.2, every=0.5)]), on_midstream="error")
    busy = [asyncio.create_task(outcome_of(tts, f"Number {number}")) for number in range(5)]
    await asyncio.sleep(0.1)

    async def listen() -> str:
        stream = tts.stream("One two three four five six seven", format="pcm_8000", deadline=deadline)
        try:
            audio = b"".join([data async for data in stream])
        except TTSOverloadedError as error:
            return f"{error.code}, no Retry-After" if error.retry_after is None else str(error.code)
        assert audio
        return stream.outcome

    hurried = asyncio.create_task(listen())
    await asyncio.sleep(0.1)
    await lagging(clock, 6.0, 1.0)
    assert await hurried == outcome
    for task in busy:
        task.cancel()
    await asyncio.wait(busy)


async def test_wait_for_audio_threads_and_engines_is_looked_at(make_service: MakeService) -> None:
    class Engine(ScriptedProvider):
        queue_wait = 0.7

    tts = make_service(Engine(name="engine", local=True), ScriptedProvider())
    assert overload(tts)["waits"] == {"engine": 0.7, "audio workers": 0.0}
    await tts.reconfigure(providers=[ScriptedProvider()])
    assert overload(tts)["waits"] == {"audio workers": 0.0}


async def test_few_utterances_are_spoken_however_late_the_loop_is() -> None:
    clock = SkippingClock()
    tts = lagged_service(clock, ScriptedProvider([Say(first_after=1.0)]), timeouts=TimeoutConfig(total_timeout=600.0))
    outcomes = []
    for _ in range(3):
        callers = [asyncio.create_task(outcome_of(tts)) for _ in range(3)]
        await lagging(clock, 2.0, 1.0)
        outcomes += await asyncio.gather(*callers)
    assert set(outcomes) == {"spoken"}


async def test_queue_is_admitted_in_small_steps_when_the_loop_has_caught_up(make_service: MakeService) -> None:
    vendor = ScriptedProvider([Say(first_after=20.0)])
    tts = make_service(vendor, queue_timeout=60.0, timeouts=TimeoutConfig(total_timeout=600.0))
    wait = 0.5
    tts.admission.waits["workers"] = lambda: wait
    callers = [asyncio.create_task(outcome_of(tts, f"Number {number}")) for number in range(4)]
    await asyncio.sleep(0.2)
    callers += [asyncio.create_task(outcome_of(tts, f"Number {number}")) for number in range(4, 104)]
    await asyncio.sleep(0.2)
    assert len(vendor.requests) == 4
    wait, numbers = 0.0, []
    while overload(tts)["queued"]:
        await asyncio.sleep(0.05)
        numbers.append(len(vendor.requests))
    steps = [after - before for before, after in pairwise(numbers)]
    assert max(numbers[0] - 4, steps[0]) <= 2
    assert steps[:-1] == sorted(steps[:-1])
    assert set(await asyncio.gather(*callers)) == {"spoken"}


# ---------------------------------------------------------------- settings


async def test_limits_can_be_changed_at_run_time(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([SLOW]), max_active=1)
    callers = [asyncio.create_task(outcome_of(tts)) for _ in range(4)]
    await asyncio.sleep(0.5)
    assert overload(tts)["queued"] == 3
    await tts.reconfigure(max_active=3, max_queued=7, queue_timeout=1.0)
    assert (overload(tts)["active"], overload(tts)["queued"]) == (3, 1)
    assert (tts.settings["max_active"], tts.settings["max_queued"], tts.settings["queue_timeout"]) == (3, 7, 1.0)
    await asyncio.gather(*callers)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_active", 0),
        ("max_active", -1),
        ("max_active", 1.5),
        ("max_active", True),
        ("max_active", "many"),
        ("max_queued", -1),
        ("max_queued", "none"),
        ("queue_timeout", -1),
        ("queue_timeout", float("inf")),
        ("queue_timeout", float("nan")),
        ("queue_timeout", "5"),
    ],
)
@pytest.mark.looptime(enabled=False)
def test_impossible_limits_are_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(TTSConfigurationError, match=key):
        AsyncTTSService([ScriptedProvider()], **{key: value})  # type: ignore[arg-type]


@pytest.mark.looptime(enabled=False)
def test_synchronous_service_refuses_too() -> None:
    with TTSService([ScriptedProvider([Say(first_after=0.0, pieces=100)])], max_active=1, max_queued=0) as tts:
        with tts.stream("once upon a time " * 50, format="pcm_8000", on_midstream="error") as stream:
            next(stream)
            with pytest.raises(TTSOverloadedError):
                tts.synthesize("Good morning", format="pcm_8000")
        assert tts.synthesize("Good morning", format="pcm_8000").outcome == "spoken"


# ---------------------------------------------------------------- the state machine


class Caller:
    """Comes, is admitted or waits, and leaves in one way or another."""

    def __init__(self, admission: AdmissionControl, number: int) -> None:
        self.number = number
        self.admitted = self.refused = False
        self._leaves = asyncio.Event()
        self._admission = admission
        self.task = asyncio.create_task(self._live())

    def leave(self) -> None:
        self._leaves.set()

    async def _live(self) -> None:
        if not self._admission.admit():
            try:
                await self._admission.wait(1000.0)
            except TTSOverloadedError:
                self.refused = True
                return
        self.admitted = True
        try:
            await self._leaves.wait()
        finally:
            self._admission.leave()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.integers(1, 3)),
        st.tuples(st.sampled_from(["leave", "cancel"]), st.integers(0, 30)),
        st.tuples(st.just("pass"), st.sampled_from([0, 1, 40])),
        st.tuples(st.just("lag"), st.sampled_from([0.0, 0.4, 1.0])),
        st.tuples(st.just("configure"), st.integers(1, 6)),
    ),
    max_size=60,
)


@given(STEPS)
async def test_admission_keeps_its_limits_and_its_order(steps: list[tuple[str, Any]]) -> None:
    clock = SkippingClock()
    lag = LoopLag(clock)
    most = 3
    admission = AdmissionControl(lag, AdmissionLimits(most, 4, 10.0), clock=clock)
    callers: list[Caller] = []
    behind = 0.0
    admission.waits["workers"] = lambda: behind
    for step, value in steps:
        match step:
            case "come":
                callers += [Caller(admission, len(callers) + number) for number in range(value)]
            case "leave" if callers:
                callers[value % len(callers)].leave()
            case "cancel" if callers:
                callers[value % len(callers)].task.cancel()
            case "pass":
                await asyncio.sleep(value)
            case "lag":
                behind = value
            case "configure":
                most = value
                admission.configure(AdmissionLimits(most, 4, 10.0))
        before = admission.active
        await asyncio.sleep(0)
        assert admission.active <= max(most, before)
        assert admission.queued <= 4
    for caller in callers:
        caller.leave()
    await asyncio.sleep(60)
    assert all(caller.task.done() for caller in callers)
    assert (admission.active, admission.queued) == (0, 0)
    admitted = [caller.number for caller in callers if caller.admitted]
    assert admitted == sorted(admitted)
