"""Pipecat's own ElevenLabs service at the gateway's websocket, one answer after another. Prints what was heard as JSON.

python pipecat_turns.py GATEWAY TURNS_AS_JSON END_OF_OUTAGE

Before the turn that is null, the URL END_OF_OUTAGE is posted to.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from typing import Any

import aiohttp
from loguru import logger
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    EndFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.elevenlabs.tts import ElevenLabsTTSService

URL, TURNS, END_OF_OUTAGE = sys.argv[1:]
GEORGE = "JBFqnCBsd6RMkjVDRZzb"
RATE = 24000
# Three answers without audio in a row would end the service for the whole session.
SURVIVES_OUTAGES = {"max_consecutive_zero_audio_contexts": 0}


class Player(FrameProcessor):  # type: ignore[misc]
    """Plays at once whatever comes, and takes note of it."""

    def __init__(self) -> None:
        super().__init__()
        self.turn: dict[str, Any] = {}
        self.stopped = asyncio.Event()

    async def process_frame(self, frame: Any, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSStartedFrame):
            await self.push_frame(BotStartedSpeakingFrame(), FrameDirection.UPSTREAM)
        elif isinstance(frame, TTSAudioRawFrame):
            self.turn["audio"] += frame.audio
        elif isinstance(frame, TTSTextFrame):
            self.turn["words"].append((frame.text, frame.pts))
        elif isinstance(frame, TTSStoppedFrame):
            await self.push_frame(BotStoppedSpeakingFrame(), FrameDirection.UPSTREAM)
            self.stopped.set()
        await self.push_frame(frame, direction)


async def main() -> None:
    logger.remove()
    settings = ElevenLabsTTSService.Settings(voice=GEORGE)
    address = URL.replace("http", "ws", 1)
    tts = ElevenLabsTTSService(api_key="any", url=address, sample_rate=RATE, settings=settings, **SURVIVES_OUTAGES)
    player = Player()
    task = PipelineTask(Pipeline([tts, player]), params=PipelineParams(audio_out_sample_rate=RATE))
    running = asyncio.create_task(PipelineRunner(handle_sigint=False).run(task))
    results = []
    async with aiohttp.ClientSession() as session:
        for text in json.loads(TURNS):
            if text is None:
                async with session.post(END_OF_OUTAGE) as response:
                    await response.read()
                continue
            player.turn = {"audio": b"", "words": []}
            player.stopped.clear()
            tokens = [LLMTextFrame(f"{word} ") for word in text.split()]
            await task.queue_frames([LLMFullResponseStartFrame(), *tokens, LLMFullResponseEndFrame()])
            await asyncio.wait_for(player.stopped.wait(), 20)
            await asyncio.sleep(0.2)  # the service finishes the turn
            audio = base64.b64encode(player.turn["audio"]).decode()
            results.append({"audio": audio, "words": player.turn["words"], "error": None})
    await task.queue_frames([EndFrame()])
    await asyncio.wait_for(running, 20)
    print(json.dumps(results), flush=True)
    os._exit(0)


asyncio.run(main())
