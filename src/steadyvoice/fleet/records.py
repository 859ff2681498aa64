"""Records that replicas exchange: evidence of each circuit, slots of accounts, and announcements, as bounded JSON.

A record is read as untrusted input: its size, its numbers and the lengths of its lists are bounded, whatever does not
fit is refused as a whole, and unknown fields of newer versions are ignored. All ages are seconds before the record was
written, so the clocks of machines need not agree.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import fields
from typing import Annotated, TypeAlias

from steadyvoice._extras import require
from steadyvoice._option_rules import is_number
from steadyvoice.breaker import CircuitBreakerConfig

require("fleet", "msgspec")

import msgspec  # noqa: E402

VERSION = 1
MAX_RECORD_BYTES = 1_048_576
MAX_BUCKETS = 24
MAX_RUN_ENTRIES = 16
MAX_CIRCUITS = 256
MAX_NAME_LENGTH = 200
MAX_ACCOUNTS = 64
MAX_ANNOUNCEMENTS = 128
MAX_BODY_LENGTH = 65_536
MAX_REVISION = 2**53

Age: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
Weight: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=MAX_NAME_LENGTH)]


class ResultBucket(msgspec.Struct, frozen=True, array_like=True):
    """Results that came at about the same time: `failures` is a sum of weights, `slow` calls are among `calls`."""

    age: Age
    calls: Count
    failures: Weight
    slow: Count = 0


class FailureGroup(msgspec.Struct, frozen=True, array_like=True):
    """Failures of the present run that came at about the same time, as a sum of weights."""

    age: Age
    weight: Weight


class CircuitRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Record of a circuit at a replica.

    `buckets` are the results in its window, calls that hang (`hung`) not included; `run` are the failures since its
    last success, which was `success_age` seconds ago (None: there was none). `own_verdict` is whether it opened by its
    own evidence, not by that of others. `recovered_age` is set while it is closed because its own probes succeeded;
    `closed_age` while it is closed after having been open. `level` is that of its backoff; `remaining` the seconds left
    of its cooldown.
    """

    state: Text
    digest: Text = ""
    buckets: Annotated[tuple[ResultBucket, ...], msgspec.Meta(max_length=MAX_BUCKETS)] = ()
    run: Annotated[tuple[FailureGroup, ...], msgspec.Meta(max_length=MAX_RUN_ENTRIES)] = ()
    success_age: Age | None = None
    hung: Count = 0
    normal_rate: Share = 0.05
    own_verdict: bool = False
    opened_age: Age | None = None
    closed_age: Age | None = None
    recovered_age: Age | None = None
    remaining: Age | None = None
    level: Annotated[int, msgspec.Meta(ge=-1, le=1_000_000_000)] = -1
    probes_in_flight: Count = 0
    probe_successes: Count = 0
    probe_failures: Count = 0

    @property
    def is_open(self) -> bool:
        """True if calls are refused here for failures: open or half-open, but not forced."""
        return self.state in ("open", "half_open")


class AnnouncementRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Fact or order that one replica states for all: made by `origin`, `age` seconds ago, for `remaining` more."""

    revision: Annotated[int, msgspec.Meta(ge=1, le=MAX_REVISION)]
    origin: Text
    age: Age
    remaining: Age
    kind: Text
    reason: Text = ""
    body: Annotated[str, msgspec.Meta(max_length=MAX_BODY_LENGTH)] = ""


class SlotRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Requests of one account at one replica: running (`used`) and `queued`, the first of them for `waited` seconds.

    `block` is the number of slots that are leased to it, `recent` the most that it used or wanted at once lately. The
    limits are as in `SlotUsage`.
    """

    used: Count = 0
    queued: Count = 0
    block: Count = 0
    waited: Age = 0.0
    stated: Count | None = None
    maximum: Count | None = None
    initial: Count | None = None
    recent: Count = 0


class ReplicaRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that one replica tells the others: its own `state` in the fleet, and what it knows.

    `slots` are those of its accounts, by fingerprint.
    """

    version: Annotated[int, msgspec.Meta(ge=1)] = VERSION
    sequence: Count = 0
    circuits: Annotated[dict[Text, CircuitRecord], msgspec.Meta(max_length=MAX_CIRCUITS)] = {}
    state: Text = ""
    announcements: Annotated[dict[Text, AnnouncementRecord], msgspec.Meta(max_length=MAX_ANNOUNCEMENTS)] = {}
    slots: Annotated[dict[Text, SlotRecord], msgspec.Meta(max_length=MAX_ACCOUNTS)] = {}


_decoder = msgspec.json.Decoder(ReplicaRecord)


def encode_record(record: ReplicaRecord) -> bytes:
    """Return a record as JSON."""
    return msgspec.json.encode(record)


def decode_record(payload: bytes) -> ReplicaRecord | None:
    """Return the record that another replica wrote; None if it is none, or exceeds a bound."""
    if len(payload) > MAX_RECORD_BYTES:
        return None
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, ValueError):
        return None


def config_digest(config: CircuitBreakerConfig) -> str:
    """Return a short digest of a circuit's settings. Functions count by their names: their code is not compared."""
    values = [f"{field.name}={_described(getattr(config, field.name))}" for field in fields(config)]
    return hashlib.sha256("\n".join(values).encode()).hexdigest()[:12]


def fingerprint(fleet_name: str, secret: str) -> str:
    """Return by what replicas name a credential: it shows nothing of it, and differs between fleets."""
    return hmac.new(fleet_name.encode(), secret.encode(), hashlib.sha256).hexdigest()[:16]


def _described(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_described, value))
    if is_number(value):
        return repr(float(value))  # 60 in code and 60.0 in a file are the same setting
    name = getattr(value, "__qualname__", None)
    return repr(value) if name is None else f"{getattr(value, '__module__', '')}.{name}"
