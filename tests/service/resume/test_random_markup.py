"""Random markup and failures, with voices that perform it or not: every word is heard exactly once, in order.

STEADYVOICE_DEEP=1 tries forty times as many.
"""

from __future__ import annotations

import os
import re
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steadyvoice import AsyncTTSService, Markup, Tone
from steadyvoice.audio.word_tones import words_in
from steadyvoice.speech.markup import parse_markup, strip_markup

from ..conftest import loop_clock
from ..word_tone_provider import PATIENT, TIMES, Fault, FaultKind, WordToneProvider, read_all

DEEP = os.environ.get("STEADYVOICE_DEEP") == "1"
pytestmark = [pytest.mark.looptime, pytest.mark.timeout(7200 if DEEP else 300), pytest.mark.slow]

WORDS = st.sampled_from(
    ["rain", "sun", "a", "I", "don't", "42", "home,", "now.", "stop!", "x<y>z", "[1]", "&amp;", "<3"]
)
EMPTY = st.sampled_from(
    ['<break time="1s"/>', "<break/>", "[sighs]", "[laughs softly]", "<!-- a > b -->", '<mark name="m"/>']
)
PAIRS = st.sampled_from(
    [
        ("<p>", "</p>"),
        ("<s>", "</s>"),
        ('<prosody rate="slow" pitch="a>b">', "</prosody>"),
        ("<EMPHASIS>", "</emphasis>"),
        ('<phoneme alphabet="ipa" ph="x y">', "</phoneme>"),
        ('<sub alias="World Wide Web">', "</sub>"),
        ("<speak>", "</speak>"),
        ("<voice name='v'>", ""),
        ("", "</lang>"),
    ]
)
TEXTS = st.recursive(
    st.lists(st.one_of(WORDS, WORDS, EMPTY), min_size=1, max_size=5).map(" ".join),
    lambda inner: st.one_of(
        st.tuples(PAIRS, inner).map(lambda each: f"{each[0][0]}{each[1]}{each[0][1]}"),
        st.tuples(inner, inner).map(" ".join),
    ),
    max_leaves=5,
).filter(lambda text: bool(strip_markup(text).strip()))

MANNERS: list[FaultKind] = ["cut", "stall", "drip"]
FAULTS = st.lists(st.builds(Fault, st.sampled_from(MANNERS), st.floats(0.0, 0.999)), max_size=2)
KINDS = st.sampled_from([Markup.NONE, Markup.SSML, Markup.AUDIO_TAGS, Markup.SSML | Markup.AUDIO_TAGS])
PROVIDERS = st.builds(
    WordToneProvider,
    FAULTS,
    timed=st.booleans(),
    chunk=st.sampled_from([0.03, 0.47]),
    max_characters=st.sampled_from([None, None, 60, 200]),
    markup=KINDS,
    performs=st.just(True),
)

SHORT = WordToneProvider(max_characters=60, markup=Markup.SSML, performs=True)


@settings(max_examples=4_000 if DEEP else 100, database=None)
@given(TEXTS, PROVIDERS, PROVIDERS)
@example('<prosody rate="slow" pitch="a>b"><3 <break time="1s"/></prosody>', SHORT, WordToneProvider())
@example('<prosody rate="slow" pitch="a>b">rain <break time="1s"/></prosody>', SHORT, WordToneProvider())
async def test_every_word_is_heard_once_with_markup(
    text: str, first: WordToneProvider, second: WordToneProvider
) -> None:
    text = text.strip()
    first.name, second.name, second.pitch = "first", "second", 1.5
    tts = AsyncTTSService([first, second, Tone()], clock=loop_clock, circuit=PATIENT, timeouts=TIMES)
    stream = tts.stream(text, format="pcm_8000")
    audio = await read_all(stream)
    assert words_in(audio, stream.format) == strip_markup(text).split()
    spans = stream.report.spans
    assert (spans[0].begin, spans[-1].end) == (0, len(text))
    assert all(one.end == other.begin and one.stop == other.start for one, other in pairwise(spans))
    assert stream.duration == pytest.approx(len(audio) / 16000, abs=0.05)
    assert stream.alignment.text == text
    shown = re.sub(r"\d+:[\d:.,]+( --> .*)?|<\d[\d:.]+>", "", stream.captions("srt"))
    assert not any(name in shown.lower() for name in ("prosody", "phoneme", "break", "emphasis", "speak>", "sighs"))
    for provider in (first, second):
        for asked in provider.requests:
            assert len(asked.text) <= (provider.max_characters or len(asked.text))
            marked = parse_markup(asked.text)
            assert marked is None or all(token.kind in provider.markup for token in marked.tokens)


@settings(max_examples=1_000 if DEEP else 40, database=None)
@given(TEXTS, PROVIDERS)
async def test_silence_covers_the_rest_of_the_text(text: str, only: WordToneProvider) -> None:
    text = text.strip()
    only.faults = [*only.faults, *[Fault("cut", 0.3)] * 50]
    tts = AsyncTTSService([only], clock=loop_clock, circuit=PATIENT, timeouts=TIMES)
    stream = tts.stream(text, format="pcm_8000", deadline=5)
    audio = await read_all(stream)
    words = words_in(audio, stream.format)
    assert words == strip_markup(text).split()[: len(words)]
    spans = stream.report.spans
    assert (spans[0].begin, spans[-1].end) == (0, len(text))
    assert strip_markup(text[: spans[-1].begin]).split()[: len(words)] == words or spans[-1].provider
    assert stream.alignment.text == text
    assert stream.duration == pytest.approx(len(audio) / 16000, abs=0.05)
