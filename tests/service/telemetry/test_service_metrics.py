"""Metrics of a service without a gateway: those of the gateway's /metrics, by the same names, for OpenTelemetry."""

from __future__ import annotations

import asyncio
import gc
from weakref import ref

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint

from steadyvoice import AsyncTTSService, TelemetryConfig, Tone, TTSServerError, TTSService
from steadyvoice.service.metrics.metric_definitions import METRIC_DEFINITIONS

from ..conftest import MakeService
from ..scripted_provider import Say, ScriptedProvider

DOWN = TTSServerError("HTTP 503", status=503)
OF_A_GATEWAY = {"service_level", "http_requests", "http_requests_in_flight", "connections", "websockets"} | {
    "workers", "worker_restarts"
}  # fmt: skip

Points = dict[tuple[str, ...], float]


class Exported:
    """Metrics that OpenTelemetry's SDK has of some services, by the names of the instruments."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.config = TelemetryConfig(traces=False, meter_provider=provider)

    def collect(self) -> dict[str, Points]:
        """Return the values by the values of their labels; of histograms, the number of values."""
        found: dict[str, Points] = {}
        data = self.reader.get_metrics_data()
        for metric in data.resource_metrics[0].scope_metrics[0].metrics if data else ():
            points = found.setdefault(metric.name.removeprefix("steadyvoice."), {})
            for point in metric.data.data_points:
                labels = tuple(str(value) for value in (point.attributes or {}).values())
                if isinstance(point, HistogramDataPoint):
                    points[labels] = point.count
                elif isinstance(point, NumberDataPoint):
                    points[labels] = point.value
        return found


@pytest.mark.looptime
async def test_outage_is_counted_as_the_gateway_counts_it(make_service: MakeService) -> None:
    exported = Exported()
    first = ScriptedProvider([Say(), DOWN, Say()], name="first")
    async with make_service(first, ScriptedProvider(name="second"), telemetry=exported.config) as tts:
        for _ in range(3):
            await tts.synthesize("Good morning.", format="pcm_8000")
        conversation = tts.conversation(format="pcm_8000")
        turn = conversation.turn()
        turn.push("It rains today. ")
        turn.end()
        assert [event async for event in turn]
        found = exported.collect()
        assert found["requests"] == {
            ("library", "first", "spoken"): 1,
            ("library", "second", "substituted"): 2,
            ("conversation", "second", "substituted"): 1,
        }
        assert found["provider_attempts"]["first", "server_error"] == 1
        assert found["provider_attempts"]["first", "circuit_open"] == 2
        assert found["characters"] == {("first",): 13, ("second",): 13 * 2 + 15}
        assert found["request"] == found["first_audio"] == {("library",): 3, ("conversation",): 1}
        assert found["circuit_transitions"] == {("first", "closed", "open", "failure_rate"): 1}
        assert found["circuit_state"]["first", "open"] == 1
        await asyncio.sleep(61)
        await tts.synthesize("Good morning.", format="pcm_8000")
        await tts.synthesize("Good morning.", format="pcm_8000")
        seen = set(exported.collect()) | set(found)
    names = {each.instrument.removeprefix("steadyvoice.") for each in METRIC_DEFINITIONS}
    assert not seen & OF_A_GATEWAY
    assert {"circuit_recovery", "muted", "syntheses_active", "streams_in_flight", "build_info"} <= seen <= names


def test_plain_service_reports_to_any_thread_and_what_was_counted_outlasts_it() -> None:
    exported = Exported()
    with TTSService([Tone()], telemetry=exported.config) as tts:
        assert exported.collect()["circuit_state"]["tone", "closed"] == 1, "before the first call"
        tts.synthesize("Hello.")
        with TTSService([Tone(name="other")], telemetry=exported.config) as other:
            other.synthesize("Hello.")
            both = exported.collect()
        assert both["requests"] == {("library", "tone", "spoken"): 1, ("library", "other", "spoken"): 1}
        assert both["syntheses_active"] == {(): 0}
        assert ("other", "closed") not in exported.collect()["circuit_state"], "it is closed"
        tts.synthesize("Hello.")
    last = exported.collect()
    assert last["requests"] == {("library", "tone", "spoken"): 2, ("library", "other", "spoken"): 1}
    assert last["circuit_state"]["tone", "closed"] == 1, "for the last export of a process that ends"


async def test_service_that_is_dropped_is_not_kept_and_its_counts_are() -> None:
    exported = Exported()
    tts = AsyncTTSService([Tone()], telemetry=exported.config)
    await tts.synthesize("Hello.")
    exported.collect()
    dropped = ref(tts)
    del tts
    gc.collect()
    assert dropped() is None
    async with AsyncTTSService([Tone()], telemetry=exported.config) as tts:
        await tts.synthesize("Hello.")
        assert exported.collect()["requests"] == {("library", "tone", "spoken"): 2}
