"""Spans and metrics of a gateway: within the client's trace, in the fast lane too, and the same values as /metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable
from typing import Any

import aiohttp
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client.parser import text_string_to_metric_families

from steadyvoice import TelemetryConfig
from steadyvoice.providers.base import Accepted, AudioChunk
from steadyvoice.service.metrics.metric_definitions import METRIC_DEFINITIONS
from steadyvoice.simulator import Fault
from steadyvoice.simulator.fault_injection import actions
from tests.service.scripted_provider import ScriptedProvider
from tests.service.telemetry.story import CollectedSpans, values

from ..running_gateway import ELEVENLABS, OPENAI, TEXT, RunningGateway, elevenlabs_body, openai_body, running_gateway

TRACE, CALLER = 0x0AF7651916CD43DD8448EB211C80319C, 0x00F067AA0BA902B7
HEADERS = {
    "traceparent": f"00-{TRACE:032x}-{CALLER:016x}-01",
    "tracestate": "vendor=state",
    "baggage": "password=secret",
}


async def spoken(gateway: RunningGateway, path: str = f"{ELEVENLABS}/stream", **fields: Any) -> bytes:
    """Return the body of an answer, once the call is recorded."""
    answer = await gateway.fetch("POST", path, json=elevenlabs_body(**fields), headers=HEADERS)
    await gateway.next_call()
    return await answer.read()


@pytest.mark.parametrize("on_midstream", ["error", "resume"])
async def test_call_of_the_fast_lane_belongs_to_the_trace_of_its_client(on_midstream: str) -> None:
    collected = CollectedSpans()
    async with running_gateway(on_midstream=on_midstream, telemetry=collected.config) as gateway:
        await spoken(gateway)
        (state,) = [entry async for entry in calls(gateway)]
        assert state["outcome"] == "spoken"
    (utterance,) = collected.named("utterance")
    (attempt,) = collected.children(utterance)
    assert (utterance.kind, attempt.kind) == (SpanKind.SERVER, SpanKind.CLIENT)
    assert utterance.parent is not None
    assert (utterance.parent.trace_id, utterance.parent.span_id) == (TRACE, CALLER)
    assert utterance.parent.trace_state.get("vendor") == "state"
    attributes = values(utterance)
    assert (attributes["steadyvoice.api"], attributes["steadyvoice.outcome"]) == ("elevenlabs", "spoken")
    assert (attributes["http.request.method"], attributes["http.response.status_code"]) == ("POST", 200)
    assert attributes["url.path"] == f"{ELEVENLABS}/stream"
    assert attributes["steadyvoice.request_id"] == state["request_id"]
    assert attributes["steadyvoice.first_audio"] == pytest.approx(state["first_audio"])
    # On a busy machine the pipeline goes on with the request, and the end of its response comes later.
    assert seconds_of(utterance) >= state["seconds"] - 0.001
    assert values(attempt)["gen_ai.provider.name"] == "elevenlabs"
    assert [event.name for event in attempt.events] == ["accepted", "first_audio"]
    assert "secret" not in "".join(span.to_json() for span in collected.spans)


async def test_outage_at_the_gateway_links_refusals_to_what_opened_the_circuit() -> None:
    collected = CollectedSpans()
    async with running_gateway(telemetry=collected.config) as gateway:
        await spoken(gateway)
        gateway.sim.faults.set(Fault(actions.Refuse(status=503), endpoint="text-to-speech*"))
        for _ in range(3):
            await spoken(gateway)
    opened, healthy = collected.story()[0], collected.named("utterance")[0]
    assert opened == "circuit open failure_rate"
    assert values(healthy)["steadyvoice.outcome"] == "spoken"
    attributes = [[" ".join(line) for line in lines_of(collected, span)] for span in collected.named("utterance")[1:]]
    failed = ["elevenlabs first failed server_error -> changed_circuit circuit open", "openai failover completed"]
    refused = ["elevenlabs first refused circuit_open -> refused_by circuit open", "openai failover completed"]
    assert attributes == [failed, refused, refused]


async def test_client_that_hangs_up_is_an_interruption() -> None:
    collected = CollectedSpans()
    async with running_gateway(telemetry=collected.config) as gateway:
        gateway.sim.faults.set(Fault(actions.Stall(after=3.0)))
        async with gateway.client.post(
            f"{gateway.url}{ELEVENLABS}/stream", json=elevenlabs_body(TEXT * 4), headers=HEADERS
        ) as answer:
            await answer.content.readany()
        await gateway.next_call()
    (utterance,) = collected.named("utterance")
    assert values(utterance)["steadyvoice.outcome"] == "interrupted"
    assert utterance.status.status_code is StatusCode.UNSET
    assert [values(span)["steadyvoice.attempt.result"] for span in collected.children(utterance)] == ["cancelled"]


async def test_mistake_of_the_client_is_no_error_of_the_server() -> None:
    collected = CollectedSpans()
    async with running_gateway(telemetry=collected.config, only_elevenlabs=True) as gateway:
        gateway.sim.faults.set(Fault(actions.Refuse(status=404, code="voice_not_found")))
        answer = await gateway.fetch("POST", f"{ELEVENLABS}", json=elevenlabs_body(), headers=HEADERS)
        await gateway.next_call()
    (utterance,) = collected.named("utterance")
    assert values(utterance)["http.response.status_code"] == answer.status == 404
    assert values(utterance)["error.type"] == "voice_unknown"
    assert utterance.status.status_code is StatusCode.UNSET


async def test_turns_of_a_websocket_are_spans_of_its_trace() -> None:
    collected = CollectedSpans()
    async with running_gateway(telemetry=collected.config) as gateway:
        socket = f"{gateway.url}{ELEVENLABS}/stream-input?output_format=pcm_24000"
        async with gateway.client.ws_connect(socket, headers=HEADERS) as client:
            await client.send_json({"text": " "})
            await client.send_json({"text": "It rains today. "})
            await client.send_json({"text": ""})
            async for message in client:
                if message.type is aiohttp.WSMsgType.TEXT and json.loads(message.data).get("isFinal"):
                    break
        await gateway.next_call()
    (turn,) = collected.named("turn")
    assert turn.kind is SpanKind.INTERNAL
    assert turn.parent is not None
    assert (turn.parent.trace_id, turn.parent.span_id) == (TRACE, CALLER)
    assert values(turn)["steadyvoice.api"] == "elevenlabs-websocket"
    assert values(turn)["steadyvoice.request_id"].endswith("/1")
    assert [span.name for span in collected.children(turn)] == ["generate_content elevenlabs"]


class SlowToClose(ScriptedProvider):
    """Provider that never speaks, and whose connection is closed when the test says so."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.asked, self.may_close = asyncio.Event(), asyncio.Event()

    async def speak(self, *arguments: Any, **options: Any) -> AsyncGenerator[Accepted | AudioChunk, None]:
        yield Accepted()
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            await self.may_close.wait()


async def test_turn_whose_vendor_is_slow_to_close_has_its_last_attempt() -> None:
    collected, vendor = CollectedSpans(), SlowToClose(name="slow")
    async with running_gateway(vendor, telemetry=collected.config) as gateway:
        socket = f"{gateway.url}{ELEVENLABS}/stream-input?output_format=pcm_24000"
        async with gateway.client.ws_connect(socket, headers=HEADERS) as client:
            await client.send_json({"text": "It rains today. ", "flush": True})
            await vendor.asked.wait()
        await gateway.next_call()
        assert collected.named("turn") == []
        vendor.may_close.set()
    (turn,) = collected.named("turn")
    (attempt,) = collected.children(turn)
    assert values(attempt)["steadyvoice.attempt.result"] == "cancelled"


async def test_metrics_are_those_of_the_endpoint() -> None:
    reader = InMemoryMetricReader()
    config = TelemetryConfig(traces=False, meter_provider=MeterProvider([reader], shutdown_on_exit=False))
    async with running_gateway(telemetry=config, hedging=None) as gateway:
        await gateway.fetch("POST", f"{ELEVENLABS}/stream", json=elevenlabs_body())
        await gateway.fetch("POST", OPENAI, json=openai_body())
        gateway.sim.faults.set(Fault(actions.Refuse(status=503), endpoint="text-to-speech*"))
        for _ in range(3):
            await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        for _ in range(5):
            await gateway.next_call()
        from_inside = exported(reader)
        from_a_thread = await asyncio.to_thread(exported, reader)
        answer = await gateway.fetch("GET", "/metrics")
        scraped = parsed(await answer.text())
    moving = (
        "loop_lag",
        "loop_lost",
        "connections",
        "http_requests",
        "retry_after",
        "engine_wait",
    )  # between two collections
    for found in (from_inside, from_a_thread):
        assert without(found, moving) == without(scraped, moving)
    assert from_inside["steadyvoice_requests_total"]["elevenlabs", "spoken", "elevenlabs"] == 1
    assert from_inside["steadyvoice_first_audio_seconds_count"] == {("elevenlabs",): 4, ("openai",): 1}
    assert exported(reader)["steadyvoice_requests_total"] == scraped["steadyvoice_requests_total"], "after the end"


@pytest.mark.parametrize("definition", METRIC_DEFINITIONS, ids=lambda each: each.name)
def test_prometheus_makes_the_same_name_of_an_instrument(definition: Any) -> None:
    """By https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/."""
    assert definition.unit in ("", "s")
    assert prometheus_name(definition.instrument, definition.unit, definition.kind == "counter") == definition.name


def lines_of(collected: CollectedSpans, span: ReadableSpan) -> Iterable[list[str]]:
    """Return the attempts of a call, as words."""
    for child in collected.children(span):
        attributes = values(child)
        shown = ("steadyvoice.provider", "steadyvoice.attempt.role", "steadyvoice.attempt.result", "error.type")
        links = [f"-> {meaning} {other.name}" for meaning, other in collected.linked(child)]
        yield [*(str(attributes[name]) for name in shown if name in attributes), *links]


async def calls(gateway: RunningGateway) -> Any:
    """Yield the recent calls."""
    answer = await gateway.fetch("GET", "/admin/calls")
    for entry in (await answer.json())["calls"]:
        yield entry


def seconds_of(span: ReadableSpan) -> float:
    """Return how long a span lasted."""
    return ((span.end_time or 0) - (span.start_time or 0)) / 1e9


def prometheus_name(name: str, unit: str, is_counter: bool) -> str:
    """Return the name that a metric has in Prometheus."""
    named = name.replace(".", "_") + ("_seconds" if unit == "s" else "")
    return f"{named}_total" if is_counter else named


Samples = dict[str, dict[tuple[str, ...], float]]


def exported(reader: InMemoryMetricReader) -> Samples:
    """Return what OpenTelemetry has, under the names of Prometheus."""
    found: Samples = {}
    data = reader.get_metrics_data()
    assert data is not None
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            labels = tuple(str((point.attributes or {})[name]) for name in sorted(point.attributes or {}))
            name = prometheus_name(metric.name, metric.unit or "", type(metric.data).__name__ == "Sum")
            if isinstance(point, HistogramDataPoint):
                found.setdefault(f"{name}_count", {})[labels] = point.count
                found.setdefault(f"{name}_sum", {})[labels] = round(point.sum, 6)
            elif isinstance(point, NumberDataPoint):
                found.setdefault(name, {})[labels] = point.value
    return found


def parsed(text: str) -> Samples:
    """Return what Prometheus has, but for the buckets of histograms."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.endswith("_bucket"):
                labels = tuple(sample.labels[name] for name in sorted(sample.labels))
                value = round(sample.value, 6) if sample.name.endswith("_sum") else sample.value
                found.setdefault(sample.name, {})[labels] = value
    return found


def without(samples: Samples, names: Iterable[str]) -> Samples:
    """Return the samples of all metrics but these."""
    return {name: each for name, each in samples.items() if not any(left_out in name for left_out in names)}
