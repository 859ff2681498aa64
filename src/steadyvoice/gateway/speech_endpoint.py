"""Speech endpoint: reads a request in a vendor's dialect, and sends response headers and audio.

Audio is sent raw, in JSON with timestamps, or in server-sent events.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from base64 import b64encode
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from steadyvoice.audio.conversion import silence
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.dialects.base import Dialect, configuration_error, http_error
from steadyvoice.gateway.http import (
    BODY_ARRIVED,
    BodyTimeoutError,
    BodyTooLargeError,
    CancelOnDisconnect,
    ClientDisconnectedError,
    HTTPError,
    Receive,
    Response,
    Scope,
    Send,
    raw_headers,
    read_body,
)
from steadyvoice.gateway.request_context import PARSED_ORDER, RequestContext, request_context
from steadyvoice.gateway.speech_request import BodyFormat, GatewaySpeechRequest, RawRequest
from steadyvoice.service.pipeline.audio_limits import collect_audio, fits
from steadyvoice.service.result import Outcome, ReportedUtterance
from steadyvoice.service.stream import AsyncSpeechStream
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.failure_kinds import FailureKind
from steadyvoice.wire.elevenlabs.timestamps import TimedAudio, timed_audio_body
from steadyvoice.wire.openai.speech import AudioDelta, AudioDone, encode_event
from steadyvoice.wire.request_validation import RequestValidationError


class SpeechHandler:
    """Speech endpoint of one dialect, an ASGI application.

    After the first byte of audio, a response either ends completely or as a broken transfer.
    """

    def __init__(self, context: GatewayContext, dialect: Dialect) -> None:
        self._context, self.dialect = context, dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = request_context(scope)
        continued = request.continued
        order: GatewaySpeechRequest | None = continued.order if continued else None
        try:
            order = order or await self._read_order(scope, receive, request)
            await self._speak(order, request, scope, receive)
        except ClientDisconnectedError:
            pass
        except Exception as error:
            if request.status is None:
                response = self._error_response(error, request, order)
                response = replace(response, headers={**response.headers, **NO_AUDIO_HEADERS})
                await response(scope, receive, request.send)
            elif not isinstance(error, TTSError):
                raise
            # A response that has begun returns here without its end, and the server breaks the connection off.

    async def _read_order(self, scope: Scope, receive: Receive, request: RequestContext) -> GatewaySpeechRequest:
        limits = self._context.server
        declared = request.headers.get(b"content-length")
        body = await read_body(
            receive,
            max_bytes=limits.max_body_bytes,
            timeout=limits.body_timeout,
            declared=declared,
            arrived=BODY_ARRIVED in scope and scope[BODY_ARRIVED](),
        )
        voice: str = scope["path_params"].get("voice_id", "")
        order: GatewaySpeechRequest | None = scope["state"].pop(PARSED_ORDER, None)
        order = order or self.dialect.parse(RawRequest(voice, scope["query_string"], request.headers, body))
        if len(order.text) > limits.max_text_characters:
            raise BodyTooLargeError
        return order

    async def _speak(
        self, order: GatewaySpeechRequest, request: RequestContext, scope: Scope, receive: Receive
    ) -> None:
        service = self._context.service
        synthesis, max_bytes = order.options.request, service.max_audio_bytes
        # A response that could exceed the memory limit is streamed instead of buffered; its status and headers go out
        # before its end is known.
        buffer = order.buffered and fits(order.text, synthesis.format, synthesis.speed, max_bytes)
        if request.continued:
            stream = request.continued.stream
        else:
            stream = service.open_stream(order.text, order.options, hold=buffer, announced=not buffer)
        try:
            async with CancelOnDisconnect(scope, receive), stream:
                if buffer:
                    audio = await collect_audio(stream, order.format, max_bytes) or short_silence(order)
                    length, parts = await buffered_body(audio, stream, order)
                    await self._begin(request, order, stream, length=length)
                    # The last part goes out with the end of the response, outside of the `async with`: when the client
                    # has read the end, the utterance is closed.
                    last = next(parts, b"")
                    for part in parts:
                        await request.send({"type": "http.response.body", "body": last, "more_body": True})
                        last = part
                else:
                    await self._stream(order, stream, request)
                    last = b""
            await request.send({"type": "http.response.body", "body": last})
        finally:
            # Observers get every utterance, also those of clients that have left: vendors bill them as well.
            self._context.speech_finished(request, self.dialect.name, order, stream)

    async def _stream(self, order: GatewaySpeechRequest, stream: AsyncSpeechStream, request: RequestContext) -> None:
        chunks = body_chunks(stream, order)
        if request.status is not None and (outlet := request.outlet()):  # the fast lane has begun the response
            stream.attach_sink(outlet)
        try:
            async for data in chunks:
                if not data:
                    continue
                begins = request.status is None
                if begins:
                    await self._begin(request, order, stream)
                await request.send({"type": "http.response.body", "body": data, "more_body": True})
                # From the second chunk on, audio that needs no conversion goes straight from the vendor's connection to
                # the client's, without waking this task for each chunk.
                if begins and order.body_format is BodyFormat.AUDIO and (outlet := request.outlet()):
                    stream.attach_sink(outlet)
        finally:
            await chunks.aclose()
        if request.status is None:  # the text had nothing to pronounce
            await self._begin(request, order, stream)
            if order.body_format is BodyFormat.AUDIO:
                await request.send({"type": "http.response.body", "body": short_silence(order), "more_body": True})

    async def _begin(
        self,
        request: RequestContext,
        order: GatewaySpeechRequest,
        utterance: ReportedUtterance,
        *,
        length: int | None = None,
    ) -> None:
        headers = {
            "content-type": order.content_type,
            **outcome_headers(utterance.outcome, utterance.provider),
            **self.dialect.audio_headers(order, utterance, request.request_id),
            **({} if length is None else {"content-length": str(length)}),
        }
        await request.send({"type": "http.response.start", "status": 200, "headers": raw_headers(headers)})

    def _error_response(
        self, error: Exception, request: RequestContext, order: GatewaySpeechRequest | None
    ) -> Response:
        if isinstance(error, RequestValidationError) and b"content-encoding" not in request.headers:
            return self.dialect.validation_error(error.issues, request.request_id)
        return self.dialect.error_response(self._http_error(error, request, order), request.request_id)

    def _http_error(self, error: Exception, request: RequestContext, order: GatewaySpeechRequest | None) -> HTTPError:
        limits = self._context.server
        match error:
            case RequestValidationError():
                message = "Content-Encoding is not supported: send the JSON body uncompressed"
                return HTTPError(415, "unsupported_encoding", message)
            case BodyTooLargeError():
                message = (
                    f"text too long: the limit is {limits.max_text_characters} characters in a body of "
                    f"{limits.max_body_bytes} bytes; split the text at sentences"
                )
                return HTTPError(413, "text_too_long", message, param="text")
            case BodyTimeoutError():
                message = f"request timeout: no complete body within {limits.body_timeout:g} s"
                return HTTPError(408, "request_timeout", message)
            case TTSError():
                answer = configuration_error(error) if order and self._is_misconfigured(error, order) else None
                answer = answer or http_error(error)
                # This very error may have opened the last circuit, so it carries no time of its own.
                if answer.status >= 500 and answer.retry_after is None:
                    answer = replace(answer, retry_after=self._context.seconds_until_retry())
                return answer
            case _:
                self._context.log_internal_error(request, error)
                return http_error(error)

    def _is_misconfigured(self, error: TTSError, order: GatewaySpeechRequest) -> bool:
        """Return whether the vendor lacks a model or voice that the configuration chose, and not the caller.

        Callers that name neither, or one that this provider maps to another, cannot correct it.
        """
        if error.kind not in (FailureKind.MODEL_UNKNOWN, FailureKind.VOICE_UNKNOWN):
            return False
        synthesis = order.options.request
        for provider in self._context.service.providers:
            if provider.name == error.provider:
                with contextlib.suppress(TTSError):
                    offer = provider.offer(synthesis.with_text(order.text))
                    chosen, requested = (
                        (offer.model, synthesis.model)
                        if error.kind is FailureKind.MODEL_UNKNOWN
                        else (offer.voice, synthesis.voice)
                    )
                    return chosen != requested
        return False


_SILENCE_SECONDS = 0.1
_SECONDS_PER_TOKEN = 0.05
_CHARACTERS_PER_TOKEN = 4


NO_AUDIO_HEADERS = {"x-steadyvoice-outcome": "failed", "x-steadyvoice-provider": "none"}
"""Outcome headers of a response without audio."""


def outcome_headers(outcome: Outcome, provider: str | None) -> dict[str, str]:
    """Return the headers with outcome and provider, as far as they are known when the response begins."""
    return {"x-steadyvoice-outcome": outcome, "x-steadyvoice-provider": provider or "none"}


def short_silence(order: GatewaySpeechRequest) -> bytes:
    """Return a tenth of a second of silence, for a text with nothing to pronounce.

    Clients take a response without audio for a failure.
    """
    return b"".join(silence(order.format, _SILENCE_SECONDS))


async def buffered_body(
    audio: bytes, utterance: ReportedUtterance, order: GatewaySpeechRequest
) -> tuple[int, Iterator[bytes]]:
    """Return the length of a finished utterance's body, and the body in parts.

    The parts are views and small copies: of a long utterance, the encoded body is not held as well.
    """
    if order.body_format is not BodyFormat.TIMESTAMPS:
        return len(audio), _slices(audio, _SEND_SIZE)
    begin, end = _DOCUMENT_BEGIN, await _document_end(utterance.alignment)
    length = len(begin) + 4 * ((len(audio) + 2) // 3) + sum(map(len, end))
    encoded = (b64encode(piece) for piece in _slices(audio, _ENCODE_SIZE))
    return length, chain([begin], encoded, end)


def body_chunks(
    stream: AsyncSpeechStream, order: GatewaySpeechRequest
) -> AsyncSpeechStream | AsyncGenerator[bytes, None]:
    """Return the response body of an utterance, chunk by chunk as its audio is produced."""
    match order.body_format:
        case BodyFormat.AUDIO:
            return stream
        case BodyFormat.TIMESTAMPS:
            return _json_document(stream) if order.buffered else _json_lines(stream)
        case BodyFormat.EVENTS:
            return _events(stream, order)


async def _events(stream: AsyncSpeechStream, order: GatewaySpeechRequest) -> AsyncGenerator[bytes, None]:
    async for data in stream:
        if data:
            yield encode_event(AudioDelta(data))
    yield encode_event(_usage_event(order, stream))


async def _json_document(stream: AsyncSpeechStream) -> AsyncGenerator[bytes, None]:
    """Yield one JSON object: audio in pieces of whole base64 groups, and the timestamps at the end."""
    # Nothing is sent before there is audio, because until then the response may become an error.
    begin, rest = _DOCUMENT_BEGIN, b""
    async for data in stream:
        data = rest + data
        complete = len(data) - len(data) % 3
        rest = data[complete:]
        if complete:
            yield begin + b64encode(memoryview(data)[:complete])
            begin = b""
    yield begin + b64encode(rest)
    for part in await _document_end(stream.alignment):
        yield part


_DOCUMENT_BEGIN = b'{"audio_base64":"'
_SEND_SIZE = 64 * 1024  # bytes of a body per message
_ENCODE_TIMES = 1000  # characters or times that are encoded at once
_ENCODE_SIZE = _SEND_SIZE // 4 * 3  # bytes of audio that become `_SEND_SIZE` in base64


async def _document_end(times: Alignment | None) -> list[bytes]:
    """Return the end of a document behind its audio, in parts.

    The event loop runs between the parts of a long text: the times of an hour take a tenth of a second to encode.
    """
    known = times if times and times.characters else None
    lists: dict[str, Sequence[str | float]] = timed_audio_body(TimedAudio(b"", known))["alignment"] or {}
    alignment = list[bytes]()
    for name, items in lists.items():
        begin = b'%b"%b":[' % (b"]," if alignment else b"{", name.encode())
        for at in range(0, len(items), _ENCODE_TIMES):
            if at:
                await asyncio.sleep(0)
            encoded = json.dumps(items[at : at + _ENCODE_TIMES], separators=(",", ":"))
            alignment.append(begin + encoded[1:-1].encode())
            begin = b","
    alignment.append(b"]}" if alignment else b"null")
    parts = [b'","alignment":', *alignment, b',"normalized_alignment":', *alignment, b"}"]
    return parts if known and len(known.characters) > _ENCODE_TIMES else [b"".join(parts)]


def _slices(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


async def _json_lines(stream: AsyncSpeechStream) -> AsyncGenerator[bytes, None]:
    """Yield JSON lines, each with audio and the timestamps that have become final since the last one."""
    times = _NewTimestamps(stream)
    async for data in stream:
        new = times.take()
        if data or new.characters:
            yield _json_line(data, new) + b"\n"
    if (new := times.take()).characters:
        yield _json_line(b"", new) + b"\n"


class _NewTimestamps:
    """Cursor over an utterance's timestamps: each character's are taken once, as soon as they are final."""

    def __init__(self, utterance: ReportedUtterance) -> None:
        self._report = utterance.report
        self._pieces = self._characters = 0  # taken: whole pieces, and characters of the current one

    def take(self) -> Alignment:
        """Return the timestamps that have become final since the last call."""
        new: list[tuple[float, Alignment]] = []
        for offset, piece in self._report.alignments[self._pieces :]:
            new.append((offset, piece.since(self._characters)))
            self._pieces, self._characters = self._pieces + 1, 0
        if current := self._report.current:
            new.append((current[0], current[1].since(self._characters)))
            self._characters = len(current[1].characters)
        return Alignment.joined(new)


def _usage_event(order: GatewaySpeechRequest, utterance: ReportedUtterance) -> AudioDone:
    """Return the final event, with token counts estimated from characters and seconds: the gateway has no tokenizer."""
    input_tokens = len(order.text) // _CHARACTERS_PER_TOKEN + 1
    return AudioDone(input_tokens, round(utterance.duration / _SECONDS_PER_TOKEN))


def _json_line(audio: bytes, times: Alignment | None) -> bytes:
    known = times if times and times.characters else None
    return json.dumps(timed_audio_body(TimedAudio(audio, known, known)), separators=(",", ":")).encode()
