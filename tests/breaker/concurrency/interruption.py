"""Interruption by exceptions where CPython looks for signals: at a function's entry, behind a call, at a jump back.

A tracer raises at one of those places in the code of a package, so that a test can try them all, one by one.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Iterator
from dis import opname
from functools import cache
from itertools import count
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import steadyvoice.breaker

PACKAGE = str(Path(steadyvoice.breaker.__file__).parent)


class InterruptionError(BaseException):
    """Exception that the signal handler raises."""


Place = tuple[int, int]
"""Number of an entry of a frame of the package, and of a place behind that entry."""


class Interruption:
    """Raises at a place, or finds all `places` and raises at none. As a context manager it swallows what it raised.

    Only the frame of the place is traced by the instruction, which takes most of the time: the code that is run has to
    be deterministic.
    """

    def __init__(self, place: Place | None = None) -> None:
        self.places: list[Place] = []
        self.happened = False
        self._place = place
        self._entries = -1

    def __enter__(self) -> Interruption:
        sys._getframe().f_trace_opcodes = True  # 3.12 asks at settrace() whether any frame wants them
        sys.settrace(self._enter_frame)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        sys.settrace(None)
        return isinstance(error, InterruptionError)

    def __str__(self) -> str:
        return f"interrupted at place {self._place}"

    def _enter_frame(self, frame: FrameType, event: str, about: object) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        self._entries += 1
        if self._place and self._place[0] != self._entries:
            return None
        # Signals are handled between instructions, of which one line has several.
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._steps_of(self._entries)

    def _steps_of(self, entry: int) -> Callable[..., Any]:
        """Return the tracer of one entry of a frame. It keeps no frame, whose objects would live longer by that."""
        before: int | None = None
        numbers = count()

        def step(frame: FrameType, event: str, about: object) -> None:
            nonlocal before
            if event == "opcode":
                last, before = before, frame.f_lasti
                if last is not None and _looks_for_signals(frame.f_code, last, frame.f_lasti):
                    self._reach((entry, next(numbers)))

        return step

    def _reach(self, place: Place) -> None:
        if self._place is None:
            self.places.append(place)
        elif place == self._place:
            self.happened = True
            raise InterruptionError


def interruptions() -> Iterator[Interruption]:
    """Yield an interruption for each place of code that runs under the first two, which raise at none.

    The first one fills caches, such as that of the kinds of functions.
    """
    yield Interruption()
    yield (finding := Interruption())
    for place in finding.places:
        yield (interruption := Interruption(place))
        assert interruption.happened, interruption


@cache
def _looks_for_signals(code: CodeType, before: int, instruction: int) -> bool:
    """Whether CPython may call a signal handler between two instructions.

    It raises from the first of them; a tracer, from the second. So both must have the same `except` or `with` around.
    """
    name = opname[code.co_code[before]]
    return name.startswith(("RESUME", "CALL", "JUMP_BACKWARD")) and _handler(code, before) == _handler(
        code, instruction
    )


def _handler(code: CodeType, instruction: int) -> int | None:
    for entry in dis._parse_exception_table(code):  # type: ignore[attr-defined]
        if entry.start <= instruction < entry.end:
            target: int = entry.target
            return target
    return None
