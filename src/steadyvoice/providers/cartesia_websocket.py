"""Cartesia's websocket for text streams: messages of a context, and what its responses and its end mean.

Source: https://docs.cartesia.ai/api-reference/tts/websocket. A connection is bound to nothing: each context has its own
voice, model and format.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from steadyvoice.providers.http.response_decoders import align_words
from steadyvoice.providers.websocket.context_protocol import ConnectionEnd, ContextEvent, SocketRoute
from steadyvoice.speech.errors import TTSEmptyAudioError, TTSError, TTSNotAudioError
from steadyvoice.wire import cartesia as wire
from steadyvoice.wire.elevenlabs.errors import SocketClose, close_error
from steadyvoice.wire.error_response import redact, single_line
from steadyvoice.wire.json_stream import PART_COST, PART_SIZE, Base64Parts, parse_in_parts

MAX_CONTEXTS = 5
"""Contexts at once on one connection. The vendor takes dozens; but all of them end with it."""

_MAX_WORDS = 512  # of one event of a long message


class CartesiaContext:
    """Protocol of the contexts of one voice, model, format and speed. `document` is a request without its text."""

    route = SocketRoute(wire.WEBSOCKET_PATH, "websocket", MAX_CONTEXTS)

    def __init__(self, document: Mapping[str, Any], api_key: str | None, provider: str) -> None:
        self._document = {**document, "add_timestamps": True}
        self._api_key, self._provider = api_key, provider

    def open(self, context_id: str) -> str | None:
        """Return None: the first text opens a context."""
        return None

    def text(self, context_id: str, text: str, *, flush: bool) -> list[str]:
        """Return the messages with the next text. A flush is documented as a message without any."""
        messages = [self._message(context_id, text)] if text else []
        return [*messages, self._message(context_id, "", flush=True)] if flush else messages

    def close(self, context_id: str) -> str:
        """Return the message that ends a context once all of its text is spoken."""
        return self._message(context_id, "", **{"continue": False})

    def cancel(self, context_id: str, *, shut: bool) -> str | None:
        """Return the message that drops text that is not being spoken yet, also behind the end of the text."""
        return json.dumps({"context_id": context_id, "cancel": True})

    def keep_alive(self, context_id: str) -> str | None:
        """Return None: a context ends a second after its audio, whatever is sent."""
        return None

    def parse(self, message: str) -> list[ContextEvent]:
        """Parse a message. Raises ValueError."""
        with _malformed():
            return self._events(json.loads(message))

    def parse_long(self, message: str) -> Iterator[ContextEvent | None]:
        """Parse a long message in steps that each handle some 32 KiB. Raises ValueError.

        A step without an event is None.
        """
        with _malformed():
            yield from self._parse_in_steps(message)

    def _parse_in_steps(self, message: str) -> Iterator[ContextEvent | None]:
        event: dict[str, Any] = {}
        times: dict[str, list[Any]] = {}
        audio, base64_parts = list[bytes](), Base64Parts()
        work = 0
        for path, value, size in parse_in_parts(message):
            match path, value:
                case ("data",), str():
                    audio.append(base64_parts.decode(value))
                case ("word_timestamps", name), list():
                    times.setdefault(name, []).extend(value)
                case (name,), _:
                    event.setdefault(name, value)  # of a long string, the beginning
                case (), _:
                    raise TypeError("not an object")
            work += size + PART_COST
            if work >= PART_SIZE:
                work = 0
                yield None
        base64_parts.finish()
        match event["type"]:
            case "chunk":
                yield from (ContextEvent(event.get("context_id"), data, times_apart=True) for data in audio)
            case "timestamps":
                for at in range(0, max(1, *map(len, times.values())), _MAX_WORDS):
                    piece = {name: each[at : at + _MAX_WORDS] for name, each in times.items()}
                    yield from self._events({**event, "word_timestamps": piece})
            case _:
                yield from self._events(event)

    def error_of(self, end: ConnectionEnd) -> TTSError:
        """Return the error that the end of the connection means for a stream whose audio is not complete."""
        # The vendor documents no codes of its own: those of RFC 6455 mean what they mean everywhere.
        close = SocketClose(end.code, end.reason, end.delivered, end.received)
        return close_error(close, api_key=self._api_key, provider=self._provider)

    def final_without_audio(self) -> TTSError:
        """Return the error that the end of a context without any audio means."""
        return TTSEmptyAudioError("the websocket ended the text without audio", provider=self._provider)

    def malformed(self, problem: str) -> TTSError:
        """Return the error for a message that cannot be parsed."""
        return TTSNotAudioError(single_line(redact(problem, self._api_key)), provider=self._provider)

    def _message(self, context_id: str, text: str, **fields: bool) -> str:
        return json.dumps({**self._document, "context_id": context_id, "transcript": text, "continue": True, **fields})

    def _events(self, event: Mapping[str, Any]) -> list[ContextEvent]:
        context_id = event.get("context_id")
        match event["type"]:
            case "chunk":
                audio = base64.b64decode(event["data"], validate=True)
                return [ContextEvent(context_id, audio, times_apart=True)]
            case "timestamps":
                times = event["word_timestamps"]
                words = align_words(times["words"], times["start"], times["end"])
                return [ContextEvent(context_id, alignment=words, times_apart=True)]
            case "done":
                return [ContextEvent(context_id, final=True)]
            case "error":
                error = wire.ERRORS.parse_in_stream(
                    event.get("status_code"),
                    json.dumps(event).encode(),
                    api_key=self._api_key,
                    provider=self._provider,
                )
                return [ContextEvent(context_id, error=error)]
            case "flush_done":
                return [ContextEvent(context_id, flushed=True, times_apart=True)]
            case _:  # kinds that are not known yet
                return []


@contextmanager
def _malformed() -> Iterator[None]:
    """Report what makes a message unusable as a ValueError."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"unexpected message: {single_line(str(error), 120)}") from error
