"""Speed of the cache: hits per second, and seconds to the first byte, compared with a new synthesis.

Run: `make bench`, or `python benchmarks/cache.py` where steadyvoice is installed. Under a minute.

The vendor is the simulator, on this machine in a process of its own: what "spoken" costs is its work and ours, and no
network. Every hit reads its entry from SQLite, out of the system's page cache, and checks its seal. Twenty callers ask
for twenty texts, because callers of one text share one reading.
"""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median, quantiles

from streams.simulator_process import simulator_process

from steadyvoice import AsyncTTSService, ElevenLabs
from steadyvoice.service.cache.store import CacheEntry, CacheStore

SENTENCE = "The rain has stopped at last. We walk home now, slowly, and nobody says a word. "
FORMAT = "mp3_44100_128"
CALLERS = 20
ROUNDS = 15
HITS = 300
SIZES = (10_000, 100_000, 1_000_000)


def main() -> None:
    print(f"Python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} processors\n")
    with tempfile.TemporaryDirectory() as folder:
        _store(Path(folder))
        with simulator_process(real_time_factor=0.01) as url:
            asyncio.run(_service(Path(folder), url))


def _store(folder: Path) -> None:
    """Measure the disk alone, in one thread."""
    print("| bytes of an entry | gets a second | puts a second |\n|---|---|---|")
    for size in SIZES:
        store = CacheStore(folder / str(size), 200_000_000)
        entries = [CacheEntry(f"{number:064}", 0.0, b"{}", Random(number).randbytes(size)) for number in range(50)]
        puts = _rate(store.put, entries)
        gets = _rate(lambda entry, store=store: store.get([entry.key]), entries * 10)  # type: ignore[misc]
        print(f"| {size:,} | {gets:,.0f} | {puts:,.0f} |")
        store.close()


def _rate(work: Callable[[CacheEntry], object], entries: list[CacheEntry]) -> float:
    begun = time.perf_counter()
    for entry in entries:
        work(entry)
    return len(entries) / (time.perf_counter() - begun)


async def _service(folder: Path, url: str) -> None:
    """Measure a request from its call to its result: key, thread, disk, account."""
    print(
        "\n| audio | first byte, ms: spoken | cached, median | 99th percentile | hits a second: one caller | twenty |"
    )
    print("|---|---|---|---|---|---|")
    provider = ElevenLabs("sk_test", base_url=url)
    async with AsyncTTSService([provider], cache=folder) as tts:
        for sentences in (1, 4, 12):
            texts = [f"{number}. {SENTENCE * sentences}" for number in range(CALLERS)]
            spoken = [await _first(tts, text, "spoken") for text in texts]
            cached = [await _first(tts, text, "cached") for text in texts * ROUNDS]
            alone = await _hits(tts, texts[:1])
            together = await _hits(tts, texts)
            seconds = (await tts.synthesize(texts[0], format=FORMAT)).duration
            # Rounds visit all texts in turn, so that a hit is not of the entry that was read just before.
            late = quantiles(cached, n=100)[-1]
            print(
                f"| {seconds:.0f} s | {1000 * median(spoken):.0f} | {1000 * median(cached):.2f} | {1000 * late:.2f}"
                f" | {alone:,.0f} | {together:,.0f} |"
            )


async def _first(tts: AsyncTTSService, text: str, outcome: str) -> float:
    begun = time.perf_counter()
    stream = tts.stream(text, format=FORMAT)
    await anext(stream)
    first = time.perf_counter() - begun
    async for _ in stream:
        pass
    # A cache that missed would be measured as a slow hit, and one that hit as a fast synthesis.
    if stream.outcome != outcome:
        raise SystemExit(f"{outcome} was expected, got {stream.outcome}")
    return first


async def _hits(tts: AsyncTTSService, texts: list[str]) -> float:
    async def caller(text: str) -> None:
        # The same number of hits in both cases: with one caller they come one after the other.
        for _ in range(HITS // len(texts)):
            await tts.synthesize(text, format=FORMAT)

    begun = time.perf_counter()
    await asyncio.gather(*map(caller, texts))
    return HITS / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
