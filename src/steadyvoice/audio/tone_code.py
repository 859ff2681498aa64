"""How the word-tone voice writes letters as tones: the alphabet that its speaker and its listener share.

Every word is a burst of chords, 44 ms each: a start mark, one chord a UTF-8 byte, an end mark. A chord is two
tones at once, like a telephone key's: the low one carries four bits, the high one four more. The marks have low
tones of their own, and carry a checksum of the word in their high ones.

All tones are multiples of 90.9 Hz between 360 and 3370 Hz. They sound like the formants of one voice, pass a
telephone line, and do not disturb each other in any window of whole periods (11 ms).
"""

from __future__ import annotations

PERIOD_MS = 11
CHORD_MS = 4 * PERIOD_MS
MARGIN_MS = 20
"""Silence before and after each word that belongs to it: two words may overlap by this in a cross-fade."""
BLANK_MS = 20
"""What a white-space character takes."""

FUNDAMENTAL = 1000 / PERIOD_MS  # Hz
LOWS = range(4, 20)  # multiples of the fundamental, one for each value of four bits
HIGHS = range(22, 38)
START_LOW, END_LOW = 20, 21

Chord = tuple[int, int]
"""Two multiples of the fundamental that sound together."""


def chords_of(word: str) -> list[Chord]:
    """Spell a word: start mark, bytes, end mark."""
    spelled = word.encode("utf-8", "surrogatepass")
    check = checksum(spelled)
    start = (START_LOW, HIGHS[check >> 4])
    end = (END_LOW, HIGHS[check & 15])
    return [start, *((LOWS[byte >> 4], HIGHS[byte & 15]) for byte in spelled), end]


def word_of(chords: list[Chord]) -> str | None:
    """Read a word from its start mark to its end mark. None when the checksum does not fit."""
    start, *letters, end = chords
    spelled = bytes(LOWS.index(low) << 4 | HIGHS.index(high) for low, high in letters)
    if checksum(spelled) != HIGHS.index(start[1]) << 4 | HIGHS.index(end[1]):
        return None
    try:
        return spelled.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def checksum(spelled: bytes) -> int:
    """Eight bits that depend on every byte, its place, and how many there are."""
    value = 0x5A
    for byte in spelled:
        value = (value * 31 + byte + 1) & 0xFFFF
    return (value ^ value >> 8) & 0xFF
