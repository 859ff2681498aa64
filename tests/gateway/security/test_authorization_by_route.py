"""Authorization by route: however a path is spelled, its endpoint decides on the credential."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steadyvoice import Tone
from steadyvoice.gateway.access_control import RouteClass
from steadyvoice.gateway.app import all_routes
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.reload import Reloader
from steadyvoice.gateway.router import RouteTable
from steadyvoice.service.service import AsyncTTSService

from ..running_gateway import GEORGE, RunningGateway, running_gateway

ALL_LOCKED = {"metrics": "admin", "admin_token": "the-token", "api_keys": ("the-key",)}
ADMIN = ["/admin/state", "/admin/events", "/admin/calls", "/admin/circuits", "/admin/circuits/tone", "/admin/config"]
SPEECH = [
    "/v1/voices",
    "/v2/voices",
    "/v1/models",
    "/v1/user",
    f"/v1/text-to-speech/{GEORGE}/stream",
    "/v1/audio/speech",
]
OPEN = ["/healthz", "/readyz", "/openapi.json", "/", "/page/app.js"]
LOCKED = [*ADMIN, "/metrics", *SPEECH]


async def answer_to(
    gateway: RunningGateway, target: bytes, *headers: bytes, method: bytes = b"GET"
) -> tuple[int, bytes]:
    """Send a request with this very target."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
    try:
        lines = [method + b" " + target + b" HTTP/1.1", b"host: localhost", b"connection: close", *headers, b"", b""]
        writer.write(b"\r\n".join(lines))
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split()[1])
        return status, b"" if status == 200 and b"event-stream" in head else await reader.read()
    finally:
        writer.close()


SPELLINGS: dict[str, Callable[[str], str]] = {
    "newline": lambda path: path + "%0A",
    "carriage return": lambda path: path + "%0d",
    "nul": lambda path: path + "%00",
    "blank": lambda path: path + "%20",
    "quoted letter": lambda path: f"{path[:1]}%{ord(path[1]):02x}{path[2:]}",
    "all quoted": lambda path: "/" + "".join(f"%{ord(letter):02X}" for letter in path[1:]),
    "quoted twice": lambda path: path[:1] + path[1:].replace(path[1], f"%25{ord(path[1]):02x}", 1),
    "quoted slash": lambda path: "/" + path[1:].replace("/", "%2f"),
    "two slashes": lambda path: "/" + path,
    "two slashes within": lambda path: "/" + path[1:].replace("/", "//"),
    "slash at the end": lambda path: path + "/",
    "upper case": lambda path: path.upper(),
    "dot segment": lambda path: "/." + path,
    "quoted dot segments": lambda path: "/healthz/%2e%2e" + path,
    "dot segments": lambda path: "/v1/.." + path,
    "parameter": lambda path: path + ";x=1",
    "query": lambda path: path + "?x=1",
    "fragment": lambda path: path + "#x",
    "quoted question mark": lambda path: path + "%3f",
    "backslash": lambda path: path.replace("/", "\\"),
    "whole url": lambda path: "http://localhost" + path,
    "whole url and newline": lambda path: "http://localhost" + path + "%0a",
    "full width": lambda path: path[:1] + "%EF%BD%8D" + path[2:],
    "overlong": lambda path: "/%C0%AE%C0%AE" + path,
}


@pytest.mark.slow
@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_no_spelling_of_a_protected_path_is_served_without_a_credential(spelling: str) -> None:
    async with running_gateway(Tone(), server=ALL_LOCKED) as gateway:
        for path in LOCKED:
            target = SPELLINGS[spelling](path).encode()
            for method in (b"GET", b"HEAD", b"POST", b"OPTIONS", b"PATCH"):
                status, _ = await answer_to(gateway, target, method=method)
                assert status in (400, 401, 403, 404), (method, target)
            status, _ = await answer_to(gateway, target, b"authorization: Bearer wrong", b"xi-api-key: wrong")
            assert status in (400, 401, 403, 404), target


async def test_each_credential_opens_its_own_route_class_only() -> None:
    async with running_gateway(Tone(), server=ALL_LOCKED) as gateway:
        for path in (*ADMIN, "/metrics", "/%6detrics", "/admin/stat%65"):
            assert (await answer_to(gateway, path.encode(), b"authorization: Bearer the-token"))[0] == 200
            assert (await answer_to(gateway, path.encode(), b"authorization: Bearer the-key"))[0] == 401
        for path in SPEECH:
            assert (await answer_to(gateway, path.encode(), b"xi-api-key: the-key"))[0] in (200, 405)
            assert (await answer_to(gateway, path.encode(), b"xi-api-key: the-token"))[0] == 401
        for path in ("/healthz", "/openapi.json", "/"):
            assert (await answer_to(gateway, path.encode()))[0] == 200


async def test_unknown_path_reveals_nothing() -> None:
    async with running_gateway(Tone(), server=ALL_LOCKED) as gateway:
        for target in (b"/metrics%0A", b"/metrics/", b"//admin/state", b"/ADMIN/state", b"/elsewhere"):
            status, body = await answer_to(gateway, target)
            assert (status, json.loads(body)["error"]["code"]) == (404, "not_found")


async def test_path_parameter_that_is_not_utf_8_is_refused_by_name() -> None:
    async with running_gateway(Tone()) as gateway:
        for path, name in (
            ("/v1/text-to-speech/%ED%A0%80", "voice_id"),
            ("/v1/text-to-speech/a%FF/stream", "voice_id"),
        ):
            status, body = await answer_to(gateway, path.encode(), method=b"POST")
            assert (status, name in body.decode()) == (400, True)
        status, body = await answer_to(gateway, b"/admin/circuits/%FF")
        assert (status, b"name" in body) == (400, True)


@pytest.fixture(scope="module")
def table() -> RouteTable:
    """The routes of a gateway."""

    async def routes() -> dict[RouteClass, Any]:
        async with AsyncTTSService([Tone()]) as service:
            return all_routes(context := GatewayContext(service), Reloader(context))

    return RouteTable(asyncio.run(routes()))


def spellings(path: str) -> st.SearchStrategy[str]:
    """Draw a raw path made of this one: letters quoted, in the other case, doubled, or something put between."""
    odd = st.sampled_from(["", "", "", "/", "//", "/./", "/../", "%0a", "%00", "%2f", "%2e%2e", ";", ".", "%20", "\\"])
    form = st.sampled_from(["{}", "{}", "{}", "upper", "%{:02x}", "%{:02X}", "{}{}"])
    step = st.tuples(form, st.one_of(st.just(""), st.just(""), odd))
    return st.lists(step, min_size=len(path), max_size=len(path)).map(
        lambda steps: "".join(_spelled(letter, form) + put for letter, (form, put) in zip(path, steps, strict=True))
    )


def _spelled(letter: str, form: str) -> str:
    if form == "upper":
        return letter.upper()
    return form.format(ord(letter)) if "%" in form else form.format(letter, letter)


@pytest.mark.slow
@given(raw=st.sampled_from([*LOCKED, *OPEN]).flatmap(spellings))
@settings(max_examples=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_spelling_has_the_route_class_of_its_decoded_path(table: RouteTable, raw: str) -> None:
    path = unquote(raw)
    route, parameters = table.find(path, raw.encode())
    if not route.endpoints:
        return  # answered with 404, whatever its route class
    named = next(iter(parameters.values()), None)
    expected = {
        "/admin": RouteClass.ADMIN,
        "/v1/": RouteClass.SPEECH,
        "/v2/": RouteClass.SPEECH,
        "/metrics": RouteClass.METRICS,
        "/page/": RouteClass.PAGE,
    }
    route_class = next((route_class for prefix, route_class in expected.items() if path.startswith(prefix)), None)
    assert route.route_class is (route_class or (RouteClass.PAGE if path == "/" else RouteClass.PUBLIC))
    assert named is None or named in path
    if not parameters:
        assert path in (*LOCKED, *OPEN, "/v1/audio/speech")
