"""Every fault of the simulator's own list, as it is tried on the service: with what fields, and in which formats.

A fault that is new there is tried as it comes. Those of websockets alone are left out, for the provider speaks HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from steadyvoice.simulator import acts
from steadyvoice.simulator.acts import ACTS, Act, Door, name_of
from steadyvoice.wire.elevenlabs.errors import CODES

MP3, SAMPLES = "mp3_44100_128", "pcm_16000"
AFTER = 0.6
"""Seconds of audio before a stream breaks: a listener has surely heard some of it."""

LATE = 3.6
"""More than half of what the text usually takes."""


@dataclass(frozen=True)
class BadDay:
    """One fault, in one audio format."""

    act: Act
    format: str = MP3

    @property
    def fault(self) -> str:
        """As a script or a header would say it, with what is not usual."""
        told = ", ".join(f"{name}={value}" for name, value in self._unusual())
        return f"{name_of(self.act)} ({told})" if told else name_of(self.act)

    @property
    def mishap(self) -> str:
        """What it does, in the simulator's own words."""
        return (self.act.__doc__ or "").strip().partition("\n")[0].removesuffix(".")

    def __str__(self) -> str:
        return f"{self.fault} {self.format}"

    def _unusual(self) -> list[tuple[str, Any]]:
        values = [(field, getattr(self.act, field.name)) for field in fields(self.act)]
        return [(field.name, value) for field, value in values if value != field.default]


_TRIED: dict[type[Act], tuple[Act, ...]] = {
    acts.SlowFirstByte: (acts.SlowFirstByte(0.1), acts.SlowFirstByte(60.0)),
    acts.SlowAccept: (acts.SlowAccept(0.1), acts.SlowAccept(60.0)),
    acts.Stall: (acts.Stall(AFTER), acts.Stall(AFTER, seconds=0.1)),
    acts.Drip: (acts.Drip(), acts.Drip(bytes=2000, every=0.25)),
    acts.Cut: (acts.Cut(AFTER),),
    acts.CutTerminated: (acts.CutTerminated(AFTER), acts.CutTerminated(LATE)),
    acts.CutClose: (acts.CutClose(AFTER), acts.CutClose(LATE)),
    acts.HalfLine: (acts.HalfLine(AFTER), acts.HalfLine(LATE)),
    acts.ErrorLine: (acts.ErrorLine(after=AFTER), acts.ErrorLine(after=LATE)),
    acts.Reset: (acts.Reset(), acts.Reset(AFTER)),
    acts.WrongLength: (acts.WrongLength(2.0), acts.WrongLength(0.5)),
    acts.Json: (acts.Json(), acts.Json(told=False)),
    acts.Html: (acts.Html(), acts.Html(told=False)),
    acts.Gzip: (acts.Gzip(), acts.Gzip(members=3), acts.Gzip(told=False)),
    acts.UnknownCoding: (acts.UnknownCoding(), acts.UnknownCoding("gzip, gzip")),
    acts.TlsFailure: (acts.TlsFailure(), acts.TlsFailure("name"), acts.TlsFailure("expired")),
    acts.Refuse: tuple(acts.Refuse(status=status) for status in (408, 418, 422, 500, 502, 503, 504)),
}

_IN_THE_SOUND = (acts.Silent, acts.TooShort, acts.HeaderOnly, acts.WrongRate, acts.OddSplits)
"""What a format may hide. The others look alike in all."""

_WITHOUT_SOUND = (
    acts.Refuse, acts.Hang, acts.HangAfterHeaders, acts.SlowFirstByte, acts.Empty,
    acts.RefuseConnection, acts.SlowAccept, acts.TlsFailure,
)  # fmt: skip
"""What has nothing to do with formats: tried in the one that is the least work."""

_OTHER_FORMATS = (SAMPLES, "wav_24000", "opus_48000_64", "ulaw_8000")


def _days_of(kind: type[Act]) -> list[BadDay]:
    formats = (MP3, *_OTHER_FORMATS) if kind in _IN_THE_SOUND else (SAMPLES if kind in _WITHOUT_SOUND else MP3,)
    return [BadDay(act, format_) for act in _TRIED.get(kind, (kind(),)) for format_ in formats]


def _refusals() -> list[BadDay]:
    """Every code the vendor is known to send, in both of its generations."""
    return [BadDay(acts.Refuse(code, form=form), SAMPLES) for code in CODES for form in ("current", "legacy")]


LEFT_OUT = [name for name, kind in ACTS.items() if kind.doors == {Door.WEBSOCKET}]

EVERY_DAY = [day for name, kind in ACTS.items() if name not in LEFT_OUT for day in _days_of(kind)] + _refusals()
