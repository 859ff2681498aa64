"""Sockets to listen on. `localhost` means both address families, for clients differ in which one they try."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

_LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_TRIES = 20  # of finding a port that is free in both families
_NO_SUCH_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


Addresses = Sequence[tuple[socket.AddressFamily, str]]


def bound_sockets(host: str, port: int, *, localhost: Addresses = _LOOPBACKS) -> list[socket.socket]:
    """Bind a socket for each address of a host, all to one port; port 0 takes any that is free.

    `localhost` is 127.0.0.1 and ::1; where a machine lacks one family, the other alone. Any other host is one address.
    Raises OSError when the port cannot be had.
    """
    if host.lower().rstrip(".") != "localhost":
        return [_bound(socket.AF_INET6 if ":" in host else socket.AF_INET, host, port)]
    for tries_left in reversed(range(_TRIES)):
        try:
            return _on_all(localhost, port)
        except OSError as error:
            if port or error.errno != errno.EADDRINUSE or not tries_left:
                raise
    raise AssertionError


def _on_all(addresses: Addresses, port: int) -> list[socket.socket]:
    found: list[socket.socket] = []
    missing: OSError | None = None
    for family, address in addresses:
        try:
            found.append(_bound(family, address, port))
        except OSError as error:
            if error.errno in _NO_SUCH_FAMILY:
                missing = error
                continue
            for each in found:
                each.close()
            raise
        port = found[-1].getsockname()[1]
    if not found and missing:
        raise missing
    return found


def _bound(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made
