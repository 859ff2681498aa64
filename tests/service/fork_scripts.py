"""Helpers to run scripts in a process of their own, and to fork in them.

Python 3.12 warns of a fork with threads, so that a test cannot fork by itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 20.0  # seconds for a child; only one that hangs needs them
ROOT = Path(__file__).parents[2]


class Child:
    """A forked process that calls a function and reports what it returns."""

    def __init__(self, function: Callable[[], Any]) -> None:
        # Or both processes would write what is buffered.
        sys.stdout.flush()
        self._reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.write(writing, json.dumps(function()).encode())
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                # Without the cleanup of an ordinary exit, which belongs to the parent: its atexit handlers and tests.
                os._exit(status)
        # Or the pipe would not end with the child.
        os.close(writing)

    def result(self) -> Any:
        """Wait for it to end. One that hangs is killed, and reported as such."""
        hangs = not select.select([self._reading], [], [], PATIENCE)[0]
        if hangs:
            os.kill(self.pid, signal.SIGKILL)
        with os.fdopen(self._reading, "rb") as pipe:
            output = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        if hangs:
            return "hangs"
        return json.loads(output) if status == 0 else f"status {status}"


def in_child(function: Callable[[], Any]) -> Any:
    """Call it in a forked process, and return what it returns there."""
    return Child(function).result()


async def run_script(script: str, *arguments: str, until: asyncio.Event | None = None) -> Any:
    """Run a script whose last line of output is JSON, and return that. Anything on stderr is an error.

    Its stdin ends when `until` is set.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )
    ended = asyncio.create_task(_ended(process.stdin, until))
    try:
        async with asyncio.timeout(50):
            out, complaints = await asyncio.gather(_all_of(process.stdout), _all_of(process.stderr))
            await process.wait()
    finally:
        ended.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode or complaints:
        raise AssertionError(f"exit status {process.returncode}: {complaints.decode()}")
    return json.loads(out.splitlines()[-1])


async def _ended(stdin: asyncio.StreamWriter | None, until: asyncio.Event | None) -> None:
    assert stdin is not None
    if until is not None:
        await until.wait()
    stdin.close()


async def _all_of(pipe: asyncio.StreamReader | None) -> bytes:
    assert pipe is not None
    return await pipe.read()
