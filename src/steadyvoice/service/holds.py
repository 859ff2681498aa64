"""What is set aside until a time: a credential out of credit, a voice the vendor does not know, a busy vendor."""

from __future__ import annotations

from dataclasses import dataclass

from steadyvoice.providers.provider import Offer
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.taxonomy import Kind, Scope


@dataclass(frozen=True, slots=True)
class Hold:
    """One thing set aside, until a time on the service's clock."""

    key: str
    kind: Kind
    until: float
    because: str


class Holds:
    """One provider's holds. No state machine: a fact with an end."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._holds: dict[str, Hold] = {}

    def place(self, error: TTSError, offer: Offer | None, now: float) -> Hold | None:
        """Set aside what the error says is sick, for as long as the vendor names or the table says."""
        seconds = error.meaning.hold if error.retry_after is None else error.retry_after
        if seconds is None or seconds <= 0:
            return None
        hold = Hold(self._key(error.meaning.scope, offer), error.kind, now + seconds, error.message)
        self._holds[hold.key] = hold
        return hold

    def find(self, offer: Offer | None, now: float) -> Hold | None:
        """Whatever keeps this offer from being taken up now; the one that lasts longest."""
        keys = {self._key(scope, offer) for scope in Scope}
        standing = [hold for hold in self.current(now) if hold.key in keys]
        return max(standing, key=lambda hold: hold.until, default=None)

    def current(self, now: float) -> list[Hold]:
        """All that stand now. Those that are over are forgotten."""
        self._holds = {key: hold for key, hold in self._holds.items() if hold.until > now}
        return list(self._holds.values())

    def covering(self, now: float) -> list[Hold]:
        """Those that keep the whole provider from speaking: its own, and its credential's."""
        whole = {self._key(Scope.PROVIDER, None), self._key(Scope.CREDENTIAL, None)}
        return [hold for hold in self.current(now) if hold.key in whole]

    def release(self) -> None:
        """Forget them all."""
        self._holds.clear()

    def _key(self, scope: Scope, offer: Offer | None) -> str:
        match scope:
            case Scope.CREDENTIAL:
                return f"{self._provider}/credential"
            case Scope.VOICE if offer:
                return f"{self._provider}/voice/{offer.voice}"
            case Scope.MODEL if offer:
                return f"{self._provider}/model/{offer.model}"
            case _:
                return self._provider
