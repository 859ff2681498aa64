"""Protocol between text streams and a vendor's websocket: the messages of one context, in neutral form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSError


@dataclass(frozen=True, slots=True)
class ContextEvent:
    """Part of a vendor's message about one context, or about the connection if `context_id` is None.

    Times are in seconds, as the vendor counted them.
    """

    context_id: str | None
    audio: bytes = b""
    alignment: Alignment | None = None
    normalized: Alignment | None = None
    final: bool = False
    flushed: bool = False  # all text before the next flush that had no such event was spoken
    times_apart: bool = False  # times and audio come in separate messages, and times count from the context's beginning
    error: Exception | None = None  # TTSError or TextStreamingUnsupportedError


@dataclass(frozen=True, slots=True)
class ConnectionEnd:
    """End of a connection with a close frame (`code`, `reason`), or without one (None).

    `delivered` is whether audio had come for the stream in question, `received` whether anything had come at all.
    """

    code: int | None
    reason: str = ""
    delivered: bool = False
    received: bool = False


@dataclass(frozen=True, slots=True)
class SocketRoute:
    """Address of a pooled websocket, and its limits.

    - `target`: path and query; everything that a connection is bound to, such as voice, model and format.
    - `feature`: what the server lacks if it has nothing at this path.
    - `max_contexts`: contexts at once on one connection, draining ones included.
    - `keeps_idle`: whether an idle connection occupies nothing at the vendor, and may wait for the next stream.
    - `can_cancel`: whether a context can be closed early while others go on.
    """

    target: str
    feature: str
    max_contexts: int
    keeps_idle: bool = True
    can_cancel: bool = True


class ContextProtocol(Protocol):
    """Encoder of one stream's messages, and parser of all messages on its connection."""

    @property
    def route(self) -> SocketRoute:
        """Connection that the stream needs."""
        ...

    def open(self, context_id: str) -> str | None:
        """Return the message that opens a context; None if the first text does."""
        ...

    def text(self, context_id: str, text: str, *, flush: bool) -> Sequence[str]:
        """Return the messages with the next text, which may be empty; `flush` has all text so far spoken."""
        ...

    def close(self, context_id: str) -> str:
        """Return the message that ends a context once the text that was flushed is spoken."""
        ...

    def cancel(self, context_id: str, *, shut: bool) -> str | None:
        """Return the message that ends a context early; `shut`: its end was sent already. None if nothing helps."""
        ...

    def keep_alive(self, context_id: str) -> str | None:
        """Return the message that keeps a context open while there is no text; None if nothing does."""
        ...

    def parse(self, message: str) -> Sequence[ContextEvent]:
        """Parse a message. Raises ValueError."""
        ...

    def parse_long(self, message: str) -> Iterator[ContextEvent | None]:
        """Parse a long message in steps of some 32 KiB, of which some have no event. Raises ValueError."""
        ...

    def error_of(self, end: ConnectionEnd) -> TTSError:
        """Return the error that the end of the connection means for a stream whose audio is not complete."""
        ...

    def final_without_audio(self) -> TTSError:
        """Return the error that the end of a context without any audio means."""
        ...

    def malformed(self, problem: str) -> TTSError:
        """Return the error for a message that cannot be parsed."""
        ...
