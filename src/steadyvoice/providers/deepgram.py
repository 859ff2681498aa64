"""Deepgram provider: Aura voices over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from urllib.parse import urlsplit

from steadyvoice.providers.base import Accepted, SynthesisOffer
from steadyvoice.providers.credentials import require_api_key
from steadyvoice.providers.http.client import PreparedHTTPRequest
from steadyvoice.providers.vendor import VendorProvider, utc_now
from steadyvoice.providers.voices import VoiceMap
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.wire import deepgram as wire
from steadyvoice.wire.error_response import get_header, single_line
from steadyvoice.wire.request_validation import ELEVENLABS_BODY, ELEVENLABS_QUERY, OPENAI_BODY, vendor_options

# `callback` would have the audio sent to another address.
_OWN = frozenset({"callback", "callback_method", "encoding", "container", "sample_rate", "bit_rate", "speed"})
_FOREIGN = _OWN | ELEVENLABS_BODY | ELEVENLABS_QUERY | OPENAI_BODY


class Deepgram(VendorProvider):
    """Provider of Deepgram's Aura voices, whose ids, such as "aura-2-thalia-en", name model and language.

    - `api_key`: by default DEEPGRAM_API_KEY of the environment.
    - `base_url`: address of a self-hosted deployment or of another region.
    - `voices`: the vendor's voices, or a `Voice` with more properties, by the callers' names.
    - `max_concurrency`: limit of simultaneous requests.
    - `proxy`: URL of an HTTP proxy; by default that of the environment (HTTPS_PROXY, NO_PROXY).
    - `trust_env`: whether the environment's proxy is used.

    No times come with the audio. A request's options, such as {"mip_opt_out": "true"}, become query parameters. Raises
    TTSConfigurationError when a setting is missing or impossible.
    """

    key_check_path = wire.PROJECTS_PATH  # the models are also sent without a key
    restricted_key_codes = frozenset({"INSUFFICIENT_PERMISSIONS"})
    voices_path = wire.MODELS_PATH
    voice_id_field = "canonical_name"

    def __init__(
        self,
        api_key: str | None = None,
        *,
        name: str = "deepgram",
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
            model=wire.FAMILY,
            voices=voices,
            default_voice=wire.DEFAULT_VOICE,
            parse_error=wire.ERRORS.parse,
            wall_clock=wall_clock,
        )
        key = require_api_key(api_key, "DEEPGRAM_API_KEY", provider=name)
        self._use_account(
            key,
            urlsplit(self.base_url).netloc,
            {"Authorization": f"Token {key}"},
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
            language=wire.language_of_voice,
            max_characters=wire.MAX_CHARACTERS,
            timbre=wire.DIALECT,
        )

    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedHTTPRequest:
        """Prepare a request for any text."""
        options = vendor_options(request, wire.DIALECT, _FOREIGN)
        params = {name: str(value) for name, value in options.items()}
        if request.speed != 1.0:
            params["speed"] = f"{min(max(request.speed, wire.MIN_SPEED), wire.MAX_SPEED):g}"
        params |= {"model": offer.voice, **wire.FORMATS[offer.format]}
        return self._http.prepare(wire.SPEAK_PATH, {}, text="text", accepted=_accepted, params=params)


def _accepted(headers: Mapping[str, str]) -> Accepted:
    request_id = get_header(headers, "dg-request-id")
    return Accepted(
        request_id=single_line(request_id, 100) if request_id else None,
        characters_billed=wire.characters_billed(headers),
    )
