"""Word tones: a voice that speaks any text in soft tones which can be read back word for word.

The last audible fallback when no provider can speak, and the simulator's voice: `words_in` tells which words of a
stream arrived, exactly and in order.

Every word is a burst of chords, 44 ms each: a start mark, one chord for each UTF-8 byte, an end mark. A chord is two
tones at once, like a telephone key's: the low one carries four bits, the high one four more. The marks have low
tones of their own, and carry a checksum of the word in their high ones.

All tones are multiples of 90.9 Hz between 360 and 3370 Hz. They sound like the formants of one voice, pass a
telephone line, and do not disturb each other in any window of whole periods (11 ms).
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from operator import add, mul, sub

from steadyvoice.audio.conversion import convert
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.format import AudioFormat, Codec

PERIOD_MS = 11
CHORD_MS = 4 * PERIOD_MS
MARGIN_MS = 20
"""Silence before and after each word that belongs to it: two words may overlap by this in a cross-fade."""
BLANK_MS = 20
"""Length of a white-space character."""

FUNDAMENTAL = 1000 / PERIOD_MS  # Hz
LOWS = range(4, 20)  # multiples of the fundamental, one for each value of four bits
HIGHS = range(22, 38)
START_LOW, END_LOW = 20, 21

Chord = tuple[int, int]
"""Two multiples of the fundamental that sound together."""


def encode_word(word: str) -> list[Chord]:
    """Return the chords of a word: start mark, bytes, end mark."""
    spelled = word.encode("utf-8", "surrogatepass")
    check = checksum(spelled)
    start = (START_LOW, HIGHS[check >> 4])
    end = (END_LOW, HIGHS[check & 15])
    return [start, *((LOWS[byte >> 4], HIGHS[byte & 15]) for byte in spelled), end]


def decode_word(chords: list[Chord]) -> str | None:
    """Return the word of these chords, from start mark to end mark. None when the checksum does not match."""
    start, *letters, end = chords
    spelled = bytes(LOWS.index(low) << 4 | HIGHS.index(high) for low, high in letters)
    if checksum(spelled) != HIGHS.index(start[1]) << 4 | HIGHS.index(end[1]):
        return None
    try:
        return spelled.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def checksum(spelled: bytes) -> int:
    """Return eight bits that depend on every byte, its position, and the number of bytes."""
    value = 0x5A
    for byte in spelled:
        value = (value * 31 + byte + 1) & 0xFFFF
    return (value ^ value >> 8) & 0xFF


_TONE_LEVEL = 0.1 * 32767  # of each of two tones: a peak of -14 dBFS together
_HUM_LEVEL = 0.03 * 32767
_HUM_HERTZ = 110.0
_EDGE_MS = 5.5
_START_PHASES = 8  # number of phases in which a tone may begin


def synthesize_tones(text: str, *, sample_rate: int, seed: int = 0, pitch: float = 1.0) -> tuple[bytes, Alignment]:
    """Return a text as word tones: 16-bit mono samples, and the time of each character.

    Equal arguments give equal bytes. `pitch`, from 0.5 to 2, makes voices distinguishable by ear: it moves the hum
    beneath the tones (110 Hz at 1.0). `seed` gives other bytes for the same sound. Both leave the words readable.
    Raises ValueError for an impossible pitch.
    """
    pieces = list(synthesize_words(text, sample_rate=sample_rate, seed=seed, pitch=pitch))
    alignment = Alignment(
        tuple(text),
        tuple(start for _, piece in pieces for start in piece.starts),
        tuple(end for _, piece in pieces for end in piece.ends),
    )
    return b"".join(pcm for pcm, _ in pieces), alignment


def synthesize_words(
    text: str, *, sample_rate: int, seed: int = 0, pitch: float = 1.0
) -> Iterator[tuple[bytes, Alignment]]:
    """Yield a text word by word, for texts too long to hold: samples and alignment of each word or white space.

    Alignments are in seconds from the beginning of the whole text. Raises ValueError for an impossible pitch.
    """
    if not 0.5 <= pitch <= 2.0:
        raise ValueError(f"pitch: must lie between 0.5 and 2, got {pitch}")
    voice = _ToneSynthesizer(sample_rate, seed, pitch)
    now = 0  # milliseconds
    for blank, characters in groupby(text, str.isspace):
        piece = "".join(characters)
        lengths = _blank_lengths(piece) if blank else _letter_lengths(piece)
        edges = [now]
        for length in lengths:
            edges.append(edges[-1] + length)
        pcm = voice.silence(now, edges[-1]) if blank else voice.word(piece, now, edges[-1])
        seconds = [edge / 1000 for edge in edges]
        yield pcm, Alignment(tuple(piece), tuple(seconds[:-1]), tuple(seconds[1:]))
        now = edges[-1]


def _blank_lengths(blank: str) -> list[int]:
    return [BLANK_MS] * len(blank)


def _letter_lengths(word: str) -> list[int]:
    """Return the milliseconds of each character: its chords, and for the first and last the marks and margins too."""
    lengths = [CHORD_MS * len(letter.encode("utf-8", "surrogatepass")) for letter in word]
    lengths[0] += MARGIN_MS + CHORD_MS
    lengths[-1] += CHORD_MS + MARGIN_MS
    return lengths


class _ToneSynthesizer:
    """Synthesizer of chords at one rate. Edges are counted in milliseconds, so that rounding does not add up."""

    def __init__(self, rate: int, seed: int, pitch: float) -> None:
        self._rate = rate
        self._seed = seed
        self._pitch = pitch

    def word(self, word: str, start: int, end: int) -> bytes:
        chords = encode_word(word)
        first = start + MARGIN_MS
        edges = [self._sample(first + CHORD_MS * i) for i in range(len(chords) + 1)]
        drawn = [self._chord(chord, b - a) for chord, (a, b) in zip(chords, pairwise(edges), strict=True)]
        return self.silence(start, first) + b"".join(drawn) + self.silence(end - MARGIN_MS, end)

    def silence(self, start: int, end: int) -> bytes:
        return bytes(2 * (self._sample(end) - self._sample(start)))

    def _sample(self, milliseconds: int) -> int:
        return round(milliseconds * self._rate / 1000)

    def _chord(self, chord: Chord, count: int) -> bytes:
        return _chord_samples(chord, count, self._rate, self._seed, self._pitch)


@lru_cache(maxsize=1024)  # a text has some sixty different letters
def _chord_samples(chord: Chord, count: int, rate: int, seed: int, pitch: float) -> bytes:
    phases = random.Random(f"{seed} {chord}")
    low, high, hum = (
        _tone_samples(hertz, level, phases.randrange(_START_PHASES), count, rate)
        for hertz, level in (
            (chord[0] * FUNDAMENTAL, _TONE_LEVEL),
            (chord[1] * FUNDAMENTAL, _TONE_LEVEL),
            (_HUM_HERTZ * pitch, _HUM_LEVEL),
        )
    )
    return array("h", map(add, map(add, low, high), hum)).tobytes()


@lru_cache(maxsize=2048)  # all voices share these
def _tone_samples(hertz: float, level: float, phase: int, count: int, rate: int) -> array[int]:
    """Return one tone of `count` samples with soft edges, which do not click."""
    start = phase / _START_PHASES
    turns = (hertz * i / rate + start for i in range(count))
    drawn = zip(_envelope(count, rate), map(math.sin, [2 * math.pi * turn for turn in turns]), strict=True)
    return array("h", [round(level * loudness * height) for loudness, height in drawn])


@lru_cache(maxsize=64)  # a chord has one of two lengths at each rate
def _envelope(count: int, rate: int) -> tuple[float, ...]:
    """Return the loudness of each sample, from 0 to 1."""
    edge = _EDGE_MS * rate / 1000
    nearest = (min(i + 0.5, count - i - 0.5, edge) for i in range(count))
    return tuple(math.sin(math.pi / 2 * distance / edge) ** 2 for distance in nearest)


_DECODER_RATE = 8000
_PERIOD_SAMPLES = PERIOD_MS * _DECODER_RATE // 1000  # 88 samples, in which every tone has whole waves
_HALF_PERIOD = _PERIOD_SAMPLES // 2
_CHORD_LENGTH = CHORD_MS * _DECODER_RATE // 1000
_WINDOW = 3 * _PERIOD_SAMPLES  # the middle of a chord, without its soft edges
_CHORD_EDGE = (_CHORD_LENGTH - _WINDOW) // 2
_HOP = _PERIOD_SAMPLES // 4  # step of the search for a start mark
_MIN_TONE_LEVEL = 60.0  # amplitude, of 32768, below which there is no tone
_MIN_LEVEL_RATIO = 2.0  # factor by which a tone must be stronger than all others

_Quarters = tuple[list[int], list[int]]


@dataclass(frozen=True, slots=True)
class DetectedWord:
    """Word read back from audio, or a part of one, and its time in seconds. `text` is empty if it is partial."""

    text: str
    start: float
    end: float
    partial: bool = False


def words_in(audio: bytes, format: AudioFormat | str) -> list[str]:
    """Return the complete words in `audio`, of the word-tone voice and in this `format`.

    Raises TTSNotAudioError when the audio cannot be decoded.
    """
    return [word.text for word in detect_words(audio, format) if not word.partial]


def detect_words(audio: bytes, format: AudioFormat | str) -> list[DetectedWord]:
    """Return the words in a piece of audio, partial ones included. Raises TTSNotAudioError."""
    if not audio:
        return []
    source = AudioFormat.parse(format) if isinstance(format, str) else format
    return list(_detect(array("h", convert(audio, source, AudioFormat(Codec.PCM, _DECODER_RATE)))))


def _detect(samples: array[int]) -> Iterator[DetectedWord]:
    """Yield words: search for a start mark, read chords until the end mark, continue behind it."""
    at = 0
    while (start := _next_start(samples, at)) is not None:
        chords = _chords_from(samples, start)
        word = decode_word(chords) if chords and chords[-1][0] == END_LOW else None
        end = start + max(1, len(chords)) * _CHORD_LENGTH
        yield DetectedWord(word or "", start / _DECODER_RATE, end / _DECODER_RATE, partial=word is None)
        at = end


def _next_start(samples: array[int], at: int) -> int | None:
    """Return the offset of the next start mark, at which its tone is strongest; None if there is none."""
    while at + _WINDOW <= len(samples):
        if _may_be_start(samples, at) and _is_start(_chord_at(samples, at)):
            last = min(at + _CHORD_LENGTH, len(samples) - _WINDOW)
            places = range(at, last + 1, _HOP // 2)
            return max(places, key=lambda place: _start_level(samples, place)) - _CHORD_EDGE
        at += _HOP
    return None


def _may_be_start(samples: array[int], place: int) -> bool:
    """Return whether a start mark's low tone is clear among the low tones of its parity, in the window at `place`."""
    # Silence and speech are rejected here, by one or two tones: `_chord_at`, which measures all 38, takes five times
    # as long, and there are 364 windows in each second.
    if not any(samples[place : place + _WINDOW]):
        return False
    quarters = _quarters(_folded(samples, place), START_LOW % 2)
    most = _level(quarters, START_LOW) / _MIN_LEVEL_RATIO
    return most > _MIN_TONE_LEVEL / _MIN_LEVEL_RATIO and all(_level(quarters, tone) < most for tone in _START_RIVALS)


def _start_level(samples: array[int], place: int) -> float:
    return _level(_quarters(_folded(samples, place), START_LOW % 2), START_LOW)


def _chords_from(samples: array[int], start: int) -> list[Chord]:
    """Return the chords from `start`, as far as they are clear and belong to one word."""
    chords: list[Chord] = []
    place = start + _CHORD_EDGE
    while place + _WINDOW <= len(samples):
        chord = _chord_at(samples, place)
        if chord is None or (chords and _is_start(chord)):
            break
        chords.append(chord)
        if chord[0] == END_LOW:
            break
        place += _CHORD_LENGTH
    return chords


def _is_start(chord: Chord | None) -> bool:
    return chord is not None and chord[0] == START_LOW


def _chord_at(samples: array[int], place: int) -> Chord | None:
    """Return the two tones in the window at `place`. None when they are not clear."""
    folded = _folded(samples, place)
    even_and_odd = [_quarters(folded, odd) for odd in (0, 1)]
    low = _strongest({tone: _level(even_and_odd[tone % 2], tone) for tone in _ALL_LOWS})
    high = _strongest({tone: _level(even_and_odd[tone % 2], tone) for tone in HIGHS})
    return None if low is None or high is None else (low, high)


def _strongest(levels: dict[int, float]) -> int | None:
    second, first = sorted(levels, key=levels.__getitem__)[-2:]
    clear = levels[first] > max(_MIN_TONE_LEVEL, _MIN_LEVEL_RATIO * levels[second])
    return first if clear else None


def _folded(samples: array[int], place: int) -> list[int]:
    """Return the sum of the window's three periods. Word tones have whole waves in each, so they add up."""
    first, second, third = (samples[place + _PERIOD_SAMPLES * i : place + _PERIOD_SAMPLES * (i + 1)] for i in range(3))
    return list(map(add, map(add, first, second), third))


def _quarters(period: list[int], odd: int) -> _Quarters:
    """Return a period folded to a quarter of its length, as cosines and as sines, for all odd or all even tones."""
    # Each of the 36 tones is multiplied with the result, so folding first saves three quarters of the products.
    halves = list(map(sub if odd else add, period[:_HALF_PERIOD], period[_HALF_PERIOD:]))
    there, back = halves[: _HALF_PERIOD // 2 + 1], [0, *halves[: _HALF_PERIOD // 2 - 1 : -1]]
    back[-1] = 0  # the middle sample is its own mirror image
    as_cosines, as_sines = (sub, add) if odd else (add, sub)
    return list(map(as_cosines, there, back)), list(map(as_sines, there, back))


def _level(quarters: _Quarters, tone: int) -> float:
    """Return the amplitude of one tone: one bin of a Fourier transform, as Goertzel's filter computes it."""
    (cosines, sines), (as_cosines, as_sines) = _REFERENCE_WAVES[tone], quarters
    return 2 * math.hypot(sum(map(mul, as_cosines, cosines)), sum(map(mul, as_sines, sines))) / _WINDOW


def _reference_waves(tone: int) -> tuple[list[float], list[float]]:
    angles = [2 * math.pi * tone * i / _PERIOD_SAMPLES for i in range(_HALF_PERIOD // 2 + 1)]
    return [math.cos(angle) for angle in angles], [math.sin(angle) for angle in angles]


_ALL_LOWS = (*LOWS, START_LOW, END_LOW)
_START_RIVALS = [tone for tone in LOWS if tone % 2 == START_LOW % 2]
_REFERENCE_WAVES = {tone: _reference_waves(tone) for tone in (*_ALL_LOWS, *HIGHS)}
