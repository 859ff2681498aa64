"""Progress of one answer through the words of its text: which are complete, by the vendor's timestamps."""

from __future__ import annotations

from functools import cached_property

from steadyvoice.service.pipeline.audio_validation import MAX_LEADING_SILENCE, AudioValidator
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSNotAudioError, TTSSilentAudioError
from steadyvoice.speech.markup import Rendering
from steadyvoice.speech.word_timing import TimestampsEnd, WordBoundary, WordTiming

MAX_AUDIO_WITHOUT_TIMES = 30.0
"""Seconds of audio without timestamps, from a provider that promised them, after which they count as missing."""

MAX_LEAD_OVER_TIMES = 2.0
"""Seconds of audio behind the last timestamp before the timestamps are doubted, since true ones come with their audio.

No further word is delivered until they catch up or the audio has ended. A long pause contains no words anyway.
"""

TIME_TOLERANCE = 0.02
"""Seconds by which timestamps may exceed the audio."""

_MAX_LEAD_SHARE = 0.03  # share of the audio by which it may exceed them before they are doubted
_MAX_SILENT_TAIL = 0.25  # share of the audio: no voice is silent for so long at the end
_MIN_SILENT_LETTERS = 24  # letters timed within silence: several words, not just two tags that ask for a pause

# Bound on the characters with timestamps that are kept. It is more than the text has, because vendors may spell it out.
_MAX_TIMES_PER_CHARACTER, _EXTRA_TIMES = 4, 20_000


class ReceivedTimes:
    """Timestamps of one answer as they arrived."""

    __slots__ = ("_count", "alignments", "normalized")

    def __init__(self) -> None:
        self.alignments: list[Alignment] = []
        self.normalized: TimestampsEnd | None = None
        """Position that the vendor's timestamps of the normalized text have reached, if it sent any."""
        self._count = 0  # characters in the alignments

    def take(self, text: str, times: Alignment | None, normalized: Alignment | None) -> str | None:
        """Keep the next timestamps of the answer to a text.

        Returns what is wrong with them when there are far too many: they could go on for ever beside no audio.
        """
        if times:
            self._count += len(times.characters)
            if self._count > _MAX_TIMES_PER_CHARACTER * len(text) + _EXTRA_TIMES:
                return f"timestamps for {self._count} characters, where the text has {len(text)}"
            self.alignments.append(times)
        if normalized:
            self.normalized = self.normalized or TimestampsEnd()
            self.normalized.take(normalized)
        return None


class WordProgress:
    """Progress of one answer: its timestamps, and the words of `text` that are certainly complete in its audio.

    `validator` knows the last sound of the answer. If the text was `sent` in place of another, boundaries are places in
    what was sent. `provider` is named in errors.
    """

    def __init__(
        self, text: str, sent: Rendering | None, times: ReceivedTimes, validator: AudioValidator, provider: str
    ) -> None:
        self.times = times
        self.missing = False
        """Whether the provider promised timestamps, and sent none that can be used."""
        self._text, self._sent, self._validator, self._provider = text, sent, validator, provider
        self._read = 0  # number of alignments that were read
        self._boundary: WordBoundary | None = None  # that was reached last

    @cached_property
    def timing(self) -> WordTiming:
        """Times of the words, as far as `read` was called."""
        return WordTiming(self._text, self._sent)

    def read(self) -> None:
        """Read the timestamps that came since the last call."""
        timing = self.timing
        for alignment in self.times.alignments[self._read :]:
            timing.take(alignment)
            self._read += 1

    def advance(self, received: float) -> WordBoundary | None:
        """Return the boundary up to which words may be delivered, of so many seconds received; None if it is the same
        as before. Raises TTSError.
        """
        timing, validator, alignments = self.timing, self._validator, self.times.alignments
        if self._read == len(alignments) - 1:  # as usual
            timing.take(alignments[-1])
            self._read += 1
        elif self._read < len(alignments):
            self.read()
        last_sound = validator.last_sound
        if validator.seconds - last_sound >= MAX_LEADING_SILENCE:
            self.raise_if_silent(MAX_LEADING_SILENCE)
        ahead = received - timing.timed
        # The provider is asked sentence by sentence from then on, because nothing could be released for as long.
        if ahead > MAX_AUDIO_WITHOUT_TIMES:
            self.missing = True
            message = f"{MAX_AUDIO_WITHOUT_TIMES:g} s of audio came without the timestamps that were requested"
            raise TTSNotAudioError(message, provider=self._provider)
        if ahead > MAX_LEAD_OVER_TIMES:
            boundary = self.last_complete(received)
        else:
            until = received if received < last_sound else last_sound
            # Most chunks complete no word.
            if timing.next_start > until:
                return None
            boundary = timing.last_boundary(until)
        if boundary is self._boundary or not boundary.character:
            return None
        self._boundary = boundary
        return boundary

    def last_complete(self, received: float) -> WordBoundary:
        """Return the last word boundary up to which the words are certainly complete, in so many seconds received."""
        timing = self.timing
        doubtful = received - timing.timed > max(MAX_LEAD_OVER_TIMES, _MAX_LEAD_SHARE * received)
        # Words are not heard in silence, so they end with the last sound at the latest.
        return timing.last_boundary(0.0 if doubtful else min(received, self._validator.last_sound))

    def raise_if_silent(self, longest: float) -> None:
        """Raise TTSSilentAudioError if timestamps place words where there has been silence for so many seconds."""
        since, now = self._validator.last_sound, self._validator.seconds
        if now > since and now - since >= longest and self.timing.letters_between(since, now) >= _MIN_SILENT_LETTERS:
            message = f"silent since {since:.1f} s, where its timestamps place words"
            raise TTSSilentAudioError(message, provider=self._provider)

    def complete_times(self, seconds: float) -> Alignment:
        """Return the times of all of the text, of which so many seconds are known to be the whole audio."""
        self.read()
        timing = self.timing
        if timing.complete and seconds - timing.timed > max(MAX_LEAD_OVER_TIMES, _MAX_SILENT_TAIL * seconds):
            return self.spread(self._text, seconds)
        return timing.extrapolated(seconds)

    def spread(self, text: str, seconds: float) -> Alignment:
        """Return an alignment that shares the time evenly among the first characters that were sent."""
        if self._sent is None:
            return Alignment.spread(text, seconds)
        return Alignment.spread_over(self._sent, len(text), seconds)

    def ends_within(self, seconds: float) -> bool:
        """Return whether the timestamps that were read prove that so many seconds are all of the text."""
        return self.timing.ends_within(seconds + TIME_TOLERANCE)
