"""Export by OpenTelemetry's SDK: the environment's variables, a real socket, and a collector that hangs."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from steadyvoice import AsyncTTSService, TelemetryConfig, Tone, TTSConfigurationError
from steadyvoice.cli.telemetry import RepetitionFilter
from steadyvoice.service.telemetry.export import describe_process, exporting

from .otlp_receiver import attributes_of, grpc_receiver, otlp_receiver

TRACES = TelemetryConfig(metrics=False)
GRPC = "opentelemetry.exporter.otlp.proto.grpc"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables of the environment in which the tests run."""
    import os

    for name in os.environ:
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


async def test_spans_reach_a_collector_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with otlp_receiver() as received:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": received.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=voices",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_SERVICE_NAME": "hotline",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,service.instance.id=pod-7",
        }
        await _speak_with(environ, monkeypatch)
    spans = list(received.spans())
    assert sorted(span.name for _, span in spans) == ["generate_content tone", "utterance"]
    for resource, _ in spans:
        assert resource["service.name"] == "hotline"
        assert resource["service.instance.id"] == "pod-7"
        assert resource["deployment.environment.name"] == "test"
        assert resource["service.version"]
    by_name = {span.name: span for _, span in spans}
    assert by_name["generate_content tone"].parent_span_id == by_name["utterance"].span_id
    assert attributes_of(by_name["utterance"])["gen_ai.output.type"] == "speech"
    assert received.headers[0]["x-tenant"] == "voices"


@pytest.mark.parametrize(
    "environ", [{"OTEL_TRACES_SAMPLER": "always_off"}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}]
)
async def test_nothing_is_sent_if_the_environment_says_so(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with otlp_receiver() as received:
        await _speak_with({**environ, "OTEL_EXPORTER_OTLP_ENDPOINT": received.url}, monkeypatch)
    assert received.traces == []


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER: must be otlp, console or none, got 'zipkin'"),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: must be http/protobuf or grpc, got 'http/json'",
        ),
    ],
)
def test_what_is_not_supported_is_refused_at_the_start(environ: dict[str, str], message: str) -> None:
    with pytest.raises(TTSConfigurationError) as refused, exporting(TelemetryConfig(), environ):
        pass
    assert message in str(refused.value)


@pytest.mark.skipif(find_spec(GRPC) is not None, reason=f"{GRPC} is installed")
def test_grpc_without_its_package_is_refused_with_what_to_install() -> None:
    environ = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}
    with pytest.raises(TTSConfigurationError) as refused, exporting(TRACES, environ):
        pass
    assert "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: grpc needs a further package" in str(refused.value)
    assert "pip install opentelemetry-exporter-otlp-proto-grpc" in str(refused.value)


async def test_spans_and_metrics_reach_a_collector_by_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(GRPC, reason="the exporter for gRPC is not installed")
    with grpc_receiver() as received:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": received.url,
            "OTEL_EXPORTER_OTLP_INSECURE": "true",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        }
        await _speak_with(environ, monkeypatch, config=TelemetryConfig())
    assert sorted(span.name for _, span in received.spans()) == ["generate_content tone", "utterance"]
    assert [points for points in received.last_values("steadyvoice.requests").values() if points]


async def test_collector_that_hangs_delays_neither_speech_nor_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with hanging_collector() as url:
        # The SDK itself would wait for 10 seconds for each answer, and for 30 at the end.
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_BSP_SCHEDULE_DELAY": "10",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
        }
        await _speak_with(environ, monkeypatch, times=20, flush_seconds=0.2)
        assert "the collector did not take the last spans and metrics within 0.2 s; they are lost" in caplog.text
        export_threads = [each for each in threading.enumerate() if each.name.startswith("Otel")]
        assert all(thread.daemon for thread in export_threads), "the process can end"
    for thread in export_threads:  # it draws random numbers for its pauses, which hypothesis forbids in other tests
        await asyncio.to_thread(thread.join, 20.0)
        assert not thread.is_alive()


async def test_tracing_of_the_application_is_kept() -> None:
    mine = TracerProvider(shutdown_on_exit=False)
    config = TelemetryConfig(tracer_provider=mine, metrics=False)
    async with AsyncTTSService([Tone()], telemetry=config) as tts:
        assert tts.telemetry is config


def test_workers_of_one_process_group_have_ids_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-7")
    one, two = describe_process(1).attributes, describe_process(2).attributes
    assert (one["service.instance.id"], two["service.instance.id"]) == ("pod-7/1", "pod-7/2")
    assert (one["steadyvoice.worker"], one["service.name"]) == (1, "steadyvoice")
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES")
    assert len(str(describe_process().attributes["service.instance.id"])) >= 32


def test_same_message_of_the_sdk_is_logged_once_a_minute() -> None:
    import logging

    now = 0.0
    logged = RepetitionFilter(lambda: now)

    def is_logged(message: str) -> bool:
        return logged.filter(logging.LogRecord("opentelemetry", logging.ERROR, "", 0, message, (), None))

    assert is_logged("Queue full")
    assert not is_logged("Queue full")
    assert is_logged("Failed to export")
    now = 61.0
    assert is_logged("Queue full")


async def _speak_with(
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    times: int = 1,
    flush_seconds: float = 10.0,
    config: TelemetryConfig = TRACES,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with exporting(config, environ, flush_seconds=flush_seconds) as config:
        async with AsyncTTSService([Tone()], telemetry=config) as tts:
            for _ in range(times):
                assert (await tts.synthesize("Hello.", format="pcm_8000")).outcome == "spoken"


@contextmanager
def hanging_collector() -> Iterator[str]:
    """Listen, accept connections, and never answer."""
    accepted: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            try:
                while True:
                    accepted.append(listener.accept()[0])
            except OSError:
                pass

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    for each in accepted:
        each.close()
    thread.join()
