"""Playback of a stream: buffered audio, underruns, and audio that arrives too slowly."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice import TimeoutConfig, TTSError, TTSStreamInterruptedError
from steadyvoice.service.pipeline.attempt_timeouts import REAL_TIME, PlaybackBuffer
from steadyvoice.speech.errors import TTSCutError, TTSStalledError

from ..conftest import MakeService
from ..scripted_provider import Drip, Say, ScriptedProvider

LONG_TEXT = "Once upon a time there was a voice that told a tale so long that nobody could wait for it. " * 3


def longest_underrun(steps: list[tuple[float, float]]) -> float:
    """Return the longest underrun after waits that each brought some audio."""
    listener = PlaybackBuffer()
    worst = 0.0
    for seconds, gained in steps:
        listener.waited(seconds, gained=gained)
        worst = max(worst, listener.underrun_seconds)
    return worst


def test_buffered_audio_prevents_underruns() -> None:
    assert longest_underrun([(0.0, 10.0), *[(1.0, 0.0)] * 10]) == 0


def test_half_the_rate_is_noticed_once_the_buffer_is_empty() -> None:
    # Ten seconds in hand last twenty; one gap more is forgiven as a stall.
    assert longest_underrun([(0.0, 10.0), *[(1.0, 0.5)] * 20]) == 0
    assert longest_underrun([(0.0, 10.0), *[(1.0, 0.5)] * 24]) == pytest.approx(3.0)


def test_gap_counts_from_the_moment_the_buffer_is_empty() -> None:
    assert longest_underrun([(0.0, 1.5), (2.0, 0.0), (1.0, 0.0)]) == pytest.approx(0.5)


def test_one_long_gap_is_a_stall_and_not_slow() -> None:
    assert longest_underrun([(0.0, 1.0), (29.0, 0.2), *[(0.2, 0.2)] * 100]) == 0


def test_jittering_real_time_audio_is_not_slow() -> None:
    assert longest_underrun([(0.0, 0.2), *[(0.25, 0.2), (0.15, 0.2)] * 100]) == 0


def test_underrun_ends_once_the_audio_has_caught_up() -> None:
    slow = [(1.0, 0.5)] * 4
    assert longest_underrun([*slow, (0.0, 2.0), *slow]) == pytest.approx(longest_underrun(slow), abs=0.6)
    assert longest_underrun(slow + slow) > 1.5 * longest_underrun(slow)


STEPS = st.lists(st.tuples(st.floats(0.01, 2), st.floats(0, 2)), min_size=1, max_size=60)


@given(STEPS)
def test_real_time_stream_never_underruns(steps: list[tuple[float, float]]) -> None:
    assert longest_underrun([(wait, max(gained, wait)) for wait, gained in steps]) == 0


@given(STEPS, st.floats(0.05, 0.85))
def test_slower_stream_always_underruns_in_the_end(steps: list[tuple[float, float]], pace: float) -> None:
    drawn = [(wait, pace * wait) for wait, _ in steps]
    total, longest = sum(wait for wait, _ in drawn), max(wait for wait, _ in drawn)
    if total * pace < REAL_TIME * (total - longest):
        assert longest_underrun(drawn) >= (total - longest) * 0.99


@pytest.mark.looptime
@pytest.mark.parametrize("first_after", [0.1, 7.0])
async def test_slow_stream_is_given_up(make_service: MakeService, first_after: float) -> None:
    vendor = ScriptedProvider([Say(seconds=13.0, pieces=28, every=1.0, first_after=first_after)], name="vendor")
    tts = make_service(vendor, ScriptedProvider(name="second"))
    loop = asyncio.get_running_loop()
    before = loop.time()
    with pytest.raises(TTSStreamInterruptedError, match=r"audio slower than real time for \d\.\d s"):
        _ = [chunk async for chunk in tts.stream(LONG_TEXT, format="pcm_8000", on_midstream="error")]
    assert loop.time() - before == pytest.approx(first_after + 5.0), "the wait for the first audio is not missed"
    state = tts.get_error_state()
    assert (state["last_error"]["kind"], state["totals"]["failures"]) == ("too_slow", 1)


@pytest.mark.looptime
@pytest.mark.parametrize("then", [TTSCutError("the connection broke"), TTSStalledError("nothing for 30 s")])
async def test_stream_that_dies_after_twenty_seconds_counts(make_service: MakeService, then: TTSError) -> None:
    tts = make_service(ScriptedProvider([Say(seconds=25.0, pieces=25, every=0.8, then=then)], name="vendor"))
    loop = asyncio.get_running_loop()
    before = loop.time()
    with pytest.raises(TTSStreamInterruptedError):
        _ = [chunk async for chunk in tts.stream(LONG_TEXT, format="pcm_8000", on_midstream="error")]
    assert loop.time() - before > 19
    assert tts.get_error_state()["window"] == {"size": 4, "calls": 1, "failures": 1}


@pytest.mark.looptime
async def test_drip_of_audio_is_too_slow(make_service: MakeService) -> None:
    tts = make_service(
        ScriptedProvider([Drip(0.5)]), ScriptedProvider(name="second"), timeouts=TimeoutConfig(slow_timeout=2.0)
    )
    loop = asyncio.get_running_loop()
    before = loop.time()
    with pytest.raises(TTSStreamInterruptedError):
        _ = [chunk async for chunk in tts.stream("Good morning", format="pcm_8000", on_midstream="error")]
    assert loop.time() - before == pytest.approx(3.0, abs=0.6)
    assert tts.get_error_state()["last_error"]["kind"] == "too_slow"


@pytest.mark.looptime
async def test_call_for_the_whole_accepts_slow_audio(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Say(seconds=17.0, pieces=34, every=1.0)], name="vendor"))
    assert (await tts.synthesize(LONG_TEXT, format="pcm_8000")).outcome == "spoken"


@pytest.mark.looptime
async def test_slow_consumer_does_not_make_a_slow_vendor(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Say(seconds=14.0, pieces=28, every=0.3)], name="vendor"))
    async for _ in tts.stream(LONG_TEXT, format="pcm_8000"):
        await asyncio.sleep(10)
    assert tts.get_error_state()["totals"]["failures"] == 0
