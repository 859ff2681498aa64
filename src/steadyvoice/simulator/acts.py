"""Every way a vendor can fail, as values. Nothing here does anything: `misbehave` does.

`after` counts seconds of audio already sent; it is reached with the part of the answer that passes it, and the last
part is never sent whole, so that something is missing however short the text is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from steadyvoice.wire.elevenlabs_errors import CODES as ELEVENLABS_CODES
from steadyvoice.wire.openai_errors import CODES as OPENAI_CODES

ErrorForm = Literal["current", "legacy", "list", "text"]
"""How ElevenLabs may write an error: both generations of its own, or FastAPI's list or string."""


class FaultError(ValueError):
    """A fault that cannot be. `key` names the field, where it is one that is wrong."""

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with an HTTP error: a vendor's code, a bare status, or both. Neither means a 500.

    A code of one vendor becomes the other's word for the same at the other's door.
    """

    code: str | None = None
    status: int | None = None
    form: ErrorForm | None = None  # ElevenLabs' only; None is the simulator's own setting
    retry_after: float | None = None  # seconds, for the Retry-After header
    message: str | None = None

    def __post_init__(self) -> None:
        if self.status is not None and not 400 <= self.status <= 599:
            raise FaultError(f"status: an error's lies between 400 and 599, got {self.status}", "status")
        if self.status is None and not (
            self.code is None or self.code in ELEVENLABS_CODES or self.code in OPENAI_CODES
        ):
            raise FaultError(f"code: {self.code!r} is no code we know, so it needs a `status` with it", "code")
        if self.form is not None and self.form not in get_args(ErrorForm):
            raise FaultError(f"form: one of {', '.join(get_args(ErrorForm))}, got {self.form!r}", "form")
        _check_seconds(self, "retry_after")


@dataclass(frozen=True, slots=True)
class Hang:
    """Accept the request, charge for it, and never answer."""


@dataclass(frozen=True, slots=True)
class HangAfterHeaders:
    """Send the headers of a success, and nothing behind them."""


@dataclass(frozen=True, slots=True)
class SlowFirstByte:
    """Be silent for some seconds, then answer as if nothing had been."""

    seconds: float = 2.0

    def __post_init__(self) -> None:
        _check_seconds(self, "seconds")


@dataclass(frozen=True, slots=True)
class Stall:
    """Send a beginning and then nothing: for `seconds`, or for ever."""

    after: float = 0.0
    seconds: float | None = None

    def __post_init__(self) -> None:
        _check_seconds(self, "after", "seconds")


@dataclass(frozen=True, slots=True)
class Drip:
    """Send a few bytes at a time, so slowly that no clock for a single read runs out."""

    bytes: int = 1
    every: float = 0.5

    def __post_init__(self) -> None:
        _check_seconds(self, "every")
        _check_bytes(self.bytes)


@dataclass(frozen=True, slots=True)
class Cut:
    """Hang up in the middle: a chunked answer without its end."""

    after: float = 0.0

    def __post_init__(self) -> None:
        _check_seconds(self, "after")


@dataclass(frozen=True, slots=True)
class CutTerminated:
    """Stop in the middle, and end the chunked answer as if it were whole."""

    after: float = 0.0

    def __post_init__(self) -> None:
        _check_seconds(self, "after")


@dataclass(frozen=True, slots=True)
class CutClose:
    """Stop in the middle of an answer whose only end is that of the connection: no client library objects."""

    after: float = 0.0

    def __post_init__(self) -> None:
        _check_seconds(self, "after")


@dataclass(frozen=True, slots=True)
class WrongLength:
    """Promise another number of bytes than are sent: `factor` times as many."""

    factor: float = 2.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor > 0 and self.factor != 1):
            raise FaultError(f"factor: more than 0 and not 1, got {self.factor}", "factor")


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the TCP connection: before anything is sent, or `after` some audio."""

    after: float | None = None

    def __post_init__(self) -> None:
        _check_seconds(self, "after")


@dataclass(frozen=True, slots=True)
class Empty:
    """Answer 200 with no bytes at all."""


@dataclass(frozen=True, slots=True)
class Json:
    """Answer 200 with JSON where audio belongs; unless `told`, labelled as audio."""

    told: bool = True


@dataclass(frozen=True, slots=True)
class Html:
    """Answer 200 with a proxy's web page; unless `told`, labelled as audio."""

    told: bool = True


@dataclass(frozen=True, slots=True)
class Silent:
    """Send audio of the right length in which nothing is heard."""


@dataclass(frozen=True, slots=True)
class TooShort:
    """Send a well-formed answer that holds only a fraction of the text."""

    fraction: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.fraction < 1:
            raise FaultError(f"fraction: from 0 to less than 1, got {self.fraction}", "fraction")


@dataclass(frozen=True, slots=True)
class HeaderOnly:
    """Send what an audio file begins with, such as the 44 bytes of a WAV, and no audio."""


@dataclass(frozen=True, slots=True)
class WrongRate:
    """Send audio of another sample rate than was asked for. Opus has only one, and stays as it is."""

    rate: int = 22_050

    def __post_init__(self) -> None:
        if self.rate not in _RATES:
            raise FaultError(f"rate: one of {', '.join(map(str, _RATES))}, got {self.rate}", "rate")


@dataclass(frozen=True, slots=True)
class HalfLine:
    """End the answer properly, in the middle of a line (or of whatever a part of it is)."""

    after: float = 0.0

    def __post_init__(self) -> None:
        _check_seconds(self, "after")


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """After some audio, put an error where the next line or event belongs, and end."""

    code: str = "internal_server_error"
    after: float = 0.0

    def __post_init__(self) -> None:
        _check_seconds(self, "after")


@dataclass(frozen=True, slots=True)
class OddSplits:
    """Send everything, in pieces of so many bytes, an odd number: samples come in halves."""

    bytes: int = 333

    def __post_init__(self) -> None:
        _check_bytes(self.bytes)
        if self.bytes % 2 == 0:
            raise FaultError(f"bytes: an odd number, got {self.bytes}", "bytes")


@dataclass(frozen=True, slots=True)
class Gzip:
    """Compress the answer, asked or not; unless `told`, without a Content-Encoding header."""

    told: bool = True


Act = (
    Refuse | Hang | HangAfterHeaders | SlowFirstByte | Reset | Empty | Json | Html
    | Silent | TooShort | HeaderOnly | WrongRate
    | Stall | Drip | Cut | CutTerminated | CutClose | WrongLength | HalfLine | ErrorLine | OddSplits | Gzip
)  # fmt: skip

_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


def name_of(act: Act | type[Act]) -> str:
    """How a fault is called in scripts and headers: `HangAfterHeaders` is `hang-after-headers`."""
    kind = act if isinstance(act, type) else type(act)
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()


ACTS: Mapping[str, type[Act]] = {name_of(kind): kind for kind in get_args(Act)}
"""All there are, by name."""


def _check_seconds(act: object, *names: str) -> None:
    for name in names:
        seconds = getattr(act, name)
        if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
            raise FaultError(f"{name}: seconds, 0 or more, got {seconds}", name)


def _check_bytes(count: int) -> None:
    if count < 1:
        raise FaultError(f"bytes: at least 1, got {count}", "bytes")
