"""Who may come in: the checks that need nothing but the request's head. Pure: a request in, a refusal or nothing out.

A page that a browser shows can send requests here in its reader's name, without the reader's knowledge. Its origin
gives it away, and its host when a name of the attacker's own was made to point at this machine (DNS rebinding).
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


class Room(Enum):
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
class Rules:
    """Who is let in. `open_to_all` tells that it listens beyond this machine."""

    api_keys: tuple[bytes, ...] = field(default=(), repr=False)
    admin_token: bytes | None = field(default=None, repr=False)
    allowed_origins: frozenset[str] = frozenset()
    allowed_hosts: frozenset[str] = frozenset()
    open_to_all: bool = False
    metrics_for_admins: bool = False


@dataclass(frozen=True, slots=True)
class Head:
    """A request as far as the checks look at it; header names in lower case."""

    method: str
    scheme: str
    room: Room
    headers: Mapping[bytes, bytes]
    client: str | None  # its address


def ambiguous(headers: Collection[tuple[bytes, bytes]]) -> Denial | None:
    """Refuse a request that says twice what decides whether it may come in: two readers could read two things."""
    names = [name for name, _ in headers]
    if len(names) == len(set(names)) or not any(names.count(name) > 1 for name in _DECISIVE):
        return None
    return Denial(400, "ambiguous_headers", "a header that may come only once came twice")


_DECISIVE = (
    b"host", b"origin", b"authorization", b"xi-api-key", b"sec-fetch-site", b"content-length", b"content-type",
)  # fmt: skip


def denial(head: Head, rules: Rules) -> Denial | None:
    """Say why this request is not let in; None if it is."""
    return _of_host(head, rules) or _of_origin(head, rules) or _of_key(head, rules)


def allowed_origin(head: Head, rules: Rules) -> str | None:
    """Tell the origin of a foreign page that may call here, for the CORS headers of the answer."""
    origin = _text(head, b"origin")
    return origin if head.room is Room.SPEECH and origin and origin.lower() in rules.allowed_origins else None


def key_of(headers: Mapping[bytes, bytes]) -> bytes | None:
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


def _of_host(head: Head, rules: Rules) -> Denial | None:
    said = _text(head, b"host")
    if said is None:
        return Denial(400, "no_host", "the request has no Host header")
    name = host_name(said)
    if name is None:
        return Denial(400, "bad_host", "the Host header is no host")
    if name in rules.allowed_hosts or _is_here(name, rules.open_to_all):
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


def _is_here(name: str, open_to_all: bool) -> bool:
    """A name that no DNS of somebody else's can make ours: localhost, or an address."""
    if is_loopback(name):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return open_to_all


def _of_origin(head: Head, rules: Rules) -> Denial | None:
    origin = _text(head, b"origin")
    if origin is None:
        return _of_fetch(head)
    if _is_own(origin.lower(), head) or allowed_origin(head, rules):
        return None
    if origin.lower() == "null":  # of a sandbox, a file, a redirect: it could be anybody's
        told = "a page that does not say which site it is of (its Origin is null) may not call this"
        return Denial(403, "foreign_origin", told)
    where = "; name it in server.allowed_origins" if head.room is Room.SPEECH else ""
    return Denial(403, "foreign_origin", f"pages of {_shown(origin)} may not call this{where}")


def _is_own(origin: str, head: Head) -> bool:
    """A page of ours. Where a proxy takes TLS off, the schemes differ, and the browser's own word counts for it."""
    scheme, _, host = origin.partition("://")
    same = scheme == head.scheme or _text(head, b"sec-fetch-site") == "same-origin"
    return same and scheme in ("http", "https") and host == (_text(head, b"host") or "").lower()


def _of_fetch(head: Head) -> Denial | None:
    """What a browser fetches without naming the page's origin, such as an image, it says to be of another site."""
    if _text(head, b"sec-fetch-site") not in ("cross-site", "same-site"):
        return None
    visits = head.room is Room.PAGE and head.method == "GET" and _text(head, b"sec-fetch-mode") == "navigate"
    return None if visits else Denial(403, "foreign_origin", "a page of another site may not fetch this")


def _of_key(head: Head, rules: Rules) -> Denial | None:
    match head.room:
        case Room.SPEECH:
            return _of_api_key(head, rules)
        case Room.ADMIN:
            return _of_admin(head, rules)
        case Room.METRICS if rules.metrics_for_admins:
            return _of_admin(head, rules)
        case _:
            return None


def _of_api_key(head: Head, rules: Rules) -> Denial | None:
    if not rules.api_keys:
        return None
    key = key_of(head.headers)
    if key is None:
        return Denial(401, "needs_authorization", "no API key: send it as xi-api-key, or Authorization: Bearer")
    return None if _one_of(key, rules.api_keys) else Denial(401, "invalid_api_key", "this API key is not one of ours")


def _of_admin(head: Head, rules: Rules) -> Denial | None:
    if rules.admin_token is None:
        forwarded = any(map(_OF_PROXIES.search, head.headers))
        if is_loopback(head.client) and not forwarded:
            return None
        told = f"without server.admin_token, {_KEPT[head.room]} this machine only, and nobody whom a proxy sends"
        return Denial(403, "admin_is_local", told)
    scheme, _, token = head.headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer" or not token:
        return Denial(401, "needs_authorization", "no admin token: send it as Authorization: Bearer")
    right = _one_of(token.strip(), (rules.admin_token,))
    return None if right else Denial(401, "invalid_admin_token", "this is not the admin token")


_KEPT = {Room.ADMIN: "/admin answers", Room.METRICS: "/metrics are for"}
# A request of this machine's own programs has none of these. Matched by rule, for every proxy and delivery network has
# names of its own: X-Forwarded-*, X-Original-*, CF-Connecting-IP, True-Client-IP, X-Envoy-External-Address, ...
_OF_PROXIES = re.compile(
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


def _one_of(key: bytes, known: Sequence[bytes]) -> bool:
    """Compare with every one, each in constant time: neither which nor how much of it was right can be timed."""
    found = False
    for each in known:
        found |= compare_digest(key, each)
    return found


def _text(head: Head, name: bytes) -> str | None:
    value = head.headers.get(name)
    return None if value is None else value.decode("latin-1").strip()


def _shown(text: str) -> str:
    return text if len(text) <= 100 and text.isprintable() else "another site"


def normal_origins(origins: Collection[str]) -> frozenset[str]:
    """Origins as they are compared: in lower case, without a slash at the end."""
    return frozenset(origin.rstrip("/").lower() for origin in origins)
