"""Suggestions for paths without a route: the endpoint that a client most likely meant.

Clients put a base URL and a path together in many ways: a `/v1` too many or too few, a slash at the end, another case,
a prefix of a reverse proxy. Nothing but an endpoint's own path, and a plain id out of the client's, is ever suggested.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from steadyvoice.wire.elevenlabs.speech import SpeechEndpoint

Steps = tuple[str, ...]

_LONGEST = 300  # characters of a path that are looked at
_MOST_STEPS = 12
_SIMILAR = 0.75  # of difflib's ratio: "speach" is "speech", "transcriptions" is nothing of ours
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,100}")
_VERSION = re.compile(r"v\d")
_ENDS_OF_FORMS = frozenset(step for form in SpeechEndpoint for step in form.value.split("/") if step)

_OTHER_NAMES: dict[Steps, str] = {
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
        nameless = {tuple(step for step in core if step != _ANY): path for core, path in known.items()}
        others = {core: path for core, path in _OTHER_NAMES.items() if path in known.values()}
        self._paths: dict[Steps, str] = {**others, **nameless, **known}

    def find(self, path: str) -> Suggestion | None:
        """Return the endpoint that a client most likely meant by this path, which has no route; None for no idea."""
        if len(path) > _LONGEST or not path.isprintable():
            return None
        steps = [step.strip() for step in path.replace("\\", "/").split("/")]
        core = _core(steps)
        if not 0 < len(core) <= _MOST_STEPS:
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
        if end := get_close_matches(_spelt(core[-1]), _ENDS_OF_FORMS, 1, _SIMILAR):
            places += [(*core[begin:-1], end[0]) for begin in range(len(core))]
        places += [core[begin:end] for end in range(len(core) - 1, 0, -1) for begin in range(end)]
        return next((found for place in places if (found := self._exactly(place))), None)

    def _exactly(self, core: Steps) -> Suggestion | None:
        asked = tuple(_spelt(step) for step in core)
        if path := self._paths.get(asked):
            return Suggestion(path, path)
        for known, path in self._paths.items():
            if len(known) == len(asked) and _ANY in known:
                at = known.index(_ANY)
                if known[:at] == asked[:at] and known[at + 1 :] == asked[at + 1 :] and asked[at] not in _ENDS_OF_FORMS:
                    return Suggestion(path, _filled(path, core[at]))
        return None

    def _similar(self, core: Steps) -> Suggestion | None:
        """Find one whose first steps are written almost like these."""
        known = {"/".join(each): path for each, path in self._paths.items() if _ANY not in each}
        asked = "/".join(core).lower().replace("_", "-")
        near = get_close_matches(asked, known, 1, _SIMILAR) or get_close_matches(core[0].lower(), known, 1, _SIMILAR)
        return Suggestion(known[near[0]], known[near[0]]) if near else None


_ANY = "{}"  # in place of a parameter


def _core(steps: Sequence[str]) -> Steps:
    """Leave out what clients get wrong: empty steps and the version. A parameter is whatever it is."""
    kept = [step for step in steps if step and not _VERSION.fullmatch(step.lower())]
    return tuple(_ANY if step.startswith("{") and step.endswith("}") else step for step in kept)


def _spelt(step: str) -> str:
    return step.lower().replace("_", "-")


def _with_version(path: str, version: str) -> str:
    first, slash, rest = path[1:].partition("/")
    return f"/{version}{slash}{rest}" if _VERSION.fullmatch(first) else path


def _filled(path: str, value: str) -> str:
    begin, _, rest = path.partition("{")
    end = rest.partition("}")[2]
    return f"{begin}{value}{end}" if _PLAIN.fullmatch(value) else path
