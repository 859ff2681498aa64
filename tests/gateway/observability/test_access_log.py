"""Access log: one line per request, with its outcome, and without texts and secrets."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from steadyvoice import ElevenLabs
from steadyvoice.gateway.observability.access_log import ACCESS_LOGGER, JSONFormatter
from steadyvoice.gateway.request_context import current_request_id
from steadyvoice.simulator import Fault
from steadyvoice.simulator.fault_injection import actions

from ..running_gateway import ELEVENLABS, GEORGE, TEXT, Clock, RunningGateway, elevenlabs_body, running_gateway

STREAM = f"{ELEVENLABS}/stream?output_format=pcm_16000"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "steadyvoice")
    return caplog


def lines(log: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.getMessage()) for record in log.records if record.name == ACCESS_LOGGER]


async def test_every_request_has_a_log_line(log: pytest.LogCaptureFixture) -> None:
    async with running_gateway() as gateway:
        answer = await gateway.fetch(
            "POST", STREAM, json=elevenlabs_body(), headers={"x-request-id": "mine-1", "xi-api-key": "k"}
        )
        await gateway.fetch("GET", "/healthz?secret=1")
        await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body(""))
        spoke, healthy, refused = lines(log)
        audio = await answer.read()
        assert spoke["path"] == f"/v1/text-to-speech/{GEORGE}/stream"
        assert (spoke["method"], spoke["status"], spoke["bytes"]) == ("POST", 200, len(audio))
        assert (spoke["api"], spoke["outcome"], spoke["provider"]) == ("elevenlabs", "spoken", "elevenlabs")
        assert (spoke["request_id"], spoke["client"], spoke["complete"]) == ("mine-1", "127.0.0.1", True)
        assert (spoke["characters"], spoke["attempts"]) == (len(TEXT), 1)
        assert 0 <= spoke["first_byte"] <= spoke["seconds"]
        assert (healthy["path"], healthy["status"]) == ("/healthz", 200)
        assert "api" not in healthy
        assert refused["status"] == 422
        assert TEXT not in log.text
        assert "secret" not in log.text


async def test_log_line_distinguishes_failed_and_interrupted_responses(log: pytest.LogCaptureFixture) -> None:
    async with running_gateway(on_midstream="error") as gateway:
        gateway.sim.faults.set(Fault(actions.Cut(after=1.0), endpoint="text-to-speech*"))
        with pytest.raises(aiohttp.ClientPayloadError):
            await (await gateway.post(STREAM, elevenlabs_body())).read()
        gateway.sim.faults.set(Fault(actions.Stall(after=1.5), endpoint="text-to-speech*"))
        answer = await gateway.post(STREAM, elevenlabs_body())
        await answer.content.readany()
        answer.close()
        await gateway.next_call()
        await gateway.next_call()
        await gateway.fetch("GET", "/healthz")
        cut, left, _ = lines(log)
        assert (cut["status"], cut["complete"], cut["outcome"]) == (200, False, "failed")
        assert (left["status"], left["complete"], left["outcome"]) == (200, False, "interrupted")


async def test_texts_are_logged_only_with_log_texts(log: pytest.LogCaptureFixture) -> None:
    async with running_gateway(server={"log_texts": True}) as gateway:
        await gateway.fetch("POST", STREAM, json=elevenlabs_body())
        assert lines(log)[0]["text"] == TEXT


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 101 + b"x-request-id: mine-2\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nx-request-id: mine-2\r\na: " + b"x" * 40_000, 431),
        (b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\nx-request-id: mine-2\r\n\r\n", 414),
        (b"POST /v1/audio/speech HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nno chunk\r\n", 400),
        (b"GET / HTTP/1.1\r\nx-request-id: mine-2\r\nhost:", 408),
    ],
)
async def test_refused_connections_have_a_log_line_with_a_request_id(
    log: pytest.LogCaptureFixture, sent: bytes, status: int
) -> None:
    async with running_gateway(server={"header_timeout": 0.2}) as gateway:
        response = await _answer(gateway, sent)
        line = next(line for line in lines(log) if "refused" in line)
        assert response.startswith(f"HTTP/1.1 {status} ".encode())
        assert response.endswith(line["refused"].encode() + b"\n")
        assert f"\r\nx-request-id: {line['request_id']}\r\n".encode() in response
        assert (line["request_id"] == "mine-2") == (b"mine-2" in sent)
        assert (line["status"], line["client"], line["complete"]) == (status, "127.0.0.1", True)
        assert (line["method"], line["path"]) == (None, None)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00", "TLS handshake on a plain HTTP port: use http://"),
        (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", "malformed HTTP request: Invalid header token"),
        (b"GET http:// HTTP/1.1\r\nhost: x\r\n\r\n", "malformed HTTP request"),
    ],
)
async def test_malformed_request_is_logged_with_the_reason(sent: bytes, reason: str) -> None:
    async with running_gateway() as gateway:
        assert (await _answer(gateway, sent)).endswith(f"\r\n{reason}\n".encode())


async def test_malformed_body_has_one_request_id_in_both_lines(log: pytest.LogCaptureFixture) -> None:
    async with running_gateway() as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(gateway.url).port)
        head = b"host: localhost\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n"
        writer.write(b"POST /v1/audio/speech HTTP/1.1\r\n" + head)
        await reader.readuntil(b"100 Continue\r\n\r\n")
        writer.write(b"no chunk\r\n")
        response = await reader.read()
        writer.close()
        await gateway.fetch("GET", "/healthz")
        refused, begun, _ = lines(log)
        assert (refused["status"], begun["status"], begun["path"]) == (400, None, "/v1/audio/speech")
        assert refused["request_id"] == begun["request_id"]
        assert refused["request_id"].encode() in response


async def test_connection_over_the_limit_has_a_log_line(log: pytest.LogCaptureFixture) -> None:
    async with running_gateway(server={"max_connections": 1}) as gateway:
        gateway.sim.faults.set(Fault(actions.Stall(after=1.5), endpoint="text-to-speech*"))
        busy = await gateway.post(STREAM, elevenlabs_body())
        await busy.content.readany()
        response = await _answer(gateway, b"")
        busy.close()
        assert response.startswith(b"HTTP/1.1 503 ")
        assert f"\r\nx-request-id: {lines(log)[0]['request_id']}\r\n".encode() in response


async def _answer(gateway: RunningGateway, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(gateway.url).port)
    writer.write(sent)
    response = await reader.read()
    writer.close()
    return response


async def test_unknown_voice_is_one_warning(log: pytest.LogCaptureFixture) -> None:
    async with running_gateway(only_elevenlabs=True, clock=(clock := Clock())) as gateway:

        async def statuses(*voices: str) -> list[int]:
            paths = [f"/v1/text-to-speech/{voice}" for voice in voices]
            return [(await gateway.fetch("POST", path, json=elevenlabs_body())).status for path in paths]

        assert await statuses("nobody", "nobody") == [404, 404]
        assert gateway.sim.ledger.requests == 1, "the vendor is not asked again for a while"
        clock.ahead += 601.0
        assert await statuses("nobody") == [404]
        assert gateway.sim.ledger.requests == 2
        assert warnings(log) == ["elevenlabs: elevenlabs/voice/nobody on hold"]

        assert await statuses("another") == [404]
        assert warnings(log)[1:] == ["elevenlabs: elevenlabs/voice/another on hold"]

        gateway.sim.faults.set(actions.Refuse("voice_not_found"))
        assert await statuses(GEORGE) == [404]
        gateway.sim.faults.clear()
        clock.ahead += 601.0
        assert await statuses(GEORGE) == [200]
        gateway.sim.faults.set(actions.Refuse("voice_not_found"))
        assert await statuses(GEORGE) == [404]
        assert warnings(log)[2:] == [f"elevenlabs: elevenlabs/voice/{GEORGE} on hold"] * 2, "it had spoken in between"


def warnings(log: pytest.LogCaptureFixture) -> list[str]:
    records = [record for record in log.records if record.levelno >= logging.WARNING and record.name != "asyncio"]
    return [record.getMessage().partition(": voice_unknown")[0] for record in records]


TIME = re.compile(r"\d{4}-\d\d-\d\d[T ][^\"\s,]*")


async def test_times_have_one_format_everywhere(log: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    async with running_gateway(server={"state_file": str(file)}) as gateway:
        gateway.sim.faults.set(actions.Refuse("invalid_api_key"))
        await gateway.fetch("POST", STREAM, json=elevenlabs_body())
        gateway.service.circuits["elevenlabs"].force_open("for maintenance")
        endpoints = [
            await (await gateway.get(f"/admin/{endpoint}")).text()
            for endpoint in ("state", "overview", "calls", "circuits")
        ]
        events = gateway.context.event_log.since(0)[0]
    written = [JSONFormatter().format(record) for record in log.records]
    places = [*endpoints, *(event.data for event in events), file.read_text(), "\n".join(written)]
    for place in places:
        times = [each.rstrip(":") for each in TIME.findall(place)]
        assert times
        assert [each for each in times if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each)] == []


async def test_access_log_can_be_switched_off(log: pytest.LogCaptureFixture) -> None:
    async with running_gateway(server={"access_log": False}) as gateway:
        await gateway.fetch("POST", STREAM, json=elevenlabs_body())
        assert lines(log) == []


async def test_library_log_lines_have_the_request_id() -> None:
    written = CollectedRecords()
    logger = logging.getLogger("steadyvoice")
    logger.addHandler(written)
    logger.setLevel(logging.INFO)
    try:
        async with running_gateway(ElevenLabs("sk", base_url="http://127.0.0.1:9"), muted=False) as gateway:
            await gateway.fetch("POST", STREAM, json=elevenlabs_body(), headers={"x-request-id": "mine-2"})
    finally:
        logger.removeHandler(written)
        logger.setLevel(logging.NOTSET)
    failed = next(line for line in written.lines if line.get("kind"))
    assert (failed["logger"], failed["request_id"], failed["provider"]) == ("steadyvoice.calls", "mine-2", "elevenlabs")


def test_log_record_is_one_json_line() -> None:
    current_request_id.set("ours")
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
    line = JSONFormatter().format(record)
    current_request_id.set(None)
    assert line.isprintable()
    document = json.loads(line)
    assert (document["request_id"], document["vendor_request_id"], document["facts"]) == ("ours", "theirs", "{1}")
    assert (document["level"], document["message"]) == ("warning", "two\nlines \x1b[31m")
    assert "ValueError" in document["traceback"]
    assert "nothing" not in document


class CollectedRecords(logging.Handler):
    """Keeps what the formatter makes of records."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JSONFormatter())
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


async def test_page_shows_the_fields_of_a_line(log: pytest.LogCaptureFixture) -> None:
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text("utf-8")
    shown = json.loads(page.partition("```json\n")[2].partition("```")[0])
    async with running_gateway() as gateway:
        await gateway.fetch("POST", STREAM, json=elevenlabs_body())
        (line,) = lines(log)
    assert shown.keys() == line.keys()
