"""Benchmark of circuit breaker policies: a provider has seeded outages, and every policy meets the same calls.

A mistake is a call that was sent and failed, or that was refused and would have succeeded. Regret is the share of
mistakes above that of an oracle that knows the success probability of each call. Run: `make bench`, or
`python benchmarks/policy.py` where steadyvoice is installed. One to two minutes; the same numbers each time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from math import inf
from statistics import median, stdev
from time import perf_counter
from typing import NamedTuple

from lab import peers_counting as counting
from lab import peers_windowed as windowed
from lab.estimator import Estimator
from lab.outage_world import BROWN_OUT, HANGING, HARD, OutageWorld, Trouble, arrivals
from lab.scoring import Policy, Score, Settle, score_policy, total
from lab.steadyvoice_policy import SteadyvoicePolicy

from steadyvoice.breaker import CircuitBreakerConfig

RATES = (0.5, 2.0, 20.0)
HOURS = {0.5: 40.0, 2.0: 16.0, 20.0: 2.5}  # of each history
SEEDS = (1, 2, 3, 4)
CALM_HOURS = {0.5: 50.0, 2.0: 15.0, 20.0: 5.0}


class NoBreaker:
    """Policy that admits every call."""

    openings = 0

    def admit(self, now: float) -> Settle | None:
        return lambda now, works: None


POLICIES: dict[str, Callable[[OutageWorld], Policy]] = {
    "no breaker": lambda world: NoBreaker(),
    "aiobreaker": lambda world: counting.AioBreakerModel(),
    "circuitbreaker": lambda world: counting.CircuitBreakerPackageModel(),
    "gobreaker": lambda world: counting.GoBreaker(),
    "hyx": lambda world: counting.HyxModel(),
    "interlock-cb": lambda world: windowed.InterlockModel(),
    "opossum": lambda world: windowed.Opossum(),
    "Polly": lambda world: windowed.Polly(),
    "purgatory": lambda world: counting.PurgatoryModel(),
    "pybreaker": lambda world: counting.PyBreakerModel(),
    "resilience4j": lambda world: windowed.Resilience4j(),
    "steadyvoice default": lambda world: SteadyvoicePolicy(CircuitBreakerConfig()),
    "steadyvoice production": lambda world: SteadyvoicePolicy(CircuitBreakerConfig.production()),
    "steadyvoice adaptive": lambda world: SteadyvoicePolicy(CircuitBreakerConfig.adaptive()),
    "Bayesian reference": Estimator,
}
SPREAD = ("no breaker", "resilience4j", "Polly", "circuitbreaker", "steadyvoice adaptive")

WORLD = OutageWorld()
STEADY_ERRORS = OutageWorld(healthy_seconds=inf, healthy_success=0.85)
OTHER_WORLDS = {
    "exponential durations of outages": replace(WORLD, steady=False),
    "trouble three times as often": replace(WORLD, healthy_seconds=100),
    "trouble three times as rare": replace(WORLD, healthy_seconds=1000),
    "troubles ten times as long": replace(
        WORLD,
        healthy_seconds=3000,
        troubles=tuple(replace(trouble, seconds=10 * trouble.seconds) for trouble in WORLD.troubles),
    ),
    "troubles three times as short": replace(
        WORLD, troubles=tuple(replace(trouble, seconds=trouble.seconds / 3) for trouble in WORLD.troubles)
    ),
    "only hard outages": replace(WORLD, troubles=(HARD,)),
    "only hanging outages": replace(WORLD, troubles=(HANGING,)),
    "only brown-outs": replace(WORLD, troubles=(BROWN_OUT,)),
    "outages with a tenth of successes": replace(WORLD, troubles=(Trouble(1, 60, 0.1),)),
    "outages with three tenths of successes": replace(WORLD, troubles=(Trouble(1, 60, 0.3),)),
    "healthy means 95 %": replace(WORLD, healthy_success=0.95),
    "30 s timeouts": replace(WORLD, timeout=30),
    "slow: answers in 4 s, 30 s timeouts": replace(WORLD, answer=4, timeout=30),
    "slow without outages": OutageWorld(healthy_seconds=inf, answer=4, timeout=30),
}


class Job(NamedTuple):
    """Run of one policy over one history."""

    policy: str
    world: OutageWorld
    rate: float
    hours: float
    seed: int


def main() -> None:
    begin = perf_counter()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        scores = _scores(pool, POLICIES, {"": WORLD})
        _print_world(scores)
        calm = _calm(pool)
        _print_targets(scores, calm)
        _print_spread(_scores(pool, SPREAD, OTHER_WORLDS, seeds=SEEDS[:1]))
    print(f"\n{perf_counter() - begin:.0f} s")


def _run(job: Job) -> Score:
    # Generated again for each policy, from the same seed: sending it between processes takes longer.
    history = arrivals(job.world, job.rate, job.hours, job.seed)
    return score_policy(history, POLICIES[job.policy](job.world))


Key = tuple[str, str, float]


def _scores(
    pool: ProcessPoolExecutor, policies: Iterable[str], worlds: dict[str, OutageWorld], seeds: tuple[int, ...] = SEEDS
) -> dict[Key, list[Score]]:
    keys = [(policy, name, rate) for policy in policies for name in worlds for rate in RATES]
    jobs = [Job(policy, worlds[name], rate, HOURS[rate], seed) for policy, name, rate in keys for seed in seeds]
    results = list(pool.map(_run, jobs))
    return {key: results[len(seeds) * i : len(seeds) * (i + 1)] for i, key in enumerate(keys)}


def _calm(pool: ProcessPoolExecutor) -> dict[float, Score]:
    jobs = [
        Job("steadyvoice adaptive", STEADY_ERRORS, rate, CALM_HOURS[rate], seed) for rate in RATES for seed in SEEDS
    ]
    results = list(pool.map(_run, jobs))
    return {rate: total(results[len(SEEDS) * i : len(SEEDS) * (i + 1)]) for i, rate in enumerate(RATES)}


def _print_world(scores: dict[Key, list[Score]]) -> None:
    print(f"{len(SEEDS)} seeded histories for each number, one for each other world")
    print("mistakes: % of calls; regret: points above the oracle, ± the spread between histories;")
    print("waiting: seconds callers spend in failing calls, per 1,000 calls; openings: per hour\n")
    print(f"{'':24}" + "".join(f"{rate:>10g} a second{'':19}" for rate in RATES))
    print(f"{'':24}" + f"{'mistakes':>9}{'regret':>12}{'waiting':>9}{'openings':>9} " * len(RATES))
    for policy in POLICIES:
        cells = (_cell(scores[policy, "", rate], rate) for rate in RATES)
        print(f"{policy:24}" + " ".join(cells))
    floors = (total(scores["no breaker", "", rate]) for rate in RATES)
    print(f"{'(oracle)':24}" + " ".join(f"{score.mistakes - score.regret:9.2f}{'':30}" for score in floors))


def _cell(scores: list[Score], rate: float) -> str:
    sums = total(scores)
    spread = stdev(score.regret for score in scores)
    hours = HOURS[rate] * len(scores)
    return f"{sums.mistakes:9.2f}{sums.regret:7.2f} ±{spread:3.1f}{sums.waiting:9.1f}{sums.openings / hours:9.1f}"


def _print_targets(scores: dict[Key, list[Score]], calm: dict[float, Score]) -> None:
    ours = {rate: total(scores["steadyvoice adaptive", "", rate]) for rate in RATES}
    share = ours[20.0].waiting / total(scores["no breaker", "", 20.0]).waiting
    best = {rate: min(_peer_regrets(scores, rate)) for rate in RATES}
    print()
    _print_target(f"regret at 20 a second {ours[20.0].regret:.2f}, at most 1.3", ours[20.0].regret <= 1.3)
    _print_target(f"regret at 2 a second {ours[2.0].regret:.2f}, at most 3.0", ours[2.0].regret <= 3.0)
    for rate in RATES:
        name = f"at {rate:g} a second less regret than every peer ({ours[rate].regret:.2f}, best peer {best[rate]:.2f})"
        _print_target(name, ours[rate].regret < best[rate])
    _print_target(f"waiting at 20 a second {100 * share:.1f} % of no breaker's, at most 10", share <= 0.1)
    for rate, score in calm.items():
        hours = CALM_HOURS[rate] * len(SEEDS)
        name = f"{score.openings} openings in {hours:.0f} hours of 15 % independent errors at {rate:g} a second"
        _print_target(name, score.openings == 0)


def _peer_regrets(scores: dict[Key, list[Score]], rate: float) -> list[float]:
    peers = [name for name in POLICIES if not name.startswith(("steadyvoice", "Bayesian", "no "))]
    return [total(scores[peer, "", rate]).regret for peer in peers]


def _print_target(target: str, reached: bool) -> None:
    print(f"{'reached' if reached else 'MISSED ':8}{target}")


def _print_spread(scores: dict[Key, list[Score]]) -> None:
    print("\nregret in other worlds (at " + ", ".join(f"{rate:g}" for rate in RATES) + " a second)\n")
    print(f"{'':36}" + "".join(f"{policy:>24}" for policy in SPREAD))
    for world in OTHER_WORLDS:
        cells = (_regrets(scores, policy, world) for policy in SPREAD)
        print(f"{world:36}" + "".join(f"{cell:>24}" for cell in cells))
    for name, summary in (("least", min), ("median", median), ("most", max)):
        cells = (_regrets(scores, policy, *OTHER_WORLDS, summary=summary) for policy in SPREAD)
        print(f"{name:36}" + "".join(f"{cell:>24}" for cell in cells))


def _regrets(
    scores: dict[Key, list[Score]], policy: str, *worlds: str, summary: Callable[[list[float]], float] = median
) -> str:
    regrets = [summary([total(scores[policy, world, rate]).regret for world in worlds]) for rate in RATES]
    return " ".join(f"{regret:6.2f}" for regret in regrets)


if __name__ == "__main__":
    main()
