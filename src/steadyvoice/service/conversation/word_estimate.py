"""Estimated times of words whose vendor sends no timestamps, from the text and the pauses in its audio. Pure.

The text alone tells how the words share the time, but not how fast the voice is. The pauses that were heard tell both:
words end at them. A long pause surely lies between two words, most often behind a punctuation mark; a short one may be
the closure before a "p" or a "t", so that it moves the estimate a little only.
"""

from __future__ import annotations

import math
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from heapq import nsmallest
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from steadyvoice.speech.alignment import Word
from steadyvoice.speech.format import AudioFormat, Codec

MIN_PAUSE = 0.04
"""Seconds of silence that may be a pause between two words."""

_SURE_PAUSE = 0.15  # seconds of silence that surely are one
_BLOCK = 0.01  # seconds of audio that are silent or not
_SILENCE_PEAK = 64  # of a 16-bit sample: -54 dBFS, below the softest speech
_SILENCE_SHARE = 0.02  # of the voice's own peak: -34 dB, which is louder than its breath
_TRIED = 4  # samples of which one is examined; the lowest voice has 16 or more in each block

_WORD_OVERHEAD = 3
"""Characters that the start and end of a word take as long as, the pause behind it included."""

_PAUSED_OVERHEAD = 2  # the same without the pause
_MAX_DEVIATION = 2.0  # factor by which words may be slower or faster than their voice

# Costs are squared deviations of normal distributions, as far as they can be told.
_RATES = (0.6, 0.75, 0.9, 1.1, 1.35, 1.65)  # factors on the expected rate that are tried
_RATE_SPREAD = 0.4  # of the logarithm of a voice's rate
_WORD_SPREAD = 0.25  # of the logarithm of a word's rate
_WITHIN_WORD = 9.0  # a sure pause within a word
_UNMARKED = 3.0  # a sure pause between two words without a punctuation mark between them
_UNPAUSED, _UNPAUSED_MARK = 0.15, 1.0  # no pause between two words, or behind a punctuation mark
_LEARNING = 0.5  # share of its words' rate that a hypothesis takes over
_CHARACTERS_TO_LEARN = 12
_SHARPNESS = 2.0  # of the average of hypotheses: by how much the cheaper ones weigh more
_NEGLIGIBLE = 0.02  # weight of a hypothesis, as a share of the most probable one's
_BEAM = 5  # hypotheses that are kept for each of them

_WORD = re.compile(r"\S+")
_MARKS = frozenset('.,;:!?…،؟۔।、。，；：！？—–)”"')


class Pause(NamedTuple):
    """Silence within the audio, in seconds from its beginning."""

    start: float
    stop: float


class PauseDetector:
    """Detector of the pauses in a passage's audio, which comes in pieces cut anywhere.

    Only samples are examined: without decoding, other formats tell nothing, and have no pauses here.
    """

    def __init__(self, format: AudioFormat) -> None:
        self._is_readable = format.codec in (Codec.PCM, Codec.WAV)
        self._size = 2 * max(_TRIED, round(_BLOCK * format.sample_rate))  # bytes of a block
        self._seconds = self._size / 2 / format.sample_rate  # of a block
        self._rest = b""
        self._blocks = 0
        self._peak = 0
        self._silent_since: int | None = None  # block
        self._pauses: list[Pause] = []

    def take(self, data: bytes) -> None:
        """Add audio."""
        if not self._is_readable:
            return
        data = self._rest + data
        size = self._size
        whole = len(data) // size * size
        self._rest = data[whole:]
        samples = array("h", data[:whole])[::_TRIED] if size % (2 * _TRIED) == 0 else array("h", data[:whole])
        step = len(samples) * size // whole if whole else 1
        for at in range(0, len(samples), step):
            block = samples[at : at + step]
            self._add(max(max(block), -min(block)))

    @property
    def pauses(self) -> Sequence[Pause]:
        """Pauses so far, the last one possibly unfinished."""
        if self._silent_since is None:
            return self._pauses
        return [*self._pauses, *self._pause_until(self._blocks)]

    def _add(self, peak: int) -> None:
        self._peak = max(self._peak, peak)
        if peak <= max(_SILENCE_PEAK, _SILENCE_SHARE * self._peak):
            if self._silent_since is None:
                self._silent_since = self._blocks
        elif self._silent_since is not None:
            self._pauses += self._pause_until(self._blocks)
            self._silent_since = None
        self._blocks += 1

    def _pause_until(self, block: int) -> list[Pause]:
        since = self._silent_since or 0
        pause = Pause(since * self._seconds, block * self._seconds)
        return [pause] if pause.stop - pause.start >= MIN_PAUSE - 1e-9 else []


def spread_words(text: str, offset: int, start: float, stop: float) -> Iterator[Word]:
    """Yield the words of a text at this offset, with times between `start` and `stop` by their lengths."""
    found = list(_WORD.finditer(text))
    weights = [match.end() - match.start() + _WORD_OVERHEAD for match in found]
    share = (stop - start) / max(1, sum(weights))
    edges = accumulate((weight * share for weight in weights), initial=start)
    for match, (since, until) in zip(found, pairwise(edges), strict=True):
        yield Word(match[0], offset + match.start(), offset + match.end(), since, until, exact=False)


def place_words(text: str, offset: int, start: float, stop: float, pauses: Sequence[Pause]) -> list[Word]:
    """Return the words of a text at this offset, with times that follow the pauses which were heard.

    The audio begins at `start`, and `stop` is its end as expected or known; pauses are in seconds from its beginning.
    Without any, the words are spread evenly.
    """
    heard = [Pause(start + pause.start, start + pause.stop) for pause in pauses]
    if heard and heard[0].start <= start:
        start = heard.pop(0).stop
    found = list(_WORD.finditer(text))
    if not (heard and found) or stop - start < _BLOCK:
        return list(spread_words(text, offset, start, max(start, stop)))
    follower = _PauseFollower([match[0] for match in found], start, stop)
    for pause in heard:
        follower.follow(pause)
    return [
        Word(match[0], offset + match.start(), offset + match.end(), since, until, exact=False)
        for match, (since, until) in zip(found, follower.times(), strict=True)
    ]


class _Hypothesis(NamedTuple):
    """Assumption of which words were spoken before a pause; the less it costs, the more probable it is."""

    cost: float
    done: int  # words that were spoken
    time: float  # second at which the next one begins
    rate: float  # seconds of sound for a character
    spans: tuple[tuple[int, int, float, float], Any] | None  # of words without a pause between them, the last one first


class _PauseFollower:
    """Follower of the pauses: keeps the most probable hypotheses, which is a beam search."""

    def __init__(self, words: Sequence[str], begin: float, stop: float) -> None:
        self._count = len(words)
        self._ends = list(accumulate((len(word) + _PAUSED_OVERHEAD for word in words), initial=0))
        self._is_marked = [False, *(word[-1] in _MARKS for word in words)]
        # Costs of leaving out the pause behind each word, up to each of them.
        self._unpaused = list(accumulate(_UNPAUSED_MARK if marked else _UNPAUSED for marked in self._is_marked))
        expected = (stop - begin) / max(1, sum(len(word) + _WORD_OVERHEAD for word in words))
        # One beam for each rate at the beginning: the right one may look improbable for some words.
        self._beams = [
            [_Hypothesis(_squared(math.log(factor) / _RATE_SPREAD), 0, begin, expected * factor, None)]
            for factor in _RATES
        ]

    def follow(self, pause: Pause) -> None:
        """Take the next pause."""
        length = pause.stop - pause.start
        for number, beam in enumerate(self._beams):
            best: dict[int, _Hypothesis] = {}
            for each in beam:
                for found in self._continuations(each, pause, length):
                    if found.done not in best or found.cost < best[found.done].cost:
                        best[found.done] = found
            self._beams[number] = nsmallest(_BEAM, best.values())

    def times(self) -> list[tuple[float, float]]:
        """Return begin and end of each word, as an average: where hypotheses differ, each may be far off by itself."""
        hypotheses = [each for beam in self._beams for each in beam]
        least = min(each.cost for each in hypotheses)
        weighed = [(math.exp(_SHARPNESS * (least - each.cost)), each) for each in hypotheses]
        probable = [(weight, self._times_of(each)) for weight, each in weighed if weight > _NEGLIGIBLE]
        whole = sum(weight for weight, _ in probable)
        return [
            (
                sum(weight * times[number][0] for weight, times in probable) / whole,
                sum(weight * times[number][1] for weight, times in probable) / whole,
            )
            for number in range(self._count)
        ]

    def _times_of(self, hypothesis: _Hypothesis) -> list[tuple[float, float]]:
        _, done, time, rate, link = hypothesis
        spans = [(done, self._count, time, rate)]
        while link:
            span, link = link
            spans.append(span)
        return [times for span in reversed(spans) for times in self._spread(*span)]

    def _continuations(self, before: _Hypothesis, pause: Pause, length: float) -> Iterator[_Hypothesis]:
        """Yield what may have been spoken before a pause."""
        sureness = min(1.0, length / _SURE_PAUSE)
        cost, done, time, rate, spans = before
        # Within a word, or behind the last one: what follows is later by that.
        yield _Hypothesis(cost + _WITHIN_WORD * sureness**2, done, time + length, rate, spans)
        ends, sound = self._ends, pause.start - time
        if sound <= 0.0 or done == self._count:
            return
        first = bisect_left(ends, ends[done] + sound / rate / _MAX_DEVIATION, lo=done + 1)
        for number in range(first, self._count + 1):
            characters = ends[number] - ends[done]
            if characters * rate > _MAX_DEVIATION * sound:
                return
            share = sound / characters
            added = _squared(math.log(share / rate) / _WORD_SPREAD)
            added += self._unpaused[number - 1] - self._unpaused[done]
            if not self._is_marked[number]:
                added += _UNMARKED * sureness**2
            learned = rate * (share / rate) ** (_LEARNING * min(1.0, characters / _CHARACTERS_TO_LEARN))
            link = (done, number, time, share), spans
            yield _Hypothesis(cost + added, number, pause.stop, learned, link)

    def _spread(self, done: int, until: int, time: float, rate: float) -> Iterator[tuple[float, float]]:
        """Yield begin and end of words that are spoken without a pause between them."""
        for number in range(done, until):
            start, time = time, time + (self._ends[number + 1] - self._ends[number]) * rate
            yield start, time


def _squared(value: float) -> float:
    return value * value
