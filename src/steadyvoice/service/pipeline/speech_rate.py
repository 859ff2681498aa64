"""Speech rates learned from complete answers, and the shortest audio that can hold a whole text.

A rate is the ratio of an answer's duration to the usual duration of its text (`speech/duration_estimate.py`). It is
kept for each style (provider, voice, model, speed, the vendor's own settings) and script, so that neither another
language nor a slow style teaches a wrong one; texts that are short, or mostly numbers, markup or abbreviations, teach
nothing. See docs/length.md.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from steadyvoice.providers.base import SynthesisOffer
from steadyvoice.speech.duration_estimate import (
    FASTEST_ORDINARY_SHARE,
    IMPOSSIBLE_SHARE,
    SHORT_SECONDS,
    DurationEstimate,
    estimate_duration,
    is_surely_complete,
)
from steadyvoice.speech.request import SpeechRequest

_MAX_ANSWERS = 24  # complete answers of each style and script
_MAX_STYLES = 1000  # voices and settings come from callers, so their number has to be bounded
_KNOWN, _WELL_KNOWN = 3, 8  # complete answers, before they make the limit lower, or higher
_SAMPLING = 8  # answers, of which one is learned from once enough are known
_MAX_CHARACTERS = 5_000  # characters: a longer text would block the event loop for milliseconds, and teach no more
_IGNORED_SHARE = 0.2  # share of the answers that are ignored as unusually fast
_MARGIN, _MIN_MARGIN = 0.75, 0.6  # of the fastest that remains: no complete answer is much faster than those before
_MAX_SHARE = 0.75  # of the usual time, which is long enough for any voice
_MIN_SECONDS = 1.2  # seconds; shorter answers say nothing about others
_CACHEABLE_SHARE = 0.75  # of this voice's usual time: what ends earlier is delivered once, and not cached
_AGREEMENT_RATIO = 1.35  # ratio of the longest to the shortest of rejected answers that agree with each other
_QUIET_ENDS = 3  # answers that ended in silence, after which no further ones are inspected
_MUCH_LONGER = 0.6  # of another voice's answer, below which one of the same text was most likely cut
_USUAL_WORDS_PER_MINUTE = 150.0  # words a minute, of a voice that declares nothing else
_MAX_STATED_SPEED = 1.5  # times faster, at most, that a voice may be instructed to speak in words
_STATED_STYLES = frozenset({"instructions", "prompt", "style", "style_instructions", "description"})


class SpeechStyle(NamedTuple):
    """Style of speech: rates are compared between answers of equal style only.

    `speed` is how much faster than usual the answer may be, 1.0 or more: a slower one that was `requested` is no
    promise of longer audio, because some vendors ignore it.
    """

    speed: float
    requested: float
    provider: str
    voice: str
    model: str | None
    options: str


def style_of(provider: str, offer: SynthesisOffer, request: SpeechRequest) -> SpeechStyle:
    """Return the style in which a provider speaks a request."""
    speed, options = request.speed, request.options
    fastest, options_key = max(speed, 1.0), ""
    if offer.declared and offer.declared.rate and offer.declared.rate > _USUAL_WORDS_PER_MINUTE:
        fastest *= offer.declared.rate / _USUAL_WORDS_PER_MINUTE
    if options:
        fastest, options_key = max(fastest, _stated_speed(options)), repr(sorted(options.items()))
    return SpeechStyle(fastest, round(speed, 2), provider, offer.voice, offer.model, options_key)


class SpeechRates:
    """Speech rates by style, each a few dozen numbers at most."""

    def __init__(self) -> None:
        self._styles: OrderedDict[SpeechStyle, _Style] = OrderedDict()

    def learn(self, style: SpeechStyle, text: str, seconds: float) -> None:
        """Learn from a complete answer: this text took so many seconds."""
        known = self._styles.get(style)
        if known is None:
            known = self._style(style)
        else:
            self._styles.move_to_end(style)
        known.answers += 1
        if len(text) > _MAX_CHARACTERS or (known.answers > _MAX_ANSWERS and known.answers % _SAMPLING):
            return
        length = estimate_duration(text)
        if length.usual >= _MIN_SECONDS and seconds > 0:
            rates = known.rates(length.script)
            rates.record(seconds * style.speed / length.usual)
            if length.indicates_rate:
                rates.accept(seconds * style.speed / length.usual)

    def record_rejected(self, style: SpeechStyle, text: str, seconds: float) -> None:
        """Record an answer that was rejected for its length alone.

        When several in a row agree, that is how this voice speaks, and from then on such answers are accepted.
        """
        length = estimate_duration(text)
        known = self._style(style)
        known.loud_ends += 1  # it may have been; then its ending says nothing about this voice
        if length.indicates_rate and seconds > 0:
            known.rates(length.script).reject(seconds * style.speed / length.usual)

    def is_whole(self, style: SpeechStyle, text: str, seconds: float) -> bool:
        """Return whether so many seconds may be all of this text. Texts of less than SHORT always pass."""
        if is_surely_complete(text, seconds * style.speed, share=_MAX_SHARE):
            return True
        length = estimate_duration(text)
        if length.plain + length.digits < SHORT_SECONDS:
            return True
        rates = self._rates(style, length)
        return seconds * style.speed >= length.at_least(rates.least if rates else FASTEST_ORDINARY_SHARE)

    def is_cacheable(self, style: SpeechStyle, text: str, seconds: float) -> bool:
        """Return whether audio of this length may be cached; a single delivery is judged more leniently."""
        length = estimate_duration(text)
        if length.plain + length.digits < SHORT_SECONDS:
            return True
        rates = self._rates(style, length)
        return seconds * style.speed >= length.at_least(_CACHEABLE_SHARE * (rates.median if rates else 1.0))

    def is_early(self, style: SpeechStyle, text: str, seconds: float, share: float) -> bool:
        """Return whether this is less than a share of the time that the text certainly takes in this style."""
        length = estimate_duration(text)
        if not length.indicates_rate:
            return False
        rates = self._rates(style, length)
        return seconds * style.speed < share * length.usual * (rates.median if rates else 1.0)

    def usual(self, style: SpeechStyle, text: str) -> float:
        """Return the seconds that this text is likely to take."""
        length = estimate_duration(text)
        rates = self._rates(style, length)
        return length.usual * rates.median / style.speed if rates else length.usual / style.requested

    def wants_ending(self, style: SpeechStyle) -> bool:
        """Return whether more endings of this style have to be learned."""
        return self._style(style).quiet_ends < _QUIET_ENDS

    def record_ending(self, style: SpeechStyle, *, quietly: bool) -> None:
        """Record how a complete answer ended."""
        known = self._style(style)
        known.quiet_ends += quietly
        known.loud_ends += not quietly

    def ends_quietly(self, style: SpeechStyle) -> bool:
        """Return whether this style ends in silence, as most do: then an end within a sound is suspicious."""
        known = self._styles.get(style)
        return known is None or known.loud_ends <= known.quiet_ends

    def _rates(self, style: SpeechStyle, length: DurationEstimate) -> _Rates | None:
        known = self._styles.get(style)
        rates = known.by_script.get(length.script) if known else None
        return rates if rates and rates.known else None

    def _style(self, style: SpeechStyle) -> _Style:
        known = self._styles.get(style)
        if known is None:
            known = self._styles[style] = _Style()
            if len(self._styles) > _MAX_STYLES:
                self._styles.popitem(last=False)
        else:
            self._styles.move_to_end(style)
        return known


class _Style:
    """Knowledge of one style: rates by script, and how its answers end."""

    __slots__ = ("answers", "by_script", "loud_ends", "quiet_ends")

    def __init__(self) -> None:
        self.answers = self.loud_ends = self.quiet_ends = 0
        self.by_script: dict[str, _Rates] = {}  # bounded, as there are a few dozen scripts

    def rates(self, script: str) -> _Rates:
        return self.by_script.setdefault(script, _Rates())


class _Rates:
    """Ratios of one style and script: duration of answers over the usual duration of their texts."""

    __slots__ = ("_accepted", "_all", "_rejected")

    def __init__(self) -> None:
        # Short and uncertain answers are in it, too: good for an estimate, not for a limit.
        self._all: deque[float] = deque(maxlen=_MAX_ANSWERS)
        self._accepted: deque[float] = deque(maxlen=_MAX_ANSWERS)
        self._rejected: deque[float] = deque(maxlen=_KNOWN)

    def record(self, ratio: float) -> None:
        self._all.append(ratio)

    def accept(self, ratio: float) -> None:
        self._accepted.append(ratio)
        self._rejected.clear()

    def reject(self, ratio: float) -> None:
        record_rejected = self._rejected
        record_rejected.append(ratio)
        if len(record_rejected) == _KNOWN and IMPOSSIBLE_SHARE < max(record_rejected) <= _AGREEMENT_RATIO * min(
            record_rejected
        ):
            self._accepted.extend(record_rejected)
            record_rejected.clear()

    @property
    def known(self) -> bool:
        return bool(self._all or self._accepted)

    @property
    def median(self) -> float:
        ratios = sorted(self._accepted or self._all)
        return ratios[len(ratios) // 2]

    @property
    def least(self) -> float:
        """Share of the usual time that a complete answer takes at least."""
        accepted = sorted(self._accepted)
        if len(accepted) < _KNOWN:
            return FASTEST_ORDINARY_SHARE
        quick, median = accepted[int(_IGNORED_SHARE * len(accepted))], accepted[len(accepted) // 2]
        # The more the answers differ, the lower the limit.
        spread = 1 - quick / median
        least = quick * max(_MIN_MARGIN, _MARGIN - spread)
        least = min(max(least, IMPOSSIBLE_SHARE), _MAX_SHARE)
        return min(least, FASTEST_ORDINARY_SHARE) if len(accepted) < _WELL_KNOWN else least


def _stated_speed(options: Mapping[str, Any]) -> float:
    """Return the fastest speed that a vendor's own options ask for, in numbers or in words."""
    fastest = 1.0
    for name, value in options.items():
        if isinstance(value, Mapping):
            fastest = max(fastest, _stated_speed(value))
        elif isinstance(value, str):
            fastest = max(fastest, _MAX_STATED_SPEED if name in _STATED_STYLES and value else 1.0)
        elif isinstance(value, int | float) and ("speed" in name or "rate" in name) and 1.0 < value <= 4.0:
            fastest = max(fastest, float(value))
    return fastest


def much_longer(seconds: float, speed: float, other: float, other_speed: float) -> bool:
    """Return whether another answer of the same text is so much longer that this one was hardly complete.

    `speed` and `other_speed` are the requested speeds.
    """
    return seconds * speed < _MUCH_LONGER * other * other_speed
