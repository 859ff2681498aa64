"""What a provider is. Whoever implements this Protocol and names it in the entry point group
`steadyvoice.providers` can be used by its kind in the configuration file.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.markup import Markup
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.voice import Voice


@dataclass(frozen=True, slots=True)
class SynthesisOffer:
    """How a provider would speak a request, settled before anything is spent."""

    format: AudioFormat  # of the audio it will send; the asked one where it can
    voice: str  # its own id for the voice
    model: str | None = None
    max_characters: int | None = None  # in one request; longer texts come in pieces
    knows_voice: bool = True  # False: another stands in, or the name is passed on as it is and may mean nothing
    timed: bool = False  # each character's times come with the audio; without, a stream is held back by the sentence
    scripts: frozenset[str] | None = None  # that it reads, by their Unicode names; None: not known. None of them: tones
    source: str = field(default="", repr=False)  # what else decides how it sounds: which server, its own settings
    declared: Voice | None = None  # what is said of that voice: whoever stands in for it is made like it
    speed: float | None = None  # that makes it as fast as `request.like`; None: the request's own
    gain: float = 1.0  # the factor that makes it as loud as `request.like`
    for_any_text: bool = False  # it is the same whatever the text is: who asks often need not ask again
    streams: bool = True  # False: it makes all of the audio before it sends any, which takes time for each character
    timbre: str = ""  # what else makes it the same voice as that of another provider of this class and with this id
    markup: Markup = Markup.NONE  # that it performs; of a text with other markup, it gets the words


@dataclass(frozen=True, slots=True)
class Accepted:
    """The vendor took the request. From here on it may be billed."""

    request_id: str | None = None
    characters_billed: float | None = None
    concurrent_requests: int | None = None  # in flight on this account, the vendor says
    concurrency_limit: int | None = None
    dialect: str | None = field(default=None, compare=False)  # whose clients can go on from `request_id`


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """Some bytes of audio in the offered format, cut anywhere; with times, when the vendor sends them.

    The alignment counts seconds from the beginning of this request's audio. `normalized` is that of the text as it is
    spoken ("$5" is "five dollars"), from a vendor that sends both.
    """

    data: bytes
    alignment: Alignment | None = None
    normalized: Alignment | None = None


@dataclass(frozen=True, slots=True)
class Credential:
    """Whose account is used. Providers with the same `id` share its limits and its holds; an id tells no secret.

    `at_once` requests may surely run together before the vendor has told its limit; never more than `most`, whatever it
    tells. None: any number. `mark` tells it again in another process, to whoever brings the same salt.
    """

    id: str
    initial_concurrency: int | None = None
    max_concurrency: int | None = None
    fingerprint: Callable[[bytes], str] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Credit:
    """What an account may still spend, in characters as the vendor counts them. No `remaining`: it has no limit."""

    remaining: int | None
    resets_at: datetime | None = None  # UTC; when there will be new credit


@dataclass(frozen=True, slots=True)
class Queued(AudioChunk):
    """No audio, but whether the request waits for its turn at an engine of ours that serves other callers as well.

    While it does, the provider answers for none of the time; only the deadline of the utterance goes on.
    """

    data: bytes = b""
    waits: bool = False


class Provider(Protocol):
    """Something that turns text into audio."""

    @property
    def name(self) -> str:
        """Its name in configuration, logs and errors; its circuit has the same."""
        ...

    @property
    def local(self) -> bool:
        """Whether it speaks without a network: always worth a try, whatever the deadline says."""
        ...

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Say how it would speak this, without I/O.

        Raises a TTSRequestError when it cannot: TTSVoiceUnknownError, TTSUnsupportedFormatError, ...
        """
        ...

    def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """Speak: one `Accepted` first, then `Audio` until the end; `Queued` as often as it begins and ends to wait.

        Raises TTSError of the fitting kind; a `connection_timeout` in seconds bounds connecting, all other
        clocks are the service's, which closes the generator when one runs out. The request's text fits the
        offer's `max_characters` and is not empty.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections and child processes. It may be used again afterwards."""
        ...


ByteSink = Callable[[bytes], bool]
"""Takes bytes at once, all of them, or tells that it does not. What it raises, whoever waits for them gets to hear."""


class AudioResponse(Protocol):
    """A vendor's yes, and the bytes that follow it. `read` and `take` raise TTSError."""

    @property
    def accepted(self) -> Accepted:
        """What the vendor told of the request."""
        ...

    async def read(self, sink: ByteSink | None = None) -> bytes:
        """The next bytes, b"" at the end. What comes meanwhile may go to `sink` instead, as long as it takes it."""
        ...

    def read_nowait(self) -> bytes | None:
        """The same, if there is anything to be told without a wait; else None."""
        ...

    def close(self) -> None:
        """Nobody wants the rest of it."""
        ...


class PreparedRequest(Protocol):
    """A request that lacks nothing but its text."""

    async def send(self, text: str, *, connection_timeout: float) -> AudioResponse:
        """Send it; returns when the vendor has accepted it. Raises TTSError."""
        ...


@runtime_checkable
class SupportsPrepare(Protocol):
    """A provider whose audio may come as plain bytes, of which nothing has to be read but themselves."""

    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedRequest | None:
        """Make a request ready, for any text; None when more than bytes will come. Raises TTSRequestError."""
        ...


@runtime_checkable
class HasCredential(Protocol):
    """A provider that may say whose account it uses. One that does not has an account of its own."""

    @property
    def credential(self) -> Credential:
        """The account, without I/O."""
        ...


@runtime_checkable
class HasQueue(Protocol):
    """A provider with an engine on this machine, at which requests wait for their turn."""

    @property
    def queue_wait(self) -> float:
        """Seconds for which the request that is next has waited; 0.0 when none waits."""
        ...


@runtime_checkable
class HasTimeouts(Protocol):
    """A provider of a kind that is slower, or quicker, than vendors as a rule."""

    @property
    def timeouts(self) -> Mapping[str, float]:
        """Seconds for `first_audio_timeout` and `stall_timeout`, where the configuration says nothing of either."""
        ...


@runtime_checkable
class ReportsCredit(Protocol):
    """A provider that can be asked, free of charge, what its account may still spend."""

    async def credit(self) -> Credit:
        """Ask. Raises TTSError, which counts against nobody."""
        ...
