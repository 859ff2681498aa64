"""Fleet: shares the circuits of this process with those of other replicas, over a store.

Calls never wait for the store. A thread of its own beats four times a second: it reads the circuits, exchanges records,
and applies what follows. While the store cannot be reached, each replica goes on by its own evidence.
"""

from __future__ import annotations

import logging
import os
import random as random_module
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, NamedTuple

from steadyvoice._option_rules import Number, short_repr
from steadyvoice.breaker import Cause, CircuitBreaker
from steadyvoice.breaker.fork_safety import register_fork_aware
from steadyvoice.fleet.announcements import Announcement, Announcements, Listener
from steadyvoice.fleet.heartbeat import RECORD_LIFE, BeatThread, FleetState, Membership
from steadyvoice.fleet.quorum import Observation
from steadyvoice.fleet.records import (
    MAX_CIRCUITS,
    MAX_NAME_LENGTH,
    ReplicaRecord,
    SlotRecord,
    decode_record,
    encode_record,
    fingerprint,
)
from steadyvoice.fleet.redis_store import RedisStore
from steadyvoice.fleet.shared_circuit import SharedCircuit, SharedCircuitStatus
from steadyvoice.fleet.shared_limits import SharedAccounts, SharedSlotsStatus, SlotAccount
from steadyvoice.fleet.store import BeatReply, FleetStore, FleetStoreError, FleetURLError, LeaseClaim

SETTINGS_SPREAD = 10.0
"""Seconds that changed settings may take until all replicas have them; a difference that lasts longer is reported."""
ORDER_LIFE = 24 * 3600.0
"""Seconds for which replicas that join later follow an order for a circuit."""
CIRCUIT_ORDERS = "circuit/"
MANUAL_CAUSES = (Cause.MANUAL, Cause.RESET)
REPLICAS = Number(integer=True, minimum=1, maximum=10_000)
_logger = logging.getLogger("steadyvoice.fleet")


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """Address of a store, as in `redis://localhost:6379/0`, and the name by which processes share.

    A replica that starts without a store takes its share of an account's limit, as one of `expected_replicas`. Raises
    FleetURLError for an address, a name or a number that cannot be used. No connection is opened.
    """

    url: str = field(repr=False)  # address of the store; never shown
    name: str = "default"  # processes of the same name share
    expected_replicas: int = 1
    """Replicas: a process that starts without the store takes this part of each account's limit."""

    def __post_init__(self) -> None:
        if not REPLICAS.accepts(self.expected_replicas):
            shown = short_repr(self.expected_replicas)
            raise FleetURLError(f"expected_replicas: {REPLICAS.expected}, got {shown}")
        self.open_store()

    def open_store(self) -> FleetStore:
        """Return the store, which connects with the first beat."""
        return RedisStore(self.url, self.name)


class FleetHold(NamedTuple):
    """Account that a replica set aside: why, and for how many seconds more."""

    reason: str  # sentence for people
    remaining: float  # seconds


class _Peer(NamedTuple):
    """Record of another replica, and its age when it was received, at a time of this process's clock."""

    replica: str
    record: ReplicaRecord
    age: float
    received_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetStatus:
    """Fleet as this replica has it.

    `replicas` are the others, with the seconds since their last record, and `replica_states` what they are themselves.
    `ignored_records` could not be read, or were not meant for this fleet. `slots` are those of the accounts that have a
    limit. `different_settings` are the circuits whose settings differ at another replica, which share nothing with it.
    """

    state: FleetState  # state of this replica
    replica: str  # id of this replica
    store: str  # address of the store, without credentials
    replicas: Mapping[str, float]
    replica_states: Mapping[str, str]
    circuits: Mapping[str, SharedCircuitStatus]  # by name
    slots: Mapping[str, SharedSlotsStatus]
    different_settings: tuple[str, ...]
    beats: int  # beats that the store answered
    missed_beats: int  # beats that it did not answer in time
    ignored_records: int  # records that could not be read, or were not meant for this fleet
    last_error: str | None  # text of the last failure of the store

    def as_dict(self) -> dict[str, Any]:
        """Return the status as JSON-ready values."""
        return {**asdict(self), "state": self.state.value, "different_settings": list(self.different_settings)}


class Fleet:
    """Circuits of this process, shared with those of other replicas.

    `store` is the address of a Redis or Valkey server, as in `redis://localhost:6379/0`; processes of the same `name`
    share. Or it is a `FleetConfig`, or a store of your own. `circuits` are breakers, or a `CircuitRegistry`, to which
    circuits may be added later; their clocks must be `clock`. Circuits share by name, and only with circuits of the
    same settings. `accounts` share their concurrency limits; `expected_replicas` is as in `FleetConfig`.
    `on_beat` is called with the fleet after each beat, in the thread that beats. `start()` begins to beat, in a thread;
    `close()` leaves the fleet. In a forked child, a new replica begins by itself. Raises FleetURLError for an address
    or a name that cannot be used.

    - `expected_replicas`: replicas, as in `FleetConfig`.
    - `random`: function that returns numbers in [0, 1), to spread the beats.
    - `key`: subject; a later announcement of the same key replaces the former.
    - `kind`: word that those who use the key have agreed on.
    - `reason`: sentence for people.
    - `body`: text that those who use the key have agreed on.
    - `seconds`: seconds until it is over.
    - `circuit`: name of the circuit.
    - `account`: identity of a vendor's account, as SlotAccount has it.
    """

    def __init__(
        self,
        store: FleetConfig | FleetStore | str,
        circuits: Iterable[CircuitBreaker] = (),
        *,
        name: str = "default",
        accounts: Iterable[SlotAccount] = (),
        expected_replicas: int = 1,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random_module.random,
        on_beat: Callable[[Fleet], object] | None = None,
    ) -> None:
        if isinstance(store, str):
            store = FleetConfig(store, name, expected_replicas)
        self.name = store.name if isinstance(store, FleetConfig) else name
        self.store: FleetStore = store.open_store() if isinstance(store, FleetConfig) else store
        self._expected = store.expected_replicas if isinstance(store, FleetConfig) else expected_replicas
        self._circuits, self._accounts, self._on_beat = circuits, accounts, on_beat
        self.hurry = threading.Event()
        """Event that hurries the next beat, set when a request begins to wait for a slot. Safe from any thread."""
        self._clock = clock
        self._random = random
        self._beat_lock = threading.Lock()  # held during a beat: only the thread, `close()` and a fork wait for it
        self.announcements = Announcements(clock)
        """Facts and orders of all replicas that count here."""
        self._listeners: tuple[Listener, ...] = ()
        self._thread: BeatThread | None = None
        self._begin()
        register_fork_aware(self)

    def _begin(self) -> None:
        """Begin as a replica that no other has heard of."""
        self.replica = f"{socket.gethostname()[:60]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._membership = Membership()
        self._shared: dict[str, SharedCircuit] = {}
        self._slots = SharedAccounts(self._accounts, self.name, self._expected)
        self._peers: tuple[_Peer, ...] = ()
        self._different: dict[str, float] = {}  # time since when the settings of a circuit differ
        self._warned: frozenset[str] = frozenset()
        self._run: str | None = None
        self._beats = self._missed = self._ignored = 0
        self._last_error: str | None = None

    # ---------------------------------------------------------------- life

    def start(self) -> None:
        """Begin to beat, in a daemon thread. Started already, nothing changes."""
        with self._beat_lock:
            if self._thread is None:
                self._thread = BeatThread(self, self._random)
                self._thread.start()

    def close(self) -> None:
        """Leave the fleet: the others forget this replica, and its circuits go on by their own evidence."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()
        with self._beat_lock:
            try:
                self.store.leave(self.replica)
            except FleetStoreError as error:
                _logger.info("fleet %s: left without notice: %s", self.name, error)
            for shared in self._shared.values():
                shared.detach()
            self._slots.detach()
            self._shared, self._peers = {}, ()
            self._membership = Membership()
            self.store.close()

    def __enter__(self) -> Fleet:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def fork_lock(self) -> threading.Lock:
        """Lock that is held while the process forks."""
        return self._beat_lock

    def after_fork(self) -> None:
        """Become a replica of its own in a forked child: with another name, connection and thread, without leases."""
        self._beat_lock = threading.Lock()
        self.announcements = Announcements(self._clock)
        was_running, self._thread = self._thread is not None, None
        for shared in self._shared.values():
            shared.detach()
        self.store.renew()
        self._begin()
        if was_running:
            self.start()

    # ---------------------------------------------------------------- facts and orders

    def announce(self, key: str, kind: str, *, reason: str = "", body: str = "", seconds: float = 60.0) -> int:
        """State a fact or an order for all replicas, those included that join within so many seconds.

        Return its revision: of two announcements with the same key, that of the higher revision counts. Raises
        ValueError for text that is too long.
        """
        made = self.announcements.announce(self.replica, key, kind, reason, body, seconds)
        self.hurry.set()
        return made.revision

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each new announcement of another replica, in the thread that beats; return its end."""
        self._listeners += (listener,)

        def unsubscribe() -> None:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

        return unsubscribe

    def open_everywhere(self, circuit: str, reason: str = "", seconds: float | None = None) -> None:
        """Force a circuit open at all replicas, for so many seconds; None: for a day, or until it is reset."""
        life = ORDER_LIFE if seconds is None else seconds
        self._order(f"{CIRCUIT_ORDERS}{circuit}", "open", reason or "forced open everywhere", life)

    def reset_everywhere(self, circuit: str, reason: str = "") -> None:
        """Reset a circuit at all replicas: those whose circuit has not changed since."""
        self._order(f"{CIRCUIT_ORDERS}{circuit}", "reset", reason or "reset everywhere", ORDER_LIFE)

    def _order(self, key: str, kind: str, reason: str, seconds: float) -> None:
        made = self.announcements.announce(self.replica, key, kind, reason, "", seconds)
        self._follow(made)
        self.hurry.set()

    def _follow(self, order: Announcement) -> None:
        """Carry out an order for a circuit."""
        name = order.key.removeprefix(CIRCUIT_ORDERS)
        circuit = next((circuit for circuit in self._circuits if circuit.name == name), None)
        if name == order.key or circuit is None:
            return
        changed = circuit.snapshot().last_transition
        if changed is not None and changed.at > order.at and (order.kind == "reset" or changed.cause in MANUAL_CAUSES):
            return  # by newer evidence, or by hand at this replica
        if order.kind == "open":
            circuit.force_open(order.reason, max(0.001, order.until - self._clock()))
        elif order.kind == "reset":
            circuit.reset(order.reason)

    def _adopt(self) -> None:
        """Take over what other replicas have announced."""
        stated = [(peer.age, peer.record.announcements) for peer in self._peers]
        for announcement in self.announcements.adopt(stated):
            try:
                self._follow(announcement)
                for listener in self._listeners:
                    listener(announcement)
            except Exception:
                # One that cannot be followed must not keep the beat from the others.
                _logger.exception("fleet %s: announcement %s failed", self.name, announcement.key)

    # ---------------------------------------------------------------- accounts

    def hold(self, account: str, reason: str, seconds: float) -> None:
        """Share with all replicas that an account is set aside: a bad key, a used up quota, a `Retry-After`.

        `account` may be the credential itself: only its fingerprint leaves the process. One replica's word is enough.
        """
        self.announce(self._hold_key(account), "hold", reason=reason, seconds=seconds)

    def lift(self, account: str, reason: str = "lifted") -> None:
        """Share with all replicas that the hold of an account is over."""
        if self.held(account) is not None:
            self.announce(self._hold_key(account), "lifted", reason=reason, seconds=ORDER_LIFE)

    def held(self, account: str) -> FleetHold | None:
        """Return the hold of an account, of this replica or another; None if there is none."""
        found = self.announcements.find(self._hold_key(account))
        if found is None or found.kind != "hold":
            return None
        return FleetHold(found.reason, found.until - self._clock())

    def _hold_key(self, account: str) -> str:
        return f"account/{fingerprint(self.name, account)}"

    # ---------------------------------------------------------------- readings

    @property
    def state(self) -> FleetState:
        """True if this replica is together with the others, stale, or alone."""
        return self._membership.state

    def status(self) -> FleetStatus:
        """Return the fleet as this replica has it."""
        # Without the lock of the beat, which may wait for the store: each of these is replaced as a whole.
        now, shared, peers = self._clock(), self._shared.copy(), self._peers
        return FleetStatus(
            state=self._membership.state,
            replica=self.replica,
            store=self.store.address,
            replicas={peer.replica: peer.age + now - peer.received_at for peer in peers},
            replica_states={peer.replica: peer.record.state for peer in peers},
            circuits={name: each.status() for name, each in shared.items()},
            slots=self._slots.status(),
            different_settings=tuple(sorted(self._different)),
            beats=self._beats,
            missed_beats=self._missed,
            ignored_records=self._ignored,
            last_error=self._last_error,
        )

    # ---------------------------------------------------------------- the beat

    def beat(self) -> None:
        """Exchange records with the others once, and apply what follows. The thread does this; tests may."""
        with self._beat_lock:
            sent_at = self._clock()
            self._update_circuits()
            record = self._make_record(sent_at)
            probes = [claim for shared in self._shared.values() if (claim := shared.claim())]
            claims = probes + self._slots.claims(self.replica, self._slots_elsewhere(), sent_at)
            self._beats += 1
            try:
                reply = self.store.beat(self.replica, encode_record(record), RECORD_LIFE, claims)
            except FleetStoreError as error:
                self._handle_miss(error)
            except Exception as error:
                # A store of another make that breaks its word must not keep this replica together with nobody.
                _logger.exception("fleet %s: the store failed", self.name)
                self._handle_miss(FleetStoreError(repr(error)))
            else:
                self._handle_reply(reply, claims, sent_at)
            if self._on_beat:
                self._on_beat(self)

    def _update_circuits(self) -> None:
        """Share circuits that were added, and no longer those that were removed."""
        circuits = {circuit.name: circuit for circuit in self._circuits if len(circuit.name) <= MAX_NAME_LENGTH}
        for name, shared in list(self._shared.items()):
            if circuits.get(name) is not shared.circuit:
                self._shared.pop(name).detach()
        for name, circuit in circuits.items():
            if name not in self._shared and len(self._shared) < MAX_CIRCUITS:
                self._shared[name] = SharedCircuit(circuit, self._random)

    def _make_record(self, now: float) -> ReplicaRecord:
        return ReplicaRecord(
            sequence=self._beats,
            circuits={name: shared.observe(now) for name, shared in self._shared.items()},
            state=self.state.value,
            announcements=self.announcements.records(),
            slots=self._slots.observe(now),
        )

    def _slots_elsewhere(self) -> dict[str, Mapping[str, SlotRecord]] | None:
        """Return the slots of the other replicas; None while this one is alone."""
        if self.state is FleetState.ALONE:
            return None
        return {peer.replica: peer.record.slots for peer in self._peers}

    def _handle_miss(self, error: FleetStoreError) -> None:
        self._missed += 1
        self._last_error = str(error)
        now, before = self._clock(), self._membership.state
        state = self._membership.record_miss(now)
        if state is not before:
            _logger.warning("fleet %s: %s, since the store fails: %s", self.name, state.value, error)
        if state is FleetState.ALONE:
            self._peers = ()
            for shared in self._shared.values():
                if before is not state:
                    shared.leave(now)
                shared.pass_time(now)
            self._slots.stand_alone(now)

    def _handle_reply(self, reply: BeatReply, claims: list[LeaseClaim], sent_at: float) -> None:
        now, before = self._clock(), self._membership.state
        state = self._membership.record_answer(now)
        lost_data = self._run not in (None, reply.run)
        if lost_data:
            _logger.warning("fleet %s: the store lost its data; leases begin again", self.name)
        self._run = reply.run
        if state is not before:
            _logger.info("fleet %s: %s, with %d other replicas", self.name, state.value, len(reply.records))
            self.hurry.set()  # this beat was sent without knowing of the others
        self._peers = tuple(self._read_records(reply, now))
        self._note_settings(now)
        self._adopt()
        for name, shared in self._shared.items():
            if state is FleetState.TOGETHER:
                others = [
                    Observation(peer.replica, circuit, peer.age)
                    for peer in self._peers
                    if (circuit := peer.record.circuits.get(name))
                ]
                shared.apply(self.replica, others, reply.leased.get(shared.resource, 0), sent_at, now)
            else:
                shared.pass_time(now)
        if state is FleetState.TOGETHER:
            self._slots.apply(reply, claims, now, lost_data=lost_data)
        else:
            self._slots.stand_alone(now)

    @property
    def wants_slots(self) -> bool:
        """True if requests wait for slots that are to come."""
        return self._slots.want_more

    def _read_records(self, reply: BeatReply, now: float) -> Iterable[_Peer]:
        for received in reply.records:
            record = decode_record(received.payload)
            if record is None:
                self._ignored += 1
            elif 0 <= received.age < RECORD_LIFE:
                yield _Peer(received.replica, record, received.age, now)

    def _note_settings(self, now: float) -> None:
        """Note the circuits whose settings differ at another replica, and warn of each once if it lasts."""
        different = {
            name
            for name, shared in self._shared.items()
            if any(
                (circuit := peer.record.circuits.get(name)) and circuit.digest != shared.record.digest
                for peer in self._peers
            )
        }
        self._different = {name: self._different.get(name, now) for name in different}
        lasting = {name for name, since in self._different.items() if now - since >= SETTINGS_SPREAD}
        for name in sorted(lasting - self._warned):
            _logger.warning("circuit %s has other settings at another replica: they share nothing of it", name)
        self._warned = frozenset(lasting)
