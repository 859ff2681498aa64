"""Tests of the plugin inside Pipecat. Run by `test_frameworks.py` in an environment that has the framework."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    TTSUpdateSettingsFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.elevenlabs.dialogue.tts import ElevenLabsDialogueTTSService
from pipecat.services.elevenlabs.tts import ElevenLabsTTSService
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TextAggregationMode
from pipecat.services.tts_service import TTSService as AnyTTSService

from steadyvoice import AsyncTTSService, Switched
from steadyvoice.pipecat import TTSService
from steadyvoice.simulator import words_in
from steadyvoice.wire.elevenlabs.catalog import VOICES

from .scenarios import (
    BRISK,
    FAULTS,
    RATE,
    TEXT,
    TOKENS,
    WORDS,
    assert_monotonic,
    gateway_on,
    service_on,
    simulated_vendor,
    spoken_through,
)

MODES = list(TextAggregationMode)


class FrameListener(FrameProcessor):
    """Processor behind the text-to-speech: keeps what the transport would play and the context would remember."""

    def __init__(self) -> None:
        super().__init__()
        self.forget()
        self.replies = 0

    def forget(self) -> None:
        self.audio, self.texts, self.stops = b"", list[TTSTextFrame](), 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            assert (frame.sample_rate, frame.num_channels) == (RATE, 1)
            self.audio += frame.audio
        elif isinstance(frame, TTSTextFrame):
            self.texts.append(frame)
        elif isinstance(frame, TTSStoppedFrame):
            self.stops += 1
        elif isinstance(frame, LLMFullResponseEndFrame):
            self.replies += 1
        await self.push_frame(frame, direction)

    @property
    def words(self) -> list[str]:
        return words_in(self.audio, f"pcm_{RATE}")

    @property
    def transcript(self) -> list[str]:
        return " ".join(frame.text for frame in self.texts).split()


@dataclass
class PipelineCall:
    """Pipeline whose language model is a script, and what was heard of it."""

    task: PipelineTask
    tts: AnyTTSService
    listener: FrameListener
    errors: list[ErrorFrame] = field(default_factory=list)

    async def reply(self, tokens: list[str] = TOKENS, pause: float = 0.002) -> list[str]:
        """Let the bot answer, and return the words that were heard."""
        self.listener.forget()
        replies = self.listener.replies
        await self.write(tokens, pause)
        await until(lambda: self.listener.replies > replies)
        return self.listener.words

    async def write(self, tokens: list[str], pause: float = 0.002) -> None:
        await self.task.queue_frame(LLMFullResponseStartFrame())
        for token in tokens:
            await self.task.queue_frame(LLMTextFrame(token))
            await asyncio.sleep(pause)
        await self.task.queue_frame(LLMFullResponseEndFrame())

    def assert_whole(self, text: str = TEXT) -> None:
        assert self.listener.words == text.split()
        assert self.listener.transcript == text.split()
        assert_monotonic([frame.pts for frame in self.listener.texts if frame.pts])
        assert self.listener.stops == 1


async def until(condition: Callable[[], bool], limit: float = 30.0) -> None:
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110 - a framework's frames set no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def call(tts: AnyTTSService) -> AsyncIterator[PipelineCall]:
    """Run a pipeline of the text-to-speech and a listener."""
    listener = FrameListener()
    task = PipelineTask(
        Pipeline([tts, listener]), params=PipelineParams(audio_out_sample_rate=RATE), idle_timeout_secs=None
    )
    running = PipelineCall(task, tts, listener)

    @tts.event_handler("on_error")
    async def on_error(_: Any, frame: ErrorFrame) -> None:
        running.errors.append(frame)

    playing = asyncio.create_task(PipelineRunner(handle_sigint=False).run(task))
    try:
        yield running
        await task.queue_frame(EndFrame())
        async with asyncio.timeout(20):
            await playing
    finally:
        await task.cancel()
        await asyncio.gather(playing, return_exceptions=True)


def plugin(service: AsyncTTSService, **options: Any) -> TTSService:
    return TTSService(service, **{"timeouts": BRISK, **options})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", FAULTS)
async def test_whole_answers_with_word_times(fault: str, mode: TextAggregationMode) -> None:
    async with spoken_through(fault) as service, call(plugin(service, text_aggregation_mode=mode)) as phone:
        for _ in range(2):
            await phone.reply()
            phone.assert_whole()
        assert phone.errors == []
        assert phone.tts.is_usable


async def test_spoken_frame_is_a_turn_of_its_own() -> None:
    async with spoken_through("healthy") as service, call(plugin(service)) as phone:
        await phone.task.queue_frame(TTSSpeakFrame("Good evening."))
        await until(lambda: phone.listener.stops == 1)
        assert phone.listener.words == phone.listener.transcript == ["Good", "evening."]


async def test_change_of_the_voice_is_announced() -> None:
    async with spoken_through("cut") as service:
        tts, changes = plugin(service), list[Switched]()

        @tts.event_handler("on_switched")
        async def on_switched(_: Any, change: Switched) -> None:
            changes.append(change)

        async with call(tts) as phone:
            await phone.reply()
        assert [(change.before, change.after) for change in changes] == [("elevenlabs", "tone")]


async def test_slow_language_model_loses_nothing() -> None:
    async with spoken_through("healthy") as service, call(plugin(service)) as phone:
        writing = asyncio.create_task(phone.reply([*TOKENS[:3], *TOKENS[3:6]], pause=1.2))
        assert await writing == WORDS[:6]
        assert phone.listener.transcript == WORDS[:6]


@pytest.mark.parametrize("mode", MODES)
async def test_barge_in_stops_the_vendor_and_the_next_reply_is_whole(mode: TextAggregationMode) -> None:
    async with (
        simulated_vendor(real_time_factor=0.3) as simulator,
        service_on(simulator) as service,
        call(plugin(service, text_aggregation_mode=mode)) as phone,
    ):
        for _ in range(7):  # a forgotten context would exhaust the vendor's limit of five
            phone.listener.forget()
            await phone.write(TOKENS)
            await until(lambda: len(phone.listener.audio) > RATE)
            await phone.task.queue_frame(InterruptionFrame())
            await until(lambda: phone.tts.get_audio_contexts() == [])
            heard = phone.listener.words
            assert heard == WORDS[: len(heard)] != WORDS
        await asyncio.sleep(0.2)
        await phone.reply()
        phone.assert_whole()
        assert phone.errors == []
        assert service.get_error_state()["totals"]["failures"] == 0


@pytest.mark.parametrize("mode", MODES)
async def test_outage_of_five_replies_is_not_permanent(mode: TextAggregationMode) -> None:
    async with (
        simulated_vendor("503") as simulator,
        service_on(simulator) as service,
        call(plugin(service, text_aggregation_mode=mode)) as phone,
    ):
        for number in range(1, 6):
            assert await phone.reply() == phone.listener.transcript == []
            assert len(phone.errors) >= number
        assert phone.tts.is_usable
        assert not any(error.category and error.category.is_permanent for error in phone.errors)
        simulator.faults.clear()
        await asyncio.sleep(0.5)
        await phone.reply()
        phone.assert_whole()


@pytest.mark.parametrize("mode", MODES)
async def test_transcript_of_a_reply_that_breaks_off_has_what_was_heard(mode: TextAggregationMode) -> None:
    async with (
        simulated_vendor("cut") as simulator,
        service_on(simulator) as service,
        call(plugin(service, text_aggregation_mode=mode)) as phone,
    ):
        heard = await phone.reply()
        assert phone.errors
        assert heard == WORDS[: len(heard)] != WORDS
        assert phone.listener.transcript == heard


async def test_bad_key_of_the_only_vendor_is_not_permanent() -> None:
    async with (
        simulated_vendor("bad key") as simulator,
        service_on(simulator) as service,
        call(plugin(service)) as phone,
    ):
        for _ in range(4):
            assert await phone.reply() == []
        assert phone.tts.is_usable


async def test_vendor_that_is_back_within_a_reply_speaks_the_rest() -> None:
    async with simulated_vendor("503") as simulator, service_on(simulator) as service, call(plugin(service)) as phone:
        await phone.task.queue_frame(LLMFullResponseStartFrame())
        await phone.task.queue_frame(LLMTextFrame("It rains today. We stay"))
        await until(lambda: bool(service.get_error_state()["totals"]["failures"]))
        await asyncio.sleep(1.5)
        simulator.faults.clear()
        await asyncio.sleep(0.5)
        for token in (" at home.", " Tomorrow"):
            await phone.task.queue_frame(LLMTextFrame(token))
        await phone.task.queue_frame(LLMFullResponseEndFrame())
        await until(lambda: phone.listener.replies == 1)
        assert phone.listener.words == phone.listener.transcript == ["We", "stay", "at", "home.", "Tomorrow"]
        assert phone.errors


async def test_settings_change_from_the_next_reply_on() -> None:
    async with simulated_vendor() as simulator, service_on(simulator) as service, call(plugin(service)) as phone:
        await phone.reply(["Hello."])
        await phone.task.queue_frame(TTSUpdateSettingsFrame(delta=TTSSettings(model="eleven_multilingual_v2")))
        await phone.reply(["Hello."])
        await asyncio.sleep(0.2)
    models = {entry.model for entry in simulator.ledger}
    assert "eleven_multilingual_v2" in models, models


async def test_text_beyond_the_limit_is_an_error() -> None:
    async with spoken_through("healthy") as service, call(plugin(service, max_text_characters=20)) as phone:
        assert await phone.reply() == ["It", "rains", "today."]
        assert "too long" in str(phone.errors[0].error)


async def test_pipeline_that_is_cancelled_leaves_nothing_behind() -> None:
    async with simulated_vendor(real_time_factor=0.3) as simulator, service_on(simulator) as service:
        tts = plugin(service)
        async with call(tts) as phone:
            await phone.write(TOKENS)
            await until(lambda: bool(phone.listener.audio))
            await phone.task.cancel()
        assert tts._conversation.turns == []
        assert service.get_error_state()["totals"]["failures"] == 0


# ---------------------------------------------------------------- Pipecat's own ElevenLabs service, at the gateway


OWN: dict[str, tuple[Any, TextAggregationMode]] = {
    "speech": (ElevenLabsTTSService, TextAggregationMode.SENTENCE),
    "tokens": (ElevenLabsTTSService, TextAggregationMode.TOKEN),
    "dialogue": (ElevenLabsDialogueTTSService, TextAggregationMode.SENTENCE),
}
"""Pipecat's services of both APIs; that of dialogues takes sentences only."""
APIS = pytest.mark.parametrize("api", OWN)


@asynccontextmanager
async def own_service_at_a_gateway(
    service: AsyncTTSService, api: str, scenario: str, **options: Any
) -> AsyncIterator[PipelineCall]:
    """Run a pipeline of Pipecat's ElevenLabs service with nothing but another address and a voice."""
    kind, mode = OWN[api]
    async with gateway_on(service, f"pipecat-{api}", scenario) as url:
        settings = kind.Settings(voice=VOICES["George"])
        tts = kind(
            api_key="any", url=url.replace("http", "ws"), settings=settings, text_aggregation_mode=mode, **options
        )
        async with call(tts) as phone:
            yield phone


@APIS
@pytest.mark.parametrize("fault", FAULTS)
async def test_own_service_speaks_whole_answers_on_one_socket(fault: str, api: str) -> None:
    async with spoken_through(fault) as service, own_service_at_a_gateway(service, api, fault) as phone:
        for _ in range(2):
            await phone.reply()
            phone.assert_whole()
        assert phone.errors == []


@APIS
async def test_own_service_answers_after_interruptions(api: str) -> None:
    async with (
        spoken_through("healthy") as service,
        own_service_at_a_gateway(service, api, "interruption healthy") as phone,
    ):
        for _ in range(7):
            phone.listener.forget()
            await phone.write(TOKENS)
            await until(lambda: len(phone.listener.audio) > RATE)
            await phone.task.queue_frame(InterruptionFrame())
            await until(lambda: phone.tts.get_audio_contexts() == [])
        await asyncio.sleep(0.2)
        await phone.reply()
        phone.assert_whole()
        assert phone.errors == []


@APIS
async def test_own_service_speaks_again_after_an_outage_if_it_does_not_count_silent_replies(api: str) -> None:
    async with (
        simulated_vendor("503") as simulator,
        service_on(simulator) as service,
        own_service_at_a_gateway(service, api, "outage", max_consecutive_zero_audio_contexts=0) as phone,
    ):
        for _ in range(5):
            assert await phone.reply() == []
        simulator.faults.clear()
        await asyncio.sleep(0.5)
        await phone.reply()
        phone.assert_whole()
