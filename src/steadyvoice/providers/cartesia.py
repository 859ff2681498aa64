"""Cartesia provider: Sonic voices over HTTP, with the times of words in server-sent events, and over a websocket."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from steadyvoice.providers.base import Accepted, AudioChunk, SynthesisOffer
from steadyvoice.providers.cartesia_websocket import CartesiaContext
from steadyvoice.providers.credentials import require_api_key
from steadyvoice.providers.http.client import PreparedHTTPRequest
from steadyvoice.providers.http.response_decoders import LineAudioDecoder, align_words
from steadyvoice.providers.vendor import TextStreamingVendor, accepted_with, utc_now
from steadyvoice.providers.voices import VoiceMap
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.wire import cartesia as wire


class Cartesia(TextStreamingVendor):
    """Provider of Cartesia's voices, whose ids are UUIDs.

    - `api_key`: by default CARTESIA_API_KEY of the environment.
    - `base_url`: another address of the vendor.
    - `model`: the model of requests that name none of the vendor's.
    - `voices`: the vendor's voices, or a `Voice` with more properties, by the callers' names.
    - `max_concurrency`: limit of simultaneous requests. The vendor's plans have 2, 3, 5 or 15.
    - `proxy`: URL of an HTTP proxy; by default that of the environment (HTTPS_PROXY, NO_PROXY).
    - `trust_env`: whether the environment's proxy is used.

    Times of words come with samples, µ-law and A-law; other formats come without. Raises TTSConfigurationError when a
    setting is missing or impossible.
    """

    key_check_path = f"{wire.VOICES_PATH}?limit=1"

    def __init__(
        self,
        api_key: str | None = None,
        *,
        name: str = "cartesia",
        base_url: str = wire.BASE_URL,
        model: str = wire.DEFAULT_MODEL,
        voices: VoiceMap | None = None,
        max_concurrency: int | None = None,
        proxy: str | None = None,
        trust_env: bool = True,
        wall_clock: Callable[[], datetime] = utc_now,
    ) -> None:
        super().__init__(
            name=name,
            base_url=base_url,
            endpoints=wire.ENDPOINTS,
            model=model,
            voices=voices,
            default_voice=wire.DEFAULT_VOICE,
            parse_error=wire.ERRORS.parse,
            wall_clock=wall_clock,
        )
        key = require_api_key(api_key, "CARTESIA_API_KEY", provider=name)
        self._use_account(
            key,
            urlsplit(self.base_url).netloc,
            {"X-API-Key": key, "Cartesia-Version": wire.VERSION},
            max_concurrency=max_concurrency,
            proxy=proxy,
            trust_env=trust_env,
        )

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Return the offer: with the times of words if the request needs them, or if the format has them anyway."""
        formats = wire.TIMED_FORMATS if request.timestamps else wire.FORMATS
        return self.offer_in(
            request,
            formats,
            dialect=wire.DIALECT,
            models=wire.MODELS,
            speeds=(wire.MIN_SPEED, wire.MAX_SPEED),
            max_characters=wire.MAX_CHARACTERS,
            timed=request.timestamps,
            timbre=wire.DIALECT,
        )

    async def find_missing_voices(self) -> Sequence[str] | None:
        """Return the callers' names of voices that do not exist for this key. Raises TTSError."""
        return await self._find_missing_by_id(wire.VOICES_PATH)

    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedHTTPRequest:
        """Prepare a request for any text."""
        document = self._document(request, offer)
        accepted = accepted_with("x-request-id")
        if not offer.timed:
            return self._http.prepare(wire.BYTES_PATH, document, text="transcript", accepted=accepted)
        return self._http.prepare(
            wire.SSE_PATH,
            {**document, "add_timestamps": True},
            text="transcript",
            accepted=accepted,
            decoder=self._decoder,
        )

    def _context_protocol(self, request: SpeechRequest, offer: SynthesisOffer) -> CartesiaContext | None:
        if offer.format not in wire.TIMED_FORMATS or CartesiaContext.route.feature in self._socket_pools().missing:
            return None
        return CartesiaContext(self._document(request, offer), self._key, self.name)

    def _document(self, request: SpeechRequest, offer: SynthesisOffer) -> dict[str, Any]:
        return wire.speech_document(
            voice=offer.voice,
            model=offer.model or self.model,
            language=request.language,
            format=offer.format,
            speed=request.speed,
        )

    def _decoder(self, status: int, headers: Mapping[str, str], accepted: Accepted) -> LineAudioDecoder:
        return LineAudioDecoder(self._chunk, provider=self.name, api_key=self._key, events=True)

    def _chunk(self, line: bytes) -> AudioChunk | None:
        event = json.loads(line)
        match event["type"]:
            case "chunk":
                return AudioChunk(base64.b64decode(event["data"], validate=True))
            case "timestamps":
                times = event["word_timestamps"]
                return AudioChunk(b"", align_words(times["words"], times["start"], times["end"]))
            case "error":
                raise wire.ERRORS.parse_in_stream(event.get("status_code"), line, api_key=self._key, provider=self.name)
            case _:  # "done", and kinds that are not known yet
                return None
