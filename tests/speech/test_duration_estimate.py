"""Estimates of the duration of spoken text."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steadyvoice.speech.duration_estimate import (
    FASTEST_ORDINARY_SHARE,
    SHORT_SECONDS,
    estimate_duration,
    is_pronounceable,
    is_surely_complete,
    requested_pause,
)

SENTENCE = "Nobody could say where the ship had gone"
SILENT = [
    '<break time="1s"/>', "<speak>", "</speak>", '<phoneme alphabet="ipa" ph="ˈmædɪsən">', "<!-- no comment -->",
    "[sighs]",
    "[laughs softly]", "👍", "👩‍👩‍👧‍👧", "🏳️‍🌈", "🇩🇪", "...", "—", "!!!", "«»", "\u200b", "\u00ad", "\u2060", "\ufeff",
    "\u0301",
    "♪", "★★★", "-----", "\n\n", "\t", "|", "###", "**", "~~", "❤️", "1️⃣"[1:], "\u202e", "ˈ",
]  # fmt: skip

texts = st.text(max_size=200)


@pytest.mark.parametrize("silent", SILENT)
def test_unspoken_characters_take_no_time(silent: str) -> None:
    plain = estimate_duration(SENTENCE)
    marked = estimate_duration(f"{silent} {SENTENCE} {silent}")
    assert marked.shortest == pytest.approx(plain.shortest)
    assert marked.usual - requested_pause(silent) * 2 == pytest.approx(plain.usual, rel=0.15)
    assert not is_pronounceable(silent)
    assert estimate_duration(silent).shortest == 0


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com/some/very/long/path/to/a/page.html?with=a&query=too",
        "/usr/local/share/some/very/long/path/to/a/file/that/nobody/reads",
        "(as they say)", "*very softly*", "{{placeholder}}", "/ˈfəʊnətɪk/", "FBI NASA UNESCO a", "Noooooooooooooooo",
        "d41d8cd98f00b204e9800998ecf8427e0", "<sub alias='x'>something else</sub>", "me@example.org",
        ":thinking_face:", "```\nsome code of\nseveral lines\n```", "*walks slowly over to the door and opens it*",
        "（そっと）", "【静かに】", "(walks slowly over to the door and opens it)",
    ],
)  # fmt: skip
def test_optional_parts_add_to_the_upper_bound_only(text: str) -> None:
    length = estimate_duration(f"{SENTENCE} {text}")
    assert length.shortest <= estimate_duration(SENTENCE + " a").shortest + 0.001
    assert length.longest >= 2 * length.usual - 0.001 or length.usual == pytest.approx(
        estimate_duration(SENTENCE).usual, rel=0.5
    )
    assert is_pronounceable(f"{SENTENCE} {text}")


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("敏捷的棕色狐狸跳过了懒狗", 2.0, 3.6),
        ("안녕하세요 여러분 반갑습니다", 1.6, 3.0),
        ("ありがとうございました", 1.0, 1.8),
        ("Call 555 010 9922", 2.5, 5.0),
        ("It was a long winter, but the spring was early.", 2.2, 3.6),
        ("Долгая зима кончилась, и весна пришла рано.", 2.0, 3.4),
    ],
)
def test_usual_durations_are_about_right(text: str, least: float, most: float) -> None:
    assert least < estimate_duration(text).usual < most


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("text", ["안녕하세요 여러분", "Wir gingen über die Brücke", "Ủy ban sẽ họp lại"])
def test_same_letters_in_another_form_take_the_same_time(text: str, form: str) -> None:
    written = unicodedata.normalize(form, text)  # type: ignore[arg-type]
    assert estimate_duration(written).plain == pytest.approx(estimate_duration(text).plain)


def test_foreign_letters_may_be_skipped_by_a_voice_that_cannot_read_them() -> None:
    mixed = estimate_duration("They told us to say 你好 and 谢谢 and 再见 to everybody")
    assert mixed.shortest == pytest.approx(estimate_duration("They told us to say and and to everybody").shortest)
    chinese = estimate_duration("我们今天在iPhone上安装了新的软件，大家都觉得很好用，非常满意")
    assert chinese.script == "Han"
    assert chinese.shortest > estimate_duration("我们今天在上安装了新的软件，大家都觉得很好用，非常满意").shortest


def test_speed_attribute_halves_the_least_duration() -> None:
    hurried = estimate_duration(f"<prosody rate='x-fast'>{SENTENCE}</prosody>")
    assert hurried.shortest == pytest.approx(estimate_duration(SENTENCE).shortest / 2)
    assert not hurried.indicates_rate


@given(texts)
def test_any_text_has_an_estimate_in_order(text: str) -> None:
    length = estimate_duration(text)
    assert length.shortest >= 0
    assert length.shortest <= max(length.usual, length.plain + length.digits) + 1e-9
    assert length.usual <= length.longest + requested_pause(text) + 0.06 * len(text)


@given(texts, st.floats(0, 60), st.sampled_from([FASTEST_ORDINARY_SHARE, 0.4, 0.75]))
def test_quick_estimate_never_contradicts_the_full_one(text: str, seconds: float, share: float) -> None:
    if is_surely_complete(text, seconds, share=share):
        assert seconds >= estimate_duration(text).at_least(share) - 1e-9


@given(texts)
@example("㊊")
def test_text_with_a_least_duration_is_pronounceable(text: str) -> None:
    if estimate_duration(text).shortest > 0:
        assert is_pronounceable(text)


def test_short_texts_have_short_durations() -> None:
    for text in ("Hi.", "好。", "No!", "42", "ОК", "مرحبا", "a", "One moment, please."):
        assert estimate_duration(text).usual < SHORT_SECONDS


@pytest.mark.parametrize(
    "part",
    [
        "<a ",
        "[",
        "a@",
        "/a",
        "((",
        "<!--",
        "<sub>",
        "*",
        "A.",
        "a.",
        "a-",
        "{",
        "http://",
        "&",
        "aaaa",
        "A",
        "1 ",
        "ə/",
        ":a",
        "`",
        "``` ",
        "```a```b",
        "（",
        "【a",
        " *a",
    ],
)
def test_hostile_text_is_estimated_in_linear_time(part: str) -> None:
    """Check a text for which a regular expression with backtracking would need minutes."""
    estimate_duration(part * (50_000 // len(part)))
    is_pronounceable(part * (50_000 // len(part)))
