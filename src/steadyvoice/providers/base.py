"""Provider protocol, its optional extensions, and the values that pass between providers and the service.

A class that implements `Provider`, and that a package names in the entry point group `steadyvoice.providers`, can be
used by its kind in the configuration file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

import msgspec

from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.markup import Markup
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.voice import Voice


@dataclass(slots=True, eq=False)
class OfferBasis:
    """Fact on which offers rest and that is learned in use, such as whether a server has timestamps.

    A provider that learns otherwise sets `valid` to False, and makes offers on a new basis.
    """

    valid: bool = True


@dataclass(frozen=True, slots=True)
class SynthesisOffer:
    """Description of how a provider would speak a request, made before anything is spent."""

    format: AudioFormat  # of the audio that it will send; the requested format where it can
    voice: str  # the provider's own id of the voice
    model: str | None = None  # the provider's own name of the model
    max_characters: int | None = None  # characters in one request; longer texts are split
    knows_voice: bool = True  # False: another voice stands in, or the name is passed on and may mean nothing
    timed: bool = False  # each character's time comes with the audio; without, a stream is held back by the sentence
    scripts: frozenset[str] | None = None  # that it can read, by Unicode name; None: not known; empty: only tones
    source: str = field(default="", repr=False)  # anything else that decides the sound, such as server or settings
    declared: Voice | None = None  # declared properties of the voice, which any substitute should match
    speed: float | None = None  # that makes it as fast as `request.like`; None: the request's own
    gain: float = 1.0  # factor that makes it as loud as `request.like`
    for_any_text: bool = False  # the offer does not depend on the text, and may be reused for another one
    for_latin_text: bool = False  # it is the same for all texts in ASCII that have letters
    streams: bool = True  # False: all audio is generated before any is sent, which takes time for each character
    timbre: str = ""  # distinguishes voices of equal id at providers of the same class
    markup: Markup = Markup.NONE  # kinds of markup that it performs; other markup is removed from the text
    basis: OfferBasis | None = field(default=None, repr=False, compare=False)  # reused only as long as this is valid


@dataclass(frozen=True, slots=True)
class Accepted:
    """Event: the vendor accepted the request. From here on it may be billed."""

    request_id: str | None = None  # the vendor's id of the request
    characters_billed: float | None = None  # characters, as the vendor bills them
    concurrent_requests: int | None = None  # requests running on this account, by the vendor's count
    concurrency_limit: int | None = None  # requests that the account may run at once, as the vendor states it
    dialect: str | None = field(default=None, compare=False)  # of the clients that can continue from `request_id`


# A msgspec structure and no dataclass: one is made for each chunk of a stream, without a Python call.
class AudioChunk(msgspec.Struct, frozen=True):
    """Event: some bytes of audio in the offered format, split anywhere, with timestamps if the vendor sends them.

    `alignment` counts seconds from the beginning of this request's audio. `normalized` is the alignment of the text as
    it is spoken ("$5" is "five dollars"), from a vendor that sends both.
    """

    data: bytes  # bytes in the format of the offer
    alignment: Alignment | None = None
    normalized: Alignment | None = None


@dataclass(frozen=True, slots=True)
class Credential:
    """Account that a provider uses. Providers with the same `id` share its limits and its holds.

    - `id`: reveals nothing of the key.
    - `initial_concurrency`: requests that may run at once before the vendor has reported its limit; None: any number.
    - `max_concurrency`: requests that may run at once whatever the vendor reports; None: no limit.
    - `fingerprint`: function of a salt that identifies the account in another process with the same salt.
    """

    id: str
    initial_concurrency: int | None = None
    max_concurrency: int | None = None
    fingerprint: Callable[[bytes], str] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Credit:
    """Credit left on an account, in characters as the vendor counts them. `remaining` is None without a limit."""

    remaining: int | None
    resets_at: datetime | None = None  # UTC; when the credit is renewed


class Queued(AudioChunk, frozen=True):
    """Event without audio: the request starts (`waits`) or stops to wait in the queue of a local engine.

    While it waits, no timeout of the provider runs; only the deadline of the utterance does.
    """

    data: bytes = b""
    waits: bool = False


class Provider(Protocol):
    """Engine or vendor that turns text into audio."""

    @property
    def name(self) -> str:
        """Name in configuration, logs and errors, and of the provider's circuit."""
        ...

    @property
    def local(self) -> bool:
        """True if it works without a network. Local providers are tried even after the deadline."""
        ...

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Return how the provider would speak this, without I/O.

        Raises a TTSRequestError when it cannot: TTSVoiceUnknownError, TTSUnsupportedFormatError, ...
        """
        ...

    def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """Yield one `Accepted`, then `AudioChunk`s until the end, and `Queued` at both ends of any wait in a queue.

        `connection_timeout`, in seconds, bounds connecting. All other timeouts are the service's, which closes the
        generator when one expires. The request's text is not empty and fits the offer's `max_characters`. Raises the
        fitting TTSError.
        """
        ...

    async def aclose(self) -> None:
        """Close connections and child processes. The provider can be used again afterwards."""
        ...


ByteSink = Callable[[bytes], bool]
"""Function that consumes all of the bytes and returns True, or none of them and returns False.

An exception that it raises is raised again by the `read` that waits for these bytes.
"""


class AudioDecoder(Protocol):
    """Decoder of a response that packs its audio, such as into JSON lines with timestamps.

    Each method returns the chunks that it completes. `error` is what is wrong behind the last of them.
    """

    error: TTSError | None

    @property
    def is_between_chunks(self) -> bool:
        """True if the response may end here: nothing of a chunk is held that is not complete."""
        ...

    def feed(self, data: bytes) -> Sequence[AudioChunk]:
        """Add the next bytes of the response."""
        ...

    def finish(self) -> Sequence[AudioChunk]:
        """End the response."""
        ...


class AudioResponse(Protocol):
    """Accepted request, and the bytes of audio that follow. `read` and `read_nowait` raise TTSError."""

    @property
    def accepted(self) -> Accepted:
        """Data that came with the vendor's acceptance."""
        ...

    decoder: AudioDecoder | None
    """Decoder of the bytes; None if they are the audio itself."""

    async def read(self, sink: ByteSink | None = None) -> bytes:
        """Return the next bytes, b"" at the end. Bytes that come during the wait go to `sink` while it takes them."""
        ...

    def read_nowait(self) -> bytes | None:
        """Return the next bytes, b"" at the end, or None if that would need a wait."""
        ...

    def close(self) -> None:
        """Abandon the rest of the response."""
        ...


class StartedRequest(Protocol):
    """Request that was sent without waiting for its response."""

    async def response(self, *, connection_timeout: float) -> AudioResponse:
        """Wait until the vendor has accepted it, or another request that is sent instead. Raises TTSError."""
        ...

    def close(self) -> None:
        """Abandon the response."""
        ...


class PreparedRequest(Protocol):
    """Request that is complete but for its text."""

    @property
    def is_packed(self) -> bool:
        """True if the response packs its audio, in JSON or server-sent events: its decoder is set.

        Where it is missing, only the response to a `timed` offer is.
        """
        ...

    async def send(self, text: str, *, connection_timeout: float) -> AudioResponse:
        """Send the request and return once the vendor has accepted it. Raises TTSError."""
        ...


@runtime_checkable
class SupportsPrepare(Protocol):
    """Extension: a provider whose responses can be read without a task that wakes for each chunk.

    The response to a request that is not packed is the audio itself. A request for a `timed` offer is always packed.
    """

    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedRequest | None:
        """Return a request for any text; None if its response cannot be read like that. Raises TTSRequestError."""
        ...


@runtime_checkable
class HasCredential(Protocol):
    """Extension: a provider that names its account. Any other provider has an account of its own."""

    @property
    def credential(self) -> Credential:
        """Account that the provider uses. No I/O."""
        ...


@runtime_checkable
class HasQueue(Protocol):
    """Extension: a provider with a local engine in front of which requests queue."""

    @property
    def queue_wait(self) -> float:
        """Seconds for which the next request in the queue has waited; 0.0 when the queue is empty."""
        ...


@runtime_checkable
class SupportsWarmUp(Protocol):
    """Extension: a provider with a local engine that takes a while to start."""

    def warm_up(self) -> None:
        """Start the engine in the background. Returns at once; may be called several times."""
        ...


@runtime_checkable
class HasTimeouts(Protocol):
    """Extension: a provider that is slower, or faster, than vendors usually are."""

    @property
    def timeouts(self) -> Mapping[str, float]:
        """Defaults in seconds for `first_audio_timeout` and `stall_timeout`, which the configuration overrides."""
        ...


@runtime_checkable
class ReportsCredit(Protocol):
    """Extension: a provider whose account can be queried for its credit, free of charge."""

    async def credit(self) -> Credit:
        """Query the credit. Raises TTSError, which is not counted as a failure of the provider."""
        ...


@runtime_checkable
class SupportsKeyCheck(Protocol):
    """Extension: a provider whose key, token and region can be checked without anything being billed."""

    async def check_key(self) -> bool:
        """Ask the vendor, in a request that is free of charge, whether it accepts the key.

        Returns False where the vendor or server has no such request: nothing is known then. Raises TTSError:
        TTSInvalidKeyError for a key, token or region that is refused, and no failure of the provider is counted. Its
        caller bounds the time that it takes.
        """
        ...


@runtime_checkable
class SupportsVoiceCheck(Protocol):
    """Extension: a provider whose voices can be looked up without anything being billed."""

    async def find_missing_voices(self) -> Sequence[str] | None:
        """Return the callers' names of the voices that do not exist for this key, in requests that are free of charge.

        None where the vendor or server has no such request: nothing is known then. Raises TTSError, of which no failure
        of the provider is counted. Its caller bounds the time that it takes.
        """
        ...


class TextStreamingUnsupportedError(Exception):
    """Raised by a `TextStream` whose server turns out to take finished text only.

    No failure: nothing was sent or billed, `open_text_stream` returns None from now on, and the text has to go to
    `speak`.
    """


class TextStream(Protocol):
    """Stream of one answer, whose text is sent piece by piece while its audio comes.

    Iteration yields one `Accepted` when the first text has gone out, then `AudioChunk`s, and ends when all text was
    spoken and `finish` was called. Their alignments count seconds from the beginning of this stream; their characters
    are those of the text as it was sent, in order, perhaps without white space at the ends. Raises TTSError: several
    streams that end by the failure of one connection have the same `shared_cause`. Raises
    TextStreamingUnsupportedError, too. Without a reader, at most half a minute of audio is buffered: then no more text
    is sent until some of it was read.
    """

    @property
    def expects_audio(self) -> bool:
        """True if the vendor owes audio: it has enough text and no audio for a part of it has come.

        The timeouts for first audio and stalls run only while it is True: a vendor that waits for text is not slow.
        """
        ...

    @property
    def characters_sent(self) -> int:
        """Characters that went to the vendor, and may be billed."""
        ...

    @property
    def released(self) -> asyncio.Future[None]:
        """Future that is done once the vendor has ended the generation: a concurrency slot is held until then.

        After `close` this may take a while: the vendor finishes what was flushed, until its connection is closed.
        """
        ...

    def send(self, text: str) -> None:
        """Send the next text. Returns at once; an error comes out of the iteration."""
        ...

    def flush(self) -> None:
        """Have all text so far spoken without waiting for more. Returns at once."""
        ...

    def finish(self) -> None:
        """Have all text spoken, and end the iteration behind it. Returns at once; no text may follow."""
        ...

    def close(self) -> None:
        """Abandon the rest. Returns at once; may be called several times, and after the end."""
        ...

    def __aiter__(self) -> AsyncIterator[Accepted | AudioChunk]: ...

    async def __anext__(self) -> Accepted | AudioChunk: ...


@runtime_checkable
class SupportsTextStreaming(Protocol):
    """Extension: a provider that takes text while it is being written."""

    def open_text_stream(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> TextStream | None:
        """Return a stream for one answer, without I/O; the request's own text is not used.

        None if the server, the model or the offered format takes finished text only. The stream belongs to the running
        event loop. `connection_timeout`, in seconds, bounds connecting, which begins with the first text. Raises
        TTSBadRequestError.
        """
        ...

    async def prewarm(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> None:
        """Open the connection that `open_text_stream` would use, unless an open one has room. Raises TTSError."""
        ...


CHUNK_SIZE = 32 * 1024
"""Bytes that are handed on at once. Each is decompressed, scanned and copied, so that the work between two iterations
of the loop, a chunk and at most one more, stays below 256 KiB.
"""

STEP_COST = 512
"""Bytes that a step costs besides its data: ten thousand empty lines take longer to read than their bytes do."""


class WorkBudget:
    """Cooperative scheduling: bytes that one response may process before its task yields to the event loop."""

    # A vendor that always has bytes ready never makes its reader wait, so nothing else would run: no other request, no
    # deadline, no signal handler.

    __slots__ = ("remaining",)

    def __init__(self) -> None:
        self.remaining = CHUNK_SIZE
        """Bytes left; at zero or below, yield before more work. Hot paths count this attribute down directly."""

    @property
    def exhausted(self) -> bool:
        """True if the task has to yield before more work."""
        return self.remaining <= 0

    def spend(self, size: int) -> None:
        """Subtract one step that processed `size` bytes."""
        self.remaining -= size + STEP_COST

    async def yield_to_loop(self) -> None:
        """Let the event loop run other tasks once, and reset the budget."""
        self.remaining = CHUNK_SIZE
        await asyncio.sleep(0)
