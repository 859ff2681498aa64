"""`GET /`: the dashboard, a page without any data of its own. What it shows it asks for at /admin, like anybody."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from steadyvoice.gateway.exchange import exchange_of
from steadyvoice.gateway.paths import Door
from steadyvoice.gateway.reply import Receive, Reply, Scope, Send
from steadyvoice.gateway.squeezed import VARY, ZIPPED, packed, takes_gzip

POLICY = {
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
    "content-security-policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # kept, and asked for anew: 304, until another version is installed
}
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Form:
    """One way in which a file is sent, with a tag of its own: what a cache has of one is not the other."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Page:
    """One file of the page: as it is, and packed once for all who take gzip, where that makes it smaller."""

    content_type: str
    whole: Form
    zipped: Form | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = exchange_of(scope).headers
        form = self.zipped if self.zipped and takes_gzip(asked) else self.whole
        known = asked.get(b"if-none-match", b"").decode("latin-1").split(",")
        is_known = form.headers["etag"] in (each.strip().removeprefix("W/") for each in known)
        reply = Reply(304 if is_known else 200, b"" if is_known else form.body, self.content_type, form.headers)
        await reply(scope, receive, send)


def page_doors() -> dict[str, Door]:
    """The page and its parts, by path. They are read once; nothing else can be asked for."""
    folder = files("steadyvoice.gateway") / "page"
    parts: dict[str, Door] = {f"/page/{each.name}": _read(each) for each in folder.iterdir() if _type(each.name)}
    return {"/": parts.pop("/page/index.html"), **parts}


def _type(name: str) -> str | None:
    return _TYPES.get(name.rpartition(".")[2])


def _read(file: Traversable) -> Page:
    body = file.read_bytes()
    mark, small = hashlib.sha256(body).hexdigest()[:16], packed(body)
    whole = Form(body, {**_HEADERS, **VARY, "etag": f'"{mark}"'})
    zipped = small and Form(small, {**_HEADERS, **ZIPPED, "etag": f'"{mark}-gzip"'})
    return Page(_type(file.name) or "", whole, zipped or None)
