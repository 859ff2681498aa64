"""`GET /openapi.json` describes every door there is, and answers are as it says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steadyvoice import AsyncTTSService, Tone
from steadyvoice.gateway.app import all_doors
from steadyvoice.gateway.house import House
from steadyvoice.gateway.reload import Reloader

from .house import ELEVENLABS, Visit, spoken, visiting

METHODS = ("get", "post", "patch", "put", "delete")


async def described(at: Visit) -> dict[str, Any]:
    """The document."""
    document: dict[str, Any] = await (await at.whole("GET", "/openapi.json")).json()
    return document


async def test_every_door_is_described_and_no_other() -> None:
    async with visiting(Tone()) as at, AsyncTTSService([Tone()]) as service:
        house = House(service)
        doors = {(path, method) for path, doors in all_doors(house, Reloader(house)).items() for method in doors}
        doors = {(path, method) for path, method in doors if not path.startswith("/page/")}  # which are for the page
        house.leave()
        paths = (await described(at))["paths"]
        told = {(path, method.upper()) for path, door in paths.items() for method in METHODS if method in door}
        assert told == doors


async def test_every_reference_leads_somewhere_and_every_path_names_its_parameters() -> None:
    async with visiting(Tone()) as at:
        document = await described(at)
        for reference in _references(document):
            _follow(document, reference)
        for path, door in document["paths"].items():
            parameters = [
                _follow(document, each["$ref"]) if "$ref" in each else each for each in door.get("parameters", [])
            ]
            named = {each["name"] for each in parameters}
            assert all(f"{{{name}}}" in path for name in named)
            assert path.count("{") == len(named)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/healthz", None),
        ("GET", "/readyz", None),
        ("GET", "/openapi.json", None),
        ("GET", "/admin/state", None),
        ("GET", "/admin/board", None),
        ("GET", "/admin/config", None),
        ("GET", "/admin/calls", None),
        ("GET", "/admin/circuits", None),
        ("GET", "/admin/circuits/{name}", None),
        ("PATCH", "/admin/circuits/{name}", {"window_size": 30}),
        ("POST", "/admin/circuits/{name}/open", {"reason": "so", "duration": 5}),
        ("POST", "/admin/circuits/{name}/disable", {}),
        ("POST", "/admin/circuits/{name}/monitor", {}),
        ("POST", "/admin/circuits/{name}/reset", {}),
        ("POST", "/admin/circuits/{name}/close", {}),
        ("POST", "/admin/reload", {}),
        ("GET", "/admin/calls?limit=0", None),
        ("GET", "/admin/nowhere", None),
    ],
)
async def test_answers_are_as_described(method: str, path: str, body: Any) -> None:
    async with visiting() as at:
        await at.whole("POST", ELEVENLABS, json=spoken())
        document = await described(at)
        answer = await at.whole(method, path.replace("{name}", "elevenlabs"), json=body)
        door = document["paths"].get(path.partition("?")[0], document["paths"]["/admin/reload"])
        told = door[method.lower() if method.lower() in door else "post"]["responses"]
        response = told.get(str(answer.status), told["default"])
        if "$ref" in response:
            assert answer.status >= 400
            response = _follow(document, response["$ref"])
        assert answer.content_type in response["content"]
        assert _mistakes(document, response["content"][answer.content_type]["schema"], await answer.json()) == []


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = st.sampled_from(["reason", "duration", "preset", "window_size", "failure_threshold", "cooldown_schedule"])


@given(body=ANY_JSON | st.dictionaries(_FIELDS | st.text(), ANY_JSON, max_size=4), which=st.integers(0, 6))
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_sent_is_taken_or_refused_in_words_and_never_our_mistake(body: Any, which: int) -> None:
    doors = ("open", "close", "reset", "disable", "monitor")
    path = "/admin/circuits/tone" + (f"/{doors[which]}" if which < len(doors) else "")

    async def story() -> None:
        async with visiting(Tone()) as at:
            method = "PATCH" if which >= len(doors) else "POST"
            answer = await at.whole(method, path, json=body)
            assert answer.status in (200, 400, 422)
            if answer.status != 200:
                assert set((await answer.json())["error"]) == {"code", "message", "field"}
            assert (await at.whole("GET", "/admin/state")).status == 200

    asyncio.run(story())


def _references(document: Any) -> list[str]:
    match document:
        case dict():
            own = [document["$ref"]] if "$ref" in document else []
            return own + [each for value in document.values() for each in _references(value)]
        case list():
            return [each for value in document for each in _references(value)]
        case _:
            return []


def _follow(document: Any, reference: str) -> Any:
    for step in reference.removeprefix("#/").split("/"):
        document = document[step]
    return document


_KINDS: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "number": int | float, "integer": int, "boolean": bool,
    "null": type(None),
}  # fmt: skip


def _mistakes(document: Any, schema: Any, value: Any, path: str = "") -> list[str]:
    """What of a value is not as the schema says, for as much of JSON Schema as we use."""
    if "$ref" in schema:
        return _mistakes(document, _follow(document, schema["$ref"]), value, path)
    found = [each for part in schema.get("allOf", []) for each in _mistakes(document, part, value, path)]
    kinds = schema.get("type", [])
    if kinds and not any(isinstance(value, _KINDS[kind]) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return [*found, f"{path}: {value!r} is no {kinds}"]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{path}: {value!r} is none of {schema['enum']}")
    if isinstance(value, dict):
        found += [f"{path}.{name}: is missing" for name in schema.get("required", []) if name not in value]
        for name, inner in value.items():
            known = schema.get("properties", {}).get(name, schema.get("additionalProperties", {}))
            found += _mistakes(document, known, inner, f"{path}.{name}")
    if isinstance(value, list):
        for index, inner in enumerate(value):
            found += _mistakes(document, schema.get("items", {}), inner, f"{path}.{index}")
    return found
