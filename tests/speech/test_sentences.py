"""Sentence segmentation, and splitting of texts into pieces."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steadyvoice.speech.sentences import (
    LOOK_AHEAD,
    language_of,
    leading_piece,
    leading_sentences,
    split_text,
)
from steadyvoice.speech.text import clean_text
from tests.parametrize_ids import stable_repr
from tests.speech.sentence_corpus import split_sentences

PROSE = st.text("ab é。、！？.,;:!?—\"'()\n\t 👍🏽🇩🇪\u0301\u200d各", max_size=200)
TEXTS = st.one_of(st.text(max_size=200), PROSE)
LIMITS = st.integers(1, 60)


@given(TEXTS, LIMITS)
@example("abcde fghijkl", 5)
@example("👩\u200d👩\u200d👧", 1)
def test_pieces_fit_the_limit_and_are_the_text_again(text: str, limit: int) -> None:
    pieces = split_text(text, limit)
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= limit for piece in pieces)


@given(PROSE.map(clean_text), st.integers(4, 60))
@example("abcd efghijkl", 4)
@example("a.  bcdefg", 4)
@example("abcd   e\u0301fgh", 4)
def test_no_piece_is_blank(text: str, limit: int) -> None:
    longest_blank = max((len(run) for run in "".join(c if c.isspace() else "x" for c in text).split("x")), default=0)
    if longest_blank < limit:
        assert all(piece.strip() for piece in split_text(text, limit))


@given(TEXTS, LIMITS, st.text(max_size=20))
def test_text_beyond_the_look_ahead_changes_nothing(text: str, limit: int, tail: str) -> None:
    text = text.ljust(limit + LOOK_AHEAD, "a")
    assert leading_piece(text[: limit + LOOK_AHEAD], limit) == leading_piece(text + tail, limit)


@given(TEXTS)
def test_sentences_joined_are_the_text_again(text: str) -> None:
    assert "".join(split_sentences(text)) == text


@pytest.mark.parametrize(
    ("text", "limit", "piece"),
    [
        ("It rains. It pours. The old man snores.", 25, "It rains. It pours. "),
        ("It rains. It pours.", 9, "It rains."),  # the end exactly at the limit
        ("It rains. It pours.", 10, "It rains. "),
        ('He said: "Go!" Then he went away.', 20, 'He said: "Go!" '),
        ("One\ntwo three four", 10, "One\n"),
        ("Pi is 3.14159 and so on", 10, "Pi is "),
        ("When it rains, the old man snores", 24, "When it rains, "),
        ("a price of 1,000,000 dollars", 15, "a price of "),
        ("meet me at 10:30 sharp", 15, "meet me at "),
        ("see https://example.com/a,b for more", 30, "see https://example.com/a,b "),
        ("two words", 5, "two "),
        ("two words", 3, "two"),  # the blank goes along when there is room, and only then
        ("今日は。明日は雨です。", 6, "今日は。"),
        ("今日は、明日は雨です。", 6, "今日は、"),
        ("「行け！」と彼は言った。", 8, "「行け！」と彼は"),
        ("كيف حالك؟ أنا بخير.", 12, "كيف حالك؟ "),
        ("यह घर है। वह बाग है।", 12, "यह घर है। "),
        ("incomprehensibilities", 5, "incom"),
    ],
)
def test_text_is_split_at_the_best_place(text: str, limit: int, piece: str) -> None:
    assert leading_piece(text, limit) == piece


def test_sentence_is_preferred_to_a_clause_and_a_clause_to_a_word() -> None:
    assert leading_piece("Yes it is. But then, well, not so much", 36) == "Yes it is. "
    assert leading_piece("Yes it is but then, well not so much", 30) == "Yes it is but then, "


def test_no_tiny_piece_is_split_off_at_the_beginning() -> None:
    text = "A. " + "word " * 20
    assert len(leading_piece(text, 60)) > 50


def test_blanks_before_a_long_word_are_not_sent_alone() -> None:
    assert split_text("abcde fghijkl", 5) == ["abcde", " fghi", "jkl"]


@pytest.mark.parametrize(
    "whole",
    [
        "e\u0301",  # e and an accent
        "👍🏽",  # a thumb and its skin tone
        "👩\u200d👩\u200d👧",  # a family
        "🇩🇪",
        "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",  # the flag of Scotland
        "क्ष",  # two consonants, one letter
        "\u1112\u1161\u11ab",  # a Hangul syllable in parts
        "❤\ufe0f",
        "。」",  # marks stay with what they follow
    ],
)
@pytest.mark.parametrize("before", range(6))
def test_grapheme_cluster_is_not_split(whole: str, before: int) -> None:
    text = "字" * before + whole * 4
    limit = 6 if len(whole) < 6 else 8
    text = text.replace("。」", "字。」")
    whole = whole.replace("。」", "字。」")
    begins = set()
    begin = 0
    for piece in split_text(text, limit):
        begins.add(begin)
        begin += len(piece)
    inside = {before + n * len(whole) + offset for n in range(4) for offset in range(1, len(whole))}
    assert not begins & inside


def test_row_of_flags_is_split_between_flags() -> None:
    assert split_text("🇩🇪🇫🇷🇮🇹", 5) == ["🇩🇪🇫🇷", "🇮🇹"]
    assert split_text("a🇩🇪🇫🇷", 4) == ["a🇩🇪", "🇫🇷"]


def test_endless_accents_are_split() -> None:
    assert split_text("e" + "\u0301" * 9, 4) == ["e\u0301\u0301\u0301", "\u0301" * 4, "\u0301" * 2]


def test_limit_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one character, got 0"):
        leading_piece("Hello", 0)


def test_sentence_ends_are_distinguished_from_numbers_and_quotes() -> None:
    assert split_sentences('It is 3.5 m long. "Really?" she asked. Yes!') == [
        "It is 3.5 m long. ",
        '"Really?" she asked. ',
        "Yes!",
    ]
    assert split_sentences("") == []


@given(TEXTS, st.sampled_from([None, "en", "de", "ja", "hi", "??"]))
def test_sentences_of_any_text_joined_are_the_text(text: str, language: str | None) -> None:
    pieces = split_sentences(text, language)
    assert "".join(pieces) == text
    assert all(pieces)
    assert not any(piece[:1].isspace() for piece in pieces[1:])


@given(TEXTS, LIMITS, LIMITS)
def test_leading_sentences_fit_the_limit(text: str, limit: int, at_least: int) -> None:
    rest = text
    while rest:
        piece = leading_sentences(rest, limit, at_least=at_least)
        assert piece
        assert len(piece) <= limit
        assert rest.startswith(piece)
        rest = rest[len(piece) :]


@pytest.mark.parametrize(
    ("text", "language", "guessed"),
    [
        ("Der Hund und die Katze sind nicht hier.", None, "de"),
        ("Le chien et le chat sont dans la maison.", None, "fr"),
        ("The dog and the cat are in the house.", None, "en"),
        ("The dog and the cat.", "de-AT", "de"),
        ("Привет, как дела?", "en", "ru"),
        ("Привет, як справи?", "uk", "uk"),
        ("今日は雨です。", None, "ja"),
        ("今天下雨。", "zh_TW", "zh"),
        ("كيف حالك", None, "ar"),
        ("", None, "en"),
        ("123 !", "fr", "fr"),
    ],
)
def test_language_is_the_given_one_or_detected(text: str, language: str | None, guessed: str) -> None:
    assert language_of(text, language) == guessed


@pytest.mark.parametrize(
    ("text", "limit", "whole"),
    [
        ("Pay 1 000 000 euros and leave", 11, "1 000 000"),
        ("今年の売上は1234567円でした", 9, "1234567"),
        ("見てhttps://example.org/a?b=cください", 25, "https://example.org/a?b=c"),
        ("price 5\xa0000\xa0€ each one here", 12, "5\xa0000\xa0€"),
        ("ภาษาไทยไม่มีช่องว่างระหว่างคำ", 5, "ไท"),
    ],
)
def test_number_or_address_that_fits_is_not_split(text: str, limit: int, whole: str) -> None:
    offset = text.index(whole)
    begins = {0}
    for piece in split_text(text, limit):
        begins.add(max(begins) + len(piece))
    assert not begins & set(range(offset + 1, offset + len(whole)))


def test_text_of_one_repeated_letter_is_split() -> None:
    assert split_text("a" * 25, 10) == ["a" * 10, "a" * 10, "a" * 5]
    assert split_text("a/" * 10, 7)[0] == "a/a/a/"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("We meet at 3 p.m. EST. Bring it.", 2),
        ("See vol. II. It is good.", 2),
        ("A novel by J. A. Smith and T. A. Jones. Read it.", 2),
        ("The house, est. 1912, is old.", 1),
        ("Please turn the lights on. Then close the door.", 2),
        ("I think so. Then we left.", 2),
        ("He was ill. Then he died.", 2),
        ("So ist es. Dann gingen wir.", 2),
        ("Voilà ce que c'est. Ensuite on part.", 2),
        ("Así es. Después vino.", 2),
        ("Det sa hon. Sedan gick de.", 2),
        ("I like vitamin C. Do you?", 2),
        ("È di on. Rossi, che non viene da Roma.", 1),
    ],
)
def test_abbreviation_of_one_language_is_a_word_of_another(text: str, count: int) -> None:
    assert len(split_sentences(text)) == count


def test_long_text_without_sentences_is_examined_near_the_limit_only() -> None:
    text = "So. and On " * 20_000
    assert split_sentences(text) == [text]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("See para. 3 and app. A for it, on Rte. 66 at Pkwy. 3.", "en"),
        ("Here are Jas. Brown and Wm. Smith.", "en"),
        ("Hier ist Dipl.-Ing. Huber.", "de"),
        ("To jest dr hab. Nowak.", "pl"),
        ("Tu je Gosp. Horvat.", "hr"),
        ("Ово је бр. 5 на листи.", "sr"),
        ("ఇది డా. రావు.", "te"),
        ("આ ડૉ. પટેલ છે.", "gu"),
        ("ಇದು ಡಾ. ರಾವ್.", "kn"),
    ],
    ids=stable_repr,
)
def test_sentence_continues_behind_an_abbreviation(text: str, language: str) -> None:
    assert split_sentences(text, language) == [text]


@pytest.mark.parametrize(
    ("text", "language"), [("Hier is een jas. Trek hem aan.", "nl"), ("Das ist, was ich hab. Nimm es.", "de")]
)
def test_abbreviation_of_another_language_ends_a_sentence(text: str, language: str) -> None:
    assert len(split_sentences(text, language)) == 2
