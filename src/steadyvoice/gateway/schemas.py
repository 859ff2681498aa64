"""The shapes of the gateway's own answers, as JSON Schema: what a reader may rely on. More may be there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _map(of: Schema) -> Schema:
    return {"type": "object", "additionalProperties": of}


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _or_null(kind: str) -> Schema:
    return {"type": [kind, "null"]}


_TEXT, _NUMBER, _COUNT, _YES_OR_NO = ({"type": kind} for kind in ("string", "number", "integer", "boolean"))
_MAYBE_TEXT, _MAYBE_NUMBER, _ANYTHING = _or_null("string"), _or_null("number"), {"type": "object"}
_STATE = {"enum": ["closed", "open", "half_open", "forced_open", "disabled", "monitoring"]}

ERROR: Schema = _object(error=_object(code=_TEXT, message=_TEXT, field=_MAYBE_TEXT))

_PROVIDER: Schema = _object(
    circuit_state=_STATE,
    circuit_opened_at=_MAYBE_TEXT,
    failure_rate=_NUMBER,
    window=_object(size=_or_null("integer"), calls=_COUNT, failures=_NUMBER),
    retry_after=_MAYBE_NUMBER,
    consecutive_failures=_COUNT,
    last_error=_or_null("object"),
    last_transition=_or_null("object"),
    is_muted=_YES_OR_NO,
    totals=_object(calls=_COUNT, successes=_COUNT, failures=_COUNT, refused=_COUNT, ignored=_COUNT),
    recoveries=_object(count=_COUNT, last_seconds=_MAYBE_NUMBER, mean_seconds=_MAYBE_NUMBER),
    holds=_list(_object(key=_TEXT, kind=_TEXT, until=_TEXT)),
)
_CALL: Schema = _object(
    number=_COUNT,
    at=_TEXT,
    request_id=_TEXT,
    door=_TEXT,
    outcome=_TEXT,
    provider=_MAYBE_TEXT,
    format=_TEXT,
    characters=_COUNT,
    bytes_sent=_COUNT,
    seconds=_NUMBER,
    first_audio=_MAYBE_NUMBER,
    audio_seconds=_NUMBER,
    attempts=_list(_object(provider=_TEXT, began=_NUMBER, waited=_NUMBER, refused=_YES_OR_NO, bill=_ANYTHING)),
    spans=_list(_object(provider=_MAYBE_TEXT, begin=_COUNT, end=_COUNT, start=_NUMBER, stop=_NUMBER)),
    error=_or_null("object"),
)
_STANDING: Schema = _object(ready=_YES_OR_NO, circuit_state=_STATE, reason=_MAYBE_TEXT)

_OVERLOAD: Schema = _object(
    overloaded=_YES_OR_NO,
    active=_COUNT,
    queued=_COUNT,
    max_active=_COUNT,
    max_queued=_COUNT,
    queue_timeout=_NUMBER,
    refused=_map(_COUNT),
    loop_lag=_NUMBER,
    loop_lost=_NUMBER,
    waits=_map(_NUMBER),
)

ANSWERS: Mapping[str, Schema] = {
    "Health": _object(status=_TEXT),
    "Readiness": _object(ready=_YES_OR_NO, reasons=_list(_TEXT), overloaded=_YES_OR_NO, providers=_map(_STANDING)),
    "State": {"allOf": [_PROVIDER, _object(overload=_OVERLOAD, providers=_map(_PROVIDER))]},
    "Board": _object(
        at=_TEXT, edition=_TEXT, is_muted=_YES_OR_NO, overload=_OVERLOAD, step=_NUMBER, providers=_map(_ANYTHING)
    ),
    "Config": _object(server=_ANYTHING, timeouts=_ANYTHING, providers=_list(_ANYTHING), circuits=_map(_ANYTHING)),
    "Circuit": _object(
        name=_TEXT,
        state=_STATE,
        preset=_MAYBE_TEXT,
        config=_ANYTHING,
        snapshot=_ANYTHING,
        explanation=_object(text=_TEXT, why=_TEXT, next=_TEXT, changes_in=_MAYBE_NUMBER),
    ),
    "Changed": _object(name=_TEXT, changed=_list(_TEXT), preset=_MAYBE_TEXT, before=_ANYTHING, after=_ANYTHING),
    "Changes": _object(before=_ANYTHING, after=_ANYTHING, needs_restart=_list(_TEXT)),
    "Calls": _object(calls=_list(_CALL)),
}
