"""Process without processor time: no provider is blamed, no circuit opens, and no caller is answered with silence."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator
from random import Random
from typing import Any

import pytest

from steadyvoice import (
    Accepted,
    AsyncTTSService,
    AudioChunk,
    CircuitBreakerConfig,
    HedgeConfig,
    Provider,
    SpeechRequest,
    SynthesisOffer,
    TimeoutConfig,
)
from steadyvoice.providers.base import Queued
from steadyvoice.service.pipeline.timeouts import WaitTimer
from steadyvoice.service.resilience.event_loop_lag import HEARTBEAT_INTERVAL, LoopLag
from steadyvoice.speech.errors import TTSConnectTimeoutError, TTSOverloadedError

from ..conftest import BRIEF
from ..scripted_provider import Hang, Say, ScriptedProvider, pcm
from ..skipping_clock import SkippingClock

pytestmark = pytest.mark.looptime


def service(clock: SkippingClock, *providers: Provider, **settings: Any) -> AsyncTTSService:
    settings.setdefault("circuit", BRIEF)
    return AsyncTTSService(list(providers), clock=clock, rng=Random(1), **settings)


def totals(tts: AsyncTTSService) -> tuple[int, int]:
    state = tts.get_error_state()["totals"]
    return state["successes"], state["failures"]


# ---------------------------------------------------------------- the measurement


async def test_running_loop_loses_no_time() -> None:
    lag = LoopLag(clock := SkippingClock())
    lag.start()
    await asyncio.sleep(10)
    assert lag.lost == 0.0
    assert lag.recent == 0.0
    assert lag.time() == pytest.approx(clock())
    lag.stop()


async def test_lost_time_is_counted_once() -> None:
    lag = LoopLag(clock := SkippingClock())
    lag.start()
    await asyncio.sleep(1)
    clock.skip(3)
    assert lag.lost == pytest.approx(3, abs=2 * HEARTBEAT_INTERVAL), "before the beat that is overdue"
    await asyncio.sleep(1)
    assert lag.lost == pytest.approx(3, abs=2 * HEARTBEAT_INTERVAL)
    assert lag.recent > 0.25
    await asyncio.sleep(10)
    assert lag.recent < 0.01
    lag.stop()
    clock.skip(100)
    assert lag.lost == pytest.approx(3, abs=2 * HEARTBEAT_INTERVAL), "nobody is kept waiting while nothing is active"


async def test_fair_clock_never_goes_back_and_stands_still_during_a_stall() -> None:
    lag = LoopLag(clock := SkippingClock())
    rng = Random(1)
    readings = [lag.time()]
    for _ in range(500):
        match rng.randrange(4):
            case 0:
                lag.start()
            case 1:
                lag.stop()
            case 2:
                clock.skip(rng.random())
            case _:
                await asyncio.sleep(rng.random() / 5)
        readings.append(lag.time())
    assert readings == sorted(readings)


async def test_idle_service_sets_no_timer() -> None:
    tts = service(SkippingClock(), ScriptedProvider())
    await tts.synthesize("Hello", format="pcm_8000")
    await asyncio.sleep(2 * HEARTBEAT_INTERVAL)
    loop = asyncio.get_running_loop()
    assert not [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]


# ---------------------------------------------------------------- the providers' clocks


async def test_first_audio_timeout_excludes_lost_time() -> None:
    clock = SkippingClock()
    tts = service(clock, ScriptedProvider([Say(first_after=1.0)]), timeouts=TimeoutConfig(first_audio_timeout=2.0))
    clock.skip_at(0.5, 20.0)
    speech = await tts.synthesize("Good morning", format="pcm_8000")
    assert speech.outcome == "spoken"
    assert totals(tts) == (1, 0)
    assert speech.attempts[0].waited == pytest.approx(1.0, abs=2 * HEARTBEAT_INTERVAL)


async def test_stall_timeout_excludes_lost_time() -> None:
    clock = SkippingClock()
    tts = service(clock, ScriptedProvider([Say(every=2.0)]), timeouts=TimeoutConfig(stall_timeout=3.0))
    for moment in (1.0, 3.0, 5.0):
        clock.skip_at(moment, 4.0)
    speech = await tts.synthesize("Good morning", format="pcm_8000")
    assert speech.outcome == "spoken"
    assert totals(tts) == (1, 0)


async def test_hanging_provider_is_still_detected() -> None:
    clock = SkippingClock()
    tts = service(
        clock,
        ScriptedProvider([Hang()]),
        ScriptedProvider(name="next"),
        timeouts=TimeoutConfig(first_audio_timeout=8.0),
    )
    clock.skip_at(1.0, 1.0)
    loop = asyncio.get_running_loop()
    before = loop.time()
    speech = await tts.synthesize("Good morning", format="pcm_8000")
    assert speech.provider == "next"
    assert totals(tts) == (0, 1)
    assert loop.time() - before == pytest.approx(8.1, abs=0.2)


async def test_unreliable_latencies_are_not_learned() -> None:
    clock = SkippingClock()
    tts = service(clock, ScriptedProvider([Say(first_after=1.0)]))
    usual = tts.handler("scripted").probe_timeout.seconds
    for _ in range(5):
        clock.skip_at(0.5, 20.0)
        await tts.synthesize("Good morning", format="pcm_8000")
    assert tts.handler("scripted").probe_timeout.seconds == usual


async def test_late_loop_starts_no_hedge() -> None:
    clock = SkippingClock()
    first, second = ScriptedProvider([Say(first_after=1.0)], name="first"), ScriptedProvider(name="second")
    tts = service(clock, first, second, hedging=HedgeConfig(minimum_samples=5, budget=1.0))
    for _ in range(10):
        await tts.synthesize("Good morning", format="pcm_8000")
    clock.skip_at(0.5, 5.0)
    await tts.synthesize("Good morning", format="pcm_8000")
    assert not second.requests


async def test_calls_in_flight_during_a_stall_are_not_hanging() -> None:
    clock = SkippingClock()
    tts = service(clock, ScriptedProvider([Say(first_after=1.0)]), circuit=CircuitBreakerConfig.adaptive())
    callers = [asyncio.create_task(tts.synthesize(f"Number {number}", format="pcm_8000")) for number in range(20)]
    await asyncio.sleep(0.5)
    clock.skip(30.0)
    assert (await tts.synthesize("One more", format="pcm_8000")).outcome in ("spoken", "muted")
    await asyncio.gather(*callers)
    assert tts.circuits["scripted"].snapshot().totals.failures == 0
    assert tts.get_error_state()["circuit_state"] == "closed"


async def test_deadline_missed_during_a_stall_is_an_overload_error() -> None:
    clock = SkippingClock()
    tts = service(clock, ScriptedProvider([Say(first_after=5.0)]))
    for moment in (0.5, 1.5, 2.5):
        clock.skip_at(moment, 2.0)
    with pytest.raises(TTSOverloadedError) as failed:
        await tts.synthesize("Good morning", format="pcm_8000", deadline=8.0)
    assert failed.value.retry_after
    assert totals(tts) == (0, 0)
    assert not tts.is_muted


async def test_starved_process_opens_no_circuit_and_mutes_nothing() -> None:
    clock = SkippingClock()
    tts = service(
        clock,
        ScriptedProvider([Say(first_after=5.0)]),
        ScriptedProvider([Say(first_after=1.0)], name="local", local=True),
    )
    outcomes = []
    for _ in range(20):
        for second in range(20):
            clock.skip_at(second / 2, 3.0)
        try:
            outcomes.append((await tts.synthesize("Good morning", format="pcm_8000", deadline=10.0)).outcome)
        except TTSOverloadedError:
            outcomes.append("failed")
        await asyncio.sleep(20)
    assert "muted" not in outcomes
    states = tts.get_error_state()["providers"]
    assert {state["circuit_state"] for state in states.values()} == {"closed"}
    assert sum(state["totals"]["failures"] for state in states.values()) == 0


class Unreachable(ScriptedProvider):
    """Provider that connects at the second try: the time of the first passed during a stall."""

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        self.requests.append(request)
        await asyncio.sleep(0.5)
        if len(self.requests) == 1:
            raise TTSConnectTimeoutError("no connection within 10 s")
        yield Accepted()
        yield AudioChunk(pcm(0.72))


async def test_connect_timeout_during_a_stall_counts_against_no_provider() -> None:
    clock = SkippingClock()
    provider = Unreachable()
    tts = service(clock, provider)
    clock.skip_at(0.2, 10.0)
    speech = await tts.synthesize("Good morning", format="pcm_8000")
    assert speech.outcome == "spoken"
    assert totals(tts) == (1, 0)


# ---------------------------------------------------------------- local voices


class Engine(ScriptedProvider):
    """Engine with a queue that all callers share."""

    def __init__(self, turn: float) -> None:
        super().__init__(name="engine", local=True)
        self.turn, self.lock = turn, asyncio.Lock()

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        self.requests.append(request)
        yield Accepted()
        for _ in range(4):
            yield Queued(waits=True)
            async with self.lock:
                yield Queued(waits=False)
                await asyncio.sleep(self.turn)
            yield AudioChunk(pcm(len(request.text) * 0.015))


async def test_time_in_the_engines_queue_is_not_slowness() -> None:
    engine = Engine(turn=0.5)
    tts = service(
        SkippingClock(), engine, timeouts=TimeoutConfig(first_audio_timeout=2.0, stall_timeout=2.0, slow_timeout=1.0)
    )
    speeches = await asyncio.gather(*(tts.synthesize(f"Number {n}", format="pcm_8000") for n in range(20)))
    assert {speech.outcome for speech in speeches} == {"spoken"}
    assert totals(tts) == (20, 0)


async def test_engine_that_hangs_is_still_detected() -> None:
    tts = service(SkippingClock(), Engine(turn=5.0), muted=False, timeouts=TimeoutConfig(first_audio_timeout=2.0))
    with pytest.raises(Exception, match="no audio within 2 s"):
        await tts.synthesize("Hello", format="pcm_8000", deadline=3.0)
    assert totals(tts)[1] >= 1


async def test_slow_local_voice_is_no_failure() -> None:
    tts = service(SkippingClock(), ScriptedProvider([Say(pieces=20, every=1.0)], name="local", local=True))
    chunks = [chunk async for chunk in tts.stream("Good morning", format="pcm_8000")]
    assert b"".join(chunks) == pcm(0.72)
    assert totals(tts) == (1, 0)


# ---------------------------------------------------------------- timers that ring late


class LateLoop(asyncio.SelectorEventLoop):
    """Real event loop, stalled by moving its clock."""

    skipped = 0.0

    def time(self) -> float:
        return time.monotonic() + self.skipped


@pytest.mark.looptime(enabled=False)
def test_late_timer_reads_the_socket_first() -> None:
    loop = LateLoop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    async def answer_during_stall() -> bytes:
        reader, writer = await asyncio.open_connection(sock=ours)

        def block() -> None:
            theirs.send(b"audio")
            loop.skipped += 60

        loop.call_soon(block)
        alarm = WaitTimer()
        try:
            return await alarm.wait(5.0, reader.read(100))
        finally:
            alarm.close()
            writer.close()
            await writer.wait_closed()

    try:
        assert loop.run_until_complete(answer_during_stall()) == b"audio"
    finally:
        theirs.close()
        loop.close()


@pytest.mark.looptime(enabled=False)
def test_late_timer_fires_when_nothing_came() -> None:
    loop = LateLoop()

    async def silent() -> None:
        loop.call_soon(lambda: setattr(loop, "skipped", 60.0))
        alarm = WaitTimer()
        with pytest.raises(TimeoutError):
            await alarm.wait(5.0, loop.create_future())
        assert alarm.expired
        alarm.close()

    try:
        loop.run_until_complete(silent())
    finally:
        loop.close()
