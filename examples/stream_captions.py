"""Hear a text while it is made, and have captions of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from steadyvoice import AsyncTTSService, Tone

TALE = "Once upon a time there was a voice. It kept on speaking. Nobody knew how."


async def speak() -> tuple[bytes, str]:
    """Hear the tale chunk by chunk, as a player or a websocket would."""
    heard = b""
    async with AsyncTTSService([Tone()]) as tts, tts.stream(TALE, format="mp3_44100_128") as stream:
        async for chunk in stream:
            heard += chunk  # or play it, or send it on
    print(f"{stream.outcome}: {stream.duration:.1f} s, {len(stream.alignment.words())} words")
    return heard, stream.captions()


def main() -> None:
    """Write `tale.mp3`, and `tale.vtt` with the time of each word."""
    audio, captions = asyncio.run(speak())
    Path("tale.mp3").write_bytes(audio)
    Path("tale.vtt").write_text(captions, encoding="utf-8")


if __name__ == "__main__":
    main()
