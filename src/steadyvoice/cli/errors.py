"""Exit statuses and error messages of the command: cause, responsible party and next step, in one paragraph."""

from __future__ import annotations

import asyncio
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from steadyvoice._extras import MissingExtraError
from steadyvoice.cli.standard_streams import flush_stderr, print_error, redirect_to_null
from steadyvoice.speech.errors import TTSError, TTSRequestError
from steadyvoice.speech.failure_kinds import Blame


class ExitStatus(IntEnum):
    """Exit statuses. Those from 130 on are the shell's 128 + signal."""

    SPOKEN = 0
    USAGE = 2
    MUTED = 3
    FAILED = 4
    INTERRUPTED = 130
    READER_GONE = 141
    TERMINATED = 143


class UsageError(Exception):
    """Usage error: the arguments, the configuration or the input are invalid. The message says how to correct them."""


class MachineError(Exception):
    """Error of this machine: a device, a program or the network failed. The message says what to do next."""


@contextmanager
def reporting_errors(debug: bool) -> Iterator[None]:
    """Turn the exceptions of a command into a message and an exit status, with a traceback only for `--debug`."""
    _configure_logging(debug)
    try:
        yield
    except typer.Exit:
        raise
    except BrokenPipeError:
        # The interpreter flushes standard output once more when it exits, and would print another error.
        redirect_to_null(1)
        raise typer.Exit(ExitStatus.READER_GONE) from None
    except KeyboardInterrupt:
        raise typer.Exit(ExitStatus.INTERRUPTED) from None
    except asyncio.CancelledError:
        raise typer.Exit(ExitStatus.TERMINATED) from None
    except Exception as error:
        if debug:
            print_error("".join(traceback.format_exception(error)))
        print_error(error_message(error))
        raise typer.Exit(exit_status(error)) from None


@contextmanager
def flushing_output() -> Iterator[None]:
    """Flush standard output at the end, while a failure can still be reported, unlike the interpreter's own flush."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        redirect_to_null(1)
        sys.exit(ExitStatus.READER_GONE)
    except OSError as error:  # such as a full disk
        redirect_to_null(1)
        print_error(f"system error: standard output: {error.strerror or error}; the output is incomplete")
        sys.exit(ExitStatus.FAILED)
    finally:
        flush_stderr()


def exit_status(error: Exception) -> ExitStatus:
    """Return the exit status of an error: USAGE for the caller's mistakes, FAILED for all others."""
    return ExitStatus.USAGE if isinstance(error, UsageError | TTSRequestError) else ExitStatus.FAILED


def error_message(error: Exception) -> str:
    """Return the message of an error, with its cause and the next step. Our errors never contain a secret."""
    match error:
        case UsageError():
            return f"{_LABELS[Blame.CALLER]}: {error}"
        case TTSError():
            return f"{_LABELS[error.meaning.blame]}: {error}"
        case MachineError() | MissingExtraError():
            return f"system error: {error}"
        case OSError():
            about = f": {error.filename}" if error.filename else ""
            return f"system error: {error.strerror or error}{about}; no output was kept; fix the cause and try again"
        case _:
            return f"{_LABELS[Blame.US]}: {type(error).__name__}: {error}; please report it with the output of --debug"


_LABELS = {
    Blame.CALLER: "usage error",
    Blame.PROVIDER: "provider error",
    Blame.NETWORK: "network error",
    Blame.CREDENTIAL: "account error",
    Blame.US: "internal error",
}


def _configure_logging(debug: bool) -> None:
    """Log everything to standard error for `--debug`, and nothing otherwise."""
    if debug:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    else:
        # Without any handler, Python prints warnings to standard error by itself.
        logging.getLogger("steadyvoice").addHandler(logging.NullHandler())
