"""Cartesia's dialect in the simulator: plain audio, and server-sent events with word times."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from aiohttp import web

from steadyvoice.simulator.http.response import (
    BodyPart,
    Rejection,
    RequestRejectedError,
    ResponseBody,
    SimulatedResponse,
)
from steadyvoice.simulator.synthesis import EncodedAudio, ResponseShape, SynthesisOrder
from steadyvoice.simulator.vendor_dialect import DocumentRoute, SpeechRoute, VendorCode, VendorDialect
from steadyvoice.speech import errors as speech
from steadyvoice.speech.alignment import Alignment, Word
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.wire import cartesia as wire
from steadyvoice.wire.error_response import get_header

BYTES_ENDPOINT, SSE_ENDPOINT, WEBSOCKET_ENDPOINT = "tts/bytes", "tts/sse", "tts/websocket"
VOICES = (wire.DEFAULT_VOICE, "f786b574-daa5-4673-aa0c-cbe3e8534c02", "a0e99841-438c-4a64-b679-ae501e7d6091")
"""Voices that exist, besides those of the settings."""


class SimulatedCartesia(VendorDialect):
    """Cartesia's dialect."""

    codes: ClassVar[Mapping[type[TTSError], VendorCode]] = {
        speech.TTSInvalidKeyError: VendorCode(401, "unauthorized"),
        speech.TTSQuotaExceededError: VendorCode(402, "quota_exceeded"),
        speech.TTSPlanRequiredError: VendorCode(403, "plan_upgrade_required"),
        speech.TTSConcurrencyError: VendorCode(429, "concurrency_limited"),
        speech.TTSBusyError: VendorCode(429, "rate_limited"),
        speech.TTSVoiceUnknownError: VendorCode(404, "voice_not_found"),
        speech.TTSModelUnknownError: VendorCode(404, "model_not_found"),
        speech.TTSTextTooLongError: VendorCode(413, "transcript_too_long"),
        speech.TTSBadRequestError: VendorCode(400),
        speech.TTSServerError: VendorCode(500, "internal_error"),
    }

    def speech_routes(self) -> Sequence[SpeechRoute]:
        """Return the speech endpoints."""
        return [
            SpeechRoute(wire.BYTES_PATH, BYTES_ENDPOINT, lambda request, body: self._parse(request, body, sse=False)),
            SpeechRoute(wire.SSE_PATH, SSE_ENDPOINT, lambda request, body: self._parse(request, body, sse=True)),
        ]

    def document_routes(self) -> Sequence[DocumentRoute]:
        """Return the list of voices, and each of them."""
        return [
            DocumentRoute(wire.VOICES_PATH, "voices", self._voices),
            DocumentRoute(f"{wire.VOICES_PATH}/{{voice}}", "voices", self._voice),
        ]

    def key_of(self, headers: Mapping[str, str]) -> str | None:
        """Return the API key, of either header that the vendor accepts."""
        if key := get_header(headers, "x-api-key"):
            return key
        scheme, _, token = (get_header(headers, "authorization") or "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None

    def headers(self, request_id: str, order: SynthesisOrder | None = None) -> dict[str, str]:
        """Return the headers of a response."""
        return {"x-request-id": request_id, "cartesia-version": wire.VERSION}

    def error_document(self, refusal: VendorCode, message: str, request_id: str) -> Any:
        """Return the body of a refusal."""
        return {"error_code": refusal.code, "title": "Refused", "message": message, "request_id": request_id}

    def error_line(self, code: str) -> bytes:
        """Return an error in place of a server-sent event."""
        refusal = self.refusal(Rejection(code, status=None))
        document = {
            **self.error_document(refusal, "The simulator ends this answer.", ""),
            "status_code": refusal.status,
        }
        return _event({"type": "error", "done": True, **document})

    def _voices(self, request: web.Request) -> dict[str, Any]:
        # All voices are on the first page; the official client asks for further ones until a page is empty.
        names = () if request.query.get("starting_after") else (*VOICES, *self.settings.voices)
        voices = [
            {"id": name, "name": f"Voice {number}", "description": "", "is_owner": False, "language": "en"}
            for number, name in enumerate(names, start=1)
        ]
        return {"data": voices, "has_more": False, "next_page": None}

    def _voice(self, request: web.Request) -> dict[str, Any]:
        voice = request.match_info["voice"]
        if voice not in (*VOICES, *self.settings.voices):
            raise _rejected("voice_not_found", f"The voice {voice} does not exist.")
        return {"id": voice, "name": "Voice", "description": "", "is_owner": False, "language": "en"}

    def _parse(self, request: web.Request, body: bytes, *, sse: bool) -> SynthesisOrder:
        if not request.headers.get("cartesia-version"):
            raise _rejected("invalid_parameters", "Missing header Cartesia-Version")
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise _rejected("invalid_parameters", "The request body could not be parsed.") from error
        endpoint = SSE_ENDPOINT if sse else BYTES_ENDPOINT
        order = self.parse_generation(document, endpoint, wire.TIMED_FORMATS if sse else wire.FORMATS)
        if not order.text.strip():
            raise _rejected("invalid_parameters", "Your transcript is empty or contains only punctuation.")
        timed = sse and document.get("add_timestamps") is True
        return replace(order, build=(_timed_events if timed else _events) if sse else None)

    def parse_generation(self, document: Any, endpoint: str, formats: Collection[AudioFormat]) -> SynthesisOrder:
        """Return the order of a request in one of these formats, whose text may be empty.

        Raises RequestRejectedError.
        """
        try:
            text, model, voice = document["transcript"], document["model_id"], document["voice"]
            voice = voice if isinstance(voice, str) else voice["id"]
            asked = document["output_format"]
            format_ = next((format_ for format_ in formats if wire.FORMATS[format_] == asked), None)
            speed = float((document.get("generation_config") or {}).get("speed", 1.0))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise _rejected("invalid_parameters", "The request could not be parsed.") from error
        if not isinstance(text, str):
            raise _rejected("invalid_parameters", "transcript must be a string.")
        if voice not in (*VOICES, *self.settings.voices):
            raise _rejected("voice_not_found", f"The voice {voice} does not exist.")
        if model not in (*wire.MODELS, *self.settings.models):
            raise _rejected("model_not_found", f"The model {model} does not exist.")
        if format_ is None:
            raise _rejected("invalid_parameters", "Unsupported output_format.")
        if not wire.MIN_SPEED <= speed <= wire.MAX_SPEED:
            raise _rejected("invalid_parameters", f"speed must be from {wire.MIN_SPEED} to {wire.MAX_SPEED}.")
        return SynthesisOrder(endpoint, text, voice, model, format_, ResponseShape.STREAM, speed=speed)


async def _events(pieces: AsyncIterator[EncodedAudio], order: SynthesisOrder) -> SimulatedResponse:
    return SimulatedResponse(_body(pieces, timed=False), headers={"content-type": "text/event-stream"})


async def _timed_events(pieces: AsyncIterator[EncodedAudio], order: SynthesisOrder) -> SimulatedResponse:
    return SimulatedResponse(_body(pieces, timed=True), headers={"content-type": "text/event-stream"})


async def _body(pieces: AsyncIterator[EncodedAudio], *, timed: bool) -> ResponseBody:
    audio_end = 0.0
    held: list[Alignment] = []
    async for piece in pieces:
        audio_end = piece.audio_end
        if piece.data:
            data = base64.b64encode(piece.data).decode()
            chunk = {"type": "chunk", "data": data, "done": False, "status_code": 206, "step_time": 50.0}
            yield BodyPart(_event(chunk), audio_end)
        held += [piece.alignment] if timed and piece.alignment else []
        words, held = whole_words(held)
        if words:
            yield BodyPart(_timestamps(words), audio_end)
    if words := Alignment.joined([(0.0, piece) for piece in held]).words():
        yield BodyPart(_timestamps(words), audio_end)
    yield BodyPart(_event({"type": "done", "done": True, "status_code": 200}), audio_end)


def whole_words(held: list[Alignment]) -> tuple[list[Word], list[Alignment]]:
    """Return the words that are complete, and what is left: a word may continue in the next piece."""
    joined = Alignment.joined([(0.0, piece) for piece in held])
    end = max((place + 1 for place, character in enumerate(joined.characters) if character.isspace()), default=0)
    whole = Alignment(joined.characters[:end], joined.starts[:end], joined.ends[:end])
    rest = joined.since(end)
    return whole.words(), [rest] if rest.characters else []


def _timestamps(words: list[Word]) -> bytes:
    return _event(timestamps_document(alignment_of_words(words)))


def alignment_of_words(words: Sequence[Word]) -> Alignment:
    """Return an alignment whose entries are whole words, each with a blank behind it."""
    starts, ends = tuple(word.start for word in words), tuple(word.stop for word in words)
    return Alignment(tuple(f"{word.text} " for word in words), starts, ends)


def timestamps_document(words: Alignment) -> dict[str, Any]:
    """Return the event with the times of words, each of them one entry."""
    times = {
        "words": [word.strip() for word in words.characters],
        "start": list(words.starts),
        "end": list(words.ends),
    }
    return {"type": "timestamps", "done": False, "status_code": 206, "word_timestamps": times}


def _event(document: Mapping[str, Any]) -> bytes:
    data = json.dumps(document, separators=(",", ":"))
    return f"event: {document['type']}\ndata: {data}\n\n".encode()


def _rejected(code: str, message: str) -> RequestRejectedError:
    return RequestRejectedError(Rejection(code, message))
