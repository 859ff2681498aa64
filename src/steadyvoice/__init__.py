"""A voice that keeps speaking when its provider does not.

    from steadyvoice import ElevenLabs, Espeak, TTSService

    with TTSService(providers=[ElevenLabs(), Espeak()]) as tts:
        speech = tts.synthesize("Hello", format="mp3_44100_128")

Names are looked up when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from steadyvoice._version import __version__

if TYPE_CHECKING:
    from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError, CircuitState
    from steadyvoice.providers.base import Accepted, AudioChunk, Credential, Credit, Provider, SynthesisOffer
    from steadyvoice.providers.elevenlabs import ElevenLabs
    from steadyvoice.providers.espeak import Espeak
    from steadyvoice.providers.openai import OpenAICompatible
    from steadyvoice.providers.tone import Tone
    from steadyvoice.service.cache.keys import CacheConfig
    from steadyvoice.service.error_state import TTSErrorState
    from steadyvoice.service.pipeline.timeouts import TimeoutConfig
    from steadyvoice.service.resilience.error_classification import TTSCircuitOpenError
    from steadyvoice.service.resilience.error_handler import TTSErrorHandler
    from steadyvoice.service.resilience.hedging import HedgeConfig
    from steadyvoice.service.resilience.retry import RetryConfig
    from steadyvoice.service.result import Attempt, Span, Speech
    from steadyvoice.service.service import AsyncTTSService
    from steadyvoice.service.stream import AsyncSpeechStream
    from steadyvoice.service.sync_service import SpeechStream, TTSService
    from steadyvoice.speech.alignment import Alignment
    from steadyvoice.speech.errors import (
        TTSAllProvidersFailedError,
        TTSConfigurationError,
        TTSError,
        TTSOverloadedError,
        TTSStreamInterruptedError,
    )
    from steadyvoice.speech.format import AudioFormat
    from steadyvoice.speech.markup import Markup
    from steadyvoice.speech.request import SpeechRequest
    from steadyvoice.speech.voice import Voice

_HOMES = {
    "breaker": ("CircuitBreaker", "CircuitBreakerConfig", "CircuitOpenError", "CircuitState"),
    "providers.elevenlabs": ("ElevenLabs",),
    "providers.espeak": ("Espeak",),
    "providers.openai": ("OpenAICompatible",),
    "providers.base": ("Accepted", "AudioChunk", "Credential", "Credit", "SynthesisOffer", "Provider"),
    "providers.tone": ("Tone",),
    "service.cache.keys": ("CacheConfig",),
    "service.error_state": ("TTSErrorState",),
    "service.resilience.error_handler": ("TTSErrorHandler",),
    "service.pipeline.timeouts": ("TimeoutConfig",),
    "service.resilience.error_classification": ("TTSCircuitOpenError",),
    "service.resilience.hedging": ("HedgeConfig",),
    "service.resilience.retry": ("RetryConfig",),
    "service.service": ("AsyncTTSService",),
    "service.stream": ("AsyncSpeechStream",),
    "service.result": ("Attempt", "Span", "Speech"),
    "service.sync_service": ("SpeechStream", "TTSService"),
    "speech.alignment": ("Alignment",),
    "speech.errors": (
        "TTSAllProvidersFailedError",
        "TTSConfigurationError",
        "TTSError",
        "TTSOverloadedError",
        "TTSStreamInterruptedError",
    ),
    "speech.format": ("AudioFormat",),
    "speech.markup": ("Markup",),
    "speech.request": ("SpeechRequest",),
    "speech.voice": ("Voice",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Accepted",
    "Alignment",
    "AsyncSpeechStream",
    "AsyncTTSService",
    "Attempt",
    "AudioChunk",
    "AudioFormat",
    "CacheConfig",
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitOpenError",
    "CircuitState",
    "Credential",
    "Credit",
    "ElevenLabs",
    "Espeak",
    "HedgeConfig",
    "Markup",
    "OpenAICompatible",
    "Provider",
    "RetryConfig",
    "Span",
    "Speech",
    "SpeechRequest",
    "SpeechStream",
    "SynthesisOffer",
    "TTSAllProvidersFailedError",
    "TTSCircuitOpenError",
    "TTSConfigurationError",
    "TTSError",
    "TTSErrorHandler",
    "TTSErrorState",
    "TTSOverloadedError",
    "TTSService",
    "TTSStreamInterruptedError",
    "TimeoutConfig",
    "Tone",
    "Voice",
    "__version__",
]


if not TYPE_CHECKING:  # a type checker would take any misspelt name for one of these

    def __getattr__(name: str) -> Any:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'steadyvoice' has no attribute {name!r}")
        value = getattr(import_module(f"steadyvoice.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
