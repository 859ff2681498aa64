"""Markup: parsing, removal, rendering for voices, and offsets in the original text."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from steadyvoice.speech.markup import MarkedText, Markup, parse_markup, strip_markup

PROSE = [
    "a < b and c > d",
    "I <3 you",
    "x<y>z",
    "if a<b && c>d, then a<p>b",
    "Mail <me@example.org> or see <https://example.org/a?b=c>.",
    "A vector<int> and a List<String>; press <Enter>, then <Ctrl>.",
    "Your <token> goes here, and your <name> there.",
    "See [1], [sic], [12-14] and [citation needed].",
    "[John] said [x] and [a link](https://example.org) [laughs](https://example.org).",
    "AT&T, R&D; Q&A &nosuch; &#; & so on",
    "5 < 6 > 4, <>, < >, </>, <!>, [], [ ]",
    "<!-- never closed",
    "-> <- <= >= <=> << >>",
    "<|im_start|> and {braces} and \\{pause:1s\\}",
]


@pytest.mark.parametrize("text", PROSE)
def test_prose_is_not_taken_for_markup(text: str) -> None:
    assert strip_markup(text) == text
    assert parse_markup(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            'Hello <phoneme alphabet="cmu-arpabet" ph="M AE1 D IH0 S AH0 N">Madison</phoneme>, how are you?',
            "Hello Madison, how are you?",
        ),
        ('<speak>Well, <break time="1s"/> it rains.</speak>', "Well, it rains."),
        ('<sub alias="World Wide Web Consortium">W3C</sub> rules', "World Wide Web Consortium rules"),
        ("<sub alias='A &amp; B'>AB</sub>", "A & B"),
        ("<sub>H2O</sub>", "H2O"),
        ('<say-as interpret-as="date" format="ymd">2026-11-28</say-as>.', "2026-11-28."),
        ('<SPEAK><EMPHASIS Level="strong">Now</EMPHASIS>!</SPEAK>', "Now!"),
        ('<prosody rate="slow" pitch="+2st">It <emphasis>really</emphasis> rains.</prosody>', "It really rains."),
        ('<prosody contour="(0%,+20Hz) > x">Up</prosody>', "Up"),
        ("<p a='1>0' b=2>One</p><p>Two</p>", "One Two"),
        ("<s>One.</s><s>Two.</s>", "One. Two."),
        ("un<emphasis>believ</emphasis>able", "unbelievable"),
        ("One<break/>two<br>three", "One two three"),
        ("One <break/>, two", "One, two"),
        ("One. <break/> Two.", "One. Two."),
        ("<voice name='x'>A</voice> <lang xml:lang=\"fr-FR\">Oui</lang>", "A Oui"),
        ('<mstts:express-as style="sad">A</mstts:express-as><amazon:effect name="whispered">B</amazon:effect>', "AB"),
        ('<audio src="a.mp3"><desc>a bell</desc>Ding</audio>', "Ding"),
        ("<metadata><x:y>z</x:y></metadata>A", "A"),
        ('<?xml version="1.0"?><!DOCTYPE speak><speak version="1.1">A</speak>', "A"),
        ("A <!-- not <b>this</b> --> B", "A B"),
        ("<![CDATA[1 < 2 <b> &amp;]]> it is", "1 < 2 <b> &amp; it is"),
        ("Tom &amp; Jerry &lt;3 &#33; &#x2014; &eacute;", "Tom & Jerry <3 ! — é"),
        ("a&nbsp;b&#10;c&#0;d", "a b cd"),
        ("<emphasis>never closed", "never closed"),
        ("closed only</prosody> here", "closed only here"),
        ('cut off <break time="1s', "cut off"),
        ("cut off <prosody rate=", "cut off"),
        ("cut off <break", "cut off"),
        ("cut off </prosody", "cut off"),
        ('<custom level="1">A</custom> <other>B</other> <third/>C', "A B C"),
        ("<b>bold</b> and <i>italic</i>", "bold and italic"),
        ("<p><s>One <w>two</w></p> three", "One two three"),
        ("A <break time=“1.5s” /> <phoneme alphabet=“ipa” ph=“x y”>B</phoneme>", "A B"),
        (r"A <break time=\"1s\"/> B <sub alias=\"x y\">C</sub>", "A B x y"),
        ("A <break\ntime = '1s'\n/> B<BR/>C", "A B C"),
        ('<speak xmlns="http://www.w3.org/2001/10/synthesis" xml:lang="en-US">A</speak>', "A"),
        ("[sighs] I know.", "I know."),
        ("Well [laughs softly], yes [WHISPERS] or no", "Well, yes or no"),
        ("[strong French accent] Bonjour [short pause] [sarcastic] great", "Bonjour great"),
        ("[inhales deeply][very excited]Go!", "Go!"),
        ('[curious] <break time="1s"/> [2] really?', "[2] really?"),
    ],
)
def test_markup_is_removed_and_words_are_kept(text: str, words: str) -> None:
    assert strip_markup(text) == words
    assert parse_markup(text) is not None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ('<break time="1s"/>', 1.0),
        ('<break time="500ms"/> x <break time=".25s"/>', 0.75),
        ("<BREAK TIME='2 S'>", 2.0),
        ("<break/>", 0.5),
        ('<break strength="none"/>', 0.0),
        ('<break time="3600s"/>', 10.0),
        ('<break time="9s"/>' * 50, 60.0),
        ('<break time="-1s"/>', 0.5),
        ("<break time=“2s”/>", 2.0),
        (r"<break time=\"1s\"/>", 1.0),
        ("no break", 0.0),
    ],
)
def test_breaks_have_their_duration_within_bounds(text: str, seconds: float) -> None:
    assert MarkedText(text).pause == pytest.approx(seconds)


PARTS = st.sampled_from(
    [
        *(
            "Hello",
            "it rains",
            ". ",
            " ",
            "\n",
            ", ",
            "x<y>z",
            "<3",
            "[1]",
            "a & b",
            "é",
            "今日は。",
            "👍🏽",
            "<",
            "&",
            "[",
        ),
        *("<p>", "</p>", "<s>", "</s>", "<speak>", "</speak>", '<break time="1s"/>', "<break/>", "[sighs]", "&amp;"),
        *('<prosody rate="slow">', "</prosody>", "<emphasis>", "</emphasis>", "<!-- x -->", "<![CDATA[", "]]>"),
        *('<sub alias="World Wide Web">', "</sub>", '<phoneme ph="a>b">', "</phoneme>", "<desc>", "</desc>", "<x/>"),
    ]
)
TEXTS = st.one_of(st.lists(PARTS, max_size=12).map("".join), st.text("<>&;[]/=\"' abp!-", max_size=40))


@given(TEXTS)
@example("<sub alias='ab'>")
def test_each_character_of_a_rendering_has_its_offset_in_the_text(text: str) -> None:
    marked = MarkedText(text)
    words = marked.words
    assert len(words.text) == len(words.starts) == len(words.ends)
    places = [place for start, end in zip(words.starts, words.ends, strict=True) for place in (start, end)]
    assert places == sorted(places)
    assert all(start < end for start, end in zip(words.starts, words.ends, strict=True))
    assert not places or (places[0] >= 0 and places[-1] <= len(text))
    for number, start in enumerate(words.starts):
        assert words.index(start) == number
        assert words.index(words.original(number)) == number
    if not marked.tokens:
        assert words.text == text


@given(
    TEXTS, st.data(), st.sampled_from([Markup.NONE, Markup.SSML, Markup.AUDIO_TAGS, Markup.SSML | Markup.AUDIO_TAGS])
)
def test_pieces_contain_all_words_once(text: str, data: st.DataObject, performed: Markup) -> None:
    assume(not re.search(r"\w<[ps]>\w", text))  # prose, and markup where a piece begins with it
    marked = MarkedText(text)
    words = marked.words
    solid = {place for each in marked.solid for place in each[1:]}
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(words.text) - 1)), max_size=3)) - solid)
    places = [0, *(words.original(cut) for cut in cuts if cut < len(words.text)), len(text)]
    pieces = [marked.rendered(begin, end, performed) for begin, end in pairwise(places)]
    spoken = "".join(strip_markup(piece.text) if Markup.SSML in performed else piece.text for piece in pieces)
    spoken = spoken.replace("[sighs]", "")
    assert _letters(spoken) == _letters(words.text)
    if not performed:
        assert spoken == words.text
    if len(places) == 2 and all(token.kind in performed for token in marked.tokens):
        assert pieces[0].text == text


def _letters(text: str) -> str:
    return "".join(character for character in text if character.isalnum())


@given(TEXTS, st.sampled_from([Markup.NONE, Markup.AUDIO_TAGS, Markup.SSML]))
def test_times_of_the_words_give_every_character_of_the_text_its_time(text: str, performed: Markup) -> None:
    marked = MarkedText(text)
    rendering = marked.rendered(0, len(text), performed)
    times = ((number + 1, number / 10, (number + 1) / 10) for number in range(len(rendering.text)))
    spread = list(rendering.spread(times))
    if rendering.text:
        assert "".join(character for character, _, _ in spread) == text
    starts = [start for _, start, _ in spread]
    assert starts == sorted(starts)
    assert all(start <= end for _, start, end in spread)


def test_split_element_is_closed_and_opened_again() -> None:
    text = '<speak>One. <prosody rate="slow">Two. Three.</prosody> Four.</speak>'
    marked = MarkedText(text)
    cut = text.index("Three")
    assert marked.rendered(0, cut, Markup.SSML).text == '<speak>One. <prosody rate="slow">Two. </prosody></speak>'
    rest = marked.rendered(cut, len(text), Markup.SSML)
    assert rest.text == '<speak><prosody rate="slow">Three.</prosody> Four.</speak>'
    assert [rest.original(rest.text.index(word)) for word in ("Three", "Four")] == [cut, text.index("Four")]
    assert marked.rendered(cut, len(text), Markup.NONE).text == "Three. Four."


def test_resumed_text_does_not_begin_with_closing_tags() -> None:
    text = 'One.</s> <break time="1s"/> <s>Two.</s>'
    words = MarkedText(text).words
    assert text[words.original(words.text.index("Two")) :] == "<s>Two.</s>"


def test_element_pronounced_as_a_whole_is_not_split() -> None:
    marked = MarkedText('In <phoneme ph="x">New York</phoneme>, <emphasis>no one</emphasis> cares.')
    assert [marked.words.text[each.start : each.stop] for each in marked.solid] == ["New York"]


@pytest.mark.parametrize(
    "text",
    [
        "<" * 100_000,
        "<p" * 50_000,
        '<p a="' * 16_000,
        "<!--" * 25_000,
        "<x>" * 33_000,
        "".join(f"<a{number}>" for number in range(12_000)),
        "< voice a=" * 10_000,
        "[a" * 50_000,
        "<![CDATA[" * 11_000,
    ],
)
def test_hostile_text_is_parsed_in_linear_time(text: str) -> None:
    MarkedText(text).words.piece(0, 10)  # minutes, if it were quadratic


@pytest.mark.parametrize("text", ["He [cry]ed.", "The [music] stopped.", "The tone [soft] is his.", "a </foo> b"])
def test_words_in_brackets_within_a_sentence_are_kept(text: str) -> None:
    assert strip_markup(text) == text
    assert parse_markup(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I am so [laughs] happy, and [pause] tired.", "I am so happy, and tired."),
        ("It ended. [music] Then we left. [soft]", "It ended. Then we left."),
        ("[whispers]hello", "hello"),
        ("<voice name=x y>hi</voice>", "hi"),
        ("<prosody rate='fast' pitch>x</prosody>", "x"),
        ("< break time='1s' />x", "x"),
        ("<break time='1s''/>x", "x"),
        ("a </prosody> b", "a b"),
        ("a < break and c > d", "a < break and c > d"),
    ],
)
def test_malformed_markup_is_not_spoken(text: str, words: str) -> None:
    assert strip_markup(text) == words


def test_malformed_break_is_a_pause() -> None:
    marked = parse_markup("< break time='2s' extra />x")
    assert marked
    assert marked.pause == 2.0
