"""ElevenLabs' official Python client at every endpoint of the simulator."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from elevenlabs import AsyncElevenLabs, ElevenLabs, VoiceSettings
from elevenlabs.errors import UnprocessableEntityError
from elevenlabs.text_to_speech.types import (
    TextToSpeechConvertRequestOutputFormat,
    TextToSpeechConvertWithTimestampsRequestOutputFormat,
    TextToSpeechStreamRequestOutputFormat,
    TextToSpeechStreamWithTimestampsRequestOutputFormat,
)
from elevenlabs.types import (
    AudioWithTimestampsResponse,
    GetVoicesResponse,
    GetVoicesV2Response,
    Model,
    StreamingAudioChunkWithTimestampsResponse,
    Subscription,
    User,
    Voice,
)

from steadyvoice.simulator import Ending, words_in
from steadyvoice.wire.elevenlabs.catalog import MODELS, VOICES
from steadyvoice.wire.elevenlabs.speech import SpeechEndpoint

from .background_simulator import BackgroundSimulator, background_simulator, elevenlabs_gateway, simulator_itself
from .strict_models import validate_strictly

GEORGE = VOICES["George"]
TEXT = "Good evening, this is the news."
WORDS = TEXT.split()


@pytest.fixture(params=[simulator_itself, elevenlabs_gateway], ids=["vendor", "gateway"])
def sim(request: pytest.FixtureRequest) -> Iterator[BackgroundSimulator]:
    """Run the simulated vendor, alone or behind the gateway."""
    with background_simulator(request.param) as background:
        yield background


def _names(annotation: Any) -> set[str]:
    """Return the values of a `Literal[...] | Any`."""
    return {name for choice in get_args(annotation) for name in get_args(choice)}


FORMATS = {
    SpeechEndpoint.WHOLE: _names(TextToSpeechConvertRequestOutputFormat),
    SpeechEndpoint.STREAM: _names(TextToSpeechStreamRequestOutputFormat),
    SpeechEndpoint.TIMED: _names(TextToSpeechConvertWithTimestampsRequestOutputFormat),
    SpeechEndpoint.TIMED_STREAM: _names(TextToSpeechStreamWithTimestampsRequestOutputFormat),
}


@pytest.mark.parametrize("form", SpeechEndpoint)
def test_formats_of_the_client_are_supported(form: SpeechEndpoint) -> None:
    assert FORMATS[form] == set(form.formats)


@pytest.mark.parametrize("format", sorted(FORMATS[SpeechEndpoint.WHOLE]))
def test_every_format_contains_every_word(eleven: ElevenLabs, format: str) -> None:
    audio = b"".join(eleven.text_to_speech.convert(GEORGE, text=TEXT, output_format=format))
    assert words_in(audio, format) == WORDS


def test_default_format_is_mp3(eleven: ElevenLabs) -> None:
    assert words_in(b"".join(eleven.text_to_speech.convert(GEORGE, text=TEXT)), "mp3_44100_128") == WORDS


def test_stream_arrives_in_chunks(eleven: ElevenLabs) -> None:
    chunks = list(eleven.text_to_speech.stream(GEORGE, text=TEXT, output_format="pcm_16000"))
    assert len(chunks) > 10
    assert words_in(b"".join(chunks), "pcm_16000") == WORDS


def test_wav_cannot_be_streamed(eleven: ElevenLabs) -> None:
    with pytest.raises(UnprocessableEntityError):
        list(eleven.text_to_speech.stream(GEORGE, text=TEXT, output_format="wav_8000"))


def test_all_options_of_the_client_are_accepted(sim: BackgroundSimulator, eleven: ElevenLabs) -> None:
    audio = b"".join(
        eleven.text_to_speech.stream(
            GEORGE,
            text=TEXT,
            model_id="eleven_flash_v2_5",
            output_format="pcm_8000",
            language_code="en",
            voice_settings=VoiceSettings(
                stability=0.5, similarity_boost=0.75, style=0.0, use_speaker_boost=True, speed=1.1
            ),
            seed=7,
            previous_text="Before.",
            next_text="After.",
            previous_request_ids=["a"],
            next_request_ids=["b"],
            apply_text_normalization="auto",
            enable_logging=True,
            optimize_streaming_latency=2,
        )
    )
    assert words_in(audio, "pcm_8000") == WORDS
    assert sim.ledger()[-1].model == "eleven_flash_v2_5"


def test_response_headers_have_id_price_and_concurrency(sim: BackgroundSimulator, eleven: ElevenLabs) -> None:
    with eleven.text_to_speech.with_raw_response.convert(GEORGE, text=TEXT) as answer:
        assert b"".join(answer.data)
        headers = dict(answer.headers)
    (entry,) = sim.ledger()
    assert headers["request-id"] == entry.request_id
    assert headers["character-cost"] == str(len(TEXT)) == str(entry.charged)
    assert (headers["current-concurrent-requests"], headers["maximum-concurrent-requests"]) == ("1", "10")
    assert headers["content-type"] == "audio/mpeg"
    assert entry.ending is Ending.COMPLETED


def test_timestamps_come_with_the_audio(sim: BackgroundSimulator, eleven: ElevenLabs) -> None:
    response = eleven.text_to_speech.convert_with_timestamps(GEORGE, text=TEXT, output_format="pcm_8000")
    validate_strictly(AudioWithTimestampsResponse, response.model_dump(by_alias=True))
    audio = base64.b64decode(response.audio_base_64)
    assert words_in(audio, "pcm_8000") == WORDS
    assert response.alignment is not None
    assert "".join(response.alignment.characters) == TEXT
    assert response.alignment.character_end_times_seconds[-1] == pytest.approx(len(audio) / 16_000, abs=0.001)
    assert response.normalized_alignment == response.alignment


def test_timestamps_come_with_every_piece(eleven: ElevenLabs) -> None:
    pieces = list(eleven.text_to_speech.stream_with_timestamps(GEORGE, text=TEXT, output_format="pcm_8000"))
    assert len(pieces) > 3
    for piece in pieces:
        validate_strictly(StreamingAudioChunkWithTimestampsResponse, piece.model_dump(by_alias=True))
    assert words_in(b"".join(base64.b64decode(piece.audio_base_64) for piece in pieces), "pcm_8000") == WORDS
    timed = [piece.alignment for piece in pieces if piece.alignment]
    assert "".join(character for times in timed for character in times.characters) == TEXT
    starts = [start for times in timed for start in times.character_start_times_seconds]
    assert starts == sorted(starts)


async def test_async_client_receives_the_same(async_eleven: AsyncElevenLabs) -> None:
    speech = async_eleven.text_to_speech
    order = {"text": TEXT, "output_format": "pcm_8000"}
    assert words_in(b"".join([chunk async for chunk in speech.convert(GEORGE, **order)]), "pcm_8000") == WORDS
    assert words_in(b"".join([chunk async for chunk in speech.stream(GEORGE, **order)]), "pcm_8000") == WORDS
    whole = await speech.convert_with_timestamps(GEORGE, **order)
    pieces = [piece async for piece in speech.stream_with_timestamps(GEORGE, **order)]
    assert words_in(base64.b64decode(whole.audio_base_64), "pcm_8000") == WORDS
    assert words_in(b"".join(base64.b64decode(piece.audio_base_64) for piece in pieces), "pcm_8000") == WORDS


def test_voices_are_read_completely(sim: BackgroundSimulator, eleven: ElevenLabs) -> None:
    assert eleven.voices.get_all() == validate_strictly(GetVoicesResponse, sim.document("/v1/voices"))
    assert eleven.voices.search() == validate_strictly(GetVoicesV2Response, sim.document("/v2/voices"))
    assert eleven.voices.get(GEORGE) == validate_strictly(Voice, sim.document(f"/v1/voices/{GEORGE}"))
    assert {voice.name for voice in eleven.voices.get_all().voices} == set(VOICES)


def test_voices_are_searched_and_paged(eleven: ElevenLabs) -> None:
    assert [voice.voice_id for voice in eleven.voices.search(search="george").voices] == [GEORGE]
    chosen = eleven.voices.search(voice_ids=[VOICES["Bill"], VOICES["Adam"]])
    assert {voice.name for voice in chosen.voices} == {"Bill", "Adam"}
    assert [voice.voice_id for voice in _every_page(eleven)] == list(VOICES.values())


def _every_page(eleven: ElevenLabs) -> Iterator[Voice]:
    page = eleven.voices.search(page_size=5)
    yield from page.voices
    while page.has_more:
        page = eleven.voices.search(page_size=5, next_page_token=page.next_page_token)
        yield from page.voices


def test_models_are_read_completely(sim: BackgroundSimulator, eleven: ElevenLabs) -> None:
    models = [validate_strictly(Model, model) for model in sim.document("/v1/models")]
    assert eleven.models.list() == models
    assert {model.model_id for model in models} == set(MODELS)
    # None is required by the client's model, and all of them are in the vendor's answer.
    assert all(set(Model.model_fields) <= model.model_fields_set for model in models)


def test_account_is_read_completely(sim: BackgroundSimulator, eleven: ElevenLabs) -> None:
    b"".join(eleven.text_to_speech.convert(GEORGE, text=TEXT))
    assert eleven.user.get() == validate_strictly(User, sim.document("/v1/user"))
    subscription = eleven.user.subscription.get()
    assert subscription == validate_strictly(Subscription, sim.document("/v1/user/subscription"))
    assert (subscription.character_count, subscription.character_limit) == (len(TEXT), 500_000)


async def test_async_client_reads_the_same_lists(eleven: ElevenLabs, async_eleven: AsyncElevenLabs) -> None:
    assert await async_eleven.voices.get_all() == eleven.voices.get_all()
    assert await async_eleven.voices.search() == eleven.voices.search()
    assert await async_eleven.models.list() == eleven.models.list()
    assert await async_eleven.user.get() == eleven.user.get()
    assert await async_eleven.user.subscription.get() == eleven.user.subscription.get()
