"""Route table: what a request's path leads to and who may ask for it, decided in one place after decoding.

A route belongs to a room, and the room decides which credential is needed (`guard.py`). No other module compares paths
to authorise: a router whose expressions end with `$` took `/metrics%0A` for `/metrics`, the check before it did not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from steadyvoice.gateway.guard import Room
from steadyvoice.gateway.path_suggestions import PathSuggestions, Suggestion
from steadyvoice.gateway.reply import Receive, Scope, Send

Door = Callable[[Scope, Receive, Send], Awaitable[None]]
Doors = Mapping[str, Door]
"""The ASGI applications of one path, by method."""


@dataclass(frozen=True, slots=True)
class Route:
    """The endpoint behind a path. One without `doors` is unknown; `problem` names what cannot be read in the path.

    An unknown one may have the endpoint that was probably meant, and its methods.
    """

    room: Room
    doors: Doors = field(default_factory=dict)
    problem: str | None = None
    suggestion: Suggestion | None = None
    suggested_methods: tuple[str, ...] = ()

    @staticmethod
    def to(room: Room, doors: Doors) -> Route:
        """Make a route for these methods; GET answers HEAD as well."""
        head = {"HEAD": doors["GET"]} if "GET" in doors else {}
        return Route(room, {**doors, **head})


class RouteTable:
    """Every route, by its path. A path has at most one parameter, written `{name}`, which is one step of it.

    Paths match exactly as they are after percent-decoding: no other case, no slash more or less, no dot segments.
    """

    def __init__(self, rooms: Mapping[Room, Mapping[str, Doors]]) -> None:
        self._fixed: dict[str, Route] = {}
        self._named: dict[str, tuple[str, dict[str, Route]]] = {}  # by what precedes the parameter
        self._routes = {path: Route.to(room, doors) for room, paths in rooms.items() for path, doors in paths.items()}
        for path, route in self._routes.items():
            self._add(path, route)
        self._suggestions = PathSuggestions([path for path, each in self._routes.items() if each.room is not Room.PAGE])
        self._forgotten = {
            prefix + suffix.split("/")[1]
            for prefix, (_, suffixes) in self._named.items()
            for suffix, route in suffixes.items()
            if suffix and route.room is Room.SPEECH
        }
        """What a vendor's path begins with when its parameter was forgotten, such as `/v1/text-to-speech/stream`."""

    def _add(self, path: str, route: Route) -> None:
        prefix, brace, rest = path.partition("{")
        if not brace:
            self._fixed[path] = route
            return
        name, _, suffix = rest.partition("}")
        self._named.setdefault(prefix, (name, {}))[1][suffix] = route

    def find(self, path: str, raw: bytes) -> tuple[Route, dict[str, str]]:
        """Return the route of a path, and its parameters. `path` is decoded; `raw` is how it came."""
        if b"%" in raw:
            return self._find_quoted(path, raw)
        if route := self._fixed.get(path):
            return route, {}
        for prefix, (name, suffixes) in self._named.items():
            if path.startswith(prefix):
                value, slash, suffix = path[len(prefix) :].partition("/")
                if value and (route := suffixes.get(slash + suffix)):
                    if prefix + value in self._forgotten:
                        break
                    return route, {name: value}
        return self._unknown(path), {}

    def _find_quoted(self, path: str, raw: bytes) -> tuple[Route, dict[str, str]]:
        """Do the same step by step: a quoted slash belongs to its step, which may be an operator's name for a voice."""
        steps = [unquote(step, errors="surrogateescape") for step in raw.decode("latin-1").split("/")]
        if not any("/" in step for step in steps) and (route := self._fixed.get("/".join(steps))):
            return route, {}
        for prefix, (name, suffixes) in self._named.items():
            before = prefix.split("/")[:-1]
            at = len(before)
            if steps[:at] != before or not steps[at:] or not steps[at]:
                continue
            after = steps[at + 1 :]
            if not any("/" in step for step in after) and (
                route := suffixes.get("".join(f"/{each}" for each in after))
            ):
                if _is_text(steps[at]):
                    return route, {name: steps[at]}
                return Route(route.room, problem=f"{name}: must be UTF-8 behind its percent-encoding"), {}
        return self._unknown(path), {}

    def _unknown(self, path: str) -> Route:
        """Choose the room of a path without a route. Nothing is served there; the room decides how it is refused."""
        suggestion = self._suggestions.find(path)
        meant = self._routes[suggestion.path] if suggestion else None
        room = Room.PAGE
        if path.startswith("/admin"):
            room = Room.ADMIN
        elif path.startswith(("/v1/", "/v2/")) or (meant and meant.room is Room.SPEECH):
            room = Room.SPEECH
        return Route(room, suggestion=suggestion, suggested_methods=tuple(meant.doors) if meant else ())


def _is_text(step: str) -> bool:
    return not any("\udc80" <= character <= "\udcff" for character in step)
