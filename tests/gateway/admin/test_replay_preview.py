"""Preview of a circuit's settings: the recent journal, replayed under them by another process."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from steadyvoice.gateway.admin.replay_preview import HOW_TO_BEGIN, newest_files
from steadyvoice.service.journal.records import Journal, read_journal
from steadyvoice.simulator import Fault
from steadyvoice.simulator.fault_injection import actions

from ..running_gateway import ELEVENLABS, RunningGateway, elevenlabs_body, running_gateway
from .test_admin_api import refusal

PREVIEW = "/admin/circuits/elevenlabs/preview"


async def outage(gateway: RunningGateway) -> None:
    """Make seven calls, of which four fail at the first vendor and open its circuit; the last one is not sent there."""
    for number in range(7):
        if number == 2:
            gateway.sim.faults.set(Fault(actions.Refuse(status=503), endpoint="text-to-speech*"))
        await gateway.fetch("POST", f"{ELEVENLABS}/stream?output_format=pcm_16000", json=elevenlabs_body())


async def written(gateway: RunningGateway, folder: Path) -> Journal:
    """Wait until the journal has the seven calls, and return it."""
    async with asyncio.timeout(20):
        while True:
            journal = await asyncio.to_thread(read_journal, [folder])
            if sum(len(run.utterances) for run in journal.runs) == 7:
                return journal
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_preview_shows_what_other_settings_would_have_done(tmp_path: Path) -> None:
    async with running_gateway(journal=tmp_path) as gateway:
        await outage(gateway)
        journal = await written(gateway, tmp_path)
        # Those of the fast lane are in it as the others are.
        (run,) = journal.runs
        assert [each.line.outcome for each in run.utterances] == ["spoken"] * 2 + ["substituted"] * 5
        assert all(each.began is not None for each in run.utterances[0].attempts)
        before = gateway.service.circuits["elevenlabs"].config
        answer = await gateway.fetch("POST", PREVIEW, json={"consecutive_failures": 1})
        assert answer.status == 200, await answer.text()
        preview = await answer.json()
        assert preview["journal"]["utterances"] == 7
        assert preview["fidelity"] == {"transitions": 1, "transitions_met": 1, "utterances": 7, "utterances_met": 7}
        assert preview["happened"]["outcomes"] == {"spoken": 2, "substituted": 5}
        assert preview["before"]["attempts"] == preview["happened"]["attempts"]
        # Opened by the first failure, the circuit spares the vendor the others.
        assert preview["after"]["attempts"] < preview["before"]["attempts"]
        assert preview["after"]["refusals"] > preview["before"]["refusals"]
        assert gateway.service.circuits["elevenlabs"].config == before
        error = await refusal(await gateway.fetch("POST", PREVIEW, json={"window_size": 0}), 422)
        assert error["field"] == "window_size"


async def test_without_a_journal_it_says_how_to_begin_one(tmp_path: Path) -> None:
    async with running_gateway() as gateway:
        error = await refusal(await gateway.fetch("POST", PREVIEW, json={"window_size": 9}), 409)
        assert (error["code"], error["message"]) == ("no_journal", HOW_TO_BEGIN)
        await gateway.service.reconfigure(journal=tmp_path)
        error = await refusal(await gateway.fetch("POST", PREVIEW, json={"window_size": 9}), 409)
        assert (error["code"], error["message"]) == ("no_calls", "the journal has no calls yet")


def test_newest_files_are_read_as_far_as_the_limits_allow(tmp_path: Path) -> None:
    for number in range(9):
        path = tmp_path / f"run.{number:04d}.jsonl"
        path.write_bytes(b"x" * 100)
        os.utime(path, (number, number))
    (tmp_path / "other.txt").write_text("not of the journal")
    names = [path.name for path in newest_files(tmp_path)]
    assert names == [f"run.{number:04d}.jsonl" for number in range(3, 9)]
    assert [path.name for path in newest_files(tmp_path, max_bytes=250)] == ["run.0007.jsonl", "run.0008.jsonl"]
    assert [path.name for path in newest_files(tmp_path, max_bytes=10)] == ["run.0008.jsonl"]
