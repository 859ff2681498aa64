"""Testing of your own settings in microseconds: a virtual clock, and outcomes by script.

    assert_opens_after(CircuitBreakerConfig(window_size=10), "FFFSS")

Letters: S success, F failure, W slow success, X ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from steadyvoice._option_rules import is_finite
from steadyvoice.breaker import _validators
from steadyvoice.breaker.breaker import CircuitBreaker
from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.errors import CircuitArgumentError
from steadyvoice.breaker.states import CircuitState

__all__ = ["ScriptedFunction", "VirtualClock", "assert_opens_after", "assert_stays_closed"]


class VirtualClock:
    """Monotonic clock that only moves by `advance`. Pass it to a breaker as `clock`.

    - `now`: first reading, in seconds.
    - `seconds`: seconds, or a timedelta.
    """

    def __init__(self, now: float = 0.0) -> None:
        if not is_finite(now):
            raise CircuitArgumentError("now", now, "must be seconds")
        self._now = now

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float | timedelta) -> None:
        """Advance by so many seconds. Raises ValueError for negative ones: a monotonic clock never goes back."""
        self._now += _validators.optional_duration("seconds", seconds, "a monotonic clock never goes back") or 0.0


class ScriptedFunction:
    """Function that succeeds and fails by the letters of a script, and succeeds after its end.

    `calls` counts how often it was called. A slow success (W) advances `clock` by `slow` seconds.

    - `script`: one letter for each call.
    - `result`: value of a success.
    - `error`: function that makes the exception of a failure.
    - `args`: ignored.
    - `kwargs`: ignored.
    """

    def __init__(
        self,
        script: str = "",
        *,
        result: Any = "ok",
        error: Callable[[], Exception] = lambda: ConnectionError("scripted failure"),
        clock: VirtualClock | None = None,
        slow: float = 10.0,
    ) -> None:
        _check(script, "SFW")
        self._letters = iter(script)
        self._result = result
        self._error = error
        self._clock = clock
        self._slow = slow
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        match next(self._letters, "S"):
            case "F":
                raise self._error()
            case "W" if self._clock is not None:
                self._clock.advance(self._slow)
        return self._result

    async def call_async(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; for breakers that await it."""
        return self(*args, **kwargs)


def assert_opens_after(config: CircuitBreakerConfig, script: str, *, every: float = 0.0) -> None:
    """Assert that the last letter of the script opens the circuit, and none before; one call every `every` seconds.

    - `config`: settings under test.
    - `script`: one letter for each call: S, F, W or X.
    """
    opened = _opens_at(config, script, every)
    if opened is None:
        raise AssertionError(f"the circuit is still closed after {script!r}")
    if opened < len(script):
        raise AssertionError(f"the circuit opens after {script[:opened]!r} already")


def assert_stays_closed(config: CircuitBreakerConfig, script: str, *, every: float = 0.0) -> None:
    """Assert that no letter of the script opens the circuit; one call every `every` seconds.

    - `config`: settings under test.
    - `script`: one letter for each call: S, F, W or X.
    """
    opened = _opens_at(config, script, every)
    if opened is not None:
        raise AssertionError(f"the circuit opens after {script[:opened]!r}")


def _opens_at(config: CircuitBreakerConfig, script: str, every: float) -> int | None:
    """Return how many letters it takes to open the circuit, None if all of them do not."""
    _check(script, "SFWX")
    clock = VirtualClock()
    breaker = CircuitBreaker("under test", config, clock=clock)
    for position, letter in enumerate(script, 1):
        _play(breaker, letter)
        if breaker.state is CircuitState.OPEN:
            return position
        clock.advance(every)
    return None


def _play(breaker: CircuitBreaker, letter: str) -> None:
    permit = breaker.acquire()
    match letter:
        case "S":
            permit.success(0.0)
        case "F":
            permit.failure("scripted", 0.0)
        case "W":
            permit.success(breaker.config.slow_call_duration or 0.0)
        case _:
            permit.ignore()


def _check(script: str, letters: str) -> None:
    unknown = set(script) - set(letters)
    if unknown:
        raise ValueError(f"script={script!r}: {''.join(sorted(unknown))} is none of {', '.join(letters)}")
