"""What a caller asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from steadyvoice.speech.errors import TTSBadRequestError
from steadyvoice.speech.format import AudioFormat

OnMidstream = Literal["resume", "restart", "error"]
VoiceSubstitution = Literal["any", "never"]

DEFAULT_VOICE = "default"


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """One utterance, as the caller wants it. Voice and model are the caller's names; each provider maps them."""

    text: str
    format: AudioFormat
    voice: str = DEFAULT_VOICE
    model: str | None = None
    language: str | None = None  # BCP 47, such as "en" or "de-AT"
    speed: float = 1.0  # 1.0 is the voice's own pace
    seed: int | None = None
    previous_text: str | None = None  # said just before, for the prosody
    next_text: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # one vendor's own fields, passed on as they are
    foreign_voice: Literal["refuse", "pass", "default"] = "refuse"  # what becomes of a voice no map knows

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise TTSBadRequestError(f"text: must be a string, got {type(self.text).__name__}")
        if isinstance(self.speed, bool) or not isinstance(self.speed, int | float):
            raise TTSBadRequestError(f"speed: must be a number, got {type(self.speed).__name__}")
        if not (math.isfinite(self.speed) and 0.25 <= self.speed <= 4.0):
            raise TTSBadRequestError(f"speed: must lie between 0.25 and 4, got {self.speed}")
