"""Writing systems of texts and languages."""

from __future__ import annotations

import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.speech.writing_systems import (
    LATIN,
    count_scripts,
    scripts_of_languages,
    unsupported_script,
    usual_language,
)


@pytest.mark.parametrize(
    ("text", "scripts"),
    [
        ("It rains, 42 times!", {"Latin": 12}),
        ("Привет", {"Cyrillic": 6}),
        ("雨が降る。", {"Han": 2, "Hiragana": 2}),
        ("テレビー", {"Katakana": 4}),
        ("ﾃﾚﾋﾞ", {"Katakana": 3}),  # half-width; its voicing mark is a mark
        ("人々", {"Han": 2}),  # the second says: the same again
        ("𝐇𝐞𝐥𝐥𝐨 Ⅻ Å ªº", {"Latin": 9}),  # what only looks special is read like any other
        ("… 😀 🇩🇪 ١٢٣ \ue000", {}),
        ("नमस्ते", {"Devanagari": 4}),
    ],
)
def test_letters_are_counted_by_script(text: str, scripts: dict[str, int]) -> None:
    assert count_scripts(text) == Counter(scripts)


@given(st.text())
def test_only_letters_of_any_text_are_counted(text: str) -> None:
    found = count_scripts(text)
    assert all(script and count > 0 for script, count in found.items())
    assert found.total() <= sum(unicodedata.normalize("NFKC", each)[0].isalpha() for each in text)


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_is_supported_by_every_voice(text: str) -> None:
    assert unsupported_script(count_scripts(text), LATIN) is None


@given(st.text(), st.frozensets(st.sampled_from(["Latin", "Han", "Greek"])))
def test_more_scripts_never_make_a_text_unsupported(text: str, scripts: frozenset[str]) -> None:
    found = count_scripts(text)
    lacking = unsupported_script(found, scripts)
    assert lacking not in scripts
    if lacking is None:
        assert unsupported_script(found, scripts | {"Thai"}) is None


@pytest.mark.parametrize(
    "text", ["Our guest is called Наталья Иванова, and she comes tonight.", "42", "😀🎉", "...", "", "Χ marks the spot"]
)
def test_few_foreign_words_are_supported(text: str) -> None:
    assert unsupported_script(count_scripts(text), LATIN) is None


def test_most_frequent_unsupported_script_is_returned() -> None:
    assert unsupported_script(count_scripts("Да 今天下雨了"), LATIN) == "Han"


def test_unknown_scripts_support_any_text() -> None:
    assert unsupported_script(count_scripts("今天下雨了"), None) is None


def test_scripts_of_a_language_include_latin() -> None:
    assert scripts_of_languages(["sr_RS"]) == frozenset({"Cyrillic", "Latin"})
    assert scripts_of_languages(["en-GB", "TH"]) == frozenset({"Latin", "Thai"})
    assert scripts_of_languages(["en", "tlh"]) is None  # who knows


def test_usual_language_of_a_script_is_written_in_it() -> None:
    for script in ("Cyrillic", "Han", "Hiragana", "Arabic", "Thai", "Tibetan"):
        language = usual_language(script)
        assert language
        assert script in (scripts_of_languages([language]) or ())
    assert usual_language("Latin") is None
    assert usual_language("Runic") is None
