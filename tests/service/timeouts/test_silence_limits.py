"""Silence of an overdue provider counts against it, in whichever way its caller leaves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from looptime import new_event_loop

from steadyvoice import AsyncTTSService, CircuitBreakerConfig, TimeoutConfig, TTSService, TTSStreamInterruptedError
from steadyvoice.providers.base import Accepted, AudioChunk, Queued, SynthesisOffer
from steadyvoice.service.resilience.error_handler import TTSErrorHandler
from steadyvoice.service.resilience.latency import MIN_SAMPLES, SilenceLimits
from steadyvoice.speech.request import SpeechRequest

from ..conftest import BRIEF, MakeService, loop_clock
from ..hedging.late_provider import READY, USUAL, is_idle, late_provider, warm_up
from ..scripted_provider import Hang, Say, ScriptedProvider

pytestmark = [pytest.mark.looptime, pytest.mark.slow]

TEXT = "Good morning"
PCM = "pcm_8000"
HALF_OF_FOUR = CircuitBreakerConfig(failure_threshold=0.5, window_size=4, minimum_calls=4, cooldown_period=60)
NEVER_OPENS = CircuitBreakerConfig(consecutive_failures=1000, failure_threshold=None)

Leave = Callable[[AsyncTTSService, float], Awaitable[None]]


async def cancelled_task(tts: AsyncTTSService, after: float) -> None:
    task = asyncio.create_task(tts.synthesize(TEXT, format=PCM, hedging=False))
    await asyncio.sleep(after)
    task.cancel()
    await asyncio.wait({task})


async def timed_out_synthesize(tts: AsyncTTSService, after: float) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(tts.synthesize(TEXT, format=PCM), after)


async def timed_out_read(tts: AsyncTTSService, after: float) -> None:
    async with tts.stream(TEXT, format=PCM) as stream:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), after)


async def timed_out_read_of_raw_chunks(tts: AsyncTTSService, after: float) -> None:
    async with tts.stream(TEXT, format=PCM, on_midstream="error") as stream:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), after)


async def closed_by_another_task(tts: AsyncTTSService, after: float) -> None:
    stream = tts.stream(TEXT, format=PCM)
    reading = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(after)
    await stream.aclose()
    await asyncio.wait({reading})
    reading.exception()


async def timeout_block(tts: AsyncTTSService, after: float) -> None:
    with pytest.raises(TimeoutError):  # noqa: PT012 - what it takes
        async with asyncio.timeout(after):
            async for _ in tts.stream(TEXT, format=PCM):
                pass


async def task_group(tts: AsyncTTSService, after: float) -> None:
    async def fail() -> None:
        await asyncio.sleep(after)
        raise KeyError("elsewhere")

    with pytest.raises(ExceptionGroup):  # noqa: PT012 - what it takes
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(tts.synthesize(TEXT, format=PCM))


async def own_deadline(tts: AsyncTTSService, after: float) -> None:
    speech = await tts.synthesize(TEXT, format=PCM, deadline=after)
    assert speech.outcome == "muted"


LEAVING: list[Leave] = [
    cancelled_task,
    timed_out_synthesize,
    timed_out_read,
    timed_out_read_of_raw_chunks,
    closed_by_another_task,
    timeout_block,
    task_group,
    own_deadline,
]
leaving = pytest.mark.parametrize("leave", LEAVING, ids=lambda leave: leave.__name__)


def run_on_virtual_time(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine function in an event loop of its own, so that each example starts anew."""
    loop = new_event_loop(noop_cycles=1)
    try:
        loop.run_until_complete(story())
    finally:
        loop.close()


def state_of(tts: AsyncTTSService, name: str = "scripted") -> dict[str, Any]:
    state: dict[str, Any] = tts.get_error_state()["providers"][name]
    return state


@leaving
async def test_callers_leaving_a_silent_vendor_open_its_circuit(make_service: MakeService, leave: Leave) -> None:
    tts = make_service(ScriptedProvider([Hang()]), circuit=HALF_OF_FOUR)
    for count in range(1, 5):
        assert state_of(tts)["circuit_state"] == "closed"
        await leave(tts, 3.2)
        assert state_of(tts)["window"] == {"size": 4, "calls": count, "failures": count / 2}
    state = state_of(tts)
    assert state["circuit_state"] == "open"
    assert state["last_error"]["kind"] == "abandoned_in_silence"
    assert "3.2 s" in state["last_error"]["message"]
    assert state["consecutive_failures"] == 4
    assert is_idle(tts)


@leaving
async def test_impatient_callers_of_a_healthy_vendor_open_nothing(make_service: MakeService, leave: Leave) -> None:
    tts = make_service(ScriptedProvider([Say(first_after=1.5)]))
    for _ in range(10):
        await leave(tts, 1.0)
    state = state_of(tts)
    assert (state["circuit_state"], state["totals"]["failures"], state["totals"]["ignored"]) == ("closed", 0, 10)


@pytest.mark.parametrize("others", [[], [ScriptedProvider(name="second")]], ids=["alone", "with another"])
async def test_short_deadlines_of_a_healthy_vendor_open_nothing(others: list[ScriptedProvider]) -> None:
    providers = [ScriptedProvider([Say(first_after=1.5)]), *others]
    async with AsyncTTSService(providers, clock=loop_clock) as tts:
        for _ in range(10):
            await tts.synthesize(TEXT, format=PCM, deadline=1.0)
        state = state_of(tts)
    assert (state["circuit_state"], state["totals"]["failures"], state["totals"]["ignored"]) == ("closed", 0, 10)


@leaving
async def test_callers_leaving_early_raise_the_limit(make_service: MakeService, leave: Leave) -> None:
    tts = make_service(ScriptedProvider([*[Say(first_after=1.0)] * MIN_SAMPLES, Hang()]))
    for _ in range(MIN_SAMPLES):
        await tts.synthesize(TEXT, format=PCM)
    await leave(tts, 1.4)
    assert state_of(tts)["overdue_after_by_voice"] == {"scripted-voice": pytest.approx(2.1)}


@leaving
async def test_learned_limit_applies_once_it_is_known(make_service: MakeService, leave: Leave) -> None:
    tts = make_service(ScriptedProvider([*[Say(first_after=1.0)] * MIN_SAMPLES, Hang()]))
    for _ in range(MIN_SAMPLES):
        await tts.synthesize(TEXT, format=PCM)
    assert state_of(tts)["overdue_after_by_voice"] == {"scripted-voice": pytest.approx(1.5)}
    await leave(tts, 1.4)
    assert state_of(tts)["totals"]["failures"] == 0
    await leave(tts, 2.2)
    assert state_of(tts)["totals"]["failures"] == 1
    assert state_of(tts)["last_error"]["kind"] == "abandoned_in_silence"


@leaving
async def test_slow_vendor_has_a_higher_limit(make_service: MakeService, leave: Leave) -> None:
    tts = make_service(ScriptedProvider([*[Say(first_after=4.0)] * MIN_SAMPLES, Hang()]))
    for _ in range(MIN_SAMPLES):
        await tts.synthesize(TEXT, format=PCM)
    for _ in range(10):
        await leave(tts, 5.5)
    assert state_of(tts)["totals"]["failures"] == 0


async def test_adaptive_circuit_learns_from_callers_leaving(make_service: MakeService) -> None:
    tts = make_service(
        ScriptedProvider([Hang()]), ScriptedProvider(name="second"), circuit=CircuitBreakerConfig.adaptive()
    )
    abandoned = 0
    while state_of(tts)["circuit_state"] == "closed":
        await cancelled_task(tts, 3.1)
        abandoned += 1
    assert abandoned <= 14
    assert (await tts.synthesize(TEXT, format=PCM)).provider == "second"


async def test_adaptive_circuit_counts_half_for_a_call_held_as_hanging(make_service: MakeService) -> None:
    vendor = ScriptedProvider([*[Say(first_after=0.2)] * 120, Hang()])
    tts = make_service(vendor, circuit=CircuitBreakerConfig.adaptive())
    for _ in range(120):
        await tts.synthesize(TEXT, format=PCM)
    await asyncio.sleep(60)
    task = asyncio.create_task(tts.synthesize(TEXT, format=PCM))
    await asyncio.sleep(5.0)
    await tts.synthesize(TEXT, format=PCM, deadline=0.3)  # somebody has to come by for the circuit to notice
    assert state_of(tts)["window"]["failures"] == 1
    task.cancel()
    await asyncio.wait({task})
    assert state_of(tts)["window"]["failures"] == 0.5


@given(st.lists(st.floats(0.1, 8.0), max_size=40), st.integers(0, 10), st.integers(0, len(LEAVING) - 2))
@settings(max_examples=10)
def test_dead_vendor_is_noticed_however_patient_its_callers(patiences: list[float], warm: int, how: int) -> None:
    async def story() -> None:
        acts = [Say(first_after=0.8)] * warm
        tts = AsyncTTSService([ScriptedProvider([*acts, Hang()])], clock=loop_clock, circuit=HALF_OF_FOUR)
        for _ in range(warm):
            await tts.synthesize(TEXT, format=PCM)
        overdue = 0
        for patience in patiences:
            overdue += patience > 3.0
            await LEAVING[how](tts, patience)
            if state_of(tts)["circuit_state"] == "open":
                return
            assert overdue < 4, "that is as many as the window holds"

    run_on_virtual_time(story)


class TwoVoices(ScriptedProvider):
    """Provider with two voices: "quick" speaks at once, "slow" after four seconds, or not at all when `dead`."""

    dead = False

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        act = Hang() if self.dead else Say(first_after=4.0 if request.voice == "slow" else 0.2)
        self._acts = [act]
        async for event in super().speak(request, offer, connection_timeout=connection_timeout):
            yield event

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        found = super().offer(request)
        return SynthesisOffer(found.format, voice=request.voice, knows_voice=True)


async def test_each_voice_has_its_own_limit(make_service: MakeService) -> None:
    vendor = TwoVoices()
    tts = make_service(vendor, circuit=NEVER_OPENS)
    for voice in ("slow", "quick"):
        for _ in range(MIN_SAMPLES):
            await tts.synthesize(TEXT, format=PCM, voice=voice)
    assert state_of(tts)["overdue_after_by_voice"] == {"slow": pytest.approx(6), "quick": pytest.approx(0.5)}
    vendor.dead = True
    failures = []
    for voice, patience in (("slow", 5.0), ("quick", 1.0), ("new", 2.9), ("new", 3.1), ("slow", 6.1)):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(tts.synthesize(TEXT, format=PCM, voice=voice), patience)
        failures.append(state_of(tts)["totals"]["failures"])
    assert failures == [0, 1, 1, 2, 3]


async def test_default_limit_can_be_changed_at_run_time(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Hang()]), timeouts=TimeoutConfig(overdue_after=6.0))
    assert state_of(tts)["overdue_after"] == 6.0
    await cancelled_task(tts, 5.0)
    assert state_of(tts)["totals"]["failures"] == 0
    await tts.reconfigure(timeouts=TimeoutConfig(overdue_after=1.0))
    assert state_of(tts)["overdue_after"] == 1.0
    await cancelled_task(tts, 1.5)
    assert state_of(tts)["totals"]["failures"] == 1


async def test_factor_comes_from_the_circuit(make_service: MakeService) -> None:
    config = CircuitBreakerConfig(hung_after=30, hung_factor=4.0, window_size=4)
    tts = make_service(ScriptedProvider([*[Say(first_after=1.0)] * MIN_SAMPLES, Hang()]), circuit=config)
    for _ in range(MIN_SAMPLES):
        await tts.synthesize(TEXT, format=PCM)
    await cancelled_task(tts, 3.9)
    assert state_of(tts)["totals"]["failures"] == 0
    await cancelled_task(tts, 4.1)
    assert state_of(tts)["totals"]["failures"] == 1


async def test_abandoned_attempt_is_named_in_the_report(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Hang()]))
    kinds = []
    for patience in (1.0, 3.5):
        stream = tts.stream(TEXT, format=PCM)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), patience)
        assert stream.outcome == "interrupted"
        (attempt,) = stream.attempts
        assert attempt.error
        kinds.append(attempt.error.kind.value)
    assert kinds == ["cancelled", "abandoned_in_silence"]
    assert state_of(tts)["bills"]["wasted_by"] == dict.fromkeys(kinds, len(TEXT))


async def test_time_in_the_queue_is_not_silence(make_service: MakeService) -> None:
    from steadyvoice.providers.base import Credential

    class OneAtATime(ScriptedProvider):
        credential = Credential("account", max_concurrency=1)

    tts = make_service(OneAtATime([Say(seconds=30.0, pieces=30, every=1.0)]))
    first = asyncio.create_task(tts.synthesize(TEXT * 40, format=PCM))
    await asyncio.sleep(0)
    await cancelled_task(tts, 10.0)
    await first
    totals = state_of(tts)["totals"]
    assert (totals["successes"], totals["failures"]) == (1, 0)


async def test_time_in_the_engines_queue_is_not_silence(make_service: MakeService) -> None:
    class Queueing(ScriptedProvider):
        async def speak(
            self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
        ) -> AsyncGenerator[Accepted | AudioChunk, None]:
            yield Accepted()
            yield Queued(waits=True)
            await asyncio.Event().wait()

    tts = make_service(Queueing(local=True))
    await cancelled_task(tts, 10.0)
    assert state_of(tts)["totals"]["failures"] == 0


async def test_time_of_the_consumer_is_not_silence(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Say(seconds=2.0, pieces=4, every=0.1)]))
    stream = tts.stream(TEXT, format=PCM, on_midstream="error")
    await anext(stream)
    await asyncio.sleep(60)
    await stream.aclose()
    totals = state_of(tts)["totals"]
    assert (totals["successes"], totals["failures"]) == (1, 0)


async def test_listener_leaving_a_dead_stream_counts(make_service: MakeService) -> None:
    stalled = Say(seconds=4.0, pieces=2, every=100.0)
    tts = make_service(ScriptedProvider([stalled]), circuit=NEVER_OPENS)
    failures = []
    for patience in (1.5, 2.5, 3.5):  # two seconds of audio are in hand, and three of silence may be
        stream = tts.stream(TEXT, format=PCM, on_midstream="error")
        await anext(stream)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), patience)
        await stream.aclose()
        failures.append(state_of(tts)["totals"]["failures"])
    assert failures == [0, 0, 1]
    assert state_of(tts)["totals"]["successes"] == 2


async def test_vendor_ahead_of_playback_is_not_silent(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Say(seconds=40.0, pieces=2, every=100.0)]))
    stream = tts.stream(TEXT * 60, format=PCM, on_midstream="error")
    with pytest.raises(TimeoutError):  # noqa: PT012 - what it takes
        while True:
            await asyncio.wait_for(anext(stream), 15.0)
    assert state_of(tts)["totals"]["failures"] == 0


async def test_abandoned_overdue_probe_has_failed(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Hang()]))
    for _ in range(4):
        await cancelled_task(tts, 3.2)
    await asyncio.sleep(60)
    await cancelled_task(tts, 1.0)
    assert state_of(tts)["circuit_state"] == "half_open"
    await cancelled_task(tts, 3.2)
    assert state_of(tts)["circuit_state"] == "open"
    assert state_of(tts)["last_error"]["kind"] == "abandoned_in_silence"


async def test_probe_whose_lease_expired_fails_once(make_service: MakeService) -> None:
    circuit = CircuitBreakerConfig(failure_threshold=0.5, window_size=4, cooldown_period=60, half_open_timeout=5)
    tts = make_service(ScriptedProvider([Hang()]), circuit=circuit)
    for _ in range(4):
        await cancelled_task(tts, 3.2)
    await asyncio.sleep(60)
    before = state_of(tts)["totals"]["failures"]
    probing = asyncio.create_task(cancelled_task(tts, 8.0))
    await asyncio.sleep(6.0)
    await tts.synthesize(TEXT, format=PCM)  # muted; somebody has to come by for the lease to end
    await probing
    assert state_of(tts)["totals"]["failures"] == before + 1
    assert state_of(tts)["circuit_state"] == "open"


async def test_caller_leaving_a_hedged_call_counts_against_both(make_service: MakeService) -> None:
    tts = await warm_up(make_service(late_provider(Hang()), ScriptedProvider([Hang()], name="second"), hedging=READY))
    await timed_out_synthesize(tts, 4.0)
    assert state_of(tts, "first")["last_error"]["kind"] == "abandoned_in_silence"
    assert state_of(tts, "second")["last_error"]["kind"] == "abandoned_in_silence"
    assert is_idle(tts)


async def test_overdue_provider_counts_half_when_its_hedge_wins(make_service: MakeService) -> None:
    one = make_service(
        late_provider(Say(first_after=0.3)), ScriptedProvider([Say(first_after=0.1)], name="second"), hedging=READY
    )
    await warm_up(one)
    await one.synthesize("Good morning, is anybody there?", format=PCM)  # in time, but the hedge was sooner
    assert state_of(one, "first")["totals"]["failures"] == 0
    other = make_service(late_provider(Hang()), ScriptedProvider([Say(first_after=4.0)], name="second"), hedging=READY)
    await warm_up(other)
    speech = await other.synthesize("Good morning, is anybody there?", format=PCM)
    assert speech.provider == "second"
    assert [attempt.error and attempt.error.kind.value for attempt in speech.attempts] == ["hedged", None]
    assert state_of(other, "first")["window"]["failures"] == 0.5
    assert len(USUAL) < MIN_SAMPLES  # so that the limit was that of an unknown voice


async def test_closing_service_counts_overdue_silence(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Hang()]))
    tasks = [asyncio.ensure_future(anext(tts.stream(TEXT, format=PCM))) for _ in range(2)]
    await asyncio.sleep(1.0)
    tasks.append(asyncio.ensure_future(anext(tts.stream(TEXT, format=PCM))))
    await asyncio.sleep(2.5)
    await tts.aclose()
    await asyncio.wait(tasks)
    assert all(task.exception() for task in tasks)
    totals = state_of(tts)["totals"]
    assert (totals["failures"], totals["ignored"]) == (2, 1)


async def test_short_deadline_is_shared_with_the_next_provider(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Hang()], name="first"), ScriptedProvider(name="second"))
    speech = await tts.synthesize(TEXT, format=PCM, deadline=4.5)
    assert speech.provider == "second"
    assert [attempt.error and attempt.error.kind.value for attempt in speech.attempts] == ["abandoned_in_silence", None]
    assert state_of(tts, "first")["window"]["failures"] == 0.5


@pytest.mark.slow
def test_stream_closed_by_another_thread_counts() -> None:
    with TTSService([ScriptedProvider([Hang()])], timeouts=TimeoutConfig(overdue_after=0.1), circuit=BRIEF) as tts:
        stream = tts.stream(TEXT, format=PCM)
        ended: list[type[BaseException]] = []

        def read() -> None:
            try:
                next(stream)
            except BaseException as error:
                ended.append(type(error))

        reader = threading.Thread(target=read)
        reader.start()
        reader.join(1.5)  # of which a busy machine may lose most
        stream.close()
        reader.join()
        assert ended == [TTSStreamInterruptedError]
        assert tts.get_error_state()["window"]["failures"] == 0.5


def test_impatient_callers_do_not_lower_the_limit() -> None:
    times = SilenceLimits().for_offer(SynthesisOffer(None, voice="a"))  # type: ignore[arg-type]
    for _ in range(50):
        times.record(0.2)
        times.record_abandoned(1.0)
    assert times.limit(3.0) == pytest.approx(1.5)
    for _ in range(50):
        times.record(0.2)
        times.record_abandoned(40.0)
    assert times.limit(3.0) == 3.0


@pytest.mark.slow
@given(
    slowest=st.floats(0.05, 12.0),
    draws=st.lists(st.tuples(st.floats(0.67, 1.0), st.floats(0.0, 1.0), st.integers(0, len(LEAVING) - 2)), max_size=30),
    warm=st.integers(0, 8),
)
@settings(max_examples=15)
def test_no_healthy_vendor_is_harmed_by_callers_leaving(
    slowest: float, draws: list[tuple[float, float, int]], warm: int
) -> None:
    """First audios vary by half, and come within three seconds or are known."""

    async def story() -> None:
        most = slowest if warm >= MIN_SAMPLES else slowest / 4
        acts = [Say(first_after=most)] * warm + [Say(first_after=most * share) for share, _, _ in draws]
        tts = AsyncTTSService([ScriptedProvider(acts or [Say()])], clock=loop_clock, circuit=BRIEF)
        for _ in range(warm):
            await tts.synthesize(TEXT, format=PCM)
        for _, patience, how in draws:
            task = asyncio.ensure_future(LEAVING[how](tts, max(patience * most, 0.01)))
            await asyncio.wait({task})
            task.exception()  # those that were answered in time did not leave
        assert tts.get_error_state()["totals"]["failures"] == 0

    run_on_virtual_time(story)


@pytest.mark.parametrize(("patience", "failures"), [(2.9, 0), (3.5, 2)])
async def test_overdue_operation_counts_once_when_its_callers_leave(patience: float, failures: float) -> None:
    handler = TTSErrorHandler("vendor", NEVER_OPENS, clock=loop_clock)
    for _ in range(4):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handler.execute_with_retry(asyncio.Event().wait), patience)
    assert handler.circuit.snapshot().failures == failures
