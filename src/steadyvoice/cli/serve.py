"""`steadyvoice serve`: the gateway in the foreground, with its memory allocator and garbage collector tuned."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from steadyvoice.cli.errors import ExitStatus, UsageError
from steadyvoice.cli.standard_streams import redirect_to_null
from steadyvoice.cli.telemetry import exporting_as_configured
from steadyvoice.gateway.http_server.listener import bind_sockets, raise_descriptor_limit
from steadyvoice.gateway.http_server.shutdown import notify_systemd
from steadyvoice.gateway.observability.access_log import JSONFormatter
from steadyvoice.gateway.reload import ConfigSource
from steadyvoice.gateway.server import serve as serve_gateway
from steadyvoice.gateway.server import serve_as_worker, startup_message
from steadyvoice.gateway.state_file import WorkerStates
from steadyvoice.service.config_file import LoadedConfig, ServerConfig, arguments_from_environment, load_config
from steadyvoice.service.options import ServiceArguments, ServiceSettings, validate_settings
from steadyvoice.service.service import AsyncTTSService

if TYPE_CHECKING:
    from steadyvoice.gateway.workers.fleet_store import WorkerStore

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


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Options of the command line. `link` is set for a worker: the descriptors that its supervisor hands down."""

    config: Path | None = None
    host: str | None = None
    port: int | None = None
    workers: int | None = None
    link: str | None = None


def serve(options: ServeOptions) -> ExitStatus:
    """Serve until Ctrl-C. Raises UsageError, and TTSConfigurationError for an invalid configuration."""
    return_memory_early()
    path = options.config or _path_from_environment()
    source = partial(_load, path, options) if path else None
    loaded = source(None) if source else None
    server = loaded.server if loaded else _with_overrides(ServerConfig(), options)
    plan = loaded.plan if loaded else arguments_from_environment(os.environ)
    _log_json_lines()
    if options.link:
        return _serve_as_worker(options.link, server, plan, source, loaded)
    with _reporting_busy_port(server):
        if server.workers > 1:
            return _supervise(options, server, plan)
        with exporting_as_configured(plan) as plan:
            service = AsyncTTSService(**plan)
            _run(serve_gateway(service, server, source=source, loaded=loaded, show=_show, open=_tune_garbage_collector))
    return ExitStatus.SPOKEN


@contextmanager
def _reporting_busy_port(server: ServerConfig) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.filename:
            raise
        raise UsageError(
            f"cannot listen on {server.host} port {server.port}: {error.strerror}; choose another with --port"
        ) from None


def _supervise(options: ServeOptions, server: ServerConfig, plan: ServiceArguments) -> ExitStatus:
    """Run the workers. This process only reserves the port, and accepts nothing on it."""
    from steadyvoice.gateway.workers.supervisor import NoWorkerStartedError, Supervisor

    # macOS knows SO_REUSEPORT as well, and gives all connections to one of the processes.
    if sys.platform != "linux":
        raise UsageError("workers: only Linux distributes the connections of one port among processes; use 1")
    settings = {name: value for name, value in plan.items() if name != "providers"}
    validate_settings(plan["providers"], cast(ServiceSettings, settings))
    with ExitStack() as reserved:
        port = _reserve_port(server, reserved)
        command = _worker_command(options, server.host, port)
        states = WorkerStates(Path(server.state_file)) if server.state_file else None

        def ready(url: str, providers: list[str]) -> None:
            notify_systemd("READY=1")
            for line in startup_message(url, providers, server.workers):
                _show(line)

        supervisor = Supervisor(
            server.workers,
            partial(_spawn, command),
            grace=server.shutdown_delay + server.shutdown_timeout,
            ready=ready,
            show=_show,
            saved=states.save if states else lambda worker, state: None,
        )
        try:
            asyncio.run(supervisor.run())
        except NoWorkerStartedError:
            print("steadyvoice: no worker has started; the log has the reasons", file=sys.stderr)
            return ExitStatus.FAILED
    return ExitStatus.SPOKEN


def _reserve_port(server: ServerConfig, reserved: ExitStack) -> int:
    """Bind the port for as long as the stack is open, and return it. Raises OSError if another program has it."""
    # A socket that is bound and does not listen gets no connections. The first attempt is exclusive: another gateway
    # would share its port with this one, and both would get half of the connections.
    for each in bind_sockets(server.host, server.port):
        each.close()
    bound = bind_sockets(server.host, server.port, shared=True)
    for each in bound:
        reserved.callback(each.close)
    port: int = bound[0].getsockname()[1]
    return port


def _worker_command(options: ServeOptions, host: str, port: int) -> list[str]:
    config = ["--config", str(options.config)] if options.config else []
    debug = ["--debug"] if logging.root.handlers else []
    return [sys.executable, "-m", "steadyvoice", "serve", *config, "--host", host, "--port", str(port), *debug]


async def _spawn(command: Sequence[str], descriptors: Sequence[int]) -> Process:
    # A group of its own: Ctrl-C in a terminal goes to the supervisor only, which then stops the workers gracefully.
    # systemd is told by the supervisor only.
    environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    return await asyncio.create_subprocess_exec(
        *command,
        "--link",
        ",".join(map(str, descriptors)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=descriptors,
        process_group=0,
        env=environment,
    )


def _serve_as_worker(
    descriptors: str,
    server: ServerConfig,
    plan: ServiceArguments,
    source: ConfigSource | None,
    loaded: LoadedConfig | None,
) -> ExitStatus:
    from steadyvoice.gateway.workers.link import SupervisorLink

    link = SupervisorLink(descriptors)
    _name_worker_in_log(link.number)

    def joined_source(former: LoadedConfig | None) -> LoadedConfig:
        assert source is not None  # noqa: S101 - used only if it is set
        read = source(former)
        return replace(read, plan=_joined(read.plan, link.store))

    with exporting_as_configured(plan, worker=link.number) as plan:
        service = AsyncTTSService(**_joined(plan, link.store))
        main = serve_as_worker(
            service, server, link, source=source and joined_source, loaded=loaded, open=_tune_garbage_collector
        )
        _run(main)
    return ExitStatus.SPOKEN


def _joined(plan: ServiceArguments, store: WorkerStore) -> ServiceArguments:
    """Return the arguments with the workers' own fleet, unless they name another."""
    return plan if plan.get("fleet") else cast(ServiceArguments, {**plan, "fleet": store})


def _name_worker_in_log(number: int) -> None:
    def name_worker(record: logging.LogRecord) -> bool:
        record.worker = number
        return True

    for handler in [*logging.root.handlers, *logging.getLogger("steadyvoice").handlers]:
        handler.addFilter(name_worker)


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


def _load(path: Path, options: ServeOptions, former: LoadedConfig | None) -> LoadedConfig:
    """Load the configuration file, for the first time or again, with the command line's options over it."""
    loaded = load_config(path, os.environ, former)
    return replace(loaded, server=_with_overrides(loaded.server, options))


def _with_overrides(server: ServerConfig, options: ServeOptions) -> ServerConfig:
    given = {"host": options.host, "port": options.port, "workers": options.workers}
    overrides = {name: value for name, value in given.items() if value is not None}
    return _limit_connections(server.laid_over(**overrides))
