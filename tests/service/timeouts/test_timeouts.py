"""Timeouts: each of them, its error, and which provider it counts against."""

from __future__ import annotations

import asyncio

import pytest

from steadyvoice import AsyncTTSService, TimeoutConfig, TTSConfigurationError, TTSError
from steadyvoice.speech.errors import TTSDeadlineError, TTSReadTimeoutError, TTSStreamInterruptedError

from ..conftest import MakeService
from ..scripted_provider import Drip, Hang, Say, ScriptedProvider, pcm

pytestmark = pytest.mark.looptime


async def time_to_failure(tts: AsyncTTSService, text: str = "Good morning", **options: float) -> tuple[float, TTSError]:
    """Synthesize, and return how long it took to fail and the error."""
    loop = asyncio.get_running_loop()
    before = loop.time()
    with pytest.raises(TTSError) as failed:
        await tts.synthesize(text, format="pcm_8000", **options)  # type: ignore[arg-type]
    return loop.time() - before, failed.value


async def test_silence_ends_at_the_read_timeout_and_counts(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Hang()]), muted=False)
    took, error = await time_to_failure(tts)
    # One try of 30 s, and a second one in what is left of the 45.
    assert took == pytest.approx(45)
    assert tts.get_error_state()["totals"]["failures"] == 2
    assert error.kind.value == "total_timeout"


async def test_first_audio_timeout_overrides_the_read_timeout(make_service: MakeService) -> None:
    tts = make_service(
        ScriptedProvider([Hang()]), ScriptedProvider(name="second"), timeouts=TimeoutConfig(first_audio_timeout=2.0)
    )
    loop = asyncio.get_running_loop()
    before = loop.time()
    speech = await tts.synthesize("Good morning", format="pcm_8000")
    assert speech.provider == "second"
    assert loop.time() - before == pytest.approx(2.1)
    assert speech.attempts[0].error is not None
    assert speech.attempts[0].error.kind.value == "read_timeout"


async def test_stall_ends_at_the_stall_timeout(make_service: MakeService) -> None:
    vendor = ScriptedProvider([Say(every=20.0)], name="vendor")
    tts = make_service(vendor, timeouts=TimeoutConfig(stall_timeout=3.0))
    loop = asyncio.get_running_loop()
    before = loop.time()
    with pytest.raises(TTSStreamInterruptedError):
        async for _ in tts.stream("Good morning", format="pcm_8000", on_midstream="error"):
            pass
    assert loop.time() - before == pytest.approx(3.1)
    assert tts.get_error_state()["last_error"]["kind"] == "stalled"


async def test_drip_of_samples_ends_on_time(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Drip(0.5)]), muted=False)
    took, error = await time_to_failure(tts)
    assert took == pytest.approx(45, abs=0.1)
    assert error.kind.value == "total_timeout"
    assert tts.get_error_state()["totals"]["failures"] == 1


async def test_drip_leaves_time_for_the_next_provider(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Drip(0.5)]), ScriptedProvider(name="second"))
    loop = asyncio.get_running_loop()
    before = loop.time()
    speech = await tts.synthesize("Good morning", format="pcm_8000")
    assert speech.provider == "second"
    assert loop.time() - before == pytest.approx(0.8 * 45 + 0.1, abs=0.1)


@pytest.mark.slow
async def test_long_healthy_utterance_is_not_cut(make_service: MakeService) -> None:
    long_text = "once upon a time " * 500
    vendor = ScriptedProvider([Say(seconds=500.0, pieces=500, every=0.9)], name="vendor")
    loop = asyncio.get_running_loop()
    before = loop.time()
    speech = await make_service(vendor).synthesize(long_text, format="pcm_8000")
    assert speech.outcome == "spoken"
    assert loop.time() - before > 400


async def test_slow_consumer_stops_every_timeout(make_service: MakeService) -> None:
    vendor = ScriptedProvider([Say(pieces=5, every=1.0)], name="vendor")
    tts = make_service(vendor, timeouts=TimeoutConfig(read_timeout=2.0, total_timeout=8.0))
    heard = 0
    async for chunk in tts.stream("Good morning", format="pcm_8000"):
        heard += len(chunk)
        await asyncio.sleep(100)
    assert heard == pytest.approx(len(pcm(0.72)), abs=10)
    assert tts.get_error_state()["circuit_state"] == "closed"


async def test_callers_own_deadline_is_not_the_vendors_fault(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Hang()]), muted=False)
    took, error = await time_to_failure(tts, deadline=2.0)
    assert took == pytest.approx(2.0)
    assert isinstance(error, TTSDeadlineError)
    assert tts.get_error_state()["totals"]["failures"] == 0


async def test_hanging_vendor_is_at_fault_despite_the_callers_deadline(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Hang()]), ScriptedProvider(name="second"), muted=False)
    speech = await tts.synthesize("Good morning", format="pcm_8000", deadline=10.0)
    assert speech.provider == "second"
    error = speech.attempts[0].error
    assert isinstance(error, TTSReadTimeoutError)
    assert speech.attempts[0].waited == pytest.approx(8.0)
    assert tts.get_error_state()["totals"]["failures"] == 1


async def test_local_voice_is_tried_after_the_deadline(make_service: MakeService) -> None:
    vendor = ScriptedProvider([Say(first_after=0.0, every=100.0)])
    tts = make_service(vendor, ScriptedProvider(name="local", local=True))
    speech = await tts.synthesize("Good morning", format="pcm_8000", deadline=0.001)
    assert speech.provider == "local"


async def test_invalid_deadline_is_rejected() -> None:
    tts = AsyncTTSService([ScriptedProvider()])
    for deadline in (0, -1.0, float("nan"), float("inf"), True, "soon"):
        with pytest.raises(TTSConfigurationError, match="deadline"):
            tts.stream("Hello", deadline=deadline)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "field", ["connection_timeout", "read_timeout", "total_timeout", "stall_timeout", "slow_timeout"]
)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "10"])
def test_invalid_timeouts_are_rejected_by_name(field: str, value: object) -> None:
    with pytest.raises(TTSConfigurationError, match=field):
        TimeoutConfig(**{field: value})  # type: ignore[arg-type]


def test_absent_timeout_is_not_zero() -> None:
    assert TimeoutConfig(read_timeout=7.0).first_audio == 7.0
    assert TimeoutConfig(read_timeout=7.0, first_audio_timeout=1.0).first_audio == 1.0
    with pytest.raises(TTSConfigurationError, match="connection_timeout"):
        TimeoutConfig(connection_timeout=None)  # type: ignore[arg-type]
