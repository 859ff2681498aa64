"""Texts with markup: which voices get the markup, and positions in the text."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from steadyvoice.audio.word_tones import words_in
from steadyvoice.speech.errors import TTSCutError, TTSServerError
from steadyvoice.speech.markup import MarkedText, Markup, strip_markup

from ..conftest import MakeService
from ..scripted_provider import Say, ScriptedProvider
from ..word_tone_provider import Fault, WordToneProvider, read_all

pytestmark = pytest.mark.looptime

ALL = Markup.SSML | Markup.AUDIO_TAGS
DOWN = [TTSServerError("down")]

MARKED = [
    'Hello <phoneme alphabet="cmu-arpabet" ph="M AE1 D IH0 S AH0 N">Madison</phoneme>, how are you?',
    '<speak>Well, <break time="1s"/> it rains.</speak>',
    '<prosody rate="slow" pitch="a>b">It <emphasis>really</emphasis> rains.</prosody> Yes.',
    "[sighs] I know. [laughs softly] See [1], x<y>z &amp; <me@example.org>.",
    '<SPEAK><SUB ALIAS="World Wide Web Consortium">W3C</SUB> rules &lt;3</SPEAK>',
    "<p>One.<s>Two.</s></p><!-- no --><voice name='x'>Three<break/></voice>",
    "Never <emphasis>closed. And </prosody>never opened.",
]


@pytest.mark.parametrize("text", MARKED)
async def test_voice_without_markup_support_gets_words_only(make_service: MakeService, text: str) -> None:
    vendor, stand_in = ScriptedProvider(DOWN, markup=ALL), ScriptedProvider(name="stand-in")
    service = make_service(vendor, stand_in)
    speech = await service.synthesize(text, format="pcm_8000")
    assert vendor.requests[0].text == text
    assert [request.text for request in stand_in.requests] == [strip_markup(text)]
    assert speech.provider == "stand-in"
    assert speech.alignment.text == text
    assert (speech.report.spans[0].begin, speech.report.spans[-1].end) == (0, len(text))
    for form in ("srt", "vtt"):
        shown = " ".join(line for line in speech.captions(form).splitlines() if line and "-->" not in line)
        shown = re.sub(r"<\d\d:[\d:.]+>", "", shown)
        for word in ("phoneme", "break", "speak", "prosody", "emphasis", "sighs", "laughs", "voice name", "SUB", "<p>"):
            assert word not in shown


@pytest.mark.parametrize("text", MARKED)
@pytest.mark.parametrize("performed", [Markup.SSML, Markup.AUDIO_TAGS, Markup.NONE])
async def test_voice_gets_the_markup_that_it_performs(make_service: MakeService, text: str, performed: Markup) -> None:
    vendor = ScriptedProvider([Say(aligned=True)], markup=performed)
    speech = await make_service(vendor).synthesize(text, format="pcm_8000")
    sent = vendor.requests[0].text
    assert ("[sighs]" in sent) == ("[sighs]" in text and Markup.AUDIO_TAGS in performed)
    if Markup.SSML in performed and "[" not in text:
        assert sent == text
    if Markup.SSML not in performed:
        assert sent.replace("[sighs] ", "").replace("[laughs softly] ", "") == strip_markup(text)
    assert speech.alignment.text == text
    assert speech.alignment.ends[-1] == pytest.approx(speech.duration)


@pytest.mark.parametrize("text", MARKED)
async def test_muted_captions_contain_words_only(make_service: MakeService, text: str) -> None:
    speech = await make_service(ScriptedProvider(DOWN, markup=ALL)).synthesize(text, format="pcm_8000")
    assert speech.outcome == "muted"
    assert speech.alignment.text == text
    pause = MarkedText(text).pause
    assert speech.duration == pytest.approx(0.06 * len(strip_markup(text)) + pause, rel=0.3)
    shown = re.sub(r"<\d\d:[\d:.]+>", "", speech.captions())
    assert "".join(shown.split("\n")[4:5]).split()[:1] == strip_markup(text).split()[:1] or "&" in shown


RESUMED = (
    'Now we <emphasis level="strong">really</emphasis> wait <break time="1.5s" /> for '
    '<phoneme alphabet="ipa" ph="x y">New York</phoneme> and '
    '<prosody rate="slow">go on from here. It is late</prosody> now.'
)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.55, 0.8])
@pytest.mark.parametrize("performed", [Markup.NONE, Markup.SSML])
async def test_next_voice_resumes_at_the_right_word_with_its_own_markup(
    make_service: MakeService, share: float, performed: Markup
) -> None:
    first = WordToneProvider([Fault("cut", share)], name="first", markup=Markup.SSML)
    second = WordToneProvider(name="second", markup=performed)
    stream = make_service(first, second).stream(RESUMED, format="pcm_8000")
    audio = await read_all(stream)
    spans = stream.report.spans
    assert (spans[0].begin, spans[-1].end) == (0, len(RESUMED))
    assert all(one.end == other.begin for one, other in pairwise(spans))
    place = spans[-1].begin
    assert not MarkedText(RESUMED).is_inside(place)
    asked = second.requests[0].text
    assert strip_markup(asked) == strip_markup(RESUMED[place:])
    if performed:
        assert asked.count("<prosody") == asked.count("</prosody>")
        assert asked.count("<emphasis") == asked.count("</emphasis>")
    else:
        assert "<" not in asked
    assert words_in(audio, "pcm_8000") == [*RESUMED[:place].split(), *asked.split()]
    assert stream.alignment.text == RESUMED
    assert stream.attempts[-1].end == len(RESUMED)
    assert stream.duration == pytest.approx(len(audio) / 16000, abs=0.05)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
async def test_second_failover_resumes_where_the_first_broke_off(make_service: MakeService, share: float) -> None:
    first = WordToneProvider([Fault("cut", 0.3)], name="first", markup=Markup.SSML)
    second = WordToneProvider([Fault("cut", share)], name="second")
    third = WordToneProvider(name="third", markup=Markup.SSML)
    stream = make_service(first, second, third).stream(RESUMED, format="pcm_8000")
    await read_all(stream)
    spans = stream.report.spans
    assert [span.provider for span in spans] == ["first", "second", "third"]
    words = [strip_markup(RESUMED[span.begin : span.end]).split() for span in spans]
    assert [word for words in words for word in words] == strip_markup(RESUMED).split()
    assert strip_markup(third.requests[0].text).split() == words[-1]
    assert stream.alignment.text == RESUMED


@pytest.mark.parametrize("performed", [Markup.NONE, Markup.SSML])
async def test_paired_tags_are_not_split(make_service: MakeService, performed: Markup) -> None:
    sentence = "This is a sentence of some length, so that it fills a request by itself. "
    text = f'<speak>First. <prosody rate="slow">{sentence * 4}</prosody><break time="1s"/> {sentence * 2}</speak>'
    vendor = ScriptedProvider(markup=performed)
    stream = make_service(vendor).stream(text, format="pcm_8000")
    await read_all(stream)
    asked = [request.text for request in vendor.requests]
    assert len(asked) > 4
    for each in asked:
        for name in ("speak", "prosody"):
            assert each.count(f"<{name}") == each.count(f"</{name}>") == (1 if f"<{name}" in each else 0)
    assert " ".join(map(strip_markup, asked)).split() == strip_markup(text).split()
    assert sum(each.count("<break") for each in asked) == (1 if performed else 0)
    assert stream.report.spans[-1].end == len(text)


@pytest.mark.parametrize("performed", [Markup.NONE, Markup.SSML, ALL])
@pytest.mark.parametrize("limit", [5, 30, 60, 120])
async def test_sent_text_fits_the_limit_with_its_tags(make_service: MakeService, performed: Markup, limit: int) -> None:
    text = " ".join(MARKED)
    vendor = ScriptedProvider(markup=performed, max_characters=limit)
    speech = await make_service(vendor).synthesize(text, format="pcm_8000")
    asked = [request.text for request in vendor.requests]
    assert all(0 < len(each) <= limit for each in asked)
    spoken = "".join(strip_markup(each) if performed else each for each in asked)
    expected = strip_markup(text)
    if limit >= 60 or not performed:
        assert "".join(spoken.split()) == "".join(expected.split())
    assert speech.report.spans[-1].end == len(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [('<break time="1.5s"/>', 1.5), ("[sighs]", 0.0), ("<speak><break/><!-- x --></speak>", 0.5)],
)
async def test_markup_alone_is_silence_for_a_voice_that_performs_none(
    make_service: MakeService, text: str, seconds: float
) -> None:
    vendor = ScriptedProvider()
    speech = await make_service(vendor).synthesize(text, format="pcm_8000")
    assert vendor.requests == []
    assert speech.duration == pytest.approx(seconds)
    assert (speech.outcome, speech.provider) == ("spoken", "scripted")
    assert speech.alignment.text == text
    assert "-->" not in speech.captions()
    performing = ScriptedProvider(markup=ALL)
    await make_service(performing).synthesize(text, format="pcm_8000")
    assert [request.text for request in performing.requests] == [text]


async def test_markup_alone_is_spoken_while_every_circuit_is_open(make_service: MakeService) -> None:
    service = make_service(ScriptedProvider(name="first", markup=Markup.SSML), ScriptedProvider(name="second"))
    for circuit in service.circuits.values():
        circuit.force_open("maintenance")
    speech = await service.synthesize('<break time="1s"/>', format="pcm_8000")
    assert (speech.outcome, speech.provider) == ("substituted", "second")
    assert speech.duration == pytest.approx(1.0)


async def test_pause_at_the_end_causes_no_request(make_service: MakeService) -> None:
    text = 'It rains. <break time="2s"/>'
    first = WordToneProvider([Fault("cut", 0.5)], name="first", markup=Markup.SSML)
    second = WordToneProvider(name="second")
    stream = make_service(first, second).stream(text, format="pcm_8000")
    await read_all(stream)
    assert "<" not in "".join(request.text for request in second.requests)
    assert stream.report.spans[-1].end == len(text)


async def test_attempts_state_positions_in_the_callers_text_and_bill_what_was_sent(make_service: MakeService) -> None:
    text = MARKED[0]
    vendor = ScriptedProvider([Say(then=TTSCutError("cut")), Say()], markup=Markup.SSML)
    stand_in = ScriptedProvider(name="stand-in")
    speech = await make_service(vendor, stand_in).synthesize(text, format="pcm_8000")
    assert {(attempt.begin, attempt.end) for attempt in speech.attempts} == {(0, len(text))}
    assert speech.attempts[-1].characters_billed == len(strip_markup(text)) == speech.billed - len(text)


async def test_attributes_do_not_count_for_the_writing_system(make_service: MakeService) -> None:
    text = '<phoneme alphabet="ipa" ph="ˈmædɪsən">Мэдисон</phoneme> <lang xml:lang="ru">дома</lang>'
    reader = ScriptedProvider(scripts=frozenset({"Cyrillic"}))
    speech = await make_service(reader).synthesize(text, format="pcm_8000")
    assert speech.outcome == "spoken"
