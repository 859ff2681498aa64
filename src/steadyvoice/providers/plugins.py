"""The kinds of provider there are: ours, and those of other packages, by the entry point group `steadyvoice.providers`.

An entry point's name is the kind, its object is called with the provider's settings and returns a Provider. Nothing
is imported before its kind is used, so that a broken package harms nobody who does not use it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from steadyvoice.providers.base import Provider
from steadyvoice.speech.errors import TTSConfigurationError

GROUP = "steadyvoice.providers"

Factory = Callable[..., Provider]


@dataclass(frozen=True, slots=True)
class ProviderKind:
    """One kind, not yet imported. Called, it imports and makes a provider."""

    kind: str
    origin: str  # the package it comes from, with its version
    entry_point: EntryPoint

    def load(self) -> Factory:
        """Import it. Raises TTSConfigurationError when its package is broken."""
        try:
            factory = self.entry_point.load()
        except Exception as error:  # whatever somebody else's module does when it is imported
            reason = f"{type(error).__name__}: {error}"
            raise TTSConfigurationError(
                f"kind {self.kind!r} comes from {self.origin}, which cannot be loaded ({reason}); "
                f"reinstall it or tell its author"
            ) from error
        if not callable(factory):
            raise TTSConfigurationError(
                f"kind {self.kind!r} comes from {self.origin}, which names no class or function for it but "
                f"{self.entry_point.value}; tell its author"
            )
        return factory  # type: ignore[no-any-return]

    def __call__(self, *args: Any, **settings: Any) -> Provider:
        """Make a provider of this kind."""
        return self.load()(*args, **settings)


def installed_kinds() -> dict[str, ProviderKind]:
    """Every kind installed. Nobody can take the place of one of ours."""
    found: dict[str, ProviderKind] = {}
    for entry in sorted(entry_points(group=GROUP), key=_built_in_last):
        found[entry.name] = ProviderKind(entry.name, _origin(entry), entry)
    return dict(sorted(found.items()))


def load_kind(kind: str) -> Factory:
    """The class or function that makes providers of this kind. Raises TTSConfigurationError."""
    known = installed_kinds()
    if kind not in known:
        raise TTSConfigurationError(
            f"unknown kind of provider {kind!r}: there are {', '.join(known) or 'none'}; "
            f"if it belongs to a plugin, install its package"
        )
    return known[kind].load()


def _built_in_last(entry: EntryPoint) -> bool:
    return entry.value.startswith("steadyvoice.")


def _origin(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
