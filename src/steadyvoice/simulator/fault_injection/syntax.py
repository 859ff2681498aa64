"""Written form of faults: `stall;after=0.8` in a header, `{fault = "stall", after = 0.8}` in a script or as JSON."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from multidict import MultiMapping

from steadyvoice._option_rules import is_whole_number
from steadyvoice.simulator.fault_injection.actions import ACTIONS, AudioAction, FaultError, FaultTarget, action_name
from steadyvoice.simulator.fault_injection.matching import Fault, FaultCall

CONDITIONS = tuple(field.name for field in fields(Fault) if field.name != "action")

_RENAMED_FIELDS = {"told": "declared"}
"""Names of fields in scripts of former versions, each with its present name."""


def parse_fault(written: str) -> Fault:
    """Parse the form of a header: `name;field=value;field=value`. Raises FaultError."""
    name, *pairs = (piece.strip() for piece in written.split(";"))
    table: dict[str, Any] = {"fault": name}
    for pair in filter(None, pairs):
        key, equals, value = (piece.strip() for piece in pair.partition("="))
        if not equals:
            raise FaultError(f"{pair!r}: write it as name=value")
        table[key] = value
    return fault_from_table(table)


def parse_faults(text: str) -> list[Fault]:
    """Parse a request body: a fault or a list of faults, each as a JSON object or in the form of the header.

    Raises FaultError.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = text
    return [_parse_fault_document(each) for each in (document if isinstance(document, list) else [document])]


def _parse_fault_document(document: Any) -> Fault:
    match document:
        case str():
            return parse_fault(document)
        case dict():
            return fault_from_table(document)
        case _:
            raise FaultError(
                f'a fault must be like {{"fault": "stall", "after": 0.8}} or stall;after=0.8, got {document!r}'
            )


def fault_from_table(table: Mapping[str, Any]) -> Fault:
    """Parse the form of a table: {"fault": name, field: value}. Raises FaultError, which names the field."""
    name = table.get("fault")
    if not isinstance(name, str) or name not in ACTIONS:
        raise FaultError(_unknown_name("fault", name, tuple(ACTIONS)), "fault")
    kind = ACTIONS[name]
    own = {field.name for field in fields(kind)}
    parameters: dict[str, Any] = {}
    conditions: dict[str, Any] = {}
    for key, value in table.items():
        if key in own:
            parameters[key] = parse_value(kind, key, value)
        elif key in CONDITIONS:
            conditions[key] = parse_value(Fault, key, value)
        elif key != "fault":
            if (renamed := _RENAMED_FIELDS.get(key)) in own:
                raise FaultError(f"unknown field of {name} {key!r}: it is now called {renamed}", key)
            raise FaultError(_unknown_name(f"field of {name}", key, (*sorted(own), *CONDITIONS)), key)
    return Fault(kind(**parameters), **conditions)


def fault_to_table(fault: Fault) -> dict[str, Any]:
    """Return the form of a table, JSON-ready, without the fields that have their default."""
    table: dict[str, Any] = {"fault": action_name(fault.action)}
    for value in (fault.action, fault):
        for field in fields(value):
            if field.name != "action" and getattr(value, field.name) != field.default:
                table[field.name] = getattr(value, field.name)
    return table


def parse_value(kind: type, key: str, value: Any) -> Any:
    """Return a value for a field of `kind`, converted from text if it is text. Raises FaultError for another type."""
    expected_type = _hints(kind)[key]
    # TOML and JSON bring typed values. A header has only text, which is read as the type that its field has.
    if isinstance(value, str) and expected_type is not str:
        value = _from_text(value, expected_type)
    if expected_type is float and is_whole_number(value):
        return float(value)
    if expected_type is float and isinstance(value, float) and math.isnan(value):
        raise FaultError(f"{key}: not a number", key)
    if get_origin(expected_type) is Literal and value not in get_args(expected_type):
        raise FaultError(_unknown_name(key, value, get_args(expected_type)), key)
    if get_origin(expected_type) is not Literal and type(value) is not expected_type:
        raise FaultError(f"{key}: must be {_TYPE_NAMES[expected_type]}, got {value!r}", key)
    return value


_TYPE_NAMES = {float: "a number", int: "a whole number", str: "a string", bool: "true or false"}


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    """Return the type of each field, without its None, which has no written form."""
    return {name: _without_none(hint) for name, hint in get_type_hints(kind).items()}


def _without_none(hint: Any) -> Any:
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    first, *_ = (each for each in get_args(hint) if each is not type(None))
    return first


def _from_text(text: str, expected_type: Any) -> Any:
    if expected_type is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if expected_type in (int, float):
        try:
            return expected_type(text)
        except ValueError:
            return text
    return text


def _unknown_name(what: str, found: Any, known: tuple[Any, ...]) -> str:
    near = get_close_matches(str(found), [str(each) for each in known], 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(str(each) for each in known)}"
    return f"unknown {what} {found!r}: {hint}"


FAULT_HEADER = "x-sim-fault"


def fault_from_header(headers: MultiMapping[str], call: FaultCall) -> Fault | None:
    """Return the fault that a request asks for in its header, or None.

    Raises FaultError for an invalid fault, and for one that cannot happen to this call.
    """
    written = headers.getall(FAULT_HEADER, [])
    if not written:
        return None
    if len(written) > 1:
        raise FaultError(f"one request has one fault, not {len(written)}: set further ones at /sim/faults")
    fault = parse_fault(written[0])
    if fault != Fault(fault.action):
        raise FaultError("this header applies to one request only, and takes no conditions")
    if call.target not in fault.action.targets:
        raise FaultError(_wrong_target(fault))
    if isinstance(fault.action, AudioAction) and not call.speech:
        raise FaultError(f"{fault.name} changes audio, and {call.endpoint} returns none")
    return fault


def _wrong_target(fault: Fault) -> str:
    if FaultTarget.CONNECTION in fault.action.targets:
        return f"{fault.name} happens before there is a request: set it in the script or at /sim/faults"
    (only,) = fault.action.targets
    return f"{fault.name} happens to {'websockets' if only is FaultTarget.WEBSOCKET else 'HTTP answers'} only"
