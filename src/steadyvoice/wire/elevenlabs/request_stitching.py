"""Request stitching: ids of earlier requests, by which ElevenLabs' clients ask for continuous prosody.

A client collects the `request-id` of each response and sends the last three along:
https://elevenlabs.io/docs/developers/guides/cookbooks/text-to-speech/request-stitching. A response that was not
ElevenLabs' alone has an id of ours, which the vendor does not know. Clients also send what a missing header became in
their language, such as "undefined".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REQUEST_ID_FIELDS = ("previous_request_ids", "next_request_ids")
"""Fields of a request's body that hold such ids."""

OWN_PREFIX = "steadyvoice-"
"""Prefix of every id of ours. ElevenLabs' own are twenty letters and digits."""

# A missing `request-id` header as JavaScript and Python print it. Clients that follow the vendor's guide send it along
# in their next request, which the vendor answers with 422.
_NO_IDS = frozenset({"", "null", "none", "undefined"})


def own_request_id(number: str) -> str:
    """Return the `request-id` of a response of ours, by the id of its request in the log."""
    return number if number.startswith(OWN_PREFIX) else OWN_PREFIX + number


def is_own_request_id(request_id: str) -> bool:
    """Return whether an id is one of ours, or of another steadyvoice gateway."""
    return request_id.startswith(OWN_PREFIX)


def has_request_ids(fields: Mapping[str, Any]) -> bool:
    """Return whether the fields hold any ids, as those of few requests do."""
    return any(name in fields for name in REQUEST_ID_FIELDS)


def clean_request_ids(value: Any) -> Any:
    """Return a list of ids without gaps and repetitions. Any other value is returned unchanged, to be refused later."""
    if not isinstance(value, list | tuple):
        return value
    kept: list[Any] = []
    for each in value:
        id = each.strip() if isinstance(each, str) else each
        if id is None or (isinstance(id, str) and id.lower() in _NO_IDS) or id in kept:
            continue
        kept.append(id)
    return kept


def without_own_ids(value: Any) -> Any:
    """Return a list of ids without ours."""
    if not isinstance(value, list):
        return value
    return [each for each in value if not (isinstance(each, str) and is_own_request_id(each))]


def clean_request_id_fields(fields: Mapping[str, Any], *, max_ids: int | None = None) -> dict[str, Any]:
    """Return the fields with clean lists of ids, without ours; a list that is then empty is removed.

    A list of more than `max_ids` ids keeps ours, so that it is refused for its length whether or not a fallback
    provider answered before.
    """
    tidied = dict(fields)
    for name in REQUEST_ID_FIELDS:
        if name not in tidied:
            continue
        ids = clean_request_ids(tidied[name])
        if not (max_ids and isinstance(ids, list) and len(ids) > max_ids):
            ids = without_own_ids(ids)
        if ids is None or ids == []:
            del tidied[name]
        else:
            tidied[name] = ids
    return tidied
