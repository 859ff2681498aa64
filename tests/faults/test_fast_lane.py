"""A request in the gateway's fast lane and the same request in its pipeline are indistinguishable, whatever a vendor
does.

Not each variant of a fault is tried in both modes, unless with STEADYVOICE_DEEP=1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from operator import attrgetter
from typing import Any

import aiohttp
import pytest

from steadyvoice import AsyncTTSService, ElevenLabs, OpenAICompatible, Provider
from steadyvoice.gateway.context import RequestObserver
from steadyvoice.gateway.fast_lane.exchange import Exchange
from steadyvoice.gateway.request_context import RequestContext
from steadyvoice.gateway.server import Gateway
from steadyvoice.gateway.speech_request import GatewaySpeechRequest
from steadyvoice.providers.vendor import VendorProvider
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.simulator import Simulator
from steadyvoice.simulator.fault_injection.actions import (
    RefuseConnection,
    SlowAccept,
    TlsFailure,
    WrongLength,
)
from steadyvoice.speech.request import OnMidstream
from tests.case_selection import DEEP

from .fault_cases import IN_THE_SOUND, FaultCase, on_paths
from .scenario import (
    CLOCKS,
    NEVER_OPENS,
    QUICK,
    TEN_TIMES_REAL_TIME,
    TEXT,
    VENDOR,
    heard_words,
    run_each_way,
    run_together,
)
from .test_passthrough import CASES

pytestmark = pytest.mark.timeout(300)  # the first test runs all cases

WAV = "wav_24000"
FAULTS = [case for case in CASES if not isinstance(case.act, TlsFailure)]


@dataclass(frozen=True, eq=False)
class Setup:
    """Kind of request: what happens when its stream breaks off, its vendor, and its formats, by how they begin."""

    name: str
    mode: OnMidstream
    vendor: Callable[..., VendorProvider]
    formats: tuple[str, ...]

    def __str__(self) -> str:
        return self.name

    def relays(self, case: FaultCase) -> bool:
        """Return whether such a request in the case's format takes the fast lane."""
        return case.format.startswith(self.formats)


_TIMED = partial(ElevenLabs, timestamps=True)
PASSED = Setup("passthrough", "error", ElevenLabs, ("mp3", "pcm", "ulaw", "opus"))
RESUMED = Setup("resume", "resume", ElevenLabs, ("mp3", "pcm", "ulaw"))
A_LAW = Setup("A-law", "error", ElevenLabs, ("alaw",))
PACKED = Setup("packed", "error", _TIMED, ("mp3",))
SAMPLES = Setup("samples behind a header", "error", ElevenLabs, ("wav",))
WAV_OF_VENDOR = Setup("WAV of the vendor", "error", OpenAICompatible, ("wav",))
PACKED_SAMPLES = Setup("packed samples", "error", _TIMED, ("wav",))


def _cases_in(format_: str) -> list[FaultCase]:
    """Return one variant of each fault in a format; all of them with STEADYVOICE_DEEP=1."""
    acts = dict.fromkeys(case.act for case in FAULTS)
    return [FaultCase(act, format_) for act in (acts if DEEP else {type(act): act for act in acts}.values())]


def _within_audio(cases: Sequence[FaultCase]) -> list[FaultCase]:
    """Return the faults that are in the audio of a response, or break it off."""
    return [case for case in cases if hasattr(case.act, "after") or isinstance(case.act, (WrongLength, *IN_THE_SOUND))]


GATEWAY_CASES = [
    *on_paths(FAULTS, (PASSED, RESUMED), lambda case, setup: setup.relays(case)),
    *on_paths(_cases_in(WAV), (SAMPLES,)),
    *on_paths(_within_audio(_cases_in(WAV)), (WAV_OF_VENDOR, PACKED_SAMPLES)),
    *on_paths(_within_audio(_cases_in("alaw_8000")), (A_LAW,)),
    *on_paths(_within_audio(_cases_in("mp3_44100_128")), (PACKED,)),
]
SETUPS = list(dict.fromkeys(setup for _, setup in GATEWAY_CASES))


class Witness(RequestObserver):
    """Observer that keeps finished calls."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[tuple[RequestContext, ReportedUtterance]] = asyncio.Queue()

    def speech_finished(
        self, request: RequestContext, api: str, order: GatewaySpeechRequest, utterance: ReportedUtterance
    ) -> None:
        self.calls.put_nowait((request, utterance))


@dataclass(frozen=True)
class GatewayOutcome:
    """Response to one request, and what it left behind."""

    was_fast: bool  # it began in the fast lane
    seen: dict[str, Any]  # everything that does not depend on time


async def run_case(setup: Setup, case: FaultCase, local: Provider, *, fast: bool) -> GatewayOutcome:
    """Have one text spoken under one fault, over a connection to the vendor that has served a healthy request."""
    midway = hasattr(case.act, "after") or isinstance(case.act, WrongLength)
    async with Simulator(voice="tones", real_time_factor=TEN_TIMES_REAL_TIME if midway else 0.0) as sim:
        vendor = setup.vendor("any", name=VENDOR, base_url=sim.url)
        providers = [vendor, local]
        tts = AsyncTTSService(providers, circuit=NEVER_OPENS, retry=QUICK, timeouts=CLOCKS, on_midstream=setup.mode)
        gateway, witness = Gateway(tts, ServerConfig(port=0)), Witness()
        gateway.context.observers.append(witness)
        async with gateway, aiohttp.ClientSession() as client:
            await _post(client, gateway, case.format, fast=True)
            await witness.calls.get()
            sim.faults.set(case.act)
            status, headers, body, complete = await _post(client, gateway, case.format, fast=fast)
            request, utterance = await witness.calls.get()
            async with client.get(f"{gateway.url}/metrics") as scraped:
                metrics = await scraped.text()
            await vendor.aclose()
            await sim.idle()
            report = utterance.report
            state = tts.get_error_state()
        asked = [entry for entry in sim.ledger if entry.characters]
        attempts = [
            (each.provider, each.begin, each.end, type(each.error), each.bill, each.answered is None,
             each.first_audio is None)
            for each in report.attempts
        ]  # fmt: skip
        seen = {
            "status": status,
            "headers": headers,
            "complete": complete,
            "body": body if report.outcome == "spoken" else len(body) > 0,
            "beginning": body[:1000] if status == 200 and report.outcome in ("spoken", "failed") else b"",
            "headers in the body": body.count(b"RIFF"),
            "words": heard_words(body, case.format) if setup.mode == "resume" and status == 200 else [],
            "outcome": utterance.outcome,
            "error": type(report.error),
            "attempts": attempts,
            "spans": [(span.provider, span.begin, span.voice, span.exact) for span in report.spans],
            "request": (request.status, request.complete, request.route_class),
            "charged": sum(entry.charged for entry in asked),
            "requests": len(asked),
            "bills": state["bills"],
            "window": state["window"],
            "totals": state["totals"],
            "in_use": state["concurrency"]["in_use"],
            "active": tts.admission.active,
            "holds": [hold["key"] for hold in state["holds"]],
            "metrics": _counters(metrics),
        }
        return GatewayOutcome(isinstance(request, Exchange), seen)


async def _post(
    client: aiohttp.ClientSession, gateway: Gateway, format_: str, *, fast: bool
) -> tuple[int, dict[str, str], bytes, bool]:
    """Return status, headers that say something, body, and whether it was complete."""
    if format_ == WAV:  # ElevenLabs' endpoint streams none
        url = f"{gateway.url}/v1/audio/speech"
        body = {"input": TEXT, "model": "tts-1", "voice": "alloy", "response_format": "wav"}
    else:
        url = f"{gateway.url}/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb/stream?output_format={format_}"
        body = {"text": TEXT}
    parts, complete = bytearray(), True
    # A body in chunks is unusual, so its request goes to the pipeline.
    async with client.post(url, json=body, chunked=None if fast else True) as response:
        try:
            async for part in response.content.iter_any():
                parts += part
        except aiohttp.ClientError:
            complete = False
        kept = {
            name.lower(): value
            for name, value in response.headers.items()
            if name.lower() not in ("date", "x-request-id", "request-id", "retry-after", "content-length")
        }
        return response.status, kept, bytes(parts), complete


def _counters(metrics: str) -> list[str]:
    """Return the lines of counters that do not depend on time."""
    return [
        line
        for line in metrics.splitlines()
        if "_total" in line and not line.startswith("#") and not any(word in line for word in ("seconds", "audio"))
    ]


Ways = dict[FaultCase, tuple[GatewayOutcome, GatewayOutcome]]


def run_all(setup: Setup) -> Ways:
    """Run every fault of a setup, in the fast lane and in the pipeline."""
    cases = [case for case, each in GATEWAY_CASES if each is setup]

    async def both(case: FaultCase, local: Provider) -> tuple[GatewayOutcome, GatewayOutcome]:
        ways = [partial(run_case, setup, case, local, fast=fast) for fast in (True, False)]
        fast, slow = await run_each_way(case, ways, attrgetter("seen"))
        return fast, slow

    return dict(zip(cases, asyncio.run(run_together(cases, both)), strict=True))


@pytest.fixture(scope="module")
def outcomes_of_setup() -> Callable[[Setup], Ways]:
    """Outcomes of every fault, once they are asked for."""
    return cache(run_all)


@pytest.mark.parametrize(("case", "setup"), GATEWAY_CASES, ids=str)
def test_fast_lane_and_pipeline_are_indistinguishable(
    outcomes_of_setup: Callable[[Setup], Ways], setup: Setup, case: FaultCase
) -> None:
    fast, slow = outcomes_of_setup(setup)[case]
    assert fast.seen == slow.seen
    if case.format == WAV and fast.seen["status"] == 200:
        assert fast.seen["headers in the body"] == 1


@pytest.mark.parametrize("setup", SETUPS, ids=str)
def test_fast_lane_begins_the_requests(outcomes_of_setup: Callable[[Setup], Ways], setup: Setup) -> None:
    """Otherwise this module would compare equal paths."""
    # These faults of new connections close the idle one, and a new one is opened by the pipeline.
    unconnected = (RefuseConnection, SlowAccept)
    outcomes = outcomes_of_setup(setup)
    assert all(fast.was_fast for case, (fast, _) in outcomes.items() if not isinstance(case.act, unconnected))
    assert not any(slow.was_fast for _, slow in outcomes.values())
