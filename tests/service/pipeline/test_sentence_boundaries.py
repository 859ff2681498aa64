"""Sentence boundaries of requests in many languages, with the library and without it."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.service.pipeline.text_splitting import find_sentence_ends
from steadyvoice.speech.sentences import ORDINAL_LANGUAGES, sentence_ends
from tests.speech.sentence_corpus import CORPUS, cuts_of, split_sentences, text_of

from ..conftest import MakeService
from ..scripted_provider import ScriptedProvider

TEXTS = st.text("ab é。、！？.,;:!?—\"'()\n\t 👍🏽🇩🇪\u0301\u200d各។A", max_size=200)


class PanicError(BaseException):
    """Panic of Rust code as it arrives in Python."""


class FailingLibrary(ModuleType):
    """Library that fails."""

    def __init__(self, name: str, failure: BaseException) -> None:
        super().__init__(name)
        self._failure = failure

    def segment(self, language: str, text: str) -> list[str]:
        """Raise the failure."""
        raise self._failure


CASES = [(language, case) for language, cases in CORPUS.items() for case in cases]


def _errors(language: str | None) -> tuple[list[str], list[str]]:
    """Return positions of the corpus at which a sentence is split, and ends that are not found."""
    wrong, missed = list[str](), list[str]()
    for written, case in CASES:
        text, true = text_of(written, case), cuts_of(written, case)
        found = set(sentence_ends(text, written if language is None else language or None, find_sentence_ends))
        wrong += [f"{text[max(0, end - 20) : end]}|{text[end : end + 10]}" for end in found - true]
        missed += [f"{text[max(0, end - 20) : end]}|{text[end : end + 10]}" for end in true - found]
    return wrong, missed


@pytest.mark.parametrize("language", [None, ""], ids=["language given", "language guessed"])
def test_sentences_of_many_languages_are_not_split(language: str | None) -> None:
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
def test_single_sentence_stays_whole(text: str, language: str | None) -> None:
    assert split_sentences(text, language, find_sentence_ends) == [text]
    assert split_sentences(text, language) == [text]


@given(TEXTS, st.sampled_from([None, "en", "de", "ja", "hi", "??"]))
def test_joined_sentences_are_the_text(text: str, language: str | None) -> None:
    pieces = split_sentences(text, language, find_sentence_ends)
    assert "".join(pieces) == text
    assert all(pieces)
    assert not any(piece[:1].isspace() for piece in pieces[1:])


BLANKS = [*filter(str.isspace, map(chr, range(sys.maxunicode)))]


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
def test_no_space_character_makes_the_library_fail(blank: str, capfd: pytest.CaptureFixture[str]) -> None:
    text = f"We chose plan A{blank}. It is plan É{blank}{blank}. It is better. Yes."
    for language in sorted({*CORPUS, *ORDINAL_LANGUAGES, "am", "hy", "kk", "xx"}):
        assert len(text) in {*find_sentence_ends(text, language)}
        assert "".join(split_sentences(text, language, find_sentence_ends)) == text
    assert "panicked" not in capfd.readouterr().err


def test_lone_surrogate_does_not_break_the_library() -> None:
    text = "One \ud800 half. And another. "
    assert (
        split_sentences(text, "en", find_sentence_ends)
        == split_sentences(text, "en")
        == ["One \ud800 half. ", "And another. "]
    )


@pytest.mark.parametrize("failure", [PanicError("byte index 1"), ValueError("unknown")], ids=["panic", "error"])
def test_marks_are_found_whatever_the_library_raises(monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> None:
    monkeypatch.setitem(sys.modules, "sentencex", FailingLibrary("sentencex", failure))
    assert split_sentences("It rains. It pours.", "en", find_sentence_ends) == ["It rains. ", "It pours."]


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), SystemExit(), GeneratorExit(), asyncio.CancelledError()])
def test_interrupts_pass_through_the_library_call(monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> None:
    monkeypatch.setitem(sys.modules, "sentencex", FailingLibrary("sentencex", failure))
    with pytest.raises(type(failure)):
        split_sentences("It rains. It pours.", "en", find_sentence_ends)


@pytest.mark.looptime
@pytest.mark.parametrize("blank", ["\u00a0", "\u2009", "\u2028", "\u3000"], ids=ascii)
async def test_stream_with_unusual_spaces_is_spoken(make_service: MakeService, blank: str) -> None:
    vendor = ScriptedProvider()
    text = f"We chose plan A{blank}. It is the one that everybody in town has talked about since last summer. " * 4
    async for _ in make_service(vendor).stream(text, format="pcm_8000", language="en"):
        pass
    assert "".join("".join(request.text for request in vendor.requests).split()) == "".join(text.split())


@pytest.fixture
def without_sentencex(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencex", None)


@pytest.mark.usefixtures("without_sentencex")
def test_marks_are_found_without_the_library() -> None:
    assert split_sentences("Dr. Smith came at 3 p.m. today. He left.", None, find_sentence_ends) == [
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
async def test_no_request_ends_within_a_name(make_service: MakeService) -> None:
    vendor = ScriptedProvider()
    stream = make_service(vendor).stream(STORY, format="pcm_8000")
    async for _ in stream:
        pass
    asked = [request.text for request in vendor.requests]
    assert "".join(asked) == STORY.strip()
    assert [each.split()[-1] for each in asked] == ["library.", "bought.", "church.", "shine.", "Sundays."]


@pytest.mark.looptime
async def test_language_of_request_or_voice_decides_sentence_boundaries(make_service: MakeService) -> None:
    text = "Ende gut, alles gut, und damit ist diese lange Geschichte vorbei bis zum 3. Oktober. " * 3
    vendor = ScriptedProvider()
    stream = make_service(vendor).stream(text, format="pcm_8000", language="de-DE")
    async for _ in stream:
        pass
    assert all(request.text.rstrip().endswith("Oktober.") for request in vendor.requests)
