"""Log records as lines of JSON, with the facts they carry, and the request that they belong to."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from steadyvoice.gateway.access import ACCESS
from steadyvoice.gateway.exchange import current_request
from steadyvoice.service.error_state import iso

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """A record is an object in one line. The access log's are that already."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        if record.name == ACCESS:
            return record.getMessage()
        told: dict[str, Any] = {
            "at": iso(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request := current_request.get():
            told["request_id"] = request
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told | _facts(record), default=str, separators=(",", ":"))


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`. A vendor's name for its part of a request is not ours."""
    facts = {name: value for name, value in vars(record).items() if name not in _OWN and value is not None}
    return {f"vendor_{name}" if name == "request_id" else name: value for name, value in facts.items()}
