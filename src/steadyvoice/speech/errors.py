"""Errors: one class for each kind of failure, with a message that says what happened and what to do next.

Raise the leaf classes. A base class raised as itself (`TTSTimeoutError("...")`) has the kind of its most general leaf.

TTSError
├── TTSRequestError          to be corrected by the caller
│   ├── TTSBadRequestError  TTSTextTooLongError  TTSUnsupportedFormatError
│   ├── TTSUnsupportedScriptError  TTSVoiceUnknownError  TTSModelUnknownError
│   ├── TTSDeadlineError  TTSCancelledError
│   └── TTSConfigurationError
├── TTSCredentialError       to be corrected in the account
│   ├── TTSInvalidKeyError  TTSQuotaExceededError
│   └── TTSAccountFlaggedError  TTSPlanRequiredError
├── TTSProviderError         failure of the vendor, the network or a local engine
│   ├── TTSServerError  TTSBusyError  TTSConcurrencyError
│   ├── TTSRefusedError  TTSBlockedError
│   ├── TTSConnectError  TTSStaleConnectionError  TTSNoAnswerError
│   ├── TTSTimeoutError
│   │   ├── TTSConnectTimeoutError  TTSReadTimeoutError
│   │   ├── TTSStalledError  TTSTooSlowError
│   │   ├── TTSAbandonedInSilenceError
│   │   └── TTSTotalTimeoutError
│   ├── TTSNotSpeechError
│   │   ├── TTSEmptyAudioError  TTSNotAudioError
│   │   ├── TTSCutError  TTSTooShortError  TTSTooLongError
│   │   └── TTSSilentAudioError  TTSWrongFormatError
│   ├── TTSSocketError
│   │   ├── TTSFinalWithoutAudioError  TTSSocketIdleError
│   │   └── TTSSocketRestartedError  TTSSocketDroppedError
│   └── TTSLocalCrashError  TTSUnexpectedError
├── TTSOverloadedError       this process is overloaded
├── TTSHoldError             a credential, voice or model is on hold until a time
├── TTSHedgedError           another provider answered the same request first
├── TTSStreamInterruptedError  part of the audio was delivered, the rest was not
├── TTSAllProvidersFailedError
└── TTSCircuitOpenError      (in the service package, for it is a CircuitOpenError too)
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from math import ceil, isfinite
from typing import Any, ClassVar, TypeVar

from steadyvoice.speech.failure_kinds import Blame, FailureKind, FailureMeaning, RetryAdvice, meaning_of
from steadyvoice.speech.text import escape_surrogates, hide_quotations, strip_invisible

E = TypeVar("E", bound=Exception)


class TTSError(Exception):
    """Base class of all errors that keep a text from being spoken.

    `message` says what happened, without secrets. `status`, `code`, `request_id` and `body` (at most a few hundred
    characters) are the vendor's own; `retry_after` is in seconds, or None if no time is known. Instances can be pickled
    and copied, as exceptions that cross processes are; as for all exceptions, chained ones are not.

    - `provider`: name of the provider, None where no single one is meant.
    """

    kind: ClassVar[FailureKind] = FailureKind.UNEXPECTED
    starved: bool = False
    """Whether this process's lack of processor time is the likely cause, so that no provider is blamed."""
    shared_cause: object | None = None
    """Object that errors of several streams have in common when one broken connection carried all of them.

    The first of them counts as a failure of the provider, the others do not.
    """
    delivered: float = 0.0
    """Seconds of audio that were delivered before."""

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        body: str | None = None,
    ) -> None:
        # The message goes into logs, events and HTTP responses, and a plugin may have put anything into it.
        # Bidirectional overrides would show it as something else, and half of a surrogate pair breaks log handlers.
        # The test in front is what both begin with: nearly every message passes it.
        message = str(message)
        if not (message.isascii() and message.isprintable()):
            message = strip_invisible(escape_surrogates(message))
        super().__init__(message)
        self.message = message
        self.provider = provider
        self.status = status
        self.code = code and strip_invisible(escape_surrogates(code))
        self.request_id = request_id and strip_invisible(escape_surrogates(request_id))
        self.retry_after = retry_after
        self.body = body and escape_surrogates(body)

    @property
    def meaning(self) -> FailureMeaning:
        """Row of the failure table for this kind: blame, retry, weight in the circuit, advice."""
        return meaning_of(self.kind)

    @property
    def retryable(self) -> bool:
        """True if the same request may succeed later. This library has retried already where that made sense."""
        return self.meaning.retry is not RetryAdvice.NO or self.meaning.blame in (Blame.PROVIDER, Blame.NETWORK)

    def hide_text(self, text: str) -> None:
        """Replace what the message quotes of the caller's text: it goes into logs, states and lists of calls."""
        hidden = hide_quotations(self.message, text)
        if hidden != self.message:
            self.message, self.args = hidden, (hidden,)

    def __str__(self) -> str:
        subject = f"{self.provider}: " if self.provider else ""
        wait = f" ({hint})" if (hint := _retry_hint(self.retry_after)) else ""
        request = f" [request {self.request_id}]" if self.request_id else ""
        return f"{subject}{self.message}{wait}{request}; {self.meaning.advice}"

    def __reduce__(self) -> tuple[Any, ...]:
        # BaseException's own __reduce__ calls the class with its args alone, which loses the keyword-only fields.
        return _unpickle, (type(self), self.args), self.__dict__


def _unpickle(of: type[TTSError], args: tuple[Any, ...]) -> TTSError:
    """Rebuild an error without calling its constructor."""
    error = of.__new__(of)
    error.args = args
    return error


class TTSRequestError(TTSError):
    """Base class of errors that the caller can correct: the request, the configuration or the deadline."""

    kind = FailureKind.BAD_REQUEST


class TTSBadRequestError(TTSRequestError, ValueError):
    """Invalid request, refused by the provider or before it was sent."""

    kind = FailureKind.BAD_REQUEST


class TTSTextTooLongError(TTSRequestError):
    """Text longer than the provider's limit: `limit` characters, where the vendor names it."""

    kind = FailureKind.TEXT_TOO_LONG
    limit: int | None = None


class TTSUnsupportedFormatError(TTSRequestError, ValueError):
    """Audio format that is unknown, or that no provider has."""

    kind = FailureKind.UNSUPPORTED_FORMAT


class TTSUnsupportedScriptError(TTSRequestError, ValueError):
    """Text in a writing system that the voice cannot read."""

    kind = FailureKind.UNSUPPORTED_SCRIPT


class TTSVoiceUnknownError(TTSRequestError):
    """Voice that is not among the provider's `voices`, or whose id the vendor does not know."""

    kind = FailureKind.VOICE_UNKNOWN


class TTSModelUnknownError(TTSRequestError):
    """Model that the vendor does not serve, or no longer serves."""

    kind = FailureKind.MODEL_UNKNOWN


class TTSDeadlineError(TTSRequestError, TimeoutError):
    """Deadline of the call passed before the provider had finished."""

    kind = FailureKind.DEADLINE


class TTSCancelledError(TTSRequestError):
    """Utterance cancelled: the caller left, or the service was closed during it."""

    kind = FailureKind.CANCELLED


class TTSConfigurationError(TTSRequestError, ValueError):
    """Missing, unknown or impossible setting. The message begins with the setting's full path."""

    kind = FailureKind.MISCONFIGURED


class TTSCredentialError(TTSError):
    """Base class of errors of the vendor's account: key, credit or plan."""

    kind = FailureKind.INVALID_KEY


class TTSInvalidKeyError(TTSCredentialError):
    """API key that the vendor does not accept."""

    kind = FailureKind.INVALID_KEY


class TTSQuotaExceededError(TTSCredentialError):
    """Account without enough credit left."""

    kind = FailureKind.QUOTA_EXCEEDED


class TTSAccountFlaggedError(TTSCredentialError):
    """Account that the vendor suspects of abuse."""

    kind = FailureKind.ACCOUNT_FLAGGED


class TTSPlanRequiredError(TTSCredentialError):
    """Voice or format that the account's plan does not include."""

    kind = FailureKind.PLAN_REQUIRED


class TTSProviderError(TTSError):
    """Base class of failures of the vendor, the network or a local engine."""


class TTSServerError(TTSProviderError):
    """Failure of the vendor's server."""

    kind = FailureKind.SERVER_ERROR


class TTSRefusedError(TTSProviderError):
    """Refusal by the vendor with a status that blames neither the request nor the voice nor the key."""

    kind = FailureKind.REFUSED


class TTSBlockedError(TTSProviderError):
    """Refusal by a firewall or bot protection in front of the vendor."""

    kind = FailureKind.BLOCKED


class TTSBusyError(TTSProviderError):
    """Rate limit or high load at the vendor: fewer requests are wanted."""

    kind = FailureKind.BUSY


class TTSConcurrencyError(TTSProviderError):
    """Concurrency limit of the account exceeded."""

    kind = FailureKind.CONCURRENCY


class TTSConnectError(TTSProviderError, ConnectionError):
    """Connection failure: refused, unreachable, unknown host or failed TLS handshake."""

    kind = FailureKind.CONNECT_FAILED


class TTSStaleConnectionError(TTSProviderError, ConnectionError):
    """Broken keep-alive connection: the vendor may have closed it before this request was sent on it."""

    kind = FailureKind.STALE_CONNECTION


class TTSNoAnswerError(TTSProviderError, ConnectionError):
    """Connection closed by the vendor after the request, without a response."""

    kind = FailureKind.NO_ANSWER


class TTSTimeoutError(TTSProviderError, TimeoutError):
    """Base class of timeouts while waiting for a provider."""

    kind = FailureKind.READ_TIMEOUT


class TTSConnectTimeoutError(TTSTimeoutError):
    """Connecting took longer than `connection_timeout`."""

    kind = FailureKind.CONNECT_TIMEOUT


class TTSReadTimeoutError(TTSTimeoutError):
    """No decodable audio within `read_timeout` (or `first_audio_timeout`)."""

    kind = FailureKind.READ_TIMEOUT


class TTSStalledError(TTSTimeoutError):
    """No further audio for `stall_timeout` after the first."""

    kind = FailureKind.STALLED


class TTSTooSlowError(TTSTimeoutError):
    """Audio slower than real time for `slow_timeout`, with nothing left to play."""

    kind = FailureKind.TOO_SLOW


class TTSAbandonedInSilenceError(TTSTimeoutError):
    """Provider overdue when its caller left, or when the call's own deadline passed."""

    kind = FailureKind.ABANDONED_IN_SILENCE


class TTSTotalTimeoutError(TTSTimeoutError):
    """Utterance longer than `total_timeout` plus the seconds of audio delivered so far."""

    kind = FailureKind.TOTAL_TIMEOUT


class TTSNotSpeechError(TTSProviderError):
    """Base class of successful responses that are not the speech asked for."""

    kind = FailureKind.NOT_AUDIO


class TTSEmptyAudioError(TTSNotSpeechError):
    """Successful response without a byte of audio."""

    kind = FailureKind.EMPTY_AUDIO


class TTSNotAudioError(TTSNotSpeechError):
    """Successful response that is JSON, HTML or noise instead of audio."""

    kind = FailureKind.NOT_AUDIO


class TTSCutError(TTSNotSpeechError):
    """Connection that broke before the end of the audio."""

    kind = FailureKind.CUT


class TTSTooShortError(TTSNotSpeechError):
    """Audio that ends properly, but is too short for its text."""

    kind = FailureKind.TOO_SHORT
    estimated: bool = False
    """Whether the length alone is the reason. That is enough to fail over, but has weight 0 in the circuit."""

    @property
    def meaning(self) -> FailureMeaning:
        """Row of the failure table, with weight 0 in the circuit if the length is only an estimate."""
        meaning = super().meaning
        return replace(meaning, circuit_weight=0.0) if self.estimated else meaning


class TTSTooLongError(TTSNotSpeechError):
    """Audio that goes on long after the text must be over."""

    kind = FailureKind.TOO_LONG


class TTSSilentAudioError(TTSNotSpeechError):
    """Silent audio for a text that has words."""

    kind = FailureKind.SILENT_AUDIO


class TTSWrongFormatError(TTSNotSpeechError):
    """Audio in another container, sample rate or number of channels than asked for."""

    kind = FailureKind.WRONG_FORMAT


class TTSSocketError(TTSProviderError):
    """Base class of failures that only websockets have."""

    kind = FailureKind.SOCKET_DROPPED


class TTSFinalWithoutAudioError(TTSSocketError):
    """Final message of a websocket without any audio before it."""

    kind = FailureKind.FINAL_WITHOUT_AUDIO


class TTSSocketIdleError(TTSSocketError):
    """Websocket closed by the vendor because it was left idle."""

    kind = FailureKind.SOCKET_IDLE


class TTSSocketRestartedError(TTSSocketError):
    """Websocket closed because the vendor's server restarts."""

    kind = FailureKind.SOCKET_RESTARTED


class TTSSocketDroppedError(TTSSocketError):
    """Websocket lost without a close frame."""

    kind = FailureKind.SOCKET_DROPPED


class TTSLocalCrashError(TTSProviderError):
    """Crash of a local voice's child process."""

    kind = FailureKind.LOCAL_CRASH


class TTSUnexpectedError(TTSProviderError):
    """Exception that is not a TTSError; it is chained as the cause."""

    kind = FailureKind.UNEXPECTED


class TTSOverloadedError(TTSError):
    """Overload of this process: the request was refused, or could not be served in time.

    No provider is to blame. `retry_after` is the number of seconds after which a retry is worthwhile.
    """

    kind = FailureKind.OVERLOADED


class TTSHoldError(TTSError):
    """Credential, voice or model on hold until a time."""

    kind = FailureKind.ON_HOLD


class TTSHedgedError(TTSError):
    """Hedged attempt that lost: another provider answered the same request first."""

    kind = FailureKind.HEDGED


class TTSAllProvidersFailedError(TTSError):
    """All providers failed. `causes` holds the last error of each provider that was tried or skipped."""

    def __init__(self, causes: Sequence[TTSError]) -> None:
        details = "; ".join(_summary(cause) for cause in causes)
        super().__init__(f"no provider could speak: {details or _NO_PROVIDER_LEFT}")
        self.causes = tuple(causes)
        waits = [cause.retry_after for cause in causes if cause.retry_after is not None]
        self.retry_after = min(waits, default=None)
        self.code = causes[0].code if causes else None

    @property
    def kind(self) -> FailureKind:  # type: ignore[override]
        """Kind of the first cause: that of the provider which the caller prefers."""
        return self.causes[0].kind if self.causes else FailureKind.MISCONFIGURED

    def __str__(self) -> str:
        return self.message


class TTSStreamInterruptedError(TTSAllProvidersFailedError):
    """Utterance of which only a part could be delivered. `delivered` is in seconds of audio.

    - `causes`: errors of all providers.
    """

    def __init__(self, causes: Sequence[TTSError], *, delivered: float) -> None:
        super().__init__(causes)
        self.delivered = delivered
        self.message = f"stream interrupted after {delivered:.1f} s of audio: {self.message}"
        self.args = (self.message,)


def copy_without_traceback(error: E) -> E:
    """Copy an error for a record: the same class, attributes and cause, without its traceback.

    A traceback holds the local variables of every frame that it names, and with them everything that the request had
    opened. The error that is raised belongs to its caller; records keep this copy. An exception of another library that
    cannot be copied is returned as it is.
    """
    try:
        copied = copy(error)
    except Exception:  # its constructor wants more than its `args`
        return error
    copied.__cause__ = error.__cause__
    return copied


def drop_tracebacks(error: Exception) -> Exception:
    """Remove the tracebacks of an error and of all errors chained to it, and return it.

    For an error that outlives its request: the frames of a traceback keep everything alive that they refer to.
    """
    chain: list[BaseException] = [error]
    visited: set[int] = set()
    while chain:
        each = chain.pop()
        if id(each) not in visited:
            visited.add(id(each))
            each.__traceback__ = None
            chain += [other for other in (each.__cause__, each.__context__) if other is not None]
            if isinstance(each, TTSAllProvidersFailedError):
                chain += each.causes
            elif isinstance(each, BaseExceptionGroup):
                chain += each.exceptions
    return error


_NO_PROVIDER_LEFT = "none is left to try: add one that works without a network, such as Tone(), as the last"


def _summary(error: TTSError) -> str:
    wait = f", {hint}" if (hint := _retry_hint(error.retry_after)) else ""
    request = f", request {error.request_id}" if error.request_id else ""
    return f"{error.provider or 'steadyvoice'} ({error.message}{wait}{request}; {error.meaning.advice})"


def _retry_hint(seconds: float | None) -> str:
    # Rounded up, because a retry a moment too early is refused once more.
    return f"try again in {ceil(seconds)} s" if seconds and isfinite(seconds) else ""
