"""Glossary: it has the words by which outcomes, states and holds are named in the code."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from steadyvoice.breaker import CircuitState
from steadyvoice.service.result import Outcome

from .layers import ROOT

PAGE = (ROOT / "docs" / "glossary.md").read_text("utf-8")
WORDS = [row[1] for row in re.finditer(r"^\| ([^|]+?) \| (?!meaning)[^-]", PAGE, re.MULTILINE)]


@pytest.mark.parametrize("word", [*get_args(Outcome), *(state.value.replace("_", " ") for state in CircuitState)])
def test_glossary_has_every_outcome_and_state(word: str) -> None:
    assert word in WORDS


def test_words_are_explained_once() -> None:
    assert len(WORDS) > 50
    assert len(set(WORDS)) == len(WORDS)
