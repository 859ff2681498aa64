"""How an answer can go wrong, as values: in what is said, in how it sounds, and in how it is sent.

Most of it can befall a websocket's messages just as well.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from steadyvoice.simulator.act import HTTP, SPEECH, Doors, FaultError, check_bytes, check_seconds
from steadyvoice.wire.elevenlabs.errors import CODES as ELEVENLABS_CODES
from steadyvoice.wire.openai.errors import CODES as OPENAI_CODES

ErrorForm = Literal["current", "legacy", "list", "text"]
"""How ElevenLabs may write an error: both generations of its own, or FastAPI's list or string."""

_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with an HTTP error: a vendor's code, a bare status, or both. Neither means a 500.

    A code of one vendor becomes the other's word for the same at the other's door. At a websocket a code is told
    in a message, and the connection closed with 1008; a bare status refuses the upgrade.
    """

    doors: ClassVar[Doors] = SPEECH
    code: str | None = None
    status: int | None = None
    form: ErrorForm | None = None  # ElevenLabs' only; None is the simulator's own setting
    retry_after: float | None = None  # seconds; Retry-After rounds them up, OpenAI's retry-after-ms has them exactly
    message: str | None = None

    def __post_init__(self) -> None:
        if self.status is not None and not 400 <= self.status <= 599:
            raise FaultError(f"status: an error's lies between 400 and 599, got {self.status}", "status")
        if self.status is None and self.code is not None and not _known(self.code):
            raise FaultError(f"code: {self.code!r} is no code we know, so it needs a `status` with it", "code")
        if self.form is not None and self.form not in get_args(ErrorForm):
            raise FaultError(f"form: one of {', '.join(get_args(ErrorForm))}, got {self.form!r}", "form")
        check_seconds(self, "retry_after")


@dataclass(frozen=True, slots=True)
class Hang:
    """Accept the request, charge for it, and never answer. A websocket's upgrade is free, and never answered."""

    doors: ClassVar[Doors] = SPEECH


@dataclass(frozen=True, slots=True)
class HangAfterHeaders:
    """Send the headers of a success, and nothing behind them. A websocket opens, takes text, and stays silent."""

    doors: ClassVar[Doors] = SPEECH


@dataclass(frozen=True, slots=True)
class SlowFirstByte:
    """Be silent for some seconds, then answer as if nothing had been."""

    doors: ClassVar[Doors] = SPEECH
    seconds: float = 2.0

    def __post_init__(self) -> None:
        check_seconds(self, "seconds")


@dataclass(frozen=True, slots=True)
class Stall:
    """Send a beginning and then nothing: for `seconds`, or for ever."""

    doors: ClassVar[Doors] = SPEECH
    after: float = 0.0
    seconds: float | None = None

    def __post_init__(self) -> None:
        check_seconds(self, "after", "seconds")


@dataclass(frozen=True, slots=True)
class Drip:
    """Send a few bytes at a time, so slowly that no clock for a single read runs out."""

    doors: ClassVar[Doors] = HTTP
    bytes: int = 1
    every: float = 0.5

    def __post_init__(self) -> None:
        check_seconds(self, "every")
        check_bytes(self.bytes)


@dataclass(frozen=True, slots=True)
class Cut:
    """Hang up in the middle: a chunked answer without its end."""

    doors: ClassVar[Doors] = SPEECH
    after: float = 0.0

    def __post_init__(self) -> None:
        check_seconds(self, "after")


@dataclass(frozen=True, slots=True)
class CutTerminated:
    """Stop in the middle, and end the chunked answer as if it were whole."""

    doors: ClassVar[Doors] = SPEECH
    after: float = 0.0

    def __post_init__(self) -> None:
        check_seconds(self, "after")


@dataclass(frozen=True, slots=True)
class CutClose:
    """Stop in the middle of an answer whose only end is that of the connection: no client library objects."""

    doors: ClassVar[Doors] = HTTP
    after: float = 0.0

    def __post_init__(self) -> None:
        check_seconds(self, "after")


@dataclass(frozen=True, slots=True)
class WrongLength:
    """Promise another number of bytes than are sent: `factor` times as many."""

    doors: ClassVar[Doors] = HTTP
    factor: float = 2.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor > 0 and self.factor != 1):
            raise FaultError(f"factor: more than 0 and not 1, got {self.factor}", "factor")


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the TCP connection: before anything is sent, or `after` some audio."""

    doors: ClassVar[Doors] = SPEECH
    after: float | None = None

    def __post_init__(self) -> None:
        check_seconds(self, "after")


@dataclass(frozen=True, slots=True)
class Empty:
    """Answer 200 with no bytes at all: with a length of 0 or, `chunked`, with an end and nothing before it."""

    doors: ClassVar[Doors] = HTTP

    chunked: bool = False


@dataclass(frozen=True, slots=True)
class Json:
    """Answer 200 with JSON where audio belongs; unless `told`, labelled as audio."""

    doors: ClassVar[Doors] = HTTP
    told: bool = True


@dataclass(frozen=True, slots=True)
class Html:
    """Answer 200 with a proxy's web page; unless `told`, labelled as audio."""

    doors: ClassVar[Doors] = HTTP
    told: bool = True


@dataclass(frozen=True, slots=True)
class Silent:
    """Send audio of the right length in which nothing is heard."""

    doors: ClassVar[Doors] = SPEECH


@dataclass(frozen=True, slots=True)
class TooShort:
    """Send a well-formed answer that holds only a fraction of the text."""

    doors: ClassVar[Doors] = SPEECH
    fraction: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.fraction < 1:
            raise FaultError(f"fraction: from 0 to less than 1, got {self.fraction}", "fraction")


@dataclass(frozen=True, slots=True)
class HeaderOnly:
    """Send what an audio file begins with, such as the 44 bytes of a WAV, and no audio."""

    doors: ClassVar[Doors] = HTTP


@dataclass(frozen=True, slots=True)
class WrongRate:
    """Send audio of another sample rate than was asked for. Opus has only one, and stays as it is."""

    doors: ClassVar[Doors] = SPEECH
    rate: int = 22_050

    def __post_init__(self) -> None:
        if self.rate not in _RATES:
            raise FaultError(f"rate: one of {', '.join(map(str, _RATES))}, got {self.rate}", "rate")


@dataclass(frozen=True, slots=True)
class HalfLine:
    """End the answer properly, in the middle of a line (or of whatever a part of it is)."""

    doors: ClassVar[Doors] = SPEECH
    after: float = 0.0

    def __post_init__(self) -> None:
        check_seconds(self, "after")


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """After some audio, put an error where the next line or event belongs, and end."""

    doors: ClassVar[Doors] = SPEECH
    code: str = "internal_server_error"
    after: float = 0.0

    def __post_init__(self) -> None:
        check_seconds(self, "after")
        if not _known(self.code):
            raise FaultError(f"code: {self.code!r} is no code we know, of ElevenLabs or OpenAI", "code")


@dataclass(frozen=True, slots=True)
class OddSplits:
    """Send everything, in pieces of so many bytes, an odd number: samples come in halves."""

    doors: ClassVar[Doors] = SPEECH
    bytes: int = 333

    def __post_init__(self) -> None:
        check_bytes(self.bytes)
        if self.bytes % 2 == 0:
            raise FaultError(f"bytes: an odd number, got {self.bytes}", "bytes")


@dataclass(frozen=True, slots=True)
class Gzip:
    """Compress the answer, asked or not, in so many members; unless `told`, without a Content-Encoding header."""

    doors: ClassVar[Doors] = HTTP
    told: bool = True
    members: int = 1

    def __post_init__(self) -> None:
        if self.members < 1:
            raise FaultError(f"members: at least 1, got {self.members}", "members")


@dataclass(frozen=True, slots=True)
class GzipBomb:
    """Send a small compressed answer that unpacks to so many megabytes of zeros."""

    doors: ClassVar[Doors] = HTTP
    megabytes: int = 100

    def __post_init__(self) -> None:
        if not 1 <= self.megabytes <= 10_000:
            raise FaultError(f"megabytes: from 1 to 10000, got {self.megabytes}", "megabytes")


@dataclass(frozen=True, slots=True)
class UnknownCoding:
    """Say that the answer is compressed in a way that was not asked for, such as Brotli."""

    doors: ClassVar[Doors] = HTTP
    coding: str = "br"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+(, ?[A-Za-z0-9_.-]+)*", self.coding):
            raise FaultError(f"coding: names such as br, zstd or 'gzip, gzip', got {self.coding!r}", "coding")


@dataclass(frozen=True, slots=True)
class EndlessTag:
    """Begin with an ID3 tag that claims 256 MB, send them as fast as they are taken, and never come to audio."""

    doors: ClassVar[Doors] = HTTP


@dataclass(frozen=True, slots=True)
class EndlessHeader:
    """Send a header whose value has no end."""

    doors: ClassVar[Doors] = HTTP


def _known(code: str) -> bool:
    return code in ELEVENLABS_CODES or code in OPENAI_CODES
