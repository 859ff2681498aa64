"""Fault actions of the simulator: every fault that a simulated vendor can have, as values.

Nothing here is executed: `responses` acts on HTTP answers, `websocket.connection` on messages and `http.listener` on
connections. `after` counts seconds of audio already sent. It is reached with the part of the answer that passes it, and
the last part is never sent whole, so that something is missing however short the text is. (At a websocket, where the
last part is not known as such, the end may be the missing piece.)

`ACTIONS` lists all of them by name; `ACTIONS[name].targets` says where each can happen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Literal, get_args

from steadyvoice._option_rules import COUNT, POSITIVE_SECONDS, SECONDS, Number, OneOf, OptionRule
from steadyvoice.wire.elevenlabs.errors import CODES as ELEVENLABS_CODES
from steadyvoice.wire.openai.errors import CODES as OPENAI_CODES


class FaultTarget(Enum):
    """Places where a fault can happen."""

    HTTP = "http"  # to one request
    WEBSOCKET = "websocket"  # to one connection of ElevenLabs' websockets, from its upgrade to its close
    CONNECTION = "connection"  # to a connection, before its first request


FaultTargets = frozenset[FaultTarget]

HTTP_ONLY: FaultTargets = frozenset({FaultTarget.HTTP})
WEBSOCKET_ONLY: FaultTargets = frozenset({FaultTarget.WEBSOCKET})
HTTP_AND_WEBSOCKET: FaultTargets = HTTP_ONLY | WEBSOCKET_ONLY
CONNECTION_ONLY: FaultTargets = frozenset({FaultTarget.CONNECTION})


class FaultError(ValueError):
    """Invalid fault. `message` says why; `key` names the field that is wrong, or is None."""

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


def validate_fields(values: object, names: Iterable[str], rule: OptionRule) -> None:
    """Check that fields of a fault or of settings follow the rule, or are None. Raises FaultError."""
    for name in names:
        value = getattr(values, name)
        if value is not None and not rule.accepts(value):
            raise FaultError(f"{name}: {rule.expected}, got {value!r}", name)


ErrorForm = Literal["current", "legacy", "list", "text"]
"""Forms of ElevenLabs' errors: both generations of its own, and FastAPI's list or string."""

# Rates that MPEG, WAV and raw samples are commonly sent with.
_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with an HTTP error: a vendor's code, a status, or both; 500 without either.

    At the other vendor's endpoints a code is translated to the one that means the same. At a websocket a code is
    sent in a message, and the connection closed with 1008; a status without a code refuses the upgrade.
    """

    targets: ClassVar[FaultTargets] = HTTP_AND_WEBSOCKET
    code: str | None = None
    status: int | None = None
    form: ErrorForm | None = None  # ElevenLabs only; None is the simulator's setting
    retry_after: float | None = None  # seconds; Retry-After rounds them up, OpenAI's retry-after-ms has them exactly
    message: str | None = None

    def __post_init__(self) -> None:
        validate_fields(self, ("status",), Number(integer=True, minimum=400, maximum=599))
        if self.status is None and self.code is not None and not _is_known_code(self.code):
            raise FaultError(f"code: unknown code {self.code!r}; give its `status` as well", "code")
        validate_fields(self, ("form",), OneOf(get_args(ErrorForm)))
        validate_fields(self, ("retry_after",), SECONDS)


@dataclass(frozen=True, slots=True)
class Hang:
    """Accept the request, charge for it, and never answer. A websocket's upgrade is not charged, and never answered."""

    targets: ClassVar[FaultTargets] = HTTP_AND_WEBSOCKET


@dataclass(frozen=True, slots=True)
class HangAfterHeaders:
    """Send the headers of a success, and no body. A websocket opens, takes text, and sends nothing."""

    targets: ClassVar[FaultTargets] = HTTP_AND_WEBSOCKET


@dataclass(frozen=True, slots=True)
class SlowFirstByte:
    """Delay the answer by `seconds`."""

    targets: ClassVar[FaultTargets] = HTTP_AND_WEBSOCKET
    seconds: float = 2.0

    def __post_init__(self) -> None:
        validate_fields(self, ("seconds",), SECONDS)


@dataclass(frozen=True, slots=True)
class Stall:
    """Pause after the beginning: for `seconds`, or without end."""

    targets: ClassVar[FaultTargets] = HTTP_AND_WEBSOCKET
    after: float = 0.0
    seconds: float | None = None

    def __post_init__(self) -> None:
        validate_fields(self, ("after", "seconds"), SECONDS)


@dataclass(frozen=True, slots=True)
class Drip:
    """Send a few bytes at a time, so slowly that no timeout of a single read expires.

    At a websocket these are bytes of audio, each time in a message of its own.
    """

    targets: ClassVar[FaultTargets] = HTTP_AND_WEBSOCKET
    bytes: int = 1
    every: float = 0.5

    def __post_init__(self) -> None:
        validate_fields(self, ("every",), SECONDS)
        validate_fields(self, ("bytes",), COUNT)


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection in the middle of a chunked answer, without its last chunk."""

    targets: ClassVar[FaultTargets] = HTTP_AND_WEBSOCKET
    after: float = 0.0

    def __post_init__(self) -> None:
        validate_fields(self, ("after",), SECONDS)


@dataclass(frozen=True, slots=True)
class CutTerminated:
    """Stop in the middle, and end the chunked answer properly."""

    targets: ClassVar[FaultTargets] = HTTP_AND_WEBSOCKET
    after: float = 0.0

    def __post_init__(self) -> None:
        validate_fields(self, ("after",), SECONDS)


@dataclass(frozen=True, slots=True)
class CutClose:
    """Stop in the middle of an answer that ends with its connection: no client library reports it."""

    targets: ClassVar[FaultTargets] = HTTP_ONLY
    after: float = 0.0

    def __post_init__(self) -> None:
        validate_fields(self, ("after",), SECONDS)


@dataclass(frozen=True, slots=True)
class WrongLength:
    """Declare a wrong Content-Length: `factor` times the number of bytes sent."""

    targets: ClassVar[FaultTargets] = HTTP_ONLY
    factor: float = 2.0

    def __post_init__(self) -> None:
        validate_fields(self, ("factor",), Number(above=0))
        if self.factor == 1:
            raise FaultError("factor: must not be 1, which would be the right length", "factor")


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the TCP connection: before anything is sent, or `after` some audio."""

    targets: ClassVar[FaultTargets] = HTTP_AND_WEBSOCKET
    after: float | None = None

    def __post_init__(self) -> None:
        validate_fields(self, ("after",), SECONDS)


@dataclass(frozen=True, slots=True)
class Empty:
    """Answer 200 without a body: with a length of 0 or, if `chunked`, with the last chunk only."""

    targets: ClassVar[FaultTargets] = HTTP_ONLY

    chunked: bool = False


@dataclass(frozen=True, slots=True)
class Json:
    """Answer 200 with JSON in place of audio or an upgrade; with `declared = false`, labelled as audio."""

    targets: ClassVar[FaultTargets] = HTTP_AND_WEBSOCKET
    declared: bool = True


@dataclass(frozen=True, slots=True)
class Html:
    """Answer 200 with a proxy's web page, also to a websocket's upgrade; with `declared = false`, labelled as audio."""

    targets: ClassVar[FaultTargets] = HTTP_AND_WEBSOCKET
    declared: bool = True


@dataclass(frozen=True, slots=True)
class Silent:
    """Send silence of the right length."""

    targets: ClassVar[FaultTargets] = HTTP_AND_WEBSOCKET


@dataclass(frozen=True, slots=True)
class TooShort:
    """Send a well-formed answer that holds only a fraction of the text."""

    targets: ClassVar[FaultTargets] = HTTP_AND_WEBSOCKET
    fraction: float = 0.3

    def __post_init__(self) -> None:
        validate_fields(self, ("fraction",), Number(minimum=0, below=1))


@dataclass(frozen=True, slots=True)
class HeaderOnly:
    """Send the header of an audio file, such as the 44 bytes of a WAV, and no audio."""

    targets: ClassVar[FaultTargets] = HTTP_ONLY


@dataclass(frozen=True, slots=True)
class WrongRate:
    """Send audio of another sample rate than requested. Opus has only one rate, and is not changed."""

    targets: ClassVar[FaultTargets] = HTTP_AND_WEBSOCKET
    rate: int = 22_050

    def __post_init__(self) -> None:
        validate_fields(self, ("rate",), OneOf(_RATES))


@dataclass(frozen=True, slots=True)
class HalfLine:
    """End the answer properly, in the middle of a line or message."""

    targets: ClassVar[FaultTargets] = HTTP_AND_WEBSOCKET
    after: float = 0.0

    def __post_init__(self) -> None:
        validate_fields(self, ("after",), SECONDS)


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """After some audio, send an error in place of the next line, event or message, and end."""

    targets: ClassVar[FaultTargets] = HTTP_AND_WEBSOCKET
    code: str = "internal_server_error"
    after: float = 0.0

    def __post_init__(self) -> None:
        validate_fields(self, ("after",), SECONDS)
        if not _is_known_code(self.code):
            raise FaultError(f"code: {self.code!r} is not a known code of ElevenLabs or OpenAI", "code")


@dataclass(frozen=True, slots=True)
class OddSplits:
    """Send everything in pieces of an odd number of bytes, which splits samples."""

    targets: ClassVar[FaultTargets] = HTTP_AND_WEBSOCKET
    bytes: int = 333

    def __post_init__(self) -> None:
        validate_fields(self, ("bytes",), COUNT)
        if self.bytes % 2 == 0:
            raise FaultError(f"bytes: must be an odd number, got {self.bytes}", "bytes")


@dataclass(frozen=True, slots=True)
class Gzip:
    """Compress the answer without being asked, in some `members`; with `declared = false`, without Content-Encoding."""

    targets: ClassVar[FaultTargets] = HTTP_ONLY
    declared: bool = True
    members: int = 1

    def __post_init__(self) -> None:
        validate_fields(self, ("members",), COUNT)


@dataclass(frozen=True, slots=True)
class GzipBomb:
    """Send a small compressed answer that decompresses to some `megabytes` of zeros."""

    targets: ClassVar[FaultTargets] = HTTP_ONLY
    megabytes: int = 100

    def __post_init__(self) -> None:
        validate_fields(self, ("megabytes",), Number(integer=True, minimum=1, maximum=10_000))


@dataclass(frozen=True, slots=True)
class UnknownCoding:
    """Declare a Content-Encoding that was not requested, such as Brotli."""

    targets: ClassVar[FaultTargets] = HTTP_ONLY
    coding: str = "br"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+(, ?[A-Za-z0-9_.-]+)*", self.coding):
            raise FaultError(f"coding: must be names such as br, zstd or 'gzip, gzip', got {self.coding!r}", "coding")


@dataclass(frozen=True, slots=True)
class EndlessTag:
    """Send an ID3 tag of 256 MB as fast as the client reads, and no audio."""

    targets: ClassVar[FaultTargets] = HTTP_ONLY


@dataclass(frozen=True, slots=True)
class EndlessHeader:
    """Send a header whose value never ends."""

    targets: ClassVar[FaultTargets] = HTTP_ONLY


def _is_known_code(code: str) -> bool:
    return code in ELEVENLABS_CODES or code in OPENAI_CODES


@dataclass(frozen=True, slots=True)
class Close:
    """Close the websocket in the middle, with a close frame of this `code` and `reason`."""

    targets: ClassVar[FaultTargets] = WEBSOCKET_ONLY
    code: int = 1011
    after: float = 0.0
    reason: str = ""

    def __post_init__(self) -> None:
        validate_fields(self, ("after",), SECONDS)
        # RFC 6455, 7.4: other codes stand for a missing close frame, or are not assigned.
        if not ((1000 <= self.code <= 1014 and self.code not in (1004, 1005, 1006)) or 3000 <= self.code <= 4999):
            raise FaultError(f"code: must be from 1000 to 1014 or from 3000 to 4999, got {self.code}", "code")


SpellingStyle = Literal["documented", "mixed"]
"""Spelling of field names: all in snake_case, as in the documentation's examples, or only `context_id`."""


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """Accept the websocket, then send nothing: no message, no pong, no close; nothing is charged."""

    targets: ClassVar[FaultTargets] = WEBSOCKET_ONLY


@dataclass(frozen=True, slots=True)
class IdleTimeout:
    """Report at once that no text came in time, and close with 1008."""

    targets: ClassVar[FaultTargets] = WEBSOCKET_ONLY


@dataclass(frozen=True, slots=True)
class FinalWithoutAudio:
    """End each text with `isFinal`, without audio or error, as the multi-context websocket does without credit."""

    targets: ClassVar[FaultTargets] = WEBSOCKET_ONLY


@dataclass(frozen=True, slots=True)
class Restart:
    """Close with 1012 (service restart) in the middle."""

    targets: ClassVar[FaultTargets] = WEBSOCKET_ONLY
    after: float = 0.0

    def __post_init__(self) -> None:
        validate_fields(self, ("after",), SECONDS)


@dataclass(frozen=True, slots=True)
class OtherSpelling:
    """Name fields as the documentation's examples do, or mix both spellings.

    The examples have `is_final`, `context_id` and `charsDurationsMs`. The multi-context websocket has been seen to mix
    the spellings: `context_id` with `isFinal`.
    """

    targets: ClassVar[FaultTargets] = WEBSOCKET_ONLY
    style: SpellingStyle = "documented"

    def __post_init__(self) -> None:
        validate_fields(self, ("style",), OneOf(get_args(SpellingStyle)))


@dataclass(frozen=True, slots=True)
class AbsoluteTimes:
    """Count characters' times from the beginning of the text, not from that of each message's audio."""

    targets: ClassVar[FaultTargets] = WEBSOCKET_ONLY


@dataclass(frozen=True, slots=True)
class BigFrame:
    """Pad the first message with spaces beyond 1 MiB, the limit of Python's `websockets`."""

    targets: ClassVar[FaultTargets] = WEBSOCKET_ONLY
    bytes: int = 1_100_000

    def __post_init__(self) -> None:
        validate_fields(self, ("bytes",), Number(integer=True, minimum=1, maximum=64 * 1024 * 1024))


TlsFlaw = Literal["handshake", "name", "authority", "expired"]
"""Flaws of TLS: a failed handshake, or a certificate for another name, of an unknown authority, or expired."""


@dataclass(frozen=True, slots=True)
class RefuseConnection:
    """Refuse connections, and close idle ones.

    The kernel refuses connections without reporting them, so a refusal is not one connection's but lasts `seconds`.
    `nth`, `times` and `probability` count these periods. Without them the refusal lasts as long as the fault does.
    """

    targets: ClassVar[FaultTargets] = CONNECTION_ONLY

    seconds: float = 1.0

    def __post_init__(self) -> None:
        validate_fields(self, ("seconds",), POSITIVE_SECONDS)


@dataclass(frozen=True, slots=True)
class SlowAccept:
    """Delay reading from a new connection: its TLS handshake, or its first request."""

    targets: ClassVar[FaultTargets] = CONNECTION_ONLY

    seconds: float = 2.0

    def __post_init__(self) -> None:
        validate_fields(self, ("seconds",), SECONDS)


@dataclass(frozen=True, slots=True)
class TlsFailure:
    """Fail the TLS handshake, or present a bad certificate. Needs a simulator with TLS."""

    targets: ClassVar[FaultTargets] = CONNECTION_ONLY

    flaw: TlsFlaw = "handshake"

    def __post_init__(self) -> None:
        validate_fields(self, ("flaw",), OneOf(get_args(TlsFlaw)))


FaultAction = (
    Refuse | Hang | HangAfterHeaders | SlowFirstByte | Reset | Empty | Json | Html
    | Silent | TooShort | HeaderOnly | WrongRate
    | Stall | Drip | Cut | CutTerminated | CutClose | WrongLength | HalfLine | ErrorLine | OddSplits
    | Gzip | GzipBomb | UnknownCoding | EndlessTag | EndlessHeader
    | RefuseConnection | SlowAccept | TlsFailure
    | HalfOpen | IdleTimeout | FinalWithoutAudio | Restart | Close | OtherSpelling | AbsoluteTimes | BigFrame
)  # fmt: skip


# The synthesis applies these; all other actions change how finished audio is sent.
AudioAction = Silent | TooShort | HeaderOnly | WrongRate
"""Actions on the audio itself. They do not apply to requests that return no audio."""


def action_name(action: FaultAction | type[FaultAction]) -> str:
    """Return the name of an action in scripts and headers: `HangAfterHeaders` is `hang-after-headers`."""
    kind = action if isinstance(action, type) else type(action)
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()


# The names are derived from the classes, so that an action cannot be forgotten in the list or be spelled differently.
ACTIONS: Mapping[str, type[FaultAction]] = {action_name(kind): kind for kind in get_args(FaultAction)}
"""All fault actions, by their names."""
