"""Validation of voices, and choice of the most similar one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.speech.voice import Voice, most_similar_voice, voice_distance

languages = st.sampled_from([None, "en", "en-GB", "en_us", "EN-us", "de", "de-AT", "cmn"])
genders = st.sampled_from([None, "female", "male", "neutral"])
rates = st.none() | st.floats(20, 1000)
loudnesses = st.none() | st.floats(-70, 0)
voices = st.builds(Voice, st.sampled_from("abcdef"), languages, genders, rates, loudnesses)

WANTED = Voice("wanted", "en-GB", "female", 160, -20.0)


def as_wanted(**changes: Any) -> Voice:
    return replace(WANTED, id="other", **changes)


@given(voices, st.lists(voices, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_choice_of_voice_does_not_depend_on_the_order_of_different_ones(
    wanted: Voice, candidates: list[Voice], rng: Any
) -> None:
    chosen = most_similar_voice(wanted, candidates)
    shuffled = rng.sample(candidates, len(candidates))

    assert chosen in candidates
    assert most_similar_voice(wanted, candidates) == chosen
    again = most_similar_voice(wanted, shuffled)
    assert (again.id == wanted.id, voice_distance(again, wanted)) == (
        chosen.id == wanted.id,
        voice_distance(chosen, wanted),
    )


@given(voices, st.lists(voices, min_size=1, max_size=6))
def test_among_equals_the_first_is_chosen(wanted: Voice, candidates: list[Voice]) -> None:
    chosen = most_similar_voice(wanted, candidates)
    before = candidates[: candidates.index(chosen)]

    assert all((each.id != wanted.id, voice_distance(each, wanted)) > (False, (0, 0, 0, 0)) for each in before)


@given(voices, voices)
def test_distance_to_itself_and_to_a_voice_without_traits_is_zero(one: Voice, other: Voice) -> None:
    assert voice_distance(one, one) == (0, 0, 0, 0)
    assert voice_distance(one, Voice("plain")) == (0, 0, 0, 0)
    assert min(voice_distance(one, other)) >= 0


@given(languages, genders, rates, loudnesses)
def test_another_language_outweighs_all_other_traits(
    language: str | None, gender: Any, rate: float | None, loudness: float | None
) -> None:
    unlike = replace(as_wanted(gender=gender, rate=rate, loudness=loudness), language="en")
    stranger = as_wanted(language="de")

    assert voice_distance(unlike, WANTED) < voice_distance(stranger, WANTED)


@pytest.mark.parametrize(
    "from_best_to_worst",
    [
        [as_wanted(), as_wanted(language="en"), as_wanted(language=None), as_wanted(language="de")],
        [as_wanted(), as_wanted(gender=None), as_wanted(gender="male")],
        [as_wanted(), as_wanted(gender=None), as_wanted(gender="neutral")],
        [as_wanted(), as_wanted(rate=170), as_wanted(rate=None), as_wanted(rate=210)],
        [as_wanted(), as_wanted(rate=150), as_wanted(rate=None), as_wanted(rate=100)],
        [as_wanted(), as_wanted(loudness=-17.0), as_wanted(loudness=None), as_wanted(loudness=-30.0)],
        [as_wanted(rate=100, loudness=-40.0), as_wanted(gender="male"), as_wanted(language="de")],
        [as_wanted(loudness=-40.0), as_wanted(rate=100), as_wanted(gender="male", rate=None)],
    ],
)
def test_equal_trait_is_closer_than_an_unknown_one_and_unknown_closer_than_different(
    from_best_to_worst: list[Voice],
) -> None:
    for better, worse in pairwise(from_best_to_worst):
        assert voice_distance(better, WANTED) < voice_distance(worse, WANTED)
        assert most_similar_voice(WANTED, [worse, better]) == better


def test_same_voice_is_preferred() -> None:
    assert most_similar_voice(WANTED, [as_wanted(), Voice("wanted", "de", "male")]).language == "de"


def test_spellings_of_one_language_tag_are_equal() -> None:
    assert voice_distance(Voice("x", "en_gb"), WANTED)[0] == 0


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"id": ""}, "id: not a voice id: ''"),
        ({"id": ".."}, "id: not a voice id: '..'"),
        ({"id": 3}, "id: not a voice id: 3"),
        ({"language": "English, please"}, "language: must be a tag such as 'en' or 'de-AT', got 'English, please'"),
        ({"language": ""}, "language: must be a tag such as 'en' or 'de-AT', got ''"),
        ({"gender": "woman"}, "gender: must be one of female, male, neutral, got 'woman'"),
        ({"gender": ["male"]}, "gender: must be one of female, male, neutral, got ['male']"),
        ({"rate": 3}, "rate: must be a number of words a minute from 20 to 1000, got 3"),
        ({"rate": True}, "rate: must be a number of words a minute from 20 to 1000, got True"),
        ({"rate": float("nan")}, "rate: must be a number of words a minute from 20 to 1000, got nan"),
        ({"rate": "fast"}, "rate: must be a number of words a minute from 20 to 1000, got 'fast'"),
        ({"loudness": 16.0}, "loudness: must be a number of LUFS from -70 to 0, got 16.0"),
    ],
)
def test_invalid_voice_is_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(TTSConfigurationError) as refused:
        Voice(**{"id": "x", **settings})
    assert refused.value.message == complaint
