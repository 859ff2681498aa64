"""Validation of speech requests."""

from __future__ import annotations

from typing import Any

import pytest

from steadyvoice.speech.errors import TTSBadRequestError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import SpeechRequest

MP3 = AudioFormat.parse("mp3")


def test_text_and_a_format_are_enough() -> None:
    request = SpeechRequest("Hello", MP3)
    assert (request.voice, request.model, request.speed, request.options) == ("default", None, 1.0, {})


@pytest.mark.parametrize("speed", [0.25, 1, 4.0])
def test_speed_may_be_a_quarter_to_four(speed: float) -> None:
    assert SpeechRequest("Hello", MP3, speed=speed).speed == speed


@pytest.mark.parametrize("speed", [0.0, 0.24, 4.01, -1.0, float("nan"), float("inf")])
def test_other_speeds_are_refused(speed: float) -> None:
    with pytest.raises(TTSBadRequestError, match=r"speed: must be a number from 0\.25 to 4, got"):
        SpeechRequest("Hello", MP3, speed=speed)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("text", None, "text: must be a string, got NoneType"),
        ("text", b"Hello", "text: must be a string, got bytes"),
        ("format", "mp3", "format: must be an AudioFormat, got str"),
        ("voice", None, "voice: must be a string, got NoneType"),
        ("model", 5, "model: must be a string or None, got int"),
        ("language", ["en"], "language: must be a string or None, got list"),
        ("speed", "fast", "speed: must be a number from 0.25 to 4, got 'fast'"),
        ("speed", True, "speed: must be a number from 0.25 to 4, got True"),
        ("seed", 1.5, "seed: must be a whole number, got 1.5"),
        ("seed", True, "seed: must be a whole number, got True"),
        ("previous_text", 5, "previous_text: must be a string or None, got int"),
        ("next_text", 5, "next_text: must be a string or None, got int"),
        ("options", [], "options: must be a mapping, got list"),
        ("dialect", 5, "dialect: must be a string or None, got int"),
        ("unknown_voice", "maybe", "unknown_voice: must be one of refuse, passthrough, default, got 'maybe'"),
    ],
)
def test_field_of_the_wrong_type_is_named(field: str, value: Any, message: str) -> None:
    options: dict[str, Any] = {"text": "Hello", "format": MP3, field: value}
    with pytest.raises(TTSBadRequestError) as caught:
        SpeechRequest(**options)
    assert caught.value.message == message
