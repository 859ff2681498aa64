"""From espeak's word events to the times of characters, second by second."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import pairwise

from steadyvoice.providers.espeak_process import Spoken
from steadyvoice.providers.espeak_worker import SAMPLE_RATE
from steadyvoice.providers.provider import Audio
from steadyvoice.speech.alignment import Alignment

_BYTES_A_CHUNK = 2 * SAMPLE_RATE  # a second


def chunks(text: str, spoken: Spoken, offset: float) -> Iterator[Audio]:
    """Cut what was spoken, `offset` seconds into the audio, into seconds with the characters that begin in each."""
    alignment = aligned(text, spoken)
    done = 0
    for begin in range(0, len(spoken.samples), _BYTES_A_CHUNK):
        end = begin + _BYTES_A_CHUNK
        last = end >= len(spoken.samples)
        upto = len(alignment.starts) if last else bisect_left(alignment.starts, end / _BYTES_A_CHUNK)
        said = Alignment(alignment.characters[done:upto], alignment.starts[done:upto], alignment.ends[done:upto])
        yield Audio(spoken.samples[begin:end], Alignment.joined([(offset, said)]))
        done = upto


def aligned(text: str, spoken: Spoken) -> Alignment:
    """Give every character of a passage its time: a word's characters, and what follows it, share its time evenly.

    espeak tells where words begin, but now and then twice (it says "1,234" in five words) or not in order.
    Whatever it says, the times here rise from zero to the end of the audio, without a gap.
    """
    edges = [
        start + (end - start) * index / (after - before)
        for (before, start), (after, end) in pairwise(_anchors(len(text), spoken))
        for index in range(after - before)
    ]
    edges.append(spoken.duration)
    return Alignment(tuple(text), tuple(edges[:-1]), tuple(edges[1:]))


def _anchors(size: int, spoken: Spoken) -> Iterator[tuple[int, float]]:
    """Give (character, seconds) of the beginning, of the words that rise from there, and of the end."""
    place, clock = 0, 0.0
    yield place, clock
    for begin, seconds in spoken.words:
        if place < begin < size and clock <= seconds <= spoken.duration:
            place, clock = begin, seconds
            yield place, clock
    yield size, spoken.duration
