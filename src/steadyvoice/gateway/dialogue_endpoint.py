"""Endpoint `POST /v1/text-to-dialogue/stream`: lines of several voices in one audio stream.

Consecutive lines of one voice are one turn of a conversation: a provider that breaks off is replaced at the next word,
and each voice has its own substitute. Nothing is muted.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, cast

from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.dialects.elevenlabs import ElevenLabsDialect
from steadyvoice.gateway.http import CancelOnDisconnect, Receive, Scope, query_dict, raw_headers
from steadyvoice.gateway.request_context import RequestContext
from steadyvoice.gateway.speech_endpoint import SpeechHandler
from steadyvoice.gateway.speech_request import GatewaySpeechRequest, RawRequest, turn_options, validated_text
from steadyvoice.gateway.websocket.endpoint import TurnRecord
from steadyvoice.service.conversation.conversation import AsyncConversation, ConversationOptions
from steadyvoice.service.conversation.events import Audio
from steadyvoice.service.options import ResolvedOptions, SynthesisOptions, options_from_request
from steadyvoice.wire.elevenlabs.dialogue import DialogueRequest, parse_dialogue
from steadyvoice.wire.elevenlabs.request_stitching import own_request_id
from steadyvoice.wire.elevenlabs.speech import ElevenLabsSpeechRequest, SpeechEndpoint, decode_request, validate_hints
from steadyvoice.wire.request_validation import RequestValidationError

API = "elevenlabs-dialogue"
"""Label `api` of the turns of a dialogue in metrics, logs and lists of calls."""


@dataclass(frozen=True, slots=True)
class DialoguePart:
    """Consecutive lines of one voice, and the options that they are spoken with."""

    text: str
    options: SynthesisOptions
    resolved: ResolvedOptions


class DialogueOrder(GatewaySpeechRequest, frozen=True):
    """Dialogue that a request asks for. Its text is that of all parts together, its options are those of the first."""

    parts: tuple[DialoguePart, ...] = ()


class DialogueDialect(ElevenLabsDialect):
    """ElevenLabs' request body of a dialogue; response headers and errors are those of speech."""

    def __init__(self) -> None:
        super().__init__(SpeechEndpoint.STREAM)
        self.parse = _parse


def _parse(request: RawRequest) -> DialogueOrder:
    call = parse_dialogue(query_dict(request.query), request.body, SpeechEndpoint.STREAM)
    parts = []
    for voice, lines in groupby(call.lines, attrgetter("voice_id")):
        text = validated_text(" ".join(line.text for line in lines), "inputs")
        options = turn_options(options_from_request(decode_request(_speech_call(call), voice)), request.headers)
        parts.append(DialoguePart(text, options, ResolvedOptions.resolve(options)))
    return DialogueOrder(" ".join(part.text for part in parts), parts[0].resolved, parts=tuple(parts))


def _speech_call(call: DialogueRequest) -> ElevenLabsSpeechRequest:
    """Return the request for speech with a dialogue's settings, under the names that they have there."""
    settings: dict[str, Any] = dict(call.settings)
    if own := settings.pop("settings", None):
        settings["voice_settings"] = own
        if issues := validate_hints(settings, {}):
            raise RequestValidationError(issues)
    return ElevenLabsSpeechRequest("", call.model_id, call.output_format, settings)


class DialogueHandler(SpeechHandler):
    """Endpoint of streamed dialogues, an ASGI application."""

    def __init__(self, context: GatewayContext) -> None:
        super().__init__(context, DialogueDialect())

    async def _speak(
        self, order: GatewaySpeechRequest, request: RequestContext, scope: Scope, receive: Receive
    ) -> None:
        assert isinstance(order, DialogueOrder)  # noqa: S101 - the dialect's parser returns no other
        limit = self._context.server.max_text_characters
        options: dict[str, Any] = {**order.parts[0].options, "max_text_characters": limit}
        conversation = self._context.service.open_conversation(cast(ConversationOptions, options), paced=False)
        async with CancelOnDisconnect(scope, receive), conversation:
            for number, part in enumerate(order.parts, start=1):
                await self._speak_part(number, part, conversation, order, request)
        await request.send({"type": "http.response.body", "body": b""})

    async def _send_head(self, order: DialogueOrder, request: RequestContext) -> None:
        """Begin the response. Its headers name no provider: there may be several, and the first is not known yet."""
        headers = {"content-type": order.content_type, "request-id": own_request_id(request.request_id)}
        await request.send({"type": "http.response.start", "status": 200, "headers": raw_headers(headers)})

    async def _speak_part(
        self,
        number: int,
        part: DialoguePart,
        conversation: AsyncConversation,
        order: DialogueOrder,
        request: RequestContext,
    ) -> None:
        conversation.update(**part.options)
        turn, complete = conversation.turn(), False
        record = TurnRecord(self._context, request, number, part.resolved, turn, API)
        try:
            turn.push(part.text)
            turn.end()
            async for event in turn:
                if isinstance(event, Audio):
                    if request.status is None:
                        await self._send_head(order, request)
                    await request.send({"type": "http.response.body", "body": event.data, "more_body": True})
                    record.add_audio(len(event.data))
            complete = True
        finally:
            await turn.aclose()
            record.finish(complete=complete)
