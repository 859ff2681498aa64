"""What of speech is worth keeping, and under which key: everything that changes the sound, and nothing else. No I/O."""

from __future__ import annotations

import json
import os
from array import array
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from steadyvoice.providers.base import Provider, SynthesisOffer
from steadyvoice.service.pipeline.output import with_true_size
from steadyvoice.service.result import Attempt, UtteranceReport
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.text import NORMALIZATION_VERSION

KEY_VERSION = 1
"""Of what an entry means. Raise it, and nothing that was kept before is found again."""

DAY = 86_400.0  # seconds
_CLOCK_SKEW = 3_600.0  # seconds by which the clocks of those who share a cache may differ


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """Where finished speech is kept, how much of it (0: none), and for how many days it is as good as new.

    What is older is still played while its voice cannot speak. Raises TTSConfigurationError.
    """

    path: str | os.PathLike[str] = "~/.cache/steadyvoice"
    max_megabytes: int = 1024
    max_age_days: float = 30.0

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike) or not os.fspath(self.path):
            raise TTSConfigurationError(f"path: must name a folder, got {self.path!r}")
        if isinstance(self.max_megabytes, bool) or not isinstance(self.max_megabytes, int) or self.max_megabytes < 0:
            raise TTSConfigurationError(f"max_megabytes: must be a whole number, 0 or more, got {self.max_megabytes!r}")
        age = self.max_age_days
        if isinstance(age, bool) or not isinstance(age, int | float) or not age > 0:
            raise TTSConfigurationError(f"max_age_days: must be a number of days, more than 0, got {age!r}")

    @property
    def folder(self) -> Path:
        return Path(self.path).expanduser()

    @property
    def max_bytes(self) -> int:
        return self.max_megabytes * 1_000_000

    def fresh(self, made: float, now: float) -> bool:
        """Whether what was made then is as good as new. What comes from the future is not: a clock has jumped."""
        return -_CLOCK_SKEW <= now - made <= self.max_age_days * DAY


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole utterance by one voice: its audio in the asked format, how long it is, and when each character is heard.

    It is fresh while it may be played without asking the provider.
    """

    audio: bytes
    seconds: float
    alignment: Alignment
    fresh: bool = True

    def packed(self) -> bytes:
        """Write down all but the audio: a line of JSON, and the times behind it as this machine writes numbers."""
        times = self.alignment
        account = {"seconds": self.seconds, "exact": times.exact, "characters": times.characters}
        return json.dumps(account).encode() + b"\n" + array("d", times.starts + times.ends).tobytes()

    @classmethod
    def unpacked(cls, audio: bytes, account: bytes, *, fresh: bool) -> Recording:
        """Read it again. Raises ValueError, KeyError or TypeError."""
        line, _, numbers = account.partition(b"\n")
        read, times = json.loads(line), array("d", numbers)
        count = len(read["characters"])
        starts, ends = tuple(times[:count]), tuple(times[count:])
        alignment = Alignment(tuple(read["characters"]), starts, ends, exact=read["exact"])
        return cls(audio, read["seconds"], alignment, fresh)


def cache_key(request: SpeechRequest, provider: Provider, offer: SynthesisOffer) -> str | None:
    """Name what this provider would say. None for what has no name: options that are no JSON."""
    kind = type(provider)
    sound = [
        [KEY_VERSION, NORMALIZATION_VERSION],
        [f"{kind.__module__}.{kind.__qualname__}", offer.source or provider.name],
        [offer.model, offer.voice, offer.format.name],
        [request.format.name, request.text, request.language, float(offer.speed or request.speed), request.seed],
        [request.previous_text, request.next_text, dict(request.options)],
        [request.dialect if request.options else None, float(offer.gain)],
    ]
    try:
        written = json.dumps(sound, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):
        return None
    return sha256(written.encode()).hexdigest()


def sole_provider(report: UtteranceReport, *, hold: bool) -> str | None:
    """Who said all of it, alone and without breaking off: only that is worth keeping.

    With `hold` nobody heard what broke off before the end, and none of it is in the audio.
    """
    voices = {span.provider for span in report.spans}
    broke_off = any(_was_interrupted(attempt) for attempt in report.attempts)
    if report.cached or len(voices) != 1 or (broke_off and not hold):
        return None
    return voices.pop()


def make_recording(audio: bytes, format: AudioFormat, report: UtteranceReport) -> Recording:
    """Make a recording of what was said."""
    audio = with_true_size(audio) if format.codec is Codec.WAV else audio
    return Recording(audio, report.duration, report.alignment)


def parse_cache_config(given: Any) -> CacheConfig | None:
    """Take a folder for its usual settings. Raises TTSConfigurationError."""
    if given is None or isinstance(given, CacheConfig):
        return given if given and given.max_megabytes else None
    if isinstance(given, str | os.PathLike):
        return CacheConfig(given)
    raise TTSConfigurationError(f"cache: must be a CacheConfig or the path of a folder, got {given!r}")


def _was_interrupted(attempt: Attempt) -> bool:
    return attempt.error is not None and attempt.audio > 0
