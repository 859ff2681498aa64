"""HTTP router: the endpoint and route class of a path, and suggestions for unknown paths.

A route's class decides which credential is needed (`access_control.py`). Paths are matched here and nowhere else,
after percent-decoding: a former router, whose expressions ended with `$`, took `/metrics%0A` for `/metrics`, while the
check before it did not.

Clients put base URL and path together in many ways: a `/v1` too many or too few, a trailing slash, another case, a
reverse proxy's prefix. Suggestions consist of an endpoint's own path and, where it is harmless, the id from the
client's path; nothing else of a request is echoed.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import NamedTuple
from urllib.parse import unquote

from steadyvoice.gateway.access_control import RouteClass
from steadyvoice.gateway.http import Receive, Scope, Send
from steadyvoice.wire.elevenlabs.speech import SpeechEndpoint

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]
Endpoints = Mapping[str, Endpoint]
"""The ASGI applications of one path, by method."""


@dataclass(frozen=True, slots=True)
class Route:
    """The endpoint behind a path. One without `doors` is unknown; `problem` names what cannot be read in the path.

    An unknown one may have the endpoint that was probably meant, and its methods.
    """

    route_class: RouteClass
    endpoints: Endpoints = field(default_factory=dict)
    problem: str | None = None
    suggestion: Suggestion | None = None
    suggested_methods: tuple[str, ...] = ()

    @staticmethod
    def to(room: RouteClass, doors: Endpoints) -> Route:
        """Make a route for these methods; GET answers HEAD as well."""
        head = {"HEAD": doors["GET"]} if "GET" in doors else {}
        return Route(room, {**doors, **head})


class RouteTable:
    """Every route, by its path. A path has at most one parameter, written `{name}`, which is one step of it.

    Paths match exactly as they are after percent-decoding: no other case, no slash more or less, no dot segments.
    """

    def __init__(self, rooms: Mapping[RouteClass, Mapping[str, Endpoints]]) -> None:
        self._fixed: dict[str, Route] = {}
        self._named: dict[str, tuple[str, dict[str, Route]]] = {}  # by what precedes the parameter
        self._routes = {path: Route.to(room, doors) for room, paths in rooms.items() for path, doors in paths.items()}
        for path, route in self._routes.items():
            self._add(path, route)
        self._suggestions = PathSuggestions(
            [path for path, each in self._routes.items() if each.route_class is not RouteClass.PAGE]
        )
        self._forgotten = {
            prefix + suffix.split("/")[1]
            for prefix, (_, suffixes) in self._named.items()
            for suffix, route in suffixes.items()
            if suffix and route.route_class is RouteClass.SPEECH
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
                return Route(route.route_class, problem=f"{name}: must be UTF-8 behind its percent-encoding"), {}
        return self._unknown(path), {}

    def _unknown(self, path: str) -> Route:
        """Choose the room of a path without a route. Nothing is served there; the room decides how it is refused."""
        suggestion = self._suggestions.find(path)
        meant = self._routes[suggestion.path] if suggestion else None
        room = RouteClass.PAGE
        if path.startswith("/admin"):
            room = RouteClass.ADMIN
        elif path.startswith(("/v1/", "/v2/")) or (meant and meant.route_class is RouteClass.SPEECH):
            room = RouteClass.SPEECH
        return Route(room, suggestion=suggestion, suggested_methods=tuple(meant.endpoints) if meant else ())


def _is_text(step: str) -> bool:
    return not any("\udc80" <= character <= "\udcff" for character in step)


Steps = tuple[str, ...]

_MAX_PATH = 300  # characters of a path that are looked at
_MAX_STEPS = 12
_MIN_SIMILARITY = 0.75  # of difflib's ratio: "speach" is "speech", "transcriptions" is nothing of ours
_HARMLESS_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_VERSION = re.compile(r"v\d")
_VARIANT_SUFFIXES = frozenset(step for form in SpeechEndpoint for step in form.value.split("/") if step)

_ALIASES: dict[Steps, str] = {
    ("speech",): "/v1/audio/speech",
    ("tts",): "/v1/audio/speech",
    ("synthesize",): "/v1/audio/speech",
    ("generate",): "/v1/audio/speech",
    ("health",): "/healthz",
    ("ready",): "/readyz",
}
"""What other servers call the same."""


class Suggestion(NamedTuple):
    """An endpoint: its `path` in the route table, and that path `filled` with the client's own id if it is plain."""

    path: str
    filled: str


class PathSuggestions:
    """Finds the endpoint that is most like a path without one."""

    def __init__(self, paths: Collection[str]) -> None:
        known: dict[Steps, str] = {}
        self._all = frozenset(paths)
        for path in paths:
            if core := _core(path.split("/")):
                known.setdefault(core, path)  # of two versions, the first
        nameless = {tuple(step for step in core if step != _PARAMETER): path for core, path in known.items()}
        others = {core: path for core, path in _ALIASES.items() if path in known.values()}
        self._paths: dict[Steps, str] = {**others, **nameless, **known}

    def find(self, path: str) -> Suggestion | None:
        """Return the endpoint that a client most likely meant by this path, which has no route; None for no idea."""
        if len(path) > _MAX_PATH or not path.isprintable():
            return None
        steps = [step.strip() for step in path.replace("\\", "/").split("/")]
        core = _core(steps)
        if not 0 < len(core) <= _MAX_STEPS:
            return None
        found = self._same(core) or self._similar(core)
        versions = [step.lower() for step in steps if _VERSION.fullmatch(step.lower())]
        return self._of_version(found, versions[-1]) if found and versions else found

    def _of_version(self, found: Suggestion, version: str) -> Suggestion:
        """Prefer the version that the client names last, where it has the same endpoint."""
        other = _with_version(found.path, version)
        return Suggestion(other, _with_version(found.filled, version)) if other in self._all else found

    def _same(self, core: Steps) -> Suggestion | None:
        """Find an endpoint's own steps among these: all of them, the last of them, or the first."""
        places = [core[begin:] for begin in range(len(core))]
        if end := get_close_matches(_normalized(core[-1]), _VARIANT_SUFFIXES, 1, _MIN_SIMILARITY):
            places += [(*core[begin:-1], end[0]) for begin in range(len(core))]
        places += [core[begin:end] for end in range(len(core) - 1, 0, -1) for begin in range(end)]
        return next((found for place in places if (found := self._exactly(place))), None)

    def _exactly(self, core: Steps) -> Suggestion | None:
        asked = tuple(_normalized(step) for step in core)
        if path := self._paths.get(asked):
            return Suggestion(path, path)
        for known, path in self._paths.items():
            if len(known) == len(asked) and _PARAMETER in known:
                at = known.index(_PARAMETER)
                if (
                    known[:at] == asked[:at]
                    and known[at + 1 :] == asked[at + 1 :]
                    and asked[at] not in _VARIANT_SUFFIXES
                ):
                    return Suggestion(path, _filled(path, core[at]))
        return None

    def _similar(self, core: Steps) -> Suggestion | None:
        """Find one whose first steps are written almost like these."""
        known = {"/".join(each): path for each, path in self._paths.items() if _PARAMETER not in each}
        asked = "/".join(core).lower().replace("_", "-")
        near = get_close_matches(asked, known, 1, _MIN_SIMILARITY) or get_close_matches(
            core[0].lower(), known, 1, _MIN_SIMILARITY
        )
        return Suggestion(known[near[0]], known[near[0]]) if near else None


_PARAMETER = "{}"  # in place of a parameter


def _core(steps: Sequence[str]) -> Steps:
    """Leave out what clients get wrong: empty steps and the version. A parameter is whatever it is."""
    kept = [step for step in steps if step and not _VERSION.fullmatch(step.lower())]
    return tuple(_PARAMETER if step.startswith("{") and step.endswith("}") else step for step in kept)


def _normalized(step: str) -> str:
    return step.lower().replace("_", "-")


def _with_version(path: str, version: str) -> str:
    first, slash, rest = path[1:].partition("/")
    return f"/{version}{slash}{rest}" if _VERSION.fullmatch(first) else path


def _filled(path: str, value: str) -> str:
    begin, _, rest = path.partition("{")
    end = rest.partition("}")[2]
    return f"{begin}{value}{end}" if _HARMLESS_ID.fullmatch(value) else path
