"""Strings that cannot be encoded as UTF-8 are refused on arrival, and break no reader of events."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from steadyvoice import AsyncTTSService, Tone
from steadyvoice.gateway.admin.server_sent_events import encode_entries
from steadyvoice.gateway.observability.access_log import JSONFormatter
from steadyvoice.gateway.observability.event_log import EventLog
from steadyvoice.speech.errors import TTSBadRequestError, TTSConfigurationError, TTSServerError
from tests.service.scripted_provider import Say, ScriptedProvider

from ..event_reader import reading_events
from ..running_gateway import ELEVENLABS, OPENAI, elevenlabs_body, running_gateway

HALF = b'"a\\ud800"'
JSON = {"content-type": "application/json"}

BODIES = [
    (ELEVENLABS, b'{"text": %s}', "text"),
    (ELEVENLABS, b'{"text": "Hi.", "model_id": %s}', "model_id"),
    (ELEVENLABS, b'{"text": "Hi.", "language_code": %s}', "language_code"),
    (ELEVENLABS, b'{"text": "Hi.", "previous_text": %s}', "previous_text"),
    (ELEVENLABS, b'{"text": "Hi.", "voice_settings": {"style": %s}}', "style"),
    (ELEVENLABS, b'{"text": "Hi.", "voice_settings": {%s: 1}}', "voice_settings"),
    (ELEVENLABS, b'{"text": "Hi.", "pronunciation_dictionary_locators": [{"version_id": %s}]}', "version_id"),
    (ELEVENLABS, b'{"text": "Hi.", "previous_request_ids": [%s]}', "previous_request_ids"),
    (ELEVENLABS, b'{"text": "Hi.", "unknown": [[{"deep": %s}]]}', "deep"),
    (f"{ELEVENLABS}/stream/with-timestamps", b'{"text": %s}', "text"),
    (OPENAI, b'{"input": %s, "model": "tts-1", "voice": "alloy"}', "input"),
    (OPENAI, b'{"input": "Hi.", "model": %s, "voice": "alloy"}', "model"),
    (OPENAI, b'{"input": "Hi.", "model": "tts-1", "voice": %s}', "voice"),
    (OPENAI, b'{"input": "Hi.", "model": "tts-1", "voice": {"id": %s}}', "voice"),
    (OPENAI, b'{"input": "Hi.", "model": "tts-1", "voice": "alloy", "instructions": %s}', "instructions"),
    ("/admin/say", b'{"text": %s}', "text"),
    ("/admin/say", b'{"text": "Hi.", "voice": %s}', "voice"),
    ("/admin/circuits/tone/open", b'{"reason": %s}', "reason"),
]


@pytest.mark.parametrize(("path", "body", "field"), BODIES)
@pytest.mark.parametrize("half", [HALF, b'"\\uDFFFa"', b'"\\ude00\\ud83d"', b'"\xed\xa0\x80"'])
async def test_unpaired_surrogate_is_refused_with_its_field(path: str, body: bytes, field: str, half: bytes) -> None:
    async with running_gateway(Tone()) as gateway, reading_events(gateway) as reader:
        answer = await gateway.fetch("POST", path, data=body % half, headers=JSON)
        assert answer.status == (400 if path == OPENAI else 422)
        assert field in json.dumps(await answer.json())
        gateway.context.event_log.add("action", {"provider": "tone"})
        assert (await reader.next()).kind == "action", "nothing was spoken, and the reader reads on"


async def test_unpaired_surrogates_in_utf_16_and_utf_32() -> None:
    async with running_gateway(Tone()) as gateway:
        for encoding in ("utf-16", "utf-32"):
            body = '{"text": "Hi.", "model_id": "\\ud800"}'.encode(encoding)
            assert (await gateway.fetch("POST", ELEVENLABS, data=body)).status == 422
        for text in (b'"Hi \\ud83d\\ude00."', '"Hi 😀 안녕 힣."'.encode(), b'"a \\\\ud800 written out"'):
            assert (await gateway.fetch("POST", ELEVENLABS, data=b'{"text": %s}' % text)).status == 200, text


@pytest.mark.parametrize("query", ["output_format=%ED%A0%80", "language_code=%FF", "optimize_streaming_latency=%c3"])
async def test_query_that_is_not_utf_8_is_refused_with_its_parameter(query: str) -> None:
    async with running_gateway(Tone()) as gateway:
        answer = await gateway.client.post(
            URL(f"{gateway.url}{ELEVENLABS}?{query}", encoded=True), json=elevenlabs_body()
        )
        assert answer.status == 422
        assert (await answer.json())["detail"][0]["loc"] == ["query", query.partition("=")[0]]
        admin = await gateway.client.get(URL(f"{gateway.url}/admin/calls?limit=%FF", encoded=True))
        assert (admin.status, "limit" in await admin.text()) == (400, True)


@pytest.mark.parametrize("levels", [65, 300, 900, 990, 5000, 100_000])
@pytest.mark.parametrize(("begin", "end"), [(b"[", b"]"), (b'{"a":', b"}")])
async def test_deeply_nested_body_is_refused(levels: int, begin: bytes, end: bytes) -> None:
    deep = begin * levels + b"1" + end * levels
    async with running_gateway(Tone()) as gateway:
        for path, field in ((ELEVENLABS, b"text"), (OPENAI, b"input"), ("/admin/circuits/tone/open", b"reason")):
            body = b'{"%s": "Hi.", "model": "m", "voice": "alloy", "more": %s}' % (field, deep)
            answer = await gateway.fetch("POST", path, data=body, headers=JSON)
            assert answer.status in (400, 413, 422), path
        shallow = b'{"text": "Hi.", "more": %s}' % (begin * 60 + b"1" + end * 60)
        assert (await gateway.fetch("POST", ELEVENLABS, data=shallow)).status == 200


ODD = "odd \ud800 \udc00\r\ndata: forged\n\nevent: forged\0\x1b[31m\u2028\x85"


async def test_surrogates_in_a_providers_error_break_no_reader(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    broken = ScriptedProvider([TTSServerError(ODD, provider="scripted", request_id=ODD, code=ODD)])
    server = {"state_file": str(tmp_path / "state.json"), "log_texts": True}
    async with running_gateway(broken, Tone(), server=server) as gateway, reading_events(gateway) as reader:
        for _ in range(4):  # and the circuit opens
            assert (await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())).status == 200
        kinds = [(await reader.next("call", "transition")).kind for _ in range(5)]
        assert kinds.count("transition") == 1
        async with reading_events(gateway, "0") as again:
            assert (await again.next("transition")).data["provider"] == "scripted"
        for path in ("/admin/calls", "/admin/state", "/admin/overview", "/admin/circuits", "/readyz"):
            answer = await gateway.fetch("GET", path)
            assert answer.status == 200
            json.loads(await answer.text())
        assert "steadyvoice_build_info" in await (await gateway.fetch("GET", "/metrics")).text()
    for record in caplog.records:
        assert "\n" not in JSONFormatter().format(record)
        JSONFormatter().format(record).encode()
        record.getMessage().encode()
    json.loads((tmp_path / "state.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("facts", [{"reason": ODD}, {ODD: 1}, {"deep": [{ODD: [ODD]}]}, {"what": Exception(ODD)}])
async def test_event_is_one_line_of_utf_8(facts: dict[str, Any]) -> None:
    event_log = EventLog(lambda: 0.0)
    event_log.add("action", facts)
    entries, lost = event_log.since(0)
    (batch,) = encode_entries(event_log, entries, lost)
    event, *more = batch.decode().removesuffix("\n\n").split("\ndata: ")
    assert event.endswith("event: action")
    (line,) = more
    assert len(line.splitlines()) == 1 or "\u2028" in line or "\x85" in line  # which are no ends of lines in a stream
    assert "\n" not in line
    assert "\r" not in line
    json.loads(line)


async def test_library_drops_surrogates_from_texts_and_refuses_them_elsewhere() -> None:
    async with AsyncTTSService([ScriptedProvider([Say()])]) as tts:
        assert (await tts.synthesize("\ud800")).duration == 0, "there is nothing to say"
        halved = await tts.synthesize("Hi \ud83d there.")
        assert halved.outcome == "spoken"
        for name in ("voice", "model", "language", "previous_text", "next_text"):
            arguments: Any = {name: "a\ud800"}
            with pytest.raises(TTSBadRequestError, match=f"{name}: must not contain half of a surrogate pair"):
                await tts.synthesize("Hi.", **arguments)
        for options in ({"a": "\ud800"}, {"\ud800": 1}, {"a": [{"b": ("\udfff",)}]}):
            with pytest.raises(TTSBadRequestError, match="options: must not contain half"):
                await tts.synthesize("Hi.", options=options)


@pytest.mark.parametrize("name", ["\ud800", "a\nb", "a\r\nx-forged: 1", "\0", "\x1b[31m"])
def test_provider_name_must_be_printable(name: str) -> None:
    with pytest.raises(TTSConfigurationError, match="must be printable"):
        AsyncTTSService([Tone(name=name)])


async def test_provider_name_in_any_script(tmp_path: Path) -> None:
    for name in ("Erzähler", "声", 'a"b\\c', "a/b", "{}", "😀"):
        async with running_gateway(Tone(name=name)) as gateway:
            answer = await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
            assert answer.status == 200
            assert (await gateway.fetch("GET", "/metrics")).status == 200
            circuit = URL(f"{gateway.url}/admin/circuits/{_quoted(name)}/open", encoded=True)
            assert (await gateway.client.post(circuit, json={})).status == 200


def _quoted(name: str) -> str:
    return "".join(f"%{byte:02X}" for byte in name.encode())
