"""Admin API: state, manual control, changes of settings, recent calls."""

from __future__ import annotations

from typing import Any

import pytest

from steadyvoice import CircuitBreakerConfig, ElevenLabs, Tone
from steadyvoice.simulator import Fault
from steadyvoice.simulator.fault_injection import actions

from ..event_reader import reading_events
from ..running_gateway import ELEVENLABS, TEXT, RunningGateway, elevenlabs_body, running_gateway

CIRCUIT = "/admin/circuits/elevenlabs"


async def refusal(answer: Any, status: int) -> dict[str, Any]:
    """The error in the gateway's own words."""
    assert answer.status == status, await answer.text()
    error: dict[str, Any] = (await answer.json())["error"]
    assert set(error) == {"code", "message", "field"}
    return error


async def test_state_is_the_librarys_error_state() -> None:
    async with running_gateway() as gateway:
        await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        state = await (await gateway.fetch("GET", "/admin/state")).json()
        assert state == gateway.service.get_error_state()
        assert state["totals"]["successes"] == 1


async def test_provider_is_forced_open_and_closed_again() -> None:
    async with running_gateway() as gateway, reading_events(gateway) as reader:
        order = {"reason": "they announced\nmaintenance", "duration": 600}
        circuit = await (await gateway.fetch("POST", f"{CIRCUIT}/open", json=order)).json()
        assert circuit["state"] == "forced_open"
        assert "they announced maintenance" in circuit["explanation"]["text"]
        assert circuit["snapshot"]["retry_after"] == pytest.approx(600, abs=5)
        answer = await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        assert answer.headers["x-steadyvoice-provider"] == "openai"

        action, moved = await reader.next(), await reader.next()
        assert (action.kind, action.data["action"], action.data["duration"]) == ("action", "open", 600)
        assert action.data["by"]["address"] == "127.0.0.1"
        assert moved.kind == "transition"
        assert moved.data["by"] == action.data["by"], "whose doing the change is"

        assert (await (await gateway.fetch("POST", f"{CIRCUIT}/close", json={"reason": "they are back"})).json())[
            "state"
        ] == "closed"
        answer = await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        assert answer.headers["x-steadyvoice-provider"] == "elevenlabs"


@pytest.mark.parametrize(
    ("action", "state"),
    [
        ("open", "forced_open"),
        ("disable", "disabled"),
        ("monitor", "monitoring"),
        ("close", "closed"),
        ("reset", "closed"),
    ],
)
async def test_every_action_works_without_a_body(action: str, state: str) -> None:
    async with running_gateway() as gateway:
        answer = await gateway.fetch("POST", f"{CIRCUIT}/{action}")
        assert answer.status == 200
        assert (await answer.json())["state"] == state
        assert gateway.service.circuits["elevenlabs"].state.value == state


async def test_reset_releases_holds() -> None:
    async with running_gateway() as gateway:
        gateway.sim.faults.set(Fault(actions.Refuse(status=401, code="invalid_api_key"), endpoint="text-to-speech*"))
        await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        assert (await (await gateway.fetch("GET", "/admin/state")).json())["holds"]
        await gateway.fetch("POST", f"{CIRCUIT}/reset", json={"reason": "a new key"})
        assert not (await (await gateway.fetch("GET", "/admin/state")).json())["holds"]


async def test_settings_change_at_run_time_and_the_window_is_kept() -> None:
    async with running_gateway() as gateway, reading_events(gateway) as reader:
        await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        before = await (await gateway.fetch("GET", CIRCUIT)).json()
        assert before["config"]["failure_threshold"] == 0.5
        changed = await gateway.fetch("PATCH", CIRCUIT, json={"failure_threshold": 0.9, "cooldown_period": 5})
        change = await changed.json()
        assert change["before"] == before["config"]
        assert change["after"] == {**before["config"], "failure_threshold": 0.9, "cooldown_period": 5}
        assert sorted(change["changed"]) == ["cooldown_period", "failure_threshold"]
        now = await (await gateway.fetch("GET", CIRCUIT)).json()
        assert now["config"] == change["after"]
        assert now["snapshot"]["calls"] == 1
        event = await reader.next("config")
        assert event.data["before"] == {"failure_threshold": 0.5, "cooldown_period": 30}
        assert event.data["after"] == {"failure_threshold": 0.9, "cooldown_period": 5}
        assert event.data["by"]["via"] == "loopback"

        undone = {name: change["before"][name] for name in change["changed"]}
        answer = await gateway.fetch("PATCH", CIRCUIT, json=undone)
        assert (await answer.json())["after"] == before["config"]


async def test_preset_is_the_base_of_changed_fields() -> None:
    async with running_gateway() as gateway:
        answer = await gateway.fetch("PATCH", CIRCUIT, json={"preset": "production"})
        assert (await answer.json())["preset"] == "production"
        assert gateway.service.circuits["elevenlabs"].config == CircuitBreakerConfig.production()
        await gateway.fetch("PATCH", CIRCUIT, json={"preset": "adaptive", "max_cooldown": 90})
        assert gateway.service.circuits["elevenlabs"].config.max_cooldown == 90
        assert gateway.service.circuits["elevenlabs"].config.significance == 1e-9


async def test_failure_rate_rule_can_be_removed() -> None:
    async with running_gateway() as gateway:
        answer = await gateway.fetch("PATCH", CIRCUIT, json={"preset": "consecutive", "consecutive_failures": 7})
        change = await answer.json()
        assert change["preset"] == "consecutive"
        assert gateway.service.circuits["elevenlabs"].config == CircuitBreakerConfig.consecutive(7)
        await gateway.fetch("PATCH", CIRCUIT, json={"preset": "default"})
        wanted = {"failure_threshold": False, "consecutive_failures": 3, "cooldown_period": 0}
        change = await (await gateway.fetch("PATCH", CIRCUIT, json=wanted)).json()
        assert (change["after"]["failure_threshold"], change["after"]["consecutive_failures"]) == (None, 3)
        shown = await (await gateway.fetch("GET", CIRCUIT)).json()
        assert (shown["config"]["failure_threshold"], shown["config"]["consecutive_failures"]) == (None, 3)
        assert gateway.service.circuits["elevenlabs"].config == CircuitBreakerConfig.consecutive(3, cooldown_period=0)


async def test_setting_of_another_library_is_refused_with_its_name_here() -> None:
    async with running_gateway() as gateway:
        error = await refusal(await gateway.fetch("PATCH", CIRCUIT, json={"fail_max": 5}), 422)
        assert "consecutive_failures" in error["message"]
        error = await refusal(await gateway.fetch("PATCH", CIRCUIT, json={"window_size": 10**400}), 422)
        assert len(error["message"]) < 300


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"failure_threshold": 1.5}, "failure_threshold"),
        ({"failure_threshold": "half"}, "failure_threshold"),
        ({"window_size": 2.5}, "window_size"),
        ({"cooldown_period": None}, "cooldown_period"),
        ({"cooldown_period": 20, "success_threshold": 0}, "success_threshold"),
        ({"max_cooldown": 1}, "max_cooldown"),
        ({"treshold": 1}, "treshold"),
        ({"window_size": 10**400}, "window_size"),
        ({"preset": "consecutive", "consecutive_failures": 10**400}, "consecutive_failures"),
        ({"failure_threshold": False}, "failure_threshold"),
        ({"failure_threshold": 5}, "failure_threshold"),
        ({"cooldown_period": False}, "cooldown_period"),
        ({"fail_max": 5}, "fail_max"),
        ({"opens_when": "now"}, "opens_when"),
        ({"preset": "wild"}, "preset"),
        ({"preset": ["production"]}, "preset"),
    ],
)
async def test_invalid_change_is_refused_completely_and_names_the_field(wanted: Any, field: str) -> None:
    async with running_gateway() as gateway:
        before = gateway.service.circuits["elevenlabs"].config
        error = await refusal(await gateway.fetch("PATCH", CIRCUIT, json=wanted), 422)
        assert error["field"] == field
        assert gateway.service.circuits["elevenlabs"].config == before


@pytest.mark.parametrize(
    ("send", "status", "code"),
    [
        ({"data": b"{}", "headers": {"content-type": "text/plain"}}, 415, "unsupported_media_type"),
        ({"data": b"{", "headers": {"content-type": "application/json"}}, 400, "invalid_json"),
        ({"data": b"[" * 30_000, "headers": {"content-type": "application/json"}}, 400, "invalid_json"),
        ({"data": b"[1]", "headers": {"content-type": "application/json"}}, 422, "invalid_body"),
        ({"json": {"reason": "x" * 70_000}}, 413, "too_large"),
        ({"json": {"reason": "x" * 501}}, 422, "invalid_field"),
        ({"json": {"reason": 7}}, 422, "invalid_field"),
        ({"json": {"duration": -1}}, 422, "invalid_field"),
        ({"json": {"duration": 10**400}}, 422, "invalid_field"),
        ({"json": {"duration": True}}, 422, "invalid_field"),
        ({"json": {"duration": "60"}}, 422, "invalid_field"),
        ({"json": {"why": "so"}}, 422, "unknown_field"),
    ],
)
async def test_invalid_admin_request_is_refused_in_the_gateways_format(
    send: dict[str, Any], status: int, code: str
) -> None:
    async with running_gateway() as gateway:
        error = await refusal(await gateway.fetch("POST", f"{CIRCUIT}/open", **send), status)
        assert error["code"] == code
        assert gateway.service.circuits["elevenlabs"].state.value == "closed"


async def test_unknown_circuit_is_not_found() -> None:
    async with running_gateway() as gateway:
        for method, path in (("GET", ""), ("PATCH", ""), ("POST", "/open"), ("POST", "/reset")):
            answer = await gateway.fetch(method, f"/admin/circuits/nobody{path}")
            assert "elevenlabs, openai, tone" in (await refusal(answer, 404))["message"]
        await refusal(await gateway.fetch("GET", "/admin/nothing"), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("DELETE", CIRCUIT, "GET, PATCH, HEAD"), ("GET", f"{CIRCUIT}/open", "POST"), ("POST", "/metrics", "GET, HEAD")],
)
async def test_wrong_method_is_refused_with_allow(method: str, path: str, allowed: str) -> None:
    async with running_gateway(Tone()) as gateway:
        answer = await gateway.fetch(method, path)
        await refusal(answer, 405)
        assert answer.headers["allow"] == allowed
        theirs = await gateway.fetch("PUT", ELEVENLABS)
        assert (theirs.status, "detail" in await theirs.json()) == (405, True)
        openais = await gateway.fetch("PUT", "/v1/audio/speech")
        assert (openais.status, (await openais.json())["error"]["type"]) == (405, "invalid_request_error")


async def test_head_returns_the_headers_of_get() -> None:
    async with running_gateway(Tone()) as gateway:
        for path in ("/healthz", "/metrics", "/admin/state", "/admin/events", "/v1/voices"):
            answer = await gateway.fetch("HEAD", path)
            assert (answer.status, await answer.read()) == (200, b"")


async def test_configuration_is_shown_without_secrets() -> None:
    keys = {"api_keys": ["caller-key-1", "caller-key-2"], "admin_token": "the-admin-token"}
    provider = ElevenLabs("sk_very_secret", base_url="http://127.0.0.1:9", voices={"narrator": "abc"})
    async with running_gateway(provider, server=keys) as gateway:
        answer = await gateway.fetch("GET", "/admin/config", headers={"authorization": "Bearer the-admin-token"})
        text = await answer.text()
        assert not any(secret in text for secret in ("caller-key", "the-admin-token", "sk_very_secret"))
        document = await answer.json()
        assert (document["server"]["api_keys"], document["server"]["admin_token"]) == (2, True)
        assert document["timeouts"]["total_timeout"] == 45
        assert document["on_midstream"] == "resume"
        assert document["providers"][0]["voices"]["narrator"]["id"] == "abc"
        assert document["providers"][0]["base_url"] == "http://127.0.0.1:9"
        assert document["circuits"]["elevenlabs"]["cooldown_period"] == 30


async def test_recent_calls_have_attempts_and_timings() -> None:
    async with running_gateway() as gateway:
        gateway.sim.faults.set(Fault(actions.Refuse(status=503), endpoint="text-to-speech*"))
        await gateway.fetch("POST", f"{ELEVENLABS}/stream", json=elevenlabs_body(), headers={"x-request-id": "one"})
        gateway.sim.faults.clear()
        await gateway.fetch("POST", f"{ELEVENLABS}/stream", json=elevenlabs_body(), headers={"x-request-id": "two"})
        newest, older = await _calls(gateway)
        assert (newest["request_id"], newest["outcome"], newest["provider"]) == ("two", "spoken", "elevenlabs")
        assert newest["characters"] == len(TEXT)
        assert 0 < newest["first_audio"] <= newest["seconds"]
        assert newest["bytes_sent"] > 1_000
        first, second = older["attempts"]
        assert (first["provider"], first["error"]["kind"]) == ("elevenlabs", "server_error")
        assert (second["provider"], second["error"]) == ("openai", None)
        assert second["bill"]["charge"] == "sent and unknown"
        assert first["answered"] is None, "it never said yes"
        assert 0 < second["answered"] <= second["first_audio"]
        assert not second["hedge"]
        assert first["began"] <= second["began"] <= older["seconds"]
        assert {span["provider"] for span in older["spans"]} == {"openai"}
        assert "text" not in newest
        assert [call["request_id"] for call in await _calls(gateway, "?limit=1")] == ["two"]
        for wrong in ("0", "-1", "x", "501", "1e2"):
            assert (await refusal(await gateway.fetch("GET", f"/admin/calls?limit={wrong}"), 422))["field"] == "limit"


async def test_query_with_too_many_parameters_is_refused() -> None:
    async with running_gateway(Tone()) as gateway:
        endless = "&".join(f"p{n}=1" for n in range(200))
        await refusal(await gateway.fetch("GET", f"/admin/calls?{endless}"), 400)
        await refusal(await gateway.fetch("GET", f"/admin/events?{endless}"), 400)


async def test_texts_of_calls_are_shown_only_with_log_texts() -> None:
    async with running_gateway(Tone(), server={"log_texts": True}) as gateway:
        await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        assert (await _calls(gateway))[0]["text"] == TEXT


async def _calls(gateway: RunningGateway, query: str = "") -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = (await (await gateway.fetch("GET", f"/admin/calls{query}")).json())["calls"]
    return calls
