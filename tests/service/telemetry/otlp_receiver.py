"""Collector of the tests: takes OTLP over HTTP or gRPC on a socket, and decodes it by the protocol's definitions."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass
class ReceivedTelemetry:
    """What has come: requests in their order, and their heads."""

    url: str
    traces: list[Any] = field(default_factory=list)
    metrics: list[Any] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    raw: bytes = b""

    def spans(self) -> Iterator[tuple[Mapping[str, Any], Any]]:
        """Yield all spans, each with the attributes of its resource."""
        for request in self.traces:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        yield attributes_of(resource.resource), span

    def last_values(self, name: str) -> dict[str, list[tuple[Mapping[str, Any], float]]]:
        """Return the last values of a sum or gauge, by the id of the process; each with its attributes."""
        found: dict[str, list[tuple[Mapping[str, Any], float]]] = {}
        for request in self.metrics:
            for resource in request.resource_metrics:
                process = attributes_of(resource.resource)["service.instance.id"]
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        if metric.name == name:
                            points = (metric.sum if metric.HasField("sum") else metric.gauge).data_points
                            found[process] = [
                                (attributes_of(point), point.as_double or point.as_int) for point in points
                            ]
        return found


@contextmanager
def otlp_receiver() -> Iterator[ReceivedTelemetry]:
    """Receive on a free port until the end of the block."""
    received = ReceivedTelemetry("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            data = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
            received.raw += data
            received.headers.append({name.lower(): value for name, value in self.headers.items()})
            if self.path == "/v1/traces":
                received.traces.append(ExportTraceServiceRequest.FromString(data))
            elif self.path == "/v1/metrics":
                received.metrics.append(ExportMetricsServiceRequest.FromString(data))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        received.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        try:
            yield received
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def grpc_receiver() -> Iterator[ReceivedTelemetry]:
    """Receive over gRPC on a free port until the end of the block; needs grpcio."""
    import grpc  # type: ignore[import-untyped]
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    received = ReceivedTelemetry("")

    def handler(service: str, request: Any, response: Any, kept: list[Any]) -> Any:
        def export(exported: Any, context: Any) -> Any:
            kept.append(exported)
            return response()

        method = grpc.unary_unary_rpc_method_handler(export, request.FromString, response.SerializeToString)
        name = f"opentelemetry.proto.collector.{service.lower()}.v1.{service}Service"
        return grpc.method_handlers_generic_handler(name, {"Export": method})

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        [
            handler("Trace", ExportTraceServiceRequest, ExportTraceServiceResponse, received.traces),
            handler("Metrics", ExportMetricsServiceRequest, ExportMetricsServiceResponse, received.metrics),
        ]
    )
    received.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield received
    finally:
        server.stop(None).wait()


def attributes_of(described: Any) -> dict[str, Any]:
    """Return the attributes of a resource, a span, a link or a data point as Python's values."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in described.attributes}
