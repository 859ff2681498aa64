"""`steadyvoice serve`: the gateway in the foreground, with its memory allocator and garbage collector tuned."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from steadyvoice.cli.errors import ExitStatus, UsageError
from steadyvoice.cli.standard_streams import redirect_to_null
from steadyvoice.gateway.http_server.listener import raise_descriptor_limit
from steadyvoice.gateway.observability.access_log import JSONFormatter
from steadyvoice.gateway.server import serve as serve_gateway
from steadyvoice.service.config_file import LoadedConfig, ServerConfig, arguments_from_environment, load_config
from steadyvoice.service.service import AsyncTTSService

_M_TRIM_THRESHOLD, _M_ARENA_MAX = -1, -8  # https://man7.org/linux/man-pages/man3/mallopt.3.html

_MAX_ARENAS = 2
_TRIM_THRESHOLD = 1024 * 1024  # bytes


def return_memory_early() -> None:
    """Make glibc share two arenas between all threads, and return free memory beyond one megabyte to the system.

    glibc's own environment variables take precedence. Does nothing with another C library.
    """
    # Encoders allocate and free in several threads. By default each thread gets an arena of its own, which keeps its
    # peak, and the threshold for returning memory grows with use: with 14 MB in use, a gateway that encoded 15 streams
    # a second held 156 MB, and 88 MB with these settings.
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return
    with suppress(OSError, AttributeError, ValueError):
        if not os.confstr("CS_GNU_LIBC_VERSION"):
            return
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, _MAX_ARENAS)
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)


log = logging.getLogger("steadyvoice.gateway")


def serve(config: Path | None, host: str | None, port: int | None) -> ExitStatus:
    """Serve until Ctrl-C. Raises UsageError, and TTSConfigurationError for an invalid configuration."""
    return_memory_early()
    path = config or _path_from_environment()
    source = partial(_load, path, host, port) if path else None
    loaded = source(None) if source else None
    server = loaded.server if loaded else _with_overrides(ServerConfig(), host, port)
    service = AsyncTTSService(**(loaded.plan if loaded else arguments_from_environment(os.environ)))
    _log_json_lines()
    try:
        _run(serve_gateway(service, server, source=source, loaded=loaded, show=_show, open=_tune_garbage_collector))
    except OSError as error:
        if error.filename:
            raise
        raise UsageError(
            f"cannot listen on {server.host} port {server.port}: {error.strerror}; choose another with --port"
        ) from None
    return ExitStatus.SPOKEN


def _show(line: str) -> None:
    """Print a line. A closed pipe or a full disk must not end the gateway, so errors are ignored."""
    try:
        print(line, flush=True)
    except OSError:
        redirect_to_null(1)


def _log_json_lines() -> None:
    """Log to standard error as JSON lines, unless `--debug` logs everything anyway.

    The library's own line per utterance is left out, because the access log has one.
    """
    if logging.root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter())
    package_logger = logging.getLogger("steadyvoice")
    package_logger.addHandler(handler)
    package_logger.setLevel(logging.INFO)
    logging.getLogger("steadyvoice.calls").setLevel(logging.WARNING)


def _limit_connections(server: ServerConfig) -> ServerConfig:
    """Return the settings with no more connections than the limit of open files allows."""
    fitting = raise_descriptor_limit(server.max_connections)
    if fitting == server.max_connections:
        return server
    log.warning("max_connections reduced to %d by the limit of open files, not %d", fitting, server.max_connections)
    return server.laid_over(max_connections=fitting)


def _run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
        # For disk access and rare audio checks. asyncio's default executor grows to 32 threads on a large machine.
        runner.get_loop().set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="steadyvoice"))
        runner.run(main)


_THREADS = 4


_GC_THRESHOLDS = (50_000, 20, 100)
"""Thresholds of the three generations of the garbage collector; Python's are 700, 10 and 10."""


def _tune_garbage_collector() -> None:
    """Exclude everything that is loaded from garbage collection, and collect less often."""
    # Traversing the objects of the loaded modules again and again was a fifth of the gateway's work. Streams live for
    # seconds and free their memory by reference counting, so frequent collections traversed hundreds of them and found
    # next to nothing.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # uvloop does not support Windows
        return None
    return uvloop.new_event_loop


def _path_from_environment() -> Path | None:
    return Path(path) if (path := os.environ.get("STEADYVOICE_CONFIG")) else None


def _load(path: Path, host: str | None, port: int | None, former: LoadedConfig | None) -> LoadedConfig:
    """Load the configuration file, for the first time or again, with the command line's options over it."""
    loaded = load_config(path, os.environ, former)
    return replace(loaded, server=_with_overrides(loaded.server, host, port))


def _with_overrides(server: ServerConfig, host: str | None, port: int | None) -> ServerConfig:
    overrides = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    return _limit_connections(server.laid_over(**overrides))
