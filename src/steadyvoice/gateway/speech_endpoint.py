"""Speech endpoint: reads a request in a vendor's dialect and streams the audio.

Audio is sent raw, in JSON with timestamps, or in server-sent events.
"""

from __future__ import annotations

import contextlib
import json
from base64 import b64encode
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from itertools import chain

from steadyvoice.audio.conversion import silence
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.dialects.base import Dialect, HTTPError, configuration_error, http_error
from steadyvoice.gateway.http import (
    BODY_ARRIVED,
    BodyTimeoutError,
    BodyTooLargeError,
    CancelOnDisconnect,
    ClientDisconnectedError,
    Receive,
    Response,
    Scope,
    Send,
    raw_headers,
    read_body,
)
from steadyvoice.gateway.request_context import RequestContext, request_context
from steadyvoice.gateway.speech_request import BodyFormat, RawRequest, SpeechOrder
from steadyvoice.service.pipeline.audio_limits import collect_audio, fits
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.service.stream import AsyncSpeechStream
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.failure_kinds import FailureKind
from steadyvoice.wire.elevenlabs.timestamps import TimedAudio, timed_audio_body
from steadyvoice.wire.openai.speech import AudioDelta, AudioDone, encode_event
from steadyvoice.wire.request_validation import RequestValidationError


class SpeechHandler:
    """An ASGI application that speaks. After the first byte of audio there is no clean end but the true one."""

    def __init__(self, context: GatewayContext, dialect: Dialect) -> None:
        self._context, self._dialect = context, dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = request_context(scope)
        order: SpeechOrder | None = None
        try:
            order = await self._order(scope, receive, request)
            await self._speak(order, request, scope, receive)
        except ClientDisconnectedError:
            pass
        except Exception as error:
            if request.status is None:
                refusal = self._refusal(error, request, order)
                refusal = replace(refusal, headers={**refusal.headers, **NO_AUDIO_HEADERS})
                await refusal(scope, receive, request.send)
            elif not isinstance(error, TTSError):
                raise
            # What has begun and cannot go on ends here, without its end: the server breaks the connection off.

    async def _order(self, scope: Scope, receive: Receive, request: RequestContext) -> SpeechOrder:
        limits = self._context.server
        declared = request.headers.get(b"content-length")
        body = await read_body(
            receive,
            most=limits.max_body_bytes,
            within=limits.body_timeout,
            declared=declared,
            arrived=BODY_ARRIVED in scope and scope[BODY_ARRIVED](),
        )
        voice: str = scope["path_params"].get("voice_id", "")
        order = self._dialect.order(RawRequest(voice, scope["query_string"], request.headers, body))
        if len(order.text) > limits.max_text_characters:
            raise BodyTooLargeError
        return order

    async def _speak(self, order: SpeechOrder, request: RequestContext, scope: Scope, receive: Receive) -> None:
        service = self._context.service
        synthesis, max_bytes = order.style.request, service.max_audio_bytes
        # What would be too large to be held goes out as it is made, with all that this means for its end and headers.
        hold = order.whole and fits(order.text, synthesis.format, synthesis.speed, max_bytes)
        stream = service.open_stream(order.text, order.style, hold=hold, announced=not hold)
        try:
            async with CancelOnDisconnect(scope, receive), stream:
                if hold:
                    audio = await collect_audio(stream, order.format, max_bytes) or short_silence(order)
                    length, parts = buffered_body(audio, stream, order)
                    await self._begin(request, order, stream, length=length)
                    last = next(parts, b"")
                    for part in parts:
                        await request.send({"type": "http.response.body", "body": last, "more_body": True})
                        last = part
                else:
                    await self._stream(order, stream, request)
                    last = b""
            await request.send({"type": "http.response.body", "body": last})
        finally:
            self._context.speech_finished(request, self._dialect.name, order, stream)

    async def _stream(self, order: SpeechOrder, stream: AsyncSpeechStream, request: RequestContext) -> None:
        chunks = body_chunks(stream, order)
        try:
            async for data in chunks:
                if not data:
                    continue
                begins = request.status is None
                if begins:
                    await self._begin(request, order, stream)
                await request.send({"type": "http.response.body", "body": data, "more_body": True})
                if begins and order.body_format is BodyFormat.AUDIO and (outlet := request.outlet()):
                    stream.attach_sink(outlet)
        finally:
            await chunks.aclose()
        if request.status is None:  # there was nothing to be heard
            await self._begin(request, order, stream)
            if order.body_format is BodyFormat.AUDIO:
                await request.send({"type": "http.response.body", "body": short_silence(order), "more_body": True})

    async def _begin(
        self, request: RequestContext, order: SpeechOrder, account: ReportedUtterance, *, length: int | None = None
    ) -> None:
        headers = {
            "content-type": order.content_type,
            **outcome_headers(account),
            **self._dialect.audio_headers(order, account, request.request_id),
            **({} if length is None else {"content-length": str(length)}),
        }
        await request.send({"type": "http.response.start", "status": 200, "headers": raw_headers(headers)})

    def _refusal(self, error: Exception, request: RequestContext, order: SpeechOrder | None) -> Response:
        id = request.request_id
        limits = self._context.server
        match error:
            case RequestValidationError() if b"content-encoding" in request.headers:
                told = "the body is taken for JSON as it comes: send it without Content-Encoding"
                return self._dialect.trouble(HTTPError(415, "unsupported_encoding", told), id)
            case RequestValidationError():
                return self._dialect.unreadable(error.issues, id)
            case BodyTooLargeError():
                told = (
                    f"at most {limits.max_text_characters} characters of text are taken at once, in at most "
                    f"{limits.max_body_bytes} bytes; split the text at sentences"
                )
                return self._dialect.trouble(HTTPError(413, "text_too_long", told, param="text"), id)
            case BodyTimeoutError():
                told = f"the request did not come within {limits.body_timeout:g} s"
                return self._dialect.trouble(HTTPError(408, "request_timeout", told), id)
            case TTSError():
                trouble = http_error(error)
                if order and self._was_configured(error, order):
                    trouble = configuration_error(error)
                if trouble.status >= 500 and trouble.retry_after is None:  # it may just have closed the last door
                    trouble = replace(trouble, retry_after=self._context.seconds_until_retry())
                return self._dialect.trouble(trouble, id)
            case _:
                self._context.log_internal_error(request, error)
                return self._dialect.trouble(http_error(error), id)

    def _was_configured(self, error: TTSError, order: SpeechOrder) -> bool:
        """Whether the vendor lacks a model or a voice that the configuration chose: that is no mistake of the caller's.

        A caller that names neither, or one that this provider maps to another, cannot mend it.
        """
        if error.kind not in (FailureKind.MODEL_UNKNOWN, FailureKind.VOICE_UNKNOWN):
            return False
        synthesis = order.style.request
        for provider in self._context.service.providers:
            if provider.name == error.provider:
                with contextlib.suppress(TTSError):
                    offer = provider.offer(synthesis.with_text(order.text))
                    chosen, asked = (
                        (offer.model, synthesis.model)
                        if error.kind is FailureKind.MODEL_UNKNOWN
                        else (offer.voice, synthesis.voice)
                    )
                    return chosen != asked
        return False


_SILENCE_SECONDS = 0.1  # seconds
_SECONDS_PER_TOKEN = 0.05
_CHARACTERS_PER_TOKEN = 4


NO_AUDIO_HEADERS = {"x-steadyvoice-outcome": "failed", "x-steadyvoice-provider": "none"}
"""What these headers say on an answer without audio: nobody was heard."""


def outcome_headers(account: ReportedUtterance) -> dict[str, str]:
    """Who speaks, and how it came to that: as far as it is known when the answer begins."""
    return {
        "x-steadyvoice-outcome": account.outcome,
        "x-steadyvoice-provider": account.provider or "none",
    }


def short_silence(order: SpeechOrder) -> bytes:
    """Return a tenth of a second of silence, for a text with nothing to pronounce: to clients no audio is a failure."""
    return b"".join(silence(order.format, _SILENCE_SECONDS))


def buffered_body(audio: bytes, account: ReportedUtterance, order: SpeechOrder) -> tuple[int, Iterator[bytes]]:
    """Return the length of a finished utterance's body, and the body in parts: none of it is held a second time."""
    if order.body_format is not BodyFormat.TIMESTAMPS:
        return len(audio), _slices(audio, _SEND_SIZE)
    begin, end = _DOCUMENT_BEGIN, _document_end(account.alignment)
    length = len(begin) + 4 * ((len(audio) + 2) // 3) + len(end)
    encoded = (b64encode(piece) for piece in _slices(audio, _ENCODE_SIZE))
    return length, chain([begin], encoded, _slices(end, _SEND_SIZE))


def body_chunks(stream: AsyncSpeechStream, order: SpeechOrder) -> AsyncSpeechStream | AsyncGenerator[bytes, None]:
    """An utterance as it is made."""
    match order.body_format:
        case BodyFormat.AUDIO:
            return stream
        case BodyFormat.TIMESTAMPS:
            return _json_document(stream) if order.whole else _json_lines(stream)
        case BodyFormat.EVENTS:
            return _events(stream, order)


async def _events(stream: AsyncSpeechStream, order: SpeechOrder) -> AsyncGenerator[bytes, None]:
    async for data in stream:
        if data:
            yield encode_event(AudioDelta(data))
    yield encode_event(_usage_event(order, stream))


async def _json_document(stream: AsyncSpeechStream) -> AsyncGenerator[bytes, None]:
    """One object as it is made: the audio in pieces that base64 joins without a seam, and the times at the end."""
    begin, rest = _DOCUMENT_BEGIN, b""  # nothing is sent before there is audio: until then it may become an error
    async for data in stream:
        data = rest + data
        whole = len(data) - len(data) % 3
        rest = data[whole:]
        if whole:
            yield begin + b64encode(memoryview(data)[:whole])
            begin = b""
    yield begin + b64encode(rest)
    for part in _slices(_document_end(stream.alignment), _SEND_SIZE):
        yield part


_DOCUMENT_BEGIN = b'{"audio_base64":"'
_SEND_SIZE = 64 * 1024  # bytes of a body that are sent at once
_ENCODE_SIZE = _SEND_SIZE // 4 * 3  # bytes of audio that become as many in base64


def _document_end(times: Alignment | None) -> bytes:
    known = times if times and times.characters else None
    told = json.dumps(timed_audio_body(TimedAudio(b"", known))["alignment"], separators=(",", ":"))
    return f'","alignment":{told},"normalized_alignment":{told}}}'.encode()


def _slices(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


async def _json_lines(stream: AsyncSpeechStream) -> AsyncGenerator[bytes, None]:
    """Each line brings audio, and the times of what has become certain meanwhile."""
    times = _NewTimestamps(stream)
    async for data in stream:
        fresh = times.fresh()
        if data or fresh.characters:
            yield _json_line(data, fresh) + b"\n"
    if (fresh := times.fresh()).characters:
        yield _json_line(b"", fresh) + b"\n"


class _NewTimestamps:
    """Tells each character's times once, as soon as they are known."""

    def __init__(self, account: ReportedUtterance) -> None:
        self._spoken = account.report
        self._pieces = self._characters = 0  # told: whole pieces, and of the one at hand

    def fresh(self) -> Alignment:
        """What has become known since."""
        told: list[tuple[float, Alignment]] = []
        for offset, piece in self._spoken.alignments[self._pieces :]:
            told.append((offset, piece.since(self._characters)))
            self._pieces, self._characters = self._pieces + 1, 0
        if current := self._spoken.current:
            told.append((current[0], current[1].since(self._characters)))
            self._characters = len(current[1].characters)
        return Alignment.joined(told)


def _usage_event(order: SpeechOrder, account: ReportedUtterance) -> AudioDone:
    """What it would cost, by the rule of thumb: nobody here counts tokens."""
    asked = len(order.text) // _CHARACTERS_PER_TOKEN + 1
    return AudioDone(asked, round(account.duration / _SECONDS_PER_TOKEN))


def _json_line(audio: bytes, times: Alignment | None) -> bytes:
    known = times if times and times.characters else None
    return json.dumps(timed_audio_body(TimedAudio(audio, known, known)), separators=(",", ":")).encode()
