"""Graceful shutdown: signals, draining of open connections, notification of systemd."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


def notify_systemd(state: str, environ: Mapping[str, str] = os.environ) -> None:
    """Say such as `READY=1`. Without a NOTIFY_SOCKET in the environment nobody wants to know."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # a name of Linux's that is in no folder
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.sendto(state.encode(), address)
