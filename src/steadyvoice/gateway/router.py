"""HTTP router: the endpoint and route class of a path, and suggestions for unknown paths.

The routes are listed in `app.py`. A route's class decides which credential is needed (`access_control.py`). Paths are
matched here and nowhere else, after percent-decoding: a former router, whose expressions ended with `$`, took
`/metrics%0A` for `/metrics`, while the check before it did not.

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
"""ASGI applications of one path, by method."""


@dataclass(frozen=True, slots=True)
class Route:
    """Route of a path: its class, and its endpoints by method.

    A path without endpoints is unknown; it may have the suggestion of a similar endpoint, and that one's methods.
    `problem` describes a path parameter that cannot be decoded.
    """

    route_class: RouteClass
    endpoints: Endpoints = field(default_factory=dict)
    problem: str | None = None
    suggestion: Suggestion | None = None
    suggested_methods: tuple[str, ...] = ()

    @staticmethod
    def to(route_class: RouteClass, endpoints: Endpoints) -> Route:
        """Return a route with these endpoints; GET answers HEAD as well."""
        head = {"HEAD": endpoints["GET"]} if "GET" in endpoints else {}
        return Route(route_class, {**endpoints, **head})


class RouteTable:
    """Router: the routes of all paths.

    A path has at most one parameter, written `{name}`, which is one segment of it. After percent-decoding, paths match
    exactly: letter case and slashes count, and dot segments are not resolved.
    """

    def __init__(self, routes: Mapping[RouteClass, Mapping[str, Endpoints]]) -> None:
        self._fixed: dict[str, Route] = {}
        self._named: dict[str, tuple[str, dict[str, Route]]] = {}  # by the part before the parameter
        self._routes = {
            path: Route.to(route_class, endpoints)
            for route_class, paths in routes.items()
            for path, endpoints in paths.items()
        }
        for path, route in self._routes.items():
            self._add(path, route)
        self._suggestions = PathSuggestions(
            [path for path, each in self._routes.items() if each.route_class is not RouteClass.PAGE]
        )
        self._missing_parameter = {
            prefix + suffix.split("/")[1]
            for prefix, (_, suffixes) in self._named.items()
            for suffix, route in suffixes.items()
            if suffix and route.route_class in (RouteClass.SPEECH, RouteClass.SOCKET)
        }
        """Vendors' paths without their parameter, such as `/v1/text-to-speech/stream`, where `stream` is no voice."""

    def _add(self, path: str, route: Route) -> None:
        prefix, brace, rest = path.partition("{")
        if not brace:
            self._fixed[path] = route
            return
        name, _, suffix = rest.partition("}")
        self._named.setdefault(prefix, (name, {}))[1][suffix] = route

    def find(self, path: str, raw: bytes) -> tuple[Route, dict[str, str]]:
        """Return the route of a path, and its parameters. `path` is percent-decoded, `raw` as it was received."""
        # Nearly all paths have no percent-encoding, and need one dictionary lookup or one prefix.
        if b"%" in raw:
            return self._find_encoded(path, raw)
        if route := self._fixed.get(path):
            return route, {}
        for prefix, (name, suffixes) in self._named.items():
            if path.startswith(prefix):
                value, slash, suffix = path[len(prefix) :].partition("/")
                if value and (route := suffixes.get(slash + suffix)):
                    # `/v1/text-to-speech/stream` lacks its voice; the route of a voice named `stream` would be wrong.
                    if prefix + value in self._missing_parameter:
                        break
                    return route, {name: value}
        return self._unknown(path), {}

    def _find_encoded(self, path: str, raw: bytes) -> tuple[Route, dict[str, str]]:
        """Match segment by segment: an encoded slash belongs to its segment, such as a configured name of a voice."""
        segments = [unquote(segment, errors="surrogateescape") for segment in raw.decode("latin-1").split("/")]
        if not any("/" in segment for segment in segments) and (route := self._fixed.get("/".join(segments))):
            return route, {}
        for prefix, (name, suffixes) in self._named.items():
            before = prefix.split("/")[:-1]
            at = len(before)
            if segments[:at] != before or not segments[at:] or not segments[at]:
                continue
            after = segments[at + 1 :]
            if not any("/" in segment for segment in after) and (
                route := suffixes.get("".join(f"/{each}" for each in after))
            ):
                if _is_text(segments[at]):
                    return route, {name: segments[at]}
                return Route(route.route_class, problem=f"{name}: percent-encoded bytes must be UTF-8"), {}
        return self._unknown(path), {}

    def _unknown(self, path: str) -> Route:
        """Return a route without endpoints. Its class decides on the credential that is checked, and on the dialect."""
        suggestion = self._suggestions.find(path)
        suggested = self._routes[suggestion.path] if suggestion else None
        route_class = RouteClass.PAGE
        if path.startswith("/admin"):
            route_class = RouteClass.ADMIN
        elif path.startswith(("/v1/", "/v2/")) or (suggested and suggested.route_class is RouteClass.SPEECH):
            route_class = RouteClass.SPEECH
        return Route(
            route_class, suggestion=suggestion, suggested_methods=tuple(suggested.endpoints) if suggested else ()
        )


def _is_text(segment: str) -> bool:
    return not any("\udc80" <= character <= "\udcff" for character in segment)


Segments = tuple[str, ...]

_MAX_PATH = 300  # characters
_MAX_SEGMENTS = 12
_MIN_SIMILARITY = 0.75  # difflib's ratio: accepts "speach" for "speech", rejects "transcriptions"
_HARMLESS_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_VERSION = re.compile(r"v\d")
_VARIANT_SUFFIXES = frozenset(segment for form in SpeechEndpoint for segment in form.value.split("/") if segment)

_ALIASES: dict[Segments, str] = {
    ("speech",): "/v1/audio/speech",
    ("tts",): "/v1/audio/speech",
    ("synthesize",): "/v1/audio/speech",
    ("generate",): "/v1/audio/speech",
    ("health",): "/healthz",
    ("ready",): "/readyz",
}
"""Names of endpoints in other servers."""


class Suggestion(NamedTuple):
    """Suggested endpoint: its `path` in the route table, and that path `filled` with the client's harmless id."""

    path: str
    filled: str


class PathSuggestions:
    """Search for the endpoint that is most similar to an unknown path."""

    def __init__(self, paths: Collection[str]) -> None:
        known: dict[Segments, str] = {}
        self._all = frozenset(paths)
        for path in paths:
            if core := _core(path.split("/")):
                known.setdefault(core, path)  # of two API versions, the first
        nameless = {tuple(segment for segment in core if segment != _PARAMETER): path for core, path in known.items()}
        others = {core: path for core, path in _ALIASES.items() if path in known.values()}
        self._paths: dict[Segments, str] = {**others, **nameless, **known}

    def find(self, path: str) -> Suggestion | None:
        """Return the endpoint that a client most likely meant by an unknown path, or None."""
        if len(path) > _MAX_PATH or not path.isprintable():
            return None
        segments = [segment.strip() for segment in path.replace("\\", "/").split("/")]
        core = _core(segments)
        if not 0 < len(core) <= _MAX_SEGMENTS:
            return None
        found = self._same(core) or self._similar(core)
        versions = [segment.lower() for segment in segments if _VERSION.fullmatch(segment.lower())]
        return self._of_version(found, versions[-1]) if found and versions else found

    def _of_version(self, found: Suggestion, version: str) -> Suggestion:
        """Prefer the API version that the client names last, where that version has the same endpoint."""
        other = _with_version(found.path, version)
        return Suggestion(other, _with_version(found.filled, version)) if other in self._all else found

    def _same(self, core: Segments) -> Suggestion | None:
        """Find an endpoint whose segments are all of these, or the last, or the first of them."""
        places = [core[begin:] for begin in range(len(core))]
        if end := get_close_matches(_normalized(core[-1]), _VARIANT_SUFFIXES, 1, _MIN_SIMILARITY):
            places += [(*core[begin:-1], end[0]) for begin in range(len(core))]
        places += [core[begin:end] for end in range(len(core) - 1, 0, -1) for begin in range(end)]
        return next((found for place in places if (found := self._exactly(place))), None)

    def _exactly(self, core: Segments) -> Suggestion | None:
        segments = tuple(_normalized(segment) for segment in core)
        if path := self._paths.get(segments):
            return Suggestion(path, path)
        for known, path in self._paths.items():
            if len(known) == len(segments) and _PARAMETER in known:
                at = known.index(_PARAMETER)
                if (
                    known[:at] == segments[:at]
                    and known[at + 1 :] == segments[at + 1 :]
                    and segments[at] not in _VARIANT_SUFFIXES
                ):
                    return Suggestion(path, _filled(path, core[at]))
        return None

    def _similar(self, core: Segments) -> Suggestion | None:
        """Find an endpoint whose first segments are spelled almost like these."""
        known = {"/".join(each): path for each, path in self._paths.items() if _PARAMETER not in each}
        path = "/".join(core).lower().replace("_", "-")
        near = get_close_matches(path, known, 1, _MIN_SIMILARITY) or get_close_matches(
            core[0].lower(), known, 1, _MIN_SIMILARITY
        )
        return Suggestion(known[near[0]], known[near[0]]) if near else None


_PARAMETER = "{}"  # stands for any parameter


def _core(segments: Sequence[str]) -> Segments:
    """Return the segments without empty ones and versions, which clients get wrong; parameters become `{}`."""
    kept = [segment for segment in segments if segment and not _VERSION.fullmatch(segment.lower())]
    return tuple(_PARAMETER if segment.startswith("{") and segment.endswith("}") else segment for segment in kept)


def _normalized(segment: str) -> str:
    return segment.lower().replace("_", "-")


def _with_version(path: str, version: str) -> str:
    first, slash, rest = path[1:].partition("/")
    return f"/{version}{slash}{rest}" if _VERSION.fullmatch(first) else path


def _filled(path: str, value: str) -> str:
    begin, _, rest = path.partition("{")
    end = rest.partition("}")[2]
    return f"{begin}{value}{end}" if _HARMLESS_ID.fullmatch(value) else path
