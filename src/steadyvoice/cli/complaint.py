"""How a command ends: its exit status, and one paragraph that says what happened, whose it is, and what to do next."""

from __future__ import annotations

import asyncio
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from steadyvoice.cli.streams import flush_errors, silence, tell
from steadyvoice.speech.errors import TTSError, TTSRequestError
from steadyvoice.speech.failure_kinds import Blame


class Status(IntEnum):
    """Exit statuses. Those from 130 on are the shell's 128 + signal."""

    SPOKEN = 0
    USAGE = 2
    MUTED = 3
    FAILED = 4
    INTERRUPTED = 130
    READER_GONE = 141
    TERMINATED = 143


class UsageProblem(Exception):
    """The command was asked for something it cannot do. The message says what to do instead."""


class MachineProblem(Exception):
    """Something on this machine failed while it was at work. The message says what to do next."""


@contextmanager
def reported(debug: bool) -> Iterator[None]:
    """Turn whatever a command raises into its paragraph and its status; a traceback only for `--debug`."""
    _configure_logging(debug)
    try:
        yield
    except typer.Exit:
        raise
    except BrokenPipeError:
        silence(1)
        raise typer.Exit(Status.READER_GONE) from None
    except KeyboardInterrupt:
        raise typer.Exit(Status.INTERRUPTED) from None
    except asyncio.CancelledError:
        raise typer.Exit(Status.TERMINATED) from None
    except Exception as error:
        if debug:
            tell("".join(traceback.format_exception(error)))
        tell(paragraph(error))
        raise typer.Exit(status_of(error)) from None


@contextmanager
def flushed() -> Iterator[None]:
    """Write what is left for standard output while its failure can still be told, and not when the interpreter ends."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        silence(1)
        sys.exit(Status.READER_GONE)
    except OSError as error:  # such as a full disk
        silence(1)
        tell(f"error (this machine's): standard output: {error.strerror or error}; not all of it was written")
        sys.exit(Status.FAILED)
    finally:
        flush_errors()


def status_of(error: Exception) -> Status:
    """Tell the caller's mistakes from everybody else's."""
    return Status.USAGE if isinstance(error, UsageProblem | TTSRequestError) else Status.FAILED


def paragraph(error: Exception) -> str:
    """Say it to a person. Errors of ours never hold a secret."""
    match error:
        case UsageProblem():
            return f"error ({_WHOSE[Blame.CALLER]}): {error}"
        case TTSError():
            return f"error ({_WHOSE[error.meaning.blame]}): {error}"
        case MachineProblem():
            return f"error (this machine's): {error}"
        case OSError():
            about = f": {error.filename}" if error.filename else ""
            return (
                f"error (this machine's): {error.strerror or error}{about}; nothing was kept; mend that and try again"
            )
        case _:
            return (
                f"error ({_WHOSE[Blame.US]}): {type(error).__name__}: {error}; "
                "please report it with what --debug prints"
            )


_WHOSE = {
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
