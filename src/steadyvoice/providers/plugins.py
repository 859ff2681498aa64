"""Plugins: the kinds of provider that installed packages declare in the entry point group `steadyvoice.providers`.

The name of an entry point is the kind; its object is called with the provider's settings and returns a Provider. A
package is imported only when its kind is used, so that a broken one affects no other.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

from steadyvoice.providers.base import Provider
from steadyvoice.speech.errors import TTSConfigurationError

GROUP = "steadyvoice.providers"

Factory = Callable[..., Provider]


@dataclass(frozen=True, slots=True)
class ProviderKind:
    """Kind of provider, not yet imported. A call imports its package and returns a provider."""

    kind: str
    entry_point: EntryPoint

    @property
    def origin(self) -> str:
        """Name and version of its package, read from the package's metadata: which takes milliseconds."""
        entry = self.entry_point
        return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value

    def load(self) -> Factory:
        """Import and return the factory. Raises TTSConfigurationError when its package is broken."""
        try:
            factory = self.entry_point.load()
        except Exception as error:  # a plugin's module may raise anything when it is imported
            reason = f"{type(error).__name__}: {error}"
            raise TTSConfigurationError(
                f"kind {self.kind!r} comes from {self.origin}, which cannot be loaded ({reason}); "
                f"reinstall it, or report it to its author"
            ) from error
        if not callable(factory):
            raise TTSConfigurationError(
                f"kind {self.kind!r} comes from {self.origin}, whose entry point {self.entry_point.value} is not a "
                f"class or function; report it to its author"
            )
        return factory  # type: ignore[no-any-return]

    def __call__(self, *args: Any, **settings: Any) -> Provider:
        """Return a new provider of this kind."""
        return self.load()(*args, **settings)


def installed_kinds() -> Mapping[str, ProviderKind]:
    """Return all installed kinds by name. A plugin cannot replace a built-in kind."""
    return _kinds_at(tuple((folder, _modified_at(folder)) for folder in sys.path))


# Each provider of a configuration asks for its kind, and reading the entry points of all packages takes milliseconds.
# A package that is installed later changes the time of its folder.
@lru_cache(maxsize=1)
def _kinds_at(folders: tuple[tuple[str, int], ...]) -> Mapping[str, ProviderKind]:
    found: dict[str, ProviderKind] = {}
    for entry in sorted(entry_points(group=GROUP), key=_built_in_last):
        found[entry.name] = ProviderKind(entry.name, entry)
    return MappingProxyType(dict(sorted(found.items())))


def _modified_at(folder: str) -> int:
    try:
        return os.stat(folder or os.curdir).st_mtime_ns
    except OSError:  # a path that does not exist
        return 0


def load_kind(kind: str) -> Factory:
    """Return the class or function that makes providers of this kind. Raises TTSConfigurationError."""
    known = installed_kinds()
    if kind not in known:
        similar = get_close_matches(kind, known, 1)
        hint = f"did you mean {similar[0]}?" if similar else "if it belongs to a plugin, install its package"
        installed = ", ".join(known) or "none"
        raise TTSConfigurationError(f"unknown kind of provider {kind!r}: installed are {installed}; {hint}")
    return known[kind].load()


def _built_in_last(entry: EntryPoint) -> bool:
    return entry.value.startswith("steadyvoice.")
