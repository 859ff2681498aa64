"""Speaker of the rest of a turn through one text stream: text goes out while its audio comes in.

A stream that breaks off is left at the last word whose audio is whole; the turn goes on there with the next provider.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime

from steadyvoice.breaker import Permit
from steadyvoice.providers.base import TextStreamingUnsupportedError
from steadyvoice.service.billing import FREE, Bill, Charge, calculate_bill
from steadyvoice.service.conversation.events import TurnEvent, Words
from steadyvoice.service.conversation.ledger import Passage, TurnLedger, WordCursor
from steadyvoice.service.conversation.segmentation import known_words
from steadyvoice.service.conversation.text_stream_call import TextStreamCall
from steadyvoice.service.pipeline.candidates import Candidate
from steadyvoice.service.pipeline.output import Output
from steadyvoice.service.pipeline.text_splitting import MAX_SENTENCE
from steadyvoice.service.pipeline.timeouts import Stopwatch
from steadyvoice.service.resilience.concurrency import QueueSlot
from steadyvoice.service.resilience.error_classification import classify
from steadyvoice.service.resilience.failover import TryProvider
from steadyvoice.service.result import Attempt, UtteranceReport
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSCancelledError, TTSError, TTSOverloadedError, TTSTooShortError, drop_tracebacks
from steadyvoice.speech.markup import parse_markup
from steadyvoice.speech.text import SECONDS_PER_CHARACTER
from steadyvoice.speech.word_timing import WordBoundary, WordTiming

_TIME_TOLERANCE = 0.02  # seconds by which timestamps may exceed the audio
_READ_WITHIN = 0.1  # seconds in which audio that has arrived is read
_MAX_DRIFT = 0.025  # share of the audio by which they may, if nothing sounds cut
_MARK = re.compile(r"[.!?…؟۔।॥։።፧။៕。！？｡\n]+[\"'”’»)\]]*\s*")


class StreamContext:
    """Parts of a turn that its text stream uses. `note_switch` returns the event of a change of the voice, if any.

    `ahead` returns the seconds of audio that are left to play or to read; above `lead` no further text is sent.
    """

    def __init__(
        self,
        ledger: TurnLedger,
        output: Output,
        report: UtteranceReport,
        *,
        audio: Callable[[bytes], TurnEvent],
        begin_passage: Callable[[str, int], list[TurnEvent]],
        marks_reached: Callable[[int], list[TurnEvent]],
        ahead: Callable[[], float],
        lead: float,
        record_end: Callable[[Permit, TTSError | None, int], None],
        give_up_streams: Callable[[], None],
        wall_time: Callable[[], datetime],
        language: str | None,
        observers: Sequence[object] = (),
    ) -> None:
        self.ledger, self.output, self.report = ledger, output, report
        self.audio, self.begin_passage, self.marks_reached = audio, begin_passage, marks_reached
        self.ahead, self.lead, self.record_end = ahead, lead, record_end
        self.give_up_streams = give_up_streams
        self.wall_time, self.language, self.observers = wall_time, language, observers


class TextStreamSpeaker:
    """Speaker of one text stream, from character `begin` of the turn on. Nothing is sent before `events()` is read."""

    def __init__(
        self,
        context: StreamContext,
        candidate: Candidate,
        step: TryProvider,
        call: TextStreamCall,
        slot: QueueSlot,
        stopwatch: Stopwatch,
        begin: int,
    ) -> None:
        self._context, self._candidate, self._step, self._call = context, candidate, step, call
        self._slot, self._stopwatch = slot, stopwatch
        self._ledger, self._output = context.ledger, context.output
        self._begin = self._flushed = begin
        self._timing = WordTiming("")
        self._new_text: list[str] = []  # that was sent, and that it does not have yet
        self._read_times = 0  # alignments that were read
        self._cursor: WordCursor | None = None
        self._passage: Passage | None = None
        self._at = context.wall_time()
        self._is_open = self._finishing = False
        self._done = 0  # characters of the stream whose words were emitted completely
        self._last_audio = 0.0  # time of the loop at which audio was read
        self._pending = b""  # of the piece before
        self._timer: asyncio.TimerHandle | None = None
        self.unsupported = False
        """Whether the server takes finished text only; nothing was sent."""

    # ---------------------------------------------------------------- text

    def text_changed(self) -> None:
        """Send text that has become ready. Nothing has while a sentence waits for its turn."""
        if self._timer is None:
            self.pump()

    def pump(self) -> None:
        """Send the text that is ready, as far as its audio is needed."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if not self._is_open or self._finishing:
            return
        ledger, call = self._ledger, self._call
        while (piece := self._next_piece()) is not None:
            end, flush = piece
            if (wait := self._wait_before_sending()) > 0:
                self._pump_after(wait)
                return
            text = ledger.clean[ledger.sent : end]
            if parse_markup(text):  # it is rendered for each provider, sentence by sentence
                self._finish()
                return
            self._new_text.append(text)
            ledger.sent = end
            if flush:
                self._flushed = end
            call.send(text, flush=flush)
        if ledger.ended and ledger.sent >= ledger.length:
            self._finish()

    def _next_piece(self) -> tuple[int, bool] | None:
        """Return the end of the next text to send, and whether it ends a sentence; None if more has to be waited for.

        No text is sent behind a mark that may end a sentence before it is known whether it does.
        """
        ledger, is_first = self._ledger, self._flushed == 0
        end = ledger.segment_end(self._flushed, first=is_first, limit=MAX_SENTENCE, language=self._context.language)
        if end is not None:
            return max(end, ledger.sent), True
        rest = ledger.clean[ledger.sent :]
        known = known_words(rest)
        if not known:
            return None
        mark = _MARK.search(rest, 0, known)
        return ledger.sent + (mark.end() if mark else known), False

    def _wait_before_sending(self) -> float:
        """Return the seconds until more text is needed."""
        if self._flushed < self._ledger.sent:
            return 0.0
        # A sentence that was begun is always sent to its end: the vendor may wait for it.
        owed = max(0, self._flushed - self._begin - self._done)
        wait = self._context.ahead() + owed * SECONDS_PER_CHARACTER - self._context.lead
        if not owed or self._call.stream.expects_audio:
            return wait
        # The vendor has sent everything, but some of it may not have been read. What never becomes words, such as
        # a row of dots, is not waited for.
        left = self._last_audio + _READ_WITHIN - asyncio.get_running_loop().time()
        return min(wait, left) if left > 0 else self._context.ahead() - self._context.lead

    def _pump_after(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(max(seconds, _READ_WITHIN), self.pump)

    def _finish(self) -> None:
        self._finishing = True
        self._call.finish()

    # ---------------------------------------------------------------- audio

    async def events(self) -> AsyncGenerator[TurnEvent, None]:
        """Yield events in playing order. Returns at the end of the text, or behind a failure, which is recorded."""
        failure: TTSError | None = None
        permit: Permit | None = None
        handler, call = self._candidate.guarded.handler, self._call
        try:
            await self._slot.__aenter__()
            permit = call.permit = handler.admit(call.offer, len(self._ledger.clean) - self._begin, retry=False)
            call.stream.released.add_done_callback(_Release(self._slot))
            self._open()
            while (data := await call.next()) is not None:
                permit.pause()
                for event in await self._take(data):
                    self._stopwatch.stop()
                    yield event
                call.resume_clocks()
                permit.resume()
                self.pump()
            if missing := await self._missing():
                raise missing
        except TextStreamingUnsupportedError:
            self.unsupported = True
            self._ledger.sent = self._begin
            if permit:
                permit.ignore()
            return
        except Exception as error:
            failure = classify(error, self._candidate.name)
            drop_tracebacks(failure)
            events = await self._break_off()
        except BaseException:
            await self._leave(permit)
            raise
        else:
            events = await self._end()
        finally:
            await self._close(permit)
        for event in events:
            yield event
        self._record(permit, failure)

    def _open(self) -> None:
        offer = self._call.offer
        voice = self._candidate.voice
        self._pending = self._output.begin(offer.format, breakable=True, voice=voice, gain=offer.gain)
        self._call.begin()
        self._is_open = True
        self.pump()

    async def _take(self, data: bytes) -> list[TurnEvent]:
        """Take audio, and return the events of the words that are complete."""
        self._last_audio = asyncio.get_running_loop().time()
        ready = await self._output.run(self._words, data)
        ready, self._pending = self._pending + ready, b""
        return self._events_of(ready)

    def _words(self, data: bytes) -> bytes:
        self._output.feed(data)
        self._read_alignments()
        timing, received = self._timing, self._output.received(self._call.seconds)
        if not timing.trusted:  # what is not known cannot be waited for
            return self._output.emit()
        # Behind the last word that the vendor owes, no pause will tell that it is complete.
        is_whole = not self._call.stream.expects_audio and 0 < timing.timed <= received + _TIME_TOLERANCE
        if is_whole or timing.ends_within(received + _TIME_TOLERANCE):
            self._done = max(self._done, timing.place)
            return self._output.emit()
        boundary = timing.last_boundary(min(received, self._call.validator.last_sound))
        self._done = max(self._done, boundary.character)
        return self._output.emit(boundary.end)

    def _read_alignments(self) -> None:
        if self._new_text:  # not with each word, because all of the text is copied
            self._timing.extend("".join(self._new_text))
            self._new_text.clear()
        for alignment in self._call.times.alignments[self._read_times :]:
            self._timing.take(alignment)
            self._read_times += 1

    @property
    def _delivered(self) -> int:
        """Offset in the turn up to which words were delivered completely."""
        return self._begin + self._done

    def _events_of(self, data: bytes, times: Alignment | None = None) -> list[TurnEvent]:
        """Return the events of audio that was just emitted, the words before it."""
        if not data:
            return []
        context, ledger = self._context, self._ledger
        events: list[TurnEvent] = []
        if self._passage is None:
            events += context.begin_passage(self._candidate.name, self._begin)
            self._passage = ledger.passages[-1]
            self._cursor = WordCursor(ledger.clean, self._begin, self._begin)
        passage, cursor = self._passage, self._cursor
        assert cursor is not None  # noqa: S101 - it comes with the passage
        passage.end = self._begin + self._call.characters
        cursor.extend(passage.end)
        delivered = self._delivered
        offset = passage.start + self._output.shift
        if times is None:
            known = cursor.entries
            words = cursor.take(self._timing.times_after(known, delivered - self._begin), offset, before=known)
        else:
            words = cursor.take(times, offset)
        passage.words += words
        if words:
            events.append(Words(words))
        events.append(context.audio(data))
        passage.stop = ledger.seconds
        return events + context.marks_reached(delivered)

    async def _missing(self) -> TTSError | None:
        """Return the error of audio that ended before its words did."""
        self._read_alignments()
        timing, seconds = self._timing, self._call.seconds
        if not (timing.timed and timing.trusted):
            return None
        missing = timing.shortfall(seconds)
        if missing <= _TIME_TOLERANCE:
            return None
        output = self._output
        if missing <= timing.tolerated_shortfall and await output.run_in_thread(output.ends_quietly):
            return None
        if missing <= _MAX_DRIFT * seconds and not await output.run_in_thread(output.breaks_off):
            return None
        message = f"the audio ends {missing:.2f} s before its last word does"
        return TTSTooShortError(message, provider=self._candidate.name, request_id=self._call.accepted.request_id)

    async def _end(self) -> list[TurnEvent]:
        """Return the last events of a stream that was spoken to its end."""
        self._read_alignments()
        self._done = self._call.characters
        rest = self._pending + await self._output.run(self._output.end)
        events = self._events_of(rest, self._timing.extrapolated(self._call.seconds))
        end = self._begin + self._call.characters
        if self._passage:
            self._ledger.finish_passage(self._passage, end, self._ledger.seconds, complete=True)
        return events + self._context.marks_reached(end)

    async def _break_off(self) -> list[TurnEvent]:
        """Return the events of the words that were complete before a failure. The text goes on behind them."""
        self._read_alignments()
        if not self._is_open:
            return []
        boundary, emitted = self._timing.last_boundary(0.0), self._output.emitted_seconds
        if self._done > boundary.character:  # all audio up to there was emitted
            boundary = WordBoundary(self._done, emitted, emitted)
        if boundary.character and self._timing.trusted:
            data = self._pending + await self._output.run_in_thread(self._output.break_off, boundary)
        else:
            data = self._pending
            self._output.drop()
        events = self._events_of(data)
        self._leave_passage()
        self._ledger.sent = self._ledger.delivered = self._delivered
        return events

    def _leave_passage(self) -> None:
        if self._passage:
            end, exact = self._delivered, self._timing.trusted
            whole = exact and end > self._passage.begin
            stop = self._ledger.seconds
            self._ledger.finish_passage(self._passage, end if whole else self._passage.end, stop, complete=whole)

    # ---------------------------------------------------------------- end

    async def _leave(self, permit: Permit | None) -> None:
        """Record that the listener left."""
        call, handler = self._call, self._candidate.guarded.handler
        failure = call.abandonment_error()
        self._leave_passage()
        if permit:
            handler.left(permit, call.offer, call.characters, heard=call.first_sound is not None, failure=failure)
        if call.sent:
            left = TTSCancelledError("cancelled by the caller", provider=self._candidate.name)
            self._note_attempt(permit, failure or left, left=True)

    async def _close(self, permit: Permit | None) -> None:
        """Close the stream. Its slot is released once the vendor has ended the generation."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._is_open = False
        await self._call.aclose()
        if permit is None:
            self._call.stream.close()
            self._slot.release()

    def _record(self, permit: Permit | None, failure: TTSError | None) -> None:
        """Record how the stream has ended: in the circuit, in the report, and in what is known of the provider."""
        if self._call.sent:
            self._note_attempt(permit, failure)
            self._candidate.learn(self._call, failure, probed=self._step.first_audio is not None)
            self._call.learn()
        if permit:
            self._context.record_end(permit, failure, self._call.characters)
        if failure:
            # The rest of the turn goes over connections of its own. If the reader was too slow for one that others
            # share, that is no failure of the provider's, which goes on.
            self._context.give_up_streams()
            if not isinstance(failure, TTSOverloadedError):
                self._candidate.history.failed(failure)
        elif self._passage:
            self._candidate.guarded.handler.voice = self._call.offer.voice

    def _note_attempt(self, permit: Permit | None, failure: TTSError | None, *, left: bool = False) -> None:
        call, candidate, report = self._call, self._candidate, self._context.report
        bill = self._bill(failure)
        candidate.guarded.handler.bills.add(bill, failure)
        end = self._begin + call.characters
        report.attempts.append(
            Attempt(
                candidate.name,
                self._begin,
                end,
                self._at,
                waited=call.waited,
                answered=call.answered,
                first_audio=call.first_audio,
                audio=call.seconds,
                error=failure,
                request_id=call.accepted.request_id or (failure.request_id if failure else None),
                characters_billed=bill.characters if bill.charge is Charge.BILLED else None,
                bill=bill,
                voice=call.offer.voice,
                left=left,
                timing=permit.timing if permit and self._context.observers else None,
            )
        )
        passage = self._passage
        if passage is None or passage.stop <= passage.start:
            return
        spoken = passage.end if passage.complete else passage.begin
        times = self._timing.times(max(0, spoken - self._begin))
        report.current_speaker.start(candidate.name, call.accepted, call.characters)
        seconds, shift, voice = passage.stop - passage.start, self._output.shift, call.offer.voice
        report.add(candidate.name, passage.begin, spoken, seconds, times, shift, voice, exact=passage.exact)

    def _bill(self, failure: TTSError | None) -> Bill:
        """Return the cost: a vendor charges for the text that it was sent, once it has begun to speak it."""
        call, guarded = self._call, self._candidate.guarded
        characters = call.stream.characters_sent
        if guarded.provider.local or not characters:
            return FREE
        spoken = call.seconds > 0
        heard = self._delivered - self._begin if self._passage else 0
        cost = guarded.handler.account_limits.record_stream(characters, call.offer.model) if spoken else None
        return calculate_bill(
            accepted=spoken,
            billed=cost,
            characters=characters,
            heard=min(heard, characters) if failure else characters,
            error=failure,
        )


class _Release:
    """Callback that releases a slot, and refers to nothing else."""

    __slots__ = ("_slot",)

    def __init__(self, slot: QueueSlot) -> None:
        self._slot = slot

    def __call__(self, released: asyncio.Future[None]) -> None:
        self._slot.release()
