"""Scenarios that hold for a vendor and for its simulation, in as few characters as possible.

`tests/conformance` runs them against the simulator, `tests/live` against the vendors themselves, if there is a key.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
from elevenlabs import AsyncElevenLabs
from elevenlabs.core.api_error import ApiError
from elevenlabs.types import (
    AudioWithTimestampsResponse,
    GetVoicesResponse,
    GetVoicesV2Response,
    Model,
    StreamingAudioChunkWithTimestampsResponse,
    Subscription,
    User,
)
from openai.types import Model as OpenAIModel

from steadyvoice import AsyncTTSService, ElevenLabs, OpenAICompatible, Tone
from steadyvoice.speech.errors import TTSInvalidKeyError, TTSVoiceUnknownError
from steadyvoice.wire.elevenlabs.errors import error_class
from steadyvoice.wire.error_response import parse_error_details
from tests.conformance.strict_models import validate_strictly

TEXT = "It works, I am told."
BUDGET = 500
"""Characters that all scenarios together may cost on one account."""

BAD_KEY = "not-a-key-of-anybody"
UNKNOWN_VOICE = "nobodyhasthisvoiceid"
FORMAT = "pcm_16000"  # every plan has it
PATIENCE = 60.0  # seconds for a vendor to do its sums


@dataclass(frozen=True)
class Target:
    """Server, credential and voice of a run. `url` is the `base_url` of the vendor's own client."""

    url: str
    key: str
    voice: str
    model: str


Scenario = Callable[[Target], Awaitable[None]]

ELEVENLABS: list[Scenario] = []
OPENAI: list[Scenario] = []


def name_of(story: Scenario) -> str:
    return story.__name__.replace("_", " ")


# ElevenLabs, to its own client


@ELEVENLABS.append
async def official_client_receives_audio_and_its_price(target: Target) -> None:
    async with official(target) as client:
        order = {"text": TEXT, "model_id": target.model, "output_format": FORMAT}
        async with client.text_to_speech.with_raw_response.stream(target.voice, **order) as answer:
            audio = b"".join([chunk async for chunk in answer.data])
            headers = {name.lower(): value for name, value in answer.headers.items()}
    assert long_enough(audio)
    assert headers["request-id"]
    assert 0 < float(headers["character-cost"]) <= len(TEXT)


@ELEVENLABS.append
async def official_client_receives_character_timestamps(target: Target) -> None:
    async with official(target) as client:
        response = await client.text_to_speech.convert_with_timestamps(
            target.voice, text=TEXT, model_id=target.model, output_format=FORMAT
        )
    validate_strictly(AudioWithTimestampsResponse, response.model_dump(by_alias=True))
    assert response.alignment is not None
    assert "".join(response.alignment.characters) == TEXT
    audio = base64.b64decode(response.audio_base_64)
    assert long_enough(audio)
    assert response.alignment.character_end_times_seconds[-1] <= seconds_of(audio) + 0.5


@ELEVENLABS.append
async def timestamps_come_line_by_line(target: Target) -> None:
    async with official(target) as client:
        speaking = client.text_to_speech.stream_with_timestamps(
            target.voice, text=TEXT, model_id=target.model, output_format=FORMAT
        )
        pieces = [piece async for piece in speaking]
    for piece in pieces:
        validate_strictly(StreamingAudioChunkWithTimestampsResponse, piece.model_dump(by_alias=True))
    assert long_enough(b"".join(base64.b64decode(piece.audio_base_64) for piece in pieces))
    timed = [piece.alignment for piece in pieces if piece.alignment]
    assert "".join(character for times in timed for character in times.characters) == TEXT


@ELEVENLABS.append
async def lists_are_valid_for_the_official_client(target: Target) -> None:
    async with httpx.AsyncClient(base_url=target.url, headers={"xi-api-key": target.key}) as http:
        lists = {path: (await http.get(path)).json() for path in ("/v1/voices", "/v2/voices", "/v1/user")}
        models, subscription = (await http.get("/v1/models")).json(), (await http.get("/v1/user/subscription")).json()
    assert validate_strictly(GetVoicesResponse, lists["/v1/voices"]).voices
    assert validate_strictly(GetVoicesV2Response, lists["/v2/voices"]).voices
    assert target.model in {validate_strictly(Model, model).model_id for model in models}
    assert (
        validate_strictly(User, lists["/v1/user"]).subscription.tier
        == validate_strictly(Subscription, subscription).tier
    )


@ELEVENLABS.append
async def bad_key_is_classified(target: Target) -> None:
    async with official(target, key=BAD_KEY) as client:
        with pytest.raises(ApiError) as refused:
            await client.user.get()
    assert refused.value.status_code == 401
    assert meaning_of(refused.value) is TTSInvalidKeyError


@ELEVENLABS.append
async def unknown_voice_is_classified(target: Target) -> None:
    async with official(target) as client:
        with pytest.raises(ApiError) as refused:
            [chunk async for chunk in client.text_to_speech.convert(UNKNOWN_VOICE, text=TEXT, model_id=target.model)]
    assert refused.value.status_code in (400, 404)
    assert meaning_of(refused.value) is TTSVoiceUnknownError


@ELEVENLABS.append
async def an_empty_text_is_refused(target: Target) -> None:
    async with official(target) as client:
        with pytest.raises(ApiError) as refused:
            [chunk async for chunk in client.text_to_speech.convert(target.voice, text="", model_id=target.model)]
    assert refused.value.status_code in (400, 422)


# ElevenLabs, to our service


@ELEVENLABS.append
async def service_returns_an_encoded_format(target: Target) -> None:
    async with AsyncTTSService([ours(target)], muted=False) as tts:
        speech = await tts.synthesize(TEXT, format="mp3_44100_128")
    assert (speech.outcome, speech.provider) == ("spoken", "elevenlabs")
    assert plausible(speech.duration)


@ELEVENLABS.append
async def service_returns_character_timestamps(target: Target) -> None:
    async with AsyncTTSService([ours(target, timestamps=True)], muted=False) as tts:
        speech = await tts.synthesize(TEXT, format=FORMAT)
    assert speech.alignment.exact
    assert speech.alignment.text == TEXT
    assert [word.text for word in speech.alignment.words()] == TEXT.split()
    assert speech.alignment.ends[-1] <= speech.duration + 0.5


@ELEVENLABS.append
async def billed_characters_are_those_the_account_was_charged(target: Target) -> None:
    async with official(target) as client, AsyncTTSService([ours(target)], muted=False) as tts:
        before = (await client.user.subscription.get()).character_count
        (attempt,) = (await tts.synthesize(TEXT, format=FORMAT)).attempts
        assert attempt.request_id
        assert attempt.characters_billed is not None
        # Polled each second: a vendor sends no notification of it.
        async with asyncio.timeout(PATIENCE):  # the vendor's sum may come a little later
            expected = before + int(attempt.characters_billed)
            while (await client.user.subscription.get()).character_count < expected:  # noqa: ASYNC110
                await asyncio.sleep(1)


@ELEVENLABS.append
async def service_holds_a_bad_key_and_fails_over(target: Target) -> None:
    async with AsyncTTSService([ours(target, api_key=BAD_KEY), Tone()]) as tts:
        assert (await tts.synthesize(TEXT, format=FORMAT)).provider == "tone"
        state = tts.get_error_state()
        assert [(hold["key"], hold["kind"]) for hold in state["holds"]] == [("elevenlabs/credential", "invalid_key")]
        assert (state["circuit_state"], state["totals"]["failures"]) == ("closed", 0)
        again = await tts.synthesize(TEXT, format=FORMAT)
        assert again.attempts[0].refused, "nobody is asked with a key that is known to be bad"


@ELEVENLABS.append
async def service_holds_an_unknown_voice_and_fails_over(target: Target) -> None:
    async with AsyncTTSService([ours(target, voices={"default": UNKNOWN_VOICE}), Tone()]) as tts:
        assert (await tts.synthesize(TEXT, format=FORMAT)).provider == "tone"
        state = tts.get_error_state()
        assert [hold["key"] for hold in state["holds"]] == [f"elevenlabs/voice/{UNKNOWN_VOICE}"]
        assert (state["circuit_state"], state["totals"]["failures"]) == ("closed", 0)


# OpenAI, and whoever is compatible with it


@OPENAI.append
async def openais_client_receives_audio(target: Target) -> None:
    async with openai.AsyncOpenAI(api_key=target.key, base_url=target.url) as client:
        answer = await client.audio.speech.create(
            model=target.model, voice=target.voice, input=TEXT, response_format="pcm"
        )
    assert long_enough(answer.content, rate=24_000)


@OPENAI.append
async def openais_client_reads_the_models(target: Target) -> None:
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {target.key}"}) as http:
        listed = (await http.get(f"{target.url}/models")).json()
    assert target.model in {validate_strictly(OpenAIModel, model).id for model in listed["data"]}


@OPENAI.append
async def an_empty_text_is_a_bad_request(target: Target) -> None:
    async with openai.AsyncOpenAI(api_key=target.key, base_url=target.url) as client:
        with pytest.raises((openai.BadRequestError, openai.UnprocessableEntityError)):
            await client.audio.speech.create(model=target.model, voice=target.voice, input="")


@OPENAI.append
async def service_uses_openai(target: Target) -> None:
    provider = OpenAICompatible(target.key, base_url=target.url, model=target.model, voices={"default": target.voice})
    async with AsyncTTSService([provider], muted=False) as tts:
        speech = await tts.synthesize(TEXT, format="pcm_24000")
    assert (speech.outcome, speech.provider) == ("spoken", "openai")
    assert plausible(speech.duration)


@OPENAI.append
async def service_holds_a_bad_key_of_openai(target: Target) -> None:
    provider = OpenAICompatible(BAD_KEY, base_url=target.url, model=target.model, voices={"default": target.voice})
    async with AsyncTTSService([provider, Tone()]) as tts:
        assert (await tts.synthesize(TEXT, format="pcm_24000")).provider == "tone"
        state = tts.get_error_state()
        assert [(hold["key"], hold["kind"]) for hold in state["holds"]] == [("openai/credential", "invalid_key")]


# What the stories are told with


@asynccontextmanager
async def official(target: Target, key: str | None = None) -> AsyncIterator[AsyncElevenLabs]:
    async with httpx.AsyncClient(timeout=60) as http:
        yield AsyncElevenLabs(api_key=key or target.key, base_url=target.url, httpx_client=http)


def ours(target: Target, **settings: Any) -> ElevenLabs:
    usual = {"api_key": target.key, "base_url": target.url, "model": target.model, "voices": {"default": target.voice}}
    return ElevenLabs(**{**usual, **settings})


def meaning_of(error: ApiError) -> type[Exception]:
    """Return the class of error by which our provider reports a client's error."""
    body = httpx.Response(500, json=error.body).content
    return error_class(error.status_code or 0, parse_error_details(body))


def seconds_of(pcm: bytes, rate: int = 16_000) -> float:
    return len(pcm) / 2 / rate


def long_enough(pcm: bytes, rate: int = 16_000) -> bool:
    return len(pcm) % 2 == 0 and any(pcm) and plausible(seconds_of(pcm, rate))


def plausible(seconds: float) -> bool:
    """Return whether a duration in seconds is plausible for the text, at about 60 ms a character."""
    return 0.4 * 0.06 * len(TEXT) <= seconds <= 5 * 0.06 * len(TEXT)
