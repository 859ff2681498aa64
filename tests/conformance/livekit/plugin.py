"""Run LiveKit's ElevenLabs plugin against a simulator, and print the results as JSON for the test to check.

python plugin.py BASE_URL VOICE TEXT FAULT...
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections.abc import Awaitable
from typing import Any

import aiohttp
from livekit.agents import APIConnectOptions
from livekit.plugins.elevenlabs import TTS

URL, VOICE, TEXT, *FAULTS = sys.argv[1:]
ONCE = APIConnectOptions(max_retry=0, timeout=5)


async def main() -> None:
    async with aiohttp.ClientSession() as session:
        results = {
            "two on one connection": await tell(streamed(session, TEXT, TEXT.upper())),
            "in small pieces": await tell(streamed(session, TEXT, chunk_length_schedule=[50])),
            "whole": await tell(whole(session)),
            "voices": await tell(voices(session)),
        }
    for fault in FAULTS:
        async with aiohttp.ClientSession(headers={"x-sim-fault": fault}) as session:
            results[fault] = await tell(streamed(session, TEXT))
    print(json.dumps(results), flush=True)
    os._exit(0)  # a stream that was refused never finishes closing


async def tell(act: Awaitable[Any]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(20):
            return {"value": await act}
    except Exception as error:
        return {"error": {"class": type(error).__name__, "status": getattr(error, "status_code", None)}}


def plugin(session: aiohttp.ClientSession, **more: Any) -> Any:
    url = f"{URL}/v1"
    return TTS(voice_id=VOICE, api_key="any", base_url=url, encoding="pcm_16000", http_session=session, **more)


async def streamed(session: aiohttp.ClientSession, *texts: str, **more: Any) -> list[dict[str, Any]]:
    tts = plugin(session, **more)
    spoken = [await heard(tts, text) for text in texts]
    await tts.aclose()
    return spoken


async def heard(tts: Any, text: str) -> dict[str, Any]:
    stream = tts.stream(conn_options=ONCE)
    for word in text.split():
        stream.push_text(f"{word} ")
    stream.end_input()
    audio, timed = b"", []
    async for event in stream:
        audio += bytes(event.frame.data)
        timed += [str(word).strip() for word in event.frame.userdata.get("lk.timed_transcripts") or []]
    await stream.aclose()
    return {"audio": base64.b64encode(audio).decode(), "timed": timed}


async def whole(session: aiohttp.ClientSession) -> str:
    tts = plugin(session)
    frame = await tts.synthesize(TEXT, conn_options=ONCE).collect()
    await tts.aclose()
    return base64.b64encode(bytes(frame.data)).decode()


async def voices(session: aiohttp.ClientSession) -> list[str]:
    return [voice.id for voice in await plugin(session).list_voices()]


asyncio.run(main())
