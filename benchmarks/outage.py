"""Outage of a vendor behind the gateway, with two hundred callers: waits, cut answers, and failover.

Run: `python benchmarks/outage.py` where steadyvoice is installed; `--callers 30 --dies 2 --before 3` for a short one. A
minute or two.

The vendor is the simulator in a process of its own, and it is stopped in the middle of its streams
(SIGSTOP), so that streams stall and connections are accepted but not served; later it continues (SIGCONT). Every caller
makes one call after another, one in ten hangs up in the middle, and the words of every answer are decoded. The exit
status is 1 if a criterion is not met.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Any

import aiohttp

from steadyvoice import AsyncTTSService, CircuitState, ElevenLabs, Provider, Tone
from steadyvoice.audio.word_tones import words_in
from steadyvoice.breaker import Event, StateChanged
from steadyvoice.gateway.server import Gateway
from steadyvoice.service.config_file import ServerConfig

TEXT = "The rain has stopped, at last. We walk home now, slowly, and nobody says a word."
WORDS = TEXT.split()
PATH = "/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb/stream?output_format=pcm_8000"
DEADLINE = 6.0  # seconds that each caller gives its call
SLACK = 0.5
VENDOR = 'voice = "tones"\nconcurrency = 2000\nreal_time_factor = 0.25\n'


@dataclass
class OutageCall:
    """Answer as its caller saw it. Times in seconds of the monotonic clock."""

    begun: float
    hangs_up: bool
    first: float | None = None
    over: float = 0.0
    outcome: str = ""
    audio: bytes = b""
    broken: str = ""


@dataclass
class Watch:
    """Transition of the circuit, and the state of the vendor at that time."""

    changes: list[StateChanged] = field(default_factory=list)
    died: float = 0.0
    returned: float = 0.0

    def record(self, event: Event) -> None:
        if isinstance(event, StateChanged):
            self.changes.append(event)


def main() -> None:
    options = _options()
    with _vendor() as (url, process):
        calls, watch, failures, requested_at = asyncio.run(_run_calls(options, url, process))
    _print_results(options, calls, watch)
    verdicts = [
        _check_deadline(calls, options.slack),
        _check_words(calls),
        _check_hangups(failures),
        _check_probes(watch, requested_at),
        _check_recovery(calls, watch),
    ]
    for holds, message in verdicts:
        print(f"{'met    ' if holds else 'NOT MET'}  {message}")
    sys.exit(0 if all(holds for holds, _ in verdicts) else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--callers", type=int, default=200)
    parser.add_argument("--before", type=float, default=5.0, help="seconds before the outage")
    parser.add_argument("--dies", type=float, default=20.0, help="seconds of the outage")
    parser.add_argument("--after", type=float, default=10.0, help="seconds after the outage")
    parser.add_argument("--pause", type=float, default=5.0, help="seconds between a caller's calls, on average")
    parser.add_argument("--slack", type=float, default=SLACK, help="seconds that a busy machine may add to a deadline")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


@contextmanager
def _vendor() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the simulator in a process that can be stopped."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "vendor.toml")
        script.write_text(VENDOR)
        command = [sys.executable, "-m", "steadyvoice", "sim", "--port", "0", "--script", str(script)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        url = next(line.split()[-1] for line in process.stdout if "ElevenLabs" in line)
        try:
            yield url, process
        finally:
            # A stopped process does not act on SIGTERM before it continues, and would be waited for forever.
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.communicate()


async def _run_calls(
    options: argparse.Namespace, url: str, process: subprocess.Popen[str]
) -> tuple[list[OutageCall], Watch, int, list[float]]:
    watch, calls = Watch(), list[OutageCall]()
    providers: list[Provider] = [ElevenLabs("sk_test", base_url=url), Tone()]
    # aiohttp's limit of 100 connections would have callers wait for each other, not for the gateway.
    no_limit = aiohttp.TCPConnector(limit=0)
    async with (
        AsyncTTSService(providers) as service,
        Gateway(service, ServerConfig(port=0, access_log=False)) as gateway,
        aiohttp.ClientSession(connector=no_limit) as client,
    ):
        service.circuits["elevenlabs"].subscribe(watch.record)
        # The ledger counts from the start of the simulator, on the clock of another process.
        offset = await _offset(client, url)
        rng = Random(options.seed)
        callers = [
            asyncio.create_task(_caller(client, gateway.url + PATH, calls, Random(rng.random()), options.pause))
            for _ in range(options.callers)
        ]
        await asyncio.sleep(options.before)
        failures = service.get_error_state()["totals"]["failures"]
        watch.died = time.monotonic()
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(options.dies)
        watch.returned = time.monotonic()
        process.send_signal(signal.SIGCONT)
        await asyncio.sleep(options.after)
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        requested_at = [
            each["received"] + offset for each in await _ledger(client, url) if "text-to" in each["endpoint"]
        ]
        return calls, watch, failures, requested_at


async def _caller(client: aiohttp.ClientSession, url: str, calls: list[OutageCall], rng: Random, pause: float) -> None:
    await asyncio.sleep(rng.uniform(0, pause))
    while True:
        call = OutageCall(time.monotonic(), hangs_up=rng.random() < 0.1)
        await _receive_answer(client, url, call, rng)
        calls.append(call)
        await asyncio.sleep(rng.uniform(0, 2 * pause))


async def _receive_answer(client: aiohttp.ClientSession, url: str, call: OutageCall, rng: Random) -> None:
    headers = {"x-steadyvoice-deadline": str(DEADLINE)}
    hang_up_after = rng.randrange(1, 40_000)  # bytes after which who hangs up has had enough
    try:
        async with client.post(url, json={"text": TEXT}, headers=headers) as answer:
            call.outcome = answer.headers.get("x-steadyvoice-outcome", f"HTTP {answer.status}")
            async for data in answer.content.iter_any():
                call.first = call.first or time.monotonic()
                call.audio += data
                if call.hangs_up and len(call.audio) > hang_up_after:
                    break
    except aiohttp.ClientError as error:
        call.broken = type(error).__name__
    call.over = time.monotonic()


async def _offset(client: aiohttp.ClientSession, url: str) -> float:
    """Return the offset from the ledger's seconds to those of this process."""
    before = time.monotonic()
    async with client.get(f"{url}/v1/voices", headers={"xi-api-key": "any"}) as answer:
        await answer.read()
    return float(before - (await _ledger(client, url))[-1]["received"])


async def _ledger(client: aiohttp.ClientSession, url: str) -> list[dict[str, Any]]:
    async with client.get(f"{url}/sim/ledger") as answer:
        entries: list[dict[str, Any]] = (await answer.json())["requests"]
        return entries


def _print_results(options: argparse.Namespace, calls: list[OutageCall], watch: Watch) -> None:
    print(f"{options.callers} callers, {len(calls)} calls; the vendor was down for {options.dies:g} s\n")
    print("| when | calls | outcomes | first audio, median / p99 / max, s |")
    print("|---|---|---|---|")
    for name, begin, end in (
        ("before", 0.0, watch.died),
        ("down", watch.died, watch.returned),
        ("after", watch.returned, float("inf")),
    ):
        then = [call for call in calls if begin <= call.begun < end]
        outcomes = ", ".join(
            f"{count} {word}" for word, count in Counter(_outcome(call) for call in then).most_common()
        )
        waits = sorted(call.first - call.begun for call in then if call.first)
        p99 = quantiles(waits, n=100, method="inclusive")[-1] if len(waits) > 1 else 0.0
        print(f"| {name} | {len(then)} | {outcomes} | {median(waits):.2f} / {p99:.2f} / {waits[-1]:.2f} |")
    print("\nTransitions of the circuit, in seconds since the outage began:")
    for change in watch.changes:
        print(f"  {change.at - watch.died:6.2f}  {change.from_state.value} -> {change.to_state.value}: {change.reason}")
    print()


def _outcome(call: OutageCall) -> str:
    if call.hangs_up:
        return "hung up"
    return f"broken ({call.broken})" if call.broken else call.outcome


def _check_deadline(calls: list[OutageCall], slack: float) -> tuple[bool, str]:
    waits = [(call.first or call.over) - call.begun for call in calls]
    return max(
        waits
    ) <= DEADLINE + slack, f"every call within its deadline of {DEADLINE:g} s: {max(waits):.2f} s at most"


def _check_words(calls: list[OutageCall]) -> tuple[bool, str]:
    complete = [call for call in calls if not call.hangs_up and not call.broken]
    # Silence has no words; whether it was due is not for this criterion to say.
    short = [call for call in complete if call.outcome != "muted" and words_in(call.audio, "pcm_8000") != WORDS]
    message = f"{len(short)} of {len(complete)} complete answers have missing or repeated words"
    return not short, message


def _check_hangups(failures: int) -> tuple[bool, str]:
    return (
        failures == 0,
        f"{failures} failures counted against the vendor before the outage, in spite of callers that hung up",
    )


def _check_probes(watch: Watch, requested_at: list[float]) -> tuple[bool, str]:
    """Check that the vendor got no requests but probes while the circuit was open."""
    refusing = [
        (before.at, after.at)
        for before, after in pairwise(watch.changes)
        if before.to_state is CircuitState.OPEN and before.at > watch.died
    ]
    # Requests to a stopped process get their time in the ledger when it continues: all of them at once.
    known = [time for time in requested_at if not watch.died < time < watch.returned + SLACK]
    # A margin at both ends: a request that was sent just before the circuit opened arrives a little later.
    inside = sum(begin + 0.05 < time < end - 0.05 for time in known for begin, end in refusing)
    return inside == 0, f"{inside} requests besides probes while the circuit was open"


def _check_recovery(calls: list[OutageCall], watch: Watch) -> tuple[bool, str]:
    closed = [change.at for change in watch.changes if change.to_state is CircuitState.CLOSED]
    spoken = [call.begun for call in calls if call.outcome == "spoken" and call.begun > watch.returned]
    if not (closed and spoken):
        return False, "the circuit stayed open after the outage"
    message = f"circuit closed {closed[-1] - watch.returned:.2f} s after the end of the outage"
    return True, f"{message}, {closed[-1] - watch.died:.2f} s after its begin"


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
