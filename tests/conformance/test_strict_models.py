"""Strict validation finds what the official clients accept."""

from __future__ import annotations

from typing import Any

import pytest
from elevenlabs.types import GetVoicesResponse, Subscription
from pydantic import ValidationError

from steadyvoice.wire.elevenlabs.catalog import Subscription as Ours
from steadyvoice.wire.elevenlabs.catalog import subscription_body

from .strict_models import validate_strictly

WHOLE = subscription_body(Ours(1, 2))


@pytest.mark.parametrize("change", [{"character_count": None}, {"character_count": "1"}, {"current_overage": {}}])
def test_value_that_is_missing_or_of_another_type(change: dict[str, Any]) -> None:
    assert validate_strictly(Subscription, WHOLE).tier == "free"
    with pytest.raises(ValidationError):
        validate_strictly(Subscription, {**WHOLE, **change})


def test_field_that_is_missing() -> None:
    with pytest.raises(ValidationError, match="Field required"):
        validate_strictly(Subscription, {name: value for name, value in WHOLE.items() if name != "has_open_invoices"})


@pytest.mark.parametrize("change", [{"status": "splendid"}, {"current_overage": {"amount": "0", "currency": "xau"}}])
def test_value_that_the_client_does_not_list(change: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="is none of"):
        validate_strictly(Subscription, {**WHOLE, **change})


def test_unlisted_value_within_a_list() -> None:
    with pytest.raises(AssertionError, match=r"voices\.category: 'premad' is none of"):
        validate_strictly(GetVoicesResponse, {"voices": [{"voice_id": "x", "category": "premad"}]})
