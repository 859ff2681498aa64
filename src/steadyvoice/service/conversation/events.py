"""Events of a turn, strictly in playing order, and the result of an interruption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steadyvoice.service.result import Outcome, UtteranceReport
from steadyvoice.speech.alignment import Word


@dataclass(frozen=True, slots=True)
class Audio:
    """Audio of a turn: bytes in the format of the conversation.

    `at` is the second within the turn at which they begin, `seconds` their length. Both go on across sentences, vendors
    and resumptions.
    """

    data: bytes  # in the format of the conversation
    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Words:
    """Words that are about to be heard: never later than the audio that holds them.

    Times are seconds within the turn, `begin` and `end` offsets into the pushed text. A word is not `exact` if its
    times are estimated, because the vendor sends none.
    """

    words: Sequence[Word]  # with their seconds within the turn


@dataclass(frozen=True, slots=True)
class Switched:
    """Change of the voice at second `at`, or a new start of the same voice.

    The text from offset `begin` on is spoken from here. `repeats` tells whether some of it was heard before: a sentence
    without timestamps that breaks off is spoken again from its start. `before` and `after` are names of providers (None
    for silence), `reason` is the kind of the failure before the change.
    """

    at: float
    before: str | None
    after: str | None
    reason: str
    begin: int = 0
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class Flushed:
    """All text before a `flush()` has been delivered. `mark` is the number that `flush()` returned."""

    mark: int


@dataclass(frozen=True, slots=True)
class Ended:
    """End of a turn, with its outcome and report. No event follows."""

    outcome: Outcome  # outcome of the whole turn
    report: UtteranceReport  # attempts, spans and costs of the turn


TurnEvent = Audio | Words | Switched | Flushed | Ended


@dataclass(frozen=True, slots=True)
class Heard:
    """Part of a turn that its listener has heard, up to the second of an interruption.

    `text` is the pushed text from offset `begin` to `end`, `unheard` the rest of it. `exact`: right to the word, by
    timestamps; otherwise estimated. `billed` and `wasted` are characters that the vendors charge, as they state or, on
    a websocket, for the text that was sent; and that are charged, or possibly charged, though their audio was not
    delivered.
    """

    text: str
    begin: int
    end: int
    unheard: str
    exact: bool
    billed: float
    wasted: float
