"""A speech door: an order in whichever dialect comes in, audio goes out. One caller, one utterance."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from steadyvoice.gateway.answering import UNSPOKEN, breath, gateway_headers, whole_body, wrapped
from steadyvoice.gateway.dialect import Dialect
from steadyvoice.gateway.exchange import Exchange, exchange_of
from steadyvoice.gateway.hangup import UntilHangup
from steadyvoice.gateway.house import House
from steadyvoice.gateway.order import Asked, Order, Wrapping
from steadyvoice.gateway.reply import (
    ARRIVED,
    ClientGoneError,
    Receive,
    Reply,
    Scope,
    Send,
    TooMuchError,
    TooSlowError,
    raw_headers,
    read_body,
)
from steadyvoice.gateway.trouble import Trouble, misconfigured, trouble_of
from steadyvoice.service.pipeline.audio_limits import collect_audio, fits
from steadyvoice.service.spoken import Account
from steadyvoice.service.stream import AsyncSpeechStream
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.failure_kinds import FailureKind
from steadyvoice.wire.request_validation import RequestValidationError


class SpeechDoor:
    """An ASGI application that speaks. After the first byte of audio there is no clean end but the true one."""

    def __init__(self, house: House, dialect: Dialect) -> None:
        self._house, self._dialect = house, dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        order: Order | None = None
        try:
            order = await self._order(scope, receive, exchange)
            await self._speak(order, exchange, scope, receive)
        except ClientGoneError:
            pass
        except Exception as error:
            if exchange.status is None:
                refusal = self._refusal(error, exchange, order)
                refusal = replace(refusal, headers={**refusal.headers, **UNSPOKEN})
                await refusal(scope, receive, exchange.send)
            elif not isinstance(error, TTSError):
                raise
            # What has begun and cannot go on ends here, without its end: the server breaks the connection off.

    async def _order(self, scope: Scope, receive: Receive, exchange: Exchange) -> Order:
        limits = self._house.server
        declared = exchange.headers.get(b"content-length")
        body = await read_body(
            receive,
            most=limits.max_body_bytes,
            within=limits.body_timeout,
            declared=declared,
            arrived=ARRIVED in scope and scope[ARRIVED](),
        )
        voice: str = scope["path_params"].get("voice_id", "")
        order = self._dialect.order(Asked(voice, scope["query_string"], exchange.headers, body))
        if len(order.text) > limits.max_text_characters:
            raise TooMuchError
        return order

    async def _speak(self, order: Order, exchange: Exchange, scope: Scope, receive: Receive) -> None:
        service = self._house.service
        request, most = order.style.request, service.max_audio_bytes
        # What would be too large to be held goes out as it is made, with all that this means for its end and headers.
        hold = order.whole and fits(order.text, request.format, request.speed, most)
        stream = service.open_stream(order.text, order.style, hold=hold, announced=not hold)
        try:
            async with UntilHangup(scope, receive), stream:
                if hold:
                    audio = await collect_audio(stream, order.format, most) or breath(order)
                    length, parts = whole_body(audio, stream, order)
                    await self._begin(exchange, order, stream, length=length)
                    last = next(parts, b"")
                    for part in parts:
                        await exchange.send({"type": "http.response.body", "body": last, "more_body": True})
                        last = part
                else:
                    await self._stream(order, stream, exchange)
                    last = b""
            await exchange.send({"type": "http.response.body", "body": last})
        finally:
            self._house.spoken(exchange, self._dialect.name, order, stream)

    async def _stream(self, order: Order, stream: AsyncSpeechStream, exchange: Exchange) -> None:
        chunks = wrapped(stream, order)
        try:
            async for data in chunks:
                if not data:
                    continue
                begins = exchange.status is None
                if begins:
                    await self._begin(exchange, order, stream)
                await exchange.send({"type": "http.response.body", "body": data, "more_body": True})
                if begins and order.wrapping is Wrapping.BARE and (outlet := exchange.outlet()):
                    stream.attach_sink(outlet)
        finally:
            await chunks.aclose()
        if exchange.status is None:  # there was nothing to be heard
            await self._begin(exchange, order, stream)
            if order.wrapping is Wrapping.BARE:
                await exchange.send({"type": "http.response.body", "body": breath(order), "more_body": True})

    async def _begin(self, exchange: Exchange, order: Order, account: Account, *, length: int | None = None) -> None:
        headers = {
            "content-type": order.content_type,
            **gateway_headers(account),
            **self._dialect.audio_headers(order, account, exchange.request_id),
            **({} if length is None else {"content-length": str(length)}),
        }
        await exchange.send({"type": "http.response.start", "status": 200, "headers": raw_headers(headers)})

    def _refusal(self, error: Exception, exchange: Exchange, order: Order | None) -> Reply:
        id = exchange.request_id
        limits = self._house.server
        match error:
            case RequestValidationError() if b"content-encoding" in exchange.headers:
                told = "the body is taken for JSON as it comes: send it without Content-Encoding"
                return self._dialect.trouble(Trouble(415, "unsupported_encoding", told), id)
            case RequestValidationError():
                return self._dialect.unreadable(error.issues, id)
            case TooMuchError():
                told = (
                    f"at most {limits.max_text_characters} characters of text are taken at once, in at most "
                    f"{limits.max_body_bytes} bytes; split the text at sentences"
                )
                return self._dialect.trouble(Trouble(413, "text_too_long", told, param="text"), id)
            case TooSlowError():
                told = f"the request did not come within {limits.body_timeout:g} s"
                return self._dialect.trouble(Trouble(408, "request_timeout", told), id)
            case TTSError():
                trouble = trouble_of(error)
                if order and self._was_configured(error, order):
                    trouble = misconfigured(error)
                if trouble.status >= 500 and trouble.retry_after is None:  # it may just have closed the last door
                    trouble = replace(trouble, retry_after=self._house.soonest())
                return self._dialect.trouble(trouble, id)
            case _:
                self._house.broken(exchange, error)
                return self._dialect.trouble(trouble_of(error), id)

    def _was_configured(self, error: TTSError, order: Order) -> bool:
        """Whether the vendor lacks a model or a voice that the configuration chose: that is no mistake of the caller's.

        A caller that names neither, or one that this provider maps to another, cannot mend it.
        """
        if error.kind not in (FailureKind.MODEL_UNKNOWN, FailureKind.VOICE_UNKNOWN):
            return False
        request = order.style.request
        for provider in self._house.service.providers:
            if provider.name == error.provider:
                with contextlib.suppress(TTSError):
                    offer = provider.offer(request.with_text(order.text))
                    chosen, asked = (
                        (offer.model, request.model)
                        if error.kind is FailureKind.MODEL_UNKNOWN
                        else (offer.voice, request.voice)
                    )
                    return chosen != asked
        return False
