"""`/admin`: how everything is doing, and what can be done about it. Every action is written down with who did it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from pydantic import Field

from steadyvoice.breaker import CircuitBreaker
from steadyvoice.gateway.ask import FAR, Ask
from steadyvoice.gateway.author import by
from steadyvoice.gateway.board import Board
from steadyvoice.gateway.calls import CALLS_KEPT, RecentCalls
from steadyvoice.gateway.circuits import changed, changes, preset_of, shown_circuit, shown_config
from steadyvoice.gateway.config import shown_house
from steadyvoice.gateway.house import House, log
from steadyvoice.gateway.paths import Doors
from steadyvoice.gateway.plain import plain
from steadyvoice.gateway.refusal import RefusedError
from steadyvoice.gateway.reload import Reloader
from steadyvoice.gateway.reply import ClientGoneError, Receive, Reply, Scope, Send, json_reply
from steadyvoice.gateway.say import Say, SayDialect
from steadyvoice.gateway.speech import SpeechDoor
from steadyvoice.gateway.squeezed import squeezed
from steadyvoice.gateway.sse import EventsDoor
from steadyvoice.service.settings import Seconds, Table
from steadyvoice.wire.error_response import single_line

Answer = Callable[[Ask], Awaitable[Reply]]

_SHOWN = 100  # calls, unless said otherwise


class Nothing(Table):
    """There is nothing to be said."""


class Reasoned(Table):
    """Why somebody does something."""

    reason: Annotated[str, Field(max_length=500)] = ""


class Lasting(Reasoned):
    """And for how many seconds; without, until somebody undoes it."""

    duration: Annotated[Seconds, Field(strict=True)] | None = None  # a JSON number: true is not one second


BODIES = {model.__name__: model.model_json_schema() for model in (Nothing, Reasoned, Lasting, Say)}
"""What actions take, as JSON Schema."""


def admin_doors(house: House, calls: RecentCalls, board: Board, reloader: Reloader) -> dict[str, Doors]:
    """All of them, by path."""
    desk = _Desk(house, calls, board, reloader)
    circuit = "/admin/circuits/{name}"
    doors: dict[str, dict[str, Answer]] = {
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
    own: dict[str, Doors] = {
        "/admin/events": {"GET": EventsDoor(house)},
        "/admin/say": {"POST": SpeechDoor(house, SayDialect())},
    }
    for path, answers in doors.items():
        own[path] = {method: _Door(house, answer) for method, answer in answers.items()}
    return own


class _Door:
    """An ASGI application around one of the answers below."""

    def __init__(self, house: House, answer: Answer) -> None:
        self._house, self._answer = house, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ask = Ask(self._house, scope, receive)
        try:
            reply = await self._answer(ask)
        except RefusedError as refused:
            reply = refused.reply
        except ClientGoneError:
            return
        except Exception as error:
            self._house.broken(ask.exchange, error)
            reply = RefusedError(500, "internal_error", "something here went wrong; the gateway's log says what").reply
        await reply(scope, receive, send)


class _Desk:
    """Answers."""

    def __init__(self, house: House, calls: RecentCalls, board: Board, reloader: Reloader) -> None:
        self._house, self._calls, self._board, self._reloader = house, calls, board, reloader

    async def state(self, ask: Ask) -> Reply:
        """Exactly what the library says."""
        return squeezed(json_reply(plain(self._house.service.get_error_state())), ask.exchange)

    async def board(self, ask: Ask) -> Reply:
        """What the dashboard shows."""
        return squeezed(await self._board.told(ask.number("since", 1, FAR)), ask.exchange)

    async def config(self, ask: Ask) -> Reply:
        return json_reply(shown_house(self._house))

    async def reload(self, ask: Ask) -> Reply:
        """The file once more."""
        await ask.form(Nothing)
        with by(ask.author):
            return json_reply(await self._reloader.reload())

    async def calls(self, ask: Ask) -> Reply:
        most = ask.number("limit", _SHOWN, CALLS_KEPT)
        return json_reply({"calls": [call.as_dict() for call in self._calls.newest(most)]})

    async def circuits(self, ask: Ask) -> Reply:
        return json_reply({name: shown_circuit(circuit) for name, circuit in self._house.service.circuits.items()})

    async def circuit(self, ask: Ask) -> Reply:
        return json_reply(shown_circuit(self._circuit(ask)))

    async def change(self, ask: Ask) -> Reply:
        """New settings, all of them or none; with `?dry_run=yes`, only what they would change."""
        wanted = await ask.document()
        circuit = self._circuit(ask)
        before = circuit.config
        after = changed(before, wanted)
        was, now = changes(before, after)
        if not ask.flag("dry_run"):
            with by(ask.author):
                circuit.update(after)
            log.info("%s: settings changed by %s: %s -> %s", circuit.name, ask.author, was, now)
        told = {"name": circuit.name, "changed": list(now), "preset": preset_of(after)}
        return json_reply({**told, "before": shown_config(before), "after": shown_config(after)})

    async def reset(self, ask: Ask) -> Reply:
        """As if new, with nothing on hold."""
        form = await ask.form(Reasoned)
        circuit, service = self._circuit(ask), self._house.service
        return self._act(ask, form, lambda why: service.reset_circuit_breaker(circuit.name, reason=why or "reset"))

    async def close(self, ask: Ask) -> Reply:
        form = await ask.form(Reasoned)
        return self._act(ask, form, lambda why: self._circuit(ask).close(why or "closed by hand"))

    async def open(self, ask: Ask) -> Reply:
        form = await ask.form(Lasting)
        return self._act(ask, form, lambda why: self._circuit(ask).force_open(why, form.duration))

    async def disable(self, ask: Ask) -> Reply:
        form = await ask.form(Lasting)
        return self._act(ask, form, lambda why: self._circuit(ask).disable(why, form.duration))

    async def monitor(self, ask: Ask) -> Reply:
        form = await ask.form(Lasting)
        return self._act(ask, form, lambda why: self._circuit(ask).monitor(why, form.duration))

    def _act(self, ask: Ask, form: Reasoned, action: Callable[[str], None]) -> Reply:
        """Do it, and write down who wanted it and why; then show what has come of it."""
        circuit, word = self._circuit(ask), ask.scope["path"].rpartition("/")[2]
        reason = single_line(form.reason, 500)
        facts: dict[str, Any] = {"action": word, "provider": circuit.name, "reason": reason}
        if isinstance(form, Lasting):
            facts["duration"] = form.duration
        with by(ask.author):
            self._house.journal.note("action", facts)
            action(reason)
        log.info("%s: %s by %s: %s", circuit.name, word, ask.author, reason or "no reason given")
        return json_reply(shown_circuit(circuit))

    def _circuit(self, ask: Ask) -> CircuitBreaker:
        circuits, name = self._house.service.circuits, ask.path["name"]
        if name not in circuits:
            told = f"there is no circuit of that name; there is {', '.join(circuits)}"
            raise RefusedError(404, "not_found", told, field="name")
        return circuits[name]
