"""Streaming: receive audio while it is synthesized, and save WebVTT captions with the time of each word."""

from __future__ import annotations

import asyncio
from pathlib import Path

from steadyvoice import AsyncTTSService, Tone

TEXT = "Good evening. Here is the weather. Rain is expected until noon tomorrow."


async def speak() -> tuple[bytes, str]:
    """Return the whole audio and its captions."""
    audio = b""
    async with AsyncTTSService([Tone()]) as tts, tts.stream(TEXT, format="mp3_44100_128") as stream:
        async for chunk in stream:
            audio += chunk  # or play it, or send it on
    print(f"{stream.outcome}: {stream.duration:.1f} s, {len(stream.alignment.words())} words")
    return audio, stream.captions()


def main() -> None:
    """Write `weather.mp3` and `weather.vtt`."""
    audio, captions = asyncio.run(speak())
    Path("weather.mp3").write_bytes(audio)
    Path("weather.vtt").write_text(captions, encoding="utf-8")


if __name__ == "__main__":
    main()
