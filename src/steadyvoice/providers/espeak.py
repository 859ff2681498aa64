"""Espeak: the voice in the house. It needs no network, no key and no graphics card, and is never far from an answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from functools import partial
from typing import ClassVar

from steadyvoice.providers.espeak_process import EspeakProcess, Passage, start, worker_command
from steadyvoice.providers.espeak_scripts import reads
from steadyvoice.providers.espeak_times import chunks
from steadyvoice.providers.espeak_voices import EspeakFiles, EspeakVoices
from steadyvoice.providers.espeak_worker import SAMPLE_RATE
from steadyvoice.providers.provider import Accepted, Audio, Offer
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.request import DEFAULT_VOICE, SpeechRequest
from steadyvoice.speech.scripts import scripts_in, unreadable, usual_language
from steadyvoice.speech.text import first_piece

_CHARACTERS_A_TURN = 500  # half a minute of speech, computed in some 25 ms


class Espeak:
    """eSpeak NG in a child process, at 1,000 times real time. Plain, but it always has an answer.

    Needs the extra `steadyvoice[local]` (GPL-3.0-or-later, therefore never loaded into this process), or `files` of
    an eSpeak NG installed otherwise. `voices` gives espeak's voices (`en-us`, `de`, `fr+f3`) names of your own;
    "default" speaks when nobody asks for another, in the request's language if there is a voice for it, or in one that
    reads the text's letters if it does not. The pace is
    in words a minute, 80 to 450, and `pitch` goes from 0 to 99, 50 being usual; a request's speed multiplies the
    pace, but nothing is spoken slower than 80. Model, seed and options mean nothing to it.

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
        voices: Mapping[str, str] | None = None,
        words_per_minute: int = 175,
        pitch: int = 50,
        files: EspeakFiles | None = None,
    ) -> None:
        self.name = name
        self._files = _present(files or EspeakFiles.bundled(), name)
        self._known = EspeakVoices.read(self._files.data)
        wanted = {DEFAULT_VOICE: "en-us", **(voices or {})}
        self._voices = {own: _voice(self._known, voice, f"{name}.voices.{own}") for own, voice in wanted.items()}
        self._pace = _within(80, words_per_minute, 450, f"{name}.words_per_minute")
        self._pitch = _within(0, pitch, 99, f"{name}.pitch")
        self._process = self._new_process()

    @property
    def process_id(self) -> int | None:
        """Of the child, once it has been needed."""
        return self._process.process_id

    def offer(self, request: SpeechRequest) -> Offer:
        """Take any voice: those in the map as they are, others by the default voice.

        A name that the map does not know, passed on as it is, may still be one of espeak's own.
        """
        asked, default = request.voice, self._default_voice(request)
        if asked == DEFAULT_VOICE:
            return _offer(default)
        if asked in self._voices:
            return _offer(self._voices[asked])
        if request.foreign_voice == "pass" and request.dialect is None and (own := self._known.find(asked)):
            return _offer(own)
        return _offer(default, knows_voice=request.foreign_voice == "default")

    async def speak(
        self, request: SpeechRequest, offer: Offer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | Audio, None]:
        """Speak in `pcm_22050`, a second at a time, with the times of all words. The text is no SSML.

        Raises TTSLocalCrashError when the child dies over it; the next request finds a new one.
        """
        yield Accepted()
        pace = round(self._pace * request.speed)
        offset = 0.0
        for text, last in _turns(request.text):
            passage = Passage(text, offer.voice, pace, self._pitch, pause_after=not last)
            spoken = await self._process.speak(passage)
            for audio in chunks(text, spoken, offset):
                yield audio
            offset += spoken.duration

    async def aclose(self) -> None:
        """End the child process and wait until it is gone. Whoever speaks again gets a new one."""
        process, self._process = self._process, self._new_process()
        await process.aclose()

    def _default_voice(self, request: SpeechRequest) -> str:
        """In the request's language, unless that voice cannot read the text and another can."""
        default, found = self._voices[DEFAULT_VOICE], scripts_in(request.text)
        languages = [request.language, None, *map(usual_language, found)]
        voices = [self._known.for_language(each, otherwise=default) if each else default for each in languages]
        return next((voice for voice in voices if not unreadable(found, reads(voice))), voices[0])

    def _new_process(self) -> EspeakProcess:
        return EspeakProcess(partial(start, worker_command(self._files)), name=self.name)


def installed() -> bool:
    """Whether the extra `steadyvoice[local]` is there."""
    return EspeakFiles.bundled() is not None


def _turns(text: str) -> Iterator[tuple[str, bool]]:
    """Cut a text where one breathes, and say of each piece whether it is the last."""
    begin = 0
    while begin < len(text):
        window = text[begin : begin + _CHARACTERS_A_TURN + 1]
        piece = first_piece(window, _CHARACTERS_A_TURN)
        begin += len(piece)
        yield piece, begin >= len(text)


def _offer(voice: str, *, knows_voice: bool = True) -> Offer:
    form = AudioFormat(Codec.PCM, SAMPLE_RATE)
    return Offer(form, voice, knows_voice=knows_voice, timed=True, scripts=reads(voice))


def _present(files: EspeakFiles | None, name: str) -> EspeakFiles:
    if files is None:
        raise TTSConfigurationError(f'{name}: eSpeak NG is not installed: pip install "steadyvoice[local]"')
    if not (files.library.is_file() and (files.data / "voices").is_dir()):
        raise TTSConfigurationError(f"{name}.files: no eSpeak NG at {files.library} and {files.data}")
    return files


def _voice(known: EspeakVoices, voice: str, path: str) -> str:
    found = known.find(voice) if isinstance(voice, str) else None
    if found is None:
        raise TTSConfigurationError(f"{path}: espeak has no voice {voice!r}; it has en-us, de, fr+f3 and the like")
    return found


def _within(lowest: int, value: int, highest: int, path: str) -> int:
    if type(value) is not int or not lowest <= value <= highest:  # True is no number, 170.5 no whole one
        raise TTSConfigurationError(f"{path}: must be a whole number between {lowest} and {highest}, got {value!r}")
    return value
