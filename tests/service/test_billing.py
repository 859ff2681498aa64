"""Billing: cost of each attempt, wasted characters, and no second charge for the same text."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice import Accepted, Credential, Provider
from steadyvoice.service.billing import Bill, Billing, Charge, calculate_bill
from steadyvoice.speech.errors import (
    TTSConnectError,
    TTSCutError,
    TTSEmptyAudioError,
    TTSError,
    TTSNoAnswerError,
    TTSQuotaExceededError,
    TTSReadTimeoutError,
    TTSServerError,
)
from steadyvoice.speech.failure_kinds import Billed

from .conftest import BRIEF, MakeService
from .scripted_provider import Hang, Say, ScriptedProvider

TEXT = "Good morning, is anybody there?"
DOWN = TTSServerError("HTTP 503", status=503)


def bill(error: TTSError | None, *, accepted: bool = False, billed: float | None = None, heard: int = 0) -> Bill:
    return calculate_bill(accepted=accepted, billed=billed, characters=10, heard=heard, error=error)


@pytest.mark.parametrize(
    ("settled", "expected"),
    [
        (bill(TTSConnectError("refused")), Bill(Charge.NOT_SENT)),
        (bill(DOWN), Bill(Charge.REFUSED)),
        (bill(TTSReadTimeoutError("no audio")), Bill(Charge.UNKNOWN, 10, 10)),
        (bill(TTSReadTimeoutError("no audio"), accepted=True), Bill(Charge.UNKNOWN, 10, 10)),
        (bill(TTSReadTimeoutError("no audio"), accepted=True, billed=5.0), Bill(Charge.BILLED, 5, 5)),
        (bill(TTSCutError("cut"), accepted=True, billed=5.0, heard=6), Bill(Charge.BILLED, 5, 2)),
        (bill(DOWN, accepted=True), Bill(Charge.UNKNOWN, 10, 10)),
        (bill(None, accepted=True, heard=10), Bill(Charge.UNKNOWN, 10, 0)),
        (bill(None, accepted=True, billed=10.0, heard=10), Bill(Charge.BILLED, 10, 0)),
    ],
)
def test_charge_of_an_attempt(settled: Bill, expected: Bill) -> None:
    assert settled == expected


def test_totals_are_by_charge_and_waste_by_cause() -> None:
    bills = Billing()
    bills.add(Bill(Charge.BILLED, 10.0, 4.0), TTSCutError("cut"))
    bills.add(Bill(Charge.BILLED, 10.0, 1.0), TTSCutError("cut"))
    bills.add(Bill(Charge.UNKNOWN, 7.5, 7.5), TTSReadTimeoutError("no audio"))
    bills.add(Bill(Charge.REFUSED), DOWN)
    bills.add(Bill(Charge.BILLED, 20.0), None)
    assert bills.as_dict() == {
        "attempts": {"not_sent": 0, "refused": 1, "sent_and_unknown": 1, "billed": 3},
        "billed": 40.0,
        "unknown": 7.5,
        "wasted": 12.5,
        "wasted_by": {"cut": 5.0, "read_timeout": 7.5},
    }


@pytest.mark.looptime
async def test_report_has_the_cost_of_each_attempt(make_service: MakeService) -> None:
    tts = make_service(
        ScriptedProvider([DOWN], name="down"),
        ScriptedProvider([Say(then=TTSCutError("cut"))], name="cut"),
        ScriptedProvider(),
    )
    speech = await tts.synthesize(TEXT, format="pcm_8000")
    assert [(attempt.provider, attempt.bill) for attempt in speech.attempts] == [
        ("down", Bill(Charge.REFUSED)),
        ("down", Bill(Charge.REFUSED)),
        ("cut", Bill(Charge.BILLED, len(TEXT), len(TEXT))),
        ("scripted", Bill(Charge.BILLED, len(TEXT))),
    ]
    assert (speech.billed, speech.wasted) == (2 * len(TEXT), len(TEXT))
    states = tts.get_error_state()["providers"]
    assert states["cut"]["bills"]["wasted_by"] == {"cut": len(TEXT)}
    assert states["scripted"]["bills"]["wasted"] == 0


@pytest.mark.looptime
async def test_refusal_by_an_open_circuit_is_billed_as_not_sent(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider(name="first"), ScriptedProvider(name="next"))
    tts.circuits["first"].force_open("maintenance")
    speech = await tts.synthesize(TEXT, format="pcm_8000")
    assert [(attempt.refused, attempt.bill.charge.value) for attempt in speech.attempts] == [
        (True, "not sent"),
        (False, "billed"),
    ]


@pytest.mark.looptime
async def test_local_voice_costs_nothing(make_service: MakeService) -> None:
    speech = await make_service(ScriptedProvider(local=True)).synthesize(TEXT, format="pcm_8000")
    assert (speech.billed, speech.attempts[0].bill) == (0, Bill())


@pytest.mark.looptime
async def test_undelivered_audio_of_a_cancelled_stream_is_wasted(make_service: MakeService) -> None:
    vendor = ScriptedProvider([Say(pieces=10, every=1.0)])
    tts = make_service(vendor)
    async with tts.stream("x" * 100, format="pcm_8000", on_midstream="error") as stream:
        for _ in range(3):
            await anext(stream)
    bills = tts.get_error_state()["bills"]
    assert bills["wasted_by"] == {"cancelled": pytest.approx(70)}
    assert [attempt.bill.wasted for attempt in stream.attempts] == [pytest.approx(70)]
    assert tts.get_error_state()["totals"]["failures"] == 0


@pytest.mark.looptime
async def test_cancelled_call_may_be_billed(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Hang()]))
    waiting = asyncio.create_task(tts.synthesize(TEXT, format="pcm_8000"))
    await asyncio.sleep(1.0)
    waiting.cancel()
    await asyncio.wait([waiting])
    bills = tts.get_error_state()["bills"]
    assert (bills["billed"], bills["wasted_by"]) == (len(TEXT), {"cancelled": len(TEXT)})


@pytest.mark.looptime
async def test_words_spoken_again_count_as_wasted(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Say(then=TTSCutError("cut"))], name="first"), ScriptedProvider(name="second"))
    stream = tts.stream(TEXT, format="pcm_8000", on_midstream="restart")
    assert [chunk async for chunk in stream]
    assert stream.attempts[0].bill.wasted == len(TEXT)


@pytest.mark.looptime
async def test_words_delivered_before_an_interruption_are_not_wasted(make_service: MakeService) -> None:
    class Timed(ScriptedProvider):
        def offer(self, request):  # type: ignore[no-untyped-def]
            from dataclasses import replace

            return replace(super().offer(request), timed=True)

    first = Timed([Say(seconds=3.0, aligned=True, pieces=6, then=TTSCutError("cut"))], name="first")
    stream = make_service(first, ScriptedProvider(name="second")).stream(
        "One two three four five six.", format="pcm_8000"
    )
    assert [chunk async for chunk in stream]
    kept = stream.report.spans[0].end
    assert kept > 10
    bill = stream.attempts[0].bill
    assert (bill.charge, bill.characters) == (Charge.BILLED, 28)
    assert bill.wasted == pytest.approx(28 - kept)


@pytest.mark.looptime
async def test_provider_on_the_same_account_is_tried_after_other_accounts(make_service: MakeService) -> None:
    account = Credential("theirs")
    warm, cold, other = (
        ScriptedProvider([Hang()], name="warm"),
        ScriptedProvider(name="cold"),
        ScriptedProvider(name="other"),
    )
    warm.credential = cold.credential = account  # type: ignore[attr-defined]
    speech = await make_service(warm, cold, other).synthesize(TEXT, format="pcm_8000")
    assert speech.provider == "other"
    assert not cold.requests, "the account would have paid twice"
    alone = await make_service(ScriptedProvider([Hang()], name="warm"), cold).synthesize(TEXT, format="pcm_8000")
    assert alone.provider == "cold"


_TROUBLES: list[TTSError] = [
    DOWN,
    TTSConnectError("refused"),
    TTSNoAnswerError("hung up"),
    TTSReadTimeoutError("no audio"),
    TTSEmptyAudioError("empty"),
    TTSQuotaExceededError("no credit", status=401),
]
_acts = st.lists(
    st.sampled_from(
        [
            *_TROUBLES,
            Say(first_after=0.0, then=TTSCutError("cut")),
            Say(first_after=0.0, then=DOWN),
            Say(0.1, first_after=0.0),
            Say(first_after=0.0),
        ]
    ),
    min_size=1,
)


@given(acts=st.lists(st.tuples(_acts, st.sampled_from("AB")), min_size=1, max_size=4))
def test_possibly_billed_text_goes_to_another_account_first(
    acts: list[tuple[list[Exception | Say], str]],
) -> None:
    providers: list[ScriptedProvider] = []
    for number, (actions, account) in enumerate(acts):
        provider = ScriptedProvider(actions, name=f"{account}{number}")
        provider.credential = Credential(account)  # type: ignore[attr-defined]
        providers.append(provider)
    attempts = asyncio.run(_spoken(list(providers)))
    paid: set[str] = set()
    spent: set[str] = set()  # accounts without credit: whoever shares one is on hold
    asked: set[str] = set()
    for attempt in attempts:
        if attempt.refused:
            asked.add(attempt.provider)
            continue
        account = attempt.provider[0]
        if account in paid:
            fresh = [p.name for p in providers if p.name[0] not in paid | spent and p.name not in asked]
            assert not fresh, f"{attempt.provider} was asked again before {fresh}"
        asked.add(attempt.provider)
        if attempt.bill.charge in (Charge.UNKNOWN, Charge.BILLED):
            paid.add(account)
        error = attempt.error
        if isinstance(error, TTSQuotaExceededError):
            spent.add(account)
        assert error is None or attempt.bill.wasted == attempt.bill.characters
        assert error is None or error.meaning.billed is Billed.NO or attempt.bill.charge is not Charge.NOT_SENT


async def _spoken(providers: list[Provider]):  # type: ignore[no-untyped-def]
    from random import Random

    from steadyvoice import AsyncTTSService, RetryConfig

    retry = RetryConfig(base_delay=0.0, max_delay=0.0)
    async with AsyncTTSService(providers, circuit=BRIEF, retry=retry, rng=Random(1)) as tts:
        return (await tts.synthesize(TEXT, format="pcm_8000")).attempts


def test_accepted_request_may_be_billed_whatever_follows() -> None:
    assert Accepted().characters_billed is None
    assert bill(DOWN, accepted=True).charge is Charge.UNKNOWN
