"""OpenTelemetry's SDK for the commands: set up as configured, and its own messages in the log."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from steadyvoice.service.options import ServiceArguments
from steadyvoice.service.telemetry.config import require_opentelemetry

_REPEATED_AFTER = 60.0  # seconds


@contextmanager
def exporting_as_configured(plan: ServiceArguments, *, worker: int | None = None) -> Iterator[ServiceArguments]:
    """Export spans and metrics inside the block, if the arguments of the service say so; it gives its arguments.

    `worker` is the number of this process among those of one gateway. Raises TTSConfigurationError.
    """
    telemetry = plan.get("telemetry")
    if telemetry is None:
        yield plan
        return
    require_opentelemetry("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
    # Imported here, because it needs an extra.
    from steadyvoice.service.telemetry.export import exporting

    _log_sdk()
    with exporting(telemetry, os.environ, worker=worker) as config:
        yield cast(ServiceArguments, {**plan, "telemetry": config})


def _log_sdk() -> None:
    """Log the SDK's own messages to standard error as JSON lines, unless `--debug` logs everything anyway."""
    if logging.root.handlers:
        return
    # Imported here, because it loads the gateway.
    from steadyvoice.gateway.observability.access_log import JSONFormatter

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter())
    handler.addFilter(RepetitionFilter())
    logging.getLogger("opentelemetry").addHandler(handler)


class RepetitionFilter(logging.Filter):
    """Filter that lets the same message pass once a minute: without a collector, the SDK repeats its own for ever."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._passed: dict[tuple[str, str], float] = {}  # as many as the SDK has messages

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a record."""
        key, now = (record.name, str(record.msg)), self._clock()
        if now - self._passed.get(key, -_REPEATED_AFTER) < _REPEATED_AFTER:
            return False
        self._passed[key] = now
        return True
