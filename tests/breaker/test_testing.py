"""The kit with which users test their own settings."""

from __future__ import annotations

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig
from steadyvoice.breaker.testing import ScriptedFunction, VirtualClock, assert_opens_after, assert_stays_closed

CONFIG = CircuitBreakerConfig(window_size=10, slow_call_duration=4)


def test_the_clock_moves_when_told_to_and_never_back() -> None:
    clock = VirtualClock(5)
    clock.advance(2.5)
    assert clock() == 7.5
    with pytest.raises(ValueError, match="never goes back"):
        clock.advance(-1)


def test_a_scripted_function_fails_where_the_script_says(clock: VirtualClock) -> None:
    speak = ScriptedFunction("SFW", result="spoken", error=lambda: OSError("gone"), clock=clock, slow=7)
    assert speak() == "spoken"
    with pytest.raises(OSError, match="gone"):
        speak("text", voice="anna")
    assert (speak(), clock()) == ("spoken", 1007)
    assert (speak(), speak.calls) == ("spoken", 4)


async def test_a_scripted_function_can_be_awaited() -> None:
    speak = ScriptedFunction("F")
    with pytest.raises(ConnectionError):
        await speak.call_async()
    assert await CircuitBreaker("voice").call_async(speak.call_async) == "ok"


@pytest.mark.parametrize("script", ["FFFSS", "SSFFXF"[:4] + "XXF", "WWWWW"])
def test_it_opens_after_the_script(script: str) -> None:
    assert_opens_after(CONFIG, script)


def test_time_passes_between_the_letters() -> None:
    config = CircuitBreakerConfig(window_seconds=3, minimum_calls=3)
    assert_opens_after(config, "FFF", every=1)
    assert_stays_closed(config, "FFFF", every=1.5)


def test_too_late_and_too_early_are_both_told() -> None:
    with pytest.raises(AssertionError, match="still closed after 'FFF'"):
        assert_opens_after(CONFIG, "FFF")
    with pytest.raises(AssertionError, match="opens after 'FFFFF' already"):
        assert_opens_after(CONFIG, "FFFFFS")
    with pytest.raises(AssertionError, match="opens after 'FFFFF'"):
        assert_stays_closed(CONFIG, "FFFFF")


def test_a_letter_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="Q is none of"):
        assert_stays_closed(CONFIG, "SQ")
    with pytest.raises(ValueError, match="X is none of"):
        ScriptedFunction("X")
