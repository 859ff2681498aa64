"""Access log: one JSON line per finished request, to the logger `steadyvoice.access`; and JSON log lines.

No query, header or text is logged, unless `log_texts` asks for the texts.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.http_server.connections import RejectedConnection
from steadyvoice.gateway.request_context import RequestContext, client_outcome, current_request_id
from steadyvoice.gateway.speech_request import SpeechOrder
from steadyvoice.service.error_state import to_iso8601
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.speech.errors import TTSError

ACCESS_LOGGER = "steadyvoice.access"
log = logging.getLogger(ACCESS_LOGGER)

_MAX_PATH = 300
_MAX_TEXT = 2_000


class AccessLog:
    """Writes down every request, as long as the settings want it."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context

    def speech_finished(
        self, request: RequestContext, door: str, order: SpeechOrder, account: ReportedUtterance
    ) -> None:
        """An utterance is over; its request is soon."""
        if self._wanted:
            request.log_fields |= _speech_fields(request, door, order, account)
            if self._context.server.log_texts:
                request.log_fields["text"] = order.text[:_MAX_TEXT]

    def request_finished(self, request: RequestContext) -> None:
        """A request is over."""
        if self._wanted:
            self._write(self._of_request(request) | request.log_fields)

    def connection_rejected(self, who: RejectedConnection) -> None:
        """Somebody did not get as far as the doors."""
        if self._wanted:
            self._write(
                {
                    "request_id": who.request_id,
                    "client": who.client[0] if who.client else None,
                    "method": None,
                    "path": None,
                    "status": who.refusal.status,
                    "bytes": who.bytes,
                    "seconds": round(who.seconds, 4),
                    "first_byte": None,
                    "complete": True,
                    "refused": who.refusal.told,
                }
            )

    def _write(self, facts: Mapping[str, Any]) -> None:
        at = to_iso8601(datetime.fromtimestamp(self._context.wall_clock(), UTC))
        log.info("%s", json.dumps({"at": at, **facts}, separators=(",", ":")))

    @property
    def _wanted(self) -> bool:
        return self._context.server.access_log and log.isEnabledFor(logging.INFO)

    def _of_request(self, request: RequestContext) -> dict[str, Any]:
        """`status` is null when nobody was there to be answered; `complete`, whether all of the answer was sent."""
        client = request.scope.get("client")
        now = self._context.clock()
        return {
            "request_id": request.request_id,
            "client": client[0] if client else None,
            "method": request.scope["method"],
            "path": request.scope["path"][:_MAX_PATH],
            "status": request.status,
            "bytes": request.bytes_sent,
            "seconds": round(now - request.received_at, 4),
            "first_byte": None
            if request.response_started_at is None
            else round(request.response_started_at - request.received_at, 4),
            "complete": request.complete,
        }


def _speech_fields(
    request: RequestContext, door: str, order: SpeechOrder, account: ReportedUtterance
) -> dict[str, Any]:
    """Add the outcome; `interrupted` when the caller hung up."""
    error = account.report.error
    return {
        "door": door,
        "outcome": client_outcome(request, account),
        "provider": account.provider,
        "error": error.kind.value if isinstance(error, TTSError) else None,
        "attempts": len(account.report.attempts),
        "characters": len(order.text),
        "audio_seconds": round(account.duration, 3),
    }


_RECORD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JSONFormatter(logging.Formatter):
    """A record is an object in one line. The access log's are that already."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        if record.name == ACCESS_LOGGER:
            return record.getMessage()
        told: dict[str, Any] = {
            "at": to_iso8601(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request := current_request_id.get():
            told["request_id"] = request
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told | _facts(record), default=str, separators=(",", ":"))


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`. A vendor's name for its part of a request is not ours."""
    facts = {
        name: value for name, value in vars(record).items() if name not in _RECORD_ATTRIBUTES and value is not None
    }
    return {f"vendor_{name}" if name == "request_id" else name: value for name, value in facts.items()}
