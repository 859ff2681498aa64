"""Cache: equal text is not bought again, and only good answers are stored."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from steadyvoice import AsyncTTSService, CacheConfig, Tone, TTSConfigurationError
from steadyvoice.speech.errors import TTSCutError

from ..conftest import MakeService
from ..scripted_provider import Act, Say, ScriptedProvider, Send, pcm
from .cached_service import DOWN, TEXT, WHOLE, TimedProvider, caching_service, speak


@pytest.mark.looptime
@pytest.mark.parametrize("format", ["pcm_8000", "wav_8000", "mp3_22050_32", "opus_48000_64"])
async def test_same_text_is_requested_once_and_sounds_the_same(tmp_path: Path, format: str) -> None:
    vendor = ScriptedProvider([Say(aligned=True)])
    async with caching_service(tmp_path, vendor) as tts:
        first = await tts.synthesize(TEXT, format=format)
        again = await tts.synthesize(TEXT, format=format)
    async with caching_service(tmp_path, vendor) as tts, tts.stream(TEXT, format=format) as stream:
        streamed = b"".join([chunk async for chunk in stream])
    assert (first.outcome, again.outcome, stream.outcome) == ("spoken", "cached", "cached")
    assert first.audio == again.audio == streamed
    assert first.alignment == again.alignment == stream.alignment
    assert first.captions() == again.captions()
    assert (again.provider, again.duration, again.attempts) == ("scripted", first.duration, [])
    assert len(vendor.requests) == 1


@pytest.mark.looptime
async def test_nothing_is_stored_without_a_folder(make_service: MakeService, tmp_path: Path) -> None:
    vendor = ScriptedProvider()
    tts = make_service(vendor)
    assert [(await tts.synthesize(TEXT)).outcome for _ in range(2)] == ["spoken", "spoken"]
    assert tts.get_error_state()["cache"] is None
    async with caching_service(tmp_path, vendor, cache=CacheConfig(tmp_path, max_megabytes=0)) as none:
        await none.synthesize(TEXT)
    assert os.listdir(tmp_path) == []


@pytest.mark.looptime
async def test_private_text_can_be_excluded(tmp_path: Path) -> None:
    vendor = ScriptedProvider()
    async with caching_service(tmp_path, vendor) as tts:
        await tts.synthesize("Your code is 1 2 3 4", cache=False)
        assert os.listdir(tmp_path) == []
        await tts.synthesize("Your code is 1 2 3 4")
        assert (await tts.synthesize("Your code is 1 2 3 4", cache=False)).outcome == "spoken"
    assert len(vendor.requests) == 3


@pytest.mark.looptime
async def test_substitute_voice_is_stored_as_itself(tmp_path: Path) -> None:
    first, second = ScriptedProvider([DOWN, DOWN, WHOLE]), ScriptedProvider([WHOLE], name="second")
    async with caching_service(tmp_path, first, second) as tts:
        assert (await speak(tts))[1].outcome == "substituted"
        tts.circuits["scripted"].force_open()
        _, stream = await speak(tts)
        assert (stream.outcome, stream.provider) == ("substituted", "second")
        assert len(second.requests) == 1, "and not paid twice"
        tts.circuits["scripted"].reset()
        assert (await speak(tts))[1].outcome == "spoken", "the first voice is asked again as soon as it can speak"


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("first", "second", "on_midstream"),
    [
        (Say(every=0.1, then=TTSCutError("cut"), aligned=True), WHOLE, "resume"),
        (Say(every=0.1, then=TTSCutError("cut")), WHOLE, "restart"),
        (DOWN, DOWN, "resume"),
    ],
    ids=["two voices", "begun twice", "silence"],
)
async def test_utterance_of_several_voices_is_not_stored(
    tmp_path: Path, first: Act, second: Act, on_midstream: Any
) -> None:
    for _ in range(2):
        vendors = TimedProvider([first]), TimedProvider([second], name="second")
        async with caching_service(tmp_path, *vendors, on_midstream=on_midstream) as tts:
            _, stream = await speak(tts)
            assert tts.get_error_state()["cache"]["kept"] == 0
        assert stream.attempts


@pytest.mark.looptime
async def test_unusually_short_answer_is_not_stored(tmp_path: Path) -> None:
    text = f"{TEXT} It rains."
    short = pcm(0.66 * len(text) * 0.06 - 0.2) + bytes(3200)  # it ends in a pause, as a sentence does
    async with caching_service(tmp_path, ScriptedProvider([WHOLE, Send(short)])) as tts:
        await tts.synthesize(text.replace("morning", "evening"), format="pcm_8000")
        assert (await tts.synthesize(text, format="pcm_8000", on_midstream="error")).outcome == "spoken"
        assert tts.get_error_state()["cache"]["kept"] == 1


@pytest.mark.looptime
async def test_too_large_answer_is_spoken_and_not_stored(tmp_path: Path) -> None:
    text = "And so it went on, and on, and on. " * 100
    vendor = ScriptedProvider()
    cache = CacheConfig(tmp_path, max_megabytes=1)
    async with caching_service(tmp_path, vendor, cache=cache, on_midstream="error") as tts:
        first, second = await asyncio.gather(speak(tts, text), speak(tts, text))
        assert first[0] == second[0]
        assert (await speak(tts, text))[1].outcome == "spoken"


@pytest.mark.parametrize(
    "wrong", [{"max_megabytes": -1}, {"max_megabytes": 1.5}, {"max_age_days": 0}, {"path": ""}, {"path": 3}]
)
def test_invalid_cache_settings_are_rejected(wrong: dict[str, Any]) -> None:
    with pytest.raises(TTSConfigurationError, match=f"{next(iter(wrong))}: must"):
        CacheConfig(**wrong)


def test_invalid_setting_or_option_is_named(tmp_path: Path) -> None:
    with pytest.raises(TTSConfigurationError, match="cache: must be a CacheConfig"):
        AsyncTTSService([Tone()], cache=True)  # type: ignore[arg-type]
    with pytest.raises(TTSConfigurationError, match="cache: must be true or false"):
        AsyncTTSService([Tone()]).stream("Hi", cache=tmp_path)  # type: ignore[arg-type]
