"""A proxy in front of the simulator that records what it was sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web


@dataclass
class RecordingVendor:
    """Bodies that clients posted, newest last, the targets of all requests, and the vendor's URL."""

    url: str = ""
    targets: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def ids(self, name: str = "previous_request_ids") -> list[Any]:
        """Return one field of every body; None where it was left out."""
        return [body.get(name) for body in self.bodies]


@asynccontextmanager
async def recording_vendor(vendor: str) -> AsyncIterator[RecordingVendor]:
    """Forward everything to `vendor`, and remember the bodies of what was posted."""
    recorder = RecordingVendor()

    async def forward(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        recorder.targets.append(request.raw_path)
        if request.method == "POST":
            recorder.bodies.append(json.loads(body))
        headers = {name: request.headers[name] for name in ("xi-api-key", "content-type") if name in request.headers}
        async with client.request(request.method, vendor + request.path_qs, data=body, headers=headers) as answer:
            passed_headers = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
            return web.Response(status=answer.status, body=await answer.read(), headers=passed_headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    async with aiohttp.ClientSession() as client:
        await site.start()
        recorder.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield recorder
        finally:
            await runner.cleanup()


# Of the connection, not of the response: the proxy sets its own.
_HOP_BY_HOP = ("transfer-encoding", "content-length", "connection", "date", "server")
