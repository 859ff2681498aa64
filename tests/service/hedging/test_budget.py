"""Budget of hedges: a share of the characters, also in an outage, which the circuit still notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from steadyvoice import (
    Accepted,
    AudioChunk,
    CircuitBreakerConfig,
    HedgeConfig,
    SpeechRequest,
    SynthesisOffer,
    TimeoutConfig,
)

from ..conftest import MakeService
from ..scripted_provider import Hang, Say, ScriptedProvider, pcm
from ..word_tone_provider import Fault, WordToneProvider
from .late_provider import ONCE, READY, SHORT_READ_TIMEOUT, TEXT, USUAL, hedge_counts, is_idle, late_provider, warm_up

pytestmark = [pytest.mark.looptime, pytest.mark.slow]


async def test_budget_is_kept_and_refusals_are_counted(make_service: MakeService) -> None:
    first, second = late_provider(Say(first_after=0.3)), ScriptedProvider([Hang()], name="second")
    tts = await warm_up(
        make_service(first, second, hedging=HedgeConfig(percentile=0.7, minimum_samples=4, budget=0.25))
    )
    for _ in range(8):
        await tts.synthesize(TEXT, format="pcm_8000")
        first._acts = [*USUAL[:3], *first._acts]  # it stays the exception
        for _ in range(3):
            await tts.synthesize(TEXT, format="pcm_8000")
    state = tts.get_error_state()["hedging"]
    assert state["hedged_characters"] <= 0.25 * state["characters"]
    assert state["characters"] == 36 * len(TEXT)
    assert state["started"] >= 5
    stingy = await warm_up(
        make_service(late_provider(Hang()), second, hedging=HedgeConfig(minimum_samples=4), timeouts=SHORT_READ_TIMEOUT)
    )
    await stingy.synthesize(TEXT, format="pcm_8000")
    state = stingy.get_error_state()["hedging"]
    assert (state["started"], state["budget_exhausted"]) == (0, 1), "one of five is more than a twentieth"


async def test_retried_text_is_counted_once(make_service: MakeService) -> None:
    text = "The rain has stopped at last, after all these long and cold and windy days. We walk home now, slowly."
    broken, by_sentence = (
        WordToneProvider([Fault("cut", 0.0)], name="broken"),
        WordToneProvider(name="by sentence", timed=False),
    )
    tts = make_service(broken, by_sentence, hedging=HedgeConfig())
    stream = tts.stream(text, format="pcm_8000")
    assert [chunk async for chunk in stream]
    assert [(attempt.begin, attempt.end) for attempt in stream.attempts] == [(0, 101), (0, 76), (76, 101)]
    assert tts.get_error_state()["hedging"]["characters"] == len(text)


async def test_local_voice_neither_costs_nor_earns_budget(make_service: MakeService) -> None:
    tts = await warm_up(
        make_service(late_provider(Say(first_after=1.0), local=True), ScriptedProvider(name="second"), hedging=READY)
    )
    assert (await tts.synthesize(TEXT, format="pcm_8000")).provider == "first"
    state = tts.get_error_state()["hedging"]
    assert (state["characters"], state["budget_exhausted"]) == (0, 1)


async def test_hedges_in_an_outage_stay_within_the_budget_until_the_circuit_opens(
    make_service: MakeService,
) -> None:
    class Vendor(ScriptedProvider):
        down = False

        async def speak(
            self, request: SpeechRequest, offer: SynthesisOffer, **more: float
        ) -> AsyncGenerator[Any, None]:
            self.requests.append(request)
            yield Accepted(characters_billed=len(request.text))
            await asyncio.sleep(1e9 if self.down else 0.1)
            yield AudioChunk(pcm(2.0))

    first, second = Vendor(name="first"), ScriptedProvider(name="second")
    circuit = CircuitBreakerConfig(window_size=20, cooldown_period=600)
    hedging = HedgeConfig(budget=0.05, window_seconds=300.0)
    tts = make_service(first, second, hedging=hedging, circuit=circuit, timeouts=TimeoutConfig(read_timeout=10.0))

    async def all_callers(seconds: int) -> None:
        async def caller(after: float) -> None:
            await asyncio.sleep(after)
            assert (await tts.synthesize(TEXT, format="pcm_8000")).provider

        await asyncio.gather(*(caller(number / 10) for number in range(10 * seconds)))

    await all_callers(30)
    first.down = True
    await all_callers(60)
    state = tts.get_error_state()["hedging"]
    assert state["hedged_characters"] <= 0.05 * state["characters"]
    assert 15 <= state["started"] <= 45
    assert state["budget_exhausted"] > 10
    assert state["deferred_to_circuit"] > 10
    assert tts.circuits["first"].state.value == "open"
    before = hedge_counts(tts)
    await all_callers(10)
    assert hedge_counts(tts) == before
    assert is_idle(tts)


async def test_hedging_does_not_hide_an_outage_from_the_circuit(make_service: MakeService) -> None:
    tts = make_service(
        late_provider(Hang()), ScriptedProvider(name="second"), hedging=READY, timeouts=SHORT_READ_TIMEOUT, retry=ONCE
    )
    await warm_up(tts)
    providers = []
    while tts.circuits["first"].state.value == "closed":
        speech = await tts.synthesize(TEXT, format="pcm_8000")
        providers.append((speech.provider, len(speech.attempts), speech.attempts[-1].hedge))
    assert providers == [("second", 2, hedge) for hedge in (True, True, True, False, True, False)]
    assert tts.get_error_state()["hedging"]["deferred_to_circuit"] == 2
