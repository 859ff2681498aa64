"""What goes wrong with a connection before anything is asked on it, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from steadyvoice.simulator.act import CONNECTION, Doors, FaultError, check_seconds

TlsFlaw = Literal["handshake", "name", "authority", "expired"]
"""The handshake is broken off, or the certificate is for another name, from an unknown authority, or too old."""


@dataclass(frozen=True, slots=True)
class RefuseConnection:
    """Have nobody listen: connections are refused, and idle ones closed.

    The kernel refuses without telling anybody, so a refusal is not one connection's but lasts `seconds`; that is
    what `nth`, `times` and luck count beside connections. Without them it lasts as long as the fault is in force.
    """

    doors: ClassVar[Doors] = CONNECTION

    seconds: float = 1.0

    def __post_init__(self) -> None:
        check_seconds(self, "seconds")
        if not self.seconds:
            raise FaultError(f"seconds: more than 0, got {self.seconds}", "seconds")


@dataclass(frozen=True, slots=True)
class SlowAccept:
    """Let a connection wait before anything is read from it: before its TLS handshake, or its first request."""

    doors: ClassVar[Doors] = CONNECTION

    seconds: float = 2.0

    def __post_init__(self) -> None:
        check_seconds(self, "seconds")


@dataclass(frozen=True, slots=True)
class TlsFailure:
    """Fail at TLS. Only a simulator that speaks it can."""

    doors: ClassVar[Doors] = CONNECTION

    flaw: TlsFlaw = "handshake"

    def __post_init__(self) -> None:
        if self.flaw not in get_args(TlsFlaw):
            raise FaultError(f"flaw: one of {', '.join(get_args(TlsFlaw))}, got {self.flaw!r}", "flaw")
