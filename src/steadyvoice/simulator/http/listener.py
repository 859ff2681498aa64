"""Listening sockets with connection faults, and the TLS certificates for them.

asyncio's own server accepts every connection that the kernel has let in. This listener can also refuse connections.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from steadyvoice._extras import MissingExtraError, require
from steadyvoice.simulator.fault_injection.actions import FaultTarget, RefuseConnection, SlowAccept, TlsFailure
from steadyvoice.simulator.fault_injection.matching import Fault, FaultCall, FaultRules
from steadyvoice.simulator.http.response import reset_socket, sleep_or_hang
from steadyvoice.simulator.ledger import Ending, RequestLedger

_EXPIRED_FROM, _EXPIRED_UNTIL = datetime(2001, 1, 1, tzinfo=UTC), datetime(2002, 1, 1, tzinfo=UTC)

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


class Certificates:
    """Certificate authority for loopback names, which lives as long as the simulator.

    Clients trust it by its certificate in `ca_file` (PEM). Keys are never written to a file.
    Raises ValueError when the package that makes certificates is not installed.
    """

    def __init__(self, host: str) -> None:
        try:
            require("tls", "trustme")
        except MissingExtraError as error:
            raise ValueError(f"TLS needs a package that makes certificates: {error}") from None
        # Imported here, because plain HTTP does not need it.
        import trustme

        self._authority = trustme.CA(organization_name="steadyvoice simulator")
        self._names = (*LOOPBACK_NAMES, *({host} - {*LOOPBACK_NAMES}))
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._folder = TemporaryDirectory(prefix="steadyvoice-sim-")
        self.ca_file = Path(self._folder.name) / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca_file))

    def context(self, flaw: str | None = None) -> ssl.SSLContext:
        """Return the TLS context of a server: valid for loopback names or, with a flaw, rejected by clients for it."""
        if flaw not in self._contexts:
            self._contexts[flaw] = self._create_context(flaw)
        return self._contexts[flaw]

    def _create_context(self, flaw: str | None) -> ssl.SSLContext:
        authority, names = self._authority, self._names
        if flaw == "authority":
            authority = type(authority)(organization_name="unknown authority")
        if flaw == "name":
            names = ("other-host.example",)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # A session ticket would reach the client just as it sends its request. Clients that read and write in two
        # threads, as ElevenLabs' realtime client does, then sometimes hang: TLS sockets support that since Python 3.13.
        context.num_tickets = 0
        if flaw == "expired":
            authority.issue_cert(*names, not_before=_EXPIRED_FROM, not_after=_EXPIRED_UNTIL).configure_cert(context)
        else:
            authority.issue_cert(*names).configure_cert(context)
        return context

    def close(self) -> None:
        """Delete the file."""
        self._folder.cleanup()


ENDPOINT = "connection"
"""Name of a connection in faults and in the ledger."""

_CONNECTION_CALL = FaultCall(ENDPOINT, target=FaultTarget.CONNECTION)
_BACKLOG = 128
# A refusal depends on the clock, and a virtual clock cannot wake the listener, so it checks regularly.
_POLL_INTERVAL = 0.02  # seconds between checks whether to start or stop refusing connections
_HANDSHAKE_FAILURE = bytes.fromhex("15 03 03 00 02 02 28")  # a fatal alert, RFC 8446, 6


class SimulatorListener:
    """Listener on one host and port that passes connections to `protocol`; with certificates, over TLS.

    `close_idle` is called when connections begin to be refused, to close those on which no request is running.
    """

    def __init__(
        self,
        protocol: Callable[[], asyncio.Protocol],
        faults: FaultRules,
        ledger: RequestLedger,
        certificates: Certificates | None,
        close_idle: Callable[[], None],
    ) -> None:
        self._protocol = protocol
        self._faults = faults
        self._ledger = ledger
        self._certificates = certificates
        self._close_idle = close_idle
        self._loop = asyncio.get_running_loop()
        self._addresses: list[tuple[socket.AddressFamily, Any]] = []
        self._sockets: list[socket.socket] = []
        self._received: set[asyncio.Task[None]] = set()
        self._refusing_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.port = 0

    async def open(self, host: str, port: int) -> None:
        """Bind the port (0 is any) on all addresses of the host, and listen. Raises OSError."""
        for family, _, _, _, address in await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                bound = _bound_socket(family, (address[0], self.port or port, *address[2:]))
            except OSError as error:
                # "localhost" can resolve to ::1 on a machine without IPv6. The other address is enough.
                if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) and self._sockets:
                    continue
                self._unlisten()
                raise
            self.port = bound.getsockname()[1]
            self._addresses.append((family, bound.getsockname()))
            self._sockets.append(bound)
        self._listen()
        self._faults.on_change(self.update)

    def stop(self) -> None:
        """Stop accepting connections. Accepted ones stay open."""
        if self._timer:
            self._timer.cancel()
        self._unlisten()

    async def close(self) -> None:
        """Stop accepting connections, and close those that are still delayed by a fault."""
        self.stop()
        # A task that is cancelled before its first step would never close the connection that it was given.
        await asyncio.sleep(0)
        for task in self._received:
            task.cancel()
        await asyncio.gather(*self._received, return_exceptions=True)

    def update(self) -> None:
        """Accept or refuse connections as the faults require now, and check again soon if that changes with time."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if not self._sockets:
            return  # stopped
        self._count_refusal()
        upcoming = self._faults.peek(_CONNECTION_CALL)
        refusing = upcoming is not None and isinstance(upcoming.action, RefuseConnection)
        if refusing and self._refusing_since is None:
            self._refuse()
        elif not refusing and self._refusing_since is not None:
            self._refusing_since = None
            self._listen()
        if any(isinstance(fault.action, RefuseConnection) for fault in self._faults):
            self._timer = self._loop.call_later(_POLL_INTERVAL, self.update)

    def _count_refusal(self) -> None:
        """Count a refusal that has lasted its seconds as one call of its fault."""
        upcoming = self._faults.peek(_CONNECTION_CALL)
        if self._refusing_since is None or upcoming is None or not isinstance(upcoming.action, RefuseConnection):
            return
        if self._loop.time() - self._refusing_since >= upcoming.action.seconds:
            self._faults.select(_CONNECTION_CALL)
            self._refusing_since = self._loop.time()

    def _refuse(self) -> None:
        self._refusing_since = self._loop.time()
        self._unlisten()
        # Bound but not listening: the kernel refuses connections, and no other process can take the port.
        self._sockets = [_bound_socket(family, address) for family, address in self._addresses]
        self._close_idle()

    def _listen(self) -> None:
        for listening in self._sockets:
            listening.listen(_BACKLOG)
            self._loop.add_reader(listening, self._accept, listening)

    def _unlisten(self) -> None:
        for listening in self._sockets:
            self._loop.remove_reader(listening)
            listening.close()
        self._sockets = []

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except OSError:  # the client has already left
            return
        connection.setblocking(False)
        fault = self._faults.select(_CONNECTION_CALL)
        task = self._loop.create_task(self._receive(connection, fault))
        self._received.add(task)
        task.add_done_callback(self._received.discard)
        self.update()  # `nth` and `times` may select another fault for the next connection

    async def _receive(self, connection: socket.socket, fault: Fault | None) -> None:
        """Apply the fault to a connection, and pass it on if it is still usable."""
        if fault is None:
            await self._pass_on(connection)
            return
        entry = self._ledger.open(ENDPOINT)
        entry.fault = fault.name
        with self._ledger.track(entry):
            match fault.action:
                case SlowAccept(seconds):
                    await self._delay(connection, seconds)
                    self._ledger.end(entry, Ending.COMPLETED)
                    await self._pass_on(connection)
                case TlsFailure(flaw):
                    self._ledger.end(entry, Ending.CUT)
                    await self._fail_tls(connection, flaw)
                case _:  # accepted by the kernel just before it began to refuse
                    self._ledger.end(entry, Ending.CUT)
                    reset_socket(connection)

    async def _delay(self, connection: socket.socket, seconds: float) -> None:
        try:
            await sleep_or_hang(seconds)
        except asyncio.CancelledError:
            connection.close()
            raise

    async def _fail_tls(self, connection: socket.socket, flaw: str) -> None:
        if flaw != "handshake":
            await self._pass_on(connection, flaw)
            return
        with connection, suppress(ConnectionError):
            # The client's hello has to be read: closing a socket with unread bytes sends a reset instead of the alert.
            await self._loop.sock_recv(connection, 16_384)
            await self._loop.sock_sendall(connection, _HANDSHAKE_FAILURE)

    async def _pass_on(self, connection: socket.socket, flaw: str | None = None) -> None:
        context = self._certificates.context(flaw) if self._certificates else None
        with suppress(OSError):  # a client that rejects the certificate, or leaves
            await self._loop.connect_accepted_socket(self._protocol, connection, ssl=context)


def _bound_socket(family: socket.AddressFamily, address: Any) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setblocking(False)
        # The port can be bound again while connections of a former simulator are in TIME_WAIT.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            # An IPv6 socket would otherwise take IPv4 connections as well, and the port would be in use for its IPv4
            # sibling.
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
