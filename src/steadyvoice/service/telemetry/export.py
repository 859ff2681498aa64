"""Export of spans and metrics by OpenTelemetry's SDK, for the commands, which have no application around them.

The variables `OTEL_*` of the environment apply as in any other process with the SDK: endpoint, headers, sampler, name
of the service, resource, intervals. All that waits for a collector does so in threads of the SDK, which are daemons.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any
from uuid import uuid4

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from steadyvoice._version import __version__
from steadyvoice.service.telemetry.attributes import REPLICA, WORKER
from steadyvoice.service.telemetry.config import TelemetryConfig
from steadyvoice.speech.errors import TTSConfigurationError

FLUSH_SECONDS = 2.0
"""Seconds that the end of a process waits at most for a collector to take the rest."""

log = logging.getLogger("steadyvoice.telemetry")


@contextmanager
def exporting(
    config: TelemetryConfig,
    environ: Mapping[str, str],
    *,
    worker: int | None = None,
    flush_seconds: float = FLUSH_SECONDS,
) -> Iterator[TelemetryConfig]:
    """Export inside the block by the configuration that it gives, and at the end what is left.

    A process whose SDK was set up before, as by `opentelemetry-instrument`, keeps that. `worker` is the number of this
    process among those of one gateway. The end waits for a collector for at most `flush_seconds`. Raises
    TTSConfigurationError for variables that name what is not supported.
    """
    is_set_up = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    if is_set_up or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield config
        return
    resource = describe_process(worker)
    closes: list[Callable[[], object]] = []
    spans, metrics = (_exporter(kind, environ) for kind in ("TRACES", "METRICS"))
    if config.traces and spans:
        # Not at exit: the SDK waits for up to 30 seconds there.
        tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        tracer_provider.add_span_processor(BatchSpanProcessor(spans()))
        config = replace(config, tracer_provider=tracer_provider)
        closes.append(tracer_provider.shutdown)
    if config.metrics and metrics:
        reader = PeriodicExportingMetricReader(metrics())
        meter_provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        config = replace(config, meter_provider=meter_provider)
        closes.append(meter_provider.shutdown)
    config = replace(config, traces=config.traces and bool(spans), metrics=config.metrics and bool(metrics))
    try:
        yield config
    finally:
        _close_all(closes, flush_seconds)


def describe_process(worker: int | None = None) -> Resource:
    """Return the resource of this process: what the environment says, and its own id, one for each worker."""
    given = Resource.create()
    attributes: dict[str, Any] = {"service.version": __version__, REPLICA: uuid4().hex, **given.attributes}
    if str(attributes.get("service.name", "")).startswith("unknown_service"):
        attributes["service.name"] = "steadyvoice"
    if worker is not None:
        # One id for all workers, such as the name of a pod, would make one series of those of all of them.
        attributes |= {WORKER: worker, REPLICA: f"{attributes[REPLICA]}/{worker}"}
    return Resource(attributes, given.schema_url)


def _exporter(signal: str, environ: Mapping[str, str]) -> Callable[[], Any] | None:
    """Return what makes the exporter of a signal, TRACES or METRICS; None if it is not exported."""
    variable = f"OTEL_{signal}_EXPORTER"
    match environ.get(variable, "").strip() or "otlp":
        case "none":
            return None
        case "console":
            return ConsoleSpanExporter if signal == "TRACES" else ConsoleMetricExporter
        case "otlp":
            return _otlp_exporter(signal, environ)
        case other:
            raise TTSConfigurationError(f"{variable}: must be otlp, console or none, got {other!r:.100}")


def _otlp_exporter(signal: str, environ: Mapping[str, str]) -> Callable[[], Any]:
    variables = (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    variable = next((each for each in variables if environ.get(each, "").strip()), variables[1])
    match environ.get(variable, "").strip() or "http/protobuf":
        case "http/protobuf":
            package = "http"
        case "grpc":
            package = "grpc"
        case other:
            raise TTSConfigurationError(f"{variable}: must be http/protobuf or grpc, got {other!r:.100}")
    module, name = ("trace_exporter", "OTLPSpanExporter") if signal == "TRACES" else _METRIC_EXPORTER
    try:
        exporter = import_module(f"opentelemetry.exporter.otlp.proto.{package}.{module}")
    except ImportError as error:  # the extra has the one for HTTP only
        raise TTSConfigurationError(
            f"{variable}: {package} needs a further package: pip install opentelemetry-exporter-otlp-proto-{package}; "
            "or set http/protobuf, which collectors take on port 4318"
        ) from error
    made: Callable[[], Any] = getattr(exporter, name)
    return made


_METRIC_EXPORTER = ("metric_exporter", "OTLPMetricExporter")


def _close_all(closes: list[Callable[[], object]], seconds: float) -> None:
    """Flush and close, for at most so many seconds, in threads: the SDK waits for a collector that hangs."""
    threads = [threading.Thread(target=_close, args=[close], daemon=True) for close in closes]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        log.warning("the collector did not take the last spans and metrics within %g s; they are lost", seconds)


def _close(close: Callable[[], object]) -> None:
    try:
        close()
    except Exception as error:  # the SDK's, of a collector that is gone
        log.warning("closing the export of spans and metrics failed: %s", error)
