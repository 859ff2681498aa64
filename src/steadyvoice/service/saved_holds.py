"""What is on hold, across a restart, as JSON-ready values. As with circuits, times are what remains of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

from steadyvoice.providers.base import HasCredential, Provider
from steadyvoice.service.holds import Hold, Holds
from steadyvoice.speech.failure_kinds import FailureKind, meaning_of
from steadyvoice.wire.error_response import MAX_RETRY_AFTER


def saved(holds: Holds, now: float) -> list[dict[str, Any]]:
    """What a new process needs to leave the same alone."""
    return [
        {
            "key": hold.key,
            "kind": hold.kind.value,
            "remaining": hold.until - now,
            "because": hold.because,
            "refused": hold.refused,
            "room": hold.room,
            "named": hold.named,
        }
        for hold in holds.current(now)
    ]


def restore(holds: Holds, state: Sequence[Any], now: float, passed: float) -> None:
    """Put the same on hold, less the `passed` seconds in which nobody ran.

    None lasts longer than a new one would: whoever asks the vendor for its credit meanwhile is not here any more.
    Raises ValueError for values that no export has; nothing is put on hold then.
    """
    try:
        read = [_hold(each, holds.provider, now, passed) for each in state]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not a saved hold: {error!r}") from error
    for hold in read:
        if hold.until > now:
            holds.take_up(hold)


def mark_of(provider: Provider, salt: bytes) -> str | None:
    """By which to know a provider's credential again: holds of another one are none of its. Slow, on purpose."""
    credential = provider.credential if isinstance(provider, HasCredential) else None
    return credential.fingerprint(salt) if credential and credential.fingerprint else None


def _hold(told: Any, provider: str, now: float, passed: float) -> Hold:
    key = _text(told["key"])
    if key != provider and not key.startswith(f"{provider}/"):
        raise ValueError(f"{key!r} is another provider's")
    kind, named = FailureKind(told["kind"]), told["named"] is True
    longest = MAX_RETRY_AFTER if named else meaning_of(kind).hold or 0.0
    left = min(_amount(told["remaining"]) - passed, longest)
    refused, room = (None if told[name] is None else _amount(told[name]) for name in ("refused", "room"))
    return Hold(key, kind, now + left, _text(told["because"]), refused, room, named)


def _amount(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is no amount")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
