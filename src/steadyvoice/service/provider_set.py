"""Who speaks, in order of preference, each behind a guard. They may be others from one utterance to the next."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Protocol

from steadyvoice.breaker import CircuitBreakerConfig, Listener
from steadyvoice.providers.base import Credential, HasCredential, Provider
from steadyvoice.service.pipeline.candidates import GuardedProvider
from steadyvoice.service.pipeline.timeouts import TimeoutConfig, provider_timeouts
from steadyvoice.service.resilience.account_limits import AccountLimits
from steadyvoice.service.resilience.error_handler import TTSErrorHandler
from steadyvoice.service.resilience.event_loop_lag import LoopLag
from steadyvoice.service.resilience.request_ids import RequestIds
from steadyvoice.service.resilience.retry import RetryConfig

CircuitSettings = Callable[[str], CircuitBreakerConfig | None]
"""A provider's circuit settings, by its name. None: whatever it has; adaptive, if it is new."""


class Closable(Protocol):
    """What must be let go of at its end."""

    async def aclose(self) -> None: ...


class ProviderSet:
    """One service's. `clock` gives seconds that never go back; `wall_clock` is the time of day.

    Circuits go by a clock that stands still while the event loop gets no turn (`lag`): a call is not hanging when
    nobody had the time to read its answer.
    """

    def __init__(
        self, *, clock: Callable[[], float], wall_clock: Callable[[], float], rng: Random, lag: LoopLag
    ) -> None:
        self.by_name: dict[str, GuardedProvider] = {}
        self._limits: dict[str, AccountLimits] = {}  # by credential
        self._clock, self._wall_clock, self._rng, self._lag = clock, wall_clock, rng, lag
        self._listening: list[_Subscription] = []
        self._request_ids = RequestIds()

    def adopt(self, providers: Sequence[Provider], retry: RetryConfig, circuits: CircuitSettings) -> list[Closable]:
        """Let these speak from now on, and tell what of the former ones nobody new will need.

        A provider of the same name goes on with the circuit, and the books, of the one before it.
        """
        before, limits = self.by_name, self._limits
        self._limits = self._limits_of(providers)
        self.by_name = {each.name: self._speaker(each, before.get(each.name), retry, circuits) for each in providers}
        for listening in self._listening:
            listening.follow(before, self.by_name)
        staying = {id(each) for each in [*providers, *self._limits.values()]}
        former: list[Closable] = [*(speaker.provider for speaker in before.values()), *limits.values()]
        return [each for each in former if id(each) not in staying]

    def time(self, general: TimeoutConfig, own: Mapping[str, Mapping[str, float | None]]) -> None:
        """Give each speaker its timeouts, which hold from the next utterance on."""
        for name, speaker in self.by_name.items():
            fields = own.get(name, {})
            timeouts = provider_timeouts(speaker.provider, general, fields)
            most = math.inf if fields.get("total_timeout") is None else timeouts.total_timeout
            self.by_name[name] = replace(speaker, timeouts=timeouts, max_seconds=most)
            speaker.handler.silence_limits.default = timeouts.overdue_after

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event of every circuit, of those to come as well."""
        listening = _Subscription(listener)
        listening.follow({}, self.by_name)
        self._listening.append(listening)

        def unsubscribe() -> None:
            if listening in self._listening:
                self._listening.remove(listening)
                listening.follow(self.by_name, {})

        return unsubscribe

    @property
    def closables(self) -> list[Closable]:
        """All that must be let go of at the end: accounts first, for they ask providers."""
        return [*self._limits.values(), *(speaker.provider for speaker in self.by_name.values())]

    def _speaker(
        self, provider: Provider, former: GuardedProvider | None, retry: RetryConfig, circuits: CircuitSettings
    ) -> GuardedProvider:
        account_limits, settings = self._limits[_account_id(provider)], circuits(provider.name)
        if former is None:
            handler = TTSErrorHandler(
                provider.name,
                settings,
                retry,
                clock=self._clock,
                wall_clock=self._wall_clock,
                rng=self._rng,
                account_limits=account_limits,
                circuit_clock=self._lag.time,
            )
            return GuardedProvider(provider, handler)
        guard = former.handler
        if settings is not None and settings != guard.circuit.config:
            guard.circuit.update(settings)
        if provider is former.provider and retry == guard.retry:
            return former
        return GuardedProvider(provider, guard.successor(retry, account_limits))

    def _limits_of(self, providers: Sequence[Provider]) -> dict[str, AccountLimits]:
        """Each credential's own, which providers of the same credential share."""
        users: dict[str, list[Provider]] = {}
        for provider in providers:
            users.setdefault(_account_id(provider), []).append(provider)
        found = {key: self._limits.get(key) or self._make_limits(of[0]) for key, of in users.items()}
        for key, account_limits in found.items():
            account_limits.adopt(users[key])
        return found

    def _make_limits(self, provider: Provider) -> AccountLimits:
        return AccountLimits(
            provider.name,
            _credential(provider),
            None,
            clock=self._clock,
            wall_clock=self._wall_clock,
            request_ids=self._request_ids,
        )


class _Subscription:
    """One listener at all circuits."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._ends: dict[str, Callable[[], None]] = {}

    def follow(self, before: dict[str, GuardedProvider], after: dict[str, GuardedProvider]) -> None:
        for name in before.keys() - after.keys():
            self._ends.pop(name)()
        for name in after.keys() - before.keys():
            self._ends[name] = after[name].handler.circuit.subscribe(self._listener)


def _credential(provider: Provider) -> Credential | None:
    return provider.credential if isinstance(provider, HasCredential) else None


def _account_id(provider: Provider) -> str:
    credential = _credential(provider)
    return credential.id if credential else f"only {provider.name}"
