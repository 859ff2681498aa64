"""Cartesia: `POST /tts/bytes`, `/tts/sse` and the websocket, audio formats, word times and errors.

Sources: the vendor's Python client (cartesia 4.2), https://docs.cartesia.ai/api-reference/tts/bytes,
https://docs.cartesia.ai/api-reference/tts/sse, https://docs.cartesia.ai/api-reference/tts/websocket and
https://docs.cartesia.ai/use-the-api/api-errors. Of the error codes only `concurrency_limited` and `model_not_found` are
documented there; the others are unverified.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steadyvoice.speech import errors as speech
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.wire.error_table import ErrorTable

DIALECT = "cartesia"
BASE_URL = "https://api.cartesia.ai"
VERSION = "2026-08-14"
"""Value of `Cartesia-Version`. Errors are JSON since 2026-03-01."""
BYTES_PATH = "/tts/bytes"
SSE_PATH = "/tts/sse"
WEBSOCKET_PATH = "/tts/websocket"
VOICES_PATH = "/voices"
ENDPOINTS = r"/tts(/bytes|/sse|/websocket)?|/voices"
"""Regular expression of paths that are removed from a base URL."""

DEFAULT_MODEL = "sonic-3"
MODELS = ("sonic-3.5", "sonic-3", "sonic-latest")
DEFAULT_VOICE = "6ccbfb76-1fc6-48f7-b71d-91ac6298247b"
MAX_CHARACTERS = 5000
"""Characters of one request; unverified. The vendor names no limit."""
MIN_SPEED, MAX_SPEED = 0.6, 1.5
"""Range of `generation_config.speed`, of Sonic 3 and later."""

_RATES = (8000, 16_000, 22_050, 24_000, 44_100, 48_000)
_MP3_KBPS = (32, 64, 96, 128, 192)


def _raw(encoding: str, rate: int) -> dict[str, Any]:
    return {"container": "raw", "encoding": encoding, "sample_rate": rate}


FORMATS: Mapping[AudioFormat, Mapping[str, Any]] = {
    **{AudioFormat(Codec.PCM, rate): _raw("pcm_s16le", rate) for rate in _RATES},
    **{AudioFormat(Codec.WAV, rate): {**_raw("pcm_s16le", rate), "container": "wav"} for rate in _RATES},
    **{
        AudioFormat(Codec.MP3, 44_100, kbps): {"container": "mp3", "sample_rate": 44_100, "bit_rate": kbps * 1000}
        for kbps in _MP3_KBPS
    },
    AudioFormat(Codec.MP3, 22_050, 32): {"container": "mp3", "sample_rate": 22_050, "bit_rate": 32_000},
    AudioFormat(Codec.ULAW, 8000): _raw("pcm_mulaw", 8000),
    AudioFormat(Codec.ALAW, 8000): _raw("pcm_alaw", 8000),
}
"""`output_format` of each format that the vendor sends exactly as it is named here."""

TIMED_FORMATS = {format_ for format_, fields in FORMATS.items() if fields["container"] == "raw"}
"""Formats that come with word times: server-sent events carry raw audio only."""

CONTEXT_EXPIRY = 1.0
"""Seconds after a context's last audio at which it ends by itself.

https://docs.cartesia.ai/use-the-api/tts-websocket/contexts. Unverified: that a `done` tells it.
"""

BUFFER_DELAY = 3.0
"""Seconds for which text without a flush waits: https://docs.cartesia.ai/use-the-api/tts-websocket/buffering"""

DEFAULT_FORMAT = AudioFormat(Codec.PCM, 24_000)

ERRORS = ErrorTable(
    codes={
        "concurrency_limited": speech.TTSConcurrencyError,
        "rate_limited": speech.TTSBusyError,
        "quota_exceeded": speech.TTSQuotaExceededError,
        "plan_upgrade_required": speech.TTSPlanRequiredError,
        "unauthorized": speech.TTSInvalidKeyError,
        "invalid_api_key": speech.TTSInvalidKeyError,
        "voice_not_found": speech.TTSVoiceUnknownError,
        "model_not_found": speech.TTSModelUnknownError,
        "transcript_too_long": speech.TTSTextTooLongError,
        "internal_error": speech.TTSServerError,
    },
    statuses={429: speech.TTSConcurrencyError},
    code_fields=("error_code",),
    message_fields=("message", "title"),
    request_id_headers=("x-request-id",),
)


def speech_document(
    *, voice: str, model: str, language: str | None, format: AudioFormat, speed: float = 1.0
) -> dict[str, Any]:
    """Return the JSON body of a request but for its `transcript`."""
    config = {} if speed == 1.0 else {"generation_config": {"speed": min(max(speed, MIN_SPEED), MAX_SPEED)}}
    spoken = {} if language is None else {"language": language}
    return {
        "model_id": model,
        "voice": {"mode": "id", "id": voice},
        "output_format": dict(FORMATS[format]),
        **spoken,
        **config,
    }
