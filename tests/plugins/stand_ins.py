"""Stand-ins for the parts of LiveKit Agents and Pipecat that the plugins use, where the frameworks are absent.

They record what a plugin hands over, in order. That they behave like the frameworks is what the suites are for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any, Generic, TypeVar

EventName = TypeVar("EventName")


def module(name: str, **members: Any) -> ModuleType:
    """Make a module with these members."""
    made = ModuleType(name)
    made.__dict__.update(members)
    made.__path__ = []
    return made


async def cancel_and_wait(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# ---------------------------------------------------------------- LiveKit Agents


class StandInAPIError(Exception):
    def __init__(self, message: str, *, retryable: bool = True, status_code: int = -1) -> None:
        super().__init__(message)
        self.retryable, self.status_code = retryable, status_code


class TimedText(str):
    start_time: float
    end_time: float

    def __new__(cls, text: str, start_time: float, end_time: float) -> TimedText:
        made = super().__new__(cls, text)
        made.start_time, made.end_time = start_time, end_time
        return made


class StandInTTS(Generic[EventName]):
    def __init__(self, *, capabilities: Any, sample_rate: int, num_channels: int) -> None:
        self.capabilities, self.sample_rate, self.num_channels = capabilities, sample_rate, num_channels
        self.emitted: list[tuple[str, Any]] = []

    def emit(self, name: str, event: Any) -> None:
        self.emitted.append((name, event))


class StandInStream:
    class _FlushSentinel: ...

    def __init__(self, *, tts: Any, conn_options: Any, input_text: str = "") -> None:
        self._tts, self.input_text = tts, input_text
        self.started = 0
        self.pieces: list[Any] = []

    @property
    async def _input_ch(self) -> AsyncIterator[Any]:
        for piece in self.pieces:
            yield piece
            await asyncio.sleep(0.05)

    def _mark_started(self) -> None:
        self.started += 1


class StandInChunkedStream(StandInStream): ...


@dataclass
class RecordingEmitter:
    """Emitter that keeps the calls of a plugin."""

    calls: list[tuple[str, Any]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *values, **named: self.calls.append((name, values[0] if values else named))


def livekit() -> dict[str, ModuleType]:
    """Return the modules of LiveKit that the plugin imports."""
    tts = SimpleNamespace(
        TTS=StandInTTS,
        TTSCapabilities=SimpleNamespace,
        ChunkedStream=StandInChunkedStream,
        SynthesizeStream=StandInStream,
        AudioEmitter=RecordingEmitter,
    )
    agents = module(
        "livekit.agents",
        tts=tts,
        utils=SimpleNamespace(aio=SimpleNamespace(cancel_and_wait=cancel_and_wait)),
        APIConnectOptions=object,
        DEFAULT_API_CONNECT_OPTIONS=object(),
        APIError=StandInAPIError,
        APIStatusError=StandInAPIError,
    )
    types = module("livekit.agents.types", TimedString=TimedText)
    return {each.__name__: each for each in (module("livekit"), agents, types)}


# ---------------------------------------------------------------- Pipecat


class StandInFrame:
    def __init__(self, *values: Any, **named: Any) -> None:
        self.values, self.metadata = values, dict[str, Any]()
        self.__dict__.update(named)


DIRECTIONS = SimpleNamespace(DOWNSTREAM="downstream")
FRAMES = (
    "AggregatedTextProgressFrame",
    "CancelFrame",
    "EndFrame",
    "ErrorFrame",
    "Frame",
    "TTSAudioRawFrame",
    "TTSStoppedFrame",
    "TTSTextFrame",
)


class StandInMode(Enum):
    SENTENCE = "sentence"
    TOKEN = "token"


class StandInTTSService:
    """Base class of Pipecat's services: one audio context, and a list of what was appended to it."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self._text_aggregation_mode = arguments.get("text_aggregation_mode", StandInMode.SENTENCE)
        self._turn_context_id: str | None = None
        self._settings = arguments["settings"]
        self.sample_rate = 24000
        self.appended: list[Any] = []
        self.pushed: list[Any] = []
        self.closed = asyncio.Event()

    def _register_event_handler(self, name: str) -> None: ...

    async def _call_event_handler(self, name: str, *values: Any) -> None:
        self.appended.append((name, *values))

    def create_task(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return asyncio.create_task(coroutine, name=name)

    async def cancel_task(self, task: asyncio.Task[None]) -> None:
        await cancel_and_wait(task)

    async def setup(self, setup: Any) -> None: ...

    async def cleanup(self) -> None: ...

    async def start_tts_usage_metrics(self, text: str) -> None: ...

    async def on_turn_context_completed(self) -> None:
        self._turn_context_id = None

    async def on_audio_context_interrupted(self, context_id: str) -> None: ...

    def audio_context_available(self, context_id: str) -> bool:
        return not self.closed.is_set()

    async def append_to_audio_context(self, context_id: str, frame: Any) -> None:
        self.appended.append(frame)

    async def add_word_timestamps(self, times: list[tuple[str, float]], context_id: str) -> None:
        self.appended += times

    async def remove_audio_context(self, context_id: str) -> None:
        self.closed.set()

    async def push_frame(self, frame: Any, direction: Any = None) -> None:
        self.pushed.append(frame)

    async def push_error_frame(self, error: Any) -> None:
        self.pushed.append(error)

    async def _apply_force_complete(self, context_id: str) -> None:
        """State that the rest of the text was spoken, as Pipecat does at the end of an audio context."""
        rest = self.arguments["rest"]
        await self.push_frame(rest(context_id=context_id))

    async def _update_settings(self, delta: Any) -> dict[str, Any]:
        self._settings.__dict__.update(delta.__dict__)
        return dict(delta.__dict__)


def pipecat() -> dict[str, ModuleType]:
    """Return the modules of Pipecat that the plugin imports."""
    frames = {name: type(name, (StandInFrame,), {}) for name in FRAMES}
    service = module("pipecat.services.tts_service", TTSService=StandInTTSService, TextAggregationMode=StandInMode)
    modules = [
        *(module(f"pipecat{name}") for name in ("", ".processors", ".transcriptions", ".utils")),
        module("pipecat.frames", frames=None),
        module("pipecat.frames.frames", **frames),
        module(
            "pipecat.processors.frame_processor", FrameDirection=SimpleNamespace(DOWNSTREAM=1), FrameProcessorSetup=0
        ),
        module("pipecat.services", tts_service=service),
        service,
        module("pipecat.services.settings", TTSSettings=SimpleNamespace),
        module("pipecat.transcriptions.language", Language=Enum),
        module("pipecat.utils.errors", ErrorCategory=SimpleNamespace(SERVER="server")),
    ]
    return {each.__name__: each for each in modules}
