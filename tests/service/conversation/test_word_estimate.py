"""Estimated times of words without timestamps: the pauses in the audio correct what the text alone would have."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyvoice import AsyncTTSService, AudioFormat, Espeak
from steadyvoice.audio.word_tones import synthesize_tones
from steadyvoice.providers.espeak import is_installed
from steadyvoice.service.conversation.word_estimate import (
    MIN_PAUSE,
    Pause,
    PauseDetector,
    place_words,
    spread_words,
)

from ...required_tools import require_tool
from .test_random_turns import TEXTS

RATE = 16_000
FORMAT = AudioFormat.parse("pcm_16000")
# The end of such a text is like its beginning: nothing but the rate tells how far it has got.
REPEATED = "no, " * 19 + "no."
SPOKEN = (
    "I have read a good book about the sea, which my brother gave me last summer; it tells of storms, ships and "
    "stopped clocks. Would you like to borrow it? The weather is fine today, and we will stay at home."
)


def pauses_of(pcm: bytes, *, cuts: int = 3333, format: AudioFormat = FORMAT) -> list[Pause]:
    """Return the pauses of samples that come in pieces."""
    detector = PauseDetector(format)
    for at in range(0, len(pcm), cuts):
        detector.take(pcm[at : at + cuts])
    return list(detector.pauses)


@settings(deadline=None)
@given(st.sampled_from([*TEXTS, REPEATED]), st.floats(0.8, 1.5), st.floats(0.0, 1.0))
def test_estimate_is_off_by_two_words_at_most_though_the_voice_is_faster_or_slower_than_expected(
    text: str, deviation: float, share: float
) -> None:
    pcm, times = synthesize_tones(text, sample_rate=RATE)
    heard = pcm[: round(share * len(pcm) / 2) * 2]
    seconds, expected = len(heard) / 2 / RATE, deviation * len(pcm) / 2 / RATE
    placed = place_words(text, 0, 0.0, expected, pauses_of(heard))
    truth, estimated = ([word for word in words if word.stop - 0.02 <= seconds] for words in (times.words(), placed))
    assert abs(len(estimated) - len(truth)) <= 2


@given(
    st.text(max_size=60),
    st.integers(0, 1000),
    st.floats(0.0, 100.0),
    st.floats(0.0, 10.0),
    st.lists(st.floats(0.0, 3.0), max_size=12),
)
def test_every_word_has_a_place_in_order_whatever_the_pauses(
    text: str, offset: int, start: float, length: float, moments: list[float]
) -> None:
    edges = sorted(moments)
    pauses = [Pause(edges[number], edges[number + 1]) for number in range(0, len(edges) - 1, 2)]
    words = place_words(text, offset, start, start + length, pauses)
    assert [word.text for word in words] == text.split()
    assert all(text[word.begin - offset : word.end - offset] == word.text for word in words)
    assert all(start - 1e-9 <= word.start <= word.stop + 1e-9 and not word.exact for word in words)
    assert all(before.stop <= after.start + 1e-9 for before, after in pairwise(words))


@pytest.mark.parametrize("cuts", [1, 7, 333, 100_000])
def test_pauses_do_not_depend_on_how_the_audio_is_cut(cuts: int) -> None:
    sound, silence = b"\x00\x10\x00\xf0" * 1600, bytes(2 * 1600)
    pcm = silence + sound + 2 * silence + sound + b"\x01\x00" * 320 + sound + silence
    assert pauses_of(pcm, cuts=cuts) == [
        pytest.approx((0.0, 0.1)),
        pytest.approx((0.3, 0.5)),
        pytest.approx((0.92, 1.02)),  # the end, and not what is shorter than MIN_PAUSE
    ]
    assert MIN_PAUSE > 0.02


def test_pause_at_the_beginning_moves_all_words() -> None:
    words = place_words("It rains.", 10, 5.0, 7.0, [Pause(0.0, 0.25)])
    assert words == list(spread_words("It rains.", 10, 5.25, 7.0))


def test_audio_that_cannot_be_examined_has_no_pauses() -> None:
    assert pauses_of(bytes(20_000), format=AudioFormat.parse("mp3_22050_32")) == []


@pytest.mark.parametrize("deviation", [0.8, 1.0, 1.2])
async def test_estimate_follows_a_voice_of_this_machine(deviation: float) -> None:
    require_tool(is_installed(), "steadyvoice[local]")
    async with AsyncTTSService([Espeak()]) as tts:
        speech = await tts.synthesize(SPOKEN, format="pcm_16000", timestamps=True)
    assert speech.alignment.exact
    off = list[int]()
    for moment in range(1, 20):
        heard = speech.audio[: moment * len(speech.audio) // 40 * 2]
        seconds = len(heard) / 2 / RATE
        placed = place_words(SPOKEN, 0, 0.0, deviation * speech.duration, pauses_of(heard))
        truth = [word for word in speech.alignment.words() if word.stop - 0.02 <= seconds]
        off.append(abs(len([word for word in placed if word.stop - 0.02 <= seconds]) - len(truth)))
    assert max(off) <= 3  # of 38 words: without the pauses it is 7
