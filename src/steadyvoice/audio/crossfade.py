"""Crossfade between two voices in the pause between two words: cut, loudness, length of the pause, no click.

Pure functions on 16-bit mono samples. They run only when a voice breaks off, so plain Python is fast enough: some tens
of milliseconds.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from operator import mul

_LOUDNESS_BLOCK = 0.02  # seconds over which loudness is measured
_STEP = 0.005  # seconds: resolution of the search for a quiet place or the beginning of a sound
_SILENCE = 60.0  # amplitude: -55 dBFS, below the softest speech
_GATE = 0.1  # of the mean energy; quieter blocks are pauses, as in ITU-R BS.1770
_MIN_LOUD_BLOCKS = 5  # blocks that are needed to measure a voice's loudness
_ONSET_LEVEL = 0.03  # of a voice's level: -30 dB, where its softest consonants are
_QUIET_LEVEL = 0.1  # of a voice's level: -20 dB, the loudest end that does not sound cut off
_END_WINDOW = 0.01  # seconds at the end that are checked for a sound that is cut off
_RUN_UP = 0.02  # seconds before the first measured sound that belong to it
_FADE = 0.015  # seconds of cross-fade
_FULL_SCALE = (1 << 15) - 1  # the highest amplitude
_KNEE = 0.8 * _FULL_SCALE  # -2 dBFS: samples that become louder than this are compressed smoothly
MAX_GAIN = 2.0
"""Maximum factor by which a voice is made louder or softer: 6 dB."""


@dataclass(frozen=True, slots=True)
class Crossfade:
    """Beginning of a new voice, joined to the end of another.

    `shift` is the number of samples by which the new voice starts later than its own audio does; negative where its
    leading silence was shortened.
    """

    samples: array[int]
    shift: int


def speech_level(samples: array[int], rate: int) -> float | None:
    """Return the loudness of a voice: its effective amplitude without pauses. None if there is too little speech."""
    energies = [energy for energy in _energies(samples, round(_LOUDNESS_BLOCK * rate)) if energy > _SILENCE**2]
    if not energies:
        return None
    gate = _GATE * sum(energies) / len(energies)
    loud = [energy for energy in energies if energy >= gate]
    return math.sqrt(sum(loud) / len(loud)) if len(loud) >= _MIN_LOUD_BLOCKS else None


def matching_gain(before: float | None, new: float | None) -> float:
    """Return the factor that makes a new voice as loud as the one before: 6 dB at most; 1.0 if a level is unknown."""
    if not before or not new:
        return 1.0
    return min(max(before / new, 1 / MAX_GAIN), MAX_GAIN)


def apply_gain(samples: array[int], factor: float) -> array[int]:
    """Multiply samples by a factor, within 16 bits. Peaks are compressed smoothly: clipped ones would crackle."""
    return samples if factor == 1.0 else array("h", map(_gain_table(factor).__getitem__, samples))


def quietest_position(samples: array[int], rate: int) -> int:
    """Return the offset at which to cut: the middle of the quietest 5 ms, the last such place if there are several.

    Returns the whole length if there are fewer samples than that.
    """
    width = max(1, round(_STEP * rate))
    if len(samples) < width:
        return len(samples)
    sums = [0, *accumulate(map(mul, samples, samples))]
    energies = [sums[at + width] - sums[at] for at in range(len(samples) - width + 1)]
    least = min(energies)
    last = max(at for at, energy in enumerate(energies) if energy == least)
    return len(samples) if last == len(samples) - width else last + width // 2


def ends_quietly(samples: array[int], rate: int) -> bool:
    """Return whether the last 10 ms are 20 dB softer than the voice, so that no sound is cut off."""
    last = samples[-max(1, round(_END_WINDOW * rate)) :]
    energy = sum(map(mul, last, last)) / max(1, len(last))
    quiet = max(_SILENCE, _QUIET_LEVEL * (speech_level(samples, rate) or 0.0))
    return bool(energy < quiet**2)


def ends_abruptly(samples: array[int], rate: int) -> bool:
    """Return whether a voice that makes pauses ends in the middle of a sound, as if it had been cut off.

    For sounds without any pause, such as a tone, the end proves nothing, and the result is False.
    """
    if ends_quietly(samples, rate):
        return False
    quiet = max(_SILENCE, _QUIET_LEVEL * (speech_level(samples, rate) or 0.0))
    return any(energy < quiet**2 for energy in _energies(samples, round(_LOUDNESS_BLOCK * rate)))


def leading_silence(samples: array[int], rate: int) -> int:
    """Return the samples of silence before a voice begins; 0 if it never does."""
    step = max(1, round(_STEP * rate))
    soft = max(_SILENCE, _ONSET_LEVEL * (speech_level(samples, rate) or 0.0)) ** 2
    first = next((i for i, energy in enumerate(_energies(samples, step)) if energy > soft), None)
    return 0 if first is None else max(0, first * step - round(_RUN_UP * rate))


def crossfade(tail: array[int], head: array[int], *, onset: int, pause: int, rate: int) -> Crossfade:
    """Join the beginning of a new voice to the pause that the voice before left, so that it lasts `pause` samples.

    `tail` is that pause, or the first part of it; only the fade shortens it. `head` has `onset` samples of silence
    before its first word, of which as much is kept as is needed. Where both are silent they are cross-faded; where
    there is too little silence, some is inserted.
    """
    fade = min(round(_FADE * rate), len(tail), onset)
    lead = min(onset, max(pause - len(tail), 0) + fade)
    missing = max(0, pause - len(tail) - lead)
    overlap = min(fade, max(0, len(tail) + lead - pause))
    kept = head[onset - lead :]
    if missing:
        _fade_out(tail := tail[:], fade)
        _fade_in(kept, fade)
    mixed = _mixed(tail[len(tail) - overlap :], kept[:overlap])
    samples = tail[: len(tail) - overlap] + mixed + array("h", bytes(2 * missing)) + kept[overlap:]
    return Crossfade(samples, len(tail) - overlap + missing - (onset - lead))


def _energies(samples: array[int], width: int) -> list[float]:
    """Return the mean square of each whole block."""
    blocks = (samples[at : at + width] for at in range(0, len(samples) - width + 1, width))
    return [sum(map(mul, block, block)) / width for block in blocks]


@lru_cache(maxsize=8)  # a declared voice has one factor, and each measured crossfade another
def _gain_table(factor: float) -> array[int]:
    """Return the product of every possible sample, indexed by the sample: negative ones count from the end."""
    # 128 KiB, whatever is scaled. A dict of the samples that occurred grew to 9 MB for each factor.

    count = _FULL_SCALE + 2
    quiet = count if factor <= 1 else int(_KNEE / factor) + 1  # samples below this are only multiplied
    products = [round(sample * factor) for sample in range(quiet)]
    products += [_soft_clipped(sample, factor) for sample in range(quiet, count)]
    return array("h", products[:-1]) + array("h", [-product for product in reversed(products[1:])])


def _soft_clipped(sample: int, factor: float) -> int:
    loud = abs(sample * factor)
    if factor > 1 and loud > _KNEE:
        loud = _KNEE + (_FULL_SCALE - _KNEE) * math.tanh((loud - _KNEE) / (_FULL_SCALE - _KNEE))
    return round(math.copysign(loud, sample))


def _mixed(out: array[int], into: array[int]) -> array[int]:
    count = len(out)
    pairs = enumerate(zip(out, into, strict=True))
    return array("h", (round((a * (count - i) + b * i) / count) for i, (a, b) in pairs))


def _fade_out(samples: array[int], count: int) -> None:
    for i in range(count):
        samples[-1 - i] = samples[-1 - i] * i // count


def _fade_in(samples: array[int], count: int) -> None:
    for i in range(count):
        samples[i] = samples[i] * i // count
