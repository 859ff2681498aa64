"""Inworld text to speech as a plugin: JSON lines with audio in base64 and the times of words.

Sources: https://docs.inworld.ai/api-reference/ttsAPI/texttospeech/synthesize-speech-stream, and the services of
Pipecat (pipecat-ai/pipecat, services/inworld/tts.py) and LiveKit for it. Not verified against the live service.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from steadyvoice import Accepted, AudioChunk, AudioFormat, SpeechRequest, SynthesisOffer
from steadyvoice.providers.http.client import PreparedHTTPRequest
from steadyvoice.providers.vendor import (
    ErrorTable,
    LineAudioDecoder,
    VendorProvider,
    VoiceMap,
    accepted_with,
    align_words,
    build_error_in_stream,
    require_api_key,
    utc_now,
)
from steadyvoice.speech.errors import TTSBusyError, TTSInvalidKeyError, TTSQuotaExceededError, TTSServerError

FORMATS = {AudioFormat.parse(f"pcm_{rate}"): rate for rate in (8000, 16_000, 22_050, 24_000, 44_100, 48_000)}
MAX_CHARACTERS = 2000
SPEEDS = (0.5, 1.5)
# Codes of google.rpc.Code, by name or number. Unverified: that these are the ones of exhausted credit and of overload.
ERRORS = ErrorTable(
    codes={
        "UNAUTHENTICATED": TTSInvalidKeyError,
        "RESOURCE_EXHAUSTED": TTSBusyError,
        "FAILED_PRECONDITION": TTSQuotaExceededError,
        "UNAVAILABLE": TTSServerError,
    },
    code_fields=("status", "code"),
    message_fields=("message",),
)


class Inworld(VendorProvider):
    """Provider of Inworld's voices. `api_key` is the vendor's, in base64 as its portal shows it: INWORLD_API_KEY."""

    # The list of voices is free of charge. Unverified: its path, and that it is sent to valid keys only.
    key_check_path = voices_path = "/tts/v1/voices"
    voice_id_field = "voiceId"

    def __init__(
        self,
        api_key: str | None = None,
        *,
        name: str = "inworld",
        base_url: str = "https://api.inworld.ai",
        model: str = "inworld-tts-2",
        voices: VoiceMap | None = None,
        max_concurrency: int | None = None,
        proxy: str | None = None,
        trust_env: bool = True,
    ) -> None:
        super().__init__(
            name=name,
            base_url=base_url,
            endpoints=r"/tts/v1(/voice(:stream)?)?",
            model=model,
            voices=voices,
            default_voice="Ashley",
            parse_error=ERRORS.parse,
            wall_clock=utc_now,
        )
        key = require_api_key(api_key, "INWORLD_API_KEY", provider=name)
        headers = {"Authorization": f"Basic {key}"}
        self._use_account(key, "inworld.ai", headers, max_concurrency=max_concurrency, proxy=proxy, trust_env=trust_env)

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Return the offer: samples with the times of words, at the requested rate."""
        return self.offer_in(
            request, FORMATS, dialect="inworld", speeds=SPEEDS, max_characters=MAX_CHARACTERS, timed=True
        )

    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedHTTPRequest:
        """Prepare a request for any text."""
        rate = min(max(request.speed, SPEEDS[0]), SPEEDS[1])
        body = {
            "voiceId": offer.voice,
            "modelId": offer.model,
            "audioConfig": {
                "audioEncoding": "PCM",
                "sampleRateHertz": FORMATS[offer.format],
                **({"speakingRate": rate} if rate != 1.0 else {}),
            },
            "timestampType": "WORD",
            "timestampTransportStrategy": "SYNC",  # the times come with their audio, not behind it
        }
        return self._http.prepare(
            "/tts/v1/voice:stream", body, accepted=accepted_with("x-request-id"), decoder=self._decoder
        )

    def _decoder(self, status: int, headers: Mapping[str, str], accepted: Accepted) -> LineAudioDecoder:
        return LineAudioDecoder(self._chunk, provider=self.name, api_key=self._key)

    def _chunk(self, line: bytes) -> AudioChunk | None:
        message = json.loads(line)
        if "error" in message:
            raise build_error_in_stream(TTSServerError, line, self._key, self.name)
        result = message["result"]
        words = (result.get("timestampInfo") or {}).get("wordAlignment") or {}
        times = align_words(
            words.get("words", ()), words.get("wordStartTimeSeconds", ()), words.get("wordEndTimeSeconds", ())
        )
        return AudioChunk(base64.b64decode(result.get("audioContent") or "", validate=True), times)
