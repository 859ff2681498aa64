"""Providers of a service with their error handlers, replaceable at run time, and the closing of those replaced."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Protocol
from weakref import WeakSet

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, Listener
from steadyvoice.providers.base import Credential, HasCredential, Provider
from steadyvoice.service.pipeline.candidates import GuardedProvider
from steadyvoice.service.pipeline.timeouts import TimeoutConfig, provider_timeouts
from steadyvoice.service.resilience.account_limits import AccountLimits, VendorRequestIds
from steadyvoice.service.resilience.error_handler import TTSErrorHandler
from steadyvoice.service.resilience.event_loop_lag import LoopLag
from steadyvoice.service.resilience.retry import RetryConfig

_log = logging.getLogger("steadyvoice.calls")

CircuitSettings = Callable[[str], CircuitBreakerConfig | None]
"""Function from a provider's name to its circuit settings; None keeps those of an existing circuit."""


class Closable(Protocol):
    """Object with an asynchronous `aclose()`."""

    async def aclose(self) -> None:
        """Release what it holds."""
        ...


class ProviderSet:
    """Providers of one service in order of preference, each with its error handler and timeouts.

    `clock` is monotonic and `wall_clock` returns seconds since 1970. Circuits run on `lag.time`, which stands still
    while the event loop has no turn: a call does not hang when this process had no time to read its answer.
    """

    def __init__(
        self, *, clock: Callable[[], float], wall_clock: Callable[[], float], rng: Random, lag: LoopLag
    ) -> None:
        self.by_name: dict[str, GuardedProvider] = {}
        self._limits: dict[str, AccountLimits] = {}  # by credential
        self._clock, self._wall_clock, self._rng, self._lag = clock, wall_clock, rng, lag
        self._subscriptions: list[_Subscription] = []
        self._request_ids = VendorRequestIds()

    def replace(self, providers: Sequence[Provider], retry: RetryConfig, circuits: CircuitSettings) -> list[Closable]:
        """Use these providers from now on, and return the former objects that new utterances will not use.

        A provider with the name of a former one takes over its circuit and its billing totals.
        """
        before, limits = self.by_name, self._limits
        self._limits = self._limits_of(providers)
        self.by_name = {each.name: self._guard(each, before.get(each.name), retry, circuits) for each in providers}
        for subscription in self._subscriptions:
            subscription.follow(before, self.by_name)
        staying = {id(each) for each in [*providers, *self._limits.values()]}
        former: list[Closable] = [*(guarded.provider for guarded in before.values()), *limits.values()]
        return [each for each in former if id(each) not in staying]

    def set_timeouts(self, general: TimeoutConfig, overrides: Mapping[str, Mapping[str, float | None]]) -> None:
        """Set the timeouts of each provider from the next utterance on: its `overrides`, and the general ones."""
        for name, guarded in self.by_name.items():
            fields = overrides.get(name, {})
            timeouts = provider_timeouts(guarded.provider, general, fields)
            max_seconds = math.inf if fields.get("total_timeout") is None else timeouts.total_timeout
            self.by_name[name] = replace(guarded, timeouts=timeouts, max_seconds=max_seconds)
            guarded.handler.silence_limits.default = timeouts.overdue_after

    def with_timeouts(
        self, general: TimeoutConfig | None, overrides: Mapping[str, Mapping[str, float | None]]
    ) -> list[GuardedProvider]:
        """Return the providers, with other `general` timeouts than their own if any are given."""
        guarded = list(self.by_name.values())
        if general is None:
            return guarded
        return [
            replace(each, timeouts=provider_timeouts(each.provider, general, overrides.get(each.provider.name, {})))
            for each in guarded
        ]

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event of every circuit, later ones included; return a function that ends it."""
        subscription = _Subscription(listener)
        subscription.follow({}, self.by_name)
        self._subscriptions.append(subscription)

        def unsubscribe() -> None:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
                subscription.follow(self.by_name, {})

        return unsubscribe

    @property
    def closables(self) -> list[Closable]:
        """Objects to close at the end: account limits first, because their credit checks use providers."""
        return [*self._limits.values(), *(guarded.provider for guarded in self.by_name.values())]

    def _guard(
        self, provider: Provider, former: GuardedProvider | None, retry: RetryConfig, circuits: CircuitSettings
    ) -> GuardedProvider:
        limits, settings = self._limits[_account_id(provider)], circuits(provider.name)
        if former is None:
            handler = TTSErrorHandler(
                provider.name,
                settings,
                retry,
                clock=self._clock,
                wall_clock=self._wall_clock,
                rng=self._rng,
                account_limits=limits,
                circuit_clock=self._lag.time,
            )
            return GuardedProvider(provider, handler)
        handler = former.handler
        if settings is not None and settings != handler.circuit.config:
            handler.circuit.update(settings)
        if provider is former.provider and retry == handler.retry:
            return former
        return GuardedProvider(provider, handler.successor(retry, limits))

    def _limits_of(self, providers: Sequence[Provider]) -> dict[str, AccountLimits]:
        """Return the limits by credential; providers with the same credential share them."""
        users: dict[str, list[Provider]] = {}
        for provider in providers:
            users.setdefault(_account_id(provider), []).append(provider)
        found = {key: self._limits.get(key) or self._make_limits(of[0]) for key, of in users.items()}
        for key, limits in found.items():
            limits.set_users(users[key])
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


class CurrentCircuits:
    """Circuits of the providers that a set has whenever they are iterated, from any thread."""

    def __init__(self, providers: ProviderSet) -> None:
        self._providers = providers

    def __iter__(self) -> Iterator[CircuitBreaker]:
        return iter([guarded.handler.circuit for guarded in self._providers.by_name.copy().values()])


class ReplacedProviders:
    """Replaced providers of one service, closed once the last stream that uses them has ended.

    All of it belongs to one event loop.
    """

    def __init__(self) -> None:
        # Users are held weakly: a stream that is dropped without being closed ends its use as well.
        self._waiting: list[tuple[Closable, WeakSet[object]]] = []
        self._closing: set[asyncio.Task[None]] = set()

    def add(self, closables: Iterable[Closable], users: Iterable[object]) -> None:
        """Close these objects once none of the users is left, at once if there is none."""
        self._waiting += [(each, WeakSet(users)) for each in closables]
        self.close_unused()

    def left(self, user: object) -> None:
        """Note that a user has ended."""
        if self._waiting:
            for _, users in self._waiting:
                users.discard(user)
            self.close_unused()

    def close_unused(self) -> None:
        """Start to close objects without users."""
        for closable, users in list(self._waiting):
            if not users:
                self._waiting.remove((closable, users))
                task = asyncio.get_running_loop().create_task(_close(closable))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    async def settled(self) -> None:
        """Wait until the closing that was started has ended."""
        if self._closing:
            await asyncio.wait(set(self._closing))

    async def aclose(self) -> None:
        """Close all objects now, whether or not they have users."""
        for _, users in self._waiting:
            users.clear()
        self.close_unused()
        await self.settled()


async def _close(closable: Closable) -> None:
    try:
        await closable.aclose()
    except Exception as error:
        _log.warning("closing a replaced provider failed: %s", error, exc_info=error)


class _Subscription:
    """Subscription of one listener to all circuits."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._unsubscribe: dict[str, Callable[[], None]] = {}

    def follow(self, before: dict[str, GuardedProvider], after: dict[str, GuardedProvider]) -> None:
        for name in before.keys() - after.keys():
            self._unsubscribe.pop(name)()
        for name in after.keys() - before.keys():
            self._unsubscribe[name] = after[name].handler.circuit.subscribe(self._listener)


def _credential(provider: Provider) -> Credential | None:
    return provider.credential if isinstance(provider, HasCredential) else None


def _account_id(provider: Provider) -> str:
    credential = _credential(provider)
    return credential.id if credential else f"only {provider.name}"
