"""Benchmark of the circuit breaker against every peer that can be installed: interleaved rounds, medians.

Run: `make bench`, or `python benchmarks/breaker.py` where steadyvoice is installed. The first run installs the
peers into `benchmarks/.venv`; one that cannot be installed is reported. Takes about a minute.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version

from speed import measure
from speed.measure import Timing
from speed.own_venv import run_in_own_venv
from speed.subjects import ADAPTIVE, OURS, PEERS, PERMITS, Case, Function, Subject

BREAKERS = 10_000
THREADS = (1, 2, 4, 8)
YARDSTICK = "circuitbreaker"
TARGETS: tuple[tuple[Case, Subject, float], ...] = (
    (Case.SUCCESS, OURS, 0.25),
    (Case.SUCCESS, PERMITS, 2.0),
    (Case.FAILURE, OURS, 2.0),
    (Case.REFUSAL, OURS, 1.0),
)
"""Case, breaker, and the most that it may cost as a multiple of circuitbreaker's call."""


def main() -> None:
    missing = run_in_own_venv(__file__, [peer.distribution for peer in PEERS if peer.distribution])
    peers = [peer for peer in PEERS if peer.distribution not in missing]
    # Ours comes first in every table: overheads are printed as multiples of it.
    subjects: list[Subject] = [OURS, ADAPTIVE, PERMITS, *peers]
    _print_environment(peers, missing)
    sync = {case: _calls(subjects, case) for case in Case}
    _print_overheads("plain functions", sync)
    _print_overheads("coroutine functions", {case: _awaits(subjects, case) for case in Case})
    _print_threads(subjects)
    _print_memory_and_imports(subjects)
    _print_targets(sync)


def _print_environment(peers: list[Subject], missing: Mapping[str, str]) -> None:
    print(f"Python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} processors")
    print("peers: " + ", ".join(f"{peer.name} {version(peer.distribution or '')}" for peer in peers))
    for name, reason in missing.items():
        print(f"NOT INSTALLED: {name}: {reason}")
    print("overhead over the bare call in nanoseconds, and as a multiple of ours; ± is the middle half of the rounds")


def _calls(subjects: list[Subject], case: Case) -> dict[str, Timing]:
    fn = measure.succeed if case is Case.SUCCESS else measure.fail
    functions: dict[str, Function] = {"bare": fn}
    for subject in subjects:
        guarded = subject.guard(fn, case)
        if guarded is not None:
            functions[subject.name] = guarded
            _open(guarded, case)
    return measure.calls(functions, case)


def _awaits(subjects: list[Subject], case: Case) -> dict[str, Timing]:
    fn = measure.succeed_async if case is Case.SUCCESS else measure.fail_async
    functions: dict[str, Function] = {"bare": fn}
    for subject in subjects:
        guarded = subject.guard_async(fn, case)
        if guarded is not None:
            functions[subject.name] = guarded
    return measure.awaits(functions, case)


def _open(guarded: Callable[[], object], case: Case) -> None:
    """Open the circuit with a failure, if refusals are measured; the function itself is not called afterwards."""
    if case is not Case.REFUSAL:
        return
    # Some peers raise the function's own error for the failure that opens, and refuse only the call after it.
    for _ in range(2):
        try:
            guarded()
        except Exception as error:
            last = error
    if isinstance(last, measure.ExpectedError):
        raise SystemExit(f"{guarded} did not open")


def _print_overheads(title: str, timings: Mapping[Case, Mapping[str, Timing]]) -> None:
    print(f"\n{title:24}" + "".join(f"{case.value:>26}" for case in timings))
    names = dict.fromkeys(name for column in timings.values() for name in column)
    for name in names:
        print(f"{name:24}" + "".join(f"{_overhead(column, name):>26}" for column in timings.values()))


def _overhead(column: Mapping[str, Timing], name: str) -> str:
    if name not in column:
        return "-"
    timing, bare = column[name], column["bare"]
    if name == "bare":
        return f"({bare.ns:.0f} ±{bare.spread:4.0%})       "
    # The bare call is subtracted on both sides, or an expensive function would make all breakers look alike.
    ours = column[OURS.name].ns - bare.ns
    overhead = timing.ns - bare.ns
    return f"{overhead:7.0f} ±{timing.spread:4.0%} {overhead / ours:6.1f}x"


def _print_threads(subjects: list[Subject]) -> None:
    guarded = {subject.name: subject.guard(measure.succeed, Case.SUCCESS) for subject in subjects}
    functions = {"bare": measure.succeed, **{name: fn for name, fn in guarded.items() if fn is not None}}
    timings = {threads: measure.in_threads(functions, threads) for threads in THREADS}
    print(f"\n{'ns per call, threads:':24}" + "".join(f"{threads:>8}{'':6}" for threads in THREADS))
    for name in functions:
        cells = (f"{timings[threads][name].ns:8.0f} ±{timings[threads][name].spread:4.0%}" for threads in THREADS)
        print(f"{name:24}" + "".join(cells))


def _print_memory_and_imports(subjects: list[Subject]) -> None:
    # asyncio alone is measured too, because several peers import it and most applications have it already.
    startup = measure.imports(dict.fromkeys(["asyncio", *(subject.module for subject in subjects)]))
    print(f"\n{'':24}{f'bytes each of {BREAKERS:,}':>26}{'import, ms':>14}")
    print(f"{'(import asyncio)':24}{'':26}{startup['asyncio'].ns / 1e6:14.1f}")
    for subject in subjects:
        if subject is PERMITS:
            continue  # the same breaker
        size = measure.bytes_each(subject, BREAKERS)
        print(f"{subject.name:24}{size:26.0f}{startup[subject.module].ns / 1e6:14.1f}")


def _print_targets(sync: Mapping[Case, Mapping[str, Timing]]) -> None:
    """Print the targets, as multiples of the overhead of YARDSTICK."""
    print()
    for case, subject, factor in TARGETS:
        column = sync[case]
        if YARDSTICK not in column:
            continue
        ours, theirs = (column[name].ns - column["bare"].ns for name in (subject.name, YARDSTICK))
        target = f"{subject.name}, {case.value}: {ours:.0f} ns, {YARDSTICK}: {theirs:.0f}, {ours / theirs:.2f} of it"
        print(f"{'reached' if ours <= factor * theirs else 'MISSED ':8}{target}, at most {factor}")


if __name__ == "__main__":
    main()
