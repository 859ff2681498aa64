"""Configuration reload without interrupting speech: all of the file is applied, or nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from steadyvoice.gateway.admin.request import AdminRequestError
from steadyvoice.gateway.admin.views import configuration_view
from steadyvoice.gateway.context import GatewayContext, log
from steadyvoice.gateway.request_context import Actor, acting_as, current_actor
from steadyvoice.service.config_file import LoadedConfig, ServerConfig
from steadyvoice.service.options import SettingChanges
from steadyvoice.speech.errors import TTSConfigurationError

ConfigSource = Callable[[LoadedConfig | None], LoadedConfig]
"""Function that reads the configuration file, reusing unchanged parts. Raises TTSConfigurationError."""

RESTART_KEYS = ("host", "port", "state_file", "workers")
"""Keys of `[server]` that take effect after a restart only."""


class Reloader:
    """Reload of one gateway's configuration from the file it was started with, if there was one."""

    def __init__(
        self, context: GatewayContext, source: ConfigSource | None = None, loaded: LoadedConfig | None = None
    ) -> None:
        self._context, self._source, self._loaded = context, source, loaded
        self._lock = asyncio.Lock()  # one reload at a time: each compares with the one before
        context.answers["reload"] = self._follow
        context.answers["reload by signal"] = lambda argument: self._reload_by_signal()

    async def reload(self) -> dict[str, Any]:
        """Read and apply the file, and return the differences. Raises AdminRequestError, with nothing changed.

        Of several workers this one comes first. If it refuses the file, none of the others reads it.
        """
        changes = await self._reload_here()
        if self._context.workers:
            actor = current_actor()
            await self._context.order("reload", {"actor": actor and actor.as_dict()})
        return changes

    async def _follow(self, argument: Mapping[str, Any]) -> bool:
        """Reload after another worker has; return whether the file was accepted here as well."""
        workers = self._context.workers
        if workers and argument["asker"] != workers.number:
            with acting_as(Actor(**argument["actor"]) if argument["actor"] else None):
                try:
                    await self._reload_here()
                except AdminRequestError:
                    return False
        return True

    async def _reload_here(self) -> dict[str, Any]:
        async with self._lock:
            try:
                changes = await self._reload()
            except TTSConfigurationError as error:
                self._context.event_log.add("action", {"action": "reload", "error": error.message})
                log.warning("configuration not reloaded: %s", error.message)
                field = error.message.partition(": ")[0].partition("=")[0]
                raise AdminRequestError(422, "invalid_configuration", error.message, field=field) from None
        self._context.event_log.add("config", {"provider": None, **changes})
        log.info("configuration reloaded by %s: %s", current_actor() or "an unknown caller", changes)
        return changes

    @asynccontextmanager
    async def at_signal(self) -> AsyncIterator[None]:
        """Reload on SIGHUP inside the block, on platforms that have the signal."""
        hangup = getattr(signal, "SIGHUP", None)
        if hangup is None:
            yield
            return
        loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()

        def received() -> None:
            # The loop holds only weak references to tasks.
            tasks.add(task := loop.create_task(self._reload_by_signal()))
            task.add_done_callback(tasks.discard)

        loop.add_signal_handler(hangup, received)
        try:
            yield
        finally:
            loop.remove_signal_handler(hangup)

    async def _reload_by_signal(self) -> None:
        with acting_as(Actor(None, "SIGHUP")):
            try:
                await self.reload()
            except AdminRequestError as refused:
                log.warning("SIGHUP: %s", refused.message)
            except Exception as error:
                log.exception("SIGHUP: configuration not reloaded: %s", type(error).__name__)

    async def _reload(self) -> dict[str, Any]:
        if self._source is None:
            raise AdminRequestError(409, "no_file", "no configuration file: the gateway was started without --config")
        context = self._context
        before = configuration_view(context)
        loaded = await asyncio.to_thread(self._source, self._loaded)
        server, needs_restart = _applicable(context.server, loaded.server)
        former = context.server
        # Settings first: they cannot fail, and are restored if a provider cannot be built.
        context.apply_settings(server)
        try:
            await context.service.reconfigure(**_changes_of(loaded))
        except BaseException:
            context.apply_settings(former)
            raise
        former_file, self._loaded = self._loaded and self._loaded.file, loaded
        if former_file and former_file.telemetry != loaded.file.telemetry:
            needs_restart.append("telemetry")
        return {**configuration_difference(before, configuration_view(context)), "needs_restart": needs_restart}


def _changes_of(loaded: LoadedConfig) -> SettingChanges:
    """Return the settings of a file that can be changed while the service runs."""
    return cast(SettingChanges, {name: value for name, value in loaded.plan.items() if name != "telemetry"})


def configuration_difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that differ, by their path, with their old and their new values."""
    old, new = dict(_flattened(before)), dict(_flattened(after))
    paths = [path for path in {**old, **new} if old.get(path) != new.get(path)]
    return {"before": {path: old.get(path) for path in paths}, "after": {path: new.get(path) for path in paths}}


def _applicable(current: ServerConfig, requested: ServerConfig) -> tuple[ServerConfig, list[str]]:
    """Return the settings to apply now, and the keys that need a restart. Raises TTSConfigurationError."""
    fixed = {name: getattr(current, name) for name in RESTART_KEYS}
    needs_restart = [f"server.{name}" for name, value in fixed.items() if getattr(requested, name) != value]
    return requested.laid_over(**fixed), needs_restart


def _flattened(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        inner = f"{path}{name}"
        # A list, whose order matters; its entries are compared by name.
        if name == "providers" and not path:
            yield inner, [each["name"] for each in value]
            value = {each["name"]: each for each in value}
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{inner}.")
        else:
            yield inner, value
