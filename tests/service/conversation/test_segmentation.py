"""Segments of a text that is still being written: whole sentences, and never a part of a word."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.service.conversation.ledger import TurnLedger

SENTENCES = [
    "I asked Dr. Smith about it. ",
    "He is in. ",
    "It costs 3.50 in the U.S. market. ",
    "Really? ",
    "We met at 3 p.m. yesterday, at No. 5. ",
    "Yes! ",
    "That was all, e.g. the rain. ",
]
TEXTS = st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=12)


def segments(text: str, cuts: list[int], flushes: frozenset[int] = frozenset()) -> list[str]:
    """Push a text cut into tokens, and take each segment as soon as it is known."""
    ledger, found = TurnLedger(), list[str]()

    def take() -> None:
        while (end := ledger.next_end(first=ledger.sent == 0, limit=400, language="en")) is not None:
            assert end > ledger.sent
            found.append(ledger.text[ledger.sent : end])
            ledger.sent = end

    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    for number, (begin, end) in enumerate(pairwise(edges)):
        ledger.push(text[begin:end])
        if number in flushes:
            ledger.flush()
        take()
    ledger.end()
    take()
    return found


def test_abbreviation_cut_into_tokens_ends_no_sentence() -> None:
    text = "I asked Dr. Smith about it. He is in."
    cuts = list(range(len(text)))
    assert segments(text, cuts) == ["I asked Dr. Smith about it. ", "He is in."]


@given(TEXTS, st.lists(st.integers(0, 1000), max_size=80))
def test_segments_are_the_text_and_end_with_sentences(sentences: list[str], cuts: list[int]) -> None:
    found = segments("".join(sentences), cuts)
    assert "".join(found) == "".join(sentences)
    assert set(accumulate(map(len, found))) <= set(accumulate(map(len, sentences)))


@given(TEXTS, st.lists(st.integers(0, 1000), min_size=1, max_size=30), st.frozensets(st.integers(0, 30)))
def test_flush_ends_a_segment_wherever_it_comes(sentences: list[str], cuts: list[int], flushes: frozenset[int]) -> None:
    assert "".join(segments("".join(sentences), cuts, flushes)) == "".join(sentences)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("你好。今天天气很好。", "你好。"),
        ("नमस्ते। आप कैसे हैं। ठीक", "नमस्ते। "),
        ("Really?! Yes, it is so. ", "Really?! "),
    ],
)
def test_sentences_of_other_scripts_end_as_soon_as_they_are_known(text: str, first: str) -> None:
    ledger = TurnLedger()
    ledger.push(text)
    end = ledger.next_end(first=True, limit=400, language=None)
    assert end is not None
    assert text[:end] == first


def test_long_sentence_is_sent_before_it_has_ended() -> None:
    ledger = TurnLedger()
    ledger.push("and then it went on, " * 20)
    end = ledger.next_end(first=True, limit=400, language="en")
    assert end is not None
    assert 100 < end <= 240


def test_text_without_blanks_is_sent() -> None:
    ledger = TurnLedger()
    ledger.push("สวัสดีวันนี้อากาศดี" * 40)
    assert ledger.next_end(first=True, limit=400, language="th") is not None
