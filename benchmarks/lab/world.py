"""A provider that is healthy for a while, then in trouble for a while, and the callers that come by.

Everything that happens to a call is drawn before anybody decides anything: when it comes, whether it would succeed
and how long it would take. So every policy meets the same fate, and differences between them are their own.
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
    """One way to be ill: how often it is the one, how many seconds it lasts on average, what it does to calls."""

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
class World:
    """The numbers of a world. Durations in seconds; `steady` makes troubles last half to one and a half their mean."""

    healthy_seconds: float = 300
    healthy_success: float = 0.995
    troubles: tuple[Trouble, ...] = (HARD, HANGING, BROWN_OUT, MILD, BLIP)
    timeout: float = 10
    answer: float = 0.4
    refusal: float = 0.15
    steady: bool = True


class Arrival(NamedTuple):
    """One call as it would go if it were sent; `success` is the chance it had, `works` what came of it."""

    at: float
    success: float
    works: bool
    seconds: float


class _Phase(NamedTuple):
    begin: float
    end: float
    trouble: Trouble | None


def arrivals(world: World, rate: float, hours: float, seed: int) -> Iterator[Arrival]:
    """The calls of so many hours, on average `rate` a second and independent of each other."""
    luck = random.Random(f"{seed} {rate}")
    end = hours * HOUR
    now = 0.0
    for phase in _phases(world, end, luck):
        now = max(now, phase.begin)
        while (now := now + luck.expovariate(rate)) < min(phase.end, end):
            yield _call(world, phase.trouble, now, luck)
        now = phase.end


def _phases(world: World, end: float, luck: random.Random) -> Iterator[_Phase]:
    now = 0.0
    while now < end:
        healthy = luck.expovariate(1 / world.healthy_seconds) if world.healthy_seconds < inf else inf
        yield _Phase(now, now + healthy, None)
        now += healthy
        trouble = luck.choices(world.troubles, [trouble.share for trouble in world.troubles])[0]
        spread = luck.uniform(0.5, 1.5) if world.steady else luck.expovariate(1)
        yield _Phase(now, now + trouble.seconds * spread, trouble)
        now += trouble.seconds * spread


def _call(world: World, trouble: Trouble | None, now: float, luck: random.Random) -> Arrival:
    success = world.healthy_success if trouble is None else trouble.success
    works = luck.random() < success
    answer = world.answer * luck.lognormvariate(0, 0.5)
    if works:
        return Arrival(now, success, works, min(answer, world.timeout))
    hangs = trouble is not None and trouble.hangs
    return Arrival(now, success, works, world.timeout if hangs else world.refusal)
