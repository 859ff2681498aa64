"""LiveKit's TTS plugins as docs/clients.md sets them up. Prints what was heard of each as JSON.

python livekit_tts.py GATEWAY WITHOUT_VENDORS_AND_MUTED WITHOUT_VENDORS SNIPPETS_AS_JSON
"""

from __future__ import annotations

import array
import asyncio
import base64
import json
import os
import sys
from typing import Any

from livekit.agents import APIConnectOptions, utils
from livekit.agents.tts import FallbackAdapter

GATEWAY, MUTED, UNMUTED, SNIPPETS = sys.argv[1:]
TEXT = "Good evening, this is the news."
ONCE = APIConnectOptions(max_retry=0, timeout=5)


def made(snippet: str, url: str) -> Any:
    scope: dict[str, Any] = {}
    exec(snippet.replace("http://127.0.0.1:8040", url), scope)
    return scope["tts"]


async def heard(tts: Any, *, stream: bool) -> dict[str, Any]:
    audio, rate = b"", 0
    speaking = tts.stream(conn_options=ONCE) if stream else tts.synthesize(TEXT, conn_options=ONCE)
    async with speaking:
        if stream:
            speaking.push_text(TEXT)
            speaking.end_input()
        async for event in speaking:
            audio, rate = audio + bytes(event.frame.data), event.frame.sample_rate
    loudest = max(map(abs, array.array("h", audio)), default=0)
    return {"audio": base64.b64encode(audio).decode(), "rate": rate, "loudest": loudest}


async def main() -> None:
    openai, elevenlabs = json.loads(SNIPPETS)
    results: dict[str, Any] = {"openai": await heard(made(openai, GATEWAY), stream=False)}
    results["elevenlabs"] = await heard(made(elevenlabs, GATEWAY), stream=True)
    for name, url in (("muted", MUTED), ("unmuted", UNMUTED)):
        adapter = FallbackAdapter([made(openai, url), made(openai, GATEWAY)], max_retry_per_tts=0)
        results[f"fallback {name}"] = await heard(adapter, stream=False)
        results[f"fallback {name}"]["available"] = [status.available for status in adapter._status]
    print(json.dumps(results), flush=True)
    os._exit(0)


async def within_a_session() -> None:
    async with utils.http_context.open():
        await main()


asyncio.run(within_a_session())
