"""Rime text to speech as a plugin: bare audio in the format that the Accept header names, and errors in plain text.

Sources: https://docs.rime.ai/api-reference/coda/http and https://docs.rime.ai/docs/errors. Not verified against the
live service. Unverified: the limit of characters, and that each voice speaks the language of its request only.
"""

from __future__ import annotations

from collections.abc import Mapping

from steadyvoice import AudioFormat, SpeechRequest, SynthesisOffer
from steadyvoice.providers.http.client import PreparedHTTPRequest
from steadyvoice.providers.vendor import ErrorTable, VendorProvider, VoiceMap, accepted_with, require_api_key, utc_now
from steadyvoice.speech.errors import TTSError, TTSQuotaExceededError

FORMATS = {
    **{AudioFormat.parse(f"pcm_{rate}"): "audio/L16" for rate in (8000, 16_000, 22_050, 24_000, 44_100)},
    AudioFormat.parse("ulaw_8000"): "audio/PCMU",
}
MODELS = ("coda", "mistv3", "mistv2")
MAX_CHARACTERS = 500
ERRORS = ErrorTable(codes={})


class Rime(VendorProvider):
    """Provider of Rime's voices. `api_key` is the vendor's; by default RIME_API_KEY of the environment.

    Keys are not checked: the vendor's lists of voices are sent without one (https://docs.rime.ai/docs/api-reference).
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        name: str = "rime",
        base_url: str = "https://users.rime.ai",
        model: str = "coda",
        language: str = "en",
        voices: VoiceMap | None = None,
        max_concurrency: int | None = None,
        proxy: str | None = None,
        trust_env: bool = True,
    ) -> None:
        super().__init__(
            name=name,
            base_url=base_url,
            endpoints=r"/v1(/rime-tts)?",
            model=model,
            voices=voices,
            default_voice="astra",
            parse_error=self._parse,
            wall_clock=utc_now,
        )
        self.language = language
        key = require_api_key(api_key, "RIME_API_KEY", provider=name)
        headers = {"Authorization": f"Bearer {key}"}
        self._use_account(key, "rime.ai", headers, max_concurrency=max_concurrency, proxy=proxy, trust_env=trust_env)

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Return the offer: in the requested format, or in samples."""
        return self.offer_in(request, FORMATS, dialect="rime", models=MODELS, max_characters=MAX_CHARACTERS)

    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedHTTPRequest:
        """Prepare a request for any text."""
        body = {
            "speaker": offer.voice,
            "modelId": offer.model,
            "lang": request.language or self.language,
            "samplingRate": offer.format.sample_rate,
        }
        headers = {"Accept": FORMATS[offer.format]}
        return self._http.prepare("/v1/rime-tts", body, headers=headers, accepted=accepted_with("x-request-id"))

    @staticmethod
    def _parse(status: int, headers: Mapping[str, str], body: bytes, **context: object) -> TTSError:
        # A subscription that has ended is a 401, as a wrong key is: only the text tells them apart.
        ended = status == 401 and b"invalid subscription" in body
        table = ErrorTable(codes={}, statuses={401: TTSQuotaExceededError}) if ended else ERRORS
        return table.parse(status, headers, body, **context)  # type: ignore[arg-type]
