"""Error handler of one provider: circuit, holds, retries (`execute_with_retry`), limits, billing and error state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from random import Random, SystemRandom
from typing import Any, TypeGuard, TypeVar

from steadyvoice._option_rules import is_finite
from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError, CircuitState, Permit
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
from steadyvoice.service.resilience.account_limits import AccountLimits, TextLimits
from steadyvoice.service.resilience.concurrency import QueueSlot
from steadyvoice.service.resilience.error_classification import ProviderRefusal, TTSCircuitOpenError, classify
from steadyvoice.service.resilience.failover import CandidateStatus, GiveUp, TryProvider, WaitForProvider, next_step
from steadyvoice.service.resilience.holds import Holds
from steadyvoice.service.resilience.latency import ProbeTimeout, SilenceLimits
from steadyvoice.service.resilience.retry import RetryBudget, RetryConfig, RetryLoop
from steadyvoice.speech.errors import TTSAbandonedInSilenceError, TTSDeadlineError, TTSError, TTSHoldError
from steadyvoice.speech.failure_kinds import FailureKind, FailureScope, meaning_of
from steadyvoice.speech.request import SpeechRequest

T = TypeVar("T")

_ABANDONED_WEIGHT = meaning_of(FailureKind.ABANDONED_IN_SILENCE).circuit_weight

_CIRCUIT_OPEN = FailureKind.CIRCUIT_OPEN.value
_OPEN_STATES = (CircuitState.OPEN, CircuitState.FORCED_OPEN)


class TTSErrorHandler:
    """Error handler of one provider: acquires permits, classifies and records errors, retries, and logs.

    Any coroutine function can be run through it, speech or not. `clock` is monotonic; `wall_clock` returns seconds
    since 1970 and is only shown. `account_limits` are those of the provider's credential, if other providers share
    it. `circuit_clock` is the circuit's clock, if it differs from `clock`.

    The failure table says what a TTSError counts in the circuit. For other errors of an operation, the settings
    `failure_on`, `ignore`, `failure_weight` and `cooldown_from_error` of `circuit_config` apply, if one of them is set;
    `failure_result` does not apply.

    - `name`: name of the circuit, in errors, logs and metrics.
    - `retry_config`: number of attempts and pauses; the defaults of RetryConfig if None.
    - `rng`: random numbers of the pauses.
    - `sleep`: coroutine function that pauses for a number of seconds.
    - `circuit`: circuit to use in place of a new one.
    - `deadline`: seconds for all attempts together.
    - `reason`: sentence for logs and events.
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
        guarding = self.circuit  # the limits must not refer to this handler, which refers to them
        self.silence_limits = SilenceLimits(lambda: guarding.config.hung_factor)

    def successor(self, retry: RetryConfig, account_limits: AccountLimits) -> TTSErrorHandler:
        """Return the handler of a provider that replaces this one under the same name.

        It takes over the circuit, the statistics and the billing totals, and with the same account the holds as well.
        """
        successor = TTSErrorHandler(
            self.name, None, retry, clock=self.clock, wall_clock=self._wall_clock, rng=self._rng, sleep=self._sleep,
            account_limits=account_limits, circuit=self.circuit,
        )  # fmt: skip
        successor.probe_timeout, successor.silence_limits, successor.bills = (
            self.probe_timeout,
            self.silence_limits,
            self.bills,
        )
        successor._last_error, successor._consecutive_failures = self._last_error, self._consecutive_failures
        if account_limits is self.account_limits:
            successor.holds, successor.text_limits = self.holds, self.text_limits
        return successor

    async def execute_with_retry(self, operation: Callable[[], Awaitable[T]], *, deadline: float = 45.0) -> T:
        """Call `operation` until it succeeds, fails in a way that is not retried, or the circuit refuses.

        Args:
            operation: coroutine function without arguments, called once per attempt. It has to bound its own time.
            deadline: seconds from now within which the last pause has to end.

        Raises the last error of the operation; TTSCircuitOpenError or TTSHoldError if it was never called.
        """
        if not callable(operation):
            raise TypeError(f"operation: must be a coroutine function without arguments, got {operation!r}")
        history = AttemptHistory(self)
        end = self.clock() + deadline
        steps = RetryLoop(partial(self._next_step, history, end), self._sleep)
        while not isinstance(step := await steps.next(), GiveUp):
            if isinstance(step, TryProvider):
                try:
                    with self.attempt(retry=history.tries > 0) as permit:
                        return await self._awaited(operation, permit)
                except Exception as error:
                    history.failed(error)
        last = history.raised or TTSDeadlineError(
            f"no time left for an attempt: deadline {deadline:g} s", provider=self.name
        )
        try:
            raise last
        finally:
            del last, history, steps  # the traceback keeps this frame, which must not keep the error

    def _next_step(self, history: AttemptHistory, end: float) -> TryProvider | WaitForProvider | GiveUp:
        now = self.clock()
        # Before the first attempt the circuit itself refuses, so that it counts the refusal.
        status = history.status(refused=history.tries > 0 and self.circuit_refuses())
        return next_step([status], now=now, remaining=end - now, max_attempts=self.retry.max_attempts)

    async def _awaited(self, operation: Callable[[], Awaitable[T]], permit: Permit) -> T:
        """Await an operation, and record a failure if its caller leaves when it is overdue, as for speech."""
        began = self.clock()
        try:
            return await operation()
        except BaseException as error:
            waited, limit = self.clock() - began, self.silence_limits.default
            if waited > limit and not _is_failure(error) and not permit.settled:
                message = f"silent for {waited:.1f} s when its caller left (overdue after {limit:.3g} s)"
                self._record(permit, TTSAbandonedInSilenceError(message, provider=self.name), None, None)
            raise

    @contextmanager
    def attempt(
        self, *, offer: SynthesisOffer | None = None, characters: int | None = None, retry: bool = False
    ) -> Iterator[Permit]:
        """Run a block under a permit and record how it ends; `characters` is the length of the text.

        Raises TTSCircuitOpenError or TTSHoldError before the block.
        """
        permit = self.admit(offer, characters, retry=retry)
        try:
            yield permit
        except BaseException as error:
            self.settle(permit, error, offer, characters)
            raise
        self.settle(permit, None, offer, characters)

    def admit(self, offer: SynthesisOffer | None, characters: int | None, *, retry: bool) -> Permit:
        """Acquire a permit for one call, to be settled. Raises TTSCircuitOpenError or TTSHoldError."""
        if self.holds.provider_holds or self.holds.shared:  # as `check`, which would be a call for every request
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
            if self.holds.logged:
                self.holds.forget_reported(offer)
            self._consecutive_failures = 0
        elif _is_failure(error):
            self._record(permit, classify(error, self.name), offer, characters, raised=error)
        else:  # The caller left: that says something about the provider only if the call hangs.
            permit.abandon(weight=_ABANDONED_WEIGHT)

    def left(
        self, permit: Permit, offer: SynthesisOffer, characters: int, *, heard: bool, failure: TTSError | None
    ) -> None:
        """Record that the caller left; `failure` is given if the provider was overdue, `heard` if audio had come."""
        if failure and not permit.settled:
            self._record(permit, failure, offer, characters)
        elif heard:
            permit.success()
        else:
            permit.ignore()

    def queue_slot(self, limit: float, *, waits_anyway: bool, is_continuation: bool = False) -> QueueSlot:
        """Return the request's slot at the concurrency limit: see ConcurrencyQueue.slot."""
        return self.account_limits.queue.slot(
            self.name, limit, waits_anyway=waits_anyway, is_continuation=is_continuation
        )

    def accepted(self, slot: QueueSlot, accepted: Accepted, request: SpeechRequest, offer: SynthesisOffer) -> None:
        """Note that the vendor accepted a request, with the cost and the concurrency limit that it states."""
        slot.accepted(accepted)
        self.account_limits.accepted(accepted, len(request.text), offer.model)

    def check(self, offer: SynthesisOffer | None = None, characters: int | None = None) -> None:
        """Raise TTSHoldError if something that the offer needs is on hold for a text of so many characters."""
        if not (self.holds.provider_holds or self.holds.shared):  # nothing is, so that no cost matters
            return
        now = self.clock()
        hold = self.holds.find(offer, now, self._cost(offer, characters))
        if hold:
            raise TTSHoldError(
                f"{hold.key.removeprefix(self.name + '/')} on hold ({hold.kind.value}): {hold.reason}",
                provider=self.name,
                code=hold.kind.value,
                retry_after=hold.until - now,
            )

    def refuses(self, offer: SynthesisOffer | None = None, characters: int | None = None) -> bool:
        """Return whether a call would be refused now, by the circuit or by a hold."""
        holds = self.holds
        if holds.provider_holds or holds.shared:
            cost = self._cost(offer, characters)
            if holds.find(offer, self.clock(), cost) is not None:
                return True
        # As `circuit_refuses`, of which every request would be a call.
        return self.circuit.state in _OPEN_STATES and self.circuit.retry_after != 0

    def circuit_refuses(self) -> bool:
        """Return whether the circuit would refuse a call now, without counting a refusal."""
        if self.circuit.state not in _OPEN_STATES:
            return False
        return self.circuit.retry_after != 0  # None: open without an end

    @property
    def probes(self) -> bool:
        """True if a call now would be a probe."""
        state = self.circuit.state
        return state is CircuitState.HALF_OPEN or (state in _OPEN_STATES and not self.circuit_refuses())

    def refusal(self, offer: SynthesisOffer | None = None, characters: int | None = None) -> TTSError | None:
        """Return the error with which a call is refused now, counted by the circuit; None if it is not."""
        refusal = self.count_refusal(offer, characters)
        return None if refusal is None else refusal.error

    def count_refusal(self, offer: SynthesisOffer | None, characters: int | None) -> ProviderRefusal | None:
        """Have the circuit count a call that is refused now, and return its refusal; None if it is not refused.

        - `offer`: how the provider would have spoken; what it needs may be on hold.
        - `characters`: length of the text, in characters.
        """
        holds, circuit, voice = self.holds, self.circuit, offer.voice if offer else None
        if holds.provider_holds or holds.shared:
            try:
                self.check(offer, characters)
            except TTSHoldError as hold:
                return ProviderRefusal(self.name, voice, hold.kind.value, hold.with_traceback(None))
        fields = circuit.count_refusal() if circuit.state in _OPEN_STATES else None
        return fields and ProviderRefusal(self.name, voice, _CIRCUIT_OPEN, fields)

    def pause(self, error: TTSError, tries: int) -> float:
        """Return the seconds to wait before the next attempt, after so many that failed."""
        return self.retry.pause(error, tries, self._rng)

    @property
    def state(self) -> TTSErrorState:
        """Error state of the provider now."""
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
        """Return the error state as a JSON-ready dict."""
        return self.state.as_dict()

    def reset_circuit_breaker(self, reason: str = "reset") -> None:
        """Close the circuit manually, empty its window, and release every hold."""
        self.holds.release()
        self._consecutive_failures = 0
        self.circuit.reset(reason)

    @property
    def _concurrency(self) -> ConcurrencyState:
        limiter = self.account_limits.queue.limiter
        return ConcurrencyState(limiter.running, limiter.limit, limiter.waiting)

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
        if error.starved:  # this process had too little processor time, which says nothing about the provider
            permit.ignore()
            return
        failure = self._failure(error, raised)
        if failure:
            self._consecutive_failures += 1
            # A probe settles as a success after its first seconds of audio, and may fail afterwards.
            if permit.settled:
                permit = self._another(permit)
            permit.failure(error, weight=failure.weight, cooldown=failure.cooldown, trip=failure.trip)
        else:
            permit.ignore()
        if meaning.scope is not FailureScope.REQUEST:
            hold = self.holds.place(error, offer, self.clock(), self._cost(offer, characters))
            if hold:
                log_hold(self.name, hold, is_new=self.holds.is_new(hold))
        if error.kind is FailureKind.QUOTA_EXCEEDED:
            self.account_limits.quota_exceeded()

    def _failure(self, error: TTSError, raised: BaseException | None) -> Failure | None:
        """Return what an error counts as in the circuit, None if nothing.

        An error that is no TTSError is classified by the circuit's settings, if there are any.
        """
        if raised is not None and _is_other_error(raised) and _classifies_errors(self.circuit.config):
            return classify_error(self.circuit.config, raised)
        weight = error.meaning.circuit_weight
        if not weight:
            return None
        named = error.retry_after if is_finite(error.retry_after) and error.retry_after >= 0 else None
        return make_failure(None, weight=weight, cooldown=named)

    def _another(self, permit: Permit) -> Permit:
        try:
            return self.circuit.acquire()
        except CircuitOpenError:
            return permit  # other failures have opened the circuit


def _is_failure(error: BaseException) -> TypeGuard[Exception | BaseExceptionGroup[BaseException]]:
    """Return whether an error is a failure of the call, and not only the cancellation of its caller."""
    if isinstance(error, BaseExceptionGroup):
        return not is_cancellation(error)
    return isinstance(error, Exception)


def _is_other_error(error: BaseException) -> bool:
    """Return whether an error is neither a TTSError nor a group that contains one."""
    errors = iter_leaf_errors(error) if isinstance(error, BaseExceptionGroup) else (error,)
    return not any(isinstance(each, TTSError) for each in errors)


def _classifies_errors(config: CircuitBreakerConfig) -> bool:
    settings = (config.failure_on, config.ignore, config.failure_weight, config.cooldown_from_error)
    return any(setting is not None for setting in settings)


class AttemptHistory:
    """History of one provider's attempts at the current text."""

    def __init__(self, handler: TTSErrorHandler, *, local: bool = False) -> None:
        self.handler = handler
        self.local = local
        self.tries = 0
        self.refused = False
        self.raised: Exception | None = None
        self.error: TTSError | None = None
        self._ready_at = 0.0

    def failed(self, error: Exception) -> None:
        """Record an attempt that failed or was refused. A refusal does not replace the failure before it."""
        if isinstance(error, TTSCircuitOpenError | TTSHoldError):
            self.refused = True
            if self.raised is None:
                self.raised = self.error = error
            return
        self.raised, self.error = error, classify(error, self.handler.name)
        self.tries += 1
        self._ready_at = self.handler.clock() + self.handler.pause(self.error, self.tries)

    def fresh_copy(self) -> AttemptHistory:
        """Return an empty history of the same provider, for another text."""
        return AttemptHistory(self.handler, local=self.local)

    def status(self, *, refused: bool = False, billed: bool = False) -> CandidateStatus:
        """Return the status for the choice of the next provider.

        `refused` is set if a call would be refused for another reason, `billed` if the provider may have charged for
        some of the text already.
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
