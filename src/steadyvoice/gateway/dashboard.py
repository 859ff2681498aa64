"""`GET /`: static files of the dashboard. They hold no data; the page fetches it from the admin API."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from steadyvoice.gateway.http import (
    GZIP_HEADERS,
    VARY_HEADERS,
    Receive,
    Response,
    Scope,
    Send,
    accepts_gzip,
    precompressed,
)
from steadyvoice.gateway.request_context import request_context
from steadyvoice.gateway.router import Endpoint

CONTENT_SECURITY_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self'",
    "media-src": "blob:",  # audio of the test synthesis, fetched with the token, which a URL must not contain
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
}
"""Content Security Policy of the page, https://www.w3.org/TR/CSP3/: own files only, nothing inline, no framing."""

_HEADERS = {
    "content-security-policy": "; ".join(f"{name} {value}" for name, value in CONTENT_SECURITY_POLICY.items()),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # stored, and revalidated with the ETag on each use
}
_CONTENT_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """Body and headers of a file in one encoding; each has its own ETag, so that caches keep them apart."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StaticFile:
    """Static file: uncompressed, and compressed once with gzip where that makes it smaller."""

    content_type: str
    identity: EncodedFile
    gzip: EncodedFile | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = request_context(scope).headers
        file = self.gzip if self.gzip and accepts_gzip(headers) else self.identity
        known = headers.get(b"if-none-match", b"").decode("latin-1").split(",")
        is_known = file.headers["etag"] in (each.strip().removeprefix("W/") for each in known)
        response = Response(304 if is_known else 200, b"" if is_known else file.body, self.content_type, file.headers)
        await response(scope, receive, send)


def dashboard_routes() -> dict[str, Endpoint]:
    """Return the routes of the page and its files, which are read once."""
    folder = files("steadyvoice.gateway") / "page"
    # Only files of known types, read at start: no path of a request is ever used to open a file.
    parts: dict[str, Endpoint] = {
        f"/page/{each.name}": _read(each) for each in folder.iterdir() if _content_type(each.name)
    }
    return {"/": parts.pop("/page/index.html"), **parts}


def _content_type(name: str) -> str | None:
    return _CONTENT_TYPES.get(name.rpartition(".")[2])


def _read(file: Traversable) -> StaticFile:
    body = file.read_bytes()
    digest, small = hashlib.sha256(body).hexdigest()[:16], precompressed(body)
    identity = EncodedFile(body, {**_HEADERS, **VARY_HEADERS, "etag": f'"{digest}"'})
    gzip = small and EncodedFile(small, {**_HEADERS, **GZIP_HEADERS, "etag": f'"{digest}-gzip"'})
    return StaticFile(_content_type(file.name) or "", identity, gzip or None)
