"""How a healthy simulator behaves: its voice, its account, its limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from steadyvoice.simulator.acts import ErrorForm, FaultError

VoiceEngine = Literal["auto", "tones", "speech"]


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it may stand in a script. Raises FaultError for impossible values.

    Without `keys`, any API key will do. `voices` and `models` are ids that are known besides the vendors' own.
    """

    tls: bool = False  # https and wss, with a certificate made at start
    voice: VoiceEngine = "auto"  # speech where eSpeak NG is installed, tones elsewhere
    seed: int = 0  # of the voice and of chance
    real_time_factor: float = 0.0  # seconds taken to send a second of audio; 0 is as fast as it goes
    keys: tuple[str, ...] = ()
    voices: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    errors: ErrorForm = "current"
    concurrency: int = 10  # ElevenLabs requests at once; its Pro plan's
    queue_seconds: float = 0.05  # how long one more may wait for its turn
    character_count: int = 0  # of ElevenLabs' subscription: used
    character_limit: int = 500_000
    character_reset: int = 0  # when it says that it starts again, in Unix seconds; 0: it does not say

    def __post_init__(self) -> None:
        for name, choices in (("voice", get_args(VoiceEngine)), ("errors", get_args(ErrorForm))):
            if getattr(self, name) not in choices:
                raise FaultError(f"{name}: one of {', '.join(choices)}, got {getattr(self, name)!r}", name)
        for name in ("real_time_factor", "queue_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise FaultError(f"{name}: 0 or more, got {getattr(self, name)}", name)
        if self.concurrency < 1:
            raise FaultError(f"concurrency: at least 1, got {self.concurrency}", "concurrency")
        for name in ("character_count", "character_limit", "character_reset"):
            if getattr(self, name) < 0:
                raise FaultError(f"{name}: 0 or more, got {getattr(self, name)}", name)
        if not all(self.keys):
            raise FaultError("keys: an empty key is none", "keys")
