"""What was said before is not bought again; what is said now is said once; and only what was said well is kept."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steadyvoice import (
    AsyncSpeechStream,
    AsyncTTSService,
    AudioFormat,
    CacheConfig,
    ElevenLabs,
    OpenAICompatible,
    Tone,
    TTSConfigurationError,
    TTSService,
    TTSStreamInterruptedError,
)
from steadyvoice.audio.convert import Converter
from steadyvoice.service.cache import DAY
from steadyvoice.service.store import FILE
from steadyvoice.simulator import Simulator
from steadyvoice.speech.errors import TTSCutError, TTSServerError

from .conftest import BRIEF, MakeService, loop_clock
from .scripted import Act, Hang, Say, Scripted, Send, pcm

TEXT = "Good morning, dear listeners, wherever you are."
DOWN = TTSServerError("HTTP 503")
WHOLE = Say(pieces=1)


class Sundial:
    """The time of day, moved by hand."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time


def service(folder: Path, *providers: Any, **settings: Any) -> AsyncTTSService:
    settings = {"circuit": BRIEF, "clock": loop_clock, "cache": folder, **settings}
    return AsyncTTSService(list(providers), **settings)


class Timed(Scripted):
    """Says when each word is heard."""

    def offer(self, request: Any) -> Any:
        return replace(super().offer(request), timed=request.times)


async def heard(tts: AsyncTTSService, text: str = TEXT, **wishes: Any) -> tuple[bytes, AsyncSpeechStream]:
    stream = tts.stream(text, format="pcm_8000", **wishes)
    return b"".join([chunk async for chunk in stream]), stream


@pytest.mark.looptime
@pytest.mark.parametrize("format", ["pcm_8000", "wav_8000", "mp3_22050_32", "opus_48000_64"])
async def test_the_same_words_are_bought_once_and_sound_the_same_for_ever(tmp_path: Path, format: str) -> None:
    vendor = Scripted([Say(aligned=True)])
    async with service(tmp_path, vendor) as tts:
        first = await tts.synthesize(TEXT, format=format)
        again = await tts.synthesize(TEXT, format=format)
    async with service(tmp_path, vendor) as tts, tts.stream(TEXT, format=format) as stream:
        streamed = b"".join([chunk async for chunk in stream])
    assert (first.outcome, again.outcome, stream.outcome) == ("spoken", "cached", "cached")
    assert first.audio == again.audio == streamed
    assert first.alignment == again.alignment == stream.alignment
    assert first.captions() == again.captions()
    assert (again.provider, again.duration, again.attempts) == ("scripted", first.duration, [])
    assert len(vendor.asked) == 1


@pytest.mark.looptime
async def test_nothing_is_kept_unless_somebody_said_where(make_service: MakeService, tmp_path: Path) -> None:
    vendor = Scripted()
    tts = make_service(vendor)
    assert [(await tts.synthesize(TEXT)).outcome for _ in range(2)] == ["spoken", "spoken"]
    assert tts.get_error_state()["cache"] is None
    async with service(tmp_path, vendor, cache=CacheConfig(tmp_path, max_megabytes=0)) as none:
        await none.synthesize(TEXT)
    assert os.listdir(tmp_path) == []


@pytest.mark.looptime
async def test_what_is_private_can_be_kept_out(tmp_path: Path) -> None:
    vendor = Scripted()
    async with service(tmp_path, vendor) as tts:
        await tts.synthesize("Your code is 1 2 3 4", cache=False)
        assert os.listdir(tmp_path) == []
        await tts.synthesize("Your code is 1 2 3 4")
        assert (await tts.synthesize("Your code is 1 2 3 4", cache=False)).outcome == "spoken"
    assert len(vendor.asked) == 3


@pytest.mark.looptime
@pytest.mark.parametrize("on_midstream", ["resume", "error"])
async def test_ten_callers_at_once_cause_one_request(tmp_path: Path, on_midstream: Any) -> None:
    vendor = Scripted([Say(every=1.0, aligned=True)])
    async with service(tmp_path, vendor, on_midstream=on_midstream) as tts:

        async def late(index: int) -> tuple[bytes, AsyncSpeechStream]:
            await asyncio.sleep(index * 0.3)
            return await heard(tts)

        listeners = await asyncio.gather(*map(late, range(10)))
        assert tts.get_error_state()["cache"]["joined"] == 9
    assert len(vendor.asked) == 1
    assert len({audio for audio, _ in listeners}) == 1
    assert [stream.outcome for _, stream in listeners] == ["spoken"] + ["cached"] * 9
    assert {stream.alignment for _, stream in listeners} == {listeners[0][1].alignment}
    assert sum(len(stream.attempts) for _, stream in listeners) == 1, "each request is in one account"


@pytest.mark.looptime
async def test_who_waits_for_the_whole_hears_a_stream_out_but_no_stream_waits_for_the_whole(tmp_path: Path) -> None:
    vendor = Timed([Say(every=1.0, aligned=True)])
    async with service(tmp_path, vendor) as tts:
        (audio, _), speech = await asyncio.gather(heard(tts), tts.synthesize(TEXT, format="pcm_8000"))
        assert (len(vendor.asked), speech.audio) == (1, audio)
        other = asyncio.ensure_future(tts.synthesize("Good night", format="pcm_8000"))
        await asyncio.sleep(0.5)
        async with tts.stream("Good night", format="pcm_8000") as stream:
            before = loop_clock()
            await anext(stream)
            assert loop_clock() - before < 2.0, "and the whole takes longer"
        await other
    assert len(vendor.asked) == 3


@pytest.mark.looptime
async def test_who_joins_hears_what_has_come_before_the_rest_is_there(tmp_path: Path) -> None:
    vendor = Scripted([Say(every=10.0)])
    async with service(tmp_path, vendor, on_midstream="error") as tts:
        leader = tts.stream(TEXT, format="pcm_8000")
        begin = [await anext(leader), await anext(leader)]
        joined, before = tts.stream(TEXT, format="pcm_8000"), loop_clock()
        assert [await anext(joined), await anext(joined)] == begin
        assert loop_clock() == before
        await leader.aclose()
        await joined.aclose()


@pytest.mark.looptime
async def test_a_failure_is_shared_too_and_nothing_of_it_is_kept(tmp_path: Path) -> None:
    vendor = Scripted([Say(every=1.0, then=TTSCutError("cut")), WHOLE])
    async with service(tmp_path, vendor, on_midstream="error") as tts:
        both = await asyncio.gather(heard(tts), heard(tts), return_exceptions=True)
        assert [type(each) for each in both] == [TTSStreamInterruptedError] * 2
        assert len(vendor.asked) == 1
        _, stream = await heard(tts)
        assert stream.outcome == "spoken"


@pytest.mark.looptime
async def test_an_abandoned_stream_leaves_nothing_and_hangs_up(tmp_path: Path) -> None:
    vendor = Scripted([Say(every=1.0), WHOLE])
    async with service(tmp_path, vendor, on_midstream="error") as tts:
        async with tts.stream(TEXT, format="pcm_8000") as stream:
            await anext(stream)
        assert vendor.cut_short == 1
        assert (await tts.synthesize(TEXT, format="pcm_8000")).outcome == "spoken"


@pytest.mark.looptime
async def test_while_others_listen_the_first_may_leave(tmp_path: Path) -> None:
    vendor = Scripted([Say(every=1.0)])
    async with service(tmp_path, vendor, on_midstream="error") as tts:
        leader = tts.stream(TEXT, format="pcm_8000")
        await anext(leader)
        other = asyncio.ensure_future(heard(tts))
        await asyncio.sleep(0.5)
        await leader.aclose()
        audio, stream = await other
        assert (len(vendor.asked), vendor.cut_short) == (1, 0)
        assert (await heard(tts))[0] == audio
        assert stream.outcome == "cached"


@pytest.mark.looptime
async def test_a_slow_listener_holds_nobody_up_and_nobody_fetches_ahead_of_the_fastest(tmp_path: Path) -> None:
    vendor = Scripted([Say(pieces=8)])
    async with service(tmp_path, vendor, on_midstream="error") as tts:
        fast, slow = (tts.stream(TEXT, format="pcm_8000") for _ in range(2))
        await anext(slow)
        for _ in range(5):
            await anext(fast)
        await fast.aclose()
        rest = [chunk async for chunk in slow]
    assert len(rest) == 7


@pytest.mark.looptime
async def test_a_closing_service_ends_those_who_joined_as_well(tmp_path: Path) -> None:
    tts = service(tmp_path, Scripted([Say(every=5.0)]), on_midstream="error")
    streams = [tts.stream(TEXT, format="pcm_8000") for _ in range(2)]
    for stream in streams:
        await anext(stream)
    await tts.aclose()
    for stream in streams:
        with pytest.raises(TTSStreamInterruptedError, match="the service was closed"):
            await anext(stream)


@pytest.mark.looptime
@pytest.mark.parametrize("acts", [[DOWN], [Hang()], [Say(first_after=20.0)]])
async def test_the_first_voices_old_recording_beats_another_voice(tmp_path: Path, acts: list[Act]) -> None:
    wall = Sundial()
    async with service(tmp_path, Scripted([WHOLE]), wall=wall) as tts:
        before, _ = await heard(tts)
    wall.time += 31 * DAY
    second = Scripted(name="second")
    async with service(tmp_path, Scripted(acts), second, wall=wall) as tts:
        for _ in range(6):
            begun = loop_clock()
            audio, stream = await heard(tts)
            assert (audio, stream.outcome, stream.provider) == (before, "cached", "scripted")
            assert loop_clock() - begun < 5.0
        assert tts.get_error_state()["circuit_state"] == "open"
    assert second.asked == []


@pytest.mark.looptime
@pytest.mark.parametrize("format", ["pcm_8000", "wav_8000", "mp3_22050_32"])
async def test_what_is_begun_again_is_begun_in_the_right_voice(tmp_path: Path, format: str) -> None:
    wall, second = Sundial(), Scripted(name="second")
    vendor = Scripted([WHOLE, Say(2.0, every=0.1, then=TTSCutError("cut"))])
    async with service(tmp_path, vendor, second, wall=wall, on_midstream="restart") as tts:
        before = await tts.synthesize(TEXT, format=format)
        wall.time += 31 * DAY
        stream = tts.stream(TEXT, format=format)
        audio = b"".join([chunk async for chunk in stream])
    assert (stream.outcome, second.asked) == ("cached", [])
    samples = AudioFormat.parse("pcm_8000")
    converter = Converter(before.format, samples)
    heard = len(converter.feed(audio) + converter.finish()) / 16000
    assert heard == pytest.approx(2.0 + before.duration, abs=0.2)


@pytest.mark.looptime
async def test_it_beats_silence_and_an_error_too(tmp_path: Path) -> None:
    wall = Sundial()
    async with service(tmp_path, Scripted([WHOLE]), wall=wall) as tts:
        await heard(tts)
    wall.time += 400 * DAY
    async with service(tmp_path, Scripted([DOWN]), wall=wall, muted=False) as tts:
        assert (await tts.synthesize(TEXT, format="pcm_8000")).outcome == "cached"
        assert not tts.get_error_state()["is_muted"]


@pytest.mark.looptime
async def test_a_fresh_recording_is_played_without_asking_anybody(tmp_path: Path) -> None:
    vendor = Scripted([WHOLE, DOWN])
    async with service(tmp_path, vendor) as tts:
        await heard(tts)
        tts.circuits["scripted"].force_open()
        assert (await heard(tts))[1].outcome == "cached"
        totals = tts.get_error_state()["totals"]
    assert (totals["calls"], totals["refused"]) == (1, 0)


@pytest.mark.looptime
async def test_an_old_recording_is_made_anew_while_its_voice_is_well(tmp_path: Path) -> None:
    wall, vendor = Sundial(), Scripted([WHOLE, Say(4.0), DOWN])
    async with service(tmp_path, vendor, wall=wall) as tts:
        old, _ = await heard(tts)
        wall.time += 31 * DAY
        new, stream = await heard(tts)
        assert stream.outcome == "spoken"
        assert (await heard(tts))[0] == new != old


@pytest.mark.looptime
@pytest.mark.parametrize("jump", [-3650 * DAY, 3650 * DAY])
async def test_a_clock_that_jumps_costs_a_request_and_not_the_recording(tmp_path: Path, jump: float) -> None:
    wall, vendor = Sundial(), Scripted([WHOLE, DOWN])
    async with service(tmp_path, vendor, Scripted(name="second"), wall=wall) as tts:
        await heard(tts)
        wall.time += jump
        assert (await heard(tts))[1].outcome == "cached", "asked, in vain"
        assert len(vendor.asked) == 2


@pytest.mark.looptime
async def test_a_voice_that_stood_in_is_kept_as_what_it_is(tmp_path: Path) -> None:
    first, second = Scripted([DOWN, DOWN, WHOLE]), Scripted([WHOLE], name="second")
    async with service(tmp_path, first, second) as tts:
        assert (await heard(tts))[1].outcome == "substituted"
        tts.circuits["scripted"].force_open()
        _, stream = await heard(tts)
        assert (stream.outcome, stream.provider) == ("substituted", "second")
        assert len(second.asked) == 1, "and not paid twice"
        tts.circuits["scripted"].reset()
        assert (await heard(tts))[1].outcome == "spoken", "the first voice is asked again as soon as it can speak"


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("first", "second", "on_midstream"),
    [
        (Say(every=0.1, then=TTSCutError("cut"), aligned=True), WHOLE, "resume"),
        (Say(every=0.1, then=TTSCutError("cut")), WHOLE, "restart"),
        (DOWN, DOWN, "resume"),
    ],
    ids=["two voices", "begun twice", "silence"],
)
async def test_what_was_not_one_voice_from_end_to_end_is_not_kept(
    tmp_path: Path, first: Act, second: Act, on_midstream: Any
) -> None:
    for _ in range(2):
        vendors = Timed([first]), Timed([second], name="second")
        async with service(tmp_path, *vendors, on_midstream=on_midstream) as tts:
            _, stream = await heard(tts)
            assert tts.get_error_state()["cache"]["kept"] == 0
        assert stream.attempts


@pytest.mark.looptime
async def test_an_answer_much_shorter_than_usual_is_heard_and_not_kept(tmp_path: Path) -> None:
    text = f"{TEXT} It rains."
    short = pcm(0.66 * len(text) * 0.06 - 0.2) + bytes(3200)  # it ends in a pause, as a sentence does
    async with service(tmp_path, Scripted([WHOLE, Send(short)])) as tts:
        await tts.synthesize(text.replace("morning", "evening"), format="pcm_8000")
        assert (await tts.synthesize(text, format="pcm_8000", on_midstream="error")).outcome == "spoken"
        assert tts.get_error_state()["cache"]["kept"] == 1


@pytest.mark.looptime
async def test_what_is_too_long_to_be_kept_is_spoken_all_the_same(tmp_path: Path) -> None:
    text = "And so it went on, and on, and on. " * 100
    vendor = Scripted()
    cache = CacheConfig(tmp_path, max_megabytes=1)
    async with service(tmp_path, vendor, cache=cache, on_midstream="error") as tts:
        first, second = await asyncio.gather(heard(tts, text), heard(tts, text))
        assert first[0] == second[0]
        assert (await heard(tts, text))[1].outcome == "spoken"


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(voice="tones") as simulator:
        yield simulator


@pytest.mark.parametrize("kind", [ElevenLabs, OpenAICompatible])
async def test_two_hundred_callers_of_twenty_texts_cause_twenty_requests(
    tmp_path: Path, sim: Simulator, kind: Any
) -> None:
    vendor = kind("sk_test", base_url=sim.url)
    texts = [f"This is number {number}. " for number in range(20)]
    async with AsyncTTSService([vendor], cache=tmp_path) as tts:
        first = await asyncio.gather(*(tts.synthesize(texts[n % 20], format="pcm_24000") for n in range(100)))
        later = await asyncio.gather(*(heard_at(tts, texts[n % 20]) for n in range(100)))
    assert len(sim.ledger) == 20
    for number in range(20):
        assert len({speech.audio for speech in first[number::20]} | set(later[number::20])) == 1


async def heard_at(tts: AsyncTTSService, text: str) -> bytes:
    return b"".join([chunk async for chunk in tts.stream(text, format="pcm_24000")])


def in_the_way(folder: Path) -> Path:
    (folder / "file").write_text("no folder")
    return folder / "file"


def read_only(folder: Path) -> Path:
    return Path("/proc/steadyvoice")


def another_programs(folder: Path) -> Path:
    with sqlite3.connect(folder / FILE) as theirs:
        theirs.execute("CREATE TABLE recipes (name TEXT)")
    theirs.close()
    return folder


@pytest.mark.looptime
@pytest.mark.parametrize("place", [in_the_way, read_only, another_programs])
async def test_without_a_cache_the_voice_goes_on_and_says_so_once(
    tmp_path: Path, place: Any, caplog: pytest.LogCaptureFixture
) -> None:
    vendor = Scripted()
    async with service(place(tmp_path), vendor) as tts:
        for _ in range(5):
            assert (await tts.synthesize(TEXT)).outcome == "spoken"
            await asyncio.sleep(120)
        assert tts.get_error_state()["cache"]["trouble"]
    told = [record for record in caplog.records if record.name == "steadyvoice.cache"]
    assert [record.levelno for record in told] == [logging.WARNING]
    assert "the voice goes on without it" in told[0].getMessage()


@pytest.mark.looptime
async def test_a_cache_that_was_in_trouble_is_tried_again(tmp_path: Path) -> None:
    place = in_the_way(tmp_path)
    async with service(place, Scripted()) as tts:
        await tts.synthesize(TEXT)
        place.unlink()
        assert (await tts.synthesize(TEXT)).outcome == "spoken"
        await asyncio.sleep(61)
        await tts.synthesize(TEXT)
        assert (await tts.synthesize(TEXT)).outcome == "cached"
        assert tts.get_error_state()["cache"]["trouble"] is None


@pytest.mark.parametrize("pieces", range(4))
def test_whoever_is_killed_in_mid_sentence_leaves_nothing_of_it(tmp_path: Path, pieces: int) -> None:
    class Deadly(Scripted):
        async def speak(self, *given: Any, **named: Any) -> Any:
            count = 0
            async for event in super().speak(*given, **named):
                if count > pieces:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1
                yield event

    def speak(*providers: Any) -> Any:
        with TTSService(list(providers), cache=tmp_path, on_midstream="error") as tts:
            stream = tts.stream(TEXT, format="pcm_8000")
            return b"".join(stream), stream.outcome

    child = multiprocessing.get_context("fork").Process(target=speak, args=(Deadly([Say(first_after=0.0)]),))
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    audio, outcome = speak(Scripted([Say(first_after=0.0)]))
    assert (len(audio), outcome) == (round(len(TEXT) * 0.06 * 8000) * 2, "spoken")


def test_a_forked_child_shares_what_its_parent_kept(tmp_path: Path) -> None:
    with TTSService([Tone()], cache=tmp_path) as tts:
        tts.synthesize(TEXT, format="pcm_8000")
        context = multiprocessing.get_context("fork")
        answers = context.Queue()
        child = context.Process(target=lambda: answers.put(tts.synthesize(TEXT, format="pcm_8000").outcome))
        child.start()
        child.join(20)
        assert answers.get(timeout=5) == "cached"
        assert tts.synthesize(TEXT, format="pcm_8000").outcome == "cached"


def test_a_forked_child_does_not_wait_for_what_its_parent_is_saying(tmp_path: Path) -> None:
    with TTSService([Scripted([Say(first_after=0.0)])], cache=tmp_path, on_midstream="error") as tts:
        stream = tts.stream(TEXT, format="pcm_8000")
        next(stream)
        context = multiprocessing.get_context("fork")
        answers = context.Queue()

        def speak() -> None:
            mine = tts.stream(TEXT, format="pcm_8000")
            answers.put((sum(map(len, mine)), mine.outcome))

        child = context.Process(target=speak, daemon=True)
        child.start()
        assert answers.get(timeout=20) == (round(len(TEXT) * 0.06 * 8000) * 2, "spoken")
        child.join(20)
        stream.close()


@pytest.mark.parametrize(
    "wrong", [{"max_megabytes": -1}, {"max_megabytes": 1.5}, {"max_age_days": 0}, {"path": ""}, {"path": 3}]
)
def test_a_cache_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TTSConfigurationError, match=f"{next(iter(wrong))}: must"):
        CacheConfig(**wrong)


def test_a_setting_or_wish_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(TTSConfigurationError, match="cache: must be a CacheConfig"):
        AsyncTTSService([Tone()], cache=True)  # type: ignore[arg-type]
    with pytest.raises(TTSConfigurationError, match="cache: must be True or False"):
        AsyncTTSService([Tone()]).stream("Hi", cache=tmp_path)  # type: ignore[arg-type]
