"""One path, several methods; any other is refused in the words of whoever seems to be asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from steadyvoice.gateway.exchange import exchange_of
from steadyvoice.gateway.front import words_for
from steadyvoice.gateway.guard import Denial
from steadyvoice.gateway.reply import Receive, Scope, Send

Door = Callable[[Scope, Receive, Send], Awaitable[None]]
Doors = Mapping[str, Door]
"""Those of one path, by method."""


class Methods:
    """An ASGI application of others. Who answers GET answers HEAD."""

    def __init__(self, doors: Doors) -> None:
        self._doors = dict(doors)
        if "GET" in doors:
            self._doors.setdefault("HEAD", doors["GET"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        door = self._doors.get(scope["method"])
        if door:
            await door(scope, receive, send)
            return
        exchange, allowed = exchange_of(scope), ", ".join(self._doors)
        told = Denial(405, "method_not_allowed", f"{scope['method'][:20]} is not answered here, but {allowed}")
        exchange.add_headers({"allow": allowed})
        await words_for(scope["path"], exchange).denied(told, exchange.request_id)(scope, receive, send)
