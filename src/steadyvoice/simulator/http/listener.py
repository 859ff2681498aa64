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

from steadyvoice.simulator.fault_injection.actions import FaultTarget, RefuseConnection, SlowAccept, TlsFailure
from steadyvoice.simulator.fault_injection.matching import Fault, FaultCall, FaultRules
from steadyvoice.simulator.http.response import reset_socket, sleep_or_hang
from steadyvoice.simulator.ledger import Ending, RequestLedger

_EXPIRED_FROM, _EXPIRED_UNTIL = datetime(2001, 1, 1, tzinfo=UTC), datetime(2002, 1, 1, tzinfo=UTC)

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


class Certificates:
    """A certificate authority of one's own. Clients trust it by its file, `ca_file`; keys are never kept.

    Raises ValueError when the package that makes certificates is not installed.
    """

    def __init__(self, host: str) -> None:
        try:
            import trustme  # here, so that plain HTTP does not need it
        except ImportError:
            raise ValueError('TLS needs a package that makes certificates: pip install "steadyvoice[tls]"') from None
        self._authority = trustme.CA(organization_name="steadyvoice simulator")
        self._names = (*LOOPBACK_NAMES, *({host} - {*LOOPBACK_NAMES}))
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._folder = TemporaryDirectory(prefix="steadyvoice-sim-")
        self.ca_file = Path(self._folder.name) / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca_file))

    def context(self, flaw: str | None = None) -> ssl.SSLContext:
        """What a server needs to be believed under this machine's names; or not, for the reason given."""
        if flaw not in self._contexts:
            self._contexts[flaw] = self._made(flaw)
        return self._contexts[flaw]

    def _made(self, flaw: str | None) -> ssl.SSLContext:
        authority, names = self._authority, self._names
        if flaw == "authority":
            authority = type(authority)(organization_name="nobody you know")
        if flaw == "name":
            names = ("somebody-else.example",)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # A ticket would reach the client just as it sends its request. Clients that read and write in two threads, as
        # ElevenLabs' realtime client does, then wait for ever now and then: Python's sockets only bear that since 3.13.
        context.num_tickets = 0
        if flaw == "expired":
            authority.issue_cert(*names, not_before=_EXPIRED_FROM, not_after=_EXPIRED_UNTIL).configure_cert(context)
        else:
            authority.issue_cert(*names).configure_cert(context)
        return context

    def close(self) -> None:
        """Take the file away."""
        self._folder.cleanup()


ENDPOINT = "connection"
"""How faults and the ledger call a connection."""

_CONNECTION_CALL = FaultCall(ENDPOINT, target=FaultTarget.CONNECTION)
_BACKLOG = 128
_POLL_INTERVAL = 0.02  # seconds between two looks whether it is time to refuse, or to stop refusing
_HANDSHAKE_FAILURE = bytes.fromhex("15 03 03 00 02 02 28")  # a fatal alert, RFC 8446, 6


class SimulatorListener:
    """Listens on one host and port, and hands connections to `protocol`; with certificates, in TLS.

    `close_idle` is called when the door is shut, to close the connections on which nothing is going on.
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
        self._shut_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.port = 0

    async def open(self, host: str, port: int) -> None:
        """Take the port (0 is any) under all addresses of the host. Raises OSError."""
        for family, _, _, _, address in await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                bound = _bound_socket(family, (address[0], self.port or port, *address[2:]))
            except OSError as error:
                if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) and self._sockets:
                    continue  # a machine without IPv6 whose "localhost" names it all the same
                self._unlisten()
                raise
            self.port = bound.getsockname()[1]
            self._addresses.append((family, bound.getsockname()))
            self._sockets.append(bound)
        self._listen()
        self._faults.on_change(self.look)

    def stop(self) -> None:
        """Let nobody in any more. Those who are in stay."""
        if self._timer:
            self._timer.cancel()
        self._unlisten()

    async def close(self) -> None:
        """Stop, and throw out who waits to be let in."""
        self.stop()
        await asyncio.sleep(0)  # a task that has not begun holds a connection that it would never close
        for task in self._received:
            task.cancel()
        await asyncio.gather(*self._received, return_exceptions=True)

    def look(self) -> None:
        """Open or shut, as the faults want it by now, and look again soon if that may change by itself."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if not self._sockets:
            return  # closed for good
        self._count_refusal()
        upcoming = self._faults.peek(_CONNECTION_CALL)
        refusing = upcoming is not None and isinstance(upcoming.action, RefuseConnection)
        if refusing and self._shut_since is None:
            self._shut()
        elif not refusing and self._shut_since is not None:
            self._shut_since = None
            self._listen()
        if any(isinstance(fault.action, RefuseConnection) for fault in self._faults):
            self._timer = self._loop.call_later(_POLL_INTERVAL, self.look)

    def _count_refusal(self) -> None:
        """Take a refusal that has lasted its time for a connection that came."""
        upcoming = self._faults.peek(_CONNECTION_CALL)
        if self._shut_since is None or upcoming is None or not isinstance(upcoming.action, RefuseConnection):
            return
        if self._loop.time() - self._shut_since >= upcoming.action.seconds:
            self._faults.select(_CONNECTION_CALL)
            self._shut_since = self._loop.time()

    def _shut(self) -> None:
        self._shut_since = self._loop.time()
        self._unlisten()
        self._sockets = [
            _bound_socket(family, address) for family, address in self._addresses
        ]  # nobody else may have it
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
        except OSError:  # it has changed its mind
            return
        connection.setblocking(False)
        fault = self._faults.select(_CONNECTION_CALL)
        task = self._loop.create_task(self._receive(connection, fault))
        self._received.add(task)
        task.add_done_callback(self._received.discard)
        self.look()  # the next one may be another's turn

    async def _receive(self, connection: socket.socket, fault: Fault | None) -> None:
        """Do to a connection what its fault is, and hand it over if it still can be."""
        if fault is None:
            await self._hand_over(connection)
            return
        entry = self._ledger.open(ENDPOINT)
        entry.fault = fault.name
        with self._ledger.witnessed(entry):
            match fault.action:
                case SlowAccept(seconds):
                    await self._wait(connection, seconds)
                    self._ledger.end(entry, Ending.COMPLETED)
                    await self._hand_over(connection)
                case TlsFailure(flaw):
                    self._ledger.end(entry, Ending.CUT)
                    await self._fail(connection, flaw)
                case _:  # it slipped in before the door was shut
                    self._ledger.end(entry, Ending.CUT)
                    reset_socket(connection)

    async def _wait(self, connection: socket.socket, seconds: float) -> None:
        try:
            await sleep_or_hang(seconds)
        except asyncio.CancelledError:
            connection.close()
            raise

    async def _fail(self, connection: socket.socket, flaw: str) -> None:
        if flaw != "handshake":
            await self._hand_over(connection, flaw)
            return
        with connection, suppress(ConnectionError):
            await self._loop.sock_recv(connection, 16_384)  # a client's hello, which would be reset if left unread
            await self._loop.sock_sendall(connection, _HANDSHAKE_FAILURE)

    async def _hand_over(self, connection: socket.socket, flaw: str | None = None) -> None:
        context = self._certificates.context(flaw) if self._certificates else None
        with suppress(OSError):  # a client that does not believe us, or leaves
            await self._loop.connect_accepted_socket(self._protocol, connection, ssl=context)


def _bound_socket(family: socket.AddressFamily, address: Any) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made
