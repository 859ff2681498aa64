"""Holds: credentials, voices, models and providers set aside until a time (after a refusal, or a vendor's Retry-After).

Holds are exported and restored across a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from steadyvoice._option_rules import is_finite
from steadyvoice.providers.base import Credit, HasCredential, Provider, SynthesisOffer
from steadyvoice.speech.errors import TTSError, TTSHoldError, TTSModelUnknownError, TTSVoiceUnknownError
from steadyvoice.speech.failure_kinds import FailureKind, FailureScope, meaning_of
from steadyvoice.wire.error_response import MAX_RETRY_AFTER


@dataclass(frozen=True, slots=True)
class Hold:
    """Hold of one credential, voice, model or provider, until a time on the service's clock.

    A credential without enough credit is held by size: texts that cost at most `remaining_credit` characters pass.
    `refused_cost` is the cost of the text that was refused. The end comes from the vendor (`until_from_vendor`) or from
    the failure table.
    """

    key: str
    kind: FailureKind
    until: float
    reason: str
    refused_cost: float | None = None
    remaining_credit: float | None = None
    until_from_vendor: bool = False

    def applies_to(self, cost: float | None) -> bool:
        """Return whether the hold applies to a request of this cost in characters; None is an unknown cost."""
        return cost is None or self.remaining_credit is None or cost > self.remaining_credit


CREDENTIAL = "credential"
_MAX_HOLDS = 200  # of one provider; callers may invent voices and models

SharedHold = dict[str, Hold]
"""Hold on a credential under the key CREDENTIAL, shared by the providers that use it."""


class Holds:
    """Holds of one provider, and that of its credential (decision 6)."""

    def __init__(self, provider: str, shared: SharedHold | None = None) -> None:
        self.provider = provider
        self.provider_holds: dict[str, Hold] = {}
        """Holds of the provider, its voices and models, those that have ended included."""
        self.shared: SharedHold = {} if shared is None else shared
        """Hold of its credential."""
        self.logged: dict[str, None] = {}
        """Keys of voices and models that were logged as new since they last worked."""

    def place(
        self, error: TTSError, offer: SynthesisOffer | None, now: float, cost: float | None = None
    ) -> Hold | None:
        """Place and return the hold that an error calls for; None if it calls for none.

        It lasts for the time named by the vendor, or that of the failure table.
        """
        seconds = error.meaning.hold if error.retry_after is None else error.retry_after
        if seconds is None or seconds <= 0:
            return None
        key, from_vendor = self._key(error.meaning.scope, offer), error.retry_after is not None
        hold = Hold(key, error.kind, now + seconds, error.message, cost, until_from_vendor=from_vendor)
        if error.meaning.scope is FailureScope.CREDENTIAL:
            self.shared[CREDENTIAL] = hold
        else:
            self.provider_holds[hold.key] = hold
            self._forget_some()
        return hold

    def restore(self, hold: Hold) -> None:
        """Place a hold of a former process."""
        if hold.key == self._key(FailureScope.CREDENTIAL, None):
            self.shared[CREDENTIAL] = hold
        else:
            self.provider_holds[hold.key] = hold
            self._forget_some()

    def is_new(self, hold: Hold) -> bool:
        """Return whether a hold was not logged before, and note that it is.

        A voice or model that has not worked since its last hold is not new. Provider and credential always are.
        """
        if hold.key in (self._key(FailureScope.PROVIDER, None), self._key(FailureScope.CREDENTIAL, None)):
            return True
        new = hold.key not in self.logged
        self.logged.pop(hold.key, None)
        self.logged[hold.key] = None  # moved to the end, to be dropped last
        if len(self.logged) > _MAX_HOLDS:
            del self.logged[next(iter(self.logged))]
        return new

    def forget_reported(self, offer: SynthesisOffer | None) -> None:
        """Note that an offer's voice and model work, so that their next hold is new."""
        self.logged.pop(self._key(FailureScope.VOICE, offer), None)
        self.logged.pop(self._key(FailureScope.MODEL, offer), None)

    def _forget_some(self) -> None:
        """Drop the holds that end first, if there are too many: callers may invent voices and models."""
        while len(self.provider_holds) > _MAX_HOLDS:
            removable = (hold for hold in self.provider_holds.values() if hold.key != self.provider)
            del self.provider_holds[min(removable, key=lambda hold: hold.until).key]

    def find(self, offer: SynthesisOffer | None, now: float, cost: float | None = None) -> Hold | None:
        """Return the longest hold that applies to an offer at this cost; None if there is none."""
        if not self.provider_holds and not self.shared:
            return None
        keys = {self._key(scope, offer) for scope in FailureScope}
        applying = [hold for hold in self.current(now) if hold.key in keys and hold.applies_to(cost)]
        return max(applying, key=lambda hold: hold.until, default=None)

    def current(self, now: float) -> list[Hold]:
        """Return the current holds, and drop those that have ended."""
        for holds in (self.provider_holds, self.shared):
            for key in [key for key, hold in holds.items() if hold.until <= now]:
                del holds[key]
        own_key = self._key(FailureScope.CREDENTIAL, None)  # whichever provider placed it
        return [*self.provider_holds.values(), *(replace(hold, key=own_key) for hold in self.shared.values())]

    def covering(self, now: float) -> list[Hold]:
        """Return the current holds on the whole provider: its own, and that of its credential."""
        provider_keys = {self._key(FailureScope.PROVIDER, None), self._key(FailureScope.CREDENTIAL, None)}
        return [hold for hold in self.current(now) if hold.key in provider_keys]

    def release(self) -> None:
        """Remove all holds."""
        self.provider_holds.clear()
        self.shared.clear()

    def _key(self, scope: FailureScope, offer: SynthesisOffer | None) -> str:
        match scope:
            case FailureScope.CREDENTIAL:
                return f"{self.provider}/{CREDENTIAL}"
            case FailureScope.VOICE if offer:
                return f"{self.provider}/voice/{offer.voice}"
            case FailureScope.MODEL if offer:
                return f"{self.provider}/model/{offer.model}"
            case _:
                return self.provider


def caller_error_behind(error: TTSError) -> TTSError:
    """Return the caller's error for which a voice or model is on hold; any other error as it is.

    An unknown voice stays the caller's error while the hold spares the vendor the same request.
    """
    caller_error = _CALLER_ERRORS.get(error.code or "") if isinstance(error, TTSHoldError) else None
    return caller_error(error.message, provider=error.provider) if caller_error else error


_CALLER_ERRORS: dict[str, type[TTSError]] = {
    kind.kind.value: kind for kind in (TTSVoiceUnknownError, TTSModelUnknownError)
}


def update_quota_hold(hold: Hold, credit: Credit, resets_in: float | None, now: float) -> Hold | None:
    """Return the quota hold after the vendor stated the remaining credit; None if it is lifted.

    `resets_in` is in seconds. A vendor that refused a text for which it states enough credit (a key may have a limit of
    its own) stays on hold until the hold's own end.
    """
    enough = credit.remaining is None or (hold.refused_cost is not None and credit.remaining >= hold.refused_cost)
    if enough:
        return hold if hold.remaining_credit is None else None
    until = now + resets_in if resets_in and resets_in > 0 and not hold.until_from_vendor else hold.until
    return replace(hold, remaining_credit=float(credit.remaining or 0), until=until)


def export_holds(holds: Holds, now: float) -> list[dict[str, Any]]:
    """Export holds as JSON-ready values; times are what remains of them, in seconds."""
    return [export_hold(hold, now) for hold in holds.current(now)]


def export_hold(hold: Hold, now: float) -> dict[str, Any]:
    """Export one hold: see `export_holds`."""
    return {
        "key": hold.key,
        "kind": hold.kind.value,
        "remaining": hold.until - now,
        "reason": hold.reason,
        "refused_cost": hold.refused_cost,
        "remaining_credit": hold.remaining_credit,
        "until_from_vendor": hold.until_from_vendor,
    }


def restore_holds(holds: Holds, state: Sequence[Any], now: float, passed: float) -> None:
    """Place exported holds again, shortened by the `passed` seconds in which no process ran.

    None lasts longer than a new one would, because the credit check that could lift it ended with its process.
    Raises ValueError for values that no export contains; no hold is placed then.
    """
    try:
        parsed = [parse_hold(each, holds.provider, now, passed) for each in state]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not a saved hold: {error!r}") from error
    for hold in parsed:
        if hold.until > now:
            holds.restore(hold)


def credential_fingerprint(provider: Provider, salt: bytes) -> str | None:
    """Return the fingerprint of a provider's credential, by which saved holds find it again; slow on purpose."""
    credential = provider.credential if isinstance(provider, HasCredential) else None
    return credential.fingerprint(salt) if credential and credential.fingerprint else None


_FORMER_KEYS = {
    "because": "reason", "refused": "refused_cost", "room": "remaining_credit", "named": "until_from_vendor"
}  # fmt: skip
"""Keys of holds in state files of earlier versions, and what they are called now."""


def parse_hold(saved: Any, provider: str, now: float, passed: float) -> Hold:
    """Return an exported hold, shortened by the `passed` seconds, and no longer than a new one would last.

    Raises KeyError, TypeError, ValueError or AttributeError for values that no export contains.
    """
    saved = {_FORMER_KEYS.get(key, key): value for key, value in saved.items()}
    key = _parse_text(saved["key"])
    if key != provider and not key.startswith(f"{provider}/"):
        raise ValueError(f"{key!r} belongs to another provider")
    kind, from_vendor = FailureKind(saved["kind"]), saved["until_from_vendor"] is True
    longest = MAX_RETRY_AFTER if from_vendor else meaning_of(kind).hold or 0.0
    remaining = min(_parse_amount(saved["remaining"]) - passed, longest)
    refused, credit = (
        None if saved[name] is None else _parse_amount(saved[name]) for name in ("refused_cost", "remaining_credit")
    )
    return Hold(key, kind, now + remaining, _parse_text(saved["reason"]), refused, credit, from_vendor)


def _parse_amount(value: object) -> float:
    if not (is_finite(value) and value >= 0):
        raise ValueError(f"{value!r} is not an amount")
    return float(value)


def _parse_text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value
