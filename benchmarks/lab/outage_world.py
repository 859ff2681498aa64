"""Simulated provider that alternates between healthy phases and outages, and its calls.

The time of each call, whether it would succeed and how long it would take are drawn before any policy decides. So every
policy meets the same calls, and differences between scores are the policies'.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """Kind of outage: its share of all outages, its mean duration in seconds, and the success rate of calls."""

    share: float
    seconds: float
    success: float
    hangs: bool = False


HARD = Trouble(share=0.35, seconds=40, success=0.0)
HANGING = Trouble(share=0.25, seconds=40, success=0.0, hangs=True)
BROWN_OUT = Trouble(share=0.20, seconds=90, success=0.5)
MILD = Trouble(share=0.12, seconds=120, success=0.85)
BLIP = Trouble(share=0.08, seconds=4, success=0.0)


@dataclass(frozen=True, slots=True)
class OutageWorld:
    """Parameters of a simulation. Durations in seconds; with `steady`, outages last 0.5 to 1.5 times their mean."""

    healthy_seconds: float = 300
    healthy_success: float = 0.995
    troubles: tuple[Trouble, ...] = (HARD, HANGING, BROWN_OUT, MILD, BLIP)
    timeout: float = 10
    answer: float = 0.4
    refusal: float = 0.15
    steady: bool = True


class Arrival(NamedTuple):
    """Call as it would end if it were sent; `success` is its success probability, `works` the result drawn."""

    at: float
    success: float
    works: bool
    seconds: float


class _Phase(NamedTuple):
    begin: float
    end: float
    trouble: Trouble | None


def arrivals(world: OutageWorld, rate: float, hours: float, seed: int) -> Iterator[Arrival]:
    """Yield the calls of so many hours, independent of each other, on average `rate` per second."""
    # A string, because `random` takes no tuple as a seed.
    rng = random.Random(f"{seed} {rate}")
    end = hours * HOUR
    now = 0.0
    for phase in _phases(world, end, rng):
        now = max(now, phase.begin)
        while (now := now + rng.expovariate(rate)) < min(phase.end, end):
            yield _call(world, phase.trouble, now, rng)
        # Arrivals have no memory, so the wait for the next one may begin anew at the phase's end.
        now = phase.end


def _phases(world: OutageWorld, end: float, rng: random.Random) -> Iterator[_Phase]:
    now = 0.0
    while now < end:
        healthy = rng.expovariate(1 / world.healthy_seconds) if world.healthy_seconds < inf else inf
        yield _Phase(now, now + healthy, None)
        now += healthy
        trouble = rng.choices(world.troubles, [trouble.share for trouble in world.troubles])[0]
        spread = rng.uniform(0.5, 1.5) if world.steady else rng.expovariate(1)
        yield _Phase(now, now + trouble.seconds * spread, trouble)
        now += trouble.seconds * spread


def _call(world: OutageWorld, trouble: Trouble | None, now: float, rng: random.Random) -> Arrival:
    success = world.healthy_success if trouble is None else trouble.success
    works = rng.random() < success
    answer = world.answer * rng.lognormvariate(0, 0.5)
    if works:
        return Arrival(now, success, works, min(answer, world.timeout))
    hangs = trouble is not None and trouble.hangs
    return Arrival(now, success, works, world.timeout if hangs else world.refusal)
