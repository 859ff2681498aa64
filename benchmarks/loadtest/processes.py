"""Gateway and simulator as processes, and their measurements from the system and from the gateway."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from proxy import processes as system_processes

VENDOR = """
voice = "tones"
concurrency = 100000
character_limit = 2000000000
real_time_factor = 0.02
"""
"""Settings of the simulator. An answer takes a fiftieth of its audio's duration, so that callers can hang up in it."""

GATEWAY = """
[server]
port = 0
{server}
[[providers]]
name = "elevenlabs"
kind = "elevenlabs"
base_url = "{vendor}"
api_key = "no-secret"
voices = {{ default = "JBFqnCBsd6RMkjVDRZzb" }}
[[providers]]
name = "openai"
kind = "openai"
base_url = "{vendor}/v1"
api_key = "no-secret"
voices = {{ default = "alloy" }}
"""
Metrics = Mapping[str, Mapping[tuple[tuple[str, str], ...], float]]
"""Values by the metric's name, then by its sorted labels."""

_STARTS_WITHIN = 30.0
_SIZE, _THREADS = re.compile(r"VmRSS:\s+(\d+) kB"), re.compile(r"Threads:\s+(\d+)")


@dataclass(frozen=True, slots=True)
class Sample:
    """Resources of a process. Memory is resident, in MB; `children` are the processes of local engines."""

    at: float
    memory_mb: float
    threads: int
    descriptors: int
    children: int
    children_mb: float


@dataclass(frozen=True, slots=True)
class Running:
    """Running gateway or simulator."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def cpu(self) -> float:
        """Return the seconds of processor time used until now, living child processes included."""
        return sum(_cpu(pid) for pid in _family(self.pid))

    def sample(self, time: float) -> Sample:
        """Read memory, threads and descriptors. Raises RuntimeError when the process has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.log.name} ended with status {self.process.returncode}: {self.log_tail()}")
        children = _family(self.pid)[1:]
        size, threads = _usage_cells(self.pid)
        descriptors = len(os.listdir(f"/proc/{self.pid}/fd"))
        return Sample(time, size, threads, descriptors, len(children), sum(_usage_cells(pid)[0] for pid in children))

    def log_tail(self) -> str:
        """Return the end of the log."""
        return self.log.read_text(errors="replace")[-2000:]

    def get(self, path: str) -> str:
        """Fetch a path."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return str(answer.read().decode())

    def send(self, method: str, path: str, document: Any) -> str:
        """Send JSON to a path."""
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(document).encode(), headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.read().decode())

    def metrics(self) -> Metrics:
        """Read `/metrics`."""
        found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in text_string_to_metric_families(self.get("/metrics")):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = float(sample.value)
        return found

    def events(self) -> list[dict[str, Any]]:
        """Return the events that `/admin/events` has kept, without those of calls."""
        request = urllib.request.Request(f"{self.url}/admin/events?last_event_id=0")
        kept: list[dict[str, Any]] = []
        # The stream of events never ends: two seconds of silence mean that all kept ones have been sent.
        with urllib.request.urlopen(request, timeout=2) as answer:
            kind = ""
            for line in _lines_until_silent(answer):
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: ") and kind not in ("call", "calls", "hello"):
                    kept.append({"event": kind, **json.loads(line.removeprefix("data: "))})
        return kept


@contextmanager
def vendor(home: Path, core: int, settings: str = VENDOR) -> Iterator[Running]:
    """Run the simulator."""
    script = home / "vendor.toml"
    script.write_text(settings)
    with _run(["sim", "--port", "0", "--script", str(script)], core, home / "vendor.log", "ElevenLabs ") as running:
        yield running


@contextmanager
def gateway(home: Path, core: int, vendor_url: str, local: tuple[str, ...], server: str = "") -> Iterator[Running]:
    """Run `steadyvoice serve`: both vendors, then the local voices. `server`: further lines of that table."""
    config = home / "steadyvoice.toml"
    voices = "".join(f'[[providers]]\nname = "{kind}"\nkind = "{kind}"\n' for kind in local)
    config.write_text(GATEWAY.format(vendor=vendor_url, server=server) + voices)
    log = home / f"gateway-{time.monotonic_ns()}.log"
    with _run(["serve", "--config", str(config)], core, log, "ElevenLabs ") as running:
        yield running


@contextmanager
def _run(arguments: list[str], core: int, log: Path, sign: str) -> Iterator[Running]:
    process = system_processes.begin([sys.executable, "-m", "steadyvoice", *arguments], core, log)
    try:
        system_processes.prioritize([process.pid])
        yield Running(_address(process, log, sign), process, log)
    finally:
        # A gateway drains its streams for thirty seconds before it ends.
        system_processes.end(process, within=35.0)


def _address(process: subprocess.Popen[bytes], log: Path, sign: str) -> str:
    end = time.monotonic() + _STARTS_WITHIN
    while time.monotonic() < end and process.poll() is None:
        # The last part has no line end yet, and may be half an address.
        lines = log.read_text(errors="replace").split("\n")[:-1]
        if found := next((line.split()[-1] for line in lines if sign in line and "http" in line), ""):
            return found
        time.sleep(0.05)
    raise RuntimeError(f"{log.name}: does not start: {log.read_text(errors='replace')[-2000:]}")


def _lines_until_silent(answer: HTTPResponse) -> Iterator[str]:
    try:
        while line := answer.readline():
            yield line.decode().rstrip("\n")
    except TimeoutError:
        return


def _family(pid: int) -> list[int]:
    try:
        return system_processes.family(pid)
    except (FileNotFoundError, ProcessLookupError):  # a child has ended meanwhile
        return [pid]


def _cpu(pid: int) -> float:
    try:
        return system_processes.cpu([pid])
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def _usage_cells(pid: int) -> tuple[float, int]:
    """Return resident memory in MB and the number of threads; nothing of a process that has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0, 0
    size, threads = _SIZE.search(status), _THREADS.search(status)
    return int(size[1]) / 1024 if size else 0.0, int(threads[1]) if threads else 0
