"""Service with a cache, and a wall clock moved by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from steadyvoice import AsyncSpeechStream, AsyncTTSService
from steadyvoice.speech.errors import TTSServerError

from ..conftest import BRIEF, loop_clock
from ..scripted_provider import Say, ScriptedProvider

TEXT = "Good morning, dear listeners, wherever you are."
DOWN = TTSServerError("HTTP 503")
WHOLE = Say(pieces=1)


class ManualClock:
    """Wall clock moved by hand."""

    def __init__(self) -> None:
        # Any fixed time: the age of entries is counted by this clock only.
        self.time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time


def caching_service(folder: Path, *providers: Any, **settings: Any) -> AsyncTTSService:
    settings = {"circuit": BRIEF, "clock": loop_clock, "cache": folder, **settings}
    return AsyncTTSService(list(providers), **settings)


class TimedProvider(ScriptedProvider):
    """Provider with timestamps."""

    def offer(self, request: Any) -> Any:
        return replace(super().offer(request), timed=request.timestamps)


async def speak(tts: AsyncTTSService, text: str = TEXT, **options: Any) -> tuple[bytes, AsyncSpeechStream]:
    stream = tts.stream(text, format="pcm_8000", **options)
    return b"".join([chunk async for chunk in stream]), stream
