"""LiveKit Agents: a reply goes on in another voice when the vendor hangs up in the middle of it.

Needs `pip install "steadyvoice[livekit]"`, and neither a room nor an API key: the vendor is simulated and breaks off
each answer after a second, the language model is a script, and the loudspeaker is a file.
"""

from __future__ import annotations

import asyncio
import time
import wave
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, llm
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities

from steadyvoice import AsyncTTSService, ElevenLabs, Tone
from steadyvoice.livekit import TTS
from steadyvoice.simulator import Fault, Simulator, actions

REPLY = "Of course. It will rain all day, so take an umbrella with you."
NO_KEY = "simulated"


class ScriptedModel(llm.LLM):
    """Stand-in for your language model."""

    def chat(self, *, chat_ctx: Any, tools: Any = None, conn_options: Any = None, **_: Any) -> llm.LLMStream:
        """Answer anything with the same words."""
        return ScriptedAnswer(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class ScriptedAnswer(llm.LLMStream):
    """Answer of the language model, a word at a time."""

    async def _run(self) -> None:
        for word in REPLY.split():
            await asyncio.sleep(0.01)
            self._event_ch.send_nowait(llm.ChatChunk(id="reply", delta=llm.ChoiceDelta(content=f"{word} ")))


class Recorder(AudioOutput):
    """Loudspeaker that keeps what it would play, in place of the room's."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__(label="recorder", capabilities=AudioOutputCapabilities(pause=False), sample_rate=sample_rate)
        self.audio = bytearray()
        self._seconds = 0.0

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Keep a frame."""
        await super().capture_frame(frame)
        if not self._seconds:
            self.on_playback_started(created_at=time.time())
        self.audio += frame.data
        self._seconds += frame.duration

    def flush(self) -> None:
        """End a reply: it counts as played."""
        super().flush()
        self.on_playback_finished(playback_position=self._seconds, interrupted=False)
        self._seconds = 0.0

    def clear_buffer(self) -> None:
        """Drop what was not played: nothing."""


async def talk(service: AsyncTTSService) -> None:
    """Let an agent answer once, and write `reply.wav`."""
    tts = TTS(service)
    tts.on("switched", lambda change: print(f"second {change.at:.1f}: {change.before} -> {change.after}"))
    session = AgentSession[None](llm=ScriptedModel(), tts=tts)
    session.output.audio = output = Recorder(tts.sample_rate)
    await session.start(Agent(instructions="Tell the weather."), record=False)
    await session.generate_reply(user_input="Will it rain?")
    print("said:", session.history.items[-1].text_content)
    await session.aclose()
    await tts.aclose()
    with wave.open("reply.wav", "wb") as file:
        file.setparams((1, 2, tts.sample_rate, 0, "NONE", ""))
        file.writeframes(output.audio)


async def main() -> None:
    """Run the agent in front of a vendor that breaks off, with a local voice behind it."""
    async with Simulator(voice="tones") as simulator:
        simulator.faults.set(Fault(actions.Cut(after=1.0)))
        async with AsyncTTSService([ElevenLabs(NO_KEY, base_url=simulator.url), Tone()]) as service:
            await talk(service)


if __name__ == "__main__":
    asyncio.run(main())
