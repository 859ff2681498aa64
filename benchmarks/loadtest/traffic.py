"""Traffic of the soak test: endpoints, formats, texts, deadlines and callers' behavior, repeatable by a seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Any

from steadyvoice.speech.format import ELEVENLABS_FORMAT_NAMES, AudioFormat
from steadyvoice.wire.openai.speech import RESPONSE_FORMATS

VOICE = "JBFqnCBsd6RMkjVDRZzb"
DEADLINES = (5.0, 8.0, 15.0)  # seconds
TEXTS = (
    "Yes.",
    "Good morning, how can I help you today?",
    "One moment, please, I am looking for your order.",
    "The rain has stopped, at last. We walk home now, slowly, and nobody says a word.",
    "Your appointment is on Tuesday at half past nine. Please bring the letter that we sent you, and be there in time.",
    "It was late when the boats came in. The lights of the harbour went out one after another, and the men stood on "
    "the quay and smoked. Nobody had seen the old one, who had gone out before the storm. His dog lay on the stones "
    "and looked at the sea. Then a bell rang, far out, where there was no ship and no land, and the dog got up.",
)
_TEXT_WEIGHTS = (4, 5, 5, 4, 4, 2)
_SPEAKING_RATE = 14.0  # characters a second, roughly


class Ending(Enum):
    """Behavior of a caller towards the answer."""

    LISTEN = "listens"
    SLOW = "reads slowly"
    LEAVE_BEFORE = "hangs up before the first byte"
    LEAVE_DURING = "hangs up in mid-stream"
    LEAVE_AFTER = "hangs up at the end"

    @property
    def hangs_up(self) -> bool:
        """Whether the caller leaves before the answer is complete."""
        return self in (Ending.LEAVE_BEFORE, Ending.LEAVE_DURING)


_ENDINGS = {
    Ending.LISTEN: 0.78,
    Ending.SLOW: 0.03,
    Ending.LEAVE_BEFORE: 0.06,
    Ending.LEAVE_DURING: 0.09,
    Ending.LEAVE_AFTER: 0.04,
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Speech endpoint of the gateway. `streams`: audio is sent while it is synthesized."""

    name: str
    openai: bool = False
    streams: bool = True
    json: bool = False  # audio in base64, with times or in events

    @property
    def formats(self) -> list[AudioFormat]:
        """Formats that the endpoint accepts. ElevenLabs' streams have no WAV."""
        if self.openai:
            return list(RESPONSE_FORMATS.values())
        names = (name for name in ELEVENLABS_FORMAT_NAMES if not (self.streams and name.startswith("wav_")))
        return [AudioFormat.parse(name) for name in names]


_WHOLE, _STREAM = Endpoint("whole", streams=False), Endpoint("stream")
_TIMED = Endpoint("with-timestamps", streams=False, json=True)
_TIMED_STREAM = Endpoint("stream/with-timestamps", json=True)
_SPEECH, _EVENTS = Endpoint("speech", openai=True), Endpoint("speech, sse", openai=True, json=True)
ENDPOINTS: Mapping[Endpoint, int] = {
    _WHOLE: 15,
    _STREAM: 35,
    _TIMED: 8,
    _TIMED_STREAM: 12,
    _SPEECH: 22,
    _EVENTS: 8,
}


@dataclass(frozen=True, slots=True)
class Call:
    """Call to make. `patience`: seconds before its hang-up, or the share of the audio that it reads before that."""

    endpoint: Endpoint
    format: AudioFormat
    text: str
    deadline: float
    ending: Ending
    patience: float

    @property
    def path(self) -> str:
        """Path and query."""
        if self.endpoint.openai:
            return "/v1/audio/speech"
        tail = "" if self.endpoint is _WHOLE else f"/{self.endpoint.name}"
        return f"/v1/text-to-speech/{VOICE}{tail}?output_format={self.format.name}"

    @property
    def body(self) -> dict[str, Any]:
        """JSON body."""
        if not self.endpoint.openai:
            return {"text": self.text}
        name = next(name for name, format in RESPONSE_FORMATS.items() if format == self.format)
        kind = "sse" if self.endpoint.json else "audio"
        return {"model": "tts-1", "voice": "alloy", "input": self.text, "response_format": name, "stream_format": kind}

    @property
    def expected_seconds(self) -> float:
        """Seconds of audio that the text takes, roughly."""
        return len(self.text) / _SPEAKING_RATE

    @property
    def bytes_per_second(self) -> float:
        """Bytes on the wire for a second of audio, roughly."""
        bare = self.format.bytes_per_second or (self.format.bitrate or 200) * 125.0
        # base64 writes three bytes as four.
        return bare * (4 / 3 if self.endpoint.json else 1)


def calls(seed: int) -> Iterator[Call]:
    """Return an endless sequence of calls; every format comes equally often at its endpoints."""
    random = Random(seed)
    endpoints, weights = list(ENDPOINTS), list(ENDPOINTS.values())
    while True:
        endpoint = random.choices(endpoints, weights)[0]
        ending = random.choices(list(_ENDINGS), list(_ENDINGS.values()))[0]
        yield Call(
            endpoint,
            random.choice(endpoint.formats),
            random.choices(TEXTS, _TEXT_WEIGHTS)[0],
            random.choice(DEADLINES),
            ending,
            random.uniform(0.0, 0.3) if ending is Ending.LEAVE_BEFORE else random.uniform(0.05, 0.95),
        )


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Return the times, in seconds from the start, at which calls begin: a Poisson process of `rate` a second."""
    random, now = Random(f"arrivals {seed}"), 0.0
    while (now := now + random.expovariate(rate)) < seconds:
        yield now
