"""Soak test: memory, threads and answers of a gateway under a flapping vendor, at 60 % and 200 % of its capacity.

Run: `python benchmarks/soak.py` where steadyvoice is installed, on Linux with two processors and nothing else to do;
about 25 minutes. `--minutes 2` for a short one; `--capacity 40` skips the search.

`steadyvoice serve` has one core. The simulator, the load generator and this process share another. First the capacity
is searched: the highest rate of arrivals at which callers are answered in time. Then a fresh gateway gets
`--minutes` of the same traffic at 0.6 times that rate, and another one at twice that rate. The traffic is open-loop:
all speech endpoints, all formats, several deadlines; a fifth of the callers hang up, some read slowly. Both vendors
flap (see `loadtest/fault_schedule.py`). The exit status is 1 if a criterion is not met.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
from loadtest import criteria, fault_schedule, generator, processes
from loadtest.capacity import CapacitySearch, Limits, Step
from loadtest.criteria import Criterion, Opening, ResourceUsage
from loadtest.processes import Metrics, Running, Sample
from loadtest.statistics import percentile
from proxy import processes as system_processes

PHASES = (0.6, 2.0)
"""Offered rate of each phase, of the capacity."""

PROBE_EVERY = 0.1  # seconds
_DRAINS_WITHIN = 40.0  # seconds
_IDLE_CLOSES_WITHIN = 35.0
_ANSWERED = (generator.HEARD, generator.HUNG_UP, generator.REFUSED)


@dataclass
class Observed:
    """Measurements during a load: of the process, of the callers and of the system."""

    report: dict[str, Any] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    lag: list[tuple[float, float]] = field(default_factory=list)  # when, and seconds
    cpu: float = 0.0  # share of its core that the gateway used
    load_cpu: float = 0.0

    def lag_between(self, begin: float = 0.0, end: float = float("inf")) -> list[float]:
        """Return the probes' round trips in this time."""
        return [seconds for time, seconds in self.lag if begin <= time < end]


@dataclass
class Phase:
    """Phase of the soak test, with all its measurements."""

    name: str
    rate: float
    minutes: float
    observed: Observed
    before: Sample
    after: Sample
    metrics: Metrics
    openings: list[Opening]
    log_errors: list[str]
    criteria: list[Criterion] = field(default_factory=list)


@dataclass(frozen=True)
class TestBed:
    """Processors, directory and vendor that all steps share."""

    home: Path
    core: int  # the gateway's
    load_core: int
    vendor: Running
    options: argparse.Namespace

    @contextmanager
    def gateway(self) -> Iterator[Running]:
        """Run a fresh gateway."""
        local = tuple(self.options.local.split(","))
        with processes.gateway(self.home, self.core, self.vendor.url, local, self.options.server) as running:
            yield running

    def reset_faults(self) -> float:
        """Restart the flapping profile, and return the wall-clock time."""
        self.vendor.send("PUT", "/sim/faults", fault_schedule.faults(self.options.period))
        return time.time()


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, _terminated)
    system_processes.ahead = options.ahead
    # The processors that this process may use, which in a container are fewer than the machine has.
    cores = sorted(os.sched_getaffinity(0))
    core, load_core = cores[0], cores[-1]
    print(f"{platform.platform()}, Python {platform.python_version()}, {len(cores)} processors")
    if core == load_core:
        print("only one processor: simulator and load generator slow the gateway down")
    ahead = "; measured processes have priority (SCHED_FIFO)" if options.ahead else ""
    print(f"load of other processes before the start: {system_processes.busy():.0%}{ahead}\n")
    os.sched_setaffinity(0, {load_core})
    system_processes.prioritize([os.getpid()])  # its probes measure the lag
    with tempfile.TemporaryDirectory() as folder, processes.vendor(Path(folder), load_core) as vendor:
        bench = TestBed(Path(folder), core, load_core, vendor, options)
        steps: list[Step] = []
        capacity = options.capacity or _find_capacity(bench, steps)
        if not capacity:
            print("no rate was sustained; the soak test is skipped")
            return 1
        phases = []
        for factor in options.load:
            phases.append(_soak(bench, f"{factor:.0%} of capacity", capacity * factor))
            _print_phase(phases[-1], options.period)
            _write(options.json, capacity, steps, phases)
    failed = [criterion for phase in phases for criterion in phase.criteria if criterion.holds is False]
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="length of each phase")
    parser.add_argument("--load", type=float, nargs="+", default=PHASES, help="a phase for each: times the capacity")
    parser.add_argument("--capacity", type=float, help="requests a second; without it, it is searched")
    parser.add_argument("--step", type=float, default=fault_schedule.PERIOD, help="seconds of each step of the search")
    parser.add_argument(
        "--period", type=float, default=fault_schedule.PERIOD, help="seconds from one outage to the next"
    )
    parser.add_argument("--local", default="espeak,tone", help="local voices behind the vendors")
    parser.add_argument("--server", default="", help="a further line of the [server] table, such as 'max_active = 64'")
    parser.add_argument("--ahead", action="store_true", help="give all of its processes priority over others (root)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    options = parser.parse_args()
    if options.step < options.period:  # the most expensive part of a period, with both vendors down, would be missed
        parser.error(f"--step: at least one period of {options.period:g} s, got {options.step:g}")
    return options


def _terminated(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)  # unwinds the context managers, which end all processes


def _find_capacity(bench: TestBed, steps: list[Step]) -> float:
    """Search for the capacity, a fresh gateway for every step."""
    limits, search = Limits(), CapacitySearch()
    print(f"Capacity of one core, in steps of {bench.options.step:g} s of the flapping profile:")
    _head("rate", "offered", "in time", "first audio p99", "lag p99", "gateway's core", "load's core", "")
    while search.rate is not None:
        step = _step(bench, search.rate)
        steps.append(step)
        reason = step.overloaded(limits)
        search.record(bool(reason))
        _row(
            f"{step.rate:.1f}/s", f"{step.offered}", f"{step.answered / max(1, step.offered):.1%}",
            f"{step.first_audio_p99:.2f} s", f"{step.lag_p99 * 1000:.0f} ms",
            f"{step.cpu:.0%}", f"{step.load_cpu:.0%}", reason or "sustained",
        )  # fmt: skip
    print(f"\ncapacity: {search.capacity:.1f} requests a second (doubled until overloaded, then bisected)")
    over = [step for step in steps if step.overloaded(limits)]
    if over and all(step.cpu < 0.85 and step.load_cpu > 0.95 for step in over):
        print("the load's core was full, the gateway's was not: its real capacity is higher")
    print()
    return search.capacity


def _step(bench: TestBed, rate: float) -> Step:
    with bench.gateway() as gateway:
        bench.reset_faults()
        order = generator.LoadOptions(gateway.url, rate, bench.options.step, bench.options.seed)
        observed = asyncio.run(_observe(bench, gateway, order))
    report = observed.report
    return Step(
        rate,
        report["offered"],
        report["answered_in_time"],
        percentile(report["first_audio"], 0.99),
        percentile(observed.lag_between(), 0.99),
        observed.cpu,
        observed.load_cpu,
    )


def _soak(bench: TestBed, name: str, rate: float) -> Phase:
    minutes = bench.options.minutes
    with bench.gateway() as gateway:
        before_metrics = gateway.metrics()
        before = gateway.sample(0.0)
        began = bench.reset_faults()
        order = generator.LoadOptions(gateway.url, rate, minutes * 60, bench.options.seed)
        observed = asyncio.run(_observe(bench, gateway, order))
        _drain(gateway, before)
        after = gateway.sample(time.time() - began)
        metrics = _difference(gateway.metrics(), before_metrics)
        opened = criteria.openings(gateway.events(), began)
        errors = _log_errors(gateway.log)
    phase = Phase(name, rate, minutes, observed, before, after, metrics, opened, errors)
    phase.criteria = _evaluate(phase, bench.options.period)
    return phase


async def _observe(bench: TestBed, gateway: Running, order: generator.LoadOptions) -> Observed:
    """Run the load generator, and sample the gateway meanwhile."""
    observed, begun = Observed(), time.monotonic()
    log = bench.home / "load.json"
    here = str(Path(__file__).parent)
    command = [sys.executable, "-m", "loadtest.generator", json.dumps(asdict(order))]
    paths = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
    before, load_before = gateway.cpu(), bench.vendor.cpu()
    load = system_processes.begin(command, bench.load_core, log, env={"PYTHONPATH": paths})
    system_processes.prioritize([load.pid])
    probing = asyncio.create_task(_probe(gateway.url, observed, begun))
    try:
        used = 0.0
        while load.poll() is None:
            now = time.monotonic() - begun
            observed.samples.append(gateway.sample(now))
            used = max(used, system_processes.cpu([load.pid]))
            if now <= order.seconds:  # while calls still come
                observed.cpu = (gateway.cpu() - before) / max(now, 1.0)
                observed.load_cpu = (bench.vendor.cpu() - load_before + used) / max(now, 1.0)
            # Samples stay on whole seconds, however long one takes.
            await asyncio.sleep(1.0 - (time.monotonic() - begun) % 1.0)
    finally:
        system_processes.end(load)
        probing.cancel()
        await asyncio.wait([probing])
    output = log.read_text(errors="replace").strip()
    if load.returncode:
        raise RuntimeError(f"the load generator failed: {output[-2000:]}")
    observed.report = json.loads(output.splitlines()[-1])
    return observed


async def _probe(url: str, observed: Observed, begun: float) -> None:
    """Measure the loop lag: the round trip of `/healthz`, requested every 0.1 s, even without an answer to the last."""
    waiting: set[asyncio.Task[None]] = set()

    async def once(client: aiohttp.ClientSession) -> None:
        now = time.monotonic()
        try:
            async with client.get(f"{url}/healthz", timeout=aiohttp.ClientTimeout(60)) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            pass  # the time it took is recorded as lag
        observed.lag.append((now - begun, time.monotonic() - now))

    # Without a limit: probes that are not answered yet must not hold up the next one.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        try:
            while True:
                task = asyncio.create_task(once(client))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
                await asyncio.sleep(PROBE_EVERY)
        finally:
            for task in waiting:
                task.cancel()


def _drain(gateway: Running, before: Sample) -> None:
    """Wait until no stream is active and idle connections to vendors are closed, which takes 30 s."""
    end = time.monotonic() + _DRAINS_WITHIN
    while time.monotonic() < end and _sum(gateway.metrics(), "steadyvoice_streams_in_flight"):
        time.sleep(0.5)
    time.sleep(5)
    end = time.monotonic() + _IDLE_CLOSES_WITHIN
    while time.monotonic() < end and gateway.sample(0.0).descriptors > before.descriptors + criteria.DESCRIPTOR_GROWTH:
        time.sleep(1)


def _difference(now: Metrics, before: Metrics) -> Metrics:
    return {
        name: {labels: value - before.get(name, {}).get(labels, 0.0) for labels, value in values.items()}
        for name, values in now.items()
    }


def _sum(metrics: Metrics, name: str, **labels: str) -> float:
    return sum(
        value
        for found, value in metrics.get(name, {}).items()
        if all((label, expected) in found for label, expected in labels.items())
    )


def _by(metrics: Metrics, name: str, *labels: str) -> dict[str, int]:
    """Sum a counter by these labels, the largest first."""
    counted: Counter[str] = Counter()
    for found, value in metrics.get(name, {}).items():
        counts = dict(found)
        counted[" ".join(counts[label] for label in labels)] += int(value)
    return {name: count for name, count in counted.most_common() if count}


def _log_errors(log: Path) -> list[str]:
    """Return the lines of the gateway's log with internal errors."""
    lines = log.read_text(errors="replace").splitlines()
    return [line[:400] for line in lines if "Traceback" in line or '"level":"error"' in line.replace(" ", "").lower()]


def _evaluate(phase: Phase, period: float) -> list[Criterion]:
    observed = phase.observed
    ends = phase.minutes * 60
    during = [sample for sample in observed.samples if sample.at <= ends]
    usage = ResourceUsage(
        [sample.at for sample in during],
        [sample.memory_mb for sample in during],
        [sample.threads for sample in during],
        phase.before.descriptors,
        phase.after.descriptors,
    )
    categories = observed.report["categories"]
    return [
        criteria.flat_memory(usage),
        criteria.max_memory(usage),
        criteria.flat_threads(usage),
        criteria.max_threads(usage),
        criteria.descriptors_released(usage),
        criteria.all_answered(categories, observed.report["offered"], _ANSWERED),
        criteria.in_time(observed.report["late"], categories.get(generator.GAVE_UP, 0)),
        criteria.none_muted(_sum(phase.metrics, "steadyvoice_requests_total", outcome="muted")),
        criteria.no_circuit_opened_by_us(phase.openings, period),
    ]


def _print_phase(phase: Phase, period: float) -> None:
    observed, report = phase.observed, phase.observed.report
    print(f"## {phase.name}: {phase.rate:.1f} requests a second for {phase.minutes:g} minutes\n")
    _head("minute", "memory", "threads", "descriptors", "engines", "lag p50 / p99 / max", "callers")
    _row("before", *_usage_cells(phase.before), "", "")
    for index, minute in enumerate(report["minutes"]):
        ends = min((index + 1) * 60.0, phase.minutes * 60)
        sample = min(observed.samples, key=lambda each: abs(each.at - ends))
        _row(f"{ends / 60:g}", *_usage_cells(sample), _lag(observed.lag_between(index * 60, ends)), _counts(minute))
    _row("after", *_usage_cells(phase.after), "", "")
    print()
    _line("loop lag, p50 / p99 / max", f"{_lag(observed.lag_between())} (round trip of /healthz)")
    if refusals := _by(phase.metrics, "steadyvoice_overload_refused_total", "cause"):
        _line("refused for overload", _counts(refusals))
    _line("processor time", f"{observed.cpu:.0%} of the gateway's core, {observed.load_cpu:.0%} of the load's")
    _line("first audio, streams, p50 / p99", _seconds(report["first_audio"]))
    _line("calls in flight, at most", f"{report['most_in_flight']}")
    _line("callers", f"{report['offered']}: {_counts(report['categories'])}")
    _line("late", f"{report['late']} ({_counts(report['late_by_category']) or 'none'})")
    _line("outcomes, as the gateway counts", _counts(_by(phase.metrics, "steadyvoice_requests_total", "outcome")))
    attempts = _by(phase.metrics, "steadyvoice_provider_attempts_total", "provider", "result")
    _line("attempts, by provider and result", _counts(attempts))
    opened = Counter(f"{each.provider} {each.from_state} {each.cause}" for each in phase.openings)
    _line("circuits opened", _counts(opened) or "none")
    _line("errors in the log", f"{len(phase.log_errors)}" + "".join(f"\n    {each}" for each in phase.log_errors[:3]))
    # A load generator that is late itself sees answers later than they came.
    if report["own_lag_p99"] > 0.1:
        _line("note", f"the load generator itself was {report['own_lag_p99']:.2f} s late (p99): times are too long")
    print()
    for criterion in phase.criteria:
        print(f"{criterion.verdict:<13} {criterion.name}: {criterion.found}")
    print(flush=True)


def _write(path: Path | None, capacity: float, steps: Sequence[Step], phases: Sequence[Phase]) -> None:
    """Write all numbers as JSON; metrics by name and labels as Prometheus writes them."""
    if path is None:
        return
    documents = [
        {
            "name": phase.name,
            "rate": phase.rate,
            "minutes": phase.minutes,
            "before": asdict(phase.before),
            "after": asdict(phase.after),
            "samples": [asdict(sample) for sample in phase.observed.samples],
            "lag": {f"p{share:g}": percentile(phase.observed.lag_between(), share / 100) for share in (50, 99, 100)},
            "cpu": phase.observed.cpu,
            "load_cpu": phase.observed.load_cpu,
            "callers": {**phase.observed.report, "first_audio": _percentiles(phase.observed.report["first_audio"])},
            "metrics": {
                name: {",".join(f"{key}={value}" for key, value in labels): value for labels, value in values.items()}
                for name, values in phase.metrics.items()
                if not name.endswith("_bucket")
            },
            "openings": [asdict(opening) for opening in phase.openings],
            "log_errors": phase.log_errors,
            "criteria": [asdict(criterion) for criterion in phase.criteria],
        }
        for phase in phases
    ]
    document = {"capacity": capacity, "steps": [asdict(step) for step in steps], "phases": documents}
    path.write_text(json.dumps(document, indent=1))


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{share}": percentile(values, share / 100) for share in (50, 90, 99, 100)}


def _usage_cells(sample: Sample) -> tuple[str, str, str, str]:
    engines = f"{sample.children} ({sample.children_mb:.0f} MB)"
    return f"{sample.memory_mb:.1f} MB", f"{sample.threads}", f"{sample.descriptors}", engines


def _lag(round_trips: Sequence[float]) -> str:
    return (
        " / ".join(f"{percentile(round_trips, share) * 1000:.1f}" for share in (0.5, 0.99, 1.0)) + " ms"
        if round_trips
        else ""
    )


def _seconds(values: Sequence[float]) -> str:
    return " / ".join(f"{percentile(values, share):.3f}" for share in (0.5, 0.99)) + " s" if values else "none"


def _counts(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counted.items(), key=lambda each: -each[1]))


def _row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def _head(*cells: str) -> None:
    _row(*cells)
    _row(*("---" for _ in cells))


def _line(name: str, value: str) -> None:
    print(f"{name}: {value}")


if __name__ == "__main__":
    sys.exit(main())
