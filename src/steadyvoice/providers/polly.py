"""Amazon Polly provider: voices over HTTP, with requests that botocore signs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from steadyvoice._extras import MissingExtraError, require
from steadyvoice._option_rules import OneOf
from steadyvoice.providers.base import Accepted, SynthesisOffer
from steadyvoice.providers.credentials import api_key_problem
from steadyvoice.providers.http.body_template import BodyTemplate
from steadyvoice.providers.http.client import PreparedHTTPRequest
from steadyvoice.providers.vendor import VendorProvider, utc_now
from steadyvoice.providers.voices import VoiceMap
from steadyvoice.speech.errors import TTSConfigurationError, TTSInvalidKeyError
from steadyvoice.speech.option_validation import validate_option
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.wire import polly as wire
from steadyvoice.wire.error_response import get_header, single_line

CREDENTIALS_TIMEOUT = 5.0
"""Seconds to find credentials: those of a role come over the network."""


class Polly(VendorProvider):
    """Provider of Amazon Polly's voices. Requires `pip install "steadyvoice[polly]"`.

    - `api_key`: id of an access key; without one, credentials are found as all AWS clients find them: environment,
      profile, container or instance role.
    - `secret_key`: secret of that access key.
    - `region`: such as "eu-central-1"; by default that of the environment or of the profile.
    - `profile`: name of a profile in the configuration files of AWS.
    - `base_url`: address in place of the region's, such as that of a VPC endpoint.
    - `model`: engine of requests that name none: "standard", "neural", "long-form" or "generative".
    - `voices`: the vendor's voices, or a `Voice` with more properties, by the callers' names.
    - `max_concurrency`: limit of simultaneous requests.
    - `proxy`: URL of an HTTP proxy; by default that of the environment (HTTPS_PROXY, NO_PROXY).
    - `trust_env`: whether the environment's proxy is used.

    No times come with the audio: they would cost a second request. Raises TTSConfigurationError when a setting is
    missing or impossible.
    """

    key_check_path = voices_path = wire.VOICES_PATH
    voice_id_field = "Id"
    restricted_key_codes = frozenset({"AccessDeniedException"})

    def __init__(
        self,
        api_key: str | None = None,
        *,
        name: str = "polly",
        secret_key: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        base_url: str | None = None,
        model: str = wire.DEFAULT_ENGINE,
        voices: VoiceMap | None = None,
        max_concurrency: int | None = None,
        proxy: str | None = None,
        trust_env: bool = True,
        wall_clock: Callable[[], datetime] = utc_now,
    ) -> None:
        validate_option(f"{name}.model", model, OneOf(wire.ENGINES))
        self._session = _session(profile, name)
        self._credentials: Any = None  # found with the first request
        # botocore reads AWS_DEFAULT_REGION only; containers and functions of AWS have the other one.
        found = region or os.environ.get("AWS_REGION") or self._session.get_config_variable("region")
        self._region = found or _region_of(base_url)
        super().__init__(
            name=name,
            base_url=_address(self._region, name) if base_url is None else base_url,
            endpoints=wire.ENDPOINTS,
            model=model,
            voices=voices,
            default_voice=wire.DEFAULT_VOICE,
            parse_error=wire.ERRORS.parse,
            wall_clock=wall_clock,
        )
        self._set_keys(api_key, secret_key)
        self._use_account(
            api_key or f"profile {profile or 'default'}",
            urlsplit(self.base_url).netloc,
            {},
            max_concurrency=max_concurrency,
            proxy=proxy,
            trust_env=trust_env,
        )
        self._key = api_key  # the secret is never sent, so that no answer can repeat it

    def _set_keys(self, api_key: str | None, secret_key: str | None) -> None:
        if (api_key is None) != (secret_key is None):
            missing = "api_key" if api_key is None else "secret_key"
            raise TTSConfigurationError(f"{self.name}.{missing}: missing; a key has an id and a secret")
        for setting, key in (("api_key", api_key), ("secret_key", secret_key)):
            if key is not None and (problem := api_key_problem(key)):
                raise TTSConfigurationError(f"{self.name}.{setting}: {problem}")
        if api_key is not None:
            self._session.set_credentials(api_key, secret_key)
            self._credentials = self._session.get_credentials()

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Return the offer: in the requested format if the vendor has exactly that one, else in PCM at 16 kHz."""
        return self.offer_in(
            request,
            wire.FORMATS,
            dialect=wire.DIALECT,
            models=wire.ENGINES,
            speeds=(wire.MIN_SPEED, wire.MAX_SPEED),
            max_characters=wire.MAX_CHARACTERS,
            timbre=wire.DIALECT,
        )

    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedHTTPRequest:
        """Prepare a request for any text."""
        plain = request.speed == 1.0
        document = wire.speech_document(
            voice=offer.voice, engine=offer.model or self.model, format=offer.format, ssml=not plain
        )
        body = BodyTemplate.of_json(document, "Text")
        if not plain:
            quote = body.quote
            body = BodyTemplate(body.before, body.after, lambda text: quote(wire.prosody(text, request.speed)))
        return self._http.prepare(wire.SPEECH_PATH, body, accepted=_accepted, sign=self._sign)

    async def query_headers(self, target: str) -> Mapping[str, str]:
        """Return the headers with the signature of a GET request. Raises TTSInvalidKeyError without credentials."""
        return await self._sign(target, b"", method="GET")

    async def _sign(self, target: str, body: bytes, method: str = "POST") -> Mapping[str, str]:
        """Return the headers with the signature of a request. Raises TTSInvalidKeyError without credentials."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        signed = AWSRequest(method, self.base_url + target, headers={"Content-Type": "application/json"}, data=body)
        SigV4Auth(await self._frozen_credentials(), wire.SERVICE, self._region).add_auth(signed)
        return dict(signed.headers.items())

    async def _frozen_credentials(self) -> Any:
        """Return credentials that are valid now: those of a role are fetched in a thread, over the network."""
        if self._credentials is None or _needs_refresh(self._credentials):
            try:
                async with asyncio.timeout(CREDENTIALS_TIMEOUT):
                    self._credentials = await asyncio.to_thread(self._find_credentials)
            except TimeoutError as error:
                message = f"no AWS credentials were found within {CREDENTIALS_TIMEOUT:g} s"
                raise TTSInvalidKeyError(message, provider=self.name) from error
        return self._credentials.get_frozen_credentials()

    def _find_credentials(self) -> Any:
        from botocore.exceptions import BotoCoreError

        try:
            found = self._session.get_credentials()
            if found is not None:
                found.get_frozen_credentials()  # fetches or renews them
        except BotoCoreError as error:
            raise TTSInvalidKeyError(f"AWS credentials: {single_line(str(error))}", provider=self.name) from error
        if found is None:
            raise TTSInvalidKeyError(
                "no AWS credentials: pass api_key and secret_key, "
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role",
                provider=self.name,
            )
        return found


def _needs_refresh(credentials: Any) -> bool:
    """Return whether credentials of a role are about to expire; those of a key never do."""
    refresh_needed = getattr(credentials, "refresh_needed", None)
    return refresh_needed is not None and bool(refresh_needed())


def _session(profile: str | None, provider: str) -> Any:
    try:
        require("polly", "botocore")
    except MissingExtraError as error:
        raise TTSConfigurationError(f"{provider}: requests to Amazon Polly are signed by botocore: {error}") from None
    from botocore.session import Session

    return Session(profile=profile)


def _address(region: str | None, provider: str) -> str:
    if region is None:
        raise TTSConfigurationError(
            f'{provider}.region: missing; pass region="eu-central-1" or another, or set AWS_REGION'
        )
    try:
        return wire.base_url_of_region(region)
    except (ValueError, TypeError) as error:
        raise TTSConfigurationError(f"{provider}.region: {error}") from None


def _region_of(base_url: str | None) -> str | None:
    """Return the region that an address of AWS names; the usual one for any other, None without an address."""
    if base_url is None:
        return None
    host = (urlsplit(base_url).hostname or "").split(".")
    return host[1] if len(host) > 3 and host[0] == wire.SERVICE else "us-east-1"


def _accepted(headers: Mapping[str, str]) -> Accepted:
    request_id = get_header(headers, "x-amzn-requestid")
    return Accepted(
        request_id=single_line(request_id, 100) if request_id else None,
        characters_billed=wire.characters_billed(headers),
    )
