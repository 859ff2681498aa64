"""Relay of a usual request whose audio a caller reads at its own pace, and the utterance that the caller reads.

Word by word the audio goes into the buffer that the pipeline has in the same place, and is read from there. While the
buffer is full, the relay reads nothing of its response. The pipeline goes on with the same buffer and the same report,
so that a caller does not notice whether, or when, a request was handed over.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from contextvars import Context, copy_context
from typing import Any

from steadyvoice.providers.base import Accepted
from steadyvoice.service.fast_lane.output_relay import ResumeRelay
from steadyvoice.service.fast_lane.plan import RelayPlan
from steadyvoice.service.fast_lane.relay import NEVER_PAUSED, Relay, RelayServices, start_relay
from steadyvoice.service.pipeline.prefetch import PrefetchBuffer
from steadyvoice.service.pipeline.response_call import InFlightRequest
from steadyvoice.service.pipeline.utterance import SpeechResources, Utterance
from steadyvoice.service.result import RelayedSpeech, UtteranceReport
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSError


class StreamingRelay(ResumeRelay):
    """Relay of one request whose audio is delivered by the word to a `RelayedUtterance`."""

    __slots__ = ("_paused_at", "_unread")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._paused_at: float | None = None  # while the caller does not read
        self._unread = 0.0  # most seconds for which it did not

    @property
    def is_paused(self) -> bool:
        """True if it reads nothing until `resume()`."""
        return self._paused_at is not None

    def check_time(self) -> None:
        """Hand over shortly before a timeout passes; else set when to look again. No clock runs during a pause."""
        if self._paused_at is None:
            super().check_time()
        if self._paused_at is not None:  # perhaps since what was left unread has been read
            self.due = math.inf

    def pause(self) -> None:
        """Stop reading the response, and all clocks of the request with it, until `resume()`."""
        if self._connection is not None:
            self._connection.observer = None  # what comes stays there
            self._paused_at, self.due = self._since, math.inf
            if self._timeouts:
                self._timeouts.utterance_deadline.stopwatch.stop()
            self._permit.pause()

    def resume(self) -> None:
        """Go on with what has come meanwhile."""
        self._restart_clocks()
        self.response_changed()

    def hand_over(self, error: TTSError | None = None) -> None:
        """Have the pipeline go on with the request, from where it is."""
        self._restart_clocks()
        super().hand_over(error)

    def _schedule_check(self, time: float) -> None:
        super()._schedule_check(time)
        assert isinstance(self._client, RelayedUtterance)  # noqa: S101 - as above
        self._client.schedule_check()

    def _restart_clocks(self) -> None:
        paused_at, self._paused_at = self._paused_at, None
        if paused_at is not None and self._connection is not None:
            self._connection.observer = self
            self._since = self.due = now = self._services.clock()
            self._beat = self._services.lag.beat
            self._unread = max(self._unread, now - paused_at)
            self._started_at += now - paused_at
            if self._timeouts:
                self._timeouts.utterance_deadline.stopwatch.start()
            self._permit.resume()

    def _begin(self) -> None:
        """Begin with the report of the utterance, which has the times of the words that were delivered so far."""
        client = self._client
        assert isinstance(client, RelayedUtterance)  # noqa: S101 - no other client has this kind of relay
        report, output, timing = client.report, self._output, self._words.timing

        def times() -> tuple[float, Alignment]:
            return output.shift, timing.times(timing.last_boundary(0.0).character)

        report.current_speaker.times = times
        super()._begin()

    def _in_flight(self, error: TTSError | None) -> InFlightRequest:
        request = super()._in_flight(error)
        request.unread = self._unread
        return request


class RelayWatcher:
    """Client of a relay in the library: checks its timeouts when one of them may be near."""

    __slots__ = ("_handle", "_relay")

    flow = NEVER_PAUSED
    """Flow control: a caller takes everything."""

    def __init__(self) -> None:
        self._relay: Relay | None = None  # while it runs
        self._handle: asyncio.TimerHandle | None = None

    def _watch(self, relay: Relay) -> None:
        """Check the timeouts of a relay from now on."""
        self._relay = relay
        self._check()

    def _check(self) -> None:
        if self._relay:
            self._relay.check_time()
        if self._relay:  # it was not handed over by that
            self.schedule_check()

    def schedule_check(self) -> None:
        """Set the timer for the relay's next check, whose time has changed."""
        self._cancel_check()
        remaining = self._relay.remaining if self._relay else math.inf
        if remaining < math.inf:
            self._handle = asyncio.get_running_loop().call_later(max(0.0, remaining), self._check)

    def _release(self) -> None:
        """Forget the relay, which refers to its client."""
        self._relay = None
        self._cancel_check()

    def _cancel_check(self) -> None:
        if self._handle:
            self._handle.cancel()
            self._handle = None


class RelayedUtterance(RelayWatcher):
    """Utterance that is relayed while its request is usual, and spoken by the pipeline from then on.

    Construction sends nothing. The request is sent when the first chunk is read.
    """

    __slots__ = ("_buffer", "_context", "_delivered", "_plan", "_resources", "_services", "_text", "_utterance",
                 "format", "report", "write")  # fmt: skip

    def __init__(self, plan: RelayPlan, text: str, services: RelayServices, resources: SpeechResources) -> None:
        super().__init__()
        self._plan, self._text, self._services, self._resources = plan, text, services, resources
        self.format = plan.template.request.format
        self.report = UtteranceReport(plan.candidates[0].name)
        self._buffer = buffer = PrefetchBuffer(self.format)
        self.write: Callable[[bytes], None] = buffer.add
        """Function by which the relay adds audio for the caller."""
        self._delivered = 0.0  # seconds, by a relay that has ended
        self._context: Context | None = None  # of the caller
        self._utterance: Utterance | None = None  # that goes on with the request

    @property
    def finished(self) -> bool:
        """True if every character was spoken, and its audio delivered."""
        if self._utterance:
            return self._utterance.finished
        return bool(self.report.spans) and self._buffer.empty

    @property
    def delivered(self) -> float:
        """Seconds of audio delivered so far."""
        if self._utterance:
            return self._utterance.delivered
        return self._relay.audio_seconds if self._relay else self._delivered

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Return the audio, once. Raises TTSError when there is none, and never ends early without an error."""
        return self._buffer.read(self._start, self._leave)

    def close(self) -> None:
        """Release everything, however the utterance has ended."""
        if self._utterance:
            self._utterance.close()

    def _start(self) -> None:
        """Send the request; by the pipeline if it is not usual any more."""
        plan = self._plan
        relay = None
        if plan.found.is_current:
            relay = start_relay(StreamingRelay, plan, self._text, self._services, self)
        if relay is None:
            self._continue(None)
        else:
            self._context = copy_context()
            self._watch(relay)

    def _leave(self) -> None:
        """Leave an incomplete response to the pipeline, which knows what a caller means that does not read on."""
        if self._relay:
            self._relay.hand_over()

    def _continue(self, request: InFlightRequest | None) -> None:
        """Have the pipeline fetch the audio, or go on with a request."""
        template = self._plan.template
        self._utterance = utterance = Utterance(
            template.request.with_text(self._text),
            self._plan.found,
            template.policy,
            self._resources,
            in_flight=request,
            report=self.report,
            prefetch=self._buffer,
        )
        self._buffer.fetch(utterance.audio(), self._context)

    # ---------------------------------------------------------------- client of the relay

    def begin(self, first_choice: str, provider: str, accepted: Accepted) -> None:
        """Note the speaker; from now on the other timeouts apply."""
        self.report.current_speaker.start(provider, accepted, len(self._text))
        self._check()

    def flush(self) -> None:
        """Wake the caller, and have the relay pause while the caller has enough."""
        buffer = self._buffer
        buffer.wake()
        if buffer.size >= buffer.max_bytes and isinstance(self._relay, StreamingRelay) and not self._relay.is_paused:
            self._relay.pause()
            self._cancel_check()
            buffer.on_room = self._resume_reading

    def write_now(self, data: bytes) -> None:
        """Give audio to the caller."""
        self.write(data)
        self.flush()

    def end(self, speech: RelayedSpeech, text: str, alignment: Alignment | None) -> None:
        """Complete the report at the end of a complete response."""
        self._delivered = speech.audio
        speech.complete(self.report, text, alignment)
        self._release()
        self._buffer.end()

    def hand_over(self, request: InFlightRequest) -> None:
        """Have the pipeline go on with the request."""
        self._release()
        self._buffer.on_room = None
        self._continue(request)

    def _resume_reading(self) -> None:
        if isinstance(self._relay, StreamingRelay):
            self._relay.resume()
            self._check()
