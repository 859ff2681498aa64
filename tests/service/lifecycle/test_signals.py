"""Signal handlers that raise in a thread that uses the synchronous service: it works on and leaves no thread."""

from __future__ import annotations

import sys

import pytest

from ..fork_scripts import run_script

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="there is no setitimer"), pytest.mark.slow]

SCRIPT = """
import json, logging, random, signal, sys, threading, warnings
from steadyvoice import Tone, TTSService

class SoftTimeLimitError(Exception):
    pass

def handler(number, frame):
    raise SoftTimeLimitError

logging.getLogger("steadyvoice").addHandler(logging.NullHandler())
sys.unraisablehook = lambda about: None  # in the standard library's own Thread.start() and WeakSet
warnings.simplefilter("ignore", RuntimeWarning)  # a coroutine that was interrupted before it was handed over
tts = TTSService([Tone()])
tts.synthesize("Hello")
dice = random.Random(1)
interrupted = 0
signal.signal(signal.SIGALRM, handler)
while interrupted < 150:
    try:
        signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-4, 12e-3))
        for _ in range(100):
            tts.synthesize("Hello", format="pcm_16000")
            with tts.stream("Hello again", format="pcm_16000") as stream:
                for _ in stream:
                    pass
            if dice.random() < 0.3:
                tts.close()
    except SoftTimeLimitError:
        interrupted += 1
signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, signal.SIG_DFL)
outcome = tts.synthesize("Hello").outcome
tts.close()
started = [thread for thread in threading.enumerate() if thread.ident]  # a signal may have kept one from its start
for thread in started:
    if thread is not threading.main_thread():
        thread.join(10)
state = tts.get_error_state()
living = sum(thread.is_alive() for thread in started)
print(json.dumps([outcome, living, state["circuit_state"], state["totals"]["failures"],
    state["concurrency"]["in_use"]]))
"""


async def test_interrupted_service_speaks_on_and_leaves_no_thread() -> None:
    assert await run_script(SCRIPT) == ["spoken", 1, "closed", 0, 0]
