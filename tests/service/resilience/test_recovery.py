"""Half-open probes with real requests, whose callers do not wait longer than usual."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice import (
    AsyncTTSService,
    CircuitBreakerConfig,
    RetryConfig,
    TimeoutConfig,
    TTSError,
    TTSStreamInterruptedError,
)
from steadyvoice.service.resilience.latency import (
    DEFAULT_PROBE_TIMEOUT,
    MAX_PROBE_TIMEOUT,
    MIN_PROBE_TIMEOUT,
    ProbeTimeout,
)
from steadyvoice.speech.errors import TTSCutError, TTSEmptyAudioError, TTSServerError

from ..conftest import MakeService
from ..scripted_provider import RATE, Act, Drip, Hang, Say, ScriptedProvider, Send, pcm

TEXT = "Good morning"
DOWN = TTSServerError("HTTP 503", status=503)


async def after_an_outage(
    make_service: MakeService, *then: Act, usual: float = 0.3
) -> tuple[AsyncTTSService, ScriptedProvider]:
    """A service whose first provider spoke, failed until its circuit opened, and may now be probed."""
    spoke = [Say(first_after=usual)] * 2
    vendor = ScriptedProvider([*spoke, DOWN, DOWN, DOWN, DOWN, *then], name="vendor")
    tts = make_service(vendor, ScriptedProvider([Say(first_after=0.0)], name="second"))
    for _ in range(4):
        await tts.synthesize(TEXT, format="pcm_8000")
    assert tts.get_error_state()["circuit_state"] == "open"
    while len(vendor._acts) > max(1, len(then)):
        vendor._acts.pop(0)
    await asyncio.sleep(60)
    return tts, vendor


async def spoken(tts: AsyncTTSService, **options: float) -> tuple[str | None, Any]:
    """Return the provider that spoke, and the seconds until the first chunk."""
    loop = asyncio.get_running_loop()
    before, first = loop.time(), 0.0
    stream = tts.stream(TEXT, format="pcm_8000", **options)  # type: ignore[arg-type]
    audio = b""
    async for chunk in stream:
        first = first or loop.time() - before
        audio += chunk
    assert audio == pcm(len(audio) / 2 / RATE), "one voice, from the first sample to the last"
    return stream.provider, first


@pytest.mark.looptime
async def test_hanging_probe_costs_its_caller_a_second_and_no_word(make_service: MakeService) -> None:
    tts, vendor = await after_an_outage(make_service, Hang())
    assert await spoken(tts) == ("second", pytest.approx(MIN_PROBE_TIMEOUT))
    assert vendor.cut_short == 1, "the loser is hung up on"
    state = tts.get_error_state()
    assert (state["circuit_state"], state["last_error"]["kind"]) == ("open", "read_timeout")
    assert await spoken(tts) == ("second", pytest.approx(0.0)), "and whoever comes next is not asked to wait"


@pytest.mark.looptime
@pytest.mark.parametrize("act", [DOWN, Send(b""), Send(pcm(6.0, 0)), TTSEmptyAudioError("nothing")])
async def test_failed_probe_is_neither_delivered_nor_retried(make_service: MakeService, act: Act) -> None:
    tts, vendor = await after_an_outage(make_service, act)
    asked = len(vendor.requests)
    assert await spoken(tts) == ("second", pytest.approx(0.0))
    assert len(vendor.requests) == asked + 1, "no text is paid for twice"
    assert tts.get_error_state()["circuit_state"] == "open"


@pytest.mark.looptime
async def test_successful_probe_is_delivered(make_service: MakeService) -> None:
    tts, _ = await after_an_outage(make_service, Say(first_after=0.3))
    for expected in ("half_open", "closed"):
        assert await spoken(tts) == ("vendor", pytest.approx(0.3))
        assert tts.get_error_state()["circuit_state"] == expected


@pytest.mark.looptime
async def test_probe_timeout_is_twice_the_slowest_recent_latency(make_service: MakeService) -> None:
    tts, _ = await after_an_outage(make_service, Hang(), usual=2.0)
    assert await spoken(tts) == ("second", pytest.approx(4.0))


@pytest.mark.looptime
async def test_second_probe_has_the_same_timeout(make_service: MakeService) -> None:
    tts, _ = await after_an_outage(make_service, Say(first_after=0.3), Hang())
    assert await spoken(tts) == ("vendor", pytest.approx(0.3))
    assert await spoken(tts) == ("second", pytest.approx(MIN_PROBE_TIMEOUT))


@pytest.mark.looptime
async def test_probes_that_are_refused_at_once_earn_no_patience(make_service: MakeService) -> None:
    tts, _ = await after_an_outage(make_service, DOWN, DOWN, Hang())
    for wait in (0.0, 0.0, MIN_PROBE_TIMEOUT):
        assert await spoken(tts) == ("second", pytest.approx(wait))
        await asyncio.sleep(60)


@pytest.mark.looptime
async def test_provider_that_became_slower_recovers_in_the_end(make_service: MakeService) -> None:
    tts, _ = await after_an_outage(make_service, Say(first_after=3.0))
    waits = []
    for _ in range(10):
        provider, wait = await spoken(tts)
        waits.append(wait)
        if provider == "vendor":
            break
        await asyncio.sleep(60)
    assert waits == pytest.approx([1.0, 1.5, 2.25, 3.0])


@pytest.mark.looptime
async def test_hanging_probes_delay_each_caller_by_at_most_four_seconds(make_service: MakeService) -> None:
    tts, _ = await after_an_outage(make_service, Hang())
    for _ in range(20):
        _, wait = await spoken(tts)
        assert wait <= 4.0
        await asyncio.sleep(60)


@pytest.mark.looptime
async def test_probe_without_alternative_has_the_full_timeout(make_service: MakeService) -> None:
    vendor = ScriptedProvider([DOWN, DOWN, Say(first_after=20.0)], name="vendor")
    tts = make_service(vendor, muted=False)
    with pytest.raises(TTSError):
        await tts.synthesize(TEXT, format="pcm_8000")
    await asyncio.sleep(60)
    assert await spoken(tts) == ("vendor", pytest.approx(20.0))


@pytest.mark.looptime
async def test_closed_circuit_shortens_no_timeout(make_service: MakeService) -> None:
    vendor = ScriptedProvider([Say(first_after=0.3), Say(first_after=7.0)], name="vendor")
    tts = make_service(vendor, ScriptedProvider(name="second"))
    await spoken(tts)
    assert await spoken(tts) == ("vendor", pytest.approx(7.0))


@pytest.mark.looptime
async def test_dripping_probe_is_too_slow(make_service: MakeService) -> None:
    tts, vendor = await after_an_outage(make_service, Drip(0.5))
    loop = asyncio.get_running_loop()
    before = loop.time()
    speech = await tts.synthesize(TEXT, format="pcm_8000")
    assert speech.provider == "second"
    assert loop.time() - before == pytest.approx(4.5, abs=0.6)
    assert tts.get_error_state()["circuit_state"] == "open"
    assert vendor.cut_short == 1


@pytest.mark.looptime
async def test_probe_of_a_whole_utterance_may_take_long_while_audio_arrives(
    make_service: MakeService,
) -> None:
    tts, _ = await after_an_outage(make_service, Say(seconds=5.0, pieces=20, every=0.5, first_after=0.3))
    assert (await tts.synthesize(TEXT, format="pcm_8000")).provider == "vendor"


@pytest.mark.looptime
async def test_accepted_probe_that_breaks_off_later_opens_the_circuit_again(
    make_service: MakeService,
) -> None:
    long = Say(seconds=25.0, pieces=25, every=0.8, first_after=0.3, then=TTSCutError("the connection broke"))
    tts, _ = await after_an_outage(make_service, long)
    with pytest.raises(TTSStreamInterruptedError):
        _ = [chunk async for chunk in tts.stream(TEXT * 20, format="pcm_8000", on_midstream="error")]
    state = tts.get_error_state()
    assert (state["circuit_state"], state["last_transition"]["from"]) == ("open", "half_open")


@pytest.mark.looptime
async def test_accepted_probe_that_breaks_off_while_the_circuit_is_open_is_ignored(
    make_service: MakeService,
) -> None:
    long = Say(seconds=25.0, pieces=25, every=0.8, first_after=0.3, then=TTSCutError("the connection broke"))
    tts, _ = await after_an_outage(make_service, long, DOWN)
    stream = tts.stream(TEXT * 20, format="pcm_8000", on_midstream="error")
    while tts.get_error_state()["totals"]["successes"] < 3:
        await anext(stream)
    assert await spoken(tts) == ("second", pytest.approx(0.0))
    before = tts.get_error_state()
    with pytest.raises(TTSStreamInterruptedError, match="the connection broke"):
        _ = [chunk async for chunk in stream]
    after = tts.get_error_state()
    assert (after["circuit_state"], after["totals"]["failures"]) == ("open", before["totals"]["failures"])


@pytest.mark.looptime
async def test_stream_that_breaks_off_after_the_circuit_closed_counts(make_service: MakeService) -> None:
    long = Say(seconds=25.0, pieces=25, every=0.8, first_after=0.3, then=TTSCutError("the connection broke"))
    tts, _ = await after_an_outage(make_service, long, Say(first_after=0.3))
    stream = tts.stream(TEXT * 20, format="pcm_8000", on_midstream="error")
    while tts.get_error_state()["totals"]["successes"] < 3:
        await anext(stream)
    assert await spoken(tts) == ("vendor", pytest.approx(0.3))
    assert tts.get_error_state()["circuit_state"] == "closed"
    with pytest.raises(TTSStreamInterruptedError):
        _ = [chunk async for chunk in stream]
    assert tts.get_error_state()["window"]["failures"] == 1


def test_probe_timeout_without_samples_is_three_seconds() -> None:
    assert ProbeTimeout().seconds == DEFAULT_PROBE_TIMEOUT


@given(st.lists(st.none() | st.floats(0, 100), max_size=60))
def test_probe_timeout_is_between_one_and_fifteen_seconds(history: list[float | None]) -> None:
    probe_timeout = ProbeTimeout()
    for first_audio in history:
        if first_audio is None:
            before = probe_timeout.seconds
            probe_timeout.record_missed()
            assert before <= probe_timeout.seconds <= 1.501 * before
        else:
            probe_timeout.record(first_audio)
            assert probe_timeout.seconds >= min(MAX_PROBE_TIMEOUT, 2 * first_audio)
        assert MIN_PROBE_TIMEOUT <= probe_timeout.seconds <= MAX_PROBE_TIMEOUT


def test_success_resets_the_probe_timeout() -> None:
    probe_timeout = ProbeTimeout()
    probe_timeout.record_missed()
    probe_timeout.record(0.2)
    assert probe_timeout.seconds == MIN_PROBE_TIMEOUT


@pytest.mark.looptime
async def test_probe_never_waits_longer_than_the_timeouts_allow(make_service: MakeService) -> None:
    once = CircuitBreakerConfig(window_size=1, minimum_calls=1, cooldown_period=10, success_threshold=1)
    first, second = ScriptedProvider([DOWN, Hang()], name="first"), ScriptedProvider(name="second")
    times = TimeoutConfig(first_audio_timeout=0.5)
    tts = make_service(first, second, circuit=once, timeouts=times, retry=RetryConfig(max_attempts=1))
    await tts.synthesize("Hello", format="pcm_8000")
    await asyncio.sleep(10)
    speech = await tts.synthesize("Hello", format="pcm_8000")
    assert speech.provider == "second"
    assert speech.attempts[0].waited == pytest.approx(0.5, abs=0.01)


def test_old_answers_are_forgotten() -> None:
    probe_timeout = ProbeTimeout()
    probe_timeout.record(5.0)
    for _ in range(20):
        probe_timeout.record(0.7)
    assert probe_timeout.seconds == pytest.approx(1.4)
