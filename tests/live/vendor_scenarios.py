"""Scenarios of Cartesia, Deepgram, Azure, Google and Polly that hold for each vendor and for its simulation.

`tests/vendors` runs them against the simulator, `tests/live` against the vendors themselves, if there is a key. Each
vendor costs two texts: one by its own client and one by our provider.
"""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import boto3
import cartesia
import deepgram
import httpx
from botocore.config import Config
from deepgram.environment import DeepgramClientEnvironment
from google.auth.credentials import AnonymousCredentials
from google.cloud import texttospeech
from google.cloud.texttospeech_v1.services.text_to_speech.transports.rest import TextToSpeechRestTransport

from steadyvoice import AsyncTTSService, Azure, Cartesia, Deepgram, Google, Polly, Tone
from steadyvoice.providers.vendor import VendorProvider
from steadyvoice.speech.errors import TTSInvalidKeyError
from steadyvoice.wire import azure as azure_wire
from steadyvoice.wire import cartesia as cartesia_wire
from steadyvoice.wire import deepgram as deepgram_wire
from steadyvoice.wire import google as google_wire
from steadyvoice.wire import polly as polly_wire

from .scenarios import BAD_KEY, FORMAT, TEXT, UNKNOWN_VOICE, long_enough, plausible

with warnings.catch_warnings():  # Deepgram's client uses the former interface of `websockets`
    warnings.simplefilter("ignore", DeprecationWarning)
    import_module("deepgram.speak.v1.client")


@dataclass(frozen=True)
class LiveAccount:
    """Server and credential of a run. `secret` and `region` belong to AWS' keys only."""

    url: str
    key: str
    secret: str = "not-a-secret-of-anybody"
    region: str = "eu-central-1"


@dataclass(frozen=True)
class LiveVendor:
    """One vendor.

    - `variables`: environment variables that its scenarios need; the first is its key.
    - `url`: returns its address for the values of these variables.
    - `make`: returns our provider for an account, with further settings.
    - `official`: returns samples at 16 kHz of `TEXT` as the vendor's own client receives them. It blocks.
    """

    variables: tuple[str, ...]
    url: Callable[[Mapping[str, str]], str]
    make: Callable[..., VendorProvider]
    official: Callable[[LiveAccount], bytes]

    def account(self, environment: Mapping[str, str]) -> LiveAccount:
        """Return the account that the environment names."""
        url, key = self.url(environment), environment[self.variables[0]]
        if self.make is not make_polly:
            return LiveAccount(url, key)
        return LiveAccount(url, key, environment["AWS_SECRET_ACCESS_KEY"], environment["AWS_REGION"])


def make_polly(key: str, account: LiveAccount, **settings: Any) -> Polly:
    return Polly(key, secret_key=account.secret, region=account.region, base_url=account.url, **settings)


def _maker(provider: Callable[..., VendorProvider]) -> Callable[..., VendorProvider]:
    return lambda key, account, **settings: provider(key, base_url=account.url, **settings)


def _deepgram(account: LiveAccount) -> bytes:
    url = account.url
    hosts = DeepgramClientEnvironment(base=url, production=url, agent=url, agent_rest=url)
    params: dict[str, Any] = {"encoding": "linear16", "container": "none", "sample_rate": 16_000}
    with httpx.Client(timeout=30) as http:
        client = deepgram.DeepgramClient(api_key=account.key, environment=hosts, httpx_client=http)
        return b"".join(client.speak.v1.audio.generate(text=TEXT, model=deepgram_wire.DEFAULT_VOICE, **params))


def _cartesia(account: LiveAccount) -> bytes:
    with cartesia.Cartesia(api_key=account.key, base_url=account.url) as client:
        return client.tts.generate(
            model_id=cartesia_wire.DEFAULT_MODEL,
            transcript=TEXT,
            voice={"id": cartesia_wire.DEFAULT_VOICE},
            output_format={"container": "raw", "encoding": "pcm_s16le", "sample_rate": 16_000},
        ).read()


def _azure(account: LiveAccount) -> bytes:
    # https://learn.microsoft.com/azure/ai-services/speech-service/rest-text-to-speech#sample-request
    voice = azure_wire.DEFAULT_VOICE
    response = httpx.post(
        f"{account.url}{azure_wire.SPEECH_PATH}",
        content=f"<speak version='1.0' xml:lang='en-US'><voice name='{voice}'>{TEXT}</voice></speak>",
        headers={
            azure_wire.KEY_HEADER: account.key,
            azure_wire.FORMAT_HEADER: "raw-16khz-16bit-mono-pcm",
            "Content-Type": azure_wire.CONTENT_TYPE,
        },
        timeout=30,
    )
    return response.raise_for_status().content


def _google(account: LiveAccount) -> bytes:
    address = urlsplit(account.url)
    rest = TextToSpeechRestTransport(
        host=address.netloc,
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        url_scheme=address.scheme,
    )
    rest._session.headers[google_wire.KEY_HEADER] = account.key
    return (
        texttospeech.TextToSpeechClient(transport=rest)
        .synthesize_speech(
            input=texttospeech.SynthesisInput(text=TEXT),
            voice=texttospeech.VoiceSelectionParams(language_code="en-US", name=google_wire.DEFAULT_VOICE),
            audio_config=texttospeech.AudioConfig(
                audio_encoding=texttospeech.AudioEncoding.PCM, sample_rate_hertz=16_000
            ),
        )
        .audio_content
    )


def _polly(account: LiveAccount) -> bytes:
    session = boto3.Session(account.key, account.secret, region_name=account.region)
    client = session.client("polly", endpoint_url=account.url, config=Config(retries={"total_max_attempts": 1}))
    spoken = client.synthesize_speech(
        Text=TEXT,
        VoiceId=polly_wire.DEFAULT_VOICE,
        Engine=polly_wire.DEFAULT_ENGINE,
        OutputFormat="pcm",
        SampleRate="16000",
    )
    audio = spoken["AudioStream"].read()
    assert isinstance(audio, bytes)
    return audio


LIVE_VENDORS: dict[str, LiveVendor] = {
    "cartesia": LiveVendor(("CARTESIA_API_KEY",), lambda _: cartesia_wire.BASE_URL, _maker(Cartesia), _cartesia),
    "deepgram": LiveVendor(("DEEPGRAM_API_KEY",), lambda _: deepgram_wire.BASE_URL, _maker(Deepgram), _deepgram),
    "azure": LiveVendor(
        ("AZURE_SPEECH_KEY", "AZURE_SPEECH_REGION"),
        lambda environment: azure_wire.base_url_of_region(environment["AZURE_SPEECH_REGION"]),
        _maker(Azure),
        _azure,
    ),
    "google": LiveVendor(("GOOGLE_API_KEY",), lambda _: google_wire.BASE_URL, _maker(Google), _google),
    "polly": LiveVendor(
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"),
        lambda environment: polly_wire.base_url_of_region(environment["AWS_REGION"]),
        make_polly,
        _polly,
    ),
}

VendorScenario = Callable[[str, LiveAccount], Awaitable[None]]

VENDOR_SCENARIOS: list[VendorScenario] = []


@VENDOR_SCENARIOS.append
async def official_client_receives_audio(name: str, account: LiveAccount) -> None:
    # It blocks this event loop, on which nothing else runs.
    assert long_enough(LIVE_VENDORS[name].official(account))


@VENDOR_SCENARIOS.append
async def service_speaks(name: str, account: LiveAccount) -> None:
    provider = LIVE_VENDORS[name].make(account.key, account)
    async with AsyncTTSService([provider], muted=False) as tts:
        speech = await tts.synthesize(TEXT, format=FORMAT)
    assert (speech.outcome, speech.provider) == ("spoken", name)
    assert plausible(speech.duration)
    (attempt,) = speech.attempts
    assert attempt.characters_billed in (None, len(TEXT))


@VENDOR_SCENARIOS.append
async def key_is_checked_free_of_charge(name: str, account: LiveAccount) -> None:
    for key in (account.key, BAD_KEY):
        provider = LIVE_VENDORS[name].make(key, account)
        try:
            assert await provider.check_key()
            assert key != BAD_KEY
        except TTSInvalidKeyError:
            assert key == BAD_KEY
        finally:
            await provider.aclose()


@VENDOR_SCENARIOS.append
async def unknown_voice_fails_over_and_is_no_failure_of_the_vendor(name: str, account: LiveAccount) -> None:
    provider = LIVE_VENDORS[name].make(account.key, account, voices={"default": UNKNOWN_VOICE})
    async with AsyncTTSService([provider, Tone()]) as tts:
        assert (await tts.synthesize(TEXT, format=FORMAT)).provider == "tone"
        state = tts.get_error_state()
    assert (state["circuit_state"], state["totals"]["failures"]) == ("closed", 0)
    assert f"{name}/credential" not in [hold["key"] for hold in state["holds"]]


@VENDOR_SCENARIOS.append
async def bad_key_is_held_and_not_used_again(name: str, account: LiveAccount) -> None:
    provider = LIVE_VENDORS[name].make(BAD_KEY, account)
    async with AsyncTTSService([provider, Tone()]) as tts:
        assert (await tts.synthesize(TEXT, format=FORMAT)).provider == "tone"
        state = tts.get_error_state()
        assert [(hold["key"], hold["kind"]) for hold in state["holds"]] == [(f"{name}/credential", "invalid_key")]
        assert (state["circuit_state"], state["totals"]["failures"]) == ("closed", 0)
        again = await tts.synthesize(TEXT, format=FORMAT)
    assert again.attempts[0].refused
