"""Cache settings and cache keys: which utterances are cached, under which key, and how long they are fresh. No I/O."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from steadyvoice._option_rules import Number
from steadyvoice.providers.base import Provider, SynthesisOffer
from steadyvoice.service.pipeline.output import with_true_size
from steadyvoice.service.result import Attempt, Recording, UtteranceReport
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.option_validation import validate_option
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.text import NORMALIZATION_VERSION

KEY_VERSION = 1
"""Version of the meaning of an entry. Increased, it makes all earlier entries unfindable."""

DAY = 86_400.0  # seconds
_CLOCK_SKEW = 3_600.0  # seconds by which the clocks of machines that share a cache may differ


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """Cache settings: folder, size in megabytes (0: no cache), and age in days up to which entries are fresh.

    Older entries are played only while their voice cannot speak (as `stale-if-error` of RFC 5861). Raises
    TTSConfigurationError.
    """

    path: str | os.PathLike[str] = "~/.cache/steadyvoice"  # folder, which is made if it is missing
    max_megabytes: int = 1024  # size limit in megabytes; 0: no cache
    max_age_days: float = 30.0  # days until a recording is played only while its provider cannot speak

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike) or not os.fspath(self.path):
            raise TTSConfigurationError(f"path: must name a folder, got {self.path!r}")
        validate_option("max_megabytes", self.max_megabytes, Number(integer=True, minimum=0))
        validate_option("max_age_days", self.max_age_days, Number("days", above=0, finite=False))

    @property
    def folder(self) -> Path:
        """Folder of the cache, with `~` expanded."""
        return Path(self.path).expanduser()

    @property
    def max_bytes(self) -> int:
        """Size of the cache in bytes."""
        return self.max_megabytes * 1_000_000

    def fresh(self, made: float, now: float) -> bool:
        """Return whether an entry of this age is fresh; times are in seconds since 1970.

        An entry from the future is not: a clock has been set.
        """
        return -_CLOCK_SKEW <= now - made <= self.max_age_days * DAY


def cache_key(request: SpeechRequest, provider: Provider, offer: SynthesisOffer) -> str | None:
    """Return the cache key of what this provider would speak; None if the options are not JSON.

    It covers everything that changes the audio, and nothing else.
    """
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
    """Return the provider that spoke all of it without interruption, the only case that is cached; else None.

    With `hold` interrupted attempts do not matter, because none of their audio was delivered.
    """
    voices = {span.provider for span in report.spans}
    broke_off = any(_was_interrupted(attempt) for attempt in report.attempts)
    if report.cached or len(voices) != 1 or (broke_off and not hold):
        return None
    return voices.pop()


def make_recording(audio: bytes, format: AudioFormat, report: UtteranceReport) -> Recording:
    """Return the recording of an utterance."""
    audio = with_true_size(audio) if format.codec is Codec.WAV else audio
    return Recording(audio, report.duration, report.alignment)


def parse_cache_config(cache: Any) -> CacheConfig | None:
    """Return the configuration for a folder or a configuration; None for no cache. Raises TTSConfigurationError."""
    if cache is None or isinstance(cache, CacheConfig):
        return cache if cache and cache.max_megabytes else None
    if isinstance(cache, str | os.PathLike):
        return CacheConfig(cache)
    raise TTSConfigurationError(f"cache: must be a CacheConfig or the path of a folder, got {cache!r}")


def _was_interrupted(attempt: Attempt) -> bool:
    return attempt.error is not None and attempt.audio > 0
