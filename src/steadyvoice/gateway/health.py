"""Health and readiness checks: `GET /healthz` and `GET /readyz`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.http import Receive, Response, Scope, Send, json_response


class Health:
    """Liveness check, `GET /healthz`: 200 as long as the process answers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await json_response({"status": "ok"})(scope, receive, send)


class Readiness:
    """Readiness check, `GET /readyz`: 200 while a provider may be called, else 503 with the reasons."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await readiness(self._context)(scope, receive, send)


def readiness(context: GatewayContext) -> Response:
    """Return the readiness of the gateway and of each provider.

    Overload is reported, and does not make the gateway unready: a replica that is taken out of rotation leaves its
    load to the others.
    """
    overloaded = not context.service.admission.open
    if context.closing:
        document = {"ready": False, "reasons": ["gateway is shutting down"], "overloaded": overloaded, "providers": {}}
        return json_response(document, status=503)
    states = context.service.get_error_state()["providers"]
    providers = {name: _provider_readiness(state) for name, state in states.items()}
    reasons = [f"{name}: {each['reason']}" for name, each in providers.items() if each["reason"]]
    ready = any(each["ready"] for each in providers.values())
    document = {"ready": ready, "reasons": reasons, "overloaded": overloaded, "providers": providers}
    return json_response(document, status=200 if ready else 503)


def _provider_readiness(state: Mapping[str, Any]) -> dict[str, Any]:
    if not state["is_muted"]:
        return {"ready": True, "circuit_state": state["circuit_state"], "reason": None}
    transition, holds = state["last_transition"], state["holds"]
    refusing = state["circuit_state"] in ("open", "forced_open")
    circuit_reason = f"circuit {state['circuit_state']}: {transition['reason']}" if refusing and transition else None
    reason = circuit_reason or (f"{holds[0]['kind']}: {holds[0]['reason']}" if holds else "refuses calls")
    return {"ready": False, "circuit_state": state["circuit_state"], "reason": reason}
