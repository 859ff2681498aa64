"""Trial of one provider: its requests, collected answers and failures, on the way to a verdict in sentences."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from steadyvoice.audio.conversion import convert
from steadyvoice.audio.validation import FormatMismatch, FormatSniffer, NotAudio
from steadyvoice.providers.base import Accepted, AudioChunk, Provider, Queued, SynthesisOffer
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSError, TTSNotAudioError
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.testing.vendor_server import FakeVendor, VendorFault

TEXT = "The first words come early, and the last ones a little later."
CONNECTION_TIMEOUT = 5.0
PATIENCE = 6.0
"""Seconds for one step. No check is about speed: a step that takes longer hangs."""

_TICK = 0.005  # seconds
_HANGS = TimeoutError()


class ConformanceError(AssertionError):
    """Failed check: a sentence that says what the provider did, and one that says what it should do.

    - `did`: what the provider did.
    - `should`: what it should do.
    """

    def __init__(self, did: str, should: str) -> None:
        super().__init__(f"The provider {did}. It should {should}.")


@dataclass(slots=True)
class Collected:
    """Events of one request."""

    request: SpeechRequest
    offer: SynthesisOffer
    accepted: list[Accepted] = field(default_factory=list)
    chunks: list[AudioChunk] = field(default_factory=list)

    @property
    def audio(self) -> bytes:
        """Audio of all chunks."""
        return b"".join(chunk.data for chunk in self.chunks)

    @property
    def alignment(self) -> Alignment:
        """Characters with their times."""
        return Alignment.joined([(0.0, chunk.alignment) for chunk in self.chunks if chunk.alignment])

    def seconds(self) -> float:
        """Decode the audio and return its length. Raises ConformanceError unless it is of the offered format."""
        offered = self.offer.format
        verdict = FormatSniffer(offered).feed(self.audio)
        if isinstance(verdict, NotAudio | FormatMismatch):
            raise ConformanceError(
                f"offered {offered.name} and sent {verdict.reason}",
                "offer the format that it sends, and send only audio",
            )
        samples = AudioFormat(Codec.PCM, offered.sample_rate)
        try:
            decoded = convert(self.audio, offered, samples)
        except TTSNotAudioError as error:
            raise ConformanceError(
                f"offered {offered.name} and sent {len(self.audio)} bytes that cannot be decoded as such ({error})",
                "offer the format that it sends, and send only audio",
            ) from error
        return len(decoded) / 2 / offered.sample_rate


@dataclass(slots=True)
class Trial:
    """Provider under test and the fake vendor that it reaches; None for a local provider."""

    provider: Provider
    vendor: FakeVendor | None
    make: Callable[[str], Provider]
    text: str = TEXT
    step: str = "starting"
    """Present step, for the message about one that hangs."""

    @property
    def fake(self) -> FakeVendor:
        """Fake vendor of a provider that has one."""
        assert self.vendor  # noqa: S101 - checks that use it are not listed for local providers
        return self.vendor

    def request(self, text: str | None = None, format: str = "pcm_24000", **fields: Any) -> SpeechRequest:
        """Return a request for the provider."""
        return SpeechRequest(self.text if text is None else text, AudioFormat.parse(format), **fields)

    async def speak(
        self,
        request: SpeechRequest | None = None,
        *,
        provider: Provider | None = None,
        connection_timeout: float = CONNECTION_TIMEOUT,
        into: list[Collected] | None = None,
    ) -> Collected:
        """Speak a request to its end and return its events; with `into`, those before an error are kept there."""
        request = request or self.request()
        provider = provider or self.provider
        collected = Collected(request, provider.offer(request))
        if into is not None:
            into.append(collected)
        events = provider.speak(request, collected.offer, connection_timeout=connection_timeout)
        async with aclosing(events):
            async for event in events:
                self._collect(event, collected)
        return collected

    def _collect(self, event: object, collected: Collected) -> None:
        match event:
            case Queued():
                pass
            case Accepted():
                collected.accepted.append(event)
            case AudioChunk():
                if not isinstance(event.data, bytes):
                    raise ConformanceError(
                        f"yielded an AudioChunk whose data is {type(event.data).__name__}", "yield bytes"
                    )
                if not collected.accepted:
                    raise ConformanceError(
                        "yielded audio before Accepted", "yield one Accepted as soon as the vendor accepts the request"
                    )
                collected.chunks.append(event)
            case _:
                raise ConformanceError(f"yielded {event!r:.80}", "yield Accepted, AudioChunk and Queued only")

    async def failure(
        self,
        case: str,
        *,
        provider: Provider | None = None,
        connection_timeout: float = CONNECTION_TIMEOUT,
        expected: tuple[type[TTSError], ...] = (TTSError,),
    ) -> TTSError:
        """Speak a request that must fail, and return the error. `case` completes "the provider ... when ..."."""
        self.step = f"failing when {case}"
        into: list[Collected] = []
        error = await self._raised(provider, connection_timeout, into)
        kinds = " or ".join(each.__name__ for each in expected)
        if isinstance(error, expected):
            return error
        if error is None:
            sent = sum(len(chunk.data) for each in into for chunk in each.chunks)
            raise ConformanceError(
                f"ended as if all was well, with {sent} bytes of audio, when {case}", f"raise {kinds}"
            )
        did = "hung" if error is _HANGS else f"raised {type(error).__name__} ({error})"
        raise ConformanceError(f"{did} when {case}", f"raise {kinds}") from error

    async def _raised(
        self, provider: Provider | None, connection_timeout: float, into: list[Collected]
    ) -> Exception | None:
        """Speak a request, and return what it raised; `_HANGS` if it does not end."""
        limit = asyncio.timeout(PATIENCE)
        try:
            async with limit:
                await self.speak(provider=provider, connection_timeout=connection_timeout, into=into)
        except ConformanceError:
            raise
        except Exception as error:
            return _HANGS if limit.expired() else error
        return None

    async def wait_until(self, condition: Callable[[], bool], did: str, should: str) -> None:
        """Wait until a condition holds. Raises ConformanceError if it does not become true."""
        if not await eventually(condition):
            raise ConformanceError(did, should)

    async def connections_closed(self, when: str) -> None:
        """Wait until the vendor sees no open connection. `when` completes "left a connection open ..."."""
        await self.wait_until(
            lambda: self.vendor is None or self.vendor.open_connections == 0,
            f"left a connection to the vendor open {when}",
            "close the connection at once when the generator is closed or cancelled: the vendor may go on billing",
        )

    @asynccontextmanager
    async def started(self, fault: VendorFault) -> AsyncIterator[asyncio.Task[Collected]]:
        """Run a request up to the point at which the fault stops it, and end it behind the body."""
        self.fake.use(fault)
        task = asyncio.create_task(self.speak())
        try:
            await eventually(lambda: self.fake.stopped or task.done())
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def eventually(condition: Callable[[], bool], within: float = PATIENCE / 2) -> bool:
    """Wait until a condition holds, and return whether it does."""
    waited = 0.0
    while not condition():
        if waited >= within:
            return False
        await asyncio.sleep(_TICK)
        waited += _TICK
    return True
