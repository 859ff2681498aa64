"""Credit of an account: remaining characters, texts that still fit, forecast of its end, and repeated checks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice import Accepted, AudioChunk, Credential, Credit, SpeechRequest, SynthesisOffer
from steadyvoice.service.billing import RATE_MEMORY, CreditMeter
from steadyvoice.service.resilience.holds import Hold, update_quota_hold
from steadyvoice.speech.errors import TTSInvalidKeyError, TTSQuotaExceededError
from steadyvoice.speech.failure_kinds import FailureKind

from ..conftest import MakeService
from ..scripted_provider import ScriptedProvider, pcm

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = 3600.0


class CreditAccount:
    """A vendor's count of characters, which any number of providers draw on."""

    def __init__(self, remaining: int | None, resets_at: datetime | None = None, price: float = 1.0) -> None:
        self.remaining, self.resets_at, self.price = remaining, resets_at, price
        self.questions = 0
        self.silent: Exception | None = None
        self.overstates = False  # it refuses what it says is there
        self.credential = Credential(f"account {id(self)}")


class Prepaid(ScriptedProvider):
    """Speaks as long as there is credit."""

    def __init__(self, account: CreditAccount, name: str = "prepaid") -> None:
        super().__init__(name=name)
        self.account, self.credential = account, account.credential

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        self.requests.append(request)
        account, cost = self.account, len(request.text) * self.account.price
        await asyncio.sleep(0.1)
        if account.overstates or (account.remaining is not None and cost > account.remaining):
            raise TTSQuotaExceededError("not enough credit", status=401)
        if account.remaining is not None:
            account.remaining -= int(cost)
        yield Accepted(characters_billed=cost)
        yield AudioChunk(pcm(len(request.text) * 0.06))

    async def credit(self) -> Credit:
        self.account.questions += 1
        await asyncio.sleep(0.1)
        if self.account.silent:
            raise self.account.silent
        return Credit(self.account.remaining, self.account.resets_at)


LONG, SHORT = "This is longer than what is left of it.", "Short."


async def failure_kind(tts: object, text: str) -> str | None:
    speech = await tts.synthesize(text, format="pcm_8000")  # type: ignore[attr-defined]
    return speech.provider  # type: ignore[no-any-return]


@pytest.mark.looptime
async def test_text_that_fits_the_credit_is_spoken_and_longer_text_held_until_the_reset(
    make_service: MakeService,
) -> None:
    account = CreditAccount(20, resets_at=NEW_YEAR + timedelta(hours=5))
    vendor = Prepaid(account)
    async with make_service(vendor, ScriptedProvider(name="other")) as tts:
        assert await failure_kind(tts, LONG) == "other"
        await asyncio.sleep(1.0)
        [hold] = tts.get_error_state()["holds"]
        assert (hold["kind"], hold["remaining_credit"]) == ("quota_exceeded", 20)
        assert hold["until"].startswith("2026-01-01T05:00:0")
        asked = len(vendor.requests)
        assert await failure_kind(tts, LONG) == "other"
        assert len(vendor.requests) == asked, "it does not fit, so nobody is asked"
        assert [await failure_kind(tts, SHORT) for _ in range(4)] == ["prepaid"] * 3 + ["other"]
        assert tts.get_error_state()["holds"][0]["remaining_credit"] == 2
        assert tts.get_error_state()["is_muted"] is False, "two characters would still fit"
        await asyncio.sleep(5 * HOUR)
        account.remaining = 1000
        assert await failure_kind(tts, LONG) == "prepaid", "the reset has come"
        assert tts.get_error_state()["totals"]["failures"] == 0


@pytest.mark.looptime
async def test_credit_is_checked_every_15_minutes_and_new_credit_lifts_the_hold(
    make_service: MakeService,
) -> None:
    account = CreditAccount(10, resets_at=NEW_YEAR + timedelta(days=20))
    async with make_service(Prepaid(account), ScriptedProvider(name="other")) as tts:
        assert await failure_kind(tts, LONG) == "other"
        await asyncio.sleep(HOUR - 60)
        assert account.questions == 4, "at once, and after 15, 30 and 45 minutes"
        account.remaining = 1000
        assert await failure_kind(tts, LONG) == "other"
        await asyncio.sleep(120)
        assert tts.get_error_state()["holds"] == []
        assert await failure_kind(tts, LONG) == "prepaid"
        asked = account.questions
        await asyncio.sleep(10 * HOUR)
        assert account.questions == asked, "nobody speaks, so nobody asks"


@pytest.mark.looptime
async def test_two_providers_of_one_account_are_held_together(make_service: MakeService) -> None:
    account = CreditAccount(10)
    warm, cold = Prepaid(account, "warm"), Prepaid(account, "cold")
    async with make_service(warm, cold, ScriptedProvider(name="other")) as tts:
        assert await failure_kind(tts, LONG) == "other"
        assert (len(warm.requests), len(cold.requests)) == (1, 0)
        keys = [state["holds"][0]["key"] for state in list(tts.get_error_state()["providers"].values())[:2]]
        assert keys == ["warm/credential", "cold/credential"]
        tts.reset_circuit_breaker("cold")
        assert tts.get_error_state()["holds"] == []


@pytest.mark.looptime
async def test_refusal_of_a_text_that_should_fit_is_followed_by_a_credit_check(make_service: MakeService) -> None:
    account = CreditAccount(20, resets_at=NEW_YEAR + timedelta(days=20))
    async with make_service(Prepaid(account), ScriptedProvider(name="other")) as tts:
        assert await failure_kind(tts, LONG) == "other"
        await asyncio.sleep(120)
        account.remaining = 3  # somebody else has spent it
        assert await failure_kind(tts, SHORT) == "other"
        await asyncio.sleep(1)
        assert account.questions == 2
        assert tts.get_error_state()["holds"][0]["remaining_credit"] == 3


@pytest.mark.looptime
async def test_hold_without_credit_statement_ends_after_15_minutes(make_service: MakeService) -> None:
    account = CreditAccount(10)
    account.silent = TTSInvalidKeyError("HTTP 401 missing_permissions", status=401)
    vendor = Prepaid(account)
    async with make_service(vendor, ScriptedProvider(name="other")) as tts:
        assert await failure_kind(tts, LONG) == "other"
        await asyncio.sleep(14 * 60)
        account.remaining = 1000
        assert await failure_kind(tts, LONG) == "other"
        assert [hold["kind"] for hold in tts.get_error_state()["holds"]] == ["quota_exceeded"], (
            "the key is not to blame"
        )
        await asyncio.sleep(2 * 60)
        assert await failure_kind(tts, LONG) == "prepaid"


@pytest.mark.looptime
async def test_hold_stays_if_the_stated_credit_would_have_sufficed(make_service: MakeService) -> None:
    account = CreditAccount(1000)
    account.overstates = True
    vendor = Prepaid(account)
    async with make_service(vendor, ScriptedProvider(name="other")) as tts:
        for _ in range(10):
            assert await failure_kind(tts, LONG) == "other"
            await asyncio.sleep(60)
        assert len(vendor.requests) == 1


@pytest.mark.looptime
async def test_retry_after_holds_exactly_that_long_whatever_the_account_says_of_its_reset(
    make_service: MakeService,
) -> None:
    account = CreditAccount(10, resets_at=NEW_YEAR + timedelta(days=20))
    vendor = Prepaid(account)
    async with make_service(vendor, ScriptedProvider(name="other")) as tts:
        with pytest.raises(TTSQuotaExceededError), tts.handler("prepaid").attempt():
            raise TTSQuotaExceededError("not enough", status=429, retry_after=100.0)
        await asyncio.sleep(99.5)
        account.remaining = 1000
        assert await failure_kind(tts, LONG) == "other"
        await asyncio.sleep(1)
        assert await failure_kind(tts, LONG) == "prepaid"


@pytest.mark.looptime
async def test_few_words_cause_no_credit_check(make_service: MakeService) -> None:
    account = CreditAccount(1000)
    async with make_service(Prepaid(account)) as tts:
        for _ in range(5):
            await failure_kind(tts, SHORT)
        await asyncio.sleep(20 * 60)
        assert account.questions == 0
        assert tts.get_error_state()["credit"] is None
        await failure_kind(tts, SHORT)
        await asyncio.sleep(1)
        assert account.questions == 1, "it has been in use for more than a quarter of an hour"
        assert tts.get_error_state()["credit"]["remaining"] == 1000 - 6 * len(SHORT)


@pytest.mark.looptime
async def test_credit_exhaustion_is_forecast_and_warned_of_in_time(
    make_service: MakeService, caplog: pytest.LogCaptureFixture
) -> None:
    account = CreditAccount(6 * 200, price=0.5)
    async with make_service(Prepaid(account), ScriptedProvider(name="other")) as tts:
        assert await tts.check_credit() == {"prepaid": Credit(1200)}
        with caplog.at_level(logging.WARNING, "steadyvoice.credit"):
            ends = []
            while await failure_kind(tts, SHORT) == "prepaid":  # 3 of the vendor's characters a minute
                ends.append(tts.get_error_state()["credit"]["ends_in"])
                await asyncio.sleep(59.9)
        lasted = [60.0 * left for left in range(len(ends), 0, -1)]
        errors = [abs(predicted - truth) / truth for predicted, truth in zip(ends[60:-30], lasted[60:-30], strict=True)]
        assert max(errors) < 0.05
        warnings = [record for record in caplog.records if record.name == "steadyvoice.credit"]
        hours = [record.ends_in / HOUR for record in warnings]  # type: ignore[attr-defined]
        assert len(hours) == 2, "a day before, and an hour before"
        assert 0.9 < hours[1] <= 1.0
        assert "characters left" in warnings[0].getMessage()


@pytest.mark.looptime
async def test_exhaustion_forecast_is_a_wall_time_or_none_after_the_reset(
    make_service: MakeService,
) -> None:
    account = CreditAccount(1000)
    async with make_service(Prepaid(account)) as tts:
        await tts.check_credit()
        assert tts.get_error_state()["credit"]["ends_at"] is None, "nothing is spent"
        await failure_kind(tts, "x" * 100)
        credit = tts.get_error_state()["credit"]
        assert credit["ends_at"].startswith("2026-01-01T01:59:")
        account.resets_at = NEW_YEAR + timedelta(hours=1)
        await tts.check_credit()
        credit = tts.get_error_state()["credit"]
        assert (credit["ends_at"], credit["ends_in"], credit["resets_at"]) == (None, None, "2026-01-01T01:00:00.000Z")


@given(st.floats(0.01, 100.0), st.integers(0, 10_000_000))
def test_steady_consumption_rate_is_measured(per_second: float, remaining: int) -> None:
    meter = CreditMeter()
    meter.update(Credit(remaining), 0.0, NEW_YEAR)
    for second in range(0, 3600, 10):
        meter.add_spending(per_second * 10, 10, None, float(second))
    forecast = meter.forecast(3600.0)
    assert forecast
    assert forecast.per_hour == pytest.approx(per_second * 3600, rel=0.02)


def test_spending_of_other_processes_counts_towards_the_rate() -> None:
    meter = CreditMeter()
    meter.update(Credit(10_000), 0.0, NEW_YEAR)
    meter.update(Credit(9_000), RATE_MEMORY, NEW_YEAR)
    forecast = meter.forecast(RATE_MEMORY)
    assert forecast
    assert forecast.remaining == 9_000
    assert forecast.per_hour > 1000


def test_credit_warning_is_repeated_only_after_the_forecast_recovered() -> None:
    meter = CreditMeter()
    meter.add_spending(800, 800, None, 0.0)  # about one a second
    predicted = []
    for remaining in (23 * 3600, 25 * 3600, 23 * 3600, 10_000_000, 9_000_000):
        meter.update(Credit(remaining), 0.0, NEW_YEAR)
        predicted.append(bool(meter.warning(0.0)))
    assert predicted == [True, False, False, False, True]


def test_text_is_priced_by_the_last_bill_of_its_model() -> None:
    meter = CreditMeter()
    assert meter.cost(100, "flash") == 100
    meter.add_spending(50, 100, "flash", 0.0)
    assert (meter.cost(100, "flash"), meter.cost(100, "other")) == (50, 100)


@given(st.integers(0, 200), st.integers(1, 100), st.none() | st.floats(-10.0, 1e6))
def test_quota_hold_admits_only_texts_that_fit_the_credit(
    remaining: int, refused: int, resets_in: float | None
) -> None:
    hold = Hold("x/credential", FailureKind.QUOTA_EXCEEDED, 900.0, "no credit", refused_cost=float(refused))
    kept = update_quota_hold(hold, Credit(remaining), resets_in, 0.0)
    assert kept, "the first answer after a refusal never lifts it"
    if remaining >= refused:
        assert kept == hold
        return
    assert [kept.applies_to(cost) for cost in (remaining, remaining + 1, None)] == [False, True, True]
    assert kept.until == (resets_in if resets_in and resets_in > 0 else 900.0)
    assert update_quota_hold(kept, Credit(refused), resets_in, 900.0) is None
    assert update_quota_hold(kept, Credit(None), resets_in, 900.0) is None
