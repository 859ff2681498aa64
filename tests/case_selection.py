"""Selection of test cases from all combinations of parameters: a few that cover what all of them cover.

With STEADYVOICE_DEEP=1, which `make long` sets, all combinations are tested.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import combinations, product
from typing import Any, TypeVar

DEEP = os.environ.get("STEADYVOICE_DEEP") == "1"

Case = TypeVar("Case")


def pairs_of(case: tuple[Any, ...]) -> set[Hashable]:
    """Return the values of a case and all pairs of them, with the positions of their parameters."""
    values = list(enumerate(case))
    return {*values, *combinations(values, 2)}


def covering_cases(
    cases: Sequence[Case], features: Callable[[Case], Iterable[Hashable]], *, complete: bool = DEEP
) -> list[Case]:
    """Return the cases in which each feature of any case occurs at least once; all if `complete`.

    The same cases are selected each time: again and again the one that adds the most features, of several the one that
    is least like the one before, so that values take turns. Most failures depend on one parameter or on two, so that
    few are lost with `pairs_of`.
    """
    if complete:
        return list(cases)
    candidates = [(index, frozenset(features(case))) for index, case in enumerate(cases)]
    missing = set[Hashable]().union(*(each for _, each in candidates))
    selected, last = set[int](), frozenset[Hashable]()
    while missing:
        index, last = max(candidates, key=lambda row: (len(row[1] & missing), len(row[1] - last)))
        selected.add(index)
        missing -= last
        candidates = [row for row in candidates if not row[1].isdisjoint(missing)]
    return [case for index, case in enumerate(cases) if index in selected]


def covering_pairs(*parameters: Iterable[Any], complete: bool = DEEP) -> list[tuple[Any, ...]]:
    """Return combinations of parameters in which every two values of different parameters occur together."""
    return covering_cases(list(product(*parameters)), pairs_of, complete=complete)
