"""Unknown paths are answered with the endpoint that was probably meant."""

from __future__ import annotations

import json
from typing import Any

import pytest

from steadyvoice import Tone
from steadyvoice.gateway.router import PathSuggestions

from ..running_gateway import GEORGE, elevenlabs_body, running_gateway
from ..security.test_authorization_by_route import answer_to

SPEECH = "/v1/audio/speech"
VOICE = "/v1/text-to-speech/{voice_id}"

OPENAIS = {
    "/audio/speech": SPEECH,
    "/v1/v1/audio/speech": SPEECH,
    "/v1/audio/speech/": SPEECH,
    "//v1/audio/speech": SPEECH,
    "/v1//audio//speech": SPEECH,
    "/V1/Audio/Speech": SPEECH,
    "/v1/audio/SPEECH": SPEECH,
    "/v1/speech": SPEECH,
    "/speech": SPEECH,
    "/v1/audio/speech/stream": SPEECH,
    "/v2/audio/speech": SPEECH,
    "/api/v1/audio/speech": SPEECH,
    "/openai/v1/audio/speech": SPEECH,
    "/v1/audio/speach": SPEECH,
    "/v1/audio/speech%20": SPEECH,
    "/v1/tts": SPEECH,
    "/v1/audio_speech": SPEECH,
    "/v1/openai/audio/speech/": SPEECH,
    "/audio/voices": "/v1/audio/voices",
    "/v1/v1/audio/models": "/v1/audio/models",
    "/v1/audio/voices/": "/v1/audio/voices",
}
ELEVENLABS = {
    f"/text-to-speech/{GEORGE}": VOICE,
    f"/v1/v1/text-to-speech/{GEORGE}/stream": f"{VOICE}/stream",
    f"/v1/text-to-speech/{GEORGE}/": VOICE,
    f"/v1/text-to-speech/{GEORGE}/stream/": f"{VOICE}/stream",
    f"/v1/Text-To-Speech/{GEORGE}": VOICE,
    f"/v1/text_to_speech/{GEORGE}/with-timestamps": f"{VOICE}/with-timestamps",
    f"/v1/text-to-speech//{GEORGE}//stream": f"{VOICE}/stream",
    f"/elevenlabs/v1/text-to-speech/{GEORGE}/stream/with-timestamps": f"{VOICE}/stream/with-timestamps",
    f"/v1/text-to-speech/{GEORGE}/streaming": f"{VOICE}/stream",
    f"/v1/text-to-speech/{GEORGE}/streams": f"{VOICE}/stream",
    f"/v1/text-to-speech/{GEORGE}/with_timestamp": f"{VOICE}/with-timestamps",
    f"/v1/text-to-speech/{GEORGE}/elsewhere": VOICE,
    f"/v2/text-to-speech/{GEORGE}": VOICE,
    "/v1/text-to-speech": VOICE,
    "/v1/text-to-speech/": VOICE,
    "/v1/text-to-speech/stream": f"{VOICE}/stream",
    "/v1/text-to-speech//stream": f"{VOICE}/stream",
    "/v1/text-to-speech/with-timestamps": f"{VOICE}/with-timestamps",
    "/v1/text-to-speech/stream/with-timestamps": f"{VOICE}/stream/with-timestamps",
    "/voices": "/v1/voices",
    "/v1/voices/": "/v1/voices",
    "/v3/voices": "/v1/voices",
    "/v2/voices/": "/v2/voices",
    "//v2//voices": "/v2/voices",
    "/api/v2/voices": "/v2/voices",
    "/v1/v2/Voices": "/v2/voices",
    "/v2/v1/voices": "/v1/voices",
    "/v1/user/subscriptions": "/v1/user/subscription",
    "/user": "/v1/user",
    "/history": "/v1/history",
}


CREDENTIALS = [(), (b"authorization: Bearer any",), (b"xi-api-key: any",)]


@pytest.mark.parametrize("credential", CREDENTIALS)
async def test_openai_path_is_suggested(credential: tuple[bytes, ...]) -> None:
    async with running_gateway(Tone()) as gateway:
        for path, right in OPENAIS.items():
            status, body = await answer_to(gateway, path.encode(), *credential, method=b"POST")
            error = json.loads(body)["error"]
            assert (status, error["code"], error["type"]) == (404, "not_found", "invalid_request_error"), path
            assert f" {right}?" in error["message"]


@pytest.mark.parametrize("credential", CREDENTIALS)
async def test_elevenlabs_path_is_suggested(credential: tuple[bytes, ...]) -> None:
    async with running_gateway(Tone()) as gateway:
        for path, right in ELEVENLABS.items():
            status, body = await answer_to(gateway, path.encode(), *credential, method=b"POST")
            detail = json.loads(body)["detail"]
            assert (status, detail["code"]) == (404, "not_found"), path
            assert f" {right}" in detail["message"]
            if GEORGE in path and "{" in right:
                assert f"({right.replace('{voice_id}', GEORGE)})" in detail["message"]


async def test_method_is_suggested_with_the_path() -> None:
    async with running_gateway(Tone()) as gateway:
        for method, path, right in (
            ("GET", "/audio/speech", f"POST {SPEECH}"),
            ("POST", "/voices", "GET /v1/voices"),
            ("HEAD", "/v1/v1/voices", ""),
        ):
            answer = await gateway.fetch(method, path)
            assert answer.status == 404
            assert right in await answer.text()


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (SPEECH, "POST"),
        (f"/v1/text-to-speech/{GEORGE}", "POST"),
        ("/v1/voices", "GET, HEAD"),
        ("/v1/audio/voices", "GET, HEAD"),
        ("/v1/audio/models", "GET, HEAD"),
        ("/v1/history", "GET, HEAD"),
        ("/healthz", "GET, HEAD"),
    ],
)
async def test_wrong_method_lists_the_allowed_ones(path: str, allowed: str) -> None:
    async with running_gateway(Tone()) as gateway:
        wrong = await gateway.fetch("GET" if allowed.startswith("POST") else "POST", path)
        assert (wrong.status, wrong.headers["allow"]) == (405, allowed)
        asked = await gateway.fetch("OPTIONS", path)
        assert (asked.status, asked.headers["allow"], await asked.read()) == (204, f"{allowed}, OPTIONS", b"")


@pytest.mark.parametrize(
    "path", ["/elsewhere", "/favicon.ico", "/v1/chat/completions", "/v1/audio/transcriptions", "/"]
)
async def test_dissimilar_path_has_no_suggestion(path: str) -> None:
    async with running_gateway(Tone()) as gateway:
        answer = await gateway.fetch("POST", path)
        assert answer.status == (405 if path == "/" else 404)
        assert "did you mean" not in await answer.text()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/audio/speech/<script>alert(1)</script>",
        "/text-to-speech/<img src=x onerror=alert(1)>/stream",
        "/v1/\u202etxet/audio/speech",
        "/v1/\u2028audio/speech/x",
        "/audio/speech\x00\x1b[31m",
        "/v1/{{7*7}}/audio/speech",
        '/audio/speech"}',
    ],
)
async def test_unknown_path_is_echoed_percent_encoded(path: str) -> None:
    async with running_gateway(Tone()) as gateway:
        quoted = "".join(f"%{each:02X}" for each in path.encode()).replace("%2F", "/")
        status, body = await answer_to(gateway, quoted.encode(), method=b"POST")
        assert status == 404
        message = str(json.loads(body))
        assert message.isascii()
        assert not set(message) & set("<>\x00\x1b")
        assert body.isascii()


async def test_long_path_is_truncated_and_not_searched() -> None:
    async with running_gateway(Tone()) as gateway:
        for path in ("/" + "a/" * 3000, "/v1/" + "x" * 7000, "/audio/speech/" + "/".join("ab" for _ in range(1000))):
            status, body = await answer_to(gateway, path.encode(), method=b"POST")
            assert status == 404
            assert len(body) < 700
            assert b"did you mean" not in body


async def test_unknown_path_needs_the_key_of_the_suggested_one() -> None:
    async with running_gateway(Tone(), server={"api_keys": ["key"]}) as gateway:
        for path in ("/audio/speech", "/text-to-speech/x", "/voices"):
            assert (await gateway.fetch("POST", path)).status == 401
            assert (await gateway.fetch("POST", path, headers={"xi-api-key": "key"})).status == 404


async def test_cors_headers_on_an_unknown_path() -> None:
    async with running_gateway(Tone(), server={"allowed_origins": ["https://page.example"]}) as gateway:
        answer = await gateway.fetch("POST", "/audio/speech", headers={"origin": "https://page.example"})
        assert answer.status == 404
        assert answer.headers["access-control-allow-origin"] == "https://page.example"


async def test_error_is_in_the_dialect_of_its_path() -> None:
    async with running_gateway(Tone(), server={"api_keys": ["key"]}) as gateway:
        for path, field in ((SPEECH, "error"), (f"/v1/text-to-speech/{GEORGE}", "detail"), ("/v1/voices", "detail")):
            for headers in ({}, {"authorization": "Bearer wrong"}, {"xi-api-key": "wrong"}):
                answer = await gateway.fetch("POST", path, json=elevenlabs_body(), headers=headers)
                assert answer.status == 401
                assert field in await answer.json()


def test_only_routes_are_suggested() -> None:
    table = PathSuggestions(["/v1/models", "/v1/models/{model}", "/v1/voices/{voice_id}/settings", "/healthz"])
    found: dict[str, Any] = {
        "/models": ("/v1/models", "/v1/models"),
        "/models/tts-1": ("/v1/models/{model}", "/v1/models/tts-1"),
        "/models/..": ("/v1/models/{model}", "/v1/models/{model}"),
        "/voices/settings": ("/v1/voices/{voice_id}/settings", "/v1/voices/{voice_id}/settings"),
        "/health": ("/healthz", "/healthz"),
        "/audio/speech": None,
        "/": None,
        "": None,
    }
    assert {path: table.find(path) for path in found} == found
