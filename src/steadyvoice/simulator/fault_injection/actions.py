"""Fault actions: every way in which a simulated vendor can fail, as values.

Nothing here is executed: `responses` acts on HTTP answers, `websocket.connection` on messages and `http.listener` on
connections. `after` counts seconds of audio already sent. It is reached with the part of the answer that passes it, and
the last part is never sent whole, so that something is missing however short the text is. (At a websocket, where the
last part is not known as such, the end may be the missing piece.)

`ACTIONS` lists all of them by name; `ACTIONS[name].targets` says where each can happen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Literal, get_args

from steadyvoice.wire.elevenlabs.errors import CODES as ELEVENLABS_CODES
from steadyvoice.wire.openai.errors import CODES as OPENAI_CODES


class FaultTarget(Enum):
    """Where a fault can happen."""

    HTTP = "http"  # to one request
    WEBSOCKET = "websocket"  # to one connection of ElevenLabs' websockets, from its upgrade to its close
    CONNECTION = "connection"  # to a connection, before anything is asked on it


FaultTargets = frozenset[FaultTarget]

HTTP: FaultTargets = frozenset({FaultTarget.HTTP})
WEBSOCKET: FaultTargets = frozenset({FaultTarget.WEBSOCKET})
SPEECH: FaultTargets = HTTP | WEBSOCKET
CONNECTION: FaultTargets = frozenset({FaultTarget.CONNECTION})


class FaultError(ValueError):
    """A fault that cannot be. `key` names the field, where it is one that is wrong."""

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


def validate_seconds(action: object, *names: str) -> None:
    """Refuse fields that are no time to wait. Raises FaultError."""
    for name in names:
        seconds = getattr(action, name)
        if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
            raise FaultError(f"{name}: seconds, 0 or more, got {seconds}", name)


def validate_bytes(count: int) -> None:
    """Refuse a size of nothing. Raises FaultError."""
    if count < 1:
        raise FaultError(f"bytes: at least 1, got {count}", "bytes")


ErrorForm = Literal["current", "legacy", "list", "text"]
"""How ElevenLabs may write an error: both generations of its own, or FastAPI's list or string."""

_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with an HTTP error: a vendor's code, a bare status, or both. Neither means a 500.

    A code of one vendor becomes the other's word for the same at the other's door. At a websocket a code is told
    in a message, and the connection closed with 1008; a bare status refuses the upgrade.
    """

    targets: ClassVar[FaultTargets] = SPEECH
    code: str | None = None
    status: int | None = None
    form: ErrorForm | None = None  # ElevenLabs' only; None is the simulator's own setting
    retry_after: float | None = None  # seconds; Retry-After rounds them up, OpenAI's retry-after-ms has them exactly
    message: str | None = None

    def __post_init__(self) -> None:
        if self.status is not None and not 400 <= self.status <= 599:
            raise FaultError(f"status: an error's lies between 400 and 599, got {self.status}", "status")
        if self.status is None and self.code is not None and not _is_known_code(self.code):
            raise FaultError(f"code: {self.code!r} is no code we know, so it needs a `status` with it", "code")
        if self.form is not None and self.form not in get_args(ErrorForm):
            raise FaultError(f"form: one of {', '.join(get_args(ErrorForm))}, got {self.form!r}", "form")
        validate_seconds(self, "retry_after")


@dataclass(frozen=True, slots=True)
class Hang:
    """Accept the request, charge for it, and never answer. A websocket's upgrade is free, and never answered."""

    targets: ClassVar[FaultTargets] = SPEECH


@dataclass(frozen=True, slots=True)
class HangAfterHeaders:
    """Send the headers of a success, and nothing behind them. A websocket opens, takes text, and stays silent."""

    targets: ClassVar[FaultTargets] = SPEECH


@dataclass(frozen=True, slots=True)
class SlowFirstByte:
    """Be silent for some seconds, then answer as if nothing had been."""

    targets: ClassVar[FaultTargets] = SPEECH
    seconds: float = 2.0

    def __post_init__(self) -> None:
        validate_seconds(self, "seconds")


@dataclass(frozen=True, slots=True)
class Stall:
    """Send a beginning and then nothing: for `seconds`, or for ever."""

    targets: ClassVar[FaultTargets] = SPEECH
    after: float = 0.0
    seconds: float | None = None

    def __post_init__(self) -> None:
        validate_seconds(self, "after", "seconds")


@dataclass(frozen=True, slots=True)
class Drip:
    """Send a few bytes at a time, so slowly that no clock for a single read runs out."""

    targets: ClassVar[FaultTargets] = HTTP
    bytes: int = 1
    every: float = 0.5

    def __post_init__(self) -> None:
        validate_seconds(self, "every")
        validate_bytes(self.bytes)


@dataclass(frozen=True, slots=True)
class Cut:
    """Hang up in the middle: a chunked answer without its end."""

    targets: ClassVar[FaultTargets] = SPEECH
    after: float = 0.0

    def __post_init__(self) -> None:
        validate_seconds(self, "after")


@dataclass(frozen=True, slots=True)
class CutTerminated:
    """Stop in the middle, and end the chunked answer as if it were whole."""

    targets: ClassVar[FaultTargets] = SPEECH
    after: float = 0.0

    def __post_init__(self) -> None:
        validate_seconds(self, "after")


@dataclass(frozen=True, slots=True)
class CutClose:
    """Stop in the middle of an answer whose only end is that of the connection: no client library objects."""

    targets: ClassVar[FaultTargets] = HTTP
    after: float = 0.0

    def __post_init__(self) -> None:
        validate_seconds(self, "after")


@dataclass(frozen=True, slots=True)
class WrongLength:
    """Promise another number of bytes than are sent: `factor` times as many."""

    targets: ClassVar[FaultTargets] = HTTP
    factor: float = 2.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor > 0 and self.factor != 1):
            raise FaultError(f"factor: more than 0 and not 1, got {self.factor}", "factor")


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the TCP connection: before anything is sent, or `after` some audio."""

    targets: ClassVar[FaultTargets] = SPEECH
    after: float | None = None

    def __post_init__(self) -> None:
        validate_seconds(self, "after")


@dataclass(frozen=True, slots=True)
class Empty:
    """Answer 200 with no bytes at all: with a length of 0 or, `chunked`, with an end and nothing before it."""

    targets: ClassVar[FaultTargets] = HTTP

    chunked: bool = False


@dataclass(frozen=True, slots=True)
class Json:
    """Answer 200 with JSON where audio belongs; unless `told`, labelled as audio."""

    targets: ClassVar[FaultTargets] = HTTP
    told: bool = True


@dataclass(frozen=True, slots=True)
class Html:
    """Answer 200 with a proxy's web page; unless `told`, labelled as audio."""

    targets: ClassVar[FaultTargets] = HTTP
    told: bool = True


@dataclass(frozen=True, slots=True)
class Silent:
    """Send audio of the right length in which nothing is heard."""

    targets: ClassVar[FaultTargets] = SPEECH


@dataclass(frozen=True, slots=True)
class TooShort:
    """Send a well-formed answer that holds only a fraction of the text."""

    targets: ClassVar[FaultTargets] = SPEECH
    fraction: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.fraction < 1:
            raise FaultError(f"fraction: from 0 to less than 1, got {self.fraction}", "fraction")


@dataclass(frozen=True, slots=True)
class HeaderOnly:
    """Send what an audio file begins with, such as the 44 bytes of a WAV, and no audio."""

    targets: ClassVar[FaultTargets] = HTTP


@dataclass(frozen=True, slots=True)
class WrongRate:
    """Send audio of another sample rate than was asked for. Opus has only one, and stays as it is."""

    targets: ClassVar[FaultTargets] = SPEECH
    rate: int = 22_050

    def __post_init__(self) -> None:
        if self.rate not in _RATES:
            raise FaultError(f"rate: one of {', '.join(map(str, _RATES))}, got {self.rate}", "rate")


@dataclass(frozen=True, slots=True)
class HalfLine:
    """End the answer properly, in the middle of a line (or of whatever a part of it is)."""

    targets: ClassVar[FaultTargets] = SPEECH
    after: float = 0.0

    def __post_init__(self) -> None:
        validate_seconds(self, "after")


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """After some audio, put an error where the next line or event belongs, and end."""

    targets: ClassVar[FaultTargets] = SPEECH
    code: str = "internal_server_error"
    after: float = 0.0

    def __post_init__(self) -> None:
        validate_seconds(self, "after")
        if not _is_known_code(self.code):
            raise FaultError(f"code: {self.code!r} is no code we know, of ElevenLabs or OpenAI", "code")


@dataclass(frozen=True, slots=True)
class OddSplits:
    """Send everything, in pieces of so many bytes, an odd number: samples come in halves."""

    targets: ClassVar[FaultTargets] = SPEECH
    bytes: int = 333

    def __post_init__(self) -> None:
        validate_bytes(self.bytes)
        if self.bytes % 2 == 0:
            raise FaultError(f"bytes: an odd number, got {self.bytes}", "bytes")


@dataclass(frozen=True, slots=True)
class Gzip:
    """Compress the answer, asked or not, in so many members; unless `told`, without a Content-Encoding header."""

    targets: ClassVar[FaultTargets] = HTTP
    told: bool = True
    members: int = 1

    def __post_init__(self) -> None:
        if self.members < 1:
            raise FaultError(f"members: at least 1, got {self.members}", "members")


@dataclass(frozen=True, slots=True)
class GzipBomb:
    """Send a small compressed answer that unpacks to so many megabytes of zeros."""

    targets: ClassVar[FaultTargets] = HTTP
    megabytes: int = 100

    def __post_init__(self) -> None:
        if not 1 <= self.megabytes <= 10_000:
            raise FaultError(f"megabytes: from 1 to 10000, got {self.megabytes}", "megabytes")


@dataclass(frozen=True, slots=True)
class UnknownCoding:
    """Say that the answer is compressed in a way that was not asked for, such as Brotli."""

    targets: ClassVar[FaultTargets] = HTTP
    coding: str = "br"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+(, ?[A-Za-z0-9_.-]+)*", self.coding):
            raise FaultError(f"coding: names such as br, zstd or 'gzip, gzip', got {self.coding!r}", "coding")


@dataclass(frozen=True, slots=True)
class EndlessTag:
    """Begin with an ID3 tag that claims 256 MB, send them as fast as they are taken, and never come to audio."""

    targets: ClassVar[FaultTargets] = HTTP


@dataclass(frozen=True, slots=True)
class EndlessHeader:
    """Send a header whose value has no end."""

    targets: ClassVar[FaultTargets] = HTTP


def _is_known_code(code: str) -> bool:
    return code in ELEVENLABS_CODES or code in OPENAI_CODES


SpellingStyle = Literal["documented", "mixed"]
"""All in snake_case as the documentation's examples have it, or only `context_id`."""


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """Let the client in, and then be gone without a word: no answer, no pong, no close, nothing charged."""

    targets: ClassVar[FaultTargets] = WEBSOCKET


@dataclass(frozen=True, slots=True)
class IdleTimeout:
    """Say at once that no text came in time, and close with 1008."""

    targets: ClassVar[FaultTargets] = WEBSOCKET


@dataclass(frozen=True, slots=True)
class FinalWithoutAudio:
    """End each text with `isFinal`, no audio and no error: how the multi-context websocket is out of credit."""

    targets: ClassVar[FaultTargets] = WEBSOCKET


@dataclass(frozen=True, slots=True)
class Restart:
    """Close with 1012, service restart, in the middle."""

    targets: ClassVar[FaultTargets] = WEBSOCKET
    after: float = 0.0

    def __post_init__(self) -> None:
        validate_seconds(self, "after")


@dataclass(frozen=True, slots=True)
class OtherSpelling:
    """Spell as the documentation's examples do: `is_final`, `context_id`, `charsDurationsMs`; or mix the two spellings
    as the multi-context websocket has been seen to do: `context_id` with `isFinal`.
    """

    targets: ClassVar[FaultTargets] = WEBSOCKET
    style: SpellingStyle = "documented"

    def __post_init__(self) -> None:
        if self.style not in get_args(SpellingStyle):
            raise FaultError(f"style: one of {', '.join(get_args(SpellingStyle))}, got {self.style!r}", "style")


@dataclass(frozen=True, slots=True)
class AbsoluteTimes:
    """Count characters' times from the beginning of the text, not from that of each message's audio."""

    targets: ClassVar[FaultTargets] = WEBSOCKET


@dataclass(frozen=True, slots=True)
class BigFrame:
    """Blow the first message up beyond the 1 MiB that Python's `websockets` takes: with blanks, so it stays true."""

    targets: ClassVar[FaultTargets] = WEBSOCKET
    bytes: int = 1_100_000

    def __post_init__(self) -> None:
        if not 1 <= self.bytes <= 64 * 1024 * 1024:
            raise FaultError(f"bytes: from 1 to 64 MiB, got {self.bytes}", "bytes")


TlsFlaw = Literal["handshake", "name", "authority", "expired"]
"""The handshake is broken off, or the certificate is for another name, from an unknown authority, or too old."""


@dataclass(frozen=True, slots=True)
class RefuseConnection:
    """Have nobody listen: connections are refused, and idle ones closed.

    The kernel refuses without telling anybody, so a refusal is not one connection's but lasts `seconds`; that is
    what `nth`, `times` and luck count beside connections. Without them it lasts as long as the fault is in force.
    """

    targets: ClassVar[FaultTargets] = CONNECTION

    seconds: float = 1.0

    def __post_init__(self) -> None:
        validate_seconds(self, "seconds")
        if not self.seconds:
            raise FaultError(f"seconds: more than 0, got {self.seconds}", "seconds")


@dataclass(frozen=True, slots=True)
class SlowAccept:
    """Let a connection wait before anything is read from it: before its TLS handshake, or its first request."""

    targets: ClassVar[FaultTargets] = CONNECTION

    seconds: float = 2.0

    def __post_init__(self) -> None:
        validate_seconds(self, "seconds")


@dataclass(frozen=True, slots=True)
class TlsFailure:
    """Fail at TLS. Only a simulator that speaks it can."""

    targets: ClassVar[FaultTargets] = CONNECTION

    flaw: TlsFlaw = "handshake"

    def __post_init__(self) -> None:
        if self.flaw not in get_args(TlsFlaw):
            raise FaultError(f"flaw: one of {', '.join(get_args(TlsFlaw))}, got {self.flaw!r}", "flaw")


FaultAction = (
    Refuse | Hang | HangAfterHeaders | SlowFirstByte | Reset | Empty | Json | Html
    | Silent | TooShort | HeaderOnly | WrongRate
    | Stall | Drip | Cut | CutTerminated | CutClose | WrongLength | HalfLine | ErrorLine | OddSplits
    | Gzip | GzipBomb | UnknownCoding | EndlessTag | EndlessHeader
    | RefuseConnection | SlowAccept | TlsFailure
    | HalfOpen | IdleTimeout | FinalWithoutAudio | Restart | OtherSpelling | AbsoluteTimes | BigFrame
)  # fmt: skip


AudioAction = Silent | TooShort | HeaderOnly | WrongRate
"""What is wrong with how an answer sounds: where no audio was asked for, it cannot be."""


def action_name(action: FaultAction | type[FaultAction]) -> str:
    """How a fault is called in scripts and headers: `HangAfterHeaders` is `hang-after-headers`."""
    kind = action if isinstance(action, type) else type(action)
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()


ACTIONS: Mapping[str, type[FaultAction]] = {action_name(kind): kind for kind in get_args(FaultAction)}
"""All there are, by name."""
