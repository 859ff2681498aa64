"""Pipecat's TTS services as docs/clients.md sets them up. Prints what came out of each as JSON.

python pipecat_tts.py GATEWAY WITHOUT_VENDORS_AND_MUTED WITHOUT_VENDORS SNIPPETS_AS_JSON
"""

from __future__ import annotations

import array
import asyncio
import base64
import json
import os
import sys
from typing import Any

import aiohttp
from loguru import logger
from pipecat.frames.frames import EndFrame, ErrorFrame, TTSAudioRawFrame, TTSSpeakFrame, TTSTextFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

GATEWAY, MUTED, UNMUTED, SNIPPETS = sys.argv[1:]
TEXT = "Good evening, this is the news."
RATE = 24000


class FrameCollector(FrameProcessor):  # type: ignore[misc]
    """Takes note of what passes, in either direction."""

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__()
        self.result = result

    async def process_frame(self, frame: Any, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            self.result["audio"] += frame.audio
        elif isinstance(frame, TTSTextFrame):
            self.result["text"].append(frame.text)
        elif isinstance(frame, ErrorFrame):
            self.result["errors"].append(str(frame.error))
        await self.push_frame(frame, direction)


async def spoken(snippet: str, url: str) -> dict[str, Any]:
    result: dict[str, Any] = {"audio": b"", "text": [], "errors": []}
    async with aiohttp.ClientSession() as session:
        scope: dict[str, Any] = {"session": session}
        exec(snippet.replace("http://127.0.0.1:8040", url), scope)
        pipeline = Pipeline([FrameCollector(result), scope["tts"], FrameCollector(result)])
        task = PipelineTask(pipeline, params=PipelineParams(audio_out_sample_rate=RATE), idle_timeout_secs=10)
        await task.queue_frames([TTSSpeakFrame(TEXT), EndFrame()])
        await asyncio.wait_for(PipelineRunner(handle_sigint=False).run(task), 30)
    result["loudest"] = max(map(abs, array.array("h", result["audio"])), default=0)
    result["audio"] = base64.b64encode(result["audio"]).decode()
    result["text"] = " ".join(result["text"])
    return result


async def main() -> None:
    logger.remove()
    results = {}
    for name, snippet in zip(("openai", "elevenlabs"), json.loads(SNIPPETS), strict=True):
        for where, url in (("", GATEWAY), (" muted", MUTED), (" unmuted", UNMUTED)):
            results[name + where] = await spoken(snippet, url)
    print(json.dumps(results), flush=True)
    os._exit(0)


asyncio.run(main())
