"""The vendors' official JavaScript clients at the simulator.

One node process does all of it (`js/clients.js`) and tells what it saw; each story here reads a part.
"""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from steadyvoice.simulator import words_in
from steadyvoice.wire.elevenlabs.catalog import MODELS, VOICES
from steadyvoice.wire.openai.speech import MODELS as OPENAI_MODELS
from steadyvoice.wire.openai.speech import RESPONSE_FORMATS
from tests.npm_packages import install_npm_packages

from .background_simulator import background_simulator

pytestmark = pytest.mark.timeout(300)  # the first run fetches the clients, a hundred megabytes

HERE = Path(__file__).parent / "js"
GEORGE = VOICES["George"]
TEXT = "Good evening, this is the news."
WORDS = TEXT.split()
LIBRARY = "pcm_16000"

Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def results(pytestconfig: pytest.Config) -> Results:
    clients = install_npm_packages(HERE / "package.json", pytestconfig.cache.mkdir("javascript"))
    with background_simulator() as sim:
        command = ["node", str(HERE / "clients.js"), str(clients), sim.url, GEORGE, TEXT]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    seen: Results = json.loads(done.stdout)
    return seen


def audio(of: dict[str, Any]) -> bytes:
    assert "error" not in of, of
    return base64.b64decode(of["value"])


@pytest.mark.parametrize("format", ["mp3_44100_128", "pcm_16000", "opus_48000_64", "ulaw_8000"])
@pytest.mark.parametrize("way", ["convert", "stream"])
def test_elevenlabs_client_receives_every_word(results: Results, way: str, format: str) -> None:
    answer = results[f"{way} {format}"]
    assert words_in(audio(answer), format) == WORDS
    assert (answer["requests"], answer["charged"]) == (1, len(TEXT))


def test_wav_is_received_whole_and_cannot_be_streamed_by_the_client(results: Results) -> None:
    assert words_in(audio(results["convert wav_24000"]), "wav_24000") == WORDS
    assert results["stream wav_24000"]["error"]["class"] == "JsonError"
    assert results["stream wav_24000"]["requests"] == 0


def test_all_options_of_the_client_are_accepted(results: Results) -> None:
    assert words_in(audio(results["every option"]), LIBRARY) == WORDS


def test_timestamps_come_whole_and_line_by_line(results: Results) -> None:
    whole, lines = results["with timestamps"]["value"], results["stream with timestamps"]["value"]
    assert "".join(whole["alignment"]["characters"]) == TEXT
    assert words_in(base64.b64decode(whole["audioBase64"]), LIBRARY) == WORDS
    assert len(lines) > 3
    assert "".join("".join(line["alignment"]["characters"]) for line in lines if line.get("alignment")) == TEXT
    assert words_in(b"".join(base64.b64decode(line["audioBase64"]) for line in lines), LIBRARY) == WORDS


def test_voices_models_and_the_account_are_read(results: Results) -> None:
    assert {voice["voiceId"] for voice in results["voices"]["value"]["voices"]} == set(VOICES.values())
    assert [voice["name"] for voice in results["voices found"]["value"]["voices"]] == ["George"]
    assert results["voice"]["value"]["name"] == "George"
    assert {model["modelId"] for model in results["models"]["value"]} == set(MODELS)
    assert results["user"]["value"]["subscription"]["characterLimit"] == 500_000
    assert results["subscription"]["value"]["characterCount"] > 0


@pytest.mark.parametrize("list", ["voices", "voices found", "models", "user", "subscription"])
def test_clients_own_schemas_accept_them(results: Results, list: str) -> None:
    assert results[f"{list} strictly"]["value"] is True, results[f"{list} strictly"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 425])
def test_refusal_is_an_error_with_its_status(results: Results, status: int) -> None:
    answer = results[f"refused {status}"]
    assert (answer["error"]["class"], answer["error"]["status"]) == ("ElevenLabsError", status)
    assert (answer["requests"], answer["charged"]) == (1, 0)


@pytest.mark.parametrize("why", ["refused 422", "refused in a list", "no text"])
def test_invalid_request_is_an_unprocessable_entity(results: Results, why: str) -> None:
    assert (results[why]["error"]["class"], results[why]["error"]["status"]) == ("UnprocessableEntityError", 422)


def test_unknown_voice_is_named_in_the_error(results: Results) -> None:
    assert results["unknown voice"]["error"]["code"] == "voice_not_found"


@pytest.mark.parametrize("status", [429, 503])
def test_javascript_client_requests_audio_three_times(results: Results, status: int) -> None:
    assert results[f"refused {status}"]["error"]["status"] == status
    assert (results[f"refused {status}"]["requests"], results[f"refused {status}"]["charged"]) == (3, 0)


@pytest.mark.parametrize("prefix", ["", "openai "])
@pytest.mark.parametrize("fault", ["json", "json;declared=false", "html;declared=false", "empty"])
def test_official_clients_return_another_body_as_audio(results: Results, prefix: str, fault: str) -> None:
    answer = results[prefix + fault]
    assert audio(answer)[:1] == {"j": b"{", "h": b"<", "e": b""}[fault[0]]
    assert (answer["requests"], answer["charged"]) == (1, len(TEXT))


@pytest.mark.parametrize("prefix", ["", "openai "])
@pytest.mark.parametrize("fault", ["cut-close;after=0.5", "cut-terminated;after=0.5"])
def test_official_clients_return_half_the_audio(results: Results, prefix: str, fault: str) -> None:
    answer = results[prefix + fault]
    assert 0 < len(words_in(audio(answer), "pcm_24000" if prefix else LIBRARY)) < len(WORDS)
    assert (answer["requests"], answer["charged"]) == (1, len(TEXT))


@pytest.mark.parametrize("prefix", ["", "openai "])
def test_visible_cut_is_an_error_of_the_platform(results: Results, prefix: str) -> None:
    answer = results[f"{prefix}cut;after=0.5"]
    assert answer["error"] == {"class": "TypeError", "message": "terminated"}
    assert (answer["requests"], answer["charged"]) == (1, len(TEXT))


def test_error_line_is_noise(results: Results) -> None:
    assert results["error line"]["error"]["class"] == "ParseError"


def test_silence_ends_at_the_timeout_and_is_charged(results: Results) -> None:
    assert results["hang"]["error"]["class"] == "ElevenLabsError"
    assert "status" not in results["hang"]["error"]
    assert results["openai hang"]["error"]["class"] == "APIConnectionTimeoutError"
    assert results["hang"]["charged"] == results["openai hang"]["charged"] == len(TEXT)


@pytest.mark.parametrize("format", RESPONSE_FORMATS)
def test_openais_client_receives_every_word(results: Results, format: str) -> None:
    assert words_in(audio(results[f"openai {format}"]), RESPONSE_FORMATS[format]) == WORDS


def test_openais_client_reads_events_and_models(results: Results) -> None:
    events = [json.loads(line.removeprefix("data: ")) for line in results["openai sse"]["value"].split("\n\n") if line]
    assert words_in(b"".join(base64.b64decode(event["audio"]) for event in events[:-1]), "pcm_24000") == WORDS
    assert events[-1]["type"] == "speech.audio.done"
    assert {model["id"] for model in results["openai models"]["value"]} == set(OPENAI_MODELS)


@pytest.mark.parametrize(
    ("status", "kind", "requests"),
    [
        (400, "BadRequestError", 1),
        (401, "AuthenticationError", 1),
        (403, "PermissionDeniedError", 1),
        (404, "NotFoundError", 1),
        (409, "ConflictError", 3),
        (422, "UnprocessableEntityError", 1),
        (429, "RateLimitError", 3),
        (500, "InternalServerError", 3),
    ],
)
def test_every_refusal_has_its_class_in_openais_client(results: Results, status: int, kind: str, requests: int) -> None:
    answer = results[f"openai refused {status}"]
    assert (answer["error"]["class"], answer["error"]["status"]) == (kind, status)
    assert (answer["requests"], answer["charged"]) == (requests, 0)


def test_openais_client_names_an_empty_text_and_a_lost_connection(results: Results) -> None:
    assert results["openai no text"]["error"]["class"] == "BadRequestError"
    assert results["openai reset"]["error"]["class"] == "APIConnectionError"
