"""Reads the word-tone voice back: which words are in a piece of audio, exactly and in order."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from operator import add, mul, sub

from steadyvoice.audio.convert import convert
from steadyvoice.audio.tone_code import CHORD_MS, END_LOW, HIGHS, LOWS, PERIOD_MS, START_LOW, Chord, word_of
from steadyvoice.speech.format import AudioFormat, Codec

_RATE = 8000
_PERIOD = PERIOD_MS * _RATE // 1000  # 88 samples: every tone has whole waves in it
_HALF = _PERIOD // 2
_CHORD = CHORD_MS * _RATE // 1000
_WINDOW = 3 * _PERIOD  # the middle of a chord, without its soft edges
_EDGE = (_CHORD - _WINDOW) // 2
_HOP = _PERIOD // 4  # how finely a start mark is looked for
_QUIET = 60.0  # amplitude of a tone that is none, of 32768
_CLEAR = 2.0  # how much stronger than its rivals a tone must be

_Quarters = tuple[list[int], list[int]]


@dataclass(frozen=True, slots=True)
class Heard:
    """A word, or the rest of one, and when it is heard, in seconds. `text` is empty where it is partial."""

    text: str
    start: float
    end: float
    partial: bool = False


def words_in(audio: bytes, format: AudioFormat | str) -> list[str]:
    """Read the whole words in a piece of audio of the word-tone voice. A word that was cut is left out.

    Raises TTSNotAudioError when the audio cannot be decoded.
    """
    return [heard.text for heard in heard_in(audio, format) if not heard.partial]


def heard_in(audio: bytes, format: AudioFormat | str) -> list[Heard]:
    """Read the words, and also where one was begun and is not whole."""
    if not audio:
        return []
    source = AudioFormat.parse(format) if isinstance(format, str) else format
    return list(_heard(array("h", convert(audio, source, AudioFormat(Codec.PCM, _RATE)))))


def _heard(samples: array[int]) -> Iterator[Heard]:
    """Look for a start mark, read chords until the end mark, go on behind it."""
    at = 0
    while (start := _next_start(samples, at)) is not None:
        chords = _chords_from(samples, start)
        word = word_of(chords) if chords and chords[-1][0] == END_LOW else None
        end = start + max(1, len(chords)) * _CHORD
        yield Heard(word or "", start / _RATE, end / _RATE, partial=word is None)
        at = end


def _next_start(samples: array[int], at: int) -> int | None:
    """Find where the next start mark begins: its window is where its tone is strongest."""
    while at + _WINDOW <= len(samples):
        if _start_level(samples, at) > _QUIET and _is_start(_chord_at(samples, at)):
            last = min(at + _CHORD, len(samples) - _WINDOW)
            places = range(at, last + 1, _HOP // 2)
            return max(places, key=lambda place: _start_level(samples, place)) - _EDGE
        at += _HOP
    return None


def _start_level(samples: array[int], place: int) -> float:
    return _level(_quarters(_folded(samples, place), START_LOW % 2), START_LOW)


def _chords_from(samples: array[int], start: int) -> list[Chord]:
    """Read chord after chord, as far as they are clear and belong to one word."""
    chords: list[Chord] = []
    place = start + _EDGE
    while place + _WINDOW <= len(samples):
        chord = _chord_at(samples, place)
        if chord is None or (chords and _is_start(chord)):
            break
        chords.append(chord)
        if chord[0] == END_LOW:
            break
        place += _CHORD
    return chords


def _is_start(chord: Chord | None) -> bool:
    return chord is not None and chord[0] == START_LOW


def _chord_at(samples: array[int], place: int) -> Chord | None:
    """Tell which two tones sound in the window. None when they are not clear."""
    folded = _folded(samples, place)
    even_and_odd = [_quarters(folded, odd) for odd in (0, 1)]
    low = _strongest({tone: _level(even_and_odd[tone % 2], tone) for tone in _ALL_LOWS})
    high = _strongest({tone: _level(even_and_odd[tone % 2], tone) for tone in HIGHS})
    return None if low is None or high is None else (low, high)


def _strongest(levels: dict[int, float]) -> int | None:
    second, first = sorted(levels, key=levels.__getitem__)[-2:]
    clear = levels[first] > max(_QUIET, _CLEAR * levels[second])
    return first if clear else None


def _folded(samples: array[int], place: int) -> list[int]:
    """Lay the periods of the window over each other. Our tones have whole waves in each, so they add up."""
    first, second, third = (samples[place + _PERIOD * i : place + _PERIOD * (i + 1)] for i in range(3))
    return list(map(add, map(add, first, second), third))


def _quarters(period: list[int], odd: int) -> _Quarters:
    """Lay the quarters of a period over each other, too, as the cosines and the sines of all odd or all even tones do:
    there are many of them to be multiplied with.
    """
    halves = list(map(sub if odd else add, period[:_HALF], period[_HALF:]))
    there, back = halves[: _HALF // 2 + 1], [0, *halves[: _HALF // 2 - 1 : -1]]
    back[-1] = 0  # the middle is its own mirror
    as_cosines, as_sines = (sub, add) if odd else (add, sub)
    return list(map(as_cosines, there, back)), list(map(as_sines, there, back))


def _level(quarters: _Quarters, tone: int) -> float:
    """The amplitude of one tone: one bin of a Fourier transform, which is what Goertzel's filter computes."""
    (cosines, sines), (as_cosines, as_sines) = _WAVES[tone], quarters
    return 2 * math.hypot(sum(map(mul, as_cosines, cosines)), sum(map(mul, as_sines, sines))) / _WINDOW


def _wave(tone: int) -> tuple[list[float], list[float]]:
    angles = [2 * math.pi * tone * i / _PERIOD for i in range(_HALF // 2 + 1)]
    return [math.cos(angle) for angle in angles], [math.sin(angle) for angle in angles]


_ALL_LOWS = (*LOWS, START_LOW, END_LOW)
_WAVES = {tone: _wave(tone) for tone in (*_ALL_LOWS, *HIGHS)}
