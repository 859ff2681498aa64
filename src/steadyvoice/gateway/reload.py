"""Read the configuration file again while everybody goes on speaking: all of it holds from now on, or none."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from steadyvoice.gateway.admin.request import AdminRequestError
from steadyvoice.gateway.admin.views import configuration_view
from steadyvoice.gateway.context import GatewayContext, log
from steadyvoice.gateway.request_context import Actor, acting_as, current_actor
from steadyvoice.service.config_file import LoadedConfig, ServerConfig
from steadyvoice.speech.errors import TTSConfigurationError

ConfigSource = Callable[[LoadedConfig | None], LoadedConfig]
"""Reads the file; what is in it as it was before is made use of. Raises TTSConfigurationError."""

RESTART_KEYS = ("host", "port", "state_file")
"""Keys of the server's table that hold until it is started anew."""


class Reloader:
    """One gateway's, with the file that it was started with, if there was one."""

    def __init__(
        self, context: GatewayContext, source: ConfigSource | None = None, loaded: LoadedConfig | None = None
    ) -> None:
        self._context, self._source, self._loaded = context, source, loaded
        self._turn = asyncio.Lock()

    async def reload(self) -> dict[str, Any]:
        """Read and apply it, and tell what that has changed. Raises RefusedError; then nothing has."""
        async with self._turn:
            try:
                changes = await self._reload()
            except TTSConfigurationError as error:
                self._context.event_log.note("action", {"action": "reload", "error": error.message})
                log.warning("the configuration stays as it was: %s", error.message)
                field = error.message.partition(": ")[0].partition("=")[0]
                raise AdminRequestError(422, "invalid_configuration", error.message, field=field) from None
        self._context.event_log.note("config", {"provider": None, **changes})
        log.info("the configuration was read again by %s: %s", current_actor() or "nobody", changes)
        return changes

    @asynccontextmanager
    async def at_signal(self) -> AsyncIterator[None]:
        """Inside, SIGHUP has the file read again, where there is such a signal."""
        hangup = getattr(signal, "SIGHUP", None)
        if hangup is None:
            yield
            return
        loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()

        def told() -> None:
            tasks.add(task := loop.create_task(self._by_signal()))
            task.add_done_callback(tasks.discard)

        loop.add_signal_handler(hangup, told)
        try:
            yield
        finally:
            loop.remove_signal_handler(hangup)

    async def _by_signal(self) -> None:
        with acting_as(Actor(None, "SIGHUP")):
            try:
                await self.reload()
            except AdminRequestError as refused:
                log.warning("SIGHUP: %s", refused.message)
            except Exception as error:
                log.exception("SIGHUP: the configuration was not read again: %s", type(error).__name__)

    async def _reload(self) -> dict[str, Any]:
        if self._source is None:
            told = "the gateway was started without a configuration file, so there is none to be read again"
            raise AdminRequestError(409, "no_file", told)
        house = self._context
        before = configuration_view(house)
        loaded = await asyncio.to_thread(self._source, self._loaded)
        server, wait = _applicable(house.server, loaded.server)
        former = house.server
        house.apply_settings(server)
        try:
            await house.service.reconfigure(**loaded.plan)
        except BaseException:
            house.apply_settings(former)
            raise
        self._loaded = loaded
        return {**configuration_difference(before, configuration_view(house)), "needs_restart": wait}


def configuration_difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What is not the same, by the path of its key: as it was, and as it is."""
    was, now = dict(_flattened(before)), dict(_flattened(after))
    paths = [path for path in {**was, **now} if was.get(path) != now.get(path)]
    return {"before": {path: was.get(path) for path in paths}, "after": {path: now.get(path) for path in paths}}


def _applicable(current: ServerConfig, wanted: ServerConfig) -> tuple[ServerConfig, list[str]]:
    """What of a server's table can hold now, and the keys of which that must wait. Raises TTSConfigurationError."""
    for_good = {name: getattr(current, name) for name in RESTART_KEYS}
    wait = [f"server.{name}" for name, value in for_good.items() if getattr(wanted, name) != value]
    return wanted.laid_over(**for_good), wait


def _flattened(told: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in told.items():
        inner = f"{path}{name}"
        if name == "providers" and not path:  # a list, in order; each by its name
            yield inner, [each["name"] for each in value]
            value = {each["name"]: each for each in value}
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{inner}.")
        else:
            yield inner, value
