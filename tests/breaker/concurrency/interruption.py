"""Interruption by exceptions where CPython looks for signals: at a function's entry, behind a call, at a jump back.

A tracer raises at the n-th of those places in the code of a package, so that a test can try them all, one by one.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from dis import opname
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import steadyvoice.breaker

PACKAGE = str(Path(steadyvoice.breaker.__file__).parent)


class InterruptionError(BaseException):
    """Exception that the signal handler raises."""


class Interruption:
    """Raises at the n-th place. As a context manager it swallows what it raised; `happened` tells whether it did."""

    def __init__(self, instruction: int) -> None:
        self.happened = False
        self._left = instruction
        self._before: dict[FrameType, int] = {}

    def __enter__(self) -> Interruption:
        sys._getframe().f_trace_opcodes = True  # 3.12 asks at settrace() whether any frame wants them
        sys.settrace(self._enter_frame)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        sys.settrace(None)
        self._before.clear()
        return isinstance(error, InterruptionError)

    def _enter_frame(self, frame: FrameType, event: str, about: object) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        # Signals are handled between instructions, of which one line has several.
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._step

    def _step(self, frame: FrameType, event: str, about: object) -> Callable[..., Any]:
        if event == "opcode":
            code, before = frame.f_code, self._before.get(frame)
            self._before[frame] = frame.f_lasti
            if before is not None and _looks_for_signals(code, before, frame.f_lasti):
                self._left -= 1
                if self._left < 0 and not self.happened:
                    self.happened = True
                    raise InterruptionError
        return self._step


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
