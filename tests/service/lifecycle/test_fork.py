"""Forked processes: the child uses its own connections, and the parent is not disturbed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from steadyvoice.providers.espeak import is_installed
from steadyvoice.simulator import Simulator
from tests.providers.scripted_vendor import ConnectionAction, chunked_response, scripted_vendor
from tests.required_tools import require_tool

from ..fork_scripts import run_script
from ..scripted_provider import pcm

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="there is no fork"), pytest.mark.slow]

PRELUDE = """
import asyncio, json, logging, multiprocessing, os, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from steadyvoice import *
from steadyvoice.breaker import *
from steadyvoice.speech.errors import TTSQuotaExceededError, TTSServerError
from tests.service.fork_scripts import Child, in_child
from tests.service.scripted_provider import Hang, Say, ScriptedProvider

logging.getLogger("steadyvoice").addHandler(logging.NullHandler())

def say(tts, text="Good morning", **options):
    speech = tts.synthesize(text, format="pcm_16000", **options)
    return [speech.outcome, speech.provider, len(speech.attempts), len(speech.audio) > 1000]

def tell(*what):
    print(json.dumps(what))
"""

ESPEAK = ["spoken", "espeak", 1, True]
SOUND = pcm(2.0)
VENDOR = ["spoken", "elevenlabs", 1, True]


async def run(script: str, *arguments: str, until: asyncio.Event | None = None) -> Any:
    return await run_script(PRELUDE + dedent(script), *arguments, until=until)


async def test_children_of_a_parent_that_spoke_with_espeak_speak_and_close() -> None:
    require_tool(is_installed(), "espeakng-loader")
    result = await run("""
        espeak = Espeak()
        tts = TTSService([espeak])
        before, engine = say(tts), espeak.process_id

        def child():
            first, second, own = say(tts), say(tts), espeak.process_id
            tts.close()
            return [first, second, own]

        children = [Child(child) for _ in range(3)]
        meanwhile = [say(tts) for _ in range(5)]
        results = [child.result() for child in children]
        after, same = say(tts), espeak.process_id == engine
        tts.close()
        engines = {engine, *(result[2] for result in results)}
        tell(before, [result[:2] for result in results], meanwhile, after, same, len(engines))
    """)
    assert result == [ESPEAK, [[ESPEAK] * 2] * 3, [ESPEAK] * 5, ESPEAK, True, 4]


async def test_fork_while_the_parent_speaks_with_espeak() -> None:
    require_tool(is_installed(), "espeakng-loader")
    result = await run("""
        tts = TTSService([Espeak()])
        say(tts)
        text = "The quick brown fox jumps over the lazy dog. " * 60
        with ThreadPoolExecutor(2) as threads:
            long = [threads.submit(say, tts, text) for _ in range(2)]
            children = [Child(lambda: [say(tts), tts.close()][0]) for _ in range(3)]
            spoken = [each.result() for each in long]
        results = [child.result() for child in children]
        tts.close()
        tell(spoken, results)
    """)
    assert result == [[ESPEAK] * 2, [ESPEAK] * 3]


async def test_deadline_holds_in_a_child() -> None:
    result = await run("""
        tts = TTSService([ScriptedProvider([Say(), Hang()], name="vendor")], circuit=CircuitBreakerConfig())
        before = say(tts)
        results = [child.result() for child in [Child(lambda: say(tts, deadline=0.3)) for _ in range(2)]]
        tts.close()
        tell(before, results)
    """)
    assert result == [["spoken", "vendor", 1, True], [["muted", None, 1, True]] * 2]


async def test_close_returns_in_both_processes_in_any_order() -> None:
    require_tool(is_installed(), "espeakng-loader")
    result = await run("""
        def closed_first(by_child):
            tts = TTSService([Espeak(), Tone()])
            say(tts)
            if not by_child:
                child = Child(lambda: [time.sleep(0.2), tts.close()][1])
                tts.close()
                return child.result()
            result = in_child(tts.close)
            return [result, say(tts)[0], tts.close()]

        tell(closed_first(True), closed_first(False))
    """)
    assert result == [[None, "spoken", None], None]


async def test_parents_connections_stay_the_parents() -> None:
    async with scripted_vendor() as vendor:
        for _ in range(6):
            vendor.enqueue(chunked_response(SOUND, content_type="audio/pcm"))
        result = await run(
            """
            tts = TTSService([ElevenLabs("sk_test", base_url=sys.argv[1])])
            before = say(tts)
            results = [child.result() for child in [Child(lambda: [say(tts), tts.close()][0]) for _ in range(3)]]
            after = say(tts), say(tts)
            tts.close()
            tell(before, results, after)
            """,
            vendor.url,
        )
        assert result == [VENDOR, [VENDOR] * 3, [VENDOR] * 2]
        assert vendor.connections == 4  # one of the parent, used three times, and one of each child


async def test_children_speak_to_the_simulator_while_the_parent_streams() -> None:
    async with Simulator(voice="tones", real_time_factor=0.05) as sim:
        result = await run(
            """
            tts = TTSService([ElevenLabs("sk_test", base_url=sys.argv[1]), Tone()])
            say(tts)
            text = "It was a bright cold day in April, and the clocks were striking thirteen. " * 4
            with tts.stream(text, format="pcm_16000") as stream:
                size = len(next(stream))
                children = [Child(lambda: [say(tts), tts.close()][0]) for _ in range(3)]
                size += sum(map(len, stream))
            results = [child.result() for child in children]
            whole = len(tts.synthesize(text, format="pcm_16000").audio)
            tts.close()
            tell(results, stream.outcome, len(stream.attempts), size == whole)
            """,
            sim.url,
        )
        assert result == [[VENDOR] * 3, "spoken", 1, True]


async def test_stream_begun_before_the_fork_ends_with_an_error_in_the_child_only() -> None:
    async with Simulator(voice="tones", real_time_factor=0.05) as sim:
        result = await run(
            """
            tts = TTSService([ElevenLabs("sk_test", base_url=sys.argv[1])], on_midstream="error")
            stream = tts.stream("It was a bright cold day in April. " * 4, format="pcm_16000")
            next(stream)

            def child():
                try:
                    next(stream)
                except TTSStreamInterruptedError as error:
                    stream.close()
                    return [str(error), stream.outcome, say(tts), tts.close()]

            results = [in_child(child), in_child(child)]
            for _ in stream:
                pass
            outcome = stream.outcome
            tts.close()
            tell(results, outcome)
            """,
            sim.url,
        )
    results, outcome = result
    assert outcome == "spoken"
    for message, child_outcome, spoken, closed in results:
        assert "this process was forked" in message
        assert (child_outcome, spoken, closed) == ("interrupted", VENDOR, None)


async def test_vendor_sees_the_parent_hang_up_while_a_child_lives() -> None:
    async with scripted_vendor() as vendor:
        vendor.enqueue(chunked_response(SOUND, end=False, content_type="audio/pcm"), ConnectionAction.HANG)
        result = await run(
            """
            tts = TTSService([ElevenLabs("sk_test", base_url=sys.argv[1])], on_midstream="error")
            stream = tts.stream("Good morning", format="pcm_16000")
            next(stream)
            child = Child(sys.stdin.read)
            stream.close()
            tell(child.result())
            """,
            vendor.url,
            until=vendor.client_left,
        )
        assert result == [""]


async def test_fork_of_a_fork_and_forks_by_multiprocessing_and_from_another_thread() -> None:
    require_tool(is_installed(), "espeakng-loader")
    result = await run("""
        tts = TTSService([Espeak()])
        say(tts)

        def spoken_and_closed():
            spoken = say(tts)
            tts.close()
            return spoken

        grandchild = in_child(lambda: [say(tts), in_child(spoken_and_closed), spoken_and_closed()])
        with ThreadPoolExecutor(1) as threads:
            of_thread = threads.submit(in_child, spoken_and_closed).result()
        context = multiprocessing.get_context("fork")
        with context.Pool(2) as pool:
            pooled = [pool.apply(spoken_and_closed) for _ in range(2)]
        queue = context.SimpleQueue()
        process = context.Process(target=lambda: queue.put(spoken_and_closed()))
        process.start()
        by_process = queue.get()
        process.join()
        tell(grandchild, of_thread, pooled, by_process, process.exitcode, spoken_and_closed())
    """)
    assert result == [[ESPEAK] * 3, ESPEAK, [ESPEAK] * 2, ESPEAK, 0, ESPEAK]


async def test_child_may_end_as_any_program_does(tmp_path: Path) -> None:
    """Run finalisers at the exit of a child, which must not use the parent's engine, connections or event loop."""
    require_tool(is_installed(), "espeakng-loader")
    async with Simulator(voice="tones", real_time_factor=0.05) as sim:
        result = await run(
            """
            tts = TTSService([ElevenLabs("sk_test", base_url=sys.argv[1]), Espeak()], cache=sys.argv[2])
            espeak = TTSService([Espeak()])
            say(espeak)
            text = "It was a bright cold day in April. " * 4
            with tts.stream(text, format="pcm_16000") as stream:
                next(stream)
                for _ in range(2):
                    if os.fork() == 0:
                        say(tts, "Hello"), say(espeak)
                        sys.exit()
                    assert os.wait()[1] == 0
                for _ in stream:
                    pass
            tell(stream.outcome, len(stream.attempts), say(espeak), espeak.close(), tts.close())
            """,
            sim.url,
            str(tmp_path),
        )
    assert result == ["spoken", 1, ESPEAK, None, None]


async def test_async_service_speaks_in_the_own_loop_of_a_child() -> None:
    require_tool(is_installed(), "espeakng-loader")
    async with Simulator(voice="tones", real_time_factor=0.05) as sim:
        result = await run(
            """
            tts = AsyncTTSService([ElevenLabs("sk_test", base_url=sys.argv[1])])
            espeak = AsyncTTSService([Espeak()])

            async def speak():
                speeches = [await each.synthesize("Good morning", format="pcm_16000") for each in (tts, espeak)]
                return [[speech.outcome, speech.provider] for speech in speeches]

            async def child():
                spoken = await speak()
                await tts.aclose()
                await espeak.aclose()
                return spoken

            async def main():
                before = await speak()
                inside = in_child(lambda: asyncio.new_event_loop().run_until_complete(child()))
                async with tts.stream("It was a bright cold day in April. " * 4, format="pcm_16000") as stream:
                    await anext(stream)
                    midway = in_child(lambda: ThreadPoolExecutor(1).submit(asyncio.run, child()).result())
                    async for _ in stream:
                        pass
                return [before, inside, midway, stream.outcome, await child()]

            between = asyncio.run(main()), in_child(lambda: asyncio.run(child()))
            tell(*between)
            """,
            sim.url,
        )
    both = [["spoken", "elevenlabs"], ["spoken", "espeak"]]
    assert result == [[both, both, both, "spoken", both], both]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
async def test_child_holds_no_pipe_of_the_parents_engine() -> None:
    """An engine ends when its stdin does: when no process holds the other end."""
    require_tool(is_installed(), "espeakng-loader")
    result = await run("""
        def files_of(process):
            paths = [f"/proc/{process}/fd/{each}" for each in os.listdir(f"/proc/{process}/fd")]
            return {os.readlink(path) for path in paths if os.path.lexists(path)}

        espeak = Espeak()
        tts = TTSService([espeak])
        say(tts)
        pipes = {each for each in files_of(espeak.process_id) if each.startswith("pipe:")}
        inherited = in_child(lambda: len(pipes & files_of("self")))
        tell(len(pipes & files_of("self")), inherited, tts.close())
    """)
    assert result == [2, 0, None]  # it has put its stderr away


async def test_child_encodes_though_the_parents_threads_did_not_come_along() -> None:
    result = await run("""
        tts = TTSService([Tone()])
        text = "The quick brown fox jumps over the lazy dog. " * 3

        def encoded():
            return len(tts.synthesize(text, format="mp3_44100_128").audio)

        before = encoded()
        with ThreadPoolExecutor(2) as threads:
            meanwhile = [threads.submit(encoded) for _ in range(2)]
            children = [Child(lambda: [encoded(), tts.close()]) for _ in range(2)]
            results = [child.result() for child in children]
            spoken = {each.result() for each in meanwhile}
        tts.close()
        tell(spoken == {before}, [result == [before, None] for result in results])
    """)
    assert result == [True, [True] * 2]


async def test_requests_that_run_in_the_parent_take_no_place_in_the_child() -> None:
    async with Simulator(voice="tones", concurrency=2, real_time_factor=0.05) as sim:
        result = await run(
            """
            tts = TTSService([ElevenLabs("sk_test", base_url=sys.argv[1])])
            say(tts)
            text = "It was a bright cold day in April. " * 4
            with tts.stream(text, format="pcm_16000") as one, tts.stream(text, format="pcm_16000") as other:
                next(one), next(other)
                in_use = tts.get_error_state()["concurrency"]["in_use"]
                in_child_use = in_child(lambda: tts.get_error_state()["concurrency"]["in_use"])
            tts.close()
            tell(in_use, in_child_use)
            """,
            sim.url,
        )
    assert result == [2, 0]


async def test_question_for_the_credit_that_the_parent_puts_keeps_no_child_from_closing() -> None:
    result = await run("""
        class Vendor(ScriptedProvider):
            async def credit(self):
                await asyncio.Event().wait()

        vendor = Vendor([TTSQuotaExceededError("no credit")])
        tts = TTSService([vendor, Tone()])
        say(tts)
        tell(in_child(lambda: [say(tts)[0], tts.close()]), tts.close())
    """)
    assert result == [["substituted", None], None]


async def test_children_back_off_for_different_times() -> None:
    result = await run("""
        async def fail():
            raise TTSServerError("HTTP 503")

        class SleptError(Exception):
            pass

        async def sleep(seconds):
            raise SleptError(seconds)

        handler = TTSErrorHandler("vendor", sleep=sleep)

        def delay():
            try:
                asyncio.run(handler.execute_with_retry(fail))
            except SleptError as slept:
                return slept.args[0]

        tell(*[in_child(delay) for _ in range(3)])
    """)
    assert len(set(result)) == 3
    assert all(isinstance(delay, float) for delay in result)
