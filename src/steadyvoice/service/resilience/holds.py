"""Holds: credentials, voices, models and providers set aside until a time, and their export for a restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from steadyvoice.providers.base import Credit, HasCredential, Provider, SynthesisOffer
from steadyvoice.speech.errors import TTSError, TTSHoldError, TTSModelUnknownError, TTSVoiceUnknownError
from steadyvoice.speech.failure_kinds import FailureKind, FailureScope, meaning_of
from steadyvoice.wire.error_response import MAX_RETRY_AFTER


@dataclass(frozen=True, slots=True)
class Hold:
    """One thing set aside, until a time on the service's clock.

    A credential out of credit is held by its size: what costs no more than `room` may pass. `refused` is what did not.
    """

    key: str
    kind: FailureKind
    until: float
    because: str
    refused: float | None = None
    room: float | None = None
    named: bool = False  # its end, by the vendor

    def stops(self, cost: float | None) -> bool:
        """Whether something that costs so many characters is held; None: nobody knows what it costs."""
        return cost is None or self.room is None or cost > self.room


CREDENTIAL = "credential"
_MAX_HOLDS = 200  # of one provider

SharedHold = dict[str, Hold]
"""The hold on a credential, for all providers that use it."""


class Holds:
    """One provider's holds, and that of its credential. No state machine: a fact with an end."""

    def __init__(self, provider: str, shared: SharedHold | None = None) -> None:
        self.provider = provider
        self._own: dict[str, Hold] = {}
        self._shared: SharedHold = {} if shared is None else shared
        self._told: dict[str, None] = {}  # the voices and models that the log has named, and that have not spoken since

    def place(
        self, error: TTSError, offer: SynthesisOffer | None, now: float, cost: float | None = None
    ) -> Hold | None:
        """Set aside what the error says is sick, for as long as the vendor names or the table says."""
        seconds = error.meaning.hold if error.retry_after is None else error.retry_after
        if seconds is None or seconds <= 0:
            return None
        key, named = self._key(error.meaning.scope, offer), error.retry_after is not None
        hold = Hold(key, error.kind, now + seconds, error.message, cost, named=named)
        if error.meaning.scope is FailureScope.CREDENTIAL:
            self._shared[CREDENTIAL] = hold
        else:
            self._own[hold.key] = hold
            self._forget_some()
        return hold

    def restore(self, hold: Hold) -> None:
        """Set aside what another process did."""
        if hold.key == self._key(FailureScope.CREDENTIAL, None):
            self._shared[CREDENTIAL] = hold
        else:
            self._own[hold.key] = hold
            self._forget_some()

    def news(self, hold: Hold) -> bool:
        """Whether the log should make something of it: of a voice or a model that is still as it was, it should not.

        What concerns the provider or the credential is always news.
        """
        if hold.key in (self._key(FailureScope.PROVIDER, None), self._key(FailureScope.CREDENTIAL, None)):
            return True
        new = hold.key not in self._told
        self._told.pop(hold.key, None)
        self._told[hold.key] = None  # the last that will be forgotten
        if len(self._told) > _MAX_HOLDS:
            del self._told[next(iter(self._told))]
        return new

    def spoke(self, offer: SynthesisOffer | None) -> None:
        """These do speak: were they to stop, it would be news."""
        if self._told:
            self._told.pop(self._key(FailureScope.VOICE, offer), None)
            self._told.pop(self._key(FailureScope.MODEL, offer), None)

    def _forget_some(self) -> None:
        """Callers make up voices and models: of too many holds, those that end first are given up."""
        while len(self._own) > _MAX_HOLDS:
            made_up = (hold for hold in self._own.values() if hold.key != self.provider)
            del self._own[min(made_up, key=lambda hold: hold.until).key]

    def find(self, offer: SynthesisOffer | None, now: float, cost: float | None = None) -> Hold | None:
        """Whatever keeps this offer from being taken up now, at that cost; the one that lasts longest."""
        if not self._own and not self._shared:
            return None
        keys = {self._key(scope, offer) for scope in FailureScope}
        standing = [hold for hold in self.current(now) if hold.key in keys and hold.stops(cost)]
        return max(standing, key=lambda hold: hold.until, default=None)

    def current(self, now: float) -> list[Hold]:
        """All that stand now. Those that are over are forgotten."""
        for holds in (self._own, self._shared):
            for key in [key for key, hold in holds.items() if hold.until <= now]:
                del holds[key]
        ours = self._key(FailureScope.CREDENTIAL, None)  # whichever provider found out
        return [*self._own.values(), *(replace(hold, key=ours) for hold in self._shared.values())]

    def covering(self, now: float) -> list[Hold]:
        """Those that keep the whole provider from speaking: its own, and its credential's."""
        whole = {self._key(FailureScope.PROVIDER, None), self._key(FailureScope.CREDENTIAL, None)}
        return [hold for hold in self.current(now) if hold.key in whole]

    def release(self) -> None:
        """Forget them all."""
        self._own.clear()
        self._shared.clear()

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
    """What a hold stands for where that is the caller's to mend: no less so while the vendor is not asked again."""
    mistake = _CALLER_ERRORS.get(error.code or "") if isinstance(error, TTSHoldError) else None
    return mistake(error.message, provider=error.provider) if mistake else error


_CALLER_ERRORS: dict[str, type[TTSError]] = {
    kind.kind.value: kind for kind in (TTSVoiceUnknownError, TTSModelUnknownError)
}


def update_quota_hold(hold: Hold, credit: Credit, resets_in: float | None, now: float) -> Hold | None:
    """What becomes of a hold for want of credit when the vendor tells what is left; None: it is lifted.

    `resets_in` is in seconds. A vendor that has just refused for want of what it says is there (a key may have a limit
    of its own) is not asked again before the hold's own time is over.
    """
    enough = credit.remaining is None or (hold.refused is not None and credit.remaining >= hold.refused)
    if enough:
        return hold if hold.room is None else None
    until = now + resets_in if resets_in and resets_in > 0 and not hold.named else hold.until
    return replace(hold, room=float(credit.remaining or 0), until=until)


def export_holds(holds: Holds, now: float) -> list[dict[str, Any]]:
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


def restore_holds(holds: Holds, state: Sequence[Any], now: float, passed: float) -> None:
    """Put the same on hold, less the `passed` seconds in which nobody ran.

    None lasts longer than a new one would: whoever asks the vendor for its credit meanwhile is not here any more.
    Raises ValueError for values that no export has; nothing is put on hold then.
    """
    try:
        read = [_parse_hold(each, holds.provider, now, passed) for each in state]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not a saved hold: {error!r}") from error
    for hold in read:
        if hold.until > now:
            holds.restore(hold)


def credential_fingerprint(provider: Provider, salt: bytes) -> str | None:
    """By which to know a provider's credential again: holds of another one are none of its. Slow, on purpose."""
    credential = provider.credential if isinstance(provider, HasCredential) else None
    return credential.fingerprint(salt) if credential and credential.fingerprint else None


def _parse_hold(told: Any, provider: str, now: float, passed: float) -> Hold:
    key = _parse_text(told["key"])
    if key != provider and not key.startswith(f"{provider}/"):
        raise ValueError(f"{key!r} is another provider's")
    kind, named = FailureKind(told["kind"]), told["named"] is True
    longest = MAX_RETRY_AFTER if named else meaning_of(kind).hold or 0.0
    left = min(_parse_amount(told["remaining"]) - passed, longest)
    refused, room = (None if told[name] is None else _parse_amount(told[name]) for name in ("refused", "room"))
    return Hold(key, kind, now + left, _parse_text(told["because"]), refused, room, named)


def _parse_amount(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is no amount")
    return float(value)


def _parse_text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
