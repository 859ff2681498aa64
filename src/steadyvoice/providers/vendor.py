"""Common base of the vendors that are reached over HTTP: settings, account, offers, connections, streaming.

docs/providers.md shows with two vendors how little else one needs.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, closing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from urllib.parse import quote

from steadyvoice.providers.base import (
    Accepted,
    AudioChunk,
    AudioDecoder,
    AudioResponse,
    Credential,
    PreparedRequest,
    SynthesisOffer,
    TextStream,
    TextStreamingUnsupportedError,
)
from steadyvoice.providers.credentials import credential_for, require_api_key, validate_concurrency
from steadyvoice.providers.http.body_template import BodyTemplate
from steadyvoice.providers.http.client import AcceptedParser, FetchedDocument, HTTPClient
from steadyvoice.providers.http.response_decoders import (
    Base64FieldDecoder,
    DocumentAudioDecoder,
    LineAudioDecoder,
    align_words,
)
from steadyvoice.providers.http.urls import select_proxy, validate_base_url
from steadyvoice.providers.voices import VoiceMap, choose_voice, validate_voices
from steadyvoice.speech.errors import TTSConfigurationError, TTSEmptyAudioError, TTSError, TTSVoiceUnknownError
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.writing_systems import scripts_of_languages
from steadyvoice.wire.error_response import build_error_in_stream, get_header, single_line
from steadyvoice.wire.error_table import ErrorTable

__all__ = [
    "QUERY_CONNECT_TIMEOUT",
    "Base64FieldDecoder",
    "BodyTemplate",
    "DocumentAudioDecoder",
    "ErrorTable",
    "LineAudioDecoder",
    "VendorErrorParser",
    "VendorProvider",
    "VoiceMap",
    "accepted_with",
    "align_words",
    "build_error_in_stream",
    "closest_format",
    "require_api_key",
    "utc_now",
]

if TYPE_CHECKING:
    from steadyvoice.providers.websocket.context_protocol import ContextProtocol
    from steadyvoice.providers.websocket.pool import SocketPools

QUERY_CONNECT_TIMEOUT = 5.0
"""Seconds to connect for a query about the account or its voices, which no utterance waits for."""


def utc_now() -> datetime:
    """Return the present time in UTC."""
    return datetime.now(UTC)


class VendorErrorParser(Protocol):
    """Function that turns a vendor's error response into a TTSError. `now` is wall-clock time with a zone."""

    def __call__(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        *,
        now: datetime,
        api_key: str | None = None,
        provider: str | None = None,
    ) -> TTSError: ...


class VendorProvider(ABC):
    """Provider that speaks through a vendor's HTTP API.

    Validates the settings that all vendors have in common, and raises TTSConfigurationError for a missing or impossible
    one. A subclass makes offers, prepares requests, and calls `_use_account` once it knows its key.

    - `name`: name of the provider and of its circuit.
    - `wall_clock`: function that returns the present time, for dates that the vendor sends.
    - `request`: text with its voice, format and options.
    - `offer`: what `offer()` returned for this request.
    - `formats`: formats that the vendor can send.
    - `dialect`: name of the vendor, for options that are its own.
    - `target`: path and query.
    """

    local = False
    credential: Credential

    key_check_path: ClassVar[str | None] = None
    """Path of a JSON document that is free of charge and that the vendor sends to valid keys only; None without one."""

    restricted_key_codes: ClassVar[frozenset[str]] = frozenset()
    """Codes of errors that show a valid key: one that may speak, but not read that document."""

    voices_path: ClassVar[str | None] = None
    """Path of the JSON document with the list of the vendor's voices, free of charge; None without one."""

    voice_id_field: ClassVar[str] = "id"
    """Field of an entry of that list with the voice's id."""

    def __init__(
        self,
        *,
        name: str,
        base_url: str,
        endpoints: str,
        model: str,
        voices: VoiceMap | None,
        default_voice: str,
        parse_error: VendorErrorParser,
        wall_clock: Callable[[], datetime],
    ) -> None:
        if not model:
            raise TTSConfigurationError(f"{name}.model: must not be empty")
        if isinstance(parse_error, type) or not callable(parse_error):
            kind = parse_error if isinstance(parse_error, type) else type(parse_error)
            raise TTSConfigurationError(
                f"{name}: parse_error must be a function, such as ERRORS.parse of an ErrorTable, got {kind.__name__}"
            )
        self.name = name
        self.model = model
        self.voices = validate_voices(voices, default_voice, provider=name)
        self.base_url = validate_base_url(base_url, provider=name, endpoints=endpoints)
        self._parse_error = parse_error
        self._wall_clock = wall_clock
        self._key: str | None = None
        self._http: HTTPClient

    def _use_account(
        self,
        key: str | None,
        host: str,
        headers: Mapping[str, str],
        *,
        initial_concurrency: int | None = None,
        max_concurrency: int | None,
        proxy: str | None,
        trust_env: bool,
    ) -> None:
        """Set the credential and the HTTP client.

        `host` is the host of the vendor's accounts: providers with the same key there share its limits, whatever their
        `base_url`. `headers` carry the key, and are sent with every request.
        """
        limit = validate_concurrency(max_concurrency, provider=self.name)
        self._key = key
        self.credential = credential_for(
            key, host, initial_concurrency=limit or initial_concurrency, max_concurrency=limit
        )
        self._account_headers = headers
        self._proxy = select_proxy(self.base_url, proxy=proxy, trust_env=trust_env, provider=self.name)
        self._http = HTTPClient(self.name, self.base_url, self._error_of, headers=headers, proxy=self._proxy)

    @abstractmethod
    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Return how this provider would speak the request, without I/O."""

    def offer_in(
        self,
        request: SpeechRequest,
        formats: Collection[AudioFormat],
        *,
        dialect: str,
        models: Collection[str] = (),
        speeds: tuple[float, float] | None = None,
        language: Callable[[str], str | None] | None = None,
        **facts: Any,
    ) -> SynthesisOffer:
        """Return an offer in one of these formats, with the request's voice and, if it is among `models`, its model.

        `speeds` are the slowest and the fastest that can be requested; None if the vendor takes no speed. `language`
        returns that of a voice by its id: texts in letters of others go to another provider. `facts` are
        further fields of the offer, such as `max_characters`, `scripts` and `timed`. Raises TTSBadRequestError.
        """
        choice = choose_voice(request, self.voices, dialect, provider=self.name, speeds=speeds)
        if language and (spoken := language(choice.voice.id) or choice.voice.language):
            facts["scripts"] = scripts_of_languages([spoken])
        return SynthesisOffer(
            format=closest_format(request.format, formats),
            voice=choice.voice.id,
            model=request.model if request.model in models else self.model,
            knows_voice=choice.known,
            declared=choice.voice,
            speed=choice.speed,
            gain=choice.gain,
            source=self.base_url,
            for_any_text=True,
            **facts,
        )

    @abstractmethod
    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedRequest | None:
        """Return the request, complete but for its text. Raises TTSBadRequestError."""

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """Yield one `Accepted`, then `AudioChunk`s. Raises TTSError."""
        prepared = self.prepare(request, offer)
        assert prepared is not None  # noqa: S101 - only offers with timestamps cannot be prepared
        response = await prepared.send(request.text, connection_timeout=connection_timeout)
        with closing(response):
            yield response.accepted
            if response.decoder:
                async with aclosing(self._unpacked(response, response.decoder)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            while data := await response.read():
                yield AudioChunk(data)

    async def _unpacked(self, response: AudioResponse, decoder: AudioDecoder) -> AsyncGenerator[AudioChunk, None]:
        """Yield the chunks of a response that packs its audio. Raises TTSError, also for one without audio."""
        complete, has_audio = False, False
        while not complete:
            data = await response.read()
            complete = not data
            for chunk in decoder.feed(data) if data else decoder.finish():
                has_audio |= bool(chunk.data)
                yield chunk
            error, decoder.error = decoder.error, None
            if error:
                try:
                    raise error
                finally:
                    del error  # its traceback keeps this frame
        if not has_audio:
            message = "response without audio"
            raise TTSEmptyAudioError(message, provider=self.name, request_id=response.accepted.request_id)

    async def fetch_document(self, target: str) -> FetchedDocument:
        """Return a JSON document that is free of charge, such as voices or models, by its path. Raises TTSError."""
        headers = await self.query_headers(target)
        return await self._http.document(target, connection_timeout=QUERY_CONNECT_TIMEOUT, headers=headers)

    async def query_headers(self, target: str) -> Mapping[str, str] | None:
        """Return headers of a GET request besides those with the key, such as a signature or a fresh token."""
        return None

    async def check_key(self) -> bool:
        """Return whether the vendor accepts the key; False if it cannot be asked free of charge. Raises TTSError."""
        if self.key_check_path is None:
            return False
        try:
            await self.fetch_document(self.key_check_path)
        except TTSError as error:
            if error.code in self.restricted_key_codes:
                return True
            if is_unknown_endpoint(error):
                return False
            raise
        return True

    @property
    def proxy(self) -> str | None:
        """URL of the HTTP proxy of all requests, which may contain a password; None for direct connections."""
        return self._proxy

    async def find_missing_voices(self) -> Sequence[str] | None:
        """Return the callers' names of voices that do not exist for this key; None if that cannot be asked free of
        charge. Raises TTSError.
        """
        if self.voices_path is None:
            return None
        try:
            document = await self.fetch_document(self.voices_path)
        except TTSError as error:
            if self._tells_nothing(error):
                return None
            raise
        # A list of hundreds of voices takes several milliseconds.
        known = await asyncio.to_thread(_listed_ids, document, self.voice_id_field)
        return [name for name, voice in self.voices.items() if voice.id not in known] if known else None

    async def _find_missing_by_id(self, path: str) -> Sequence[str] | None:
        """Return the names of voices without a document below a path; see `find_missing_voices`."""

        async def is_missing(voice: str) -> bool:
            try:
                await self.fetch_document(f"{path}/{quote(voice, safe='')}")
            except TTSVoiceUnknownError:
                return True
            return False

        try:
            missing = await asyncio.gather(*(is_missing(voice.id) for voice in self.voices.values()))
        except TTSError as error:
            if self._tells_nothing(error):
                return None
            raise
        return [name for name, is_absent in zip(self.voices, missing, strict=True) if is_absent]

    def _tells_nothing(self, error: TTSError) -> bool:
        return error.code in self.restricted_key_codes or is_unknown_endpoint(error)

    async def aclose(self) -> None:
        """Close the connections of this event loop. The provider can be used again afterwards."""
        await self._http.aclose()

    def _error_of(self, status: int, headers: Mapping[str, str], body: bytes) -> TTSError:
        return self._parse_error(status, headers, body, now=self._wall_clock(), api_key=self._key, provider=self.name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, model={self.model!r}, base_url={self.base_url!r})"


class TextStreamingVendor(VendorProvider):
    """Vendor that takes text while it is written, over pooled websockets."""

    _sockets: SocketPools | None = None

    @abstractmethod
    def _context_protocol(self, request: SpeechRequest, offer: SynthesisOffer) -> ContextProtocol | None:
        """Return the protocol of a request's streams; None if it has no websocket. Raises TTSBadRequestError."""

    def open_text_stream(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> TextStream | None:
        """Return a stream over a pooled websocket, whose connections are shared by streams of the same route.

        None if the model, the format or an option has no websocket, or the server has none. Raises TTSBadRequestError.
        """
        protocol = self._context_protocol(request, offer)
        if protocol is None:
            return None
        pool = self._socket_pools().pool()
        return pool.open_stream(protocol, offer.format, connection_timeout=connection_timeout)

    async def prewarm(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> None:
        """Open the websocket for such a request, unless an open one has room. Raises TTSError."""
        protocol = self._context_protocol(request, offer)
        if protocol is not None:
            with suppress(TextStreamingUnsupportedError):
                await self._socket_pools().pool().prewarm(protocol.route, connection_timeout=connection_timeout)

    async def aclose(self) -> None:
        """Close the connections of this event loop. The provider can be used again afterwards."""
        if self._sockets:
            await self._sockets.aclose()
        await super().aclose()

    def _socket_pools(self) -> SocketPools:
        if self._sockets is None:
            from steadyvoice.providers.websocket.pool import SocketPools  # imports aiohttp, which nothing else needs

            self._sockets = SocketPools(self.name, self.base_url, self._error_of, self._account_headers, self._proxy)
        return self._sockets


def closest_format(requested: AudioFormat, formats: Collection[AudioFormat]) -> AudioFormat:
    """Return the requested format if it is one of these, else the one from which a conversion loses least.

    - `requested`: format that the caller wants.
    - `formats`: formats that the vendor can send.
    """

    def preference(format_: AudioFormat) -> tuple[bool, bool, int, int]:
        lossless = format_.codec in (Codec.PCM, Codec.WAV, Codec.FLAC)
        rate = format_.sample_rate
        # The lowest rate that has all that was requested: more bytes would say nothing more.
        return lossless, format_.codec is Codec.PCM, min(rate, requested.sample_rate), -rate

    return requested if requested in formats else max(formats, key=preference)


def _listed_ids(document: FetchedDocument, field: str) -> set[str]:
    """Return the ids in a list of voices: a list of objects, or the lists in an object."""
    value = json.loads(document.body) if document.value is None else document.value
    lists = [value] if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
    entries = [entry for listed in lists if isinstance(listed, list) for entry in listed if isinstance(entry, dict)]
    return {entry[field] for entry in entries if isinstance(entry.get(field), str)}


def is_unknown_endpoint(error: TTSError) -> bool:
    """Return whether the server does not know the path: errors about anything else come with a code of their own."""
    return error.status in (404, 405, 501) and error.code in (None, "invalid_request_error")


def accepted_with(request_id: str) -> AcceptedParser:
    """Return a parser of `Accepted` for a vendor that names its requests in a header, given in lower case.

    - `request_id`: name of the header, in lower case.
    """

    def parse(headers: Mapping[str, str]) -> Accepted:
        found = get_header(headers, request_id)
        return Accepted(request_id=single_line(found, 100) if found else None)

    return parse
