"""Relay of a usual request: a vendor's bytes go to the client as they arrive, in callbacks instead of tasks.

A relay decides nothing but whether everything is as usual: the chosen provider can be asked at once, and its answer
comes in time, is valid and complete. It does so by the pipeline's own rules, with the pipeline's own objects. For
anything else it hands the request over to the pipeline, at whatever point it is, with all its state, and the pipeline
goes on as if it had begun it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from steadyvoice.audio.thread_pool import AudioThreadPool
from steadyvoice.breaker import Permit
from steadyvoice.providers.base import Accepted
from steadyvoice.providers.http.client import StartedHTTPRequest
from steadyvoice.providers.http.connection import HTTPConnection
from steadyvoice.service.fast_lane.plan import Choice, RelayPlan
from steadyvoice.service.pipeline.attempt_timeouts import REAL_TIME, AttemptTimeouts
from steadyvoice.service.pipeline.audio_validation import MAX_LEADING_SILENCE, AudioValidator
from steadyvoice.service.pipeline.candidates import Candidate
from steadyvoice.service.pipeline.provider_call import CallErrors, is_unreliable
from steadyvoice.service.pipeline.response_call import InFlightRequest
from steadyvoice.service.pipeline.speech_rate import SpeechRates
from steadyvoice.service.pipeline.timeouts import Deadline, Stopwatch
from steadyvoice.service.resilience.admission_control import AdmissionControl
from steadyvoice.service.resilience.concurrency import QueueSlot
from steadyvoice.service.resilience.error_classification import TTSCircuitOpenError
from steadyvoice.service.resilience.event_loop_lag import LoopLag
from steadyvoice.service.result import Attempt, UtteranceReport
from steadyvoice.speech.alignment import Alignment, EstimatedAlignment
from steadyvoice.speech.duration_estimate import is_surely_complete
from steadyvoice.speech.errors import TTSError, TTSHoldError
from steadyvoice.speech.request import SpeechRequest

EARLY = 0.1
"""Seconds before a timeout at which a request is handed over: the pipeline has exact timers, a relay looks now and
then.
"""

_PROGRESS_INTERVAL = 0.05
"""Seconds between two reports of progress to the circuit, which looks for silences of seconds."""

MAX_HELD = 64 * 1024
"""Bytes of an answer that are held back before it is handed over to be judged: five seconds of most formats."""


class RelayClient(Protocol):
    """Client side of a relay."""

    def begin(self, report: UtteranceReport) -> None:
        """Send the head of the response."""
        ...

    def write(self, data: bytes) -> None:
        """Send valid audio, with the next `flush` or `end`."""
        ...

    def flush(self) -> None:
        """Send what was written."""
        ...

    def is_ready(self) -> bool:
        """Return whether the client is connected and keeps up with reading."""
        ...

    def end(self, report: UtteranceReport) -> None:
        """Send the end of a complete response."""
        ...

    def hand_over(self, request: InFlightRequest) -> None:
        """Have the pipeline go on with the request."""
        ...


@dataclass(frozen=True, slots=True)
class RelayServices:
    """Parts of the service that relays use."""

    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    lag: LoopLag
    admission: AdmissionControl
    rates: SpeechRates
    workers: AudioThreadPool
    on_muted: Callable[[bool], None]
    running: set[Relay]


class Relay:
    """Relay of one request: made by `start_relay`, driven by its vendor connection and by `check_time`."""

    __slots__ = (
        "_accepted", "_answered", "_beat", "_choice", "_client", "_connection", "_errors", "_first_sound", "_held_back",
        "_lost",
        "_odd_bytes", "_permit", "_plan", "_progress_at", "_received", "_refusals", "_report", "_sent_at",
        "_services", "_since", "_slot", "_started", "_stopwatch", "_text", "_timeouts", "_validator", "deadline", "due",
    )  # fmt: skip

    MIN_RATE = REAL_TIME
    """Least acceptable seconds of audio per second."""

    def __init__(
        self,
        plan: RelayPlan,
        choice: Choice,
        text: str,
        services: RelayServices,
        now: float,
        permit: Permit,
        slot: QueueSlot,
        refusals: Sequence[TTSError],
        started: StartedHTTPRequest,
        client: RelayClient,
    ) -> None:
        self._plan, self._choice, self._text, self._services = plan, choice, text, services
        self._permit, self._slot, self._refusals = permit, slot, refusals
        self._started, self._client = started, client
        self._connection: HTTPConnection | None = started.connection
        self._since, self._sent_at = now, services.wall_clock()
        self._beat, self._lost = services.lag.beat, 0.0
        candidate, step = choice.candidate, choice.step
        guarded, offer = candidate.guarded, candidate.offer
        self._stopwatch = stopwatch = Stopwatch(services.clock)
        stopwatch.since, stopwatch.extends = now, False
        self.deadline = deadline = Deadline(choice.total, stopwatch, 0.0)
        seconds = min(step.time_limit, guarded.max_seconds)
        self._timeouts = AttemptTimeouts(
            guarded.timeouts,
            Deadline(seconds, stopwatch, 0.0),
            deadline,
            own_deadline=choice.own_deadline,
            min_rate=self.MIN_RATE,
            usual=guarded.handler.silence_limits.for_offer(offer),
            first_audio=choice.first_audio,
            extra=choice.extra * len(text),
        )
        self._errors = CallErrors(guarded.handler.name)
        self._validator = AudioValidator(plan.template.request, offer.format, self._errors, text=text)
        self._accepted: Accepted | None = None
        self._answered: float | None = None
        self._first_sound: float | None = None
        self._held_back = 0.0  # seconds for which the first audio was
        self._received, self._odd_bytes, self._progress_at = 0, False, 0.0
        self._report: UtteranceReport | None = None
        self.due = now + min(choice.first_audio + choice.extra * len(text), seconds) - EARLY
        """Clock reading at which `check_time` may have something to do."""
        started.connection.observer = self
        services.running.add(self)

    @property
    def _request(self) -> SpeechRequest:
        """Request of the whole text."""
        return self._plan.template.request.with_text(self._text)

    def response_changed(self) -> None:
        """Pass on what came from the vendor."""
        error: TTSError | None = None
        try:
            is_usual = self._advance()
        except TTSError as failure:  # of the chunk that was just read, which the pipeline does not see again
            is_usual, error = False, failure.with_traceback(None)
        except OSError:  # the connection keeps it for the pipeline
            is_usual = False
        if self._connection is None:
            return
        self._client.flush()
        if not is_usual:
            self.hand_over(error)

    @property
    def has_audio(self) -> bool:
        """Whether valid audio has come."""
        return self._first_sound is not None

    @property
    def remaining(self) -> float:
        """Seconds until `due`."""
        return self.due - self._services.clock()

    def check_time(self) -> None:
        """Hand over shortly before a timeout passes; else set when to look again."""
        self.due = self._since + self._timeouts.limit(self._since) - EARLY
        if self._services.clock() >= self.due:
            self.hand_over()

    def hand_over(self, error: TTSError | None = None) -> None:
        """Have the pipeline go on with the request, from where it is."""
        if self._connection is None:
            return
        self._count_time()
        self._release()
        self._client.hand_over(self._in_flight(error))

    def _in_flight(self, error: TTSError | None) -> InFlightRequest:
        """Return all of the state, for the pipeline."""
        accepted = self._accepted
        return InFlightRequest(
            self._started,
            self._permit,
            self._slot,
            self._choice.step,
            self._refusals,
            self.deadline,
            self._stopwatch,
            self._timeouts,
            self._validator,
            self._errors,
            self._sent_at,
            self._lost,
            self._started.rest(accepted, self._received) if accepted else None,
            self._answered,
            self._first_sound,
            self._odd_bytes,
            error,
        )

    # ---------------------------------------------------------------- response

    def _advance(self) -> bool:
        """Pass on what came; return whether all of it is usual. Raises TTSError and OSError."""
        connection = self._connection
        if connection is None:
            return True
        if not connection.head_received:
            return connection.error is None
        now = self._count_time()
        if self._accepted is None and not self._accept():
            return False
        if not self._client.is_ready() or (self._report is None and self._services.admission.is_behind):
            return False
        if connection.unread and not self._pass_on(connection.take_all()):
            return False
        if connection.complete:
            return self._finish()
        if connection.error is not None:
            return False
        if self._first_sound is not None and now - self._progress_at >= _PROGRESS_INTERVAL:
            self._progress_at = now
            self._permit.progress()
        timeouts = self._timeouts
        return (
            not timeouts.underrun or timeouts.slow_error(self._choice.candidate.name, self._validator.seconds) is None
        )

    def _accept(self) -> bool:
        """Take the head of the response; return whether it is that of usual audio."""
        accepted = self._started.accepted()
        if accepted is None:
            return False
        self._accepted, self._answered, self._errors.request_id = accepted, self._timeouts.waited, accepted.request_id
        candidate = self._choice.candidate
        self._slot.accepted(accepted)
        candidate.guarded.handler.account_limits.accepted(accepted, len(self._text), candidate.offer.model)
        return True

    def _pass_on(self, data: bytes) -> bool:
        """Send a chunk to the client; return whether it is usual to do so. Raises TTSError."""
        timeouts, validator = self._timeouts, self._validator
        before = validator.seconds
        self._received += len(data)
        valid = validator.take(data)
        if valid is None:
            valid = validator.evaluate_nowait()
        timeouts.add_audio(validator.seconds - before, has_audio=validator.has_audio)
        if valid:
            if self._first_sound is None:
                self._first_sound = timeouts.waited
                self._begin()
            self._odd_bytes ^= len(valid) & 1 == 1
            self._client.write(valid)
            return True
        # Long silence has to be decoded, and a large head to be refused.
        return validator.seconds < MAX_LEADING_SILENCE and self._received < MAX_HELD

    def _begin(self) -> None:
        """Send the head of the response."""
        services, candidate = self._services, self._choice.candidate
        services.on_muted(False)
        self._stopwatch.extends = True
        self.due = (
            self._since
        )  # the limits are others from now on: `check_time` sets it, unless the response ends before
        self._report = report = self._new_report()
        report.current_speaker.start(candidate.guarded.handler.name, self._accepted, len(self._text))
        self._client.begin(report)

    def _new_report(self) -> UtteranceReport:
        return UtteranceReport(self._plan.candidates[0].guarded.handler.name)

    def _finish(self) -> bool:
        """End a complete response; return False if its end has to be inspected."""
        seconds = self._validator.seconds
        if not self._ends_well(seconds):
            return False
        self._release()
        self._started.close()
        self._settle()
        self._end_audio()
        report = self._report
        assert report is not None  # noqa: S101 - there was audio
        self._record(report, seconds)
        self._services.admission.leave()
        self._client.end(report)
        return True

    def _ends_well(self, seconds: float) -> bool:
        """Return whether a response of so many seconds is complete, without a need to inspect its end."""
        return self._report is not None and self._validator.ends_well and self._is_whole(seconds)

    def _end_audio(self) -> None:
        """Send what was held back until the end: nothing."""

    def _times(self, seconds: float) -> Alignment | EstimatedAlignment:
        """Return the times of the text in so many seconds."""
        return EstimatedAlignment(self._text, seconds)

    def _is_whole(self, seconds: float) -> bool:
        """Return whether so many seconds may be all of the text, as LengthValidator.rejects decides."""
        rates, text = self._services.rates, self._text
        return is_surely_complete(text, seconds) or rates.is_whole(self._choice.style, text, seconds)

    def _settle(self) -> None:
        """Record the success with the provider's circuit, and release the slot."""
        candidate = self._choice.candidate
        candidate.guarded.handler.settle(self._permit, None, candidate.offer, len(self._text))
        self._slot.release()

    def _record(self, report: UtteranceReport, seconds: float) -> None:
        """Record the success everywhere else, as the pipeline does."""
        candidate, text, timeouts, accepted = self._choice.candidate, self._text, self._timeouts, self._accepted
        assert accepted is not None  # noqa: S101 - audio has come
        handler, offer, length = candidate.guarded.handler, candidate.offer, len(text)
        name = handler.name
        handler.voice = offer.voice
        if not self._lost or not is_unreliable(self._lost, timeouts.waited):
            timeouts.learn(given_up=False)
            if timeouts.first_audio is not None:
                handler.probe_timeout.record(timeouts.first_audio)
        self._services.rates.learn(self._choice.style, text, seconds)
        billed = accepted.characters_billed
        bill = handler.bills.add_delivered(billed, length)
        if self._refusals:
            self._record_refusals(report)
        report.attempts.append(
            Attempt(
                name,
                0,
                length,
                datetime.fromtimestamp(self._sent_at, UTC),
                timeouts.waited,
                self._answered,
                timeouts.first_audio,
                self._held_back,
                seconds,
                None,
                False,
                accepted.request_id,
                billed,
                bill,
                offer.voice,
            )
        )
        report.add(name, 0, length, seconds, self._times(seconds), voice=offer.voice)

    def _record_refusals(self, report: UtteranceReport) -> None:
        """Record that the candidates before the chosen one refused: nothing was sent to them."""
        for candidate, refusal in zip(self._plan.candidates, self._refusals, strict=False):
            at = datetime.fromtimestamp(self._sent_at, UTC)
            attempt = Attempt(
                candidate.name, 0, len(self._text), at, error=refusal, refused=True, voice=candidate.offer.voice
            )
            candidate.guarded.handler.bills.add(attempt.bill, refusal)
            report.attempts.append(attempt)

    def _release(self) -> None:
        """End the relay: the connection and the set of relays refer to it no more."""
        connection, self._connection = self._connection, None
        assert connection is not None  # noqa: S101 - it is running
        connection.observer = None
        self._services.running.discard(self)

    def _count_time(self) -> float:
        """Count the time since this was called last, without what the event loop has lost. Return the present time."""
        services = self._services
        now = services.clock()
        waited, beat = now - self._since, services.lag.beat
        # Without a heartbeat since, the provider kept the loop busy with bytes that were ready: nothing was lost.
        if beat is not self._beat:
            lost, due = self._beat
            lost = services.lag.lost_at(now) - (lost if self._since <= due else lost + self._since - due)
            self._lost, self._beat = self._lost + lost, beat
            waited -= lost
        self._since = now
        self._timeouts.add_wait(waited)
        return now


def start_relay(
    kind: type[Relay], plan: RelayPlan, text: str, services: RelayServices, client: RelayClient
) -> Relay | None:
    """Send a usual request to the chosen candidate; None, and nothing has happened, if the request is not usual."""
    admission, now = services.admission, services.clock()
    choice = None if admission.is_behind else plan.choose(text)
    started = choice.prepared.reserve() if choice else None
    if choice is None or started is None:
        return None
    candidate, length = choice.candidate, len(text)
    if not admission.admit():
        started.close()
        return None
    handler = candidate.guarded.handler
    slot = QueueSlot(handler.account_limits.queue, handler.name, 0.0, waits_anyway=False, is_continuation=False)
    permit: Permit | None = None
    try:
        permit = handler.admit(candidate.offer, length, retry=False) if slot.try_acquire() else None
    except (TTSCircuitOpenError, TTSHoldError):  # since it was chosen; the pipeline records it
        permit = None
    if permit is None:
        started.close()
        slot.release()
        admission.leave()
        return None
    before = plan.candidates[: choice.step.index]
    refusals = _refusals(before, length) if before else ()
    started.start(text)
    return kind(plan, choice, text, services, now, permit, slot, refusals, started, client)


def _refusals(candidates: Sequence[Candidate], length: int) -> list[TTSError]:
    """Return the errors with which these candidates refuse a text of this length, counted by their circuits."""
    found = [each.guarded.handler.refusal(each.offer, length) for each in candidates]
    return [refusal for refusal in found if refusal]
