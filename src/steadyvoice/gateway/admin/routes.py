"""Routes of the admin API. Every action is recorded in the event log with its author."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from pydantic import Field

from steadyvoice.breaker import CircuitBreaker
from steadyvoice.gateway.admin.overview import Overview
from steadyvoice.gateway.admin.request import MAX_STEP, AdminRequest, AdminRequestError
from steadyvoice.gateway.admin.say import SayBody, SayDialect
from steadyvoice.gateway.admin.server_sent_events import EventStreamEndpoint
from steadyvoice.gateway.admin.views import (
    apply_changes,
    changed_settings,
    circuit_view,
    config_view,
    configuration_view,
    preset_name,
)
from steadyvoice.gateway.context import GatewayContext, log
from steadyvoice.gateway.http import ClientDisconnectedError, Receive, Response, Scope, Send, compressed, json_response
from steadyvoice.gateway.json_values import to_json
from steadyvoice.gateway.observability.recent_calls import CALLS_KEPT, RecentCalls
from steadyvoice.gateway.reload import Reloader
from steadyvoice.gateway.request_context import acting_as
from steadyvoice.gateway.router import Endpoints
from steadyvoice.gateway.speech_endpoint import SpeechHandler
from steadyvoice.service.config_file import ConfigTable, Seconds
from steadyvoice.wire.error_response import single_line

AdminHandler = Callable[[AdminRequest], Awaitable[Response]]

_DEFAULT_CALLS = 100  # calls, unless said otherwise


class EmptyBody(ConfigTable):
    """There is nothing to be said."""


class ActionBody(ConfigTable):
    """Why somebody does something."""

    reason: Annotated[str, Field(max_length=500)] = ""


class TimedActionBody(ActionBody):
    """And for how many seconds; without, until somebody undoes it."""

    duration: Annotated[Seconds, Field(strict=True)] | None = None  # a JSON number: true is not one second


REQUEST_SCHEMAS = {
    model.__name__: model.model_json_schema() for model in (EmptyBody, ActionBody, TimedActionBody, SayBody)
}
"""What actions take, as JSON Schema."""


def admin_routes(
    context: GatewayContext, calls: RecentCalls, board: Overview, reloader: Reloader
) -> dict[str, Endpoints]:
    """All of them, by path."""
    desk = _AdminHandlers(context, calls, board, reloader)
    circuit = "/admin/circuits/{name}"
    doors: dict[str, dict[str, AdminHandler]] = {
        "/admin/state": {"GET": desk.state},
        "/admin/board": {"GET": desk.board},
        "/admin/config": {"GET": desk.config},
        "/admin/reload": {"POST": desk.reload},
        "/admin/calls": {"GET": desk.calls},
        "/admin/circuits": {"GET": desk.circuits},
        circuit: {"GET": desk.circuit, "PATCH": desk.change},
        f"{circuit}/reset": {"POST": desk.reset},
        f"{circuit}/close": {"POST": desk.close},
        f"{circuit}/open": {"POST": desk.open},
        f"{circuit}/disable": {"POST": desk.disable},
        f"{circuit}/monitor": {"POST": desk.monitor},
    }
    own: dict[str, Endpoints] = {
        "/admin/events": {"GET": EventStreamEndpoint(context)},
        "/admin/say": {"POST": SpeechHandler(context, SayDialect())},
    }
    for path, answers in doors.items():
        own[path] = {method: _AdminEndpoint(context, answer) for method, answer in answers.items()}
    return own


class _AdminEndpoint:
    """An ASGI application around one of the answers below."""

    def __init__(self, context: GatewayContext, answer: AdminHandler) -> None:
        self._context, self._answer = context, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = AdminRequest(self._context, scope, receive)
        try:
            reply = await self._answer(request)
        except AdminRequestError as refused:
            reply = refused.reply
        except ClientDisconnectedError:
            return
        except Exception as error:
            self._context.log_internal_error(request.request_context, error)
            reply = AdminRequestError(
                500, "internal_error", "something here went wrong; the gateway's log says what"
            ).reply
        await reply(scope, receive, send)


class _AdminHandlers:
    """Answers."""

    def __init__(self, context: GatewayContext, calls: RecentCalls, board: Overview, reloader: Reloader) -> None:
        self._context, self._calls, self._board, self._reloader = context, calls, board, reloader

    async def state(self, request: AdminRequest) -> Response:
        """Exactly what the library says."""
        return compressed(
            json_response(to_json(self._context.service.get_error_state())), request.request_context.headers
        )

    async def board(self, request: AdminRequest) -> Response:
        """What the dashboard shows."""
        return compressed(await self._board.told(request.number("since", 1, MAX_STEP)), request.request_context.headers)

    async def config(self, request: AdminRequest) -> Response:
        return json_response(configuration_view(self._context))

    async def reload(self, request: AdminRequest) -> Response:
        """The file once more."""
        await request.form(EmptyBody)
        with acting_as(request.author):
            return json_response(await self._reloader.reload())

    async def calls(self, request: AdminRequest) -> Response:
        most = request.number("limit", _DEFAULT_CALLS, CALLS_KEPT)
        return json_response({"calls": [call.as_dict() for call in self._calls.newest(most)]})

    async def circuits(self, request: AdminRequest) -> Response:
        return json_response({name: circuit_view(circuit) for name, circuit in self._context.service.circuits.items()})

    async def circuit(self, request: AdminRequest) -> Response:
        return json_response(circuit_view(self._circuit(request)))

    async def change(self, request: AdminRequest) -> Response:
        """New settings, all of them or none; with `?dry_run=yes`, only what they would change."""
        wanted = await request.document()
        circuit = self._circuit(request)
        before = circuit.config
        after = apply_changes(before, wanted)
        was, now = changed_settings(before, after)
        if not request.flag("dry_run"):
            with acting_as(request.author):
                circuit.update(after)
            log.info("%s: settings changed by %s: %s -> %s", circuit.name, request.author, was, now)
        told = {"name": circuit.name, "changed": list(now), "preset": preset_name(after)}
        return json_response({**told, "before": config_view(before), "after": config_view(after)})

    async def reset(self, request: AdminRequest) -> Response:
        """As if new, with nothing on hold."""
        form = await request.form(ActionBody)
        circuit, service = self._circuit(request), self._context.service
        return self._act(request, form, lambda why: service.reset_circuit_breaker(circuit.name, reason=why or "reset"))

    async def close(self, request: AdminRequest) -> Response:
        form = await request.form(ActionBody)
        return self._act(request, form, lambda why: self._circuit(request).close(why or "closed by hand"))

    async def open(self, request: AdminRequest) -> Response:
        form = await request.form(TimedActionBody)
        return self._act(request, form, lambda why: self._circuit(request).force_open(why, form.duration))

    async def disable(self, request: AdminRequest) -> Response:
        form = await request.form(TimedActionBody)
        return self._act(request, form, lambda why: self._circuit(request).disable(why, form.duration))

    async def monitor(self, request: AdminRequest) -> Response:
        form = await request.form(TimedActionBody)
        return self._act(request, form, lambda why: self._circuit(request).monitor(why, form.duration))

    def _act(self, request: AdminRequest, form: ActionBody, action: Callable[[str], None]) -> Response:
        """Do it, and write down who wanted it and why; then show what has come of it."""
        circuit, word = self._circuit(request), request.scope["path"].rpartition("/")[2]
        reason = single_line(form.reason, 500)
        facts: dict[str, Any] = {"action": word, "provider": circuit.name, "reason": reason}
        if isinstance(form, TimedActionBody):
            facts["duration"] = form.duration
        with acting_as(request.author):
            self._context.event_log.note("action", facts)
            action(reason)
        log.info("%s: %s by %s: %s", circuit.name, word, request.author, reason or "no reason given")
        return json_response(circuit_view(circuit))

    def _circuit(self, request: AdminRequest) -> CircuitBreaker:
        circuits, name = self._context.service.circuits, request.path["name"]
        if name not in circuits:
            told = f"there is no circuit of that name; there is {', '.join(circuits)}"
            raise AdminRequestError(404, "not_found", told, field="name")
        return circuits[name]
