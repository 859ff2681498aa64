"""How an utterance may be spoken, as its caller and the service agreed."""

from __future__ import annotations

from dataclasses import dataclass

from steadyvoice.service.timeouts import TimeoutConfig
from steadyvoice.speech.request import OnMidstream, VoiceSubstitution


@dataclass(frozen=True, slots=True)
class Terms:
    """`deadline` is the caller's own, in seconds; `hold` lets nothing be heard before its piece is whole, which costs
    nothing to who wants the whole anyway.
    """

    timeouts: TimeoutConfig
    muted: bool
    on_midstream: OnMidstream
    voice_substitution: VoiceSubstitution
    max_attempts: int
    deadline: float | None = None
    hold: bool = False
