"""The access log: a line for every request, with what came of it, and nothing that is nobody's business."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import aiohttp
import pytest

from steadyvoice import ElevenLabs
from steadyvoice.gateway.access import ACCESS
from steadyvoice.gateway.exchange import current_request
from steadyvoice.gateway.loglines import JsonLines
from steadyvoice.simulator import Fault, acts

from .house import ELEVENLABS, GEORGE, TEXT, spoken, visiting

STREAM = f"{ELEVENLABS}/stream?output_format=pcm_16000"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "steadyvoice")
    return caplog


def lines(log: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.getMessage()) for record in log.records if record.name == ACCESS]


async def test_every_request_has_a_line(log: pytest.LogCaptureFixture) -> None:
    async with visiting() as at:
        answer = await at.whole("POST", STREAM, json=spoken(), headers={"x-request-id": "mine-1", "xi-api-key": "k"})
        await at.whole("GET", "/healthz?secret=1")
        await at.whole("POST", ELEVENLABS, json=spoken(""))
        spoke, healthy, refused = lines(log)
        audio = await answer.read()
        assert spoke["path"] == f"/v1/text-to-speech/{GEORGE}/stream"
        assert (spoke["method"], spoke["status"], spoke["bytes"]) == ("POST", 200, len(audio))
        assert (spoke["door"], spoke["outcome"], spoke["provider"]) == ("elevenlabs", "spoken", "elevenlabs")
        assert (spoke["request_id"], spoke["client"], spoke["complete"]) == ("mine-1", "127.0.0.1", True)
        assert (spoke["characters"], spoke["attempts"]) == (len(TEXT), 1)
        assert 0 <= spoke["first_byte"] <= spoke["seconds"]
        assert (healthy["path"], healthy["status"]) == ("/healthz", 200)
        assert "door" not in healthy
        assert refused["status"] == 422
        assert TEXT not in log.text
        assert "secret" not in log.text


async def test_a_line_tells_who_was_cut_short_and_who_hung_up(log: pytest.LogCaptureFixture) -> None:
    async with visiting(on_midstream="error") as at:
        at.sim.faults.set(Fault(acts.Cut(after=1.0), endpoint="text-to-speech*"))
        with pytest.raises(aiohttp.ClientPayloadError):
            await (await at.post(STREAM, spoken())).read()
        at.sim.faults.set(Fault(acts.Stall(after=1.5), endpoint="text-to-speech*"))
        answer = await at.post(STREAM, spoken())
        await answer.content.readany()
        answer.close()
        await at.next_call()
        await at.next_call()
        await at.whole("GET", "/healthz")
        cut, left, _ = lines(log)
        assert (cut["status"], cut["complete"], cut["outcome"]) == (200, False, "failed")
        assert (left["status"], left["complete"], left["outcome"]) == (200, False, "abandoned")


async def test_texts_are_logged_only_when_they_are_asked_for(log: pytest.LogCaptureFixture) -> None:
    async with visiting(server={"log_texts": True}) as at:
        await at.whole("POST", STREAM, json=spoken())
        assert lines(log)[0]["text"] == TEXT


async def test_it_can_be_turned_off(log: pytest.LogCaptureFixture) -> None:
    async with visiting(server={"access_log": False}) as at:
        await at.whole("POST", STREAM, json=spoken())
        assert lines(log) == []


async def test_what_the_library_says_of_a_request_bears_its_id() -> None:
    written = Collected()
    logger = logging.getLogger("steadyvoice")
    logger.addHandler(written)
    logger.setLevel(logging.INFO)
    try:
        async with visiting(ElevenLabs("sk", base_url="http://127.0.0.1:9"), muted=False) as at:
            await at.whole("POST", STREAM, json=spoken(), headers={"x-request-id": "mine-2"})
    finally:
        logger.removeHandler(written)
        logger.setLevel(logging.NOTSET)
    failed = next(line for line in written.lines if line.get("kind"))
    assert (failed["logger"], failed["request_id"], failed["provider"]) == ("steadyvoice.calls", "mine-2", "elevenlabs")


def test_a_record_is_one_line_with_its_facts() -> None:
    current_request.set("ours")
    try:
        raise ValueError("a\nb")
    except ValueError:
        record = logging.makeLogRecord(
            {
                "name": "steadyvoice.x",
                "levelname": "WARNING",
                "msg": "two\nlines %s",
                "args": ("\x1b[31m",),
                "exc_info": sys.exc_info(),
            }
            | {"request_id": "theirs", "facts": {1}, "nothing": None}
        )
    line = JsonLines().format(record)
    current_request.set(None)
    assert line.isprintable()
    told = json.loads(line)
    assert (told["request_id"], told["vendor_request_id"], told["facts"]) == ("ours", "theirs", "{1}")
    assert (told["level"], told["message"]) == ("warning", "two\nlines \x1b[31m")
    assert "ValueError" in told["traceback"]
    assert "nothing" not in told


class Collected(logging.Handler):
    """Keeps what the formatter makes of records."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))
