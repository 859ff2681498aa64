"""Azure Speech provider: neural voices over HTTP, requested with SSML."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlsplit

from steadyvoice.providers.base import SynthesisOffer
from steadyvoice.providers.credentials import require_api_key
from steadyvoice.providers.http.body_template import BodyTemplate
from steadyvoice.providers.http.client import PreparedHTTPRequest
from steadyvoice.providers.vendor import VendorProvider, accepted_with, utc_now
from steadyvoice.providers.voices import VoiceMap
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.wire import azure as wire


class Azure(VendorProvider):
    """Provider of Azure's neural voices, whose ids, such as "en-US-JennyNeural", begin with their locale.

    - `api_key`: key of the Speech resource; by default AZURE_SPEECH_KEY of the environment.
    - `region`: region of the resource, such as "westeurope"; by default AZURE_SPEECH_REGION of the environment.
    - `base_url`: address in place of the region's, such as that of a custom domain or a sovereign cloud.
    - `voices`: the vendor's voices, or a `Voice` with more properties, by the callers' names.
    - `max_concurrency`: limit of simultaneous requests.
    - `proxy`: URL of an HTTP proxy; by default that of the environment (HTTPS_PROXY, NO_PROXY).
    - `trust_env`: whether the environment's proxy is used.

    No times come with the audio. Raises TTSConfigurationError when a setting is missing or impossible.
    """

    key_check_path = voices_path = wire.VOICES_PATH
    voice_id_field = "ShortName"

    def __init__(
        self,
        api_key: str | None = None,
        *,
        name: str = "azure",
        region: str | None = None,
        base_url: str | None = None,
        voices: VoiceMap | None = None,
        max_concurrency: int | None = None,
        proxy: str | None = None,
        trust_env: bool = True,
        wall_clock: Callable[[], datetime] = utc_now,
    ) -> None:
        super().__init__(
            name=name,
            base_url=_address(region, name) if base_url is None else base_url,
            endpoints=wire.ENDPOINTS,
            model="neural",
            voices=voices,
            default_voice=wire.DEFAULT_VOICE,
            parse_error=wire.ERRORS.parse,
            wall_clock=wall_clock,
        )
        key = require_api_key(api_key, "AZURE_SPEECH_KEY", provider=name)
        self._use_account(
            key,
            urlsplit(self.base_url).netloc,
            {wire.KEY_HEADER: key},
            max_concurrency=max_concurrency,
            proxy=proxy,
            trust_env=trust_env,
        )

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Return the offer: in the requested format if the vendor has exactly that one, else in PCM."""
        return self.offer_in(
            request,
            wire.FORMATS,
            dialect=wire.DIALECT,
            speeds=(wire.MIN_SPEED, wire.MAX_SPEED),
            language=wire.locale_of_voice,
            max_characters=wire.MAX_CHARACTERS,
            timbre=wire.DIALECT,
        )

    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedHTTPRequest:
        """Prepare a request for any text."""
        rate = min(max(request.speed, wire.MIN_SPEED), wire.MAX_SPEED)
        body = BodyTemplate.of_ssml(
            language=wire.locale_of_voice(offer.voice),
            voice=offer.voice,
            prosody=None if rate == 1.0 else {"rate": f"{rate:g}"},
        )
        headers = {"Content-Type": wire.CONTENT_TYPE, wire.FORMAT_HEADER: wire.FORMATS[offer.format]}
        return self._http.prepare(wire.SPEECH_PATH, body, accepted=accepted_with("x-requestid"), headers=headers)


def _address(region: str | None, provider: str) -> str:
    """Return the address of a region, by default that of the environment. Raises TTSConfigurationError."""
    found = (os.environ.get("AZURE_SPEECH_REGION", "").strip() or None) if region is None else region
    if found is None:
        raise TTSConfigurationError(
            f'{provider}.region: missing; pass region="westeurope" or another, or set AZURE_SPEECH_REGION'
        )
    try:
        return wire.base_url_of_region(found)
    except (ValueError, TypeError) as error:
        raise TTSConfigurationError(f"{provider}.region: {error}") from None
