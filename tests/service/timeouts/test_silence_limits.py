"""A provider's silence counts whoever ends it: callers who leave when it was overdue, in each way there is to leave."""

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

pytestmark = pytest.mark.looptime

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
    """Run it in an event loop of its own: each example of a property begins anew."""
    loop = new_event_loop()
    try:
        loop.run_until_complete(story())
    finally:
        loop.close()


def state_of(tts: AsyncTTSService, name: str = "scripted") -> dict[str, Any]:
    state: dict[str, Any] = tts.get_error_state()["providers"][name]
    return state


@leaving
async def test_callers_who_give_up_on_a_silent_vendor_open_its_circuit(make_service: MakeService, leave: Leave) -> None:
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
async def test_impatient_deadlines_of_a_healthy_vendor_open_nothing(others: list[ScriptedProvider]) -> None:
    providers = [ScriptedProvider([Say(first_after=1.5)]), *others]
    async with AsyncTTSService(providers, clock=loop_clock) as tts:
        for _ in range(10):
            await tts.synthesize(TEXT, format=PCM, deadline=1.0)
        state = state_of(tts)
    assert (state["circuit_state"], state["totals"]["failures"], state["totals"]["ignored"]) == ("closed", 0, 10)


@leaving
async def test_whoever_leaves_early_teaches_how_long_the_vendor_may_take(
    make_service: MakeService, leave: Leave
) -> None:
    tts = make_service(ScriptedProvider([*[Say(first_after=1.0)] * MIN_SAMPLES, Hang()]))
    for _ in range(MIN_SAMPLES):
        await tts.synthesize(TEXT, format=PCM)
    await leave(tts, 1.4)
    assert state_of(tts)["overdue_after_by_voice"] == {"scripted-voice": pytest.approx(2.1)}


@leaving
async def test_what_the_vendor_usually_takes_decides_once_it_is_known(make_service: MakeService, leave: Leave) -> None:
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
async def test_callers_of_a_slow_vendor_may_wait_longer_than_usual_elsewhere(
    make_service: MakeService, leave: Leave
) -> None:
    tts = make_service(ScriptedProvider([*[Say(first_after=4.0)] * MIN_SAMPLES, Hang()]))
    for _ in range(MIN_SAMPLES):
        await tts.synthesize(TEXT, format=PCM)
    for _ in range(10):
        await leave(tts, 5.5)
    assert state_of(tts)["totals"]["failures"] == 0


async def test_the_adaptive_circuit_learns_from_callers_who_give_up(make_service: MakeService) -> None:
    tts = make_service(
        ScriptedProvider([Hang()]), ScriptedProvider(name="second"), circuit=CircuitBreakerConfig.adaptive()
    )
    abandoned = 0
    while state_of(tts)["circuit_state"] == "closed":
        await cancelled_task(tts, 3.1)
        abandoned += 1
    assert abandoned <= 14
    assert (await tts.synthesize(TEXT, format=PCM)).provider == "second"


async def test_the_adaptive_circuit_takes_half_of_a_call_that_it_held_for_hanging(make_service: MakeService) -> None:
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
def test_a_dead_vendor_is_noticed_whatever_patience_its_callers_have(
    patiences: list[float], warm: int, how: int
) -> None:
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
    """Speaks as the voice that is asked for: "quick" at once, "slow" after four seconds, or not at all when `dead`."""

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


async def test_the_limit_for_unknown_voices_is_configurable_at_run_time(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Hang()]), timeouts=TimeoutConfig(overdue_after=6.0))
    assert state_of(tts)["overdue_after"] == 6.0
    await cancelled_task(tts, 5.0)
    assert state_of(tts)["totals"]["failures"] == 0
    await tts.reconfigure(timeouts=TimeoutConfig(overdue_after=1.0))
    assert state_of(tts)["overdue_after"] == 1.0
    await cancelled_task(tts, 1.5)
    assert state_of(tts)["totals"]["failures"] == 1


async def test_the_factor_is_the_circuits_own(make_service: MakeService) -> None:
    config = CircuitBreakerConfig(hung_after=30, hung_factor=4.0, window_size=4)
    tts = make_service(ScriptedProvider([*[Say(first_after=1.0)] * MIN_SAMPLES, Hang()]), circuit=config)
    for _ in range(MIN_SAMPLES):
        await tts.synthesize(TEXT, format=PCM)
    await cancelled_task(tts, 3.9)
    assert state_of(tts)["totals"]["failures"] == 0
    await cancelled_task(tts, 4.1)
    assert state_of(tts)["totals"]["failures"] == 1


async def test_an_abandoned_attempt_is_named_in_the_account(make_service: MakeService) -> None:
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


async def test_waiting_for_a_slot_is_not_the_vendors_silence(make_service: MakeService) -> None:
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


async def test_waiting_for_an_engine_of_ours_is_not_its_silence(make_service: MakeService) -> None:
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


async def test_time_with_the_listener_is_not_the_vendors_silence(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Say(seconds=2.0, pieces=4, every=0.1)]))
    stream = tts.stream(TEXT, format=PCM, on_midstream="error")
    await anext(stream)
    await asyncio.sleep(60)
    await stream.aclose()
    totals = state_of(tts)["totals"]
    assert (totals["successes"], totals["failures"]) == (1, 0)


async def test_a_listener_who_leaves_a_dead_stream_is_evidence_too(make_service: MakeService) -> None:
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


async def test_a_vendor_that_sends_ahead_of_what_is_played_is_not_silent(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Say(seconds=40.0, pieces=2, every=100.0)]))
    stream = tts.stream(TEXT * 60, format=PCM, on_midstream="error")
    with pytest.raises(TimeoutError):  # noqa: PT012 - what it takes
        while True:
            await asyncio.wait_for(anext(stream), 15.0)
    assert state_of(tts)["totals"]["failures"] == 0


async def test_an_overdue_probe_that_is_abandoned_has_failed(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Hang()]))
    for _ in range(4):
        await cancelled_task(tts, 3.2)
    await asyncio.sleep(60)
    await cancelled_task(tts, 1.0)
    assert state_of(tts)["circuit_state"] == "half_open"
    await cancelled_task(tts, 3.2)
    assert state_of(tts)["circuit_state"] == "open"
    assert state_of(tts)["last_error"]["kind"] == "abandoned_in_silence"


async def test_a_probe_whose_lease_has_ended_fails_once(make_service: MakeService) -> None:
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


async def test_callers_of_a_hedged_call_who_leave_are_evidence_against_both(make_service: MakeService) -> None:
    tts = await warm_up(make_service(late_provider(Hang()), ScriptedProvider([Hang()], name="second"), hedging=READY))
    await timed_out_synthesize(tts, 4.0)
    assert state_of(tts, "first")["last_error"]["kind"] == "abandoned_in_silence"
    assert state_of(tts, "second")["last_error"]["kind"] == "abandoned_in_silence"
    assert is_idle(tts)


async def test_a_provider_that_was_overdue_when_its_hedge_was_heard_counts_half(make_service: MakeService) -> None:
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


async def test_a_closing_service_takes_the_silence_for_what_it_was(make_service: MakeService) -> None:
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


async def test_with_another_provider_left_a_hurried_deadline_is_shared(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Hang()], name="first"), ScriptedProvider(name="second"))
    speech = await tts.synthesize(TEXT, format=PCM, deadline=4.5)
    assert speech.provider == "second"
    assert [attempt.error and attempt.error.kind.value for attempt in speech.attempts] == ["abandoned_in_silence", None]
    assert state_of(tts, "first")["window"]["failures"] == 0.5


@pytest.mark.slow
def test_a_stream_that_another_thread_closes_is_evidence_too() -> None:
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


def test_callers_in_a_hurry_do_not_make_a_vendor_look_quick() -> None:
    times = SilenceLimits().for_offer(SynthesisOffer(None, voice="a"))  # type: ignore[arg-type]
    for _ in range(50):
        times.record(0.2)
        times.record_abandoned(1.0)
    assert times.limit(3.0) == pytest.approx(1.5)
    for _ in range(50):
        times.record(0.2)
        times.record_abandoned(40.0)
    assert times.limit(3.0) == 3.0


@given(
    slowest=st.floats(0.05, 12.0),
    draws=st.lists(st.tuples(st.floats(0.67, 1.0), st.floats(0.0, 1.0), st.integers(0, len(LEAVING) - 2)), max_size=30),
    warm=st.integers(0, 8),
)
@settings(max_examples=15)
def test_no_healthy_vendor_is_harmed_by_callers_who_leave(
    slowest: float, draws: list[tuple[float, float, int]], warm: int
) -> None:
    """Its first audios lie within half as long again, and are known or come within three seconds."""

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
async def test_callers_who_give_up_on_a_silent_operation_count_once_it_is_overdue(
    patience: float, failures: float
) -> None:
    handler = TTSErrorHandler("vendor", NEVER_OPENS, clock=loop_clock)
    for _ in range(4):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handler.execute_with_retry(asyncio.Event().wait), patience)
    assert handler.circuit.snapshot().failures == failures
