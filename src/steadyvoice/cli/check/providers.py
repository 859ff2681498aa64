"""Checks of one provider, of which none is billed: reachability, key and voices; of a local voice, a spoken word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from steadyvoice.cli.check.reachability import CHECK as REACHABILITY
from steadyvoice.cli.check.reachability import Resolver, check_reachability, resolve
from steadyvoice.cli.check.report import Finding, Verdict
from steadyvoice.providers.azure import Azure
from steadyvoice.providers.base import AudioChunk, Provider, SupportsKeyCheck, SupportsVoiceCheck
from steadyvoice.providers.google import Google
from steadyvoice.providers.polly import Polly
from steadyvoice.providers.vendor import VendorProvider
from steadyvoice.speech.errors import (
    TTSBusyError,
    TTSConcurrencyError,
    TTSCredentialError,
    TTSError,
    TTSInvalidKeyError,
    TTSQuotaExceededError,
)
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import SpeechRequest

_WORD = "Yes."
_FIRST_WORD = 15.0
"""Seconds for a local engine to start and speak a word: the neural one needs one to two on a quiet machine."""


async def check_provider(provider: Provider, *, seconds: float, resolver: Resolver = resolve) -> list[Finding]:
    """Return what was found about a provider, each step within so many seconds. The provider is closed."""
    found: list[Finding] = []
    try:
        async for finding in _findings(provider, seconds, resolver):
            found.append(finding)  # noqa: PERF401 - what was found before an error is kept
    except Exception as error:  # a plugin may raise anything
        message = f"unexpected error: {type(error).__name__}: {error}"
        found.append(Finding(provider.name, "provider", Verdict.FAILED, message, "report it to its author"))
    finally:
        await provider.aclose()
    return found


async def _findings(provider: Provider, seconds: float, resolver: Resolver) -> AsyncIterator[Finding]:
    if provider.local:
        yield await _speak_a_word(provider)
        return
    if isinstance(provider, VendorProvider):
        reached = await check_reachability(
            provider.name,
            provider.proxy or provider.base_url,
            seconds=seconds,
            through_proxy=provider.proxy is not None,
            resolver=resolver,
        )
        yield reached
        if reached.verdict is Verdict.FAILED:
            yield Finding(provider.name, "key, voices", Verdict.UNKNOWN, f"{REACHABILITY} comes first")
            return
    key = await _check_key(provider, seconds)
    yield key
    if key.verdict is Verdict.FAILED:
        yield Finding(provider.name, "voices", Verdict.UNKNOWN, "the key comes first")
    else:
        yield await _check_voices(provider, seconds)


async def _check_key(provider: Provider, seconds: float) -> Finding:
    unknown = Finding(provider.name, "key", Verdict.UNKNOWN, "the vendor or server has no request for it that is free")
    if not isinstance(provider, SupportsKeyCheck):
        return unknown
    try:
        async with asyncio.timeout(seconds):
            accepted = await provider.check_key()
    except (TTSError, TimeoutError) as error:
        return _failure(provider, "key", error, seconds)
    return Finding(provider.name, "key", Verdict.OK, "accepted by the vendor") if accepted else unknown


async def _check_voices(provider: Provider, seconds: float) -> Finding:
    unknown = Finding(
        provider.name, "voices", Verdict.UNKNOWN, "the vendor or server has no request for them that is free"
    )
    if not isinstance(provider, SupportsVoiceCheck):
        return unknown
    try:
        async with asyncio.timeout(seconds):
            missing = await provider.find_missing_voices()
    except (TTSError, TimeoutError) as error:
        return _failure(provider, "voices", error, seconds)
    if missing is None:
        return unknown
    if not missing:
        return Finding(provider.name, "voices", Verdict.OK, "all configured voices exist")
    return Finding(
        provider.name,
        "voices",
        Verdict.FAILED,
        f"no such voice for this key: {_described(provider, missing)}",
        f"correct {provider.name}.voices, or add the voice to the account",
    )


def _described(provider: Provider, names: Sequence[str]) -> str:
    voices = getattr(provider, "voices", {})
    return ", ".join(f"{name} ({voices[name].id})" if name in voices else name for name in names)


def _failure(provider: Provider, check: str, error: TTSError | TimeoutError, seconds: float) -> Finding:
    if not isinstance(error, TTSError):
        return Finding(provider.name, check, Verdict.FAILED, f"no answer within {seconds:g} s")
    if isinstance(error, TTSBusyError | TTSConcurrencyError):
        advice = "the account's limits are used up now; run the check again later"
        return Finding(provider.name, check, Verdict.WARNING, error.message, advice)
    return Finding(provider.name, check, Verdict.FAILED, error.message, _advice(provider, error))


def _advice(provider: Provider, error: TTSError) -> str:
    match error, provider:
        case TTSQuotaExceededError(), _:
            return "buy credit, or wait until it is renewed"
        case TTSCredentialError(), Google():
            return (
                "is it a key of the Gemini API? GOOGLE_API_KEY often is: the Cloud Text-to-Speech API has to be "
                "enabled for the key's project, and allowed by the key's restrictions"
            )
        case TTSInvalidKeyError(), Azure():
            return "keys belong to one region: is `region` that of the Speech resource?"
        case TTSInvalidKeyError(), Polly():
            return "has a temporary token expired, or is the region wrong? `aws sts get-caller-identity` tells"
        case TTSInvalidKeyError(), _:
            return "copy the key again from the vendor's console; expired and deleted keys look like valid ones"
        case _:
            return "the vendor answers with an error; failover covers it meanwhile"


async def _speak_a_word(provider: Provider) -> Finding:
    """Have a local voice speak."""
    size = 0
    try:
        request = SpeechRequest(_WORD, AudioFormat.parse("pcm_24000"))
        offer = provider.offer(request)
        async with (
            asyncio.timeout(_FIRST_WORD),
            aclosing(provider.speak(request, offer, connection_timeout=_FIRST_WORD)) as events,
        ):
            async for event in events:
                size += len(event.data) if isinstance(event, AudioChunk) else 0
    except TTSError as error:
        return Finding(provider.name, "local voice", Verdict.FAILED, error.message, "install its extra again")
    except TimeoutError:
        message = f"nothing spoken within {_FIRST_WORD:g} s"
        return Finding(provider.name, "local voice", Verdict.FAILED, message, "is this machine overloaded?")
    if not size:
        return Finding(provider.name, "local voice", Verdict.FAILED, "no audio", "install its extra again")
    return Finding(provider.name, "local voice", Verdict.OK, f"speaks, voice {offer.voice}")
