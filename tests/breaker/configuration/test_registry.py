"""Registry of circuits by name."""

from __future__ import annotations

from typing import Any

import pytest

from steadyvoice.breaker import CircuitArgumentError, CircuitBreaker, CircuitBreakerConfig, CircuitRegistry, Event
from steadyvoice.breaker import registry as registry_module
from steadyvoice.breaker.testing import VirtualClock

PRODUCTION, DEVELOPMENT = CircuitBreakerConfig.production(), CircuitBreakerConfig.development()


def test_same_name_returns_the_same_circuit() -> None:
    registry = CircuitRegistry()
    voice = registry.circuit("voice")
    assert registry.circuit("voice") is voice
    assert registry.circuit("other") is not voice
    assert [circuit.name for circuit in registry] == ["voice", "other"]
    assert (len(registry), "voice" in registry, "third" in registry) == (2, True, False)


def test_overrides_apply_to_single_names() -> None:
    registry = CircuitRegistry(PRODUCTION, overrides={"odd": DEVELOPMENT})
    assert registry.circuit("voice").config is PRODUCTION
    assert registry.circuit("odd").config is DEVELOPMENT


def test_configure_works_before_and_after_a_circuit_exists() -> None:
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


def test_update_applies_to_circuits_without_an_override() -> None:
    special = CircuitBreakerConfig(window_size=3)
    registry = CircuitRegistry(overrides={"special": special})
    usual, own = registry.circuit("usual"), registry.circuit("special")
    usual.acquire().failure()
    registry.update(CircuitBreakerConfig(window_size=7))
    assert (usual.config.window_size, usual.snapshot().failures) == (7, 1)
    assert own.config is special
    assert registry.circuit("later").config.window_size == 7


def test_configuration_as_tag_is_refused() -> None:
    registry = CircuitRegistry()
    settings: Any = {"config": DEVELOPMENT}
    with pytest.raises(CircuitArgumentError, match=r"^config=.*configure\(name, config\)"):
        registry.circuit("voice", **settings)
    assert "voice" not in registry


def test_get_creates_no_circuit() -> None:
    registry = CircuitRegistry()
    assert registry.get("voice") is None
    assert len(registry) == 0
    voice = registry.circuit("voice")
    assert registry.get("voice") is voice
    assert voice in registry
    assert CircuitBreaker("voice") not in registry


def test_removed_circuit_is_created_again_with_the_settings_of_its_name() -> None:
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
    created = registry.circuit("odd")
    assert created is not odd
    assert (created.config, created.state, registry.tags("odd")) == (DEVELOPMENT, "closed", {})


def test_circuits_can_be_removed_while_iterating() -> None:
    registry = CircuitRegistry()
    for name in ("one", "two", "three"):
        registry.circuit(name)
    for circuit in registry:
        registry.remove(circuit.name)
    assert list(registry) == []


def test_registry_of_the_process_keeps_circuits_by_name() -> None:
    name = "registry of the process"
    assert registry_module.get(name) is None
    circuit = registry_module.circuit(name)
    try:
        assert registry_module.circuit(name) is circuit
        assert registry_module.get(name) is circuit
        assert circuit.config == CircuitBreakerConfig()
    finally:
        assert registry_module.remove(name) is circuit
    assert registry_module.get(name) is None
    assert registry_module.remove(name) is None
