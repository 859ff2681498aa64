"""Checks of what the configuration needs besides providers: the fleet's store, the port, and places on disk."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Thread
from typing import TypeVar

from steadyvoice.cli.check.report import Finding, Verdict
from steadyvoice.fleet import FleetConfig, FleetStoreError
from steadyvoice.gateway.http_server.listener import bind_sockets
from steadyvoice.service.cache.keys import CacheConfig
from steadyvoice.service.config_file import ServerConfig

T = TypeVar("T")


async def in_daemon_thread(work: Callable[[], T], seconds: float) -> T:
    """Return the result of blocking work; its thread keeps nothing from ending. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def deliver(value: T | None, error: BaseException | None) -> None:
        if not result.done():
            result.set_exception(error) if error else result.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value, failure = None, None
        try:
            value = work()
        except Exception as error:
            failure = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(deliver, value, failure)

    Thread(target=run, name="steadyvoice-check", daemon=True).start()
    async with asyncio.timeout(seconds):
        return await result


async def check_fleet(fleet: FleetConfig, *, seconds: float) -> Finding:
    """Join and leave the fleet for a moment: address, password, permissions and version of the store.

    The record that is written for that moment is not one of a replica, which others ignore.
    """
    store = fleet.open_store()
    address = getattr(store, "address", "the store")

    def visit() -> int:
        name = f"check-{secrets.token_hex(4)}"
        try:
            return len(store.beat(name, b"{}", 60.0, []).records)
        finally:
            with suppress(FleetStoreError):
                store.leave(name)
            store.close()

    advice = "without the store the gateway works alone, with circuits and limits of its own"
    try:
        others = await in_daemon_thread(visit, seconds)
    except FleetStoreError as error:
        return Finding("fleet", "store", Verdict.FAILED, str(error), advice)
    except TimeoutError:
        return Finding("fleet", "store", Verdict.FAILED, f"{address}: no answer within {seconds:g} s", advice)
    return Finding("fleet", "store", Verdict.OK, f"{address}: name {fleet.name!r}, {others} other replicas")


async def check_port(server: ServerConfig, *, seconds: float, is_needed: bool) -> Finding:
    """Bind the gateway's port and give it back. One that is taken fails only if the file is for a gateway."""
    where = f"{server.host} port {server.port}"
    try:
        for bound in bind_sockets(server.host, server.port):
            bound.close()
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        if taken and await _is_gateway(server, seconds):
            message = f"{where}: a gateway answers there already; another one needs another port"
            return Finding("server", "port", Verdict.WARNING, message)
        verdict = Verdict.FAILED if is_needed else Verdict.WARNING
        message = f"{where}: {'in use by another program' if taken else error.strerror}"
        return Finding("server", "port", verdict, message, "choose another: `steadyvoice serve --port`, or server.port")
    return Finding("server", "port", Verdict.OK, f"{where}: free")


async def _is_gateway(server: ServerConfig, seconds: float) -> bool:
    host = "127.0.0.1" if server.host in ("0.0.0.0", "::", "localhost") else server.host  # noqa: S104

    def ask() -> bool:
        connection = HTTPConnection(host, server.port, timeout=seconds)
        try:
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            return answer.status == 200 and b'"ok"' in answer.read(100)
        finally:
            connection.close()

    try:
        return await in_daemon_thread(ask, seconds)
    except (OSError, HTTPException):  # TimeoutError is an OSError
        return False


def check_places(cache: CacheConfig | None, server: ServerConfig) -> Iterator[Finding]:
    """Yield whether the cache and the state file can be written."""
    places = [("cache", "path", cache.folder)] if cache and cache.max_megabytes else []
    if server.state_file:
        places.append(("server", "state_file", Path(server.state_file).expanduser().absolute().parent))
    for subject, setting, folder in places:
        existing = next(each for each in (folder, *folder.parents) if each.exists())
        if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
            yield Finding(subject, setting, Verdict.OK, f"{folder}: can be written")
        else:
            message = f"{folder}: cannot be written by this user"
            yield Finding(subject, setting, Verdict.FAILED, message, f"change its owner, or {subject}.{setting}")
