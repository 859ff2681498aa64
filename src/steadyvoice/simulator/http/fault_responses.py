"""Faults applied to HTTP responses: all responses are sent from here, complete or broken."""

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
    writer: ResponseWriter, response: SimulatedResponse, action: FaultAction | None, error_line: Callable[[str], bytes]
) -> Ending:
    """Send a response with a fault applied, and return how it ended.

    `error_line` encodes an error of a code as the dialect does in the middle of a body.
    """
    match action:
        case actions.Hang():
            await writer.pause(None)
        case actions.HangAfterHeaders():
            await writer.start(response)
            await writer.pause(None)
        case actions.SlowFirstByte(seconds):
            await writer.pause(seconds)
            return await _send_complete(writer, response)
        case actions.Stall(after, seconds):
            return await _send_with_stall(writer, response, after, seconds)
        case actions.Drip(count, every):
            return await _send_slowly(writer, response, count, every)
        case actions.Cut(after):
            await _send_until(writer, response, after, BodyFraming.CHUNKED)
            return _close_connection(writer)
        case actions.CutClose(after):
            await _send_until(writer, response, after, BodyFraming.CLOSE)
            return _close_connection(writer)
        case actions.CutTerminated(after):
            await _send_until(writer, response, after, BodyFraming.CHUNKED)
            return await _finish_early(writer)
        case actions.HalfLine(after):
            await _send_until(writer, response, after, BodyFraming.CHUNKED, within=True)
            return await _finish_early(writer)
        case actions.Reset(after):
            if after is not None:
                await _send_until(writer, response, after)
            writer.reset_connection()
            return Ending.CUT
        case actions.WrongLength(factor):
            return await _send_with_wrong_length(writer, response, factor)
        case actions.ErrorLine(code, after):
            return await _send_until_error(writer, response, after, error_line(code))
        case actions.EndlessTag():
            await writer.start(response, framing=BodyFraming.CHUNKED)
            await _send_body(writer, _endless_tag())
            return _close_connection(writer)
        case actions.EndlessHeader():
            await writer.send_endless_header()
            return Ending.CUT
    return await _send_complete(writer, apply_body_action(response, action))


def apply_body_action(response: SimulatedResponse, action: FaultAction | None) -> SimulatedResponse:
    """Return the response with the action applied to its body or headers. It is sent like any other."""
    label = response.headers["content-type"]
    match action:
        case actions.Empty(chunked):
            return SimulatedResponse(
                body_from_parts([]), response.status, response.headers, length=None if chunked else 0
            )
        case actions.Json(declared):
            return bytes_response(
                b'{"status":"ok"}', "application/json" if declared else label, headers=response.headers
            )
        case actions.Html(declared):
            return bytes_response(ERROR_PAGE, "text/html" if declared else label, headers=response.headers)
        case actions.OddSplits(count):
            return replace(response, body=_resplit(response.body, count))
        case actions.Gzip(declared, members):
            headers = {**response.headers, **({"content-encoding": "gzip"} if declared else {})}
            return SimulatedResponse(_compress(response.body, members), response.status, headers)
        case actions.GzipBomb(megabytes):
            return SimulatedResponse(
                _gzip_bomb(megabytes), response.status, {**response.headers, "content-encoding": "gzip"}
            )
        case actions.UnknownCoding(coding):
            return replace(response, headers={**response.headers, "content-encoding": coding})
    return response


async def _send_complete(writer: ResponseWriter, response: SimulatedResponse) -> Ending:
    await writer.start(response)
    await _send_body(writer, response.body)
    await writer.finish()
    return Ending.COMPLETED


async def _send_body(writer: ResponseWriter, body: ResponseBody) -> None:
    async for part in body:
        await writer.send(part)


async def _send_until(
    writer: ResponseWriter,
    response: SimulatedResponse,
    after: float,
    framing: BodyFraming | None = None,
    *,
    within: bool = False,
) -> list[BodyPart]:
    """Send the parts before the fault, and return the rest."""
    await writer.start(response, framing=framing)
    sent, rest = split_at_second(await collect_parts(response.body), after, within=within)
    await _send_body(writer, body_from_parts(sent))
    return rest


def split_at_second(
    parts: list[BodyPart], after: float, *, within: bool = False
) -> tuple[list[BodyPart], list[BodyPart]]:
    """Split a body at a second of its audio, with bytes on both sides if it has any.

    The split is between two parts, unless there is only one, or `within` asks for the middle of a part.
    """
    count = sum(part.audio_end <= after for part in parts)
    # At least one part comes before the split, and one after it, so that a cut is noticeable in the shortest text.
    if not within and 0 < max(1, count) < len(parts):
        return parts[: max(1, count)], parts[max(1, count) :]
    if not parts:
        return [], []
    middle = min(count, len(parts) - 1)
    before = parts[middle - 1].audio_end if middle else 0.0
    part, half = parts[middle], len(parts[middle].data) // 2
    first = BodyPart(part.data[:half], (before + part.audio_end) / 2)
    return [*parts[:middle], first], [BodyPart(part.data[half:], part.audio_end), *parts[middle + 1 :]]


def _close_connection(writer: ResponseWriter) -> Ending:
    writer.close_connection()
    return Ending.CUT


async def _finish_early(writer: ResponseWriter) -> Ending:
    await writer.finish()
    return Ending.CUT


async def _send_with_stall(
    writer: ResponseWriter, response: SimulatedResponse, after: float, seconds: float | None
) -> Ending:
    rest = await _send_until(writer, response, after)
    await writer.pause(seconds)
    await _send_body(writer, body_from_parts(rest))
    await writer.finish()
    return Ending.COMPLETED


async def _send_slowly(writer: ResponseWriter, response: SimulatedResponse, count: int, every: float) -> Ending:
    await writer.start(response)
    async for piece in _resplit(response.body, count):
        await writer.send(piece)
        await writer.pause(every)
    await writer.finish()
    return Ending.COMPLETED


async def _send_with_wrong_length(writer: ResponseWriter, response: SimulatedResponse, factor: float) -> Ending:
    parts = await collect_parts(response.body)
    true = sum(len(part.data) for part in parts)
    declared = round(true * factor)
    # A body of a few bytes can have the same length after rounding.
    if declared == true:
        declared += 1 if factor > 1 else -1
    await writer.start(response, framing=BodyFraming.LENGTH, length=max(0, declared))
    await _send_body(writer, body_from_parts(parts))
    return _close_connection(writer)


async def _send_until_error(writer: ResponseWriter, response: SimulatedResponse, after: float, error: bytes) -> Ending:
    parts = await collect_parts(response.body)
    count = sum(part.audio_end <= after for part in parts)
    await writer.start(response, framing=BodyFraming.CHUNKED)
    await _send_body(writer, body_from_parts(parts[: min(max(1, count), len(parts) - 1)]))
    await writer.send(BodyPart(error))
    await writer.finish()
    return Ending.CUT


async def _resplit(body: ResponseBody, size: int) -> ResponseBody:
    """Split a body into pieces of one size in bytes, regardless of its parts."""
    rest, audio_end = b"", 0.0
    async for part in body:
        rest, audio_end = rest + part.data, part.audio_end
        complete = len(rest) // size * size
        for at in range(0, complete, size):
            yield BodyPart(rest[at : at + size], audio_end)
        rest = rest[complete:]
    if rest:
        yield BodyPart(rest, audio_end)


async def _compress(body: ResponseBody, members: int = 1) -> ResponseBody:
    """Compress a body with gzip: the first parts each as a member of its own, the rest as the last member."""
    compressor = zlib.compressobj(wbits=31)
    audio_end = 0.0
    async for part in body:
        audio_end = part.audio_end
        data = compressor.compress(part.data) + compressor.flush(zlib.Z_SYNC_FLUSH)
        if members > 1:
            members -= 1
            data += compressor.flush()
            compressor = zlib.compressobj(wbits=31)
        yield BodyPart(data, audio_end)
    yield BodyPart(compressor.flush(), audio_end)


async def _gzip_bomb(megabytes: int) -> ResponseBody:
    compressor, block = zlib.compressobj(9, wbits=31), bytes(1_000_000)
    for _ in range(megabytes):
        yield BodyPart(compressor.compress(block))
        # Compressing takes milliseconds per block, during which other connections of the simulator would wait.
        await asyncio.sleep(0)
    yield BodyPart(compressor.flush())


async def _endless_tag() -> ResponseBody:
    """Return an ID3 tag of the largest size: four bytes of seven bits (https://id3.org/id3v2.4.0-structure)."""
    yield BodyPart(b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f")
    block = bytes(64 * 1024)
    for _ in range(2**28 // len(block)):
        yield BodyPart(block)
