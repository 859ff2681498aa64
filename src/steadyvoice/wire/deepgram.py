"""Deepgram text to speech over HTTP: `POST /v1/speak`, audio formats, voices and errors.

Sources: https://developers.deepgram.com/reference/text-to-speech/speak-request,
https://developers.deepgram.com/docs/tts-media-output-settings, https://developers.deepgram.com/docs/errors and the
vendor's Python SDK (deepgram-sdk 7.17). Not verified against the live service: the text of each error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from steadyvoice.speech import errors as speech
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.wire.error_response import get_header
from steadyvoice.wire.error_table import ErrorTable

DIALECT = "deepgram"
BASE_URL = "https://api.deepgram.com"
SPEAK_PATH = "/v1/speak"
MODELS_PATH = "/v1/models"
PROJECTS_PATH = "/v1/projects"
ENDPOINTS = r"/v1(/speak|/models|/projects)?"
"""Regular expression of paths that are removed from a base URL."""

FAMILY = "aura-2"
DEFAULT_VOICE = "aura-2-thalia-en"
MAX_CHARACTERS = 2000
"""Characters of one request. https://developers.deepgram.com/docs/text-to-speech#limits"""
MIN_SPEED, MAX_SPEED = 0.7, 1.5
"""Range of `speed`, of Aura 2 in English and Spanish only. https://developers.deepgram.com/docs/tts-voice-controls"""

_RATES = (8000, 16_000, 24_000, 32_000, 48_000)
_FLAC_RATES = (24_000, 48_000)
_OPUS_KBPS = (32, 64, 96, 128, 192)

FORMATS: Mapping[AudioFormat, Mapping[str, str]] = {
    **{
        AudioFormat(Codec.PCM, rate): {"encoding": "linear16", "container": "none", "sample_rate": str(rate)}
        for rate in _RATES
    },
    **{
        AudioFormat(Codec.WAV, rate): {"encoding": "linear16", "container": "wav", "sample_rate": str(rate)}
        for rate in _RATES
    },
    AudioFormat(Codec.ULAW, 8000): {"encoding": "mulaw", "container": "none", "sample_rate": "8000"},
    AudioFormat(Codec.ALAW, 8000): {"encoding": "alaw", "container": "none", "sample_rate": "8000"},
    AudioFormat(Codec.MP3, 22_050, 32): {"encoding": "mp3", "bit_rate": "32000"},
    **{AudioFormat(Codec.FLAC, rate): {"encoding": "flac", "sample_rate": str(rate)} for rate in _FLAC_RATES},
    **{
        AudioFormat(Codec.OPUS, 48_000, kbps): {"encoding": "opus", "container": "ogg", "bit_rate": f"{kbps}000"}
        for kbps in _OPUS_KBPS
    },
}
"""Query parameters of each format that the vendor sends exactly as it is named here."""

DEFAULT_FORMAT = AudioFormat(Codec.PCM, 24_000)

# Of the pages named above. A code that means several things is left to the status.
ERRORS = ErrorTable(
    codes={
        "INVALID_AUTH": speech.TTSInvalidKeyError,
        "INSUFFICIENT_PERMISSIONS": speech.TTSPlanRequiredError,
        "PROJECT_NOT_FOUND": speech.TTSInvalidKeyError,
        "ASR_PAYMENT_REQUIRED": speech.TTSQuotaExceededError,
        "TTS_PAYMENT_REQUIRED": speech.TTSQuotaExceededError,  # unverified
        "TOO_MANY_REQUESTS": speech.TTSConcurrencyError,  # the limit is one of concurrent requests
        "PAYLOAD_TOO_LARGE": speech.TTSTextTooLongError,
        "UNSUPPORTED_AUDIO_FORMAT": speech.TTSUnsupportedFormatError,
        "INVALID_JSON": speech.TTSBadRequestError,
        "INTERNAL_SERVER_ERROR": speech.TTSServerError,
    },
    # A voice is part of a model's name. Without this, a misspelled one would not fail over.
    wordings=((re.compile(r"no such model", re.IGNORECASE), speech.TTSVoiceUnknownError),),
    statuses={429: speech.TTSConcurrencyError},
    code_fields=("err_code", "category"),
    message_fields=("err_msg", "message"),
    request_id_headers=("dg-request-id",),
)

_VOICE = re.compile(r"(?P<family>aura(?:-2)?)-(?P<name>[a-z]+)-(?P<language>[a-z]{2})\Z")


def language_of_voice(voice: str) -> str | None:
    """Return the language that a voice's id ends with, None for a custom one.

    >>> language_of_voice("aura-2-thalia-en")
    'en'
    """
    found = _VOICE.match(voice)
    return found["language"] if found else None


def characters_billed(headers: Mapping[str, str]) -> float | None:
    """Return the characters that a response was billed for, by its `dg-char-count`; None if it does not say."""
    count = get_header(headers, "dg-char-count")
    return float(count) if count and re.fullmatch(r"\d{1,9}", count, re.ASCII) else None
