"""ElevenLabs' HTTP endpoints: audio, headers, and the vendor's errors."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from steadyvoice.simulator import Ending, Simulator, words_in
from steadyvoice.simulator.elevenlabs import RESPONSE_SHAPES
from steadyvoice.speech.errors import TTSBadRequestError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.wire.elevenlabs.catalog import VOICES
from steadyvoice.wire.elevenlabs.errors import CODES, error_class
from steadyvoice.wire.elevenlabs.speech import SpeechEndpoint, speech_path
from steadyvoice.wire.error_response import error_class_by_status, parse_error_details

from .client import GEORGE, STREAM, TEXT, TIMED, TIMED_STREAM, WHOLE, WORDS, Client


@pytest.mark.parametrize(
    ("form", "format"),
    [(form, name) for form in (SpeechEndpoint.WHOLE, SpeechEndpoint.STREAM) for name in form.formats],
)
async def test_every_format_contains_every_word(client: Client, form: SpeechEndpoint, format: str) -> None:
    seen = await client.speak(speech_path(GEORGE, form) + f"?output_format={format}")
    assert (seen.status, seen.terminated) == (200, True)
    assert seen.headers["content-type"] == AudioFormat.parse(format).mime_type
    assert words_in(seen.body, format) == WORDS


def test_every_endpoint_has_its_response_shape() -> None:
    assert set(RESPONSE_SHAPES) == set(SpeechEndpoint)


async def test_default_format_is_mp3(client: Client) -> None:
    seen = await client.speak(f"/v1/text-to-speech/{GEORGE}")
    assert words_in(seen.body, "mp3_44100_128") == WORDS


async def test_complete_wav_declares_its_true_size(client: Client) -> None:
    seen = await client.speak(f"/v1/text-to-speech/{GEORGE}?output_format=wav_8000")
    assert int.from_bytes(seen.body[40:44], "little") == len(seen.body) - 44


async def test_character_times_match_the_audio(client: Client) -> None:
    seen = await client.speak(TIMED)
    alignment = seen.json["alignment"]
    assert "".join(alignment["characters"]) == TEXT
    assert seen.json["normalized_alignment"] == alignment
    audio = base64.b64decode(seen.json["audio_base64"])
    assert alignment["character_end_times_seconds"][-1] == pytest.approx(len(audio) / 16_000, abs=0.001)
    begin, end = TEXT.index("fox"), TEXT.index("fox") + 3
    start, stop = alignment["character_start_times_seconds"][begin], alignment["character_end_times_seconds"][end - 1]
    piece = audio[round(start * 8000) * 2 : round(stop * 8000) * 2]
    assert words_in(piece, "pcm_8000") == ["fox"]


async def test_timed_lines_join_to_the_complete_answer(client: Client) -> None:
    whole, lines = await client.speak(TIMED), (await client.speak(TIMED_STREAM)).lines
    assert len(lines) > 3
    assert b"".join(base64.b64decode(line["audio_base64"]) for line in lines) == base64.b64decode(
        whole.json["audio_base64"]
    )
    for field in ("characters", "character_start_times_seconds", "character_end_times_seconds"):
        assert [each for line in lines if line["alignment"] for each in line["alignment"][field]] == whole.json[
            "alignment"
        ][field]


async def test_same_order_gives_the_same_audio(client: Client) -> None:
    first, again = await client.speak(STREAM, seed=7), await client.speak(STREAM, seed=7)
    assert first.body == again.body
    others = [
        await client.speak(STREAM, seed=8),
        await client.speak(STREAM, TEXT + "!", seed=7),
        await client.speak(STREAM.replace(GEORGE, VOICES["Rachel"]), seed=7),
    ]
    assert len({first.body, *(other.body for other in others)}) == 4


async def test_two_simulators_give_the_same_audio(client: Client) -> None:
    path = STREAM.replace("pcm_8000", "mp3_44100_128")
    async with Simulator(voice="tones") as other:
        assert (await Client(other.url).speak(path)).body == (await client.speak(path)).body


async def test_stream_and_complete_answer_have_the_same_audio(client: Client) -> None:
    assert (await client.speak(WHOLE)).body == (await client.speak(STREAM)).body


async def test_answer_has_cost_and_concurrency_headers(sim: Simulator, client: Client) -> None:
    whole, stream = await client.speak(WHOLE), await client.speak(STREAM)
    for seen in (whole, stream):
        assert seen.headers["character-cost"] == str(len(TEXT))
        assert seen.headers["current-concurrent-requests"] == "1"
        assert seen.headers["maximum-concurrent-requests"] == "10"
        assert seen.headers["server"] == "uvicorn"
        assert {"x-trace-id", "x-region", "history-item-id"} <= seen.headers.keys()
    assert whole.headers["content-length"] == str(len(whole.body))
    assert stream.headers["transfer-encoding"] == "chunked"
    assert [entry.request_id for entry in sim.ledger] == [whole.headers["request-id"], stream.headers["request-id"]]
    assert whole.headers["request-id"] != stream.headers["request-id"]


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({}, ["body", "text"]),
        ({"text": " "}, ["body", "text"]),
        ({"text": 3}, ["body", "text"]),
        ({"text": "Hi", "seed": -1}, ["body", "seed"]),
    ],
)
async def test_invalid_request_is_answered_with_a_422_list(
    client: Client, body: dict[str, Any], loc: list[str]
) -> None:
    body = {"text": None, **body}
    seen = await client.speak(STREAM, body.pop("text"), **body)
    assert seen.status == 422
    assert [issue["loc"] for issue in seen.json["detail"]] == [loc]


@pytest.mark.parametrize("order", ["?output_format=mp3_1", "/stream?output_format=wav_8000"])
async def test_format_unknown_to_the_endpoint_is_answered_with_a_422_list(client: Client, order: str) -> None:
    seen = await client.speak(f"/v1/text-to-speech/{GEORGE}{order}")
    assert (seen.status, seen.json["detail"][0]["loc"]) == (422, ["query", "output_format"])


@pytest.mark.parametrize(
    ("path", "text", "more", "status", "code"),
    [
        (STREAM.replace(GEORGE, "nobody"), TEXT, {}, 404, "voice_not_found"),
        (STREAM, TEXT, {"model_id": "eleven_v0"}, 400, "model_not_found"),
        (STREAM, "a" * 10_001, {}, 400, "max_character_limit_exceeded"),
        (STREAM, TEXT, {"model_id": "eleven_v3", "previous_text": "So."}, 400, "invalid_parameters"),
        (STREAM, TEXT, {"model_id": "eleven_v3", "previous_request_ids": ["r"]}, 400, "invalid_parameters"),
        (STREAM, TEXT, {"model_id": "eleven_v3", "next_request_ids": ["r"]}, 400, "invalid_parameters"),
        (STREAM, TEXT, {"language_code": "de"}, 400, "invalid_parameters"),
        (STREAM, TEXT, {"voice_settings": {"clone_strength": 2}}, 400, "invalid_voice_settings"),
        (STREAM, TEXT, {"audio_effects": {"filter_preset_id": "kazoo"}}, 404, "audio_effect_not_found"),
        (STREAM, TEXT, {"audio_effects": {"environment_id": "hall", "send_level": 0.5}}, 400, "invalid_parameters"),
        (STREAM, TEXT, {"audio_effects": {"pan": -0.5}}, 400, "invalid_parameters"),
        (STREAM, TEXT, {"voice_settings": {"speed": 2}}, 400, "invalid_voice_settings"),
        (STREAM, TEXT, {"voice_settings": {"stability": "high"}}, 400, "invalid_voice_settings"),
    ],
)
async def test_rejected_request_is_not_charged(
    sim: Simulator, client: Client, path: str, text: str, more: dict[str, Any], status: int, code: str
) -> None:
    seen = await client.speak(path, text, **more)
    assert (seen.status, seen.json["detail"]["code"]) == (status, code)
    assert (sim.ledger[-1].charged, sim.ledger[-1].status) == (0, status)


async def test_unknown_audio_effect_is_reported_by_its_field(client: Client) -> None:
    refused = await client.speak(audio_effects={"filter_preset_id": "phone", "environment_id": "moon"})
    assert refused.json["detail"]["param"] == "audio_effects.environment_id"
    assert error_class(404, parse_error_details(refused.body)) is TTSBadRequestError, "no voice is unknown"


async def test_known_audio_effects_that_fit_the_format_are_accepted(client: Client) -> None:
    stereo = {"environment_id": "hall", "send_level": 0.5, "pan": 1}
    assert (await client.speak(STREAM.replace("pcm_8000", "mp3_22050_32"), audio_effects=stereo)).status == 200
    mono = {"background_noise_id": "cafe", "environment_id": "hall", "send_level": 0, "pan": 0}
    assert (await client.speak(STREAM, audio_effects=mono)).status == 200


@pytest.mark.parametrize("model", ["eleven_v3_conversational", "eleven_v4", "eleven_v4_turbo"])
async def test_models_from_the_settings_are_known(client: Client, model: str) -> None:
    assert (await client.speak(model_id=model)).status == 200


async def test_bearer_token_is_accepted_as_a_key(sim: Simulator) -> None:
    client = Client(sim.url, {"authorization": "bearer any"})
    assert (await client.speak(STREAM)).status == 200
    assert (await client.get("/v1/user")).status == 200
    assert (await client.get("/v1/models")).json["object"] == "list", "with a Bearer token this is OpenAI's"


async def test_bearer_token_is_checked_like_a_key() -> None:
    async with Simulator(voice="tones", keys=("right",)) as sim:
        codes = []
        for value in ("Bearer", "Basic right", "Bearer wrong", "Bearer right"):
            seen = await Client(sim.url, {"authorization": value}).get("/v1/user")
            codes.append(seen.json["detail"]["code"] if seen.status == 401 else seen.status)
        assert codes == ["needs_authorization", "needs_authorization", "invalid_api_key", 200]


async def test_invalid_json_is_reported_with_its_position(client: Client) -> None:
    seen = await client.ask("POST", STREAM, b'{"text": "Hi",}')
    (issue,) = seen.json["detail"]
    assert (seen.status, issue["type"], issue["input"]) == (422, "json_invalid", {})
    assert issue["loc"] in (["body", 13], ["body", 14]), "at the comma, or behind it: Python 3.13 says the former"
    assert issue["ctx"].keys() == {"error"}
    assert issue["ctx"]["error"]


async def test_missing_field_is_reported_with_the_input(client: Client) -> None:
    seen = await client.ask("POST", STREAM, b'{"txt": "Hi"}')
    wanted = {"type": "missing", "loc": ["body", "text"], "msg": "Field required", "input": {"txt": "Hi"}}
    assert seen.json == {"detail": [wanted]}


async def test_field_supported_by_the_model_is_accepted(client: Client) -> None:
    assert (await client.speak(model_id="eleven_flash_v2_5", language_code="de", previous_text="So.")).status == 200
    assert (await client.speak(voice_settings={"speed": 1.1, "stability": 0, "style": None})).status == 200


@pytest.mark.parametrize("code", CODES)
async def test_every_error_code_has_both_generations(client: Client, code: str) -> None:
    current = await client.speak(fault=f"refuse;code={code}")
    legacy = await client.speak(fault=f"refuse;code={code};form=legacy")
    assert current.status == legacy.status == CODES[code].status
    detail = current.json["detail"]
    assert (detail["code"], detail["status"], detail["request_id"]) == (code, code, current.headers["request-id"])
    assert set(legacy.json["detail"]) == {"status", "message"}


@pytest.mark.parametrize("status", [400, 401, 408, 409, 413, 425, 429, 500, 502, 503, 504])
async def test_status_without_a_code_gets_its_usual_code(client: Client, status: int) -> None:
    seen = await client.speak(fault=f"refuse;status={status}")
    assert seen.status == status
    assert error_class(status, parse_error_details(seen.body)) is error_class_by_status(status)
    assert (seen.json["detail"]["type"] == "internal_error") == (status >= 500)


async def test_fastapi_error_shapes(client: Client) -> None:
    listed = await client.speak(fault="refuse;status=422;form=list;message=no")
    assert listed.json["detail"][0]["msg"] == "no"
    assert (await client.speak(fault="refuse;status=503;form=text;message=no")).json == {"detail": "no"}


async def test_retry_after_is_sent(client: Client) -> None:
    seen = await client.speak(fault="refuse;code=system_busy;retry_after=1.5")
    assert (seen.status, seen.headers["retry-after"]) == (429, "2"), "it has whole seconds only"
    assert "retry-after" not in (await client.speak(fault="refuse;code=system_busy")).headers
    assert (await client.speak(fault="refuse;retry_after=2000000")).headers["retry-after"] == "2000000"


async def test_openai_code_is_translated(client: Client) -> None:
    seen = await client.speak(fault="refuse;code=insufficient_quota")
    assert (seen.status, seen.json["detail"]["code"]) == (401, "quota_exceeded")


async def test_legacy_errors_can_be_the_default() -> None:
    async with Simulator(voice="tones", errors="legacy", character_limit=3) as sim:
        seen = await Client(sim.url).speak()
        assert seen.json["detail"]["status"] == "quota_exceeded"
        assert "code" not in seen.json["detail"]


async def test_missing_and_wrong_keys_have_different_errors() -> None:
    async with Simulator(voice="tones", keys=("right",)) as sim:
        codes = []
        for key in ("", "wrong", "right"):
            seen = await Client(sim.url, {"xi-api-key": key}).get("/v1/user")
            codes.append(seen.json["detail"]["code"] if seen.status == 401 else seen.status)
        assert codes == ["needs_authorization", "invalid_api_key", 200]


async def test_voices_models_and_account_are_listed() -> None:
    async with Simulator(voice="tones", voices=("mine",), models=("eleven_v9",)) as sim:
        client = Client(sim.url, {"xi-api-key": "any"})
        first, second = (await client.get("/v1/voices")).json, (await client.get("/v2/voices")).json
        assert {GEORGE, VOICES["Rachel"], "mine"} <= {voice["voice_id"] for voice in first["voices"]}
        assert (second["has_more"], second["voices"]) == (False, first["voices"])
        assert {"eleven_v3", "eleven_v9"} <= {model["model_id"] for model in (await client.get("/v1/models")).json}
        hints: dict[str, Any] = {"language_code": "de", "previous_text": "So."}
        assert (await client.speak(STREAM.replace(GEORGE, "mine"), model_id="eleven_v9", **hints)).status == 200
        user = (await client.get("/v1/user")).json
        assert user["subscription"].items() <= (await client.get("/v1/user/subscription")).json.items()
        assert user["subscription"]["character_count"] == len(TEXT)


async def test_single_voice_and_voice_search(sim: Simulator, client: Client) -> None:
    assert (await client.get(f"/v1/voices/{GEORGE}")).json["name"] == "George"
    assert (await client.get("/v1/voices/nobody")).json["detail"]["code"] == "voice_not_found"
    page = (await client.get("/v2/voices?page_size=2")).json
    assert (len(page["voices"]), page["has_more"]) == (2, True)
    refused = await client.get("/v2/voices?page_size=0")
    assert (refused.status, refused.json["detail"][0]["loc"]) == (422, ["query", "page_size"])
    assert [entry.endpoint for entry in sim.ledger] == ["voices"] * 4


async def test_unknown_path_is_a_404(sim: Simulator) -> None:
    seen = await Client(sim.url, {"xi-api-key": "any"}).get("/v1/studio/projects")
    assert (seen.status, seen.json) == (404, {"detail": "Not Found"})
    assert (seen.headers["server"], len(seen.headers["request-id"])) == ("uvicorn", 20)
    assert [(entry.endpoint, entry.status, entry.ending) for entry in sim.ledger] == [
        ("studio/projects", 404, Ending.REFUSED)
    ]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", STREAM, "post"),
        ("DELETE", "/v1/voices", "get"),
        ("HEAD", "/v1/user", "get"),
        ("POST", "/v1/models", "get"),
    ],
)
async def test_wrong_method_is_a_405(sim: Simulator, method: str, path: str, allowed: str) -> None:
    seen = await Client(sim.url, {"xi-api-key": "any"}).ask(method, path)
    assert (seen.status, seen.headers["allow"], seen.headers["server"]) == (405, allowed, "uvicorn")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_plain_request_to_a_websocket_path_is_a_404(client: Client, method: str) -> None:
    path = f"/v1/text-to-speech/{GEORGE}/stream-input"
    seen = await Client(client.url, {"xi-api-key": "any"}).ask(method, path)
    assert (seen.status, seen.json, seen.headers["server"]) == (404, {"detail": "Not Found"}, "uvicorn")


async def test_every_answer_has_the_vendor_headers(client: Client) -> None:
    for path in ("/v1/voices", "/v2/voices", f"/v1/voices/{GEORGE}", "/v1/user", "/v1/user/subscription"):
        headers = (await client.get(path)).headers
        assert (headers["server"], len(headers["request-id"])) == ("uvicorn", 20)
