"""Where audio may go without anybody being woken for each piece of it."""

from __future__ import annotations

from typing import Protocol


class Outlet(Protocol):
    """Somewhere that takes bytes at once, while it is `open`."""

    def open(self) -> bool:
        """Whether it takes more now."""
        ...

    def write(self, data: bytes) -> None:
        """Send this on."""
        ...
