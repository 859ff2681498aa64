"""Control endpoints of the simulator, under /sim: read the ledger, change the faults."""

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
    """Routes of the control endpoints: GET the ledger; GET, POST (add), PUT (replace) and DELETE faults."""

    def __init__(self, vendor: SimulatedVendor) -> None:
        self._vendor = vendor

    def routes(self) -> list[web.RouteDef]:
        """Return all control routes."""
        return [
            web.get(LEDGER_PATH, self._ledger, allow_head=False),
            web.get(FAULTS_PATH, self._list, allow_head=False),
            web.post(FAULTS_PATH, self._add),
            web.put(FAULTS_PATH, self._set),
            web.delete(FAULTS_PATH, self._clear),
            # The vendors' routes come later and would answer in a vendor's form.
            web.route("*", "/sim{path:(/.*)?}", _not_found),
        ]

    async def _ledger(self, request: web.Request) -> web.Response:
        return web.json_response(self._vendor.ledger.as_dict())

    async def _list(self, request: web.Request) -> web.Response:
        return self._fault_list()

    async def _add(self, request: web.Request) -> web.Response:
        return await self._change(request, self._vendor.faults.add)

    async def _set(self, request: web.Request) -> web.Response:
        return await self._change(request, self._vendor.faults.set)

    async def _clear(self, request: web.Request) -> web.Response:
        self._vendor.faults.clear()
        return self._fault_list()

    async def _change(self, request: web.Request, change: Callable[..., None]) -> web.Response:
        try:
            change(*parse_faults((await request.read()).decode("utf-8", "replace")))
        except FaultError as error:
            return web.json_response({"error": str(error)}, status=422)
        return self._fault_list()

    def _fault_list(self) -> web.Response:
        return web.json_response({"faults": [fault_to_table(fault) for fault in self._vendor.faults]})


async def _not_found(request: web.Request) -> web.Response:
    routes = f"GET {LEDGER_PATH}, and GET, POST, PUT and DELETE {FAULTS_PATH}"
    message = f"no route for {request.method} {request.path}; available: {routes}"
    return web.json_response({"error": message}, status=404)


def parse_faults(text: str) -> list[Fault]:
    """Parse a request body: a fault or a list of faults, each as a JSON object or in the form of the header.

    Raises FaultError.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = text
    return [_parse_fault_document(each) for each in (document if isinstance(document, list) else [document])]


def _parse_fault_document(document: Any) -> Fault:
    match document:
        case str():
            return parse_fault(document)
        case dict():
            return fault_from_table(document)
        case _:
            raise FaultError(
                f'a fault must be like {{"fault": "stall", "after": 0.8}} or stall;after=0.8, got {document!r}'
            )
