"""Complete answers are accepted and cut ones detected, in every language and style; docs/length.md shows the rates."""

from __future__ import annotations

import os

import pytest

from .page import PAGE, Row, rows, updated_page
from .synthetic_answers import UNSURE

DEEP = 40 if os.environ.get("STEADYVOICE_DEEP") else 1
pytestmark = pytest.mark.timeout(60 * DEEP)
NUMBERS = {language.name for language in UNSURE}


@pytest.fixture(scope="module")
def results() -> list[Row]:
    return list(rows(DEEP))


def test_complete_answers_are_accepted(results: list[Row]) -> None:
    for name, new, known in results:
        assert new.false_refusals <= 0.01, name
        assert known.false_refusals <= 0.02, name
    refused = sum(rates.refused for _, *both in results for rates in both)
    assert refused / sum(rates.healthy for _, *both in results for rates in both) <= 0.003


def test_truncated_answers_are_detected(results: list[Row]) -> None:
    for name, new, known in results:
        if name in NUMBERS:
            continue
        slow = name in ("style: slow", "style: speed 0.7")
        assert new.misses(0) <= (0.15 if slow else 0.02), name
        assert known.misses(0) <= 0.02, name
        assert new.misses(1) <= (0.9 if slow else 0.4), name
        assert known.misses(1) <= (0.5 if slow else 0.15), name


@pytest.mark.skipif(DEEP > 1, reason="the page shows fewer draws")
def test_page_shows_these_rates(results: list[Row]) -> None:
    page = PAGE.read_text("utf-8")
    assert updated_page(page, results) == page, "to update it: python -m tests.length.page"
