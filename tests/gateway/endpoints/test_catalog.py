"""Catalog endpoints: voices, models, history, settings."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from steadyvoice import ElevenLabs, Espeak, OpenAICompatible, Tone
from steadyvoice.gateway.http import Response
from steadyvoice.providers.http.client import MAX_DOCUMENT
from steadyvoice.simulator import Fault, Simulator
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.wire.openai.speech import MODELS, VOICES

from ..running_gateway import GEORGE, OPENAI, openai_body, running_gateway

EMPTY: dict[str, Any] = {"history": [], "last_history_item_id": None, "has_more": False, "scanned_until": None}
LISTS = ["/v1/audio/voices", "/v1/audio/models", "/v1/history", "/v1/voices/settings/default"]


async def document(gateway: Any, path: str) -> Any:
    answer = await gateway.get(path)
    assert (answer.status, answer.content_type) == (200, "application/json")
    return await answer.json()


async def test_open_webui_finds_voices_and_models() -> None:
    """Open WebUI requests these when the base URL is not OpenAI's own: backend/open_webui/routers/audio.py."""
    async with running_gateway() as gateway:
        voices = (await document(gateway, "/v1/audio/voices"))["voices"]
        assert {voice["id"]: voice["name"] for voice in voices}.items() >= {name: name for name in VOICES}.items()
        assert await document(gateway, "/v1/audio/models") == {"models": [{"id": name} for name in _models(gateway)]}
        for voice in voices:
            answer = await gateway.post(OPENAI, openai_body("Hi.", voice=voice["id"]))
            assert (answer.status, bool(await answer.read())) == (200, True)


def _models(gateway: Any) -> list[str]:
    ours = [each.model for each in gateway.service.providers if isinstance(each, OpenAICompatible)]
    return list(dict.fromkeys([*ours, *MODELS]))


async def test_voices_are_the_configured_ones() -> None:
    eleven = ElevenLabs(
        "sk", base_url="http://127.0.0.1:9", voices={"default": GEORGE, "narrator": GEORGE, "old man": "x"}
    )
    async with running_gateway(eleven, Tone()) as gateway:
        voices = (await document(gateway, "/v1/audio/voices"))["voices"]
        assert [voice["id"] for voice in voices] == ["default", "narrator", "old man"]


async def test_default_voice_is_listed_where_none_is_configured() -> None:
    async with running_gateway(Tone()) as gateway:
        assert (await document(gateway, "/v1/audio/voices"))["voices"] == [{"id": "default", "name": "default"}]
        assert (await gateway.fetch("POST", OPENAI, json=openai_body("Hi.", voice="default"))).status == 200


async def test_history_is_always_empty() -> None:
    async with running_gateway() as gateway:
        for query in ("", "?page_size=100", f"?voice_id={GEORGE}&sort_direction=desc"):
            assert await document(gateway, f"/v1/history{query}") == EMPTY
        assert not gateway.sim.ledger.requests, "what an account has spoken is not for every caller to read"
        assert (await gateway.fetch("GET", "/v1/history/abc")).status == 404


@pytest.mark.parametrize("outage", [False, True])
async def test_voice_settings_are_listed(outage: bool) -> None:
    async with running_gateway(only_elevenlabs=True) as gateway:
        if outage:
            gateway.sim.faults.set(Fault(actions.Refuse(status=503)))
        for path in ("/v1/voices/settings/default", f"/v1/voices/{GEORGE}/settings"):
            settings = await document(gateway, path)
            assert settings["stability"] == 0.5
            assert settings.keys() == {"stability", "similarity_boost", "style", "use_speaker_boost", "speed"}
        assert (await gateway.fetch("GET", "/v1/voices/nobody/settings")).status == 404


async def test_account_voices_are_queried_at_the_vendor() -> None:
    async with (
        Simulator(voice="tones", voices=("OwnVoice",)) as sim,
        running_gateway(ElevenLabs("sk", base_url=sim.url)) as gateway,
    ):
        assert (await document(gateway, "/v1/voices/OwnVoice"))["voice_id"] == "OwnVoice"
        assert (await document(gateway, "/v1/voices/OwnVoice/settings"))["speed"] == 1.0
        assert (await gateway.fetch("GET", "/v1/voices/nobody")).status == 404


def voices_of_an_account(size: int, *, end: str = "]}") -> bytes:
    """A list of voices of about so many bytes, with an ending that may be wrong."""
    voice = json.dumps({"voice_id": GEORGE, "name": "George", "description": "x" * 4_000})
    return ('{"voices":[' + ",".join([voice] * (size // len(voice))) + end).encode()


@pytest.mark.parametrize("size", [1_000_000, MAX_DOCUMENT - 10_000])
async def test_long_list_of_voices_is_passed_on_byte_for_byte_in_small_pieces(size: int) -> None:
    """The list is neither parsed nor copied at once: the event loop serves other requests meanwhile."""
    expected = voices_of_an_account(size)
    async with (
        vendor_with_voices(expected) as url,
        running_gateway(ElevenLabs("sk", base_url=url)) as gateway,
    ):
        for _ in range(2):  # the second is from the cache
            answer = await gateway.get("/v1/voices")
            assert (answer.status, answer.content_type) == (200, "application/json")
            assert await answer.read() == expected

    pieces = list[bytes]()

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    async def send(message: Any) -> None:
        pieces.append(message.get("body", b""))

    await Response(body=bytearray(expected))({"method": "GET"}, receive, send)
    assert b"".join(pieces) == expected
    assert max(map(len, pieces)) <= 256 * 1024


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(voices_of_an_account(MAX_DOCUMENT + 100_000), id="too large"),
        pytest.param(voices_of_an_account(1_000_000, end=',{"voice'), id="incomplete"),
        pytest.param(voices_of_an_account(100_000, end=""), id="short and incomplete"),
        pytest.param(b"<html>" + b"x" * 1_000_000, id="a page"),
    ],
)
async def test_unusable_list_of_voices_is_replaced_by_the_configured_voices(body: bytes) -> None:
    async with (
        vendor_with_voices(body) as url,
        running_gateway(ElevenLabs("sk", base_url=url, voices={"default": GEORGE, "narrator": GEORGE})) as gateway,
    ):
        voices = (await document(gateway, "/v1/voices"))["voices"]
        assert "narrator" in {voice["name"] for voice in voices}


@asynccontextmanager
async def vendor_with_voices(body: bytes) -> AsyncIterator[str]:
    """A server like ElevenLabs' with this list of voices, compressed like those of a proxy in between."""

    async def voices(request: web.Request) -> web.Response:
        answer = web.Response(body=gzip.compress(body, 1), content_type="application/json")
        answer.headers["Content-Encoding"] = "gzip"
        return answer

    async with web_server("/v1/voices", voices) as url:
        yield url


@pytest.mark.parametrize("path", LISTS)
async def test_new_lists_have_access_control_and_methods_like_the_others(path: str) -> None:
    async with running_gateway(
        Espeak(), server={"api_keys": ["key"], "allowed_origins": ["https://page.example"]}
    ) as gateway:
        for method in ("GET", "HEAD", "OPTIONS"):
            assert (await gateway.fetch(method, path)).status == 401
            assert (await gateway.fetch(method, path, headers={"authorization": "Bearer wrong"})).status == 401
            for key in ({"authorization": "Bearer key"}, {"xi-api-key": "key"}):
                answer = await gateway.fetch(method, path, headers=key)
                assert answer.status == (204 if method == "OPTIONS" else 200)
                assert bool(await answer.read()) == (method == "GET")
        page = {"origin": "https://page.example", "xi-api-key": "key"}
        assert (await gateway.fetch("GET", path, headers=page)).headers["access-control-allow-origin"]
        assert (await gateway.fetch("GET", path, headers={**page, "origin": "https://other.example"})).status == 403
        described = await (await gateway.fetch("GET", "/openapi.json")).json()
        assert "get" in described["paths"][path]


@pytest.mark.parametrize(
    "listed",
    [
        ["af_heart", "am_echo"],
        [{"id": "af_heart", "name": "Heart"}, {"id": "am_echo", "name": "Echo"}],
        [{"voice_id": "af_heart"}, {"name": "am_echo"}, {"id": 7}, None, "\u0000", "af_heart"],
    ],
)
async def test_compatible_server_is_queried_for_its_voices(listed: list[Any]) -> None:
    """Kokoro-FastAPI lists names, others objects."""
    named = {"narrator": "af_heart"}
    async with (
        list_of_voices({"voices": listed}) as server,
        running_gateway(OpenAICompatible("sk", base_url=f"{server}/v1", voices=named)) as gateway,
    ):
        voices = (await document(gateway, "/v1/audio/voices"))["voices"]
        assert [voice["id"] for voice in voices] == ["default", "narrator", "af_heart", "am_echo"]


@pytest.mark.parametrize("answer", [{}, [], {"voices": 7}, {"voices": {}}, "voices", None])
async def test_invalid_list_of_a_server_is_ignored(answer: Any) -> None:
    async with (
        list_of_voices(answer) as server,
        running_gateway(OpenAICompatible("sk", base_url=f"{server}/v1")) as gateway,
    ):
        voices = (await document(gateway, "/v1/audio/voices"))["voices"]
        assert {"alloy", "default"} <= {voice["id"] for voice in voices}


@asynccontextmanager
async def list_of_voices(answer: Any) -> AsyncIterator[str]:
    """A server like OpenAI's that lists voices."""

    async def tell(request: web.Request) -> web.Response:
        return web.json_response(answer)

    async with web_server("/v1/audio/voices", tell) as url:
        yield url


@asynccontextmanager
async def web_server(path: str, handler: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get(path, handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
