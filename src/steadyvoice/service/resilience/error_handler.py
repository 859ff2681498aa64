"""One provider's guard: its circuit, its holds, its retry budget, and what went wrong last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from random import Random, SystemRandom
from typing import Any, TypeGuard, TypeVar

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError, CircuitState, Permit
from steadyvoice.breaker._validators import is_finite
from steadyvoice.breaker.failure_classification import (
    Failure,
    classify_error,
    is_cancellation,
    iter_leaf_errors,
    make_failure,
)
from steadyvoice.providers.base import Accepted, SynthesisOffer
from steadyvoice.service.billing import Billing
from steadyvoice.service.error_state import (
    ConcurrencyState,
    LastError,
    TTSErrorState,
    credit_state,
    hold_states,
    last_error,
)
from steadyvoice.service.log_messages import log_failure, log_hold, log_transition
from steadyvoice.service.pipeline.failover import CandidateStatus, GiveUp, TryProvider, WaitForProvider, next_step
from steadyvoice.service.resilience.account_limits import AccountLimits
from steadyvoice.service.resilience.concurrency import QueueSlot
from steadyvoice.service.resilience.error_classification import TTSCircuitOpenError, classify
from steadyvoice.service.resilience.holds import Holds
from steadyvoice.service.resilience.latency import ProbeTimeout, SilenceLimits
from steadyvoice.service.resilience.retry import RetryBudget, RetryConfig, RetryLoop
from steadyvoice.service.resilience.text_limits import TextLimits
from steadyvoice.speech.errors import TTSAbandonedInSilenceError, TTSDeadlineError, TTSError, TTSHoldError
from steadyvoice.speech.failure_kinds import FailureKind, FailureScope, meaning_of
from steadyvoice.speech.request import SpeechRequest

T = TypeVar("T")

_ABANDONED_WEIGHT = meaning_of(FailureKind.ABANDONED_IN_SILENCE).counts

_OPEN_STATES = (CircuitState.OPEN, CircuitState.FORCED_OPEN)


class TTSErrorHandler:
    """Runs calls to one provider: permit, attempt, classify, record, back off, log.

    Any coroutine function can be run through it, speech or not. `clock` gives seconds that never go back;
    `wall_clock` is the time of day, in seconds since 1970, and only shown. `account_limits` are those of its
    credential, if others share it.
    `circuit_clock` is the circuit's own clock, if that is another.

    What a TTSError counts in the circuit, the table of meanings says. Of other errors that an operation raises, the
    `failure_on`, `ignore`, `failure_weight` and `cooldown_from_error` of `circuit_config` do, where one of them is set;
    `failure_result` is not asked.
    """

    def __init__(
        self,
        name: str,
        circuit_config: CircuitBreakerConfig | None = None,
        retry_config: RetryConfig | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        rng: Random | None = None,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        account_limits: AccountLimits | None = None,
        circuit: CircuitBreaker | None = None,
        circuit_clock: Callable[[], float] | None = None,
    ) -> None:
        self.name = name
        self.retry = retry_config or RetryConfig()
        self.budget = RetryBudget(self.retry)
        self.account_limits = account_limits or AccountLimits(name, None, None, clock=clock, wall_clock=wall_clock)
        self.holds = Holds(name, self.account_limits.holds)
        self.probe_timeout = ProbeTimeout()
        self.bills = Billing()
        self.text_limits = TextLimits(clock)
        self.voice: str | None = None
        self.clock = clock
        self._wall_clock = wall_clock
        self._rng = rng or SystemRandom()
        self._sleep = sleep
        self._last_error: LastError | None = None
        self._consecutive_failures = 0
        self.circuit = circuit or CircuitBreaker(
            name,
            CircuitBreakerConfig.adaptive() if circuit_config is None else circuit_config,
            clock=circuit_clock or clock,
            wall_clock=wall_clock,
            random=self._rng.random,
            listeners=[log_transition],
        )
        guard = self.circuit
        self.silence_limits = SilenceLimits(lambda: guard.config.hung_factor)

    def successor(self, retry: RetryConfig, account_limits: AccountLimits) -> TTSErrorHandler:
        """The guard of whoever comes after, under the same name: the circuit and the books go on.

        With another credential, what was on hold is tried anew.
        """
        heir = TTSErrorHandler(
            self.name, None, retry, clock=self.clock, wall_clock=self._wall_clock, rng=self._rng, sleep=self._sleep,
            account_limits=account_limits, circuit=self.circuit,
        )  # fmt: skip
        heir.probe_timeout, heir.silence_limits, heir.bills = self.probe_timeout, self.silence_limits, self.bills
        heir._last_error, heir._consecutive_failures = self._last_error, self._consecutive_failures
        if account_limits is self.account_limits:
            heir.holds, heir.text_limits = self.holds, self.text_limits
        return heir

    async def execute_with_retry(self, operation: Callable[[], Awaitable[T]], *, deadline: float = 45.0) -> T:
        """Call `operation` until it succeeds, is not worth another try, or the circuit says no.

        No pause goes beyond `deadline`, in seconds from now; how long one call may take is the operation's affair.
        Raises the operation's own last error; TTSCircuitOpenError or TTSHoldError when it was not called at all.
        """
        if not callable(operation):
            raise TypeError(f"operation: must be a coroutine function without arguments, got {operation!r}")
        course = AttemptHistory(self)
        end = self.clock() + deadline
        steps = RetryLoop(partial(self._next_step, course, end), self._sleep)
        while not isinstance(step := await steps.next(), GiveUp):
            if isinstance(step, TryProvider):
                try:
                    with self.attempt(retry=course.tries > 0) as permit:
                        return await self._awaited(operation, permit)
                except Exception as error:
                    course.failed(error)
        last = course.raised or TTSDeadlineError(f"no time to try: {deadline:g} s", provider=self.name)
        try:
            raise last
        finally:
            del last, course, steps  # the traceback keeps this frame, which must not keep the error

    def _next_step(self, course: AttemptHistory, end: float) -> TryProvider | WaitForProvider | GiveUp:
        now = self.clock()
        standing = course.status(refused=course.tries > 0 and self.circuit_refuses())
        return next_step([standing], now=now, left=end - now, max_attempts=self.retry.max_attempts)

    async def _awaited(self, operation: Callable[[], Awaitable[T]], permit: Permit) -> T:
        """Await an operation. That its caller left when it was overdue is recorded, as for a call of speech."""
        began = self.clock()
        try:
            return await operation()
        except BaseException as error:
            waited, limit = self.clock() - began, self.silence_limits.default
            if waited > limit and not _is_failure(error) and not permit.settled:
                told = f"silent for {waited:.1f} s when its caller left (overdue after {limit:.3g} s)"
                self._record(permit, TTSAbandonedInSilenceError(told, provider=self.name), None, None)
            raise

    @contextmanager
    def attempt(
        self, *, offer: SynthesisOffer | None = None, characters: int | None = None, retry: bool = False
    ) -> Iterator[Permit]:
        """Guard one call: the body runs under a permit, and how it ends is recorded. `characters` is its text's length.

        Raises TTSCircuitOpenError or TTSHoldError instead of running it.
        """
        permit = self.admit(offer, characters, retry=retry)
        try:
            yield permit
        except BaseException as error:
            self.settle(permit, error, offer, characters)
            raise
        self.settle(permit, None, offer, characters)

    def admit(self, offer: SynthesisOffer | None, characters: int | None, *, retry: bool) -> Permit:
        """Leave to make one call, to be settled. Raises TTSCircuitOpenError or TTSHoldError."""
        self.check(offer, characters)
        try:
            permit = self.circuit.acquire()
        except CircuitOpenError as refusal:
            raise TTSCircuitOpenError(refusal) from None
        if retry:
            self.budget.spend()
        else:
            self.budget.earn()
        return permit

    def settle(
        self, permit: Permit, error: BaseException | None, offer: SynthesisOffer | None, characters: int | None
    ) -> None:
        """Record how a call ended."""
        if error is None:
            permit.success()
            self.holds.spoke(offer)
            self._consecutive_failures = 0
        elif _is_failure(error):
            self._record(permit, classify(error, self.name), offer, characters, raised=error)
        else:  # the caller went away: only a call that hangs is evidence then
            permit.abandon(weight=_ABANDONED_WEIGHT)

    def left(
        self, permit: Permit, offer: SynthesisOffer, characters: int, *, heard: bool, failure: TTSError | None
    ) -> None:
        """Record that the caller of a call left. `failure` is the provider's, if it was overdue by then."""
        if failure and not permit.settled:
            self._record(permit, failure, offer, characters)
        elif heard:
            permit.success()
        else:
            permit.ignore()

    def turn(self, limit: float, *, waits_anyway: bool, is_continuation: bool = False) -> QueueSlot:
        """One request's turn on the credential: entered, it may be sent. See Turnstile.turn."""
        return self.account_limits.queue.turn(
            self.name, limit, waits_anyway=waits_anyway, is_continuation=is_continuation
        )

    def accepted(self, turn: QueueSlot, told: Accepted, request: SpeechRequest, offer: SynthesisOffer) -> None:
        """The vendor took a request, and told what it costs and how many more it would take."""
        turn.accepted(told)
        self.account_limits.accepted(told, len(request.text), offer.model)

    def check(self, offer: SynthesisOffer | None = None, characters: int | None = None) -> None:
        """Raise TTSHoldError while what the offer needs is set aside for a text of so many characters."""
        now = self.clock()
        hold = self.holds.find(offer, now, self._cost(offer, characters))
        if hold:
            raise TTSHoldError(
                f"{hold.key.removeprefix(self.name + '/')} on hold ({hold.kind.value}): {hold.because}",
                provider=self.name,
                code=hold.kind.value,
                retry_after=hold.until - now,
            )

    def refuses(self, offer: SynthesisOffer | None = None, characters: int | None = None) -> bool:
        """Whether the circuit would refuse a call now, or something it needs is set aside."""
        cost = self._cost(offer, characters)
        return self.holds.find(offer, self.clock(), cost) is not None or self.circuit_refuses()

    def circuit_refuses(self) -> bool:
        """Whether the circuit would refuse a call now, as far as one can tell without making it."""
        if self.circuit.state not in _OPEN_STATES:
            return False
        return self.circuit.retry_after != 0  # None: for ever

    @property
    def probes(self) -> bool:
        """Whether a call now would be a probe."""
        state = self.circuit.state
        return state is CircuitState.HALF_OPEN or (state in _OPEN_STATES and not self.circuit_refuses())

    def refusal(self, offer: SynthesisOffer | None = None, characters: int | None = None) -> TTSError | None:
        """Why a call now is refused, and have the circuit count it; None if it would not be."""
        try:
            self.check(offer, characters)
            if self.circuit_refuses():
                self.circuit.acquire().ignore()  # admitted after all: it has come round this instant
        except CircuitOpenError as refusal:
            return TTSCircuitOpenError(refusal)
        except TTSHoldError as hold:
            return hold
        return None

    def pause(self, error: TTSError, tries: int) -> float:
        """Seconds to wait before asking this provider again."""
        return self.retry.pause(error, tries, self._rng)

    @property
    def state(self) -> TTSErrorState:
        """How this provider is doing now."""
        now, wall_time = self.clock(), self._time_of_day()
        return TTSErrorState(
            circuit=self.circuit.snapshot(),
            consecutive_failures=self._consecutive_failures,
            last_error=self._last_error,
            holds=hold_states(self.holds.current(now), now, wall_time),
            is_muted=self.refuses(characters=1),
            held_for=max((hold.until - now for hold in self.holds.covering(now)), default=None),
            concurrency=self._concurrency,
            credit=credit_state(self.account_limits.meter.forecast(now), wall_time),
            bills=self.bills.as_dict(),
            voice=self.voice,
            overdue_after=self.silence_limits.default,
            overdue_after_by_voice=self.silence_limits.limits(),
        )

    def get_error_state(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        return self.state.as_dict()

    def reset_circuit_breaker(self, reason: str = "reset") -> None:
        """Close the circuit by hand, forget its window, and release every hold."""
        self.holds.release()
        self._consecutive_failures = 0
        self.circuit.reset(reason)

    @property
    def _concurrency(self) -> ConcurrencyState:
        gate = self.account_limits.queue.limiter
        return ConcurrencyState(gate.running, gate.limit, gate.waiting)

    def _cost(self, offer: SynthesisOffer | None, characters: int | None) -> float | None:
        return (
            None if characters is None else self.account_limits.meter.cost(characters, offer.model if offer else None)
        )

    def _time_of_day(self) -> datetime:
        return datetime.fromtimestamp(self._wall_clock(), UTC)

    def _record(
        self,
        permit: Permit,
        error: TTSError,
        offer: SynthesisOffer | None,
        characters: int | None,
        *,
        raised: BaseException | None = None,
    ) -> None:
        meaning = error.meaning
        self._last_error = last_error(error, self._time_of_day())
        log_failure(self.name, error)
        if error.starved:  # nothing is known of the provider
            permit.ignore()
            return
        failure = self._failure(error, raised)
        if failure:
            self._consecutive_failures += 1
            if permit.settled:  # a probe that was believed after its first seconds, and died all the same
                permit = self._another(permit)
            permit.failure(error, weight=failure.weight, cooldown=failure.cooldown, trip=failure.trip)
        else:
            permit.ignore()
        if meaning.scope is not FailureScope.REQUEST:
            hold = self.holds.place(error, offer, self.clock(), self._cost(offer, characters))
            if hold:
                log_hold(self.name, hold, news=self.holds.news(hold))
        if error.kind is FailureKind.QUOTA_EXCEEDED:
            self.account_limits.exhausted()

    def _failure(self, error: TTSError, raised: BaseException | None) -> Failure | None:
        """What it counts as in the circuit, None if nothing. What was raised is judged by the circuit's settings."""
        if raised is not None and _is_other_error(raised) and _classifies_errors(self.circuit.config):
            return classify_error(self.circuit.config, raised)
        weight = error.meaning.counts
        if not weight:
            return None
        named = error.retry_after if is_finite(error.retry_after) and error.retry_after >= 0 else None
        return make_failure(None, weight=weight, cooldown=named)

    def _another(self, permit: Permit) -> Permit:
        try:
            return self.circuit.acquire()
        except CircuitOpenError:
            return permit  # others have said as much already


def _is_failure(error: BaseException) -> TypeGuard[Exception | BaseExceptionGroup[BaseException]]:
    """Whether an error says what went wrong, and not only that the caller went away."""
    if isinstance(error, BaseExceptionGroup):
        return not is_cancellation(error)
    return isinstance(error, Exception)


def _is_other_error(error: BaseException) -> bool:
    """Whether it is no TTSError, nor a group with one in it: those say themselves what they count."""
    errors = iter_leaf_errors(error) if isinstance(error, BaseExceptionGroup) else (error,)
    return not any(isinstance(each, TTSError) for each in errors)


def _classifies_errors(config: CircuitBreakerConfig) -> bool:
    settings = (config.failure_on, config.ignore, config.failure_weight, config.cooldown_from_error)
    return any(setting is not None for setting in settings)


class AttemptHistory:
    """How one provider has fared with the words at hand."""

    def __init__(self, handler: TTSErrorHandler, *, local: bool = False) -> None:
        self.handler = handler
        self.local = local
        self.tries = 0
        self.refused = False
        self.raised: Exception | None = None
        self.error: TTSError | None = None
        self._ready_at = 0.0

    def failed(self, error: Exception) -> None:
        """Take note of a try that failed, or was refused. A refusal is less telling than the failure before it."""
        if isinstance(error, TTSCircuitOpenError | TTSHoldError):
            self.refused = True
            if self.raised is None:
                self.raised = self.error = error
            return
        self.raised, self.error = error, classify(error, self.handler.name)
        self.tries += 1
        self._ready_at = self.handler.clock() + self.handler.pause(self.error, self.tries)

    def fresh_copy(self) -> AttemptHistory:
        """The same provider, for other words."""
        return AttemptHistory(self.handler, local=self.local)

    def status(self, *, refused: bool = False, billed: bool = False) -> CandidateStatus:
        """How it stands now; `refused` when it is known to be refused for other reasons.

        `billed` tells that it may have charged for some of the words already.
        """
        return CandidateStatus(
            refused=self.refused or refused,
            local=self.local,
            tries=self.tries,
            failure=self.error.meaning if self.error else None,
            billed=billed,
            ready_at=self._ready_at,
            affords_retry=self.handler.budget.affords_one,
            probe=self.handler.probe_timeout.seconds if self.handler.probes else None,
        )
