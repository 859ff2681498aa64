"""eSpeak NG as a provider: a local voice that needs no network, no key and no graphics card."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from steadyvoice._extras import install_command
from steadyvoice._option_rules import Number
from steadyvoice.providers.base import Accepted, AudioChunk, SynthesisOffer
from steadyvoice.providers.espeak_ng import worker
from steadyvoice.providers.espeak_ng.voices import EspeakFiles, EspeakVoices, readable_scripts
from steadyvoice.providers.espeak_ng.worker import SAMPLE_RATE
from steadyvoice.providers.local_engine import EngineProvider, split_into_jobs
from steadyvoice.providers.voices import VoiceMap, matched_gain, matched_speed, requested_voice, validate_voices
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.option_validation import validate_option
from steadyvoice.speech.request import DEFAULT_VOICE, SpeechRequest
from steadyvoice.speech.voice import Gender, Voice, is_language_tag, most_similar_voice
from steadyvoice.speech.writing_systems import count_scripts, unsupported_script, usual_language

_SLOWEST, _FASTEST = 80, 450  # words a minute
_SPEECH_RATE = Number("words a minute", integer=True, minimum=_SLOWEST, maximum=_FASTEST)
_PITCH = Number(integer=True, minimum=0, maximum=99)
_VARIANTS = {"female": "+f3", "male": ""}
_GENDERS: dict[str, Gender] = {"": "male", "m": "male", "f": "female"}  # of variants such as f3; others have names
# eSpeak speaks more words a minute than it is told: 1.05 (German) to 1.34 (French) times as many were measured.
_RATE_FACTOR = 1.2
_LOUDNESS = -20.5  # LUFS: -20.0 to -20.8 were measured of nine voices, -22.3 of the French one
_CHARACTERS_PER_JOB = 500  # half a minute of speech, computed in some 25 ms


@dataclass(frozen=True, slots=True)
class EspeakRequest:
    """Text of one job, and how to speak it."""

    text: str
    voice: str
    words_per_minute: int
    pitch: int
    pause_after: bool

    def encode(self) -> bytes:
        """Return the request as the worker reads it."""
        voice = self.voice.encode()
        text = self.text.encode(errors="replace")  # a lone surrogate becomes "?", which is one character, too
        pace = (self.words_per_minute, self.pitch, self.pause_after)
        return worker.REQUEST.pack(*pace, len(voice), len(text)) + voice + text


class Espeak(EngineProvider):
    """Provider of eSpeak NG's voices, in a child process, at about 1,000 times real time.

    - `voices`: eSpeak's voices (`en-us`, `de`, `fr+f3`) by the callers' names. "default" speaks in the request's
      language if there is a voice for it, or in one that can read the text's letters. A substitute for a voice with a
      declared gender or language is one with the same.
    - `words_per_minute`: 80 to 450. A request's speed multiplies it, but nothing is spoken slower than 80.
    - `pitch`: number from 0 to 99.
    - `files`: an eSpeak NG other than that of the extra `steadyvoice[local]`.

    One child serves all callers, a few sentences each in turn, so that none waits for another's long text or slow
    connection. A text without anything to pronounce, such as "...", becomes a few milliseconds of silence. Digits,
    emoji and letters of foreign scripts are read out by name. Model, seed and options are ignored.

    Raises TTSConfigurationError when the extra is missing or a setting is impossible.

    - `name`: name of the provider and of its circuit.
    """

    def __init__(
        self,
        *,
        name: str = "espeak",
        voices: VoiceMap | None = None,
        words_per_minute: int = 175,
        pitch: int = 50,
        files: EspeakFiles | None = None,
    ) -> None:
        files = _require_files(files or EspeakFiles.bundled(), name)
        self._known = EspeakVoices.read(files.data)
        self._words_per_minute = validate_option(f"{name}.words_per_minute", words_per_minute, _SPEECH_RATE)
        self.voices = {
            own: self._described(voice, f"{name}.voices.{own}")
            for own, voice in validate_voices(voices, "en-us", provider=name).items()
        }
        self._pitch = validate_option(f"{name}.pitch", pitch, _PITCH)
        super().__init__(name, worker_command(files), sample_rate=SAMPLE_RATE)

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Offer any voice: those of the map, eSpeak's own where names may pass, and the default one for all others."""
        voice, known = self._select_voice(request)
        speeds = (_SLOWEST / self._words_per_minute, _FASTEST / self._words_per_minute)
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
            # Voices that are not named depend on the letters of the text.
            for_any_text=request.voice in self.voices and request.voice != DEFAULT_VOICE,
            for_latin_text=True,
        )

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """Yield audio in `pcm_22050`, a second at a time, with the times of all words. Markup is read as it stands.

        Raises TTSLocalCrashError when the child dies; the next request starts a new one.
        """
        yield Accepted()
        words_per_minute = round(self._words_per_minute * request.speed)
        jobs = (
            (text, EspeakRequest(text, offer.voice, words_per_minute, self._pitch, pause_after=not last))
            for text, last in split_into_jobs(request.text, _CHARACTERS_PER_JOB)
        )
        async with aclosing(self._process.speak_jobs(jobs)) as chunks:
            async for chunk in chunks:
                yield chunk

    def _select_voice(self, request: SpeechRequest) -> tuple[Voice, bool]:
        """Return the voice for a request, and whether it is the requested one."""
        name = request.voice
        if name in self.voices and name != DEFAULT_VOICE:
            return self.voices[name], True
        if request.unknown_voice == "passthrough" and request.dialect is None and (own := self._known.find(name)):
            return self._described(Voice(own), "voice"), True
        found = count_scripts(request.text)
        if name == DEFAULT_VOICE or request.unknown_voice == "default":
            return self._adapted(found, request.language), True
        like = requested_voice(request)
        candidates = [*self.voices.values(), self._adapted(found, like.language, like.gender)]
        readers = [voice for voice in candidates if not unsupported_script(found, readable_scripts(voice.id))]
        return most_similar_voice(like, readers or candidates), False

    def _adapted(self, found: Counter[str], language: str | None, gender: Gender | None = None) -> Voice:
        """Return the default voice in that gender and language.

        If it cannot read the scripts that were `found` in the text, the voice of another language that can is returned.
        """
        default = self.voices[DEFAULT_VOICE]
        languages = [language, None, *map(usual_language, found)]
        voices = [self._known.for_language(each, otherwise=default.id) if each else default.id for each in languages]
        choices = list(zip(voices, languages, strict=True))
        voice, chosen_language = next(
            (each for each in choices if not unsupported_script(found, readable_scripts(each[0]))), choices[0]
        )
        declared = chosen_language if voice != default.id and is_language_tag(chosen_language) else None
        if default.gender and gender in _VARIANTS and gender != default.gender:
            voice = voice.partition("+")[0] + _VARIANTS[gender]
        return default if voice == default.id else self._described(Voice(voice, declared), "voice")

    def _described(self, voice: Voice, path: str) -> Voice:
        """Return a voice with the properties that follow from its name, its rate, and measurements.

        Raises TTSConfigurationError for a voice that eSpeak does not have.
        """
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
            voice.rate or self._words_per_minute * _RATE_FACTOR,
            _LOUDNESS if voice.loudness is None else voice.loudness,
        )


def is_installed() -> bool:
    """Return whether the extra `steadyvoice[local]` is installed."""
    return EspeakFiles.bundled() is not None


def _require_files(files: EspeakFiles | None, name: str) -> EspeakFiles:
    if files is None:
        raise TTSConfigurationError(f"{name}: eSpeak NG is not installed: {install_command('local')}")
    if not (files.library.is_file() and (files.data / "voices").is_dir()):
        raise TTSConfigurationError(f"{name}.files: no eSpeak NG at {files.library} and {files.data}")
    return files


def worker_command(files: EspeakFiles) -> list[str]:
    """Return the command that runs the worker by its path, isolated: it needs neither steadyvoice nor site-packages."""
    paths = (str(path.absolute()) for path in (files.library, files.data))
    return [sys.executable, "-I", "-S", worker.__file__, *paths]
