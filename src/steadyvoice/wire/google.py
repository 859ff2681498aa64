"""Google Cloud Text-to-Speech over HTTP: `POST /v1/text:synthesize`, audio formats and errors.

Sources: https://cloud.google.com/text-to-speech/docs/reference/rest/v1/text/synthesize,
https://cloud.google.com/text-to-speech/quotas, https://cloud.google.com/apis/design/errors and the vendor's Python
client (google-cloud-texttospeech 2.38). Unverified: the exact messages of errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from steadyvoice.speech import errors as speech
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.wire.error_table import ErrorTable

DIALECT = "google"
BASE_URL = "https://texttospeech.googleapis.com"
SYNTHESIZE_PATH = "/v1/text:synthesize"
VOICES_PATH = "/v1/voices"
ENDPOINTS = r"/v1(/text:synthesize|/voices)?"
"""Regular expression of paths that are removed from a base URL."""
KEY_HEADER = "X-Goog-Api-Key"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
"""OAuth scope of an access token."""

DEFAULT_VOICE = "en-US-Neural2-C"
MAX_BYTES = 5000
"""Bytes of UTF-8 in one request."""
MAX_CHARACTERS = MAX_BYTES // 4
"""Characters that fit in any script. All audio comes at once, so that a short request sounds sooner."""
MIN_SPEED, MAX_SPEED = 0.25, 2.0

_RATES = (8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)

# Opus and MP3 come at bit rates that no format here has; µ-law and A-law come with a WAV header.
FORMATS: Mapping[AudioFormat, tuple[str, int]] = {
    **{AudioFormat(Codec.PCM, rate): ("PCM", rate) for rate in _RATES},
    **{AudioFormat(Codec.WAV, rate): ("LINEAR16", rate) for rate in _RATES},
}
"""`audioEncoding` and `sampleRateHertz` of each format that the vendor sends exactly as it is named here."""

DEFAULT_FORMAT = AudioFormat(Codec.PCM, 24_000)

ERRORS = ErrorTable(
    codes={
        "UNAUTHENTICATED": speech.TTSInvalidKeyError,
        "PERMISSION_DENIED": speech.TTSInvalidKeyError,  # also where the API is not enabled for the project
        "RESOURCE_EXHAUSTED": speech.TTSBusyError,  # of requests a minute
        "FAILED_PRECONDITION": speech.TTSPlanRequiredError,  # billing is not enabled
        "OUT_OF_RANGE": speech.TTSBadRequestError,
        "UNAVAILABLE": speech.TTSServerError,
        "INTERNAL": speech.TTSServerError,
        "DEADLINE_EXCEEDED": speech.TTSServerError,
        "CANCELLED": speech.TTSServerError,
    },
    wordings=(
        (re.compile(r"api key not valid|api key expired", re.IGNORECASE), speech.TTSInvalidKeyError),
        (re.compile(r"voice '?.{0,200} (does not exist|not found)", re.IGNORECASE), speech.TTSVoiceUnknownError),
        (re.compile(r"longer than the limit|\d+ bytes", re.IGNORECASE), speech.TTSTextTooLongError),
        (re.compile(r"audio ?encoding|sample ?rate", re.IGNORECASE), speech.TTSUnsupportedFormatError),
    ),
    code_fields=("status",),
    message_fields=("message",),
)

_LOCALE = re.compile(r"([a-z]{2,3}-[A-Z]{2,4})-\w")


def locale_of_voice(voice: str) -> str:
    """Return the locale that a voice's name begins with; that of the default voice for a custom one.

    >>> locale_of_voice("de-DE-Chirp3-HD-Kore")
    'de-DE'
    """
    found = _LOCALE.match(voice)
    return found[1] if found else "en-US"


def speech_document(*, voice: str, locale: str, format: AudioFormat, speed: float = 1.0) -> dict[str, Any]:
    """Return the JSON body of a request but for its text, which is `input.text`."""
    encoding, rate = FORMATS[format]
    config: dict[str, Any] = {"audioEncoding": encoding, "sampleRateHertz": rate}
    if speed != 1.0:
        config["speakingRate"] = min(max(speed, MIN_SPEED), MAX_SPEED)
    return {"voice": {"languageCode": locale, "name": voice}, "audioConfig": config}
