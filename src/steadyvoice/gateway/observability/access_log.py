"""Access log: one JSON line per finished request, to the logger `steadyvoice.access`; and JSON log lines.

No query, header or text is logged, unless `log_texts` asks for the texts.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from steadyvoice.gateway.context import FinishedCall, GatewayContext, RequestObserver
from steadyvoice.gateway.http_server.connections import RejectedConnection
from steadyvoice.gateway.request_context import RequestContext, client_outcome, current_request_id
from steadyvoice.gateway.speech_request import GatewaySpeechRequest
from steadyvoice.service.error_state import to_iso8601
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.speech.errors import TTSError

ACCESS_LOGGER = "steadyvoice.access"
log = logging.getLogger(ACCESS_LOGGER)

_MAX_PATH = 300
_MAX_TEXT = 2_000


class AccessLog(RequestObserver):
    """Observer that writes one line for each request, unless the settings switch it off."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context

    def speech_finished(
        self, request: RequestContext, api: str, order: GatewaySpeechRequest, utterance: ReportedUtterance
    ) -> None:
        """Add the fields of an utterance to its request's line, which is written soon after.

        A turn has a line of its own.
        """
        if self._enabled:
            request.log_fields |= _speech_fields(request, api, order, utterance)
            if self._context.server.log_texts:
                request.log_fields["text"] = order.text[:_MAX_TEXT]
        if request.is_turn:
            self.request_finished(request)

    def request_finished(self, request: RequestContext) -> None:
        """Write the line of a finished request."""
        if self._enabled:
            self._write(self._request_fields(request) | request.log_fields)

    def usual_calls_finished(self, calls: Sequence[FinishedCall]) -> None:
        """Write the lines of finished requests."""
        if self._enabled:
            super().usual_calls_finished(calls)

    def connection_rejected(self, rejected: RejectedConnection) -> None:
        """Write the line of a request that was refused before it reached the middleware."""
        if self._enabled:
            self._write(
                {
                    "request_id": rejected.request_id,
                    "client": rejected.client[0] if rejected.client else None,
                    "method": None,
                    "path": None,
                    "status": rejected.refusal.status,
                    "bytes": rejected.bytes,
                    "seconds": round(rejected.seconds, 4),
                    "first_byte": None,
                    "complete": True,
                    "refused": rejected.refusal.message,
                }
            )

    def _write(self, fields: Mapping[str, Any]) -> None:
        at = to_iso8601(datetime.fromtimestamp(self._context.wall_clock(), UTC))
        workers = self._context.workers
        worker = {"worker": workers.number} if workers else {}
        log.info("%s", json.dumps({"at": at, **worker, **fields}, separators=(",", ":")))

    @property
    def _enabled(self) -> bool:
        return self._context.server.access_log and log.isEnabledFor(logging.INFO)

    def _request_fields(self, request: RequestContext) -> dict[str, Any]:
        """Return the fields of a request. `status` is null when the client left before the response began."""
        client = request.scope.get("client")
        now, started = self._context.clock(), request.response_started_at
        return {
            "request_id": request.request_id,
            "client": client[0] if client else None,
            "method": request.scope["method"],
            "path": request.scope["path"][:_MAX_PATH],
            "status": request.status,
            "bytes": request.bytes_sent,
            "seconds": round(request.seconds_at(now), 4),
            "first_byte": None if started is None else round(started - request.received_at, 4),
            "complete": request.complete,
        }


def _speech_fields(
    request: RequestContext, api: str, order: GatewaySpeechRequest, utterance: ReportedUtterance
) -> dict[str, Any]:
    error = utterance.report.error
    return {
        "api": api,
        "outcome": client_outcome(request, utterance),
        "provider": utterance.provider,
        "error": error.kind.value if isinstance(error, TTSError) else None,
        "attempts": len(utterance.report.attempts),
        "characters": len(order.text),
        "audio_seconds": round(utterance.duration, 3),
    }


_RECORD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JSONFormatter(logging.Formatter):
    """Formatter that writes a log record as one line of JSON, with the id of its request."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line. Records of the access log are JSON already."""
        if record.name == ACCESS_LOGGER:
            return record.getMessage()
        fields: dict[str, Any] = {
            "at": to_iso8601(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := current_request_id.get():
            fields["request_id"] = request_id
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields | _extra_fields(record), default=str, separators=(",", ":"))


def _extra_fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return what was given as `extra`; a vendor's request id is renamed, so as not to hide the gateway's."""
    fields = {
        name: value for name, value in vars(record).items() if name not in _RECORD_ATTRIBUTES and value is not None
    }
    return {f"vendor_{name}" if name == "request_id" else name: value for name, value in fields.items()}
