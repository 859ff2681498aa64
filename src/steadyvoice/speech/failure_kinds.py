"""Kinds of failure, and one table with the meaning of each: blame, retry, weight in the circuit, failover, billing, hold.

Adapters turn a vendor's response into a kind. All reactions are looked up in this table, never in a status code.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class FailureKind(Enum):
    """Kind of failure; the value is its name in logs, metrics and error states."""

    CANCELLED = "cancelled"
    HEDGED = "hedged"
    DEADLINE = "deadline"
    ABANDONED_IN_SILENCE = "abandoned_in_silence"
    BAD_REQUEST = "bad_request"
    TEXT_TOO_LONG = "text_too_long"
    UNSUPPORTED_FORMAT = "unsupported_format"
    UNSUPPORTED_SCRIPT = "unsupported_script"
    VOICE_UNKNOWN = "voice_unknown"
    PLAN_REQUIRED = "plan_required"
    MODEL_UNKNOWN = "model_unknown"
    INVALID_KEY = "invalid_key"
    QUOTA_EXCEEDED = "quota_exceeded"
    ACCOUNT_FLAGGED = "account_flagged"
    CONCURRENCY = "concurrency"
    BUSY = "busy"
    SERVER_ERROR = "server_error"
    REFUSED = "refused"
    BLOCKED = "blocked"
    CONNECT_FAILED = "connect_failed"
    CONNECT_TIMEOUT = "connect_timeout"
    STALE_CONNECTION = "stale_connection"
    NO_ANSWER = "no_answer"
    READ_TIMEOUT = "read_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    STALLED = "stalled"
    TOO_SLOW = "too_slow"
    CUT = "cut"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    SILENT_AUDIO = "silent_audio"
    WRONG_FORMAT = "wrong_format"
    EMPTY_AUDIO = "empty_audio"
    NOT_AUDIO = "not_audio"
    FINAL_WITHOUT_AUDIO = "final_without_audio"
    SOCKET_IDLE = "socket_idle"
    SOCKET_RESTARTED = "socket_restarted"
    SOCKET_DROPPED = "socket_dropped"
    LOCAL_CRASH = "local_crash"
    OVERLOADED = "overloaded"
    CIRCUIT_OPEN = "circuit_open"
    ON_HOLD = "on_hold"
    MISCONFIGURED = "misconfigured"
    UNEXPECTED = "unexpected"


class Blame(Enum):
    """Party at fault."""

    CALLER = "caller"
    PROVIDER = "provider"
    NETWORK = "network"
    CREDENTIAL = "credential"
    US = "us"


class RetryAdvice(Enum):
    """Whether the same provider may be sent the same request again.

    A request that may have been billed goes to another provider first, whatever this says.
    """

    NO = "no"
    NOW = "now"  # at once, on a new connection
    AFTER = "after"  # after a backoff, or when the vendor says
    LAST = "last"  # after a backoff, and only when no other provider is left: the account's limit is reached


class FailureScope(Enum):
    """Extent of a failure: this request, a voice or model, the provider, or the credential."""

    REQUEST = "request"
    VOICE = "voice"
    MODEL = "model"
    PROVIDER = "provider"
    CREDENTIAL = "credential"


class Billed(Enum):
    """Whether the vendor may have charged for the attempt."""

    NO = "no"
    UNKNOWN = "unknown"
    YES = "yes"


@dataclass(frozen=True, slots=True)
class FailureMeaning:
    """Row of the table: reaction to one kind of failure.

    `circuit_weight` is the weight in the circuit's failure rate, from 0 (ignored) to 1. `hold` is in seconds: how long the
    credential, voice or model of `scope` is set aside; None for none.
    """

    blame: Blame
    retry: RetryAdvice
    circuit_weight: float
    scope: FailureScope
    fail_over: bool
    billed: Billed
    hold: float | None
    advice: str


def meaning_of(kind: FailureKind) -> FailureMeaning:
    """Return the row of a kind."""
    return FAILURE_TABLE[kind]


_MINUTE, _HOUR = 60.0, 3600.0


def _table() -> dict[FailureKind, FailureMeaning]:
    caller, provider, network, credential, us = Blame
    no, now, after, last = RetryAdvice
    request, voice, model, whole, key = FailureScope
    unbilled, unknown, billed = Billed
    k = FailureKind
    # fmt: off
    rows = {
        #                       blame       retry  counts scope    fail over  billed  hold, s       what to do next
        k.CANCELLED:           (caller,     no,    0.0, request, False, unknown,  None,         "nothing to do: the caller left"),
        k.HEDGED:              (us,         no,    0.0, request, True,  unknown,  None,         "nothing to do: another provider answered first"),
        k.DEADLINE:            (caller,     no,    0.0, request, True,  unknown,  None,         "allow more time: the call's deadline was shorter than the provider needed"),
        k.ABANDONED_IN_SILENCE: (provider,  no,    0.5, whole,   True,  unknown,  None,         "wait, or add a faster provider: this one had sent nothing for longer than usual when its caller left"),
        k.BAD_REQUEST:         (caller,     no,    0.0, request, False, unbilled, None,         "correct the request"),
        k.TEXT_TOO_LONG:       (caller,     no,    0.0, request, True,  unbilled, None,         "split the text at sentences"),
        k.UNSUPPORTED_FORMAT:  (caller,     no,    0.0, request, True,  unbilled, None,         "request another audio format"),
        k.UNSUPPORTED_SCRIPT:  (caller,     no,    0.0, request, True,  unbilled, None,         "name the `language`, choose a voice or model that reads it, or add a provider that does"),
        k.VOICE_UNKNOWN:       (caller,     no,    0.0, voice,   True,  unbilled, 10 * _MINUTE, "check the voice id in the provider's `voices`"),
        k.PLAN_REQUIRED:       (credential, no,    0.0, voice,   True,  unbilled, _HOUR,        "choose a voice or format that the plan includes, or upgrade the plan"),
        k.MODEL_UNKNOWN:       (caller,     no,    0.0, model,   True,  unbilled, _HOUR,        "set the provider's `model` to one it still serves"),
        k.INVALID_KEY:         (credential, no,    0.0, key,     True,  unbilled, 10 * _MINUTE, "check the API key"),
        k.QUOTA_EXCEEDED:      (credential, no,    0.0, key,     True,  unbilled, 15 * _MINUTE, "buy credit or wait for the reset"),
        k.ACCOUNT_FLAGGED:     (credential, no,    0.0, key,     True,  unbilled, _HOUR,        "use a paid plan or another network: retrying makes it worse"),
        k.CONCURRENCY:         (us,         last,  0.0, request, True,  unbilled, None,         "send fewer requests at once"),
        k.BUSY:                (provider,   after, 0.5, whole,   True,  unbilled, None,         "wait: the vendor asks for fewer requests"),
        k.SERVER_ERROR:        (provider,   after, 1.0, whole,   True,  unbilled, None,         "wait, and look at the vendor's status page"),
        k.REFUSED:             (provider,   no,    0.5, whole,   True,  unbilled, None,         "read the vendor's message: the reason of its refusal is unknown"),
        k.BLOCKED:             (network,    no,    1.0, whole,   True,  unbilled, None,         "use another network, or ask the vendor to allow this one: a firewall or bot protection blocks it, whatever the key"),
        k.CONNECT_FAILED:      (network,    now,   1.0, whole,   True,  unbilled, None,         "check the network and `base_url`"),
        k.CONNECT_TIMEOUT:     (network,    now,   1.0, whole,   True,  unbilled, None,         "check the network, or raise `connection_timeout`"),
        k.STALE_CONNECTION:    (network,    now,   0.0, request, True,  unknown,  None,         "nothing to do: the kept-alive connection was closed while idle"),
        k.NO_ANSWER:           (provider,   after, 1.0, whole,   True,  unknown,  None,         "wait: the vendor took the request and closed the connection"),
        k.READ_TIMEOUT:        (provider,   after, 1.0, whole,   True,  unknown,  None,         "wait, or raise `read_timeout`"),
        k.TOTAL_TIMEOUT:       (provider,   after, 1.0, whole,   True,  unknown,  None,         "wait, or raise `total_timeout`"),
        k.STALLED:             (provider,   after, 1.0, whole,   True,  billed,   None,         "wait, or raise `stall_timeout`"),
        k.TOO_SLOW:            (provider,   after, 1.0, whole,   True,  billed,   None,         "wait, or raise `slow_timeout`"),
        k.CUT:                 (provider,   after, 1.0, whole,   True,  billed,   None,         "wait: the vendor closed the connection before the end"),
        k.TOO_SHORT:           (provider,   after, 1.0, whole,   True,  billed,   None,         "listen to the audio: it is too short for the text"),
        k.TOO_LONG:            (provider,   after, 1.0, whole,   True,  billed,   None,         "listen to the audio: it is too long for the text"),
        k.SILENT_AUDIO:        (provider,   after, 1.0, whole,   True,  billed,   None,         "wait: the vendor sent silent audio for a text"),
        k.WRONG_FORMAT:        (provider,   after, 1.0, whole,   True,  billed,   None,         "check which formats the provider really sends"),
        k.EMPTY_AUDIO:         (provider,   after, 1.0, whole,   True,  unknown,  None,         "wait: the vendor sent a response without audio"),
        k.NOT_AUDIO:           (provider,   after, 1.0, whole,   True,  unknown,  None,         "check `base_url`: the response is not audio"),
        k.FINAL_WITHOUT_AUDIO: (provider,   after, 1.0, whole,   True,  unknown,  None,         "check the account's credit"),
        k.SOCKET_IDLE:         (us,         now,   0.0, request, False, unbilled, None,         "report this bug: the connection was left idle"),
        k.SOCKET_RESTARTED:    (provider,   now,   0.0, whole,   True,  unknown,  5.0,          "nothing to do: the vendor's server restarts"),
        k.SOCKET_DROPPED:      (network,    now,   1.0, whole,   True,  unknown,  None,         "check the network"),
        k.LOCAL_CRASH:         (us,         now,   1.0, whole,   True,  unbilled, None,         "report this bug: the process of the local voice died"),
        k.OVERLOADED:          (us,         no,    0.0, request, False, unbilled, None,         "try again later, send fewer requests at once, or add processes (`workers`)"),
        k.CIRCUIT_OPEN:        (provider,   no,    0.0, whole,   True,  unbilled, None,         "wait for the circuit's next probe"),
        k.ON_HOLD:             (credential, no,    0.0, key,     True,  unbilled, None,         "see the holds in the error state"),
        k.MISCONFIGURED:       (caller,     no,    0.0, request, False, unbilled, None,         "correct the configuration"),
        k.UNEXPECTED:          (provider,   after, 1.0, whole,   True,  unknown,  None,         "see the chained exception: its type is not classified"),
    }
    # fmt: on
    return {kind: FailureMeaning(*row) for kind, row in rows.items()}


FAILURE_TABLE = _table()
