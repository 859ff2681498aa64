"""Voice maps of providers, and the voice that is selected for a request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice import ElevenLabs, OpenAICompatible, Voice
from steadyvoice.providers.voices import choose_voice, matched_gain, matched_speed, validate_voices
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.wire.elevenlabs.catalog import VOICES

NARRATOR = Voice("n", "en-GB", "female", 150, -18.0)
ANNA, BERT = Voice("a", "en", "female", 200, -24.0), Voice("b", "en", "male", 150, -18.0)
OTHERS = {"default": BERT, "anna": ANNA}


def request_for(**options: Any) -> SpeechRequest:
    return SpeechRequest("Hello", AudioFormat.parse("pcm_8000"), **{"voice": "narrator", "like": NARRATOR, **options})


def test_voice_may_be_an_id_a_table_or_a_value() -> None:
    table = {"id": "n", "language": "en-GB", "gender": "female", "rate": 150, "loudness": -18.0}

    voices = validate_voices({"plain": "p", "narrator": table, "anna": ANNA}, "d", provider="main")

    assert voices == {"default": Voice("d"), "plain": Voice("p"), "narrator": NARRATOR, "anna": ANNA}


@pytest.mark.parametrize(
    ("voice", "complaint"),
    [
        ("", "main.voices.narrator: not a voice id: ''"),
        (5, "main.voices.narrator: not a voice id: 5"),
        ({}, "main.voices.narrator.id: missing: the provider's own id of the voice"),
        ({"id": ""}, "main.voices.narrator.id: not a voice id: ''"),
        (
            {"id": "n", "sex": "f"},
            "main.voices.narrator.sex: unknown key; known keys are id, language, gender, rate, loudness",
        ),
        ({"id": "n", "gender": "f"}, "main.voices.narrator.gender: must be one of female, male, neutral, got 'f'"),
        (
            {"id": "n", "rate": 2},
            "main.voices.narrator.rate: must be a number of words a minute from 20 to 1000, got 2",
        ),
    ],
)
def test_invalid_table_is_refused_by_its_path(voice: Any, complaint: str) -> None:
    with pytest.raises(TTSConfigurationError) as refused:
        validate_voices({"narrator": voice}, "d", provider="main")
    assert refused.value.message == complaint


@pytest.mark.parametrize(
    ("options", "speaker", "known"),
    [
        ({}, ANNA, False),
        ({"like": None}, BERT, False),  # nothing is known of the one asked for
        ({"like": replace(NARRATOR, gender="male")}, BERT, False),
        ({"voice": "anna"}, ANNA, True),
        ({"voice": "default"}, BERT, True),
        ({"voice": "a", "like": None, "unknown_voice": "passthrough"}, ANNA, True),
        ({"voice": "z", "unknown_voice": "passthrough"}, Voice("z"), True),
        ({"voice": "z", "unknown_voice": "passthrough", "dialect": "here"}, Voice("z"), False),
        ({"voice": "z", "like": None, "unknown_voice": "passthrough", "dialect": "there"}, BERT, False),
        ({"unknown_voice": "default"}, BERT, True),
    ],
)
def test_voice_is_selected_by_map_dialect_and_similarity(options: dict[str, Any], speaker: Voice, known: bool) -> None:
    choice = choose_voice(request_for(**options), OTHERS, "here", provider="main")

    assert (choice.voice, choice.known) == (speaker, known)


@pytest.mark.parametrize(
    ("language", "speaker"),
    [("de", "h"), ("de-AT", "h"), ("en", "a"), (None, "a"), ("tlh", "a"), ("", "a"), ("?", "a")],
)
def test_requested_language_wins_over_the_voices_own(language: str | None, speaker: str) -> None:
    voices = {**OTHERS, "hans": Voice("h", "de", "male")}

    assert choose_voice(request_for(language=language), voices, "here", provider="main").voice.id == speaker


@given(st.floats(0.25, 4.0), st.floats(20, 1000), st.floats(20, 1000))
def test_speed_is_matched_within_the_providers_range(speed: float, wanted: float, has: float) -> None:
    request = request_for(speed=speed, like=replace(NARRATOR, rate=wanted))

    matched = matched_speed(Voice("x", rate=has), request, (0.7, 1.2))

    if wanted == has:
        assert matched is None
    else:
        assert matched is not None
        assert 0.7 <= matched <= 1.2
        if 0.7 < matched < 1.2:
            assert matched * has == pytest.approx(speed * wanted)


@given(st.floats(-70, 0), st.floats(-70, 0))
def test_loudness_is_matched_within_six_decibels(wanted: float, has: float) -> None:
    gain = matched_gain(Voice("x", loudness=has), request_for(like=replace(NARRATOR, loudness=wanted)))

    assert 0.5 <= gain <= 2.0
    if abs(wanted - has) <= 6:
        assert gain == pytest.approx(10 ** ((wanted - has) / 20))


@pytest.mark.parametrize(
    ("like", "voice"), [(None, ANNA), (Voice("x"), ANNA), (NARRATOR, Voice("x")), (NARRATOR, replace(NARRATOR, id="x"))]
)
def test_undeclared_or_equal_properties_are_not_matched(like: Voice | None, voice: Voice) -> None:
    assert matched_speed(voice, request_for(like=like), (0.5, 2.0)) is None
    assert matched_gain(voice, request_for(like=like)) == 1.0


def test_voice_without_speed_control_keeps_its_speed() -> None:
    assert matched_speed(ANNA, request_for(), None) is None


@pytest.mark.parametrize(
    ("model", "speed"),
    [("eleven_flash_v2_5", 0.75), ("eleven_multilingual_v2", 0.75), ("eleven_v3", None), ("new", None)],
)
def test_elevenlabs_speed_is_matched_for_models_that_support_it(model: str, speed: float | None) -> None:
    offer = ElevenLabs("sk_test", model=model, voices={"anna": ANNA}).offer(request_for())

    assert (offer.voice, offer.speed) == ("a", speed)
    assert offer.gain == pytest.approx(10 ** (6 / 20))
    assert offer.declared == ANNA


@pytest.mark.parametrize(("dialect", "speed"), [("elevenlabs", None), ("openai", 0.75), (None, None)])
def test_speed_in_elevenlabs_options_is_not_overridden(dialect: str | None, speed: float | None) -> None:
    asked = request_for(options={"voice_settings": {"speed": 1.1}}, dialect=dialect)
    assert ElevenLabs("sk_test", voices={"anna": ANNA}).offer(asked).speed == speed


@pytest.mark.parametrize(("model", "speed"), [("tts-1", 0.75), ("kokoro", 0.75), ("gpt-4o-mini-tts-2025-12-15", None)])
def test_openai_speed_is_matched_for_models_that_support_it(model: str, speed: float | None) -> None:
    offer = OpenAICompatible("sk_test", model=model, voices={"anna": ANNA}).offer(request_for())

    assert (offer.voice, offer.speed) == ("a", speed)
    assert offer.gain == pytest.approx(10 ** (6 / 20))


def test_provider_without_declared_voices_substitutes_its_default() -> None:
    offer = ElevenLabs("sk_test", voices={"other": "o"}).offer(request_for())

    assert (offer.voice, offer.knows_voice, offer.speed, offer.gain) == (VOICES["George"], False, None, 1.0)
