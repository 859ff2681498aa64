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
    "media-src": "blob:",  # what "say something" has fetched, with the token that an address must not hold
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
}
"""What the page may do: https://www.w3.org/TR/CSP3/. Nothing from elsewhere, nothing inline, and nobody frames it."""

_HEADERS = {
    "content-security-policy": "; ".join(f"{name} {value}" for name, value in CONTENT_SECURITY_POLICY.items()),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # kept, and asked for anew: 304, until another version is installed
}
_CONTENT_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """One way in which a file is sent, with a tag of its own: what a cache has of one is not the other."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file of the page: as it is, and packed once for all who take gzip, where that makes it smaller."""

    content_type: str
    whole: EncodedFile
    zipped: EncodedFile | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = request_context(scope).headers
        form = self.zipped if self.zipped and accepts_gzip(asked) else self.whole
        known = asked.get(b"if-none-match", b"").decode("latin-1").split(",")
        is_known = form.headers["etag"] in (each.strip().removeprefix("W/") for each in known)
        reply = Response(304 if is_known else 200, b"" if is_known else form.body, self.content_type, form.headers)
        await reply(scope, receive, send)


def dashboard_routes() -> dict[str, Endpoint]:
    """The page and its parts, by path. They are read once; nothing else can be asked for."""
    folder = files("steadyvoice.gateway") / "page"
    parts: dict[str, Endpoint] = {
        f"/page/{each.name}": _read(each) for each in folder.iterdir() if _content_type(each.name)
    }
    return {"/": parts.pop("/page/index.html"), **parts}


def _content_type(name: str) -> str | None:
    return _CONTENT_TYPES.get(name.rpartition(".")[2])


def _read(file: Traversable) -> StaticFile:
    body = file.read_bytes()
    mark, small = hashlib.sha256(body).hexdigest()[:16], precompressed(body)
    whole = EncodedFile(body, {**_HEADERS, **VARY_HEADERS, "etag": f'"{mark}"'})
    zipped = small and EncodedFile(small, {**_HEADERS, **GZIP_HEADERS, "etag": f'"{mark}-gzip"'})
    return StaticFile(_content_type(file.name) or "", whole, zipped or None)
