"""Access control by a request's head."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.gateway.access_control import (
    AccessRules,
    RequestHead,
    RouteClass,
    allowed_origin,
    check_access,
    check_duplicate_headers,
    host_name,
    is_loopback,
)

PAGE = "https://page.example"
OPEN = AccessRules(api_keys=(b"key-one", b"key-two"), admin_token=b"token", open_to_all=True)
LOCAL = AccessRules()


def head(
    route_class: RouteClass = RouteClass.SPEECH,
    method: str = "POST",
    client: str | None = "127.0.0.1",
    scheme: str = "http",
    **headers: Any,
) -> RequestHead:
    """`host` is there unless it is given as empty; an underscore is a dash."""
    pairs = {name.replace("_", "-"): value for name, value in ({"host": "127.0.0.1:8040"} | headers).items() if value}
    return RequestHead(
        method, scheme, route_class, {name.encode(): value.encode("latin-1") for name, value in pairs.items()}, client
    )


def code(request: RequestHead, rules: AccessRules = LOCAL) -> str | None:
    refused = check_access(request, rules)
    return refused.code if refused else None


@pytest.mark.parametrize(
    ("host", "refusal"),
    [
        ("localhost", None),
        ("LOCALHOST:8040", None),
        ("localhost.", None),
        ("127.0.0.1:1", None),
        ("127.9.9.9", None),
        ("[::1]:8040", None),
        ("[::ffff:127.0.0.1]", None),
        ("10.0.0.1", "foreign_host"),
        ("evil.example:8040", "foreign_host"),
        ("localhost.evil.example", "foreign_host"),
        ("127.0.0.1.evil.example", "foreign_host"),
        ("", "no_host"),
        ("a b", "foreign_host"),
        ("user@localhost", "bad_host"),
        ("localhost/path", "bad_host"),
        ("localhost:port", "bad_host"),
        ("[::1", "bad_host"),
        (":8040", "bad_host"),
    ],
)
def test_only_allowed_hosts_are_accepted(host: str, refusal: str | None) -> None:
    assert code(head(host=host)) == refusal


def test_open_gateway_accepts_addresses_and_configured_names() -> None:
    rules = AccessRules(allowed_hosts=frozenset({"voice.example"}), open_to_all=True)
    for host, refusal in (("10.0.0.1", None), ("voice.example:80", None), ("evil.example", "foreign_host")):
        assert code(head(host=host), rules) == refusal


@pytest.mark.parametrize("route_class", RouteClass)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "null"},
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:8041"},  # another port
        {"origin": "https://127.0.0.1:8040"},  # another scheme
        {"origin": "http://127.0.0.1"},
        {"origin": "http://127.0.0.1:8040.evil.example"},
        {"origin": "file://"},
        {"origin": "chrome-extension://abc"},
        {"origin": "\xff"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
        {"sec_fetch_site": "same-site", "sec_fetch_mode": "cors"},
        {"origin": "https://127.0.0.1:8040", "sec_fetch_site": "cross-site"},
    ],
)
def test_page_of_another_site_is_refused(route_class: RouteClass, headers: dict[str, str]) -> None:
    for method in ("GET", "POST", "OPTIONS", "PATCH"):
        assert code(head(route_class, method, **headers)) == "foreign_origin"


def test_own_page_is_accepted_and_links_lead_to_the_page_only() -> None:
    assert code(head(RouteClass.ADMIN, origin="http://127.0.0.1:8040")) is None
    assert code(head(RouteClass.ADMIN, origin="http://LOCALHOST:8040", host="localhost:8040")) is None
    assert code(head(RouteClass.ADMIN, sec_fetch_site="same-origin")) is None
    assert code(head(RouteClass.ADMIN, sec_fetch_site="none")) is None
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    assert code(head(RouteClass.PAGE, "GET", **link)) is None
    assert code(head(RouteClass.PAGE, "POST", **link)) == "foreign_origin"
    for route_class in (RouteClass.ADMIN, RouteClass.SPEECH, RouteClass.PUBLIC):
        assert code(head(route_class, "GET", **link)) == "foreign_origin"


def test_sec_fetch_site_counts_behind_a_tls_proxy() -> None:
    rules = AccessRules(admin_token=b"token", allowed_hosts=frozenset({"voice.example"}))
    ours = {"host": "voice.example", "origin": "https://voice.example", "authorization": "Bearer token"}
    assert code(head(RouteClass.ADMIN, **ours, sec_fetch_site="same-origin"), rules) is None
    assert code(head(RouteClass.ADMIN, **ours), rules) == "foreign_origin"
    other = ours | {"origin": "https://other.example"}
    assert code(head(RouteClass.ADMIN, **other, sec_fetch_site="same-origin"), rules) == "foreign_origin"


def test_allowed_page_may_call_speech_only() -> None:
    rules = AccessRules(allowed_origins=frozenset({PAGE}))
    for request in (head(origin=PAGE), head(origin=PAGE.upper())):
        assert code(request, rules) is None
        assert allowed_origin(request, rules)
    for route_class in (RouteClass.ADMIN, RouteClass.PUBLIC, RouteClass.PAGE):
        assert code(head(route_class, origin=PAGE), rules) == "foreign_origin"
        assert allowed_origin(head(route_class, origin=PAGE), rules) is None
    assert code(head(origin=f"{PAGE}.evil.example"), rules) == "foreign_origin"
    keyed = AccessRules(allowed_origins=frozenset({PAGE}), api_keys=(b"key",))
    assert code(head(origin=PAGE), keyed) == "needs_authorization", "a page needs a key as everybody does"


@pytest.mark.parametrize(
    ("headers", "refusal"),
    [
        ({}, "needs_authorization"),
        ({"xi_api_key": "key-one"}, None),
        ({"authorization": "Bearer key-two"}, None),
        ({"authorization": "bearer  key-two "}, None),
        ({"xi_api_key": "key-three"}, "invalid_api_key"),
        ({"xi_api_key": "key-on"}, "invalid_api_key"),
        ({"xi_api_key": "key-one2"}, "invalid_api_key"),
        ({"xi_api_key": "KEY-ONE"}, "invalid_api_key"),
        ({"xi_api_key": "token"}, "invalid_api_key"),
        ({"authorization": "Basic key-one"}, "needs_authorization"),
        ({"authorization": "Bearer"}, "needs_authorization"),
        ({"authorization": "key-one"}, "needs_authorization"),
        ({"xi_api_key": "\xff"}, "invalid_api_key"),
    ],
)
def test_speech_needs_an_api_key(headers: dict[str, Any], refusal: str | None) -> None:
    assert code(head(**headers), OPEN) == refusal


@pytest.mark.parametrize(
    ("headers", "refusal"),
    [
        ({}, "needs_authorization"),
        ({"authorization": "Bearer token"}, None),
        ({"authorization": "Bearer key-one"}, "invalid_admin_token"),
        ({"xi_api_key": "token"}, "needs_authorization"),
        ({"authorization": "Bearer toke"}, "invalid_admin_token"),
    ],
)
def test_admin_needs_the_token_from_anywhere(headers: dict[str, str], refusal: str | None) -> None:
    for client in ("127.0.0.1", "10.0.0.9"):
        assert code(head(RouteClass.ADMIN, client=client, **headers), OPEN) == refusal


@pytest.mark.parametrize(
    ("client", "refusal"),
    [("127.0.0.1", None), ("::1", None), ("::ffff:127.0.0.1", None), (None, None), ("10.0.0.9", "admin_is_local")],
)
def test_admin_without_token_is_local(client: str | None, refusal: str | None) -> None:
    rules = AccessRules(api_keys=(b"k",), open_to_all=True)
    assert code(head(RouteClass.ADMIN, client=client), rules) == refusal


@pytest.mark.parametrize("name", ["forwarded", "via", "x_forwarded_for", "x_real_ip", "x_forwarded_host"])
def test_proxied_requests_are_not_local(name: str) -> None:
    for client in ("127.0.0.1", "10.0.0.9"):
        forwarded: dict[str, Any] = {"route_class": RouteClass.ADMIN, "client": client, name: "127.0.0.1"}
        assert code(head(**forwarded)) == "admin_is_local"


PROXY_HEADERS = """
    Forwarded Via X-Forwarded-Server X-Forwarded-Port X-Forwarded-Prefix X-Forwarded-User X-Forwarded-Whatever
    CF-Connecting-IP CF-Ray CDN-Loop True-Client-IP X-Client-IP X-Cluster-Client-IP Fastly-Client-IP
    Fly-Client-IP X-Original-Forwarded-For X-Original-URL X-Original-Host X-Rewrite-URL
    X-Envoy-External-Address X-Remote-IP X-Remote-Addr X-Real-Ip X-ProxyUser-Ip Proxy-Client-IP
    WL-Proxy-Client-IP Proxy-Connection X-Azure-ClientIP X-Appengine-User-IP X-Amzn-Trace-Id X-Amz-Cf-Id
    CloudFront-Viewer-Address X-ARR-SSL X-Vercel-Forwarded-For X-NF-Client-Connection-IP Tailscale-User-Login
    Ngrok-Trace-Id X-Host X-HTTP-Host-Override X-Scheme X-Url-Scheme Front-End-Https X-Request-Start
    X-Auth-Request-User Remote-User X-Bluecoat-Via X-Originating-IP Client-IP X-SSL-Client-Verify
    Surrogate-Capability
""".split()  # noqa: SIM905 - a list of this length is unreadable in a column


@pytest.mark.parametrize("name", PROXY_HEADERS)
def test_any_proxy_header_means_not_local(name: str) -> None:
    assert code(head(RouteClass.ADMIN, **{name.lower(): "127.0.0.1"})) == "admin_is_local"
    assert (
        code(head(RouteClass.METRICS, **{name.lower(): "x"}), AccessRules(metrics_for_admins=True)) == "admin_is_local"
    )
    assert code(head(RouteClass.METRICS, **{name.lower(): "x"})) is None


LOCAL_HEADERS = """
    user-agent accept accept-encoding accept-language connection content-type content-length cookie dnt
    referer cache-control pragma if-none-match last-event-id sec-ch-ua sec-gpc te priority
    upgrade-insecure-requests range authorization xi-api-key x-request-id x-steadyvoice-deadline traceparent
    tracestate baggage expect from x-requested-with x-client-data openai-organization x-stainless-lang
    x-fern-sdk-name idempotency-key
""".split()  # noqa: SIM905 - a list of this length is unreadable in a column


def test_headers_of_local_programs_are_not_proxy_headers() -> None:
    for name in LOCAL_HEADERS:
        assert code(head(RouteClass.ADMIN, **{name: "x"})) is None, name


def test_health_is_open_to_allowed_hosts() -> None:
    assert code(head(RouteClass.PUBLIC, client="10.0.0.9"), OPEN) is None
    assert code(head(RouteClass.PUBLIC, host="evil.example"), OPEN) == "foreign_host"


@pytest.mark.parametrize("name", [b"host", b"origin", b"authorization", b"xi-api-key", b"sec-fetch-site"])
def test_duplicate_security_header_is_refused(name: bytes) -> None:
    once = [(b"host", b"localhost"), (b"accept", b"a"), (b"accept", b"b")]
    assert check_duplicate_headers(once) is None
    assert check_duplicate_headers([*once, (name, b"1"), (name, b"2")])


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_host_or_origin_breaks_access_control(host: str, origin: str) -> None:
    headers = {b"host": host.encode(), b"origin": origin.encode()}
    refused = check_access(RequestHead("POST", "http", RouteClass.SPEECH, headers, "127.0.0.1"), LOCAL)
    known = host_name(headers[b"host"].decode("latin-1").strip())
    assert refused or (known and is_loopback(known))


@given(st.binary(max_size=20))
def test_only_the_exact_key_is_accepted(key: bytes) -> None:
    refused = check_access(
        RequestHead("POST", "http", RouteClass.SPEECH, {b"host": b"localhost", b"xi-api-key": key}, None), OPEN
    )
    assert (refused is None) == (key in OPEN.api_keys)
