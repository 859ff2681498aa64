"""Call of a provider that takes text while it is written: its clocks run only while it owes audio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from steadyvoice.providers.base import Accepted, AudioChunk, Provider, SynthesisOffer, TextStream
from steadyvoice.service.pipeline.attempt_timeouts import AttemptTimeouts
from steadyvoice.service.pipeline.provider_call import AudioSink, ProviderCall
from steadyvoice.service.pipeline.timeouts import Stopwatch
from steadyvoice.service.resilience.event_loop_lag import LoopLag
from steadyvoice.speech.request import SpeechRequest

_UNTIL_TEXT_COMES = 3600.0
"""Seconds for which the timer of a wait is set again while nothing is owed. Text that is sent sets it anew."""


class TextStreamCall(ProviderCall):
    """Call whose text arrives in pieces: `send()` it, `flush()` and `finish()`, and read with `next()`.

    A silent language model is no slow vendor: while the vendor owes nothing, neither its timeouts nor the deadline run.
    """

    def __init__(
        self,
        provider: Provider,
        request: SpeechRequest,
        offer: SynthesisOffer,
        timeouts: AttemptTimeouts,
        stream: TextStream,
        stopwatch: Stopwatch,
        *,
        connection_timeout: float,
        clock: Callable[[], float],
        lag: LoopLag,
        on_accepted: Callable[[Accepted], None],
    ) -> None:
        super().__init__(
            provider,
            request,
            offer,
            timeouts,
            connection_timeout=connection_timeout,
            clock=clock,
            lag=lag,
            on_accepted=on_accepted,
        )
        self.stream, self._stopwatch = stream, stopwatch
        self.characters = 0
        """Characters that were sent."""
        self._new_text: list[str] = []  # that the request and the validator do not have yet

    def send(self, text: str, *, flush: bool) -> None:
        """Send text, and have all of it spoken with `flush`."""
        if text:
            self.characters += len(text)
            self._new_text.append(text)
            self.stream.send(text)
        if flush:
            self._note_text()
            self.stream.flush()
        self.note_debt()

    def finish(self) -> None:
        """Have all text spoken, and end behind it."""
        self._note_text()
        self.stream.finish()
        self.note_debt()

    def note_debt(self) -> None:
        """Start or stop the clocks, if the vendor owes audio now and did not before, or the other way round."""
        waits, timeouts = not self.stream.expects_audio, self._timeouts
        if waits == timeouts.queued:
            return
        if self._since is not None:
            self._count_time()
        timeouts.queued = waits
        if waits:
            self._stopwatch.stop()
            if self.permit:
                self.permit.suspend()
            return
        self._stopwatch.start()
        timeouts.restart()
        if self.permit:
            self.permit.resume()
        if self._since is not None:
            self._timer.shorten(timeouts.limit(self._clock()))

    def resume_clocks(self) -> None:
        """Go on counting behind the consumer's own time, if the vendor owes audio."""
        if not self._timeouts.queued:
            self._stopwatch.start()

    async def next(self, sink: AudioSink | None = None) -> bytes | None:
        """Return the next audio once it is valid; None at the end. Raises TTSError, TextStreamingUnsupportedError."""
        self.note_debt()
        return await super().next()

    def _begin(self) -> None:
        self._source = cast(Any, self.stream)

    async def _aclose(self) -> None:
        self._note_text()
        self.stream.close()

    def _audio_of(self, chunk: AudioChunk) -> bytes:
        self._note_text()
        return super()._audio_of(chunk)

    def _note_text(self) -> None:
        """Add the text that was sent to the request. Not with each word, because all of the text is copied."""
        if self._new_text:
            text = "".join(self._new_text)
            self._new_text.clear()
            self.request = self.request.with_text(self.request.text + text)
            self.validator.add_text(text)

    async def _read(self, sink: AudioSink | None, left: float) -> bytes | None:
        self.note_debt()
        data = await super()._read(None, self._timeouts.limit(self._count_time()))
        self.note_debt()
        return data

    def _remaining(self) -> float:
        if self._timeouts.queued:
            self._beat = None
            self._count_time()
            return _UNTIL_TEXT_COMES
        return super()._remaining()
