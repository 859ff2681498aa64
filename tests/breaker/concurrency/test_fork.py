"""Forks at any moment: in the child, no lock stays held and no call of the parent counts."""

from __future__ import annotations

import sys
from textwrap import dedent
from typing import Any

import pytest

from tests.service.fork_scripts import run_script

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="there is no fork"), pytest.mark.slow]

PRELUDE = """
import json, os, sys, threading
from steadyvoice.breaker import *
from steadyvoice.breaker.testing import VirtualClock
from tests.service.fork_scripts import in_child

def in_thread(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread

def tell(*what):
    print(json.dumps(what))
"""


async def run(script: str) -> Any:
    return await run_script(PRELUDE + dedent(script))


async def test_lock_that_another_thread_holds_is_free_in_the_child() -> None:
    result = await run("""
        entered, leave = threading.Event(), threading.Event()
        stuck = False
        def clock():
            if stuck and threading.current_thread() is holder:
                entered.set()
                leave.wait()
            return 0.0

        breaker = CircuitBreaker("voice", clock=clock)
        permit = breaker.acquire()
        stuck = True
        holder = threading.Thread(target=permit.failure, daemon=True)
        holder.start()
        entered.wait()
        def child():
            breaker.force_open()
            return [breaker.state, breaker.snapshot().name]
        result = in_child(child)
        leave.set()
        holder.join()
        tell(result, breaker.state, breaker.snapshot().totals.failures)
    """)
    assert result == [["forced_open", "voice"], "closed", 1]


async def test_circuit_in_use_is_copied_consistently() -> None:
    result = await run("""
        registry = CircuitRegistry(CircuitBreakerConfig(window_size=50, failure_threshold=1.0))
        ended = threading.Event()
        def work(number):
            while not ended.is_set():
                breaker = registry.circuit(f"voice {number}")
                breaker.acquire().success()
                breaker.acquire().failure()
        threads = [in_thread(lambda number=number: work(number % 2)) for number in range(4)]
        def child():
            torn = 0
            for breaker in registry:
                breaker.acquire().success()
                snapshot = breaker.snapshot()
                torn += snapshot.calls != min(50, snapshot.totals.calls)
            registry.circuit("new")
            return torn
        results = [in_child(child) for _ in range(20)]
        ended.set()
        for thread in threads:
            thread.join()
        tell(results)
    """)
    assert result == [[0] * 20]


async def test_probe_of_the_parent_takes_no_place_in_the_child() -> None:
    result = await run("""
        clock = VirtualClock()
        breaker = CircuitBreaker("voice", CircuitBreakerConfig(success_threshold=1), clock=clock)
        breaker.acquire().failure(trip=True)
        clock.advance(60)
        probe = breaker.acquire()
        def child():
            state = breaker.state
            breaker.acquire().success()
            return [state, breaker.state]
        tell(in_child(child), breaker.state, probe.success(), breaker.state)
    """)
    assert result == [["half_open", "closed"], "half_open", None, "closed"]


async def test_calls_of_the_parent_do_not_hang_in_the_child() -> None:
    result = await run("""
        clock = VirtualClock()
        config = CircuitBreakerConfig(window_size=4, minimum_calls=2, hung_after=20)
        breaker = CircuitBreaker("voice", config, clock=clock)
        calls = [breaker.acquire() for _ in range(4)]
        def child():
            return state_after(30)
        def state_after(seconds):
            clock.advance(seconds)
            try:
                breaker.acquire().success()
            except CircuitOpenError:
                pass
            return breaker.state
        tell(in_child(child), state_after(30))
    """)
    assert result == ["closed", "open"]


async def test_call_that_forks_counts_in_both_processes() -> None:
    result = await run("""
        breaker = CircuitBreaker("voice", CircuitBreakerConfig(hung_after=20))
        def totals():
            return [breaker.snapshot().totals.successes, breaker.snapshot().in_flight]
        with breaker:
            reading, writing = os.pipe()
            child = os.fork()
        if child == 0:
            os.write(writing, json.dumps(totals()).encode())
            os._exit(0)
        os.waitpid(child, 0)
        tell(json.loads(os.read(reading, 100)), totals())
    """)
    assert result == [[1, 0], [1, 0]]


async def test_child_delivers_events_after_a_fork_inside_a_listener() -> None:
    result = await run("""
        entered, leave, heard = threading.Event(), threading.Event(), []
        def slow(event):
            heard.append(event.to_state)
            if len(heard) == 1:
                entered.set()
                leave.wait()
        breaker = CircuitBreaker("voice", listeners=[slow])
        thread = in_thread(breaker.force_open)
        entered.wait()
        breaker.close()
        def child():
            breaker.disable()
            return heard
        child_heard = in_child(child)
        leave.set()
        thread.join()
        tell(child_heard, heard)
    """)
    assert result == [["forced_open", "closed", "disabled"], ["forced_open", "closed"]]


async def test_owner_that_fails_keeps_no_other_from_being_renewed() -> None:
    result = await run("""
        import logging
        from steadyvoice.breaker.fork_safety import register_fork_aware

        class Messages(logging.Handler):
            def emit(self, record):
                messages.append(record.getMessage())

        class Owner:
            fork_lock = None
            def __init__(self):
                register_fork_aware(self)
            def after_fork(self):
                renewed.append(1)
                raise OSError("no more descriptors")

        renewed, messages = [], []
        logging.getLogger("steadyvoice.breaker").addHandler(Messages())
        owners = [Owner() for _ in range(3)]
        tell(*in_child(lambda: [len(renewed), messages]))
    """)
    assert result == [3, ["Owner was not renewed in a forked child"] * 3]
