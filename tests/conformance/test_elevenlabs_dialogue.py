"""ElevenLabs' official Python client at the simulator's dialogue endpoints."""

from __future__ import annotations

import base64
from typing import Any, get_args

import pytest
from elevenlabs import AsyncElevenLabs, DialogueInput, ElevenLabs
from elevenlabs.core.api_error import ApiError
from elevenlabs.errors import UnprocessableEntityError
from elevenlabs.text_to_dialogue.types import TextToDialogueConvertRequestOutputFormat
from elevenlabs.types import (
    AudioWithTimestampsAndVoiceSegmentsResponseModel,
    StreamingAudioChunkWithTimestampsAndVoiceSegmentsResponseModel,
)

from steadyvoice.simulator import words_in
from steadyvoice.simulator.fault_injection.actions import Stall
from steadyvoice.simulator.fault_injection.matching import Fault
from steadyvoice.wire.elevenlabs.catalog import FURTHER_VOICES, VOICES
from steadyvoice.wire.elevenlabs.speech import SpeechEndpoint

from .background_simulator import BackgroundSimulator
from .strict_models import validate_strictly

ANNA, BERT = VOICES["Sarah"], VOICES["George"]
LINES = [
    DialogueInput(text="Who is there?", voice_id=ANNA),
    DialogueInput(text="It is me.", voice_id=BERT),
    DialogueInput(text="Come in, please.", voice_id=ANNA),
]
TEXTS = [line.text for line in LINES]
WORDS = " ".join(TEXTS).split()
PCM: dict[str, Any] = {"inputs": LINES, "output_format": "pcm_8000"}


def test_formats_of_the_client_are_supported() -> None:
    named = {name for choice in get_args(TextToDialogueConvertRequestOutputFormat) for name in get_args(choice)}
    assert named == set(SpeechEndpoint.WHOLE.formats)


@pytest.mark.parametrize("format", ["mp3_44100_128", "pcm_8000", "opus_48000_64", "wav_24000"])
def test_dialogue_contains_every_word(sim: BackgroundSimulator, eleven: ElevenLabs, format: Any) -> None:
    dialogue = eleven.text_to_dialogue
    assert words_in(b"".join(dialogue.convert(inputs=LINES, output_format=format)), format) == WORDS
    if not format.startswith("wav"):
        assert words_in(b"".join(dialogue.stream(inputs=LINES, output_format=format)), format) == WORDS
    first = sim.ledger()[0]
    assert (first.endpoint, first.voice, first.model) == ("text-to-dialogue", ANNA, "eleven_v3")
    assert first.characters == first.charged == len("".join(TEXTS))


def test_dialogue_has_timestamps_and_voice_segments(eleven: ElevenLabs) -> None:
    response = eleven.text_to_dialogue.convert_with_timestamps(**PCM)
    validate_strictly(AudioWithTimestampsAndVoiceSegmentsResponseModel, response.model_dump(by_alias=True))
    assert response.alignment is not None
    characters = response.alignment.characters
    assert "".join(characters) == "".join(TEXTS)
    assert [segment.voice_id for segment in response.voice_segments] == [line.voice_id for line in LINES]
    assert [segment.dialogue_input_index for segment in response.voice_segments] == [0, 1, 2]
    segments = [characters[each.character_start_index : each.character_end_index] for each in response.voice_segments]
    assert ["".join(each) for each in segments] == TEXTS
    times = [(segment.start_time_seconds, segment.end_time_seconds) for segment in response.voice_segments]
    assert times == sorted(times)
    assert times[0][1] <= times[1][0] < times[1][1] <= times[2][0]
    seconds = len(base64.b64decode(response.audio_base_64)) / 16_000
    assert times[-1][1] == pytest.approx(seconds, abs=0.001)


def test_every_chunk_of_the_stream_has_timestamps_and_voice_segments(eleven: ElevenLabs) -> None:
    pieces = list(eleven.text_to_dialogue.stream_with_timestamps(**PCM))
    assert len(pieces) > 3
    texts = ["", "", ""]
    for piece in pieces:
        validate_strictly(
            StreamingAudioChunkWithTimestampsAndVoiceSegmentsResponseModel, piece.model_dump(by_alias=True)
        )
        for each in piece.voice_segments:
            assert piece.alignment is not None
            characters = piece.alignment.characters[each.character_start_index : each.character_end_index]
            texts[each.dialogue_input_index] += "".join(characters)
            assert each.voice_id == LINES[each.dialogue_input_index].voice_id
    assert texts == TEXTS
    assert words_in(b"".join(base64.b64decode(piece.audio_base_64) for piece in pieces), "pcm_8000") == WORDS


async def test_async_client_receives_the_same(async_eleven: AsyncElevenLabs) -> None:
    dialogue = async_eleven.text_to_dialogue
    assert words_in(b"".join([chunk async for chunk in dialogue.convert(**PCM)]), "pcm_8000") == WORDS
    assert words_in(b"".join([chunk async for chunk in dialogue.stream(**PCM)]), "pcm_8000") == WORDS
    whole = await dialogue.convert_with_timestamps(**PCM)
    pieces = [piece async for piece in dialogue.stream_with_timestamps(**PCM)]
    assert len(whole.voice_segments) == 3
    assert words_in(b"".join(base64.b64decode(piece.audio_base_64) for piece in pieces), "pcm_8000") == WORDS


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"inputs": []}, ["body", "inputs"]),
        ({"inputs": [{"text": "Hi."}]}, ["body", "inputs", 0, "voice_id"]),
        ({"inputs": [{"text": " ", "voice_id": ANNA}]}, ["body", "inputs", 0, "text"]),
        ({"inputs": [{"text": 7, "voice_id": ANNA}]}, ["body", "inputs", 0, "text"]),
        ({"inputs": ["Hi."]}, ["body", "inputs", 0]),
        ({"inputs": "Hi."}, ["body", "inputs"]),
        ({"inputs": LINES, "seed": -1}, ["body", "seed"]),
        ({"inputs": LINES, "output_format": "mp3"}, ["query", "output_format"]),
    ],
)
def test_invalid_request_is_an_unprocessable_entity(eleven: ElevenLabs, fields: Any, where: list[Any]) -> None:
    with pytest.raises(UnprocessableEntityError) as refused:
        b"".join(eleven.text_to_dialogue.convert(**fields))
    body: Any = refused.value.body
    assert list(body["detail"][0]["loc"] if isinstance(body, dict) else body.detail[0].loc) == where


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"inputs": [{"text": "Hi.", "voice_id": "nobody"}]}, 404, "voice_not_found"),
        ({"inputs": LINES, "model_id": "nothing"}, 400, "model_not_found"),
        ({"inputs": LINES, "model_id": "eleven_multilingual_v2"}, 400, "unsupported_model"),
        ({"inputs": [{"text": "x" * 3001, "voice_id": ANNA}]}, 400, "max_character_limit_exceeded"),
        ({"inputs": [{"text": "Hi.", "voice_id": id} for id in list(VOICES.values())[:11]]}, 400, "invalid_parameters"),
    ],
)
def test_dialogue_is_validated_as_by_the_vendor(eleven: ElevenLabs, fields: Any, status: int, code: str) -> None:
    with pytest.raises(ApiError) as refused:
        b"".join(eleven.text_to_dialogue.convert(**fields))
    body: Any = refused.value.body
    assert (refused.value.status_code, body["detail"]["code"]) == (status, code)


def test_faults_apply_to_dialogues(sim: BackgroundSimulator, eleven: ElevenLabs) -> None:
    sim.set_faults(Fault(Stall(after=0.5, seconds=0.1), endpoint="text-to-dialogue*"))
    assert words_in(b"".join(eleven.text_to_dialogue.stream(**PCM)), "pcm_8000") == WORDS
    assert sim.ledger()[-1].fault == "stall"


@pytest.mark.parametrize("voice", ["hpp4J3VqNfWAUOO0d1Us", *FURTHER_VOICES.values()])
def test_voices_that_frameworks_name_are_known(eleven: ElevenLabs, voice: str) -> None:
    assert b"".join(eleven.text_to_speech.convert(voice, text="Hi.", output_format="pcm_8000"))
    assert eleven.voices.get(voice).voice_id == voice
    assert eleven.voices.settings.get(voice).stability == 0.5


def test_history_and_the_usual_settings_are_read(eleven: ElevenLabs) -> None:
    history = eleven.history.list(page_size=10)
    assert (history.history, history.has_more, history.last_history_item_id) == ([], False, None)
    assert eleven.voices.settings.get_default().similarity_boost == 0.75
