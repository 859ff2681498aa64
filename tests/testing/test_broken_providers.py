"""Conformance kit against providers that are broken on purpose: each fails one check, with a sentence about it."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import urllib.request
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from steadyvoice.providers.base import Accepted, AudioChunk, SynthesisOffer
from steadyvoice.providers.http.client import PreparedHTTPRequest
from steadyvoice.providers.http.response_decoders import LineAudioDecoder, align_words
from steadyvoice.providers.tone import Tone
from steadyvoice.providers.vendor import VendorProvider, utc_now
from steadyvoice.providers.voices import choose_voice
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSConfigurationError, TTSError, TTSInvalidKeyError, TTSServerError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.testing import (
    ConformanceError,
    ProviderCheck,
    Speak,
    VendorRequest,
    VendorResponse,
    local_provider_checks,
    vendor_provider_checks,
)
from steadyvoice.testing.vendor_server import fake_speech
from steadyvoice.wire.error_table import ErrorTable
from steadyvoice.wire.openai.errors import parse_error

Events = AsyncGenerator[Accepted | AudioChunk, None]


def respond(request: VendorRequest, speak: Speak) -> VendorResponse:
    speech = speak(request.json["text"], request.json.get("format", "pcm_16000"))
    return VendorResponse(speech.audio, content_type="audio/pcm")


class PlainVoice(VendorProvider):
    """Conforming provider of a vendor of one format, from which the broken ones are made."""

    def __init__(self, url: str) -> None:
        super().__init__(
            name="plain",
            base_url=url,
            endpoints="",
            model="m",
            voices=None,
            default_voice="v",
            parse_error=parse_error,
            wall_clock=utc_now,
        )
        key = "conformance-key"
        self._use_account(key, "host", {"x-api-key": key}, max_concurrency=None, proxy=None, trust_env=True)

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        choice = choose_voice(request, self.voices, "plain", provider=self.name)
        return SynthesisOffer(AudioFormat.parse("pcm_16000"), choice.voice.id, knows_voice=choice.known)

    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedHTTPRequest:
        return self._http.prepare("/speak", {"voice": offer.voice}, text="text", accepted=lambda _: Accepted())


class WrongFormat(PlainVoice):
    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        return replace(super().offer(request), format=AudioFormat.parse("mp3_44100_128"))


class WrongRate(PlainVoice):
    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        return replace(super().offer(request), format=AudioFormat.parse("pcm_24000"))


class ConnectsToOffer(PlainVoice):
    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        urllib.request.urlopen(urllib.request.Request(f"{self.base_url}/voices", b'{"text": "Hello"}')).close()
        return super().offer(request)


class KnowsEveryVoice(PlainVoice):
    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        return replace(super().offer(request), knows_voice=True)


class WithoutAcceptance(PlainVoice):
    async def speak(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> Events:
        async for event in super().speak(request, offer, connection_timeout=connection_timeout):
            if isinstance(event, AudioChunk):
                yield event


class Shortened(PlainVoice):
    async def speak(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> Events:
        shorter = request.with_text(request.text[:20])
        async for event in super().speak(shorter, offer, connection_timeout=connection_timeout):
            yield event


class Truncating(PlainVoice):
    async def speak(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> Events:
        size = 0
        async for event in super().speak(request, offer, connection_timeout=connection_timeout):
            size += len(event.data) if isinstance(event, AudioChunk) else 0
            if size < 40_000:
                yield event


class WithTimes(PlainVoice):
    """Provider with times that come from a function of the text."""

    times: Callable[[str], Alignment] = staticmethod(lambda text: Alignment.spread(text, 3.0))

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        return replace(super().offer(request), timed=True)

    async def speak(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> Events:
        async for event in super().speak(request, offer, connection_timeout=connection_timeout):
            yield event
        yield AudioChunk(b"", type(self).times(request.text))


def tones_of(text: str) -> Alignment:
    """Return the times of the fake vendor's own speech."""
    return fake_speech(text, AudioFormat.parse("pcm_16000")).alignment


def by_word(change: Callable[[float], float]) -> Callable[[str], Alignment]:
    """Return times of words that are the vendor's after a change."""

    def times(text: str) -> Alignment:
        words = tones_of(text).words()
        aligned = align_words(
            [word.text for word in words], [change(word.start) for word in words], [change(word.stop) for word in words]
        )
        assert aligned
        return aligned

    return times


class ByWord(WithTimes):
    times = staticmethod(by_word(lambda second: second))


class AtOneTime(WithTimes):
    times = staticmethod(by_word(lambda _: 1.5))


class Halved(WithTimes):
    times = staticmethod(by_word(lambda second: second / 2))


class OfEachLine(WithTimes):
    times = staticmethod(by_word(lambda second: second % 1.0))


class BlankBehindLastWord(WithTimes):
    @staticmethod
    def times(text: str) -> Alignment:
        words = tones_of(text).words()
        return Alignment(
            tuple(f"{word.text} " for word in words),
            tuple(word.start for word in words),
            tuple(word.stop for word in words),
        )


class UntimedWithTimes(ByWord):
    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        return replace(super().offer(request), timed=False)


class IgnoresVoice(PlainVoice):
    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedHTTPRequest:
        return super().prepare(request, replace(offer, voice=""))

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        return replace(super().offer(request), voice="voice-of-the-offer")


class IgnoresSpeed(PlainVoice):
    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        return self.offer_in(request, [AudioFormat.parse("pcm_16000")], dialect="plain", speeds=(0.5, 2.0))


class SendsSpeed(IgnoresSpeed):
    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedHTTPRequest:
        body = {"voice": offer.voice, "speed": request.speed}
        return self._http.prepare("/speak", body, text="text", accepted=lambda _: Accepted())


class WithoutTimes(WithTimes):
    times = staticmethod(lambda _: Alignment())


class InMilliseconds(WithTimes):
    times = staticmethod(lambda text: Alignment.spread(text, 3000.0))


class Backwards(WithTimes):
    times = staticmethod(
        lambda text: Alignment(tuple(text), tuple(range(len(text), 0, -1)), tuple(range(len(text), 0, -1)))
    )


class OtherWords(WithTimes):
    times = staticmethod(lambda text: Alignment.spread(text[: len(text) // 2], 3.0))


class Retrying(PlainVoice):
    async def speak(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> Events:
        for attempt in itertools.count():
            try:
                async for event in super().speak(request, offer, connection_timeout=connection_timeout):
                    yield event
                return
            except TTSServerError:
                if attempt:
                    raise


class WithoutRetryAfter(PlainVoice):
    def _error_of(self, status: int, headers: Mapping[str, str], body: bytes) -> TTSError:
        return super()._error_of(status, {}, body)


class Careless(PlainVoice):
    """Provider that passes on any response as audio, and whatever else is raised."""

    def _error_of(self, status: int, headers: Mapping[str, str], body: bytes) -> TTSError:
        raise KeyError(status)


class Forgiving(PlainVoice):
    """Provider that takes the audio up to a break of the connection for all of it."""

    async def speak(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> Events:
        try:
            async for event in super().speak(request, offer, connection_timeout=connection_timeout):
                yield event
        except OSError:
            raise
        except TTSError:
            return


class Indiscreet(PlainVoice):
    def _error_of(self, status: int, headers: Mapping[str, str], body: bytes) -> TTSError:
        error = super()._error_of(status, headers, body)
        error.message = body.decode()
        return type(error)(body.decode())


class Blocking(PlainVoice):
    """Provider that uses a synchronous client on the event loop."""

    async def speak(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> Events:
        body = json.dumps({"text": request.text}).encode()
        with urllib.request.urlopen(urllib.request.Request(self.base_url, body)) as response:  # noqa: ASYNC210
            yield Accepted()
            yield AudioChunk(response.read())


class Uncancellable(PlainVoice):
    async def speak(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> Events:
        try:
            async for event in super().speak(request, offer, connection_timeout=connection_timeout):
                yield event
        except asyncio.CancelledError:
            return


class KeepsReading(PlainVoice):
    """Provider whose requests are read by a task of their own, whoever listens."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.readers: list[asyncio.Task[None]] = []

    async def speak(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> Events:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        events = super().speak(request, offer, connection_timeout=connection_timeout)

        async def read() -> None:
            try:
                async for event in events:
                    queue.put_nowait(event)
            except TTSError as error:
                queue.put_nowait(error)
            queue.put_nowait(None)

        self.readers.append(asyncio.create_task(read()))
        while event := await queue.get():
            if isinstance(event, TTSError):
                raise event
            yield event


class LeavesThreads(PlainVoice):
    async def speak(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> Events:
        threading.Thread(target=threading.Event().wait, args=(8.0,), daemon=True, name="poller").start()
        async for event in super().speak(request, offer, connection_timeout=connection_timeout):
            yield event


class LeavesCycles(PlainVoice):
    async def speak(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> Events:
        kept: list[Any] = [offer]
        kept.append(kept)
        async with aclosing(super().speak(request, replace(offer), connection_timeout=connection_timeout)) as events:
            async for event in events:
                kept.append(event)
                yield event


class LeavesGenerators(PlainVoice):
    async def speak(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> Events:
        async for event in super().speak(request, offer, connection_timeout=connection_timeout):
            yield event


class OnOneLoop(PlainVoice):
    """Provider that is bound to the event loop of its first request."""

    loop: asyncio.AbstractEventLoop | None = None

    async def speak(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> Events:
        self.loop = self.loop or asyncio.get_running_loop()
        if self.loop is not asyncio.get_running_loop():
            raise RuntimeError("attached to a different loop")
        async for event in super().speak(request, offer, connection_timeout=connection_timeout):
            yield event


class IgnoresTimeouts(PlainVoice):
    """Provider that ignores the connection timeout."""

    def speak(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> Events:
        return super().speak(request, offer, connection_timeout=600.0)


BROKEN = [
    (WrongFormat, "formats", "offered mp3_44100_128 and sent something that is not .* It should offer the format that"),
    (
        WrongRate,
        "formats",
        "offered pcm_24000 and had the vendor speak pcm_16000. It should order the format it offers",
    ),
    (ConnectsToOffer, "offer", "connected to the vendor for an offer. It should make offers without I/O"),
    (KnowsEveryVoice, "offer", "a voice that it does not have, with knows_voice=True. It should offer a substitute"),
    (WithoutAcceptance, "events", "yielded audio before Accepted. It should yield one Accepted"),
    (Shortened, "any text", r"had the vendor speak .* for .* It should send the text unchanged"),
    (Truncating, "formats", "where the vendor spoke .* It should yield all of the audio once"),
    (WithoutTimes, "word times", "offered timed=True and yielded no alignment. It should yield AudioChunks with"),
    (InMilliseconds, "word times", "yielded times from 0.00 s to 3000.00 s .* It should count in seconds"),
    (Backwards, "word times", "yielded times that go back. It should yield starts that ascend"),
    (OtherWords, "word times", "yielded times for .* where the text is .* It should align every character"),
    (WithTimes, "word times", "says that .* ends at .* where the vendor says .* It should map the vendor's times"),
    (AtOneTime, "word times", r"says that .* at 1.50 s where the vendor says .* It should map the vendor's times"),
    (Halved, "word times", "says that .* ends at .* where the vendor says .* It should map the vendor's times"),
    (OfEachLine, "word times", "yielded times that go back|counts? .* not of each|where the vendor says"),
    (BlankBehindLastWord, "word times", "that do not spell the text to its end, .* It should align the characters"),
    (UntimedWithTimes, "word times", "offered timed=False and yielded times of words. It should offer timed=True"),
    (IgnoresVoice, "voice and speed", "offered the voice 'voice-of-the-offer' and did not send it. It should send"),
    (IgnoresSpeed, "voice and speed", "declares speeds and sent the same request for speed=1.2 .* It should send"),
    (Retrying, "error: 500", "sent 2 requests when the vendor answers with HTTP 500. It should leave retries to"),
    (WithoutRetryAfter, "error: 429", "with retry_after=None .* It should pass the seconds on, 7 here"),
    (Careless, "error: 402", r"raised KeyError \(402\) when .* HTTP 402. It should raise TTSQuotaExceededError"),
    (
        Careless,
        "error: a web page",
        r"raised KeyError \(200\) when the vendor answers with a web page. It should raise",
    ),
    (Forgiving, "error: an empty body", "ended as if all was well, with 0 bytes of audio, when .* an empty body"),
    (
        Forgiving,
        "broken answers",
        "ended as if all was well, with .* when the connection breaks before the body. It should raise",
    ),
    (Indiscreet, "secrets", "repeats the key in an error's message or body. It should remove it"),
    pytest.param(
        Blocking,
        "event loop",
        "blocks the event loop while it waits for its answer. It should use an asynchronous",
        marks=pytest.mark.slow,
    ),
    (Uncancellable, "cancellation", "ended as if all was well when it was cancelled .* It should pass CancelledError"),
    pytest.param(
        KeepsReading,
        "cancellation",
        "left a connection to the vendor open after a request that was cancelled",
        marks=pytest.mark.slow,
    ),
    (KeepsReading, "slow consumer", r"read \d+ MiB while its consumer took one chunk. It should stop to read"),
    pytest.param(
        LeavesThreads,
        "leaks",
        r"left \d+ threads \(poller\) behind .* It should end and close whatever",
        marks=pytest.mark.slow,
    ),
    (LeavesCycles, "leaks", r"left objects in reference cycles \(.*SynthesisOffer"),
    (LeavesGenerators, "leaks", r"left asynchronous generators unfinished \(VendorProvider.speak\). It should close"),
    (OnOneLoop, "use after aclose", "raised RuntimeError .* on a second event loop. It should hold connections"),
    pytest.param(
        IgnoresTimeouts,
        "connecting",
        "hung when the vendor's host does not answer for connection_timeout=0.3 s. It should raise",
        marks=pytest.mark.slow,
    ),
]


def check_named(name: str, make: Callable[[str], VendorProvider]) -> ProviderCheck:
    return next(check for check in vendor_provider_checks(make, respond) if check.name == name)


@pytest.mark.parametrize(("kind", "name"), [(ByWord, "word times"), (SendsSpeed, "voice and speed")])
def test_provider_of_times_or_speeds_conforms(kind: type[PlainVoice], name: str) -> None:
    check_named(name, kind)()


@pytest.mark.parametrize("check", vendor_provider_checks(PlainVoice, respond), ids=str)
def test_plain_provider_conforms(check: ProviderCheck) -> None:
    check()


@pytest.mark.parametrize(("kind", "name", "sentence"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_broken_provider_fails_with_a_sentence(kind: type[PlainVoice], name: str, sentence: str) -> None:
    with pytest.raises(ConformanceError, match=sentence) as caught:
        check_named(name, kind)()
    assert str(caught.value).startswith("The provider ")


def test_mistake_of_the_fake_vendor_is_not_blamed_on_the_provider() -> None:
    def mistaken(request: VendorRequest, speak: Speak) -> VendorResponse:
        raise LookupError("no such field")

    for name in ("events", "error: 500"):
        check = next(check for check in vendor_provider_checks(PlainVoice, mistaken) if check.name == name)
        with pytest.raises(LookupError, match="no such field") as caught:
            check()
        assert caught.value.__suppress_context__  # nothing else is shown above it


class SilentTone(Tone):
    """Local provider that says nothing for most of the text."""

    async def speak(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> Events:
        async for event in super().speak(request.with_text("Oh"), offer, connection_timeout=connection_timeout):
            yield event


def test_local_provider_that_drops_words_fails() -> None:
    (speech,) = [check for check in local_provider_checks(SilentTone) if check.name == "speech"]
    with pytest.raises(ConformanceError, match=r"yielded .* for \d+ characters. It should speak all of the text"):
        speech()


def test_errors_of_the_vendor_are_checked_by_their_own_names() -> None:
    errors = {"no_money": (VendorResponse.of_json({"error": {"code": "no_money"}}, 400), TTSServerError)}
    checks = vendor_provider_checks(PlainVoice, respond, errors=errors)
    (check,) = [check for check in checks if "no_money" in check.name]
    with pytest.raises(ConformanceError, match=r"its error 'no_money'\. It should raise TTSServerError"):
        check()


def test_code_of_the_vendors_error_has_to_be_read() -> None:
    response = VendorResponse.of_json({"fault": {"id": "key.invalid", "explain": "No such key."}}, 401)
    checks = vendor_provider_checks(PlainVoice, respond, errors={"key": (response, TTSInvalidKeyError)})
    (check,) = [check for check in checks if check.name == "error of the vendor: key"]
    with pytest.raises(ConformanceError, match=r"without a code when .* which has 'key.invalid'\. It should read"):
        check()


class DecoderItself(PlainVoice):
    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedHTTPRequest:
        decoder: Any = LineAudioDecoder(lambda _: None, provider="plain")
        return self._http.prepare("/speak", {}, accepted=lambda _: Accepted(), decoder=decoder)


def test_decoder_in_place_of_a_function_is_refused() -> None:
    with pytest.raises(ConformanceError, match=r"decoder: must be a function .* such as lambda \*_: LineAudioDecoder"):
        check_named("events", DecoderItself)()


@pytest.mark.parametrize("mistaken", [ErrorTable, ErrorTable(codes={})])
def test_table_in_place_of_its_parser_is_refused(mistaken: Any) -> None:
    class WithTable(VendorProvider):
        offer = prepare = None  # type: ignore[assignment]

        def __init__(self) -> None:
            super().__init__(
                name="v",
                base_url="http://127.0.0.1:9",
                endpoints="",
                model="m",
                voices=None,
                default_voice="d",
                parse_error=mistaken,
                wall_clock=utc_now,
            )

    with pytest.raises(TTSConfigurationError, match=r"such as ERRORS\.parse of an ErrorTable, got ErrorTable"):
        WithTable()
