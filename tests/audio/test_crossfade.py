"""Crossfade of two voices in the pause between two words."""

from __future__ import annotations

import math
import tracemalloc
from array import array
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyvoice.audio import crossfade

RATE = 8000
sounds = st.lists(st.integers(-32768, 32767), max_size=600).map(lambda values: array("h", values))


def tone(seconds: float, amplitude: float = 8000.0) -> array[int]:
    return array("h", (round(amplitude * math.sin(0.7 * i)) for i in range(round(seconds * RATE))))


def silence(seconds: float) -> array[int]:
    return array("h", bytes(2 * round(seconds * RATE)))


def test_speech_level_ignores_pauses() -> None:
    speech = tone(0.5)
    assert crossfade.speech_level(speech, RATE) == pytest.approx(8000 / math.sqrt(2), rel=0.02)
    assert crossfade.speech_level(speech + silence(2.0) + speech, RATE) == pytest.approx(8000 / math.sqrt(2), rel=0.02)


def test_silence_and_a_click_have_no_speech_level() -> None:
    assert crossfade.speech_level(silence(1.0), RATE) is None
    assert crossfade.speech_level(silence(0.5) + tone(0.03) + silence(0.5), RATE) is None


@given(st.none() | st.floats(1, 32767), st.none() | st.floats(1, 32767))
def test_gain_matches_levels_within_six_decibels(heard: float | None, newcomer: float | None) -> None:
    factor = crossfade.matching_gain(heard, newcomer)
    assert 0.5 <= factor <= 2.0
    if heard and newcomer and 0.5 <= heard / newcomer <= 2.0:
        assert newcomer * factor == pytest.approx(heard)


@given(sounds, st.floats(0.5, 2.0))
def test_gain_multiplies_samples_below_the_limit(samples: array[int], factor: float) -> None:
    for sample, product in zip(samples, crossfade.apply_gain(samples, factor), strict=True):
        if abs(sample * factor) <= 26_000 or factor <= 1:
            assert product == pytest.approx(sample * factor, abs=0.5)


@settings(max_examples=15)
@given(st.floats(0.5, 2.0))
def test_gain_is_symmetric(factor: float) -> None:
    ramp = array("h", range(-32767, 32768))
    scaled = crossfade.apply_gain(ramp, factor)
    assert list(scaled) == [-sample for sample in reversed(scaled)]
    assert crossfade.apply_gain(array("h", [-32768]), factor)[0] <= scaled[0]


@pytest.mark.slow
def test_gain_tables_use_bounded_memory() -> None:
    ramp = array("h", range(-32768, 32768))
    tracemalloc.start()
    try:
        crossfade.apply_gain(ramp, 1.5)  # every sample
        for step in range(20):
            crossfade.apply_gain(ramp[:1], 0.5 + step / 19 + 1e-6)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2 * 1024 * 1024


@settings(max_examples=30)
@given(st.floats(0.5, 2.0))
def test_peaks_are_compressed_and_never_wrap_around(factor: float) -> None:
    ramp = array("h", range(-32768, 32768, 7))
    louder = crossfade.apply_gain(ramp, factor)
    steps = [b - a for a, b in pairwise(louder)]
    assert min(steps) >= 0, "what was louder still is"
    assert max(steps) <= 7 * factor + 1
    assert max(abs(b - a) for a, b in pairwise(steps)) <= 2, "without a corner, which one would hear as a crackle"


@given(st.integers(100, 400), st.integers(100, 400))
def test_cut_is_at_the_quietest_position(before: int, after: int) -> None:
    samples = tone(before / RATE) + tone(0.005, 10.0) + tone(after / RATE)
    assert crossfade.quietest_position(samples, RATE) == pytest.approx(before + 20, abs=8)


def test_silent_pause_is_kept_whole() -> None:
    assert crossfade.quietest_position(silence(0.1), RATE) == 800
    assert crossfade.quietest_position(tone(0.02) + silence(0.1), RATE) == 960
    assert crossfade.quietest_position(array("h", [1, 2]), RATE) == 2


@given(st.integers(0, 800))
def test_leading_silence_ends_just_before_the_first_sound(silence: int) -> None:
    samples = array("h", bytes(2 * silence)) + tone(0.3)
    assert max(0, silence - 160) - 45 <= crossfade.leading_silence(samples, RATE) <= max(0, silence - 160 + 40)


def test_soft_consonant_is_not_silence() -> None:
    hiss = tone(0.1, 400.0)  # 26 dB beneath the vowel
    assert crossfade.leading_silence(silence(0.2) + hiss + tone(0.5), RATE) == pytest.approx(0.18 * RATE, abs=41)


def test_audio_without_speech_has_no_leading_silence() -> None:
    assert crossfade.leading_silence(silence(0.5), RATE) == 0


@given(st.integers(0, 900), st.integers(0, 900), st.integers(0, 900))
def test_crossfade_gives_the_requested_pause(tail: int, onset: int, pause: int) -> None:
    """The pause is never shorter, and longer only where the pause that was already there was too long."""
    head = array("h", bytes(2 * onset)) + tone(0.1)
    joint = crossfade.crossfade(array("h", bytes(2 * tail)), head, onset=onset, pause=pause, rate=RATE)
    gap = joint.shift + onset
    assert pause <= gap <= max(pause, tail)
    assert len(joint.samples) == gap + len(tone(0.1))
    assert joint.samples[gap:] == tone(0.1)


@given(sounds, sounds, st.integers(0, 600), st.integers(0, 600))
def test_crossfade_does_not_change_the_first_word(tail: array[int], head: array[int], onset: int, pause: int) -> None:
    onset = min(onset, len(head))
    joint = crossfade.crossfade(tail, head, onset=onset, pause=pause, rate=RATE)
    assert joint.samples[joint.shift + onset :] == head[onset:]
    fade = round(0.015 * RATE)
    assert joint.samples[: len(tail) - fade] == tail[: max(0, len(tail) - fade)] or len(tail) <= fade


def test_crossfade_of_two_hums_has_no_step() -> None:
    joint = crossfade.crossfade(tone(0.05, 300), tone(0.05, 300), onset=400, pause=700, rate=RATE)
    steps = [abs(b - a) for a, b in zip(joint.samples, joint.samples[1:], strict=False)]
    assert max(steps) < 300
