"""Test helpers for users: virtual clock, scripted function, assertions."""

from __future__ import annotations

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig
from steadyvoice.breaker.testing import ScriptedFunction, VirtualClock, assert_opens_after, assert_stays_closed

CONFIG = CircuitBreakerConfig(window_size=10, slow_call_duration=4)


def test_virtual_clock_advances_and_never_goes_back() -> None:
    clock = VirtualClock(5)
    clock.advance(2.5)
    assert clock() == 7.5
    with pytest.raises(ValueError, match="never goes back"):
        clock.advance(-1)


def test_scripted_function_fails_by_its_script(clock: VirtualClock) -> None:
    speak = ScriptedFunction("SFW", result="spoken", error=lambda: OSError("gone"), clock=clock, slow=7)
    assert speak() == "spoken"
    with pytest.raises(OSError, match="gone"):
        speak("text", voice="anna")
    assert (speak(), clock()) == ("spoken", 1007)
    assert (speak(), speak.calls) == ("spoken", 4)


async def test_scripted_function_can_be_awaited() -> None:
    speak = ScriptedFunction("F")
    with pytest.raises(ConnectionError):
        await speak.call_async()
    assert await CircuitBreaker("voice").call_async(speak.call_async) == "ok"


@pytest.mark.parametrize("script", ["FFFSS", "SSFFXF"[:4] + "XXF", "WWWWW"])
def test_assert_opens_after_accepts_the_script(script: str) -> None:
    assert_opens_after(CONFIG, script)


def test_time_passes_between_the_calls() -> None:
    config = CircuitBreakerConfig(window_seconds=3, minimum_calls=3)
    assert_opens_after(config, "FFF", every=1)
    assert_stays_closed(config, "FFFF", every=1.5)


def test_opening_too_late_and_too_early_is_reported() -> None:
    with pytest.raises(AssertionError, match="still closed after 'FFF'"):
        assert_opens_after(CONFIG, "FFF")
    with pytest.raises(AssertionError, match="opens after 'FFFFF' already"):
        assert_opens_after(CONFIG, "FFFFFS")
    with pytest.raises(AssertionError, match="opens after 'FFFFF'"):
        assert_stays_closed(CONFIG, "FFFFF")


def test_unknown_letter_is_refused() -> None:
    with pytest.raises(ValueError, match="Q is none of"):
        assert_stays_closed(CONFIG, "SQ")
    with pytest.raises(ValueError, match="X is none of"):
        ScriptedFunction("X")
