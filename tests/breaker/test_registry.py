"""Circuits by name."""

from __future__ import annotations

from typing import Any

import pytest

from steadyvoice.breaker import CircuitArgumentError, CircuitBreaker, CircuitBreakerConfig, CircuitRegistry, Event
from steadyvoice.breaker.testing import VirtualClock

PRODUCTION, DEVELOPMENT = CircuitBreakerConfig.production(), CircuitBreakerConfig.development()


def test_a_name_is_one_circuit() -> None:
    registry = CircuitRegistry()
    voice = registry.circuit("voice")
    assert registry.circuit("voice") is voice
    assert registry.circuit("other") is not voice
    assert [circuit.name for circuit in registry] == ["voice", "other"]
    assert (len(registry), "voice" in registry, "third" in registry) == (2, True, False)


def test_some_names_have_settings_of_their_own() -> None:
    registry = CircuitRegistry(PRODUCTION, overrides={"odd": DEVELOPMENT})
    assert registry.circuit("voice").config is PRODUCTION
    assert registry.circuit("odd").config is DEVELOPMENT


def test_settings_may_change_before_and_after_a_circuit_exists() -> None:
    registry = CircuitRegistry(PRODUCTION)
    voice = registry.circuit("voice")
    voice.acquire().failure()
    for name in ("voice", "later"):
        registry.configure(name, DEVELOPMENT)
        assert registry.circuit(name).config is DEVELOPMENT
    assert voice.snapshot().failures == 1


def test_circuits_are_found_by_their_tags() -> None:
    registry = CircuitRegistry()
    paris = registry.circuit("paris", region="eu", kind="voice")
    oslo = registry.circuit("oslo", region="eu")
    registry.circuit("oslo", kind="text")
    assert registry.tagged(region="eu") == [paris, oslo]
    assert registry.tagged(region="eu", kind="voice") == [paris]
    assert registry.tags("oslo") == {"region": "eu", "kind": "text"}
    with pytest.raises(KeyError):
        registry.tags("nobody")


def test_clock_and_listeners_are_shared(clock: VirtualClock) -> None:
    events: list[Event] = []
    registry = CircuitRegistry(listeners=[events.append], clock=clock)
    for name in ("one", "two"):
        registry.circuit(name).force_open()
    assert [event.name for event in events] == ["one", "two"]
    assert {event.at for event in events} == {1000.0}


def test_shared_settings_may_change_for_all_that_have_none_of_their_own() -> None:
    special = CircuitBreakerConfig(window_size=3)
    registry = CircuitRegistry(overrides={"special": special})
    usual, own = registry.circuit("usual"), registry.circuit("special")
    usual.acquire().failure()
    registry.update(CircuitBreakerConfig(window_size=7))
    assert (usual.config.window_size, usual.snapshot().failures) == (7, 1)
    assert own.config is special
    assert registry.circuit("later").config.window_size == 7


def test_settings_are_no_tag() -> None:
    registry = CircuitRegistry()
    settings: Any = {"config": DEVELOPMENT}
    with pytest.raises(CircuitArgumentError, match=r"^config=.*configure\(name, config\)"):
        registry.circuit("voice", **settings)
    assert "voice" not in registry


def test_looking_for_a_circuit_makes_none() -> None:
    registry = CircuitRegistry()
    assert registry.get("voice") is None
    assert len(registry) == 0
    voice = registry.circuit("voice")
    assert registry.get("voice") is voice
    assert voice in registry
    assert CircuitBreaker("voice") not in registry


def test_a_removed_circuit_is_made_anew_with_the_settings_of_its_name() -> None:
    registry = CircuitRegistry(PRODUCTION, overrides={"odd": DEVELOPMENT})
    odd, voice = registry.circuit("odd", region="eu"), registry.circuit("voice", region="eu")
    odd.force_open()
    assert registry.remove("odd") is odd
    assert registry.remove("odd") is None
    assert ("odd" in registry, len(registry), list(registry)) == (False, 1, [voice])
    assert registry.tagged(region="eu") == [voice]
    with pytest.raises(KeyError):
        registry.tags("odd")
    registry.update(CircuitBreakerConfig())
    assert odd.config is DEVELOPMENT
    anew = registry.circuit("odd")
    assert anew is not odd
    assert (anew.config, anew.state, registry.tags("odd")) == (DEVELOPMENT, "closed", {})


def test_circuits_may_be_removed_while_iterating() -> None:
    registry = CircuitRegistry()
    for name in ("one", "two", "three"):
        registry.circuit(name)
    for circuit in registry:
        registry.remove(circuit.name)
    assert list(registry) == []
