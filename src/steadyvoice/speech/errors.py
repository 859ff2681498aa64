"""Errors for people: what happened, whose fault it is, what to do next. One class per kind of failure.

Raise the leaves. A family raised as itself (`TTSTimeoutError("...")`) is taken for the plainest of its members.

TTSError
├── TTSRequestError          the caller's to mend
│   ├── TTSBadRequestError  TTSTextTooLongError  TTSUnsupportedFormatError
│   ├── TTSUnsupportedScriptError  TTSVoiceUnknownError  TTSModelUnknownError
│   ├── TTSDeadlineError  TTSCancelledError
│   └── TTSConfigurationError
├── TTSCredentialError       the account's
│   ├── TTSInvalidKeyError  TTSQuotaExceededError
│   └── TTSAccountFlaggedError  TTSPlanRequiredError
├── TTSProviderError         the vendor's, the network's, or an engine's
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
├── TTSOverloadedError       this process has more to do than it can
├── TTSHoldError             a credential, voice or model is set aside until a time
├── TTSHedgedError           two were asked, and the other one was heard first
├── TTSStreamInterruptedError  some was heard, the rest was not
├── TTSAllProvidersFailedError
└── TTSCircuitOpenError      (in the service, for it is a CircuitOpenError too)
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from math import ceil, isfinite
from typing import Any, ClassVar, TypeVar

from steadyvoice.speech.failure_kinds import FailureKind, FailureMeaning, meaning_of
from steadyvoice.speech.text import escape_surrogates, strip_invisible

E = TypeVar("E", bound=Exception)


class TTSError(Exception):
    """Anything that keeps a text from being spoken.

    `message` says what happened, without secrets. `status`, `request_id` and `body` (at most a few hundred
    characters) are the vendor's own; `retry_after` is in seconds, where somebody named a time. They may be pickled
    and copied, as exceptions that cross processes are; what is chained to them stays behind, as ever.
    """

    kind: ClassVar[FailureKind] = FailureKind.UNEXPECTED
    starved: bool = False
    """Whether our own lack of processor time is the likely reason, so that it counts against no provider."""

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
        # It goes into logs, events and answers, and a plug-in may have said anything.
        message = strip_invisible(escape_surrogates(str(message)))
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
        """Whose fault it is and what may be done about it."""
        return meaning_of(self.kind)

    def __str__(self) -> str:
        subject = f"{self.provider}: " if self.provider else ""
        wait = f" ({again})" if (again := _retry_hint(self.retry_after)) else ""
        request = f" [request {self.request_id}]" if self.request_id else ""
        return f"{subject}{self.message}{wait}{request}; {self.meaning.advice}"

    def __reduce__(self) -> tuple[Any, ...]:
        # The way of BaseException calls the class with its args alone, which the keyword-only fields do not survive.
        return _unpickle, (type(self), self.args), self.__dict__


def _unpickle(of: type[TTSError], args: tuple[Any, ...]) -> TTSError:
    """Make an error as it was, without asking its constructor again."""
    error = of.__new__(of)
    error.args = args
    return error


class TTSRequestError(TTSError):
    """The caller's to mend."""

    kind = FailureKind.BAD_REQUEST


class TTSBadRequestError(TTSRequestError, ValueError):
    """The request makes no sense to the provider, or to us."""

    kind = FailureKind.BAD_REQUEST


class TTSTextTooLongError(TTSRequestError):
    """The text is over the provider's limit: `limit` characters, where the vendor names it."""

    kind = FailureKind.TEXT_TOO_LONG
    limit: int | None = None


class TTSUnsupportedFormatError(TTSRequestError, ValueError):
    """Nobody here knows this audio format."""

    kind = FailureKind.UNSUPPORTED_FORMAT


class TTSUnsupportedScriptError(TTSRequestError, ValueError):
    """The text is in letters that the voice cannot read."""

    kind = FailureKind.UNSUPPORTED_SCRIPT


class TTSVoiceUnknownError(TTSRequestError):
    """The voice is not in the provider's map, or the vendor does not know the id."""

    kind = FailureKind.VOICE_UNKNOWN


class TTSModelUnknownError(TTSRequestError):
    """The vendor does not serve this model, or no longer."""

    kind = FailureKind.MODEL_UNKNOWN


class TTSDeadlineError(TTSRequestError, TimeoutError):
    """The call's own deadline came before the provider was through."""

    kind = FailureKind.DEADLINE


class TTSCancelledError(TTSRequestError):
    """Nobody wanted to hear the rest: the service was closed while it spoke."""

    kind = FailureKind.CANCELLED


class TTSConfigurationError(TTSRequestError, ValueError):
    """A setting is missing, unknown or impossible. The message begins with the setting's full path."""

    kind = FailureKind.MISCONFIGURED


class TTSCredentialError(TTSError):
    """The account's to mend."""

    kind = FailureKind.INVALID_KEY


class TTSInvalidKeyError(TTSCredentialError):
    """The vendor does not accept the API key."""

    kind = FailureKind.INVALID_KEY


class TTSQuotaExceededError(TTSCredentialError):
    """The account is out of credit."""

    kind = FailureKind.QUOTA_EXCEEDED


class TTSAccountFlaggedError(TTSCredentialError):
    """The vendor suspects abuse."""

    kind = FailureKind.ACCOUNT_FLAGGED


class TTSPlanRequiredError(TTSCredentialError):
    """The voice or format needs a larger plan."""

    kind = FailureKind.PLAN_REQUIRED


class TTSProviderError(TTSError):
    """The vendor's, the network's or an engine's fault."""


class TTSServerError(TTSProviderError):
    """The vendor's server failed."""

    kind = FailureKind.SERVER_ERROR


class TTSRefusedError(TTSProviderError):
    """The vendor refused with a status that says nothing of the request, the voice or the key."""

    kind = FailureKind.REFUSED


class TTSBlockedError(TTSProviderError):
    """A firewall or bot protection in front of the vendor refused, before the vendor saw the request."""

    kind = FailureKind.BLOCKED


class TTSBusyError(TTSProviderError):
    """The vendor asks for fewer requests."""

    kind = FailureKind.BUSY


class TTSConcurrencyError(TTSProviderError):
    """More requests at once than the account allows."""

    kind = FailureKind.CONCURRENCY


class TTSConnectError(TTSProviderError, ConnectionError):
    """No connection: refused, unreachable, unknown host or failed TLS."""

    kind = FailureKind.CONNECT_FAILED


class TTSStaleConnectionError(TTSProviderError, ConnectionError):
    """A connection kept from an earlier request broke with this one on it; perhaps the vendor had closed it before."""

    kind = FailureKind.STALE_CONNECTION


class TTSNoAnswerError(TTSProviderError, ConnectionError):
    """The vendor took the request and hung up without a word."""

    kind = FailureKind.NO_ANSWER


class TTSTimeoutError(TTSProviderError, TimeoutError):
    """The provider took too long."""

    kind = FailureKind.READ_TIMEOUT


class TTSConnectTimeoutError(TTSTimeoutError):
    """No connection within `connection_timeout`."""

    kind = FailureKind.CONNECT_TIMEOUT


class TTSReadTimeoutError(TTSTimeoutError):
    """No decodable audio within `read_timeout` (or `first_audio_timeout`)."""

    kind = FailureKind.READ_TIMEOUT


class TTSStalledError(TTSTimeoutError):
    """Audio came, and then nothing for `stall_timeout`."""

    kind = FailureKind.STALLED


class TTSTooSlowError(TTSTimeoutError):
    """Audio comes slower than it is played, and the listener has nothing left to play."""

    kind = FailureKind.TOO_SLOW


class TTSAbandonedInSilenceError(TTSTimeoutError):
    """The provider was overdue when its caller left, or when the call's own deadline came."""

    kind = FailureKind.ABANDONED_IN_SILENCE


class TTSTotalTimeoutError(TTSTimeoutError):
    """The whole took longer than `total_timeout` and the audio delivered so far."""

    kind = FailureKind.TOTAL_TIMEOUT


class TTSNotSpeechError(TTSProviderError):
    """The vendor said yes, but what it sent is not the speech it was asked for."""

    kind = FailureKind.NOT_AUDIO


class TTSEmptyAudioError(TTSNotSpeechError):
    """A success without a byte of audio."""

    kind = FailureKind.EMPTY_AUDIO


class TTSNotAudioError(TTSNotSpeechError):
    """A success that is JSON, HTML or noise."""

    kind = FailureKind.NOT_AUDIO


class TTSCutError(TTSNotSpeechError):
    """The connection broke before the end."""

    kind = FailureKind.CUT


class TTSTooShortError(TTSNotSpeechError):
    """A clean end, long before the text can be over."""

    kind = FailureKind.TOO_SHORT
    estimated: bool = False
    """Whether only its length speaks against the answer. That is a reason to ask somebody else, and no evidence: it
    counts nothing in the circuit.
    """

    @property
    def meaning(self) -> FailureMeaning:
        """As the table has it, without a weight where it is only an estimate."""
        meaning = super().meaning
        return replace(meaning, counts=0.0) if self.estimated else meaning


class TTSTooLongError(TTSNotSpeechError):
    """Audio without an end."""

    kind = FailureKind.TOO_LONG


class TTSSilentAudioError(TTSNotSpeechError):
    """Audio in which nothing is to be heard, for a text that has words."""

    kind = FailureKind.SILENT_AUDIO


class TTSWrongFormatError(TTSNotSpeechError):
    """Audio, but not as promised: another container, sample rate or number of channels."""

    kind = FailureKind.WRONG_FORMAT


class TTSSocketError(TTSProviderError):
    """A websocket ended in one of its own ways."""

    kind = FailureKind.SOCKET_DROPPED


class TTSFinalWithoutAudioError(TTSSocketError):
    """The last message came without any audio before it."""

    kind = FailureKind.FINAL_WITHOUT_AUDIO


class TTSSocketIdleError(TTSSocketError):
    """The vendor closed a connection that we left idle."""

    kind = FailureKind.SOCKET_IDLE


class TTSSocketRestartedError(TTSSocketError):
    """The vendor's server restarts."""

    kind = FailureKind.SOCKET_RESTARTED


class TTSSocketDroppedError(TTSSocketError):
    """The connection vanished without a goodbye."""

    kind = FailureKind.SOCKET_DROPPED


class TTSLocalCrashError(TTSProviderError):
    """The child process of a local voice died."""

    kind = FailureKind.LOCAL_CRASH


class TTSUnexpectedError(TTSProviderError):
    """The call raised something that is not a TTSError; it is chained as the cause."""

    kind = FailureKind.UNEXPECTED


class TTSOverloadedError(TTSError):
    """This process has more to do than it can: the request was refused, or could not be served in time.

    Nothing is wrong with any provider. `retry_after` tells in how many seconds it is worth another try.
    """

    kind = FailureKind.OVERLOADED


class TTSHoldError(TTSError):
    """A credential, voice or model is set aside until a time."""

    kind = FailureKind.ON_HOLD


class TTSHedgedError(TTSError):
    """Two were asked for the same words, and the other one was heard first."""

    kind = FailureKind.HEDGED


class TTSAllProvidersFailedError(TTSError):
    """Nobody could speak. `causes` holds the last error of each provider that was asked or passed over."""

    def __init__(self, causes: Sequence[TTSError]) -> None:
        said = "; ".join(_summary(cause) for cause in causes)
        super().__init__(f"no provider could speak: {said or _NO_PROVIDER_LEFT}")
        self.causes = tuple(causes)
        waits = [cause.retry_after for cause in causes if cause.retry_after is not None]
        self.retry_after = min(waits, default=None)
        self.code = causes[0].code if causes else None

    # The kind of a summary is that of its first cause: the provider the caller would rather have heard.
    @property
    def kind(self) -> FailureKind:  # type: ignore[override]
        return self.causes[0].kind if self.causes else FailureKind.MISCONFIGURED

    def __str__(self) -> str:
        return self.message


class TTSStreamInterruptedError(TTSAllProvidersFailedError):
    """Some of the utterance was delivered; the rest could not be. `delivered` is in seconds of audio."""

    def __init__(self, causes: Sequence[TTSError], *, delivered: float) -> None:
        super().__init__(causes)
        self.delivered = delivered
        self.message = f"the voice broke off after {delivered:.1f} s of audio: {self.message}"
        self.args = (self.message,)


def copy_without_traceback(error: E) -> E:
    """Copy an error for a record: the same class, facts and cause, without its traceback.

    A traceback holds the local variables of every frame that it names, and with them whatever the request had opened.
    The error that is raised belongs to its caller; what an account keeps is this. An exception of somebody else's that
    cannot be copied is recorded as it is.
    """
    try:
        copied = copy(error)
    except Exception:  # its constructor wants more than its `args`
        return error
    copied.__cause__ = error.__cause__
    return copied


def drop_tracebacks(error: Exception) -> Exception:
    """Drop the tracebacks of an error and of all that is chained to it, and return it.

    For an error that outlives its request: the frames of a traceback keep everything alive that they ever touched.
    """
    chain: list[BaseException] = [error]
    seen: set[int] = set()
    while chain:
        each = chain.pop()
        if id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            chain += [other for other in (each.__cause__, each.__context__) if other is not None]
            if isinstance(each, TTSAllProvidersFailedError):
                chain += each.causes
            elif isinstance(each, BaseExceptionGroup):
                chain += each.exceptions
    return error


_NO_PROVIDER_LEFT = "there is none left to ask: name one that speaks without a network, such as Tone(), as the last"


def _summary(error: TTSError) -> str:
    wait = f", {again}" if (again := _retry_hint(error.retry_after)) else ""
    request = f", request {error.request_id}" if error.request_id else ""
    return f"{error.provider or 'steadyvoice'} ({error.message}{wait}{request}; {error.meaning.advice})"


def _retry_hint(seconds: float | None) -> str:
    # Rounded up: who comes back a moment too early is refused once more.
    return f"again in {ceil(seconds)} s" if seconds and isfinite(seconds) else ""
