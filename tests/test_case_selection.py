"""Selection of test cases: every pair of values is kept, in few cases, which are the same each time."""

from __future__ import annotations

from itertools import combinations, product

from tests.case_selection import covering_cases, covering_pairs, pairs_of

FORMATS = ("mp3", "pcm", "opus", "wav", "flac")
FAULTS = ("cut", "stall", "reset", "silent")
PATHS = ("whole", "stream", "socket")


def test_every_pair_of_values_occurs_in_few_cases() -> None:
    selected = covering_pairs(FORMATS, FAULTS, PATHS, complete=False)
    for first, second in combinations(range(3), 2):
        parameters = (FORMATS, FAULTS, PATHS)
        pairs = {(case[first], case[second]) for case in selected}
        assert pairs == set(product(parameters[first], parameters[second]))
    assert len(FORMATS) * len(FAULTS) <= len(selected) <= 24 < len(FORMATS) * len(FAULTS) * len(PATHS)


def test_two_parameters_are_tried_in_all_combinations() -> None:
    assert covering_pairs(FORMATS, FAULTS, complete=False) == list(product(FORMATS, FAULTS))


def test_selection_is_deterministic_and_in_order() -> None:
    everything = list(product(FORMATS, FAULTS, PATHS))
    selected = covering_cases(everything, pairs_of, complete=False)
    assert selected == covering_cases(everything, pairs_of, complete=False)
    assert selected == sorted(selected, key=everything.index)


def test_complete_selection_has_every_case() -> None:
    assert covering_pairs(FORMATS, FAULTS, PATHS, complete=True) == list(product(FORMATS, FAULTS, PATHS))


def test_stated_features_replace_pairs() -> None:
    cases = [("cut", 1), ("cut", 2), ("stall", 3)]
    assert covering_cases(cases, lambda case: {case[0]}, complete=False) == [("cut", 1), ("stall", 3)]


def test_no_cases_are_selected_of_none() -> None:
    assert covering_cases([], pairs_of, complete=False) == []
