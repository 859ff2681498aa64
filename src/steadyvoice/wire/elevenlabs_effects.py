"""ElevenLabs' `audio_effects`: which there are, and what is wrong with those that a request asks for.

https://elevenlabs.io/docs/api-reference/text-to-speech/convert. `GET /v1/audio-effects/catalog` lists them all; these
are the ones that the documentation names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EFFECTS: Mapping[str, tuple[str, ...]] = {
    "filter_preset_id": ("phone", "old_radio"),
    "environment_id": ("small_room", "hall"),
    "background_noise_id": ("cafe", "keyboard"),
}
"""The fields that name one, and the ids that they know."""

_MONO = ("pcm_", "ulaw_", "alaw_")


def unknown_effect(effects: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Find the first id that nobody knows, with its field."""
    told = ((field, effects.get(field)) for field in EFFECTS)
    return next(((field, id) for field, id in told if id is not None and id not in EFFECTS[field]), None)


def too_wide(effects: Mapping[str, Any], output_format: str) -> bool:
    """Whether this would be stereo in a format that is mono."""
    reverb = effects.get("environment_id") is not None and _above_nothing(effects.get("send_level"))
    return output_format.startswith(_MONO) and (reverb or _above_nothing(effects.get("pan"), either_side=True))


def _above_nothing(level: Any, *, either_side: bool = False) -> bool:
    return isinstance(level, int | float) and (level > 0 or (either_side and level < 0))
