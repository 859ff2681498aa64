"""A request that is over is forgotten at once: nothing of it waits for the collector, which would stop everybody."""

from __future__ import annotations

import gc
from collections import Counter

import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from steadyvoice.gateway.exchange import Exchange
from steadyvoice.service.asking import Asking
from steadyvoice.service.attempt import Call
from steadyvoice.service.hearing import Hearing
from steadyvoice.service.output import Output
from steadyvoice.service.passing import PassingCall
from steadyvoice.service.service import AsyncSpeechStream
from steadyvoice.service.utterance import Utterance

from .house import ELEVENLABS, TEXT, visiting


@pytest.mark.parametrize("midstream", ["error", "resume"])
async def test_nothing_of_an_answer_is_left_behind(midstream: str) -> None:
    async with visiting(only_elevenlabs=True, on_midstream=midstream) as house:
        gc.collect()
        before = Counter(map(type, gc.get_objects()))  # other stories may hold on to theirs
        gc.disable()
        try:
            for _ in range(20):
                answer = await house.whole("POST", f"{ELEVENLABS}/stream", json={"text": TEXT})
                assert answer.headers["x-steadyvoice-outcome"] == "spoken"
                await house.next_call()
            left = Counter(map(type, gc.get_objects())) - before
        finally:
            gc.enable()

    kinds = (Exchange, RequestResponseCycle, AsyncSpeechStream, Utterance, Asking, Call, PassingCall, Hearing, Output)
    assert {kind: left[kind] for kind in kinds if left[kind] > 2} == {}, "but for the last, nobody is left behind"
