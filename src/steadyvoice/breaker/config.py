"""How a circuit breaker is set: fields, presets, and the checks that refuse what cannot work."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import KW_ONLY, dataclass, fields
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, TypeAlias

from steadyvoice.breaker import checks
from steadyvoice.breaker.error_types import check_errors, check_predicate, types_of
from steadyvoice.breaker.errors import CircuitConfigError
from steadyvoice.breaker.other_names import answer_other_settings
from steadyvoice.breaker.rules import (
    SIMPLE_RULES,
    ConsecutiveFailures,
    FailureRate,
    Rule,
    SlowCallRate,
    UnlikelyFailures,
    minimums,
)

if TYPE_CHECKING:
    from datetime import timedelta
    from types import UnionType

    class Seconds:
        """A duration: a timedelta is accepted, too, and is a number of seconds from then on."""

        def __get__(self, config: object, kind: object = None) -> float: ...
        def __set__(self, config: object, value: float | timedelta) -> None: ...

    class OptionalSeconds:
        """The same, or None."""

        def __get__(self, config: object, kind: object = None) -> float | None: ...
        def __set__(self, config: object, value: float | timedelta | None) -> None: ...

    class Schedule:
        """Several of them, or None."""

        def __get__(self, config: object, kind: object = None) -> tuple[float, ...] | None: ...
        def __set__(self, config: object, value: Sequence[float | timedelta] | None) -> None: ...

    Errors: TypeAlias = (
        type[BaseException]
        | UnionType
        | Sequence[type[BaseException]]
        | Set[type[BaseException]]
        | Callable[[Any], object]
    )
    """Exception types: one, several (`A | B`, or a tuple, list or set of them), or a predicate of one exception."""

    def default(value: object) -> Any:
        """Return the default value of a field that accepts more types than it has."""

else:

    def default(value):
        return value


@dataclass(frozen=True, slots=True)
class CircuitBreakerConfig:
    """The settings of one circuit. Durations are in seconds, or timedeltas; rates are between 0 and 1.

    Opening. Any of the rules that are set opens the circuit:

    * `failure_threshold`: the failure rate over the window reaches this, with at least `minimum_calls` results
      (None: half the window, rounded up; five in a time window). None: no such rule.
    * `consecutive_failures`: so many failures in a row.
    * `significance`: so many failures in a row as would come by chance this rarely, at the failure rate of the last
      calls before them; with 1e-8, four where none failed before, ten where 15 % did, seven while that is unknown.
    * `slow_call_duration`, `slow_call_threshold`: calls that take this long or longer are slow, and their rate
      over the window reaches the threshold (None: all of them).
    * `hung_after`: no rule of its own: a call in flight for so long counts as a failure until it ends.
    * `hung_factor`: waits longer for a provider that is slow but works: a call hangs only when it is silent also
      for so many times as long as the slowest of the last 100 to 200 calls that answered. Before 100 have, it is
      given `half_open_timeout`.

    * `opens_when`: a rule of your own in place of all these, put together with `&` and `|`:
      `ConsecutiveFailures(9) | FailureRate(0.2, 20) & SlowCallRate(0.5, 20)`.

    The window is the last `window_size` results, or those of the last `window_seconds` when that is set.

    Rules are alternatives: `consecutive_failures=20` alone opens after five failures of the first five calls, as
    `failure_threshold` is set unless it is None. `consecutive(20)` has that one rule.

    Recovering. After `cooldown_period` the next callers become probes, `half_open_max_calls` at a time;
    `success_threshold` of them in a row close the circuit, or, when `half_open_failures` of them may fail, so many
    in all. A probe without an end or progress for `half_open_timeout` has failed; one that is a stream has
    succeeded after `probe_after` of progress. Once closed, the circuit admits a tenth of the calls and more and
    more of them for `ramp_up`, when that is set.

    Each opening multiplies the next cooldown by `cooldown_backoff`, up to `max_cooldown`; or the cooldowns are
    those of `cooldown_schedule`, the last one again and again. Staying closed for as long as the last cooldown takes
    one such step back. `cooldown_jitter` shortens each cooldown by up to that share, at random.

    Meaning. `failure_on` and `ignore` are an exception type, several (`A | B`, or a tuple, list or set), or a
    predicate; `ignore` wins. What is neither is ignored. Without `failure_on` every Exception is a failure, but for
    another circuit's refusal. An exception group is a failure if any exception in it is one.
    `failure_result(value)` tells a returned value that is a failure; `failure_weight(error)` gives a failure's
    weight in (0, 1]; `open_for(error)` gives the seconds for which this error opens the circuit at once, or None.

    Raises CircuitConfigError, a ValueError that names the field, for settings that cannot work.
    """

    failure_threshold: float | None = 0.5
    window_size: int = 10
    cooldown_period: Seconds = default(60.0)
    success_threshold: int = 3
    _: KW_ONLY
    minimum_calls: int | None = None
    window_seconds: OptionalSeconds = default(None)
    consecutive_failures: int | None = None
    significance: float | None = None
    hung_after: OptionalSeconds = default(None)
    hung_factor: float | None = None
    slow_call_duration: OptionalSeconds = default(None)
    slow_call_threshold: float | None = None
    opens_when: Rule | None = None
    half_open_max_calls: int = 1
    half_open_failures: int = 0
    half_open_timeout: Seconds = default(60.0)
    probe_after: Seconds = default(3.0)
    cooldown_backoff: float = 1.0
    cooldown_jitter: float = 0.0
    cooldown_schedule: Schedule = default(None)
    max_cooldown: OptionalSeconds = default(None)
    ramp_up: OptionalSeconds = default(None)
    failure_on: Errors | None = None
    ignore: Errors | None = None
    failure_result: Callable[[Any], object] | None = None
    failure_weight: Callable[[Any], float] | None = None
    open_for: Callable[[Any], float | timedelta | None] | None = None

    @classmethod
    def production(cls) -> CircuitBreakerConfig:
        """Slow to judge and slow to forgive."""
        return cls(failure_threshold=0.6, window_size=20, cooldown_period=120, success_threshold=5)

    @classmethod
    def development(cls) -> CircuitBreakerConfig:
        """Shows its behaviour within seconds."""
        return cls(failure_threshold=0.5, window_size=4, cooldown_period=10, success_threshold=2)

    @classmethod
    def adaptive(cls) -> CircuitBreakerConfig:
        """What we recommend: know what is normal, notice hanging calls, probe soon and gently.

        Four or five failures in a row open the circuit of a provider that was nearly perfect until then. An outage
        is overslept by about two seconds and a twentieth of its length. At 20 calls a second with 15 % independent
        errors it stays closed: it takes eleven or twelve in a row there, nine when errors were fewer lately.
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
        """Return settings that open after `n` failures in a row and for no other reason, as many libraries do.

        Further `settings` are fields, such as `success_threshold=1` or `ignore=ValueError`.
        """
        checks.present("consecutive_failures", checks.count, n)
        return cls(failure_threshold=None, consecutive_failures=n, cooldown_period=cooldown_period, **settings)

    @property
    def minimum(self) -> int:
        """The results the window must hold before a rate is judged."""
        if self.minimum_calls is not None:
            return self.minimum_calls
        if self.opens_when is not None:
            return minimums(self.opens_when)[0]
        return 5 if self.window_seconds is not None else (self.window_size + 1) // 2

    @property
    def rule(self) -> Rule:
        """What opens the circuit."""
        return self.opens_when or reduce(or_, _simple_rules(self))

    def __post_init__(self) -> None:
        _convert(self)
        _check_rules(self)
        _check_recovery(self)
        _check_meaning(self)


DURATIONS = (
    "cooldown_period",
    "window_seconds",
    "hung_after",
    "slow_call_duration",
    "half_open_timeout",
    "probe_after",
    "max_cooldown",
    "ramp_up",
)


def _convert(config: CircuitBreakerConfig) -> None:
    """Bring what may be written in several ways into one."""
    for field in DURATIONS:
        value = getattr(config, field)
        if (seconds := checks.seconds_of(value)) is not value:
            object.__setattr__(config, field, seconds)
    schedule: object = config.cooldown_schedule
    if isinstance(schedule, list | tuple):  # a list, as configuration files have it
        object.__setattr__(config, "cooldown_schedule", tuple(checks.seconds_of(each) for each in schedule))
    for field in ("failure_on", "ignore"):
        object.__setattr__(config, field, types_of(getattr(config, field)))


def _check_rules(config: CircuitBreakerConfig) -> None:
    checks.rate("failure_threshold", config.failure_threshold)
    checks.present("window_size", checks.count, config.window_size)
    checks.count("minimum_calls", config.minimum_calls)
    checks.duration("window_seconds", config.window_seconds)
    checks.count("consecutive_failures", config.consecutive_failures)
    checks.chance("significance", config.significance)
    checks.duration("hung_after", config.hung_after)
    checks.multiple("hung_factor", config.hung_factor)
    checks.duration("slow_call_duration", config.slow_call_duration)
    checks.rate("slow_call_threshold", config.slow_call_threshold)
    if config.opens_when is None and config.window_seconds is None and config.minimum > config.window_size:
        reason = f"never reached: the window holds only {config.window_size} (window_size)"
        raise CircuitConfigError("minimum_calls", config.minimum_calls, reason)
    if config.slow_call_threshold is not None and config.slow_call_duration is None:
        reason = "needs slow_call_duration: from when on is a call slow?"
        raise CircuitConfigError("slow_call_threshold", config.slow_call_threshold, reason)
    if config.hung_factor is not None and config.hung_after is None:
        raise CircuitConfigError("hung_factor", config.hung_factor, "needs hung_after: the least a call is given")
    if config.opens_when is not None:
        _check_own_rule(config)
    elif not any(_simple_rules(config)):
        reason = "without another rule (consecutive_failures, significance, slow_call_duration) nothing would open it"
        raise CircuitConfigError("failure_threshold", None, reason)


def _check_own_rule(config: CircuitBreakerConfig) -> None:
    if not isinstance(config.opens_when, Rule):
        reason = "must be a rule, such as FailureRate(0.5, 10) | ConsecutiveFailures(5)"
        raise CircuitConfigError("opens_when", config.opens_when, reason)
    for field in ("minimum_calls", "consecutive_failures", "significance", "slow_call_threshold"):
        if (value := getattr(config, field)) is not None:
            raise CircuitConfigError(field, value, "says nothing beside opens_when: make it part of that rule")
    for part in config.opens_when.parts():
        if type(part) not in SIMPLE_RULES:
            reason = "must be put together from the rules that there are: the circuit relies on how they behave"
            raise CircuitConfigError("opens_when", config.opens_when, reason)
        if isinstance(part, SlowCallRate) and config.slow_call_duration is None:
            reason = "needs slow_call_duration: from when on is a call slow?"
            raise CircuitConfigError("opens_when", config.opens_when, reason)
    if config.window_seconds is None and minimums(config.opens_when)[-1] > config.window_size:
        reason = f"never has enough calls: the window holds only {config.window_size} (window_size)"
        raise CircuitConfigError("opens_when", config.opens_when, reason)


def _simple_rules(config: CircuitBreakerConfig) -> Iterator[Rule]:
    """The rules that the fields spell, in the order in which they are asked."""
    if config.consecutive_failures is not None:
        yield ConsecutiveFailures(config.consecutive_failures)
    if config.significance is not None:
        yield UnlikelyFailures(config.significance)
    if config.failure_threshold is not None:
        yield FailureRate(config.failure_threshold, config.minimum)
    if config.slow_call_duration is not None:
        yield SlowCallRate(config.slow_call_threshold or 1.0, config.minimum)


def _check_recovery(config: CircuitBreakerConfig) -> None:
    checks.present("cooldown_period", checks.cooldown, config.cooldown_period)
    checks.present("success_threshold", checks.count, config.success_threshold)
    checks.present("half_open_max_calls", checks.count, config.half_open_max_calls)
    checks.count("half_open_failures", config.half_open_failures, least=0)
    checks.present("half_open_timeout", checks.duration, config.half_open_timeout)
    checks.duration("max_cooldown", config.max_cooldown)
    checks.duration("ramp_up", config.ramp_up)
    checks.within("probe_after", config.probe_after, 0, math.inf, "must be 0 or more seconds")
    checks.within("cooldown_backoff", config.cooldown_backoff, 1, math.inf, "must be 1 or more: less would shrink")
    checks.within("cooldown_jitter", config.cooldown_jitter, 0, 1, "must be a share between 0 and 1")
    if config.max_cooldown is not None and config.max_cooldown < config.cooldown_period:
        reason = f"less than the first cooldown, {config.cooldown_period} s (cooldown_period)"
        raise CircuitConfigError("max_cooldown", config.max_cooldown, reason)
    _check_schedule(config)


def _check_schedule(config: CircuitBreakerConfig) -> None:
    schedule = config.cooldown_schedule
    if schedule is None:
        return
    if not isinstance(schedule, tuple) or not schedule:
        reason = "must be several seconds: the first cooldown, the second, ..."
        raise CircuitConfigError("cooldown_schedule", schedule, reason)
    for seconds in schedule:
        checks.present("cooldown_schedule", checks.cooldown, seconds)
    for field, usual in (("cooldown_backoff", 1), ("max_cooldown", None)):
        if (value := getattr(config, field)) != usual:
            raise CircuitConfigError(field, value, "says nothing beside cooldown_schedule, which names each cooldown")


def _check_meaning(config: CircuitBreakerConfig) -> None:
    check_errors("failure_on", config.failure_on)
    check_errors("ignore", config.ignore)
    for field in ("failure_result", "failure_weight", "open_for"):
        check_predicate(field, getattr(config, field))


answer_other_settings(CircuitBreakerConfig, [field.name for field in fields(CircuitBreakerConfig)])
