"""Registry of circuits by name, with shared settings and overrides; and the registry of this process.

`registry.circuit("geocoder")`, `registry.get("geocoder")` and `registry.remove("geocoder")` use that of the process,
whose circuits have the default settings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Lock
from typing import TYPE_CHECKING

from steadyvoice.breaker._arguments import check_clock, check_config, check_listeners, check_name, check_tags
from steadyvoice.breaker.breaker import CircuitBreaker
from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.errors import CircuitArgumentError
from steadyvoice.breaker.fork_safety import register_fork_aware
from steadyvoice.breaker.migration_hints import REGISTRY_ATTRIBUTES, add_attribute_hints

if TYPE_CHECKING:
    from steadyvoice.breaker.events import Listener


class CircuitRegistry:
    """Registry that makes a circuit when its name is first asked for, and keeps it.

    `overrides` holds the configurations of single names; every other circuit has `config`. Listeners receive the events
    of all circuits; `clock` and `wall_clock` are those of CircuitBreaker. Iterating yields the circuits. Arguments of
    another type raise CircuitArgumentError, a TypeError, and change nothing.

    - `listeners`: called with each event of all circuits.
    - `name`: name of a circuit.
    - `config`: settings of a circuit; the defaults of CircuitBreakerConfig if None.
    - `tags`: words by which circuits are found again.
    """

    def __init__(
        self,
        config: CircuitBreakerConfig | None = None,
        *,
        overrides: Mapping[str, CircuitBreakerConfig] | None = None,
        listeners: Iterable[Listener] = (),
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = CircuitBreakerConfig() if config is None else check_config(config)
        self._overrides = _checked(overrides)
        self._listeners = check_listeners(listeners)
        self._clock = check_clock("clock", clock)
        self._wall_clock = check_clock("wall_clock", wall_clock)
        self._lock = Lock()
        self._circuits: dict[str, CircuitBreaker] = {}
        self._tags: dict[str, dict[str, str]] = {}
        register_fork_aware(self)

    @property
    def fork_lock(self) -> Lock:
        """Lock that is held while circuits are made."""
        return self._lock

    def after_fork(self) -> None:
        """Replace the lock in a forked child, where a thread that held it does not exist."""
        self._lock = Lock()

    def circuit(self, name: str, **tags: str) -> CircuitBreaker:
        """Return the circuit of that name, always the same object. Tags are added to those it has."""
        check_name(name)
        check_tags(tags)
        with self._lock:
            self._tags.setdefault(name, {}).update(tags)  # first, so that `tagged` finds tags for each circuit
            circuit = self._circuits.get(name)
            if circuit is None:
                circuit = self._circuits[name] = self._make(name)
        return circuit

    def get(self, name: str) -> CircuitBreaker | None:
        """Return the circuit of that name, or None if there is none yet."""
        return self._circuits.get(name)  # no lock: one lookup in a dictionary is atomic

    def remove(self, name: str) -> CircuitBreaker | None:
        """Remove the circuit of that name, with its tags, and return it; None if there is none.

        Code that holds it may go on using it. The next `circuit(name)` makes a new one, with the settings of that name.
        """
        with self._lock:
            self._tags.pop(name, None)
            return self._circuits.pop(name, None)

    def tagged(self, **tags: str) -> list[CircuitBreaker]:
        """Return the circuits that carry all of these tags."""
        with self._lock:
            return [c for name, c in self._circuits.items() if tags.items() <= self._tags[name].items()]

    def tags(self, name: str) -> dict[str, str]:
        """Return the tags of a circuit. Raises KeyError for an unknown name."""
        with self._lock:
            self._circuits[name]  # KeyError
            return dict(self._tags[name])

    def configure(self, name: str, config: CircuitBreakerConfig) -> None:
        """Set the configuration of one name; an existing circuit keeps its results."""
        check_name(name)
        check_config(config)
        with self._lock:
            self._overrides[name] = config
            circuit = self._circuits.get(name)
        if circuit is not None:
            circuit.update(config)

    def update(self, config: CircuitBreakerConfig) -> None:
        """Set the shared configuration; existing circuits without an override get it and keep their results."""
        check_config(config)
        with self._lock:
            self._config = config
            circuits = [circuit for name, circuit in self._circuits.items() if name not in self._overrides]
        for circuit in circuits:
            circuit.update(config)

    def __contains__(self, name: object) -> bool:
        """Return whether a circuit of that name, or that circuit, is registered."""
        if isinstance(name, CircuitBreaker):
            return self._circuits.get(name.name) is name
        return name in self._circuits

    def __iter__(self) -> Iterator[CircuitBreaker]:
        with self._lock:
            return iter(list(self._circuits.values()))

    def __len__(self) -> int:
        return len(self._circuits)

    def _make(self, name: str) -> CircuitBreaker:
        config = self._overrides.get(name, self._config)
        return CircuitBreaker(name, config, clock=self._clock, wall_clock=self._wall_clock, listeners=self._listeners)


def _checked(overrides: Mapping[str, CircuitBreakerConfig] | None) -> dict[str, CircuitBreakerConfig]:
    if overrides is None:
        return {}
    if not isinstance(overrides, Mapping):
        raise CircuitArgumentError("overrides", overrides, "must be a mapping of names to CircuitBreakerConfig")
    return {check_name(name): check_config(config, f"overrides[{name!r}]") for name, config in overrides.items()}


add_attribute_hints(CircuitRegistry, REGISTRY_ATTRIBUTES)

_PROCESS_REGISTRY = CircuitRegistry()


def circuit(name: str, **tags: str) -> CircuitBreaker:
    """Return the circuit of that name in the registry of this process, always the same object."""
    return _PROCESS_REGISTRY.circuit(name, **tags)


def get(name: str) -> CircuitBreaker | None:
    """Return the circuit of that name in the registry of this process, or None if there is none yet."""
    return _PROCESS_REGISTRY.get(name)


def remove(name: str) -> CircuitBreaker | None:
    """Remove the circuit of that name from the registry of this process, and return it; None if there is none."""
    return _PROCESS_REGISTRY.remove(name)
