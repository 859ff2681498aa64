"""Google Cloud Text-to-Speech provider: voices over HTTP, all of the audio in one JSON document."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from steadyvoice._extras import MissingExtraError, require
from steadyvoice.providers.base import Accepted, SynthesisOffer
from steadyvoice.providers.credentials import resolve_api_key
from steadyvoice.providers.http.client import PreparedHTTPRequest
from steadyvoice.providers.http.response_decoders import Base64FieldDecoder
from steadyvoice.providers.vendor import VendorProvider, accepted_with, utc_now
from steadyvoice.providers.voices import VoiceMap
from steadyvoice.speech.errors import TTSConfigurationError, TTSInvalidKeyError
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.wire import google as wire
from steadyvoice.wire.error_response import single_line

TOKEN_TIMEOUT = 5.0
"""Seconds to obtain an access token, which comes over the network."""


class Google(VendorProvider):
    """Provider of Google's voices, whose names, such as "en-US-Neural2-C", begin with their locale.

    - `api_key`: by default GOOGLE_API_KEY of the environment. Without one, an access token is obtained with the
      application's default credentials (GOOGLE_APPLICATION_CREDENTIALS, or the machine's service account), which
      requires `pip install "steadyvoice[google]"`.
    - `credentials`: path of a service account's key file.
    - `base_url`: address of a region, such as "https://eu-texttospeech.googleapis.com".
    - `voices`: the vendor's voices, or a `Voice` with more properties, by the callers' names.
    - `max_concurrency`: limit of simultaneous requests.
    - `proxy`: URL of an HTTP proxy; by default that of the environment (HTTPS_PROXY, NO_PROXY).
    - `trust_env`: whether the environment's proxy is used.

    No times come with the audio. Raises TTSConfigurationError when a setting is missing or impossible.
    """

    key_check_path = f"{wire.VOICES_PATH}?languageCode=en-US"  # all of them are some hundred kilobytes
    voices_path = wire.VOICES_PATH
    voice_id_field = "name"

    def __init__(
        self,
        api_key: str | None = None,
        *,
        name: str = "google",
        credentials: str | None = None,
        base_url: str = wire.BASE_URL,
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
            model="google",
            voices=voices,
            default_voice=wire.DEFAULT_VOICE,
            parse_error=wire.ERRORS.parse,
            wall_clock=wall_clock,
        )
        key = None if credentials else resolve_api_key(api_key, "GOOGLE_API_KEY", provider=name, any_key=False)
        self._token = None if key else AccessToken(credentials, name)
        self._use_account(
            key or f"credentials {credentials or 'default'}",
            "googleapis.com",
            {wire.KEY_HEADER: key} if key else {},
            max_concurrency=max_concurrency,
            proxy=proxy,
            trust_env=trust_env,
        )
        self._key = key

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Return the offer: in the requested format if the vendor has exactly that one, else in PCM."""
        return self.offer_in(
            request,
            wire.FORMATS,
            dialect=wire.DIALECT,
            speeds=(wire.MIN_SPEED, wire.MAX_SPEED),
            language=wire.locale_of_voice,
            max_characters=wire.MAX_CHARACTERS,
            streams=False,
            timbre=wire.DIALECT,
        )

    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedHTTPRequest:
        """Prepare a request for any text."""
        document = wire.speech_document(
            voice=offer.voice, locale=wire.locale_of_voice(offer.voice), format=offer.format, speed=request.speed
        )
        return self._http.prepare(
            wire.SYNTHESIZE_PATH,
            document,
            text="input.text",
            accepted=accepted_with("x-request-id"),
            decoder=self._decoder,
            sign=self._token.sign if self._token else None,
        )

    async def query_headers(self, target: str) -> Mapping[str, str] | None:
        """Return the header with the access token, if there is no key. Raises TTSInvalidKeyError."""
        return await self._token.sign(target, b"") if self._token else None

    def _decoder(self, status: int, headers: Mapping[str, str], accepted: Accepted) -> Base64FieldDecoder:
        return Base64FieldDecoder("audioContent", provider=self.name)


class AccessToken:
    """Access token of Google, obtained and renewed by google-auth."""

    def __init__(self, file: str | None, provider: str) -> None:
        self._provider = provider
        self._credentials: Any = _credentials(file, provider)
        self._renewal = asyncio.Lock()

    async def sign(self, target: str, body: bytes) -> Mapping[str, str]:
        """Return the header with a valid token. Raises TTSInvalidKeyError when none can be obtained."""
        credentials = self._credentials
        if not credentials.valid:
            async with self._renewal:  # one of many requests renews it
                if not credentials.valid:
                    await self._renew()
        return {"Authorization": f"Bearer {credentials.token}"}

    async def _renew(self) -> None:
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        try:
            async with asyncio.timeout(TOKEN_TIMEOUT):
                await asyncio.to_thread(self._credentials.refresh, Request())
        except TimeoutError as error:
            raise TTSInvalidKeyError(f"no access token within {TOKEN_TIMEOUT:g} s", provider=self._provider) from error
        except GoogleAuthError as error:
            raise TTSInvalidKeyError(f"access token: {single_line(str(error))}", provider=self._provider) from error


def _credentials(file: str | None, provider: str) -> Any:
    """Return the credentials of a key file, or the application's default ones. Raises TTSConfigurationError."""
    try:
        require("google", "google.auth", package="google-auth")
    except MissingExtraError as error:
        message = f"missing; pass api_key=... or set GOOGLE_API_KEY; for a service account, {error}"
        raise TTSConfigurationError(f"{provider}.api_key: {message}") from None
    import google.auth
    from google.auth.exceptions import GoogleAuthError
    from google.oauth2.service_account import Credentials

    try:
        if file is not None:
            # Other kinds of files can name programs to run: google-auth warns of its loader of all kinds.
            return Credentials.from_service_account_file(file, scopes=[wire.SCOPE])  # type: ignore[no-untyped-call]
        found, _ = google.auth.default(scopes=[wire.SCOPE])
    except (GoogleAuthError, OSError, ValueError) as error:
        where = "credentials: " if file else "api_key: missing; pass api_key=..., set GOOGLE_API_KEY, or: "
        raise TTSConfigurationError(f"{provider}.{where}{single_line(str(error))}") from None
    return found
