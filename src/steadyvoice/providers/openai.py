"""Servers that speak OpenAI's `/v1/audio/speech`: OpenAI's own, and the many that imitate it."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from steadyvoice.providers.base import Accepted, AudioChunk, SynthesisOffer
from steadyvoice.providers.credentials import credential_for, require_api_key, resolve_api_key, validate_concurrency
from steadyvoice.providers.http.client import HTTPClient, PreparedHTTPRequest
from steadyvoice.providers.http.urls import select_proxy, validate_base_url
from steadyvoice.providers.voices import VoiceMap, choose_voice, validate_voices
from steadyvoice.speech.errors import TTSConfigurationError, TTSError, TTSUnsupportedFormatError
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.writing_systems import scripts_of_languages
from steadyvoice.wire.error_response import get_header, single_line
from steadyvoice.wire.openai.errors import parse_error
from steadyvoice.wire.openai.speech import (
    BASE_URL,
    DIALECT,
    ENDPOINTS,
    MAX_CHARACTERS,
    MAX_SPEED,
    MIN_SPEED,
    MODELS,
    MODELS_WITHOUT_SPEED,
    RESPONSE_FORMATS,
    SPEECH_PATH,
    encode_request,
)

# Only what can be promised to the sample: nobody documents the rates behind "mp3", "opus" and "aac", and a
# stream that changes its rate when the provider changes is worse than a conversion.
EXACT_FORMATS = {"pcm": "pcm_24000", "wav": "wav_24000", "flac": "flac_24000"}

_LOSSLESS = (Codec.PCM, Codec.WAV, Codec.FLAC)

_QUERY_CONNECT_TIMEOUT = 5.0  # seconds to connect, for a question that nobody waits for


class OpenAICompatible:
    """Speaks through OpenAI's speech endpoint, or a server that has the same.

    Without `api_key`, OPENAI_API_KEY of the environment is taken; at a `base_url` other than OpenAI's there may be
    none. `base_url` may end in /v1 or not. `voices` maps the callers' names to the server's, or to a `Voice` that tells
    more of them. `formats` says what the server really sends for each response_format, such as {"pcm": "pcm_22050"};
    formats not in it are converted from the best one that is. `languages` are those that the model speaks, such as
    ["en", "ja"]: texts in letters of others go to another provider; without, it is tried. No more than
    `max_concurrency` requests run at once. With `streams=False`, the server makes the whole answer before it sends any,
    and has more time for longer texts. Language and speaking instructions go into a request's options, where a
    server knows them. `proxy` is the URL of an HTTP proxy; without one, the environment's is used (HTTPS_PROXY,
    NO_PROXY), unless `trust_env` is False.

    Raises TTSConfigurationError when a setting is missing or impossible.
    """

    local = False

    def __init__(
        self,
        api_key: str | None = None,
        *,
        name: str = "openai",
        base_url: str = BASE_URL,
        model: str = "gpt-4o-mini-tts",
        voices: VoiceMap | None = None,
        formats: Mapping[str, str] | None = None,
        max_characters: int = MAX_CHARACTERS,
        languages: Sequence[str] | None = None,
        max_concurrency: int | None = None,
        streams: bool = True,
        proxy: str | None = None,
        trust_env: bool = True,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not model:
            raise TTSConfigurationError(f"{name}.model: must not be empty")
        if max_characters < 1:
            raise TTSConfigurationError(f"{name}.max_characters: at least 1, got {max_characters}")
        self.name = name
        self.model = model
        self.max_characters = max_characters
        self.voices = validate_voices(voices, "alloy", provider=name)
        self.base_url = validate_base_url(base_url, provider=name, endpoints=ENDPOINTS)
        # Where a version stands elsewhere in the path, the vendor's clients put nothing but the endpoint behind it.
        versioned = re.search(r"/v\d+[a-z]*\d*(/|\Z)", urlsplit(self.base_url).path)
        self._path = SPEECH_PATH.removeprefix("/v1") if versioned else SPEECH_PATH
        self._formats = _validate_formats(EXACT_FORMATS if formats is None else formats, name)
        self._genuine = genuine = urlsplit(self.base_url).hostname == urlsplit(BASE_URL).hostname
        self._models = {model, *(MODELS if genuine else ())}
        self._scripts = None if languages is None else scripts_of_languages(_validate_languages(languages, name))
        self._wall_clock = wall_clock
        key = require_api_key if genuine else resolve_api_key
        self._key = key(api_key, "OPENAI_API_KEY", provider=name)
        most = validate_concurrency(max_concurrency, provider=name)
        if not isinstance(streams, bool):
            raise TTSConfigurationError(f"{name}.streams: must be true or false, got {streams!r}")
        self._streams = streams
        self.credential = credential_for(self._key, urlsplit(self.base_url).netloc, max_concurrency=most)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        proxy = select_proxy(self.base_url, given=proxy, trust_env=trust_env, provider=name)
        self._http = HTTPClient(name, self.base_url, self._refused, headers=headers, proxy=proxy)

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Say how it would speak this: in the format asked for if it surely has it, else in the best it has."""
        had = self._formats.values()
        model = request.model if request.model in self._models else self.model
        speeds = None if str(model).startswith(MODELS_WITHOUT_SPEED) else (MIN_SPEED, MAX_SPEED)
        choice = choose_voice(request, self.voices, DIALECT, provider=self.name, speeds=speeds)
        return SynthesisOffer(
            format=request.format if request.format in had else max(had, key=_format_preference),
            voice=choice.voice.id,
            model=model,
            max_characters=self.max_characters,
            scripts=self._scripts,
            knows_voice=choice.known,
            declared=choice.voice,
            speed=choice.speed,
            gain=choice.gain,
            # Many servers call voices by OpenAI's names; two that run the same model have the same ones.
            timbre=BASE_URL if self._genuine else str(model),
            source=self.base_url,
            for_any_text=True,
            streams=self._streams,
        )

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """Speak: one `Accepted`, then `Audio`. Raises TTSError."""
        prepared = self.prepare(request, offer)
        with closing(await prepared.send(request.text, connection_timeout=connection_timeout)) as reply:
            yield reply.accepted
            while data := await reply.read():
                yield AudioChunk(data)

    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedHTTPRequest:
        """Make a request ready. Raises TTSBadRequestError."""
        response_format = next(name for name, format_ in self._formats.items() if format_ == offer.format)
        call = encode_request(
            request, model=offer.model or self.model, voice=offer.voice, response_format=response_format
        )
        document = call.body()
        del document["input"]
        return self._http.prepare(self._path, document, text="input", accepted=_accepted)

    @property
    def is_openai(self) -> bool:
        """Whether the server is OpenAI's own, and not one like it."""
        return self._genuine

    async def fetch_json(self, target: str) -> Any:
        """Ask something that is free, by its path behind the version, such as `/audio/voices`. Raises TTSError."""
        path = self._path.removesuffix(SPEECH_PATH.removeprefix("/v1")) + target
        return await self._http.document(path, connection_timeout=_QUERY_CONNECT_TIMEOUT)

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._http.aclose()

    def _refused(self, status: int, headers: Mapping[str, str], body: bytes) -> TTSError:
        return parse_error(status, headers, body, now=self._wall_clock(), api_key=self._key, provider=self.name)

    def __repr__(self) -> str:
        return f"OpenAICompatible(name={self.name!r}, model={self.model!r}, base_url={self.base_url!r})"


def _validate_languages(languages: Sequence[str], provider: str) -> Sequence[str]:
    if isinstance(languages, str) or not languages or not all(isinstance(tag, str) and tag for tag in languages):
        raise TTSConfigurationError(f'{provider}.languages: must be tags such as ["en", "ja"], got {languages!r}')
    return languages


def _validate_formats(formats: Mapping[str, str], provider: str) -> dict[str, AudioFormat]:
    unknown = [name for name in formats if name not in RESPONSE_FORMATS]
    if unknown or not formats:
        what = f"unknown {unknown[0]!r}" if unknown else "there is none"
        raise TTSConfigurationError(f"{provider}.formats: {what}; use some of {', '.join(RESPONSE_FORMATS)}")
    try:
        return {name: AudioFormat.parse(full) for name, full in formats.items()}
    except TTSUnsupportedFormatError as error:
        raise TTSConfigurationError(f"{provider}.formats: {error.message}") from error


def _accepted(headers: Mapping[str, str]) -> Accepted:
    request_id = get_header(headers, "x-request-id")
    return Accepted(request_id=single_line(request_id, 100) if request_id else None)


def _format_preference(format_: AudioFormat) -> tuple[bool, bool, int, int]:
    """Lossless before lossy, headerless before the rest, then by rate."""
    plain = format_.codec is Codec.PCM
    return format_.codec in _LOSSLESS, plain, format_.sample_rate, format_.bitrate or 0
