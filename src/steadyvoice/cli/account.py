"""What became of an utterance, in one line for a person."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from steadyvoice.service.spoken import Account, Attempt


def account(spoken: Account, output: Path | None) -> str:
    """Say who spoke, and why it was not the first choice if it was not."""
    where = f" in {output}" if output else ""
    length = f"{spoken.duration:.1f} s"
    match spoken.outcome:
        case "muted":
            return f"muted: {_silent(spoken)}{where}, because {because(spoken.attempts)}"
        case "substituted":
            return f"substituted: {length} by {spoken.provider}{where}, because {because(spoken.attempts)}"
        case "resumed":
            voices = ", then ".join(_voices(spoken))
            return f"resumed: {length} by {voices}{where}, because {because(spoken.attempts)}"
        case outcome:
            return f"{outcome}: {length} by {spoken.provider}{where}"


def because(attempts: Iterable[Attempt]) -> str:
    """Give the last failure of each provider."""
    last = {attempt.provider: attempt.error for attempt in attempts if attempt.error}
    return "; ".join(str(error) for error in last.values()) or "there was no time to ask anybody"


def _silent(spoken: Account) -> str:
    silence = sum(span.stop - span.start for span in spoken.spoken.spans if span.provider is None)
    if silence == spoken.duration:
        return f"nobody could speak, so there are {silence:.1f} s of silence"
    return f"nobody could speak to the end, so {silence:.1f} of {spoken.duration:.1f} s are silence"


def _voices(spoken: Account) -> list[str]:
    """Who spoke, each turn once."""
    voices: list[str] = []
    for span in spoken.spoken.spans:
        name = span.provider or "silence"
        if not voices or voices[-1] != name:
            voices.append(name)
    return voices
