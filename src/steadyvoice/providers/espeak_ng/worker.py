"""Child process that speaks with libespeak-ng: one request in, one reply out, until stdin is closed.

libespeak-ng is GPL-3.0-or-later and keeps global state, so it is loaded here and devnull else. This module imports only
the standard library, so that it can be run by its path with `python -I -S` and starts in 30 ms.

    request   REQUEST header, voice id, text (UTF-8)
    reply     REPLY header, WORD entries, samples (signed 16-bit little-endian, mono, SAMPLE_RATE)
"""

from __future__ import annotations

import ctypes
import os
import sys
from struct import Struct
from typing import BinaryIO

SAMPLE_RATE = 22_050  # of every voice of eSpeak NG

REQUEST = Struct("<HHBHI")  # words a minute, pitch, whether to pause at the end, bytes of voice id, bytes of text
REPLY = Struct("<BII")  # whether it could speak, words, bytes of samples
WORD = Struct("<ii")  # its first character, counted from 0; its first sample

# https://github.com/espeak-ng/espeak-ng/blob/1.52.0/src/include/espeak-ng/speak_lib.h
_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_END_PAUSE = 0x1000
_EVENT_LIST_TERMINATED, _EVENT_WORD = 0, 1
_RATE, _PITCH = 1, 3


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # in characters, counted from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))


def main(library: str, data: str) -> None:
    """Serve requests with the engine in `library`, whose voices are in the directory `data`."""
    requests, replies = sys.stdin.buffer, _private_stdout()
    engine = Engine(library, data)
    _redirect_to_devnull(2)  # the library prints warnings about voices; errors of its start are still reported
    while len(header := requests.read(REQUEST.size)) == REQUEST.size:
        rate, pitch, pause, voice_size, text_size = REQUEST.unpack(header)
        voice, text = requests.read(voice_size), requests.read(text_size)
        succeeded = engine.speak(text, voice, rate, pitch, bool(pause))
        _send_reply(replies, succeeded, engine)


def _private_stdout() -> BinaryIO:
    """Return the pipe for replies, and redirect stdout: output of the library must not get between two replies."""
    pipe = os.fdopen(os.dup(1), "wb")
    _redirect_to_devnull(1)
    return pipe


def _redirect_to_devnull(descriptor: int) -> None:
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, descriptor)
    os.close(devnull)


def _send_reply(replies: BinaryIO, succeeded: bool, engine: Engine) -> None:
    replies.write(REPLY.pack(succeeded, len(engine.words), len(engine.samples)))
    for word in engine.words:
        replies.write(WORD.pack(*word))
    replies.write(engine.samples)
    replies.flush()


class Engine:
    """libespeak-ng, and its last output: `samples`, and the first character and sample of each of the `words`."""

    def __init__(self, library: str, data: str) -> None:
        # The library truncates paths to 160 bytes, so it gets the shortest one.
        os.chdir(os.path.dirname(data))
        self._library = ctypes.CDLL(library)
        rate = self._library.espeak_Initialize(_SYNCHRONOUS, 1000, b".", _DONT_EXIT)
        if rate != SAMPLE_RATE:
            raise SystemExit(f"libespeak-ng cannot use {data}: it reports {rate} samples a second")
        self._library.espeak_Synth.argtypes = (
            *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint),
            *(ctypes.c_void_p, ctypes.c_void_p),
        )
        self._callback = _Callback(self._collect)  # a reference is kept, for the library stores only its address
        self._library.espeak_SetSynthCallback(self._callback)
        self.samples = bytearray()
        self.words: list[tuple[int, int]] = []

    def speak(self, text: bytes, voice: bytes, rate: int, pitch: int, pause: bool) -> bool:
        """Speak UTF-8 `text`, markup as it stands. Return False when there is no such voice."""
        self.samples.clear()
        self.words.clear()
        if self._library.espeak_SetVoiceByName(voice) != 0:
            return False
        self._library.espeak_SetParameter(_RATE, rate, 0)
        self._library.espeak_SetParameter(_PITCH, pitch, 0)
        complete_text = text.replace(b"\0", b" ")  # a zero byte would end the text
        flags = _CHARS_UTF8 | (_END_PAUSE if pause else 0)
        return bool(self._library.espeak_Synth(complete_text, len(complete_text) + 1, 0, 1, 0, flags, None, None) == 0)

    def _collect(self, samples: int | None, count: int, events: ctypes._Pointer[_Event]) -> int:
        if samples and count > 0:
            self.samples += ctypes.string_at(samples, 2 * count)
        index = 0
        while (event := events[index]).type != _EVENT_LIST_TERMINATED:
            if event.type == _EVENT_WORD:
                self.words.append((event.text_position - 1, event.sample))
            index += 1
        return 0


if __name__ == "__main__":
    main(*sys.argv[1:])
