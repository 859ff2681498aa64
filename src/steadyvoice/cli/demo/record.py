"""What was heard, joined into one file that can be played, with captions."""

from __future__ import annotations

from collections.abc import Sequence

from steadyvoice.audio.wav import wav_bytes
from steadyvoice.service.spoken import Speech
from steadyvoice.speech.alignment import Alignment, captions

RATE = 24000
FORMAT = f"pcm_{RATE}"
PAUSE = 0.4
"""Seconds between two utterances."""


def joined(speeches: Sequence[Speech]) -> tuple[bytes, str]:
    """Lay utterances in `FORMAT` end to end: a WAV file, and its captions as WebVTT."""
    pause = bytes(2 * round(PAUSE * RATE))
    audio = b""
    alignments: list[tuple[float, Alignment]] = []
    for speech in speeches:
        start = len(audio) / 2 / RATE
        alignments += [(start, speech.alignment), (start + speech.duration, _BLANK)]
        audio += speech.audio + pause
    return wav_bytes(audio, RATE), captions(Alignment.joined(alignments))


_BLANK = Alignment((" ",), (0.0,), (0.0,))  # so that the next utterance begins with a word of its own
