"""Circuits by name: one object a name, shared settings, exceptions for some."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Lock
from typing import TYPE_CHECKING

from steadyvoice.breaker.arguments import check_clock, check_config, check_listeners, check_name, check_tags
from steadyvoice.breaker.breaker import CircuitBreaker
from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.errors import CircuitArgumentError
from steadyvoice.breaker.fork import renew_after_fork
from steadyvoice.breaker.other_names import REGISTRY, answer_other_attributes

if TYPE_CHECKING:
    from steadyvoice.breaker.events import Listener


class CircuitRegistry:
    """Makes a circuit when its name is first asked for, and keeps it.

    `overrides` holds the settings of single names; every other circuit has `config`. Listeners hear all circuits.
    Iterating gives the circuits. Arguments of another type raise CircuitArgumentError, a TypeError, and change nothing.
    """

    def __init__(
        self,
        config: CircuitBreakerConfig | None = None,
        *,
        overrides: Mapping[str, CircuitBreakerConfig] | None = None,
        listeners: Iterable[Listener] = (),
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._config = CircuitBreakerConfig() if config is None else check_config(config)
        self._overrides = _checked(overrides)
        self._listeners = check_listeners(listeners)
        self._clock = check_clock("clock", clock)
        self._wall = check_clock("wall", wall)
        self._lock = Lock()
        self._circuits: dict[str, CircuitBreaker] = {}
        self._tags: dict[str, dict[str, str]] = {}
        renew_after_fork(self)

    @property
    def fork_lock(self) -> Lock:
        """Held while circuits are made."""
        return self._lock

    def after_fork(self) -> None:
        """Begin a forked child with a lock that no thread holds."""
        self._lock = Lock()

    def circuit(self, name: str, **tags: str) -> CircuitBreaker:
        """The circuit of that name: the same object for everybody. Tags are added to those it has."""
        check_name(name)
        check_tags(tags)
        with self._lock:
            self._tags.setdefault(name, {}).update(tags)  # first: no circuit is ever without
            circuit = self._circuits.get(name)
            if circuit is None:
                circuit = self._circuits[name] = self._make(name)
        return circuit

    def get(self, name: str) -> CircuitBreaker | None:
        """Return the circuit of that name, or None if it was never asked for. Makes none."""
        return self._circuits.get(name)

    def remove(self, name: str) -> CircuitBreaker | None:
        """Forget the circuit of that name, with its tags, and return it; None if there is none.

        Whoever holds it may go on using it. The next `circuit(name)` makes a new one, with the settings of that name.
        """
        with self._lock:
            self._tags.pop(name, None)
            return self._circuits.pop(name, None)

    def tagged(self, **tags: str) -> list[CircuitBreaker]:
        """The circuits that carry all of these tags."""
        with self._lock:
            return [c for name, c in self._circuits.items() if tags.items() <= self._tags[name].items()]

    def tags(self, name: str) -> dict[str, str]:
        """What a circuit was tagged with. Raises KeyError for a name nobody asked for."""
        with self._lock:
            self._circuits[name]  # KeyError
            return dict(self._tags[name])

    def configure(self, name: str, config: CircuitBreakerConfig) -> None:
        """Settings of one name, from now on; an existing circuit keeps its evidence."""
        check_name(name)
        check_config(config)
        with self._lock:
            self._overrides[name] = config
            circuit = self._circuits.get(name)
        if circuit is not None:
            circuit.update(config)

    def update(self, config: CircuitBreakerConfig) -> None:
        """The shared settings, from now on; existing circuits without settings of their own keep their evidence."""
        check_config(config)
        with self._lock:
            self._config = config
            circuits = [circuit for name, circuit in self._circuits.items() if name not in self._overrides]
        for circuit in circuits:
            circuit.update(config)

    def __contains__(self, name: object) -> bool:
        """Whether a circuit of that name, or that circuit, is in it."""
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
        return CircuitBreaker(name, config, clock=self._clock, wall=self._wall, listeners=self._listeners)


def _checked(overrides: Mapping[str, CircuitBreakerConfig] | None) -> dict[str, CircuitBreakerConfig]:
    if overrides is None:
        return {}
    if not isinstance(overrides, Mapping):
        raise CircuitArgumentError("overrides", overrides, "must be a mapping of names to CircuitBreakerConfig")
    return {check_name(name): check_config(config, f"overrides[{name!r}]") for name, config in overrides.items()}


answer_other_attributes(CircuitRegistry, REGISTRY)
