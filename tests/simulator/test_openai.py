"""OpenAI's endpoints: audio, headers, and the vendor's errors."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from steadyvoice.simulator import Simulator, words_in
from steadyvoice.wire.openai.errors import CODES
from steadyvoice.wire.openai.speech import RESPONSE_FORMATS

from .client import OPENAI, TEXT, WORDS, Client


@pytest.mark.parametrize("format", RESPONSE_FORMATS)
async def test_every_format_contains_every_word(client: Client, format: str) -> None:
    seen = await client.speak(OPENAI, response_format=format)
    assert (seen.status, seen.terminated) == (200, True)
    assert seen.headers["content-type"] == RESPONSE_FORMATS[format].mime_type
    assert words_in(seen.body, RESPONSE_FORMATS[format]) == WORDS


async def test_same_order_gives_the_same_audio(client: Client) -> None:
    first, again, other = [await client.speak(OPENAI, voice=voice) for voice in ("alloy", "alloy", "echo")]
    assert first.body == again.body != other.body


async def test_events_have_the_same_audio_and_a_final_event(client: Client) -> None:
    seen = await client.speak(OPENAI, stream_format="sse")
    assert seen.headers["content-type"].startswith("text/event-stream")
    *deltas, done = [json.loads(line.removeprefix(b"data: ")) for line in seen.body.split(b"\n\n") if line]
    assert b"".join(base64.b64decode(delta["audio"]) for delta in deltas) == (await client.speak(OPENAI)).body
    assert done["type"] == "speech.audio.done"
    assert done["usage"]["total_tokens"] > done["usage"]["input_tokens"] > 0


async def test_openai_requests_do_not_use_elevenlabs_credit(sim: Simulator, client: Client) -> None:
    seen = await client.speak(OPENAI)
    assert seen.headers["x-request-id"] == sim.ledger[-1].request_id
    assert (sim.ledger[-1].charged, sim.credit.used) == (len(TEXT), 0)


@pytest.mark.parametrize(
    ("text", "more", "status", "code", "param"),
    [
        ("", {}, 400, "string_too_short", "input"),
        (TEXT, {"response_format": "m4a"}, 400, "enum", "response_format"),
        (TEXT, {"speed": 9}, 400, "out_of_range", "speed"),
        ("a" * 4097, {}, 400, "string_above_max_length", "input"),
        (TEXT, {"voice": "nobody"}, 400, "invalid_value", "voice"),
        (TEXT, {"model": "tts-0"}, 404, "model_not_found", "model"),
        (TEXT, {"model": "tts-1", "stream_format": "sse"}, 400, "unsupported_value", "stream_format"),
    ],
)
async def test_rejected_request_is_not_charged(
    sim: Simulator, client: Client, text: str, more: dict[str, Any], status: int, code: str, param: str
) -> None:
    seen = await client.speak(OPENAI, text, **more)
    assert (seen.status, seen.json["error"]["code"], seen.json["error"]["param"]) == (status, code, param)
    assert sim.ledger[-1].charged == 0


@pytest.mark.parametrize("code", CODES)
async def test_every_openai_code(client: Client, code: str) -> None:
    seen = await client.speak(OPENAI, fault=f"refuse;code={code}")
    assert seen.json["error"]["code"] == code
    assert 400 <= seen.status <= 500


@pytest.mark.parametrize(
    ("theirs", "status", "own"),
    [
        ("quota_exceeded", 429, "insufficient_quota"),
        ("invalid_api_key", 401, "invalid_api_key"),
        ("system_busy", 429, "rate_limit_exceeded"),
        ("concurrent_limit_exceeded", 429, "rate_limit_exceeded"),
        ("max_character_limit_exceeded", 400, "string_above_max_length"),
        ("internal_server_error", 500, "server_error"),
        ("detected_unusual_activity", 401, "detected_unusual_activity"),
    ],
)
async def test_elevenlabs_code_is_translated(client: Client, theirs: str, status: int, own: str) -> None:
    seen = await client.speak(OPENAI, fault=f"refuse;code={theirs}")
    assert (seen.status, seen.json["error"]["code"]) == (status, own)


@pytest.mark.parametrize(
    ("status", "code", "type"),
    [
        (400, None, "invalid_request_error"),
        (401, "invalid_api_key", "invalid_request_error"),
        (429, "rate_limit_exceeded", "requests"),
        (503, "server_error", "server_error"),
    ],
)
async def test_status_without_a_code_gets_its_usual_error(
    client: Client, status: int, code: str | None, type: str
) -> None:
    seen = await client.speak(OPENAI, fault=f"refuse;status={status}")
    assert seen.status == status
    assert (seen.json["error"]["code"], seen.json["error"]["type"]) == (code, type)


async def test_retry_after_is_sent_in_seconds_and_milliseconds(client: Client) -> None:
    seen = await client.speak(OPENAI, fault="refuse;code=rate_limit_exceeded;retry_after=1.5")
    assert (seen.headers["retry-after"], seen.headers["retry-after-ms"]) == ("2", "1500")


async def test_key_must_be_a_valid_bearer_token() -> None:
    async with Simulator(voice="tones", keys=("right",)) as sim:
        for value, status in (("", 401), ("right", 401), ("Bearer wrong", 401), ("Bearer right", 200)):
            client = Client(sim.url, {"authorization": value} if value else {})
            assert (await client.speak(OPENAI)).status == status


async def test_single_model_is_returned(sim: Simulator, client: Client) -> None:
    listed = (await client.get("/v1/models")).json["data"]
    assert (await client.get("/v1/models/tts-1")).json in listed
    unknown = await client.get("/v1/models/tts-9")
    assert (unknown.status, unknown.json["error"]["code"]) == (404, "model_not_found")
    assert [entry.endpoint for entry in sim.ledger] == ["models"] * 3


async def test_single_model_is_a_404_at_elevenlabs(sim: Simulator) -> None:
    seen = await Client(sim.url, {"xi-api-key": "any"}).get("/v1/models/eleven_v3")
    assert (seen.status, seen.json) == (404, {"detail": "Not Found"})


async def test_bearer_token_selects_openai_models(client: Client) -> None:
    models = (await client.get("/v1/models")).json
    assert models["object"] == "list"
    assert "gpt-4o-mini-tts" in [model["id"] for model in models["data"]]


async def test_unknown_path_and_wrong_method(sim: Simulator) -> None:
    client = Client(sim.url, {"authorization": "Bearer any"})
    lost = await client.get("/v1/files")
    assert (lost.status, lost.json["error"]["message"]) == (404, "Invalid URL (GET /v1/files)")
    assert len(lost.headers["x-request-id"]) == 20
    wrong = await Client(sim.url, {}).get(OPENAI)
    assert (wrong.status, wrong.headers["allow"]) == (405, "post")
    assert wrong.json["error"]["code"] == "method_not_supported"
    assert [entry.endpoint for entry in sim.ledger] == ["files", "audio/speech"]
