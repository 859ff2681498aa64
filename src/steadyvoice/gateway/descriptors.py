"""How many connections there can be: each needs a file descriptor, and another one for its provider."""

from __future__ import annotations

import sys

_OURS = 256  # the log, the cache, files that are read meanwhile


def raised_to(connections: int) -> int:
    """Raise the process's limit for so many connections as far as it may, and tell how many there can be."""
    if sys.platform == "win32":
        return connections
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (sys.maxsize if each == resource.RLIM_INFINITY else each for each in (soft, hard))
    needed, fitting = planned(connections, soft, hard)
    if needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard if hard < sys.maxsize else resource.RLIM_INFINITY))
    return fitting


def planned(connections: int, soft: int, hard: int) -> tuple[int, int]:
    """The soft limit to have, and how many connections fit into it."""
    needed = max(soft, min(2 * connections + _OURS, hard))
    return needed, max(1, min(connections, (needed - _OURS) // 2))
