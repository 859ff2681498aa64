"""What may be said with a call or at construction: written once, for the sync and the async door alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Literal, TypedDict

from steadyvoice.breaker import CircuitBreakerConfig
from steadyvoice.providers.provider import Provider
from steadyvoice.service.retry import RetryConfig
from steadyvoice.service.timeouts import TimeoutConfig
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import OnMidstream, VoiceSubstitution


class Wishes(TypedDict, total=False):
    """What a caller may ask of one utterance, besides its text."""

    voice: str  # a name that the providers map to their own; "default" unless said
    format: str | AudioFormat  # an ElevenLabs name such as "mp3_44100_128" (the default), or "mp3", "wav", ...
    model: str | None
    language: str | None
    speed: float  # 1.0 is the voice's own
    seed: int | None
    previous_text: str | None
    next_text: str | None
    options: Mapping[str, Any]  # a vendor's own fields, passed on as they are
    foreign_voice: Literal["refuse", "pass", "default"]
    deadline: float | None  # seconds for all of it, when shorter than `total_timeout`
    on_midstream: OnMidstream
    voice_substitution: VoiceSubstitution


class Settings(TypedDict, total=False):
    """How a service behaves."""

    circuit: CircuitBreakerConfig | None  # for every provider; adaptive when None
    circuits: Mapping[str, CircuitBreakerConfig]  # for single providers, by name; wins over `circuit`
    timeouts: TimeoutConfig | None
    retry: RetryConfig | None
    muted: bool  # True: silence when nobody can speak. False: an error
    on_midstream: OnMidstream
    voice_substitution: VoiceSubstitution
    clock: Callable[[], float]  # seconds that never go back
    wall: Callable[[], float]  # the time of day, in seconds since 1970
    rng: Random


class Plan(Settings):
    """Everything a service is made of, as a configuration file says it."""

    providers: Sequence[Provider]
