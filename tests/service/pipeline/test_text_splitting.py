"""Long texts in pieces, in any format, by any provider."""

from __future__ import annotations

from array import array
from io import BytesIO

import av
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steadyvoice import AsyncTTSService, AudioFormat
from steadyvoice.speech.format import FORMAT_NAMES, Codec
from steadyvoice.speech.markup import strip_markup
from steadyvoice.speech.request import OnMidstream
from steadyvoice.speech.text import clean_text

from ..conftest import MakeService
from ..scripted_provider import RATE, Say, ScriptedProvider, Send, pcm

pytestmark = pytest.mark.looptime

LONG_TEXT = "One sentence. Another one! A third? " * 5


async def test_text_over_the_limit_is_split_at_sentences_and_delivered_as_one(make_service: MakeService) -> None:
    vendor = ScriptedProvider(max_characters=40)
    speech = await make_service(vendor).synthesize(LONG_TEXT, format="pcm_8000")
    texts = [request.text for request in vendor.requests]
    assert "".join(texts) == clean_text(LONG_TEXT)
    assert all(len(text) <= 40 and text.rstrip()[-1] in ".!?" for text in texts)
    assert speech.outcome == "spoken"
    assert speech.audio == pcm(speech.duration)
    assert vendor.requests[1].previous_text is not None
    assert vendor.requests[1].previous_text.endswith(texts[0])
    assert vendor.requests[0].next_text is not None
    assert vendor.requests[0].next_text.startswith(texts[1])


async def test_callers_request_ids_stay_at_the_ends_of_a_split_text(make_service: MakeService) -> None:
    vendor = ScriptedProvider(max_characters=40)
    options = {"previous_request_ids": ["before"], "next_request_ids": ["behind"], "style": 1}
    await make_service(vendor).synthesize(LONG_TEXT, format="pcm_8000", options=options)
    first, *between, last = [dict(request.options) for request in vendor.requests]
    assert first == {"previous_request_ids": ["before"], "style": 1}
    assert last == {"next_request_ids": ["behind"], "style": 1}
    assert between == [{"style": 1}] * len(between)
    assert between


async def test_timestamps_of_pieces_are_joined(make_service: MakeService) -> None:
    vendor = ScriptedProvider([Say(aligned=True)], max_characters=40)
    speech = await make_service(vendor).synthesize(LONG_TEXT, format="pcm_8000")
    assert speech.alignment.text == clean_text(LONG_TEXT)
    assert list(speech.alignment.starts) == sorted(speech.alignment.starts)
    assert speech.alignment.ends[-1] == pytest.approx(speech.duration)


async def test_half_sample_at_the_end_of_a_piece_shifts_nothing(make_service: MakeService) -> None:
    vendor = ScriptedProvider([Send(pcm(3.0) + b"\x07")], max_characters=40)
    ways: tuple[OnMidstream, ...] = ("error", "resume")
    for on_midstream in ways:
        stream = make_service(vendor).stream(LONG_TEXT, format="pcm_8000", on_midstream=on_midstream)
        samples = array("h", b"".join([chunk async for chunk in stream]))
        assert set(samples) <= {1000, 7}


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMAT_NAMES)
@pytest.mark.parametrize("limit", [None, 40])
async def test_output_has_the_requested_format(make_service: MakeService, name: str, limit: int | None) -> None:
    vendor = ScriptedProvider(max_characters=limit)
    speech = await make_service(vendor).synthesize(LONG_TEXT[:72], format=name)
    assert len(vendor.requests) == (1 if limit is None else 2)
    wanted = AudioFormat.parse(name)
    assert speech.format == wanted
    assert seconds_of(speech.audio, wanted) == pytest.approx(speech.duration, abs=0.12)


def seconds_of(audio: bytes, form: AudioFormat) -> float:
    if form.codec in (Codec.PCM, Codec.ULAW, Codec.ALAW):
        return len(audio) / (form.bytes_per_second or 1)
    with av.open(BytesIO(audio), mode="r") as container:
        assert container.streams.audio[0].rate == form.sample_rate
        samples: list[int] = [frame.samples for frame in container.decode(audio=0)]
        return sum(samples) / form.sample_rate


async def test_bytes_in_the_right_format_are_not_changed(make_service: MakeService) -> None:
    vendor = ScriptedProvider([Say(pieces=7)])
    stream = make_service(vendor).stream("Good morning", format="pcm_8000", on_midstream="error")
    chunks = [chunk async for chunk in stream]
    assert chunks[:7] == [pcm(0.72 / 7)] * 7


async def test_streams_are_heard_before_they_are_complete(make_service: MakeService) -> None:
    vendor = ScriptedProvider([Say(pieces=5, every=10.0)])
    stream = make_service(vendor).stream("Good morning", format="mp3_44100_128", on_midstream="error")
    first = await anext(stream)
    assert first
    assert stream.duration == 0.0
    await stream.aclose()


async def test_stream_has_its_report_at_the_end(make_service: MakeService) -> None:
    stream = make_service(ScriptedProvider()).stream("Good morning", format="pcm_8000")
    heard = b"".join([chunk async for chunk in stream])
    assert (stream.outcome, stream.provider, len(stream.attempts)) == ("spoken", "scripted", 1)
    assert stream.duration == pytest.approx(len(heard) / 2 / RATE)
    attempt = stream.attempts[0]
    assert attempt.first_audio == pytest.approx(0.1)
    assert attempt.request_id == "request-1"
    assert attempt.characters_billed == len("Good morning")
    assert (attempt.begin, attempt.end) == (0, len("Good morning"))
    assert stream.captions().count("-->") == 1


@given(st.text(min_size=1, max_size=300), st.integers(1, 50))
@example("&LT;", 1)
async def test_every_character_is_spoken_once(text: str, limit: int) -> None:
    vendor = ScriptedProvider([Say(first_after=0.0)], max_characters=limit)
    speech = await AsyncTTSService([vendor]).synthesize(text, format="pcm_8000")
    assert "".join(request.text for request in vendor.requests).split() == strip_markup(clean_text(text)).split()
    assert speech.alignment.text == clean_text(text)
