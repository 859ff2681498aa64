"""How an utterance may be spoken, as its caller and the service agreed."""

from __future__ import annotations

from dataclasses import dataclass

from steadyvoice.service.pipeline.audio_limits import MAX_AUDIO_BYTES
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.speech.request import OnMidstream, VoiceSubstitution


@dataclass(frozen=True, slots=True)
class Terms:
    """`deadline` is the caller's own, in seconds; `hold` lets nothing be heard before its piece is whole, which costs
    nothing to who wants the whole anyway. `announced`: the outcome is told with the first byte, for good, so that
    silence after speech would be taken for the whole. `most_bytes` of audio are held.
    """

    timeouts: TimeoutConfig
    muted: bool
    on_midstream: OnMidstream
    voice_substitution: VoiceSubstitution
    max_attempts: int
    deadline: float | None = None
    hold: bool = False
    announced: bool = False
    most_bytes: int = MAX_AUDIO_BYTES

    @property
    def resumes(self) -> bool:
        """Whether somebody goes on where a voice breaks off."""
        return self.on_midstream == "resume"

    @property
    def own_deadline(self) -> bool:
        """Whether the caller gives less time than the configuration allows."""
        return self.deadline is not None and self.deadline < self.timeouts.total_timeout

    @property
    def total(self) -> float:
        """Seconds in all."""
        return min(self.timeouts.total_timeout, self.deadline or self.timeouts.total_timeout)
