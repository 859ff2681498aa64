"""What ElevenLabs offers: its models with their limits, its stock voices, and how it lists them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Model:
    """One model: how many characters a request may have, and which hints it takes."""

    model_id: str
    max_characters: int
    takes_context: bool = True  # previous_text and next_text; an error where it does not
    takes_language: bool = False  # language_code; an error where it does not


# Limits: https://elevenlabs.io/docs/overview/models. language_code: the v2.5 models only, as pipecat found.
MODELS: Mapping[str, Model] = {
    model.model_id: model
    for model in (
        Model("eleven_v3", 3_000, takes_context=False),
        Model("eleven_multilingual_v2", 10_000),
        Model("eleven_flash_v2", 30_000),
        Model("eleven_turbo_v2", 30_000),
        Model("eleven_flash_v2_5", 40_000, takes_language=True),
        Model("eleven_turbo_v2_5", 40_000, takes_language=True),
    )
}

DEFAULT_MODEL = "eleven_multilingual_v2"
"""What ElevenLabs takes when a request names no model."""

# The voices every account has. A sample of https://elevenlabs.io/docs/product/voices/default-voices
VOICES: Mapping[str, str] = {
    "Aria": "9BWtsMINqrJLrRacOk9x",
    "Roger": "CwhRBWXzGAHq8TQ4Fs17",
    "Sarah": "EXAVITQu4vr4xnSDxMaL",
    "Laura": "FGY2WhTYpPnrIDTdsKH5",
    "Charlie": "IKne3meq5aSn9XLyUdCD",
    "George": "JBFqnCBsd6RMkjVDRZzb",
    "Callum": "N2lVS1w4EtoT3dr4eOWO",
    "River": "SAz9YHcvj6GT2YYXdXww",
    "Liam": "TX3LPaxmHKxFdv7VOQHJ",
    "Charlotte": "XB0fDUnXU5powFXDhCwa",
    "Alice": "Xb7hH8MSUJpSbSDYk0k2",
    "Matilda": "XrExE9yKIg1WjnnlVkGX",
    "Will": "bIHbv24MWmeRgasZH58o",
    "Jessica": "cgSgspJ2msm6clMCkdW9",
    "Eric": "cjVigY5qzO86Huf0OWal",
    "Chris": "iP95p4xoKVk53GoZ742B",
    "Brian": "nPczCjzI2devNBz1zQrb",
    "Daniel": "onwK4e9ZLuTAKqWW03F9",
    "Lily": "pFZP5JQG7iQjIQuC4Bku",
    "Bill": "pqHfZKP75CvOlQylNhV4",
    "Rachel": "21m00Tcm4TlvDq8ikWAM",
    "Adam": "pNInz6obpgDQGcFmaJgB",
}

_SHORTEST_LIMIT = min(model.max_characters for model in MODELS.values())


def model_facts(model_id: str) -> Model:
    """Look a model up. One we do not know gets the smallest limit and no hints.

    A text cut too small costs a little melody; one too long, or a hint refused, costs the utterance.
    """
    return MODELS.get(model_id) or Model(model_id, _SHORTEST_LIMIT, takes_context=False)


def models_body(models: Iterable[Model] = tuple(MODELS.values())) -> list[dict[str, Any]]:
    """Answer `GET /v1/models`."""
    return [
        {
            "model_id": model.model_id,
            "name": model.model_id.replace("_", " ").title(),
            "can_do_text_to_speech": True,
            "max_characters_request_free_user": model.max_characters,
            "max_characters_request_subscribed_user": model.max_characters,
            "maximum_text_length_per_request": model.max_characters,
            "token_cost_factor": 1.0,
            "languages": [{"language_id": "en", "name": "English"}],
        }
        for model in models
    ]


def voices_body(voices: Mapping[str, str] = VOICES, *, version: int = 1) -> dict[str, Any]:
    """Answer `GET /v1/voices` or, with its page fields, `GET /v2/voices`. `voices` maps names to ids."""
    listed = [{"voice_id": voice_id, "name": name, "category": "premade"} for name, voice_id in voices.items()]
    if version == 1:
        return {"voices": listed}
    return {"voices": listed, "has_more": False, "total_count": len(listed), "next_page_token": None}
