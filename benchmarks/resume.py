"""Words lost, words repeated and pauses added when a provider breaks off and another one resumes the stream.

Run: `make bench`, or `python benchmarks/resume.py [CUTS]` where steadyvoice is installed: so many cuts (default 30) for
each pair and format, some minutes. The vendors are the simulator's, over real sockets, speaking in word tones that are
read back; the first provider breaks off at a random moment, in a random way. Where it sends timestamps, ends that look
regular are among the faults; without timestamps those could not be detected.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from steadyvoice import (
    AsyncTTSService,
    CircuitBreakerConfig,
    ElevenLabs,
    OpenAICompatible,
    Provider,
    RetryConfig,
    TimeoutConfig,
    Tone,
)
from steadyvoice.audio.word_tones import DetectedWord, detect_words
from steadyvoice.service.result import UtteranceReport
from steadyvoice.simulator import Fault, Simulator
from steadyvoice.simulator.fault_injection import actions

TEXT = (
    "The rain has stopped at last. We walk home now, slowly, and nobody says a word. "
    "Behind the hill the river is still loud, and the bridge is wet."
)
SECONDS = 9.0  # approximate length of the text
FORMATS = ("pcm_16000", "wav_24000", "mp3_44100_128")
SHORT_TIMEOUTS = TimeoutConfig(connection_timeout=2.0, read_timeout=1.0, total_timeout=6.0)
# Hardly any backoff: pauses are measured in the audio, and waiting in real time measures nothing.
FAST_RETRY = RetryConfig(base_delay=0.001, max_delay=0.001)
# The provider that fails stays available, so that the resumption is measured and not the circuit.
NEVER_OPENS = CircuitBreakerConfig(failure_threshold=1.0, window_size=1000, minimum_calls=1000)

ProviderFactory = Callable[[str], Provider]


@dataclass
class Tally:
    """Result of one pair of providers in one format."""

    cuts: int = 0
    joints: int = 0
    lost: int = 0
    repeated: int = 0
    out_of_order: int = 0
    gaps: list[float] = field(default_factory=list)  # milliseconds more than between the same words without a failure

    def add(self, words: list[DetectedWord], whole: list[DetectedWord], report: UtteranceReport) -> None:
        """Compare a resumed utterance with a whole one."""
        heard, expected = [word.text for word in words], TEXT.split()
        missing, extra = Counter(expected) - Counter(heard), Counter(heard) - Counter(expected)
        self.cuts += 1
        self.lost += sum(missing.values())
        self.repeated += sum(extra.values())
        # Pauses are compared only where all words are there: the joint of a lost word has no counterpart.
        if heard != expected:
            self.out_of_order += not (missing or extra)
            return
        joints = [len(TEXT[: span.begin].split()) for span in report.spans[1:]]
        self.joints += len(joints)
        self.gaps += [1000 * (_gap(words, offset) - _gap(whole, offset)) for offset in joints]


def elevenlabs(url: str) -> Provider:
    return ElevenLabs("sk_first", base_url=url)


def another_account(url: str) -> Provider:
    return ElevenLabs("sk_second", name="second", base_url=url, voices={"default": "21m00Tcm4TlvDq8ikWAM"})


def openai(url: str) -> Provider:
    return OpenAICompatible("sk_test", base_url=f"{url}/v1")


def local(url: str) -> Provider:
    return Tone(name="local")


PAIRS: list[tuple[str, ProviderFactory, ProviderFactory, str]] = [
    ("ElevenLabs, ElevenLabs", elevenlabs, another_account, "text-to-speech/*"),
    ("ElevenLabs, OpenAI-compatible", elevenlabs, openai, "text-to-speech/*"),
    ("ElevenLabs, local", elevenlabs, local, "text-to-speech/*"),
    ("OpenAI-compatible, ElevenLabs", openai, elevenlabs, "audio/speech"),
    ("OpenAI-compatible, local", openai, local, "audio/speech"),
]


def main() -> None:
    cuts = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    print(f"Python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} processors")
    print(f"{cuts} cuts for each row, in a text of {len(TEXT.split())} words\n")
    print("| first, next | format | cuts | seams | words lost | repeated | out of order | added pause, ms | p99 |")
    print("|---|---|---|---|---|---|---|---|---|")
    asyncio.run(_all(cuts))


async def _all(cuts: int) -> None:
    async with Simulator(voice="tones", concurrency=100, real_time_factor=0.03) as sim:
        for name, first, second, endpoint in PAIRS:
            for form in FORMATS:
                tally = Tally()
                rng = Random(f"{name} {form}")
                for _ in range(cuts):
                    sim.faults.clear()
                    await _cut(sim, tally, form, (first, second), endpoint, rng)
                _print(name, form, tally)


async def _cut(
    sim: Simulator, tally: Tally, form: str, makers: tuple[ProviderFactory, ProviderFactory], endpoint: str, rng: Random
) -> None:
    faults = _random_faults(rng, timed=endpoint.startswith("text"))
    providers = [make(sim.url) for make in makers]
    async with AsyncTTSService(providers[:1], timeouts=SHORT_TIMEOUTS, retry=FAST_RETRY, circuit=NEVER_OPENS) as tts:
        # Spoken without a fault by the first provider, as the measure of the pauses between its words.
        uninterrupted, _ = await _spoken_words(tts, form)
    # Without timestamps each sentence is a request of its own, and either may fail.
    nth = 1 if endpoint.startswith("text") else rng.choice((1, 2))
    sim.faults.set(*(Fault(fault, endpoint=endpoint, nth=nth) for fault in faults))
    async with AsyncTTSService(providers, timeouts=SHORT_TIMEOUTS, retry=FAST_RETRY, circuit=NEVER_OPENS) as tts:
        words, report = await _spoken_words(tts, form)
    tally.add(words, uninterrupted, report)


async def _spoken_words(tts: AsyncTTSService, form: str) -> tuple[list[DetectedWord], UtteranceReport]:
    stream = tts.stream(TEXT, format=form)
    audio = b"".join([chunk async for chunk in stream])
    return [word for word in detect_words(audio, form) if not word.partial], stream.report


def _random_faults(rng: Random, *, timed: bool) -> list[actions.FaultAction]:
    after = rng.uniform(0.0, SECONDS if timed else SECONDS / 2)
    faults: list[actions.FaultAction] = [
        actions.Cut(after),
        actions.Reset(after),
        actions.Stall(after),
        actions.WrongLength(1.5),
    ]
    if timed:
        faults += [
            actions.CutTerminated(after),
            actions.CutClose(after),
            actions.HalfLine(after),
            actions.ErrorLine(after=after),
        ]
        faults += [actions.TooShort(rng.uniform(0.05, 0.95))]
    else:
        faults += [actions.TooShort(rng.uniform(0.05, 0.4))]
    return [rng.choice(faults)]


def _gap(words: list[DetectedWord], offset: int) -> float:
    return words[offset].start - words[offset - 1].end


def _print(name: str, form: str, tally: Tally) -> None:
    gaps = sorted(tally.gaps)
    middle, p99 = (f"{gaps[int(share * (len(gaps) - 1))]:.1f}" if gaps else "" for share in (0.5, 0.99))
    counts = f"{tally.cuts} | {tally.joints} | {tally.lost} | {tally.repeated} | {tally.out_of_order}"
    print(f"| {name} | {form} | {counts} | {middle} | {p99} |", flush=True)


if __name__ == "__main__":
    main()
