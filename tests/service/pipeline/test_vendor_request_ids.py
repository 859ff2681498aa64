"""Request ids by account: bounded memory, and always right about the latest ids."""

from __future__ import annotations

from typing import Any

import pytest

from steadyvoice import AudioFormat, SpeechRequest
from steadyvoice.service.resilience.account_limits import VendorRequestIds

FORMAT = AudioFormat.parse("pcm_8000")


def request_with(**options: Any) -> SpeechRequest:
    return SpeechRequest("Hi.", FORMAT, options=options)


def test_latest_ids_are_known_and_the_oldest_forgotten() -> None:
    ids = VendorRequestIds()
    for number in range(20_000):
        ids.record(f"id-{number}", "one" if number % 2 else "two")
    latest = range(20_000 - 2_048, 20_000)
    assert [ids.issuer(f"id-{number}") for number in latest] == ["one" if n % 2 else "two" for n in latest]
    assert sum(ids.issuer(f"id-{number}") is not None for number in range(20_000)) <= 4_096


def test_id_issued_by_two_accounts_belongs_to_the_later_one() -> None:
    ids = VendorRequestIds()
    ids.record("same", "one")
    ids.record("same", "two")
    assert ids.issuer("same") == "two"


@pytest.mark.parametrize("name", ["previous_request_ids", "next_request_ids"])
def test_each_account_gets_its_own_and_unknown_ids(name: str) -> None:
    ids = VendorRequestIds()
    ids.record("ones", "one")
    ids.record("twos", "two")
    request = request_with(**{name: ["ones", "twos", "unknown"], "seed": 1})
    assert ids.without_foreign_ids("one", request).options == {name: ["ones", "unknown"], "seed": 1}
    assert ids.without_foreign_ids("two", request).options == {name: ["twos", "unknown"], "seed": 1}
    assert ids.without_foreign_ids("three", request).options == {name: ["unknown"], "seed": 1}


@pytest.mark.parametrize("value", [None, [], "ones", ["unknown"], ("unknown",), [None], [7], {"a": 1}])
def test_request_without_foreign_ids_is_the_same_object(value: Any) -> None:
    ids = VendorRequestIds()
    ids.record("ones", "one")
    request = request_with(previous_request_ids=value)
    assert ids.without_foreign_ids("two", request) is request
    assert ids.without_foreign_ids("two", plain := request_with()) is plain
