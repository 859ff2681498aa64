"""`steadyvoice sim`: the simulator in the foreground, for a client of one's own to be tried against."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from steadyvoice.cli.errors import ExitStatus, UsageError
from steadyvoice.simulator.runner import run
from steadyvoice.simulator.script import ScriptError


def sim(port: int, script: Path | None, profile: str | None, *, tls: bool = False) -> ExitStatus:
    """Serve until Ctrl-C. Raises UsageProblem for what cannot be played, or a port that cannot be had."""
    try:
        # Whoever reads this from a pipe needs the address now.
        run(port, script=script, profile=profile, tls=tls, show=partial(print, flush=True))
    except BrokenPipeError:
        raise
    except (ScriptError, ValueError) as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        if error.filename:
            raise UsageError(f"{error.filename} cannot be read: {error.strerror}") from None
        raise UsageError(
            f"port {port} cannot be had: {error.strerror}; name another with --port, or 0 for any"
        ) from None
    return ExitStatus.SPOKEN
