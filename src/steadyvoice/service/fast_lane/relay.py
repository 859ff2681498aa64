"""Relay of a usual request: a vendor's bytes go to the client as they arrive, in callbacks instead of tasks.

A relay decides nothing but whether everything is as usual: the chosen provider can be asked at once, and its answer
comes in time, is valid and complete. It does so by the pipeline's own rules, with the pipeline's own objects. For
anything else it hands the request over to the pipeline, at whatever point it is, with all its state, and the pipeline
goes on as if it had begun it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, NamedTuple, Protocol

from steadyvoice.audio.thread_pool import AudioThreadPool
from steadyvoice.breaker import Permit
from steadyvoice.providers.base import Accepted
from steadyvoice.providers.http.client import StartedHTTPRequest
from steadyvoice.providers.http.connection import HTTPConnection
from steadyvoice.service.fast_lane.plan import Choice, RelayPlan
from steadyvoice.service.observers import UtteranceObserver
from steadyvoice.service.pipeline.attempt_timeouts import REAL_TIME, AttemptTimeouts
from steadyvoice.service.pipeline.audio_validation import MAX_LEADING_SILENCE, AudioValidator
from steadyvoice.service.pipeline.provider_call import CallErrors, is_unreliable
from steadyvoice.service.pipeline.response_call import InFlightRequest
from steadyvoice.service.pipeline.speech_rate import SpeechRates
from steadyvoice.service.pipeline.timeouts import Deadline, Stopwatch
from steadyvoice.service.resilience.admission_control import AdmissionControl
from steadyvoice.service.resilience.concurrency import QueueEntry, QueueSlot
from steadyvoice.service.resilience.error_classification import ProviderRefusal, TTSCircuitOpenError
from steadyvoice.service.resilience.error_handler import TTSErrorHandler
from steadyvoice.service.resilience.event_loop_lag import LoopLag
from steadyvoice.service.result import RelayedSpeech, UtteranceFacts
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.duration_estimate import is_surely_complete
from steadyvoice.speech.errors import TTSError, TTSHoldError
from steadyvoice.speech.format import Codec
from steadyvoice.speech.request import SpeechRequest

EARLY = 0.1
"""Seconds before a timeout at which a request is handed over: the pipeline has exact timers, a relay looks now and
then.
"""

_PROGRESS_INTERVAL = 0.05
"""Seconds between two reports of progress to the circuit, which looks for silences of seconds."""

MAX_HELD = 64 * 1024
"""Bytes of an answer that are held back before it is handed over to be judged: five seconds of most formats."""


class FlowControl(Protocol):
    """Flow control of a client's connection."""

    write_paused: bool
    """Whether the client does not keep up with reading."""


class _NeverPaused:
    """Flow control of a client that takes everything."""

    write_paused = False


NEVER_PAUSED: FlowControl = _NeverPaused()


class RelayClient(Protocol):
    """Client side of a relay. `hand_over` sends what was written before."""

    @property
    def flow(self) -> FlowControl:
        """Flow control of the client."""
        ...

    def begin(self, first_choice: str, provider: str, accepted: Accepted) -> None:
        """Write the head of the response, whose audio the `provider` has `accepted` to make."""
        ...

    def write(self, data: bytes) -> None:
        """Send valid audio, with the next `flush`, or with what comes next."""
        ...

    def flush(self) -> None:
        """Send what was written."""
        ...

    def write_now(self, data: bytes) -> None:
        """Send valid audio at once, behind what was written."""
        ...

    def end(self, speech: RelayedSpeech, text: str, alignment: Alignment | None) -> None:
        """Send the end of a complete response. Without an alignment, the times of the text are estimated."""
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
    observers: list[UtteranceObserver]


class Relay:
    """Relay of one request: made by `start_relay`, driven by its vendor connection and by `check_time`."""

    __slots__ = (
        "_accepted", "_answered", "_arrived", "_audio", "_beat", "_begun", "_choice", "_client", "_connection",
        "_entry", "_errors", "_first_audio", "_first_sound", "_heard", "_held_back", "_lost", "_odd_bytes", "_permit",
        "_plan", "_progress_at", "_received", "_refusals", "_sent_at", "_services", "_since", "_started",
        "_started_at", "_text", "_timeouts", "_validator", "_waited", "due",
    )  # fmt: skip

    MIN_RATE = REAL_TIME
    """Least acceptable seconds of audio per second."""
    FLUSHES = False
    """Whether writes are batched: sent by one `flush` after each read from the vendor."""

    def __init__(
        self,
        plan: RelayPlan,
        choice: Choice,
        text: str,
        services: RelayServices,
        now: float,
        permit: Permit,
        entry: QueueEntry,
        refusals: Sequence[ProviderRefusal | None],
        started: StartedHTTPRequest,
        client: RelayClient,
        connect_seconds: float,
    ) -> None:
        self._plan, self._choice, self._text, self._services = plan, choice, text, services
        self._permit, self._entry, self._refusals = permit, entry, refusals
        self._started, self._client = started, client
        self._connection: HTTPConnection | None = started.connection
        self._started_at, self._since = now - connect_seconds, now
        self._sent_at = services.wall_clock() - connect_seconds
        self._beat, self._lost = services.lag.beat, 0.0
        # Seconds that the provider has taken: so far, until its last bytes, and until its last audio. Seconds of audio.
        self._waited, self._arrived, self._heard, self._audio = connect_seconds, 0.0, 0.0, 0.0
        self._first_audio: float | None = None  # seconds that the provider took until its first audio
        # Timeouts are made when one may pass, while the caller has nothing left to play, and when handed over.
        self._timeouts: AttemptTimeouts | None = None
        candidate = choice.candidate
        self._errors = CallErrors(candidate.guarded.handler.name)
        self._validator = AudioValidator(plan.template.request, candidate.offer.format, self._errors, text=text)
        self._accepted: Accepted | None = None
        self._answered: float | None = None
        self._first_sound: float | None = None
        self._held_back = 0.0  # seconds for which the first audio was held back
        self._received, self._odd_bytes, self._progress_at = 0, False, 0.0
        self._begun = False  # whether the head of the response was written
        self.due = self._started_at + min(choice.first_audio + choice.extra * len(text), choice.seconds) - EARLY
        """Clock reading from which on `check_time` is called."""
        started.connection.observer = self
        services.running.add(self)

    @property
    def _request(self) -> SpeechRequest:
        """Request of the whole text."""
        return self._plan.template.request.with_text(self._text)

    def response_changed(self) -> None:
        """Pass on what came from the vendor."""
        connection, services = self._connection, self._services
        if connection is None:
            return
        if not connection.head_received:
            if connection.error is not None:
                self.hand_over()
            return
        now = services.clock()
        # As `_count_time` does, while the event loop has lost no time: as a call it would be one for each chunk.
        if services.lag.beat is self._beat and not self._timeouts:
            self._waited += now - self._since
            self._since = now
        else:
            self._count_time(now)
        error: TTSError | None = None
        try:
            is_usual = self._accepted is not None or self._accept()
            if self._client.flow.write_paused or (not self._begun and services.admission.is_behind):
                is_usual = False
            elif is_usual:
                if connection.unread:  # all of it is taken here, because a method would be a call for each chunk
                    parts = connection.parts
                    data = b"".join(parts)
                    parts.clear()
                    connection.unread = 0
                    if connection.paused:
                        connection.resume_reading()
                    is_usual = self._pass_on(data)
                if is_usual and connection.complete:
                    is_usual = self._finish()
                elif is_usual:
                    if self._first_sound is not None and now - self._progress_at >= _PROGRESS_INTERVAL:
                        self._progress_at = now
                        self._permit.progress()
                    timeouts = self._timeouts
                    is_usual = connection.error is None and not (timeouts and self._is_slow(timeouts))
        except TTSError as failure:  # of the chunk that was just read, which the pipeline does not see again
            is_usual, error = False, failure.with_traceback(None)
        except OSError:  # the connection keeps it for the pipeline
            is_usual = False
        if self._connection is not None and self.FLUSHES:
            self._client.flush()
        if not is_usual:
            self.hand_over(error)

    @property
    def has_audio(self) -> bool:
        """True if valid audio has come."""
        return self._first_sound is not None

    @property
    def audio_seconds(self) -> float:
        """Seconds of audio that have come."""
        return self._audio

    @property
    def remaining(self) -> float:
        """Seconds until `due`."""
        return self.due - self._services.clock()

    def check_time(self) -> None:
        """Hand over shortly before a timeout passes; else set when to look again."""
        self._set_due()
        if self._services.clock() >= self.due:
            self.hand_over()

    def hand_over(self, error: TTSError | None = None) -> None:
        """Have the pipeline go on with the request, from where it is."""
        if self._connection is None:
            return
        self._count_time(self._services.clock())
        self._release()
        self._client.hand_over(self._in_flight(error))

    def _in_flight(self, error: TTSError | None) -> InFlightRequest:
        """Return all of the state, for the pipeline."""
        accepted = self._accepted
        timeouts = self._timeouts or self._make_timeouts(self._audio)
        deadline, handler = timeouts.utterance_deadline, self._choice.candidate.guarded.handler
        return InFlightRequest(
            self._started,
            self._permit,
            QueueSlot.running(handler.account_limits.queue, handler.name, self._entry),
            self._choice.step,
            [None if each is None else each.error for each in self._refusals],
            deadline,
            deadline.stopwatch,
            timeouts,
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

    # ---------------------------------------------------------------- time

    def _count_time(self, now: float) -> None:
        """Count the time since this was called last, without what the event loop has lost."""
        services = self._services
        waited, beat = now - self._since, services.lag.beat
        # Without a heartbeat since, the provider kept the loop busy with bytes that were ready: nothing was lost.
        if beat is not self._beat:
            lost, due = self._beat
            lost = services.lag.lost_at(now) - (lost if self._since <= due else lost + self._since - due)
            self._lost, self._beat = self._lost + lost, beat
            waited -= lost
        self._since = now
        self._waited += waited
        if self._timeouts:
            self._timeouts.add_wait(waited)

    def _add_audio(self) -> None:
        """Note the audio of the bytes that were validated last.

        While there is audio left to play, nothing has to be counted: see AttemptTimeouts.resume.
        """
        waited, first_audio, timeouts, validator = self._waited, self._first_audio, self._timeouts, self._validator
        before, self._audio = self._audio, validator.seconds
        if timeouts is None and first_audio is not None and waited - first_audio > before:
            timeouts = self._timeouts = self._make_timeouts(before)
        if timeouts:
            timeouts.add_audio(validator.seconds - before, has_audio=validator.has_audio)
            if not timeouts.underrun:
                self._timeouts = None
        self._arrived = waited
        if first_audio is None and validator.has_audio:
            self._first_audio = self._heard = waited
        elif validator.seconds > before:
            self._heard = waited

    def _make_timeouts(self, audio: float) -> AttemptTimeouts:
        """Return the timeouts of the request after so many seconds of audio, none of which came too late."""
        choice = self._choice
        guarded = choice.candidate.guarded
        stopwatch = Stopwatch(self._services.clock)
        stopwatch.since, stopwatch.extends = self._started_at, self._extends
        timeouts = AttemptTimeouts(
            guarded.timeouts,
            Deadline(choice.seconds, stopwatch, 0.0),
            Deadline(choice.total, stopwatch, 0.0),
            own_deadline=choice.own_deadline,
            min_rate=self.MIN_RATE,
            usual=guarded.handler.silence_limits.for_offer(choice.candidate.offer),
            first_audio=choice.first_audio,
            extra=choice.extra * len(self._text),
        )
        timeouts.resume(self._waited, self._arrived, self._heard, self._first_audio, audio)
        return timeouts

    @property
    def _extends(self) -> bool:
        """True if audio extends the deadline: once the caller has heard some."""
        return self._begun

    def _set_due(self) -> None:
        """Set when to look at the timeouts again."""
        timeouts = self._timeouts or self._make_timeouts(self._audio)
        self.due = self._since + timeouts.limit(self._since) - EARLY

    def _is_slow(self, timeouts: AttemptTimeouts) -> bool:
        """Return whether audio has come slower than it is played for too long."""
        return timeouts.slow_error(self._choice.candidate.name, self._validator.seconds) is not None

    # ---------------------------------------------------------------- response

    def _accept(self) -> bool:
        """Take the head of the response; return whether it is that of usual audio."""
        accepted = self._started.accepted()
        if accepted is None:
            return False
        self._accepted, self._answered, self._errors.request_id = accepted, self._waited, accepted.request_id
        candidate = self._choice.candidate
        limits = candidate.guarded.handler.account_limits
        if started := limits.queue.limiter.accepted(self._entry, accepted.concurrency_limit, self._since):
            limits.queue.notify(started)
        limits.accepted(accepted, len(self._text), candidate.offer.model)
        return True

    def _pass_on(self, data: bytes) -> bool:
        """Send a chunk to the client; return whether it is usual to do so. Raises TTSError."""
        validator = self._validator
        self._received += len(data)
        valid = validator.take(data)
        if valid is None:
            valid = validator.evaluate_nowait()
        waited, first_audio, seconds = self._waited, self._first_audio, validator.seconds
        # As `_add_audio` does for all chunks but the first, while there is audio left to play.
        if first_audio is not None and self._timeouts is None and waited - first_audio <= self._audio < seconds:
            self._audio, self._arrived, self._heard = seconds, waited, waited
        else:
            self._add_audio()
        if not valid:
            # Long silence has to be decoded, and a large head to be refused.
            return seconds < MAX_LEADING_SILENCE and self._received < MAX_HELD
        if self._first_sound is None:
            self._first_sound = waited
            self._begin()
        self._odd_bytes ^= len(valid) & 1 == 1
        if self._started.connection.complete:
            self._client.write(valid)
        else:
            self._client.write_now(valid)
        return True

    def _begin(self) -> None:
        """Write the head of the response."""
        services = self._services
        services.on_muted(False)
        self._begun = True
        if self._timeouts:
            self._timeouts.utterance_deadline.stopwatch.extends = True
        # The stall timeout now applies in place of the first-audio timeout. Computing it is left to `check_time`, which
        # a response that ends within one tick never needs.
        self.due = self._since
        assert self._accepted is not None  # noqa: S101 - audio has come
        first_choice, provider = self._plan.candidates[0].guarded, self._choice.candidate.guarded
        self._client.begin(first_choice.handler.name, provider.handler.name, self._accepted)

    def _finish(self) -> bool:
        """End a complete response; return False if its end has to be inspected."""
        seconds = self._validator.seconds
        if not self._ends_well(seconds):
            return False
        self._release()
        self._started.close()
        # Recorded with the provider's circuit first.
        candidate, text = self._choice.candidate, self._text
        handler = candidate.guarded.handler
        handler.settle(self._permit, None, candidate.offer, len(text))
        queue = handler.account_limits.queue
        if started := queue.limiter.release(self._entry, self._since):
            queue.notify(started)
        alignment = self._end_audio(seconds)
        speech = self._record(seconds)
        self._services.admission.leave()
        self._client.end(speech, text, alignment)
        return True

    def _ends_well(self, seconds: float) -> bool:
        """Return whether a response of so many seconds is complete, without a need to inspect its end.

        It is if so many seconds may be all of the text, as LengthValidator.rejects decides.
        """
        if not (self._begun and self._validator.ends_well):
            return False
        if self._odd_bytes and self._plan.template.request.format.codec is Codec.PCM:  # half a sample has to be added
            return False
        text = self._text
        is_complete = is_surely_complete(text, seconds)
        return is_complete or self._services.rates.is_whole(self._choice.style, text, seconds)

    def _end_audio(self, seconds: float) -> Alignment | None:
        """Send what was held back until the end: nothing. Return the times of the text, None for estimated ones."""
        return None

    def _record(self, seconds: float) -> RelayedSpeech:
        """Record the success everywhere else, as the pipeline does."""
        choice, text, accepted = self._choice, self._text, self._accepted
        assert accepted is not None  # noqa: S101 - audio has come
        candidate, length, first_audio = choice.candidate, len(text), self._first_audio
        handler, offer = candidate.guarded.handler, candidate.offer
        handler.voice = offer.voice
        if first_audio is not None and not (self._lost and is_unreliable(self._lost, self._waited)):
            handler.silence_limits.for_offer(offer).record(max(0.0, first_audio - choice.extra * length))
            handler.probe_timeout.record(first_audio)
        self._services.rates.learn(choice.style, text, seconds)
        handler.bills.add_delivered(accepted.characters_billed, length)
        first_choice = self._plan.candidates[0].guarded.handler.name
        facts, timing = None, None
        if self._services.observers:
            names = [each.name for each in self._plan.candidates]
            facts, timing = UtteranceFacts(names, length, choice.total, self._plan.holds), self._permit.timing
        return RelayedSpeech(
            first_choice,
            "spoken" if first_choice == handler.name else "substituted",
            handler.name,
            offer.voice,
            length,
            seconds,
            self._sent_at,
            self._waited,
            self._answered,
            first_audio,
            self._held_back,
            accepted,
            self._recorded_refusals() if self._refusals else (),
            facts,
            timing,
        )

    def _recorded_refusals(self) -> list[ProviderRefusal]:
        """Record that the candidates before the chosen one refused: nothing was sent to them. Return that."""
        recorded = []
        for handler, refusal in zip(self._plan.handlers, self._refusals, strict=False):
            if refusal is not None:
                handler.bills.add_unsent()
                recorded.append(refusal)
        return recorded

    def _release(self) -> None:
        """End the relay: the connection and the set of relays refer to it no more."""
        connection, self._connection = self._connection, None
        assert connection is not None  # noqa: S101 - it is running
        connection.observer = None
        self._services.running.discard(self)


_count_refusal = TTSErrorHandler.count_refusal


class AwaitedConnection(NamedTuple):
    """Connection that is being opened for a request, which may wait for it for so many seconds."""

    opened: asyncio.Future[Any]
    seconds: float


_MAX_WAIT, _MAX_SHARE_OF_WAIT = 0.5, 0.05
"""Seconds for which a usual request waits for its connection, and the share of its time limits: no timer runs yet."""


def open_connection(plan: RelayPlan, text: str, services: RelayServices) -> AwaitedConnection | None:
    """Open a connection for a request that is usual, but that `start_relay` has found none for."""
    choice = None if services.admission.is_behind else plan.choose(text)
    if choice is None:
        return None
    limiter = choice.candidate.guarded.handler.account_limits.queue.limiter
    room = math.inf if limiter.limit is None else limiter.limit - limiter.running
    opened = choice.prepared.open_ahead(room)
    seconds = min(_MAX_WAIT, _MAX_SHARE_OF_WAIT * min(choice.seconds, choice.first_audio))
    return AwaitedConnection(opened, seconds) if opened else None


def start_relay(
    kind: type[Relay],
    plan: RelayPlan,
    text: str,
    services: RelayServices,
    client: RelayClient,
    connect_seconds: float = 0.0,
    rewriting: type[Relay] | None = None,
) -> Relay | None:
    """Send a usual request to the chosen candidate; None, and nothing has happened, if the request is not usual.

    `connect_seconds` is the time that it has waited for its connection, `rewriting` the kind of relay for audio that is
    rewritten.
    """
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
    queue = handler.account_limits.queue
    entry = queue.limiter.try_acquire(now)
    permit: Permit | None = None
    try:
        permit = handler.admit(candidate.offer, length, retry=False) if entry else None
    except (TTSCircuitOpenError, TTSHoldError):  # since it was chosen; the pipeline records it
        permit = None
    if entry is None or permit is None:
        started.close()
        if entry:
            queue.notify(queue.limiter.release(entry, now))
        admission.leave()
        return None
    refusals: Sequence[ProviderRefusal | None] = ()
    if before := plan.handlers[: choice.step.index]:  # counted by their circuits
        refusals = [*map(_count_refusal, before, plan.offers, repeat(length))]
    started.start(text)
    if choice.rewritten and rewriting:
        kind = rewriting
    return kind(plan, choice, text, services, now, permit, entry, refusals, started, client, connect_seconds)
