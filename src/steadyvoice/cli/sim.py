"""`steadyvoice sim`: the simulator in the foreground, for testing other clients."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from steadyvoice.cli.errors import ExitStatus, UsageError
from steadyvoice.simulator.script import ScriptError
from steadyvoice.simulator.simulator import run


def sim(port: int, script: Path | None, profile: str | None, *, tls: bool = False) -> ExitStatus:
    """Serve until Ctrl-C. Raises UsageError for an invalid script or profile, and for a port that is in use."""
    try:
        # Flushed, because a program that reads the address from a pipe waits for it.
        run(port, script=script, profile=profile, tls=tls, show=partial(print, flush=True))
    except BrokenPipeError:
        raise
    except (ScriptError, ValueError) as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        if error.filename:
            raise UsageError(f"{error.filename} cannot be read: {error.strerror}") from None
        raise UsageError(
            f"cannot listen on port {port}: {error.strerror}; choose another with --port, or 0 for any free port"
        ) from None
    return ExitStatus.SPOKEN
