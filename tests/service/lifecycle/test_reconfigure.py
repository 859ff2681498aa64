"""Reconfiguration at run time: applies from the next utterance on, and circuits keep their results."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from steadyvoice import (
    AsyncTTSService,
    CircuitBreakerConfig,
    RetryConfig,
    TimeoutConfig,
    TTSConfigurationError,
    TTSErrorHandler,
    TTSService,
)
from steadyvoice.breaker import Event
from steadyvoice.providers.base import Credential, Credit
from steadyvoice.speech.errors import TTSServerError, TTSVoiceUnknownError

from ..scripted_provider import Hang, Say, ScriptedProvider

pytestmark = pytest.mark.looptime

CIRCUIT = CircuitBreakerConfig(failure_threshold=0.5, window_size=4, cooldown_period=30)
ONCE = RetryConfig(max_attempts=1)
TEXT = "Good morning"
PCM = "pcm_8000"


async def settled() -> None:
    """Let everything that has begun come to its end."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_settings_hold_from_the_next_utterance_on() -> None:
    async with AsyncTTSService([ScriptedProvider([Hang()])], retry=ONCE, muted=False) as tts:
        clock = asyncio.get_running_loop().time
        first = asyncio.create_task(tts.synthesize(TEXT, format=PCM))
        await asyncio.sleep(1)
        await tts.reconfigure(timeouts=TimeoutConfig(total_timeout=2, read_timeout=2), muted=True)
        began = clock()
        assert (await tts.synthesize(TEXT, format=PCM)).outcome == "muted"
        assert clock() - began <= 2.01
        with pytest.raises(Exception, match="30 s"):
            await first  # the one that was being spoken is not hurried, nor muted


async def test_retries_are_those_that_are_wanted_now() -> None:
    async with AsyncTTSService([ScriptedProvider()], retry=ONCE) as tts:
        patient = RetryConfig(max_attempts=5, base_delay=2)
        await tts.reconfigure(retry=patient)
        assert tts.handler("scripted").retry == tts.settings["retry"] == patient


async def test_kept_providers_and_unnamed_settings_stay() -> None:
    one, other = ScriptedProvider(name="one"), ScriptedProvider(name="other")
    async with AsyncTTSService([one], circuit=CIRCUIT, on_midstream="restart") as tts:
        circuit, guard = tts.circuits["one"], tts.handler("one")
        await tts.reconfigure(providers=[other, one])
        assert tts.providers == [other, one]
        assert (tts.circuits["one"], tts.handler("one")) == (circuit, guard)
        assert tts.circuits["other"].config == CIRCUIT
        assert tts.settings["on_midstream"] == "restart"
        assert one.closed == other.closed == 0


async def test_circuits_get_their_settings_and_keep_their_evidence() -> None:
    failing = ScriptedProvider([TTSServerError("no"), Say()])
    async with AsyncTTSService([failing], circuit=CIRCUIT, retry=ONCE) as tts:
        await tts.synthesize(TEXT, format=PCM)
        await tts.reconfigure(circuit=CircuitBreakerConfig(consecutive_failures=9, window_size=50))
        snapshot = tts.circuits["scripted"].snapshot()
        assert (snapshot.calls, snapshot.failures, snapshot.window_size) == (1, 1, 50)
        own = CircuitBreakerConfig(consecutive_failures=3)
        await tts.reconfigure(circuits={"scripted": own})
        assert tts.circuits["scripted"].config == own


@pytest.mark.parametrize("own", [{}, {"window_size": 3}, "production", None, 5, CircuitBreakerConfig])
async def test_settings_of_a_circuit_that_are_none_change_nothing(own: Any) -> None:
    with pytest.raises(TTSConfigurationError, match=r"circuits\.scripted: must be a CircuitBreakerConfig"):
        AsyncTTSService([ScriptedProvider()], circuits={"scripted": own})
    async with AsyncTTSService([ScriptedProvider()], circuit=CIRCUIT) as tts:
        with pytest.raises(TTSConfigurationError, match=r"circuits\.scripted: must be a CircuitBreakerConfig"):
            await tts.reconfigure(circuits={"scripted": own}, muted=False)
        assert tts.circuits["scripted"].config == CIRCUIT
        assert tts.settings["muted"]


@pytest.mark.parametrize("config", [{}, 5, "production"])
def test_circuit_configuration_of_another_type_is_rejected(config: Any) -> None:
    with pytest.raises(TypeError, match="must be a CircuitBreakerConfig"):
        TTSErrorHandler("one", config)


async def test_circuit_changed_directly_stays_unless_circuits_are_named() -> None:
    async with AsyncTTSService([ScriptedProvider()], circuit=CIRCUIT) as tts:
        by_hand = CircuitBreakerConfig(consecutive_failures=3)
        tts.circuits["scripted"].update(by_hand)
        await tts.reconfigure(muted=False)
        assert tts.circuits["scripted"].config == by_hand
        await tts.reconfigure(circuit=CIRCUIT)
        assert tts.circuits["scripted"].config == CIRCUIT


async def test_another_provider_of_the_same_name_goes_on_with_circuit_and_books() -> None:
    old, new = ScriptedProvider([TTSServerError("no")]), ScriptedProvider()
    async with AsyncTTSService([old], circuit=CIRCUIT, retry=ONCE) as tts:
        await tts.synthesize(TEXT, format=PCM)
        circuit, before = tts.circuits["scripted"], tts.get_error_state()
        await tts.reconfigure(providers=[new])
        assert old.closed == 1
        after = tts.get_error_state()
        assert tts.circuits["scripted"] is circuit
        assert after["last_error"] == before["last_error"]
        assert after["bills"] == before["bills"]
        assert after["consecutive_failures"] == 1
        assert (await tts.synthesize(TEXT, format=PCM)).outcome == "spoken"
        assert (len(old.requests), len(new.requests)) == (1, 1)


async def test_removed_provider_is_closed_after_its_last_stream() -> None:
    old, new = (
        ScriptedProvider([Say(seconds=4, pieces=8, first_after=1, every=0.1)], name="old"),
        ScriptedProvider(name="new"),
    )
    async with AsyncTTSService([old], on_midstream="error") as tts:
        one, other = tts.stream(TEXT, format=PCM), tts.stream(TEXT, format=PCM)
        await anext(one)
        await tts.reconfigure(providers=[new])
        assert old.closed == 0
        assert [chunk async for chunk in one]
        assert one.outcome == "spoken"
        await settled()
        assert old.closed == 0, "the other has not even begun, and was promised this voice"
        assert [chunk async for chunk in other]
        await settled()
        assert old.closed == 1
        assert (await tts.synthesize(TEXT, format=PCM)).provider == "new"


async def test_closed_or_dropped_stream_ends_its_use_of_a_provider() -> None:
    old, new = ScriptedProvider(name="old"), ScriptedProvider(name="new")
    async with AsyncTTSService([old]) as tts:
        left, forgotten = tts.stream(TEXT, format=PCM), tts.stream(TEXT, format=PCM)
        await anext(left)
        await tts.reconfigure(providers=[new])
        del forgotten
        gc.collect()
        await left.aclose()
        await settled()
        assert old.closed == 1


async def test_closing_the_service_closes_removed_providers_as_well() -> None:
    old = ScriptedProvider(name="old")
    tts = AsyncTTSService([old])
    waiting = tts.stream(TEXT, format=PCM)
    await tts.reconfigure(providers=[ScriptedProvider(name="new")])
    await tts.aclose()
    assert old.closed == 1
    assert waiting.outcome == "spoken"


async def test_listeners_get_events_of_new_circuits_and_none_of_removed_ones() -> None:
    heard: list[Event] = []
    async with AsyncTTSService([ScriptedProvider(name="one")]) as tts:
        unsubscribe = tts.subscribe(heard.append)
        gone = tts.circuits["one"]
        await tts.reconfigure(providers=[ScriptedProvider(name="two")])
        gone.force_open()
        tts.circuits["two"].force_open()
        assert [event.name for event in heard] == ["two"]
        unsubscribe()
        unsubscribe()
        tts.circuits["two"].close()
        assert len(heard) == 1


async def test_new_cache_setting_replaces_the_cache(tmp_path: Path) -> None:
    scripted = ScriptedProvider()
    async with AsyncTTSService([scripted], cache=tmp_path / "one") as tts:
        await tts.synthesize(TEXT, format=PCM)
        await tts.reconfigure(cache=tmp_path / "two")
        assert (await tts.synthesize(TEXT, format=PCM)).outcome == "spoken"
        await tts.reconfigure(cache=tmp_path / "one")
        assert (await tts.synthesize(TEXT, format=PCM)).outcome == "cached"
        await tts.reconfigure(cache=None)
        assert tts.get_error_state()["cache"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"providers": []}, "at least one"),
        ({"providers": [ScriptedProvider(name="x"), ScriptedProvider(name="x")]}, "duplicate name"),
        ({"timeouts": 7}, "timeouts"),
        ({"on_midstream": "shout"}, "on_midstream"),
        ({"circuits": {"nobody": CIRCUIT}}, "no provider has this name"),
        ({"clock": None}, "clock"),
        ({"mutted": True}, "muted"),
    ],
)
async def test_invalid_settings_change_nothing(changes: dict[str, Any], message: str) -> None:
    scripted = ScriptedProvider()
    async with AsyncTTSService([scripted], circuits={"scripted": CIRCUIT}) as tts:
        before = tts.settings
        with pytest.raises((TTSConfigurationError, TypeError), match=message):
            await tts.reconfigure(**{"muted": False, **changes})
        assert tts.settings == before
        assert tts.providers == [scripted]
        assert tts.settings["muted"]


async def test_stream_of_a_removed_provider_is_not_shared(tmp_path: Path) -> None:
    old, new = ScriptedProvider([Hang()]), ScriptedProvider()
    async with AsyncTTSService([old], cache=tmp_path, retry=ONCE) as tts:
        first = asyncio.create_task(tts.synthesize(TEXT, format=PCM))
        await asyncio.sleep(1)
        await tts.reconfigure(providers=[new])
        assert (await tts.synthesize(TEXT, format=PCM)).outcome == "spoken"
        assert len(new.requests) == 1
        first.cancel()


@dataclass
class CreditedProvider(ScriptedProvider):
    """Has an account, and knows how much is left there."""

    credential: Credential = field(default_factory=lambda: Credential("the same"))
    left: int = 100

    async def credit(self) -> Credit:
        return Credit(self.left)


async def test_account_uses_the_limits_and_credit_checks_of_its_present_users() -> None:
    old, new = (
        CreditedProvider(credential=Credential("the same", max_concurrency=5)),
        CreditedProvider(credential=Credential("the same", max_concurrency=2)),
    )
    new.left = 7
    async with AsyncTTSService([old]) as tts:
        assert tts.get_error_state()["concurrency"]["limit"] == 5
        allowance = tts.handler("scripted").account_limits
        await tts.reconfigure(providers=[new])
        assert tts.handler("scripted").account_limits is allowance
        assert tts.get_error_state()["concurrency"]["limit"] == 2
        assert (await tts.check_credit())["scripted"] == Credit(7)
        await tts.reconfigure(providers=[CreditedProvider(credential=Credential("another"))])
        assert tts.handler("scripted").account_limits is not allowance


async def test_hold_is_kept_with_the_same_key_and_released_with_a_new_one() -> None:
    old = CreditedProvider([TTSVoiceUnknownError("no"), Say()])
    async with AsyncTTSService([old], retry=ONCE) as tts:
        with pytest.raises(TTSVoiceUnknownError):
            await tts.synthesize(TEXT, format=PCM)
        held = [hold["key"] for hold in tts.get_error_state()["holds"]]
        assert held
        await tts.reconfigure(providers=[CreditedProvider()])
        assert [hold["key"] for hold in tts.get_error_state()["holds"]] == held
        await tts.reconfigure(providers=[CreditedProvider(credential=Credential("another"))])
        assert not tts.get_error_state()["holds"]


async def test_settings_of_removed_providers_are_removed() -> None:
    async with AsyncTTSService([ScriptedProvider(name="one")], circuits={"one": CIRCUIT}) as tts:
        await tts.reconfigure(providers=[ScriptedProvider(name="two")])
        assert tts.settings["circuits"] == {}


def test_sync_service_reconfigures_alike() -> None:
    old, new = ScriptedProvider(name="old"), ScriptedProvider(name="new")
    with TTSService([old]) as tts:
        assert tts.synthesize(TEXT, format=PCM).provider == "old"
        tts.reconfigure(providers=[new], muted=False)
        assert tts.synthesize(TEXT, format=PCM).provider == "new"
        assert list(tts.circuits) == ["new"]
        assert old.closed == 1
    assert new.closed == 1
