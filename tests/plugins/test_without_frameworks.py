"""What the plugins hand over to their frameworks, in which order, where the frameworks are stand-ins."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from steadyvoice import TTSConfigurationError
from steadyvoice.audio.word_tones import words_in

from ..service.conftest import MakeService
from ..service.conftest import make_service as make_service
from ..service.scripted_provider import ScriptedProvider
from ..service.word_tone_provider import DOWN, Fault, WordToneProvider
from . import stand_ins
from .scenarios import TEXT, TOKENS, WORDS
from .stand_ins import RecordingEmitter

pytestmark = pytest.mark.looptime


@pytest.fixture
def livekit(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from plugin(monkeypatch, "livekit", stand_ins.livekit())


@pytest.fixture
def pipecat(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from plugin(monkeypatch, "pipecat", stand_ins.pipecat())


def plugin(monkeypatch: pytest.MonkeyPatch, name: str, framework: dict[str, ModuleType]) -> Iterator[ModuleType]:
    """Import a plugin on top of a stand-in, and forget it afterwards."""
    for each, stand_in in framework.items():
        monkeypatch.setitem(sys.modules, each, stand_in)
    monkeypatch.delitem(sys.modules, f"steadyvoice.{name}", raising=False)  # imported on top of something else
    yield importlib.import_module(f"steadyvoice.{name}")
    del sys.modules[f"steadyvoice.{name}"]


async def streamed(tts: Any, pieces: list[Any]) -> RecordingEmitter:
    emitter, stream = RecordingEmitter(), tts.stream()
    stream.pieces = pieces
    await stream._run(emitter)
    return emitter


async def test_livekit_gets_each_word_before_its_audio_and_one_segment(
    livekit: ModuleType, make_service: MakeService
) -> None:
    async with make_service(WordToneProvider([Fault("cut", 0.5)]), WordToneProvider(name="second")) as service:
        tts = livekit.TTS(service)
        calls = (await streamed(tts, list(TOKENS))).calls
    assert [name for name, _ in calls if name not in ("push", "push_timed_transcript")] == [
        "initialize",
        "start_segment",
        "end_segment",
    ]
    audio, transcript = b"", ""
    for name, value in calls:
        if name == "push":
            audio += value
        elif name == "push_timed_transcript":
            assert value.end_time >= len(audio) / 48000 - 0.05
            transcript += value
    assert (words_in(audio, "pcm_24000"), transcript) == (WORDS, TEXT)
    assert [(name, change.after) for name, change in tts.emitted] == [("switched", "second")]


async def test_livekit_need_not_retry_what_failed_and_does_not_see_an_error_in_a_reply_without_words(
    livekit: ModuleType, make_service: MakeService
) -> None:
    async with make_service(ScriptedProvider([DOWN] * 9)) as service:
        tts = livekit.TTS(service)
        with pytest.raises(stand_ins.StandInAPIError) as failed:
            await streamed(tts, list(TOKENS))
        with pytest.raises(stand_ins.StandInAPIError) as quiet:
            await streamed(tts, ["..."])
        with pytest.raises(TTSConfigurationError, match="sample_rate"):
            livekit.TTS(service, format="mp3")
    assert not failed.value.retryable
    assert quiet.value.status_code == 499


async def written(service: Any, *sentences: str) -> None:
    """Push sentences as Pipecat does, and end the turn."""
    service._turn_context_id = "reply"
    for sentence in sentences:
        async for _ in service.run_tts(f"{sentence} ", "reply"):
            await asyncio.sleep(0.2)
    await service.on_turn_context_completed()


async def test_pipecat_gets_each_word_before_its_audio_and_one_end(
    pipecat: ModuleType, make_service: MakeService
) -> None:
    async with make_service(WordToneProvider([Fault("cut", 0.5)]), WordToneProvider(name="second")) as service:
        tts = pipecat.TTSService(service)
        await written(tts, "It rains today.", "We stay.")
        await tts.closed.wait()
    audio, words = b"", []
    for item in tts.appended[:-1]:
        if isinstance(item, tuple) and item[0] != "on_switched":
            words.append(item[0])
            assert item[1] >= len(audio) / 48000 - 0.5
        elif not isinstance(item, tuple):
            audio += item.values[0]
    assert words_in(audio, "pcm_24000") == words == ["It", "rains", "today.", "We", "stay."]
    assert type(tts.appended[-1]).__name__ == "TTSStoppedFrame"


async def test_pipecats_transcript_leaves_out_lost_text_and_the_service_stays_usable(
    pipecat: ModuleType, make_service: MakeService
) -> None:
    async with make_service(ScriptedProvider([DOWN] * 9)) as service:
        tts = pipecat.TTSService(service, rest=sys.modules["pipecat.frames.frames"].TTSTextFrame)
        await written(tts, "It rains today.")
        await tts.closed.wait()
        (error,) = [frame for frame in tts.appended if type(frame).__name__ == "ErrorFrame"]
        await tts.push_error_frame(error)
        assert tts.pushed == [error]
        assert error.category == "server"
        await tts._apply_force_complete("reply")
        assert len(tts.pushed) == 2, "text of other replies is stated"
    assert tts.arguments["max_consecutive_zero_audio_contexts"] == 0


async def test_pipecat_stops_the_vendor_at_an_interruption(pipecat: ModuleType, make_service: MakeService) -> None:
    provider = WordToneProvider([Fault("stall", 0.5)])
    async with make_service(provider) as service:
        tts = pipecat.TTSService(service)
        writing = asyncio.create_task(written(tts, TEXT))
        await asyncio.sleep(0.1)
        await tts.on_audio_context_interrupted("reply")
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert tts._conversation.turns == []
        assert service.get_error_state()["totals"]["failures"] == 0
