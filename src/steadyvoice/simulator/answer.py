"""An answer before it is on its way: status, headers, and a body in parts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of a body, and the second of audio up to which one hears with them."""

    data: bytes
    heard: float = 0.0


Body = AsyncIterator[Part]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a vendor would say. `length` is of the body in bytes, None when it is still being made."""

    body: Body
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None


def json_answer(document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with JSON, whole."""
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return plain_answer(data, "application/json", status=status, headers=headers)


def plain_answer(
    data: bytes, content_type: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Answer:
    """Answer with bytes, whole."""
    return Answer(in_parts([Part(data)]), status, {**(headers or {}), "content-type": content_type}, len(data))


async def in_parts(parts: Iterable[Part]) -> Body:
    """Make a body of what is there already."""
    for part in parts:
        yield part


async def collected(body: Body) -> list[Part]:
    """Wait for all of it."""
    return [part async for part in body]
