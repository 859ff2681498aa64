"""Flapping profile for two vendors behind one simulator, and the times of their outages.

The first vendor (ElevenLabs' endpoints) is down for the second half of every period, as in the simulator's profile
`flapping`. The second (OpenAI's) is down for the middle half, so that a period has all four cases: both up, only the
first up, both down (local voices speak), only the second up. Besides, a few answers are cut, end too early, pause or
never come, at rates that must not open a circuit by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PERIOD = 20.0
"""Period in seconds, as in the simulator's profile `flapping`."""

FIRST, SECOND = "elevenlabs", "openai"
ENDPOINTS: Mapping[str, str] = {FIRST: "text-to-speech*", SECOND: "audio/speech"}
DOWN: Mapping[str, tuple[float, float]] = {FIRST: (0.5, 1.0), SECOND: (0.25, 0.75)}
"""Begin and end of each vendor's outage, as shares of the period."""

_RARE: tuple[Mapping[str, Any], ...] = (
    {"fault": "cut", "after": 0.8, "probability": 0.03},
    {"fault": "cut-terminated", "after": 0.8, "probability": 0.01},
    {"fault": "stall", "after": 0.4, "seconds": 0.7, "probability": 0.01},
    {"fault": "hang", "probability": 0.003},
)


def faults(period: float = PERIOD) -> list[dict[str, Any]]:
    """Return the profile for the simulator's `/sim/faults`, where its times begin when it is set."""
    rules: list[dict[str, Any]] = []
    for vendor, endpoint in ENDPOINTS.items():
        begin, end = (share * period for share in DOWN[vendor])
        outage = {"fault": "refuse", "status": 503, "start": begin, "end": end, "period": period}
        rules += [{**outage, "endpoint": endpoint}]
        rules += [{**fault, "endpoint": endpoint} for fault in _RARE]
    return rules


def vendor_is_down(vendor: str, seconds: float, period: float = PERIOD, margin: float = 0.0) -> bool:
    """Return whether a vendor is down at this time of the profile, or was within the last `margin` seconds."""
    if vendor not in DOWN:
        return False
    begin, end = (share * period for share in DOWN[vendor])
    now = seconds % period
    # A margin may reach into the next period, where the time begins at zero again.
    return seconds >= begin and (begin <= now < end + margin or now + period < end + margin)
