"""Names that `steadyvoice` exports: text-to-speech with circuit breaker, timeouts, failover, resume and muted mode.

    from steadyvoice import ElevenLabs, Espeak, TTSService

    with TTSService(providers=[ElevenLabs(), Espeak()]) as tts:
        speech = tts.synthesize("Hello", format="mp3_44100_128")

Names are imported when they are first used, so that `import steadyvoice` loads one module and no dependency.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from steadyvoice._version import __version__

if TYPE_CHECKING:
    from steadyvoice.breaker import (
        CircuitArgumentError,
        CircuitBreaker,
        CircuitBreakerConfig,
        CircuitConfigError,
        CircuitOpenError,
        CircuitState,
    )
    from steadyvoice.providers.azure import Azure
    from steadyvoice.providers.base import Accepted, AudioChunk, Credential, Credit, Provider, SynthesisOffer
    from steadyvoice.providers.cartesia import Cartesia
    from steadyvoice.providers.deepgram import Deepgram
    from steadyvoice.providers.elevenlabs import ElevenLabs
    from steadyvoice.providers.espeak import Espeak
    from steadyvoice.providers.google import Google
    from steadyvoice.providers.neural import Neural
    from steadyvoice.providers.openai import OpenAICompatible
    from steadyvoice.providers.polly import Polly
    from steadyvoice.providers.tone import Tone
    from steadyvoice.service.cache.keys import CacheConfig
    from steadyvoice.service.conversation.conversation import AsyncConversation
    from steadyvoice.service.conversation.events import Audio, Ended, Flushed, Heard, Switched, Words
    from steadyvoice.service.conversation.sync_conversation import Conversation, Turn
    from steadyvoice.service.conversation.turn import AsyncTurn
    from steadyvoice.service.error_state import TTSErrorState
    from steadyvoice.service.journal.writer import JournalConfig
    from steadyvoice.service.pipeline.timeouts import TimeoutConfig
    from steadyvoice.service.resilience.error_classification import TTSCircuitOpenError
    from steadyvoice.service.resilience.error_handler import TTSErrorHandler
    from steadyvoice.service.resilience.hedging import HedgeConfig
    from steadyvoice.service.resilience.retry import RetryConfig
    from steadyvoice.service.result import Attempt, Span, Speech
    from steadyvoice.service.service import AsyncTTSService
    from steadyvoice.service.stream import AsyncSpeechStream
    from steadyvoice.service.sync_service import SpeechStream, TTSService
    from steadyvoice.service.telemetry.config import TelemetryConfig
    from steadyvoice.speech.alignment import Alignment, Word
    from steadyvoice.speech.errors import (
        TTSAbandonedInSilenceError,
        TTSAccountFlaggedError,
        TTSAllProvidersFailedError,
        TTSBadRequestError,
        TTSBlockedError,
        TTSBusyError,
        TTSCancelledError,
        TTSConcurrencyError,
        TTSConfigurationError,
        TTSConnectError,
        TTSConnectTimeoutError,
        TTSCredentialError,
        TTSCutError,
        TTSDeadlineError,
        TTSEmptyAudioError,
        TTSError,
        TTSFinalWithoutAudioError,
        TTSHedgedError,
        TTSHoldError,
        TTSInvalidKeyError,
        TTSLocalCrashError,
        TTSModelUnknownError,
        TTSNoAnswerError,
        TTSNotAudioError,
        TTSNotSpeechError,
        TTSOverloadedError,
        TTSPlanRequiredError,
        TTSProviderError,
        TTSQuotaExceededError,
        TTSReadTimeoutError,
        TTSRefusedError,
        TTSRequestError,
        TTSServerError,
        TTSSilentAudioError,
        TTSSocketDroppedError,
        TTSSocketError,
        TTSSocketIdleError,
        TTSSocketRestartedError,
        TTSStaleConnectionError,
        TTSStalledError,
        TTSStreamInterruptedError,
        TTSTextTooLongError,
        TTSTimeoutError,
        TTSTooLongError,
        TTSTooShortError,
        TTSTooSlowError,
        TTSTotalTimeoutError,
        TTSUnexpectedError,
        TTSUnsupportedFormatError,
        TTSUnsupportedScriptError,
        TTSVoiceUnknownError,
        TTSWrongFormatError,
    )
    from steadyvoice.speech.format import AudioFormat
    from steadyvoice.speech.markup import Markup
    from steadyvoice.speech.request import SpeechRequest
    from steadyvoice.speech.voice import Voice

_HOMES = {
    "breaker": (
        "CircuitArgumentError",
        "CircuitBreaker",
        "CircuitBreakerConfig",
        "CircuitConfigError",
        "CircuitOpenError",
        "CircuitState",
    ),
    "providers.elevenlabs": ("ElevenLabs",),
    "providers.espeak": ("Espeak",),
    "providers.neural": ("Neural",),
    "providers.azure": ("Azure",),
    "providers.cartesia": ("Cartesia",),
    "providers.google": ("Google",),
    "providers.polly": ("Polly",),
    "providers.deepgram": ("Deepgram",),
    "providers.openai": ("OpenAICompatible",),
    "providers.base": ("Accepted", "AudioChunk", "Credential", "Credit", "SynthesisOffer", "Provider"),
    "providers.tone": ("Tone",),
    "service.cache.keys": ("CacheConfig",),
    "service.journal.writer": ("JournalConfig",),
    "service.conversation.conversation": ("AsyncConversation",),
    "service.conversation.events": ("Audio", "Ended", "Flushed", "Heard", "Switched", "Words"),
    "service.conversation.sync_conversation": ("Conversation", "Turn"),
    "service.conversation.turn": ("AsyncTurn",),
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
    "service.telemetry.config": ("TelemetryConfig",),
    "speech.alignment": ("Alignment", "Word"),
    "speech.errors": (
        "TTSAbandonedInSilenceError",
        "TTSAccountFlaggedError",
        "TTSAllProvidersFailedError",
        "TTSBadRequestError",
        "TTSBlockedError",
        "TTSBusyError",
        "TTSCancelledError",
        "TTSConcurrencyError",
        "TTSConfigurationError",
        "TTSConnectError",
        "TTSConnectTimeoutError",
        "TTSCredentialError",
        "TTSCutError",
        "TTSDeadlineError",
        "TTSEmptyAudioError",
        "TTSError",
        "TTSFinalWithoutAudioError",
        "TTSHedgedError",
        "TTSHoldError",
        "TTSInvalidKeyError",
        "TTSLocalCrashError",
        "TTSModelUnknownError",
        "TTSNoAnswerError",
        "TTSNotAudioError",
        "TTSNotSpeechError",
        "TTSOverloadedError",
        "TTSPlanRequiredError",
        "TTSProviderError",
        "TTSQuotaExceededError",
        "TTSReadTimeoutError",
        "TTSRefusedError",
        "TTSRequestError",
        "TTSServerError",
        "TTSSilentAudioError",
        "TTSSocketDroppedError",
        "TTSSocketError",
        "TTSSocketIdleError",
        "TTSSocketRestartedError",
        "TTSStaleConnectionError",
        "TTSStalledError",
        "TTSStreamInterruptedError",
        "TTSTextTooLongError",
        "TTSTimeoutError",
        "TTSTooLongError",
        "TTSTooShortError",
        "TTSTooSlowError",
        "TTSTotalTimeoutError",
        "TTSUnexpectedError",
        "TTSUnsupportedFormatError",
        "TTSUnsupportedScriptError",
        "TTSVoiceUnknownError",
        "TTSWrongFormatError",
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
    "AsyncConversation",
    "AsyncSpeechStream",
    "AsyncTTSService",
    "AsyncTurn",
    "Attempt",
    "Audio",
    "AudioChunk",
    "AudioFormat",
    "Azure",
    "CacheConfig",
    "Cartesia",
    "CircuitArgumentError",
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitConfigError",
    "CircuitOpenError",
    "CircuitState",
    "Conversation",
    "Credential",
    "Credit",
    "Deepgram",
    "ElevenLabs",
    "Ended",
    "Espeak",
    "Flushed",
    "Google",
    "Heard",
    "HedgeConfig",
    "JournalConfig",
    "Markup",
    "Neural",
    "OpenAICompatible",
    "Polly",
    "Provider",
    "RetryConfig",
    "Span",
    "Speech",
    "SpeechRequest",
    "SpeechStream",
    "Switched",
    "SynthesisOffer",
    "TTSAbandonedInSilenceError",
    "TTSAccountFlaggedError",
    "TTSAllProvidersFailedError",
    "TTSBadRequestError",
    "TTSBlockedError",
    "TTSBusyError",
    "TTSCancelledError",
    "TTSCircuitOpenError",
    "TTSConcurrencyError",
    "TTSConfigurationError",
    "TTSConnectError",
    "TTSConnectTimeoutError",
    "TTSCredentialError",
    "TTSCutError",
    "TTSDeadlineError",
    "TTSEmptyAudioError",
    "TTSError",
    "TTSErrorHandler",
    "TTSErrorState",
    "TTSFinalWithoutAudioError",
    "TTSHedgedError",
    "TTSHoldError",
    "TTSInvalidKeyError",
    "TTSLocalCrashError",
    "TTSModelUnknownError",
    "TTSNoAnswerError",
    "TTSNotAudioError",
    "TTSNotSpeechError",
    "TTSOverloadedError",
    "TTSPlanRequiredError",
    "TTSProviderError",
    "TTSQuotaExceededError",
    "TTSReadTimeoutError",
    "TTSRefusedError",
    "TTSRequestError",
    "TTSServerError",
    "TTSService",
    "TTSSilentAudioError",
    "TTSSocketDroppedError",
    "TTSSocketError",
    "TTSSocketIdleError",
    "TTSSocketRestartedError",
    "TTSStaleConnectionError",
    "TTSStalledError",
    "TTSStreamInterruptedError",
    "TTSTextTooLongError",
    "TTSTimeoutError",
    "TTSTooLongError",
    "TTSTooShortError",
    "TTSTooSlowError",
    "TTSTotalTimeoutError",
    "TTSUnexpectedError",
    "TTSUnsupportedFormatError",
    "TTSUnsupportedScriptError",
    "TTSVoiceUnknownError",
    "TTSWrongFormatError",
    "TelemetryConfig",
    "TimeoutConfig",
    "Tone",
    "Turn",
    "Voice",
    "Word",
    "Words",
    "__version__",
]


if not TYPE_CHECKING:  # with __getattr__ in sight, a type checker accepts any misspelt name

    def __getattr__(name: str) -> Any:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'steadyvoice' has no attribute {name!r}")
        value = getattr(import_module(f"steadyvoice.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
