"""ElevenLabs provider, over the vendor's streaming HTTP endpoint: settings, default model and voice, credit."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from steadyvoice._option_rules import is_number
from steadyvoice.providers.base import (
    Accepted,
    AudioChunk,
    AudioDecoder,
    Credit,
    OfferBasis,
    SynthesisOffer,
)
from steadyvoice.providers.credentials import require_api_key
from steadyvoice.providers.elevenlabs_websocket import select_context_protocol
from steadyvoice.providers.http.client import MAX_ERROR_BODY, DecoderFactory, PreparedHTTPRequest
from steadyvoice.providers.vendor import TextStreamingVendor, is_unknown_endpoint, utc_now
from steadyvoice.providers.voices import VoiceMap, choose_voice
from steadyvoice.speech.errors import TTSError, TTSNotAudioError
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.wire.elevenlabs.catalog import MODELS, VOICES, get_model_info, parse_subscription
from steadyvoice.wire.elevenlabs.errors import parse_error
from steadyvoice.wire.elevenlabs.speech import (
    BASE_URL,
    DIALECT,
    ENDPOINTS,
    KEY_HEADER,
    MAX_SPEED,
    MIN_SPEED,
    SUBSCRIPTION_PATH,
    VOICES_PATH,
    SpeechEndpoint,
    encode_request,
    parse_response_headers,
    sets_voice_speed,
    speech_path,
)
from steadyvoice.wire.elevenlabs.timestamps import TimedLineDecoder
from steadyvoice.wire.error_response import get_header, seconds_until
from steadyvoice.wire.json_lines import StreamedLine

if TYPE_CHECKING:
    from steadyvoice.providers.elevenlabs_websocket import ElevenLabsContext

MIN_CONCURRENCY = 2
"""Requests that even the smallest plan allows at once: https://elevenlabs.io/docs/overview/models#concurrency-and-priority"""

_MAX_UNIX_TIME = 1e15  # Unix seconds, far beyond the range of a datetime
_MAX_RESET_DELAY = 100 * 365 * 86_400.0  # seconds; a later moment stands for "never"


class ElevenLabs(TextStreamingVendor):
    """Provider of ElevenLabs' voices. Raises TTSConfigurationError when a setting is missing or impossible.

    - `api_key`: the vendor's key; by default ELEVENLABS_API_KEY of the environment.
    - `base_url`: the API's address; may be a residency host, such as https://api.eu.residency.elevenlabs.io.
    - `model`: the model of requests that do not name one of the vendor's.
    - `voices`: voice ids, or a `Voice` with more properties, by the callers' names; "default" is George unless given.
    - `timestamps`: request the time of each character always, for exact captions, at the cost of a third to a half
      more bytes; otherwise only when a request needs them.
    - `max_concurrency`: limit of simultaneous requests on this key, below what its plan allows.
    - `proxy`: URL of an HTTP proxy; by default that of the environment (HTTPS_PROXY, NO_PROXY).
    - `trust_env`: whether the environment's proxy is used.
    """

    key_check_path = SUBSCRIPTION_PATH  # the voices are also sent without a key
    restricted_key_codes = frozenset({"missing_permissions"})

    def __init__(
        self,
        api_key: str | None = None,
        *,
        name: str = "elevenlabs",
        base_url: str = BASE_URL,
        model: str = "eleven_flash_v2_5",
        voices: VoiceMap | None = None,
        timestamps: bool = False,
        max_concurrency: int | None = None,
        proxy: str | None = None,
        trust_env: bool = True,
        wall_clock: Callable[[], datetime] = utc_now,
    ) -> None:
        super().__init__(
            name=name,
            base_url=base_url,
            endpoints=ENDPOINTS,
            model=model,
            voices=voices,
            default_voice=VOICES["George"],
            parse_error=parse_error,
            wall_clock=wall_clock,
        )
        self._always_timed = timestamps
        # Many servers imitate the other endpoints only. Not valid once one has shown that it has no timestamps.
        self._timestamps = OfferBasis()
        key = require_api_key(api_key, "ELEVENLABS_API_KEY", provider=name)
        self._use_account(
            key,
            _account_host(self.base_url),
            {KEY_HEADER: key},
            initial_concurrency=MIN_CONCURRENCY,
            max_concurrency=max_concurrency,
            proxy=proxy,
            trust_env=trust_env,
        )

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Return the offer: in the requested format where the vendor has it, else in samples of its rate."""
        requested = request.format
        native = requested.name in SpeechEndpoint.STREAM.formats
        wants_times = self._always_timed or request.timestamps
        model = request.model if request.model and request.model in MODELS else self.model
        facts = get_model_info(model)
        speeds = (MIN_SPEED, MAX_SPEED) if facts.takes_speed and not sets_voice_speed(request) else None
        choice = choose_voice(request, self.voices, DIALECT, provider=self.name, speeds=speeds)
        return SynthesisOffer(
            format=requested if native else AudioFormat(Codec.PCM, requested.sample_rate),
            voice=choice.voice.id,
            model=model,
            max_characters=facts.max_characters,
            scripts=facts.scripts,
            knows_voice=choice.known,
            declared=choice.voice,
            speed=choice.speed,
            gain=choice.gain,
            markup=facts.markup,
            source=self.base_url,
            timed=self._timestamps.valid and wants_times,
            for_any_text=True,
            basis=self._timestamps if self._timestamps.valid and wants_times else None,
        )

    def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """Yield one `Accepted`, then `AudioChunk`s. Raises TTSError."""
        # Either generator is returned as it is: one around it would cost two calls for each chunk.
        if offer.timed:
            return self._speak_timed(request, offer, connection_timeout)
        return self._speak_plain(request, offer, connection_timeout)

    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedHTTPRequest | None:
        """Prepare a request for any text. Raises TTSBadRequestError."""
        return self._prepare_timed(request, offer) if offer.timed else self._prepare(request, offer)

    async def _speak_plain(
        self, request: SpeechRequest, offer: SynthesisOffer, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        # Not `super().speak()`: a subclass may refuse to `prepare` requests for passing through.
        prepared = self._prepare(request, offer)
        with closing(await prepared.send(request.text, connection_timeout=connection_timeout)) as response:
            yield response.accepted
            while data := await response.read():
                yield AudioChunk(data)

    async def _speak_timed(
        self, request: SpeechRequest, offer: SynthesisOffer, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """Yield audio with the time of each character, if the response has them."""
        prepared = self._prepare_timed(request, offer)
        response = await prepared.send(request.text, connection_timeout=connection_timeout)
        with closing(response):
            yield response.accepted
            async with aclosing(self._unpacked(response, response.decoder or _PlainAudio(self))) as chunks:
                async for chunk in chunks:
                    yield chunk

    def _context_protocol(self, request: SpeechRequest, offer: SynthesisOffer) -> ElevenLabsContext | None:
        missing = self._socket_pools().missing
        model = offer.model or self.model
        return select_context_protocol(
            request, offer, model=model, missing=missing, provider=self.name, api_key=self._key
        )

    async def find_missing_voices(self) -> Sequence[str] | None:
        """Return the callers' names of voices that do not exist for this key. Raises TTSError."""
        return await self._find_missing_by_id(VOICES_PATH)

    async def credit(self) -> Credit:
        """Query the account's credit, free of charge. Raises TTSError, also for a key without that permission."""
        path = SUBSCRIPTION_PATH
        document = await self.fetch_document(path)
        try:
            subscription = parse_subscription(document.value)
        except (ValueError, TypeError, AttributeError) as error:
            raise TTSNotAudioError(f"{path}: unexpected response: {error}", provider=self.name) from error
        return Credit(subscription.remaining, self._resets_at(subscription.next_reset_unix, document.headers))

    def _resets_at(self, value: Any, headers: Mapping[str, str]) -> datetime | None:
        """Return when there will be new credit, by the vendor's clock. None if `value` is not a possible time."""
        if not (is_number(value) and abs(value) < _MAX_UNIX_TIME):
            return None
        now = self._wall_clock()
        seconds = seconds_until(value, headers, now)
        return now + timedelta(seconds=seconds) if abs(seconds) <= _MAX_RESET_DELAY else None

    def _prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedHTTPRequest:
        return self._prepared(SpeechEndpoint.STREAM, request, offer)

    def _prepare_timed(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedHTTPRequest:
        """Prepare a request for audio with timestamps, or without them where the server has no such endpoint."""

        def instead(error: TTSError) -> PreparedHTTPRequest | None:
            if not is_unknown_endpoint(error):
                return None
            self._note_missing_timestamps()
            return self._prepared(SpeechEndpoint.STREAM, request, offer, decoder=lambda *_: _PlainAudio(self))

        return self._prepared(SpeechEndpoint.TIMED_STREAM, request, offer, decoder=self._decoder, instead=instead)

    def _prepared(
        self,
        endpoint: SpeechEndpoint,
        request: SpeechRequest,
        offer: SynthesisOffer,
        *,
        decoder: DecoderFactory | None = None,
        instead: Callable[[TTSError], PreparedHTTPRequest | None] | None = None,
    ) -> PreparedHTTPRequest:
        call = encode_request(request, model_id=offer.model or self.model, output_format=offer.format.name)
        document = call.body()
        del document["text"]
        return self._http.prepare(
            speech_path(offer.voice, endpoint),
            document,
            text="text",
            accepted=_accepted,
            params=call.params(),
            decoder=decoder,
            instead=instead,
        )

    def _decoder(self, status: int, headers: Mapping[str, str], accepted: Accepted) -> AudioDecoder:
        if (get_header(headers, "content-type") or "").startswith("audio/"):
            return _PlainAudio(self)

        def judge(lines: Sequence[bytes | StreamedLine]) -> TTSError:
            return self._error_of(status, headers, b"\n".join(map(_json_of_line, lines))[:MAX_ERROR_BODY])

        return TimedLineDecoder(
            AudioChunk, judge, api_key=self._key, provider=self.name, request_id=accepted.request_id
        )

    def _note_missing_timestamps(self) -> None:
        """Note that the server's audio comes without timestamps, so that they are not promised again."""
        self._timestamps.valid = False


class _PlainAudio:
    """Decoder of audio that came without the timestamps that were requested."""

    error: TTSError | None = None
    is_between_chunks = True

    def __init__(self, provider: ElevenLabs) -> None:
        self._provider = provider

    def feed(self, data: bytes) -> Sequence[AudioChunk]:
        return [AudioChunk(data)]

    def finish(self) -> Sequence[AudioChunk]:
        # Only audio that was read to its end gets here: not a web page that is labelled as audio.
        self._provider._note_missing_timestamps()
        return ()


def _account_host(base_url: str) -> str:
    """Return the host that keeps the account: all of the vendor's own hosts share their accounts."""
    parts = urlsplit(base_url)
    is_vendor = f".{parts.hostname}".endswith(".elevenlabs.io")
    return "elevenlabs.io" if is_vendor else parts.netloc


def _json_of_line(line: bytes | StreamedLine) -> bytes:
    """Return the JSON of a line; that of a long one without its audio, which has been decoded already."""
    return line.skeleton if isinstance(line, StreamedLine) else line


def _accepted(headers: Mapping[str, str]) -> Accepted:
    receipt = parse_response_headers(headers)
    return Accepted(
        request_id=receipt.request_id,
        characters_billed=receipt.character_cost,
        concurrent_requests=receipt.current_concurrent_requests,
        concurrency_limit=receipt.maximum_concurrent_requests,
        dialect=DIALECT,
    )
