"""Vendor request ids by the account that issued them, for request stitching.

A client's ids are sent only to the account that issued them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from steadyvoice.speech.request import SpeechRequest
from steadyvoice.wire.elevenlabs.request_stitching import REQUEST_ID_FIELDS, has_request_ids

_GENERATION_SIZE = 2_048  # ids of one generation; two generations are kept


class VendorRequestIds:
    """Bounded memory of recently issued request ids: at least the last 2,048.

    Two dictionaries alternate, so that forgetting costs nothing per id. Vendors accept ids for two hours; an id that is
    forgotten by then is sent to any account, like one from before a restart.
    """

    def __init__(self) -> None:
        self._young: dict[str, str] = {}
        self._old: dict[str, str] = {}

    def record(self, request_id: str, account: str) -> None:
        """Record that an account issued this id."""
        if len(self._young) >= _GENERATION_SIZE:
            self._old, self._young = self._young, {}
        self._young[request_id] = account

    def issuer(self, request_id: str) -> str | None:
        """Return the account that issued an id; None if it is unknown."""
        return self._young.get(request_id) or self._old.get(request_id)

    def without_foreign_ids(self, account: str, request: SpeechRequest) -> SpeechRequest:
        """Return the request without ids that another account has issued; the same object if it has none."""
        options = request.options
        if not has_request_ids(options):
            return request
        kept = {name: self._known(account, options[name]) for name in REQUEST_ID_FIELDS if name in options}
        if all(kept[name] is options[name] for name in kept):
            return request
        return replace(request, options={**options, **kept})

    def _known(self, account: str, ids: Any) -> Any:
        """Return the ids that the account may know; the same object if these are all."""
        if not isinstance(ids, list | tuple):
            return ids
        known = [each for each in ids if not isinstance(each, str) or self.issuer(each.strip()) in (None, account)]
        return ids if len(known) == len(ids) else known
