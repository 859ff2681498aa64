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
    """The command was asked for something it cannot do. The message says what to do instead."""


class MachineError(Exception):
    """Something on this machine failed while it was at work. The message says what to do next."""


@contextmanager
def reporting_errors(debug: bool) -> Iterator[None]:
    """Turn whatever a command raises into its paragraph and its status; a traceback only for `--debug`."""
    _configure_logging(debug)
    try:
        yield
    except typer.Exit:
        raise
    except BrokenPipeError:
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
    """Write what is left for standard output while its failure can still be told, and not when the interpreter ends."""
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
        print_error(f"error (this machine's): standard output: {error.strerror or error}; not all of it was written")
        sys.exit(ExitStatus.FAILED)
    finally:
        flush_stderr()


def exit_status(error: Exception) -> ExitStatus:
    """Tell the caller's mistakes from everybody else's."""
    return ExitStatus.USAGE if isinstance(error, UsageError | TTSRequestError) else ExitStatus.FAILED


def error_message(error: Exception) -> str:
    """Say it to a person. Errors of ours never hold a secret."""
    match error:
        case UsageError():
            return f"error ({_LABELS[Blame.CALLER]}): {error}"
        case TTSError():
            return f"error ({_LABELS[error.meaning.blame]}): {error}"
        case MachineError():
            return f"error (this machine's): {error}"
        case OSError():
            about = f": {error.filename}" if error.filename else ""
            return (
                f"error (this machine's): {error.strerror or error}{about}; nothing was kept; mend that and try again"
            )
        case _:
            return (
                f"error ({_LABELS[Blame.US]}): {type(error).__name__}: {error}; "
                "please report it with what --debug prints"
            )


_LABELS = {
    Blame.CALLER: "yours to mend",
    Blame.PROVIDER: "the provider's fault",
    Blame.NETWORK: "the network's fault",
    Blame.CREDENTIAL: "the account's",
    Blame.US: "steadyvoice's fault",
}


def _configure_logging(debug: bool) -> None:
    """Without a handler, Python would print our warnings itself, in the middle of everything."""
    if debug:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    else:
        logging.getLogger("steadyvoice").addHandler(logging.NullHandler())
