"""Every way a vendor can fail, as values. Nothing here does anything: `misbehave` and its neighbours do.

`after` counts seconds of audio already sent; it is reached with the part of the answer that passes it, and the last
part is never sent whole, so that something is missing however short the text is. (At a websocket, where nobody knows
which part is the last, it may be the end that is missing.)

`ACTS` is the list of all, by name; `ACTS[name].doors` says where each can happen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import get_args

from steadyvoice.simulator.act import Door, FaultError
from steadyvoice.simulator.acts_at_websockets import (
    AbsoluteTimes,
    BigFrame,
    FinalWithoutAudio,
    HalfOpen,
    IdleTimeout,
    OtherSpelling,
    Restart,
)
from steadyvoice.simulator.acts_in_answers import (
    Cut,
    CutClose,
    CutTerminated,
    Drip,
    Empty,
    EndlessHeader,
    EndlessTag,
    ErrorForm,
    ErrorLine,
    Gzip,
    GzipBomb,
    HalfLine,
    Hang,
    HangAfterHeaders,
    HeaderOnly,
    Html,
    Json,
    OddSplits,
    Refuse,
    Reset,
    Silent,
    SlowFirstByte,
    Stall,
    TooShort,
    UnknownCoding,
    WrongLength,
    WrongRate,
)
from steadyvoice.simulator.acts_of_connections import RefuseConnection, SlowAccept, TlsFailure

__all__ = [
    "ACTS",
    "AbsoluteTimes",
    "Act",
    "BigFrame",
    "Cut",
    "CutClose",
    "CutTerminated",
    "Door",
    "Drip",
    "Empty",
    "EndlessHeader",
    "EndlessTag",
    "ErrorForm",
    "ErrorLine",
    "FaultError",
    "FinalWithoutAudio",
    "Gzip",
    "GzipBomb",
    "HalfLine",
    "HalfOpen",
    "Hang",
    "HangAfterHeaders",
    "HeaderOnly",
    "Html",
    "IdleTimeout",
    "Json",
    "OddSplits",
    "OtherSpelling",
    "Refuse",
    "RefuseConnection",
    "Reset",
    "Restart",
    "Silent",
    "SlowAccept",
    "SlowFirstByte",
    "Sound",
    "Stall",
    "TlsFailure",
    "TooShort",
    "UnknownCoding",
    "WrongLength",
    "WrongRate",
    "name_of",
]

Act = (
    Refuse | Hang | HangAfterHeaders | SlowFirstByte | Reset | Empty | Json | Html
    | Silent | TooShort | HeaderOnly | WrongRate
    | Stall | Drip | Cut | CutTerminated | CutClose | WrongLength | HalfLine | ErrorLine | OddSplits
    | Gzip | GzipBomb | UnknownCoding | EndlessTag | EndlessHeader
    | RefuseConnection | SlowAccept | TlsFailure
    | HalfOpen | IdleTimeout | FinalWithoutAudio | Restart | OtherSpelling | AbsoluteTimes | BigFrame
)  # fmt: skip


Sound = Silent | TooShort | HeaderOnly | WrongRate
"""What is wrong with how an answer sounds: where no audio was asked for, it cannot be."""


def name_of(act: Act | type[Act]) -> str:
    """How a fault is called in scripts and headers: `HangAfterHeaders` is `hang-after-headers`."""
    kind = act if isinstance(act, type) else type(act)
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()


ACTS: Mapping[str, type[Act]] = {name_of(kind): kind for kind in get_args(Act)}
"""All there are, by name."""
