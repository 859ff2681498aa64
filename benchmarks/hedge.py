"""Benefit and cost of hedging: seconds to the first audio, and characters charged, with and without hedges.

Two vendors have seeded latencies. Each set of latencies is run once for every policy, and every text has the same
latency in all of them. The service itself runs, in virtual time. Run: `make bench`, or
`python benchmarks/hedge.py` where steadyvoice is installed. About two minutes; the same numbers each time.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ProcessPoolExecutor
from math import exp, inf
from random import Random
from time import perf_counter
from typing import NamedTuple

from lab.virtual_time_loop import run

from steadyvoice import (
    Accepted,
    AsyncTTSService,
    AudioChunk,
    AudioFormat,
    CircuitState,
    HedgeConfig,
    SpeechRequest,
    SynthesisOffer,
)
from steadyvoice.breaker import Event, StateChanged

TEXTS = 3_000
A_SECOND = 5.0
# Loud enough not to be taken for silence, which would be a failure of its own.
SOUND = b"\x00\x10\x00\xf0" * 400  # 0.1 s, at 8 kHz

Draw = Callable[[Random], float]


def lognormal(rng: Random) -> float:
    """Median 0.25 s, p99 2.6 s."""
    return 0.25 * exp(rng.gauss(0.0, 1.0))


def pareto(rng: Random) -> float:
    """Median 0.32 s, p99 4.3 s."""
    return min(20.0, 0.2 * rng.paretovariate(1.5))


def stalls(rng: Random) -> float:
    """About 0.25 s, with 2 % between 3 and 10 s."""
    return rng.uniform(3.0, 10.0) if rng.random() < 0.02 else 0.25 * exp(rng.gauss(0.0, 0.2))


def slower(rng: Random) -> float:
    """Twice the lognormal latency."""
    return 2 * lognormal(rng)


class HedgeWorld(NamedTuple):
    """Latencies of both vendors in seconds, and the begin and end of a hang of the first one."""

    first: Draw
    second: Draw
    hangs: tuple[float, float] = (inf, inf)


WORLDS = {
    "lognormal, σ = 1": HedgeWorld(lognormal, lognormal),
    "Pareto, α = 1.5": HedgeWorld(pareto, pareto),
    "2 % stall for 3 to 10 s": HedgeWorld(stalls, stalls),
    "lognormal, the second twice as slow": HedgeWorld(lognormal, slower),
}
OUTAGE = HedgeWorld(lognormal, lognormal, (300.0, 420.0))

POLICIES: dict[str, HedgeConfig | None] = {
    "none": None,
    "95 %, budget 5 %": HedgeConfig(),
    "95 %, budget 10 %": HedgeConfig(budget=0.1),
    "90 %, budget 10 %": HedgeConfig(percentile=0.9, budget=0.1),
}


class SlowVendor:
    """Vendor that charges for every text, and answers after its seeded latency."""

    local = False

    def __init__(self, name: str, draw: Draw, hangs: tuple[float, float] = (inf, inf)) -> None:
        self.name, self._draw, self._hangs = name, draw, hangs
        self.charged = 0

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        return SynthesisOffer(AudioFormat.parse("pcm_8000"), voice=self.name)

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        self.charged += len(request.text)
        yield Accepted(characters_billed=len(request.text))
        begin, end = self._hangs
        if begin <= asyncio.get_running_loop().time() < end:
            await asyncio.Event().wait()
        # Seeded by vendor and text, not drawn in the order of the calls, which depends on the policy.
        await asyncio.sleep(self._draw(Random(f"{self.name} {request.text}")))
        yield AudioChunk(SOUND)
        yield AudioChunk(SOUND * (len(request.text) // 2))

    async def aclose(self) -> None:
        pass


class Result(NamedTuple):
    """Result of a run: seconds to the first audio by the time of request, characters charged, and hedges."""

    waits: list[tuple[float, float]]
    asked: int
    charged: int
    hedges: dict[str, int] | None
    opened_after: float | None

    def percentile(self, share: float, begin: float = 0.0, end: float = inf) -> float:
        waits = sorted(wait for time, wait in self.waits if begin <= time < end)
        return waits[min(len(waits) - 1, int(share * len(waits)))]

    @property
    def extra(self) -> float:
        """Share of characters that were charged more than once."""
        return self.charged / self.asked - 1


def live(world: HedgeWorld, hedging: HedgeConfig | None) -> Result:
    return run(_live(world, hedging))


async def _live(world: HedgeWorld, hedging: HedgeConfig | None) -> Result:
    clock = asyncio.get_running_loop().time
    first, second = SlowVendor("first", world.first, world.hangs), SlowVendor("second", world.second)
    # Seeds differ from those of the latencies, so that arrivals and latencies are independent.
    rng = Random(11)
    waits: list[tuple[float, float]] = []
    opened: list[float] = []

    def watch(event: Event) -> None:
        if isinstance(event, StateChanged) and event.to_state is CircuitState.OPEN:
            opened.append(clock())

    texts = [f"{number}. " + "x" * rng.randint(20, 120) for number in range(TEXTS)]

    async def caller(text: str) -> None:
        began = clock()
        stream = tts.stream(text, format="pcm_8000", on_midstream="error")
        await anext(stream)
        waits.append((began, clock() - began))
        async for _ in stream:
            pass

    async with AsyncTTSService([first, second], hedging=hedging, clock=clock, wall_clock=clock, rng=Random(12)) as tts:
        tts.circuits["first"].subscribe(watch)
        async with asyncio.TaskGroup() as group:
            for text in texts:
                group.create_task(caller(text))
                await asyncio.sleep(rng.expovariate(A_SECOND))
        state = tts.get_error_state()["hedging"]
    hung = [time - world.hangs[0] for time in opened if time >= world.hangs[0]]
    return Result(waits, sum(map(len, texts)), first.charged + second.charged, state, min(hung, default=None))


def main() -> None:
    begin = perf_counter()
    # Thousands of failures and hedges would be logged.
    logging.disable()
    print(f"{TEXTS:,} texts of 20 to 120 characters, {A_SECOND:g} a second; seconds to the first sound\n")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = [(name, policy) for name in WORLDS for policy in POLICIES]
        results = pool.map(live, [WORLDS[name] for name, _ in jobs], [POLICIES[policy] for _, policy in jobs])
        lived = dict(zip(jobs, results, strict=True))
        for world in WORLDS:
            _print(world, {policy: lived[world, policy] for policy in POLICIES})
        _outage(dict(zip(POLICIES, pool.map(live, [OUTAGE] * len(POLICIES), POLICIES.values()), strict=True)))
    print(f"\n{perf_counter() - begin:.0f} s")


def _print(world: str, results: dict[str, Result]) -> None:
    print(f"| {world} | p50 | p95 | p99 | p99, ratio | extra characters | hedges | won | refused for budget |")
    print("|---|---|---|---|---|---|---|---|---|")
    bare = results["none"].percentile(0.99)
    for policy, result in results.items():
        late = result.percentile(0.99)
        hedges = result.hedges or {"started": 0, "won": 0, "budget_exhausted": 0}
        print(
            f"| {policy} | {result.percentile(0.5):.2f} | {result.percentile(0.95):.2f}"
            f" | {late:.2f} | {late / bare:.2f}"
            f" | {100 * result.extra:.1f} % | {hedges['started']} | {hedges['won']} | {hedges['budget_exhausted']} |"
        )
    print()


def _outage(results: dict[str, Result]) -> None:
    begin, end = OUTAGE.hangs
    print(
        f"| the first hangs for {end - begin:g} s | circuit opens after | p50 meanwhile | p90 | waited over 10 s"
        " | extra characters | hedges | refused for budget |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for policy, result in results.items():
        waits = [wait for time, wait in result.waits if begin <= time < end]
        meanwhile = [result.percentile(share, begin, end) for share in (0.5, 0.9)]
        hedges = result.hedges or {"started": 0, "budget_exhausted": 0}
        print(
            f"| {policy} | {result.opened_after or inf:.1f} s | {meanwhile[0]:.2f} | {meanwhile[1]:.2f}"
            f" | {sum(wait > 10 for wait in waits)} of {len(waits)}"
            f" | {100 * result.extra:.1f} % | {hedges['started']} | {hedges['budget_exhausted']} |"
        )


if __name__ == "__main__":
    main()
