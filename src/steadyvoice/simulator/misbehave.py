"""Where faults happen: an answer, what befalls it, and the line it goes out on."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from dataclasses import replace

from steadyvoice.simulator import acts
from steadyvoice.simulator.acts import Act
from steadyvoice.simulator.answer import Answer, Body, Part, collected, in_parts, plain_answer
from steadyvoice.simulator.ledger import Ending
from steadyvoice.simulator.line import Framing, Line

WEB_PAGE = b"""<!doctype html>
<html><head><title>502 Bad Gateway</title></head>
<body><center><h1>502 Bad Gateway</h1></center><hr><center>nginx</center></body></html>
"""


async def deliver(line: Line, answer: Answer, act: Act | None, error_line: Callable[[str], bytes]) -> Ending:
    """Send an answer, or what the fault makes of it, and say how it ended.

    `error_line` writes an error of the given code as the dialect would in the middle of a body.
    """
    match act:
        case acts.Hang():
            await line.wait(None)
        case acts.HangAfterHeaders():
            await line.start(answer)
            await line.wait(None)
        case acts.SlowFirstByte(seconds):
            await line.wait(seconds)
            return await _whole(line, answer)
        case acts.Stall(after, seconds):
            return await _stalled(line, answer, after, seconds)
        case acts.Drip(count, every):
            return await _dripping(line, answer, count, every)
        case acts.Cut(after):
            await _begin(line, answer, after, Framing.CHUNKED)
            return _hung_up(line)
        case acts.CutClose(after):
            await _begin(line, answer, after, Framing.CLOSE)
            return _hung_up(line)
        case acts.CutTerminated(after):
            await _begin(line, answer, after, Framing.CHUNKED)
            return await _ended_early(line)
        case acts.HalfLine(after):
            await _begin(line, answer, after, Framing.CHUNKED, within=True)
            return await _ended_early(line)
        case acts.Reset(after):
            if after is not None:
                await _begin(line, answer, after)
            line.reset()
            return Ending.CUT
        case acts.WrongLength(factor):
            return await _mismeasured(line, answer, factor)
        case acts.ErrorLine(code, after):
            return await _interrupted(line, answer, after, error_line(code))
        case acts.EndlessTag():
            await line.start(answer, framing=Framing.CHUNKED)
            await _send(line, _endless_tag())
            return _hung_up(line)
        case acts.EndlessHeader():
            await line.start_without_end()
            return Ending.CUT
    return await _whole(line, altered(answer, act))


def altered(answer: Answer, act: Act | None) -> Answer:
    """The answer with another body: still sent as any other."""
    label = answer.headers["content-type"]
    match act:
        case acts.Empty(chunked):
            return Answer(in_parts([]), answer.status, answer.headers, length=None if chunked else 0)
        case acts.Json(told):
            return plain_answer(b'{"status":"ok"}', "application/json" if told else label, headers=answer.headers)
        case acts.Html(told):
            return plain_answer(WEB_PAGE, "text/html" if told else label, headers=answer.headers)
        case acts.OddSplits(count):
            return replace(answer, body=_split(answer.body, count))
        case acts.Gzip(told, members):
            headers = {**answer.headers, **({"content-encoding": "gzip"} if told else {})}
            return Answer(_gzipped(answer.body, members), answer.status, headers)
        case acts.GzipBomb(megabytes):
            return Answer(_bomb(megabytes), answer.status, {**answer.headers, "content-encoding": "gzip"})
        case acts.UnknownCoding(coding):
            return replace(answer, headers={**answer.headers, "content-encoding": coding})
    return answer


async def _whole(line: Line, answer: Answer) -> Ending:
    await line.start(answer)
    await _send(line, answer.body)
    await line.finish()
    return Ending.COMPLETED


async def _send(line: Line, body: Body) -> None:
    async for part in body:
        await line.send(part)


async def _begin(
    line: Line, answer: Answer, after: float, framing: Framing | None = None, *, within: bool = False
) -> list[Part]:
    """Send what comes before the fault, and give what is left."""
    await line.start(answer, framing=framing)
    sent, left = divided(await collected(answer.body), after, within=within)
    await _send(line, in_parts(sent))
    return left


def divided(parts: list[Part], after: float, *, within: bool = False) -> tuple[list[Part], list[Part]]:
    """Divide a body at a second of its audio, so that something is on both sides, whatever there is of it.

    The border is that between two parts, unless there is only one, or it shall be `within` a part.
    """
    count = sum(part.heard <= after for part in parts)
    if not within and 0 < max(1, count) < len(parts):
        return parts[: max(1, count)], parts[max(1, count) :]
    if not parts:
        return [], []
    middle = min(count, len(parts) - 1)
    before = parts[middle - 1].heard if middle else 0.0
    part, half = parts[middle], len(parts[middle].data) // 2
    first = Part(part.data[:half], (before + part.heard) / 2)
    return [*parts[:middle], first], [Part(part.data[half:], part.heard), *parts[middle + 1 :]]


def _hung_up(line: Line) -> Ending:
    line.hang_up()
    return Ending.CUT


async def _ended_early(line: Line) -> Ending:
    await line.finish()
    return Ending.CUT


async def _stalled(line: Line, answer: Answer, after: float, seconds: float | None) -> Ending:
    left = await _begin(line, answer, after)
    await line.wait(seconds)
    await _send(line, in_parts(left))
    await line.finish()
    return Ending.COMPLETED


async def _dripping(line: Line, answer: Answer, count: int, every: float) -> Ending:
    await line.start(answer)
    async for drop in _split(answer.body, count):
        await line.send(drop)
        await line.wait(every)
    await line.finish()
    return Ending.COMPLETED


async def _mismeasured(line: Line, answer: Answer, factor: float) -> Ending:
    parts = await collected(answer.body)
    true = sum(len(part.data) for part in parts)
    told = round(true * factor)
    if told == true:  # too small to show
        told += 1 if factor > 1 else -1
    await line.start(answer, framing=Framing.LENGTH, length=max(0, told))
    await _send(line, in_parts(parts))
    return _hung_up(line)


async def _interrupted(line: Line, answer: Answer, after: float, error: bytes) -> Ending:
    parts = await collected(answer.body)
    count = sum(part.heard <= after for part in parts)
    await line.start(answer, framing=Framing.CHUNKED)
    await _send(line, in_parts(parts[: min(max(1, count), len(parts) - 1)]))
    await line.send(Part(error))
    await line.finish()
    return Ending.CUT


async def _split(body: Body, size: int) -> Body:
    """Cut a body into pieces of one size, across the borders of its parts."""
    rest, heard = b"", 0.0
    async for part in body:
        rest, heard = rest + part.data, part.heard
        whole = len(rest) // size * size
        for at in range(0, whole, size):
            yield Part(rest[at : at + size], heard)
        rest = rest[whole:]
    if rest:
        yield Part(rest, heard)


async def _gzipped(body: Body, members: int = 1) -> Body:
    """Compress a body, the first parts each in a member of its own, and the rest in the last member."""
    squeeze = zlib.compressobj(wbits=31)
    heard = 0.0
    async for part in body:
        heard = part.heard
        data = squeeze.compress(part.data) + squeeze.flush(zlib.Z_SYNC_FLUSH)
        if members > 1:
            members -= 1
            data += squeeze.flush()
            squeeze = zlib.compressobj(wbits=31)
        yield Part(data, heard)
    yield Part(squeeze.flush(), heard)


async def _bomb(megabytes: int) -> Body:
    squeeze, block = zlib.compressobj(9, wbits=31), bytes(1_000_000)
    for _ in range(megabytes):
        yield Part(squeeze.compress(block))
        await asyncio.sleep(0)
    yield Part(squeeze.flush())


async def _endless_tag() -> Body:
    """Make the tag: its size is written in four bytes of seven bits (https://id3.org/id3v2.4.0-structure)."""
    yield Part(b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f")
    block = bytes(64 * 1024)
    for _ in range(2**28 // len(block)):
        yield Part(block)
