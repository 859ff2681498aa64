"""Neural local voice: natural English from hibari-tts, without a network, a key or a graphics card."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import sha256
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

from steadyvoice._extras import install_command
from steadyvoice.providers import neural_worker as worker
from steadyvoice.providers.base import Accepted, AudioChunk, SynthesisOffer
from steadyvoice.providers.local_engine import EngineProvider, split_into_jobs
from steadyvoice.providers.neural_worker import MODEL_SHA256, SAMPLE_RATE
from steadyvoice.providers.voices import matched_gain, matched_speed, requested_voice
from steadyvoice.speech.errors import TTSConfigurationError, TTSVoiceUnknownError
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.request import DEFAULT_VOICE, SpeechRequest
from steadyvoice.speech.voice import Voice
from steadyvoice.speech.writing_systems import LATIN

NEURAL_VOICE = "heart"

_INSTALL = install_command("neural")
_SPEEDS = (0.5, 2.0)  # of the engine: half to twice the usual pace
# Measured of three texts with pyloudnorm: -25.8 to -26.3 LUFS, and 145 to 188 words a minute.
_VOICE = Voice(NEURAL_VOICE, "en-US", "female", rate=180.0, loudness=-26.0)
_CHARACTERS_PER_JOB = 200  # one or two sentences, computed in a quarter of a second
_PATIENCE = 3.0  # seconds: a new child needs one to two to load its model


@dataclass(frozen=True, slots=True)
class NeuralRequest:
    """Text of one job, and the speed at which to speak it: 1.0 is the voice's own."""

    text: str
    speed: float
    voice: str = NEURAL_VOICE

    def encode(self) -> bytes:
        """Return the request as the worker reads it."""
        text = self.text.encode(errors="replace")  # a lone surrogate becomes "?", which is one character, too
        return worker.REQUEST.pack(self.speed, len(text)) + text


class Neural(EngineProvider):
    """Provider of a natural American English voice, "heart", in a child process, at some 50 times real time.

    - `prewarm`: start the child with the service's first request, whichever provider speaks it. The child needs one to
      two seconds until it can speak, and a quarter of a gigabyte of memory. False: with the first request that it
      speaks.

    It speaks English only: a request for another language goes to the next provider, and so does text in letters other
    than Latin. One child serves all callers, a sentence or two each in turn. Words have their times; in groups that
    are spoken in other words than they are written in, such as "7:30 pm", only the first word's is exact. Model, seed
    and options are ignored.

    Raises TTSConfigurationError when the extra is missing, or another version of hibari-tts is installed.

    - `name`: name of the provider and of its circuit.
    """

    def __init__(self, *, name: str = "neural", prewarm: bool = True) -> None:
        # -I: neither the environment nor the working directory changes what is imported. The engine may be installed
        # where only this process looks.
        command = [sys.executable, "-I", worker.__file__, str(_find_engine(name))]
        super().__init__(name, command, sample_rate=SAMPLE_RATE, patience=_PATIENCE)
        self._prewarm = prewarm

    def warm_up(self) -> None:
        """Start the child in the background, unless `prewarm` is off."""
        if self._prewarm:
            self._process.warm_up()

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Offer any voice in English. Raises TTSVoiceUnknownError for another language."""
        language = requested_voice(request).language
        if language is not None and language.lower().partition("-")[0].partition("_")[0] != "en":
            raise TTSVoiceUnknownError(f"the neural voice speaks English only, not {language!r}", provider=self.name)
        return SynthesisOffer(
            AudioFormat(Codec.PCM, SAMPLE_RATE),
            NEURAL_VOICE,
            knows_voice=request.voice in (NEURAL_VOICE, DEFAULT_VOICE) or request.unknown_voice == "default",
            declared=_VOICE,
            speed=matched_speed(_VOICE, request, _SPEEDS),
            gain=matched_gain(_VOICE, request),
            timed=True,
            scripts=LATIN,
            for_any_text=True,
        )

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """Yield audio in `pcm_24000`, a second at a time, with the times of all words. Markup is read as it stands.

        Raises TTSLocalCrashError when the child dies; the next request starts a new one.
        """
        yield Accepted()
        jobs = (
            (text, NeuralRequest(text, request.speed)) for text, _ in split_into_jobs(request.text, _CHARACTERS_PER_JOB)
        )
        async with aclosing(self._process.speak_jobs(jobs)) as chunks:
            async for chunk in chunks:
                yield chunk


def is_installed() -> bool:
    """Return whether the extra `steadyvoice[neural]` is installed, in the version whose model is known."""
    try:
        _find_engine("neural")
    except TTSConfigurationError:
        return False
    return True


def _find_engine(name: str) -> Path:
    """Return the directory that holds the engine's package. Nothing of it is imported."""
    spec = _find_package("hibari")
    if spec is None or not spec.submodule_search_locations or _find_package("onnxruntime") is None:
        raise TTSConfigurationError(f"{name}: hibari-tts is not installed: {_INSTALL}")
    package = Path(spec.submodule_search_locations[0])
    try:
        digest = sha256((package / "assets" / "hibari.onnx").read_bytes()).hexdigest()
    except OSError as error:
        raise TTSConfigurationError(f"{name}: hibari-tts has no model ({error}): {_INSTALL}") from None
    if digest != MODEL_SHA256:
        raise TTSConfigurationError(f"{name}: the model of hibari-tts is not that of version 0.2.1: {_INSTALL}")
    return package.parent


def _find_package(name: str) -> ModuleSpec | None:
    try:
        return find_spec(name)
    except ValueError:  # its import is blocked, by None among the modules
        return None
