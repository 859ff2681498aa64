"""Speech rates learned from whole answers, and the shortest audio that is believed to hold a whole text.

A rate is the ratio of how long an answer took to how long its text usually takes (`speech/duration_estimate.py`). It is
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

_REMEMBERED = 24  # whole answers of each style and script
_MOST_STYLES = 1000  # voices and settings come from callers: the memory of them is bounded
_KNOWN, _WELL_KNOWN = 3, 8  # whole answers, before they make the limit lower, or higher
_EVERY = 8  # answers, of which one is learned from once so many are known
_LONG = 5_000  # characters: a longer text would keep the event loop for milliseconds, and teach no more
_QUICKEST = 0.2  # share of the answers that are set aside as unusually quick
_MARGIN, _LEAST_MARGIN = 0.75, 0.6  # of what is left: no whole answer is much quicker than those before
_HIGHEST = 0.75  # of the usual time: as long as that is long enough for any voice
_TELLING = 1.2  # seconds; how long a shorter text took is no guide to others
_KEPT = 0.75  # of the time that this voice usually takes: what ends earlier is heard once, and not kept
_AGREEING = 1.35  # ratio of the longest to the shortest of refused answers that agree with each other
_QUIET_ENDS = 3  # answers that ended in silence, after which no further ones are looked at
_MUCH_LONGER = 0.6  # of another voice's answer, below which one of the same text was most likely not whole
_COMMON = 150.0  # words a minute, of a voice of which nothing else is declared
_FREE_STYLE = 1.5  # times faster, at most, that a voice may be told to speak in words
_STATED_STYLES = frozenset({"instructions", "prompt", "style", "style_instructions", "description"})


class SpeechStyle(NamedTuple):
    """What has to be the same for the rates of two answers to be compared.

    `speed` is how much faster than usual it may be, 1.0 or more: a slower one that was `asked` for is no promise of
    longer audio, for some vendors ignore it.
    """

    speed: float
    asked: float
    provider: str
    voice: str
    model: str | None
    options: str


def style_of(provider: str, offer: SynthesisOffer, request: SpeechRequest) -> SpeechStyle:
    """Return the style in which a provider speaks a request."""
    speed, options = request.speed, request.options
    fastest, told = max(speed, 1.0), ""
    if offer.declared and offer.declared.rate and offer.declared.rate > _COMMON:
        fastest *= offer.declared.rate / _COMMON
    if options:
        fastest, told = max(fastest, _stated_speed(options)), repr(sorted(options.items()))
    return SpeechStyle(fastest, round(speed, 2), provider, offer.voice, offer.model, told)


class SpeechRates:
    """Rates of the voices that were heard, each at most a few dozen numbers."""

    def __init__(self) -> None:
        self._styles: OrderedDict[SpeechStyle, _Style] = OrderedDict()

    def learn(self, style: SpeechStyle, text: str, seconds: float) -> None:
        """Remember that this text took so long, whole."""
        known = self._style(style)
        known.answers += 1
        if len(text) > _LONG or (known.answers > _REMEMBERED and known.answers % _EVERY):
            return
        length = estimate_duration(text)
        if length.usual >= _TELLING and seconds > 0:
            rates = known.rates(length.script)
            rates.hear(seconds * style.speed / length.usual)
            if length.indicates_rate:
                rates.accept(seconds * style.speed / length.usual)

    def refused(self, style: SpeechStyle, text: str, seconds: float) -> None:
        """Remember that so much audio was refused for its length alone.

        When several in a row are alike, it is how this voice speaks, and from then on they are believed.
        """
        length = estimate_duration(text)
        known = self._style(style)
        known.loud_ends += 1  # it was, perhaps; then it is no sign of anything in this voice
        if length.indicates_rate and seconds > 0:
            known.rates(length.script).refuse(seconds * style.speed / length.usual)

    def is_whole(self, style: SpeechStyle, text: str, seconds: float) -> bool:
        """Whether so much audio may be all of this text. Texts of less than SHORT always pass."""
        if is_surely_complete(text, seconds * style.speed, share=_HIGHEST):
            return True
        length = estimate_duration(text)
        if length.plain + length.digits < SHORT_SECONDS:
            return True
        rates = self._rates(style, length)
        return seconds * style.speed >= length.at_least(rates.least if rates else FASTEST_ORDINARY_SHARE)

    def is_cacheable(self, style: SpeechStyle, text: str, seconds: float) -> bool:
        """Whether audio of this length may be played again and again; heard once, it has the benefit of the doubt."""
        length = estimate_duration(text)
        if length.plain + length.digits < SHORT_SECONDS:
            return True
        rates = self._rates(style, length)
        return seconds * style.speed >= length.at_least(_KEPT * (rates.median if rates else 1.0))

    def is_early(self, style: SpeechStyle, text: str, seconds: float, share: float) -> bool:
        """Whether this is less than a share of the time that this text surely takes in this style."""
        length = estimate_duration(text)
        if not length.indicates_rate:
            return False
        rates = self._rates(style, length)
        return seconds * style.speed < share * length.usual * (rates.median if rates else 1.0)

    def usual(self, style: SpeechStyle, text: str) -> float:
        """Return the seconds that this text is likely to take."""
        length = estimate_duration(text)
        rates = self._rates(style, length)
        return length.usual * rates.median / style.speed if rates else length.usual / style.asked

    def wants_end(self, style: SpeechStyle) -> bool:
        """Whether it is still to be learned how the answers of this style end."""
        return self._style(style).quiet_ends < _QUIET_ENDS

    def ended(self, style: SpeechStyle, *, quietly: bool) -> None:
        """Remember how a whole answer ended."""
        known = self._style(style)
        known.quiet_ends += quietly
        known.loud_ends += not quietly

    def ends_quietly(self, style: SpeechStyle) -> bool:
        """Whether this style ends in silence, as most do, so that an end in the middle of a sound is suspicious."""
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
            if len(self._styles) > _MOST_STYLES:
                self._styles.popitem(last=False)
        else:
            self._styles.move_to_end(style)
        return known


class _Style:
    """Knowledge of one style: how fast it is, by script, and how its answers end."""

    __slots__ = ("answers", "by_script", "loud_ends", "quiet_ends")

    def __init__(self) -> None:
        self.answers = self.loud_ends = self.quiet_ends = 0
        self.by_script: dict[str, _Rates] = {}  # there are a few dozen scripts

    def rates(self, script: str) -> _Rates:
        return self.by_script.setdefault(script, _Rates())


class _Rates:
    """Ratios of one style and script: how long answers took, over how long their texts usually take."""

    __slots__ = ("_heard", "_refused", "_seen")

    def __init__(self) -> None:
        self._heard: deque[float] = deque(maxlen=_REMEMBERED)  # short and unsure ones too: a guess, and no limit
        self._seen: deque[float] = deque(maxlen=_REMEMBERED)
        self._refused: deque[float] = deque(maxlen=_KNOWN)

    def hear(self, ratio: float) -> None:
        self._heard.append(ratio)

    def accept(self, ratio: float) -> None:
        self._seen.append(ratio)
        self._refused.clear()

    def refuse(self, ratio: float) -> None:
        refused = self._refused
        refused.append(ratio)
        if len(refused) == _KNOWN and IMPOSSIBLE_SHARE < max(refused) <= _AGREEING * min(refused):
            self._seen.extend(refused)
            refused.clear()

    @property
    def known(self) -> bool:
        return bool(self._heard or self._seen)

    @property
    def median(self) -> float:
        heard = sorted(self._seen or self._heard)
        return heard[len(heard) // 2]

    @property
    def least(self) -> float:
        """Share of the usual time that a whole answer takes at least."""
        seen = sorted(self._seen)
        if len(seen) < _KNOWN:
            return FASTEST_ORDINARY_SHARE
        quick, median = seen[int(_QUICKEST * len(seen))], seen[len(seen) // 2]
        spread = 1 - quick / median
        least = quick * max(_LEAST_MARGIN, _MARGIN - spread)
        least = min(max(least, IMPOSSIBLE_SHARE), _HIGHEST)
        return min(least, FASTEST_ORDINARY_SHARE) if len(seen) < _WELL_KNOWN else least


def _stated_speed(options: Mapping[str, Any]) -> float:
    """Return the fastest speed that a vendor's own options ask for, in numbers or in words."""
    fastest = 1.0
    for name, value in options.items():
        if isinstance(value, Mapping):
            fastest = max(fastest, _stated_speed(value))
        elif isinstance(value, str):
            fastest = max(fastest, _FREE_STYLE if name in _STATED_STYLES and value else 1.0)
        elif isinstance(value, int | float) and ("speed" in name or "rate" in name) and 1.0 < value <= 4.0:
            fastest = max(fastest, float(value))
    return fastest


def much_longer(seconds: float, speed: float, other: float, other_speed: float) -> bool:
    """Whether another answer of the same text is so much longer that one of so many seconds was hardly whole.

    `speed` and `other_speed` are those that were asked for.
    """
    return seconds * speed < _MUCH_LONGER * other * other_speed
