"""Addresses of stores: Redis or Valkey, standalone, behind Sentinels, or as a cluster.

redis-py itself parses addresses of single servers only, so all forms are parsed here, in one way. An address is never
shown with its password.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from steadyvoice.fleet.store import FleetURLError

FORMS = (
    "redis://[user:password@]host[:port][/database], "
    "redis+sentinel://[user:password@]host:port,host:port/service[/database] or "
    "redis+cluster://[user:password@]host:port,host:port; rediss for TLS"
)
DEFAULT_PORTS = {"standalone": 6379, "sentinel": 26379, "cluster": 6379}
_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class StoreURL(NamedTuple):
    """Parsed address. `kind` is standalone, sentinel or cluster; `options` are those of TLS."""

    kind: str
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    service: str
    database: int
    username: str | None
    password: str | None
    options: Mapping[str, str]

    def __str__(self) -> str:
        scheme = ("rediss" if self.tls else "redis") + ("" if self.kind == "standalone" else f"+{self.kind}")
        user = "" if self.username is None else f"{self.username}@"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        service = f"/{self.service}" if self.service else ""
        return f"{scheme}://{user}{hosts}{service}" + ("" if self.kind == "cluster" else f"/{self.database}")

    def __repr__(self) -> str:
        return f"<StoreURL {self}>"


def parse_store_url(url: str, environment: Mapping[str, str] = os.environ) -> StoreURL:
    """Return a parsed address; `env:NAME` reads it from the environment. Raises FleetURLError."""
    if not isinstance(url, str):
        raise FleetURLError(f"url: must be text, such as {FORMS}")
    if url.startswith("env:"):
        name = url.removeprefix("env:")
        if not environment.get(name):
            raise FleetURLError(f"url: the environment variable {name} is not set")
        url = environment[name]
    scheme, separator, rest = url.partition("://")
    base, _, kind = scheme.partition("+")
    kind = kind or "standalone"
    if not separator or base not in ("redis", "rediss") or kind not in DEFAULT_PORTS:
        shown = f"unknown scheme {scheme!r}" if separator else "no scheme"
        raise FleetURLError(f"url: {shown}; use {FORMS}")
    # The credentials are cut off before anything else is parsed, and no message repeats what may be a part of them.
    location, slash, path_and_query = rest.partition("/")
    if "@" in path_and_query:
        raise FleetURLError("url: user and password must be percent-encoded, as %2F for a slash")
    credentials, _, hosts = location.rpartition("@")
    split = urlsplit(f"//{slash}{path_and_query}")
    username, password = _credentials(credentials)
    service, database = _path(kind, [part for part in split.path.split("/") if part])
    if kind == "standalone" and "," in hosts:
        raise FleetURLError(f"url: several hosts need redis+sentinel or redis+cluster; use {FORMS}")
    return StoreURL(
        kind=kind,
        tls=base == "rediss",
        hosts=tuple(_host(each, DEFAULT_PORTS[kind]) for each in hosts.split(",")),
        service=service,
        database=database,
        username=username,
        password=password,
        options=_options(split.query, tls=base == "rediss"),
    )


def _credentials(text: str) -> tuple[str | None, str | None]:
    username, _, password = text.partition(":")
    return unquote(username) or None, unquote(password) or None


def _host(text: str, default_port: int) -> tuple[str, int]:
    try:
        split = urlsplit(f"//{text}")
        host, port = split.hostname, split.port
    except ValueError:
        raise FleetURLError(f"url: wrong host or port; use {FORMS}") from None
    if not host or split.path or split.query:
        raise FleetURLError(f"url: no host; use {FORMS}")
    return host, default_port if port is None else port


def _path(kind: str, parts: list[str]) -> tuple[str, int]:
    """Return the name of the service, and the number of the database."""
    service = ""
    if kind == "sentinel":
        if not parts:
            raise FleetURLError("url: the name of the service is missing, as in .../mymaster")
        service = unquote(parts.pop(0))
    if kind == "cluster" and parts:
        raise FleetURLError("url: a cluster has no numbered databases")
    if not parts:
        return service, 0
    if len(parts) > 1 or not (parts[0].isascii() and parts[0].isdigit()):
        raise FleetURLError("url: the database must be a number, as in .../0")
    return service, int(parts[0])


def _options(query: str, tls: bool) -> dict[str, str]:
    options = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
    unknown = sorted(options.keys() - set(_OPTIONS))
    if unknown:
        raise FleetURLError(f"url: unknown option {unknown[0]!r}; allowed: {', '.join(_OPTIONS)}")
    if options and not tls:
        raise FleetURLError("url: options of TLS need the scheme rediss")
    return options
