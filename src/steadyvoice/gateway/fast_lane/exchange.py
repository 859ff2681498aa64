"""Exchange: one request in the fast lane, from its body to the last byte of its response."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from steadyvoice.gateway.access_control import RouteClass
from steadyvoice.gateway.http import Message, Scope
from steadyvoice.gateway.request_context import ContinuedSpeech, RequestContext, current_request_id
from steadyvoice.gateway.speech_endpoint import SpeechHandler, outcome_headers
from steadyvoice.gateway.speech_request import GatewaySpeechRequest
from steadyvoice.service.fast_lane.relay import Relay
from steadyvoice.service.log_messages import log_utterance, logs_successes
from steadyvoice.service.pipeline.response_call import InFlightRequest
from steadyvoice.service.result import Outcome, ReportedUtterance, UtteranceReport


class ReadingClient(Protocol):
    """Client, as flow control sees it."""

    @property
    def write_paused(self) -> bool:
        """Whether the client does not keep up with reading."""
        ...


class ExchangeConnection(Protocol):
    """Client connection of an exchange."""

    held: bytes
    parsed_order: object
    asgi_version: str
    root_path: str

    @property
    def server(self) -> Any:
        """Address at which the client has connected."""
        ...

    @property
    def client(self) -> tuple[str, int] | None:
        """Address of the client."""
        ...

    @property
    def scheme(self) -> str | None:
        """Scheme of the connection's URLs."""
        ...

    @property
    def flow(self) -> ReadingClient:
        """Flow control of the connection."""
        ...

    @property
    def send_now(self) -> Callable[[list[bytes]], None]:
        """Function that sends parts at once."""
        ...

    def response_head(self, lines: bytes) -> bytes:
        """Return the head of a 200 in chunked encoding, with these lines of headers."""
        ...

    def begin_exchange(self, exchange: Any) -> None:
        """Note that the request has begun."""
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


class FinishedSpeech(ReportedUtterance):
    """Report of an exchange, with the outcome and the provider that all observers ask for."""

    outcome: Outcome = "spoken"
    provider: str | None = None

    def __init__(self, report: UtteranceReport, provider: str) -> None:
        self.report, self.provider = report, provider
        self.outcome = "spoken" if provider == report.first_choice else "substituted"


class ExchangeOwner(Protocol):
    """Fast lane, as its exchanges see it."""

    def completed(self, exchange: Exchange, account: FinishedSpeech) -> None:
        """Note that a response was sent to its end."""
        ...

    def handed_over(self, exchange: Exchange, request: InFlightRequest) -> ContinuedSpeech:
        """Note that the application goes on with a request; return what it needs for that."""
        ...


class Exchange(RequestContext):
    """Request in the fast lane, and client of its relay. Once handed over, it is an ordinary request context."""

    __slots__ = (
        "_account",
        "_connection",
        "_flow",
        "_lane",
        "_parts",
        "_send_now",
        "dialect",
        "handler",
        "order",
        "relay",
    )

    def __init__(
        self,
        lane: ExchangeOwner,
        connection: ExchangeConnection,
        handler: SpeechHandler,
        scope: Scope,
        order: GatewaySpeechRequest,
        *,
        clock: Any,
    ) -> None:
        super().__init__(scope, _send_nothing, clock=clock)
        self.route_class = RouteClass.SPEECH
        self._lane: ExchangeOwner | None = lane
        self._connection: ExchangeConnection | None = connection
        self._flow, self._send_now = connection.flow, connection.send_now
        self.handler, self.dialect, self.order = handler, handler.dialect, order
        self._account: FinishedSpeech | None = None
        self.relay: Relay | None = None
        self._parts: list[bytes] = []  # of the response, to be sent together

    def hand_over_now(self) -> None:
        """Have the pipeline go on with the request, from where it is."""
        if self.relay:
            self.relay.hand_over()

    def use_sender(self, send: Any) -> None:
        """Send the rest of the response in ASGI's messages."""
        self._send = send

    # ---------------------------------------------------------------- client of the relay

    def begin(self, report: UtteranceReport) -> None:
        """Write the head of the response."""
        self._account = account = FinishedSpeech(report, report.current_speaker.provider or "")
        headers = {
            "content-type": self.order.style.request.format.mime_type,
            **outcome_headers(account),
            **self.dialect.audio_headers(self.order, account, self.request_id),
        }
        self.status, self.response_started_at = 200, self._clock()
        connection = self._connection
        assert connection is not None  # noqa: S101 - the relay runs
        lines = "".join(map("%s: %s\r\n".__mod__, headers.items())).encode("latin-1", "replace")
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

    def is_ready(self) -> bool:
        """Return whether the client is connected and keeps up with reading."""
        return not self._flow.write_paused

    def end(self, report: UtteranceReport) -> None:
        """Send the end of a complete response."""
        connection, lane, account = self._connection, self._lane, self._account
        assert connection and lane and account  # noqa: S101, PT018 - the relay has just ended
        self._parts.append(b"0\r\n\r\n")
        self.complete = True
        self.flush()
        self._connection = self._lane = self.relay = None
        if logs_successes():
            token = current_request_id.set(self.request_id)
            log_utterance(report)
            current_request_id.reset(token)
        lane.completed(self, account)
        connection.exchange_completed()

    def hand_over(self, request: InFlightRequest) -> None:
        """Have the pipeline go on with the request."""
        connection, lane = self._connection, self._lane
        assert connection and lane  # noqa: S101, PT018 - the relay has just ended
        self._connection = self._lane = self.relay = None
        self.continued = lane.handed_over(self, request)
        connection.continue_exchange(self)


async def _send_nothing(message: Message) -> None: ...
