"""Two are asked when the first is late: one is heard, the other hung up on, and it is on the books."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from steadyvoice import (
    Accepted,
    AsyncTTSService,
    Audio,
    CircuitBreakerConfig,
    Credential,
    HedgeConfig,
    Offer,
    RetryConfig,
    SpeechRequest,
    TimeoutConfig,
    TTSConfigurationError,
    TTSError,
    TTSStreamInterruptedError,
)
from steadyvoice.audio.listening import words_in
from steadyvoice.service.bills import Charge
from steadyvoice.speech.errors import TTSBadRequestError, TTSHedgedError, TTSReadTimeoutError, TTSServerError

from .conftest import MakeService, loop_clock
from .scripted import Hang, Say, Scripted, pcm
from .tonal import Fault, Tonal

pytestmark = pytest.mark.looptime

TEXT = "Good morning, is anybody there?"
DOWN = TTSServerError("HTTP 503", status=503)
READY = HedgeConfig(minimum_samples=4, budget=1.0)
USUAL = [Say(first_after=0.1)] * 4
"""What the first provider says before it is late: its own 95th percentile is then a tenth of a second."""

ONCE = RetryConfig(max_attempts=1)


def late(*acts: Any, **more: Any) -> Scripted:
    return Scripted([*USUAL, *acts], name="first", **more)


async def warmed(tts: AsyncTTSService) -> AsyncTTSService:
    for _ in USUAL:
        assert (await tts.synthesize(TEXT, format="pcm_8000")).provider == "first"
    return tts


def hedges(tts: AsyncTTSService) -> tuple[int, int, int]:
    state = tts.get_error_state()["hedging"]
    return state["started"], state["won"], state["lost"]


def quiet(tts: AsyncTTSService) -> bool:
    """Nobody runs, nobody waits, and nothing is open."""
    states = tts.get_error_state()["providers"].values()
    places = [(state["concurrency"]["in_use"], state["concurrency"]["waiting"]) for state in states]
    permits = sum(circuit.snapshot().in_flight or 0 for circuit in tts.circuits.values())
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    return places == [(0, 0)] * len(places) and not permits and not tasks


async def test_who_is_late_is_overtaken_and_both_are_on_the_account(make_service: MakeService) -> None:
    first, second = late(Hang()), Scripted(name="second")
    tts = await warmed(make_service(first, second, hedging=READY))
    began = loop_clock()
    speech = await tts.synthesize(TEXT, format="pcm_8000")
    assert loop_clock() - began == pytest.approx(0.2, abs=0.01), "a tenth of a second for each"
    assert (speech.outcome, speech.provider) == ("substituted", "second")
    loser, winner = speech.attempts
    assert (loser.provider, loser.hedge, type(loser.error)) == ("first", False, TTSHedgedError)
    assert loser.waited == pytest.approx(0.2, abs=0.01)
    assert (winner.provider, winner.hedge, winner.error) == ("second", True, None)
    assert (loser.bill.charge, loser.bill.wasted) == (Charge.BILLED, len(TEXT))
    assert (speech.billed, speech.wasted) == (2 * len(TEXT), len(TEXT))
    assert tts.get_error_state()["bills"]["wasted_by"] == {"hedged": len(TEXT)}
    assert hedges(tts) == (1, 1, 0)


async def test_the_log_tells_of_it(make_service: MakeService, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="steadyvoice.calls")
    tts = await warmed(make_service(late(Hang()), Scripted(name="second"), hedging=READY))
    caplog.clear()
    await tts.synthesize(TEXT, format="pcm_8000")
    assert [record.getMessage() for record in caplog.records] == [
        "first is late: no sound for 0.10 s; second is asked as well",
        "first is hung up on after 0.20 s: another was heard first",
        "substituted: 1.86 s of audio by second in 2 attempts",
    ]


async def test_the_late_one_counts_as_neither_failure_nor_success_and_is_hung_up_on_at_once(
    make_service: MakeService,
) -> None:
    first, second = late(Hang()), Scripted([Say(4.0, every=1.0)], name="second")
    tts = await warmed(make_service(first, second, hedging=READY))
    stream = tts.stream(TEXT, format="pcm_8000", on_midstream="error")
    assert await anext(stream)
    await asyncio.sleep(0.0)
    assert first.cut_short == 1, "while the other is still speaking"
    state = tts.get_error_state()
    assert state["concurrency"]["in_use"] == 0
    totals = state["totals"]
    assert (totals["successes"], totals["failures"], totals["ignored"]) == (4, 0, 1)
    assert state["consecutive_failures"] == 0
    assert [chunk async for chunk in stream]
    assert quiet(tts)


async def test_a_first_that_speaks_after_all_is_heard_and_the_hedge_pays(make_service: MakeService) -> None:
    first, second = late(Say(first_after=0.3)), Scripted([Hang()], name="second")
    tts = await warmed(make_service(first, second, hedging=READY))
    speech = await tts.synthesize(TEXT, format="pcm_8000")
    assert (speech.outcome, speech.provider) == ("spoken", "first")
    loser, winner = speech.attempts
    assert (loser.provider, loser.hedge, type(loser.error)) == ("second", True, TTSHedgedError)
    assert (winner.provider, winner.hedge, winner.error) == ("first", False, None)
    assert tts.get_error_state()["providers"]["second"]["bills"]["wasted_by"] == {"hedged": len(TEXT)}
    assert tts.get_error_state()["providers"]["second"]["totals"]["ignored"] == 1
    assert hedges(tts) == (1, 0, 1)
    assert quiet(tts)


async def test_when_both_speak_in_the_same_instant_the_first_is_heard(make_service: MakeService) -> None:
    first, second = late(Say(first_after=0.201)), Scripted([Say(first_after=0.1)], name="second")
    tts = await warmed(make_service(first, second, hedging=READY))
    stream = tts.stream(TEXT, format="pcm_8000", on_midstream="error")
    assert [chunk async for chunk in stream]
    assert stream.provider == "first"
    state = tts.get_error_state()["providers"]["second"]
    assert (state["totals"]["successes"], state["totals"]["ignored"]) == (0, 1)
    assert state["bills"]["wasted_by"] == {"hedged": len(TEXT)}, "it spoke to nobody"
    assert quiet(tts)


async def test_who_is_in_time_is_not_raced(make_service: MakeService) -> None:
    first, second = late(), Scripted(name="second")
    tts = await warmed(make_service(first, second, hedging=READY))
    await tts.synthesize(TEXT, format="pcm_8000")
    assert not second.asked


async def test_nobody_races_before_enough_is_known_or_unless_asked_for(make_service: MakeService) -> None:
    for settings in ({"hedging": HedgeConfig(minimum_samples=5, budget=1.0)}, {}):
        first, second = late(Say(first_after=5.0)), Scripted(name="second")
        tts = await warmed(make_service(first, second, **settings))
        assert (await tts.synthesize(TEXT, format="pcm_8000")).provider == "first"
        assert not second.asked


async def test_one_call_can_do_without(make_service: MakeService) -> None:
    first, second = late(Say(first_after=5.0)), Scripted(name="second")
    tts = await warmed(make_service(first, second, hedging=READY))
    assert (await tts.synthesize(TEXT, format="pcm_8000", hedging=False)).provider == "first"
    assert not second.asked
    with pytest.raises(TTSConfigurationError, match="hedging: must be True or False in a call, got 'no'"):
        await tts.synthesize(TEXT, hedging="no")  # type: ignore[arg-type]


async def test_when_the_first_fails_the_hedge_is_the_attempt_and_no_third_is_asked(make_service: MakeService) -> None:
    class Dies(Scripted):
        async def speak(self, request: SpeechRequest, offer: Offer, **kwargs: float) -> AsyncGenerator[Any, None]:
            if len(self.asked) == len(USUAL):
                self.asked.append(request)
                await asyncio.sleep(0.5)
                raise DOWN
            async for event in super().speak(request, offer, **kwargs):
                yield event

    first, second, third = Dies(USUAL, name="first"), Scripted([Say(first_after=2.0)], name="second"), Scripted()
    tts = await warmed(make_service(first, second, third, hedging=READY))
    speech = await tts.synthesize(TEXT, format="pcm_8000")
    assert [(a.provider, a.hedge, a.error) for a in speech.attempts] == [("first", False, DOWN), ("second", True, None)]
    assert len(first.asked) == 5, "nor is it asked again"
    assert not third.asked
    assert tts.get_error_state()["totals"]["failures"] == 1
    assert hedges(tts) == (1, 1, 0)


@pytest.mark.parametrize("trouble", [DOWN, TTSBadRequestError("no such option", status=400)])
async def test_a_hedge_that_fails_leaves_the_first_to_speak(make_service: MakeService, trouble: TTSError) -> None:
    first, second, third = late(Say(first_after=1.0)), Scripted([trouble], name="second"), Scripted()
    tts = await warmed(make_service(first, second, third, hedging=READY))
    speech = await tts.synthesize(TEXT, format="pcm_8000")
    assert [(a.provider, a.error) for a in speech.attempts] == [("second", trouble), ("first", None)]
    assert not third.asked
    assert hedges(tts) == (1, 0, 1)


async def test_when_both_fail_the_next_goes_on_and_the_time_was_spent_once(make_service: MakeService) -> None:
    first, second, third = late(Hang()), Scripted([Hang()], name="second"), Scripted()
    timeouts = TimeoutConfig(first_audio_timeout=2.0, total_timeout=45.0)
    tts = await warmed(make_service(first, second, third, hedging=READY, timeouts=timeouts))
    began = loop_clock()
    stream = tts.stream(TEXT, format="pcm_8000", on_midstream="error")
    assert [chunk async for chunk in stream]
    assert [(a.provider, type(a.error)) for a in stream.attempts] == [
        ("first", TTSReadTimeoutError),
        ("second", TTSReadTimeoutError),
        ("scripted", type(None)),
    ]
    assert [a.waited for a in stream.attempts] == pytest.approx([2.0, 2.0, 0.1])
    assert loop_clock() - began == pytest.approx(2.2, abs=0.01), "each has its own two seconds"
    assert stream._utterance._patience.spent == pytest.approx(2.2, abs=0.01)  # type: ignore[union-attr]


async def test_what_a_hedge_took_and_brought_is_the_utterances_own(make_service: MakeService) -> None:
    first, third = late(Hang()), Scripted([Say(2.0)])
    second = Scripted([Say(2.0, pieces=2, every=0.7, then=TTSServerError("broke off"))], name="second")
    tts = await warmed(make_service(first, second, third, hedging=READY))
    began = loop_clock()
    stream = tts.stream(TEXT, format="pcm_8000", on_midstream="restart")
    assert [chunk async for chunk in stream]
    assert [attempt.provider for attempt in stream.attempts] == ["first", "second", "scripted"]
    patience = stream._utterance._patience  # type: ignore[union-attr]
    assert patience.spent == pytest.approx(loop_clock() - began) == pytest.approx(1.0, abs=0.01)
    assert (patience.delivered, stream._utterance.delivered) == (4.0, 4.0)


async def test_the_deadline_is_the_same_for_both(make_service: MakeService) -> None:
    first, second = late(Hang()), Scripted([Hang()], name="second")
    tts = await warmed(make_service(first, second, hedging=READY, retry=ONCE))
    began = loop_clock()
    speech = await tts.synthesize(TEXT, format="pcm_8000", deadline=3.0)
    assert speech.outcome == "muted"
    assert loop_clock() - began == pytest.approx(3.0)
    assert quiet(tts)


async def test_a_caller_without_time_does_not_get_a_hedge(make_service: MakeService) -> None:
    first, second = late(Hang()), Scripted([Hang()], name="second")
    tts = await warmed(make_service(first, second, hedging=READY, retry=ONCE))
    speech = await tts.synthesize(TEXT, format="pcm_8000", deadline=0.1)
    assert not any(attempt.hedge for attempt in speech.attempts)


async def test_the_budget_is_kept_and_what_it_refuses_is_counted(make_service: MakeService) -> None:
    first, second = late(Say(first_after=0.3)), Scripted([Hang()], name="second")
    tts = await warmed(make_service(first, second, hedging=HedgeConfig(percentile=0.7, minimum_samples=4, budget=0.25)))
    for _ in range(8):
        await tts.synthesize(TEXT, format="pcm_8000")
        first._acts = [*USUAL[:3], *first._acts]  # it stays the exception
        for _ in range(3):
            await tts.synthesize(TEXT, format="pcm_8000")
    state = tts.get_error_state()["hedging"]
    assert state["hedged_characters"] <= 0.25 * state["characters"]
    assert state["characters"] == 36 * len(TEXT)
    assert state["started"] >= 5
    stingy = await warmed(make_service(late(Hang()), second, hedging=HedgeConfig(minimum_samples=4), timeouts=HASTY))
    await stingy.synthesize(TEXT, format="pcm_8000")
    state = stingy.get_error_state()["hedging"]
    assert (state["started"], state["refused_for_budget"]) == (0, 1), "one of five is more than a twentieth"


async def test_words_that_are_asked_for_again_after_a_failure_are_no_more_words(make_service: MakeService) -> None:
    text = "The rain has stopped at last, after all these long and cold and windy days. We walk home now, slowly."
    broken, by_sentence = Tonal([Fault("cut", 0.0)], name="broken"), Tonal(name="by sentence", timed=False)
    tts = make_service(broken, by_sentence, hedging=HedgeConfig())
    stream = tts.stream(text, format="pcm_8000")
    assert [chunk async for chunk in stream]
    assert [(attempt.begin, attempt.end) for attempt in stream.attempts] == [(0, 101), (0, 76), (76, 101)]
    assert tts.get_error_state()["hedging"]["characters"] == len(text)


async def test_what_a_local_voice_says_costs_nothing_and_pays_for_no_hedge(make_service: MakeService) -> None:
    tts = await warmed(make_service(late(Say(first_after=1.0), local=True), Scripted(name="second"), hedging=READY))
    assert (await tts.synthesize(TEXT, format="pcm_8000")).provider == "first"
    state = tts.get_error_state()["hedging"]
    assert (state["characters"], state["refused_for_budget"]) == (0, 1)


HASTY = TimeoutConfig(read_timeout=2.0)


async def not_hedged(tts: AsyncTTSService, **wishes: Any) -> None:
    speech = await tts.synthesize(TEXT, format="pcm_8000", **wishes)
    assert not any(attempt.hedge for attempt in speech.attempts)
    assert tts.get_error_state()["hedging"]["nobody_free"] == 1
    assert hedges(tts) == (0, 0, 0)


async def test_a_circuit_that_is_not_closed_is_not_asked_as_well(make_service: MakeService) -> None:
    first, second = late(Say(first_after=1.0)), Scripted([DOWN], name="second")
    tts = await warmed(make_service(first, second, hedging=READY))
    tts.circuits["second"].force_open("maintenance")
    await not_hedged(tts)


async def test_a_probe_is_not_taken_for_a_hedge(make_service: MakeService) -> None:
    first, second = late(Say(first_after=1.0)), Scripted(name="second")
    tts = await warmed(make_service(first, second, hedging=READY))
    for _ in range(2):
        tts.circuits["second"].acquire().failure(DOWN)
    await asyncio.sleep(61.0)
    assert tts.handler("second").probes
    await not_hedged(tts)
    assert not second.asked


async def test_who_has_just_come_back_is_not_asked_for_favours(make_service: MakeService) -> None:
    gently = CircuitBreakerConfig(window_size=2, cooldown_period=10, success_threshold=1, ramp_up=600.0)
    first, second = late(Say(first_after=1.0)), Scripted(name="second")
    tts = await warmed(make_service(first, second, hedging=READY, circuits={"second": gently}))
    tts.circuits["second"].acquire().failure(DOWN)
    await asyncio.sleep(11.0)
    tts.circuits["second"].acquire().success()
    assert tts.circuits["second"].state.value == "closed"
    await not_hedged(tts)


async def test_a_probe_has_its_own_hurry_and_is_not_overtaken(make_service: MakeService) -> None:
    first, second = late(Hang()), Scripted(name="second")
    tts = await warmed(make_service(first, second, hedging=READY))
    for _ in range(2):
        tts.circuits["first"].acquire().failure(DOWN)
    await asyncio.sleep(61.0)
    assert tts.handler("first").probes
    speech = await tts.synthesize(TEXT, format="pcm_8000")
    assert [(a.provider, a.hedge) for a in speech.attempts] == [("first", False), ("second", False)]
    assert isinstance(speech.attempts[0].error, TTSReadTimeoutError)


async def test_what_is_on_hold_is_not_asked_as_well(make_service: MakeService) -> None:
    from steadyvoice.speech.errors import TTSInvalidKeyError

    first, second = late(Say(first_after=1.0)), Scripted(name="second")
    tts = await warmed(make_service(first, second, hedging=READY))
    handler = tts.handler("second")
    handler.holds.place(TTSInvalidKeyError("HTTP 401", status=401), None, loop_clock())
    await not_hedged(tts)


async def test_a_hedge_never_stands_in_line(make_service: MakeService) -> None:
    first, second = late(Say(first_after=1.0)), Scripted([Say(seconds=1.0, pieces=10, every=1.0)], name="second")
    second.credential = Credential("theirs", at_once=1)  # type: ignore[attr-defined]
    tts = await warmed(make_service(first, second, hedging=READY))
    async with tts.handler("second").turn(1.0, hopeful=False):
        await not_hedged(tts)


async def test_of_two_hedges_for_one_place_the_second_does_not_stand_in_line_either(make_service: MakeService) -> None:
    first, second = late(Say(first_after=3.0)), Scripted(name="second")
    second.speak = Slow(second, 1.0).speak  # type: ignore[method-assign]
    second.credential = Credential("theirs", at_once=1)  # type: ignore[attr-defined]
    tts = await warmed(make_service(first, second, hedging=READY))
    speeches = await asyncio.gather(*(tts.synthesize(TEXT, format="pcm_8000") for _ in range(2)))
    assert [speech.provider for speech in speeches] == ["second", "first"]
    assert [attempt.refused for attempt in speeches[1].attempts if attempt.hedge] == [True], "at once"
    assert len(second.asked) == 1


async def test_the_same_account_is_not_asked_twice_at_once(make_service: MakeService) -> None:
    first, second = late(Say(first_after=1.0)), Scripted(name="second")
    first.credential = second.credential = Credential("ours")  # type: ignore[attr-defined]
    await not_hedged(await warmed(make_service(first, second, hedging=READY)))


async def test_a_local_voice_is_for_outages_and_not_for_a_slow_moment(make_service: MakeService) -> None:
    first, second = late(Say(first_after=1.0)), Scripted(name="second", local=True)
    await not_hedged(await warmed(make_service(first, second, hedging=READY)))


async def test_never_another_voice_when_that_is_not_wanted(make_service: MakeService) -> None:
    first, second = late(Say(first_after=1.0)), Scripted(name="second")
    tts = await warmed(make_service(first, second, hedging=READY))
    speech = await tts.synthesize(TEXT, format="pcm_8000", voice_substitution="never")
    assert (speech.outcome, len(speech.attempts)) == ("spoken", 1)
    assert not second.asked


async def test_the_same_voice_on_another_account_may_race_all_the_same(make_service: MakeService) -> None:
    class SameVoice(Scripted):
        def offer(self, request: SpeechRequest) -> Offer:
            return Offer(self.format or request.format, voice="george")

    first, second = SameVoice([*USUAL, Hang()], name="first"), SameVoice(name="second")
    tts = await warmed(make_service(first, second, hedging=READY))
    speech = await tts.synthesize(TEXT, format="pcm_8000", voice_substitution="never")
    assert (speech.outcome, speech.provider) == ("substituted", "second")


async def test_the_time_in_the_queue_is_not_the_vendors(make_service: MakeService) -> None:
    first, second = late(), Scripted(name="second")
    first.credential = Credential("ours", at_once=1)  # type: ignore[attr-defined]
    tts = await warmed(make_service(first, second, hedging=READY))
    tts.handler("first").allowance.turnstile.gate._ceiling = 1
    speeches = await asyncio.gather(*(tts.synthesize(TEXT, format="pcm_8000") for _ in range(5)))
    assert {speech.provider for speech in speeches} == {"first"}
    assert not second.asked


async def test_only_the_first_sound_is_hedged(make_service: MakeService) -> None:
    """Who has begun to listen is not given another voice for a short pause."""
    first = Scripted([*USUAL, Say(first_after=0.1), Say(first_after=3.0)], name="first", max_characters=20)
    second = Scripted(name="second")
    tts = make_service(first, second, hedging=HedgeConfig(minimum_samples=2, budget=1.0))
    for _ in range(3):
        speech = await tts.synthesize("A short one. And another.", format="pcm_8000")
        assert (speech.outcome, speech.provider) == ("spoken", "first")
    assert not second.asked


@pytest.mark.parametrize("name", ["pcm_8000", "mp3_44100_128", "opus"])
async def test_a_hedge_that_breaks_off_is_gone_on_from(make_service: MakeService, name: str) -> None:
    text = "The rain has stopped. We walk home now, slowly, and nobody says a word."
    first, second = Tonal(name="first"), Tonal([Fault("cut", 0.5)], name="second", pitch=1.5)
    tts = make_service(first, second, hedging=HedgeConfig(minimum_samples=1, budget=1.0))
    await tts.synthesize(text, format=name)
    first.speak = Slow(first, 60.0).speak  # type: ignore[method-assign]
    stream = tts.stream(text, format=name)
    audio = b"".join([chunk async for chunk in stream])
    assert words_in(audio, stream.format) == text.split()
    assert stream.outcome == "resumed"
    assert [span.provider for span in stream.spoken.spans] == ["second", "first"]
    assert [(a.provider, a.hedge) for a in stream.attempts] == [("first", False), ("second", True), ("first", False)]


async def test_a_hedge_that_lost_goes_on_sooner_than_who_broke_off(make_service: MakeService) -> None:
    """Both may have charged for the words by then, but one of the two has shown that it breaks off."""
    text = "The rain has stopped. We walk home now, slowly, and nobody says a word."
    first, second = Tonal(name="first"), Tonal(name="second", pitch=1.5)
    tts = make_service(first, second, hedging=HedgeConfig(minimum_samples=1, budget=1.0))
    await tts.synthesize(text, format="pcm_8000")
    breaks, hangs = Slow(Tonal([Fault("cut", 0.5)], name="first"), 2.0), Slow(second, 60.0)
    first.speak, second.speak = breaks.speak, hangs.speak  # type: ignore[method-assign]
    stream = tts.stream(text, format="pcm_8000")
    audio = b"".join([chunk async for chunk in stream])
    assert words_in(audio, stream.format) == text.split()
    assert [span.provider for span in stream.spoken.spans] == ["first", "second"]


class Slow:
    """Makes the first call of a provider wait."""

    def __init__(self, provider: Any, seconds: float) -> None:
        self._speak, self._seconds = provider.speak, seconds

    async def speak(self, *given: Any, **more: Any) -> AsyncGenerator[Any, None]:
        seconds, self._seconds = self._seconds, 0.0
        await asyncio.sleep(seconds)
        async for event in self._speak(*given, **more):
            yield event


async def test_ten_callers_of_the_same_words_are_one_race(make_service: MakeService, tmp_path: Any) -> None:
    first, second = late(Hang()), Scripted(name="second")
    tts = make_service(first, second, hedging=READY, cache=tmp_path)
    for number in range(len(USUAL)):
        await tts.synthesize(f"{number}ood morning, is anybody there?", format="pcm_8000")
    speeches = await asyncio.gather(*(tts.synthesize(TEXT, format="pcm_8000") for _ in range(10)))
    assert {speech.provider for speech in speeches} == {"second"}
    assert (len(first.asked), len(second.asked)) == (5, 1)
    assert sum(len(speech.attempts) for speech in speeches) == 2
    await tts.aclose()


async def test_what_breaks_while_it_is_hung_up_on_is_no_failure(make_service: MakeService) -> None:
    class Sore(Scripted):
        async def speak(self, *given: Any, **more: Any) -> AsyncGenerator[Any, None]:
            try:
                async for event in super().speak(*given, **more):
                    yield event
            except asyncio.CancelledError:
                raise DOWN from None

    first, second = Sore([*USUAL, Hang()], name="first"), Scripted(name="second")
    tts = await warmed(make_service(first, second, hedging=READY))
    speech = await tts.synthesize(TEXT, format="pcm_8000")
    assert speech.provider == "second"
    state = tts.get_error_state()
    assert (state["totals"]["failures"], state["last_error"]) == (0, None)
    assert quiet(tts)


async def test_who_takes_long_to_hang_up_keeps_nobody_waiting(make_service: MakeService) -> None:
    class Polite(Scripted):
        async def speak(self, *given: Any, **more: Any) -> AsyncGenerator[Any, None]:
            try:
                async for event in super().speak(*given, **more):
                    yield event
            finally:
                await asyncio.sleep(10.0)

    first, second = Polite([*USUAL, Hang()], name="first"), Scripted([Say(4.0, every=1.0)], name="second")
    tts = await warmed(make_service(first, second, hedging=READY))
    began = loop_clock()
    stream = tts.stream(TEXT, format="pcm_8000", on_midstream="error")
    await anext(stream)
    assert loop_clock() - began == pytest.approx(0.2, abs=0.01)
    assert tts.get_error_state()["concurrency"]["in_use"] == 1, "its place is its own until it is gone"
    assert [chunk async for chunk in stream]
    assert loop_clock() - began < 10.0, "nor does its end"
    assert not quiet(tts)
    await tts.aclose()
    assert quiet(tts)


async def test_a_caller_who_leaves_in_the_middle_of_it_has_hung_up_on_both(make_service: MakeService) -> None:
    first, second = late(Hang()), Scripted([Hang()], name="second")
    tts = await warmed(make_service(first, second, hedging=READY))
    waiting = asyncio.create_task(tts.synthesize(TEXT, format="pcm_8000"))
    await asyncio.sleep(1.0)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    assert (first.cut_short, second.cut_short) == (1, 1)
    assert quiet(tts)


async def test_a_service_that_is_closed_in_the_middle_of_it_hangs_up_on_both(make_service: MakeService) -> None:
    tts = await warmed(make_service(late(Hang()), Scripted([Hang()], name="second"), hedging=READY))
    stream = tts.stream(TEXT, format="pcm_8000")
    listening = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(1.0)
    assert [state["concurrency"]["in_use"] for state in tts.get_error_state()["providers"].values()] == [1, 1]
    await tts.aclose()
    with pytest.raises(TTSStreamInterruptedError):
        await listening
    assert quiet(tts)
    assert [attempt.error.kind.value for attempt in stream.attempts if attempt.error] == ["cancelled", "cancelled"]
    assert stream.wasted == 2 * len(TEXT)
    assert hedges(tts) == (1, 0, 1)


async def test_in_an_outage_hedges_stay_within_the_budget_and_end_when_the_circuit_opens(
    make_service: MakeService,
) -> None:
    class Vendor(Scripted):
        down = False

        async def speak(self, request: SpeechRequest, offer: Offer, **more: float) -> AsyncGenerator[Any, None]:
            self.asked.append(request)
            yield Accepted(characters_billed=len(request.text))
            await asyncio.sleep(1e9 if self.down else 0.1)
            yield Audio(pcm(2.0))

    first, second = Vendor(name="first"), Scripted(name="second")
    circuit = CircuitBreakerConfig(window_size=20, cooldown_period=600)
    hedging = HedgeConfig(budget=0.05, window_seconds=300.0)
    tts = make_service(first, second, hedging=hedging, circuit=circuit, timeouts=TimeoutConfig(read_timeout=10.0))

    async def everybody(seconds: int) -> None:
        async def caller(after: float) -> None:
            await asyncio.sleep(after)
            assert (await tts.synthesize(TEXT, format="pcm_8000")).provider

        await asyncio.gather(*(caller(number / 10) for number in range(10 * seconds)))

    await everybody(30)
    first.down = True
    await everybody(60)
    state = tts.get_error_state()["hedging"]
    assert state["hedged_characters"] <= 0.05 * state["characters"]
    assert 15 <= state["started"] <= 45
    assert state["refused_for_budget"] > 10
    assert state["left_to_the_circuit"] > 10
    assert tts.circuits["first"].state.value == "open"
    before = hedges(tts)
    await everybody(10)
    assert hedges(tts) == before
    assert quiet(tts)


async def test_an_outage_is_not_hidden_from_the_circuit_by_those_who_are_hedged(make_service: MakeService) -> None:
    tts = make_service(late(Hang()), Scripted(name="second"), hedging=READY, timeouts=HASTY, retry=ONCE)
    await warmed(tts)
    providers = []
    while tts.circuits["first"].state.value == "closed":
        speech = await tts.synthesize(TEXT, format="pcm_8000")
        providers.append((speech.provider, len(speech.attempts), speech.attempts[-1].hedge))
    assert providers == [("second", 2, hedge) for hedge in (True, True, True, False, True, False)]
    assert tts.get_error_state()["hedging"]["left_to_the_circuit"] == 2


@pytest.mark.timeout(180)
async def test_a_thousand_callers_who_leave_when_they_like_leave_nothing_behind(make_service: MakeService) -> None:
    rng = Random(19)

    class Moody(Scripted):
        async def speak(self, request: SpeechRequest, offer: Offer, **more: float) -> AsyncGenerator[Any, None]:
            self.asked.append(request)
            await asyncio.sleep(rng.choice([0.0, 0.05, 0.1, 1.0]))
            if rng.random() < 0.1:
                raise DOWN
            yield Accepted(characters_billed=len(request.text))
            await asyncio.sleep(rng.choice([0.0, 0.05, 0.1, 0.1, 5.0]))
            for _ in range(4):
                yield Audio(pcm(0.5))
                await asyncio.sleep(rng.choice([0.0, 0.1]))

    patient = CircuitBreakerConfig(failure_threshold=1.0, window_size=1000, minimum_calls=1000, hung_after=600.0)
    vendors = [Moody(name=name) for name in ("first", "second", "third")]
    for vendor in vendors:
        vendor.credential = Credential(vendor.name, at_once=30)  # type: ignore[attr-defined]
    tts = make_service(*vendors, hedging=HedgeConfig(percentile=0.5, budget=0.5), circuit=patient, timeouts=HASTY)
    accounts = []

    async def caller() -> None:
        await asyncio.sleep(rng.uniform(0.0, 60.0))
        stream = tts.stream(TEXT, format="pcm_8000", on_midstream=rng.choice(["resume", "error"]))
        accounts.append(stream)
        with suppress(TTSError):
            async with stream:
                async for _ in stream:
                    if rng.random() < 0.1:
                        return

    callers = [asyncio.create_task(caller()) for _ in range(1_000)]
    loop = asyncio.get_running_loop()
    for task in callers:
        if rng.random() < 0.7:
            loop.call_later(rng.choice([rng.uniform(0.0, 62.0), round(rng.uniform(0.0, 62.0), 1)]), task.cancel)
    ended = await asyncio.gather(*callers, return_exceptions=True)
    assert sum(isinstance(end, asyncio.CancelledError) for end in ended) > 300
    assert not [end for end in ended if isinstance(end, Exception)]
    started, won, lost = hedges(tts)
    assert started > 50
    assert started == won + lost
    state = tts.get_error_state()["hedging"]
    assert state["hedged_characters"] <= 0.5 * state["characters"] <= 0.5 * 1_000 * len(TEXT)
    assert quiet(tts)
    assert tts._hedging is not None
    assert not tts._hedging.leaving
    assert {circuit.snapshot().in_flight for circuit in tts.circuits.values()} == {0}
    attempts = [attempt for account in accounts for attempt in account.attempts]
    asked = sum(len(vendor.asked) for vendor in vendors)
    assert sum(not attempt.refused for attempt in attempts) == asked
    assert sum(attempt.hedge for attempt in attempts) == started
    assert sum(isinstance(attempt.error, TTSHedgedError) for attempt in attempts) > 30
