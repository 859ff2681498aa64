"""Speech endpoints of both vendors: formats, failover, resume, errors in the dialect."""

from __future__ import annotations

import base64
import gzip
import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from steadyvoice import ElevenLabs, OpenAICompatible, TimeoutConfig, Tone, Voice
from steadyvoice.audio.word_tones import words_in
from steadyvoice.gateway.speech_endpoint import buffered_body
from steadyvoice.gateway.speech_request import BodyFormat
from steadyvoice.simulator import Fault, Simulator
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.speech.alignment import Alignment
from steadyvoice.wire.elevenlabs.timestamps import TimedAudio, timed_audio_body
from steadyvoice.wire.openai.speech import RESPONSE_FORMATS
from tests.turn_meter import TurnMeter

from ..running_gateway import (
    ELEVENLABS,
    GEORGE,
    OPENAI,
    TEXT,
    RunningGateway,
    elevenlabs_body,
    openai_body,
    running_gateway,
)

WORDS = TEXT.split()


async def test_elevenlabs_client_is_served_by_elevenlabs() -> None:
    async with running_gateway() as gateway:
        for form in ("", "/stream"):
            answer = await gateway.post(f"{ELEVENLABS}{form}?output_format=pcm_16000", elevenlabs_body())
            assert (answer.status, answer.content_type) == (200, "audio/pcm")
            assert words_in(await answer.read(), "pcm_16000") == WORDS
            assert answer.headers["x-steadyvoice-outcome"] == "spoken"
            assert answer.headers["x-steadyvoice-provider"] == "elevenlabs"
            assert answer.headers["request-id"] in {entry.request_id for entry in gateway.sim.ledger}
            assert answer.headers["x-request-id"]
        assert [entry.charged for entry in gateway.sim.ledger] == [len(TEXT), len(TEXT)]


async def test_buffered_response_has_a_length_and_stream_has_none() -> None:
    async with running_gateway() as gateway:
        whole = await gateway.post(ELEVENLABS, elevenlabs_body())
        assert int(whole.headers["content-length"]) == len(await whole.read())
        streamed = await gateway.post(f"{ELEVENLABS}/stream", elevenlabs_body())
        assert streamed.headers["transfer-encoding"] == "chunked"
        assert await streamed.read()


async def test_timestamps_in_one_object_or_in_lines() -> None:
    async with running_gateway() as gateway:
        whole = await gateway.post(f"{ELEVENLABS}/with-timestamps?output_format=pcm_16000", elevenlabs_body())
        document = await whole.json()
        assert words_in(base64.b64decode(document["audio_base64"]), "pcm_16000") == WORDS
        assert "".join(document["alignment"]["characters"]) == TEXT

        streamed = await gateway.post(f"{ELEVENLABS}/stream/with-timestamps?output_format=pcm_16000", elevenlabs_body())
        lines = [json.loads(line) async for line in streamed.content]
        audio = b"".join(base64.b64decode(line["audio_base64"]) for line in lines)
        assert words_in(audio, "pcm_16000") == WORDS
        alignments = [line["alignment"] for line in lines if line["alignment"]]
        assert len(alignments) > 1, "not only at the end"
        assert "".join("".join(each["characters"]) for each in alignments) == TEXT
        starts = [start for each in alignments for start in each["character_start_times_seconds"]]
        assert starts == sorted(starts)


async def test_timestamps_pass_through() -> None:
    async with running_gateway(on_midstream="error") as gateway:
        streamed = await gateway.post(f"{ELEVENLABS}/stream/with-timestamps?output_format=pcm_16000", elevenlabs_body())
        lines = [json.loads(line) async for line in streamed.content]
        characters = "".join("".join(line["alignment"]["characters"]) for line in lines if line["alignment"])
        assert characters == TEXT
        assert [entry.endpoint for entry in gateway.sim.ledger] == ["text-to-speech/stream/with-timestamps"]


@pytest.mark.parametrize("name", RESPONSE_FORMATS)
async def test_openai_client_is_served_in_each_format(name: str) -> None:
    async with running_gateway(OpenAICompatible("sk", base_url="http://127.0.0.1:9"), Tone()) as gateway:
        answer = await gateway.post(OPENAI, openai_body(response_format=name))
        audio = await answer.read()
        assert answer.status == 200
        assert answer.content_type == RESPONSE_FORMATS[name].mime_type
        assert words_in(audio, RESPONSE_FORMATS[name]) == WORDS
        assert answer.headers["x-steadyvoice-outcome"] == "substituted"


async def test_openai_client_gets_server_sent_events() -> None:
    async with running_gateway() as gateway:
        answer = await gateway.post(
            OPENAI, openai_body(model="gpt-4o-mini-tts", response_format="pcm", stream_format="sse")
        )
        assert answer.content_type == "text/event-stream"
        events = [json.loads(line[6:]) async for line in answer.content if line.startswith(b"data: ")]
        audio = b"".join(base64.b64decode(event["audio"]) for event in events if event["type"] == "speech.audio.delta")
        assert words_in(audio, "pcm_24000") == WORDS
        assert events[-1]["type"] == "speech.audio.done"


async def test_each_vendors_client_is_served_by_the_other_vendor() -> None:
    async with running_gateway() as gateway:
        answer = await gateway.post(OPENAI, openai_body(response_format="wav"))
        assert words_in(await answer.read(), "wav_24000") == WORDS
        assert answer.headers["x-steadyvoice-provider"] == "elevenlabs"
        gateway.sim.faults.set(Fault(actions.Refuse(status=503), endpoint="text-to-speech*"))
        answer = await gateway.post(f"{ELEVENLABS}?output_format=pcm_16000", elevenlabs_body())
        assert words_in(await answer.read(), "pcm_16000") == WORDS
        assert answer.headers["x-steadyvoice-provider"] == "openai"


async def test_vendor_specific_fields_reach_that_vendor_only() -> None:
    async with running_gateway() as gateway:
        document = elevenlabs_body(voice_settings={"stability": 7}, some_new_field=True)
        answer = await gateway.post(ELEVENLABS, document)
        assert answer.status == 200, "the vendor refused its own field, and the next one never saw it"
        assert answer.headers["x-steadyvoice-outcome"] == "substituted"


@pytest.mark.parametrize("text", ["", "   ", "\u0000\u0007"])
async def test_empty_text_is_refused_in_the_dialect(text: str) -> None:
    async with running_gateway() as gateway:
        theirs = await gateway.post(ELEVENLABS, elevenlabs_body(text))
        assert theirs.status == 422
        assert (await theirs.json())["detail"][0]["loc"] == ["body", "text"]
        ours = await gateway.post(OPENAI, openai_body(text))
        assert ours.status == 400
        assert (await ours.json())["error"]["param"] == "input"
        assert not gateway.sim.ledger.requests


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[1]", b"{" * 10_000, b'{"text": 7}', b"\xff\xfe"])
async def test_invalid_body_is_refused_in_the_dialect(body: bytes) -> None:
    async with running_gateway() as gateway:
        theirs = await gateway.client.post(gateway.url + ELEVENLABS, data=body)
        assert theirs.status == 422
        assert (await theirs.json())["detail"]
        ours = await gateway.client.post(gateway.url + OPENAI, data=body)
        assert ours.status == 400
        assert (await ours.json())["error"]["type"] == "invalid_request_error"


async def test_provider_error_is_in_the_dialect_with_retry_after() -> None:
    async with running_gateway(ElevenLabs("sk", base_url="http://127.0.0.1:9"), muted=False) as gateway:
        for _ in range(3):
            answer = await gateway.post(ELEVENLABS, elevenlabs_body())
            assert answer.status in (502, 503)
        detail = (await answer.json())["detail"]
        assert answer.status == 503
        assert detail["code"] == "circuit_open"
        assert 1 <= int(answer.headers["retry-after"]) <= 30
        openais = await gateway.post(OPENAI, openai_body())
        assert openais.status == 503
        assert (await openais.json())["error"]["code"] == "circuit_open"


async def test_muted_response_when_no_provider_is_available() -> None:
    async with running_gateway(ElevenLabs("sk", base_url="http://127.0.0.1:9")) as gateway:
        answer = await gateway.post(f"{ELEVENLABS}?output_format=pcm_16000", elevenlabs_body())
        assert answer.status == 200
        assert answer.headers["x-steadyvoice-outcome"] == "muted"
        audio = await answer.read()
        assert len(audio) > 16_000
        assert not any(audio)


async def test_broken_stream_is_resumed_without_lost_or_repeated_words() -> None:
    async with running_gateway() as gateway:
        gateway.sim.faults.set(Fault(actions.Cut(after=1.0), endpoint="text-to-speech*"))
        answer = await gateway.post(f"{ELEVENLABS}/stream?output_format=pcm_16000", elevenlabs_body())
        assert words_in(await answer.read(), "pcm_16000") == WORDS


async def test_stream_that_cannot_be_resumed_is_a_broken_transfer() -> None:
    async with running_gateway(on_midstream="error") as gateway:
        gateway.sim.faults.set(Fault(actions.Cut(after=1.0), endpoint="text-to-speech*"))
        answer = await gateway.post(f"{ELEVENLABS}/stream?output_format=pcm_16000", elevenlabs_body())
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


@pytest.mark.parametrize("endpoint", ["elevenlabs", "timed", "openai", "events"])
async def test_broken_stream_is_not_completed_with_silence(endpoint: str) -> None:
    """The header has said `spoken` by then: a clean end would make half an utterance a success."""
    knock: dict[str, tuple[str, dict[str, Any]]] = {
        "elevenlabs": (f"{ELEVENLABS}/stream", elevenlabs_body()),
        "timed": (f"{ELEVENLABS}/stream/with-timestamps", elevenlabs_body()),
        "openai": (OPENAI, openai_body()),
        "events": (OPENAI, openai_body(model="gpt-4o-mini-tts", stream_format="sse")),
    }
    async with (
        Simulator(voice="tones") as vendor,
        running_gateway(ElevenLabs("sk_test", base_url=vendor.url)) as gateway,
    ):
        vendor.faults.set(Fault(actions.Cut(after=1.0), endpoint="text-to-speech*"))
        answer = await gateway.post(*knock[endpoint])
        assert (answer.status, answer.headers["x-steadyvoice-outcome"]) == (200, "spoken")
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
        _, account = await gateway.next_call()
        assert account.outcome == "failed"
        gateway.service.circuits["elevenlabs"].force_open()
        later = await gateway.post(*knock[endpoint])
        assert later.headers["x-steadyvoice-outcome"] == "muted", "silence from the start can still be told"
        assert await later.read()


async def test_buffered_response_reports_partial_silence() -> None:
    async with (
        Simulator(voice="tones") as vendor,
        running_gateway(ElevenLabs("sk_test", base_url=vendor.url)) as gateway,
    ):
        vendor.faults.set(Fault(actions.Cut(after=1.0), endpoint="text-to-speech*"))
        answer = await gateway.post(f"{ELEVENLABS}?output_format=pcm_16000", elevenlabs_body())
        assert (answer.status, answer.headers["x-steadyvoice-outcome"]) == (200, "muted")
        assert await answer.read()


@pytest.mark.parametrize("seconds", ["-1", "0", "nan", "inf", "soon"])
async def test_invalid_deadline_is_a_bad_request(seconds: str) -> None:
    async with running_gateway() as gateway:
        for endpoint, document in ((ELEVENLABS, elevenlabs_body()), (OPENAI, openai_body())):
            answer = await gateway.fetch("POST", endpoint, json=document, headers={"x-steadyvoice-deadline": seconds})
            assert answer.status == 400
            assert "x-steadyvoice-deadline" in await answer.text()
        assert not gateway.sim.ledger.requests


async def test_errors_have_outcome_headers() -> None:
    async with running_gateway(ElevenLabs("sk", base_url="http://127.0.0.1:9"), muted=False) as gateway:
        for endpoint, document in (
            (ELEVENLABS, elevenlabs_body()),
            (OPENAI, openai_body()),
            (ELEVENLABS, elevenlabs_body("")),
            (OPENAI, {}),
        ):
            answer = await gateway.fetch("POST", endpoint, json=document)
            assert answer.status >= 400
            assert answer.headers["x-steadyvoice-outcome"] == "failed"
            assert answer.headers["x-steadyvoice-provider"] == "none"
            assert answer.headers["x-request-id"]


async def test_disconnect_cancels_the_call_and_counts_against_no_provider() -> None:
    patient = TimeoutConfig(read_timeout=60, total_timeout=60)
    async with running_gateway(timeouts=patient) as gateway:
        gateway.sim.faults.set(Fault(actions.Stall(after=1.5), endpoint="text-to-speech*"))
        answer = await gateway.post(f"{ELEVENLABS}/stream?output_format=pcm_16000", elevenlabs_body())
        await answer.content.readany()
        answer.close()
        await gateway.sim.idle()  # the vendor was hung up on as well
        request, account = await gateway.next_call()
        assert not request.complete
        assert account.report.error is None
        totals = gateway.service.get_error_state()["totals"]
        assert (totals["calls"], totals["failures"]) == (1, 0)


async def test_options_in_headers() -> None:
    async with running_gateway() as gateway:
        gateway.sim.faults.set(Fault(actions.Cut(after=1.0), endpoint="text-to-speech*"))
        path = f"{ELEVENLABS}/stream?output_format=pcm_16000"
        answer = await gateway.post(path, elevenlabs_body(), headers={"x-steadyvoice-on-midstream": "error"})
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
        for name in ("on-midstream", "voice-substitution", "deadline", "cache"):
            wrong = await gateway.post(path, elevenlabs_body(), headers={f"x-steadyvoice-{name}": "perhaps"})
            assert wrong.status == 400
            assert name in (await wrong.json())["detail"]["message"]


async def test_text_beyond_the_limit_is_refused_before_synthesis() -> None:
    async with running_gateway(server={"max_text_characters": 10, "max_body_bytes": 1000}) as gateway:
        for text in ("eleven char", "x" * 2000):
            answer = await gateway.post(ELEVENLABS, elevenlabs_body(text))
            assert answer.status == 413
            assert "10 characters" in (await answer.json())["detail"]["message"]
        assert not gateway.sim.ledger.requests


@pytest.mark.parametrize("path", ["/v1/voices", "/v2/voices", "/v1/models", "/v1/user", "/v1/user/subscription"])
async def test_lists_come_from_the_vendor_or_the_configuration(path: str) -> None:
    async with running_gateway() as gateway:
        document = await (await gateway.get(path)).json()
        theirs = await (await gateway.client.get(gateway.sim.url + path, headers={"xi-api-key": "k"})).json()
        assert _shape(document) == _shape(theirs)
    async with running_gateway(ElevenLabs("sk", base_url="http://127.0.0.1:9", voices={"narrator": GEORGE})) as gateway:
        answer = await gateway.get(path)
        assert answer.status == 200
        assert _shape(await answer.json()) == _shape(theirs)


def _shape(document: Any) -> Any:
    """The names of its fields."""
    if isinstance(document, list):
        return _shape(document[0])
    if isinstance(document, dict):
        return {name: _shape(value) if name in ("voices", "subscription") else None for name, value in document.items()}
    return None


async def test_configured_voices_are_listed_by_name() -> None:
    down = "http://127.0.0.1:9"
    first = ElevenLabs("sk", base_url=down, voices={"narrator": Voice(GEORGE, language="en")})
    spare = OpenAICompatible("sk", base_url=down, voices={"narrator": "onyx", "anna": Voice("nova", gender="female")})
    async with running_gateway(first, spare) as gateway:
        voices = (await (await gateway.get("/v1/voices")).json())["voices"]
    ids = {voice["name"]: voice["voice_id"] for voice in voices}
    assert (ids["narrator"], ids["anna"]) == (GEORGE, "anna"), "nova is no voice of ElevenLabs'"


async def test_bearer_token_gets_openais_models() -> None:
    async with running_gateway() as gateway:
        bearer = {"Authorization": "Bearer k"}
        models = await (await gateway.get("/v1/models", headers=bearer)).json()
        assert models["object"] == "list"
        assert "gpt-4o-mini-tts" in {model["id"] for model in models["data"]}
        assert (await (await gateway.get("/v1/models/tts-1", headers=bearer)).json())["id"] == "tts-1"
        unknown = await gateway.get("/v1/models/gpt-99", headers=bearer)
        assert (unknown.status, (await unknown.json())["error"]["code"]) == (404, "model_not_found")


WEBSOCKET = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "x"}


async def test_unknown_path_is_answered_in_the_dialect() -> None:
    async with running_gateway() as gateway:
        assert "detail" in await (await gateway.get("/v1/nowhere")).json()
        assert "error" in await (await gateway.get("/v1/audio/nowhere")).json()
        socket = await gateway.get(f"{ELEVENLABS}/stream-inputs?model_id=eleven_v3", headers=WEBSOCKET)
        assert (socket.status, "no route" in await socket.text()) == (404, True)
        for path, status in (("/admin/nowhere", 404), ("/nowhere", 404), (ELEVENLABS, 405)):
            async with gateway.get(path) as answer:
                assert answer.status == status
                assert await answer.read()


async def test_configured_model_is_the_default() -> None:
    async with running_gateway() as gateway:
        for document, model in (
            (elevenlabs_body(), "eleven_flash_v2_5"),
            (elevenlabs_body(model_id="eleven_v3"), "eleven_v3"),
        ):
            answer = await gateway.post(ELEVENLABS, document)
            assert await answer.read()
            assert gateway.sim.ledger[-1].model == model


@pytest.mark.parametrize(
    ("code", "statuses"),
    [("quota_exceeded", [503, 503]), ("invalid_api_key", [503, 503]), ("system_busy", [429, 429])],
)
async def test_first_error_has_retry_after_like_later_ones(code: str, statuses: list[int]) -> None:
    async with running_gateway(only_elevenlabs=True, muted=False) as gateway:
        gateway.sim.faults.set(actions.Refuse(code, retry_after=7 if code == "system_busy" else None))
        for status in statuses:
            answer = await gateway.post(ELEVENLABS, elevenlabs_body())
            assert answer.status == status
            assert int(answer.headers["retry-after"]) >= 5
            assert await answer.json()


async def test_two_busy_vendors_stay_busy_for_their_retry_after() -> None:
    async with Simulator(voice="tones") as sim:
        both = ElevenLabs("sk_a", base_url=sim.url), OpenAICompatible("sk_b", base_url=f"{sim.url}/v1")
        async with running_gateway(*both, muted=False) as gateway:
            sim.faults.set(actions.Refuse("system_busy", retry_after=7))
            for path, body in (ELEVENLABS, elevenlabs_body()), (ELEVENLABS, elevenlabs_body()), (OPENAI, openai_body()):
                answer = await gateway.fetch("POST", path, json=body)
                assert (answer.status, int(answer.headers["retry-after"]) >= 5) == (429, True)


async def test_compressed_body_is_refused() -> None:
    async with running_gateway() as gateway:
        body, headers = gzip.compress(json.dumps(elevenlabs_body()).encode()), {"content-encoding": "gzip"}
        for path in (ELEVENLABS, OPENAI):
            answer = await gateway.fetch("POST", path, data=body, headers=headers)
            assert (answer.status, "Content-Encoding" in await answer.text()) == (415, True)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999", '"\\ud800"', '["\\ud800"]', "-1e-999"])
@pytest.mark.parametrize("field", ["text", "input"])
async def test_error_with_echoed_text_is_valid_json(field: str, text: str) -> None:
    async with running_gateway() as gateway:
        path, status = (ELEVENLABS, 422) if field == "text" else (OPENAI, 400)
        answer = await gateway.fetch(
            "POST", path, data=f'{{"{field}": {text}, "model": "m", "voice": "alloy"}}'.encode()
        )
        assert answer.status == status
        strict = json.loads(await answer.text(), parse_constant=pytest.fail)
        assert set(strict) == {"detail" if field == "text" else "error"}


async def test_nan_is_refused_without_failover() -> None:
    async with running_gateway() as gateway:
        for number in ("NaN", "1e999"):
            body = f'{{"text": "Hello", "voice_settings": {{"stability": {number}}}}}'.encode()
            answer = await gateway.fetch("POST", ELEVENLABS, data=body)
            assert answer.status == 422
            assert number in await answer.text()
        assert not gateway.sim.ledger.requests


NO_IDS = [
    "x\x00\r\nX",
    "x?a=b",
    "a/b",
    "a/stream",
    "..%2f",
    "#",
    "a%b",
    "a\\b",
    " ",
    ". .",
    "\u202eevil",
    "x" * 101,
    " " + GEORGE,
]


@pytest.mark.parametrize("form", ["", "/stream", "/with-timestamps", "/stream/with-timestamps"])
async def test_invalid_elevenlabs_voice_is_refused_without_a_call(form: str) -> None:
    async with running_gateway() as gateway:
        for voice in NO_IDS:
            async with by_voice(gateway, voice, form) as answer:
                assert (answer.status, answer.headers["x-steadyvoice-outcome"]) == (404, "failed"), voice
                detail = (await answer.json())["detail"]
                assert (detail["code"], detail["param"]) == ("voice_not_found", "voice_id")
                assert repr(voice[:100]) in detail["message"]
        assert not gateway.sim.ledger


@pytest.mark.parametrize("voice", ["x\x00\r\nX", " ", "..", "x" * 201])
async def test_invalid_openai_voice_is_refused_without_a_call(voice: str) -> None:
    async with running_gateway() as gateway:
        async with gateway.post(OPENAI, openai_body(voice=voice)) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["code"] == "voice_not_found"
        assert not gateway.sim.ledger


async def test_configured_voice_names_may_contain_any_character() -> None:
    names = [name for name in NO_IDS if name.strip()] + [
        "Erzähler 2",
        "team/a/stream",
        "a+b",
        "ü/stream/with-timestamps",
    ]
    async with Simulator(voice="tones") as sim:
        eleven = ElevenLabs("sk_test", base_url=sim.url, voices=dict.fromkeys(names, GEORGE))
        async with running_gateway(eleven, Tone()) as gateway:
            for name in names:
                for answer in (
                    await by_voice(gateway, name, "/stream"),
                    await gateway.post(OPENAI, openai_body(voice=name)),
                ):
                    assert (answer.status, await answer.read() != b"") == (200, True), name
                    assert answer.headers["x-steadyvoice-provider"] == "elevenlabs"
        assert {entry.voice for entry in sim.ledger} == {GEORGE}


async def test_configured_unusual_id_is_accepted() -> None:
    async with Simulator(voice="tones") as sim:
        eleven = ElevenLabs("sk_test", base_url=sim.url, voices={"narrator": "group/one"})
        async with running_gateway(eleven, Tone()) as gateway:
            answer = await by_voice(gateway, "group/one")
            assert answer.headers["x-steadyvoice-provider"] == "tone", "the vendor was asked for it, and knows it not"
        assert [entry.status for entry in sim.ledger] == [404]


def by_voice(gateway: RunningGateway, voice: str, form: str = "") -> Any:
    path = f"/v1/text-to-speech/{quote(voice, safe='')}{form}"
    return gateway.client.post(URL(gateway.url + path, encoded=True), json=elevenlabs_body())


@pytest.mark.parametrize("length", [0, 1, 2000, 4001, 20_000])
async def test_timestamps_of_a_long_text_are_encoded_in_parts(length: int) -> None:
    text = 'é"' * (length // 2) + "x" * (length % 2)
    times = Alignment.spread(text, 1000.0)
    account: Any = SimpleNamespace(alignment=times)
    order: Any = SimpleNamespace(body_format=BodyFormat.TIMESTAMPS)
    body = json.loads(json.dumps(timed_audio_body(TimedAudio(b"speech", times if text else None))))
    with TurnMeter() as meter:
        size, parts = await buffered_body(b"speech", account, order)
    document = b"".join(parts)
    assert len(document) == size
    assert json.loads(document) == body | {"normalized_alignment": body["alignment"]}
    assert meter.most <= 256 * 1024
