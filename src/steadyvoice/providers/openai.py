"""OpenAI-compatible provider: OpenAI's `/v1/audio/speech`, and the many servers that imitate it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from urllib.parse import urlsplit

from steadyvoice._option_rules import COUNT, FLAG
from steadyvoice.providers.base import SynthesisOffer
from steadyvoice.providers.credentials import require_api_key, resolve_api_key
from steadyvoice.providers.http.client import FetchedDocument, PreparedHTTPRequest
from steadyvoice.providers.vendor import VendorProvider, accepted_with, utc_now
from steadyvoice.providers.voices import VoiceMap
from steadyvoice.speech.errors import TTSConfigurationError, TTSError, TTSUnsupportedFormatError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.option_validation import validate_option
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.writing_systems import scripts_of_languages
from steadyvoice.wire.openai.errors import parse_error
from steadyvoice.wire.openai.speech import (
    AUDIO_VOICES_PATH,
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
    VOICES,
    encode_request,
    parse_audio_voices,
)

# Only formats whose sample rate is known: the vendor does not document the rates behind "mp3", "opus" and "aac", and a
# stream whose rate changes with the provider is worse than a conversion.
EXACT_FORMATS = {"pcm": "pcm_24000", "wav": "wav_24000", "flac": "flac_24000"}

_ACCEPTED = accepted_with("x-request-id")


class OpenAICompatible(VendorProvider):
    """Provider of OpenAI's speech endpoint, or of a server with the same one.

    - `api_key`: by default OPENAI_API_KEY of the environment; optional at a `base_url` other than OpenAI's.
    - `base_url`: the server's address, with or without /v1 at its end.
    - `model`: the model of requests that do not name one of the server's.
    - `voices`: the server's voices, or a `Voice` with more properties, by the callers' names.
    - `formats`: what the server really sends for each response_format, such as {"pcm": "pcm_22050"}. Any other format
      is converted from the best of these.
    - `max_characters`: characters in one request; longer texts are split.
    - `languages`: languages that the model speaks, such as ["en", "ja"]. Texts in letters of others go to another
      provider. By default every text is tried.
    - `max_concurrency`: limit of simultaneous requests.
    - `streams`: False for a server that generates the whole audio before it sends any: longer texts get more time.
    - `proxy`: URL of an HTTP proxy; by default that of the environment (HTTPS_PROXY, NO_PROXY).
    - `trust_env`: whether the environment's proxy is used.

    Language and speaking instructions go into a request's options, for servers that support them. Raises
    TTSConfigurationError when a setting is missing or impossible.
    """

    key_check_path = "/models"  # below the version, as `fetch_document` takes it
    restricted_key_codes = frozenset({"missing_scope"})  # unverified

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
        wall_clock: Callable[[], datetime] = utc_now,
    ) -> None:
        super().__init__(
            name=name,
            base_url=base_url,
            endpoints=ENDPOINTS,
            model=model,
            voices=voices,
            default_voice="alloy",
            parse_error=parse_error,
            wall_clock=wall_clock,
        )
        self.max_characters = validate_option(f"{name}.max_characters", max_characters, COUNT)
        # Behind a path with a version elsewhere (/v1beta/openai), the vendor's own clients append the endpoint only.
        versioned = re.search(r"/v\d+[a-z]*\d*(/|\Z)", urlsplit(self.base_url).path)
        self._path = SPEECH_PATH.removeprefix("/v1") if versioned else SPEECH_PATH
        self._formats = _validate_formats(EXACT_FORMATS if formats is None else formats, name)
        self._is_openai = urlsplit(self.base_url).hostname == urlsplit(BASE_URL).hostname
        self._models = {model, *(MODELS if self._is_openai else ())}
        self._scripts = None if languages is None else scripts_of_languages(_validate_languages(languages, name))
        self._streams = validate_option(f"{name}.streams", streams, FLAG)
        get_key = require_api_key if self._is_openai else resolve_api_key
        key = get_key(api_key, "OPENAI_API_KEY", provider=name)
        self._use_account(
            key,
            urlsplit(self.base_url).netloc,
            {"Authorization": f"Bearer {key}"} if key else {},
            max_concurrency=max_concurrency,
            proxy=proxy,
            trust_env=trust_env,
        )

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Return the offer: in the requested format if the server surely has it, else in the best it has."""
        model = request.model if request.model in self._models else self.model
        speeds = None if str(model).startswith(MODELS_WITHOUT_SPEED) else (MIN_SPEED, MAX_SPEED)
        return self.offer_in(
            request,
            self._formats.values(),
            dialect=DIALECT,
            models=self._models,
            speeds=speeds,
            max_characters=self.max_characters,
            scripts=self._scripts,
            # Many servers name their voices as OpenAI does. Two that run the same model have the same voices.
            timbre=BASE_URL if self._is_openai else str(model),
            streams=self._streams,
        )

    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedHTTPRequest:
        """Prepare a request for any text. Raises TTSBadRequestError."""
        response_format = next(name for name, format_ in self._formats.items() if format_ == offer.format)
        call = encode_request(
            request, model=offer.model or self.model, voice=offer.voice, response_format=response_format
        )
        document = call.body()
        del document["input"]
        return self._http.prepare(self._path, document, text="input", accepted=_ACCEPTED)

    @property
    def is_openai(self) -> bool:
        """True if the server is OpenAI's own."""
        return self._is_openai

    async def find_missing_voices(self) -> Sequence[str] | None:
        """Return the callers' names of voices that a compatible server does not list; None if it lists none.

        OpenAI's own have no list: None if one of them is not known here. Raises TTSError.
        """
        if self._is_openai:
            return [] if {voice.id for voice in self.voices.values()} <= {*VOICES} else None
        try:
            document = await self.fetch_document(AUDIO_VOICES_PATH.removeprefix("/v1"))
        except TTSError as error:
            if self._tells_nothing(error):
                return None
            raise
        known = parse_audio_voices(document.value)
        return [name for name, voice in self.voices.items() if voice.id not in known] if known else None

    async def fetch_document(self, target: str) -> FetchedDocument:
        """Return a JSON document that is free of charge, by its path below the version, such as `/audio/voices`.

        Raises TTSError.
        """
        return await super().fetch_document(self._path.removesuffix(SPEECH_PATH.removeprefix("/v1")) + target)


def _validate_languages(languages: Sequence[str], provider: str) -> Sequence[str]:
    if isinstance(languages, str) or not languages or not all(isinstance(tag, str) and tag for tag in languages):
        raise TTSConfigurationError(f'{provider}.languages: must be tags such as ["en", "ja"], got {languages!r}')
    return languages


def _validate_formats(formats: Mapping[str, str], provider: str) -> dict[str, AudioFormat]:
    unknown = [name for name in formats if name not in RESPONSE_FORMATS]
    if unknown or not formats:
        problem = f"unknown format {unknown[0]!r}" if unknown else "must not be empty"
        raise TTSConfigurationError(f"{provider}.formats: {problem}; known formats: {', '.join(RESPONSE_FORMATS)}")
    try:
        return {name: AudioFormat.parse(full) for name, full in formats.items()}
    except TTSUnsupportedFormatError as error:
        raise TTSConfigurationError(f"{provider}.formats: {error.message}") from error
