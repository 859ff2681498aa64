"""Reachability of a server: name resolution, TCP connection and TLS handshake, with the step that fails."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from threading import Thread
from typing import TypeAlias
from urllib.parse import urlsplit

import aiohappyeyeballs
from aiohappyeyeballs import AddrInfoType

from steadyvoice.cli.check.report import Finding, Verdict
from steadyvoice.providers.http.connection_pool import tls_context
from steadyvoice.wire.error_response import single_line

CHECK = "reachability"

Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[AddrInfoType]]]

_PORTS = {"https": 443, "http": 80}


async def resolve(host: str, port: int) -> Sequence[AddrInfoType]:
    """Return the addresses of a host. Raises OSError.

    Unlike the event loop's own resolver, it can be given up: its thread keeps nothing from ending.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Sequence[AddrInfoType]] = loop.create_future()

    def deliver(addresses: Sequence[AddrInfoType], error: OSError | None) -> None:
        if found.done():
            return
        if error:
            found.set_exception(error)
        else:
            found.set_result(addresses)

    def look_up() -> None:
        addresses: Sequence[AddrInfoType] = ()
        failure = None
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            failure = error
        except UnicodeError as error:  # a label that is too long
            failure = OSError(str(error))
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(deliver, addresses, failure)

    Thread(target=look_up, name="steadyvoice-resolver", daemon=True).start()
    return await found


async def check_reachability(
    subject: str, url: str, *, seconds: float, through_proxy: bool = False, resolver: Resolver = resolve
) -> Finding:
    """Connect to the server of a URL and return which of DNS, TCP and TLS failed, each within so many seconds.

    Nothing is sent but the handshake. `through_proxy`: the server is a proxy, and its TLS is not the vendor's.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    shown = f"the proxy {host}:{port}" if through_proxy else f"{host}:{port}"
    secure = parts.scheme == "https"

    def failed(step: str, error: BaseException, advice: str) -> Finding:
        reason = f"no answer within {seconds:g} s" if isinstance(error, TimeoutError) else _reason(error)
        return Finding(subject, CHECK, Verdict.FAILED, f"{step} failed: {shown}: {reason}", advice)

    try:
        async with asyncio.timeout(seconds):
            addresses = await resolver(host, port)
    except OSError as error:  # TimeoutError is one
        return failed("DNS", error, "is the name in base_url right, and can this machine resolve names?")
    try:
        async with asyncio.timeout(seconds):
            connected = await aiohappyeyeballs.start_connection([*addresses], happy_eyeballs_delay=0.25)
    except OSError as error:
        return failed("TCP", error, "is a firewall in the way, or a proxy needed (HTTPS_PROXY)?")
    try:
        async with asyncio.timeout(seconds):
            await _shake_hands(connected, host if secure else None)
    except OSError as error:  # ssl.SSLError is one
        return failed("TLS", error, _tls_advice(error))
    steps = "DNS, TCP and TLS" if secure else "DNS and TCP"
    return Finding(subject, CHECK, Verdict.OK, f"{shown}: {steps} work")


async def _shake_hands(connected: socket.socket, host: str | None) -> None:
    """Do the TLS handshake for a host, none without one, and close the connection."""
    if host is None:
        connected.close()
        return
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_connection(
            asyncio.Protocol, sock=connected, ssl=tls_context(), server_hostname=host
        )
    except BaseException:
        connected.close()
        raise
    transport.abort()


def _tls_advice(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "the certificate is not trusted: does a firewall inspect TLS? SSL_CERT_FILE names further authorities"
    return "is this port of the server for https?"


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return single_line(error.verify_message)
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return single_line(text) or type(error).__name__
