"""Checks of failures: vendors' errors, broken answers, unreachable hosts, deadlines, secrets in messages."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, aclosing, closing, contextmanager
from dataclasses import dataclass
from typing import Any

from steadyvoice.providers.base import SupportsTextStreaming, TextStreamingUnsupportedError
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.service.resilience.retry import RetryConfig
from steadyvoice.service.service import AsyncTTSService
from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSError
from steadyvoice.testing.trial import PATIENCE, ConformanceError, Trial
from steadyvoice.testing.vendor_server import VendorFault, VendorResponse

_PAGE = VendorResponse(b"<!DOCTYPE html><html><title>Sign in</title></html>", content_type="text/html")
_RETRY_AFTER = 7.0  # seconds
_SHORT = 0.3  # seconds of a timeout that expires in a check

_CONNECTION_ERRORS = (speech.TTSConnectError, speech.TTSConnectTimeoutError)
_REQUEST_ERRORS = (speech.TTSRequestError,)


@dataclass(frozen=True, slots=True)
class ErrorCase:
    """Response of a vendor that is no speech, and the errors of which one has to be raised."""

    when: str
    response: VendorResponse
    expected: tuple[type[TTSError], ...]
    retry_after: float | None = None


def _error(status: int, *expected: type[TTSError], wait: bool = False) -> ErrorCase:
    headers = {"retry_after": f"{_RETRY_AFTER:.0f}"} if wait else {}
    response = VendorResponse.of_json({"error": {"message": "scripted failure"}}, status, **headers)
    when = f"the vendor answers with HTTP {status}{' and Retry-After: 7' if wait else ''}"
    return ErrorCase(when, response, expected, _RETRY_AFTER if wait else None)


ERROR_CASES: Mapping[str, ErrorCase] = {
    "400": _error(400, *_REQUEST_ERRORS),
    "401": _error(401, speech.TTSInvalidKeyError),
    "402": _error(402, speech.TTSQuotaExceededError, speech.TTSPlanRequiredError),
    "403": _error(403, speech.TTSCredentialError, speech.TTSBlockedError, speech.TTSRefusedError),
    "404": _error(404, *_REQUEST_ERRORS, speech.TTSNotAudioError),
    "422": _error(422, *_REQUEST_ERRORS),
    "429": _error(429, speech.TTSBusyError, speech.TTSConcurrencyError, wait=True),
    "500": _error(500, speech.TTSServerError),
    "503": _error(503, speech.TTSServerError, speech.TTSBusyError, wait=True),
    "502 from a proxy": ErrorCase(
        "a proxy answers with HTTP 502 and a web page",
        VendorResponse(b"<html><title>502 Bad Gateway</title></html>", 502, "text/html"),
        (speech.TTSServerError,),
    ),
    "a web page": ErrorCase("the vendor answers with a web page", _PAGE, (speech.TTSNotAudioError,)),
    "an empty body": ErrorCase(
        "the vendor answers with an empty body",
        VendorResponse(b"", content_type="audio/mpeg"),
        (speech.TTSEmptyAudioError, speech.TTSNotAudioError),
    ),
}
"""Errors by their statuses alone, in no vendor's own form."""


async def check_own_error(trial: Trial, case: ErrorCase) -> None:
    """Check an error in the vendor's own form: as any other, and that its code is read."""
    error = await check_error(trial, case)
    code = next(_codes_in(case.response), None)
    if error.code is None and code:
        raise ConformanceError(
            f"raised {type(error).__name__} without a code when {case.when}, which has {code!r}",
            "read the vendor's code, such as by code_fields of its ErrorTable",
        )


_CODE = re.compile(r"[A-Za-z]+([._-][A-Za-z]+)+|[A-Z]{4,}|[A-Z][a-z]+([A-Z][a-z]+)+")


def _codes_in(response: VendorResponse) -> Iterator[str]:
    """Yield the texts in a JSON document that look like codes."""
    try:
        held = [json.loads(response.body if isinstance(response.body, bytes) else b"".join(response.body))]
    except ValueError:
        return
    while held:
        match held.pop():
            case dict() as fields:
                held += fields.values()
            case list() as items:
                held += items
            case str() as text if _CODE.fullmatch(text):
                yield text


async def check_error(trial: Trial, case: ErrorCase) -> TTSError:
    """Check one kind of error: its class, its Retry-After, no second request, and a healthy request behind it.

    Returns the error.
    """
    trial.fake.use(VendorFault(response=case.response))
    error = await trial.failure(case.when, expected=case.expected)
    if case.retry_after is not None and (error.retry_after is None or abs(error.retry_after - case.retry_after) > 1.0):
        raise ConformanceError(
            f"raised {type(error).__name__} with retry_after={error.retry_after} when {case.when}",
            f"pass the seconds on, {case.retry_after:g} here",
        )
    if (count := len(trial.fake.requests)) > 1:
        raise ConformanceError(
            f"sent {count} requests when {case.when}",
            "leave retries to the service, which knows the deadline, the circuit and the other providers",
        )
    trial.fake.use(VendorFault())
    trial.step = f"speaking again after {case.when}"
    await trial.speak()
    return error


async def check_secrets(trial: Trial) -> None:
    """Check that no error repeats the key, even if the vendor's message does."""
    await trial.speak()
    sent = trial.fake.requests[-1]
    secrets = [word for name, value in sent.headers.items() if _carries_key(name) for word in value.split()[-1:]]
    message = f"the key {' '.join(secrets)} is wrong"
    response = VendorResponse.of_json({"error": {"message": message}}, 401)
    trial.fake.use(VendorFault(response=response))
    error = await trial.failure("the vendor repeats the key in an error")
    text = f"{error!s} {error.body or ''}"
    if any(secret in text for secret in secrets if len(secret) > 3):
        raise ConformanceError(
            "repeats the key in an error's message or body",
            "remove it, as `build_error` and `redact` of wire.error_response do",
        )


def _carries_key(name: str) -> bool:
    return name == "authorization" or name.endswith("-key") or "token" in name


async def check_broken_answers(trial: Trial) -> None:
    """Check that an answer that breaks off is an error: in its head, before its body, and in the middle of that."""
    await trial.speak()
    size = trial.fake.bytes_sent
    for when, fault in {
        "the vendor closes the connection without an answer": VendorFault(stop_after=0, before_head=True, then="cut"),
        "the connection breaks before the body": VendorFault(stop_after=0, then="cut"),
        "the connection breaks in the middle of the body": VendorFault(stop_after=size // 2, then="cut"),
        "the connection breaks before the last bytes": VendorFault(stop_after=size - 1, then="cut"),
    }.items():
        trial.fake.use(fault)
        error = await trial.failure(when, expected=(speech.TTSProviderError,))
        if isinstance(error, speech.TTSUnexpectedError | speech.TTSServerError):
            raise ConformanceError(
                f"raised {type(error).__name__} when {when}", "raise TTSCutError or TTSNoAnswerError"
            )
    trial.fake.use(VendorFault())
    await trial.speak()


async def check_connecting(trial: Trial) -> None:
    """Check that an unreachable vendor is an error within the connection timeout."""
    with _refusing_port() as url, _made(trial, url) as provider:
        await trial.failure("the vendor's port is closed", provider=provider, expected=_CONNECTION_ERRORS)
        await provider.aclose()
    with _deaf_port() as url, _made(trial, url) as provider:
        when = f"the vendor's host does not answer for connection_timeout={_SHORT} s"
        await trial.failure(when, provider=provider, connection_timeout=_SHORT, expected=_CONNECTION_ERRORS)
        await provider.aclose()


@contextmanager
def _made(trial: Trial, url: str) -> Iterator[Any]:
    yield trial.make(url)


@contextmanager
def _refusing_port() -> Iterator[str]:
    """Yield the URL of a port that refuses connections."""
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: no other program can get it meanwhile
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@contextmanager
def _deaf_port() -> Iterator[str]:
    """Yield the URL of a port whose queue of new connections is full, so that connecting takes for ever."""
    with ExitStack() as stack:
        listening = stack.enter_context(closing(socket.socket()))
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


async def check_deadlines(trial: Trial) -> None:
    """Check that the service's timeouts end a request: for the first audio, a stall, and the whole utterance."""
    await trial.speak()
    size = trial.fake.bytes_sent
    timeouts = TimeoutConfig(first_audio_timeout=_SHORT, stall_timeout=_SHORT, total_timeout=PATIENCE)
    for name, when, fault, deadline in (
        ("first_audio_timeout", "sends nothing", VendorFault(stop_after=0, before_head=True), None),
        ("stall_timeout", "stops in the middle", VendorFault(stop_after=size // 2), None),
        ("deadline", "sends a few bytes at a time", VendorFault(drip=0.05), 2 * _SHORT),
    ):
        trial.step = f"speaking while the vendor {when}, with {name}={_SHORT}"
        trial.fake.use(fault)
        async with AsyncTTSService(
            [trial.provider], timeouts=timeouts, retry=RetryConfig(max_attempts=1), muted=False
        ) as service:
            try:
                await service.synthesize(
                    trial.text * (4 if fault.drip else 1), format=trial.request().format.name, deadline=deadline
                )
            except TTSError:
                pass
            else:
                raise ConformanceError(
                    f"ended as if all was well when the vendor {when}", "wait for the vendor's audio"
                )
        await trial.connections_closed(f"after the {name}")


async def check_event_loop(trial: Trial) -> None:
    """Check that the event loop runs while the provider waits for the vendor."""
    for where, fault in {
        "its answer": VendorFault(stop_after=0, before_head=True, then="wait"),
        "more audio": VendorFault(stop_after=100, then="wait"),
    }.items():
        async with trial.started(fault) as task:
            trial.fake.proceed()
            await task
        if trial.fake.lost_patience:
            raise ConformanceError(
                f"blocks the event loop while it waits for {where}",
                "use an asynchronous client, or asyncio.to_thread(), so that other requests and timeouts go on",
            )


async def check_text_stream(trial: Trial) -> None:
    """Check that prewarming and text streams fail by a TTSError at a vendor without websockets, and end when closed."""
    provider = trial.provider
    assert isinstance(provider, SupportsTextStreaming)  # noqa: S101 - listed for such providers only
    request = trial.request(timestamps=True)
    with _refusing_port() as url, _made(trial, url) as unreachable:
        offer = unreachable.offer(request)
        try:
            await unreachable.prewarm(request, offer, connection_timeout=_SHORT)
        except TTSError:
            pass
        else:
            raise ConformanceError("prewarmed a connection to a closed port", "raise TTSConnectError")
        await unreachable.aclose()
    trial.fake.use(VendorFault(response=VendorResponse.of_json({"detail": "unavailable"}, 500)))
    stream = provider.open_text_stream(request, provider.offer(request), connection_timeout=_SHORT)
    if stream is None:
        return
    stream.send("Some words. ")
    stream.finish()
    try:
        async for _ in stream:
            raise ConformanceError("yielded an event although the vendor refused the websocket", "raise a TTSError")
    except (TTSError, TextStreamingUnsupportedError):
        pass
    stream.close()
    stream.close()
    await trial.wait_until(
        stream.released.done,
        "does not release a closed text stream",
        "complete `released` once the vendor has ended it",
    )


async def check_not_started(trial: Trial) -> None:
    """Check that a generator that is closed before it was started sends nothing."""
    request = trial.request()
    events = trial.provider.speak(request, trial.provider.offer(request), connection_timeout=1.0)
    async with aclosing(events):
        await asyncio.sleep(0.02)
    if trial.vendor and trial.vendor.requests:
        raise ConformanceError(
            "sent a request before its generator was started", "send it when the first event is asked for"
        )
