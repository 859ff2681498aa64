"""Observers of ended utterances: each is told of once, whichever way it was spoken and has ended."""

from __future__ import annotations

import asyncio

import pytest

from steadyvoice.service.observers import EndedUtterance
from steadyvoice.speech.errors import TTSServerError

from ..conftest import MakeService
from ..scripted_provider import Hang, Say, ScriptedProvider, read_chunks

pytestmark = pytest.mark.looptime

DOWN = TTSServerError("HTTP 503", status=503)


class Notes:
    def __init__(self) -> None:
        self.ended: list[EndedUtterance] = []

    def utterance_ended(self, ended: EndedUtterance) -> None:
        self.ended.append(ended)


async def test_speech_is_reported_with_the_times_of_its_attempts(make_service: MakeService) -> None:
    tts, notes = make_service(ScriptedProvider([DOWN], name="first"), ScriptedProvider(name="second")), Notes()
    stop = tts.observe(notes)
    began = asyncio.get_running_loop().time()
    async with tts:
        await tts.synthesize("Good morning", format="pcm_8000")
        stop()
        await tts.synthesize("Good evening", format="pcm_8000")
    (ended,) = notes.ended
    report = ended.report
    assert (report.outcome, ended.characters) == ("substituted", len("Good morning"))
    assert ended.began == pytest.approx(began)
    assert report.facts is not None
    assert (list(report.facts.candidates), report.facts.deadline, report.facts.holds) == (["first", "second"], 45, True)
    timings = [attempt.timing for attempt in report.attempts]
    assert all(timing and timing.settled is not None for timing in timings)
    # The first is retried after a pause, and the second has its first audio after a tenth of a second.
    _, retried, last = [timing for timing in timings if timing]
    assert retried.began - began >= 0.25
    assert last.first_output == pytest.approx(last.began + 0.1, abs=0.01)


async def test_streams_and_turns_are_reported_once(make_service: MakeService) -> None:
    tts, notes = make_service(ScriptedProvider([Say(every=0.5), Say(), Hang()])), Notes()
    tts.observe(notes)
    async with tts:
        await read_chunks(tts.stream("One two three four.", format="pcm_8000", on_midstream="error"), 1)
        async for _ in tts.stream(["Two ", "pieces."], format="pcm_8000"):
            pass
        turn = tts.conversation(format="pcm_8000").turn()
        turn.push("Nobody answers this. ")
        turn.flush()
        await asyncio.sleep(1)
        await turn.interrupt()
        tts.stream("This is never read.")
    assert [(each.report.outcome, each.is_turn) for each in notes.ended] == [
        ("interrupted", False), ("spoken", True), ("interrupted", True),
    ]  # fmt: skip
    assert notes.ended[2].report.attempts[0].left


async def test_observer_that_fails_harms_nothing(make_service: MakeService, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def utterance_ended(self, ended: EndedUtterance) -> None:
            raise OSError("disk full")

    tts, notes = make_service(ScriptedProvider()), Notes()
    tts.observe(Broken())
    tts.observe(notes)
    async with tts:
        assert (await tts.synthesize("Good morning", format="pcm_8000")).outcome == "spoken"
    assert len(notes.ended) == 1
    assert "an observer of utterances failed: OSError" in caplog.text


async def test_without_observer_nothing_is_noted(make_service: MakeService) -> None:
    async with make_service(ScriptedProvider()) as tts:
        speech = await tts.synthesize("Good morning", format="pcm_8000")
    assert speech.report.facts is None
    assert speech.attempts[0].timing is None
