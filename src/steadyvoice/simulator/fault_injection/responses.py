"""Faults applied to HTTP responses: the one place that sends an answer, whole or broken."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from dataclasses import replace

from steadyvoice.simulator.fault_injection import actions
from steadyvoice.simulator.fault_injection.actions import FaultAction
from steadyvoice.simulator.http.response import (
    BodyFraming,
    BodyPart,
    ResponseBody,
    ResponseWriter,
    SimulatedResponse,
    body_from_parts,
    bytes_response,
    collect_parts,
)
from steadyvoice.simulator.ledger import Ending

ERROR_PAGE = b"""<!doctype html>
<html><head><title>502 Bad Gateway</title></head>
<body><center><h1>502 Bad Gateway</h1></center><hr><center>nginx</center></body></html>
"""


async def send_response(
    line: ResponseWriter, answer: SimulatedResponse, action: FaultAction | None, error_line: Callable[[str], bytes]
) -> Ending:
    """Send an answer, or what the fault makes of it, and say how it ended.

    `error_line` writes an error of the given code as the dialect would in the middle of a body.
    """
    match action:
        case actions.Hang():
            await line.wait(None)
        case actions.HangAfterHeaders():
            await line.start(answer)
            await line.wait(None)
        case actions.SlowFirstByte(seconds):
            await line.wait(seconds)
            return await _send_complete(line, answer)
        case actions.Stall(after, seconds):
            return await _send_with_stall(line, answer, after, seconds)
        case actions.Drip(count, every):
            return await _send_slowly(line, answer, count, every)
        case actions.Cut(after):
            await _send_until(line, answer, after, BodyFraming.CHUNKED)
            return _close_connection(line)
        case actions.CutClose(after):
            await _send_until(line, answer, after, BodyFraming.CLOSE)
            return _close_connection(line)
        case actions.CutTerminated(after):
            await _send_until(line, answer, after, BodyFraming.CHUNKED)
            return await _finish_early(line)
        case actions.HalfLine(after):
            await _send_until(line, answer, after, BodyFraming.CHUNKED, within=True)
            return await _finish_early(line)
        case actions.Reset(after):
            if after is not None:
                await _send_until(line, answer, after)
            line.reset()
            return Ending.CUT
        case actions.WrongLength(factor):
            return await _send_with_wrong_length(line, answer, factor)
        case actions.ErrorLine(code, after):
            return await _send_until_error(line, answer, after, error_line(code))
        case actions.EndlessTag():
            await line.start(answer, framing=BodyFraming.CHUNKED)
            await _send_body(line, _endless_tag())
            return _close_connection(line)
        case actions.EndlessHeader():
            await line.start_without_end()
            return Ending.CUT
    return await _send_complete(line, apply_body_action(answer, action))


def apply_body_action(answer: SimulatedResponse, action: FaultAction | None) -> SimulatedResponse:
    """The answer with another body: still sent as any other."""
    label = answer.headers["content-type"]
    match action:
        case actions.Empty(chunked):
            return SimulatedResponse(body_from_parts([]), answer.status, answer.headers, length=None if chunked else 0)
        case actions.Json(told):
            return bytes_response(b'{"status":"ok"}', "application/json" if told else label, headers=answer.headers)
        case actions.Html(told):
            return bytes_response(ERROR_PAGE, "text/html" if told else label, headers=answer.headers)
        case actions.OddSplits(count):
            return replace(answer, body=_resplit(answer.body, count))
        case actions.Gzip(told, members):
            headers = {**answer.headers, **({"content-encoding": "gzip"} if told else {})}
            return SimulatedResponse(_compress(answer.body, members), answer.status, headers)
        case actions.GzipBomb(megabytes):
            return SimulatedResponse(
                _gzip_bomb(megabytes), answer.status, {**answer.headers, "content-encoding": "gzip"}
            )
        case actions.UnknownCoding(coding):
            return replace(answer, headers={**answer.headers, "content-encoding": coding})
    return answer


async def _send_complete(line: ResponseWriter, answer: SimulatedResponse) -> Ending:
    await line.start(answer)
    await _send_body(line, answer.body)
    await line.finish()
    return Ending.COMPLETED


async def _send_body(line: ResponseWriter, body: ResponseBody) -> None:
    async for part in body:
        await line.send(part)


async def _send_until(
    line: ResponseWriter,
    answer: SimulatedResponse,
    after: float,
    framing: BodyFraming | None = None,
    *,
    within: bool = False,
) -> list[BodyPart]:
    """Send what comes before the fault, and give what is left."""
    await line.start(answer, framing=framing)
    sent, left = split_at_second(await collect_parts(answer.body), after, within=within)
    await _send_body(line, body_from_parts(sent))
    return left


def split_at_second(
    parts: list[BodyPart], after: float, *, within: bool = False
) -> tuple[list[BodyPart], list[BodyPart]]:
    """Divide a body at a second of its audio, so that something is on both sides, whatever there is of it.

    The border is that between two parts, unless there is only one, or it shall be `within` a part.
    """
    count = sum(part.audio_end <= after for part in parts)
    if not within and 0 < max(1, count) < len(parts):
        return parts[: max(1, count)], parts[max(1, count) :]
    if not parts:
        return [], []
    middle = min(count, len(parts) - 1)
    before = parts[middle - 1].audio_end if middle else 0.0
    part, half = parts[middle], len(parts[middle].data) // 2
    first = BodyPart(part.data[:half], (before + part.audio_end) / 2)
    return [*parts[:middle], first], [BodyPart(part.data[half:], part.audio_end), *parts[middle + 1 :]]


def _close_connection(line: ResponseWriter) -> Ending:
    line.hang_up()
    return Ending.CUT


async def _finish_early(line: ResponseWriter) -> Ending:
    await line.finish()
    return Ending.CUT


async def _send_with_stall(
    line: ResponseWriter, answer: SimulatedResponse, after: float, seconds: float | None
) -> Ending:
    left = await _send_until(line, answer, after)
    await line.wait(seconds)
    await _send_body(line, body_from_parts(left))
    await line.finish()
    return Ending.COMPLETED


async def _send_slowly(line: ResponseWriter, answer: SimulatedResponse, count: int, every: float) -> Ending:
    await line.start(answer)
    async for drop in _resplit(answer.body, count):
        await line.send(drop)
        await line.wait(every)
    await line.finish()
    return Ending.COMPLETED


async def _send_with_wrong_length(line: ResponseWriter, answer: SimulatedResponse, factor: float) -> Ending:
    parts = await collect_parts(answer.body)
    true = sum(len(part.data) for part in parts)
    told = round(true * factor)
    if told == true:  # too small to show
        told += 1 if factor > 1 else -1
    await line.start(answer, framing=BodyFraming.LENGTH, length=max(0, told))
    await _send_body(line, body_from_parts(parts))
    return _close_connection(line)


async def _send_until_error(line: ResponseWriter, answer: SimulatedResponse, after: float, error: bytes) -> Ending:
    parts = await collect_parts(answer.body)
    count = sum(part.audio_end <= after for part in parts)
    await line.start(answer, framing=BodyFraming.CHUNKED)
    await _send_body(line, body_from_parts(parts[: min(max(1, count), len(parts) - 1)]))
    await line.send(BodyPart(error))
    await line.finish()
    return Ending.CUT


async def _resplit(body: ResponseBody, size: int) -> ResponseBody:
    """Cut a body into pieces of one size, across the borders of its parts."""
    rest, heard = b"", 0.0
    async for part in body:
        rest, heard = rest + part.data, part.audio_end
        whole = len(rest) // size * size
        for at in range(0, whole, size):
            yield BodyPart(rest[at : at + size], heard)
        rest = rest[whole:]
    if rest:
        yield BodyPart(rest, heard)


async def _compress(body: ResponseBody, members: int = 1) -> ResponseBody:
    """Compress a body, the first parts each in a member of its own, and the rest in the last member."""
    squeeze = zlib.compressobj(wbits=31)
    heard = 0.0
    async for part in body:
        heard = part.audio_end
        data = squeeze.compress(part.data) + squeeze.flush(zlib.Z_SYNC_FLUSH)
        if members > 1:
            members -= 1
            data += squeeze.flush()
            squeeze = zlib.compressobj(wbits=31)
        yield BodyPart(data, heard)
    yield BodyPart(squeeze.flush(), heard)


async def _gzip_bomb(megabytes: int) -> ResponseBody:
    squeeze, block = zlib.compressobj(9, wbits=31), bytes(1_000_000)
    for _ in range(megabytes):
        yield BodyPart(squeeze.compress(block))
        await asyncio.sleep(0)
    yield BodyPart(squeeze.flush())


async def _endless_tag() -> ResponseBody:
    """Make the tag: its size is written in four bytes of seven bits (https://id3.org/id3v2.4.0-structure)."""
    yield BodyPart(b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f")
    block = bytes(64 * 1024)
    for _ in range(2**28 // len(block)):
        yield BodyPart(block)
