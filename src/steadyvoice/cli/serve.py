"""`steadyvoice serve`: the gateway in the foreground."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from steadyvoice.cli.complaint import Status, UsageProblem
from steadyvoice.gateway.run import serve as serve_gateway
from steadyvoice.service.service import AsyncTTSService
from steadyvoice.service.settings import ConfigFile, Server, from_environment, parse_file, plan_of
from steadyvoice.speech.errors import TTSConfigurationError


def serve(config: Path | None, host: str | None, port: int | None) -> Status:
    """Serve until Ctrl-C. Raises UsageProblem, and TTSConfigurationError for a file that makes no sense."""
    path = config or _named_by_environment()
    file = parse_file(path, os.environ) if path else ConfigFile()
    server = _with(file.server, host, port)
    plan = plan_of(file) if path else from_environment(os.environ)
    try:
        _run(serve_gateway(AsyncTTSService(**plan), server, show=partial(print, flush=True)))
    except OSError as error:
        if error.filename:
            raise
        raise UsageProblem(
            f"{server.host}, port {server.port}, cannot be had: {error.strerror}; name another with --port"
        ) from None
    return Status.SPOKEN


def _run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
        runner.run(main)


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return None
    return uvloop.new_event_loop


def _named_by_environment() -> Path | None:
    return Path(path) if (path := os.environ.get("STEADYVOICE_CONFIG")) else None


def _with(server: Server, host: str | None, port: int | None) -> Server:
    """The file's table, with what the command line says laid over it, checked anew."""
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    try:
        return Server.model_validate({**server.model_dump(), **given})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise TTSConfigurationError(f"server: {first['msg']}") from None
