"""Exchange: one request in the fast lane, from its body to the last byte of its response."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import msgspec

from steadyvoice.gateway.access_control import RouteClass
from steadyvoice.gateway.http import Message, Scope
from steadyvoice.gateway.http_server.connections import ConnectionOrigin
from steadyvoice.gateway.request_context import ContinuedSpeech, RequestContext
from steadyvoice.gateway.speech_endpoint import SpeechHandler, outcome_headers
from steadyvoice.gateway.speech_request import GatewaySpeechRequest
from steadyvoice.providers.base import Accepted
from steadyvoice.service.fast_lane.relay import FlowControl, Relay
from steadyvoice.service.pipeline.response_call import InFlightRequest
from steadyvoice.service.result import Outcome, RelayedSpeech, ReportedUtterance, UtteranceReport
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.format import AudioFormat


class ExchangeConnection(Protocol):
    """Client connection of an exchange."""

    held: bytes
    parsed_order: object

    @property
    def origin(self) -> ConnectionOrigin:
        """Facts about the connection for ASGI's scopes."""
        ...

    @property
    def flow(self) -> FlowControl:
        """Flow control of the connection."""
        ...

    @property
    def send_now(self) -> Callable[[Sequence[bytes]], None]:
        """Function that sends parts at once."""
        ...

    def response_head(self, lines: bytes) -> bytes:
        """Return the head of a 200 in chunked encoding, with these lines of headers."""
        ...

    def begin_exchange(self, exchange: Any) -> None:
        """Note that the request has begun."""
        ...

    def keep_request(self, request: bytes) -> None:
        """Keep a whole request that is about to begin."""
        ...

    def use_application(self) -> None:
        """Leave the request that is in progress, or waited for, to the application."""
        ...

    def exchange_completed(self) -> None:
        """Go on with the next request."""
        ...

    def continue_exchange(self, exchange: Any) -> None:
        """Have the application go on with the request."""
        ...


class Target(NamedTuple):
    """Request target of a speech endpoint that streams audio. `voice` is the one in the path, or empty."""

    handler: SpeechHandler
    path: str
    raw_path: bytes
    query: bytes
    voice: str


class FinishedSpeech(ReportedUtterance, msgspec.Struct):
    """Report of an exchange, made when it is read; `speech` is all that usual observers ask for."""

    speech: RelayedSpeech
    text: str
    times: Alignment | None
    outcome: Outcome
    provider: str | None
    made: UtteranceReport | None = None

    @property
    def report(self) -> UtteranceReport:  # type: ignore[override]  # which nothing sets
        """Report of the utterance."""
        if self.made is None:
            self.made = self.speech.report(self.text, self.times)
        return self.made


class ExchangeOwner(Protocol):
    """Fast lane, as its exchanges see it."""

    def completed(self, exchange: Exchange, utterance: FinishedSpeech) -> None:
        """Note that a response was sent to its end."""
        ...

    def handed_over(self, exchange: Exchange, request: InFlightRequest) -> ContinuedSpeech:
        """Note that the application goes on with a request; return what it needs for that."""
        ...


class Exchange(RequestContext):
    """Request in the fast lane, and client of its relay. Once handed over, it is an ordinary request context."""

    __slots__ = (
        "_connection", "_lane", "_origin", "_parts", "_scope", "_send_now", "_target", "dialect", "flow", "handler",
        "order", "relay",
    )  # fmt: skip

    def __init__(
        self,
        lane: ExchangeOwner,
        connection: ExchangeConnection,
        target: Target,
        headers: Mapping[bytes, bytes],
        order: GatewaySpeechRequest,
        received_at: float,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._set(headers, _send_nothing, received_at, clock)
        self.route_class = RouteClass.SPEECH
        self._scope: Scope | None = None  # once it is needed
        self._target, self._origin = target, connection.origin
        self._lane: ExchangeOwner | None = lane
        self._connection: ExchangeConnection | None = connection
        self.flow, self._send_now = connection.flow, connection.send_now
        self.handler, self.dialect, self.order = target.handler, target.handler.dialect, order
        self.relay: Relay | None = None
        self._parts: list[bytes] = []  # of the response, to be sent together

    @property
    def scope(self) -> Scope:  # type: ignore[override]  # which nothing sets
        """ASGI scope of the request, made when it is handed over or logged."""
        if self._scope is None:
            origin, target = self._origin, self._target
            self._scope = {
                "type": "http",
                "asgi": {"version": origin.asgi_version, "spec_version": "2.3"},
                "http_version": "1.1",
                "server": origin.server,
                "client": origin.client,
                "scheme": origin.scheme,
                "root_path": origin.root_path,
                "headers": list(self.headers.items()),
                "state": {},
                "method": "POST",
                "path": target.path,
                "raw_path": target.raw_path,
                "query_string": target.query,
            }
        return self._scope

    def hand_over_now(self) -> None:
        """Have the pipeline go on with the request, from where it is."""
        if self.relay:
            self.relay.hand_over()

    def use_sender(self, send: Any) -> None:
        """Send the rest of the response in ASGI's messages."""
        self._send = send

    # ---------------------------------------------------------------- client of the relay

    def begin(self, first_choice: str, provider: str, accepted: Accepted) -> None:
        """Write the head of the response."""
        connection = self._connection
        assert connection is not None  # noqa: S101 - the relay runs
        self.status, self.response_started_at = 200, self._clock()
        lines = _fixed_lines(self.order.options.request.format, first_choice, provider)
        headers = self.dialect.vendor_headers(accepted, self.request_id)
        lines += "".join(map("%s: %s\r\n".__mod__, headers.items())).encode("latin-1", "replace")
        self._parts.append(connection.response_head(lines + b"".join(map(b"%b: %b\r\n".__mod__, self._extra))))

    def write(self, data: bytes) -> None:
        """Write valid audio as one chunk."""
        self.bytes_sent += len(data)
        self._parts += (b"%x\r\n" % len(data), data, b"\r\n")

    def flush(self) -> None:
        """Send what was written."""
        if self._parts:
            parts, self._parts = self._parts, []
            self._send_now(parts)

    def write_now(self, data: bytes) -> None:
        """Send valid audio as one chunk, with what was written before."""
        self.bytes_sent += len(data)
        chunk = (b"%x\r\n" % len(data), data, b"\r\n")
        if self._parts:
            parts, self._parts = self._parts, []
            self._send_now((*parts, *chunk))
        else:
            self._send_now(chunk)

    def end(self, speech: RelayedSpeech, text: str, alignment: Alignment | None) -> None:
        """Send the end of a complete response."""
        connection, lane = self._connection, self._lane
        assert connection and lane  # noqa: S101, PT018 - the relay has just ended
        self._send_now((*self._parts, b"0\r\n\r\n"))
        self.complete = True
        self._connection = self._lane = self.relay = None
        utterance = FinishedSpeech(speech, text, alignment, speech.outcome, speech.provider)
        lane.completed(self, utterance)
        connection.exchange_completed()

    def hand_over(self, request: InFlightRequest) -> None:
        """Have the pipeline go on with the request."""
        self.flush()
        connection, lane = self._connection, self._lane
        assert connection and lane  # noqa: S101, PT018 - the relay has just ended
        self._connection = self._lane = self.relay = None
        self.continued = lane.handed_over(self, request)
        connection.continue_exchange(self)


@lru_cache(maxsize=256)
def _fixed_lines(format: AudioFormat, first_choice: str, provider: str) -> bytes:
    """Return the lines of a head that are the same for all requests that a provider speaks in a format."""
    outcome: Outcome = "spoken" if provider == first_choice else "substituted"
    headers = {"content-type": format.mime_type, **outcome_headers(outcome, provider)}
    return "".join(map("%s: %s\r\n".__mod__, headers.items())).encode("latin-1", "replace")


async def _send_nothing(message: Message) -> None: ...
