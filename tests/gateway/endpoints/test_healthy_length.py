"""Audio length validation at the gateway, with one vendor without timestamps."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from steadyvoice import OpenAICompatible
from tests.providers.scripted_vendor import chunked_response, scripted_vendor

from ..running_gateway import ELEVENLABS, OPENAI, elevenlabs_body, openai_body, running_gateway

RATE = 24_000
ENGLISH = "The committee will meet again on Thursday to talk about the old harbour and its ships."
CHINESE = "委员会将在星期四再次开会，讨论旧港口和船只的情况。"
NUMBERS = "Call 555 010 9922 or 555 010 4471, then 49 30 1234567."
MARKED = 'Hello <break time="1s"/> [sighs] 👍👍👍 https://example.com/a/long/path/to/a/page?with=a&long=query you.'


def seconds(text: str) -> float:
    if text.startswith("Hello"):
        return 2.2
    return sum(0.35 if c.isdecimal() else 0.25 if c > "\u2e80" else 0.06 for c in text)


def tone(length: float) -> bytes:
    return (b"\x00\x10" * 24 + b"\x00\xf0" * 24) * round(length * RATE / 48)


@pytest.mark.parametrize("on_midstream", ["resume", "error"])
@pytest.mark.parametrize("endpoint", ["elevenlabs", "openai"])
@pytest.mark.parametrize(
    "texts",
    [[CHINESE, ENGLISH, ENGLISH, ENGLISH, ENGLISH], [NUMBERS, ENGLISH, ENGLISH, MARKED, ENGLISH]],
    ids=["Chinese", "numbers and markup"],
)
async def test_complete_response_reaches_the_client(texts: list[str], endpoint: str, on_midstream: Any) -> None:
    async with scripted_vendor() as vendor:
        for text in texts:
            vendor.enqueue(chunked_response(tone(seconds(text)), content_type="audio/pcm"))
        one = OpenAICompatible("sk_any", name="openai", base_url=vendor.url)
        async with running_gateway(one, on_midstream=on_midstream) as gateway:
            for text in texts:
                if endpoint == "openai":
                    answer = await gateway.fetch("POST", OPENAI, json=openai_body(text, response_format="pcm"))
                else:
                    path = f"{ELEVENLABS}/stream?output_format=pcm_24000"
                    answer = await gateway.fetch("POST", path, json=elevenlabs_body(text))
                assert (answer.status, answer.headers["x-steadyvoice-outcome"]) == (200, "spoken")
                heard = len(await answer.read()) / RATE / 2
                assert heard >= seconds(text) - 0.1
            state = gateway.service.get_error_state()
            assert (state["circuit_state"], state["last_error"]) == ("closed", None)


@pytest.mark.parametrize("endpoint", [OPENAI, f"{ELEVENLABS}/stream?output_format=pcm_24000"])
async def test_truncated_passthrough_ends_with_an_error(endpoint: str) -> None:
    async with scripted_vendor() as vendor:
        vendor.enqueue(chunked_response(tone(seconds(ENGLISH) / 2), content_type="audio/pcm"))
        one = OpenAICompatible("sk_any", name="openai", base_url=vendor.url)
        async with running_gateway(one, on_midstream="error") as gateway:
            body = openai_body(ENGLISH, response_format="pcm") if endpoint == OPENAI else elevenlabs_body(ENGLISH)
            with pytest.raises(aiohttp.ClientPayloadError):
                await gateway.fetch("POST", endpoint, json=body)
            state = gateway.service.get_error_state()
            assert (state["last_error"]["kind"], state["window"]["failures"]) == ("too_short", 0)
