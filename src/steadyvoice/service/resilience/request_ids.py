"""Which account issued which request id, so that a client's ids are sent to the account that knows them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from steadyvoice.speech.request import SpeechRequest
from steadyvoice.wire.elevenlabs.request_stitching import REQUEST_ID_FIELDS, has_request_ids

_GENERATION_SIZE = 2_048  # ids; twice as many are remembered at most


class RequestIds:
    """Bounded memory of the ids that accounts have issued lately: the last 2,048 at least.

    Two dictionaries take turns, so that forgetting costs nothing per id. Vendors take ids for two hours; what is
    forgotten by then is sent to whoever is asked, as an id from before a restart is.
    """

    def __init__(self) -> None:
        self._young: dict[str, str] = {}
        self._old: dict[str, str] = {}

    def note(self, request_id: str, account: str) -> None:
        """Remember that an account issued this id."""
        if len(self._young) >= _GENERATION_SIZE:
            self._old, self._young = self._young, {}
        self._young[request_id] = account

    def issuer(self, request_id: str) -> str | None:
        """Return the account that issued an id; None if that is not known."""
        return self._young.get(request_id) or self._old.get(request_id)

    def known_to(self, account: str, request: SpeechRequest) -> SpeechRequest:
        """Return the request without the ids that another account has issued; the same object if it has none."""
        options = request.options
        if not has_request_ids(options):
            return request
        kept = {name: self._known(account, options[name]) for name in REQUEST_ID_FIELDS if name in options}
        if all(kept[name] is options[name] for name in kept):
            return request
        return replace(request, options={**options, **kept})

    def _known(self, account: str, ids: Any) -> Any:
        """Return those ids that the account may know; the same object if that is all of them."""
        if not isinstance(ids, list | tuple):
            return ids
        known = [each for each in ids if not isinstance(each, str) or self.issuer(each.strip()) in (None, account)]
        return ids if len(known) == len(ids) else known
