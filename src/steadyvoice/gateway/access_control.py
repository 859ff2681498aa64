"""Access control by a request's head: Host, origin, and authentication by API key or admin token. Pure functions.

A web page can send requests in its reader's name without the reader's knowledge. Its Origin header reveals it, and its
Host header when an attacker's own domain was pointed at this machine (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from hmac import compare_digest
from urllib.parse import urlsplit

from steadyvoice.gateway.http import HTTPError


class RouteClass(Enum):
    """Class of a route, which decides on the credential that it needs."""

    SPEECH = "speech"  # an API key; open to web pages of allowed origins
    SOCKET = "socket"  # the same, where a websocket's client may send its key later
    ADMIN = "admin"  # the admin token; without one configured, requests from this machine
    PUBLIC = "public"  # health checks, without a credential
    METRICS = "metrics"  # as public, unless `metrics = "admin"`
    PAGE = "page"  # static files of the dashboard, which hold no data


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Settings that access control depends on. `open_to_all`: the gateway listens beyond loopback."""

    api_keys: tuple[bytes, ...] = field(default=(), repr=False)
    admin_token: bytes | None = field(default=None, repr=False)
    allowed_origins: frozenset[str] = frozenset()
    allowed_hosts: frozenset[str] = frozenset()
    open_to_all: bool = False
    metrics_for_admins: bool = False


@dataclass(frozen=True, slots=True)
class RequestHead:
    """Parts of a request that access control looks at; header names in lower case."""

    method: str
    scheme: str
    route_class: RouteClass
    headers: Mapping[bytes, bytes]
    client: str | None  # its address; None for a Unix socket


def check_duplicate_headers(headers: Collection[tuple[bytes, bytes]]) -> HTTPError | None:
    """Refuse a request that repeats a header which decides about access.

    A proxy in front could have checked one of the two, and the gateway would use the other.
    """
    names = [name for name, _ in headers]
    if len(names) == len(set(names)) or not any(names.count(name) > 1 for name in _SECURITY_HEADERS):
        return None
    return HTTPError(400, "ambiguous_headers", "duplicate header: Host, Origin, credentials and lengths may occur once")


_SECURITY_HEADERS = (
    b"host", b"origin", b"authorization", b"xi-api-key", b"sec-fetch-site", b"content-length", b"content-type",
)  # fmt: skip


def check_access(head: RequestHead, rules: AccessRules) -> HTTPError | None:
    """Check host, origin and credential, in this order. Return the error to answer with, or None if all are valid."""
    return _check_host(head, rules) or _check_origin(head, rules) or _check_credential(head, rules)


_FOR_PAGES = (RouteClass.SPEECH, RouteClass.SOCKET)
"""Route classes that web pages of allowed origins may use."""


def allowed_origin(head: RequestHead, rules: AccessRules) -> str | None:
    """Return the origin of a foreign page that may call this route, for the CORS headers of the response."""
    origin = _header(head, b"origin")
    is_speech = head.route_class in _FOR_PAGES
    return origin if is_speech and origin and origin.lower() in rules.allowed_origins else None


def api_key_from(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Return the API key of a request, in ElevenLabs' header or as OpenAI's Bearer token."""
    if key := headers.get(b"xi-api-key"):
        return key
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    return token.strip() or None if scheme.lower() == b"bearer" else None


# Memoized: most requests come from a few addresses, each of which would be parsed again.
@lru_cache(256)
def is_loopback(address: str | None) -> bool:
    """Return whether an address is this machine. Connections without an address come over a Unix socket, which is."""
    if address is None:
        return True
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address == "localhost"
    mapped = getattr(ip, "ipv4_mapped", None)
    return bool((mapped or ip).is_loopback)


def _check_host(head: RequestHead, rules: AccessRules) -> HTTPError | None:
    host = _header(head, b"host")
    if host is None:
        return HTTPError(400, "no_host", "missing Host header")
    name = host_name(host)
    if name is None:
        return HTTPError(400, "bad_host", "invalid Host header")
    if name in rules.allowed_hosts or _is_own_address(name, rules.open_to_all):
        return None
    return HTTPError(403, "foreign_host", f"host {name} is not allowed; add it to server.allowed_hosts")


@lru_cache(256)
def host_name(host: str) -> str | None:
    """Return the name in a Host header, without its port, in lower case; None if it is invalid."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    is_host = parts.hostname and not (parts.path or parts.query or parts.fragment or "@" in host)
    return (parts.hostname or "").rstrip(".") or None if is_host else None


def _is_own_address(name: str, open_to_all: bool) -> bool:
    """Return whether a host is localhost or an address, which an attacker's DNS cannot point at this machine."""
    if is_loopback(name):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return open_to_all


def _check_origin(head: RequestHead, rules: AccessRules) -> HTTPError | None:
    origin = _header(head, b"origin")
    if origin is None:
        return _check_fetch_metadata(head)
    if _is_same_origin(origin.lower(), head) or allowed_origin(head, rules):
        return None
    if origin.lower() == "null":  # of a sandbox, a file or a redirect, which any site can make
        return HTTPError(403, "foreign_origin", "Origin null is not allowed: the page does not name its site")
    hint = "; add it to server.allowed_origins" if head.route_class in _FOR_PAGES else ""
    return HTTPError(403, "foreign_origin", f"origin {_printable_origin(origin)} is not allowed{hint}")


def _is_same_origin(origin: str, head: RequestHead) -> bool:
    """Return whether a page is the gateway's own.

    Behind a proxy that terminates TLS the schemes differ; there the browser's Sec-Fetch-Site header counts.
    """
    scheme, _, host = origin.partition("://")
    same = scheme == head.scheme or _header(head, b"sec-fetch-site") == "same-origin"
    return same and scheme in ("http", "https") and host == (_header(head, b"host") or "").lower()


def _check_fetch_metadata(head: RequestHead) -> HTTPError | None:
    """Refuse cross-site fetches without an Origin header, such as of an image, by their Sec-Fetch-Site header."""
    if _header(head, b"sec-fetch-site") not in ("cross-site", "same-site"):
        return None
    navigates = head.method == "GET" and _header(head, b"sec-fetch-mode") == "navigate"
    if head.route_class is RouteClass.PAGE and navigates:
        return None
    return HTTPError(403, "foreign_origin", "cross-site request is not allowed")


def _check_credential(head: RequestHead, rules: AccessRules) -> HTTPError | None:
    match head.route_class:
        case RouteClass.SPEECH:
            return _check_api_key(api_key_from(head.headers), rules)
        case RouteClass.SOCKET:
            key = api_key_from(head.headers)
            return None if key is None else _check_api_key(key, rules)
        case RouteClass.ADMIN:
            return _check_admin(head, rules)
        case RouteClass.METRICS if rules.metrics_for_admins:
            return _check_admin(head, rules)
        case _:
            return None


def accepts_api_key(key: str, rules: AccessRules) -> bool:
    """Return whether a key that was sent outside of the headers is valid; any is if none is needed."""
    return _check_api_key(key.removeprefix("Bearer ").strip().encode(), rules) is None


def _check_api_key(key: bytes | None, rules: AccessRules) -> HTTPError | None:
    # Without keys, the gateway listens on loopback only; the configuration is refused otherwise.
    if not rules.api_keys:
        return None
    if key is None:
        return HTTPError(401, "needs_authorization", "missing API key: send xi-api-key, or Authorization: Bearer")
    return None if _matches_any(key, rules.api_keys) else HTTPError(401, "invalid_api_key", "invalid API key")


def _check_admin(head: RequestHead, rules: AccessRules) -> HTTPError | None:
    if rules.admin_token is None:
        # A proxy on this machine connects from loopback, but its clients are elsewhere.
        forwarded = any(map(_PROXY_HEADERS.search, head.headers))
        if is_loopback(head.client) and not forwarded:
            return None
        message = (
            f"without server.admin_token, {_PATHS[head.route_class]} is available from this machine only, "
            "and not through a proxy"
        )
        return HTTPError(403, "admin_is_local", message)
    scheme, _, token = head.headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer" or not token:
        return HTTPError(401, "needs_authorization", "missing admin token: send Authorization: Bearer")
    valid = _matches_any(token.strip(), (rules.admin_token,))
    return None if valid else HTTPError(401, "invalid_admin_token", "invalid admin token")


_PATHS = {RouteClass.ADMIN: "/admin", RouteClass.METRICS: "/metrics"}

# Programs on this machine send none of these. Matched by pattern, because every proxy and delivery network has names of
# its own: X-Forwarded-*, X-Original-*, CF-Connecting-IP, True-Client-IP, X-Envoy-External-Address, ...
_PROXY_HEADERS = re.compile(
    rb"""
    forward | proxy | proxied | \bvia\b | \borigin(al|ating)\b
    | \b(client|real|remote|source|true|peer|user|connecting|caller|visitor)-?(ip|ipv6|addr|address|host|port|cert)\b
    | \bscheme\b | https$ | \bssl\b | \bcluster\b | \bhost-override\b | ^x-host$ | \brewrite-url\b
    | \bcoming-from\b | \bremote-user\b | \bauth-request\b | webauth | authenticated
    | \brequest-start\b | \bcloud-trace\b | \bsurrogate\b
    | ^(x-)?(accel|akamai|amz|amzn|appengine|appgw|arr|azure|cdn|cf|cloudfront|edge|envoy|fastly|fd|fly|gateway|goog
      |google|haproxy|imperva|incap|ingress|istio|k8s|kong|lb|nf|ngrok|nginx|render|sucuri|tailscale|traefik|varnish
      |vercel|zscaler)-
    """,
    re.VERBOSE,
)


def _matches_any(key: bytes, known: Sequence[bytes]) -> bool:
    """Compare with every known key, each in constant time, so that timing reveals nothing about any of them."""
    found = False
    for each in known:
        found |= compare_digest(key, each)
    return found


def _header(head: RequestHead, name: bytes) -> str | None:
    value = head.headers.get(name)
    return None if value is None else value.decode("latin-1").strip()


def _printable_origin(text: str) -> str:
    return text if len(text) <= 100 and text.isprintable() else "of another site"


def normalize_origins(origins: Collection[str]) -> frozenset[str]:
    """Return origins in the form in which they are compared: lower case, without a trailing slash."""
    return frozenset(origin.rstrip("/").lower() for origin in origins)
