"""Table of a vendor's errors: its codes, and the fields of its error bodies, from which failure kinds are decided.

The vendors differ in names only. So a vendor is described by its table, and is read by the same rules as any other: a
firewall's page first, then the code, then the wording about a text that is too long, then the HTTP status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSError
from steadyvoice.wire.error_response import (
    ErrorDetails,
    ErrorResponse,
    body_excerpt,
    build_error,
    build_error_in_stream,
    error_class_by_status,
    get_header,
    intermediary_error_class,
    is_text_too_long,
    parse_error_details,
    single_line,
)

_MAX_CODE = 100  # characters
_MAX_SCANNED = 1000  # characters of a message
_MAX_QUOTED = 100  # characters of a document of unknown form


@dataclass(frozen=True, slots=True)
class ErrorTable:
    """Errors of one vendor.

    - `codes`: the class of error that each of the vendor's codes means. An unknown code is judged by its status.
    - `wordings`: the class of error of a message that matches, for vendors whose codes mean several things.
    - `statuses`: the class of error of an HTTP status without a known code, where the vendor differs from the others.
    - `code_fields`, `message_fields`: names in its error bodies, at the top or within `error`, or paths through other
      objects, such as "fault.id"; the first one wins.
    - `code_header`: header in lower case that carries the code, up to a colon; it wins over the body.
    - `request_id_headers`: headers in lower case, of which the first one is the vendor's id of the request.

    Raises TTSConfigurationError for a code, wording or status that does not mean a class of TTSError.

    - `status`: HTTP status.
    - `headers`: headers of the response.
    - `body`: body of the error.
    - `provider`: name of the provider.
    - `details`: code and message of the error.
    """

    codes: Mapping[str, type[TTSError]]
    wordings: Sequence[tuple[re.Pattern[str], type[TTSError]]] = ()
    statuses: Mapping[int, type[TTSError]] = field(default_factory=dict)
    code_fields: Sequence[str] = ()
    message_fields: Sequence[str] = ()
    code_header: str | None = None
    request_id_headers: Sequence[str] = ()

    def __post_init__(self) -> None:
        meanings = [*self.codes.items(), *self.wordings, *self.statuses.items()]
        for meant, kind in meanings:
            if not (isinstance(kind, type) and issubclass(kind, TTSError)):
                raise speech.TTSConfigurationError(
                    f"ErrorTable: {meant!r} means {kind!r}, which is no class of TTSError, such as TTSBusyError"
                )
        for name in ("code_fields", "message_fields", "request_id_headers"):
            if isinstance(given := getattr(self, name), str):
                raise speech.TTSConfigurationError(f"ErrorTable.{name}: must be several names, such as ({given!r},)")

    def parse(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        *,
        now: datetime,
        api_key: str | None = None,
        provider: str | None = None,
    ) -> TTSError:
        """Return the error that a response other than audio means.

        `now` is wall time with a zone, for a Retry-After that is a date. Never raises. `api_key` is redacted.
        """
        details = self._details(headers, body)
        response = ErrorResponse(status, headers, body, now=now, secret=api_key)
        kind = intermediary_error_class(response, details) or self.error_class(status, details)
        if status >= 400 and not details.code and not details.message and _content(body):
            details = replace(details, message=_unknown_document(kind, body, api_key))
        return build_error(kind, details, response, provider)

    def parse_in_stream(
        self, status: object, body: bytes, *, api_key: str | None = None, provider: str | None = None
    ) -> TTSError:
        """Return the error that an error object in the middle of an audio stream means.

        `status` is the one in the object, which may be anything. Never raises. `api_key` is redacted.
        """
        details = self._details({}, body)
        kind = self.error_class(status if isinstance(status, int) else 500, details)
        return build_error_in_stream(kind, body, api_key, provider, details)

    def error_class(self, status: int, details: ErrorDetails) -> type[TTSError]:
        """Return the class of error: by a known code, the wording of the message, or the status."""
        if known := self.codes.get(details.code or ""):
            return known
        for wording, kind in self.wordings:
            if wording.search(details.message[:_MAX_SCANNED]):
                return kind
        if is_text_too_long(status, replace(details, param=None)):
            return speech.TTSTextTooLongError
        return self.statuses.get(status) or error_class_by_status(status)

    def _details(self, headers: Mapping[str, str], body: bytes) -> ErrorDetails:
        details = parse_error_details(body)
        content = _content(body)
        code, message = (_first(content, names) for names in (self.code_fields, self.message_fields))
        if message or (code and not details.recognized):
            request_id = _first(content, ("request_id",))
            details = ErrorDetails(code, message or details.message, None, request_id, recognized=True)
        if self.code_header and (code := get_header(headers, self.code_header)):
            # Amazon's is such as "ThrottlingException:http://internal.amazon.com/coral/...".
            details = replace(details, code=code.partition(":")[0][:_MAX_CODE], recognized=True)
        for name in self.request_id_headers:
            if request_id := get_header(headers, name):
                return replace(details, request_id=request_id)
        return details


def _unknown_document(kind: type[TTSError], body: bytes, secret: str | None) -> str:
    document = single_line(body_excerpt(body, secret), _MAX_QUOTED)
    advice = "base_url, or " if kind is speech.TTSNotAudioError else ""
    return f"unknown error document {document}; check {advice}code_fields of the provider"


def _content(body: bytes) -> Sequence[Mapping[str, Any]]:
    """Return the objects of an error body: the one named `error`, if there is one, and the document itself."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(document, dict):
        return ()
    inner = document.get("error")
    return (inner, document) if isinstance(inner, dict) else (document,)


def _first(content: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str | None:
    """Return the first text at one of these names or paths. Without a dot, names are of the first object only."""
    for name in names:
        for each in content if "." in name else content[:1]:
            value: Any = each
            for part in name.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
            if isinstance(value, str) and value:
                return value
    return None
