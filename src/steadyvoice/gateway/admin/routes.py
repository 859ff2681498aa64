"""Routes of the admin API, test synthesis included.

Every action is recorded in the event log with its author.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, StrictBool, ValidationError

from steadyvoice.breaker import CircuitBreaker
from steadyvoice.gateway.admin.fleet_settings import SettingsFollower, announce_settings
from steadyvoice.gateway.admin.overview import Overview
from steadyvoice.gateway.admin.replay_preview import ReplayPreview
from steadyvoice.gateway.admin.request import MAX_STEP, AdminRequest, AdminRequestError
from steadyvoice.gateway.admin.server_sent_events import EventStreamEndpoint
from steadyvoice.gateway.admin.views import (
    apply_changes,
    circuit_view,
    config_view,
    configuration_view,
    merged_circuit_view,
    preset_name,
)
from steadyvoice.gateway.context import GatewayContext, log
from steadyvoice.gateway.dialects.base import INTERNAL_ERROR, GatewayDialect
from steadyvoice.gateway.http import (
    ClientDisconnectedError,
    HTTPError,
    Receive,
    Response,
    Scope,
    Send,
    compressed,
    error_response,
    json_response,
    to_json,
)
from steadyvoice.gateway.observability.event_recorder import changed_settings
from steadyvoice.gateway.observability.recent_calls import CALLS_KEPT, RecentCalls
from steadyvoice.gateway.reload import Reloader
from steadyvoice.gateway.request_context import Actor, acting_as
from steadyvoice.gateway.router import Endpoints
from steadyvoice.gateway.speech_endpoint import SpeechHandler
from steadyvoice.gateway.speech_request import GatewaySpeechRequest, RawRequest, header_options
from steadyvoice.gateway.workers.merging import merged_state
from steadyvoice.service.config_file import ConfigTable, Seconds
from steadyvoice.service.journal.writer import parse_journal_config
from steadyvoice.service.options import ResolvedOptions, SynthesisOptions
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.speech.text import clean_text
from steadyvoice.wire.error_response import single_line
from steadyvoice.wire.request_validation import RequestValidationError, ValidationIssue, parse_document

if TYPE_CHECKING:
    from steadyvoice.fleet import Fleet


class SayBody(ConfigTable):
    """Body of a test synthesis."""

    text: str
    voice: str = "default"
    format: str = "mp3_44100_128"


class SayDialect(GatewayDialect):
    """Dialect of the test synthesis: a JSON body, and errors in the gateway's own format."""

    name = "say"
    streams_audio = False

    def parse(self, request: RawRequest) -> GatewaySpeechRequest:
        """Parse a request. Raises RequestValidationError and TTSError."""
        body = _parsed_body(request.headers, request.body)
        text = clean_text(body.text)
        if not text.strip():
            raise RequestValidationError([ValidationIssue("too_short", ("text",), "must not be empty")])
        options = SynthesisOptions(voice=body.voice, format=body.format) | header_options(request.headers)
        return GatewaySpeechRequest(text, ResolvedOptions.resolve(options))

    def audio_headers(
        self, order: GatewaySpeechRequest, utterance: ReportedUtterance, request_id: str
    ) -> dict[str, str]:
        """Return a header that keeps the audio out of caches."""
        return {"cache-control": "no-store"}

    def validation_error(self, issues: Sequence[ValidationIssue], request_id: str) -> Response:
        """Return a 422 that names the first invalid field."""
        first = issues[0]
        field = ".".join(map(str, first.loc)).removeprefix("body.")[:100]
        return error_response(HTTPError(422, "invalid_field", f"{field}: {first.msg}", param=field))


def _parsed_body(headers: Mapping[bytes, bytes], body: bytes) -> SayBody:
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise RequestValidationError(
            [ValidationIssue("not_json", ("body",), "must be JSON: Content-Type: application/json")]
        )
    try:
        return SayBody.model_validate(parse_document(body))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise RequestValidationError([ValidationIssue(first["type"], first["loc"], first["msg"])]) from None


AdminHandler = Callable[[AdminRequest], Awaitable[Response]]

_DEFAULT_CALLS = 100


class EmptyBody(ConfigTable):
    """Body without any field."""


class ActionBody(ConfigTable):
    """Body of an action on a circuit. The reason is shown in the event log."""

    reason: Annotated[str, Field(max_length=500)] = ""


class ResetBody(ActionBody):
    """Body of a reset; `everywhere`: at all replicas of the fleet."""

    everywhere: StrictBool = False


class TimedActionBody(ActionBody):
    """Body of an action that forces a state for `duration` seconds; without it, until it is undone."""

    duration: Annotated[Seconds, Field(strict=True)] | None = None  # strict: pydantic would take true for 1 second


class OpenBody(TimedActionBody):
    """Body of an action that opens a circuit; `everywhere`: at all replicas of the fleet."""

    everywhere: StrictBool = False


REQUEST_SCHEMAS = {
    model.__name__: model.model_json_schema()
    for model in (EmptyBody, ActionBody, ResetBody, TimedActionBody, OpenBody, SayBody)
}
"""JSON Schemas of the bodies of admin requests, by name."""


def admin_routes(
    context: GatewayContext, calls: RecentCalls, overview: Overview, reloader: Reloader
) -> dict[str, Endpoints]:
    """Return all endpoints of the admin API, by path and method."""
    handlers = _AdminHandlers(context, calls, overview, reloader)
    circuit = "/admin/circuits/{name}"
    routes: dict[str, dict[str, AdminHandler]] = {
        "/admin/state": {"GET": handlers.state},
        "/admin/overview": {"GET": handlers.overview},
        "/admin/config": {"GET": handlers.config},
        "/admin/reload": {"POST": handlers.reload},
        "/admin/calls": {"GET": handlers.calls},
        "/admin/circuits": {"GET": handlers.circuits},
        circuit: {"GET": handlers.circuit, "PATCH": handlers.change},
        f"{circuit}/preview": {"POST": handlers.preview},
        f"{circuit}/reset": {"POST": handlers.reset},
        f"{circuit}/close": {"POST": handlers.close},
        f"{circuit}/open": {"POST": handlers.open},
        f"{circuit}/disable": {"POST": handlers.disable},
        f"{circuit}/monitor": {"POST": handlers.monitor},
    }
    endpoints: dict[str, Endpoints] = {
        "/admin/events": {"GET": EventStreamEndpoint(context)},
        "/admin/say": {"POST": SpeechHandler(context, SayDialect())},
    }
    for path, methods in routes.items():
        endpoints[path] = {method: _AdminEndpoint(context, handler) for method, handler in methods.items()}
    return endpoints


class _AdminEndpoint:
    """ASGI application around a handler below; turns its errors into responses."""

    def __init__(self, context: GatewayContext, handler: AdminHandler) -> None:
        self._context, self._handler = context, handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = AdminRequest(self._context, scope, receive)
        try:
            response = await self._handler(request)
        except AdminRequestError as error:
            response = error.response
        except ClientDisconnectedError:
            return
        except Exception as error:
            self._context.log_internal_error(request.request_context, error)
            response = AdminRequestError(500, "internal_error", INTERNAL_ERROR).response
        await response(scope, receive, send)


class _AdminHandlers:
    """Handlers of the admin API."""

    def __init__(self, context: GatewayContext, calls: RecentCalls, overview: Overview, reloader: Reloader) -> None:
        self._context, self._calls, self._overview, self._reloader = context, calls, overview, reloader
        self._preview = ReplayPreview()
        service = context.service
        context.answers |= {
            "state": lambda _: to_json(service.get_error_state()),
            "circuits": lambda _: {name: circuit_view(each) for name, each in service.circuits.items()},
            "settings": self._change_settings,
            "act": self._act_here,
        }
        context.on_stopped.append(service.follow_fleet(SettingsFollower(context).follow))
        context.answers["calls"] = lambda limit: [call.as_dict() for call in calls.newest(limit)]

    async def state(self, request: AdminRequest) -> Response:
        """Return the library's error state, unchanged; of several workers, their states as one."""
        states = await self._context.gather("state")
        state = states[0] if len(states) == 1 else merged_state(states)
        if self._context.workers:
            state = {**state, "workers": self._context.workers.status()}
        return compressed(json_response(state), request.request_context.headers)

    async def overview(self, request: AdminRequest) -> Response:
        """Return everything that the dashboard shows."""
        response = await self._overview.response(request.number("since", 1, MAX_STEP))
        return compressed(response, request.request_context.headers)

    async def config(self, request: AdminRequest) -> Response:
        """Return the configuration in force, without secrets."""
        return json_response(configuration_view(self._context))

    async def reload(self, request: AdminRequest) -> Response:
        """Reload the configuration file, and return the differences."""
        await request.form(EmptyBody)
        with acting_as(request.actor):
            return json_response(await self._reloader.reload())

    async def calls(self, request: AdminRequest) -> Response:
        """Return the newest calls, newest first."""
        limit = request.number("limit", _DEFAULT_CALLS, CALLS_KEPT)
        lists = await self._context.gather("calls", limit)
        calls = lists[0] if len(lists) == 1 else sorted(chain(*lists), key=_end_of_call, reverse=True)[:limit]
        return json_response({"calls": calls})

    async def circuits(self, request: AdminRequest) -> Response:
        """Return all circuits by name."""
        return json_response(
            {name: await self._view(circuit) for name, circuit in self._context.service.circuits.items()}
        )

    async def circuit(self, request: AdminRequest) -> Response:
        """Return one circuit: its settings, counts, and the explanation of its state."""
        return json_response(await self._view(self._circuit(request)))

    async def change(self, request: AdminRequest) -> Response:
        """Change settings of a circuit, all of them or none; with `?dry_run=yes`, return the differences only."""
        changes = await request.document()
        circuit = self._circuit(request)
        before = circuit.config
        after = apply_changes(before, changes)
        old, new = changed_settings(before, after)
        everywhere = request.flag("everywhere")
        if everywhere:
            self._fleet()
        if not request.flag("dry_run"):
            order = {"circuit": circuit.name, "changes": changes, "actor": request.actor.as_dict()}
            await self._context.order("settings", order)
            if everywhere:
                announce_settings(self._fleet(), circuit.name, changes)
            log.info("%s: settings changed by %s: %s -> %s", circuit.name, request.actor, old, new)
        summary = {"name": circuit.name, "changed": list(new), "preset": preset_name(after)}
        return json_response({**summary, "before": config_view(before), "after": config_view(after)})

    async def preview(self, request: AdminRequest) -> Response:
        """Replay the recent journal under changed settings of a circuit; nothing is changed."""
        changes = await request.document()
        circuit = self._circuit(request)
        after = apply_changes(circuit.config, changes)
        journal = parse_journal_config(self._context.service.settings.get("journal"))
        folder = journal.folder if journal else None
        return json_response(await self._preview.preview(folder, circuit.name, after, circuit.config))

    async def reset(self, request: AdminRequest) -> Response:
        """Close a circuit with an empty window, and release all holds."""
        return await self._act(request, await request.form(ResetBody))

    async def close(self, request: AdminRequest) -> Response:
        """Close a circuit from any state."""
        return await self._act(request, await request.form(ActionBody))

    async def open(self, request: AdminRequest) -> Response:
        """Force a circuit open."""
        return await self._act(request, await request.form(OpenBody))

    async def disable(self, request: AdminRequest) -> Response:
        """Disable a circuit: admit all calls and record none."""
        return await self._act(request, await request.form(TimedActionBody))

    async def monitor(self, request: AdminRequest) -> Response:
        """Set a circuit to monitoring: record all calls and refuse none."""
        return await self._act(request, await request.form(TimedActionBody))

    async def _act(self, request: AdminRequest, form: ActionBody) -> Response:
        """Record an action with its author and reason, have it performed, and return the circuit."""
        circuit, name = self._circuit(request), request.scope["path"].rpartition("/")[2]
        reason = single_line(form.reason, 500)
        facts: dict[str, Any] = {"action": name, "provider": circuit.name, "reason": reason}
        duration = form.duration if isinstance(form, TimedActionBody) else None
        if isinstance(form, TimedActionBody):
            facts["duration"] = duration
        everywhere = isinstance(form, ResetBody | OpenBody) and form.everywhere
        if everywhere:
            self._fleet()
            facts["everywhere"] = True
        with acting_as(request.actor):
            self._context.event_log.add("action", facts)
        until = None if duration is None else self._context.clock() + duration
        order = {"circuit": circuit.name, "action": name, "reason": reason, "duration": duration, "until": until}
        await self._context.order("act", {**order, "actor": request.actor.as_dict()})
        if everywhere:
            with acting_as(request.actor):
                self._act_everywhere(name, circuit.name, reason, duration)
        log.info("%s: %s by %s: %s", circuit.name, name, request.actor, reason or "no reason given")
        return json_response(circuit_view(circuit))

    def _act_everywhere(self, action: str, circuit: str, reason: str, duration: float | None) -> None:
        """Have all replicas of the fleet do what was done here."""
        service = self._context.service
        if action == "open":
            service.open_everywhere(circuit, reason=reason or "forced open everywhere", duration=duration)
        else:
            service.reset_everywhere(circuit, reason=reason or "reset everywhere")

    def _fleet(self) -> Fleet:
        fleet = self._context.service.fleet
        if fleet is None:
            message = "this gateway has no fleet: configure [fleet], or leave out `everywhere`"
            raise AdminRequestError(409, "no_fleet", message, field="everywhere")
        return fleet

    def _act_here(self, order: Mapping[str, Any]) -> bool:
        """Perform an action on a circuit of this process, and return whether it has that circuit."""
        service, reason, duration = self._context.service, order["reason"], order["duration"]
        circuit = service.circuits.get(order["circuit"])
        if circuit is None:
            return False
        with acting_as(Actor(**order["actor"])):
            match order["action"]:
                case "reset":
                    service.reset_circuit_breaker(circuit.name, reason=reason or "reset")
                case "close":
                    circuit.close(reason or "closed manually")
                case "open":
                    circuit.force_open(reason, duration)
                case "disable":
                    circuit.disable(reason, duration)
                case "monitor":
                    circuit.monitor(reason, duration)
        return True

    def _change_settings(self, order: Mapping[str, Any]) -> bool:
        """Change settings of a circuit of this process, and return whether it has that circuit."""
        circuit = self._context.service.circuits.get(order["circuit"])
        if circuit is None:
            return False
        with acting_as(Actor(**order["actor"])):
            circuit.update(apply_changes(circuit.config, order["changes"]))
        return True

    async def _view(self, circuit: CircuitBreaker) -> dict[str, Any]:
        if not self._context.workers:
            return circuit_view(circuit)
        views = [view for each in await self._context.gather("circuits") if (view := each.get(circuit.name))]
        return merged_circuit_view(views)

    def _circuit(self, request: AdminRequest) -> CircuitBreaker:
        circuits, name = self._context.service.circuits, request.path["name"]
        if name not in circuits:
            message = f"circuit not found; available: {', '.join(circuits)}"
            raise AdminRequestError(404, "not_found", message, field="name")
        return circuits[name]


def _end_of_call(call: Mapping[str, Any]) -> float:
    """Return the end of a call, by which calls are listed."""
    began: str = call["at"]
    return datetime.fromisoformat(began).timestamp() + float(call["seconds"])
