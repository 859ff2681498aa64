"""Errors: messages, pickling, and one class and one row of the table for each kind of failure."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator

import pytest

from steadyvoice.speech import errors
from steadyvoice.speech.errors import (
    TTSAllProvidersFailedError,
    TTSBusyError,
    TTSConnectError,
    TTSDeadlineError,
    TTSError,
    TTSInvalidKeyError,
    TTSProviderError,
    TTSServerError,
    TTSStreamInterruptedError,
)
from steadyvoice.speech.failure_kinds import (
    FAILURE_TABLE,
    Billed,
    Blame,
    FailureKind,
    FailureScope,
    RetryAdvice,
    meaning_of,
)


def family(parent: type[TTSError]) -> Iterator[type[TTSError]]:
    """Return the classes of errors.py below one, itself included, except for summaries, whose kind is their causes'."""
    if parent.__module__ == errors.__name__ and not issubclass(parent, TTSAllProvidersFailedError):
        yield parent
        for child in parent.__subclasses__():
            yield from family(child)


ALL = list(family(TTSError))
LEAVES = [cls for cls in ALL if len(list(family(cls))) == 1]
SUMMARIES = [
    TTSAllProvidersFailedError([]),
    TTSAllProvidersFailedError([TTSBusyError("429", provider="a", retry_after=2.0), TTSServerError("500")]),
    TTSStreamInterruptedError([TTSServerError("gone", provider="a")], delivered=2.5),
]
FULL = TTSServerError(
    "the server failed",
    provider="elevenlabs",
    status=503,
    code="system_down",
    request_id="r-1",
    retry_after=12.0,
    body="<html>",
)


def test_each_kind_of_failure_has_one_class_of_error() -> None:
    without = {FailureKind.CIRCUIT_OPEN}  # its error is a CircuitOpenError too: it lives above
    assert sorted(cls.kind.value for cls in LEAVES) == sorted(kind.value for kind in set(FailureKind) - without)


@pytest.mark.parametrize("cls", [cls for cls in ALL if cls not in LEAVES], ids=lambda cls: cls.__name__)
def test_base_class_has_the_kind_of_one_of_its_leaves(cls: type[TTSError]) -> None:
    assert cls("told too little").kind in [member.kind for member in family(cls) if member in LEAVES]


def test_each_kind_has_a_complete_row() -> None:
    assert set(FAILURE_TABLE) == set(FailureKind)
    for meaning in FAILURE_TABLE.values():
        assert isinstance(meaning.blame, Blame)
        assert isinstance(meaning.retry, RetryAdvice)
        assert isinstance(meaning.scope, FailureScope)
        assert isinstance(meaning.billed, Billed)
        assert 0.0 <= meaning.circuit_weight <= 1.0
        assert meaning.hold is None or meaning.hold > 0


@pytest.mark.parametrize("kind", FailureKind)
def test_advice_is_a_clause_that_can_end_a_sentence(kind: FailureKind) -> None:
    advice = meaning_of(kind).advice
    assert len(advice) > 5
    assert advice[0].islower()
    assert ";" not in advice  # it is what parts the advice from the message
    assert not advice.endswith(".")


@pytest.mark.parametrize("kind", FailureKind)
def test_only_failures_of_provider_or_network_count_in_the_circuit(kind: FailureKind) -> None:
    meaning = meaning_of(kind)
    if meaning.circuit_weight:
        assert meaning.scope is FailureScope.PROVIDER
    if meaning.blame in (Blame.CALLER, Blame.CREDENTIAL):
        assert (meaning.circuit_weight, meaning.retry) == (0.0, RetryAdvice.NO)


@pytest.mark.parametrize("kind", FailureKind)
def test_billed_failure_is_not_retried_at_once_at_the_same_provider(kind: FailureKind) -> None:
    if meaning_of(kind).billed is Billed.YES:
        assert meaning_of(kind).retry in (RetryAdvice.AFTER, RetryAdvice.NO)


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_error_message_has_cause_provider_and_action(cls: type[TTSError]) -> None:
    message = str(cls("it broke", provider="elevenlabs"))
    assert message == f"elevenlabs: it broke; {meaning_of(cls.kind).advice}"


@pytest.mark.parametrize("error", SUMMARIES, ids=lambda error: type(error).__name__)
def test_summary_lists_an_action_for_each_cause(error: TTSAllProvidersFailedError) -> None:
    for cause in error.causes:
        assert cause.message in str(error)
        assert cause.meaning.advice in str(error)


def test_summary_without_causes_suggests_a_provider() -> None:
    assert "add one that works without a network" in str(TTSAllProvidersFailedError([]))
    assert TTSAllProvidersFailedError([]).kind is FailureKind.MISCONFIGURED


def test_summary_reads_like_a_sentence() -> None:
    key = TTSInvalidKeyError("401 invalid key", provider="openai", request_id="r-9")
    busy = TTSBusyError("429 busy", provider="elevenlabs", retry_after=11.2)
    assert str(TTSAllProvidersFailedError([busy, key])) == (
        "no provider could speak: "
        "elevenlabs (429 busy, try again in 12 s; wait: the vendor asks for fewer requests); "
        "openai (401 invalid key, request r-9; check the API key)"
    )


def test_summary_has_the_kind_of_the_first_cause_and_the_earliest_retry() -> None:
    summary = TTSAllProvidersFailedError(
        [TTSConnectError("refused"), TTSBusyError("429", retry_after=30.0), TTSBusyError("429", retry_after=5.0)]
    )
    assert summary.kind is FailureKind.CONNECT_FAILED
    assert summary.retry_after == 5.0
    assert TTSAllProvidersFailedError([TTSConnectError("refused")]).retry_after is None


def test_interruption_states_the_delivered_duration() -> None:
    error = TTSStreamInterruptedError([TTSServerError("gone", provider="a")], delivered=2.46)
    assert str(error).startswith("stream interrupted after 2.5 s of audio: no provider could speak: a (gone;")
    assert error.args == (str(error),)


@pytest.mark.parametrize(
    ("wait", "message"),
    [(0.2, "(try again in 1 s)"), (12.0, "(try again in 12 s)"), (12.1, "(try again in 13 s)")],
)
def test_retry_after_is_rounded_up_in_messages(wait: float, message: str) -> None:
    assert message in str(TTSBusyError("429", retry_after=wait))


@pytest.mark.parametrize("wait", [None, 0.0, float("inf"), float("nan")])
def test_infinite_retry_after_is_not_in_messages(wait: float | None) -> None:
    assert "again" not in str(TTSBusyError("429", retry_after=wait))


def test_message_has_the_request_id_but_not_the_body() -> None:
    assert str(FULL) == (
        "elevenlabs: the server failed (try again in 12 s) [request r-1]; wait, and look at the vendor's status page"
    )


ROADS: list[Callable[[TTSError], TTSError]] = [
    copy.copy,
    copy.deepcopy,
    lambda error: pickle.loads(pickle.dumps(error)),
]


@pytest.mark.parametrize("travel", ROADS, ids=["copied", "copied deeply", "pickled"])
@pytest.mark.parametrize("error", [FULL, *(cls("it broke", retry_after=3.0) for cls in ALL)], ids=repr)
def test_pickled_error_is_equal(error: TTSError, travel: Callable[[TTSError], TTSError]) -> None:
    arrived = travel(error)
    assert type(arrived) is type(error)
    assert arrived.args == error.args == (error.message,)
    assert vars(arrived) == vars(error)
    assert str(arrived) == str(error)


@pytest.mark.parametrize("travel", ROADS, ids=["copied", "copied deeply", "pickled"])
@pytest.mark.parametrize("error", SUMMARIES, ids=lambda error: type(error).__name__)
def test_pickled_summary_has_its_causes(
    error: TTSAllProvidersFailedError, travel: Callable[[TTSError], TTSError]
) -> None:
    arrived = travel(error)
    assert isinstance(arrived, type(error))
    assert [str(cause) for cause in arrived.causes] == [str(cause) for cause in error.causes]
    assert (str(arrived), arrived.kind, arrived.retry_after) == (str(error), error.kind, error.retry_after)
    assert getattr(arrived, "delivered", None) == getattr(error, "delivered", None)


def test_errors_are_also_pythons_own_exceptions() -> None:
    assert issubclass(TTSDeadlineError, TimeoutError)
    assert issubclass(errors.TTSTimeoutError, TimeoutError)
    assert issubclass(TTSConnectError, ConnectionError)
    assert issubclass(errors.TTSConfigurationError, ValueError)
    assert not issubclass(TTSProviderError, ValueError)


def test_tree_of_classes_in_the_docstring_is_complete() -> None:
    drawn = errors.__doc__ or ""
    for cls in [*ALL, TTSAllProvidersFailedError, TTSStreamInterruptedError]:
        assert cls.__name__ in drawn


@pytest.mark.parametrize("hidden", ["\u202e", "\u2066", "\u200f", "\u200b", "\ufeff", "\x1b[31m"[0], "\x9b", "\u3164"])
def test_message_contains_no_invisible_characters(hidden: str) -> None:
    error = TTSError(f"all{hidden} is well", code=f"c{hidden}", request_id=f"r{hidden}", provider="plug-in")
    assert error.message == "all is well"
    assert (error.code, error.request_id) == ("c", "r")
    assert hidden not in str(error)


def test_tracebacks_are_dropped_inside_groups_too() -> None:
    try:
        raise TTSServerError("HTTP 503")
    except TTSServerError as error:
        leaf = error
    assert leaf.__traceback__ is not None
    named = TTSServerError("HTTP 503")
    named.__cause__ = ExceptionGroup("of tasks", [leaf])
    errors.drop_tracebacks(named)
    assert leaf.__traceback__ is None
