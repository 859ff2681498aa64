"""Listening sockets: `localhost` is both address families on one port."""

from __future__ import annotations

import socket
from contextlib import closing

import aiohttp
import pytest

from steadyvoice import Tone
from steadyvoice.gateway.http_server.listener import bind_sockets
from steadyvoice.service.config_file import ServerConfig

from ..running_gateway import running_gateway

NOT_HERE = (socket.AF_INET6, "2001:db8::1")  # for documentation, RFC 3849: no machine has it


def test_localhost_binds_both_families_on_one_port() -> None:
    sockets = bind_sockets("localhost", 0)
    for each in sockets:
        each.close()
    assert [each.family for each in sockets] == [socket.AF_INET, socket.AF_INET6]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost."])
async def test_clients_of_either_family_are_served(host: str) -> None:
    async with running_gateway(Tone(), server={"host": host}) as gateway, aiohttp.ClientSession() as client:
        port = gateway.url.rpartition(":")[2]
        for name in ("127.0.0.1", "[::1]", "localhost"):
            async with client.get(f"http://{name}:{port}/admin/state") as answer:
                assert answer.status == 200, "both are this machine, which needs no admin token"


def test_machine_without_ipv6_listens_on_ipv4() -> None:
    (only,) = bind_sockets("localhost", 0, localhost=[(socket.AF_INET, "127.0.0.1"), NOT_HERE])
    with closing(only):
        assert only.getsockname()[0] == "127.0.0.1"


def test_machine_without_ipv4_listens_on_ipv6() -> None:
    (only,) = bind_sockets("localhost", 0, localhost=[(socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "::1")])
    with closing(only):
        assert only.getsockname()[0] == "::1"


def test_machine_without_both_families_is_an_error() -> None:
    with pytest.raises(OSError, match=r"[Cc]annot assign"):
        bind_sockets("localhost", 0, localhost=[NOT_HERE])


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_port_in_use_in_one_family_is_an_error_and_closes_the_other(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as taken:
        taken.bind((address, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            bind_sockets("localhost", port)
    for each in bind_sockets("localhost", port):
        each.close()


@pytest.mark.parametrize(
    ("host", "local"), [("localhost", True), ("LocalHost.", True), ("::1", True), ("0.0.0.0", False)]
)
def test_only_loopback_is_local(host: str, local: bool) -> None:
    assert ServerConfig.model_construct(host=host).is_local is local


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_address_binds_that_address_only(host: str) -> None:
    async with running_gateway(Tone(), server={"host": host}) as gateway, aiohttp.ClientSession() as client:
        async with client.get(f"{gateway.url}/healthz") as answer:
            assert answer.status == 200
        other = "[::1]" if host == "127.0.0.1" else "127.0.0.1"
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.get(f"http://{other}:{gateway.url.rpartition(':')[2]}/healthz")
