"""An utterance that survives its provider: whoever breaks off, every word is heard once, in order."""

from __future__ import annotations

import asyncio
import gc
from array import array
from itertools import pairwise

import pytest

from steadyvoice import (
    AudioFormat,
    RetryConfig,
    Tone,
    TTSStreamInterruptedError,
)
from steadyvoice.audio.convert import convert
from steadyvoice.audio.headers import Mp3Frames
from steadyvoice.audio.listening import heard_in, words_in
from steadyvoice.audio.seam import level as level_of
from steadyvoice.audio.tones import tones
from steadyvoice.service.service import AsyncSpeechStream
from steadyvoice.speech.errors import TTSServerError
from steadyvoice.speech.request import OnMidstream
from steadyvoice.speech.taxonomy import Kind

from .conftest import MakeService
from .scripted import Say, Scripted
from .tonal import PATIENT, TIMES, Fault, Tonal, check, heard, listen

pytestmark = pytest.mark.looptime

DOWN = TTSServerError("HTTP 503", status=503)
TALE = " ".join(f"This is sentence number {i}, and it is not the last one of them all." for i in range(12))
TEXT = "The rain has stopped. We walk home now, slowly, and nobody says a word."


async def test_words_that_one_may_have_charged_for_are_left_to_those_who_have_not(make_service: MakeService) -> None:
    first, second = Tonal([Fault("cut", 0.3)], name="first"), Tonal([Fault("cut", 0.4)], name="second")
    third = Tonal(name="third")
    stream = make_service(first, second, third).stream(TEXT, format="pcm_8000")
    check(stream, await heard(stream), TEXT)
    assert [len(each.asked) for each in (first, second, third)] == [1, 1, 1]
    assert [span.provider for span in stream.spoken.spans] == ["first", "second", "third"]


async def test_with_nobody_else_left_whoever_charged_for_them_says_them_again(make_service: MakeService) -> None:
    first, second = Tonal([Fault("cut", 0.3)], name="first"), Tonal([Fault("cut", 0.4)], name="second")
    stream = make_service(first, second, circuit=PATIENT).stream(TEXT, format="pcm_8000")
    check(stream, await heard(stream), TEXT)


@pytest.mark.parametrize("name", ["pcm_8000", "wav_16000", "ulaw_8000", "mp3_44100_128", "mp3_22050_32", "opus"])
@pytest.mark.parametrize("manner", ["cut", "stall", "drip", "truncate"])
async def test_the_next_provider_goes_on_with_the_next_word(make_service: MakeService, name: str, manner: str) -> None:
    first, second = Tonal([Fault(manner, 0.47)], name="first"), Tonal(name="second", pitch=1.5)  # type: ignore[arg-type]
    stream = make_service(first, second, timeouts=TIMES).stream(TEXT, format=name)
    audio = await heard(stream)
    check(stream, audio, TEXT)
    assert stream.outcome == "resumed"
    one, two = stream.spoken.spans
    assert (one.provider, two.provider) == ("first", "second")
    assert TEXT[two.begin - 1] == " "
    assert second.asked[0].text == TEXT[two.begin :]
    assert second.asked[0].previous_text == TEXT[: two.begin]
    assert [attempt.error is None for attempt in stream.attempts] == [False, True]


async def test_an_end_just_before_a_short_last_word_is_none(make_service: MakeService) -> None:
    text = "42 we I rain 42 I"
    first, second = Tonal([Fault("truncate", 0.8754)], name="first"), Tonal(name="second")
    stream = make_service(first, second).stream(text, format="wav_8000")
    check(stream, await heard(stream), text)


async def test_the_same_provider_may_go_on_when_no_other_voice_is_wanted(make_service: MakeService) -> None:
    first, second = Tonal([Fault("cut", 0.5)], name="first"), Tonal(name="second")
    stream = make_service(first, second).stream(TEXT, format="pcm_8000", voice_substitution="never")
    check(stream, await heard(stream), TEXT)
    assert [span.provider for span in stream.spoken.spans] == ["first", "first"]
    assert not second.asked


async def test_who_makes_headway_is_asked_again_and_again(make_service: MakeService) -> None:
    """Each time at least a word is said, so the words at hand are new ones, and three tries are not the limit."""
    vendor = Tonal([Fault("cut", 0.3)] * 6)
    stream = make_service(vendor, circuit=PATIENT).stream(TEXT, format="pcm_8000")
    check(stream, await heard(stream), TEXT)
    assert len(vendor.asked) == 7
    assert stream.outcome == "spoken"


async def test_when_nobody_can_go_on_the_rest_is_silence_and_says_so(make_service: MakeService) -> None:
    first, second = Tonal([Fault("cut", 0.5)], name="first"), Scripted([DOWN], name="second")
    stream = make_service(first, second, retry=RetryConfig(max_attempts=1)).stream(TEXT, format="mp3_22050_32")
    audio = await heard(stream)
    said = stream.spoken.spans[0].end
    assert words_in(audio, stream.format) == TEXT[:said].split()
    assert stream.outcome == "muted"
    assert stream.captions().count("says") == 1


async def test_or_it_is_an_error_and_the_last_whole_word_is_out(make_service: MakeService) -> None:
    first, second = Tonal([Fault("cut", 0.5)], name="first"), Scripted([DOWN], name="second")
    once = RetryConfig(max_attempts=1)
    stream = make_service(first, second, retry=once, muted=False).stream(TEXT, format="mp3_44100_128")
    parts: list[bytes] = []
    with pytest.raises(TTSStreamInterruptedError, match=r"first.*second"):
        await listen(stream, parts)
    assert words_in(b"".join(parts), stream.format) == TEXT[: stream.spoken.spans[0].end].split()


async def test_mp3_frames_that_nobody_breaks_off_are_passed_on_as_they_are(make_service: MakeService) -> None:
    vendor = Tonal()
    stream = make_service(vendor).stream(TEXT, format="mp3_44100_128")
    audio = await heard(stream)
    pcm, _ = tones(TEXT, sample_rate=44100)
    assert audio == convert(pcm, AudioFormat.parse("pcm_44100"), AudioFormat.parse("mp3_44100_128"))
    assert stream.duration == pytest.approx(len(audio) / 16000, abs=0.001)


async def test_up_to_the_seam_they_are_passed_on_as_well(make_service: MakeService) -> None:
    first, second = Tonal([Fault("cut", 0.5)], name="first"), Tonal(name="second")
    stream = make_service(first, second).stream(TEXT, format="mp3_44100_128")
    audio = await heard(stream)
    whole = await heard(make_service(Tonal()).stream(TEXT, format="mp3_44100_128"))
    frames = int(stream.spoken.spans[0].stop * 44100 / 1152)
    untouched = frame_bytes(whole, frames)
    assert audio.startswith(untouched)
    assert len(untouched) > 0.4 * len(audio)


@pytest.mark.parametrize("level", [0.4, 0.7, 1.5])
async def test_the_newcomer_speaks_as_loudly(make_service: MakeService, level: float) -> None:
    first = Tonal([Fault("cut", 0.5)], name="first")
    second = Tonal(name="second", level=level)
    stream = make_service(first, second).stream(TEXT, format="pcm_16000")
    samples = array("h", await heard(stream))
    seam_at = round(stream.spoken.spans[0].stop * 16000)
    before, after = level_of(samples[:seam_at], 16000), level_of(samples[seam_at:], 16000)
    assert before
    assert after
    # More than 6 dB nobody is helped.
    assert after / before == pytest.approx(min(1.0, 2 * level), rel=0.12)


async def test_the_pause_at_the_seam_is_the_one_between_words(make_service: MakeService) -> None:
    first, second = Tonal([Fault("cut", 0.5)], name="first"), Tonal(name="second")
    stream = make_service(first, second).stream(TEXT, format="pcm_16000")
    broken = heard_in(await heard(stream), "pcm_16000")
    whole = heard_in(await heard(make_service(Tonal()).stream(TEXT, format="pcm_16000")), "pcm_16000")
    assert [word.start for word in broken] == pytest.approx([word.start for word in whole], abs=0.006)
    told = [word.start + 0.02 for word in stream.alignment.words()]  # a tone's own margin
    assert told == pytest.approx([word.start for word in broken], abs=0.006)


async def test_nobody_goes_on_in_the_middle_of_a_tag(make_service: MakeService) -> None:
    text = 'Now we wait <break time="1.5s" /> and go <emphasis level="strong">on</emphasis> again.'
    for share in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        first, second = Tonal([Fault("cut", share)], name="first"), Tonal(name="second")
        stream = make_service(first, second).stream(text, format="pcm_8000")
        check(stream, await heard(stream), text)
        said = second.asked[0].previous_text or ""
        assert said.count("<") == said.count(">")


async def test_times_that_take_no_time_are_not_believed(make_service: MakeService) -> None:
    first, second = Tonal([Fault("cut", 0.5)], name="first", times="zero"), Tonal(name="second")
    stream = make_service(first, second).stream(TEXT, format="pcm_8000")
    check(stream, await heard(stream), TEXT)
    assert stream.provider == "second"


@pytest.mark.parametrize("name", ["pcm_8000", "mp3_22050_32"])
async def test_times_that_end_long_before_the_audio_does_are_no_captions(make_service: MakeService, name: str) -> None:
    stream = make_service(Tonal(times="half")).stream(TALE, format=name)
    assert words_in(await heard(stream), stream.format) == TALE.split()
    assert not stream.alignment.exact
    assert stream.alignment.ends[-1] == pytest.approx(stream.duration)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
async def test_times_that_lie_cost_a_few_words_and_not_half_of_them(make_service: MakeService, share: float) -> None:
    """They are believed until the audio has run two seconds ahead of them."""
    first, second = Tonal([Fault("cut", share)], name="first", times="half"), Tonal(name="second")
    stream = make_service(first, second, circuit=PATIENT).stream(TALE, format="pcm_8000")
    lost = len(TALE.split()) - len(words_in(await heard(stream), "pcm_8000"))
    assert 0 < lost <= 8


@pytest.mark.parametrize("name", ["pcm_8000", "wav_16000", "mp3_22050_32", "mp3_44100_128", "ulaw_8000"])
@pytest.mark.parametrize(("text", "share"), [(TALE, 0.3), (TALE, 0.95), (TEXT, 0.4)])
async def test_a_voice_that_falls_silent_while_its_times_go_on_has_broken_off(
    make_service: MakeService, name: str, text: str, share: float
) -> None:
    first, second = Tonal([Fault("hush", share)], name="first"), Tonal(name="second")
    stream = make_service(first, second).stream(text, format=name)
    check(stream, await heard(stream), text)
    assert stream.attempts[0].error
    assert stream.attempts[0].error.kind is Kind.SILENT_AUDIO
    assert stream.outcome == "resumed"


async def test_a_long_pause_whose_words_are_told_before_is_none_of_that(make_service: MakeService) -> None:
    text = 'Now we wait <break time="3s"/> <break time="3s"/> and then we go on, as if nothing had happened at all.'
    vendor = Tonal(times="before", pauses=True)
    stream = make_service(vendor).stream(text, format="pcm_8000")
    audio = await heard(stream)
    assert "happened" in words_in(audio, "pcm_8000")
    assert [attempt.error for attempt in stream.attempts] == [None]


async def test_an_ellipsis_in_silence_is_none_of_that(make_service: MakeService) -> None:
    stream = make_service(Tonal([Fault("hush", 0.15)])).stream("Wait" + " ." * 60, format="pcm_8000")
    await heard(stream)
    assert stream.outcome == "spoken"
    assert [attempt.error for attempt in stream.attempts] == [None]


async def test_a_text_without_blanks_is_said_in_parts_that_can_be_held_back(make_service: MakeService) -> None:
    """Thai has no blanks, and times tell of letters only."""
    text = "สวัสดีครับผมชื่อ" * 60
    vendor = Tonal()
    stream = make_service(vendor).stream(text, format="pcm_8000")
    await heard(stream)
    assert "".join(request.text for request in vendor.asked) == text
    assert max(len(request.text) for request in vendor.asked) <= 400


async def test_words_go_out_as_soon_as_they_are_whole(make_service: MakeService) -> None:
    """And a listener can tell from the account what that cost: a word and the pause behind it."""
    stream = make_service(Tonal(every=0.13)).stream(TEXT, format="pcm_8000")
    first = await anext(stream)
    assert words_in(first, "pcm_8000") == ["The"]
    await heard(stream)
    assert 0.13 <= stream.attempts[0].held_back <= 0.4


async def test_without_times_a_sentence_is_held_back_and_the_account_says_how_long(make_service: MakeService) -> None:
    vendor = Tonal(timed=False, every=0.13)
    stream = make_service(vendor).stream(TALE, format="pcm_8000")
    first = await anext(stream)
    assert words_in(first, "pcm_8000") == vendor.asked[0].text.split()
    await heard(stream)
    said = stream.spoken.spans[0].stop
    assert stream.attempts[0].held_back == pytest.approx(said, abs=0.2)


@pytest.mark.parametrize("share", [0.45, 0.62, 0.78])
async def test_a_sentence_that_ends_early_is_said_again_by_somebody_else(
    make_service: MakeService, share: float
) -> None:
    """Nothing tells but its length, and that it ends in the middle of a sound."""
    first, second = Tonal([Fault("truncate", share)], name="first", timed=False), Tonal(name="second")
    stream = make_service(first, second).stream(TALE, format="pcm_8000")
    check(stream, await heard(stream), TALE)
    assert stream.provider == "second"
    assert stream.attempts[0].error is not None
    assert stream.attempts[0].error.kind is Kind.TOO_SHORT


async def test_a_voice_that_stops_as_if_it_were_cut_is_believed_when_it_takes_as_long_as_usual(
    make_service: MakeService,
) -> None:
    vendor = Scripted([Say()])  # a square wave to its very end
    stream = make_service(vendor).stream(TALE, format="pcm_8000")
    await heard(stream)
    assert stream.outcome == "spoken"


@pytest.mark.parametrize("timed", [True, False])
async def test_who_wants_the_whole_pays_nothing(make_service: MakeService, timed: bool) -> None:
    vendor = Tonal(timed=timed, every=0.05)
    speech = await make_service(vendor).synthesize(TALE, format="pcm_8000")
    assert [request.text for request in vendor.asked] == [TALE]
    assert speech.attempts[0].held_back == 0.0


@pytest.mark.parametrize("name", ["pcm_8000", "wav_16000", "mp3_44100_128", "opus"])
@pytest.mark.parametrize("share", [0.7, 0.9, 0.97])
async def test_who_waits_for_the_whole_gets_the_whole(make_service: MakeService, name: str, share: float) -> None:
    """However late an answer is ended before its end, and however properly."""
    first, second = Tonal([Fault("truncate", share)], name="first"), Tonal(name="second")
    speech = await make_service(first, second).synthesize(TEXT, format=name)
    assert words_in(speech.audio, speech.format) == TEXT.split()
    assert [(span.provider, span.begin, span.end) for span in speech.spoken.spans] == [("second", 0, len(TEXT))]
    assert speech.alignment.exact
    assert speech.attempts[0].error
    assert speech.attempts[0].error.kind in (Kind.TOO_SHORT, Kind.CUT)  # a frame that ends in its middle tells as well


@pytest.mark.parametrize("on_midstream", ["resume", "restart"])
async def test_it_asks_for_times_to_know_that(make_service: MakeService, on_midstream: OnMidstream) -> None:
    vendor = Tonal()
    await make_service(vendor).synthesize(TEXT, format="pcm_8000", on_midstream=on_midstream)
    assert vendor.asked[0].times


async def test_but_not_where_bytes_shall_pass(make_service: MakeService) -> None:
    vendor = Tonal()
    speech = await make_service(vendor).synthesize(TEXT, format="pcm_8000", on_midstream="error")
    assert not vendor.asked[0].times
    assert not speech.alignment.exact


@pytest.mark.parametrize("name", ["pcm_8000", "wav_8000", "ulaw_8000", "mp3_22050_32", "opus", "flac", "aac"])
@pytest.mark.parametrize("share", [0.3, 0.4713])
async def test_a_restart_is_heard_behind_what_was_heard_before(
    make_service: MakeService, name: str, share: float
) -> None:
    """Wherever it broke off: in half a sample, in a frame, in a container of which there is one to a file."""
    first, second = Tonal([Fault("cut", share)], name="first"), Tonal(name="second")
    stream = make_service(first, second).stream(TEXT, format=name, on_midstream="restart")
    audio = await heard(stream)
    words, again = heard_in(audio, stream.format), len(TEXT.split())
    assert [word.text for word in words[-again:]] == TEXT.split()
    assert len(words) > again
    broken, whole = stream.spoken.spans
    assert (broken.provider, broken.begin, broken.end, broken.start) == ("first", 0, 0, 0.0)
    assert (whole.provider, whole.begin, whole.end, whole.start) == ("second", 0, len(TEXT), broken.stop)
    assert stream.alignment.words()[0].start == pytest.approx(words[-again].start, abs=0.04)
    assert stream.outcome == "resumed"


async def test_who_has_heard_two_beginnings_hears_whole_sentences_from_then_on(make_service: MakeService) -> None:
    """However many more break off: late, at everybody's."""
    late = [Fault("cut", 0.9)] * 9
    first, second = Tonal(late[:], name="first"), Tonal(late[:], name="second")
    tts = make_service(first, second, Tone(), circuit=PATIENT)
    stream = tts.stream(TALE, format="pcm_8000", on_midstream="restart")
    words, again = words_in(await heard(stream), stream.format), len(TALE.split())
    assert words[-again:] == TALE.split()
    beginnings = [span for span in stream.spoken.spans if span.begin == span.end]
    assert len(beginnings) == 2
    assert len(words) < 3 * again
    spans = stream.spoken.spans[2:]
    assert (spans[0].begin, spans[-1].end) == (0, len(TALE))
    assert all(a.end == b.begin for a, b in pairwise(spans))


async def test_a_voice_that_hurries_and_stops_short_is_not_heard_again(make_service: MakeService) -> None:
    """Held back, it would be asked once more. It is out, and to hear all of it twice is worse than to trust it."""
    vendor = Scripted([Say(seconds=0.8 * 0.06 * len(TALE))])  # a square wave to its very end
    stream = make_service(vendor).stream(TALE, format="pcm_8000", on_midstream="restart")
    await heard(stream)
    assert (stream.outcome, len(vendor.asked)) == ("spoken", 1)


@pytest.mark.parametrize("name", ["pcm_8000", "mp3_22050_32", "opus"])
async def test_who_breaks_off_for_good_is_named_with_what_was_heard(make_service: MakeService, name: str) -> None:
    vendor = Tonal([Fault("cut", 0.5)], format=AudioFormat.parse("pcm_16000"))
    stream = make_service(vendor).stream(TALE, format=name, on_midstream="error")
    with pytest.raises(TTSStreamInterruptedError):
        await heard(stream)
    (span,) = stream.spoken.spans
    assert (span.provider, span.begin, span.exact) == ("tonal", 0, False)
    assert span.stop == pytest.approx(0.5 * len(tones(TALE, sample_rate=8000)[0]) / 16000, rel=0.02)
    assert 0.2 < span.end / len(TALE) < 0.9
    assert TALE[span.end - 1] == " "
    assert not stream.alignment.exact


@pytest.mark.parametrize("on_midstream", ["resume", "restart", "error"])
async def test_who_leaves_finds_in_the_account_what_was_heard(
    make_service: MakeService, on_midstream: OnMidstream
) -> None:
    vendor = Tonal(every=0.13)
    stream = make_service(vendor).stream(TALE, format="pcm_8000", on_midstream=on_midstream)
    audio = b"".join([await anext(stream) for _ in range(20)])
    await stream.aclose()
    (span,) = stream.spoken.spans
    assert (span.provider, span.begin, stream.outcome) == ("tonal", 0, "spoken")
    assert span.stop == pytest.approx(len(audio) / 16000, abs=0.7)
    words = words_in(audio, "pcm_8000")
    if on_midstream != "error":
        assert span.exact
        assert len(words) <= len(TALE[: span.end].split()) <= len(words) + 2


async def test_a_restart_that_nobody_makes_is_an_interruption(make_service: MakeService) -> None:
    first, second = Tonal([Fault("cut", 0.5)], name="first"), Scripted([DOWN], name="second")
    tts = make_service(first, second, retry=RetryConfig(max_attempts=1), muted=False)
    stream = tts.stream(TEXT, format="pcm_8000", on_midstream="restart")
    parts: list[bytes] = []
    with pytest.raises(TTSStreamInterruptedError) as caught:
        await listen(stream, parts)
    assert caught.value.delivered == pytest.approx(len(b"".join(parts)) / 16000, abs=0.01)


async def test_where_bytes_shall_pass_nobody_is_asked_for_times(make_service: MakeService) -> None:
    vendor = Tonal()
    stream = make_service(vendor).stream(TEXT, format="pcm_8000", on_midstream="error")
    await heard(stream)
    assert [request.times for request in vendor.asked] == [False]
    assert stream.attempts[0].held_back == 0.0


@pytest.mark.parametrize("name", ["pcm_8000", "mp3_22050_32", "opus"])
async def test_an_end_that_comes_too_early_is_worth_a_restart(make_service: MakeService, name: str) -> None:
    first, second = Tonal([Fault("truncate", 0.8)], name="first"), Tonal(name="second")
    stream = make_service(first, second).stream(TEXT, format=name, on_midstream="restart")
    words = words_in(await heard(stream), stream.format)
    assert words[-len(TEXT.split()) :] == TEXT.split()
    assert [span.provider for span in stream.spoken.spans] == ["first", "second"]
    assert stream.attempts[0].held_back == 0.0


async def test_who_promises_times_and_sends_none_is_asked_sentence_by_sentence(make_service: MakeService) -> None:
    vendor = Tonal(times="never")
    stream = make_service(vendor, circuit=PATIENT).stream(TALE, format="pcm_8000")
    check(stream, await heard(stream), TALE)
    first, *others = vendor.asked
    assert first.text == TALE
    assert all(len(request.text) < 150 for request in others)
    assert stream.attempts[0].error is not None
    assert "without the times that were asked for" in str(stream.attempts[0].error)


async def test_the_next_sentence_is_fetched_while_this_one_plays(make_service: MakeService) -> None:
    vendor = Tonal(timed=False, every=0.1)  # a little faster than it plays
    stream = make_service(vendor).stream(TALE, format="pcm_8000")
    loop = asyncio.get_running_loop()
    waits: list[float] = []
    before = loop.time()
    async for chunk in stream:
        waits.append(loop.time() - before)
        await asyncio.sleep(len(chunk) / 16000)
        before = loop.time()
    assert len(waits) > 5
    assert waits[0] > 1.0
    assert max(waits[1:]) == 0.0


async def test_a_listener_who_stops_reading_stops_the_vendor(make_service: MakeService) -> None:
    vendor = Tonal(timed=False)
    tts = make_service(vendor)
    stream = tts.stream(TALE, format="pcm_8000")
    await anext(stream)
    await asyncio.sleep(3600)
    assert len(vendor.asked) <= 3, "one plays, one waits"
    await heard(stream)
    assert stream.outcome == "spoken"
    assert tts.get_error_state()["totals"]["failures"] == 0


@pytest.mark.parametrize(("rest", "counted"), [(600.0, 0), (5.0, 1)])
async def test_a_vendor_may_hang_up_on_who_does_not_read(make_service: MakeService, rest: float, counted: int) -> None:
    first, second = Tonal([Fault("cut", 0.9)], name="first"), Tonal(name="second")
    tts = make_service(first, second)
    stream = tts.stream(TALE, format="pcm_8000")
    parts = [await anext(stream)]
    await asyncio.sleep(rest)
    await listen(stream, parts)
    check(stream, b"".join(parts), TALE)
    assert stream.outcome == "resumed"
    assert tts.get_error_state()["totals"]["failures"] == counted


@pytest.mark.parametrize("timed", [True, False])
async def test_a_listener_who_leaves_takes_everything_along(make_service: MakeService, timed: bool) -> None:
    vendor = Tonal(timed=timed, every=0.1)
    tts = make_service(vendor)
    stream = tts.stream(TALE, format="pcm_8000")
    await anext(stream)
    await asyncio.sleep(0.15)
    before = len(asyncio.all_tasks())
    await stream.aclose()
    assert len(asyncio.all_tasks()) < before
    assert vendor.left == 1
    state = tts.get_error_state()
    assert (state["totals"]["failures"], state["circuit_state"]) == (0, "closed")


async def test_who_forgets_to_close_a_stream_leaves_nothing_behind(make_service: MakeService) -> None:
    vendor = Tonal(every=0.1)
    stream: AsyncSpeechStream | None = make_service(vendor).stream(TALE, format="pcm_8000")
    assert stream is not None
    await anext(stream)
    stream = None
    gc.collect()
    await asyncio.sleep(1.0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert vendor.left == 1


async def test_a_long_text_keeps_its_prosody_by_the_vendors_own_ids(make_service: MakeService) -> None:
    vendor = Tonal(max_characters=90)
    stream = make_service(vendor).stream(TALE, format="mp3_22050_32")
    check(stream, await heard(stream), TALE)
    assert len(vendor.asked) > 4
    assert [request.previous_request_ids for request in vendor.asked[:3]] == [(), ("tonal-1",), ("tonal-1", "tonal-2")]


async def test_behind_what_was_not_heard_to_its_end_there_are_no_ids(make_service: MakeService) -> None:
    """They would hide the text that was heard last, for the vendor takes either."""
    vendor = Tonal([Fault("truncate", 1.0), Fault("cut", 0.5)], max_characters=90)  # the first is none
    stream = make_service(vendor, circuit=PATIENT).stream(TALE, format="pcm_8000")
    check(stream, await heard(stream), TALE)
    assert [request.previous_request_ids for request in vendor.asked[:4]] == [
        (),
        ("tonal-1",),
        (),
        ("tonal-3",),
    ]
    assert vendor.asked[2].previous_text


def frame_bytes(mp3: bytes, count: int) -> bytes:
    return b"".join(frame.data for frame in Mp3Frames().feed(mp3)[:count])
