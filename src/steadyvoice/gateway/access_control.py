"""Access control by a request's head: Host, origin, API key, admin token. Pure functions.

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


class RouteClass(Enum):
    """What a door leads to, and with it who may open it."""

    SPEECH = "speech"  # callers with a key, and the pages of allowed origins
    ADMIN = "admin"  # who has the admin token; without one, this machine
    PUBLIC = "public"  # health, for whoever watches
    METRICS = "metrics"  # the same, unless they are for admins only
    PAGE = "page"  # the dashboard itself, without any of its data


@dataclass(frozen=True, slots=True)
class Denial:
    """Why somebody is not let in."""

    status: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Who is let in. `open_to_all` tells that it listens beyond this machine."""

    api_keys: tuple[bytes, ...] = field(default=(), repr=False)
    admin_token: bytes | None = field(default=None, repr=False)
    allowed_origins: frozenset[str] = frozenset()
    allowed_hosts: frozenset[str] = frozenset()
    open_to_all: bool = False
    metrics_for_admins: bool = False


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request as far as the checks look at it; header names in lower case."""

    method: str
    scheme: str
    route_class: RouteClass
    headers: Mapping[bytes, bytes]
    client: str | None  # its address


def check_duplicate_headers(headers: Collection[tuple[bytes, bytes]]) -> Denial | None:
    """Refuse a request that says twice what decides whether it may come in: two readers could read two things."""
    names = [name for name, _ in headers]
    if len(names) == len(set(names)) or not any(names.count(name) > 1 for name in _SECURITY_HEADERS):
        return None
    return Denial(400, "ambiguous_headers", "a header that may come only once came twice")


_SECURITY_HEADERS = (
    b"host", b"origin", b"authorization", b"xi-api-key", b"sec-fetch-site", b"content-length", b"content-type",
)  # fmt: skip


def check_access(head: RequestHead, rules: AccessRules) -> Denial | None:
    """Say why this request is not let in; None if it is."""
    return _check_host(head, rules) or _check_origin(head, rules) or _check_credential(head, rules)


def allowed_origin(head: RequestHead, rules: AccessRules) -> str | None:
    """Tell the origin of a foreign page that may call here, for the CORS headers of the answer."""
    origin = _header(head, b"origin")
    return (
        origin if head.route_class is RouteClass.SPEECH and origin and origin.lower() in rules.allowed_origins else None
    )


def api_key_from(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Find the key a caller sent, in whichever dialect."""
    if key := headers.get(b"xi-api-key"):
        return key
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    return token.strip() or None if scheme.lower() == b"bearer" else None


@lru_cache(256)
def is_loopback(address: str | None) -> bool:
    """Whether that is this machine. A connection without an address came over a Unix socket: it is."""
    if address is None:
        return True
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address == "localhost"
    mapped = getattr(ip, "ipv4_mapped", None)
    return bool((mapped or ip).is_loopback)


def _check_host(head: RequestHead, rules: AccessRules) -> Denial | None:
    said = _header(head, b"host")
    if said is None:
        return Denial(400, "no_host", "the request has no Host header")
    name = host_name(said)
    if name is None:
        return Denial(400, "bad_host", "the Host header is no host")
    if name in rules.allowed_hosts or _is_own_address(name, rules.open_to_all):
        return None
    told = f"this gateway is not known as {name}; name it in server.allowed_hosts"
    return Denial(403, "foreign_host", told)


@lru_cache(256)
def host_name(said: str) -> str | None:
    """The name in a Host header, without its port, in lower case; None if it makes no sense."""
    try:
        parts = urlsplit(f"//{said}")
        _ = parts.port
    except ValueError:
        return None
    plain = parts.hostname and not (parts.path or parts.query or parts.fragment or "@" in said)
    return (parts.hostname or "").rstrip(".") or None if plain else None


def _is_own_address(name: str, open_to_all: bool) -> bool:
    """A name that no DNS of somebody else's can make ours: localhost, or an address."""
    if is_loopback(name):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return open_to_all


def _check_origin(head: RequestHead, rules: AccessRules) -> Denial | None:
    origin = _header(head, b"origin")
    if origin is None:
        return _check_fetch_metadata(head)
    if _is_same_origin(origin.lower(), head) or allowed_origin(head, rules):
        return None
    if origin.lower() == "null":  # of a sandbox, a file, a redirect: it could be anybody's
        told = "a page that does not say which site it is of (its Origin is null) may not call this"
        return Denial(403, "foreign_origin", told)
    where = "; name it in server.allowed_origins" if head.route_class is RouteClass.SPEECH else ""
    return Denial(403, "foreign_origin", f"pages of {_printable_origin(origin)} may not call this{where}")


def _is_same_origin(origin: str, head: RequestHead) -> bool:
    """A page of ours. Where a proxy takes TLS off, the schemes differ, and the browser's own word counts for it."""
    scheme, _, host = origin.partition("://")
    same = scheme == head.scheme or _header(head, b"sec-fetch-site") == "same-origin"
    return same and scheme in ("http", "https") and host == (_header(head, b"host") or "").lower()


def _check_fetch_metadata(head: RequestHead) -> Denial | None:
    """What a browser fetches without naming the page's origin, such as an image, it says to be of another site."""
    if _header(head, b"sec-fetch-site") not in ("cross-site", "same-site"):
        return None
    visits = (
        head.route_class is RouteClass.PAGE and head.method == "GET" and _header(head, b"sec-fetch-mode") == "navigate"
    )
    return None if visits else Denial(403, "foreign_origin", "a page of another site may not fetch this")


def _check_credential(head: RequestHead, rules: AccessRules) -> Denial | None:
    match head.route_class:
        case RouteClass.SPEECH:
            return _check_api_key(head, rules)
        case RouteClass.ADMIN:
            return _check_admin(head, rules)
        case RouteClass.METRICS if rules.metrics_for_admins:
            return _check_admin(head, rules)
        case _:
            return None


def _check_api_key(head: RequestHead, rules: AccessRules) -> Denial | None:
    if not rules.api_keys:
        return None
    key = api_key_from(head.headers)
    if key is None:
        return Denial(401, "needs_authorization", "no API key: send it as xi-api-key, or Authorization: Bearer")
    return (
        None if _matches_any(key, rules.api_keys) else Denial(401, "invalid_api_key", "this API key is not one of ours")
    )


def _check_admin(head: RequestHead, rules: AccessRules) -> Denial | None:
    if rules.admin_token is None:
        forwarded = any(map(_PROXY_HEADERS.search, head.headers))
        if is_loopback(head.client) and not forwarded:
            return None
        where = _LOCAL_ONLY[head.route_class]
        told = f"without server.admin_token, {where} this machine only; requests through a proxy need a token"
        return Denial(403, "admin_is_local", told)
    scheme, _, token = head.headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer" or not token:
        return Denial(401, "needs_authorization", "no admin token: send it as Authorization: Bearer")
    right = _matches_any(token.strip(), (rules.admin_token,))
    return None if right else Denial(401, "invalid_admin_token", "this is not the admin token")


_LOCAL_ONLY = {RouteClass.ADMIN: "/admin answers", RouteClass.METRICS: "/metrics are for"}
# A request of this machine's own programs has none of these. Matched by rule, for every proxy and delivery network has
# names of its own: X-Forwarded-*, X-Original-*, CF-Connecting-IP, True-Client-IP, X-Envoy-External-Address, ...
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
    """Compare with every one, each in constant time: neither which nor how much of it was right can be timed."""
    found = False
    for each in known:
        found |= compare_digest(key, each)
    return found


def _header(head: RequestHead, name: bytes) -> str | None:
    value = head.headers.get(name)
    return None if value is None else value.decode("latin-1").strip()


def _printable_origin(text: str) -> str:
    return text if len(text) <= 100 and text.isprintable() else "another site"


def normalize_origins(origins: Collection[str]) -> frozenset[str]:
    """Origins as they are compared: in lower case, without a slash at the end."""
    return frozenset(origin.rstrip("/").lower() for origin in origins)
