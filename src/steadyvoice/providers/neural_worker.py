"""Child process that speaks with hibari-tts: one request in, one reply out, until stdin is closed.

The engine and its model need a quarter of a gigabyte and a second to load, so they live here and not in the caller's
process. This module imports only the standard library until `main` has found the engine.

    request   REQUEST header, text (UTF-8)
    reply     REPLY header, WORD entries, samples (signed 16-bit little-endian, mono, SAMPLE_RATE)
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from hashlib import sha256
from pathlib import Path
from struct import Struct
from typing import Any, BinaryIO

SAMPLE_RATE = 24_000

REQUEST = Struct("<fI")  # speed, bytes of text
REPLY = Struct("<BII")  # 1, words, bytes of samples
WORD = Struct("<ii")  # its first character, counted from 0; its first sample

MODEL_SHA256 = "5f70741d4e900f4e85d0037498736cc1b3e1b9a63a13546a5da1e63abf4fccd8"
"""Digest of the model of hibari-tts 0.2.1, whose inside is relied on for the times of words."""

_FRAME = 600  # samples between two of the model's frames, which are 25 ms long
_MAX_PHONEMES = 400  # that the model gets at once, as in hibari.tts
# The model computes at which frame each phoneme ends, but does not return it. ONNX files are protobuf messages, and
# bytes appended to a message are merged with it: field 7 (graph), in it field 12 (output), in it field 1 (name).
_ENDS_NODE = b"/CumSum_output_0"
_ENDS_OUTPUT = b"\x3a\x14\x62\x12\x0a\x10" + _ENDS_NODE
# Silence of 0.3 s before and 0.5 s behind each sentence is part of the voice; less is enough, and heard sooner.
_SILENCE_LEVEL = 0.01  # of full scale
_LEAD, _TRAIL = 0.05, 0.3  # seconds

_LINK = re.compile(r"\[([^\]]+)\]\(([^\)]*)\)")
_CLAUSE_END = re.compile(r"[,;:—.!?…]$")


def main(site: str) -> None:
    """Serve requests with the engine in the directory `site`."""
    requests, replies = sys.stdin.buffer, _private_stdout()
    sys.path.append(site)  # behind the interpreter's own, which may have newer packages
    engine = NeuralEngine()
    while len(header := requests.read(REQUEST.size)) == REQUEST.size:
        speed, size = REQUEST.unpack(header)
        spoken = engine.speak(requests.read(size).decode(), speed)
        words = b"".join(WORD.pack(*word) for word in spoken.words)
        replies.write(REPLY.pack(1, len(spoken.words), len(spoken.samples)) + words)
        replies.write(spoken.samples)
        replies.flush()


def _private_stdout() -> BinaryIO:
    """Return the pipe for replies, and redirect stdout: output of a library must not get between two replies."""
    pipe = os.fdopen(os.dup(1), "wb")
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)
    return pipe


class SpokenText:
    """Audio of a text as it grows: `samples`, and the first character and sample of each of the `words`."""

    def __init__(self) -> None:
        self.samples = bytearray()
        self.words: list[tuple[int, int]] = []


class NeuralEngine:
    """Model and pronunciation of hibari-tts, with the time of every phoneme."""

    def __init__(self) -> None:
        """Load the model. Raises SystemExit for one of another version, whose times could not be trusted."""
        import numpy
        from hibari import tts

        path = Path(tts.ASSETS) / "hibari.onnx"
        model = path.read_bytes()
        if sha256(model).hexdigest() != MODEL_SHA256:
            raise SystemExit(f'{path} is not the model of hibari-tts 0.2.1: pip install "steadyvoice[neural]"')
        self._numpy: Any = numpy
        self._tts: Any = tts.Hibari(model=model + _ENDS_OUTPUT)
        self.speak("Ready.", 1.0)  # the first run allocates, and reads the dictionaries

    def speak(self, text: str, speed: float) -> SpokenText:
        """Speak a text. What cannot be pronounced is left out."""
        spoken = SpokenText()
        text = _LINK.sub(_without_brackets, text)
        begin = 0
        for sentence in self._tts.split_sentences(text):
            begin = text.index(sentence, begin)
            words = self._pronounce(sentence, begin)
            begin += len(sentence)
            for phrase in _phrases(words):
                self._add_phrase(phrase, speed, spoken)
        return spoken

    def _pronounce(self, sentence: str, begin: int) -> list[tuple[int | None, str]]:
        """Return the phonemes of each word as it is spoken, with its place in the text where it begins one there."""
        from hibari.g2p.normalize import normalize

        normalized = normalize(sentence)
        tokens = self._tts.g2p.phonemize_tokens(self._tts.g2p.tokenize(normalized))
        phonemes = list(_join_tokens(tokens))
        written = [(begin + match.start(), match.group()) for match in re.finditer(r"\S+", sentence)]
        places = word_places(written, normalized.split())
        if len(places) != len(phonemes):  # the tokenizer made other words than white space does
            places = [begin, *[None] * (len(phonemes) - 1)] if phonemes else []
        return list(zip(places, phonemes, strict=True))

    def _add_phrase(self, phrase: Sequence[tuple[int | None, str]], speed: float, spoken: SpokenText) -> None:
        ids, starts = [0], list[tuple[int, int]]()
        for place, phonemes in phrase:
            if place is not None:
                starts.append((place, len(ids)))
            ids += [self._tts.vocab[phoneme] for phoneme in f"{phonemes} " if phoneme in self._tts.vocab]
        if len(ids) == 1 or not any(phonemes for _, phonemes in phrase):
            spoken.words += [(place, len(spoken.samples) // 2) for place, _ in starts]
            return
        wave, ends = self._synthesize([*ids, 0], speed)
        first, last = self._audible(wave)
        offset = len(spoken.samples) // 2 - first
        # A first sound such as "s" is heard up to 0.15 s before the model says that it begins.
        onset = first + round(_LEAD * SAMPLE_RATE)
        spoken.words += [
            (place, offset + (onset if index == 1 else max(onset, int(ends[index - 1]) * _FRAME)))
            for place, index in starts
        ]
        spoken.samples += (self._numpy.clip(wave[first:last], -1.0, 1.0) * 32767.0).astype("<i2").tobytes()

    def _synthesize(self, ids: list[int], speed: float) -> tuple[Any, Any]:
        """Return the samples, and for each phoneme the frame at which it ends."""
        from hibari import dsp

        inputs = {"ids": self._numpy.asarray([ids], "int64"), "speed": self._numpy.asarray([speed], "float32")}
        *spectrum, ends = self._tts.sess.run(None, inputs)
        ends = ends.reshape(-1)
        # The seed makes the noise in the voice, and so the audio of a text, the same each time.
        wave = dsp.synth(*(part[0] for part in spectrum), self._numpy.random.default_rng(0))
        if len(ends) != len(ids) or int(ends[-1]) * _FRAME != len(wave):
            raise SystemExit(f"the model returned {len(ends)} times for {len(ids)} phonemes: it is not the known one")
        return wave, ends

    def _audible(self, wave: Any) -> tuple[int, int]:
        """Return the first and last sample to keep of a phrase: its sound, and a little of the silence around it."""
        loud = self._numpy.flatnonzero(abs(wave) > _SILENCE_LEVEL)
        if not len(loud):
            return 0, len(wave)
        first = max(0, int(loud[0]) - round(_LEAD * SAMPLE_RATE))
        return first, min(len(wave), int(loud[-1]) + round(_TRAIL * SAMPLE_RATE))


def word_places(written: Sequence[tuple[int, str]], spoken: Sequence[str]) -> list[int | None]:
    """Return for each spoken word its place in the text, or None if it begins no written word.

    Numbers, units and abbreviations are spoken in other words than they are written in: `7:30 pm` is three words to
    the voice. Of such a group only the beginning is known; its other words share its time.
    """
    places: list[int | None] = [None] * len(spoken)
    matcher = SequenceMatcher(None, [word for _, word in written], spoken, autojunk=False)
    for kind, begin, end, spoken_begin, spoken_end in matcher.get_opcodes():
        if kind == "equal" or (kind == "replace" and end - begin == spoken_end - spoken_begin):
            places[spoken_begin:spoken_end] = [place for place, _ in written[begin:end]]
        elif kind == "replace":
            places[spoken_begin] = written[begin][0]
    return places


def _join_tokens(tokens: Sequence[Any]) -> Iterator[str]:
    """Yield the phonemes of each word: of the tokens up to the next white space."""
    word = ""
    for index, token in enumerate(tokens):
        word += token.phonemes or ""
        if token.whitespace or index == len(tokens) - 1:
            yield word
            word = ""


def _phrases(words: Sequence[tuple[int | None, str]]) -> Iterator[list[tuple[int | None, str]]]:
    """Yield words in groups that the model can take, ended behind a punctuation mark where possible."""
    phrase: list[tuple[int | None, str]] = []
    for word in words:
        if phrase and sum(len(each) + 1 for _, each in [*phrase, word]) > _MAX_PHONEMES:
            cut = next((n for n in range(len(phrase), 0, -1) if _CLAUSE_END.search(phrase[n - 1][1])), len(phrase))
            yield phrase[:cut]
            phrase = phrase[cut:]
        phrase.append(word)
    if phrase:
        yield phrase


def _without_brackets(link: re.Match[str]) -> str:
    """Return a Markdown link in round brackets: the engine takes such a link for a pronunciation of its own format."""
    return link.group().replace("[", "(", 1).replace("]", ")", 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
