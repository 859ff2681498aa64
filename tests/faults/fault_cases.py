"""Cases for every fault of the simulator: its fields, and the formats in which it is tried.

A new fault is tried with its defaults. Faults of websockets alone are in `websocket_scenario.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from steadyvoice.simulator.fault_injection import actions
from steadyvoice.simulator.fault_injection.actions import ACTIONS, FaultAction, FaultTarget, action_name
from steadyvoice.wire.elevenlabs.errors import CODES
from tests.case_selection import covering_cases

MP3, SAMPLES = "mp3_44100_128", "pcm_16000"
AFTER = 0.6
"""Seconds of audio before a stream breaks: enough that a listener has heard some of it."""

LATE = 3.6
"""More than half of the usual duration of the text."""


@dataclass(frozen=True)
class FaultCase:
    """Fault in one audio format."""

    act: FaultAction
    format: str = MP3

    @property
    def fault(self) -> str:
        """Return the fault as a script or a header would state it, with its unusual fields."""
        options = ", ".join(f"{name}={value}" for name, value in self._unusual())
        return f"{action_name(self.act)} ({options})" if options else action_name(self.act)

    @property
    def description(self) -> str:
        """Return the simulator's description of the fault."""
        return (self.act.__doc__ or "").strip().partition("\n")[0].removesuffix(".")

    def __str__(self) -> str:
        return f"{self.fault} {self.format}"

    def _unusual(self) -> list[tuple[str, Any]]:
        values = [(field, getattr(self.act, field.name)) for field in fields(self.act)]
        return [(field.name, value) for field, value in values if value != field.default]


_VARIANTS: dict[type[FaultAction], tuple[FaultAction, ...]] = {
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
    actions.Json: (actions.Json(), actions.Json(declared=False)),
    actions.Html: (actions.Html(), actions.Html(declared=False)),
    actions.Gzip: (actions.Gzip(), actions.Gzip(members=3), actions.Gzip(declared=False)),
    actions.UnknownCoding: (actions.UnknownCoding(), actions.UnknownCoding("gzip, gzip")),
    actions.TlsFailure: (actions.TlsFailure(), actions.TlsFailure("name"), actions.TlsFailure("expired")),
    actions.Refuse: tuple(actions.Refuse(status=status) for status in (408, 418, 422, 500, 502, 503, 504)),
}

IN_THE_SOUND = (actions.Silent, actions.TooShort, actions.HeaderOnly, actions.WrongRate, actions.OddSplits)
"""Faults that a format may hide. The others look alike in all."""

_WITHOUT_SOUND = (
    actions.Refuse, actions.Hang, actions.HangAfterHeaders, actions.SlowFirstByte, actions.Empty,
    actions.RefuseConnection, actions.SlowAccept, actions.TlsFailure,
)  # fmt: skip
"""Faults that do not depend on the format: tried in the cheapest one."""

_OTHER_FORMATS = (SAMPLES, "wav_24000", "opus_48000_64", "ulaw_8000")


def _cases_of(kind: type[FaultAction]) -> list[FaultCase]:
    formats = (MP3, *_OTHER_FORMATS) if kind in IN_THE_SOUND else (SAMPLES if kind in _WITHOUT_SOUND else MP3,)
    return [FaultCase(act, format_) for act in _VARIANTS.get(kind, (kind(),)) for format_ in formats]


def _refusals() -> list[FaultCase]:
    """Return every error code that the vendor is known to send, in both generations of its API."""
    return [FaultCase(actions.Refuse(code, form=form), SAMPLES) for code in CODES for form in ("current", "legacy")]


EXCLUDED = [name for name, kind in ACTIONS.items() if kind.targets == {FaultTarget.WEBSOCKET}]

ALL_CASES = [case for name, kind in ACTIONS.items() if name not in EXCLUDED for case in _cases_of(kind)] + _refusals()

Path = TypeVar("Path", bound=Hashable)


def on_paths(
    cases: Sequence[FaultCase], paths: Iterable[Path], possible: Callable[[FaultCase, Path], bool] = lambda *_: True
) -> list[tuple[FaultCase, Path]]:
    """Return each case on one path at least, so that each kind of fault and each format is tried on every path.

    Variants of a fault take turns, as do its formats. With STEADYVOICE_DEEP=1 each case is tried on all paths.
    """

    def features(row: tuple[FaultCase, Path]) -> set[Hashable]:
        case, path = row
        return {path, case, (type(case.act), path), (case.format, path)}

    rows = [(case, path) for path in paths for case in cases if possible(case, path)]
    return covering_cases(rows, features)
