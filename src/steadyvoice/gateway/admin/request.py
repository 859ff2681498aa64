"""Admin requests: validated query parameters and JSON bodies, and the admin user behind them."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from steadyvoice._option_rules import Number
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.http import (
    BodyTimeoutError,
    BodyTooLargeError,
    HTTPError,
    Receive,
    Response,
    Scope,
    error_response,
    query_dict,
    read_body,
)
from steadyvoice.gateway.request_context import Actor, RequestContext, request_context
from steadyvoice.wire.request_validation import RequestValidationError, validate_content


class AdminRequestError(Exception):
    """Error of an admin request. `field` names the part of the request that is wrong."""

    def __init__(self, status: int, code: str, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.field = status, code, message, field

    @property
    def response(self) -> Response:
        """Response with the error as JSON."""
        return error_response(HTTPError(self.status, self.code, self.message, param=self.field))


T = TypeVar("T", bound=BaseModel)

MAX_BODY_BYTES = 64 * 1024
MAX_STEP = 999_999_999  # steps of 15 seconds since 1970 reach this number in the year 2445


class AdminRequest:
    """Request to the admin API, parsed and validated before anything is done."""

    def __init__(self, context: GatewayContext, scope: Scope, receive: Receive) -> None:
        self.context, self.scope, self._receive = context, scope, receive

    @property
    def request_context(self) -> RequestContext:
        """Context of the underlying HTTP request."""
        return request_context(self.scope)

    @property
    def path(self) -> dict[str, str]:
        """Parameters of the path."""
        parameters: dict[str, str] = self.scope.get("path_params", {})
        return parameters

    @property
    def actor(self) -> Actor:
        """Admin user, as far as the request reveals it."""
        client = self.scope.get("client")
        via = "admin token" if self.context.server.admin_token else "loopback"
        return Actor(client[0] if client else None, via, self.request_context.request_id)

    def number(self, name: str, default: int, maximum: int) -> int:
        """Return a query parameter as a whole number from 1 to `maximum`. Raises AdminRequestError."""
        text = self._query().get(name)
        if text is None:
            return default
        rule = Number(integer=True, minimum=1, maximum=maximum)
        if not (text.isascii() and text.isdigit() and len(text) < 10 and rule.accepts(int(text))):
            message = f"{name}: {rule.expected}"
            raise AdminRequestError(422, "invalid_parameter", message, field=name)
        return int(text)

    def text(self, name: str) -> str | None:
        """Return a query parameter, or None. Raises AdminRequestError."""
        return self._query().get(name)

    def flag(self, name: str) -> bool:
        """Return a query parameter with the values `yes` and `no`; False without it. Raises AdminRequestError."""
        text = self._query().get(name, "no")
        if text not in ("yes", "no"):
            raise AdminRequestError(422, "invalid_parameter", f"{name}: must be yes or no", field=name)
        return text == "yes"

    async def document(self) -> dict[str, Any]:
        """Return the body as a JSON object, empty without a body.

        Raises AdminRequestError and ClientDisconnectedError.
        """
        body = await self._body()
        if not body:
            return {}
        kind = self.request_context.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            raise AdminRequestError(
                415, "unsupported_media_type", "the body must be JSON: send Content-Type: application/json"
            )
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            raise AdminRequestError(400, "invalid_json", "the body is not valid JSON") from None
        if issue := validate_content(body, document):
            field = ".".join(map(str, issue.loc[1:]))[:100] or None
            raise AdminRequestError(422, "invalid_body", f"{field or 'the body'}: {issue.msg}", field=field)
        if not isinstance(document, dict):
            raise AdminRequestError(422, "invalid_body", "the body must be a JSON object")
        return document

    async def form(self, model: type[T]) -> T:
        """Return the body as an instance of a model. Raises AdminRequestError and ClientDisconnectedError."""
        document = await self.document()
        try:
            return model.model_validate(document)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(map(str, first["loc"]))[:100]
        if first["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields) or "none"
            raise AdminRequestError(422, "unknown_field", f"{field}: unknown field; allowed: {known}", field=field)
        raise AdminRequestError(422, "invalid_field", f"{field}: {first['msg']}", field=field)

    async def _body(self) -> bytes:
        limits = self.context.server
        max_bytes = min(MAX_BODY_BYTES, limits.max_body_bytes)
        try:
            return await read_body(self._receive, max_bytes=max_bytes, timeout=limits.body_timeout)
        except BodyTooLargeError:
            raise AdminRequestError(413, "too_large", f"body too large: the limit is {max_bytes} bytes") from None
        except BodyTimeoutError:
            message = f"request timeout: no complete body within {limits.body_timeout:g} s"
            raise AdminRequestError(408, "request_timeout", message) from None

    def _query(self) -> dict[str, str]:
        try:
            return query_dict(self.scope["query_string"])
        except RequestValidationError as error:
            raise AdminRequestError(400, "invalid_query", str(error)) from None
