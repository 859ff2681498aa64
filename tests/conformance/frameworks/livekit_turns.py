"""LiveKit's own ElevenLabs plugin at the gateway's websocket, one answer after another. Prints what was heard as JSON.

python livekit_turns.py GATEWAY TURNS_AS_JSON END_OF_OUTAGE

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
from livekit.agents import APIConnectOptions
from livekit.plugins.elevenlabs import TTS

URL, TURNS, END_OF_OUTAGE = sys.argv[1:]
GEORGE = "JBFqnCBsd6RMkjVDRZzb"
ONCE = APIConnectOptions(max_retry=0, timeout=10)


async def heard(tts: Any, text: str) -> dict[str, Any]:
    audio, words, error = b"", [], None
    stream = tts.stream(conn_options=ONCE)
    for word in text.split():
        stream.push_text(f"{word} ")
    stream.end_input()
    try:
        async for event in stream:
            audio += bytes(event.frame.data)
            timed = event.frame.userdata.get("lk.timed_transcripts") or []
            words += [(str(word).strip(), word.start_time) for word in timed]
    except Exception as failed:
        error = type(failed).__name__
    await stream.aclose()
    return {"audio": base64.b64encode(audio).decode(), "words": words, "error": error}


async def main() -> None:
    results = []
    async with aiohttp.ClientSession() as session:
        tts = TTS(voice_id=GEORGE, api_key="any", base_url=f"{URL}/v1", encoding="pcm_24000", http_session=session)
        for text in json.loads(TURNS):
            if text is None:
                async with session.post(END_OF_OUTAGE) as response:
                    await response.read()
            else:
                results.append(await heard(tts, text))
    print(json.dumps(results), flush=True)
    os._exit(0)


asyncio.run(main())
