"""The simulator's own doors, under /sim: look in the ledger, change the faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from steadyvoice.simulator.fault_injection.actions import FaultError
from steadyvoice.simulator.fault_injection.matching import Fault
from steadyvoice.simulator.fault_injection.syntax import fault_from_table, fault_to_table, parse_fault
from steadyvoice.simulator.vendor import SimulatedVendor

LEDGER_PATH = "/sim/ledger"
FAULTS_PATH = "/sim/faults"


class ControlRoutes:
    """GET the ledger; GET, POST (one more), PUT (instead of all) and DELETE faults."""

    def __init__(self, vendor: SimulatedVendor) -> None:
        self._vendor = vendor

    def routes(self) -> list[web.RouteDef]:
        """All there are."""
        return [
            web.get(LEDGER_PATH, self._ledger, allow_head=False),
            web.get(FAULTS_PATH, self._list, allow_head=False),
            web.post(FAULTS_PATH, self._add),
            web.put(FAULTS_PATH, self._set),
            web.delete(FAULTS_PATH, self._clear),
            web.route("*", "/sim{path:(/.*)?}", _not_found),
        ]

    async def _ledger(self, request: web.Request) -> web.Response:
        return web.json_response(self._vendor.ledger.as_dict())

    async def _list(self, request: web.Request) -> web.Response:
        return self._faults()

    async def _add(self, request: web.Request) -> web.Response:
        return await self._changed(request, self._vendor.faults.add)

    async def _set(self, request: web.Request) -> web.Response:
        return await self._changed(request, self._vendor.faults.set)

    async def _clear(self, request: web.Request) -> web.Response:
        self._vendor.faults.clear()
        return self._faults()

    async def _changed(self, request: web.Request, change: Callable[..., None]) -> web.Response:
        try:
            change(*parse_faults((await request.read()).decode("utf-8", "replace")))
        except FaultError as error:
            return web.json_response({"error": str(error)}, status=422)
        return self._faults()

    def _faults(self) -> web.Response:
        return web.json_response({"faults": [fault_to_table(fault) for fault in self._vendor.faults]})


async def _not_found(request: web.Request) -> web.Response:
    there = f"GET {LEDGER_PATH}, and GET, POST, PUT and DELETE {FAULTS_PATH}"
    return web.json_response({"error": f"no {request.method} {request.path} here: there are {there}"}, status=404)


def parse_faults(text: str) -> list[Fault]:
    """Read what was posted: a fault, or a list of them, each as JSON or as it would stand in the header.

    Raises FaultError.
    """
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        told = text
    return [_parse_fault_document(each) for each in (told if isinstance(told, list) else [told])]


def _parse_fault_document(told: Any) -> Fault:
    match told:
        case str():
            return parse_fault(told)
        case dict():
            return fault_from_table(told)
        case _:
            raise FaultError(f'a fault is written {{"fault": "stall", "after": 0.8}} or stall;after=0.8, got {told!r}')
