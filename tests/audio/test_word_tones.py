"""Word tones can be read back, word for word, after everything that may happen to audio.

STEADYVOICE_DEEP=1 tries each change in each format.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Hashable
from itertools import islice, pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyvoice.audio.conversion import convert
from steadyvoice.audio.word_tones import (
    END_LOW,
    HIGHS,
    LOWS,
    START_LOW,
    checksum,
    decode_word,
    detect_words,
    synthesize_tones,
    synthesize_words,
    words_in,
)
from steadyvoice.speech.format import FORMAT_NAMES, AudioFormat, Codec
from tests.case_selection import covering_cases

from .samples import FORMAT_OF_EACH_CODEC, hum

pytestmark = pytest.mark.slow

TEXT = "The quick brown fox jumps over a naïve façade — 你好 世界 🎉 aaaa pppp 0 1."
HARD_CASES = [(name, pitch) for name in ("ulaw_8000", "mp3_22050_32", "aac_24000_64") for pitch in (0.5, 1.5, 2.0)]
SOME_RATES = st.sampled_from([8000, 24000])


def tone_samples(text: str = TEXT, rate: int = 8000) -> array[int]:
    return array("h", synthesize_tones(text, sample_rate=rate)[0])


def read(samples: array[int], rate: int = 8000) -> list[str]:
    return words_in(samples.tobytes(), f"pcm_{rate}")


@pytest.mark.parametrize(("name", "pitch"), [*((name, 1.0) for name in FORMAT_NAMES), *HARD_CASES])
def test_words_survive_every_format(name: str, pitch: float) -> None:
    format = AudioFormat.parse(name)
    pcm, _ = synthesize_tones(TEXT, sample_rate=format.sample_rate, pitch=pitch)

    audio = convert(pcm, AudioFormat(Codec.PCM, format.sample_rate), format)

    assert words_in(audio, format) == TEXT.split()


@settings(max_examples=80, deadline=None)
@given(text=st.text(st.characters(codec=None), max_size=30), rate=SOME_RATES, seed=st.integers(0, 99))
def test_any_text_can_be_read_back(text: str, rate: int, seed: int) -> None:
    pcm, _ = synthesize_tones(text, sample_rate=rate, seed=seed)

    assert words_in(pcm, f"pcm_{rate}") == text.split()


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.sampled_from("ab é世🎉\n\t"), max_size=30), rate=st.sampled_from([8000, 22050, 44100]))
def test_character_times_cover_the_audio_without_gaps(text: str, rate: int) -> None:
    pcm, alignment = synthesize_tones(text, sample_rate=rate)

    assert alignment.text == text
    assert alignment.exact
    assert alignment.starts[1:] == alignment.ends[:-1]
    assert (alignment.starts or (0.0,))[0] == 0.0
    assert len(pcm) == 2 * round((alignment.ends or (0.0,))[-1] * rate)
    assert all(end > start for start, end in zip(alignment.starts, alignment.ends, strict=True))


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_words_are_detected_at_the_times_of_the_alignment(rate: int) -> None:
    pcm, alignment = synthesize_tones(TEXT, sample_rate=rate)

    for word, heard in zip(alignment.words(), detect_words(pcm, AudioFormat(Codec.PCM, rate)), strict=True):
        assert heard.text == word.text
        assert heard.start == pytest.approx(word.start + 0.02, abs=0.006)
        assert heard.end == pytest.approx(word.stop - 0.02, abs=0.006)


def test_word_can_be_cut_out_by_its_times() -> None:
    pcm, alignment = synthesize_tones(TEXT, sample_rate=24000)

    for word in alignment.words():
        assert words_in(pcm[2 * round(word.start * 24000) : 2 * round(word.stop * 24000)], "pcm_24000") == [word.text]


def test_speed_is_that_of_a_human_voice() -> None:
    text = "It was the best of times, it was the worst of times, it was the age of wisdom."

    _, alignment = synthesize_tones(text, sample_rate=8000)

    assert 0.055 < alignment.ends[-1] / len(text) < 0.08


def test_synthesis_is_deterministic() -> None:
    assert synthesize_tones(TEXT, sample_rate=8000, seed=1) == synthesize_tones(TEXT, sample_rate=8000, seed=1)
    assert synthesize_tones(TEXT, sample_rate=8000, seed=1) != synthesize_tones(TEXT, sample_rate=8000, seed=2)
    assert synthesize_tones(TEXT, sample_rate=8000, pitch=1.5) != synthesize_tones(TEXT, sample_rate=8000)


def test_level_is_low() -> None:
    samples = tone_samples(rate=24000)

    peak = max(map(abs, samples)) / 32768
    step = max(abs(b - a) for a, b in pairwise(samples)) / 32768
    assert 0.1 < peak < 0.25
    assert step < 0.17  # what the highest tone needs: no clicks


def test_long_text_is_synthesized_on_demand() -> None:
    book = "word " * 1_000_000

    pieces = list(islice(synthesize_words(book, sample_rate=8000), 4))

    assert [piece.text for _, piece in pieces] == ["word", " ", "word", " "]
    assert pieces[2][1].starts[0] == pieces[1][1].ends[-1]


@pytest.mark.parametrize("pitch", [0.0, 0.4, 2.1, float("nan")])
def test_impossible_pitch_is_refused(pitch: float) -> None:
    with pytest.raises(ValueError, match=r"between 0\.5 and 2"):
        synthesize_tones("hello", sample_rate=8000, pitch=pitch)


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1))
def test_truncated_word_is_not_reported(place: float) -> None:
    text = "aaa bc 世 d"
    pcm, alignment = synthesize_tones(text, sample_rate=8000)
    cut = place * alignment.ends[-1]

    front = words_in(pcm[: 2 * round(cut * 8000)], "pcm_8000")
    back = words_in(pcm[2 * round(cut * 8000) :], "pcm_8000")

    words = alignment.words()
    certain = [word.text for word in words if word.stop <= cut]
    assert front in (certain, text.split()[: len(certain) + 1])
    assert len(front) == len(certain) or words[len(certain)].stop - cut < 0.03
    after = [word.text for word in words if word.start >= cut]
    assert back in (after, text.split()[-len(after) - 1 :])
    assert len(back) == len(after) or cut - words[-len(after) - 1].start < 0.064  # its letters are whole


@pytest.mark.parametrize("cut", range(160, 2200, 41))
def test_truncated_word_does_not_hide_the_next(cut: int) -> None:
    margin = 160  # samples, before the mark
    joined = tone_samples("hello")[:cut] + tone_samples("world")[margin:]

    assert read(joined)[-1:] == ["world"]


def test_word_truncated_at_a_chord_does_not_hide_the_next() -> None:
    margin, beat = 160, 352
    joined = tone_samples("hello")[: margin + 3 * beat] + tone_samples("world")[margin:]

    assert [(word.text, word.partial) for word in detect_words(joined.tobytes(), "pcm_8000")] == [
        ("", True),
        ("world", False),
    ]


def test_invalid_utf8_is_no_word() -> None:
    spelled = b"\xff\xfe"
    check = checksum(spelled)
    letters = [(LOWS[byte >> 4], HIGHS[byte & 15]) for byte in spelled]

    assert decode_word([(START_LOW, HIGHS[check >> 4]), *letters, (END_LOW, HIGHS[check & 15])]) is None


def test_unfinished_word_is_partial() -> None:
    samples = tone_samples("hello")

    heard = detect_words(samples[: len(samples) // 2].tobytes(), "pcm_8000")

    assert [(word.text, word.partial) for word in heard] == [("", True)]


CHANGES = ("quieter", "silence before", "silence between", "silence after", "odd start")
FRAMED = ("mp3_44100_128", "opus_48000_64")


def changes_by_format(case: tuple[str, str]) -> set[Hashable]:
    """Return what is covered by a change in a format: both, and each change in samples and in each kind of frames."""
    change, name = case
    return {name, (change, name if name in FRAMED else "other")}


CHANGED: list[tuple[str, str]] = covering_cases(list(product(CHANGES, FORMAT_OF_EACH_CODEC)), changes_by_format)


@pytest.mark.parametrize(("change", "name"), CHANGED)
def test_words_survive_gain_and_added_silence(change: str, name: str) -> None:
    pcm, alignment = synthesize_tones(TEXT, sample_rate=24000)
    offset = 2 * round(alignment.words()[3].end * 24000)
    changed = {
        "quieter": array("h", [round(0.3 * sample) for sample in array("h", pcm)]).tobytes(),
        "silence before": bytes(48000) + pcm,
        "silence between": pcm[:offset] + bytes(48000) + pcm[offset:],
        "silence after": pcm + bytes(48000),
        "odd start": bytes(2 * 137) + pcm,
    }[change]

    audio = convert(changed, AudioFormat.parse("pcm_24000"), AudioFormat.parse(name))

    assert words_in(audio, name) == TEXT.split()


@pytest.mark.parametrize("name", FORMAT_OF_EACH_CODEC)
def test_words_survive_crossfades(name: str) -> None:
    pcm, alignment = synthesize_tones(TEXT, sample_rate=24000)
    fade = 480  # 20 ms
    joined = array("h")
    for word in alignment.words():
        piece = array("h", pcm)[round(word.start * 24000) : round(word.stop * 24000)]
        if joined:
            for i in range(fade):
                weight = i / fade
                joined[i - fade] = round(joined[i - fade] * (1 - weight) + piece[i] * weight)
            piece = piece[fade:]
        joined += piece

    audio = convert(joined.tobytes(), AudioFormat.parse("pcm_24000"), AudioFormat.parse(name))

    assert words_in(audio, name) == TEXT.split()


@pytest.mark.parametrize("name", ["mp3_44100_32", "opus_48000_32", "ulaw_8000", "aac_24000_64"])
def test_words_survive_a_chain_of_formats(name: str) -> None:
    audio, format = synthesize_tones(TEXT, sample_rate=44100)[0], AudioFormat.parse("pcm_44100")
    for step in ("opus_48000_32", "ulaw_8000", "mp3_22050_32", name):
        audio, format = convert(audio, format, AudioFormat.parse(step)), AudioFormat.parse(step)

    assert words_in(audio, name) == TEXT.split()


def mix(*sounds: array[int]) -> array[int]:
    """Return the sum of sounds, as long as the shortest."""
    return array("h", map(sum, zip(*sounds, strict=False)))


def noise(count: int) -> array[int]:
    rng = random.Random(7)
    return array("h", [rng.randrange(-9000, 9000) for _ in range(count)])


@pytest.mark.parametrize(
    "sound",
    [
        lambda: array("h"),
        lambda: array("h", [0] * 16000),
        lambda: noise(32000),
        lambda: array("h", hum(2.0, 8000, 90.909 * 20)),
        lambda: array("h", [30000, -30000] * 8000),
        lambda: mix(tone_samples("hello"), array("h", hum(2.0, 8000, 90.909 * 21)), array("h", hum(2.0, 8000, 3600.0))),
    ],
    ids=["nothing", "silence", "noise", "the start mark's own tone", "a square wave", "a word drowned out"],
)
def test_other_sounds_contain_no_words(sound: Callable[[], array[int]]) -> None:
    assert detect_words(sound().tobytes(), "pcm_8000") == []


def test_damaged_letter_fails_the_checksum() -> None:
    samples = tone_samples("hello world")
    other = tone_samples("jelly world")
    letter = slice(round(0.064 * 8000), round(0.108 * 8000))  # the first, after margin and start mark
    assert other[letter] != samples[letter]

    samples[letter] = other[letter]

    assert read(samples) == ["world"]


@pytest.mark.parametrize("rate", [8000, 24000])
def test_words_survive_soft_noise(rate: int) -> None:
    samples = tone_samples(rate=rate)
    soft = array("h", [sample // 16 for sample in noise(len(samples))])

    assert read(mix(samples, soft), rate) == TEXT.split()
