"""Library values as JSON: enum values, ISO 8601 times in UTC, null for infinity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from steadyvoice.service.error_state import to_iso8601


def to_json(value: Any) -> Any:
    """Return a value as JSON values; of types that JSON has no form for, their text."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Enum():
            return value.value
        case str():
            return value
        case datetime():
            return to_iso8601(value)
        case Mapping():
            return {str(key): to_json(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [to_json(each) for each in value]
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
        case _:
            return str(value)
