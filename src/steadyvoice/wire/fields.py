"""Whose request fields are whose, so that one vendor's own options do not upset another's server.

Fields that are on neither list are passed on: vendors add new ones faster than we learn of them.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from steadyvoice.speech.request import SpeechRequest

# https://elevenlabs.io/docs/api-reference/text-to-speech/stream
ELEVENLABS_QUERY = frozenset({"enable_logging", "optimize_streaming_latency"})
ELEVENLABS_BODY = frozenset(
    {
        "voice_settings",
        "language_code",
        "pronunciation_dictionary_locators",
        "seed",
        "previous_text",
        "next_text",
        "previous_request_ids",
        "next_request_ids",
        "use_pvc_as_ivc",
        "apply_text_normalization",
        "apply_language_text_normalization",
        "audio_effects",
    }
)
# https://platform.openai.com/docs/api-reference/audio/createSpeech
OPENAI_BODY = frozenset({"instructions", "stream_format"})

_DECIDED = frozenset({"text", "input", "voice", "voice_id", "model", "model_id", "output_format", "response_format"})


def own_options(request: SpeechRequest, dialect: str, foreign: Set[str]) -> dict[str, Any]:
    """Keep the options that are not another vendor's, and never one that the request itself decides.

    Where the request says whose they all are, another vendor gets none.
    """
    if request.dialect not in (None, dialect):
        return {}
    return {name: value for name, value in request.options.items() if name not in foreign and name not in _DECIDED}
