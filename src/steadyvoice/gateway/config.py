"""The configuration in force, as it may be shown: of secrets only that they are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from steadyvoice.gateway.circuits import shown_config
from steadyvoice.gateway.house import House
from steadyvoice.gateway.plain import plain
from steadyvoice.providers.provider import HasCredential, Provider
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.service.settings import Server

_IN_CODE = frozenset({"circuit", "circuits", "clock", "wall_clock", "rng"})  # the circuits are told one by one


def shown_house(house: House) -> dict[str, Any]:
    """All of it, in the order of the file."""
    service = house.service
    settings: Mapping[str, Any] = service.settings
    # The file has these in its table of the server; the service has the last word on them.
    admission = {name: settings[name] for name in ("max_active", "max_queued", "queue_timeout")}
    return {
        "server": shown_server(house.server) | admission,
        **{name: plain(value) for name, value in settings.items() if name not in (*_IN_CODE, *admission)},
        "timeouts": shown_timeouts(settings.get("timeouts") or TimeoutConfig()),
        "providers": [shown_provider(each) for each in service.providers],
        "circuits": {name: shown_config(circuit.config) for name, circuit in service.circuits.items()},
    }


def shown_timeouts(timeouts: TimeoutConfig) -> dict[str, Any]:
    """Return the general timeouts, and whether `read_timeout` was set: the wait for first audio depends on that."""
    told: dict[str, Any] = plain(timeouts)
    return told | {"read_timeout_is_set": timeouts.read_timeout_is_set}


def shown_server(server: Server) -> dict[str, Any]:
    """How many keys there are, and whether there is a token; not which."""
    told: dict[str, Any] = plain(server.model_dump())
    return told | {"api_keys": len(server.api_keys), "admin_token": server.admin_token is not None}


def shown_provider(provider: Provider) -> dict[str, Any]:
    """What is known of a provider. Providers of one `credential` share an account; it says nothing about the key."""
    told: dict[str, Any] = {"name": provider.name, "kind": type(provider).__name__, "local": provider.local}
    if url := getattr(provider, "base_url", None):
        told["base_url"] = _without_secrets(str(url))
    if model := getattr(provider, "model", None):
        told["model"] = str(model)
    if isinstance(voices := getattr(provider, "voices", None), Mapping):
        told["voices"] = plain(voices)
    if isinstance(provider, HasCredential):
        told["credential"] = provider.credential.id
    return told


def _without_secrets(url: str) -> str:
    """An address, without the places where people put keys."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
