"""Ids of parametrized tests that are the same in every process, as pytest-xdist requires."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def stable_repr(value: object, most: int = 60) -> str:
    """Return the `repr` of a value without memory addresses, cut to `most` characters."""
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(stable_repr(each) for each in value))}}}"[:most]
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python converts
        text = type(value).__name__
    return _ADDRESS.sub("", text)[:most]
