"""Random failures: every word is heard exactly once, in order.

Providers of every shape speak in word tones and fail at random instants in random ways; the words are read back.
STEADYVOICE_DEEP=1, which `make long` sets, tries fifty times as many.
"""

from __future__ import annotations

import os
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyvoice import AsyncTTSService, AudioFormat, Tone

from ..conftest import loop_clock
from ..word_tone_provider import (
    PATIENT,
    TIMES,
    Fault,
    FaultKind,
    Times,
    WordToneProvider,
    assert_all_words_once,
    read_all,
)

DEEP = os.environ.get("STEADYVOICE_DEEP") == "1"
pytestmark = [pytest.mark.looptime, pytest.mark.timeout(7200 if DEEP else 300), pytest.mark.slow]

_VOCABULARY = ["rain", "sun", "a", "I", "we", "don't", "42", "über", "home,", "now.", "stop!"]
_RANDOM = Random(2026)
# A few texts only, for what was rendered once need not be again.
TEXTS = [" ".join(_RANDOM.choices(_VOCABULARY, k=_RANDOM.choice((1, 2, 3, 4, 5, 6, 12)))) for _ in range(60)]

FORMATS = st.sampled_from(["pcm_8000", "wav_8000", "mp3_22050_32"])
SHARES = st.floats(0.0, 0.999)


def faults(*manners: FaultKind, at_most: int = 3) -> st.SearchStrategy[list[Fault]]:
    return st.lists(st.builds(Fault, st.sampled_from(manners), SHARES), max_size=at_most)


ANY = faults("cut", "stall", "drip", "truncate")  # "hush" has stories of its own: a word in silence is a pause
NOTICED = faults("cut", "stall", "drip")  # an end that looks proper is none that can be noticed without times


def elevenlabs(times: Times, faults: st.SearchStrategy[list[Fault]]) -> st.SearchStrategy[WordToneProvider]:
    """Return a provider in the requested format, whose timestamps come as `times` tells."""
    chunks = st.sampled_from([0.03, 0.11, 0.47])
    return st.builds(WordToneProvider, faults, st.just("elevenlabs"), times=st.just(times), chunk=chunks)


OPENAI = st.builds(WordToneProvider, NOTICED, timed=st.just(False), format=st.just(AudioFormat.parse("pcm_24000")))
SERVER = st.builds(WordToneProvider, NOTICED, timed=st.just(False), format=st.just(AudioFormat.parse("mp3_24000_48")))
LOCAL = st.builds(WordToneProvider, ANY, local=st.just(True), format=st.just(AudioFormat.parse("pcm_16000")))
PROVIDERS = st.one_of(
    elevenlabs("with", ANY),
    elevenlabs("before", ANY),
    elevenlabs("after", ANY),
    elevenlabs("late", NOTICED),
    OPENAI,
    SERVER,
    LOCAL,
)
DISTRUSTED = st.one_of(elevenlabs("never", NOTICED), elevenlabs("nonsense", NOTICED), elevenlabs("zero", NOTICED))


@settings(max_examples=8_000 if DEEP else 150, database=None)
@given(st.sampled_from(TEXTS), PROVIDERS, PROVIDERS, FORMATS)
async def test_every_word_is_heard_once_in_order(
    text: str, first: WordToneProvider, second: WordToneProvider, name: str
) -> None:
    await assert_heard_once(text, first, second, name)


@settings(max_examples=1_000 if DEEP else 40, database=None)
@given(st.sampled_from(TEXTS), DISTRUSTED, PROVIDERS, FORMATS)
async def test_missing_or_invalid_timestamps_lose_no_word(
    text: str, first: WordToneProvider, second: WordToneProvider, name: str
) -> None:
    await assert_heard_once(text, first, second, name)


async def assert_heard_once(text: str, first: WordToneProvider, second: WordToneProvider, name: str) -> None:
    first.name, second.name, second.pitch = "first", "second", 1.5
    tts = AsyncTTSService([first, second, Tone()], clock=loop_clock, circuit=PATIENT, timeouts=TIMES)
    stream = tts.stream(text, format=name)
    assert_all_words_once(stream, await read_all(stream), text)
