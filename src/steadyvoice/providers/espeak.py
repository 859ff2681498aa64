"""eSpeak NG as a provider: a local voice that needs no network, no key and no graphics card."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from functools import partial
from itertools import pairwise
from typing import ClassVar

from steadyvoice.providers.base import Accepted, AudioChunk, Queued, SynthesisOffer
from steadyvoice.providers.espeak_ng.process import (
    EspeakProcess,
    EspeakRequest,
    EspeakSpeech,
    start_child,
    worker_command,
)
from steadyvoice.providers.espeak_ng.voices import EspeakFiles, EspeakVoices, readable_scripts
from steadyvoice.providers.espeak_ng.worker import SAMPLE_RATE
from steadyvoice.providers.voices import VoiceMap, matched_gain, matched_speed, requested_voice, validate_voices
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.request import DEFAULT_VOICE, SpeechRequest
from steadyvoice.speech.sentences import LOOK_AHEAD, leading_piece
from steadyvoice.speech.voice import Gender, Voice, is_language_tag, most_similar_voice
from steadyvoice.speech.writing_systems import count_scripts, unsupported_script, usual_language

_SLOWEST, _FASTEST = 80, 450  # words a minute
_VARIANTS = {"female": "+f3", "male": ""}
_GENDERS: dict[str, Gender] = {"": "male", "m": "male", "f": "female"}  # of f3 and the like; others have names
_RATE_FACTOR = (
    1.2  # words spoken for each that it is told to speak a minute; 1.05 (German) to 1.34 (French) were measured
)
_LOUDNESS = -20.5  # LUFS: -20.0 to -20.8 were measured of nine voices, -22.3 of the French one
_CHARACTERS_PER_JOB = 500  # half a minute of speech, computed in some 25 ms


class Espeak:
    """eSpeak NG in a child process, at 1,000 times real time. Plain, but it always has an answer.

    Needs the extra `steadyvoice[local]` (GPL-3.0-or-later, therefore never loaded into this process), or `files` of
    an eSpeak NG installed otherwise. `voices` gives espeak's voices (`en-us`, `de`, `fr+f3`) names of your own;
    "default" speaks when nobody asks for another, in the request's language if there is a voice for it, or in one that
    reads the text's letters if it does not. Who stands in for a voice that is declared to be a woman's or of another
    language is one like it. The pace is in words a minute, 80 to 450, and `pitch` goes from 0 to 99, 50 being usual; a
    request's speed multiplies the pace, but nothing is spoken slower than 80. Model, seed and options mean nothing to
    it.

    One child serves all callers, a few sentences each in turn, so that no one waits for another's long text or
    slow connection. Text without anything to say, such as "...", becomes a few milliseconds of silence. Digits,
    emoji and letters of foreign scripts are read out by name.

    Raises TTSConfigurationError when the extra is missing or a setting is impossible.
    """

    local: ClassVar[bool] = True

    def __init__(
        self,
        *,
        name: str = "espeak",
        voices: VoiceMap | None = None,
        words_per_minute: int = 175,
        pitch: int = 50,
        files: EspeakFiles | None = None,
    ) -> None:
        self.name = name
        self._files = _require_files(files or EspeakFiles.bundled(), name)
        self._known = EspeakVoices.read(self._files.data)
        self._pace = _validate_range(_SLOWEST, words_per_minute, _FASTEST, f"{name}.words_per_minute")
        self.voices = {
            own: self._described(voice, f"{name}.voices.{own}")
            for own, voice in validate_voices(voices, "en-us", provider=name).items()
        }
        self._pitch = _validate_range(0, pitch, 99, f"{name}.pitch")
        self._process = self._new_process()

    @property
    def process_id(self) -> int | None:
        """Of the child, once it has been needed."""
        return self._process.process_id

    @property
    def queue_wait(self) -> float:
        """Seconds for which whoever has the next turn at the child has waited; 0.0 when nobody waits."""
        return self._process.queue_wait

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Take any voice: those in the map as they are, others by the default voice.

        A name that the map does not know, passed on as it is, may still be one of espeak's own.
        """
        voice, known = self._who(request)
        speeds = (_SLOWEST / self._pace, _FASTEST / self._pace)
        return SynthesisOffer(
            AudioFormat(Codec.PCM, SAMPLE_RATE),
            voice.id,
            knows_voice=known,
            declared=voice,
            speed=matched_speed(voice, request, speeds),
            gain=matched_gain(voice, request),
            timbre=f"pitch {self._pitch}",
            timed=True,
            scripts=readable_scripts(voice.id),
            for_any_text=request.voice in self.voices and request.voice != DEFAULT_VOICE,  # others go by the letters
        )

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """Speak in `pcm_22050`, a second at a time, with the times of all words. The text is no SSML.

        Raises TTSLocalCrashError when the child dies over it; the next request finds a new one.
        """
        yield Accepted()
        pace = round(self._pace * request.speed)
        offset = 0.0
        for text, last in _split_text(request.text):
            passage = EspeakRequest(text, offer.voice, pace, self._pitch, pause_after=not last)
            turn = self._process.submit(passage)
            try:
                if turn.waits:
                    yield Queued(waits=True)
                    await turn.begun()
                    yield Queued(waits=False)
                spoken = await turn.spoken()
            except BaseException:
                turn.abandon()
                raise
            for audio in audio_chunks(text, spoken, offset):
                yield audio
            offset += spoken.duration

    async def aclose(self) -> None:
        """End the child process and wait until it is gone. Whoever speaks again gets a new one."""
        process, self._process = self._process, self._new_process()
        await process.aclose()

    def _who(self, request: SpeechRequest) -> tuple[Voice, bool]:
        """Choose who speaks, and tell whether it is the voice asked for."""
        asked = request.voice
        if asked in self.voices and asked != DEFAULT_VOICE:
            return self.voices[asked], True
        if request.unknown_voice == "passthrough" and request.dialect is None and (own := self._known.find(asked)):
            return self._described(Voice(own), "voice"), True
        found = count_scripts(request.text)
        if asked == DEFAULT_VOICE or request.unknown_voice == "default":
            return self._adapted(found, request.language), True
        like = requested_voice(request)
        candidates = [*self.voices.values(), self._adapted(found, like.language, like.gender)]
        readers = [voice for voice in candidates if not unsupported_script(found, readable_scripts(voice.id))]
        return most_similar_voice(like, readers or candidates), False

    def _adapted(self, found: Counter[str], language: str | None, gender: Gender | None = None) -> Voice:
        """The default voice as a man or a woman, and in that language, unless that cannot read the scripts that were
        `found` in the text and another can.
        """
        default = self.voices[DEFAULT_VOICE]
        languages = [language, None, *map(usual_language, found)]
        voices = [self._known.for_language(each, otherwise=default.id) if each else default.id for each in languages]
        choices = list(zip(voices, languages, strict=True))
        voice, spoken = next(
            (each for each in choices if not unsupported_script(found, readable_scripts(each[0]))), choices[0]
        )
        spoken = spoken if voice != default.id and is_language_tag(spoken) else None
        if default.gender and gender in _VARIANTS and gender != default.gender:
            voice = voice.partition("+")[0] + _VARIANTS[gender]
        return default if voice == default.id else self._described(Voice(voice, spoken), "voice")

    def _described(self, voice: Voice, path: str) -> Voice:
        """Fill in what is known of a voice by its name, its pace, and measurement. Raises TTSConfigurationError."""
        found = self._known.find(voice.id)
        if found is None:
            raise TTSConfigurationError(
                f"{path}: espeak has no voice {voice.id!r}; it has en-us, de, fr+f3 and the like"
            )
        language, _, variant = found.partition("+")
        gender = voice.gender or _GENDERS.get(variant[:1] if variant[1:].isdigit() else variant)
        return Voice(
            found,
            voice.language or language,
            gender,
            voice.rate or self._pace * _RATE_FACTOR,
            _LOUDNESS if voice.loudness is None else voice.loudness,
        )

    def _new_process(self) -> EspeakProcess:
        return EspeakProcess(partial(start_child, worker_command(self._files)), name=self.name)


def is_installed() -> bool:
    """Whether the extra `steadyvoice[local]` is there."""
    return EspeakFiles.bundled() is not None


def _split_text(text: str) -> Iterator[tuple[str, bool]]:
    """Cut a text where one breathes, and say of each piece whether it is the last."""
    begin = 0
    while begin < len(text):
        window = text[begin : begin + _CHARACTERS_PER_JOB + LOOK_AHEAD]
        piece = leading_piece(window, _CHARACTERS_PER_JOB)
        begin += len(piece)
        yield piece, begin >= len(text)


def _require_files(files: EspeakFiles | None, name: str) -> EspeakFiles:
    if files is None:
        raise TTSConfigurationError(f'{name}: eSpeak NG is not installed: pip install "steadyvoice[local]"')
    if not (files.library.is_file() and (files.data / "voices").is_dir()):
        raise TTSConfigurationError(f"{name}.files: no eSpeak NG at {files.library} and {files.data}")
    return files


def _validate_range(lowest: int, value: int, highest: int, path: str) -> int:
    if type(value) is not int or not lowest <= value <= highest:  # True is no number, 170.5 no whole one
        raise TTSConfigurationError(f"{path}: must be a whole number between {lowest} and {highest}, got {value!r}")
    return value


_BYTES_PER_SECOND = 2 * SAMPLE_RATE  # a second


def audio_chunks(text: str, spoken: EspeakSpeech, offset: float) -> Iterator[AudioChunk]:
    """Cut what was spoken, `offset` seconds into the audio, into seconds with the characters that begin in each."""
    alignment = character_times(text, spoken)
    done = 0
    for begin in range(0, len(spoken.samples), _BYTES_PER_SECOND):
        end = begin + _BYTES_PER_SECOND
        last = end >= len(spoken.samples)
        upto = len(alignment.starts) if last else bisect_left(alignment.starts, end / _BYTES_PER_SECOND)
        said = Alignment(alignment.characters[done:upto], alignment.starts[done:upto], alignment.ends[done:upto])
        yield AudioChunk(spoken.samples[begin:end], Alignment.joined([(offset, said)]))
        done = upto


def character_times(text: str, spoken: EspeakSpeech) -> Alignment:
    """Give every character of a passage its time: a word's characters, and what follows it, share its time evenly.

    espeak tells where words begin, but now and then twice (it says "1,234" in five words) or not in order.
    Whatever it says, the times here rise from zero to the end of the audio, without a gap.
    """
    edges = [
        start + (end - start) * index / (after - before)
        for (before, start), (after, end) in pairwise(_anchors(len(text), spoken))
        for index in range(after - before)
    ]
    edges.append(spoken.duration)
    return Alignment(tuple(text), tuple(edges[:-1]), tuple(edges[1:]))


def _anchors(size: int, spoken: EspeakSpeech) -> Iterator[tuple[int, float]]:
    """Give (character, seconds) of the beginning, of the words that rise from there, and of the end."""
    place, clock = 0, 0.0
    yield place, clock
    for begin, seconds in spoken.words:
        if place < begin < size and clock <= seconds <= spoken.duration:
            place, clock = begin, seconds
            yield place, clock
    yield size, spoken.duration
