"""Store in Redis or Valkey: each beat is one script, one round trip, in one hash slot.

Needs the extra `steadyvoice[fleet]`. Timeouts are short and nothing is retried: the next beat comes anyway.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from steadyvoice._extras import MissingExtraError, require
from steadyvoice.breaker.fork_safety import keep_until_exit
from steadyvoice.fleet.store import BeatReply, FleetStoreError, FleetURLError, LeaseClaim, ReceivedRecord
from steadyvoice.fleet.store_url import StoreURL, parse_store_url

if TYPE_CHECKING:
    from redis import Redis
    from redis.cluster import RedisCluster

STORE_TIMEOUT = 0.2
"""Seconds to wait for the server. With redis-py's defaults, a server that hangs costs over 20 s."""
MAX_FLEET_NAME = 100
KEYS_LIFE = 3600
"""Seconds after the last beat at which nothing of a fleet is left in the server."""

# All keys have the fleet's name in braces, so that a cluster keeps them in one hash slot. Times are those of the
# server, in milliseconds. A lease is "units free_at span"; one that is free later than its span from now was written
# before the server's clock was set back, and is taken for over. A server that hung may carry out beats that were given
# up after those that followed them on other connections; each store numbers its beats, and an older one is refused.
_COMMON = """
local records, written, leases, run, beats = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local replica = ARGV[1]
local function forget(owner)
  redis.call('HDEL', records, owner)
  redis.call('ZREM', written, owner)
  redis.call('HDEL', beats, owner)
end
local function keep_keys()
  for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, KEYS_LIFE) end
end
local function lease_fields()
  local found, all = {}, redis.call('HGETALL', leases)
  for i = 1, #all, 2 do
    local resource, owner = string.match(all[i], '^(.*)\\n([^\\n]*)$')
    local units, free_at, span = string.match(all[i + 1], '^(%d+) (%d+) (%d+)$')
    found[#found + 1] = {
      field = all[i], resource = resource, owner = owner,
      units = tonumber(units), free_at = tonumber(free_at), span = tonumber(span)
    }
  end
  return found
end
""".replace("KEYS_LIFE", str(KEYS_LIFE))
_BEAT = (
    _COMMON
    + """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local life = tonumber(ARGV[3])
local store, number = string.match(ARGV[5], '^(%S+) (%d+)$')
local latest_store, latest = string.match(redis.call('HGET', beats, replica) or '', '^(%S+) (%d+)$')
if store == latest_store and tonumber(number) < tonumber(latest) then
  return redis.error_reply('ERR a later beat of this replica was carried out before')
end
redis.call('HSET', beats, replica, ARGV[5])
redis.call('SET', run, ARGV[4], 'NX')
redis.call('HSET', records, replica, ARGV[2])
redis.call('ZADD', written, now, replica)
for _, old in ipairs(redis.call('ZRANGEBYSCORE', written, '-inf', now - life)) do forget(old) end
for _, future in ipairs(redis.call('ZRANGEBYSCORE', written, '(' .. now, '+inf')) do forget(future) end
local leased, withheld = {}, {}
if #ARGV > 5 then
  local held = lease_fields()
  for i = 6, #ARGV, 5 do
    local resource, wanted, limit = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
    local lasts, others, dead = ARGV[i + 3] + ARGV[i + 4], 0, 0
    for _, lease in ipairs(held) do
      if lease.resource == resource and lease.owner ~= replica then
        if lease.units == nil or lease.free_at <= now or lease.free_at > now + lease.span then
          redis.call('HDEL', leases, lease.field)
        else
          others = others + lease.units
          if not redis.call('HGET', records, lease.owner) then dead = dead + lease.units end
        end
      end
    end
    local units = math.max(0, math.min(wanted, limit - others))
    local field = resource .. '\\n' .. replica
    if units > 0 then
      redis.call('HSET', leases, field, string.format('%d %.0f %.0f', units, now + lasts, lasts))
    else
      redis.call('HDEL', leases, field)
    end
    leased[#leased + 1] = units
    withheld[#withheld + 1] = dead
  end
end
local reply = {redis.call('GET', run), leased, withheld}
keep_keys()
local others = redis.call('ZRANGE', written, 0, -1, 'WITHSCORES')
for i = 1, #others, 2 do
  if others[i] ~= replica then
    local payload = redis.call('HGET', records, others[i])
    if payload then
      reply[#reply + 1] = others[i]
      reply[#reply + 1] = string.format('%.0f', now - others[i + 1])
      reply[#reply + 1] = payload
    end
  end
end
return reply
"""
)
# The number of the last beat stays for a while: one that was given up and is carried out later is still refused.
_LEAVE = (
    _COMMON
    + """
local time = redis.call('TIME')
redis.call('HDEL', records, replica)
redis.call('HSET', beats, replica, ARGV[2])
redis.call('ZADD', written, time[1] * 1000 + math.floor(time[2] / 1000), replica)
for _, lease in ipairs(lease_fields()) do
  if lease.owner == replica then redis.call('HDEL', leases, lease.field) end
end
keep_keys()
return redis.status_reply('OK')
"""
)

# Parts of the server's errors, in lower case (redis-py removes most codes), and their cause or remedy. Before Redis 5,
# scripts that read the time were not allowed to write.
_ADVICE = (
    (("wrongtype",), "another program uses the keys {keys}, ..."),
    (
        ("unknown command", "unknown redis command", "non deterministic"),
        "the server is too old or lacks a command: Redis 6.2 or later, or Valkey, is needed",
    ),
    (
        ("permission", "can't run this command"),
        "the user needs more permissions: docs/fleet.md, Server, lists them",
    ),
    (("maxmemory",), "the server is full: give it more memory, or the fleet a server of its own"),
)


class RedisStore:
    """Store in Redis or Valkey. `url` is as in `parse_store_url`; processes of the same `name` share.

    Raises FleetURLError for an address or a name that cannot be used, or without redis-py. The connection is opened by
    the first beat.
    """

    def __init__(self, url: str, name: str) -> None:
        if not name or len(name) > MAX_FLEET_NAME or set(name) & set("{}\n"):
            raise FleetURLError(f"name: must be 1 to {MAX_FLEET_NAME} characters without braces")
        self._url = parse_store_url(url)
        self._keys = [f"{{steadyvoice:{name}}}:{part}" for part in ("records", "written", "leases", "run", "beats")]
        self._client: Redis | RedisCluster | None = None
        self._closed = False
        self._epoch, self._beats = secrets.token_hex(8), count(1)
        _require_client_library()

    @property
    def address(self) -> str:
        """Address for people, without the password."""
        return str(self._url)

    def beat(self, replica: str, payload: bytes, life: float, claims: Sequence[LeaseClaim]) -> BeatReply:
        """Exchange records with the other replicas. Raises FleetStoreError."""
        arguments: list[Any] = [replica, payload, _milliseconds(life), secrets.token_hex(8), self._next_number()]
        for claim in claims:
            lasting = (_milliseconds(claim.life), _milliseconds(claim.grace))
            arguments += [claim.resource, claim.wanted, claim.limit, *lasting]
        reply = self._evaluate(_BEAT, arguments)
        try:
            run, leased, withheld, *records = reply
            return BeatReply(
                run=run.decode(),
                records=list(_received(records)),
                leased=_by_resource(claims, leased),
                withheld=_by_resource(claims, withheld),
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise FleetStoreError(f"{self.address}: not the answer of a Redis or Valkey server") from error

    def leave(self, replica: str) -> None:
        """Remove a replica's record and leases. Raises FleetStoreError."""
        self._evaluate(_LEAVE, [replica, self._next_number()])

    def renew(self) -> None:
        """Forget the connection of the parent process, without closing it."""
        if self._client is not None:
            keep_until_exit(self._client)
            self._client = None

    def close(self) -> None:
        """Close the connection."""
        client, self._client, self._closed = self._client, None, True
        if client is not None:
            client.close()

    def _next_number(self) -> str:
        return f"{self._epoch} {next(self._beats)}"

    def _evaluate(self, script: str, arguments: list[Any]) -> Any:
        from redis.exceptions import RedisClusterException, RedisError

        if self._closed:
            raise FleetStoreError("the connection to the store was closed")
        try:
            if self._client is None:
                self._client = _connect(self._url)
            return self._client.eval(script, len(self._keys), *self._keys, *arguments)
        except (RedisError, RedisClusterException, OSError) as error:  # that of a cluster is no RedisError
            raise FleetStoreError(self._explained(error)) from error

    def _explained(self, error: Exception) -> str:
        text = f"{self.address}: {error}"
        advice = next((advice for signs, advice in _ADVICE if any(sign in text.lower() for sign in signs)), None)
        return f"{text} ({advice.format(keys=self._keys[0])})" if advice else text


def _connect(url: StoreURL) -> Redis | RedisCluster:
    """Return a client, which connects when it is first used, but that of a cluster, which connects at once."""
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.cluster import ClusterNode, RedisCluster
    from redis.retry import Retry
    from redis.sentinel import Sentinel

    timeouts = {"socket_timeout": STORE_TIMEOUT, "socket_connect_timeout": STORE_TIMEOUT}
    secure: dict[str, Any] = {"ssl": True, **url.options} if url.tls else {}
    common: dict[str, Any] = {
        **timeouts,
        **secure,
        "username": url.username,
        "password": url.password,
        "client_name": "steadyvoice-fleet",
        "retry": Retry(NoBackoff(), 0),
    }
    if url.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in url.hosts]  # type: ignore[no-untyped-call]
        return RedisCluster(startup_nodes=nodes, **common)
    if url.kind == "sentinel":
        # Sentinels too are asked once: by default, each of them that is down costs several seconds of retries.
        asking = {**timeouts, **secure, "retry": Retry(NoBackoff(), 0)}
        sentinel = Sentinel(list(url.hosts), sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
        master: Redis = sentinel.master_for(url.service, db=url.database, **common)  # type: ignore[no-untyped-call]
        return master
    ((host, port),) = url.hosts
    return Redis(host=host, port=port, db=url.database, **common)


def _received(flat: Sequence[bytes]) -> Iterator[ReceivedRecord]:
    for replica, age, payload in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        yield ReceivedRecord(replica.decode(errors="replace"), int(age) / 1000, payload)


def _by_resource(claims: Sequence[LeaseClaim], units: Sequence[int]) -> dict[str, int]:
    return {claim.resource: int(each) for claim, each in zip(claims, units, strict=True)}


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _require_client_library() -> None:
    try:
        require("fleet", "redis", package="redis-py")
    except MissingExtraError as error:
        raise FleetURLError(f"url: {error}") from None
