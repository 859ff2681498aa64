"""Cost of streams that can be resumed, without any failure: latency, CPU and bytes, compared with passthrough.

Run: `make bench`, or `python benchmarks/resume_cost.py` where steadyvoice is installed. A minute or two.

The vendor is the simulator, in a process of its own, sending four times as fast as the audio plays. "error" passes
bytes through; "resume" requests timestamps where there are any, and releases whole words, or whole sentences. CPU is
that of this process. The second table has the bytes of `synthesize`, which requests timestamps to check the length.
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Literal, get_args

from streams.byte_counting_relay import ByteCountingRelay, byte_counting_relay
from streams.simulator_process import simulator_process

from steadyvoice import AsyncTTSService, ElevenLabs, OpenAICompatible, Provider

TEXT = (
    "The rain has stopped at last. We walk home now, slowly, and nobody says a word. "
    "Behind the hill the river is still loud, and the bridge is wet. Tomorrow it will be dry again, if the wind holds."
)
FORMATS = ("pcm_24000", "mp3_44100_128", "opus_48000_64")
ROUNDS = 9
Way = Literal["error", "resume"]


@dataclass(frozen=True)
class Measurement:
    """Measurement of a stream: seconds to its first audio, CPU seconds, seconds of audio, and seconds held back."""

    first: float
    cpu: float
    audio: float
    held_back: float


def main() -> None:
    print(f"Python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} processors")
    print(f"{len(TEXT)} characters; the vendor sends four times as fast as the audio plays; {ROUNDS} rounds, medians\n")
    print("| vendor | format | on_midstream | first audio, ms | held back, ms | CPU, ms a second of audio |")
    print("|---|---|---|---|---|---|")
    with simulator_process(real_time_factor=0.25) as url:
        asyncio.run(_measure_latency(url))
        print("\n| vendor | format | on_midstream | bytes over the wire | audio in them | share |")
        print("|---|---|---|---|---|---|")
        asyncio.run(_measure_bytes(url))


def _vendors(url: str) -> dict[str, Callable[[], Provider]]:
    return {
        "elevenlabs": lambda: ElevenLabs("sk_test", base_url=url),
        "openai": lambda: OpenAICompatible("sk_test", base_url=f"{url}/v1"),
    }


async def _measure_latency(url: str) -> None:
    for name, make in _vendors(url).items():
        async with AsyncTTSService([make()]) as tts:
            for form in FORMATS:
                # Both ways alternate within each round, so that load of the machine affects them alike; the first
                # round warms up, and is dropped.
                rounds = [{way: await _stream(tts, form, way) for way in get_args(Way)} for _ in range(ROUNDS + 1)]
                for way in get_args(Way):
                    _print(name, form, way, [each[way] for each in rounds[1:]])


async def _measure_bytes(url: str) -> None:
    # Counted on the wire: bytes that a client library reports exclude headers and chunk sizes.
    async with byte_counting_relay(url) as relay:
        for name, make in _vendors(relay.url).items():
            async with AsyncTTSService([make()]) as tts:
                for form in FORMATS:
                    for way in get_args(Way):
                        await _print_bytes(tts, relay, name, form, way)


async def _print_bytes(tts: AsyncTTSService, relay: ByteCountingRelay, name: str, form: str, way: Way) -> None:
    before = relay.bytes
    speech = await tts.synthesize(TEXT, format=form, on_midstream=way)
    received, audio = relay.bytes - before, len(speech.audio)
    print(f"| {name} | {form} | {way} | {received:,} | {audio:,} | {received / audio:.2f} |", flush=True)


async def _stream(tts: AsyncTTSService, form: str, way: Way) -> Measurement:
    begun, cpu = time.perf_counter(), time.process_time()
    stream = tts.stream(TEXT, format=form, on_midstream=way)
    await anext(stream)
    first = time.perf_counter() - begun
    async for _ in stream:
        pass
    used = time.process_time() - cpu
    if stream.outcome != "spoken":
        raise SystemExit(f"{form}, {way}: {stream.outcome}, {[str(each.error) for each in stream.attempts]}")
    return Measurement(first, used, stream.duration, stream.attempts[0].held_back)


def _print(name: str, form: str, way: str, rounds: list[Measurement]) -> None:
    first = 1000 * median(each.first for each in rounds)
    held_back = 1000 * median(each.held_back for each in rounds)
    cpu = 1000 * median(each.cpu / each.audio for each in rounds)
    print(f"| {name} | {form} | {way} | {first:.0f} | {held_back:.0f} | {cpu:.2f} |", flush=True)


if __name__ == "__main__":
    main()
