"""Validation of base URLs, and selection of the HTTP proxy, as the vendors' own clients do it.

The proxy is the configured one, or that of the environment: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in
upper or lower case; on Windows and macOS the system's settings where the environment has none
(`urllib.request.getproxies`). Loopback addresses are no exception, as in httpx and curl: NO_PROXY has to name them
where a proxy cannot reach them.
"""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import urlsplit
from urllib.request import getproxies

from steadyvoice._option_rules import FLAG
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.speech.option_validation import validate_option
from steadyvoice.wire.error_response import redact

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_SECURE = {"https": "https", "wss": "https", "http": "http", "ws": "http"}
_UNEXPANDED_PROXY = re.compile(r"[\"'`{}<>]|\$\w|%[A-Za-z_]\w*%")
_UNEXPANDED_USER = re.compile(r"[\"<>]|\$\{|\{\{|%(?![0-9A-Fa-f]{2})\w+%")  # a password may contain the others

# Only text that is certainly a host is repeated in an error message: anything else may be a key in the wrong place.
_SCHEMELESS_URL = re.compile(r"(localhost|[a-z0-9-]+(\.[a-z0-9-]+)+)(:\d+)?(/[a-z0-9./_-]*)?")
_INVALID_IN_URL = re.compile(r"[\s\x00-\x1f\x7f]")
_INVALID_IN_HOST = re.compile(r"[$!*,;()=+~&{}<>\"'`\\^|]")
_INVALID_IN_PATH = re.compile(r"[{}<>\"'`\\^|]")


def validate_base_url(base_url: str, *, provider: str, endpoints: str = "") -> str:
    """Return an http(s) URL without a slash at its end. Raises TTSConfigurationError.

    `endpoints` is a regular expression for paths of endpoints, which are often pasted with the URL: they are removed
    from its end.
    """
    if problem := _base_url_problem(base_url):
        raise TTSConfigurationError(f"{provider}.base_url: {problem}")
    parts = urlsplit(base_url)
    # The vendors' own clients append /v1 themselves. With a pasted /v1, every request went to /v1/v1.
    path = re.sub(r"/{2,}", "/", parts.path).rstrip("/")
    if endpoints:
        path = re.sub(rf"(?:{endpoints})\Z", "", path, flags=re.IGNORECASE).rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _base_url_problem(base_url: str) -> str | None:
    if not isinstance(base_url, str):
        return f"must be text, got {type(base_url).__name__}"
    if not is_http_url(base_url):
        if re.match(r"wss?://", base_url, re.IGNORECASE):
            return "must begin with https:// or http://: it is the URL for HTTP requests, not for websockets"
        if is_http_url(f"https://{base_url}") and "@" not in base_url:
            shown = f", as in https://{redact(base_url)}" if _SCHEMELESS_URL.fullmatch(base_url) else ""
            return f"must be like https://host or http://host:port: add https:// at the beginning{shown}"
        return "must be like https://host or http://host:port"
    parts = urlsplit(base_url)
    if parts.username is not None or "?" in base_url or "#" in base_url:
        return "must not contain a user, query or fragment; the key goes into api_key"
    if _INVALID_IN_PATH.search(parts.path):
        return "path contains quotes, braces or the like: an unexpanded variable?"
    return None


def is_http_url(url: str) -> bool:
    """Return whether this is an http(s) URL with a valid host."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        valid = bool(host.encode("idna")) and parts.port != 0
    except ValueError:  # UnicodeError is one
        return False
    return (
        valid
        and parts.scheme in ("http", "https")
        and not _INVALID_IN_URL.search(url)
        and not _INVALID_IN_HOST.search(host)
    )


def select_proxy(url: str, *, proxy: str | None, trust_env: bool, provider: str) -> str | None:
    """Return the URL of the proxy for requests to `url`, which may contain a password; None for a direct connection.

    `proxy` is the configured proxy. Raises TTSConfigurationError, which names the setting or the variable but does not
    show its value.
    """
    validate_option(f"{provider}.trust_env", trust_env, FLAG)
    if proxy is not None:
        if not isinstance(proxy, str):
            raise TTSConfigurationError(f"{provider}.proxy: must be text, got {type(proxy).__name__}")
        if not is_http_url(proxy):
            raise TTSConfigurationError(f"{provider}.proxy: must be like http://host:port")
        return proxy
    return _environment_proxy(url, provider) if trust_env else None


def _environment_proxy(url: str, provider: str) -> str | None:
    proxies = getproxies()
    parts = urlsplit(url)
    scheme = _SECURE[parts.scheme.lower()]
    chosen = scheme if proxies.get(scheme) else "all"
    proxy = (proxies.get(chosen) or "").strip()
    if not proxy or matches_no_proxy(url, proxies.get("no") or ""):
        return None
    address = proxy if "://" in proxy else f"http://{proxy}"
    if problem := _proxy_problem(address):
        variable = _variable_name(chosen)
        raise TTSConfigurationError(
            f"{provider}: the environment variable {variable} {problem}; correct it, set {provider}.proxy, or disable "
            f"the proxy (NO_PROXY, or {provider}.trust_env = false)"
        )
    return address


def _proxy_problem(address: str) -> str | None:
    scheme = address.partition("://")[0].lower()
    if scheme.startswith("socks"):
        return "is a SOCKS proxy: not supported, only HTTP proxies are"
    user, _, place = address.rpartition("@")
    if _UNEXPANDED_PROXY.search(place) or _UNEXPANDED_USER.search(user):
        return "contains quotes or an unexpanded variable"
    return None if is_http_url(address) else "must be like http://host:port"


def _variable_name(name: str) -> str:
    """Return the name of the variable as it is set. Lower case wins, as in curl."""
    lower = f"{name}_proxy"
    return next((each for each in (lower, lower.upper()) if os.environ.get(each)), lower.upper())


def matches_no_proxy(url: str, no_proxy: str) -> bool:
    """Return whether a list such as NO_PROXY excludes this URL from the proxy.

    Entries are `*`, hosts, domains with their subdomains (a leading dot or `*.` changes nothing), addresses, and
    networks such as 10.0.0.0/8; a port behind an entry, or a scheme before it, restricts it.
    """
    parts = urlsplit(url)
    host, port = (parts.hostname or "").rstrip(".").lower(), parts.port or _PORTS[parts.scheme.lower()]
    for entry in re.split(r"[,\s]+", no_proxy.strip().lower()):
        if entry == "*":
            return True
        scheme, _, named = entry.rpartition("://")
        if named and scheme in ("", "all", parts.scheme.lower()) and _entry_matches(named, host, port):
            return True
    return False


def _entry_matches(entry: str, host: str, port: int) -> bool:
    address = _parse_ip_address(host)
    if "/" in entry:
        return address is not None and _in_network(address, entry)
    named, only_port = _split_port(entry)
    if only_port is not None and only_port != port:
        return False
    if address is not None:
        return _parse_ip_address(named) == address
    domain = named.removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _split_port(entry: str) -> tuple[str, int | None]:
    """Return a host, and its port if there is one."""
    if found := re.fullmatch(r"\[(.+)\](?::(\d+))?", entry) or re.fullmatch(r"([^:]+):(\d+)", entry):
        return found[1], int(found[2]) if found[2] else None
    return entry, None


def _parse_ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _in_network(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
