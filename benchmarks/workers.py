"""CPU a request and spread of connections of two workers, compared with one process and with two separate gateways.

Run: `python benchmarks/workers.py` on Linux with two processors and nothing else to do; three minutes. `--quick` for a
short run.

Two processes that serve the same load as one on the same machine cost more each: they share caches and frequency with
each other and with whatever makes the load. The control shows how much of the difference that is: two gateways that
know nothing of each other, on two ports, each with half of the callers. All take turns in every round; results are
medians of the rounds. Nothing is tied to a processor. Each subject is measured with as many requests as it can answer,
and with as many a second as all of them can.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from proxy import processes
from proxy.gateways import Gateway, free_port, ours

CALLERS = 16  # of each of the two generators of load, at saturation
PACE = 400  # requests a second otherwise, each over a connection of its own
ONE, TWO, CONTROL = "one process", "two workers", "two gateways (control)"
HERE = Path(__file__).parent


class Cost(NamedTuple):
    """Cost of one round: CPU in µs a request, requests a second, the busiest process's share, and the supervisor's."""

    cpu: float
    rate: float
    busiest: float
    supervisor: float


class Contender(NamedTuple):
    """One or two gateways whose processes share the load; `ports` are those of the two generators."""

    name: str
    gateways: Sequence[Gateway]

    @property
    def ports(self) -> tuple[int, int]:
        return self.gateways[0].port, self.gateways[-1].port

    def processes(self) -> tuple[list[int], list[int]]:
        """Return the processes that serve, and those that supervise them."""
        families = [processes.family(each.process.pid) for each in self.gateways]
        if self.name == TWO:
            return families[0][1:], families[0][:1]
        return [pid for family in families for pid in family[:1]], []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one short round: to see that it works")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    rounds, seconds = (1, 1.0) if options.quick else (options.rounds, 3.0)
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} processors")
    print(f"load of other processes before the start: {processes.busy():.0%}\n")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder)
        vendor = stack.enter_context(_vendor(home))
        subjects = []
        for name, count, workers in ((ONE, 1, 1), (TWO, 1, 2), (CONTROL, 2, 1)):
            gateways = [ours(home, vendor, name, core=None, workers=workers) for _ in range(count)]
            for gateway in gateways:
                stack.callback(processes.end, gateway.process)
            subjects.append(Contender(name, gateways))
        _idle(subjects, seconds)
        _report("At saturation", subjects, rounds, lambda subject: _saturate(home, subject, seconds))
        _report(f"At {PACE} requests a second", subjects, rounds, lambda subject: _pace(subject, seconds))
    return 0


def _report(
    title: str, subjects: Sequence[Contender], rounds: int, load: Callable[[Contender], tuple[int, float]]
) -> None:
    costs: dict[str, list[Cost]] = {subject.name: [] for subject in subjects}
    for _ in range(rounds):
        for subject in subjects:
            costs[subject.name].append(_measure(subject, load))
    typical = {name: Cost(*map(median, zip(*each, strict=True))) for name, each in costs.items()}
    one, control = typical[ONE].cpu, typical[CONTROL].cpu
    print(f"{title}:")
    print(f"{'':24}{'CPU µs':>8}{'of one':>8}{'of control':>11}{'requests/s':>11}{'busiest':>9}{'supervisor µs':>14}")
    for name, cost in typical.items():
        ratios = f"{cost.cpu / one:8.2f}{cost.cpu / control:11.2f}"
        print(f"{name:24}{cost.cpu:8.0f}{ratios}{cost.rate:11.0f}{cost.busiest:9.0%}{cost.supervisor:14.1f}")
    print(flush=True)


def _measure(subject: Contender, load: Callable[[Contender], tuple[int, float]]) -> Cost:
    serving, supervising = subject.processes()
    before = [_cpu_ns(pid) for pid in serving], sum(map(_cpu_ns, supervising))
    count, seconds = load(subject)
    time.sleep(0.2)  # for what is done after the answers
    used = [(_cpu_ns(pid) - begin) / 1000 for pid, begin in zip(serving, before[0], strict=True)]
    supervisor = (sum(map(_cpu_ns, supervising)) - before[1]) / 1000
    return Cost((sum(used) + supervisor) / count, count / seconds, max(used) / sum(used), supervisor / count)


def _idle(subjects: Sequence[Contender], seconds: float) -> None:
    """Print the CPU time of each process without requests."""
    print("Without requests, ms of CPU a second of each process that serves, and of the supervisor:")
    for subject in subjects:
        pids = [pid for group in subject.processes() for pid in group]
        before = [_cpu_ns(pid) for pid in pids]
        time.sleep(2 * seconds)
        used = [(_cpu_ns(pid) - begin) / 1e6 / (2 * seconds) for pid, begin in zip(pids, before, strict=True)]
        print(f"{subject.name:24}{'  '.join(f'{each:.1f}' for each in used)}")
    print(flush=True)


def _cpu_ns(pid: int) -> int:
    """Return the nanoseconds of CPU time that a process has used, in all of its threads."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


def _saturate(home: Path, subject: Contender, seconds: float) -> tuple[int, float]:
    """Have both generators call as fast as they are answered; return the number of requests, and the seconds."""
    gateway, script = subject.gateways[0], home / "post.lua"
    headers = {"content-type": "application/json", "xi-api-key": "k"}
    lines = "".join(f'wrk.headers["{name}"]="{value}"\n' for name, value in headers.items())
    script.write_text(f'wrk.method="POST"\nwrk.body=[==[{json.dumps(gateway.body)}]==]\n{lines}')

    def call(port: int) -> int:
        url = f"http://127.0.0.1:{port}{gateway.path}"
        duration = f"-d{max(1, round(seconds))}s"
        output = processes.run(["wrk", "-t1", f"-c{CALLERS}", duration, "-s", str(script), url], None)
        if failed := re.search(r"Non-2xx.*", output):
            raise RuntimeError(f"{subject.name}: {failed[0]}")
        found = re.search(r"(\d+) requests in", output)
        return int(found[1]) if found else 0

    return _at_once([lambda port=port: call(port) for port in subject.ports])  # type: ignore[misc]


def _pace(subject: Contender, seconds: float) -> tuple[int, float]:
    """Have both generators make half of the requests each, evenly; return their number, and the seconds."""
    gateway, count = subject.gateways[0], round(PACE * seconds / 2)
    paths = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))

    def call(port: int) -> int:
        options = {"port": port, "path": gateway.path, "body": gateway.body, "count": count, "within": seconds}
        command = [sys.executable, "-m", "proxy.callers", json.dumps(options)]
        whole: int = json.loads(processes.run(command, None, env={"PYTHONPATH": paths}))["whole"]
        if whole != count:
            raise RuntimeError(f"{subject.name}: {count - whole} of {count} requests failed")
        return whole

    return _at_once([lambda port=port: call(port) for port in subject.ports])  # type: ignore[misc]


def _at_once(calls: Sequence[Callable[[], int]]) -> tuple[int, float]:
    counts: list[int] = []
    threads = [threading.Thread(target=lambda call=call: counts.append(call())) for call in calls]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(counts) != len(calls):
        raise RuntimeError("a generator of load has failed")
    return sum(counts), time.monotonic() - begun


@contextmanager
def _vendor(home: Path) -> Iterator[int]:
    port, output = free_port(), home / "vendor.out"
    process: subprocess.Popen[bytes] = processes.begin(
        [sys.executable, str(HERE / "proxy" / "vendor.py"), str(port)], None, output
    )
    try:
        end = time.monotonic() + 60.0
        while b"port" not in output.read_bytes():
            if time.monotonic() > end:
                raise RuntimeError("the vendor does not start")
            time.sleep(0.1)
        yield port
    finally:
        processes.end(process)


if __name__ == "__main__":
    sys.exit(main())
