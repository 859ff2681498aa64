"""State file: circuits and holds are restored after a restart for their remaining time."""

from __future__ import annotations

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from steadyvoice import AsyncTTSService, CircuitBreakerConfig, CircuitState, ElevenLabs, OpenAICompatible, Tone
from steadyvoice.gateway.server import Gateway
from steadyvoice.gateway.state_file import AtomicWriter, StateFile
from steadyvoice.providers.base import SynthesisOffer
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.speech.errors import (
    TTSBusyError,
    TTSError,
    TTSInvalidKeyError,
    TTSQuotaExceededError,
    TTSVoiceUnknownError,
)
from steadyvoice.speech.failure_kinds import FailureKind
from steadyvoice.speech.format import AudioFormat

from ..running_gateway import ELEVENLABS, elevenlabs_body, running_gateway

CIRCUIT = CircuitBreakerConfig(cooldown_period=60, window_size=4, minimum_calls=2)


def service() -> AsyncTTSService:
    return AsyncTTSService([Tone()], circuit=CIRCUIT)


def opened(a_service: AsyncTTSService) -> None:
    while a_service.circuits["tone"].state is CircuitState.CLOSED:
        a_service.circuits["tone"].acquire().failure()


def test_cooldown_continues_while_no_process_runs(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    before = service()
    StateFile(file, before, wall_clock=lambda: 1000.0).open()
    opened(before)  # and the process is killed
    for passed, state, left in (
        (20.0, CircuitState.OPEN, 40.0),
        (70.0, CircuitState.OPEN, 0.0),
        (-5.0, CircuitState.OPEN, 60.0),
    ):
        after = service()
        StateFile(file, after, wall_clock=lambda passed=passed: 1000.0 + passed).open()  # type: ignore[misc]
        snapshot = after.circuits["tone"].snapshot()
        assert snapshot.state is state
        assert snapshot.retry_after == pytest.approx(left, abs=0.5)


async def test_gateway_restores_and_saves_the_state_file(tmp_path: Path) -> None:
    server = ServerConfig(port=0, state_file=str(tmp_path / "state.json"))
    async with service() as first, Gateway(first, server):
        first.circuits["tone"].force_open("for maintenance")
    async with service() as second, Gateway(second, server) as gateway:
        assert second.circuits["tone"].state is CircuitState.FORCED_OPEN
        second.circuits["tone"].close("done")
        assert gateway.context.on_stopped
    async with service() as third, Gateway(third, server):
        assert third.circuits["tone"].state is CircuitState.CLOSED


FORMER_FILE = Path(__file__).with_name("former_state_file.json")
"""State file that the former version wrote: ElevenLabs' circuit open, its key `sk_test` and a voice on hold."""


async def test_state_file_of_the_former_version_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "state.json"
    file.write_bytes(FORMER_FILE.read_bytes())
    saved_at = 1764374400.0
    # The clock stands still: opening a service takes half a second on a busy machine.
    async with AsyncTTSService([ElevenLabs("sk_test"), Tone()], circuit=CIRCUIT, clock=lambda: 1000.0) as after:
        state_file = StateFile(file, after, wall_clock=lambda: saved_at + 10.0)
        state_file.open()
        snapshot = after.circuits["elevenlabs"].snapshot()
        assert (snapshot.state, snapshot.calls, snapshot.failures) == (CircuitState.OPEN, 2, 2)
        assert snapshot.retry_after == pytest.approx(40.0)
        assert after.circuits["tone"].state is CircuitState.CLOSED
        handler = after.handler("elevenlabs")
        now = handler.clock()
        holds = {hold.kind: hold.until - now for hold in handler.holds.current(now)}
        assert holds == {
            FailureKind.INVALID_KEY: pytest.approx(590.0),
            FailureKind.VOICE_UNKNOWN: pytest.approx(590.0),
        }
        assert "state file" not in caplog.text
        state_file.close()
    assert file.read_text().count('"version": 1') == 2, "the format is the same"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '{"saved_at": null, "circuits": {}, "holds": {}}',
        '{"saved_at": "2026-11-25T00:00:00.000Z", "circuits": {"tone": {"version": 99}}, "holds": {}}',
        "[" * 100_000,
        '{"saved_at": ' + "[" * 5000 + "]" * 5000 + "}",
        '{"saved_at": "2026-11-25T00:00:00.000Z", "circuits": {"tone": ' + "[" * 900 + "]" * 900 + '}, "holds": {}}',
        '{"saved_at": "2026-11-25T00:00:00.000Z", "circuits": {"tone": 5}, "holds": []}',
        '{"saved_at": "2026-11-25T00:00:00.000Z", "circuits": {"tone": []}, "holds": {"salt": 1, "providers": []}}',
        '{"saved_at": "0001-01-01T00:00:00", "circuits": {"tone": null}, "holds": {}}',
        '{"saved_at": ' + "9" * 5000 + "}",
        "\ufeff{}",
        "\0" * 1000,
        " " * (17 * 1024 * 1024),
        *(
            '{"saved_at": "2026-11-25T00:00:00.000Z", "holds": {}, "circuits": {"tone": {"version": 1, '
            f'"state": "open", "reason": "", "remaining": {remaining}, "level": {level}, "streak": {streak}, '
            f'"window": {window}}}}}}}'
            for remaining, level, streak, window in (
                ("1e999", 0, 0, "[]"),
                (f"{10**400}", 0, 0, "[]"),
                (1, "NaN", 0, "[]"),
                (1, 0, "1e999", "[]"),
                (1, 0, 0, "[5]"),
                (1, 0, 0, '["abcde"]'),
                (1, 0, 0, f"[[{10**400}, 0, 0, 0, 0]]"),
                (1, 0, 0, "[[1, 0, 0, 0, 1e999]]"),
            )
        ),
    ],
    ids=lambda content: content[:12] + "..." + content[-60:-1],
)
def test_invalid_state_file_is_logged_and_ignored(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "state.json"
    file.write_text(content)
    after = service()
    StateFile(file, after).open()
    assert after.circuits["tone"].state is CircuitState.CLOSED
    assert str(file) in caplog.text


def test_missing_folder_is_logged_and_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = service()
    file = StateFile(tmp_path / "nowhere" / "state.json", before)
    file.open()
    assert caplog.text == "", "it is the first time"
    opened(before)
    assert "not written" in caplog.text
    assert before.circuits["tone"].state is CircuitState.OPEN


KEY = "sk_a_key_of_somebodys"


def vendors(key: str = KEY, url: str = "https://vendor.example") -> AsyncTTSService:
    return AsyncTTSService([ElevenLabs(key, base_url=url), OpenAICompatible("sk_b", base_url=url), Tone()])


def put_on_hold(a_service: AsyncTTSService, error: TTSError, voice: str = "v", cost: float | None = None) -> None:
    handler = a_service.handler("elevenlabs")
    handler.holds.place(error, SynthesisOffer(AudioFormat.parse("pcm_16000"), voice), handler.clock(), cost)


def kept(file: Path, before: AsyncTTSService, after: AsyncTTSService, passed: float) -> dict[str, float]:
    """Return the holds after a restart of so many seconds, and their remaining time."""
    StateFile(file, before, wall_clock=lambda: 1000.0).close()
    StateFile(file, after, wall_clock=lambda: 1000.0 + passed).open()
    handler = after.handler("elevenlabs")
    now = handler.clock()
    return {hold.key: round(hold.until - now) for hold in handler.holds.current(now)}


def test_holds_are_restored_for_their_remaining_time(tmp_path: Path) -> None:
    before, after = vendors(), vendors()
    put_on_hold(before, TTSInvalidKeyError("no such key"))
    put_on_hold(before, TTSVoiceUnknownError("no such voice"), "nobody")
    put_on_hold(before, TTSBusyError("busy", retry_after=30.0))
    restored = kept(tmp_path / "state.json", before, after, 100.0)
    assert restored == {"elevenlabs/credential": 500, "elevenlabs/voice/nobody": 500}
    with pytest.raises(TTSError, match="no such key"):
        after.handler("elevenlabs").check()


@pytest.mark.parametrize(
    "other",
    [vendors("sk_another_key"), vendors(url="https://elsewhere.example"), AsyncTTSService([Tone(name="elevenlabs")])],
)
def test_holds_of_another_credential_are_not_restored(tmp_path: Path, other: AsyncTTSService) -> None:
    before = vendors()
    put_on_hold(before, TTSInvalidKeyError("no such key"))
    put_on_hold(before, TTSVoiceUnknownError("no such voice"), "nobody")
    assert kept(tmp_path / "state.json", before, other, 1.0) == {}


def test_state_file_has_a_salted_fingerprint_instead_of_the_key(tmp_path: Path) -> None:
    marks = set()
    for name in ("one", "two"):
        before = vendors()
        put_on_hold(before, TTSInvalidKeyError("no such key"))
        StateFile(tmp_path / name, before).close()
        written = (tmp_path / name).read_text()
        assert KEY not in written
        marks.add(json.loads(written)["holds"]["providers"]["elevenlabs"]["credential"])
    assert len(marks) == 2


def test_restored_quota_hold_is_rechecked_soon_and_admits_what_fits(tmp_path: Path) -> None:
    """A vendor's reset may be weeks away, and the process that checked for new quota has ended."""
    before, after = vendors(), vendors()
    put_on_hold(before, TTSQuotaExceededError("out"), cost=50.0)
    holds = before.handler("elevenlabs").holds
    (hold,) = holds.current(0.0)
    holds.restore(replace(hold, until=hold.until + 1e6, remaining_credit=20.0))
    assert kept(tmp_path / "state.json", before, after, 0.0) == {"elevenlabs/credential": 900}
    assert after.handler("elevenlabs").holds.find(None, 0.0, 19.0) is None
    assert after.handler("elevenlabs").holds.find(None, 0.0, 21.0)


@pytest.mark.parametrize(
    "change",
    [
        {"key": "openai"}, {"key": 1}, {"kind": "odd"}, {"remaining": -1}, {"remaining": True}, {"room": "much"},
        {"reason": None}, {"refused_cost": float("nan")},
    ],
)  # fmt: skip
def test_invalid_holds_are_logged_and_ignored(
    tmp_path: Path, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    file, before, after = tmp_path / "state.json", vendors(), vendors()
    put_on_hold(before, TTSInvalidKeyError("no such key"))
    before.circuits["elevenlabs"].force_open("for maintenance")
    StateFile(file, before).close()
    document = json.loads(file.read_text())
    document["holds"]["providers"]["elevenlabs"]["holds"][0] |= change
    file.write_text(json.dumps(document))
    StateFile(file, after).open()
    assert not after.handler("elevenlabs").holds.current(0.0)
    assert after.circuits["elevenlabs"].state is CircuitState.FORCED_OPEN, "which is another matter"
    assert "elevenlabs: not a saved hold" in caplog.text


async def test_refused_key_is_saved_at_once(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    async with running_gateway(server={"state_file": str(file)}) as gateway:
        gateway.sim.faults.set(actions.Refuse("invalid_api_key"))
        for voice in ("default", "default"):
            assert (await gateway.fetch("POST", f"/v1/text-to-speech/{voice}", json=elevenlabs_body())).status == 200
        await asyncio.get_running_loop().shutdown_default_executor()
        written = json.loads(file.read_text())
    assert list(written["holds"]["providers"]) == ["elevenlabs", "openai"]


async def test_slow_disk_does_not_block_the_event_loop(tmp_path: Path) -> None:
    part, answered, in_time = tmp_path / "state.json.part", Event(), list[bool]()
    os.mkfifo(part)  # opening it for writing waits for a reader

    def read() -> None:
        in_time.append(answered.wait(10))
        part.read_text()

    async with running_gateway(server={"state_file": str(tmp_path / "state.json")}) as gateway:
        (reader := Thread(target=read)).start()
        gateway.service.circuits["elevenlabs"].force_open("for maintenance")
        assert (await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())).status == 200
        answered.set()
        await asyncio.to_thread(reader.join)
    assert in_time == [True]
    assert json.loads((tmp_path / "state.json").read_text())["circuits"]["elevenlabs"]["state"] == "forced_open"


async def test_newer_content_is_never_overwritten_by_older(tmp_path: Path) -> None:
    loop, scribe, free = asyncio.get_running_loop(), AtomicWriter(tmp_path / "file"), Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    busy = loop.run_in_executor(None, free.wait)
    scribe.write_soon(lambda: "older")
    scribe.write(lambda: "newer")
    free.set()
    await busy
    await asyncio.to_thread(lambda: None)  # which comes behind the older one
    assert json.loads((tmp_path / "file").read_text()) == "newer"
