"""Fast lane of one gateway: recognises usual requests by their head, starts them, and passes on their records later.

A request is usual if it asks for a stream of bare audio, and nothing about its head, its body or the state of the
providers needs more than a relay does (service/fast_lane). All others go to the ASGI application, as does a request in
the fast lane that becomes unusual.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any
from urllib.parse import unquote

import httptools

from steadyvoice.gateway.access_control import RequestHead, RouteClass, check_access
from steadyvoice.gateway.context import FinishedCall, GatewayContext
from steadyvoice.gateway.fast_lane.exchange import Exchange, ExchangeConnection, FinishedSpeech, Target
from steadyvoice.gateway.fast_lane.request_reader import MAX_REQUEST, RequestReader, WholeRequest
from steadyvoice.gateway.request_context import ContinuedSpeech, current_request_id
from steadyvoice.gateway.router import RouteTable
from steadyvoice.gateway.speech_endpoint import SpeechHandler
from steadyvoice.gateway.speech_request import BodyFormat, GatewaySpeechRequest, new_raw_request
from steadyvoice.service.log_messages import log_utterance, logs_successes
from steadyvoice.service.pipeline.response_call import InFlightRequest

TICK = 0.05
"""Seconds between two looks at the timeouts of relays, and after which finished requests are recorded."""

_MAX_UNRECORDED = 1_000
_MAX_KNOWN = 256  # targets, and credentials
_MAX_TARGET = 500  # bytes

_finished_call = partial(tuple.__new__, FinishedCall)  # a Python call less than the class


class FastLane:
    """Usual requests of one gateway that are in progress, and those that were finished and are not recorded yet."""

    def __init__(self, context: GatewayContext, routes: RouteTable) -> None:
        self._context, self._routes = context, routes
        self._reader = RequestReader()
        self._targets: dict[bytes, Target | None] = {}
        self._rules: object = None  # access rules under which the heads below were admitted
        self._admitted: set[tuple[bytes | None, ...]] = set()
        self._finished: list[FinishedCall] = []
        self._awaited = set[ExchangeConnection]()  # connections whose body is incomplete, since the last tick
        self._awaited_before = set[ExchangeConnection]()
        self._timer: asyncio.TimerHandle | None = None
        self._connect_seconds = 0.0  # seconds for which the request that is being started has waited for a connection
        self.running: set[Exchange] = set()
        context.record_finished = self.record_finished
        context.on_stop.append(self._hand_over_all)

    # ---------------------------------------------------------------- start

    def receive(self, connection: ExchangeConnection, data: bytes) -> bool:
        """Begin a usual request, or wait for the rest of one; return False, and do nothing, for any other."""
        # Many clients send the body in a packet of its own. A connection that was left among the awaited ones would be
        # given to the application with the second tick, and the request that it has begun meanwhile with it.
        awaited = self._awaited_before if connection in self._awaited_before else self._awaited
        awaited.discard(connection)
        head = self._reader.find_head(data)
        if head is None:
            return False
        url, size = head.url, len(data)
        if size > head.whole or head.whole > MAX_REQUEST:
            return False
        target = self._targets.get(url)
        if target is None and (url in self._targets or not (target := self._learn(url))):
            return False
        if size < head.whole:
            connection.held = data
            awaited.add(connection)
            self._set_timer()
            return True
        request = self._reader.parse(head, data)
        return request is not None and self._start(connection, target, request, data)

    def _start(self, connection: ExchangeConnection, target: Target, request: WholeRequest, data: bytes) -> bool:
        """Send a usual request to its provider; return False, and send nothing, for any other."""
        context, limits, headers, body = self._context, self._context.server, request.headers, request.body
        if context.closing or len(body) > limits.max_body_bytes:
            return False
        credentials = (headers.get(b"host"), headers.get(b"xi-api-key"), headers.get(b"authorization"))
        is_known = context.access_rules is self._rules and credentials in self._admitted
        if not is_known and not self._admits(connection, headers, credentials):
            return False
        try:
            order = target.handler.dialect.parse(new_raw_request((target.voice, target.query, headers, body)))
        except Exception:  # the application answers with it
            return False
        is_usual = not order.buffered and order.body_format is BodyFormat.AUDIO
        if is_usual and len(order.text) <= limits.max_text_characters:
            waited, clock = self._connect_seconds, context.clock
            exchange = Exchange(self, connection, target, headers, order, clock() - waited, clock=clock)
            exchange.relay = context.service.relay(order.text, order.options, exchange, waited)
            if exchange.relay:
                self.running.add(exchange)
                if self._timer is None:
                    self._set_timer()
                connection.begin_exchange(exchange)
                return True
            if self._wait_for_connection(connection, order, data):
                return True
        connection.parsed_order = order
        return False

    def _wait_for_connection(self, connection: ExchangeConnection, order: GatewaySpeechRequest, data: bytes) -> bool:
        """Have a request wait for a connection to the vendor, if it lacks nothing else; return whether it waits."""
        if self._connect_seconds or not (awaited := self._context.service.open_connection(order.text, order.options)):
            return False
        connection.keep_request(data)
        timer = asyncio.get_running_loop().call_later(awaited.seconds, _give_up, connection, data)
        awaited.opened.add_done_callback(partial(self._retry, connection, data, timer, self._context.clock()))
        return True

    def _retry(
        self,
        connection: ExchangeConnection,
        data: bytes,
        timer: asyncio.TimerHandle,
        begun: float,
        opened: asyncio.Future[object],
    ) -> None:
        """Start a request whose connection was opened; leave it to the application if there is none."""
        timer.cancel()
        if connection.held is not data:  # left to the application meanwhile
            return
        if not opened.cancelled() and opened.exception() is None:
            connection.held, self._connect_seconds = b"", self._context.clock() - begun
            try:
                is_started = self.receive(connection, data)
            finally:
                self._connect_seconds = 0.0
            if is_started:
                return
            connection.held = data
        connection.use_application()

    def _learn(self, url: bytes) -> Target | None:
        """Return the target of a URL, and keep it."""
        if len(url) > _MAX_TARGET:
            return None
        parsed = httptools.parse_url(url)
        raw_path = parsed.path
        path = unquote(raw_path.decode("ascii")) if b"%" in raw_path else raw_path.decode("ascii")
        route, parameters = self._routes.find(path, raw_path)
        handler: Any = route.endpoints.get("POST")
        target = None
        is_speech = route.route_class is RouteClass.SPEECH and isinstance(handler, SpeechHandler)
        if is_speech and handler.dialect.streams_audio:
            target = Target(handler, path, raw_path, parsed.query or b"", parameters.get("voice_id", ""))
        if len(self._targets) >= _MAX_KNOWN:
            del self._targets[next(iter(self._targets))]
        self._targets[url] = target
        return target

    def _admits(
        self, connection: ExchangeConnection, headers: dict[bytes, bytes], key: tuple[bytes | None, ...]
    ) -> bool:
        """Return whether access control admits a head, whose verdict is kept by all that it depends on."""
        rules = self._context.access_rules
        if rules is not self._rules:
            self._rules = rules
            self._admitted.clear()
        client, scheme = connection.origin.client, connection.origin.scheme
        head = RequestHead("POST", scheme or "", RouteClass.SPEECH, headers, client[0] if client else None)
        if check_access(head, rules):
            return False
        if len(self._admitted) >= _MAX_KNOWN:
            self._admitted.clear()
        self._admitted.add(key)
        return True

    # ---------------------------------------------------------------- end

    def completed(self, exchange: Exchange, utterance: FinishedSpeech) -> None:
        """Note that a response was sent to its end."""
        self.running.discard(exchange)
        exchange.finished_at = self._context.clock()
        self._finished.append(
            _finished_call((exchange, exchange.dialect.name, exchange.order, utterance, utterance.speech))
        )
        if len(self._finished) >= _MAX_UNRECORDED:
            self.record_finished()

    def handed_over(self, exchange: Exchange, request: InFlightRequest) -> ContinuedSpeech:
        """Note that the application goes on with a request; return what it needs for that."""
        self.running.discard(exchange)
        order = exchange.order
        stream = self._context.service.open_stream(
            order.text, order.options, hold=False, announced=True, in_flight=request
        )
        return ContinuedSpeech(exchange.handler, order, stream)

    def record_finished(self) -> None:
        """Pass finished requests on to the observers."""
        if self._finished:
            finished, self._finished = self._finished, []
            if logs_successes():
                for call in finished:
                    token = current_request_id.set(call.request.request_id)
                    log_utterance(call.utterance.report)
                    current_request_id.reset(token)
            for observer in self._context.observers:
                observer.usual_calls_finished(finished)
            if watching := self._context.service.observers:
                for call in finished:
                    watching.report_ended(call.utterance.report, ended=call.request.finished_at)

    def _set_timer(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)

    def _tick(self) -> None:
        """Record finished requests, and hand over those whose timeouts are near."""
        self._timer = None
        self.record_finished()
        late, self._awaited_before, self._awaited = self._awaited_before, self._awaited, set()
        for connection in late:
            connection.use_application()
        for relay in self._context.service.due_relays():
            relay.check_time()
        if self.running or self._awaited_before:
            self._set_timer()

    def _hand_over_all(self) -> None:
        """Record what is finished, and leave all other requests to the application: the gateway stops."""
        self.record_finished()
        for exchange in list(self.running):
            exchange.hand_over_now()


def _give_up(connection: ExchangeConnection, data: bytes) -> None:
    """Leave a request to the application, which waits for the connection as it does for any."""
    if connection.held is data:
        connection.use_application()
