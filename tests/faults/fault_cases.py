"""Every fault of the simulator's own list, as it is tried on the service: with what fields, and in which formats.

A fault that is new there is tried as it comes. Those of websockets alone are left out, for the provider speaks HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from steadyvoice.simulator.fault_injection import actions
from steadyvoice.simulator.fault_injection.actions import ACTIONS, FaultAction, FaultTarget, action_name
from steadyvoice.wire.elevenlabs.errors import CODES

MP3, SAMPLES = "mp3_44100_128", "pcm_16000"
AFTER = 0.6
"""Seconds of audio before a stream breaks: a listener has surely heard some of it."""

LATE = 3.6
"""More than half of what the text usually takes."""


@dataclass(frozen=True)
class BadDay:
    """One fault, in one audio format."""

    act: FaultAction
    format: str = MP3

    @property
    def fault(self) -> str:
        """As a script or a header would say it, with what is not usual."""
        told = ", ".join(f"{name}={value}" for name, value in self._unusual())
        return f"{action_name(self.act)} ({told})" if told else action_name(self.act)

    @property
    def mishap(self) -> str:
        """What it does, in the simulator's own words."""
        return (self.act.__doc__ or "").strip().partition("\n")[0].removesuffix(".")

    def __str__(self) -> str:
        return f"{self.fault} {self.format}"

    def _unusual(self) -> list[tuple[str, Any]]:
        values = [(field, getattr(self.act, field.name)) for field in fields(self.act)]
        return [(field.name, value) for field, value in values if value != field.default]


_TRIED: dict[type[FaultAction], tuple[FaultAction, ...]] = {
    actions.SlowFirstByte: (actions.SlowFirstByte(0.1), actions.SlowFirstByte(60.0)),
    actions.SlowAccept: (actions.SlowAccept(0.1), actions.SlowAccept(60.0)),
    actions.Stall: (actions.Stall(AFTER), actions.Stall(AFTER, seconds=0.1)),
    actions.Drip: (actions.Drip(), actions.Drip(bytes=2000, every=0.25)),
    actions.Cut: (actions.Cut(AFTER),),
    actions.CutTerminated: (actions.CutTerminated(AFTER), actions.CutTerminated(LATE)),
    actions.CutClose: (actions.CutClose(AFTER), actions.CutClose(LATE)),
    actions.HalfLine: (actions.HalfLine(AFTER), actions.HalfLine(LATE)),
    actions.ErrorLine: (actions.ErrorLine(after=AFTER), actions.ErrorLine(after=LATE)),
    actions.Reset: (actions.Reset(), actions.Reset(AFTER)),
    actions.WrongLength: (actions.WrongLength(2.0), actions.WrongLength(0.5)),
    actions.Json: (actions.Json(), actions.Json(told=False)),
    actions.Html: (actions.Html(), actions.Html(told=False)),
    actions.Gzip: (actions.Gzip(), actions.Gzip(members=3), actions.Gzip(told=False)),
    actions.UnknownCoding: (actions.UnknownCoding(), actions.UnknownCoding("gzip, gzip")),
    actions.TlsFailure: (actions.TlsFailure(), actions.TlsFailure("name"), actions.TlsFailure("expired")),
    actions.Refuse: tuple(actions.Refuse(status=status) for status in (408, 418, 422, 500, 502, 503, 504)),
}

_IN_THE_SOUND = (actions.Silent, actions.TooShort, actions.HeaderOnly, actions.WrongRate, actions.OddSplits)
"""What a format may hide. The others look alike in all."""

_WITHOUT_SOUND = (
    actions.Refuse, actions.Hang, actions.HangAfterHeaders, actions.SlowFirstByte, actions.Empty,
    actions.RefuseConnection, actions.SlowAccept, actions.TlsFailure,
)  # fmt: skip
"""What has nothing to do with formats: tried in the one that is the least work."""

_OTHER_FORMATS = (SAMPLES, "wav_24000", "opus_48000_64", "ulaw_8000")


def _days_of(kind: type[FaultAction]) -> list[BadDay]:
    formats = (MP3, *_OTHER_FORMATS) if kind in _IN_THE_SOUND else (SAMPLES if kind in _WITHOUT_SOUND else MP3,)
    return [BadDay(act, format_) for act in _TRIED.get(kind, (kind(),)) for format_ in formats]


def _refusals() -> list[BadDay]:
    """Every code the vendor is known to send, in both of its generations."""
    return [BadDay(actions.Refuse(code, form=form), SAMPLES) for code in CODES for form in ("current", "legacy")]


LEFT_OUT = [name for name, kind in ACTIONS.items() if kind.targets == {FaultTarget.WEBSOCKET}]

EVERY_DAY = [day for name, kind in ACTIONS.items() if name not in LEFT_OUT for day in _days_of(kind)] + _refusals()
