"""Relays of usual requests whose audio goes through the pipeline's `Output`: unpacked, rewritten, or word by word.

They hold what the pipeline's delivery holds, and decide by the same rules (`WordProgress`). So the pipeline can take a
request over at any moment: no header is sent twice, no sample is lost, and in the mode `resume` another provider goes
on with the next word.
"""

from __future__ import annotations

from typing import Any

from steadyvoice.audio.buffers import BufferLimitError
from steadyvoice.providers.base import AudioDecoder
from steadyvoice.service.fast_lane.relay import MAX_HELD, Relay
from steadyvoice.service.pipeline.audio_validation import MAX_LEADING_SILENCE
from steadyvoice.service.pipeline.delivery import buffer_limit_error
from steadyvoice.service.pipeline.output import Output
from steadyvoice.service.pipeline.response_call import DeliveryState, InFlightRequest
from steadyvoice.service.pipeline.word_delivery import ReceivedTimes, WordProgress
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSError, TTSNotAudioError
from steadyvoice.speech.format import Codec

READ_INTERVAL = 0.1
"""Most seconds for which chunks of a burst are left unread. The first words are read at once."""

_MAX_UNREAD = 32 * 1024
"""Bytes that are left unread: the connection stops reading beyond 64 KiB."""

_ENOUGH = 0.25
"""Seconds of audio sent ahead of the listener from which on a burst may wait."""


class OutputRelay(Relay):
    """Relay of one request whose audio is sent as it comes, but unpacked from its JSON, or written behind a header."""

    FLUSHES = True

    __slots__ = ("_begun_at", "_decoder", "_is_wav", "_output", "_words")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._decoder: AudioDecoder | None = None  # of a packed response
        self._begun_at = 0.0  # clock reading at which the first audio was sent
        self._is_wav = self._choice.candidate.offer.format.codec is Codec.WAV  # whose samples may be of any kind
        self._words = WordProgress(self._text, None, ReceivedTimes(), self._validator, self._choice.candidate.name)
        self._begin_output()

    def _begin_output(self) -> None:
        """Prepare the output, as the pipeline does for the only piece of an utterance."""
        candidate, template = self._choice.candidate, self._plan.template
        request, policy, offer = template.request, template.policy, candidate.offer
        self._output = output = Output(
            request.format, self._services.workers, remembers=request.timestamps, max_bytes=policy.max_audio_bytes
        )
        voice = candidate.voice if policy.resumes else None
        output.begin(offer.format, sole=True, breakable=self._plan.resumes, voice=voice, gain=offer.gain)

    def _accept(self) -> bool:
        if not super()._accept():
            return False
        assert self._accepted is not None  # noqa: S101 - it has just been set
        self._decoder = self._started.decoder(self._accepted)
        return True

    def _pass_on(self, data: bytes) -> bool:
        """Send the audio of what was read; return whether all of it is usual. Raises TTSError."""
        decoder, words = self._decoder, self._words
        self._received += len(data)
        if decoder is None:
            return self._send_audio(data)
        is_usual = True
        for chunk in decoder.feed(data):
            if problem := words.times.take(self._text, chunk.alignment, chunk.normalized):
                raise self._errors(TTSNotAudioError, problem)
            if chunk.data:
                is_usual &= self._send_audio(chunk.data)
        error, decoder.error = decoder.error, None
        if error:
            raise error  # its traceback is dropped where it is handed over
        return is_usual

    def _send_audio(self, data: bytes) -> bool:
        """Send what is ready of some audio; return whether all of it is usual. Raises TTSError."""
        validator, output, is_wav = self._validator, self._output, self._is_wav
        valid = validator.take(data)
        if valid is None:
            valid = validator.evaluate_nowait(as_samples=is_wav)
        self._add_audio()
        if not valid:
            # Long silence has to be decoded, as has a WAV of other samples, and a large head to be refused.
            must_decode = validator.seconds >= MAX_LEADING_SILENCE or (is_wav and validator.is_coded)
            return not must_decode and self._received < MAX_HELD
        if self._first_sound is None:
            self._first_sound = self._waited
        try:
            output.feed(valid)
        except BufferLimitError as error:
            raise self._limit_error(error) from None
        if ready := output.emit():
            if not self._begun:
                self._start_response()
            self._client.write(ready)
        return not is_wav or output.is_trivial

    def _start_response(self) -> None:
        self._held_back = self._waited - (self._first_audio or 0.0)
        self._begun_at = self._since
        self._begin()

    def _limit_error(self, error: BufferLimitError) -> TTSError:
        provider, request_id = self._choice.candidate.name, self._errors.request_id
        return buffer_limit_error(error, self._request, self._validator.seconds, provider, request_id)

    def _ends_well(self, seconds: float) -> bool:
        """Return whether a response of so many seconds is complete, by its timestamps if it has any."""
        if self._decoder and not self._decoder.is_between_chunks:
            return False
        times = self._words.times
        if not (times.alignments or times.normalized):
            return super()._ends_well(seconds)
        self._words.read()
        return self._begun and self._validator.ends_well and self._words.ends_within(seconds)

    def _end_audio(self, seconds: float) -> Alignment | None:
        """Send what the output still holds, and return the times of the text."""
        if rest := self._output.end(last=True):
            if not self._begun:
                self._start_response()
            self._client.write(rest)
        self._output.close()
        return self._words.complete_times(seconds)

    def _in_flight(self, error: TTSError | None) -> InFlightRequest:
        request = super()._in_flight(error)
        self._output.deadline = request.deadline
        if request.response:
            request.response.decoder = self._decoder
        request.delivered = DeliveryState(
            self._words, self._output, self._choice.candidate.offer, self._begun, self._held_back
        )
        return request


class ResumeRelay(OutputRelay):
    """Relay of one request whose audio is delivered by the word.

    A vendor sends most of an answer faster than it is played. Once the listener has enough to hear, chunks that follow
    each other closely are read together, because each read costs some twenty calls however much it brings.
    """

    __slots__ = ("_held", "_held_size", "_sent", "_unread_until", "_usual")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._usual = True  # whether every chunk so far was usual
        self._held: list[bytes] = []  # audio that came since the last word, and that the output has not received
        self._held_size = 0
        self._sent = 0.0  # seconds of audio that were sent
        self._unread_until = 0.0  # clock reading until which chunks are left unread

    def response_changed(self) -> None:
        """Pass on what came from the vendor, or leave it in the connection for a moment."""
        unread_until, connection = self._unread_until, self._connection
        if (
            unread_until
            and connection is not None
            and connection.unread < _MAX_UNREAD
            and not connection.complete
            and connection.error is None
            and self._services.clock() < unread_until
        ):
            if self.due > unread_until:
                self._schedule_check(unread_until)
            return
        super().response_changed()

    def check_time(self) -> None:
        """Read what was left unread, and hand over shortly before a timeout passes; else set when to look again."""
        self._unread_until = 0.0
        if self._connection is not None and self._connection.unread:
            self.response_changed()
        if self._connection is not None:
            super().check_time()

    def _schedule_check(self, time: float) -> None:
        """Have `check_time` called at this reading of the clock."""
        self.due = time

    def _pass_on(self, data: bytes) -> bool:
        """Send the words that a chunk completes; return whether all of it is usual. Raises TTSError."""
        decoder, words, validator = self._decoder, self._words, self._validator
        assert decoder is not None  # noqa: S101 - the response was accepted
        self._received += len(data)
        for chunk in decoder.feed(data):
            if problem := words.times.take(self._text, chunk.alignment, chunk.normalized):
                raise self._errors(TTSNotAudioError, problem)
            if not chunk.data:
                continue
            valid = validator.take(chunk.data)
            if valid is None:
                valid = validator.evaluate_nowait()
            self._add_audio()
            if not valid:
                # Long silence has to be decoded, and a large head to be refused.
                self._usual &= validator.seconds < MAX_LEADING_SILENCE and self._received < MAX_HELD
                continue
            if self._first_sound is None:
                self._first_sound = self._waited
            self._held.append(valid)
            self._held_size += len(valid)
            if boundary := words.advance(validator.seconds):
                self._send(boundary.end)
            elif self._held_size > MAX_HELD:
                self._feed_held()
        error, decoder.error = decoder.error, None
        if error:
            raise error  # its traceback is dropped where it is handed over
        unheard = self._sent - (self._since - self._begun_at)
        self._unread_until = self._since + min(READ_INTERVAL, unheard / 4) if unheard > _ENOUGH else 0.0
        return self._usual

    def _feed_held(self) -> None:
        """Give the output all of the audio that came since the last word, in one piece. Raises TTSError."""
        held, self._held, self._held_size = self._held, [], 0
        try:
            self._output.feed(b"".join(held))
        except BufferLimitError as error:
            raise self._limit_error(error) from None

    def _send(self, seconds: float) -> None:
        """Send the audio up to so many seconds. Raises TTSError."""
        held, self._held, self._held_size = self._held, [], 0
        try:
            ready = self._output.feed_and_emit(held[0] if len(held) == 1 else b"".join(held), seconds)
        except BufferLimitError as error:
            raise self._limit_error(error) from None
        if ready:
            if not self._begun:
                self._start_response()
            self._client.write(ready)
            self._sent = seconds

    def _ends_well(self, seconds: float) -> bool:
        """Return whether the timestamps prove that the response is complete. Raises TTSError."""
        assert self._decoder is not None  # noqa: S101 - the response was accepted
        if not (self._decoder.is_between_chunks and self._validator.ends_well):
            return False
        self._words.read()
        self._words.raise_if_silent(0.0)
        return self._words.ends_within(seconds)

    def _end_audio(self, seconds: float) -> Alignment | None:
        """Send the audio behind the last boundary, and return the times of the text."""
        if self._held:
            self._feed_held()
        return super()._end_audio(seconds)

    def _in_flight(self, error: TTSError | None) -> InFlightRequest:
        if self._held:
            try:
                self._feed_held()
            except TTSError as exceeded:
                error = error or exceeded.with_traceback(None)
        return super()._in_flight(error)
