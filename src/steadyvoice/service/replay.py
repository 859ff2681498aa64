"""Plays what was said before: when that is better than what comes next, and how it follows on what has begun."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence

from steadyvoice.service.cache import Recording
from steadyvoice.service.casting import Part
from steadyvoice.service.output import Output
from steadyvoice.service.plan import GiveUp, Try, Wait

_SLICE = 65_536  # bytes of a recording that are handed out at once


def remembered(
    step: Try | Wait | GiveUp, parts: Sequence[Part], recordings: Mapping[str, Recording]
) -> tuple[str, Recording] | None:
    """Find a recording that is better than what comes next: a fresh one of whoever would be asked, or one of any age
    of a voice that comes before and cannot speak. Before silence, anybody's.
    """
    match step:
        case Try(index):
            reached = parts[: index + 1]
        case Wait():
            reached = parts[:1]
        case GiveUp():
            reached = parts
    for part in reached:
        recording = recordings.get(part.name)
        if recording and (recording.fresh or part.course.error or isinstance(step, GiveUp)):
            return part.name, recording
    return None


async def replay(output: Output, audio: bytes) -> AsyncGenerator[bytes, None]:
    """Yield a whole recording in the output's format, from the start, whoever has begun and broken off."""
    appended = output.anything
    if appended and (pending := output.begin(output.target)):
        yield pending
    for begin in range(0, len(audio), _SLICE):
        data = audio[begin : begin + _SLICE]
        if not appended:
            yield data
        elif ready := await output.run(_appended, output, data):
            yield ready
    if appended and (last := await output.run(_ended, output)):
        yield last


def _appended(output: Output, data: bytes) -> bytes:
    """The same, as the rest of a stream that has begun."""
    output.feed(data)
    return output.out()


def _ended(output: Output) -> bytes:
    return output.end() + output.finish()
