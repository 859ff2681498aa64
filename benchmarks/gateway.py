"""Throughput, CPU, memory and latency of the gateway, compared with nginx and LiteLLM's proxy.

Run: `python benchmarks/gateway.py` as root on Linux with two processors and nothing else to do; ten minutes. `--quick`
for a short run. Missing tools (nginx, wrk, LiteLLM) are installed, or reported.

The gateways have one processor, the vendor and the callers the other. All take turns in every round, so that load of
other processes affects all of them; results are medians. Everything is on this machine, over plain HTTP.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from proxy import processes
from proxy.gateways import HALF_SECONDS, NGINX, NGINX_LARGE, OTHERS, Gateway, free_port, litellm, nginx, ours
from proxy.vendor import CHUNKS, SLIM, USUAL, seconds
from speed.own_venv import install_peers

CALLERS = 32  # at saturation
PACED, FEW, MANY = 500, 50, 2000  # streams at once
LITELLM = Path(__file__).resolve().parent / ".venv" / "litellm"
PLAIN, RESUME, TWO, DOWN = (
    "steadyvoice", "steadyvoice, resume", "steadyvoice, two providers", "steadyvoice, the first down",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """Target value of a measurement."""

    name: str
    value: float | None
    limit: float
    at_least: bool = False
    unit: str = ""

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        return "reached" if (self.value >= self.limit if self.at_least else self.value <= self.limit) else "not reached"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one round, fewer streams: to see that it works")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ahead", action="store_true", help="give the gateways priority on their processor")
    options = parser.parse_args()
    processes.ahead = options.ahead
    missing = install_peers(LITELLM, ["litellm[proxy]"])
    for name, reason in missing.items():
        print(f"{name} cannot be installed, so it is not measured: {reason}")
    _install_tools()
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} processors")
    first = "; the gateways have priority (SCHED_FIFO)" if options.ahead else ""
    print(f"load of other processes before the start: {processes.busy():.0%}{first}\n")
    with tempfile.TemporaryDirectory() as home:
        targets = _measure(Path(home), 1 if options.quick else options.rounds, options.quick, with_litellm=not missing)
    _table(
        ["target", "measured", "limit", ""],
        [[target.name, *_format_target(target), target.verdict] for target in targets],
    )
    return 0


def _measure(home: Path, rounds: int, quick: bool, *, with_litellm: bool) -> list[Target]:
    duration = 1.0 if quick else 4.0
    paced, few, many = (40, 10, 100) if quick else (PACED, FEW, MANY)
    # Each part has a vendor and gateways of its own: kept connections and learned speech rates of one part would show
    # in the next.
    with ExitStack() as stack:
        at_once = stack.enter_context(_vendor(home, 0.0))
        subjects = stack.enter_context(_gateways())
        subjects += [nginx(_folder(home), at_once)]
        subjects += [nginx(_folder(home), at_once, large_buffers=True)]
        subjects += [ours(home, at_once, PLAIN)]
        subjects += [ours(home, at_once, RESUME, resume=True)]
        subjects += [ours(home, at_once, TWO, behind=at_once)]
        # A port without a listener refuses connections at once, as a vendor whose process is down.
        subjects += [ours(home, at_once, DOWN, behind=free_port())]
        subjects += _litellm(home, at_once, with_litellm)
        rates = _saturated(home, subjects, rounds, duration)
    with ExitStack() as stack:
        pace = stack.enter_context(_vendor(home, seconds(USUAL) / CHUNKS))
        subjects = stack.enter_context(_gateways())
        subjects += [nginx(_folder(home), pace)]
        subjects += [nginx(_folder(home), pace, large_buffers=True)]
        subjects += [ours(home, pace, PLAIN)]
        subjects += [ours(home, pace, RESUME, resume=True)]
        subjects += _litellm(home, pace, with_litellm)
        streams = _paced(subjects, rounds, paced)
        first_bytes = _first_bytes(subjects, rounds, few)
    with ExitStack() as stack:
        slow = stack.enter_context(_vendor(home, seconds(SLIM) / CHUNKS))
        subjects = stack.enter_context(_gateways())
        subjects += [nginx(_folder(home), slow, HALF_SECONDS)]
        subjects += [ours(home, slow, PLAIN, path=HALF_SECONDS)]
        held = _held(subjects, many)
    complete, peak_memory, first_byte_p99 = held[PLAIN]
    return [
        _least("requests a second, of nginx's with large buffers", _of(rates, PLAIN, NGINX_LARGE), 0.45),
        _least("the same, resume", _of(rates, RESUME, NGINX_LARGE), 0.10),
        _least("requests a second, of LiteLLM's", _of(rates, PLAIN, "LiteLLM"), 60.0),
        _least("the same, resume", _of(rates, RESUME, "LiteLLM"), 15.0),
        _least("the same of two providers, the first down, of healthy", _of(rates, DOWN, TWO), 0.97),
        Target(f"CPU a stream, {paced} at once, of nginx's", _of(streams, PLAIN, NGINX), 2.5, unit="x"),
        Target("the same, resume", _of(streams, RESUME, NGINX), 3.2, unit="x"),
        Target(f"CPU a stream, {paced} at once, of LiteLLM's", _of(streams, PLAIN, "LiteLLM"), 1 / 15, unit="x"),
        Target(
            f"first byte over nginx, {few} at once", (first_bytes[PLAIN] - first_bytes[NGINX]) * 1000, 0.4, unit=" ms"
        ),
        Target(f"of {many} slow streams held open, whole", float(complete), float(many), at_least=True),
        Target("memory with them", peak_memory / 1e6, 80.0, unit=" MB"),
        Target("their first byte, p99", first_byte_p99 * 1000, 10.0, unit=" ms"),
    ]


def _least(name: str, value: float | None, limit: float) -> Target:
    return Target(name, value, limit, at_least=True, unit="x")


def _saturated(home: Path, subjects: Sequence[Gateway], rounds: int, duration: float) -> dict[str, float]:
    """Return requests per second at saturation."""
    rates: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    costs: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    for _ in range(rounds):
        for subject in subjects:
            measured = _wrk(home, subject, duration)
            rates[subject.name].append(measured[0])
            costs[subject.name].append(measured[1])
    rate, cost = _medians(rates), _medians(costs)
    print(f"At saturation, {CALLERS} callers, all of the audio at once:")
    _table(
        ["", "requests/s", "of nginx's", "with 64 KiB", "CPU µs a request", "of nginx's", "with 64 KiB"],
        [
            [name, f"{rate[name]:.0f}", f"{rate[name] / rate[NGINX]:.3f}", f"{rate[name] / rate[NGINX_LARGE]:.3f}",
             f"{cost[name] * 1e6:.0f}", f"{cost[name] / cost[NGINX]:.1f}", f"{cost[name] / cost[NGINX_LARGE]:.1f}"]
            for name in rate
        ],
    )  # fmt: skip
    return rate


def _wrk(home: Path, subject: Gateway, duration: float) -> tuple[float, float]:
    script = home / "post.lua"
    headers = {"content-type": "application/json", "xi-api-key": "k", "authorization": "Bearer k"}
    lines = "".join(f'wrk.headers["{name}"]="{value}"\n' for name, value in headers.items())
    script.write_text(f'wrk.method="POST"\nwrk.body=[==[{json.dumps(subject.body)}]==]\n{lines}')
    url = f"http://127.0.0.1:{subject.port}{subject.path}"
    command = [
        "wrk",
        "-t1",
        f"-c{CALLERS}",
        f"-d{max(1, round(duration))}s",
        # By default wrk gives a request up after two seconds, in which the slowest proxy may not answer at
        # saturation.
        "--timeout",
        "30s",
        "-s",
        str(script),
        url,
    ]
    pids = subject.pids
    before, begun = processes.cpu(pids), time.monotonic()
    output = processes.run(command, OTHERS)
    used, elapsed = processes.cpu(pids) - before, time.monotonic() - begun
    if failed := re.search(r"Non-2xx.*", output):
        raise RuntimeError(f"{subject.name}: {failed[0]}")
    found = re.search(r"(\d+) requests in", output)
    count = max(1, int(found[1]) if found else 0)
    # The requested duration at the most: the process also takes time to start and to end.
    return count / min(elapsed, max(1, round(duration)) + 0.1), used / count


def _paced(subjects: Sequence[Gateway], rounds: int, count: int) -> dict[str, float]:
    """Return seconds of CPU per stream, with `count` concurrent streams in real time."""
    costs: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    complete: dict[str, int] = {subject.name: 0 for subject in subjects}
    for _ in range(rounds):
        for subject in subjects:
            pids = subject.pids
            before = processes.cpu(pids)
            answers = _calls(subject, count, within=1.0)
            costs[subject.name].append((processes.cpu(pids) - before) / count)
            complete[subject.name] += answers["whole"]
    cost = _medians(costs)
    print(f"{count} streams at once, at the pace of speech ({CHUNKS} chunks in {seconds(USUAL):.1f} s):")
    _table(
        ["", "CPU µs a stream", "of nginx's", "whole"],
        [
            [name, f"{each * 1e6:.0f}", f"{each / cost[NGINX]:.1f}", f"{complete[name]} of {count * rounds}"]
            for name, each in cost.items()
        ],
    )
    return cost


def _first_bytes(subjects: Sequence[Gateway], rounds: int, count: int) -> dict[str, float]:
    """Return the median seconds to the first byte of audio, with `count` concurrent streams."""
    first: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    for _ in range(rounds):
        for subject in subjects:
            # Spread over the length of one answer, so that a first byte does not wait behind the other first bytes.
            first[subject.name] += _calls(subject, count, within=seconds(USUAL))["first"]
    medians = _medians(first)
    print(f"First byte of audio, {count} streams at once:")
    _table(
        ["", "median ms", "over nginx"],
        [[name, f"{each * 1e3:.2f}", f"{(each - medians[NGINX]) * 1e3:+.2f}"] for name, each in medians.items()],
    )
    return medians


def _held(subjects: Sequence[Gateway], count: int) -> dict[str, tuple[int, int, float]]:
    """Return for slow streams: complete ones, peak memory in bytes, and p99 of the first byte in seconds."""
    measured: dict[str, tuple[int, int, float]] = {}
    for subject in subjects:
        with _watched(subject) as peak:
            answers = _calls(subject, count, within=6.0)
        first = sorted(answers["first"])
        measured[subject.name] = answers["whole"], peak[0], first[int(len(first) * 0.99)] if first else float("inf")
    print(f"{count} slow streams held open ({CHUNKS} chunks in {seconds(SLIM):.0f} s, all within six seconds):")
    _table(
        ["", "whole", "memory MB", "first byte p99 ms"],
        [
            [name, f"{whole}", f"{size / 1e6:.0f}", f"{late * 1e3:.0f}"]
            for name, (whole, size, late) in measured.items()
        ],
    )
    return measured


@contextmanager
def _watched(subject: Gateway) -> Iterator[list[int]]:
    """Record the peak memory of a gateway during the body."""
    peak, stopped = [0], threading.Event()

    def watch() -> None:
        # Sampled, because the system's own record of the peak includes the start of the process.
        while not stopped.wait(0.1):
            peak[0] = max(peak[0], processes.memory(subject.pids))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        stopped.set()
        watcher.join()


def _calls(subject: Gateway, count: int, within: float) -> Any:
    options = {"port": subject.port, "path": subject.path, "body": subject.body, "count": count, "within": within}
    here = str(Path(__file__).parent)
    # The callers are a process of their own: their work would slow the sampling of the gateway's memory.
    paths = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "proxy.callers", json.dumps(options)]
    return json.loads(processes.run(command, OTHERS, env={"PYTHONPATH": paths}))


@contextmanager
def _vendor(home: Path, pace: float) -> Iterator[int]:
    """Run a vendor that sends a chunk every `pace` seconds, and yield its port."""
    port = free_port()
    script = str(Path(__file__).parent / "proxy" / "vendor.py")
    command = [sys.executable, script, str(port), *([str(pace)] if pace else [])]
    process = processes.begin(command, OTHERS, home / "vendor.out")
    try:
        _wait_for(lambda: b"port" in (home / "vendor.out").read_bytes())
        yield port
    finally:
        processes.end(process)


def _wait_for(condition: Callable[[], bool], within: float = 60.0) -> None:
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("the vendor does not start")
        time.sleep(0.1)


def _litellm(home: Path, vendor: int, included: bool) -> list[Gateway]:
    return [litellm(home, vendor, LITELLM / "bin" / "litellm")] if included else []


@contextmanager
def _gateways() -> Iterator[list[Gateway]]:
    """Yield a list of gateways, all of which are stopped at the end."""
    subjects: list[Gateway] = []
    try:
        yield subjects
    finally:
        for subject in subjects:
            processes.end(subject.process)


def _folder(home: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=home))


def _install_tools() -> None:
    """Install nginx and wrk by apt, as root. Without them nothing can be measured."""
    missing = [tool for tool in ("nginx", "wrk") if not shutil.which(tool)]
    if not missing:
        return
    if os.geteuid() or not shutil.which("apt-get"):
        raise SystemExit(f"{' and '.join(missing)} must be installed for this; nothing was measured")
    subprocess.run(["apt-get", "install", "-y", "-q", *missing], check=True, stdout=subprocess.DEVNULL)


def _medians(samples: dict[str, list[float]]) -> dict[str, float]:
    return {name: median(each) for name, each in samples.items()}


def _of(values: dict[str, float], name: str, other: str) -> float | None:
    return values[name] / values[other] if other in values else None


def _format_target(target: Target) -> tuple[str, str]:
    value = "" if target.value is None else f"{target.value:.3g}{target.unit}"
    return value, f"{'>=' if target.at_least else '<='} {target.limit:.3g}{target.unit}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells).rstrip())
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
