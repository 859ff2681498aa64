"""Strict validation of documents by the models of the vendors' clients.

The official clients build their objects unchecked: a missing required field is None, and an unknown value of an
enumeration is accepted. An imitation of the vendor must not rely on that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel

Read = TypeVar("Read", bound=BaseModel)


def validate_strictly(model: type[Read], document: Any) -> Read:
    """Validate a document: required fields are present, types are right, and enumerated values are known."""
    read = model.model_validate_json(json.dumps(document), strict=True)
    strange = list(unknown_literals(read))
    assert not strange, strange
    return read


def unknown_literals(read: BaseModel, path: str = "") -> Iterator[str]:
    """Yield values that the model does not list: it has them as `Literal[...] | Any`, so that any value is accepted."""
    for name, field in type(read).model_fields.items():
        value, where = getattr(read, name), f"{path}{name}"
        known = _literals_in(field.annotation)
        if known and value is not None and value not in known:
            yield f"{where}: {value!r} is none of {', '.join(map(str, known))}"
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, BaseModel):
                yield from unknown_literals(each, f"{where}.")


def _literals_in(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) not in (Union, UnionType) or Any not in get_args(annotation):
        return ()
    return tuple(word for each in get_args(annotation) if get_origin(each) is Literal for word in get_args(each))
