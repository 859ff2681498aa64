"""Sentences as requests are cut: in the languages that voices speak, with the library and without it."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.service.sentence_finder import ends_by_library
from steadyvoice.speech.sentences import sentence_ends, sentences
from tests.speech.sentence_corpus import CORPUS, cuts_of, text_of

from .conftest import MakeService
from .scripted import Scripted

TEXTS = st.text("ab é。、！？.,;:!?—\"'()\n\t 👍🏽🇩🇪\u0301\u200d各។A", max_size=200)

CASES = [(language, case) for language, cases in CORPUS.items() for case in cases]


def _errors(language: str | None) -> tuple[list[str], list[str]]:
    """Places of the corpus at which a sentence is cut in two, and ends that are not found."""
    wrong, missed = list[str](), list[str]()
    for written, case in CASES:
        text, true = text_of(written, case), cuts_of(written, case)
        found = set(sentence_ends(text, written if language is None else language or None, ends_by_library))
        wrong += [f"{text[max(0, end - 20) : end]}|{text[end : end + 10]}" for end in found - true]
        missed += [f"{text[max(0, end - 20) : end]}|{text[end : end + 10]}" for end in true - found]
    return wrong, missed


@pytest.mark.parametrize("language", [None, ""], ids=["language given", "language guessed"])
def test_sentences_of_many_languages_are_not_cut_in_two(language: str | None) -> None:
    wrong, missed = _errors(language)
    assert len(wrong) <= 1, wrong
    assert len(missed) <= 3, missed


@pytest.mark.parametrize("language", [None, "en", "de", "x-unknown", "zh-Hans"])
@pytest.mark.parametrize(
    "text",
    [
        "He lives at 12 Main St. in Springfield and works for J. Smith.",
        "A book by J. Smith about the No. 5 bus at 3 a.m. tomorrow.",
        "Ask Dr. Brown, e.g. by phone, in the U.S. or elsewhere.",
        "It is 3.14 or 1,000.50... maybe 1 000 000 more.",
        "Read https://example.org/a.b?c=D!e#f and mail a.b@example.org today.",
        "“Go!” he said.",
        "Wir sehen uns z. B. am 3. Mai um 18.30 Uhr.",
    ],
)
def test_one_sentence_stays_one(text: str, language: str | None) -> None:
    assert sentences(text, language, ends_by_library) == [text]
    assert sentences(text, language) == [text]


@given(TEXTS, st.sampled_from([None, "en", "de", "ja", "hi", "??"]))
def test_whatever_the_text_its_sentences_joined_are_the_text(text: str, language: str | None) -> None:
    pieces = sentences(text, language, ends_by_library)
    assert "".join(pieces) == text
    assert all(pieces)
    assert not any(piece[:1].isspace() for piece in pieces[1:])


@pytest.fixture
def without_sentencex(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencex", None)


@pytest.mark.usefixtures("without_sentencex")
def test_without_the_library_the_marks_are_found_all_the_same() -> None:
    assert sentences("Dr. Smith came at 3 p.m. today. He left.", None, ends_by_library) == [
        "Dr. Smith came at 3 p.m. today. ",
        "He left.",
    ]
    wrong, missed = _errors(None)
    assert len(wrong) + len(missed) <= 20


STORY = (
    "The bakery that everybody in town talks about is at 12 Main St. in Springfield, next to the library. "
    "In its window lies a novel about an old sailor and the sea by J. Smith that nobody has ever bought. "
    "Whoever wants to get there from the station has to take the bus No. 5 and get off at the church. "
    "It opens before anybody else is awake, and there is a long queue at 3 a.m. every day, rain or shine. "
    "Dr. Brown, Mrs. Jones and the children of the mayor come for the rolls with raisins, e.g. on Sundays. "
)


@pytest.mark.looptime
async def test_no_request_ends_in_the_middle_of_a_name(make_service: MakeService) -> None:
    vendor = Scripted()
    stream = make_service(vendor).stream(STORY, format="pcm_8000")
    async for _ in stream:
        pass
    asked = [request.text for request in vendor.asked]
    assert "".join(asked) == STORY.strip()
    assert [each.split()[-1] for each in asked] == ["library.", "bought.", "church.", "shine.", "Sundays."]


@pytest.mark.looptime
async def test_the_language_of_the_request_or_of_the_voice_tells_where_sentences_end(make_service: MakeService) -> None:
    text = "Ende gut, alles gut, und damit ist diese lange Geschichte vorbei bis zum 3. Oktober. " * 3
    vendor = Scripted()
    stream = make_service(vendor).stream(text, format="pcm_8000", language="de-DE")
    async for _ in stream:
        pass
    assert all(request.text.rstrip().endswith("Oktober.") for request in vendor.asked)
