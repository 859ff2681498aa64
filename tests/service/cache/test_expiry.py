"""Expired recordings: replaced while their voice works, and better than any other voice while it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from steadyvoice import AudioFormat
from steadyvoice.audio.conversion import Converter
from steadyvoice.service.cache.keys import DAY
from steadyvoice.speech.errors import TTSCutError

from ..conftest import loop_clock
from ..scripted_provider import Act, Hang, Say, ScriptedProvider
from .cached_service import DOWN, TEXT, WHOLE, ManualClock, caching_service, speak


@pytest.mark.looptime
@pytest.mark.parametrize("acts", [[DOWN], [Hang()], [Say(first_after=20.0)]])
async def test_old_recording_of_the_first_voice_beats_another_voice(tmp_path: Path, acts: list[Act]) -> None:
    wall_clock = ManualClock()
    async with caching_service(tmp_path, ScriptedProvider([WHOLE]), wall_clock=wall_clock) as tts:
        before, _ = await speak(tts)
    wall_clock.time += 31 * DAY
    second = ScriptedProvider(name="second")
    async with caching_service(tmp_path, ScriptedProvider(acts), second, wall_clock=wall_clock) as tts:
        for _ in range(6):
            begun = loop_clock()
            audio, stream = await speak(tts)
            assert (audio, stream.outcome, stream.provider) == (before, "cached", "scripted")
            assert loop_clock() - begun < 5.0
        assert tts.get_error_state()["circuit_state"] == "open"
    assert second.requests == []


@pytest.mark.looptime
@pytest.mark.parametrize("format", ["pcm_8000", "wav_8000", "mp3_22050_32"])
async def test_recording_continues_in_the_right_voice(tmp_path: Path, format: str) -> None:
    wall_clock, second = ManualClock(), ScriptedProvider(name="second")
    vendor = ScriptedProvider([WHOLE, Say(2.0, every=0.1, then=TTSCutError("cut"))])
    async with caching_service(tmp_path, vendor, second, wall_clock=wall_clock, on_midstream="restart") as tts:
        before = await tts.synthesize(TEXT, format=format)
        wall_clock.time += 31 * DAY
        stream = tts.stream(TEXT, format=format)
        audio = b"".join([chunk async for chunk in stream])
    assert (stream.outcome, second.requests) == ("cached", [])
    samples = AudioFormat.parse("pcm_8000")
    converter = Converter(before.format, samples)
    heard = len(converter.feed(audio) + converter.finish()) / 16000
    # The recording speaks from the start, behind the pause that comes before words that are heard again.
    assert heard == pytest.approx(2.0 + 0.25 + before.duration, abs=0.2)
    assert stream.duration == pytest.approx(heard, abs=0.2)


@pytest.mark.looptime
async def test_old_recording_beats_silence_and_errors(tmp_path: Path) -> None:
    wall_clock = ManualClock()
    async with caching_service(tmp_path, ScriptedProvider([WHOLE]), wall_clock=wall_clock) as tts:
        await speak(tts)
    wall_clock.time += 400 * DAY
    async with caching_service(tmp_path, ScriptedProvider([DOWN]), wall_clock=wall_clock, muted=False) as tts:
        assert (await tts.synthesize(TEXT, format="pcm_8000")).outcome == "cached"
        assert not tts.get_error_state()["is_muted"]


@pytest.mark.looptime
async def test_fresh_recording_causes_no_request(tmp_path: Path) -> None:
    vendor = ScriptedProvider([WHOLE, DOWN])
    async with caching_service(tmp_path, vendor) as tts:
        await speak(tts)
        tts.circuits["scripted"].force_open()
        assert (await speak(tts))[1].outcome == "cached"
        totals = tts.get_error_state()["totals"]
    assert (totals["calls"], totals["refused"]) == (1, 0)


@pytest.mark.looptime
async def test_old_recording_is_replaced_while_its_voice_works(tmp_path: Path) -> None:
    wall_clock, vendor = ManualClock(), ScriptedProvider([WHOLE, Say(4.0), DOWN])
    async with caching_service(tmp_path, vendor, wall_clock=wall_clock) as tts:
        old, _ = await speak(tts)
        wall_clock.time += 31 * DAY
        new, stream = await speak(tts)
        assert stream.outcome == "spoken"
        assert (await speak(tts))[0] == new != old


@pytest.mark.looptime
@pytest.mark.parametrize("jump", [-3650 * DAY, 3650 * DAY])
async def test_clock_jump_costs_a_request_and_not_the_recording(tmp_path: Path, jump: float) -> None:
    wall_clock, vendor = ManualClock(), ScriptedProvider([WHOLE, DOWN])
    async with caching_service(tmp_path, vendor, ScriptedProvider(name="second"), wall_clock=wall_clock) as tts:
        await speak(tts)
        wall_clock.time += jump
        assert (await speak(tts))[1].outcome == "cached", "asked, in vain"
        assert len(vendor.requests) == 2
