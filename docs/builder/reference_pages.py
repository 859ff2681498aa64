"""Pages of the API reference: which public name is where, and which members are internal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import steadyvoice
from steadyvoice import breaker, fleet, simulator, testing
from steadyvoice.breaker import testing as breaker_testing
from steadyvoice.fleet import testing as fleet_testing
from steadyvoice.providers import vendor


@dataclass(frozen=True)
class ReferencePage:
    """Page of the reference: its public names by the module that they are imported from."""

    file: str
    title: str
    introduction: str
    names: Mapping[str, list[str]]


def _words(text: str) -> list[str]:
    return text.split()


_BREAKER = set(breaker.__all__)
_ERRORS = [name for name in steadyvoice.__all__ if name.endswith("Error") and name not in _BREAKER]

_SHOWN_ELSEWHERE = {"Simulator", "actions"}

PAGES = [
    ReferencePage(
        "service.md",
        "API: service",
        "The library's front end. Guides: [streaming](../streaming.md), [failover](../failover.md).",
        {
            "steadyvoice": _words(
                "TTSService AsyncTTSService SpeechStream AsyncSpeechStream Speech Attempt Span TTSErrorHandler "
                "TTSErrorState"
            ),
            "steadyvoice.service.options": ["ServiceSettings", "SynthesisOptions", "SettingChanges"],
        },
    ),
    ReferencePage(
        "settings.md",
        "API: settings",
        "Settings of a service. The same as tables of a file: [configuration](../configuration.md).",
        {"steadyvoice": _words("TimeoutConfig RetryConfig CacheConfig HedgeConfig JournalConfig TelemetryConfig")},
    ),
    ReferencePage(
        "conversations.md",
        "API: conversations",
        "Speech from text that is still being written. Guide: [conversations](../conversations.md).",
        {
            "steadyvoice": _words(
                "AsyncConversation Conversation AsyncTurn Turn Audio Words Switched Flushed Ended Heard"
            ),
            "steadyvoice.service.conversation.conversation": ["ConversationOptions"],
        },
    ),
    ReferencePage(
        "values.md",
        "API: requests, voices and formats",
        "Values that services and providers exchange. Guide: [voices](../voices.md).",
        {"steadyvoice": _words("SpeechRequest Voice Markup AudioFormat Alignment Word")},
    ),
    ReferencePage(
        "providers.md",
        "API: providers",
        "Providers, and what a provider of your own is made of. Guide: [providers](../providers.md).",
        {
            "steadyvoice": _words(
                "ElevenLabs OpenAICompatible Azure Cartesia Deepgram Google Polly Espeak Neural Tone Provider Accepted "
                "AudioChunk SynthesisOffer Credential Credit"
            ),
            "steadyvoice.providers.vendor": list(vendor.__all__),
        },
    ),
    ReferencePage(
        "errors.md",
        "API: errors",
        "Attributes of each error, what it means and what to do: [errors](../errors.md).",
        {"steadyvoice": ["TTSError", *(name for name in _ERRORS if name != "TTSError")]},
    ),
    ReferencePage(
        "breaker.md",
        "API: circuit breaker",
        "A circuit breaker for any call. Guide: [circuit breaker](../breaker.md).",
        {
            "steadyvoice.breaker": _words("CircuitBreaker CircuitBreakerConfig CircuitState Permit CircuitRegistry")
            + [
                name
                for name in breaker.__all__
                if name not in ("CircuitBreaker", "CircuitBreakerConfig", "CircuitState", "Permit", "CircuitRegistry")
            ],
            "steadyvoice.breaker.testing": list(breaker_testing.__all__),
        },
    ),
    ReferencePage(
        "fleet.md",
        "API: fleet",
        "Circuits and limits shared between processes. Guide: [fleet](../fleet.md).",
        {"steadyvoice.fleet": list(fleet.__all__), "steadyvoice.fleet.testing": list(fleet_testing.__all__)},
    ),
    ReferencePage(
        "testing.md",
        "API: conformance kit",
        "Checks of a provider of your own. Guide: [test it](../providers.md#test-it).",
        {"steadyvoice.testing": list(testing.__all__)},
    ),
    ReferencePage(
        "simulator.md",
        "API: simulator",
        "Simulated vendors for tests of an application. The classes of `actions` are the "
        "[faults](../simulator.md#fault-actions). Guide: [simulator](../simulator.md).",
        {"steadyvoice.simulator": ["Simulator", *(name for name in simulator.__all__ if name not in _SHOWN_ELSEWHERE)]},
    ),
    ReferencePage(
        "plugins.md",
        "API: LiveKit and Pipecat",
        "Plugins for voice agents. Guides: [LiveKit Agents](../livekit.md), [Pipecat](../pipecat.md).",
        {"steadyvoice.livekit": ["TTS"], "steadyvoice.pipecat": ["TTSService"]},
    ),
]

NOT_CONSTRUCTED = frozenset(
    _words("AsyncConversation AsyncSpeechStream AsyncTurn Conversation SpeechStream Turn ProviderCheck Permit")
)
"""Classes whose instances come from others: their constructors are not shown."""

COMMON: Mapping[str, list[type]] = {"providers.md": [steadyvoice.Provider, vendor.VendorProvider]}
"""Classes whose methods the other classes of a page have as well; they are shown once."""

FORKING = frozenset({"fork_lock", "after_fork"})
"""Members by which classes follow a fork of the process."""

INTERNAL: Mapping[str, frozenset[str]] = {
    name: frozenset(members.split())
    for name, members in {
        "AsyncTTSService": "open_connection open_conversation open_stream handler relay relays due_relays on_midstream "
        "streams turns max_audio_bytes timeouts settings providers follow_fleet fleet",
        "AsyncSpeechStream": "attach_sink leave_behind",
        "AsyncTurn": "leave_behind",
        "AsyncConversation": "turns",
        "Alignment": "spread joined of_original spread_over without_markup since",
        "TTSError": "hide_text",
        "TTSErrorHandler": "successor attempt admit settle left queue_slot accepted check refuses circuit_refuses "
        "probes refusal pause",
        "Attempt": "timing left",
        "CacheConfig": "fresh",
        "RetryConfig": "pause",
        "TimeoutConfig": "laid_over first_audio_while read_timeout_is_set",
        "CircuitOpenError": "from_fields",
        "Permit": "of timing",
        "Fleet": "beat wants_slots",
        "Fault": "matches",
        "RequestLedger": "open charge sent end track close",
        "Script": "locate",
        "SlotAccount": "identity usage lend grace",
        "Rule": "parts",
        "TTSService": "can_generate_metrics supports_processing_metrics language_to_service_language setup stop cancel "
        "cleanup on_turn_context_created run_tts flush_audio on_turn_context_completed on_audio_context_interrupted "
        "on_audio_context_completed push_error_frame push_frame",  # of Pipecat
        "ElevenLabs": "credit",
        "TextStreamingVendor": "open_text_stream prewarm",
        "Neural": "warm_up",
        "OpenAICompatible": "is_openai",
    }.items()
}
"""Members that only other packages of steadyvoice use."""
