"""Circuit that is shared by a fleet: applies the decisions of the quorum to it, and takes turns in probing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from steadyvoice.breaker import CircuitBreaker, CircuitState
from steadyvoice.fleet import quorum
from steadyvoice.fleet.evidence import CircuitEvidence
from steadyvoice.fleet.quorum import Observation
from steadyvoice.fleet.records import CircuitRecord
from steadyvoice.fleet.store import LeaseClaim

PROBE_LEASE = 2.0
"""Seconds for which the right to probe is leased; a replica that uses it renews it at each beat."""
PROBE_GRANT = 1.5
"""Seconds from a beat on for which its circuit may probe: less than the lease, so that it never outlasts it."""
PROBE_HEARD = 1.0
"""Age in seconds up to which a record says that another replica probes; after that, it may have died."""
MAX_SPREAD = 5.0
"""Seconds over which replicas that find themselves alone begin to probe."""

_logger = logging.getLogger("steadyvoice.fleet")


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedCircuitStatus:
    """Circuit as the fleet has it.

    `is_outlier`: it is open here by its own evidence, while calls succeed at most of the others. `may_probe`: this
    replica holds the lease of its probes. `duplicate_probes` were in flight while another replica probed as well.
    """

    name: str  # name of the circuit
    state: str  # state at this replica
    is_outlier: bool
    may_probe: bool
    duplicate_probes: int  # probes in flight while another replica probed as well
    states_elsewhere: Mapping[str, str]  # states by replica


class SharedCircuit:
    """Circuit of this replica, shared with others. Used by one thread."""

    def __init__(self, circuit: CircuitBreaker, random: Callable[[], float]) -> None:
        self.circuit = circuit
        self.resource = f"probe/{circuit.name}"
        self.is_outlier = False
        self.duplicate_probes = 0
        self._random = random
        self._evidence = CircuitEvidence(circuit)
        self._holds_lease = False
        self._is_gated = False
        self._ungate_at: float | None = None
        self._recover_at: float | None = None
        self._others: Sequence[Observation] = ()

    @property
    def record(self) -> CircuitRecord:
        """Record of the last observation."""
        return self._evidence.record

    def status(self) -> SharedCircuitStatus:
        """Return the circuit as the fleet has it."""
        return SharedCircuitStatus(
            name=self.circuit.name,
            state=self.circuit.state.value,
            is_outlier=self.is_outlier,
            may_probe=self._holds_lease,
            duplicate_probes=self.duplicate_probes,
            states_elsewhere={each.replica: each.record.state for each in self._others},
        )

    def observe(self, now: float) -> CircuitRecord:
        """Read the circuit, and return its record."""
        return self._evidence.observe(now)

    def claim(self) -> LeaseClaim | None:
        """Return what this replica wants of the lease of probes; None if it neither wants nor holds it."""
        wanted = self._evidence.wants_probe and self._recover_at is None
        probing = [each for each in self._others if each.record.probes_in_flight and each.delay < PROBE_HEARD]
        if probing and not self.record.probes_in_flight:
            wanted = False  # another one that held a lease has found a caller first
        if not (wanted or self._holds_lease):
            return None
        return LeaseClaim(self.resource, int(wanted), self._evidence.probe_leases, PROBE_LEASE)

    # ---------------------------------------------------------------- together

    def apply(self, replica: str, others: Sequence[Observation], leased: int, sent_at: float, now: float) -> None:
        """Act on a beat that was sent at `sent_at` and came back: open, prolong, close, and let probe."""
        mine, self._others = Observation(replica, self.record), others
        comparable = [each for each in others if each.record.digest == self.record.digest]
        # What was decided for a state that is over, by hand or by the circuit itself while the store was waited for,
        # must not undo the new one: the next beat decides anew.
        match None if self._evidence.is_outdated else self.record.state:
            case CircuitState.CLOSED | CircuitState.MONITORING:
                self._recover_at = None
                opening = quorum.decide_opening(mine, comparable, self._evidence.config)
                if opening is not None:
                    self.circuit.trip(opening.reason, opening.cooldown, level=opening.level)
            case CircuitState.OPEN | CircuitState.HALF_OPEN:
                self._apply_while_open(mine, comparable, now)
        self._grant(leased, sent_at, now)
        self._note_disagreement(comparable)

    def _apply_while_open(self, mine: Observation, others: Sequence[Observation], now: float) -> None:
        if quorum.recovered_elsewhere(mine, others):
            # Not all at once: a vendor that just came back must not meet the traffic of all replicas in one moment.
            if self._recover_at is None:
                names = [each.replica for each in others]
                self._recover_at = now + quorum.return_delay(mine.replica, names, self._random())
            if now >= self._recover_at:
                self.circuit.recover("probes of another replica succeeded")
            return
        self._recover_at = None
        longer = quorum.decide_prolonging(mine, others)
        if longer is not None:
            self.circuit.trip(longer.reason, longer.cooldown, level=longer.level)
        elif self.record.state == "half_open" and quorum.probes_suffice(mine, others, self._evidence.config):
            self.circuit.recover("probes of several replicas succeeded")
            self._evidence.note_recovery()

    def _grant(self, leased: int, sent_at: float, now: float) -> None:
        self._ungate_at = None
        if leased and self._recover_at is None:  # else the service works again, as others have found
            self.circuit.grant_probe(sent_at + PROBE_GRANT)
        elif self._holds_lease or not self._is_gated:
            self.circuit.grant_probe(now)
        self._is_gated, self._holds_lease = True, bool(leased)
        if leased and self.record.probes_in_flight:
            self.duplicate_probes += any(each.record.probes_in_flight for each in self._others)

    def _note_disagreement(self, others: Sequence[Observation]) -> None:
        """Note whether calls fail here and succeed at most of the others."""
        healthy = [
            e for e in others if e.record.state == "closed" and e.record.success_age is not None and not e.record.run
        ]
        failing = self.record.own_verdict and self.record.is_open and self._recover_at is None  # not about to return
        is_outlier = failing and len(healthy) * 2 > len(others)
        if is_outlier and not self.is_outlier:
            _logger.warning(
                "circuit %s is open here and works at %d of %d other replicas: look at this machine's own network",
                self.circuit.name,
                len(healthy),
                len(others),
            )
        self.is_outlier = is_outlier

    # ---------------------------------------------------------------- alone

    def leave(self, now: float) -> None:
        """Let the circuit decide alone: at once if it is closed, else after a random time, as the others do."""
        self._others, self._holds_lease, self.is_outlier, self._recover_at = (), False, False, None
        if self._is_gated and self._ungate_at is None:
            refusing = self.circuit.state in (CircuitState.OPEN, CircuitState.HALF_OPEN)
            spread = min(MAX_SPREAD, self._evidence.config.cooldown_period) * self._random() if refusing else 0.0
            self._ungate_at = now + spread
        self.pass_time(now)

    def pass_time(self, now: float) -> None:
        """Let it probe by itself once its time has come."""
        if self._ungate_at is not None and now >= self._ungate_at:
            self.circuit.grant_probe(None)
            self._is_gated, self._ungate_at = False, None

    def detach(self) -> None:
        """Give the circuit back as it was before it was shared."""
        if self._is_gated:
            self.circuit.grant_probe(None)
            self._is_gated = False
