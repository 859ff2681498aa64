"""The vendors' official clients at the gateway, with healthy vendors and in an outage."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from elevenlabs import ElevenLabs

from steadyvoice.simulator import words_in
from steadyvoice.wire.elevenlabs.catalog import VOICES
from steadyvoice.wire.openai.speech import RESPONSE_FORMATS
from tests.npm_packages import install_npm_packages

from .background_simulator import (
    BackgroundSimulator,
    background_simulator,
    gateway_in_an_outage,
    gateway_with_all_providers,
)
from .test_javascript import HERE, LIBRARY, TEXT, WORDS, Results, audio

GEORGE = VOICES["George"]
GATEWAYS = pytest.mark.parametrize(
    "gate", [gateway_with_all_providers, gateway_in_an_outage], ids=["well", "in an outage"]
)
FORMATS = ["mp3_44100_128", "pcm_16000", "opus_48000_64", "ulaw_8000", "wav_24000"]


@pytest.fixture(params=[gateway_with_all_providers, gateway_in_an_outage], ids=["well", "in an outage"])
def sim(request: pytest.FixtureRequest) -> Iterator[BackgroundSimulator]:
    with background_simulator(request.param) as background:
        yield background


@pytest.mark.parametrize("format", FORMATS)
def test_elevenlabs_python_client_receives_every_word(eleven: ElevenLabs, format: str) -> None:
    speech = eleven.text_to_speech
    assert words_in(b"".join(speech.convert(GEORGE, text=TEXT, output_format=format)), format) == WORDS
    whole = speech.convert_with_timestamps(GEORGE, text=TEXT, output_format=format)
    assert words_in(base64.b64decode(whole.audio_base_64), format) == WORDS
    assert whole.alignment is not None
    assert "".join(whole.alignment.characters) == TEXT


@pytest.mark.parametrize("format", FORMATS[:-1])  # a WAV does not stream
def test_elevenlabs_python_client_receives_every_word_of_a_stream(eleven: ElevenLabs, format: str) -> None:
    speech = eleven.text_to_speech
    assert words_in(b"".join(speech.stream(GEORGE, text=TEXT, output_format=format)), format) == WORDS
    pieces = list(speech.stream_with_timestamps(GEORGE, text=TEXT, output_format=format))
    assert words_in(b"".join(base64.b64decode(piece.audio_base_64) for piece in pieces), format) == WORDS
    timed = [piece.alignment for piece in pieces if piece.alignment]
    assert "".join(character for times in timed for character in times.characters) == TEXT


def test_elevenlabs_python_client_reads_every_list(eleven: ElevenLabs) -> None:
    assert GEORGE in {voice.voice_id for voice in eleven.voices.get_all().voices}
    assert [voice.name for voice in eleven.voices.search(search="George").voices] == ["George"]
    assert "eleven_flash_v2_5" in {model.model_id for model in eleven.models.list()}
    assert eleven.user.get().subscription.tier == eleven.user.subscription.get().tier


@pytest.mark.parametrize("format", RESPONSE_FORMATS)
def test_openais_python_client_receives_every_word(openai_client: openai.OpenAI, format: Any) -> None:
    order: dict[str, Any] = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": TEXT, "response_format": format}
    assert words_in(openai_client.audio.speech.create(**order).content, RESPONSE_FORMATS[format]) == WORDS
    with openai_client.audio.speech.with_streaming_response.create(**order, stream_format="sse") as answer:
        *deltas, done = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
    heard = b"".join(base64.b64decode(delta["audio"]) for delta in deltas)
    assert words_in(heard, RESPONSE_FORMATS[format]) == WORDS
    assert done["type"] == "speech.audio.done"


def test_openais_python_client_reads_the_models(openai_client: openai.OpenAI) -> None:
    assert "gpt-4o-mini-tts" in {model.id for model in openai_client.models.list()}
    assert openai_client.models.retrieve("tts-1").id == "tts-1"


@pytest.mark.timeout(300)  # the first run fetches the clients, a hundred megabytes
@GATEWAYS
def test_javascript_clients_receive_every_word_and_read_every_list(pytestconfig: pytest.Config, gate: Any) -> None:
    results = _run_javascript(pytestconfig, gate)
    for format in FORMATS:
        assert words_in(audio(results[f"convert {format}"]), format) == WORDS
        if not format.startswith("wav"):
            assert words_in(audio(results[f"stream {format}"]), format) == WORDS
    assert words_in(audio(results["every option"]), LIBRARY) == WORDS
    whole, lines = results["with timestamps"]["value"], results["stream with timestamps"]["value"]
    assert "".join(whole["alignment"]["characters"]) == TEXT
    assert "".join("".join(line["alignment"]["characters"]) for line in lines if line.get("alignment")) == TEXT
    for each in ("voices", "voices found", "models", "user", "subscription"):
        assert results[f"{each} strictly"]["value"] is True, results[f"{each} strictly"]
    for name, format_ in RESPONSE_FORMATS.items():
        assert words_in(audio(results[f"openai {name}"]), format_) == WORDS
    assert "speech.audio.done" in results["openai sse"]["value"]
    assert results["openai models"]["value"]


def _run_javascript(pytestconfig: pytest.Config, gate: Any) -> Results:
    clients = install_npm_packages(HERE / "package.json", pytestconfig.cache.mkdir("javascript"))
    with background_simulator(gate) as sim:
        command = ["node", str(HERE / "clients.js"), str(clients), sim.url, GEORGE, TEXT, sim.simulator.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    seen: Results = json.loads(done.stdout)
    return seen
