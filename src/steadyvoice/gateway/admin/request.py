"""Admin requests: validated query parameters and JSON bodies, and the admin user behind them."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.http import (
    BodyTimeoutError,
    BodyTooLargeError,
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
    """Why not. `field` is what was wrong with the request."""

    def __init__(self, status: int, code: str, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.field = status, code, message, field

    @property
    def reply(self) -> Response:
        return error_response(self.status, self.code, self.message, field=self.field)


T = TypeVar("T", bound=BaseModel)

MAX_BODY_BYTES = 64 * 1024
MAX_STEP = 999_999_999  # no step of the dashboard has such a number before the year 2400


class AdminRequest:
    """One such request."""

    def __init__(self, context: GatewayContext, scope: Scope, receive: Receive) -> None:
        self.context, self.scope, self._receive = context, scope, receive

    @property
    def request_context(self) -> RequestContext:
        return request_context(self.scope)

    @property
    def path(self) -> dict[str, str]:
        """What the path names."""
        named: dict[str, str] = self.scope.get("path_params", {})
        return named

    @property
    def author(self) -> Actor:
        """Who asks, as far as one can tell."""
        client = self.scope.get("client")
        leave = "admin token" if self.context.server.admin_token else "on this machine"
        return Actor(client[0] if client else None, leave, self.request_context.request_id)

    def number(self, name: str, usual: int, most: int) -> int:
        """A whole number of the query, from 1. Raises RefusedError."""
        said = self._query().get(name)
        if said is None:
            return usual
        if not (said.isascii() and said.isdigit() and len(said) < 10 and 1 <= int(said) <= most):
            told = f"{name}: must be a whole number from 1 to {most}"
            raise AdminRequestError(422, "invalid_parameter", told, field=name)
        return int(said)

    def word(self, name: str) -> str | None:
        """A word of the query."""
        return self._query().get(name)

    def flag(self, name: str) -> bool:
        """A yes or no of the query; without it, no. Raises RefusedError."""
        said = self._query().get(name, "no")
        if said not in ("yes", "no"):
            raise AdminRequestError(422, "invalid_parameter", f"{name}: must be yes or no", field=name)
        return said == "yes"

    async def document(self) -> dict[str, Any]:
        """The body, a JSON object; no body is an empty one. Raises RefusedError and ClientGoneError."""
        body = await self._body()
        if not body:
            return {}
        kind = self.request_context.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            raise AdminRequestError(
                415, "unsupported_media_type", "the body must be JSON: Content-Type: application/json"
            )
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            raise AdminRequestError(400, "invalid_json", "the body is not JSON") from None
        if issue := validate_content(body, document):
            field = ".".join(map(str, issue.loc[1:]))[:100] or None
            raise AdminRequestError(422, "invalid_body", f"{field or 'the body'}: {issue.msg}", field=field)
        if not isinstance(document, dict):
            raise AdminRequestError(422, "invalid_body", "the body must be a JSON object")
        return document

    async def form(self, model: type[T]) -> T:
        """The body, as this model. Raises RefusedError and ClientGoneError."""
        document = await self.document()
        try:
            return model.model_validate(document)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(map(str, first["loc"]))[:100]
        if first["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields) or "nothing"
            raise AdminRequestError(422, "unknown_field", f"{field}: is not known here: there is {known}", field=field)
        raise AdminRequestError(422, "invalid_field", f"{field}: {first['msg']}", field=field)

    async def _body(self) -> bytes:
        limits = self.context.server
        most = min(MAX_BODY_BYTES, limits.max_body_bytes)
        try:
            return await read_body(self._receive, most=most, within=limits.body_timeout)
        except BodyTooLargeError:
            raise AdminRequestError(413, "too_large", f"the body may have {most} bytes at most") from None
        except BodyTimeoutError:
            told = f"the request did not come within {limits.body_timeout:g} s"
            raise AdminRequestError(408, "request_timeout", told) from None

    def _query(self) -> dict[str, str]:
        try:
            return query_dict(self.scope["query_string"])
        except RequestValidationError as error:
            raise AdminRequestError(400, "invalid_query", str(error)) from None
