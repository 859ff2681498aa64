"""Pipecat: a reply goes on in another voice when the vendor hangs up in the middle of it.

Needs `pip install "steadyvoice[pipecat]"`, and neither a transport nor an API key: the vendor is simulated and breaks
off each answer after a second, the language model is a script, and the loudspeaker is a file.
"""

from __future__ import annotations

import asyncio
import wave
from typing import Any

from loguru import logger
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from steadyvoice import AsyncTTSService, ElevenLabs, Switched, Tone
from steadyvoice.pipecat import TTSService
from steadyvoice.simulator import Fault, Simulator, actions

REPLY = "Of course. It will rain all day, so take an umbrella with you."
NO_KEY = "simulated"
RATE = 24000


class Recorder(FrameProcessor):
    """Loudspeaker that keeps audio and words, in place of your transport's output."""

    def __init__(self) -> None:
        super().__init__()
        self.audio = bytearray()
        self.words: list[str] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Keep audio and words, and pass everything on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            self.audio += frame.audio
        elif isinstance(frame, TTSTextFrame):
            self.words.append(frame.text)
        await self.push_frame(frame, direction)


async def talk(service: AsyncTTSService) -> None:
    """Let a bot answer once, and write `reply.wav`."""
    tts, output = TTSService(service), Recorder()

    @tts.event_handler("on_switched")
    async def on_switched(_: Any, change: Switched) -> None:
        print(f"second {change.at:.1f}: {change.before} -> {change.after}")

    pipeline = Pipeline(
        [tts, output]
    )  # in your program: [transport.input(), stt, ..., llm, tts, transport.output(), ...]
    worker = PipelineWorker(pipeline, params=PipelineParams(audio_out_sample_rate=RATE))
    answer = [LLMTextFrame(f"{word} ") for word in REPLY.split()]
    await worker.queue_frames([LLMFullResponseStartFrame(), *answer, LLMFullResponseEndFrame(), EndFrame()])
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()
    print("said:", " ".join(output.words))
    with wave.open("reply.wav", "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(output.audio)


async def main() -> None:
    """Run the bot in front of a vendor that breaks off, with a local voice behind it."""
    logger.remove()
    async with Simulator(voice="tones") as simulator:
        simulator.faults.set(Fault(actions.Cut(after=1.0)))
        async with AsyncTTSService([ElevenLabs(NO_KEY, base_url=simulator.url), Tone()]) as service:
            await talk(service)


if __name__ == "__main__":
    asyncio.run(main())
