"""Claims of the comparison: each about us has its name or test, those about installed peers are tried out.

pybreaker and circuitbreaker are tried; what the page says of software that the tests do not have was read in the
source of the version that the page names.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import requires
from threading import Event, Thread
from typing import Any

import circuitbreaker
import pybreaker
import pytest

from steadyvoice import breaker

from .documentation import all_tables
from .layers import ROOT

CLAIMS = [table for table in all_tables() if table.page == "docs/comparison.md" and "steadyvoice" in table.head[1]]
(BREAKERS,) = [table for table in CLAIMS if "pybreaker" in table.head]

OURS = {
    "retries with backoff and jitter": "service/resilience/test_retry_loop.py",
    "composable stop, wait and retry conditions": "",
    "retry budget, so that retries do not multiply an outage": "service/resilience/test_error_handler.py",
    "`Retry-After`": "service/resilience/test_holds.py",
    "what may be billed is not repeated": "faults/test_every_fault.py",
    "circuit breaker": "breaker",
    "instrumentation": "gateway/observability/test_metrics.py",
    "vendor hangs up after a second of each sentence": "promises/test_first_hour.py",
    "failover before the first audio": "plugins/scenarios.py",
    "recovery": "breaker/state_machine",
    "`Retry-After`, quota, key and voice errors told apart": "promises/test_errors_page.py",
    "vendors": "promises/test_configuration_page.py",
    "model-specific settings": "gateway/endpoints",
    "code to keep": "promises/test_extras.py",
    "ElevenLabs' and OpenAI's endpoints, any vendor behind": "conformance/test_through_the_gateway.py",
    "ElevenLabs' websockets": "conformance/test_realtime_through_the_gateway.py",
    "failover to another vendor": "faults/test_every_fault.py",
    "failover after the first byte": "service/resume",
    "audio is checked": "faults/test_every_fault.py",
    "retry of what may be billed": "faults/test_every_fault.py",
    "streams while the vendor speaks": "conformance/test_through_the_gateway.py",
    "virtual keys, budgets, teams": "",
    "language models, images, embeddings": "",
    "TLS, HTTP/2, HTTP/3": "",
}
"""Tests of what a row says of us, below tests/. Rows that say "no" have none."""


@pytest.mark.parametrize("table", [each for each in CLAIMS if each is not BREAKERS], ids=str)
def test_claim_about_us_has_a_test(table: Any) -> None:
    for feature, ours, *_ in table.rows:
        test = OURS[feature]
        assert (ROOT / "tests" / test).exists()
        assert test or ours in ("no", "by a proxy before it"), feature


def test_every_claim_about_us_is_still_on_the_page() -> None:
    assert {row[0] for table in CLAIMS if table is not BREAKERS for row in table.rows} == OURS.keys()


class Failed(Exception):
    """Failure of a call."""


@dataclass(frozen=True)
class Subject:
    """Circuit breaker and how it is made: three failures in a row open it, and `LookupError` is excluded."""

    name: str
    make: Callable[[], Any]
    module: Any

    @property
    def parameters(self) -> str:
        """Names of its settings, in one text."""
        kinds = [self.module.CircuitBreaker, getattr(self.module, "CircuitBreakerConfig", self.module.CircuitBreaker)]
        return " ".join(name for kind in kinds for name in inspect.signature(kind).parameters)

    def has_opened(self, circuit: Any) -> bool:
        """Tell whether a call is refused."""
        called: list[int] = []
        with suppress(Exception):
            circuit(lambda: called.append(1))()
        return not called


SUBJECTS = {
    "steadyvoice": Subject(
        "steadyvoice",
        lambda: breaker.CircuitBreaker("x", breaker.CircuitBreakerConfig.consecutive(3, ignore=(LookupError,))),
        breaker,
    ),
    "pybreaker": Subject("pybreaker", lambda: pybreaker.CircuitBreaker(3, exclude=[LookupError]), pybreaker),
    "circuitbreaker": Subject(
        "circuitbreaker",
        lambda: circuitbreaker.CircuitBreaker(3, expected_exception=lambda kind, _: not issubclass(kind, LookupError)),
        circuitbreaker,
    ),
}


def fail(circuit: Any, times: int, error: type[Exception] = Failed) -> None:
    def failing() -> None:
        raise error

    for _ in range(times):
        with suppress(Exception):
            circuit(failing)()


def opens_in_a_row(subject: Subject) -> str:
    circuit = subject.make()
    fail(circuit, 3)
    return "yes" if subject.has_opened(circuit) else "no"


def opens_by_rate(subject: Subject) -> str:
    circuit = breaker.CircuitBreaker("x") if subject.module is breaker else subject.make()
    for _ in range(50):
        fail(circuit, 1)
        with suppress(Exception):
            circuit(lambda: None)()
    return "yes" if subject.has_opened(circuit) else "no"


def counts_coroutines(subject: Subject) -> str:
    circuit = subject.make()

    async def failing() -> None:
        raise Failed

    guarded = circuit(failing)

    async def try_it() -> None:
        for _ in range(3):
            with suppress(Exception):
                await guarded()

    asyncio.run(try_it())
    return "yes" if subject.has_opened(circuit) else "sync"


def counts_generators(subject: Subject) -> str:
    def items() -> Iterator[int]:
        yield 1
        raise Failed

    async def async_items() -> AsyncIterator[int]:
        yield 1
        raise Failed

    async def read(guarded: Any) -> None:
        async for _ in guarded():
            pass

    readers: dict[str, Callable[[Any], Any]] = {
        "sync": lambda circuit: list(circuit(items)()),
        "async": lambda circuit: asyncio.run(read(circuit(async_items))),
    }
    counted = []
    for kind, read_once in readers.items():
        circuit = subject.make()
        for _ in range(3):
            with suppress(Exception):
                read_once(circuit)
        if subject.has_opened(circuit):
            counted.append(kind)
    return {2: "both kinds", 0: "no"}.get(len(counted), counted[0] if counted else "")


def calls_at_once(subject: Subject) -> str:
    circuit, inner = subject.make(), Event()
    other = Thread(target=circuit(lambda: inner.set()))

    def outer() -> bool:
        other.start()
        return inner.wait(0.2)

    together = circuit(outer)()
    other.join()
    return "yes" if together else "one at a time"


def has_neutral_outcomes(subject: Subject) -> str:
    circuit = subject.make()
    fail(circuit, 2)
    fail(circuit, 1, LookupError)
    fail(circuit, 1)
    return "yes" if subject.has_opened(circuit) else "no"


def changes_at_run_time(subject: Subject) -> str:
    circuit = subject.make()
    if hasattr(circuit, "update"):
        return "yes"
    settable = [name for name, each in inspect.getmembers(type(circuit)) if isinstance(each, property) and each.fset]
    return "setters" if {"fail_max", "reset_timeout"} <= set(settable) else "no"


def needs_packages(subject: Subject) -> str:
    required = [each for each in requires(subject.name) or [] if "extra ==" not in each]
    return ", ".join(required) or "none"


def limits_probes(subject: Subject) -> str:
    return "half_open_max_calls" if "half_open_max_calls" in subject.parameters else ""


def has_setting(pattern: str) -> Callable[[Subject], str]:
    return lambda subject: "yes" if re.search(pattern, subject.parameters) else "no"


PROBES: dict[str, Callable[[Subject], str]] = {
    "opens after n failures in a row": opens_in_a_row,
    "failure rate over a count or time window": opens_by_rate,
    "rate of slow calls": has_setting("slow"),
    "calls that hang count before they end": has_setting("hung|hang"),
    "threshold learned from the usual failure rate": has_setting("significance|adaptive"),
    "sync and async in one object": counts_coroutines,
    "generators as one call": counts_generators,
    "calls at the same time": calls_at_once,
    "half-open: callers admitted": lambda subject: (
        "half_open_max_calls" * ("half_open_max_calls" in subject.parameters)
    ),
    "neutral outcome: neither success nor failure": has_neutral_outcomes,
    "deadline of a probe": has_setting("half_open_timeout|probe_timeout"),
    "cooldown with backoff and jitter": has_setting("backoff.*jitter"),
    "settings changed at run time, evidence kept": changes_at_run_time,
    "packages it needs": needs_packages,
}
"""Functions that find out what a row says of a breaker."""

NOT_TRIED = {"reason of a transition", "shared over Redis", "names of its own for manual states"}
"""Rows of which tests of ours, and the tables of names in the migration guides, say the same."""


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("feature", PROBES)
def test_breaker_does_what_the_page_says(name: str, feature: str) -> None:
    (row,) = [dict(zip(BREAKERS.head, each, strict=True)) for each in BREAKERS.rows if each[0] == feature]

    found = PROBES[feature](SUBJECTS[name])

    assert row[name].strip("`").startswith(found)


def test_every_row_about_breakers_is_tried_or_named() -> None:
    assert {row[0] for row in BREAKERS.rows} == PROBES.keys() | NOT_TRIED
