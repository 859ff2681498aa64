"""Websocket endpoints `stream-input` and `multi-stream-input`, of text-to-speech and of text-to-dialogue.

Access, limits, the conversation, and records of its turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from steadyvoice.gateway.access_control import accepts_api_key, api_key_from
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.dialects.base import http_error
from steadyvoice.gateway.dialects.elevenlabs import ElevenLabsDialect
from steadyvoice.gateway.http import WEBSOCKET, HTTPError, Receive, Scope, Send, query_dict
from steadyvoice.gateway.http_server.websocket import INTERNAL_ERROR, SERVICE_RESTART, ClientWebSocket, SocketAcceptor
from steadyvoice.gateway.request_context import RequestContext, request_context
from steadyvoice.gateway.speech_request import GatewaySpeechRequest, turn_options
from steadyvoice.gateway.websocket.client_context import ContextSettings, SocketAPI, SpeechAPI
from steadyvoice.gateway.websocket.dialogue import DialogueAPI
from steadyvoice.gateway.websocket.session import MultiContextSession, SingleContextSession, SpeechSession
from steadyvoice.service.conversation.conversation import ConversationOptions
from steadyvoice.service.conversation.turn import AsyncTurn
from steadyvoice.service.options import ResolvedOptions, SynthesisOptions, options_from_request
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.speech.errors import TTSError
from steadyvoice.wire.elevenlabs import dialogue
from steadyvoice.wire.elevenlabs.catalog import VOICES
from steadyvoice.wire.elevenlabs.speech import ElevenLabsSpeechRequest, decode_request, validate_hints
from steadyvoice.wire.elevenlabs.websocket import LONGEST_INACTIVITY, SocketEndpoint, SocketParameters, parse_query
from steadyvoice.wire.request_validation import RequestValidationError

API, DIALOGUE_API = "elevenlabs-websocket", "elevenlabs-dialogue-websocket"
"""Labels `api` of turns in metrics, logs and lists of calls."""

_CONNECTIONS_PER_SOCKET = 2  # of all connections, half may be websockets, so that HTTP is served beside them

# Parameters of the query that a request over HTTP has in its body, and those that it has in its query as well. Others
# are the websocket's own. SSML is parsed whatever `enable_ssml_parsing` says, as over HTTP.
_BODY_PARAMETERS = ("language_code", "seed", "apply_text_normalization")
_QUERY_PARAMETERS = ("enable_logging", "optimize_streaming_latency")


class SocketHandler:
    """Websocket endpoint, an ASGI application. Clients are accepted also while no vendor answers.

    It is one of a dialogue if no voice is in its path.
    """

    def __init__(self, context: GatewayContext, form: SocketEndpoint) -> None:
        self._context, self._form, self._dialect = context, form, ElevenLabsDialect()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = request_context(scope)
        dialect = self._dialect
        try:
            query = query_dict(scope["query_string"])
            voice: str | None = scope["path_params"].get("voice_id")
            call = parse_query(query) if voice is not None else _parse_dialogue_query(query)
            error = self._refusal(scope, request, call)
            turns = SocketTurns(self._context, request, call, query, voice)
        except RequestValidationError as invalid:
            await dialect.validation_error(invalid.issues, request.request_id)(scope, receive, request.send)
            return
        except TTSError as impossible:
            error = http_error(impossible)
        if error:
            await dialect.error_response(error, request.request_id)(scope, receive, request.send)
            return
        self._context.websockets += 1
        try:
            await self._serve(scope[WEBSOCKET], request, call, turns)
        finally:
            self._context.websockets -= 1

    def _refusal(self, scope: Scope, request: RequestContext, call: SocketParameters) -> HTTPError | None:
        """Return the error to answer with instead of opening a websocket, or None."""
        if WEBSOCKET not in scope:
            request.add_headers({"upgrade": "websocket"})
            return HTTPError(
                426, "upgrade_required", "this endpoint is a websocket: connect to it with ws:// or wss://"
            )
        if call.api_key is not None and not accepts_api_key(call.api_key, self._context.access_rules):
            return HTTPError(401, "invalid_api_key", "invalid API key")
        if self._context.websockets >= max(1, self._context.server.max_connections // _CONNECTIONS_PER_SOCKET):
            return HTTPError(503, "system_busy", "limit of websockets reached; retry later", retry_after=1.0)
        return None

    async def _serve(
        self, accept: SocketAcceptor, request: RequestContext, call: SocketParameters, turns: SocketTurns
    ) -> None:
        """Open the websocket, run its session, and close it."""
        context = self._context
        sessions: list[SpeechSession[Any]] = []

        def handler(socket: ClientWebSocket) -> SpeechSession[Any]:
            kind: type[SpeechSession[Any]] = (
                MultiContextSession if self._form is SocketEndpoint.MULTI else SingleContextSession
            )
            api: SocketAPI[Any] = SpeechAPI(turns, call) if turns.voice is not None else DialogueAPI(turns, call)
            session = kind(
                socket,
                turns,
                api,
                inactivity_timeout=call.inactivity_timeout,
                authenticated=turns.authenticated,
                patience=context.server.header_timeout,
            )
            sessions.append(session)
            return session

        socket = accept(handler)
        if socket is None:
            error = HTTPError(400, "invalid_handshake", "malformed websocket handshake")
            response = self._dialect.error_response(error, request.request_id)
            await response(request.scope, _no_body, request.send)
            return
        request.status, request.response_started_at = 101, context.clock()
        try:
            await sessions[0].run()
        except asyncio.CancelledError:
            socket.close(SERVICE_RESTART, "service restart")
            raise
        except Exception as error:
            socket.close(INTERNAL_ERROR, "internal error")
            context.log_internal_error(request, error)
        finally:
            await turns.close()
            request.bytes_sent, request.complete = socket.bytes_sent, socket.close_code == 1000
            request.log_fields |= {"close_code": socket.close_code, "turns": turns.count}


class SocketTurns:
    """Conversation of one websocket: its turns, their options and records, and the keys that its client may send.

    `voice` is the one in its path; None for a dialogue, whose messages name their voices.
    Raises RequestValidationError and TTSError for options that are impossible.
    """

    def __init__(
        self,
        context: GatewayContext,
        request: RequestContext,
        call: SocketParameters,
        query: Mapping[str, str],
        voice: str | None,
    ) -> None:
        self._context, self._request, self._call, self.voice = context, request, call, voice
        rules = context.access_rules
        self.authenticated = not rules.api_keys or call.api_key is not None or api_key_from(request.headers) is not None
        """Whether a valid key came with the upgrade, or none is needed. Keys in headers were checked before."""
        self.count = 0
        self._query = {name: query[name] for name in _QUERY_PARAMETERS if name in query}
        self._body: dict[str, Any] = {name: query[name] for name in _BODY_PARAMETERS if name in query}
        if call.seed is not None:
            self._body["seed"] = call.seed
        self._model_given = "model_id" in query or voice is None
        # Those of a dialogue are validated with any voice, before there is one.
        options = self._options({}, voice if voice is not None else VOICES["George"])
        self._resolved = ResolvedOptions.resolve(options)
        self._latest: tuple[str | None, str] = (None, repr({}))  # voice and settings of the latest turn
        self.max_text_characters = context.server.max_text_characters
        timeouts = context.service.settings["timeouts"]
        # Voice agents cannot wait for 8 seconds until another provider is called; a configuration of one's own counts.
        own: dict[str, Any] = {
            **options,
            "timeouts": TimeoutConfig.conversation() if timeouts == TimeoutConfig() else None,
            "muted": False,  # agents take silence for speech
            "max_text_characters": context.server.max_text_characters,
        }
        self._conversation = context.service.open_conversation(cast(ConversationOptions, own), paced=False)

    def authorizes(self, key: str | None) -> bool:
        """Return whether a key that came with a message is valid."""
        return key is not None and accepts_api_key(key, self._context.access_rules)

    def validate(self, first: ContextSettings, voice: str | None = None) -> None:
        """Validate the settings of a context's first message. Raises RequestValidationError and TTSError."""
        self._options(_given_settings(first), voice or self.voice or "")

    def open_turn(self, first: ContextSettings, voice: str | None = None) -> AsyncTurn:
        """Open a turn with these settings and this voice, or that of the path. Raises as `validate` does."""
        settings = _given_settings(first)
        if (key := (voice, repr(settings))) != self._latest:
            options = self._options(settings, voice or self.voice or "")
            self._conversation.update(**options)
            self._resolved, self._latest = ResolvedOptions.resolve(options), key
        return self._conversation.turn()

    def record(self, turn: AsyncTurn) -> TurnRecord:
        """Return the record of a turn that begins."""
        self.count += 1
        api = DIALOGUE_API if self.voice is None else API
        return TurnRecord(self._context, self._request, self.count, self._resolved, turn, api)

    async def close(self) -> None:
        """End the turns that are open."""
        await self._conversation.aclose()

    def _options(self, settings: Mapping[str, Any], voice: str) -> SynthesisOptions:
        """Return the options of turns whose contexts begin with these settings."""
        call, document = self._call, {**self._body, **settings}
        if issues := validate_hints({**document, "model_id": call.model_id}, self._query):
            raise RequestValidationError(issues)
        order = ElevenLabsSpeechRequest(
            "", call.model_id, call.output_format, document, self._query, model_given=self._model_given
        )
        return turn_options(options_from_request(decode_request(order, voice)), self._request.headers)


def _given_settings(first: ContextSettings) -> dict[str, Any]:
    settings = {
        "voice_settings": first.voice_settings,
        "pronunciation_dictionary_locators": first.pronunciation_dictionary_locators,
    }
    return {name: value for name, value in settings.items() if value}


def _parse_dialogue_query(query: Mapping[str, str]) -> SocketParameters:
    """Parse the query of a dialogue. Raises RequestValidationError.

    The vendor closes a websocket that is silent for 20 seconds, because it occupies a concurrent request; here it costs
    nothing, and LiveKit, which keeps contexts alive and not the connection, would have to connect again.
    """
    defaults = {"model_id": dialogue.DEFAULT_MODEL, "inactivity_timeout": f"{LONGEST_INACTIVITY:g}"}
    return parse_query({**defaults, **query}, dialogue.FORMATS)


class TurnRecord:
    """Record of the turn with this `number` within a request. `api` is its label in metrics and logs."""

    def __init__(
        self,
        context: GatewayContext,
        request: RequestContext,
        number: int,
        options: ResolvedOptions,
        turn: AsyncTurn,
        api: str,
    ) -> None:
        self._context, self._options, self._turn, self._api = context, options, turn, api
        self._call = call = RequestContext(request.scope, request.send, clock=context.clock)
        call.route_class, call.request_id, call.is_turn = request.route_class, f"{request.request_id}/{number}", True

    def add_audio(self, size: int) -> None:
        """Note that so many bytes of audio were sent."""
        call = self._call
        if call.response_started_at is None:
            call.status, call.response_started_at = 200, self._context.clock()
        call.bytes_sent += size

    def finish(self, *, complete: bool) -> None:
        """Report the turn to all observers, unless nothing was to be spoken."""
        turn, self._call.complete = self._turn, complete
        if text := turn.text.strip():
            self._context.speech_finished(self._call, self._api, GatewaySpeechRequest(text, self._options), turn)


async def _no_body() -> Any:
    raise NotImplementedError
