"""Closing a service and its streams, muted state and holds: nothing ends early without an error."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
import threading
from typing import Any

import pytest

from steadyvoice import (
    AsyncTTSService,
    TimeoutConfig,
    Tone,
    TTSConfigurationError,
    TTSErrorHandler,
    TTSService,
    TTSStreamInterruptedError,
)
from steadyvoice.speech.errors import TTSBusyError, TTSQuotaExceededError, TTSServerError

from ..conftest import BRIEF, MakeService, loop_clock
from ..scripted_provider import Hang, Say, ScriptedProvider


@pytest.mark.looptime
async def test_closing_service_interrupts_streams_and_blames_no_provider(make_service: MakeService) -> None:
    vendor = ScriptedProvider([Say(every=5.0)])
    tts = make_service(vendor, on_midstream="error")
    stream = tts.stream("Good morning", format="pcm_8000")
    await anext(stream)
    waiting = asyncio.ensure_future(_next(stream))
    await asyncio.sleep(1.0)
    await tts.aclose()
    with pytest.raises(TTSStreamInterruptedError, match="the service was closed"):
        await waiting
    with pytest.raises(TTSStreamInterruptedError):
        await anext(stream)
    assert stream.outcome == "interrupted"
    assert vendor.closed == vendor.cut_short == 1
    totals = tts.get_error_state()["totals"]
    assert (totals["calls"], totals["failures"]) == (1, 0)


async def _next(stream: Any) -> Any:
    return await anext(stream)


@pytest.mark.looptime
async def test_reader_between_two_chunks_gets_the_closed_error(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Say(every=5.0)]), on_midstream="error")
    stream = tts.stream("Good morning", format="pcm_8000")
    await anext(stream)
    await tts.aclose()
    with pytest.raises(TTSStreamInterruptedError):
        await anext(stream)


def test_closing_from_another_thread_ends_a_hanging_call_at_once() -> None:
    tts = TTSService([ScriptedProvider([Hang()])], circuit=BRIEF, muted=False)
    caught: list[BaseException] = []
    asked = threading.Event()

    def speak() -> None:
        try:
            stream = tts.stream("Good morning", format="pcm_8000")
            asked.set()
            b"".join(stream)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=speak)
    thread.start()
    asked.wait(5)
    while not tts._service.streams:
        threading.Event().wait(0.001)
    tts.close()
    thread.join(5)
    assert not thread.is_alive()
    assert [type(error) for error in caught] == [TTSStreamInterruptedError]


def test_half_a_stream_of_a_closed_service_is_an_error_in_threads_too() -> None:
    with TTSService([ScriptedProvider([Say(first_after=0.0)])], on_midstream="error") as tts:
        stream = tts.stream("Good morning", format="pcm_8000")
        next(stream)
    with pytest.raises(TTSStreamInterruptedError):
        next(stream)
    tts.close()


def test_forked_child_has_its_own_loop() -> None:
    with TTSService([Tone()]) as tts:
        tts.synthesize("before", format="pcm_8000")
        context = multiprocessing.get_context("fork")
        answers = context.Queue()
        child = context.Process(target=lambda: answers.put(tts.synthesize("after", format="pcm_8000").outcome))
        child.start()
        child.join(20)
        assert child.exitcode == 0
        assert answers.get(timeout=5) == "spoken"


def test_program_can_exit_without_close() -> None:
    program = "from steadyvoice import TTSService, Tone; print(TTSService([Tone()]).synthesize('Hi').outcome)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert (ran.returncode, ran.stdout) == (0, "spoken\n")


@pytest.mark.parametrize(("setting", "meant"), [("timeout", "timeouts"), ("mutd", "muted")])
def test_unknown_setting_is_rejected(setting: str, meant: str) -> None:
    with pytest.raises(TypeError, match=f"'{setting}'.*did you mean '{meant}'"):
        TTSService([Tone()], **{setting: None})  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"timeouts": {}}, {"retry": 3}, {"muted": "no"}, {"circuit": {"window_size": 3}}])
def test_setting_of_the_wrong_type_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(TTSConfigurationError, match=f"{next(iter(wrong))}: must be (a|true or false)"):
        TTSService([Tone()], **wrong)


def test_unknown_request_option_is_rejected() -> None:
    tts = AsyncTTSService([Tone()])
    with pytest.raises(TypeError, match="did you mean 'format'"):
        tts.stream("Hello", formt="wav")  # type: ignore[call-arg]
    with pytest.raises(TTSConfigurationError, match="on_midstream: must be one of"):
        tts.stream("Hello", on_midstream="pray")  # type: ignore[arg-type]


@pytest.mark.looptime
async def test_failed_utterance_is_not_reported_as_spoken(make_service: MakeService) -> None:
    stream = make_service(ScriptedProvider([TTSServerError("HTTP 503")]), muted=False).stream(
        "Hello", format="pcm_8000"
    )
    with pytest.raises(TTSServerError):
        await anext(stream)
    assert (stream.outcome, stream.provider) == ("failed", None)


@pytest.mark.looptime
async def test_is_muted_ends_with_the_next_audio(make_service: MakeService) -> None:
    down = TTSServerError("HTTP 503")
    tts = make_service(ScriptedProvider([down, down, Say(every=1.0)]))
    muted = tts.stream("Good morning", format="pcm_8000")
    await anext(muted)
    assert tts.get_error_state()["is_muted"], "while the silence is handed out"
    await asyncio.sleep(61)
    async with tts.stream("Good morning", format="pcm_8000") as stream:
        await anext(stream)
        assert not tts.get_error_state()["is_muted"], "and not only when the whole was heard"


@pytest.mark.looptime
async def test_short_deadlines_do_not_hide_a_hanging_vendor(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Hang()]), ScriptedProvider(name="second"))
    for _ in range(14):
        assert (await tts.synthesize("Hi", format="pcm_8000", deadline=4.0)).provider == "second"
    state = tts.get_error_state()
    assert state["circuit_state"] == "open"
    assert state["totals"]["ignored"] == 0


@pytest.mark.looptime
async def test_short_deadlines_open_no_circuit(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Hang()]), ScriptedProvider(name="second"))
    for _ in range(8):
        await tts.synthesize("Hi", format="pcm_8000", deadline=0.05)
    assert tts.get_error_state()["totals"]["failures"] == 0


@pytest.mark.looptime
async def test_hold_has_an_end_and_is_released_by_a_reset(make_service: MakeService) -> None:
    vendor = ScriptedProvider([TTSBusyError("HTTP 429", retry_after=100.0), TTSQuotaExceededError("no credit"), Say()])
    tts = make_service(vendor)
    await tts.synthesize("Hi", format="pcm_8000")
    assert tts.get_error_state()["retry_after"] == pytest.approx(100)
    tts.reset_circuit_breaker()
    assert tts.get_error_state()["holds"] == []
    await tts.synthesize("Hi", format="pcm_8000")
    assert tts.get_error_state()["retry_after"] == pytest.approx(900)
    tts.reset_circuit_breaker("scripted")
    assert (await tts.synthesize("Hi", format="pcm_8000")).outcome == "spoken"


@pytest.mark.looptime
async def test_retries_stay_inside_their_deadline() -> None:
    handler = TTSErrorHandler("vendor", BRIEF, clock=loop_clock)

    async def busy() -> None:
        raise TTSBusyError("HTTP 429", retry_after=3600)

    before = loop_clock()
    with pytest.raises(TTSBusyError):
        await handler.execute_with_retry(busy)
    assert loop_clock() == before


@pytest.mark.looptime
async def test_at_once_is_never_taken_literally() -> None:
    handler = TTSErrorHandler("vendor", BRIEF, clock=loop_clock)
    answers: list[Exception | None] = [TTSBusyError("HTTP 429", retry_after=0.0), None]

    async def busy() -> None:
        if error := answers.pop(0):
            raise error

    before = loop_clock()
    await handler.execute_with_retry(busy)
    assert loop_clock() - before >= 0.25


@pytest.mark.slow
async def test_converting_leaves_the_event_loop_to_others() -> None:
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0)
            beats += 1

    heartbeat = asyncio.ensure_future(beat())
    async with AsyncTTSService([ScriptedProvider([Say(pieces=1, first_after=0.0)])], timeouts=TimeoutConfig()) as tts:
        await asyncio.sleep(0)
        beats = 0
        await tts.synthesize("once upon a time " * 30, format="mp3_44100_128")
    heartbeat.cancel()
    assert beats > 50, "one piece of 30 seconds was encoded meanwhile"


def test_operation_that_is_not_callable_is_a_usage_error() -> None:
    handler = TTSErrorHandler("vendor", BRIEF)
    with pytest.raises(TypeError, match="coroutine function"):
        asyncio.run(handler.execute_with_retry(3))  # type: ignore[arg-type]
    assert handler.get_error_state()["totals"]["calls"] == 0
