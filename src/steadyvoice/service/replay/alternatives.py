"""Alternatives that a replay tries: the recorded circuits, timeouts and retries, with changes, or those of a file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from steadyvoice.breaker import CircuitBreakerConfig, CircuitConfigError
from steadyvoice.service.config_file import false_to_none, parse_circuit
from steadyvoice.service.journal.records import ProviderSettings, SettingsLine
from steadyvoice.service.options import ServiceArguments
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.service.resilience.retry import RetryConfig
from steadyvoice.speech.errors import TTSConfigurationError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReplayedProvider:
    """Provider of a replay, with its circuit's settings and its timeouts."""

    name: str
    local: bool
    circuit: CircuitBreakerConfig
    timeouts: TimeoutConfig


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """Settings in force at some time of a replay. `providers` are in order of preference."""

    providers: Sequence[ReplayedProvider]
    retry: RetryConfig
    muted: bool

    @classmethod
    def of(cls, line: SettingsLine) -> ReplaySettings:
        """Return recorded settings. Those of circuits that only code can set have no effect: see docs/journal.md."""
        return cls([_provider(each) for each in line.providers], RetryConfig(**line.retry), line.muted)


def _provider(settings: ProviderSettings) -> ReplayedProvider:
    known = {field.name for field in fields(CircuitBreakerConfig)}
    circuit = {name: value for name, value in settings.circuit.items() if name in known and value is not True}
    timeouts = TimeoutConfig().laid_over(settings.timeouts)
    return ReplayedProvider(settings.name, settings.local, CircuitBreakerConfig(**circuit), timeouts)


@dataclass(frozen=True, slots=True)
class Alternative:
    """Settings other than the recorded ones: a name to show, and the function that makes them."""

    name: str
    apply: Callable[[ReplaySettings], ReplaySettings]


RECORDED = Alternative("recorded settings", lambda settings: settings)


def parse_changes(text: str) -> Alternative:
    """Return the alternative of one or more changes such as `circuit.cooldown_period=5 retry.max_attempts=2`.

    A key is `circuit.FIELD`, `timeouts.FIELD` or `retry.FIELD`, the first two also for one provider:
    `NAME.circuit.FIELD`. `circuit.preset` comes first. Raises TTSConfigurationError.
    """
    changes = []
    for part in text.split():
        key, equals, value = part.partition("=")
        if not equals or "." not in key:
            raise TTSConfigurationError(f"{part}: must be KEY=VALUE, such as circuit.cooldown_period=5")
        changes.append((key, _value(value)))
    if not changes:
        raise TTSConfigurationError("a change must be KEY=VALUE, such as circuit.cooldown_period=5")

    def apply(settings: ReplaySettings) -> ReplaySettings:
        for key, value in sorted(changes, key=lambda change: not change[0].endswith("circuit.preset")):
            settings = _changed(settings, key, value)
        return settings

    return Alternative(text, apply)


def settings_of_file(name: str, arguments: ServiceArguments) -> Alternative:
    """Return the alternative of a configuration file, for the providers that the journal has."""

    def apply(settings: ReplaySettings) -> ReplaySettings:
        recorded = {each.name: each for each in settings.providers}
        general = arguments.get("timeouts") or TimeoutConfig()
        usual = arguments.get("circuit") or CircuitBreakerConfig.adaptive()
        circuits, timeouts = arguments.get("circuits", {}), arguments.get("provider_timeouts", {})
        providers = [
            replace(
                recorded[each.name],
                circuit=circuits.get(each.name, usual),
                timeouts=general.laid_over(timeouts.get(each.name, {})),
            )
            for each in arguments["providers"]
            if each.name in recorded
        ]
        if not providers:
            names = ", ".join(recorded)
            raise TTSConfigurationError(f"{name}: no provider has the name of one in the journal ({names})")
        return ReplaySettings(providers, arguments.get("retry") or RetryConfig(), arguments.get("muted", True))

    return Alternative(name, apply)


def with_circuit_fields(name: str, provider: str, given: Mapping[str, Any]) -> Alternative:
    """Return the alternative of one provider's circuit with these fields, others as by default. Raises ValueError."""
    config = CircuitBreakerConfig(**given)

    def apply(settings: ReplaySettings) -> ReplaySettings:
        changed = [replace(each, circuit=config) if each.name == provider else each for each in settings.providers]
        return replace(settings, providers=changed)

    return Alternative(name, apply)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _changed(settings: ReplaySettings, key: str, value: Any) -> ReplaySettings:
    *owner, table, field = key.split(".")
    names = [each.name for each in settings.providers]
    chosen = ".".join(owner)
    if chosen and chosen not in names:
        raise TTSConfigurationError(f"{key}: the journal has no provider {chosen!r}; it has {', '.join(names)}")
    if table == "retry" and not chosen:
        return replace(settings, retry=_replaced(settings.retry, key, {field: value}))
    if table not in ("circuit", "timeouts"):
        raise TTSConfigurationError(f"{key}: must be circuit.FIELD, timeouts.FIELD or retry.FIELD")
    providers = []
    for each in settings.providers:
        if chosen and each.name != chosen:
            providers.append(each)
        elif table == "timeouts":
            providers.append(replace(each, timeouts=each.timeouts.laid_over({field: value})))
        elif field == "preset":
            providers.append(replace(each, circuit=parse_circuit({"preset": value}, "circuit")))
        else:
            providers.append(replace(each, circuit=_replaced(each.circuit, key, false_to_none({field: value}))))
    return replace(settings, providers=providers)


def _replaced(config: T, key: str, changes: Mapping[str, Any]) -> T:
    try:
        return replace(config, **changes)  # type: ignore[type-var]
    except TypeError:
        names = ", ".join(field.name for field in fields(config))  # type: ignore[arg-type]
        raise TTSConfigurationError(f"{key}: unknown key; there are {names}") from None
    except CircuitConfigError as error:
        raise TTSConfigurationError(f"{key}: {error}") from None
