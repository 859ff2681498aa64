"""A request's target that is a whole URL, as proxies are sent them: what it asks for here, and whom it says we are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_WHOLE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]+)([^#]*)")


class Whole(NamedTuple):
    """Its parts: the `authority` is whom it is for, and the `rest` is asked for there."""

    authority: bytes
    rest: bytes

    def headers(self, said: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The request's headers as they are to be read: Host is what the target says, whatever it said itself."""
        return [(name, self.authority if name == b"host" else value) for name, value in said]


def whole(target: bytes) -> Whole | None:
    """Take a target apart, if it is a whole URL: https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2"""
    found = _WHOLE.match(target)
    if found is None:
        return None
    authority, rest = found.groups()
    return Whole(authority, rest if rest.startswith(b"/") else b"/" + rest)
