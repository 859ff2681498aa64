"""OpenAPI document: it lists exactly the routes, and responses match it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from steadyvoice import AsyncTTSService, Tone
from steadyvoice.gateway.app import all_routes
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.reload import Reloader

from ..running_gateway import ELEVENLABS, RunningGateway, elevenlabs_body, running_gateway

pytestmark = pytest.mark.slow

METHODS = ("get", "post", "patch", "put", "delete")


async def described(gateway: RunningGateway) -> dict[str, Any]:
    """The document."""
    document: dict[str, Any] = await (await gateway.fetch("GET", "/openapi.json")).json()
    return document


async def test_openapi_lists_exactly_the_routes() -> None:
    async with running_gateway(Tone()) as gateway, AsyncTTSService([Tone()]) as service:
        context = GatewayContext(service)
        route_classes = all_routes(context, Reloader(context)).values()
        endpoints = {
            (path, method)
            for route_class in route_classes
            for path, endpoints in route_class.items()
            for method in endpoints
        }
        endpoints = {
            (path, method) for path, method in endpoints if not path.startswith("/page/")
        }  # which are for the page
        context.stopped()
        paths = (await described(gateway))["paths"]
        documented = {
            (path, method.upper()) for path, endpoint in paths.items() for method in METHODS if method in endpoint
        }
        assert documented == endpoints


async def test_openapi_document_is_valid() -> None:
    async with running_gateway(Tone()) as gateway:
        validate(await described(gateway))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/healthz", None),
        ("GET", "/readyz", None),
        ("GET", "/openapi.json", None),
        ("GET", "/admin/state", None),
        ("GET", "/admin/overview", None),
        ("GET", "/admin/config", None),
        ("GET", "/admin/calls", None),
        ("GET", "/admin/circuits", None),
        ("GET", "/admin/circuits/{name}", None),
        ("PATCH", "/admin/circuits/{name}", {"window_size": 30}),
        ("POST", "/admin/circuits/{name}/preview", {"window_size": 30}),
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
async def test_responses_match_their_schemas(method: str, path: str, body: Any) -> None:
    async with running_gateway() as gateway:
        await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        document = await described(gateway)
        answer = await gateway.fetch(method, path.replace("{name}", "elevenlabs"), json=body)
        endpoint = document["paths"].get(path.partition("?")[0], document["paths"]["/admin/reload"])
        responses = endpoint[method.lower() if method.lower() in endpoint else "post"]["responses"]
        response = responses.get(str(answer.status), responses["default"])
        if "$ref" in response:
            assert answer.status >= 400
            response = document["components"]["responses"]["Error"]
        schema = {**response["content"][answer.content_type]["schema"], "components": document["components"]}
        OAS31Validator(schema).validate(await answer.json())


@pytest.mark.timeout(180)
async def test_schemathesis_finds_no_fault(
    tmp_path: Path,
) -> None:
    async with running_gateway(Tone()) as gateway:
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("schemathesis"),
            *("run", f"{gateway.url}/openapi.json", "--exclude-path", "/admin/events", "--exclude-tag", "vendors"),
            *("--exclude-checks", "positive_data_acceptance"),  # some settings do not go together
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "6", "--generation-deterministic"),
            cwd=tmp_path,  # it keeps what it has found out
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        assert b"passed" in output
