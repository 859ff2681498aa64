"""Azure Speech over HTTP: `POST /cognitiveservices/v1` with SSML, audio formats and errors.

Source: https://learn.microsoft.com/azure/ai-services/speech-service/rest-text-to-speech. Unverified: the bodies of
errors, which the page does not describe; so they are judged by their status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from steadyvoice.speech import errors as speech
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.wire.error_table import ErrorTable

DIALECT = "azure"
SPEECH_PATH = "/cognitiveservices/v1"
VOICES_PATH = "/cognitiveservices/voices/list"
ENDPOINTS = r"/cognitiveservices(/v1|/voices/list)?"
"""Regular expression of paths that are removed from a base URL."""

KEY_HEADER = "Ocp-Apim-Subscription-Key"
FORMAT_HEADER = "X-Microsoft-OutputFormat"
CONTENT_TYPE = "application/ssml+xml"

DEFAULT_VOICE = "en-US-JennyNeural"
MAX_CHARACTERS = 5000
"""Characters of one request. The service sends ten minutes of audio at most, which are twice as many in slow speech."""
MIN_SPEED, MAX_SPEED = 0.5, 2.0
"""Range of `rate` of a `prosody` element."""

_PCM_NAMES = {
    8000: "8khz", 16_000: "16khz", 22_050: "22050hz", 24_000: "24khz", 44_100: "44100hz", 48_000: "48khz",
}  # fmt: skip

FORMATS: Mapping[AudioFormat, str] = {
    **{AudioFormat(Codec.PCM, rate): f"raw-{name}-16bit-mono-pcm" for rate, name in _PCM_NAMES.items()},
    **{AudioFormat(Codec.WAV, rate): f"riff-{name}-16bit-mono-pcm" for rate, name in _PCM_NAMES.items()},
    AudioFormat(Codec.MP3, 24_000, 48): "audio-24khz-48kbitrate-mono-mp3",
    AudioFormat(Codec.ULAW, 8000): "raw-8khz-8bit-mono-mulaw",
    AudioFormat(Codec.ALAW, 8000): "raw-8khz-8bit-mono-alaw",
}
"""Value of `X-Microsoft-OutputFormat` for each format that the vendor sends exactly as it is named here."""

DEFAULT_FORMAT = AudioFormat(Codec.PCM, 24_000)

ERRORS = ErrorTable(
    codes={},
    wordings=(
        (re.compile(r"quota|call volume", re.IGNORECASE), speech.TTSQuotaExceededError),
        (
            re.compile(r"voice\b.*(not|unsupported|invalid)|unsupported voice", re.IGNORECASE),
            speech.TTSVoiceUnknownError,
        ),
    ),
    statuses={415: speech.TTSBadRequestError, 429: speech.TTSBusyError},
    code_fields=("code",),
    message_fields=("message",),
    request_id_headers=("x-requestid",),
)

_LOCALE = re.compile(r"([a-z]{2,3}-[A-Z]{2,4}(?:-[A-Za-z]+)?)-\w+\Z")
_REGION = re.compile(r"[a-z][a-z0-9]{2,40}\Z")


def base_url_of_region(region: str) -> str:
    """Return the address of the service in a region. Raises ValueError for text that is no region.

    >>> base_url_of_region("westeurope")
    'https://westeurope.tts.speech.microsoft.com'
    """
    if not _REGION.match(region):
        raise ValueError(f'must be a region such as "westeurope", got {region!r}')
    return f"https://{region}.tts.speech.microsoft.com"


def locale_of_voice(voice: str) -> str:
    """Return the locale that a voice's id begins with; that of the default voice for a custom one.

    >>> locale_of_voice("de-DE-KatjaNeural")
    'de-DE'
    """
    found = _LOCALE.match(voice)
    return found[1] if found else "en-US"
