"""Random turns: text token by token with pauses, failures at any instant, interruptions at any second.

The words are read back from the audio. Every word comes once and in order where times are exact; elsewhere none is
lost, and words that are heard again are announced. STEADYVOICE_DEEP=1 tries many times as many.
"""

from __future__ import annotations

import asyncio
import os
from itertools import pairwise
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steadyvoice import AsyncTTSService, AudioFormat, TimeoutConfig, Tone
from steadyvoice.audio.word_tones import words_in

from ..conftest import loop_clock
from ..resume.test_random_failures import ANY, NOTICED
from ..word_tone_provider import PATIENT, Fault, WordToneProvider
from .turns import Listener, push_all

DEEP = os.environ.get("STEADYVOICE_DEEP") == "1"
pytestmark = [pytest.mark.looptime, pytest.mark.timeout(7200 if DEEP else 600), pytest.mark.slow]

_VOCABULARY = ["rain", "sun", "a", "I", "we", "don't", "42", "über", "home,", "now.", "stop!", "Dr.", "Smith"]
_RANDOM = Random(2026)
TEXTS = [" ".join(_RANDOM.choices(_VOCABULARY, k=_RANDOM.choice((1, 2, 4, 8, 16, 32)))) for _ in range(40)]
FORMATS = st.sampled_from(["pcm_8000", "pcm_24000", "wav_8000", "mp3_22050_32"])
CHUNKS = st.sampled_from([0.03, 0.11, 0.47])

ELEVENLABS = st.builds(WordToneProvider, ANY, st.just("elevenlabs"), chunk=CHUNKS)
OPENAI = st.builds(
    WordToneProvider, NOTICED, st.just("openai"), timed=st.just(False), format=st.just(AudioFormat.parse("pcm_24000"))
)
LOCAL = st.builds(
    WordToneProvider,
    NOTICED,
    st.just("local"),
    timed=st.just(False),
    local=st.just(True),
    format=st.just(AudioFormat.parse("pcm_16000")),
)
PROVIDERS = st.lists(st.one_of(ELEVENLABS, OPENAI, LOCAL), min_size=1, max_size=3, unique_by=lambda each: each.name)


@st.composite
def tokens(draw: st.DrawFn) -> tuple[list[str], str]:
    """Return a text cut into tokens at random places, and the text."""
    text = draw(st.sampled_from(TEXTS))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=40)))
    return [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)], text


PAUSES = st.sampled_from([0.0, 0.01, 0.3])


async def speak(
    providers: list[WordToneProvider], pieces: list[str], pause: float, format: str, *, hold_back: bool = False
) -> Listener:
    async with AsyncTTSService(
        [*providers, Tone()], circuit=PATIENT, timeouts=TimeoutConfig.conversation(), clock=loop_clock
    ) as tts:
        turn, listener = tts.conversation(format=format, hold_back=hold_back).turn(), Listener()
        await asyncio.gather(push_all(turn, pieces, pause), listener.listen(turn))
        assert listener.error is None
        assert listener.outcome in ("spoken", "substituted", "resumed")
        return listener


@settings(max_examples=1600 if DEEP else 60)
@given(st.lists(ELEVENLABS, min_size=1, max_size=1), tokens(), PAUSES, FORMATS)
async def test_every_word_once_and_in_order_where_times_are_exact(
    providers: list[WordToneProvider], written: tuple[list[str], str], pause: float, format: str
) -> None:
    pieces, text = written
    listener = await speak(providers, pieces, pause, format)
    assert words_in(listener.audio, format) == text.split()
    assert [word.text for word in listener.words] == text.split()
    assert not any(switch.repeats for switch in listener.switches)


@example(
    [
        WordToneProvider([Fault("cut", 0.5)], "openai", timed=False, format=AudioFormat.parse("pcm_24000")),
        WordToneProvider([Fault("cut", 0.5)], "local", timed=False, local=True, format=AudioFormat.parse("pcm_16000")),
    ],
    (["home, don't I now. über rain home, a"], "home, don't I now. über rain home, a"),
    0.0,
    False,
)
@settings(max_examples=1600 if DEEP else 60)
@given(PROVIDERS, tokens(), PAUSES, st.booleans())
async def test_no_word_is_lost_and_repeated_ones_are_announced(
    providers: list[WordToneProvider], written: tuple[list[str], str], pause: float, hold_back: bool
) -> None:
    pieces, text = written
    format = AudioFormat.parse("pcm_16000")
    listener = await speak(providers, pieces, pause, "pcm_16000", hold_back=hold_back)
    # Each part is read by itself: half a word before a switch would hide the beginning of the word behind it.
    rate = 2 * format.sample_rate
    edges = [0, *(round(switch.at * rate / 2) * 2 for switch in listener.switches), len(listener.audio)]
    parts = [listener.audio[start:stop] for start, stop in pairwise(edges)]
    heard_parts = [words_in(part, format) for part in parts]
    heard, expected = [word for words in heard_parts for word in words], text.split()
    assert not (hold_back and any(switch.repeats for switch in listener.switches))
    places = iter(heard)
    assert all(word in places for word in expected)  # all of them, in order
    if not any(switch.repeats for switch in listener.switches):
        assert heard == expected
    # From each place on that is announced, the words are those of the text at its offset.
    for switch, here in zip(listener.switches, heard_parts[1:], strict=True):
        from_there = text[switch.begin :].split()
        assert here == from_there[: len(here)]


@settings(max_examples=1600 if DEEP else 60)
@given(PROVIDERS, tokens(), PAUSES, st.floats(0.0, 8.0), st.floats(0.0, 1.0))
async def test_heard_is_what_was_played(
    providers: list[WordToneProvider], written: tuple[list[str], str], pause: float, after: float, share: float
) -> None:
    pieces, _ = written
    async with AsyncTTSService(
        [*providers, Tone()], circuit=PATIENT, timeouts=TimeoutConfig.conversation(), clock=loop_clock
    ) as tts:
        conversation = tts.conversation(format="pcm_16000")
        turn, listener = conversation.turn(), Listener()
        pushing = asyncio.create_task(push_all(turn, pieces, pause))
        listening = asyncio.create_task(listener.listen(turn))
        await asyncio.sleep(after)
        played = share * listener.seconds
        heard = await turn.interrupt(played=played)
        pushing.cancel()
        await asyncio.wait([pushing, listening])
        assert turn.text.startswith(heard.text)
        assert heard.text + heard.unheard == turn.text
        words, later = (
            words_in(listener.audio[: max(0, round(second * 16000)) * 2], "pcm_16000")
            for second in (played - 0.03, played + 0.03)
        )
        if heard.exact and not any(switch.repeats for switch in listener.switches):
            assert len(words) <= len(heard.text.split()) <= len(later)
            assert heard.text.split() == later[: len(heard.text.split())]
        elif not listener.switches:
            assert abs(len(heard.text.split()) - len(words)) <= 2
