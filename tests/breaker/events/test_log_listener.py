"""Listener that logs events."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, StateChanged, log_listener
from steadyvoice.breaker.testing import VirtualClock

CONFIG = CircuitBreakerConfig(window_size=1, success_threshold=1)
MINE = logging.getLogger("mine")


def live(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    """Cause one event of each kind."""
    breaker.acquire().failure("503")
    breaker.try_acquire()
    clock.advance(60)
    breaker.acquire().success()
    breaker.update(replace(CONFIG, cooldown_period=5))
    breaker.reset()
    breaker.monitor()
    breaker.acquire().failure("503")


def test_each_event_is_logged_at_its_level(clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    breaker = CircuitBreaker("voice", CONFIG, clock=clock, listeners=[log_listener()])
    live(breaker, clock)
    assert {record.name for record in caplog.records} == {"steadyvoice.breaker"}
    logged = [(record.levelname, record.message) for record in caplog.records]
    assert logged[0] == (
        "WARNING",
        "circuit 'voice': closed -> open: 1 of the last 1 call failed; next probe in 60 s",
    )
    assert logged[1:3] == [
        ("INFO", "circuit 'voice': open -> half_open: the cooldown is over"),
        ("INFO", "circuit 'voice': half_open -> closed: 1 probe in a row succeeded"),
    ]
    assert [level for level, _ in logged[3:]] == ["INFO", "INFO", "INFO", "WARNING"]
    assert logged[-1][1] == "circuit 'voice' would have opened: 1 of the last 1 call failed"
    event: Any = caplog.records[0].__dict__["event"]
    assert isinstance(event, StateChanged)
    assert caplog.records[0].__dict__["circuit"] == "voice"


def test_calls_are_logged_when_subscribed_with_calls(clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    breaker = CircuitBreaker("voice", CONFIG, clock=clock)
    breaker.subscribe(log_listener("calls"), calls=True)
    live(breaker, clock)
    calls = [record.message for record in caplog.records if record.levelno == logging.DEBUG]
    assert calls[:2] == [
        "circuit 'voice': failure after 0 s: failure",
        "circuit 'voice' refused a call: 1 of the last 1 call failed",
    ]
    assert {record.name for record in caplog.records} == {"calls"}


@pytest.mark.parametrize("level", [logging.ERROR, "ERROR", "error"])
@pytest.mark.parametrize("logger", [MINE, logging.LoggerAdapter(MINE), "mine"])
def test_logger_and_level_can_be_chosen(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture, level: Any, logger: Any
) -> None:
    breaker = CircuitBreaker("voice", CONFIG, clock=clock, listeners=[log_listener(logger=logger, level=level)])
    live(breaker, clock)
    assert {(record.name, record.levelname) for record in caplog.records} == {("mine", "ERROR")}


class Prefixed(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        msg, kwargs = super().process(msg, kwargs)
        return f"[app] {msg}", kwargs


@pytest.mark.parametrize(
    ("adapter", "prefix"),
    [
        (logging.LoggerAdapter(MINE, {"app": "radio"}), ""),
        (Prefixed(MINE, {"app": "radio"}), "[app] "),
        (logging.LoggerAdapter(Prefixed(MINE, {"app": "radio"}), None), "[app] "),
    ],
    ids=["plain", "prefixed", "nested"],
)
def test_logger_adapter_adds_its_attributes(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture, adapter: Any, prefix: str
) -> None:
    breaker = CircuitBreaker("voice", CONFIG, clock=clock, listeners=[log_listener(adapter)])
    breaker.acquire().failure()
    (record,) = caplog.records
    logged: dict[str, Any] = record.__dict__
    assert (logged["circuit"], logged["app"], type(logged["event"])) == ("voice", "radio", StateChanged)
    assert record.message.startswith(f"{prefix}circuit 'voice': closed -> open")


def test_invalid_logger_or_level_is_refused() -> None:
    for settings in ({"logger": 5}, {"logger": print}, {"level": True}, {"level": 2.5}):
        with pytest.raises(TypeError):
            log_listener(**settings)
    with pytest.raises(ValueError, match="LOUD"):
        log_listener(level="LOUD")
