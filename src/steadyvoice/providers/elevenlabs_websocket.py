"""ElevenLabs websockets for text streams: route, messages and errors of `multi-stream-input`, by model.

Most models have the websocket of text-to-speech; Eleven v3 and v4 only that of text-to-dialogue, which cannot cancel a
context and occupies a concurrent request while it is open.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from steadyvoice.providers.base import SynthesisOffer, TextStreamingUnsupportedError
from steadyvoice.providers.websocket.context_protocol import ConnectionEnd, ContextEvent, SocketRoute
from steadyvoice.speech.errors import TTSBadRequestError, TTSError, TTSNotAudioError, TTSQuotaExceededError
from steadyvoice.speech.markup import Markup
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.wire.elevenlabs.catalog import MODELS, get_model_info
from steadyvoice.wire.elevenlabs.dialogue import (
    DIALOGUE_PATH,
    DialogueLine,
    DialogueMessage,
    encode_dialogue_message,
)
from steadyvoice.wire.elevenlabs.dialogue import FORMATS as DIALOGUE_FORMATS
from steadyvoice.wire.elevenlabs.errors import SocketClose, close_error, message_error
from steadyvoice.wire.elevenlabs.speech import encode_request
from steadyvoice.wire.elevenlabs.websocket import (
    FORMATS,
    LONGEST_INACTIVITY,
    MAX_CONTEXTS,
    AudioMessage,
    ClientMessage,
    ErrorMessage,
    FinalMessage,
    ServerMessage,
    SocketEndpoint,
    encode_client_message,
    parse_long_message,
    parse_server_message,
    socket_path,
)
from steadyvoice.wire.error_response import redact, single_line

# Fields of an HTTP request that a websocket takes in its query, those that go into a context's first message, and those
# that only help with a text in pieces, which a websocket has as a whole.
_QUERY_FIELDS = (
    "language_code", "seed", "apply_text_normalization", "enable_logging", "enable_ssml_parsing",
    "optimize_streaming_latency",
)  # fmt: skip
_FIRST_MESSAGE_FIELDS = ("voice_settings", "pronunciation_dictionary_locators")
_STITCHING_FIELDS = ("previous_text", "next_text", "previous_request_ids", "next_request_ids")
_DIALOGUE_SETTINGS = ("stability", "clone_strength")


def select_context_protocol(
    request: SpeechRequest,
    offer: SynthesisOffer,
    *,
    model: str,
    missing: set[str],
    provider: str,
    api_key: str | None,
) -> ElevenLabsContext | None:
    """Return the protocol of a request's text streams; None if the model, the format or an option has no websocket.

    `missing` are the features that the server was found not to have. Raises TTSBadRequestError.
    """
    call = encode_request(request, model_id=model, output_format=offer.format.name)
    fields = {**call.settings, **call.query}
    known = (*_QUERY_FIELDS, *_FIRST_MESSAGE_FIELDS, *_STITCHING_FIELDS)
    if any(value is not None and name not in known for name, value in fields.items()):
        return None
    expressive = model in MODELS and not get_model_info(model).takes_context
    kind = _DialogueContext if expressive else _SpeechContext
    if call.output_format not in kind.formats or {kind.feature, f"{kind.feature} {model}"} & missing:
        return None
    query = {name: _query_value(fields[name]) for name in _QUERY_FIELDS if fields.get(name) is not None}
    first = {name: fields[name] for name in _FIRST_MESSAGE_FIELDS if fields.get(name) is not None}
    query |= {"model_id": model, "output_format": call.output_format, "sync_alignment": "true"}
    return kind(offer.voice, model, query, first, missing, provider, api_key)


def _query_value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class ElevenLabsContext(ABC):
    """Protocol of the contexts of one voice, model, format and settings."""

    feature: str
    formats: tuple[str, ...]

    def __init__(
        self,
        voice: str,
        model: str,
        query: Mapping[str, str],
        first: Mapping[str, Any],
        missing: set[str],
        provider: str,
        api_key: str | None,
    ) -> None:
        self.route = self._route(voice, model, query)
        self._voice, self._model, self._first = voice, model, first
        self._missing, self._provider, self._api_key = missing, provider, api_key
        try:
            self.open("")
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            message = f"options: cannot be encoded as JSON: {single_line(str(error))}"
            raise TTSBadRequestError(message, provider=provider) from error

    @abstractmethod
    def _route(self, voice: str, model: str, query: Mapping[str, str]) -> SocketRoute: ...

    @abstractmethod
    def open(self, context_id: str) -> str | None:
        """Return the message that opens a context."""

    @abstractmethod
    def text(self, context_id: str, text: str, *, flush: bool) -> list[str]:
        """Return the messages with the next text."""

    @abstractmethod
    def close(self, context_id: str) -> str:
        """Return the message that ends a context once the text that was flushed is spoken."""

    @abstractmethod
    def keep_alive(self, context_id: str) -> str:
        """Return the message that keeps a context open while there is no text."""

    def cancel(self, context_id: str, *, shut: bool) -> str | None:
        """Return the message that ends a context: what was flushed is spoken all the same."""
        return None if shut else self.close(context_id)

    def parse(self, message: str) -> list[ContextEvent]:
        """Parse a message. Raises ValueError."""
        return [self._event(each) for each in parse_server_message(message)]

    def parse_long(self, message: str) -> Iterator[ContextEvent | None]:
        """Parse a long message in steps, of which some have no event. Raises ValueError."""
        return (self._event(each) if each else None for each in parse_long_message(message))

    def error_of(self, end: ConnectionEnd) -> TTSError:
        """Return the error that the end of the connection means for a stream whose audio is not complete."""
        close = SocketClose(end.code, end.reason, end.delivered, end.received)
        return close_error(close, api_key=self._api_key, provider=self._provider)

    def final_without_audio(self) -> TTSError:
        """Return the error for a context that ends without audio: so an exhausted quota is told on this websocket.

        https://github.com/pipecat-ai/pipecat/issues/5026. The service asks for the credit, and lifts the hold if there
        is some.
        """
        message = "the websocket ended the text without audio, which is how it tells an exhausted quota"
        return TTSQuotaExceededError(message, provider=self._provider, code="final_without_audio")

    def malformed(self, problem: str) -> TTSError:
        """Return the error for a message that cannot be parsed."""
        return TTSNotAudioError(single_line(redact(problem, self._api_key)), provider=self._provider)

    def _event(self, message: ServerMessage) -> ContextEvent:
        match message:
            case AudioMessage(audio, alignment, normalized, context_id):
                return ContextEvent(context_id, audio, alignment, normalized)
            case FinalMessage(context_id):
                return ContextEvent(context_id, final=True)
            case ErrorMessage():
                return ContextEvent(message.context_id, error=self._error(message))

    def _error(self, message: ErrorMessage) -> Exception:
        if message.error == "unsupported_model":
            self._missing.add(f"{self.feature} {self._model}")
            return TextStreamingUnsupportedError(f"{self._model}: {single_line(message.message)}")
        return message_error(message, api_key=self._api_key, provider=self._provider)


class _SpeechContext(ElevenLabsContext):
    """Context of `/v1/text-to-speech/{voice}/multi-stream-input`."""

    feature = "text-to-speech"
    formats = FORMATS

    def _route(self, voice: str, model: str, query: Mapping[str, str]) -> SocketRoute:
        defaults = {"inactivity_timeout": f"{LONGEST_INACTIVITY:g}"}
        if Markup.SSML in get_model_info(model).markup:
            defaults["enable_ssml_parsing"] = "true"  # as over HTTP, where it is always on
        path = socket_path(voice, SocketEndpoint.MULTI)
        return SocketRoute(f"{path}?{urlencode({**defaults, **query})}", self.feature, MAX_CONTEXTS)

    def open(self, context_id: str) -> str:
        # Settings are allowed in a context's first message only, whose text has to be a space.
        return encode_client_message(ClientMessage(" ", context_id, **self._first))

    def text(self, context_id: str, text: str, *, flush: bool) -> list[str]:
        return [encode_client_message(ClientMessage(text, context_id, flush=flush))]

    def close(self, context_id: str) -> str:
        return encode_client_message(ClientMessage(context_id=context_id, close_context=True))

    def keep_alive(self, context_id: str) -> str:
        return encode_client_message(ClientMessage("", context_id))


class _DialogueContext(ElevenLabsContext):
    """Context of `/v1/text-to-dialogue/multi-stream-input`, alone on its connection."""

    feature = "text-to-dialogue"
    formats = DIALOGUE_FORMATS

    def _route(self, voice: str, model: str, query: Mapping[str, str]) -> SocketRoute:
        path = f"{DIALOGUE_PATH}{SocketEndpoint.MULTI.value}"
        # The voice is no part of the address, but a connection carries one stream.
        target = f"{path}?{urlencode(query)}"
        return SocketRoute(target, self.feature, max_contexts=1, keeps_idle=False, can_cancel=False)

    def open(self, context_id: str) -> str:
        requested = self._first.get("voice_settings") or {}
        settings = {name: requested[name] for name in _DIALOGUE_SETTINGS if requested.get(name) is not None}
        return encode_dialogue_message(
            DialogueMessage(
                context_id,
                voices=(self._voice,),
                voice_settings=settings or None,
                pronunciation_dictionary_locators=self._first.get("pronunciation_dictionary_locators"),
            )
        )

    def text(self, context_id: str, text: str, *, flush: bool) -> list[str]:
        lines = (DialogueLine(text, self._voice),) if text else ()
        return [encode_dialogue_message(DialogueMessage(context_id, lines, flush=flush))]

    def close(self, context_id: str) -> str:
        return encode_dialogue_message(DialogueMessage(context_id, close_context=True))

    def keep_alive(self, context_id: str) -> str:
        return encode_dialogue_message(DialogueMessage(context_id, keep_alive=True))
