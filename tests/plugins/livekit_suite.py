"""Tests of the plugin inside LiveKit Agents. Run by `test_frameworks.py` in an environment that has the framework."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from livekit import rtc
from livekit.agents import Agent, AgentSession, APIConnectOptions, APIError, llm
from livekit.agents import tts as agents_tts
from livekit.agents.types import USERDATA_TIMED_TRANSCRIPT
from livekit.agents.voice.agent_session import SessionConnectOptions
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities
from livekit.agents.voice.transcription import TranscriptSynchronizer
from livekit.plugins import elevenlabs

from steadyvoice import AsyncTTSService, Switched
from steadyvoice.livekit import TTS
from steadyvoice.simulator import words_in

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


@dataclass
class HeardAnswer:
    audio: bytes = b""
    timed: list[Any] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        return words_in(self.audio, f"pcm_{RATE}")

    @property
    def transcript(self) -> str:
        return "".join(self.timed)

    def add(self, event: agents_tts.SynthesizedAudio) -> None:
        begun = len(self.audio) / 2 / RATE
        self.audio += bytes(event.frame.data)
        new = event.frame.userdata.get(USERDATA_TIMED_TRANSCRIPT) or []
        assert all(word.end_time >= begun - 0.3 for word in new)  # with its audio, not behind it
        self.timed += new

    def assert_whole(self, text: str = TEXT) -> None:
        assert self.words == text.split()
        assert self.transcript.rstrip() == text
        assert_monotonic([time for word in self.timed for time in (word.start_time, word.end_time)])


def plugin(service: AsyncTTSService, **options: Any) -> TTS:
    return TTS(service, **{"timeouts": BRISK, **options})


async def streamed(tts: agents_tts.TTS, text: str = TEXT) -> HeardAnswer:
    heard = HeardAnswer()
    async with tts.stream() as stream:
        for token in text.split(" "):
            stream.push_text(f" {token}" if stream._pushed_text else token)
        stream.end_input()
        async for event in stream:
            heard.add(event)
    return heard


@pytest.mark.parametrize("fault", FAULTS)
async def test_whole_answer_with_word_times(fault: str) -> None:
    async with spoken_through(fault) as service:
        tts = plugin(service)
        for _ in range(3):
            (await streamed(tts)).assert_whole()


@pytest.mark.parametrize("fault", FAULTS)
async def test_finished_text(fault: str) -> None:
    async with spoken_through(fault) as service:
        heard = HeardAnswer()
        async for event in plugin(service).synthesize(TEXT):
            heard.add(event)
        heard.assert_whole()


async def test_change_of_the_voice_is_announced() -> None:
    async with spoken_through("cut") as service:
        tts, changes = plugin(service), list[Switched]()
        tts.on("switched", changes.append)
        await streamed(tts)
        assert [(change.before, change.after) for change in changes] == [("elevenlabs", "tone")]


@pytest.mark.parametrize("text", ["", " ", "...", "* \n"])
async def test_text_without_words_is_quiet(text: str) -> None:
    async with spoken_through("healthy") as service:
        tts, errors = plugin(service), list[Any]()
        tts.on("error", errors.append)
        assert (await streamed(tts, text)).audio == b""
        assert [event async for event in tts.synthesize(text)] == []
        assert errors == []


async def test_outage_is_an_error_at_once_and_the_next_reply_may_be_spoken() -> None:
    async with simulated_vendor("503") as simulator, service_on(simulator) as service:
        tts, errors = plugin(service), list[Any]()
        tts.on("error", errors.append)
        for _ in range(5):
            with pytest.raises(APIError) as raised:
                await streamed(tts)
            assert not raised.value.retryable
        assert [(error.recoverable, error.error.retryable) for error in errors] == [(True, False)] * 5
        simulator.faults.clear()
        await asyncio.sleep(0.5)
        (await streamed(tts)).assert_whole()


async def test_text_beyond_the_limit_is_an_error() -> None:
    async with spoken_through("healthy") as service:
        with pytest.raises(APIError, match="too long"):
            await streamed(plugin(service, max_text_characters=20))


async def test_metrics_name_the_providers() -> None:
    async with spoken_through("healthy") as service:
        tts, metrics = plugin(service), list[Any]()
        tts.on("metrics_collected", metrics.append)
        await streamed(tts)
        (seen,) = metrics
        assert seen.characters_count == len(TEXT)
        assert 0 < seen.ttfb < 5
        assert (seen.metadata.model_provider, seen.metadata.model_name) == ("steadyvoice", "elevenlabs, tone")


async def test_options_change_from_the_next_reply_on() -> None:
    async with simulated_vendor() as simulator, service_on(simulator) as service:
        tts = plugin(service)
        await streamed(tts, "Hello there.")
        tts.update_options(model="eleven_multilingual_v2")
        tts.prewarm()
        await streamed(tts, "Hello again.")
        await tts.aclose()
        assert {"eleven_flash_v2_5", "eleven_multilingual_v2"} >= {entry.model for entry in simulator.ledger}
        with pytest.raises(RuntimeError, match="closed"):
            await streamed(tts)


# ---------------------------------------------------------------- in a session


class ScriptedLLM(llm.LLM):
    """Language model that answers everything with the same tokens, and then pauses for as long as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.pause = TOKENS, 0.002

    def chat(self, *, chat_ctx: Any, tools: Any = None, conn_options: Any = None, **_: Any) -> llm.LLMStream:
        return ScriptedStream(
            self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options or APIConnectOptions()
        )


class ScriptedStream(llm.LLMStream):
    async def _run(self) -> None:
        assert isinstance(self._llm, ScriptedLLM)
        for token in self._llm.tokens:
            await asyncio.sleep(self._llm.pause)
            self._event_ch.send_nowait(llm.ChatChunk(id="1", delta=llm.ChoiceDelta(role="assistant", content=token)))


class Loudspeaker(AudioOutput):
    """Output of a session that plays faster than real time unless it is told otherwise, and keeps what was played."""

    def __init__(self) -> None:
        super().__init__(label="loudspeaker", capabilities=AudioOutputCapabilities(pause=False), sample_rate=RATE)
        self.speed = 20
        self.audio = b""
        self._segment = b""
        self._playing: asyncio.Task[None] | None = None
        self._more = asyncio.Event()
        self._complete = False
        self.played = 0.0

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        self._segment += bytes(frame.data)
        self._more.set()
        if self._playing is None:
            self._complete, self.played = False, 0.0
            self.on_playback_started(created_at=time.time())
            self._playing = asyncio.create_task(self._play())

    def flush(self) -> None:
        super().flush()
        self._complete = True
        self._more.set()

    def clear_buffer(self) -> None:
        if self._playing:
            self._playing.cancel()
            self._finish(interrupted=True)

    async def _play(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            seconds = len(self._segment) / 2 / RATE
            if self.played < seconds:
                # By the clock, as LiveKit's synchronizer of transcripts: a sleep is longer on a busy machine.
                began = loop.time()
                await asyncio.sleep(0.02 / self.speed)
                self.played = min(seconds, self.played + (loop.time() - began) * self.speed)
            elif self._complete:
                return self._finish(interrupted=False)
            else:
                self._more.clear()
                await self._more.wait()

    def _finish(self, *, interrupted: bool) -> None:
        self.audio += self._segment[: int(self.played * RATE) * 2]
        self._segment, self._playing = b"", None
        self.on_playback_finished(playback_position=self.played, interrupted=interrupted)


@dataclass
class AgentCall:
    session: AgentSession[Any]
    llm: ScriptedLLM
    output: Loudspeaker
    errors: list[Any] = field(default_factory=list)
    closed: list[Any] = field(default_factory=list)

    async def reply(self) -> list[str]:
        """Let the agent answer, and return the words that were heard."""
        self.output.audio = b""
        async with asyncio.timeout(30):
            await self.session.generate_reply(user_input="Will it rain?")
        return words_in(self.output.audio, f"pcm_{RATE}")

    @property
    def last_answer(self) -> Any:
        return [message for message in self.messages if message.role == "assistant"][-1]

    @property
    def messages(self) -> list[Any]:
        return [item for item in self.session.history.items if isinstance(item, llm.ChatMessage)]


@asynccontextmanager
async def call(tts: agents_tts.TTS, **options: Any) -> AsyncIterator[AgentCall]:
    """Run an `AgentSession` with a scripted language model and a loudspeaker."""
    model, output = ScriptedLLM(), Loudspeaker()
    session = AgentSession[Any](llm=model, tts=tts, **options)
    synchronizer = TranscriptSynchronizer(next_in_chain_audio=output, next_in_chain_text=None)
    session.output.audio, session.output.transcription = synchronizer.audio_output, synchronizer.text_output
    running = AgentCall(session, model, output)
    session.on("error", running.errors.append)
    session.on("close", running.closed.append)
    await session.start(Agent(instructions="Answer."), record=False)
    try:
        yield running
    finally:
        await session.aclose()
        await synchronizer.aclose()


@pytest.mark.parametrize("fault", FAULTS)
async def test_agent_answers_several_times(fault: str) -> None:
    async with spoken_through(fault) as service, call(plugin(service), use_tts_aligned_transcript=True) as phone:
        for _ in range(3):
            assert await phone.reply() == WORDS
            assert (phone.last_answer.text_content or "").split() == WORDS
        assert phone.errors == []


async def test_interrupted_agent_remembers_what_was_heard() -> None:
    async with spoken_through("healthy") as service, call(plugin(service), use_tts_aligned_transcript=True) as phone:
        phone.output.speed = 1
        handle = phone.session.generate_reply(user_input="Will it rain?")
        while phone.output.played < 2.0:  # noqa: ASYNC110 - the loudspeaker has no event for a second
            await asyncio.sleep(0.01)
        await phone.session.interrupt()
        await handle
        heard = words_in(phone.output.audio, f"pcm_{RATE}")
        assert heard == WORDS[: len(heard)] != WORDS
        assert phone.last_answer.interrupted
        remembered = (phone.last_answer.text_content or "").split()
        assert remembered == WORDS[: len(remembered)]
        assert abs(len(remembered) - len(heard)) <= 2
        phone.output.speed = 20
        assert await phone.reply() == WORDS
        state = service.get_error_state()
        assert state["totals"]["failures"] == 0


async def test_session_outlives_an_outage_of_five_replies() -> None:
    async with (
        simulated_vendor("503") as simulator,
        service_on(simulator) as service,
        call(plugin(service)) as phone,
    ):
        for _ in range(5):
            assert await phone.reply() == []
        assert len(phone.errors) == 5
        assert all(not event.error.error.retryable for event in phone.errors)
        assert [message.role for message in phone.messages] == ["user"] * 5  # none was remembered as spoken
        simulator.faults.clear()
        await asyncio.sleep(0.5)
        assert await phone.reply() == WORDS
        assert phone.closed == []


# ---------------------------------------------------------------- LiveKit's own ElevenLabs plugin, at the gateway


MODELS = {"speech": "eleven_turbo_v2_5", "dialogue": "eleven_v3"}
APIS = pytest.mark.parametrize("api", MODELS)


@asynccontextmanager
async def own_plugin_at_a_gateway(service: AsyncTTSService, api: str, scenario: str) -> AsyncIterator[elevenlabs.TTS]:
    """Open LiveKit's ElevenLabs plugin with another address and a model, which decides about the API."""
    async with gateway_on(service, f"livekit-{api}", scenario) as url, aiohttp.ClientSession() as session:
        tts = elevenlabs.TTS(
            base_url=f"{url}/v1", api_key="any", encoding=f"pcm_{RATE}", http_session=session, model=MODELS[api]
        )
        yield tts
        await tts.aclose()


ONCE = APIConnectOptions(max_retry=0)
"""Options for LiveKit's plugin at the gateway, which has retried already."""


@APIS
@pytest.mark.parametrize("fault", FAULTS)
async def test_own_plugin_speaks_whole_answers_on_one_socket(fault: str, api: str) -> None:
    async with spoken_through(fault) as service, own_plugin_at_a_gateway(service, api, fault) as tts:
        for _ in range(3):
            (await streamed(tts)).assert_whole()


@APIS
@pytest.mark.parametrize("fault", ["healthy", "cut", "stall"])
async def test_agent_with_the_own_plugin_answers_after_an_interruption(fault: str, api: str) -> None:
    async with (
        spoken_through(fault) as service,
        own_plugin_at_a_gateway(service, api, f"interruption {fault}") as tts,
        call(tts, use_tts_aligned_transcript=True) as phone,
    ):
        assert await phone.reply() == WORDS
        phone.output.speed = 1
        handle = phone.session.generate_reply(user_input="Will it rain?")
        while phone.output.played < 1.0:  # noqa: ASYNC110 - the loudspeaker has no event for a second
            await asyncio.sleep(0.01)
        await phone.session.interrupt()
        await handle
        phone.output.speed = 20
        assert await phone.reply() == WORDS
        assert phone.errors == []


@APIS
async def test_own_plugin_speaks_again_after_an_outage_of_five_replies(api: str) -> None:
    async with (
        simulated_vendor("503") as simulator,
        service_on(simulator) as service,
        own_plugin_at_a_gateway(service, api, "outage") as tts,
        call(tts, conn_options=SessionConnectOptions(tts_conn_options=ONCE, max_unrecoverable_errors=1000)) as phone,
    ):
        for number in range(1, 6):
            assert await phone.reply() == []
            assert len(phone.errors) == number
        simulator.faults.clear()
        await asyncio.sleep(0.5)
        assert await phone.reply() == WORDS
        assert phone.closed == []
