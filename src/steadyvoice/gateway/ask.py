"""A request at one of the gateway's own doors: who asks, and what for, checked before anything is done."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from steadyvoice.gateway.author import Author
from steadyvoice.gateway.exchange import Exchange, exchange_of
from steadyvoice.gateway.house import House
from steadyvoice.gateway.refusal import RefusedError
from steadyvoice.gateway.reply import Receive, Scope, TooMuchError, TooSlowError, query_of, read_body
from steadyvoice.wire.request_validation import RequestValidationError, validate_content

T = TypeVar("T", bound=BaseModel)

MOST_BODY = 64 * 1024
FAR = 999_999_999  # no step of the dashboard has such a number before the year 2400


class Ask:
    """One such request."""

    def __init__(self, house: House, scope: Scope, receive: Receive) -> None:
        self.house, self.scope, self._receive = house, scope, receive

    @property
    def exchange(self) -> Exchange:
        return exchange_of(self.scope)

    @property
    def path(self) -> dict[str, str]:
        """What the path names."""
        named: dict[str, str] = self.scope.get("path_params", {})
        return named

    @property
    def author(self) -> Author:
        """Who asks, as far as one can tell."""
        client = self.scope.get("client")
        leave = "admin token" if self.house.server.admin_token else "on this machine"
        return Author(client[0] if client else None, leave, self.exchange.request_id)

    def number(self, name: str, usual: int, most: int) -> int:
        """A whole number of the query, from 1. Raises RefusedError."""
        said = self._query().get(name)
        if said is None:
            return usual
        if not (said.isascii() and said.isdigit() and len(said) < 10 and 1 <= int(said) <= most):
            told = f"{name}: must be a whole number from 1 to {most}"
            raise RefusedError(422, "invalid_parameter", told, field=name)
        return int(said)

    def word(self, name: str) -> str | None:
        """A word of the query."""
        return self._query().get(name)

    def flag(self, name: str) -> bool:
        """A yes or no of the query; without it, no. Raises RefusedError."""
        said = self._query().get(name, "no")
        if said not in ("yes", "no"):
            raise RefusedError(422, "invalid_parameter", f"{name}: must be yes or no", field=name)
        return said == "yes"

    async def document(self) -> dict[str, Any]:
        """The body, a JSON object; no body is an empty one. Raises RefusedError and ClientGoneError."""
        body = await self._body()
        if not body:
            return {}
        kind = self.exchange.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            raise RefusedError(415, "unsupported_media_type", "the body must be JSON: Content-Type: application/json")
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            raise RefusedError(400, "invalid_json", "the body is not JSON") from None
        if issue := validate_content(body, document):
            field = ".".join(map(str, issue.loc[1:]))[:100] or None
            raise RefusedError(422, "invalid_body", f"{field or 'the body'}: {issue.msg}", field=field)
        if not isinstance(document, dict):
            raise RefusedError(422, "invalid_body", "the body must be a JSON object")
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
            raise RefusedError(422, "unknown_field", f"{field}: is not known here: there is {known}", field=field)
        raise RefusedError(422, "invalid_field", f"{field}: {first['msg']}", field=field)

    async def _body(self) -> bytes:
        limits = self.house.server
        most = min(MOST_BODY, limits.max_body_bytes)
        try:
            return await read_body(self._receive, most=most, within=limits.body_timeout)
        except TooMuchError:
            raise RefusedError(413, "too_large", f"the body may have {most} bytes at most") from None
        except TooSlowError:
            told = f"the request did not come within {limits.body_timeout:g} s"
            raise RefusedError(408, "request_timeout", told) from None

    def _query(self) -> dict[str, str]:
        try:
            return query_of(self.scope["query_string"])
        except RequestValidationError as error:
            raise RefusedError(400, "invalid_query", str(error)) from None
