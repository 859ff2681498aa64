"""The gateway's own words, and the doors at which whoever runs it asks how it is doing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steadyvoice.gateway.guard import Denial
from steadyvoice.gateway.house import House
from steadyvoice.gateway.reply import Receive, Reply, Scope, Send, json_reply


def error_reply(
    status: int, code: str, message: str, *, field: str | None = None, headers: Mapping[str, str] | None = None
) -> Reply:
    """An error in the gateway's own words; `field` is what was wrong with a change."""
    return json_reply({"error": {"code": code, "message": message, "field": field}}, status=status, headers=headers)


class OwnWords:
    """Refusals at doors that are no vendor's."""

    def denied(self, denial: Denial, request_id: str) -> Reply:
        """Answer who may not come in."""
        return error_reply(denial.status, denial.code, denial.message)


class Health:
    """`GET /healthz`: the process lives, and answers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await json_reply({"status": "ok"})(scope, receive, send)


class Readiness:
    """`GET /readyz`: whether anybody could be heard now, and if not, why not."""

    def __init__(self, house: House) -> None:
        self._house = house

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await readiness(self._house)(scope, receive, send)


def readiness(house: House) -> Reply:
    """Ready is who has a provider that may be asked; muted, a caller would hear silence.

    Overload is told, and is no reason: what is taken out of rotation leaves its load to the others.
    """
    overloaded = not house.service.admission.open
    if house.closing:
        told = {"ready": False, "reasons": ["the gateway is shutting down"], "overloaded": overloaded, "providers": {}}
        return json_reply(told, status=503)
    providers = {name: _standing(state) for name, state in house.service.get_error_state()["providers"].items()}
    reasons = [f"{name}: {each['reason']}" for name, each in providers.items() if each["reason"]]
    ready = any(each["ready"] for each in providers.values())
    told = {"ready": ready, "reasons": reasons, "overloaded": overloaded, "providers": providers}
    return json_reply(told, status=200 if ready else 503)


def _standing(state: Mapping[str, Any]) -> dict[str, Any]:
    """Whether a provider may be asked, by its error state."""
    if not state["is_muted"]:
        return {"ready": True, "circuit_state": state["circuit_state"], "reason": None}
    moved, held = state["last_transition"], state["holds"]
    refusing = state["circuit_state"] in ("open", "forced_open")
    why = f"circuit {state['circuit_state']}: {moved['reason']}" if refusing and moved else None
    reason = why or (f"{held[0]['kind']}: {held[0]['because']}" if held else "refuses calls")
    return {"ready": False, "circuit_state": state["circuit_state"], "reason": reason}
