"""`voice_substitution="never"`: no other voice is heard, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steadyvoice import (
    Accepted,
    AsyncTTSService,
    AudioChunk,
    Credential,
    ElevenLabs,
    Espeak,
    HedgeConfig,
    OpenAICompatible,
    Provider,
    SpeechRequest,
    SynthesisOffer,
    TimeoutConfig,
    Tone,
    TTSStreamInterruptedError,
    Voice,
)
from steadyvoice.providers.espeak import is_installed
from steadyvoice.service.pipeline.candidates import GuardedProvider, find_candidates
from steadyvoice.service.resilience.error_handler import TTSErrorHandler
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.speech.errors import TTSError, TTSQuotaExceededError, TTSServerError
from steadyvoice.speech.format import AudioFormat

from ..conftest import MakeService
from ..word_tone_provider import Fault
from .voiced_provider import OtherVendor, VoicedProvider

TEXT = "The rain has stopped. We walk home now, slowly, and nobody says a word."
NARRATOR = Voice("n", "en", "female", 150, -18.0)
DOWN = TTSServerError("HTTP 503", status=503)
GEORGE = "JBFqnCBsd6RMkjVDRZzb"


class First(VoicedProvider):
    """Provider with the requested voice; `error` is what its call fails with."""

    def __init__(self, name: str = "first", *, error: TTSError | None = None, **settings: Any) -> None:
        super().__init__(name=name, voices={"narrator": NARRATOR}, **settings)
        self.error = error
        self.credential = Credential(name, initial_concurrency=1)
        self.pause = 0.0

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        if self.error:
            raise self.error
        await asyncio.sleep(self.pause)
        async for event in super().speak(request, offer, connection_timeout=connection_timeout):
            yield replace(event, concurrency_limit=1) if isinstance(event, Accepted) else event


class ProviderSetup:
    """Cast of providers that could substitute for the first."""

    def __init__(self, make: MakeService, tmp_path: Path, *, twin: bool) -> None:
        self.first = First()
        self.twin = First("twin")  # the same vendor, another account
        self.others: list[OtherVendor] = [
            OtherVendor(name="namesake", voices={"narrator": NARRATOR}),  # even by the same id
            OtherVendor(name="lookalike", voices={"anna": Voice("a", "en", "female", 150, -18.0)}),
        ]
        same = VoicedProvider(name="housemate", voices={"anna": Voice("a", "en", "female", 150, -18.0)})
        self.providers = [same, *self.others]
        providers: list[Provider] = [self.first, *([self.twin] if twin else []), *self.providers, Tone()]
        timeouts = TimeoutConfig(read_timeout=3.0, first_audio_timeout=2.0)
        hedging = HedgeConfig(minimum_samples=4, budget=1.0)
        self.tts: AsyncTTSService = make(*providers, cache=tmp_path, timeouts=timeouts, hedging=hedging)

    async def synthesize(self, **options: Any) -> ReportedUtterance:
        return await self.tts.synthesize(
            TEXT, **{"voice": "narrator", "format": "pcm_8000", "voice_substitution": "never", **options}
        )

    async def stream(self, **options: Any) -> ReportedUtterance:
        options = {"voice": "narrator", "format": "pcm_8000", "voice_substitution": "never", **options}
        stream = self.tts.stream(TEXT, **options)
        try:
            async for _ in stream:
                pass
        except TTSStreamInterruptedError:
            pass
        return stream


Way = Callable[[ProviderSetup], Awaitable[list[ReportedUtterance]]]


async def down(setup: ProviderSetup) -> list[ReportedUtterance]:
    setup.first.error = DOWN
    return [await setup.synthesize(), await setup.stream()]


async def circuit_open(setup: ProviderSetup) -> list[ReportedUtterance]:
    setup.tts.circuits["first"].force_open()
    return [await setup.synthesize(), await setup.stream()]


async def out_of_credit(setup: ProviderSetup) -> list[ReportedUtterance]:
    setup.first.error = TTSQuotaExceededError("no credit", status=401)
    return [await setup.synthesize(), await setup.stream()]


async def hanging(setup: ProviderSetup) -> list[ReportedUtterance]:
    setup.first.pause = 1000.0
    return [await setup.synthesize(), await setup.stream()]


async def probed(setup: ProviderSetup) -> list[ReportedUtterance]:
    setup.first.error = DOWN
    for _ in range(4):
        await setup.synthesize()
    await asyncio.sleep(61)
    return [await setup.synthesize(), await setup.stream()]


async def cut_in_midstream(setup: ProviderSetup) -> list[ReportedUtterance]:
    accounts = []
    for on_midstream in ("resume", "restart", "error"):
        setup.first.faults = [Fault("cut", 0.5)] * 9
        accounts.append(await setup.stream(on_midstream=on_midstream))
        accounts.append(await setup.synthesize(on_midstream=on_midstream))
    return accounts


async def concurrency_limited(setup: ProviderSetup) -> list[ReportedUtterance]:
    setup.first.pause = setup.twin.pause = 1.9
    return list(await asyncio.gather(*(setup.synthesize(cache=False) for _ in range(4))))


async def late(setup: ProviderSetup) -> list[ReportedUtterance]:
    for _ in range(4):
        await setup.synthesize(cache=False)
    setup.first.pause = 1.5  # not so late that anybody would give up
    return [await setup.synthesize(cache=False), await setup.stream(cache=False)]


async def stored_recordings_of_others(setup: ProviderSetup) -> list[ReportedUtterance]:
    setup.first.error = setup.twin.error = DOWN
    kept = await setup.synthesize(voice_substitution="any")
    assert kept.provider not in ("first", "twin", None)
    setup.providers[0].requests.clear()
    for other in setup.others:
        other.requests.clear()
    return [await setup.synthesize(), await setup.stream(), await setup.stream(on_midstream="restart")]


async def no_provider_left(setup: ProviderSetup) -> list[ReportedUtterance]:
    setup.first.error = setup.twin.error = DOWN
    return [await setup.synthesize(), await setup.stream()]


PATHS = [
    down,
    circuit_open,
    out_of_credit,
    hanging,
    probed,
    cut_in_midstream,
    concurrency_limited,
    late,
    stored_recordings_of_others,
    no_provider_left,
]


@pytest.mark.looptime
@pytest.mark.parametrize("twin", [True, False], ids=["two accounts", "one account"])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
async def test_no_other_voice_is_heard(make_service: MakeService, tmp_path: Path, path: Way, twin: bool) -> None:
    setup = ProviderSetup(make_service, tmp_path, twin=twin)

    accounts = await path(setup)

    await setup.tts.aclose()
    heard = [(span.provider, span.voice) for account in accounts for span in account.report.spans]
    assert heard
    assert set(heard) <= {("first", "n"), ("twin", "n"), (None, None)}
    assert [other.name for other in setup.providers if other.requests] == []
    if twin and path not in (stored_recordings_of_others, no_provider_left):
        assert ("twin", "n") in heard, "the same voice, and nobody is asked to do without it"


def first_voices(*providers: Provider, **options: Any) -> list[str]:
    """Return the candidates' voices when no other voice than the first one's is allowed."""
    request = SpeechRequest("Hello", AudioFormat.parse("pcm_8000"), **options)
    speakers = [GuardedProvider(provider, TTSErrorHandler(provider.name)) for provider in providers]
    return [part.voice for part in find_candidates(request, speakers, "never").candidates]


def elevenlabs(name: str, **settings: Any) -> ElevenLabs:
    return ElevenLabs(f"sk_{name}", name=name, **settings)


def openai(name: str, **settings: Any) -> OpenAICompatible:
    return OpenAICompatible(f"sk_{name}", name=name, **settings)


def test_two_accounts_of_one_vendor_have_the_same_voices() -> None:
    one, other = elevenlabs("one"), elevenlabs("other", base_url="https://api.eu.residency.elevenlabs.io")
    assert first_voices(one, other) == [f"one/{GEORGE}", f"other/{GEORGE}"]


def test_vendors_id_decides_and_not_the_operators_name() -> None:
    one = elevenlabs("one", voices={"narrator": "nnn"})
    renamed = elevenlabs("renamed", voices={"other": Voice("x", "en"), "reader": "nnn"})
    namesake = elevenlabs("namesake", voices={"narrator": "mmm"})
    assert first_voices(one, renamed, namesake, voice="narrator") == ["one/nnn", "renamed/nnn"]


def test_openai_compatible_servers_have_different_voices() -> None:
    genuine, kokoro, spare, piper = (
        openai("genuine"),
        openai("kokoro", base_url="http://kokoro-1:8880", model="kokoro"),
        openai("spare", base_url="http://kokoro-2:8880", model="kokoro"),
        openai("piper", base_url="http://piper:8000", model="piper"),
    )
    alias = openai("alias", base_url="http://kokoro-1:8880")  # which takes its models for OpenAI's, too
    assert alias.model == genuine.model
    assert first_voices(genuine, alias, kokoro, spare, piper) == ["genuine/alloy"]
    assert first_voices(kokoro, genuine, spare, piper) == ["kokoro/alloy", "spare/alloy"]


@pytest.mark.skipif(not is_installed(), reason="espeakng-loader is not installed")
def test_espeak_at_another_pitch_is_another_voice() -> None:
    low, high, again = Espeak(name="low", pitch=20), Espeak(name="high"), Espeak(name="again", pitch=20)
    assert first_voices(low, high, again) == ["low/en-us", "again/en-us"]
