"""The last calls: who was asked, how long each took, what it cost. Texts only when the configuration asks for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from steadyvoice.gateway.exchange import Exchange
from steadyvoice.gateway.order import Order
from steadyvoice.gateway.outcome import ending
from steadyvoice.gateway.plain import plain
from steadyvoice.service.error_state import iso
from steadyvoice.service.spoken import Account, Attempt, Outcome, Span
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.request import field_copier

CALLS_KEPT = 500
_MOST_PARTS = 50  # attempts, and spans, of one call
_MOST_TEXT = 2_000  # characters
_MOST_NAME = 200


@dataclass(frozen=True, slots=True)
class Mishap:
    """An error without its traceback, which would keep everything alive that it went through."""

    kind: str
    message: str


@dataclass(slots=True)
class Call:
    """One call that is over. Times in seconds; what callers made up is cut to a decent length."""

    number: int
    at: datetime  # when it came
    request_id: str
    door: str
    outcome: Outcome
    provider: str | None
    voice: str | None
    model: str | None
    format: str
    characters: int
    bytes_sent: int
    seconds: float
    first_audio: float | None
    audio_seconds: float
    attempts: Sequence[tuple[Attempt, Mishap | None]]
    spans: Sequence[Span]
    left_out: int  # attempts and spans that are too many to be shown
    error: Mishap | None
    text: str | None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        told: dict[str, Any] = {name: getattr(self, name) for name in _AS_THEY_ARE}
        told["at"] = iso(self.at)
        told["attempts"] = [self._attempt(attempt, error) for attempt, error in self.attempts]
        told |= {"spans": self.spans, "error": self.error}
        if self.text is not None:
            told["text"] = self.text
        shown: dict[str, Any] = plain(told)
        return shown

    def _attempt(self, attempt: Attempt, error: Mishap | None) -> dict[str, Any]:
        told = {name: getattr(attempt, name) for name in _OF_ATTEMPT}
        # Both are times of day: a clock that is set back in between must not show an attempt before its call.
        began = max(0.0, (attempt.at - self.at).total_seconds())
        return {**told, "at": iso(attempt.at), "began": began, "error": error}


_AS_THEY_ARE = (
    "number", "request_id", "door", "outcome", "provider", "voice", "model", "format", "characters", "bytes_sent",
    "seconds", "first_audio", "audio_seconds", "left_out",
)  # fmt: skip
_OF_ATTEMPT = (
    "provider", "begin", "end", "waited", "answered", "first_audio", "held_back", "audio", "refused", "request_id",
    "bill", "hedge",
)  # fmt: skip


class RecentCalls:
    """A bounded number of them."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque(maxlen=CALLS_KEPT)
        self._number = 0

    def add(
        self, exchange: Exchange, door: str, order: Order, account: Account, *, now: float, wall_time: float, text: bool
    ) -> Call:
        """Take note of a call that is over now."""
        self._number += 1
        spoken, asked, took = account.spoken, order.style.request, now - exchange.at
        too_many = max(0, len(spoken.attempts) - _MOST_PARTS) + max(0, len(spoken.spans) - _MOST_PARTS)
        call = Call(
            number=self._number,
            at=datetime.fromtimestamp(wall_time - took, UTC),
            request_id=exchange.request_id,
            door=door,
            outcome=ending(exchange, account),
            provider=spoken.provider,
            voice=_cut(asked.voice),
            model=_cut(asked.model),
            format=order.format.name,
            characters=len(order.text),
            bytes_sent=exchange.bytes_sent,
            seconds=took,
            first_audio=first_audio(exchange),
            audio_seconds=spoken.duration,
            attempts=[_light(attempt) for attempt in spoken.attempts[:_MOST_PARTS]],
            spans=spoken.spans[:_MOST_PARTS],
            left_out=too_many,
            error=_mishap(spoken.error),
            text=order.text[:_MOST_TEXT] if text else None,
        )
        self._calls.append(call)
        return call

    def newest(self, most: int) -> list[Call]:
        """The newest first."""
        return list(reversed(self._calls))[:most]


def first_audio(exchange: Exchange) -> float | None:
    """Seconds from a request to the first audio of its answer."""
    if exchange.began_at is None or exchange.status != 200:
        return None
    return exchange.began_at - exchange.at


def _light(attempt: Attempt) -> tuple[Attempt, Mishap | None]:
    if attempt.error is None:
        return attempt, None
    return _without_error(attempt, None), _mishap(attempt.error)


_without_error = field_copier(Attempt, "error")


def _mishap(error: Exception | None) -> Mishap | None:
    if error is None:
        return None
    if not isinstance(error, TTSError):  # something of ours: what it says is for the log
        return Mishap("unexpected", type(error).__name__)
    return Mishap(error.kind.value, error.message)


def _cut(name: str | None) -> str | None:
    return name[:_MOST_NAME] if name else name
