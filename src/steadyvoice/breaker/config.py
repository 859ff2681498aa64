"""Configuration of a circuit breaker: settings, presets such as the adaptive policy, and their validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import KW_ONLY, dataclass, fields
from functools import cache, reduce
from operator import or_
from typing import TYPE_CHECKING, Any, TypeAlias

from steadyvoice._option_rules import FACTOR, SECONDS, SHARE
from steadyvoice.breaker import _validators
from steadyvoice.breaker.errors import CircuitConfigError
from steadyvoice.breaker.migration_hints import add_setting_hints
from steadyvoice.breaker.rules import (
    SIMPLE_RULES,
    ConsecutiveFailures,
    FailureRate,
    Rule,
    RuleSet,
    SlowCallRate,
    UnlikelyFailures,
    minimum_call_counts,
)

# Duration fields accept timedeltas and hold floats. No annotation can express that, so type checkers are shown
# descriptors; at run time they are plain fields. Checked with mypy and pyright in strict mode (`tests/typing`).
if TYPE_CHECKING:
    from datetime import timedelta
    from types import UnionType

    class Seconds:
        """Descriptor for type checkers: accepts a number of seconds or a timedelta, returns seconds."""

        def __get__(self, config: object, kind: object = None) -> float: ...
        def __set__(self, config: object, value: float | timedelta) -> None: ...

    class OptionalSeconds:
        """Descriptor for type checkers: a duration, or None."""

        def __get__(self, config: object, kind: object = None) -> float | None: ...
        def __set__(self, config: object, value: float | timedelta | None) -> None: ...

    class Schedule:
        """Descriptor for type checkers: several durations, or None."""

        def __get__(self, config: object, kind: object = None) -> tuple[float, ...] | None: ...
        def __set__(self, config: object, value: Sequence[float | timedelta] | None) -> None: ...

    Errors: TypeAlias = (
        type[BaseException]
        | UnionType
        | Sequence[type[BaseException]]
        | Set[type[BaseException]]
        | Callable[[Any], object]
    )
    """Exception type, several of them (`A | B`, or a tuple, list or set of them), or a predicate of one exception."""

    def default(value: object) -> Any:
        """Return the default value of a field that accepts more types than it has."""

else:

    def default(value):
        return value


class _Derived:
    """Slot for what is computed from a configuration once. It is no field: it is neither compared, shown nor copied."""

    __slots__ = ("_rule_set",)

    _rule_set: RuleSet


@dataclass(frozen=True, slots=True)
class CircuitBreakerConfig(_Derived):
    """Settings of one circuit. Durations are seconds or timedeltas; rates are between 0 and 1.

    The defaults below are those of a CircuitBreaker made without settings: open for 60 s at half of 10 calls failed.
    `TTSService`, its command and the gateway use `adaptive()` unless they are configured: open for 2 s at first.

    Opening. The circuit opens when any of the rules that are set is broken:

    * `failure_threshold`: the failure rate over the window reaches it, with at least `minimum_calls` results (None:
      half the window, rounded up; five in a time window). None: no such rule.
    * `consecutive_failures`: number of failures in a row.
    * `significance`: as many failures in a row as come by chance with this probability, at the failure rate of the last
      calls before them; with 1e-8, four where none failed before, ten where 15 % did, seven while that is unknown.
    * `slow_call_duration`, `slow_call_threshold`: calls that take this long or longer are slow, and their rate over the
      window reaches the threshold (None: all of them).
    * `opens_when`: a rule in place of all these, combined with `&` and `|`:
      `ConsecutiveFailures(9) | FailureRate(0.2, 20) & SlowCallRate(0.5, 20)`.

    Rules are alternatives: `consecutive_failures=20` alone opens after five failures of the first five calls, as
    `failure_threshold` is set unless it is None. `consecutive(20)` has that one rule.

    Hanging. A call in flight for `hung_after` without progress counts as a failure until it ends. With `hung_factor`,
    it hangs only when it is silent also for so many times as long as the slowest of the last 100 to 200 calls that
    answered; before 100 have, it is given `half_open_timeout`.

    Window. The last `window_size` results, or those of the last `window_seconds` when that is set.

    Recovery. After `cooldown_period` the next callers become probes, `half_open_max_calls` at a time;
    `success_threshold` of them in a row close the circuit, or, when `half_open_failures` of them may fail, as many in
    all. A probe without an end or progress for `half_open_timeout` has failed; one that is a stream has succeeded after
    `stream_probe_success_after` seconds of progress. Once closed, the circuit admits a tenth of the calls and gradually
    more during `ramp_up`, when that is set.

    Backoff. Each opening multiplies the next cooldown by `cooldown_backoff`, up to `max_cooldown`; or the cooldowns are
    those of `cooldown_schedule`, whose last one repeats. Staying closed for as long as the last cooldown takes one such
    step back. `cooldown_jitter` shortens each cooldown by up to that share, at random.

    Classification. `failure_on` and `ignore` are an exception type, several (`A | B`, or a tuple, list or set), or a
    predicate; `ignore` wins. Errors that match neither are ignored. Without `failure_on` every Exception is a failure,
    except another circuit's refusal. An exception group is a failure if any exception in it is one.
    `failure_result(value)` returns whether a returned value is a failure; `failure_weight(error)` returns a failure's
    weight in (0, 1]; `cooldown_from_error(error)` returns the seconds for which this error opens the circuit at once,
    or None.

    Raises CircuitConfigError, a ValueError that names the field, for settings that cannot work.
    """

    failure_threshold: float | None = 0.5  # failure rate in the window that opens the circuit
    window_size: int = 10  # calls in the window
    cooldown_period: Seconds = default(60.0)  # seconds before the first probe
    success_threshold: int = 3  # successful probes that close the circuit
    _: KW_ONLY
    minimum_calls: int | None = None
    """Calls in the window before a rate is evaluated; if absent, half of it, or 5 in a window of seconds."""
    window_seconds: OptionalSeconds = default(None)  # seconds of the window; if set, `window_size` does not apply
    consecutive_failures: int | None = None  # failures in a row that open the circuit
    significance: float | None = None
    """Share: failures in a row open the circuit if they would come by chance this rarely."""
    hung_after: OptionalSeconds = default(None)
    """Seconds without a sign of life from which a call in flight counts as a failure."""
    hung_factor: float | None = None
    """Factor: a call hangs only if it is also silent for this many times the slowest recent call."""
    slow_call_duration: OptionalSeconds = default(None)  # seconds from which a call is slow
    slow_call_threshold: float | None = None  # rate of slow calls that opens the circuit; if absent, all
    opens_when: Rule | None = None  # rule in place of all these
    half_open_max_calls: int = 1  # probes at the same time
    half_open_failures: int = 0  # probes that may fail
    half_open_timeout: Seconds = default(60.0)  # seconds without progress after which a probe has failed
    stream_probe_success_after: Seconds = default(3.0)
    """Seconds of progress after which a streaming probe has succeeded."""
    cooldown_backoff: float = 1.0  # factor by which the cooldown grows with each opening
    cooldown_jitter: float = 0.0  # share by which a cooldown is shortened at random
    cooldown_schedule: Schedule = default(None)  # seconds of each cooldown, the last one repeated
    max_cooldown: OptionalSeconds = default(None)  # seconds, upper bound of the cooldown
    ramp_up: OptionalSeconds = default(None)  # seconds of gradual recovery after closing
    failure_on: Errors | None = None  # exceptions that are failures; others are ignored
    ignore: Errors | None = None  # exceptions that say nothing about the service
    failure_result: Callable[[Any], object] | None = None  # function of a returned value: whether it is a failure
    failure_weight: Callable[[Any], float] | None = None  # function of an error: its weight, more than 0 and at most 1
    cooldown_from_error: Callable[[Any], float | timedelta | None] | None = None
    """Function of an error: seconds to stay open at once, or None."""

    @classmethod
    @cache  # a configuration never changes, so the circuits of a process share it
    def production(cls) -> CircuitBreakerConfig:
        """Return settings for production: 0.6 of 20 calls, 120 s cooldown, 5 probes."""
        return cls(failure_threshold=0.6, window_size=20, cooldown_period=120, success_threshold=5)

    @classmethod
    @cache
    def development(cls) -> CircuitBreakerConfig:
        """Return settings for development, which show the behaviour within seconds: 0.5 of 4 calls, 10 s, 2 probes."""
        return cls(failure_threshold=0.5, window_size=4, cooldown_period=10, success_threshold=2)

    @classmethod
    @cache
    def adaptive(cls) -> CircuitBreakerConfig:
        """Return the recommended settings: learn the usual failure rate, notice hanging calls, probe soon.

        Four or five failures in a row open the circuit of a provider that was nearly perfect until then. The end of an
        outage is noticed about two seconds and a twentieth of its length late. At 20 calls a second with 15 %
        independent errors the circuit stays closed: it takes eleven or twelve failures in a row there, nine when errors
        were fewer lately. Measured with `benchmarks/policy.py`.
        """
        return cls(
            failure_threshold=0.6,
            window_seconds=30,
            minimum_calls=20,
            significance=1e-9,
            hung_after=2,
            hung_factor=1.5,
            cooldown_period=2,
            cooldown_backoff=1.05,
            cooldown_jitter=0.2,
            max_cooldown=60,
            success_threshold=2,
            half_open_timeout=20,
        )

    @classmethod
    def consecutive(cls, n: int, cooldown_period: float | timedelta = 60.0, **settings: Any) -> CircuitBreakerConfig:
        """Return settings that open after `n` failures in a row and for no other reason, as in many libraries.

        Further `settings` are fields, such as `success_threshold=1` or `ignore=ValueError`.

        - `cooldown_period`: seconds before the first probe.
        """
        _validators.require("consecutive_failures", _validators.count, n)
        return cls(failure_threshold=None, consecutive_failures=n, cooldown_period=cooldown_period, **settings)

    @property
    def minimum(self) -> int:
        """Results that the window must hold before a rate is evaluated."""
        if self.minimum_calls is not None:
            return self.minimum_calls
        if self.opens_when is not None:
            return minimum_call_counts(self.opens_when)[0]
        return 5 if self.window_seconds is not None else (self.window_size + 1) // 2

    @property
    def rule(self) -> Rule:
        """Rule that opens the circuit: `opens_when`, or the rules of the fields combined with `|`."""
        return self.rule_set.rule

    @property
    def rule_set(self) -> RuleSet:
        """The same with what follows from it. Computed when a circuit first needs it."""
        try:
            return self._rule_set
        except AttributeError:
            rule_set = RuleSet(self.opens_when or reduce(or_, _rules_of_fields(self)))
            object.__setattr__(self, "_rule_set", rule_set)
            return rule_set

    def __post_init__(self) -> None:
        _normalise(self)
        _validate_rules(self)
        _validate_recovery(self)
        _validate_classification(self)


DURATIONS = (
    "cooldown_period",
    "window_seconds",
    "hung_after",
    "slow_call_duration",
    "half_open_timeout",
    "stream_probe_success_after",
    "max_cooldown",
    "ramp_up",
)


def _normalise(config: CircuitBreakerConfig) -> None:
    """Convert timedeltas to seconds, and collections to tuples."""
    for field in DURATIONS:
        value = getattr(config, field)
        if (seconds := _validators.to_seconds(value)) is not value:
            object.__setattr__(config, field, seconds)
    schedule: object = config.cooldown_schedule
    if isinstance(schedule, list | tuple):  # a list, as configuration files have it
        object.__setattr__(config, "cooldown_schedule", tuple(_validators.to_seconds(each) for each in schedule))
    for field in ("failure_on", "ignore"):
        object.__setattr__(config, field, _validators.exception_types(getattr(config, field)))


def _validate_rules(config: CircuitBreakerConfig) -> None:
    _validators.rate("failure_threshold", config.failure_threshold)
    _validators.require("window_size", _validators.count, config.window_size)
    _validators.count("minimum_calls", config.minimum_calls)
    _validators.duration("window_seconds", config.window_seconds)
    _validators.count("consecutive_failures", config.consecutive_failures)
    _validators.probability("significance", config.significance)
    _validators.duration("hung_after", config.hung_after)
    _validators.factor("hung_factor", config.hung_factor)
    _validators.duration("slow_call_duration", config.slow_call_duration)
    _validators.rate("slow_call_threshold", config.slow_call_threshold)
    if config.opens_when is None and config.window_seconds is None and config.minimum > config.window_size:
        reason = f"never reached: the window holds only {config.window_size} calls (window_size)"
        raise CircuitConfigError("minimum_calls", config.minimum_calls, reason)
    if config.slow_call_threshold is not None and config.slow_call_duration is None:
        reason = "requires slow_call_duration"
        raise CircuitConfigError("slow_call_threshold", config.slow_call_threshold, reason)
    if config.hung_factor is not None and config.hung_after is None:
        raise CircuitConfigError("hung_factor", config.hung_factor, "requires hung_after, its lower limit")
    if config.opens_when is not None:
        _validate_combined_rule(config)
    elif not any(_rules_of_fields(config)):
        reason = "no rule would open the circuit; set consecutive_failures, significance or slow_call_duration"
        raise CircuitConfigError("failure_threshold", None, reason)


def _validate_combined_rule(config: CircuitBreakerConfig) -> None:
    if not isinstance(config.opens_when, Rule):
        reason = "must be a rule, such as FailureRate(0.5, 10) | ConsecutiveFailures(5)"
        raise CircuitConfigError("opens_when", config.opens_when, reason)
    for field in ("minimum_calls", "consecutive_failures", "significance", "slow_call_threshold"):
        if (value := getattr(config, field)) is not None:
            raise CircuitConfigError(field, value, "has no effect with opens_when; make it part of that rule")
    for part in config.opens_when.parts():
        # A foreign subclass could raise, or block, under the breaker's lock, and could be broken by a success that took
        # no lock.
        if type(part) not in SIMPLE_RULES:
            reason = "must combine the rules of this package: the circuit relies on how they behave"
            raise CircuitConfigError("opens_when", config.opens_when, reason)
        if isinstance(part, SlowCallRate) and config.slow_call_duration is None:
            reason = "requires slow_call_duration"
            raise CircuitConfigError("opens_when", config.opens_when, reason)
    if config.window_seconds is None and minimum_call_counts(config.opens_when)[-1] > config.window_size:
        reason = f"never has enough calls: the window holds only {config.window_size} calls (window_size)"
        raise CircuitConfigError("opens_when", config.opens_when, reason)


def _rules_of_fields(config: CircuitBreakerConfig) -> Iterator[Rule]:
    """Yield the rules that the fields define, in the order of evaluation."""
    if config.consecutive_failures is not None:
        yield ConsecutiveFailures(config.consecutive_failures)
    if config.significance is not None:
        yield UnlikelyFailures(config.significance)
    if config.failure_threshold is not None:
        yield FailureRate(config.failure_threshold, config.minimum)
    if config.slow_call_duration is not None:
        yield SlowCallRate(config.slow_call_threshold or 1.0, config.minimum)


def _validate_recovery(config: CircuitBreakerConfig) -> None:
    _validators.require("cooldown_period", _validators.cooldown, config.cooldown_period)
    _validators.require("success_threshold", _validators.count, config.success_threshold)
    _validators.require("half_open_max_calls", _validators.count, config.half_open_max_calls)
    _validators.count("half_open_failures", config.half_open_failures, least=0)
    _validators.require("half_open_timeout", _validators.duration, config.half_open_timeout)
    _validators.duration("max_cooldown", config.max_cooldown)
    _validators.duration("ramp_up", config.ramp_up)
    _validators.check("stream_probe_success_after", config.stream_probe_success_after, SECONDS)
    _validators.check("cooldown_backoff", config.cooldown_backoff, FACTOR, ": with less, cooldowns would shrink")
    _validators.check("cooldown_jitter", config.cooldown_jitter, SHARE)
    if config.max_cooldown is not None and config.max_cooldown < config.cooldown_period:
        reason = f"is less than the first cooldown, {config.cooldown_period} s (cooldown_period)"
        raise CircuitConfigError("max_cooldown", config.max_cooldown, reason)
    _validate_schedule(config)


def _validate_schedule(config: CircuitBreakerConfig) -> None:
    schedule = config.cooldown_schedule
    if schedule is None:
        return
    if not isinstance(schedule, tuple) or not schedule:
        reason = "must be a sequence of seconds: the first cooldown, the second, ..."
        raise CircuitConfigError("cooldown_schedule", schedule, reason)
    for seconds in schedule:
        _validators.require("cooldown_schedule", _validators.cooldown, seconds)
    for field, usual in (("cooldown_backoff", 1), ("max_cooldown", None)):
        if (value := getattr(config, field)) != usual:
            raise CircuitConfigError(field, value, "has no effect with cooldown_schedule, which lists each cooldown")


def _validate_classification(config: CircuitBreakerConfig) -> None:
    _validators.errors_or_predicate("failure_on", config.failure_on)
    _validators.errors_or_predicate("ignore", config.ignore)
    for field in ("failure_result", "failure_weight", "cooldown_from_error"):
        _validators.predicate(field, getattr(config, field))


add_setting_hints(CircuitBreakerConfig, [field.name for field in fields(CircuitBreakerConfig)])
