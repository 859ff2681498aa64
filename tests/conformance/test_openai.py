"""OpenAI's official Python client at every endpoint of the simulator."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any, get_args, get_type_hints

import openai
import pytest
from openai.types import Model
from openai.types.audio.speech_create_params import SpeechCreateParams

from steadyvoice.simulator import words_in
from steadyvoice.wire.openai.speech import MODELS, RESPONSE_FORMATS, VOICES

from .background_simulator import BackgroundSimulator, background_simulator, openai_gateway, simulator_itself
from .strict_models import validate_strictly

TEXT = "Good evening, this is the news."
WORDS = TEXT.split()
ORDER: dict[str, Any] = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": TEXT, "response_format": "pcm"}


@pytest.fixture(params=[simulator_itself, openai_gateway], ids=["vendor", "gateway"])
def sim(request: pytest.FixtureRequest) -> Iterator[BackgroundSimulator]:
    """Run the simulated vendor, alone or behind the gateway."""
    with background_simulator(request.param) as background:
        yield background


def _words_of(annotation: Any) -> set[str]:
    """Return the values of all Literals within a type."""
    if isinstance(annotation, str):
        return {annotation}
    return {word for each in get_args(annotation) for word in _words_of(each)}


def test_formats_voices_and_models_of_the_client_are_supported() -> None:
    fields = get_type_hints(SpeechCreateParams)
    assert _words_of(fields["response_format"]) == set(RESPONSE_FORMATS)
    assert _words_of(fields["voice"]) == set(VOICES)
    assert _words_of(fields["model"]) == set(MODELS)


@pytest.mark.parametrize("format", RESPONSE_FORMATS)
def test_every_format_contains_every_word(openai_client: openai.OpenAI, format: Any) -> None:
    answer = openai_client.audio.speech.create(**{**ORDER, "response_format": format})
    assert words_in(answer.content, RESPONSE_FORMATS[format]) == WORDS


@pytest.mark.parametrize("voice", VOICES)
def test_every_voice_speaks(sim: BackgroundSimulator, openai_client: openai.OpenAI, voice: str) -> None:
    answer = openai_client.audio.speech.create(**{**ORDER, "voice": voice})
    assert words_in(answer.content, "pcm_24000") == WORDS
    assert sim.ledger()[-1].voice == voice


def test_default_format_is_mp3(openai_client: openai.OpenAI) -> None:
    answer = openai_client.audio.speech.create(model="tts-1", voice="nova", input=TEXT, speed=1.0)
    assert words_in(answer.content, RESPONSE_FORMATS["mp3"]) == WORDS
    assert answer.response.headers["content-type"] == "audio/mpeg"


def test_stream_arrives_in_chunks(sim: BackgroundSimulator, openai_client: openai.OpenAI) -> None:
    with openai_client.audio.speech.with_streaming_response.create(**ORDER) as answer:
        chunks = list(answer.iter_bytes())
        assert answer.headers["x-request-id"]
    behind_the_gateway = sim.url != sim.simulator.url  # it holds back a sentence, to be able to go on elsewhere
    assert len(chunks) > (0 if behind_the_gateway else 3)
    assert words_in(b"".join(chunks), "pcm_24000") == WORDS
    assert sim.ledger()[-1].charged == len(TEXT)


def test_raw_response_has_its_headers(openai_client: openai.OpenAI) -> None:
    answer = openai_client.audio.speech.with_raw_response.create(**ORDER)
    assert answer.request_id == answer.headers["x-request-id"]
    assert words_in(answer.parse().content, "pcm_24000") == WORDS


def test_all_options_of_the_client_are_accepted(openai_client: openai.OpenAI) -> None:
    answer = openai_client.audio.speech.create(**ORDER, instructions="Whisper.", speed=1.25, stream_format="audio")
    assert words_in(answer.content, "pcm_24000") == WORDS


def test_server_sent_events_have_the_same_audio_and_an_end(openai_client: openai.OpenAI) -> None:
    plain = openai_client.audio.speech.create(**ORDER).content
    with openai_client.audio.speech.with_streaming_response.create(**ORDER, stream_format="sse") as answer:
        *deltas, done = _events(answer.iter_lines())
    assert b"".join(base64.b64decode(delta["audio"]) for delta in deltas) == plain
    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    assert done["type"] == "speech.audio.done"
    assert done["usage"]["total_tokens"] == done["usage"]["input_tokens"] + done["usage"]["output_tokens"]


def _events(lines: Iterable[str]) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in lines if line]


def test_models_are_read_completely(sim: BackgroundSimulator, openai_client: openai.OpenAI) -> None:
    listed = sim.document("/v1/models", authorization="Bearer any")
    assert listed["object"] == "list"
    models = [validate_strictly(Model, model) for model in listed["data"]]
    assert list(openai_client.models.list()) == models
    assert {model.id for model in models} == set(MODELS)
    assert [openai_client.models.retrieve(model.id) for model in models] == models


async def test_async_client_receives_and_reads_the_same(async_openai_client: openai.AsyncOpenAI) -> None:
    speech = async_openai_client.audio.speech
    assert words_in((await speech.create(**ORDER)).content, "pcm_24000") == WORDS
    async with speech.with_streaming_response.create(**ORDER) as answer:
        chunks = [chunk async for chunk in answer.iter_bytes()]
    assert words_in(b"".join(chunks), "pcm_24000") == WORDS
    async with speech.with_streaming_response.create(**ORDER, stream_format="sse") as answer:
        events = _events([line async for line in answer.iter_lines()])
    assert events[-1]["type"] == "speech.audio.done"
    assert {model.id async for model in async_openai_client.models.list()} == set(MODELS)
