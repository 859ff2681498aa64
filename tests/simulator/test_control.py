"""Control endpoints: faults and the ledger over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from steadyvoice.simulator import Ending, Fault, Simulator
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.simulator.fault_injection.syntax import parse_fault

from .client import STREAM, TEXT, Client

FAULTS = "/sim/faults"


async def test_faults_can_be_changed_at_run_time(sim: Simulator, client: Client) -> None:
    posted = await client.ask("POST", FAULTS, b'{"fault": "refuse", "status": 503, "times": 1}')
    assert posted.json == {"faults": [{"fault": "refuse", "status": 503, "times": 1}]}
    assert [(await client.speak()).status for _ in range(2)] == [503, 200]

    assert len((await client.ask("POST", FAULTS, b'"stall;after=0.8"')).json["faults"]) == 2
    assert (await client.get(FAULTS)).json["faults"][1] == {"fault": "stall", "after": 0.8}

    assert (await client.ask("PUT", FAULTS, b'["hang", {"fault": "cut"}]')).status == 200
    assert list(sim.faults) == [Fault(actions.Hang()), Fault(actions.Cut())]

    assert (await client.ask("DELETE", FAULTS)).json == {"faults": []}
    assert (await client.speak()).status == 200


async def test_fault_can_be_posted_in_the_form_of_the_header(sim: Simulator, client: Client) -> None:
    await client.ask("POST", FAULTS, b"stall;after=0.8")
    assert list(sim.faults) == [Fault(actions.Stall(after=0.8))]


@pytest.mark.parametrize(
    "body", [b"", b"3", b"[3]", b'{"fault": "stal"}', b'["cut", "stal"]', b"{", b"null", b"\xff\xfe"]
)
async def test_invalid_fault_changes_nothing(sim: Simulator, client: Client, body: bytes) -> None:
    sim.faults.set(actions.Empty())
    for method in ("POST", "PUT"):
        seen = await client.ask(method, FAULTS, body)
        assert seen.status == 422
        assert seen.json["error"]
    assert list(sim.faults) == [Fault(actions.Empty())]


async def test_ledger_endpoint_returns_the_ledger(sim: Simulator, client: Client) -> None:
    await client.speak(fault="cut")
    document: dict[str, Any] = (await client.get("/sim/ledger")).json
    assert document["totals"] == {"requests": 1, "charged": len(TEXT)}
    (request,) = document["requests"]
    assert (request["ending"], request["fault"], request["charged"]) == ("cut", "cut", len(TEXT))
    assert request == json.loads(json.dumps(sim.ledger[0].as_dict()))


async def test_control_requests_are_not_in_the_ledger(sim: Simulator, client: Client) -> None:
    sim.faults.set(actions.Hang())
    assert (await client.get("/sim/ledger")).json["totals"]["requests"] == 0


async def test_fault_header_applies_to_one_request(sim: Simulator, client: Client) -> None:
    sim.faults.set(actions.Refuse(status=503))
    assert (await client.speak(STREAM, fault="empty")).body == b""
    assert (await client.speak(STREAM)).status == 503


@pytest.mark.parametrize(
    ("header", "message"),
    [("stal", "did you mean stall?"), ("hang;nth=2", "takes no conditions"), ("", "unknown fault ''")],
)
async def test_invalid_fault_header_is_reported(sim: Simulator, client: Client, header: str, message: str) -> None:
    seen = await client.speak(fault=header)
    assert seen.status == 400
    assert message in seen.json["error"]
    assert (sim.ledger[-1].ending, sim.ledger[-1].charged) == (Ending.REFUSED, 0)


@pytest.mark.parametrize("path", ["/v1/voices", "/v1/models", "/v1/user"])
@pytest.mark.parametrize("fault", ["silent", "too-short", "header-only", "wrong-rate"])
async def test_audio_fault_on_a_request_without_audio_is_rejected(
    sim: Simulator, client: Client, path: str, fault: str
) -> None:
    seen = await client.ask("GET", path, fault=fault)
    assert (seen.status, seen.json["error"].partition(" changes")[0]) == (400, f"x-sim-fault: {fault}")
    assert sim.ledger[-1].fault is None
    sim.faults.set(parse_fault(fault))
    assert (await client.get(path)).status == 200
    assert sim.ledger[-1].fault is None


async def test_two_fault_headers_are_rejected(sim: Simulator) -> None:
    twice = Client(sim.url, {"xi-api-key": "any", "x-sim-fault": "hang", "X-Sim-Fault": "cut"})
    seen = await twice.speak()
    assert seen.status == 400
    assert "one request has one fault, not 2" in seen.json["error"]


async def test_fault_can_be_limited_to_an_endpoint(sim: Simulator, client: Client) -> None:
    for name, path in (("voices", "/v2/voices"), ("user/subscription", "/v1/user/subscription")):
        sim.faults.set(Fault(actions.Refuse(status=503), endpoint=name))
        assert (await client.get(path)).status == 503
        assert sim.ledger[-1].endpoint == name


@pytest.mark.parametrize(("method", "path"), [("GET", "/sim"), ("GET", "/sim/legder"), ("DELETE", "/sim/ledger")])
async def test_unknown_control_path_lists_the_known_ones(sim: Simulator, method: str, path: str) -> None:
    for url in (sim.url, sim.control_url):
        seen = await Client(url).ask(method, path)
        assert seen.status == 404
        assert f"no route for {method} {path}; available: GET /sim/ledger, " in seen.json["error"]
    assert len(sim.ledger) == 0
