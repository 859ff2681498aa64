"""Queue for the slots of a vendor with a concurrency limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from random import Random

import pytest

from steadyvoice import (
    Accepted,
    AudioChunk,
    Credential,
    ElevenLabs,
    OpenAICompatible,
    SpeechRequest,
    SynthesisOffer,
    TimeoutConfig,
    TTSConfigurationError,
)
from steadyvoice.service.resilience.concurrency import ConcurrencyLimit, ConcurrencyQueue
from steadyvoice.speech.errors import TTSConcurrencyError, TTSServerError

from ..conftest import MakeService, loop_clock
from ..scripted_provider import ScriptedProvider, pcm

pytestmark = pytest.mark.looptime


class LimitedAccount:
    """Vendor's count of the requests running on one key, which refuses those above its limit."""

    def __init__(self, limit: int, initial: int | None = None, *, reports_limit: bool = True) -> None:
        self.limit, self.reports_limit = limit, reports_limit
        self.running, self.most, self.refused = 0, 0, 0
        self.credential = Credential(f"account {id(self)}", initial)


class LimitedProvider(ScriptedProvider):
    """Speaks for a second, on an account with a limit that it tells."""

    def __init__(self, account: LimitedAccount, name: str = "metered") -> None:
        super().__init__(name=name)
        self.account = account
        self.credential = account.credential
        self.down = False

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        account = self.account
        account.running += 1
        account.most = max(account.most, account.running)
        self.requests.append(request)
        try:
            await asyncio.sleep(0.1)
            if self.down:
                raise TTSServerError("HTTP 503", status=503)
            if account.running > account.limit:
                account.refused += 1
                raise TTSConcurrencyError("HTTP 429", status=429)
            yield Accepted(concurrency_limit=account.limit if account.reports_limit else None)
            await asyncio.sleep(0.9)
            yield AudioChunk(pcm(len(request.text) * 0.06))
        finally:
            account.running -= 1


async def test_queue_is_served_in_order_within_the_limit(make_service: MakeService) -> None:
    account = LimitedAccount(limit=3, initial=2)
    vendor = LimitedProvider(account)
    tts = make_service(vendor)
    texts = [f"Number {number}" for number in range(12)]
    speeches = await asyncio.gather(*(tts.synthesize(text, format="pcm_8000") for text in texts))
    assert {speech.outcome for speech in speeches} == {"spoken"}
    assert [request.text for request in vendor.requests] == texts
    assert (account.most, account.refused) == (3, 0)
    assert tts.get_error_state()["concurrency"] == {"in_use": 0, "limit": 3, "waiting": 0}


async def test_error_state_has_running_and_waiting_requests(make_service: MakeService) -> None:
    tts = make_service(LimitedProvider(LimitedAccount(limit=2)))
    await tts.synthesize("Learn the limit", format="pcm_8000")
    callers = [asyncio.create_task(tts.synthesize("Hello", format="pcm_8000")) for _ in range(5)]
    await asyncio.sleep(0.5)
    assert tts.get_error_state()["concurrency"] == {"in_use": 2, "limit": 2, "waiting": 3}
    await asyncio.gather(*callers)


async def test_user_limit_applies_to_all_providers_with_the_key(make_service: MakeService) -> None:
    account = LimitedAccount(limit=10)
    warm, cold = LimitedProvider(account, "warm"), LimitedProvider(account, "cold")
    warm.credential, cold.credential = Credential("one key"), Credential("one key", max_concurrency=3)
    tts = make_service(warm, cold)
    await asyncio.gather(*(tts.synthesize("Hello", format="pcm_8000") for _ in range(9)))
    assert (account.most, account.refused) == (3, 0)
    assert tts.get_error_state()["concurrency"]["limit"] == 3


def test_max_concurrency_is_a_setting_of_the_provider() -> None:
    assert ElevenLabs("sk_test").credential.initial_concurrency == 2
    own = ElevenLabs("sk_test", max_concurrency=5).credential
    assert (own.initial_concurrency, own.max_concurrency) == (5, 5), "whoever names it knows the account's plan"
    assert OpenAICompatible("sk_test", max_concurrency=5).credential.max_concurrency == 5
    for senseless in (0, -1, 2.5, True, "5"):
        with pytest.raises(
            TTSConfigurationError, match=r"elevenlabs\.max_concurrency: must be a whole number, 1 or more"
        ):
            ElevenLabs("sk_test", max_concurrency=senseless)  # type: ignore[arg-type]


async def test_stream_in_progress_does_not_wait_behind_new_requests(make_service: MakeService) -> None:
    vendor = LimitedProvider(LimitedAccount(limit=1, initial=1))
    vendor.max_characters = 20
    tts = make_service(vendor, timeouts=TimeoutConfig(first_audio_timeout=30.0))
    text = "The rain has stopped. We walk home now. Nobody says a word."

    async def callers() -> None:
        await asyncio.sleep(0.5)
        await asyncio.gather(*(tts.synthesize(f"Number {number}", format="pcm_8000") for number in range(4)))

    newcomers = asyncio.create_task(callers())
    async with tts.stream(text, format="pcm_8000") as stream:
        async for _ in stream:
            pass
    await newcomers
    order = [request.text in text for request in vendor.requests]
    assert order == [True, False] * 4, "it waits for whoever runs, and for nobody else"


async def test_two_providers_with_one_key_share_a_queue(make_service: MakeService) -> None:
    account = LimitedAccount(limit=2, initial=2)
    tts = make_service(LimitedProvider(account, "warm"), LimitedProvider(account, "cold"))
    voices = [tts.synthesize("Hello", format="pcm_8000") for _ in range(6)]
    await asyncio.gather(*voices)
    states = tts.get_error_state()["providers"]
    assert states["warm"]["concurrency"] == states["cold"]["concurrency"]
    assert (account.most, account.refused) == (2, 0)


async def test_request_that_would_wait_too_long_fails_over(make_service: MakeService) -> None:
    account = LimitedAccount(limit=1, initial=1)
    tts = make_service(
        LimitedProvider(account),
        ScriptedProvider(name="next"),
        timeouts=TimeoutConfig(first_audio_timeout=1.5, total_timeout=20),
    )
    speeches = await asyncio.gather(*(tts.synthesize("Hello", format="pcm_8000") for _ in range(4)))
    assert [speech.provider for speech in speeches] == ["metered", "metered", "next", "next"]
    given_up = speeches[3].attempts[0]
    assert given_up.refused, "nothing was sent"
    assert given_up.error is not None
    assert given_up.error.kind.value == "concurrency"
    waiting = sorted(str(speech.attempts[0].error).partition(";")[0] for speech in speeches[2:])
    assert waiting == [f"metered: no slot within 1.5 s: 1 requests running, {number} waiting" for number in (0, 1)]
    state = tts.get_error_state()
    assert state["totals"]["failures"] == 0
    assert account.refused == 0
    callers = [asyncio.create_task(tts.synthesize("Hello", format="pcm_8000")) for _ in range(4)]
    await asyncio.sleep(0.5)
    assert [caller.done() for caller in callers] == [False, False, True, True], "now it is known how long that takes"
    assert [caller.result().provider for caller in callers[2:]] == ["next", "next"]
    await asyncio.gather(*callers)


async def test_last_provider_is_waited_for_until_the_deadline(make_service: MakeService) -> None:
    tts = make_service(
        LimitedProvider(LimitedAccount(limit=1, initial=1)),
        timeouts=TimeoutConfig(first_audio_timeout=1.5, total_timeout=20),
    )
    speeches = await asyncio.gather(*(tts.synthesize("Hello", format="pcm_8000") for _ in range(8)))
    assert {speech.outcome for speech in speeches} == {"spoken"}


async def test_last_provider_is_waited_for_despite_a_long_expected_wait(make_service: MakeService) -> None:
    account = LimitedAccount(limit=1, initial=1)
    tts = make_service(LimitedProvider(account))
    limiter = tts.handler("metered").account_limits.queue.limiter
    limiter.release(limiter.acquire(loop_clock()), loop_clock() + 1000.0)  # it hung for a quarter of an hour
    speeches = await asyncio.gather(*(tts.synthesize("Hello", format="pcm_8000") for _ in range(4)))
    assert {speech.outcome for speech in speeches} == {"spoken"}


async def test_wait_in_the_queue_counts_toward_the_deadline(make_service: MakeService) -> None:
    tts = make_service(LimitedProvider(LimitedAccount(limit=1, initial=1)), timeouts=TimeoutConfig(total_timeout=3.5))
    speeches = await asyncio.gather(*(tts.synthesize("Hello", format="pcm_8000") for _ in range(6)))
    assert [speech.outcome for speech in speeches] == ["spoken"] * 3 + ["muted"] * 3


async def test_our_being_too_many_is_no_failure_of_the_vendor(make_service: MakeService) -> None:
    account = LimitedAccount(limit=2)
    tts = make_service(LimitedProvider(account), ScriptedProvider(name="next"))
    await asyncio.gather(*(tts.synthesize("Hello", format="pcm_8000") for _ in range(8)))
    assert account.refused > 0, "nobody knew the limit"
    assert tts.get_error_state()["circuit_state"] == "closed"
    assert tts.get_error_state()["totals"]["failures"] == 0
    refused = account.refused
    await asyncio.gather(*(tts.synthesize("Hello", format="pcm_8000") for _ in range(8)))
    assert account.refused == refused, "now everybody does"


async def test_unstated_limit_is_found_by_refusals(make_service: MakeService) -> None:
    account = LimitedAccount(limit=3, reports_limit=False)
    tts = make_service(LimitedProvider(account), ScriptedProvider(name="next"))
    refused = []
    for _ in range(4):
        before = account.refused
        await asyncio.gather(*(tts.synthesize("Hello", format="pcm_8000") for _ in range(12)))
        refused.append(account.refused - before)
    assert refused[0] > refused[1] > 0, "from any number to half of the first twelve"
    assert max(refused[2:]) <= 1, "now and then one more is tried"
    assert tts.get_error_state()["totals"]["failures"] == 0


async def test_failing_vendor_releases_its_slots(make_service: MakeService) -> None:
    vendor = LimitedProvider(LimitedAccount(limit=2, initial=2))
    vendor.down = True
    tts = make_service(vendor, ScriptedProvider(name="next"))
    await asyncio.gather(*(tts.synthesize("Hello", format="pcm_8000") for _ in range(10)))
    assert tts.get_error_state()["concurrency"] == {"in_use": 0, "limit": 2, "waiting": 0}


async def test_cancelled_stream_releases_its_slot(make_service: MakeService) -> None:
    tts = make_service(LimitedProvider(LimitedAccount(limit=1, initial=1)))
    async with tts.stream("Hello", format="pcm_8000", on_midstream="error") as stream:
        await anext(stream)
        assert tts.get_error_state()["concurrency"]["in_use"] == 1
    assert tts.get_error_state()["concurrency"]["in_use"] == 0


@pytest.mark.slow
async def test_ten_thousand_cancelled_callers_leave_no_slot_taken() -> None:
    rng = Random(6)
    limiter = ConcurrencyLimit(initial=4)
    queue = ConcurrencyQueue(limiter, loop_clock)
    most = 0

    async def caller() -> None:
        nonlocal most
        await asyncio.sleep(rng.uniform(0.0, 100.0))
        async with queue.slot("vendor", rng.choice([0.05, 1.0, 60.0])) as turn:
            most = max(most, limiter.running)
            await asyncio.sleep(rng.choice([0.0, 0.01, 0.1]))
            if rng.random() < 0.3:
                turn.accepted(Accepted(concurrency_limit=4))
            if rng.random() < 0.05:
                raise TTSConcurrencyError("HTTP 429")

    callers = [asyncio.create_task(caller()) for _ in range(10_000)]
    loop = asyncio.get_running_loop()
    for task in callers:
        if rng.random() < 0.6:
            loop.call_later(rng.choice([rng.uniform(0.0, 100.0), round(rng.uniform(0.0, 100.0), 1)]), task.cancel)
    ended = await asyncio.gather(*callers, return_exceptions=True)
    assert sum(isinstance(end, asyncio.CancelledError) for end in ended) > 1000
    assert most == 4
    assert (limiter.running, limiter.waiting) == (0, 0)
    assert not queue._waiting
    async with queue.slot("vendor", 0.0):
        assert limiter.running == 1, "it still lets people through"


async def test_caller_cancelled_when_its_slot_is_granted_passes_it_on() -> None:
    queue = ConcurrencyQueue(ConcurrencyLimit(initial=1), loop_clock)

    async def caller() -> str:
        async with queue.slot("vendor", 60.0):
            return "ran"

    async with queue.slot("vendor", 60.0):
        second, third = asyncio.create_task(caller()), asyncio.create_task(caller())
        await asyncio.sleep(1.0)
    second.cancel()  # its turn has come, but it has not run yet
    assert await third == "ran"
    assert second.cancelled()
    assert queue.limiter.running == 0
