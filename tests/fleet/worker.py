"""Process of a fleet: calls a service that works unless a file exists, and writes a line for whatever happens.

python -m tests.fleet.worker ADDRESS NAME FOLDER
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitState, Event, StateChanged
from steadyvoice.fleet import Fleet


def main(address: str, name: str, folder: Path) -> None:
    """Call until killed. `down` in the folder: calls fail; `hang`: probes hang."""

    def write(line: str) -> None:
        print(name, line, flush=True)

    def note(event: Event) -> None:
        if isinstance(event, StateChanged):
            write(f"{event.to_state} {event.cause}")

    circuit = CircuitBreaker("service", CircuitBreakerConfig.adaptive(), listeners=[note])
    fleet = Fleet(address, [circuit], name="processes")
    fleet.start()
    replicas, state = -1, ""
    while True:
        status = fleet.status()
        if (len(status.replicas), status.state) != (replicas, state):
            replicas, state = len(status.replicas), status.state
            write(f"{state} {replicas}")
        permit = circuit.try_acquire()
        if permit is not None:
            if circuit.state is CircuitState.HALF_OPEN:
                write("probe")
                while (folder / "hang").exists():
                    time.sleep(0.02)
            if (folder / "down").exists():
                write("failure")
                permit.failure("down")
            else:
                permit.success()
        time.sleep(0.3)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
