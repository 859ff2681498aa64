"""Health and readiness checks: `GET /healthz` and `GET /readyz`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.http import Receive, Response, Scope, Send, json_response


class Health:
    """`GET /healthz`: the process lives, and answers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await json_response({"status": "ok"})(scope, receive, send)


class Readiness:
    """`GET /readyz`: whether anybody could be heard now, and if not, why not."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await readiness(self._context)(scope, receive, send)


def readiness(context: GatewayContext) -> Response:
    """Ready is who has a provider that may be asked; muted, a caller would hear silence.

    Overload is told, and is no reason: what is taken out of rotation leaves its load to the others.
    """
    overloaded = not context.service.admission.open
    if context.closing:
        told = {"ready": False, "reasons": ["the gateway is shutting down"], "overloaded": overloaded, "providers": {}}
        return json_response(told, status=503)
    providers = {
        name: _provider_readiness(state) for name, state in context.service.get_error_state()["providers"].items()
    }
    reasons = [f"{name}: {each['reason']}" for name, each in providers.items() if each["reason"]]
    ready = any(each["ready"] for each in providers.values())
    told = {"ready": ready, "reasons": reasons, "overloaded": overloaded, "providers": providers}
    return json_response(told, status=200 if ready else 503)


def _provider_readiness(state: Mapping[str, Any]) -> dict[str, Any]:
    """Whether a provider may be asked, by its error state."""
    if not state["is_muted"]:
        return {"ready": True, "circuit_state": state["circuit_state"], "reason": None}
    moved, held = state["last_transition"], state["holds"]
    refusing = state["circuit_state"] in ("open", "forced_open")
    why = f"circuit {state['circuit_state']}: {moved['reason']}" if refusing and moved else None
    reason = why or (f"{held[0]['kind']}: {held[0]['because']}" if held else "refuses calls")
    return {"ready": False, "circuit_state": state["circuit_state"], "reason": reason}
