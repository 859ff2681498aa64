"""Settings of the C library's allocator for a process that serves for weeks."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_ARENA_MAX = -1, -8  # https://man7.org/linux/man-pages/man3/mallopt.3.html

_ARENAS = 2
_TRIM = 1024 * 1024  # bytes


def return_memory_early() -> None:
    """Have glibc share two arenas between all threads, and give free memory back to the system above one megabyte.

    Encoders take and free memory in several threads. By default each thread gets an arena of its own, which keeps its
    peak, and the threshold for giving memory back grows with use: with 14 MB in use, a gateway that encoded 15 streams
    a second held 156 MB, and 88 MB with these settings. Environment variables of glibc's own win. Does nothing where
    the C library is another one.
    """
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return
    with suppress(OSError, AttributeError, ValueError):
        if not os.confstr("CS_GNU_LIBC_VERSION"):
            return
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, _ARENAS)
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIM)
