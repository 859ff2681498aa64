"""Metrics: what they count, and that labels are bounded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from steadyvoice import CircuitBreakerConfig, ElevenLabs, HedgeConfig, Tone
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.service.metrics.metric_definitions import METRIC_DEFINITIONS
from steadyvoice.simulator import Fault, Simulator
from steadyvoice.simulator.fault_injection import actions

from ..running_gateway import (
    ELEVENLABS,
    OPENAI,
    TEXT,
    Clock,
    RunningGateway,
    elevenlabs_body,
    openai_body,
    running_gateway,
)

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
QUICK = CircuitBreakerConfig(
    failure_threshold=0.5, window_size=2, minimum_calls=2, cooldown_period=30, success_threshold=1
)


async def scraped(gateway: RunningGateway) -> dict[str, dict[tuple[str, ...], float]]:
    """Every sample by its metric, and by its labels' values in the order of their names."""
    answer = await gateway.fetch("GET", "/metrics")
    assert answer.status == 200
    assert answer.content_type == "text/plain"
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(await answer.text()):
        for sample in family.samples:
            labels = tuple(sample.labels[name] for name in sorted(sample.labels))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


async def test_calls_are_counted_by_api_provider_and_outcome() -> None:
    async with running_gateway() as gateway:
        await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        await gateway.fetch("POST", f"{ELEVENLABS}/stream", json=elevenlabs_body())
        await gateway.fetch("POST", OPENAI, json=openai_body())
        await gateway.fetch("POST", OPENAI, json=openai_body(""))
        found = await scraped(gateway)
        requests = found["steadyvoice_requests_total"]
        assert requests == {("elevenlabs", "spoken", "elevenlabs"): 2, ("openai", "spoken", "elevenlabs"): 1}
        assert found["steadyvoice_characters_total"] == {("elevenlabs",): 3 * len(TEXT)}
        assert found["steadyvoice_provider_characters_total"]["billed", "elevenlabs"] == 3 * len(TEXT)
        assert found["steadyvoice_provider_attempts_total"] == {("elevenlabs", "ok"): 3}
        assert found["steadyvoice_first_audio_seconds_count"] == {("elevenlabs",): 2, ("openai",): 1}
        assert found["steadyvoice_request_seconds_bucket"]["elevenlabs", "+Inf"] == 2
        assert found["steadyvoice_http_requests_total"] == {("speech", "2xx"): 3, ("speech", "4xx"): 1}
        assert found["steadyvoice_http_requests_in_flight"] == {(): 1}, "the scrape itself"
        assert found["steadyvoice_streams_in_flight"] == {(): 0}


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=abc",
        "text/plain;version=abc",
        "text/plain;version=1.x",
        "application/openmetrics-text;version=",
        "application/openmetrics-text;version==1.0.0;escaping=?",
        f"text/plain;version={'9' * 5000}",
        "application/openmetrics-text;version=1.0.0;escaping=values;q=x",
        ";;;,,,=",
        "\xff",
    ],
)
async def test_invalid_accept_header_gets_the_text_format(accept: str) -> None:
    async with running_gateway(Tone()) as gateway:
        answer = await gateway.fetch("GET", "/metrics", headers={"accept": accept})
        assert (answer.status, "steadyvoice_build_info" in await answer.text()) == (200, True)


async def test_outage_and_recovery_are_measured() -> None:
    clock = Clock()
    async with running_gateway(clock=clock, circuit=QUICK) as gateway:
        gateway.sim.faults.set(Fault(actions.Refuse(status=503), endpoint="text-to-speech*"))
        for _ in range(2):
            await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        found = await scraped(gateway)
        assert found["steadyvoice_circuit_state"]["elevenlabs", "open"] == 1
        assert found["steadyvoice_circuit_state"]["elevenlabs", "closed"] == 0
        assert found["steadyvoice_circuit_failure_rate"]["elevenlabs",] == 1.0
        assert found["steadyvoice_circuit_opened_timestamp_seconds"]["elevenlabs",] > 1.7e9
        assert found["steadyvoice_provider_attempts_total"]["elevenlabs", "server_error"] == 2
        assert ("openai",) not in found["steadyvoice_circuit_opened_timestamp_seconds"]

        gateway.sim.faults.clear()
        clock.ahead += 40
        await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        found = await scraped(gateway)
        moved = found["steadyvoice_circuit_transitions_total"]
        assert moved["failure_rate", "closed", "elevenlabs", "open"] == 1
        assert moved["probes_succeeded", "half_open", "elevenlabs", "closed"] == 1
        recovered = found["steadyvoice_circuit_recovery_seconds_bucket"]
        assert (recovered["30.0", "elevenlabs"], recovered["60.0", "elevenlabs"]) == (0, 1)


async def test_interrupted_calls_are_counted_as_such() -> None:
    async with running_gateway() as gateway:
        gateway.sim.faults.set(Fault(actions.Stall(after=1.5), endpoint="text-to-speech*"))
        answer = await gateway.post(f"{ELEVENLABS}/stream?output_format=pcm_16000", elevenlabs_body())
        await answer.content.readany()
        assert (await scraped(gateway))["steadyvoice_streams_in_flight"] == {(): 1}
        answer.close()
        await gateway.next_call()
        assert (await scraped(gateway))["steadyvoice_requests_total"] == {
            ("elevenlabs", "interrupted", "elevenlabs"): 1
        }


@pytest.mark.slow
@pytest.mark.parametrize("vendor_kind", ["garbage", "silence"])
async def test_no_label_takes_a_callers_value(vendor_kind: str) -> None:
    async with running_gateway(*_sorts[vendor_kind]) as gateway:
        before = await _series(gateway)
        for n in range(12):
            await gateway.fetch("POST", f"/v1/text-to-speech/voice-{n}", json=elevenlabs_body(model_id=f"model-{n}"))
            await gateway.fetch("POST", OPENAI, json=openai_body(voice=f"voice-{n}", model=f"model-{n}"))
            made_up = {"x-request-id": f"id-{n}", "authorization": f"Bearer {n}"}
            await gateway.fetch("GET", f"/somewhere/{n}", headers=made_up)
            await gateway.fetch(("PURGE", "PATCH")[n % 2], f"/admin/{n}")
            if n == 2:
                first = await _series(gateway)
        assert before < first == await _series(gateway)
        text = await (await gateway.fetch("GET", "/metrics")).text()
        assert not re.search(r"(voice|model|id)-\d|VERB|somewhere", text)


_sorts: dict[str, tuple[Any, ...]] = {
    "garbage": (),
    "silence": (ElevenLabs("sk", base_url="http://127.0.0.1:9"),),
}


async def _series(gateway: RunningGateway) -> int:
    return sum(map(len, (await scraped(gateway)).values()))


async def test_two_gateways_in_one_process_have_separate_metrics() -> None:
    async with running_gateway(Tone()) as one, running_gateway(Tone()) as other:
        await (await one.post(OPENAI, openai_body(response_format="pcm"))).read()
        assert (await scraped(one))["steadyvoice_requests_total"] == {("openai", "spoken", "tone"): 1}
        assert "steadyvoice_requests_total" not in await scraped(other)


async def test_openmetrics_is_served_on_request() -> None:
    async with running_gateway(Tone()) as gateway:
        answer = await gateway.fetch(
            "GET", "/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}
        )
        assert answer.content_type == "application/openmetrics-text"
        assert (await answer.text()).endswith("# EOF\n")


async def test_hedges_are_counted_by_result() -> None:
    hedging = HedgeConfig(minimum_samples=1, budget=1.0)
    async with Simulator(voice="tones") as one, Simulator(voice="tones") as other:
        vendors = [ElevenLabs("sk", name=name, base_url=sim.url) for name, sim in (("first", one), ("second", other))]
        async with running_gateway(*vendors, hedging=hedging) as gateway:
            await (await gateway.post(ELEVENLABS, elevenlabs_body())).read()
            one.faults.set(actions.HangAfterHeaders())
            await (await gateway.post(ELEVENLABS, elevenlabs_body())).read()
            found = await scraped(gateway)
    assert {word: count for (word,), count in found["steadyvoice_hedges_total"].items() if count} == {"won": 1}
    assert found["steadyvoice_provider_attempts_total"]["first", "hedged"] == 1
    assert found["steadyvoice_provider_wasted_characters_total"]["hedged", "first"] == len(TEXT)


def test_documentation_lists_exactly_the_metrics() -> None:
    documented = {name: (kind, labels) for name, kind, labels in _rows(PAGE.read_text(encoding="utf-8"))}
    assert documented == {family.name: (family.kind, family.labels) for family in METRIC_DEFINITIONS}


async def test_exported_metrics_are_exactly_the_documented_ones(tmp_path: Path) -> None:
    async with running_gateway(cache=tmp_path) as gateway:
        text = await (await gateway.fetch("GET", "/metrics")).text()
        exported = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
        assert sorted(exported) == sorted((family.name, family.kind) for family in METRIC_DEFINITIONS)


def _rows(page: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for line in page.splitlines():
        if line.startswith("| `steadyvoice_"):
            name, kind, labels, _ = (cell.strip() for cell in line.strip("|").split("|"))
            yield name.strip("`"), kind, tuple(re.findall(r"`(\w+)`", labels))


async def heard(gateway: RunningGateway, *faults: Fault, path: str = f"{ELEVENLABS}/stream") -> None:
    """Make a call in which these faults happen."""
    gateway.sim.faults.set(*faults)
    answer = await gateway.post(path, elevenlabs_body(), headers={"x-steadyvoice-deadline": "20"})
    with suppress(aiohttp.ClientError):
        await answer.read()


def levels(found: dict[str, dict[tuple[str, ...], float]]) -> dict[str, float]:
    return {result: n for (_, result), n in found["steadyvoice_service_level_total"].items() if n}


async def test_service_level_counts_what_callers_hear() -> None:
    down = Fault(actions.Refuse(status=503), endpoint="text-to-speech*")
    async with running_gateway() as gateway:
        for _ in range(3):  # through the pipeline, then in the fast lane
            await heard(gateway)
        await heard(gateway, down)
        gateway.context.apply_settings(ServerConfig(first_audio_objective=1e-9, port=0))
        await heard(gateway)
        await heard(gateway, path=ELEVENLABS)  # sent whole: its audio may take as much longer
        await gateway.fetch("POST", "/admin/say", json={"text": TEXT})
        assert levels(await scraped(gateway)) == {"good": 4, "substituted": 1, "late": 1}


async def test_service_level_tells_cut_muted_and_failed_from_mistakes_of_callers() -> None:
    down = Fault(actions.Refuse(status=503))
    async with running_gateway(only_elevenlabs=True, on_midstream="error") as gateway:
        await heard(gateway, Fault(actions.Refuse("invalid_parameters")))
        await heard(gateway, Fault(actions.Cut(after=0.8)))
        await heard(gateway, down)
        assert levels(await scraped(gateway)) == {"cut": 1, "muted": 1}
    async with running_gateway(only_elevenlabs=True, muted=False) as gateway:
        await heard(gateway, down)
        found = await scraped(gateway)
        assert levels(found) == {"failed": 1}
        assert len(found["steadyvoice_service_level_total"]) == 6, "those that did not happen are 0"
