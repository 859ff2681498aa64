"""The word-tone voice: speaks any text in soft tones that can be read back word for word.

It is the last audible rung when no provider can speak, and what the simulator speaks with: whoever hears a
stream can tell with `words_in` which words arrived, exactly and in order.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby, pairwise
from operator import add

from steadyvoice.audio.tone_code import BLANK_MS, CHORD_MS, FUNDAMENTAL, MARGIN_MS, Chord, chords_of
from steadyvoice.speech.alignment import Alignment

_TONE_LEVEL = 0.1 * 32767  # of each of the two: a peak of -14 dBFS together
_HUM_LEVEL = 0.03 * 32767
_HUM_HERTZ = 110.0
_EDGE_MS = 5.5
_PHASES = 8  # that a tone may begin in


def tones(text: str, *, sample_rate: int, seed: int = 0, pitch: float = 1.0) -> tuple[bytes, Alignment]:
    """Speak a text: 16-bit mono samples, and when each character is heard. The same arguments give the same bytes.

    `pitch`, from 0.5 to 2, tells voices apart by ear: it moves the hum beneath the tones (110 Hz at 1.0).
    `seed` gives other bytes for the same sound. The words can be read back whatever they are.
    """
    pieces = list(spoken_words(text, sample_rate=sample_rate, seed=seed, pitch=pitch))
    alignment = Alignment(
        tuple(text),
        tuple(start for _, piece in pieces for start in piece.starts),
        tuple(end for _, piece in pieces for end in piece.ends),
    )
    return b"".join(pcm for pcm, _ in pieces), alignment


def spoken_words(
    text: str, *, sample_rate: int, seed: int = 0, pitch: float = 1.0
) -> Iterator[tuple[bytes, Alignment]]:
    """Speak a text word by word, for what is too long to hold: the samples of each word, or of the white space
    between two, and its alignment, in seconds from the beginning of the whole.
    """
    if not 0.5 <= pitch <= 2.0:
        raise ValueError(f"pitch: must lie between 0.5 and 2, got {pitch}")
    voice = _Voice(sample_rate, seed, pitch)
    now = 0  # milliseconds
    for blank, characters in groupby(text, str.isspace):
        piece = "".join(characters)
        lengths = _blank_lengths(piece) if blank else _letter_lengths(piece)
        edges = [now]
        for length in lengths:
            edges.append(edges[-1] + length)
        pcm = voice.rest(now, edges[-1]) if blank else voice.word(piece, now, edges[-1])
        seconds = [edge / 1000 for edge in edges]
        yield pcm, Alignment(tuple(piece), tuple(seconds[:-1]), tuple(seconds[1:]))
        now = edges[-1]


def _blank_lengths(blank: str) -> list[int]:
    return [BLANK_MS] * len(blank)


def _letter_lengths(word: str) -> list[int]:
    """Milliseconds of each character: its chords, and for the first and last the marks and margins too."""
    lengths = [CHORD_MS * len(letter.encode("utf-8", "surrogatepass")) for letter in word]
    lengths[0] += MARGIN_MS + CHORD_MS
    lengths[-1] += CHORD_MS + MARGIN_MS
    return lengths


class _Voice:
    """Draws chords at one rate. Edges are counted in milliseconds, so that no rounding adds up."""

    def __init__(self, rate: int, seed: int, pitch: float) -> None:
        self._rate = rate
        self._seed = seed
        self._pitch = pitch

    def word(self, word: str, start: int, end: int) -> bytes:
        chords = chords_of(word)
        first = start + MARGIN_MS
        edges = [self._sample(first + CHORD_MS * i) for i in range(len(chords) + 1)]
        drawn = [self._chord(chord, b - a) for chord, (a, b) in zip(chords, pairwise(edges), strict=True)]
        return self.rest(start, first) + b"".join(drawn) + self.rest(end - MARGIN_MS, end)

    def rest(self, start: int, end: int) -> bytes:
        return bytes(2 * (self._sample(end) - self._sample(start)))

    def _sample(self, milliseconds: int) -> int:
        return round(milliseconds * self._rate / 1000)

    def _chord(self, chord: Chord, count: int) -> bytes:
        return _chord(chord, count, self._rate, self._seed, self._pitch)


@lru_cache(maxsize=1024)  # a text has some sixty different letters
def _chord(chord: Chord, count: int, rate: int, seed: int, pitch: float) -> bytes:
    phases = random.Random(f"{seed} {chord}")
    low, high, hum = (
        _wave(hertz, level, phases.randrange(_PHASES), count, rate)
        for hertz, level in (
            (chord[0] * FUNDAMENTAL, _TONE_LEVEL),
            (chord[1] * FUNDAMENTAL, _TONE_LEVEL),
            (_HUM_HERTZ * pitch, _HUM_LEVEL),
        )
    )
    return array("h", map(add, map(add, low, high), hum)).tobytes()


@lru_cache(maxsize=2048)  # all voices share these
def _wave(hertz: float, level: float, phase: int, count: int, rate: int) -> array[int]:
    """Draw one tone of `count` samples with soft edges, so that nothing clicks."""
    start = phase / _PHASES
    turns = (hertz * i / rate + start for i in range(count))
    drawn = zip(_envelope(count, rate), map(math.sin, [2 * math.pi * turn for turn in turns]), strict=True)
    return array("h", [round(level * loudness * height) for loudness, height in drawn])


@lru_cache(maxsize=64)  # a chord has one of two lengths at each rate
def _envelope(count: int, rate: int) -> tuple[float, ...]:
    """How loud each sample is, from 0 to 1."""
    edge = _EDGE_MS * rate / 1000
    nearest = (min(i + 0.5, count - i - 0.5, edge) for i in range(count))
    return tuple(math.sin(math.pi / 2 * distance / edge) ** 2 for distance in nearest)
